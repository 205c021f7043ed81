// A running `weft proxy` replaced by its successor, as an upgrade does it: real processes, under load of every kind.
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { Agent, createServer, type IncomingMessage, request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import {
  Client,
  type ClientDuplexStream,
  credentials,
  Server as GrpcServer,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type sendUnaryData,
} from '@grpc/grpc-js';
import { describe, expect, test } from '@jest/globals';
import { loadAddon } from '../../agent/native/addon.js';
import type { Message, MessageSocket } from '../../agent/native/message-socket.js';
import { DiscoveryTestServer } from '../lab/discovery-server.js';
import { eventually } from '../lab/eventually.js';
import { gatewayResources } from '../lab/gateway-resources.js';
import { freePort } from '../lab/ports.js';
import { gatewayManifest, type ProxyProcess, serviceManifest } from '../lab/proxy-process.js';
import { ProxyScope } from '../lab/proxy-scope.js';

// Every one starts several processes.

const scope = new ProxyScope();

/** Answers at once; "/slow" after `release()`; an Upgrade gets its bytes back. */
async function httpBackend(): Promise<{ port: number; release: () => void; slow: Promise<void> }> {
  let release = (): void => undefined;
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  let arrive = (): void => undefined;
  const slow = new Promise<void>((resolve) => {
    arrive = resolve;
  });
  const server = createServer(async (incoming, response) => {
    if (incoming.url === '/slow') {
      arrive();
      await released;
    }
    response.end('ok');
  });
  server.on('upgrade', (_incoming, socket) => {
    // A tunnel that is cut is reset on both sides.
    socket.on('error', () => undefined);
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
    socket.pipe(socket);
  });
  return { port: await scope.listen(server), release, slow };
}

const asIs = (bytes: Buffer): Buffer => bytes;
const ECHO = { requestSerialize: asIs, requestDeserialize: asIs, responseSerialize: asIs, responseDeserialize: asIs };

async function grpcBackend(): Promise<number> {
  const server = new GrpcServer();
  server.addService(
    {
      one: { path: '/echo.Echo/One', requestStream: false, responseStream: false, ...ECHO },
      many: { path: '/echo.Echo/Many', requestStream: true, responseStream: true, ...ECHO },
    },
    {
      one: ({ request: bytes }: ServerUnaryCall<Buffer, Buffer>, reply: sendUnaryData<Buffer>) => reply(null, bytes),
      many: (call: ServerDuplexStream<Buffer, Buffer>) => {
        call.on('data', (bytes) => call.write(bytes));
        call.on('end', () => call.end());
        call.on('error', () => undefined);
      },
    },
  );
  scope.closing.push(() => server.forceShutdown());
  return new Promise((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) => (error === null ? resolve(port) : reject(error))),
  );
}

interface Mesh {
  readonly file: string;
  readonly port: number;
  readonly backend: Awaited<ReturnType<typeof httpBackend>>;
}

async function mesh(): Promise<Mesh> {
  const [backend, grpc, port] = [await httpBackend(), await grpcBackend(), await freePort()];
  const file = join(scope.folder, 'mesh.yaml');
  const route = (name: string): string => `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: ${name}}
spec: {parentRefs: [{name: edge}], hostnames: [${name}.test], rules: [{backendRefs: [{name: ${name}, port: 80}]}]}
---`;
  writeFileSync(
    file,
    `${serviceManifest('web', backend.port)}${serviceManifest('echo', grpc).replace('appProtocol: http', 'appProtocol: grpc')}${route('web')}${route('echo')}${gatewayManifest(`{name: http, port: ${port}, protocol: HTTP}`)}`,
  );
  return { file, port, backend };
}

/** Asks again and again until stopped; says how often it was answered, and every other end in words. */
class Load {
  answered = 0;
  readonly errors: string[] = [];
  private isStopped = false;
  private readonly loops: Promise<void>[];

  constructor(clients: number, ask: () => Promise<unknown>) {
    this.loops = Array.from({ length: clients }, async () => {
      while (!this.isStopped) {
        try {
          await ask();
          this.answered++;
        } catch (error) {
          this.errors.push((error as Error).message);
        }
      }
    });
  }

