// Istio's Gateways with the VirtualServices behind them, on the real `weft proxy --static` process between real clients and servers: the gateway
// examples of Bookinfo and cert-manager as they are shipped, and what Istio's documentation shows of ingress.
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type IncomingHttpHeaders, request } from 'node:http';
import { request as requestTls } from 'node:https';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls, createServer as createTlsServer, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Certificates, type KeyPair, secretManifest } from '../lab/certificates.js';
import { EchoBackend } from '../lab/echo-backend.js';
import { freePort } from '../lab/ports.js';
import { ProxyProcess, serviceManifest } from '../lab/proxy-process.js';
import { hasTestdata, testdata, withTestdata } from '../lab/testdata.js';

const ADDRESS = '127.0.0.1';
const certificates = new Certificates();
const folder = mkdtempSync(join(tmpdir(), 'wig-'));
const backends: EchoBackend[] = [];
const authority = certificates.authority('clients');
const edge = certificates.issue(authority, 'DNS:shop.test', 'DNS:*.shop.test');
const stranger = certificates.authority('strangers');
let ports = { http: 0, redirect: 0, https: 0, mutual: 0, optional: 0, named: 0, passthrough: 0, tcp: 0 };
let proxy: ProxyProcess;

/** Bytes answered as they came, behind a mark. */
const tcpServer = createServer((socket) => socket.on('error', () => {}).on('data', (bytes) => socket.write(`tcp ${bytes}`)));
const tlsServer = createTlsServer({ cert: edge.cert, key: edge.key }, (socket) => {
  socket.on('error', () => {}).on('data', (bytes) => socket.write(`tls ${bytes}`));
});

/** On one address, with the ports that this machine has free. */
function example(name: string, port: number): string {
  if (!hasTestdata) return '';
  return testdata(`bookinfo/networking/${name}.yaml`)
    .replace(/number: (?:80|8080)\n/, `number: ${port}\n`)
    .replace('  - port:', `  - bind: ${ADDRESS}\n    port:`);
}

function service(name: string, port: number, target: number, protocol: string, namespace = 'default'): string {
  return `
apiVersion: v1
kind: Service
metadata: {name: ${name}, namespace: ${namespace}}
spec: {ports: [{name: main, port: ${port}, appProtocol: ${protocol}}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: ${name}-1, namespace: ${namespace}, labels: {kubernetes.io/service-name: ${name}}}
addressType: IPv4
ports: [{name: main, port: ${target}}]
endpoints: [{addresses: [127.0.0.1]}]
---`;
}

const server = (port: number, protocol: string, name: string, hosts: string, tls = ''): string =>
  `{bind: ${ADDRESS}, port: {number: ${port}, name: ${name}, protocol: ${protocol}}, hosts: [${hosts}]${tls === '' ? '' : `, tls: {${tls}}`}}`;

