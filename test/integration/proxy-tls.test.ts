// TLS that ends at a gateway: the real `weft proxy --static` process with two workers, between node:https, node:tls, node:http2 or curl and a server.
import { execFile, execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, request as plainRequest } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { Agent, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type KeyPair, secretManifest } from '../lab/certificates.js';
import { eventually } from '../lab/eventually.js';
import { freePort } from '../lab/ports.js';
import { serviceManifest } from '../lab/proxy-process.js';
import { ProxyScope } from '../lab/proxy-scope.js';

type Pair = Pick<KeyPair, 'cert' | 'key'>;

let certificates = '';
const scope = new ProxyScope();
beforeAll(() => {
  certificates = mkdtempSync(join(tmpdir(), 'wtc-'));
});
afterAll(() => rmSync(certificates, { recursive: true, force: true }));

let made = 0;
/** Self-signed, for the host name; `days` from now. */
function keyPair(host: string, days = 2): Pair {
  const [certFile, keyFile] = [join(certificates, `${++made}.crt`), join(certificates, `${made}.key`)];
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', keyFile];
  const subject = ['-subj', `/CN=${host}`, '-addext', `subjectAltName=DNS:${host}`];
  execFileSync('openssl', ['req', '-x509', ...key, '-out', certFile, '-days', String(days), ...subject], { stdio: 'ignore' });
  return { cert: readFileSync(certFile, 'utf8'), key: readFileSync(keyFile, 'utf8') };
}

function expired(host: string): Pair {
  const { key } = keyPair(host);
  const [keyFile, csr, cert] = [`${made}.key`, `${made}.csr`, `${made}.old.crt`];
  const run = (...args: string[]) => execFileSync('openssl', args, { cwd: certificates, stdio: 'ignore' });
  run('req', '-new', '-key', keyFile, '-out', csr, '-subj', `/CN=${host}`);
  // Negative days: OpenSSL 3.0 has no -not_after.
  run('x509', '-req', '-in', csr, '-signkey', keyFile, '-days', '-1', '-out', cert);
  return { cert: readFileSync(join(certificates, cert), 'utf8'), key };
}

async function backend(): Promise<number> {
  const server = createServer((incoming, response) => {
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify(incoming.headers));
  });
  return scope.listen(server);
}

/** A listener for <name>.test with the Secret <name>, for each name, all on one port; `secrets` are those that exist. */
function manifests(port: number, backendPort: number, names: readonly string[], secrets: Readonly<Record<string, Pair>>): string {
  const listener = (name: string): string =>
    `  - {name: ${name}, port: ${port}, protocol: HTTPS, hostname: ${name}.test, tls: {certificateRefs: [{name: ${name}}]}}`;
  return `${Object.entries(secrets)
    .map(([name, pair]) => secretManifest(name, pair))
    .join('')}${serviceManifest('shop', backendPort)}
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: weft
  addresses: [{value: 127.0.0.1}]
  listeners:
${names.map(listener).join('\n')}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop}
spec:
  parentRefs: [{name: edge}]
  rules: [{backendRefs: [{name: shop, port: 80}]}]
`;
}

async function gateway(names: readonly string[], secrets: Readonly<Record<string, Pair>>) {
  const [port, backendPort, file] = [await freePort(), await backend(), join(scope.folder, 'gateway.yaml')];
  const write = (current: Readonly<Record<string, Pair>>): void =>
    writeFileSync(file, manifests(port, backendPort, names, current), { mode: 0o600 });
  write(secrets);
  const proxy = await scope.start(file);
  return { proxy, port, file, write };
}

interface Answer {
  readonly status: number;
  /** It says "connection: close". */
  readonly leaves: boolean;
  readonly text: string;
}

/** `host`: of the request; the server name is `servername`, by default the same. */
function get(port: number, host: string, ca: string, options: { servername?: string; agent?: Agent } = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { servername = host, agent } = options;
    const sent = request({ port, host: '127.0.0.1', servername, headers: { host }, ca, agent: agent ?? false }, (response) => {
      let text = '';
      response.on('data', (chunk) => {
        text += chunk;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, leaves: response.headers.connection === 'close', text }));
    });
    sent.on('error', reject);
    sent.end();
  });
}

async function open(port: number, options: ConnectionOptions): Promise<TLSSocket> {
  const socket = connect({ port, host: '127.0.0.1', ...options });
  scope.closing.push(() => socket.destroy());
  await once(socket, 'secureConnect');
  return socket;
}

test('each host name has its own certificate, and a connection serves the hosts of its listener alone', async () => {
  const [a, b] = [keyPair('a.test'), keyPair('b.test')];
  const { proxy, port } = await gateway(['a', 'b'], { a, b });
  for (const [host, { cert }] of [
    ['a.test', a],
    ['b.test', b],
  ] as const) {
    const { status, text } = await get(port, host, cert);
    expect([status, JSON.parse(text)]).toMatchObject([200, { host, 'x-forwarded-proto': 'https', 'x-forwarded-for': '127.0.0.1' }]);
  }
  expect((await get(port, 'a.test', b.cert, { servername: 'b.test' })).status).toBe(421);
  expect((await get(port, 'c.test', b.cert, { servername: 'b.test' })).status).toBe(404);
  await expect(get(port, 'c.test', a.cert)).rejects.toThrow(/unrecognized name/);
  expect((await proxy.state()).listeners).toMatchObject([{ kind: 'gateway', port, protocol: 'https' }]);
});