  async stop(): Promise<void> {
    this.isStopped = true;
    await Promise.all(this.loops);
  }

  /** Resolves when it was answered so many times more. */
  async more(count: number): Promise<void> {
    const goal = this.answered + count;
    await eventually(
      async () => this.answered,
      (answered) => answered >= goal || this.errors.length > 0,
    );
  }
}

function get(port: number, path: string, agent: Agent | false): Promise<{ status: number; connection: string }> {
  return new Promise((resolve, reject) => {
    const sent = request({ port, host: '127.0.0.1', path, headers: { host: 'web.test' }, agent }, (response: IncomingMessage) => {
      response.resume();
      response.on('error', reject);
      response.on('end', () =>
        response.statusCode === 200
          ? resolve({ status: 200, connection: response.headers.connection ?? '' })
          : reject(new Error(`${path}: ${response.statusCode}`)),
      );
    });
    sent.on('error', reject);
    sent.end();
  });
}

function keepAlive(sockets: number): Agent {
  const agent = new Agent({ keepAlive: true, maxSockets: sockets });
  scope.closing.push(() => agent.destroy());
  return agent;
}

function grpcClient(port: number): Client {
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), { 'grpc.default_authority': 'echo.test' });
  scope.closing.push(() => client.close());
  return client;
}

function callOnce(client: Client): Promise<unknown> {
  return new Promise((resolve, reject) =>
    client.makeUnaryRequest('/echo.Echo/One', asIs, asIs, Buffer.from('one'), (error, bytes) =>
      error === null ? resolve(bytes) : reject(error),
    ),
  );
}

