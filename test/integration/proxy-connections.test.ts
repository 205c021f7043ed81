// TLSRoute and TCPRoute on gateways: the real `weft proxy --static` process with two workers, between node:tls or node:net and real servers.
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { connect as connectTcp, createServer as createTcpServer } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls, createServer as createTlsServer } from 'node:tls';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Certificates, type KeyPair, secretManifest } from '../lab/certificates.js';
import { eventually } from '../lab/eventually.js';
import { freePort } from '../lab/ports.js';
import { accessLog, gatewayManifest, type ProxyProcess, serviceManifest } from '../lab/proxy-process.js';
import { ProxyScope } from '../lab/proxy-scope.js';

let certificates: Certificates;
let authority: KeyPair;
const scope = new ProxyScope();
beforeAll(() => {
  certificates = new Certificates();
  authority = certificates.authority('test root');
});
afterAll(() => certificates.remove());

/** Says its name and what it hears. */
const tcpServer = (name: string): Promise<number> =>
  scope.listen(
    createTcpServer((socket) => {
      socket.on('error', () => undefined);
      socket.write(`${name}:`);
      socket.pipe(socket);
    }),
  );
const tlsServer = (name: string, host: string): Promise<number> =>
  scope.listen(
    createTlsServer(certificates.issue(authority, `DNS:${host}`), (socket) => {
      socket.on('error', () => undefined);
      socket.write(`${name}:`);
      socket.pipe(socket);
    }),
  );

interface Answer {
  readonly text: string;
  readonly error: string;
}

/** Sends "hello" and its end; what came back, or why nothing did. */
async function ask(port: number, servername: string | null, ca = authority.cert): Promise<Answer> {
  const socket = connectTls({ port, host: '127.0.0.1', ca, servername: servername ?? '', checkServerIdentity: () => undefined });
  scope.closing.push(() => socket.destroy());
  return exchange(socket);
}

function exchange(socket: ReturnType<typeof connectTcp>): Promise<Answer> {
  return new Promise((resolve) => {
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk.toString();
    });
    socket.on('error', (error: NodeJS.ErrnoException) =>
      resolve({ text, error: error.code === 'EPROTO' ? error.message : (error.code ?? error.message) }),
    );
    socket.on('end', () => resolve({ text, error: '' }));
    socket.end('hello');
  });
}

const route = (kind: string, name: string, section: string, more: string): string => `
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: ${kind}
metadata: {name: ${name}}
spec: {parentRefs: [{name: edge, sectionName: ${section}}], ${more}}
---`;

async function start(
  manifests: string,
): Promise<{ proxy: ProxyProcess; write: (text: string) => void; log: () => Record<string, unknown>[] }> {
  const [file, logFile] = [join(scope.folder, 'edge.yaml'), join(scope.folder, 'access.log')];
  writeFileSync(file, manifests, { mode: 0o600 });
  const proxy = await scope.start(file, '--access-log', 'all', '--access-log-file', logFile);
  const log = (): Record<string, unknown>[] => accessLog(logFile);
  return { proxy, write: (text) => writeFileSync(file, text), log };
}

const passing = (port: number): string => `{name: tls, port: ${port}, protocol: TLS, tls: {mode: Passthrough}}`;

