// WebSockets of the ws library over HTTP/1.1: through a gateway, plain and TLS, and through the listener that captured traffic comes to.
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type ClientOptions, type RawData, WebSocket, WebSocketServer } from 'ws';
import { Gateway } from '../lab/gateway.js';
import { freePort } from '../lab/ports.js';

const dist = process.env.WEFT_DIST ?? join(process.cwd(), 'dist');
/** A service's own address; nothing else on the machine has it. */
const SERVICE = '127.0.78.9';

const origin = createServer();
const echo = new WebSocketServer({ server: origin, maxPayload: 4 << 20, perMessageDeflate: true });
let gateway: Gateway;
let captured: ChildProcess | undefined;
let capturedPort = 0;

beforeAll(async () => {
  echo.on('connection', (socket) => {
    socket.on('message', (data: Buffer, isBinary) => {
      if (!isBinary && data.toString() === 'close me') socket.close(4001, 'as you wish');
      else socket.send(data, { binary: isBinary });
    });
  });
  origin.listen(0, '127.0.0.1');
  await once(origin, 'listening');
  const { port } = origin.address() as AddressInfo;
  gateway = await Gateway.start([{ name: 'echo', port, appProtocol: 'http', prefix: '/' }]);
  capturedPort = await freePort();
  captured = await startCaptured(gateway.folder, capturedPort, port);
});
afterAll(async () => {
  captured?.kill('SIGKILL');
  await gateway?.stop();
  for (const socket of echo.clients) socket.terminate();
  origin.close();
});

/** The data plane behind the redirection (test/bench/captured-proxy.ts), for an HTTP service at SERVICE. */
async function startCaptured(folder: string, port: number, backend: number): Promise<ChildProcess> {
  const file = join(folder, 'service.yaml');
  const objects = [
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'echo' },
      spec: { clusterIP: SERVICE, ports: [{ name: 'http', port, appProtocol: 'http' }] },
    },
    {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name: 'echo-1', labels: { 'kubernetes.io/service-name': 'echo' } },
      addressType: 'IPv4',
      ports: [{ name: 'http', port: backend }],
      endpoints: [{ addresses: ['127.0.0.1'] }],
    },
  ];
  writeFileSync(file, objects.map((object) => JSON.stringify(object)).join('\n---\n'));
  const program = join(dist, 'test', 'bench', 'captured-proxy.js');
  const child = spawn(process.execPath, [program, file, SERVICE, String(port), '1'], { stdio: ['ignore', 'ignore', 'inherit'] });
  while (!(await accepts(port))) {
    if (child.exitCode !== null) throw new Error(`captured-proxy ended with ${child.exitCode}`);
  }
  return child;
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect({ host: SERVICE, port });
    const end = (answer: boolean): void => {
      probe.destroy();
      resolve(answer);
    };
    probe.once('connect', () => end(true)).once('error', () => end(false));
  });
}

const WAYS: readonly (readonly [string, () => [string, ClientOptions]])[] = [
  ['a gateway', () => [`ws://127.0.0.1:${gateway.port}/`, {}]],
  ['a gateway with TLS', () => [`wss://127.0.0.1:${gateway.tlsPort}/`, { servername: gateway.host, ca: gateway.certificate }]],
  // Not the upstream's own address: to a mesh, a client that calls itself is a case apart.
  ['the mesh listener', () => [`ws://${SERVICE}:${capturedPort}/`, { localAddress: '127.0.78.2' }]],
];

describe.each(WAYS)('through %s', (_, way) => {
  async function open(options: ClientOptions = {}): Promise<WebSocket> {
    const [url, own] = way();
    // The host of the route: what the TLS listener serves.
    const socket = new WebSocket(url, { headers: { host: gateway.host }, ...own, ...options });
    await once(socket, 'open');
    return socket;
  }
  async function reply(socket: WebSocket): Promise<[Buffer, boolean]> {
    const [data, isBinary] = (await once(socket, 'message')) as [RawData, boolean];
    return [data as Buffer, isBinary];
  }

  test('text and binary messages come back, up to 1 MiB', async () => {
    const socket = await open();
    for (const message of ['hello', '', 'ünïcödé ✓', randomBytes(125), randomBytes(126), randomBytes(65_536), randomBytes(1 << 20)]) {
      socket.send(message);
      const [data, isBinary] = await reply(socket);
      expect(isBinary).toBe(typeof message !== 'string');
      expect(data.equals(Buffer.from(message))).toBe(true);
    }
    socket.close();
    await once(socket, 'close');
  });

  test('a message in fragments with a ping between them is one message, and the pong comes', async () => {
    const socket = await open({ perMessageDeflate: false });
    const parts = [randomBytes(3), randomBytes(70_000), randomBytes(1)];
    const pong = once(socket, 'pong');
    socket.send(parts[0]!, { fin: false });
    socket.ping('are you there');
    socket.send(parts[1]!, { fin: false });
    socket.send(parts[2]!, { fin: true });
    expect((await reply(socket))[0].equals(Buffer.concat(parts))).toBe(true);
    expect(String((await pong)[0])).toBe('are you there');
    socket.terminate();
  });

  test('compressed messages pass (permessage-deflate is between the ends)', async () => {
    const socket = await open({ perMessageDeflate: { threshold: 0 } });
    expect(socket.extensions).toContain('permessage-deflate');
    const message = 'again and '.repeat(10_000);
    socket.send(message);
    expect((await reply(socket))[0].toString()).toBe(message);
    socket.close();
    await once(socket, 'close');
  });

  test('the code and the reason of a close reach the other end, either way', async () => {
    const first = await open();
    first.send('close me');
    const [code, reason] = (await once(first, 'close')) as [number, Buffer];
    expect([code, reason.toString()]).toEqual([4001, 'as you wish']);
    const accepted = once(echo, 'connection') as Promise<[WebSocket]>;
    const second = await open();
    const closed = once((await accepted)[0], 'close') as Promise<[number, Buffer]>;
    second.close(4002, 'good bye');
    const [theirs, why] = await closed;
    expect([theirs, why.toString()]).toEqual([4002, 'good bye']);
  });

  test('many messages at once, both ways at the same time, keep their order', async () => {
    const socket = await open();
    const count = 2_000;
    const all = new Promise<string[]>((resolve) => {
      const got: string[] = [];
      socket.on('message', (data: Buffer) => got.push(data.toString()) === count && resolve(got));
    });
    for (let i = 0; i < count; i++) socket.send(`${i} ${'x'.repeat(i)}`);
    const got = await all;
    expect(got.every((text, i) => text === `${i} ${'x'.repeat(i)}`)).toBe(true);
    socket.terminate();
  });
});