/** Inodes. */
function listeningSockets(port: number): string[] {
  const LISTEN = '0A';
  const rows = readFileSync('/proc/net/tcp', 'utf8')
    .split('\n')
    .map((line) => line.trim().split(/\s+/));
  const local = `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  return rows.filter((row) => row[1] === local && row[3] === LISTEN).map((row) => row[9]!);
}

/** By status and flag: how many requests its metrics know of, of all edges. */
async function requestsCounted(metricsPort: number): Promise<Record<string, number>> {
  const text = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
  const counts: Record<string, number> = {};
  for (const [, status, flags, value] of text.matchAll(
    /^istio_requests_total{.*response_code="(\d+)".*response_flags="(.*?)".*} (\d+)$/gm,
  )) {
    const key = `${status} ${flags}`;
    counts[key] = (counts[key] ?? 0) + Number(value);
  }
  return counts;
}

/** One stream whose every message must come back. */
class Stream {
  private readonly call: ClientDuplexStream<Buffer, Buffer>;
  /** The stream's error. */
  readonly lost: Promise<Error>;
  private waiting: { resolve: (bytes: Buffer) => void; reject: (error: Error) => void } | null = null;

  constructor(client: Client) {
    this.call = client.makeBidiStreamRequest('/echo.Echo/Many', asIs, asIs);
    this.call.on('data', (bytes: Buffer) => this.waiting?.resolve(bytes));
    this.lost = new Promise((resolve) => {
      this.call.on('error', (error) => {
        this.waiting?.reject(error);
        resolve(error);
      });
    });
  }

  echo(): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      this.waiting = { resolve, reject };
      this.call.write(Buffer.from('again'));
    });
  }

  async end(): Promise<void> {
    this.call.end();
    await once(this.call, 'end');
  }
}

/** A connection that is no HTTP any more. */
async function tunnel(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  scope.closing.push(() => socket.destroy());
  socket.write('GET /tunnel HTTP/1.1\r\nHost: web.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
  const [head] = (await once(socket, 'data')) as [Buffer];
  expect(head.toString()).toMatch(/^HTTP\/1.1 101 /);
  return socket;
}

async function throughTunnel(socket: Socket): Promise<void> {
  socket.write('ping');
  const [bytes] = (await once(socket, 'data')) as [Buffer];
  if (bytes.toString() !== 'ping') throw new Error(`the tunnel said ${bytes}`);
}

test('a proxy is replaced three times under load without an error, and streams go on in the one that began them', async () => {
  const { file, port } = await mesh();
  const metricsPort = await freePort();
  const flags = ['--metrics-listen', `127.0.0.1:${metricsPort}`];
  const generations = [await scope.start(file, ...flags)];
  const sockets = listeningSockets(port);
  expect(sockets).toHaveLength(2);
  const agent = keepAlive(4);
  const client = grpcClient(port);
  const [stream, socket] = [new Stream(client), await tunnel(port)];
  const loads = {
    kept: new Load(4, () => get(port, '/', agent)),
    fresh: new Load(4, () => get(port, '/', false)),
    unary: new Load(4, () => callOnce(client)),
    stream: new Load(1, () => stream.echo()),
    tunnel: new Load(1, () => throughTunnel(socket)),
  };
  const all = Object.values(loads);
  // The workers differ: the successor takes all sockets, however many it has itself.
  for (const workers of ['3', '1', '2']) {
    await Promise.all(all.map((load) => load.more(20)));
    generations.push(await scope.start(file, ...flags, '--workers', workers));
    await Promise.all(all.map((load) => load.more(20)));
    const state = await generations.at(-1)!.state();
    expect({ pid: state.pid, workers: state.workers }).toEqual({ pid: generations.at(-1)!.child.pid, workers: Number(workers) });
  }
  const metrics = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
  expect(metrics).toContain('weft_proxy_handovers 3\n');
  await Promise.all(all.map((load) => load.stop()));
  expect(Object.fromEntries(Object.entries(loads).map(([name, { errors }]) => [name, errors]))).toEqual({
    kept: [],
    fresh: [],
    unary: [],
    stream: [],
    tunnel: [],
  });
  // The first has the stream and the tunnel still.
  const [first, ...later] = generations as [ProxyProcess, ...ProxyProcess[]];
  expect(first.child.exitCode).toBeNull();
  await stream.end();
  socket.end();
  expect(await first.exit()).toBe(0);
  expect(first.errors).toMatch(/drained: \d+ connections ended, 0 were cut/);
  // The very sockets that the first opened: what waited in them could not be lost.
  expect(listeningSockets(port)).toEqual(expect.arrayContaining(sockets));
  expect(await Promise.all(later.slice(0, -1).map((proxy) => proxy.exit()))).toEqual([0, 0]);
  expect((await get(port, '/', false)).status).toBe(200);
  // Each is counted once by the last, whichever served it: also what ended in the first, whose own successor had ended before.
  const answered = loads.kept.answered + loads.fresh.answered + loads.unary.answered;
  const expected = { '101 -': 1, '200 -': answered + 2 };
  const sum = (counts: Record<string, number>) => (counts['200 -'] ?? 0) + (counts['101 -'] ?? 0);
  expect(
    await eventually(
      () => requestsCounted(metricsPort),
      (counts) => sum(counts) >= answered + 3,
    ),
  ).toEqual(expected);
});

test('a successor that ends before it serves changes nothing, however it ends', async () => {
  const { file, port } = await mesh();
  const proxy = await scope.start(file);
  const agent = keepAlive(2);
  const load = new Load(2, () => get(port, '/', agent));
  for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
    // No agent is there: it has the sockets, and waits for its configuration.
    const waiting = scope.launchWith('--agent', `unix:${scope.folder}/nobody.sock`);
    await waiting.says('taking over from proxy');
    const third = scope.launch(file);
    expect(await third.exit()).toBe(1);
    expect(third.errors).toContain(`proxy ${waiting.child.pid} is taking over already`);
    const from = proxy.errors.length;
    waiting.child.kill(signal);
    await proxy.says(`proxy ${waiting.child.pid} ended before it was ready to take over`, from);
    await load.more(20);
  }
  await load.stop();
  expect(load.errors).toEqual([]);
  expect((await proxy.state()).pid).toBe(proxy.child.pid);
  // And it can still be taken over from.
  const successor = await scope.start(file);
  expect(await proxy.exit()).toBe(0);
  expect((await successor.state()).pid).toBe(successor.child.pid);
});

describe('a successor that waits for its configuration', () => {
  /** It has the sockets of the first; `serve` resolves when it serves. */
  async function waiting({ port, backend }: Mesh): Promise<{ second: ProxyProcess; serve: () => Promise<void> }> {
    const agent = await DiscoveryTestServer.start(`unix:${scope.folder}/agent.sock`);
    scope.closing.push(() => agent.stop());
    const second = scope.launchWith('--agent', agent.address);
    const stream = await agent.nextStream();
    await second.says('taking over from proxy');
    const resources = gatewayResources('default/edge', port, 'default/web', backend.port);
    const update = { nonce: 1, revision: 1, token: { clusterId: 'c', compiler: 'k', revision: 1 }, full: true, resources };
    const serve = (): Promise<void> => {
      stream.send(update);
      return second.says('"ready"');
    };
    return { second, serve };
  }

  test('keeps its sockets of status and hand-over when the first, told to end, ends after it serves', async () => {
    const scene = await mesh();
    const first = await scope.start(scene.file);
    const socket = await tunnel(scene.port);
    const { second, serve } = await waiting(scene);
    first.child.kill('SIGTERM');
    await first.says('draining: no new connections');
    await serve();
    socket.end();
    expect(await first.exit()).toBe(0);
    expect((await second.state()).pid).toBe(second.child.pid);
    const third = await scope.start(scene.file);
    expect(await second.exit()).toBe(0);
    expect((await third.state()).pid).toBe(third.child.pid);
  });

  test('takes over from whoever was started in the place of the first, which was killed', async () => {
    const scene = await mesh();
    const first = await scope.start(scene.file);
    const { second, serve } = await waiting(scene);
    await first.kill();
    const again = await scope.start(scene.file);
    const load = new Load(2, () => get(scene.port, '/', false));
    await serve();
    await load.more(20);
    await load.stop();
    expect(load.errors).toEqual([]);
    expect(await again.exit()).toBe(0);
    expect((await second.state()).pid).toBe(second.child.pid);
  });
});

test('a successor that cannot open its access log has accepted nothing that ends with it', async () => {
  const { file, port } = await mesh();
  const proxy = await scope.start(file);
  const load = new Load(16, () => get(port, '/', false));
  for (let tries = 0; tries < 3; tries++) {
    const successor = scope.launch(file, '--access-log', 'all', '--access-log-file', join(scope.folder, 'nowhere', 'access.log'));
    expect(await successor.exit()).toBe(1);
    expect(successor.errors).toContain('nowhere/access.log: ENOENT');
    await proxy.says(`proxy ${successor.child.pid} ended before it was ready to take over`);
  }
  await load.stop();
  expect(load.errors).toEqual([]);
});

test('the drain timeout cuts what does not end, and the successor counts it', async () => {
  const { file, port } = await mesh();
  const metricsPort = await freePort();
  const proxy = await scope.start(file, '--drain-timeout', '300');
  const client = grpcClient(port);
  const [stream, socket] = [new Stream(client), await tunnel(port)];
  await stream.echo();
  const cut = Promise.all([expect(stream.lost).resolves.toBeDefined(), once(socket, 'close')]);
  socket.on('error', () => undefined);
  const successor = await scope.start(file, '--metrics-listen', `127.0.0.1:${metricsPort}`);
  await cut;
  expect(await proxy.exit()).toBe(0);
  expect(proxy.errors).toMatch(/draining 2 connections for at most 300 ms/);
  await successor.says(`proxy ${proxy.child.pid} has drained: 2 connections were cut`);
  expect(await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text()).toContain('weft_proxy_predecessor_connections_cut 2\n');
  expect(await requestsCounted(metricsPort)).toEqual({ '101 LR': 1, '200 LR': 1 });
});

test('a request that runs is answered and told to leave; told to wait, the drained proxy ends with SIGTERM', async () => {
  const { file, port, backend } = await mesh();
  const proxy = await scope.start(file, '--after-handover', 'wait');
  const running = get(port, '/slow', keepAlive(1));
  await backend.slow;
  await scope.start(file);
  await proxy.says('draining 1 connections without a limit');
  backend.release();
  expect(await running).toEqual({ status: 200, connection: 'close' });
  await proxy.says('waiting for SIGTERM');
  proxy.child.kill('SIGTERM');
  expect(await proxy.exit()).toBe(0);
  expect((await get(port, '/', false)).status).toBe(200);
});

test('of two proxies in turn the file of the one that serves is there', async () => {
  const { file } = await mesh();
  const [one, two] = ['one', 'two'].map((name) => join(scope.folder, name)) as [string, string];
  // Left by one that was killed.
  writeFileSync(two, '');
  const first = await scope.start(file, '--ready-file', one);
  const isThere = (path: string, there: boolean) =>
    eventually(
      async () => existsSync(path),
      (found) => found === there,
    );
  expect(await isThere(one, true)).toBe(true);
  const second = await scope.start(file, '--ready-file', two);
  expect(await isThere(two, true)).toBe(true);
  expect(await first.exit()).toBe(0);
  expect(existsSync(one)).toBe(false);
  second.child.kill('SIGTERM');
  expect(await second.exit()).toBe(0);
  expect(existsSync(two)).toBe(false);
});

test('a proxy that must not take over does not start where another one serves', async () => {
  const { file, port } = await mesh();
  await scope.start(file);
  const second = scope.launch(file, '--takeover', 'never');
  expect(await second.exit()).toBe(1);
  expect(second.errors).toContain('proxy.sock is served by another process');
  expect((await get(port, '/', false)).status).toBe(200);
  await scope.start(file);
});

test('strangers and garbage on the hand-over socket get nothing, and cost nothing', async () => {
  const { file, port } = await mesh();
  const proxy = await scope.start(file);
  const path = join(scope.folder, 'handover.sock');
  expect(statSync(path).mode & 0o777).toBe(0o600);
  const descriptors = (): number => readdirSync(`/proc/${proxy.child.pid}/fd`).length;
  await get(port, '/', false);
  const before = descriptors();

  const addon = loadAddon();
  const answer = async (...said: readonly string[]): Promise<string | null> => {
    const socket = addon.connectMessages(path);
    for (const text of said) socket.send(text, [1]);
    const received = await message(socket);
    for (const descriptor of received.descriptors) addon.closeDescriptor(descriptor);
    socket.close();
    return received.text;
  };
  expect(await answer('GET / HTTP/1.1')).toMatch(/"refused".*no hand-over message/);
  expect(await answer('{"type":"ready"}')).toMatch(/"refused".*it said ready, not hello/);
  expect(await answer('{"type":"hello","version":99,"build":"x"}')).toMatch(/"refused".*version 99 of the hand-over.*stop that one first/);
  expect(await answer('x'.repeat(65_536))).toMatch(/"refused"/);

  // Where file permissions let them in, the kernel's word on who they are does not.
  chmodSync(scope.folder, 0o755);
  chmodSync(path, 0o666);
  const hello = JSON.stringify({ type: 'hello', version: 2, build: 'x' });
  const script = `const addon = require(${JSON.stringify(join(process.cwd(), 'native/build/Release/weft.node'))});
    const socket = addon.connectMessages(${JSON.stringify(path)});
    socket.whenReadable(() => process.stdout.write(String(socket.receive().text)));
    try { socket.send(${JSON.stringify(hello)}, []); } catch {}`;
  const stranger = spawnSync(process.execPath, ['-e', script], { uid: 65_534, gid: 65_534, encoding: 'utf8' });
  expect(stranger.stdout).toMatch(/"refused".*runs as another user/);

  expect(
    await eventually(
      () => Promise.resolve(descriptors()),
      (count) => count <= before,
    ),
  ).toBeLessThanOrEqual(before);
  expect((await get(port, '/', false)).status).toBe(200);
});

function message(socket: MessageSocket): Promise<Message> {
  return new Promise((resolve) => socket.whenReadable(() => resolve(socket.receive()!)));
}