test('HTTP/2 is negotiated, and HTTP/1.1 with those who speak nothing else', async () => {
  const a = keyPair('a.test');
  const { port } = await gateway(['a'], { a });
  const session = connectHttp2(`https://127.0.0.1:${port}`, { ca: a.cert, servername: 'a.test' });
  scope.closing.push(() => session.destroy());
  const stream = session.request({ ':path': '/', ':authority': 'a.test' });
  const [headers] = (await once(stream, 'response')) as [Record<string, unknown>];
  expect(headers[':status']).toBe(200);
  expect(session.alpnProtocol).toBe('h2');
  expect((await open(port, { ca: a.cert, servername: 'a.test', ALPNProtocols: ['http/1.1'] })).alpnProtocol).toBe('http/1.1');
  expect((await open(port, { ca: a.cert, servername: 'a.test' })).alpnProtocol).toBe(false);
  const curl = await promisify(execFile)('curl', [
    ...['-sS', '--cacert', join(certificates, `${made}.crt`), '--resolve', `a.test:${port}:127.0.0.1`],
    ...['-w', '\n%{http_version} %{http_code} %{ssl_verify_result}', `https://a.test:${port}/`],
  ]);
  expect(curl.stdout.split('\n').at(-1)).toBe('2 200 0');
});

test('a renewed certificate is for new connections, and those that are open live on', async () => {
  const [old, renewed] = [keyPair('a.test'), keyPair('a.test')];
  const { proxy, port, write } = await gateway(['a'], { a: old });
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  scope.closing.push(() => agent.destroy());
  expect((await get(port, 'a.test', old.cert, { agent })).status).toBe(200);
  const from = proxy.errors.length;
  write({ a: renewed });
  await proxy.says('new certificates', from);
  expect((await get(port, 'a.test', renewed.cert)).status).toBe(200);
  await expect(get(port, 'a.test', old.cert)).rejects.toThrow(/self-signed certificate/);
  // The same agent has one socket, whose handshake was the old certificate's.
  expect((await get(port, 'a.test', old.cert, { agent })).status).toBe(200);
  expect(await proxy.counter('downstream_accepted')).toBe(3);
});

/** Clients of the gateway must show a certificate that this one vouches for. */
function withClientTrust(manifest: string, { cert }: Pair): string {
  const map = `
apiVersion: v1
kind: ConfigMap
metadata: {name: clients}
data: {ca.crt: ${JSON.stringify(cert)}}
---`;
  const validation = '{caCertificateRefs: [{group: "", kind: ConfigMap, name: clients}]}';
  return map + manifest.replace('gatewayClassName: weft\n', (line) => `${line}  tls: {frontend: {default: {validation: ${validation}}}}\n`);
}

test('who was let in by what holds no more leaves with the next answer: certificates are asked for now, or the listener is gone', async () => {
  const a = keyPair('a.test');
  const { proxy, port, file } = await gateway(['a'], { a });
  const agents = [0, 1].map(() => new Agent({ keepAlive: true, maxSockets: 1 }));
  for (const agent of agents) scope.closing.push(() => agent.destroy());
  const session = connectHttp2(`https://127.0.0.1:${port}`, { ca: a.cert, servername: 'a.test' });
  scope.closing.push(() => session.destroy());
  await once(session, 'remoteSettings');
  for (const agent of agents) expect(await get(port, 'a.test', a.cert, { agent })).toMatchObject({ status: 200, leaves: false });
  const told = once(session, 'goaway', { signal: AbortSignal.timeout(10_000) });
  const open = readFileSync(file, 'utf8');
  const change = async (text: string): Promise<void> => {
    const from = proxy.errors.length;
    writeFileSync(file, text);
    await proxy.says('is in force', from);
  };
  await change(withClientTrust(open, a));
  expect((await told)[0]).toBe(0);
  await expect(get(port, 'a.test', a.cert)).rejects.toThrow();
  // What may be under way is answered.
  expect(await get(port, 'a.test', a.cert, { agent: agents[0]! })).toMatchObject({ status: 200, leaves: true });
  await expect(get(port, 'a.test', a.cert, { agent: agents[0]! })).rejects.toThrow();
  // The other has asked nothing since; nor has it been asked for a certificate.
  await change(open);
  expect(await get(port, 'a.test', a.cert, { agent: agents[1]! })).toMatchObject({ status: 200, leaves: true });
  expect(await get(port, 'a.test', a.cert, { agent: agents[0]! })).toMatchObject({ status: 200, leaves: false });
  await change(open.replace(`port: ${port}, protocol`, `port: ${await freePort()}, protocol`));
  expect(await get(port, 'a.test', a.cert, { agent: agents[0]! })).toMatchObject({ status: 404, leaves: true });
});

