// Detection of undeclared protocols, as captured traffic meets it: the data plane on a service's own address (test/bench/captured-proxy.ts,
// from dist; needs root), between curl, node:http2, node:net and real servers.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { connect as connectHttp2, createServer as createHttp2Server } from 'node:http2';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, expect, test } from '@jest/globals';
import { freePort } from '../lab/ports.js';

const dist = process.env.WEFT_DIST ?? join(process.cwd(), 'dist');
/** Everyone has an address of its own, as in a mesh; clients have 127.0.0.1. */
const SERVICE = '127.0.83.1';
const backendAddress = (index: number): string => `127.0.83.${index + 2}`;
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** Its port, at the address of the service's endpoint with this index. */
async function listening(server: Server, index = 0): Promise<number> {
  server.listen(0, backendAddress(index));
  await once(server, 'listening');
  cleanups.push(() => server.close());
  return (server.address() as AddressInfo).port;
}

/** An undeclared port whose endpoints are these ports, each of its address; the service's port. */
async function serve(backends: readonly number[], portName = 'main'): Promise<number> {
  const port = await freePort();
  const folder = mkdtempSync(join(tmpdir(), 'wpd-'));
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
  const slices = backends.map(
    (backend, index) => `---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: raw-${index}, labels: {kubernetes.io/service-name: raw}}
addressType: IPv4
ports: [{name: ${portName}, port: ${backend}}]
endpoints: [{addresses: [${backendAddress(index)}]}]
`,
  );
  const file = join(folder, 'raw.yaml');
  writeFileSync(
    file,
    `apiVersion: v1
kind: Service
metadata: {name: raw}
spec: {clusterIP: ${SERVICE}, ports: [{name: ${portName}, port: ${port}}]}
${slices.join('')}`,
  );
  const program = join(dist, 'test', 'bench', 'captured-proxy.js');
  const child = spawn(process.execPath, [program, file, SERVICE, String(port), '1'], { stdio: ['ignore', 'ignore', 'inherit'] });
  cleanups.push(() => ended(child));
  await reachable(child, port);
  return port;
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  child.kill('SIGKILL');
  await once(child, 'exit');
}

async function reachable(child: ChildProcess, port: number): Promise<void> {
  for (const deadline = performance.now() + 15_000; ; ) {
    if (child.exitCode !== null) throw new Error(`captured-proxy ended with ${child.exitCode}: it needs root`);
    const socket = connect(port, SERVICE);
    const connected = await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(true));
      socket.once('error', () => resolve(false));
    });
    socket.destroy();
    if (connected) return;
    if (performance.now() > deadline) throw new Error('captured-proxy does not listen');
  }
}

function dial(port: number): Socket {
  const socket = connect(port, SERVICE);
  socket.on('error', () => undefined);
  cleanups.push(() => socket.destroy());
  return socket;
}

async function heard(socket: Socket, size: number): Promise<string> {
  let text = '';
  while (text.length < size) text += ((await once(socket, 'data')) as [Buffer])[0].toString('latin1');
  return text;
}

test('a server that greets first, as MySQL does, and then converses', async () => {
  const greeting = '\x4a\x00\x00\x00\x0a8.0.36\x00';
  const backend = await listening(
    createServer((socket) => {
      socket.on('error', () => undefined);
      socket.write(greeting, 'latin1');
      socket.on('data', (bytes) => void socket.write(`heard ${bytes.length}`));
    }),
  );
  const client = dial(await serve([backend]));
  expect(await heard(client, greeting.length)).toBe(greeting);
  client.write('GET / HTTP/1.1\r\n\r\n');
  expect(await heard(client, 8)).toBe('heard 18');
});

test('curl: requests of one HTTP/1.1 connection are balanced, so they were understood', async () => {
  const server = (index: number) =>
    listening(
      createHttpServer((request, response) => void response.end(`${index}${request.url};`)),
      index,
    );
  const port = await serve([await server(0), await server(1)]);
  const url = `http://${SERVICE}:${port}`;
  const urls = Array.from({ length: 8 }, (_, index) => `${url}/${index}`);
  const { stdout } = await promisify(execFile)('curl', ['-sS', '-w', '%{num_connects};', ...urls]);
  const parts = stdout.split(';');
  expect(parts.filter((_, index) => index % 2 === 1).join('')).toBe('10000000');
  const served = new Set(parts.filter((_, index) => index % 2 === 0 && parts[index] !== '').map((part) => part[0]));
  expect([...served].sort()).toEqual(['0', '1']);
});

test('an HTTP/2 client reaches an HTTP/2 server that nobody declared', async () => {
  const server = createHttp2Server((request, response) => void response.end(`${request.httpVersion} ${request.url}`));
  const session = connectHttp2(`http://${SERVICE}:${await serve([await listening(server)])}`);
  cleanups.push(() => session.destroy());
  for (const path of ['/one', '/two']) {
    const stream = session.request({ ':path': path });
    let text = '';
    for await (const chunk of stream) text += String(chunk);
    expect(text).toBe(`2.0 ${path}`);
  }
});

test('without an endpoint curl is answered 503, and other bytes a reset', async () => {
  const port = await serve([]);
  const { stdout } = await promisify(execFile)('curl', ['-sS', '-o', '/dev/null', '-w', '%{http_code}', `http://${SERVICE}:${port}/`]);
  expect(stdout).toBe('503');
  const client = connect(port, SERVICE);
  const failed = once(client, 'error');
  client.write('\x01\x02\x03');
  expect(((await failed) as [NodeJS.ErrnoException])[0].code).toBe('ECONNRESET');
});

test('a port whose name declares tcp is not looked at: its HTTP is relayed as it is', async () => {
  let raw = '';
  const backend = await listening(
    createServer((socket) => {
      socket.on('error', () => undefined);
      socket.on('data', (bytes) => {
        raw += bytes.toString();
        socket.end('HTTP/1.1 200 OK\r\nx-odd : kept\r\n\r\n');
      });
    }),
  );
  const client = dial(await serve([backend], 'tcp-raw'));
  client.write('GET  / HTTP/1.1\r\nHost: x\r\n\r\n');
  expect(await heard(client, 10)).toContain('x-odd : kept');
  expect(raw).toBe('GET  / HTTP/1.1\r\nHost: x\r\n\r\n');
});