function manifests(): string {
  const targets = Object.fromEntries(backends.map(({ name, port }) => [name, port]));
  const tcpPort = (tcpServer.address() as { port: number }).port;
  const tlsPort = (tlsServer.address() as { port: number }).port;
  const generic = (name: string, pair: KeyPair): string =>
    `\napiVersion: v1\nkind: Secret\nmetadata: {name: ${name}}\nstringData: {cert: ${JSON.stringify(pair.cert)}, key: ${JSON.stringify(pair.key)}, cacert: ${JSON.stringify(authority.cert)}}\n---`;
  return `${[
    service('productpage', 9080, targets.productpage!, 'http'),
    service('cert-manager-resolver', 8089, targets.resolver!, 'http', 'istio-system'),
    serviceManifest('reviews', targets.reviews!),
    serviceManifest('ratings', targets.ratings!),
    service('db', 5432, tcpPort, 'tcp'),
    service('secure', 443, tlsPort, 'tls'),
    secretManifest('shop-credential', edge).replace(
      'metadata: {name: shop-credential}',
      'metadata: {name: shop-credential, namespace: istio-system}',
    ),
    generic('shop-mutual', edge),
  ].join('')}
${example('bookinfo-gateway', ports.http)}
---
${example('certmanager-gateway', ports.http)}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: ingressgateway}
  servers:
  - ${server(ports.redirect, 'HTTP', 'http', '"*.shop.test"', 'httpsRedirect: true')}
  - ${server(ports.https, 'HTTPS', 'https', 'shop.test, other/other.shop.test', 'mode: SIMPLE, credentialName: shop-credential, minProtocolVersion: TLSV1_3')}
  - ${server(ports.mutual, 'HTTPS', 'mutual', 'shop.test', 'mode: MUTUAL, credentialName: shop-mutual, maxProtocolVersion: TLSV1_2, cipherSuites: [ECDHE-ECDSA-AES256-GCM-SHA384]')}
  - ${server(ports.optional, 'HTTPS', 'optional', 'shop.test', 'mode: OPTIONAL_MUTUAL, credentialName: shop-mutual')}
  - ${server(ports.named, 'HTTPS', 'named', 'shop.test', 'mode: OPTIONAL_MUTUAL, credentialName: shop-mutual, subjectAltNames: ["spiffe://td.test/cart", client.test]')}
  - ${server(ports.passthrough, 'TLS', 'tls', 'secure.shop.test', 'mode: PASSTHROUGH')}
  - ${server(ports.tcp, 'TCP', 'tcp', '"*"')}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: [shop.test, "*.shop.test"]
  gateways: [edge, mesh]
  http:
  - match: [{uri: {prefix: /mesh-only}, gateways: [mesh]}]
    route: [{destination: {host: ratings}}]
  - match: [{uri: {exact: /v2}, gateways: [edge], port: ${ports.https}}]
    rewrite: {uri: /}
    route: [{destination: {host: ratings}}]
  - match: [{uri: {prefix: /}}]
    headers: {response: {set: {x-gateway: edge}}}
    route: [{destination: {host: reviews}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bytes}
spec:
  hosts: ["*"]
  gateways: [default/edge]
  tls:
  - match: [{port: ${ports.passthrough}, sniHosts: [secure.shop.test]}]
    route: [{destination: {host: secure, port: {number: 443}}}]
  tcp:
  - match: [{port: ${ports.tcp}}]
    route: [{destination: {host: db, port: {number: 5432}}}]
`;
}

beforeAll(async () => {
  for (const name of ['productpage', 'resolver', 'reviews', 'ratings']) backends.push(await EchoBackend.start(name));
  for (const each of [tcpServer, tlsServer]) {
    each.listen(0, ADDRESS);
    await once(each, 'listening');
  }
  for (const name of Object.keys(ports)) ports = { ...ports, [name]: await freePort() };
  const file = join(folder, 'istio.yaml');
  writeFileSync(file, manifests(), { mode: 0o600 });
  proxy = ProxyProcess.start(file, folder);
  await proxy.says('"ready"');
});

afterAll(async () => {
  await proxy.kill();
  for (const backend of backends) backend.close();
  tcpServer.close();
  tlsServer.close();
  certificates.remove();
  rmSync(folder, { recursive: true, force: true });
});

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** The backend's; empty: none answered. */
  readonly by: string;
  readonly path: string;
  readonly protocol: string;
}

interface Asked {
  readonly host?: string;
  readonly tls?: boolean;
  readonly pair?: KeyPair;
  readonly maxVersion?: 'TLSv1.2';
}

function ask(port: number, path: string, { host = 'shop.test', tls = false, pair, maxVersion }: Asked = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const options = { host: ADDRESS, port, path, agent: false, headers: { host } } as const;
    const secure = {
      servername: host,
      ca: authority.cert,
      checkServerIdentity: () => undefined,
      maxVersion,
      cert: pair?.cert,
      key: pair?.key,
    };
    const sent = tls ? requestTls({ ...options, ...secure }) : request(options);
    sent.on('error', reject).on('response', (response) => {
      let text = '';
      response.on('data', (chunk) => {
        text += chunk;
      });
      response.on('end', () => {
        const { backend = '', path: seen = '' } = text.startsWith('{') ? (JSON.parse(text) as { backend: string; path: string }) : {};
        const protocol = tls ? ((response.socket as TLSSocket).getProtocol() ?? '') : '';
        resolve({ status: response.statusCode ?? 0, headers: response.headers, by: backend, path: seen, protocol });
      });
    });
    sent.end();
  });
}

async function converse(socket: Socket, text: string): Promise<string> {
  socket.on('error', () => {});
  socket.write(text);
  const [answer] = (await Promise.race([once(socket, 'data'), once(socket, 'close').then(() => ['closed'])])) as [Buffer | string];
  socket.destroy();
  return String(answer);
}