test('TLS passes through to the backend that its server name routes to; other names are reset, logged and counted', async () => {
  const port = await freePort();
  const [a, wild] = [await tlsServer('a', 'a.test'), await tlsServer('wild', '*.shop.test')];
  const { proxy, log } = await start(
    `${serviceManifest('a', a)}${serviceManifest('wild', wild)}${gatewayManifest(passing(port))}${route('TLSRoute', 'a', 'tls', 'hostnames: [a.test], rules: [{backendRefs: [{name: a, port: 80}]}]')}${route('TLSRoute', 'wild', 'tls', 'hostnames: ["*.shop.test"], rules: [{backendRefs: [{name: wild, port: 80}]}]')}`,
  );
  expect(await ask(port, 'a.test')).toEqual({ text: 'a:hello', error: '' });
  expect(await ask(port, 'x.shop.test')).toEqual({ text: 'wild:hello', error: '' });
  expect((await ask(port, 'b.test')).error).toBe('ECONNRESET');
  expect((await ask(port, null)).error).toBe('ECONNRESET');
  const lines = await eventually(
    () => Promise.resolve(log()),
    (found) => found.length >= 4,
  );
  const shown = lines.map(({ protocol, server_name, response_flag, route: by }) => [protocol, server_name ?? null, response_flag, by]);
  expect(shown).toEqual(
    expect.arrayContaining([
      ['tcp', 'a.test', '-', 'TLSRoute/default/a'],
      ['tcp', 'x.shop.test', '-', 'TLSRoute/default/wild'],
      ['tcp', 'b.test', 'NR', null],
      ['tcp', null, 'NR', null],
    ]),
  );
  const { traffic, listeners } = await eventually(
    () => proxy.state(),
    (state) => state.traffic.length >= 3,
  );
  expect(listeners[0]?.protocol).toBe('tls passthrough');
  expect(traffic.map(({ destination }) => destination)).toEqual(
    expect.arrayContaining(['default/a:80', 'default/wild:80', `default/edge:${port}`]),
  );
  // What is no TLS is refused before any decision.
  const plain = await exchange(connectTcp(port, '127.0.0.1'));
  expect(plain.text).toBe('');
  await proxy.says('plain text came to a TLS port');
  expect(
    await eventually(
      () => proxy.counter('tls_failures_not_tls'),
      (count) => count > 0,
    ),
  ).toBe(1);
});

test('TLS that ends at the gateway carries plain bytes to the backend, each name with its own certificate and route', async () => {
  const port = await freePort();
  const [a, b] = [await tcpServer('a'), await tcpServer('b')];
  const pairs = { a: certificates.issue(authority, 'DNS:a.test'), b: certificates.issue(authority, 'DNS:b.test') };
  const ending = (name: string): string =>
    `{name: ${name}, port: ${port}, protocol: TLS, hostname: ${name}.test, tls: {certificateRefs: [{name: ${name}}]}}`;
  await start(
    `${serviceManifest('a', a)}${serviceManifest('b', b)}${secretManifest('a', pairs.a)}${secretManifest('b', pairs.b)}${gatewayManifest(`${ending('a')}, ${ending('b')}`)}${route('TLSRoute', 'a', 'a', 'hostnames: [a.test], rules: [{backendRefs: [{name: a, port: 80}]}]')}${route('TCPRoute', 'b', 'b', 'rules: [{backendRefs: [{name: b, port: 80}]}]')}`,
  );
  for (const name of ['a', 'b']) {
    const socket = connectTls({ port, host: '127.0.0.1', ca: authority.cert, servername: `${name}.test`, ALPNProtocols: ['postgresql'] });
    scope.closing.push(() => socket.destroy());
    expect(await exchange(socket)).toEqual({ text: `${name}:hello`, error: '' });
  }
  expect((await ask(port, 'c.test')).error).toMatch(/unrecognized name/);
});

