// Istio's egress gateway as it is documented: requests for a host outside of the mesh come in at the gateway in plain text and leave it by TLS, which
// a DestinationRule asks for. The real `weft proxy --static` process, a real TLS server whose certificate an authority of its own signed.
import { mkdirSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { createServer } from 'node:https';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';
import { expect, test } from '@jest/globals';
import { Certificates } from '../lab/certificates.js';
import { freePort } from '../lab/ports.js';
import { ProxyScope } from '../lab/proxy-scope.js';

const scope = new ProxyScope();

function get(port: number, host: string): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port, path: '/politics', headers: { host } }, (response) => {
      let text = '';
      response.on('data', (piece) => {
        text += piece;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
    });
    sent.on('error', reject);
    sent.end();
  });
}

const rule = (tls: string): string => `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: originate-tls}
spec: {host: edition.cnn.com, trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {${tls}}}]}}
---`;

function manifests(gateway: number, server: number, authority: string, more = ''): string {
  return `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: istio-egressgateway}
spec:
  selector: {istio: egressgateway}
  servers: [{port: {number: ${gateway}, name: http, protocol: HTTP}, hosts: [edition.cnn.com]}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: cnn}
spec:
  hosts: [edition.cnn.com]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: https, protocol: HTTPS, targetPort: ${server}}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: through-the-egress-gateway}
spec:
  hosts: [edition.cnn.com]
  gateways: [istio-egressgateway, mesh]
  http:
  - match: [{gateways: [mesh], port: 80}]
    route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, port: {number: 80}}}]
  - match: [{gateways: [istio-egressgateway], port: ${gateway}}]
    route: [{destination: {host: edition.cnn.com, port: {number: 443}}}]
---
apiVersion: v1
kind: Secret
metadata: {name: cnn-ca}
stringData: {ca.crt: ${JSON.stringify(authority)}}
---${more}
`;
}

test('TLS begins at the egress gateway, by the rule’s name and authority; without one that signed for it nothing is sent', async () => {
  const certificates = new Certificates();
  scope.closing.push(() => certificates.remove());
  const authority = certificates.authority('outside');
  const { cert, key } = certificates.issue(authority, 'DNS:edition.cnn.com');
  const seen: string[] = [];
  const outside = createServer({ cert, key }, (asked, response) => {
    seen.push(`${(asked.socket as TLSSocket & { servername?: string }).servername} ${asked.headers.host} ${asked.url}`);
    response.end('news');
  });
  const server = await scope.listen(outside);
  const port = await freePort();
  const file = join(scope.folder, 'egress.yaml');
  const write = (tls: string): void => writeFileSync(file, manifests(port, server, authority.cert) + rule(tls), { mode: 0o600 });
  write('mode: SIMPLE, sni: edition.cnn.com, credentialName: cnn-ca');
  const proxy = await scope.start(file);
  expect(await get(port, 'edition.cnn.com')).toEqual({ status: 200, text: 'news' });
  expect(seen).toEqual(['edition.cnn.com edition.cnn.com /politics']);
  expect((await get(port, 'other.test')).status).toBe(404);
  let revision = 1;
  for (const refused of [
    'mode: SIMPLE, credentialName: cnn-ca, subjectAltNames: [www.cnn.com]',
    'mode: SIMPLE, credentialName: gone',
    'mode: MUTUAL, credentialName: cnn-ca',
    'mode: SIMPLE, caCertificates: /etc/ssl/certs/ca-certificates.crt',
    'mode: SIMPLE',
  ]) {
    const from = proxy.errors.length;
    write(refused);
    await proxy.says(`revision ${++revision} is in force`, from);
    expect([refused, (await get(port, 'edition.cnn.com')).status]).toEqual([refused, 503]);
  }
  expect(seen).toHaveLength(1);
});

