// What a gateway believes of what it is told of clients, and tells of them itself: trusted hops and X-Forwarded-Client-Cert by annotation, and
// the access log. The real `weft proxy --static` process between node:https or node:http2 clients with certificates and servers of both protocols.
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import { connect as connectHttp2, createServer as createHttp2Server } from 'node:http2';
import { request } from 'node:https';
import type { AddressInfo, Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls, type SecureVersion } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Certificates, type KeyPair, secretManifest } from '../lab/certificates.js';
import { eventually } from '../lab/eventually.js';
import { freePort } from '../lab/ports.js';
import { accessLog, ProxyProcess } from '../lab/proxy-process.js';

const CART = 'spiffe://cluster.local/ns/shop/sa/cart';
const certificates = new Certificates();
const folder = mkdtempSync(join(tmpdir(), 'wfw-'));
const [file, log] = [join(folder, 'edge.yaml'), join(folder, 'access.log')];
let [authority, edge, cart, stranger] = [{} as KeyPair, {} as KeyPair, {} as KeyPair, {} as KeyPair];
let [port, plainPort] = [0, 0];
let proxy: ProxyProcess;

const backends = [
  createServer((message, response) => void response.end(JSON.stringify(message.headers))),
  createHttp2Server((message, response) => void response.end(JSON.stringify(message.headers))),
];
const portOf = (server: Server): number => (server.address() as AddressInfo).port;

const service = (name: string, appProtocol: string, backendPort: number): string => `
apiVersion: v1
kind: Service
metadata: {name: ${name}}
spec: {ports: [{name: main, port: 80, appProtocol: ${appProtocol}}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: ${name}-1, labels: {kubernetes.io/service-name: ${name}}}
addressType: IPv4
ports: [{name: main, port: ${backendPort}}]
endpoints: [{addresses: [127.0.0.1]}]
---`;
/** Clients may show a certificate; what can't be verified is let in. */
const manifests = (annotations: string): string => `${secretManifest('edge', edge)}
apiVersion: v1
kind: ConfigMap
metadata: {name: ca}
data: {ca.crt: ${JSON.stringify(authority.cert)}}
---${service('one', 'http', portOf(backends[0]!))}${service('two', 'kubernetes.io/h2c', portOf(backends[1]!))}
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, annotations: {${annotations}}}
spec:
  gatewayClassName: weft
  addresses: [{value: 127.0.0.1}]
  tls: {frontend: {default: {validation: {mode: AllowInsecureFallback, caCertificateRefs: [{group: "", kind: ConfigMap, name: ca}]}}}}
  listeners:
  - {name: web, port: ${port}, protocol: HTTPS, tls: {certificateRefs: [{name: edge}]}}
  - {name: plain, port: ${plainPort}, protocol: HTTP}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop}
spec:
  parentRefs: [{name: edge}]
  rules:
  - backendRefs: [{name: one, port: 80}]
  - {matches: [{path: {value: /two}}], backendRefs: [{name: two, port: 80}]}
`;

beforeAll(async () => {
  authority = certificates.authority('root');
  edge = certificates.issue(authority, 'DNS:edge.test');
  cart = certificates.issue(authority, `URI:${CART}`, 'DNS:cart.test');
  stranger = certificates.issue(certificates.authority('another root'), `URI:${CART}`);
  for (const server of backends) await once(server.listen(0, '127.0.0.1'), 'listening');
  [port, plainPort] = [await freePort(), await freePort()];
  writeFileSync(file, manifests(''), { mode: 0o600 });
  proxy = ProxyProcess.start(file, folder, '--access-log', 'all', '--access-log-file', log);
  await proxy.says('"ready"');
});
afterAll(async () => {
  await proxy.kill();
  for (const server of backends) server.close();
  certificates.remove();
  rmSync(folder, { recursive: true, force: true });
});

async function annotate(annotations: string): Promise<void> {
  const from = proxy.errors.length;
  writeFileSync(file, manifests(annotations));
  await proxy.says('is in force', from);
}

/** What the server heard. */
function ask1(
  path: string,
  headers: IncomingHttpHeaders,
  who: KeyPair | null,
  version: SecureVersion = 'TLSv1.3',
): Promise<IncomingHttpHeaders> {
  const identity = who === null ? {} : { cert: who.cert, key: who.key };
  const options = {
    port,
    host: '127.0.0.1',
    servername: 'edge.test',
    ca: authority.cert,
    agent: false as const,
    maxVersion: version,
    ...identity,
  };
  return new Promise((resolve, reject) => {
    request({ ...options, path, headers: { host: 'edge.test', ...headers } }, async (response) => {
      let text = '';
      for await (const piece of response) text += piece;
      resolve(JSON.parse(text) as IncomingHttpHeaders);
    })
      .on('error', reject)
      .end();
  });
}

async function ask2(path: string, headers: IncomingHttpHeaders, who: KeyPair | null): Promise<IncomingHttpHeaders> {
  const identity = who === null ? {} : { cert: who.cert, key: who.key };
  const session = connectHttp2(`https://127.0.0.1:${port}`, { ca: authority.cert, servername: 'edge.test', ...identity });
  const stream = session.request({ ':path': path, ':authority': 'edge.test', ...headers });
  let text = '';
  for await (const piece of stream) text += piece;
  session.destroy();
  return JSON.parse(text) as IncomingHttpHeaders;
}