test('a TCP listener spreads connections by weight, and a change is in force for the next connection', async () => {
  const [port, other] = [await freePort(), await freePort()];
  const [a, b] = [await tcpServer('a'), await tcpServer('b')];
  const services = `${serviceManifest('a', a)}${serviceManifest('b', b)}`;
  const listeners = gatewayManifest(`{name: one, port: ${port}, protocol: TCP}, {name: two, port: ${other}, protocol: TCP}`);
  const second = route('TCPRoute', 'two', 'two', 'rules: [{backendRefs: [{name: b, port: 80}]}]');
  const first = (weights: readonly [number, number]): string =>
    route(
      'TCPRoute',
      'one',
      'one',
      `rules: [{backendRefs: [{name: a, port: 80, weight: ${weights[0]}}, {name: b, port: 80, weight: ${weights[1]}}]}]`,
    );
  const { proxy, write } = await start(`${services}${listeners}${second}${first([1, 1])}`);
  const counts = { a: 0, b: 0 };
  for (let i = 0; i < 60; i++) counts[(await exchange(connectTcp(port, '127.0.0.1'))).text[0] as 'a' | 'b']++;
  // 60 draws of a half each: fewer than 10 of either come once in ten million runs.
  expect(Math.min(counts.a, counts.b)).toBeGreaterThan(9);
  expect((await exchange(connectTcp(other, '127.0.0.1'))).text).toBe('b:hello');
  const from = proxy.errors.length;
  write(`${services}${listeners}${second}${first([0, 1])}`);
  await proxy.says('is in force', from);
  for (let i = 0; i < 5; i++) expect((await exchange(connectTcp(port, '127.0.0.1'))).text).toBe('b:hello');
  // A port whose protocol changes is opened anew.
  const later = proxy.errors.length;
  write(`${services}${gatewayManifest(`{name: two, port: ${other}, protocol: HTTP}`)}`);
  await proxy.says('is in force', later);
  const http = connectTcp(other, '127.0.0.1');
  scope.closing.push(() => http.destroy());
  http.write('GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n');
  const [answer] = (await once(http, 'data')) as [Buffer];
  expect(answer.toString()).toMatch(/^HTTP\/1.1 404 /);
});

test('a gateway that validates clients lets in those that its CAs vouch for, and no others', async () => {
  const [port, open] = [await freePort(), await freePort()];
  const backend = await tcpServer('a');
  const clients = certificates.authority('clients');
  const own = certificates.issue(authority, 'DNS:a.test');
  const configMap = `\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: clients}\ndata: {ca.crt: ${JSON.stringify(clients.cert)}}\n---`;
  const listener = (name: string, at: number): string => `{name: ${name}, port: ${at}, protocol: TLS, tls: {certificateRefs: [{name: a}]}}`;
  const validating = gatewayManifest(`${listener('a', port)}, ${listener('open', open)}`).replace(
    'gatewayClassName: weft',
    `gatewayClassName: weft, tls: {frontend: {default: {validation: {caCertificateRefs: [{group: "", kind: ConfigMap, name: clients}]}}, perPort: [{port: ${open}, tls: {}}]}}`,
  );
  const { proxy } = await start(
    `${serviceManifest('a', backend)}${secretManifest('a', own)}${configMap}${validating}${route('TLSRoute', 'a', 'a', 'rules: [{backendRefs: [{name: a, port: 80}]}]')}${route('TLSRoute', 'open', 'open', 'rules: [{backendRefs: [{name: a, port: 80}]}]')}`,
  );
  const askAs = (at: number, pair: KeyPair | null) => {
    const identity = pair === null ? {} : { cert: pair.cert, key: pair.key };
    const socket = connectTls({ port: at, host: '127.0.0.1', ca: authority.cert, servername: 'a.test', ...identity });
    scope.closing.push(() => socket.destroy());
    return exchange(socket);
  };
  expect((await askAs(port, certificates.issue(clients, 'DNS:client.test'))).text).toBe('a:hello');
  expect((await askAs(port, null)).text).toBe('');
  expect((await askAs(port, certificates.issue(authority, 'DNS:client.test'))).text).toBe('');
  expect((await askAs(open, null)).text).toBe('a:hello');
  await proxy.says('no-certificate');
});