withTestdata.describe('Bookinfo, and cert-manager on the same port of the same gateway', () => {
  test.each<[path: string, status: number, by: string]>([
    ['/productpage', 200, 'productpage'],
    ['/static/style.css', 200, 'productpage'],
    ['/login', 200, 'productpage'],
    ['/logout', 200, 'productpage'],
    ['/api/v1/products/0/reviews', 200, 'productpage'],
    ['/.well-known/acme-challenge/token', 200, 'resolver'],
    ['/productpage/more', 404, ''],
    ['/', 404, ''],
  ])('%s is answered %i %s', async (path, status, by) => {
    expect(await ask(ports.http, path, { host: 'any.test' })).toMatchObject({ status, by });
  });
});

describe('servers of a Gateway', () => {
  test('httpsRedirect: every host of the server is sent to https, with path and query', async () => {
    const { status, headers } = await ask(ports.redirect, '/a?b=c', { host: `www.shop.test:${ports.redirect}` });
    expect([status, headers.location]).toEqual([301, 'https://www.shop.test/a?b=c']);
    expect((await ask(ports.redirect, '/', { host: 'elsewhere.test' })).status).toBe(404);
  });

  test('SIMPLE: the Secret of the root namespace, the version that is the least, rules of the Gateway and of both', async () => {
    const tls = true;
    expect(await ask(ports.https, '/x', { tls })).toMatchObject({ status: 200, by: 'reviews', protocol: 'TLSv1.3' });
    expect((await ask(ports.https, '/x', { tls })).headers['x-gateway']).toBe('edge');
    expect(await ask(ports.https, '/v2', { tls })).toMatchObject({ by: 'ratings', path: '/' });
    expect(await ask(ports.https, '/mesh-only', { tls })).toMatchObject({ by: 'reviews' });
    await expect(ask(ports.https, '/x', { tls, maxVersion: 'TLSv1.2' })).rejects.toThrow();
  });

  test('a host that is for VirtualServices of another namespace takes no other', async () => {
    expect(await ask(ports.https, '/x', { tls: true, host: 'other.shop.test' })).toMatchObject({ status: 404, by: '' });
  });

  test('MUTUAL: a certificate of the authority is required', async () => {
    const [own, other] = [certificates.issue(authority, 'DNS:client.test'), certificates.issue(stranger, 'DNS:client.test')];
    expect(await ask(ports.mutual, '/x', { tls: true, pair: own })).toMatchObject({ by: 'reviews', protocol: 'TLSv1.2' });
    await expect(ask(ports.mutual, '/x', { tls: true })).rejects.toThrow();
    await expect(ask(ports.mutual, '/x', { tls: true, pair: other })).rejects.toThrow();
  });

  test('OPTIONAL_MUTUAL: none is well, a bad one is not', async () => {
    const [own, other] = [certificates.issue(authority, 'DNS:client.test'), certificates.issue(stranger, 'DNS:client.test')];
    expect((await ask(ports.optional, '/x', { tls: true })).by).toBe('reviews');
    expect((await ask(ports.optional, '/x', { tls: true, pair: own })).by).toBe('reviews');
    await expect(ask(ports.optional, '/x', { tls: true, pair: other })).rejects.toThrow();
  });

  test('subjectAltNames: only certificates with one of these names', async () => {
    for (const name of ['DNS:client.test', 'URI:spiffe://td.test/cart'])
      expect(await ask(ports.named, '/x', { tls: true, pair: certificates.issue(authority, name) })).toMatchObject({ by: 'reviews' });
    for (const name of ['DNS:other.test', 'URI:spiffe://td.test/other'])
      await expect(ask(ports.named, '/x', { tls: true, pair: certificates.issue(authority, name) })).rejects.toThrow();
    expect((await ask(ports.named, '/x', { tls: true })).by).toBe('reviews');
  });

  test('PASSTHROUGH: the client’s TLS ends at the service that its server name leads to', async () => {
    const open = (servername: string): Socket =>
      connectTls({ host: ADDRESS, port: ports.passthrough, servername, ca: authority.cert, checkServerIdentity: () => undefined });
    expect(await converse(open('secure.shop.test'), 'hello')).toBe('tls hello');
    expect(await converse(open('unknown.shop.test'), 'hello').catch(() => 'closed')).toBe('closed');
  });

  test('TCP: bytes go to the service of the rule for the port', async () => {
    expect(await converse(connect(ports.tcp, ADDRESS), 'hello')).toBe('tcp hello');
  });
});