const SAID = 'By=spiffe://cluster.local/ns/a/sa/b;Hash=00';
const OWN = `Subject="CN=\\d+";URI=${CART};DNS=cart\\.test`;
const told = (prefix = ''): RegExp => new RegExp(`^${prefix}Hash=[0-9a-f]{64};${OWN}$`);

describe('X-Forwarded-Client-Cert', () => {
  test.each([
    ['', undefined, undefined, undefined],
    ['SANITIZE', undefined, undefined, undefined],
    ['FORWARD_ONLY', SAID, undefined, undefined],
    ['APPEND_FORWARD', told(`${SAID}, `), undefined, undefined],
    ['SANITIZE_SET', told(), undefined, undefined],
    ['ALWAYS_FORWARD_ONLY', SAID, SAID, SAID],
  ] as const)(
    '%s: of a client whose certificate was verified, of one whose was not, of one that shows none',
    async (mode, verified, unverified, none) => {
      await annotate(mode === '' ? '' : `mesh.weft.dev/forward-client-cert: ${mode}`);
      const said = { 'x-forwarded-client-cert': SAID, x_forwarded_client_cert: SAID };
      for (const ask of [ask1, ask2]) {
        for (const path of ['/', '/two']) {
          for (const [who, expected] of [
            [cart, verified],
            [stranger, unverified],
            [null, none],
          ] as const) {
            const heard = await ask(path, said, who);
            if (expected instanceof RegExp) expect(heard['x-forwarded-client-cert']).toMatch(expected);
            else expect(heard['x-forwarded-client-cert']).toBe(expected);
            expect(heard).not.toHaveProperty('x_forwarded_client_cert');
          }
        }
      }
    },
  );

  test('what is told does not depend on what came, nor on whether the session was resumed', async () => {
    await annotate('mesh.weft.dev/forward-client-cert: APPEND_FORWARD');
    expect((await ask1('/', {}, cart))['x-forwarded-client-cert']).toMatch(told());
    const open = async (session?: Buffer) => {
      const socket = connectTls({
        port,
        host: '127.0.0.1',
        servername: 'edge.test',
        ca: authority.cert,
        cert: cart.cert,
        key: cart.key,
        session,
      });
      let text = '';
      socket.on('data', (piece) => {
        text += piece;
      });
      const [isResumed, ticket] = await Promise.all([
        once(socket, 'secureConnect').then(() => socket.isSessionReused()),
        once(socket, 'session'),
        new Promise((sent) => socket.write('GET / HTTP/1.1\r\nHost: edge.test\r\nConnection: close\r\n\r\n', sent)),
        once(socket, 'close'),
      ]);
      return { text, ticket: (ticket as [Buffer])[0], isResumed };
    };
    const first = await open();
    const again = await open(first.ticket);
    expect([first.isResumed, again.isResumed]).toEqual([false, true]);
    const certOf = (text: string): string | undefined => /"x-forwarded-client-cert":"(.*?[^\\])"[,}]/.exec(text)?.[1];
    expect(certOf(first.text)).toContain(`URI=${CART}`);
    expect(certOf(again.text)).toBe(certOf(first.text));
  });
});

test('the trusted hops of a Gateway are its annotation’s, for the next connection, and the proxy’s where it says nothing', async () => {
  const said = { 'x-forwarded-for': '192.0.2.7', x_forwarded_for: '192.0.2.8' };
  await annotate('');
  expect(await ask1('/', said, null)).toMatchObject({ 'x-forwarded-for': '127.0.0.1' });
  await annotate('mesh.weft.dev/trusted-hops: "1"');
  for (const ask of [ask1, ask2]) {
    const heard = await ask('/', said, null);
    expect(heard).toMatchObject({ 'x-forwarded-for': expect.stringMatching(/^192\.0\.2\.7, ?127\.0\.0\.1$/) });
    expect(heard).not.toHaveProperty('x_forwarded_for');
  }
  await annotate('mesh.weft.dev/trusted-hops: "0"');
  expect(await ask2('/two', said, null)).toMatchObject({ 'x-forwarded-for': '127.0.0.1' });
});

test('the access log tells the version of TLS and whom a verified certificate names', async () => {
  await annotate('');
  await ask1('/log-1', {}, cart, 'TLSv1.2');
  await ask2('/log-2', {}, cart);
  await ask1('/log-3', {}, stranger);
  await fetch(`http://127.0.0.1:${plainPort}/log-4`);
  const lines = await eventually(
    () => Promise.resolve(accessLog(log).filter(({ path }) => String(path).includes('/log-'))),
    ({ length }) => length === 4,
  );
  lines.sort((a, b) => String(a.path).localeCompare(String(b.path)));
  expect(lines.map(({ tls_version, client_identity }) => [tls_version, client_identity])).toEqual([
    ['1.2', CART],
    ['1.3', CART],
    ['1.3', undefined],
    [undefined, undefined],
  ]);
});