test('a gateway with AllowInsecureFallback lets in also whoever shows no certificate, or a bad one', async () => {
  const port = await freePort();
  const clients = certificates.authority('clients');
  const own = certificates.issue(authority, 'DNS:a.test');
  const configMap = `\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: clients}\ndata: {ca.crt: ${JSON.stringify(clients.cert)}}\n---`;
  const lax = gatewayManifest(`{name: a, port: ${port}, protocol: TLS, tls: {certificateRefs: [{name: a}]}}`).replace(
    'gatewayClassName: weft',
    'gatewayClassName: weft, tls: {frontend: {default: {validation: {mode: AllowInsecureFallback, caCertificateRefs: [{group: "", kind: ConfigMap, name: clients}]}}}}',
  );
  const { proxy } = await start(
    `${serviceManifest('a', await tcpServer('a'))}${secretManifest('a', own)}${configMap}${lax}${route('TLSRoute', 'a', 'a', 'rules: [{backendRefs: [{name: a, port: 80}]}]')}`,
  );
  for (const pair of [certificates.issue(clients, 'DNS:client.test'), certificates.issue(authority, 'DNS:client.test'), null]) {
    const identity = pair === null ? {} : { cert: pair.cert, key: pair.key };
    const socket = connectTls({ port, host: '127.0.0.1', ca: authority.cert, servername: 'a.test', ...identity });
    scope.closing.push(() => socket.destroy());
    expect(await exchange(socket)).toEqual({ text: 'a:hello', error: '' });
  }
  expect(await proxy.counter('tls_failures_untrusted')).toBe(0);
});

test('only clients whose certificate has a name of mesh.weft.dev/client-subject-alt-names are let in', async () => {
  const port = await freePort();
  const own = certificates.issue(authority, 'DNS:a.test');
  const configMap = `\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: clients}\ndata: {ca.crt: ${JSON.stringify(authority.cert)}}\n---`;
  const names = 'options: {mesh.weft.dev/client-subject-alt-names: "spiffe://td.test/cart, client.test"}';
  const gateway = gatewayManifest(`{name: a, port: ${port}, protocol: TLS, tls: {certificateRefs: [{name: a}], ${names}}}`).replace(
    'gatewayClassName: weft',
    'gatewayClassName: weft, tls: {frontend: {default: {validation: {caCertificateRefs: [{group: "", kind: ConfigMap, name: clients}]}}}}',
  );
  await start(
    `${serviceManifest('a', await tcpServer('a'))}${secretManifest('a', own)}${configMap}${gateway}${route('TLSRoute', 'a', 'a', 'rules: [{backendRefs: [{name: a, port: 80}]}]')}`,
  );
  const as = (name: string) => {
    const { cert, key } = certificates.issue(authority, name);
    const socket = connectTls({ port, host: '127.0.0.1', ca: authority.cert, servername: 'a.test', cert, key });
    scope.closing.push(() => socket.destroy());
    return exchange(socket);
  };
  for (const name of ['DNS:client.test', 'URI:spiffe://td.test/cart']) expect(await as(name)).toEqual({ text: 'a:hello', error: '' });
  for (const name of ['DNS:other.test', 'URI:spiffe://td.test/other']) expect((await as(name)).text).toBe('');
});

test('listeners of one port have the versions and cipher suites that each of them asks for', async () => {
  const port = await freePort();
  const listener = (name: string, options: string): string =>
    `{name: ${name}, port: ${port}, protocol: TLS, hostname: ${name}.test, tls: {certificateRefs: [{name: ${name}}], options: {${options}}}}`;
  const strict = listener('strict', 'mesh.weft.dev/min-protocol-version: "1.3"');
  const old = listener(
    'old',
    'mesh.weft.dev/max-protocol-version: "1.2", mesh.weft.dev/cipher-suites: "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"',
  );
  const secrets = ['strict', 'old'].map((name) => secretManifest(name, certificates.issue(authority, `DNS:${name}.test`))).join('');
  const routes = ['strict', 'old'].map((name) => route('TLSRoute', name, name, 'rules: [{backendRefs: [{name: a, port: 80}]}]')).join('');
  const { proxy } = await start(`${serviceManifest('a', await tcpServer('a'))}${secrets}${gatewayManifest(`${strict}, ${old}`)}${routes}`);
  const agree = (name: string, maxVersion: 'TLSv1.2' | 'TLSv1.3') =>
    new Promise<string>((resolve) => {
      const socket = connectTls({ port, host: '127.0.0.1', ca: authority.cert, servername: `${name}.test`, maxVersion });
      scope.closing.push(() => socket.destroy());
      socket.on('error', (error) => resolve(error.message));
      socket.on('secureConnect', () => resolve(`${socket.getProtocol()} ${socket.getCipher().standardName}`));
    });
  expect(await agree('strict', 'TLSv1.3')).toBe('TLSv1.3 TLS_AES_128_GCM_SHA256');
  expect(await agree('strict', 'TLSv1.2')).toMatch(/alert protocol version/);
  expect(await agree('old', 'TLSv1.3')).toBe('TLSv1.2 TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384');
  await proxy.says('version');
});