test('a port that was plain text becomes TLS without being closed, and the reverse', async () => {
  const a = keyPair('a.test');
  const { proxy, port, file, write } = await gateway(['a'], { a });
  let from = proxy.errors.length;
  writeFileSync(file, readFileSync(file, 'utf8').replace(/protocol: HTTPS(.*), tls: .*\}\]\}\}/, 'protocol: HTTP$1}'));
  await proxy.says('no TLS any more', from);
  const sent = plainRequest({ port, host: '127.0.0.1', headers: { host: 'a.test' }, agent: false });
  sent.end();
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  expect(response.resume().statusCode).toBe(200);
  expect((await proxy.state()).listeners).toMatchObject([{ protocol: 'http' }]);
  from = proxy.errors.length;
  write({ a });
  await proxy.says('new certificates', from);
  expect((await get(port, 'a.test', a.cert)).status).toBe(200);
  expect((await proxy.state()).listeners).toMatchObject([{ protocol: 'https' }]);
});

test('a key that is not the certificate’s is refused with its place, and nothing of it is printed', async () => {
  const [a, other] = [keyPair('a.test'), keyPair('a.test')];
  const { proxy, port, file, write } = await gateway(['a'], { a });
  const from = proxy.errors.length;
  write({ a: { cert: a.cert, key: other.key } });
  await proxy.says('what was served before stays', from);
  const finding = /gateway\.yaml:\d+:\d+: data\[\\?"tls\.key\\?"\]: expected the private key of the first certificate/;
  expect(proxy.errors.slice(from)).toMatch(finding);
  expect((await get(port, 'a.test', a.cert)).status).toBe(200);
  const late = scope.launch(file);
  expect(await late.exit()).toBe(1);
  expect(late.errors).toMatch(finding);
  for (const secretText of [Buffer.from(other.key).toString('base64'), other.key.split('\n')[1]!])
    expect(proxy.errors + late.errors).not.toContain(secretText);
});

test('an expired certificate is served and told; a listener whose Secret is missing is closed, and the others go on', async () => {
  const [a, b] = [keyPair('a.test'), expired('b.test')];
  const { proxy, port } = await gateway(['a', 'b', 'c'], { a, b });
  expect(proxy.errors).toMatch(/the certificate of Secret default\/b expired at/);
  expect(proxy.errors).toMatch(/Secret default\/c doesn't exist/);
  expect((await get(port, 'a.test', a.cert)).status).toBe(200);
  await expect(get(port, 'b.test', b.cert)).rejects.toThrow(/expired/);
  await expect(get(port, 'c.test', a.cert)).rejects.toThrow(/unrecognized name/);
  expect((await get(port, 'c.test', a.cert, { servername: 'a.test' })).status).toBe(421);
});

test('plain HTTP on the TLS port is counted and told with its address', async () => {
  const { proxy, port } = await gateway(['a'], { a: keyPair('a.test') });
  const from = proxy.errors.length;
  const sent = plainRequest({ port, host: '127.0.0.1', headers: { host: 'a.test' } });
  sent.end();
  await once(sent, 'error');
  await proxy.says('plain text came to a TLS port', from);
  expect(proxy.errors.slice(from)).toContain('TLS from 127.0.0.1 port');
  expect(
    await eventually(
      () => proxy.counter('tls_failures_not_tls'),
      (count) => count === 1,
    ),
  ).toBe(1);
});

test.each(['TLSv1.2', 'TLSv1.3'] as const)('a %s session is resumed by the proxy that took over', async (version) => {
  const a = keyPair('a.test');
  const { proxy, port, file } = await gateway(['a'], { a });
  const options: ConnectionOptions = { ca: a.cert, servername: 'a.test', minVersion: version, maxVersion: version };
  const first = connect({ port, host: '127.0.0.1', ...options });
  scope.closing.push(() => first.destroy());
  const [session] = (await once(first, 'session')) as [Buffer];
  const successor = scope.launch(file);
  await successor.says('it accepts no more, and drains');
  expect((await open(port, { ...options, session })).isSessionReused()).toBe(true);
  first.destroy();
  expect(await proxy.exit()).toBe(0);
  expect(await successor.counter('tls_handshakes_resumed')).toBe(1);
});

test.each(['TLSv1.2', 'TLSv1.3'] as const)('a %s session is resumed by whichever worker the next connection comes to', async (version) => {
  const a = keyPair('a.test');
  const { proxy, port } = await gateway(['a'], { a });
  const options: ConnectionOptions = { ca: a.cert, servername: 'a.test', minVersion: version, maxVersion: version };
  const first = connect({ port, host: '127.0.0.1', ...options });
  scope.closing.push(() => first.destroy());
  const [session] = (await once(first, 'session')) as [Buffer];
  // The kernel spreads connections over the workers by their ports: all 24 on one has a chance of 1 in 8 million.
  for (let i = 0; i < 24; i++) expect((await open(port, { ...options, session })).isSessionReused()).toBe(true);
  expect(await proxy.counter('tls_handshakes_resumed')).toBe(24);
});