test('clients’ certificates come from a Secret or from files of the node, which are read anew when they change; nothing is verified where that is asked for', async () => {
  const certificates = new Certificates();
  scope.closing.push(() => certificates.remove());
  const authority = certificates.authority('outside');
  const { cert, key } = certificates.issue(authority, 'DNS:edition.cnn.com');
  const clients = certificates.authority('clients');
  const [one, two] = ['spiffe://td.test/one', 'spiffe://td.test/two'].map((id) => certificates.issue(clients, `URI:${id}`));
  const outside = createServer({ cert, key, ca: clients.cert, requestCert: true, rejectUnauthorized: false }, (asked, response) => {
    const { authorized, servername } = asked.socket as TLSSocket & { servername?: string };
    const shown = (asked.socket as TLSSocket).getPeerCertificate().subjectaltname ?? 'nobody';
    response.end(`${servername} ${authorized ? shown : 'nobody'}`);
  });
  const server = await scope.listen(outside);
  const port = await freePort();
  const file = join(scope.folder, 'egress.yaml');
  const folder = join(scope.folder, 'tls');
  mkdirSync(folder);
  const put = (pair: { cert: string; key: string }): void => {
    writeFileSync(join(folder, 'tls.key'), pair.key, { mode: 0o600 });
    writeFileSync(join(folder, 'tls.crt'), pair.cert);
  };
  put(two!);
  writeFileSync(join(folder, 'ca.crt'), authority.cert);
  writeFileSync(join(scope.folder, 'secret.key'), two!.key, { mode: 0o600 });
  const secret = `
apiVersion: v1
kind: Secret
metadata: {name: client}
stringData: {tls.crt: ${JSON.stringify(one!.cert)}, tls.key: ${JSON.stringify(one!.key)}, ca.crt: ${JSON.stringify(authority.cert)}}
---`;
  const ofSubset = (tls: string): string => `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: originate-tls}
spec: {host: edition.cnn.com, trafficPolicy: {tls: {mode: SIMPLE}}, subsets: [{name: all, labels: {at: home}, trafficPolicy: {tls: {${tls}}}}]}
---`;
  const write = (text: string): void => writeFileSync(file, text, { mode: 0o600 });
  const whole = (tls: string): string => manifests(port, server, authority.cert, secret) + rule(tls);
  const paths = `clientCertificate: ${folder}/tls.crt, privateKey: ${folder}/tls.key, caCertificates: ${folder}/ca.crt`;
  const subset = manifests(port, server, authority.cert, secret)
    .replace('{host: edition.cnn.com, port: {number: 443}}', '{host: edition.cnn.com, subset: all, port: {number: 443}}')
    .replace('[{address: 127.0.0.1}]', '[{address: 127.0.0.1, labels: {at: home}}]');
  write(whole('mode: MUTUAL, credentialName: client'));
  const proxy = await scope.start(file, '--tls-folder', folder);
  expect(proxy.errors).not.toContain("can't be read");
  const answers = async (text: string): Promise<string> => {
    const from = proxy.errors.length;
    write(text);
    await proxy.says('is in force', from);
    const { status, text: answer } = await get(port, 'edition.cnn.com');
    return status === 200 ? answer : String(status);
  };
  expect((await get(port, 'edition.cnn.com')).text).toBe('edition.cnn.com URI:spiffe://td.test/one');
  expect(await answers(whole(`mode: MUTUAL, sni: www.cnn.com, subjectAltNames: [edition.cnn.com], ${paths}`))).toBe(
    'www.cnn.com URI:spiffe://td.test/two',
  );
  expect(await answers(whole('mode: SIMPLE, sni: other.test, insecureSkipVerify: true'))).toBe('other.test nobody');
  expect(await answers(whole(`mode: SIMPLE, caCertificates: ${folder}/ca.crt`))).toBe('edition.cnn.com nobody');
  expect(
    await answers(subset + ofSubset('mode: MUTUAL, sni: www.cnn.com, subjectAltNames: [edition.cnn.com], credentialName: client')),
  ).toBe('www.cnn.com URI:spiffe://td.test/one');
  expect(await answers(whole(`mode: MUTUAL, ${paths.replace(`${folder}/tls.key`, `${folder}/../secret.key`)}`))).toBe('503');
  expect(proxy.errors).toContain('is not below');
  expect(await answers(whole(`mode: MUTUAL, ${paths}`))).toBe('edition.cnn.com URI:spiffe://td.test/two');
  const readAnew = async (): Promise<string> => {
    const from = proxy.errors.length;
    await proxy.says('they are read anew', from);
    await proxy.says('is in force', from);
    return (await get(port, 'edition.cnn.com')).text;
  };
  // A key without its certificate: whoever replaces both does it one after the other.
  writeFileSync(join(folder, 'tls.key'), one!.key, { mode: 0o600 });
  expect(await readAnew()).toBe('edition.cnn.com URI:spiffe://td.test/two');
  expect(proxy.errors).toContain('is spoken to with what its files of certificates were before');
  put(one!);
  expect(await readAnew()).toBe('edition.cnn.com URI:spiffe://td.test/one');
});

test('a folder of certificates that is not there is warned of at the start, before a rule needs it', async () => {
  const file = join(scope.folder, 'nothing.yaml');
  writeFileSync(file, '');
  const folder = join(scope.folder, 'no-such-folder');
  const proxy = await scope.start(file, '--tls-folder', folder);
  expect(proxy.errors).toMatch(/"level":"warn".*--tls-folder can't be read.*no such file or directory.*no-such-folder/);
});