test('TLS that passes through shares a port with TLS that ends, for connections and for requests: the most specific host decides', async () => {
  const [port, web] = [await freePort(), await freePort()];
  const [a, rest] = [await tlsServer('a', 'a.w.test'), await tlsServer('rest', '*.else.test')];
  const listener = (name: string, at: number, protocol: string, more: string): string =>
    `{name: ${name}, port: ${at}, protocol: ${protocol}, ${more}}`;
  const passed = 'tls: {mode: Passthrough}';
  const ending = 'hostname: "*.w.test", tls: {certificateRefs: [{name: own}]}';
  const listeners = [
    listener('ending', port, 'TLS', ending),
    listener('a', port, 'TLS', `hostname: a.w.test, ${passed}`),
    listener('rest', port, 'TLS', passed),
    listener('web', web, 'HTTPS', ending),
    listener('web-a', web, 'TLS', `hostname: a.w.test, ${passed}`),
  ].join(', ');
  const to = (name: string, section: string, more = '') =>
    route('TLSRoute', section, section, `${more}rules: [{backendRefs: [{name: ${name}, port: 80}]}]`);
  const services = `${serviceManifest('a', a)}${serviceManifest('rest', rest)}${serviceManifest('plain', await tcpServer('plain'))}`;
  const secret = secretManifest('own', certificates.issue(authority, 'DNS:*.w.test'));
  const { proxy, log } = await start(
    `${services}${secret}${gatewayManifest(listeners)}${to('plain', 'ending')}${to('a', 'a')}${to('rest', 'rest')}${to('a', 'web-a')}`,
  );
  expect(await ask(port, 'a.w.test')).toEqual({ text: 'a:hello', error: '' });
  expect(await ask(port, 'x.w.test')).toEqual({ text: 'plain:hello', error: '' });
  expect(await ask(port, 'y.else.test')).toEqual({ text: 'rest:hello', error: '' });
  expect(await ask(port, null)).toEqual({ text: 'rest:hello', error: '' });
  expect(await ask(web, 'a.w.test')).toEqual({ text: 'a:hello', error: '' });
  const socket = connectTls({ port: web, host: '127.0.0.1', ca: authority.cert, servername: 'x.w.test' });
  scope.closing.push(() => socket.destroy());
  socket.write('GET / HTTP/1.1\r\nhost: x.w.test\r\nconnection: close\r\n\r\n');
  expect(((await once(socket, 'data')) as [Buffer])[0].toString()).toMatch(/^HTTP\/1.1 404 /);
  // No listener's: refused in the handshake.
  expect((await ask(web, 'y.else.test')).error).toMatch(/unrecognized name/);
  expect((await proxy.state()).listeners.map(({ protocol }) => protocol).sort()).toEqual([
    'https, tls passthrough',
    'tls, tls passthrough',
  ]);
  const lines = await eventually(
    () => Promise.resolve(log()),
    (found) => found.length >= 6,
  );
  expect(lines.map(({ server_name, response_flag }) => [server_name ?? null, response_flag])).toContainEqual(['a.w.test', '-']);
});
