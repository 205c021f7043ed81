// The real `weft proxy --static` process running out of descriptors, memory and CPU: what it sheds, what it does not, that it recovers.
// The limits are the kernel's own; the tests that take cgroups are skipped where these can't be made (no root, no such controller).
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { Agent, createServer, get, type Server, type ServerResponse } from 'node:http';
import { type ClientHttp2Session, connect as connectHttp2, type IncomingHttpHeaders, type IncomingHttpStatusHeader } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, expect, test } from '@jest/globals';
import { eventually } from '../lab/eventually.js';
import { freePort } from '../lab/ports.js';
import { gatewayManifest, type ProxyProcess, serviceManifest } from '../lab/proxy-process.js';
import { ProxyScope } from '../lab/proxy-scope.js';

const scope = new ProxyScope();
/** Answers that the server holds back, of requests for /held. */
let held: ServerResponse[] = [];
beforeEach(() => {
  held = [];
});

async function origin(): Promise<number> {
  const server: Server = createServer((request, response) => {
    if (request.url === '/held') held.push(response);
    else response.end('ok');
  });
  return scope.listen(server);
}

async function start(...flags: string[]): Promise<{ proxy: ProxyProcess; port: number }> {
  const port = await freePort();
  const file = join(scope.folder, 'edge.yaml');
  writeFileSync(
    file,
    `${gatewayManifest(`{name: web, port: ${port}, protocol: HTTP}`)}
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: all}
spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: origin, port: 80}]}]}
---${serviceManifest('origin', await origin())}`,
  );
  const proxy = await scope.start(file, '--workers', '1', ...flags);
  return { proxy, port };
}

interface Answer {
  readonly status: number;
  readonly retryAfter: string | undefined;
  readonly text: string;
}

/** On a connection of its own unless `agent` has one. */
function ask(port: number, path: string, agent?: Agent): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = get({ port, host: '127.0.0.1', path, agent: agent ?? false, timeout: 10_000 }, (response) => {
      let text = '';
      response.on('data', (chunk: Buffer) => {
        text += chunk.toString();
      });
      response.on('end', () => resolve({ status: response.statusCode!, retryAfter: response.headers['retry-after'], text }));
    });
    request.on('timeout', () => request.destroy(new Error('no answer in 10 s')));
    request.on('error', reject);
  });
}

function keptAlive(): Agent {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  scope.closing.push(() => agent.destroy());
  return agent;
}

function dial(port: number): Socket {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  scope.closing.push(() => socket.destroy());
  return socket;
}

function limitDescriptors(proxy: ProxyProcess, count: number): void {
  execFileSync('prlimit', ['--pid', String(proxy.child.pid), `--nofile=${count}:20000`]);
}

/** A request that the origin has, and does not answer yet. */
async function askHeld(port: number): Promise<{ readonly answer: Promise<Answer> }> {
  const answer = ask(port, '/held');
  await eventually(
    () => sleep(5, held.length),
    (count) => count > 0,
  );
  return { answer };
}

/**
 * What requests are answered once they are shed. Before that they are served; or, as the limit is there at once and overload is found at
 * the next look, fail for want of a descriptor.
 */
function untilShed(port: number, agent: Agent): Promise<Answer> {
  return eventually(
    () => ask(port, '/', agent),
    ({ retryAfter }) => retryAfter !== undefined,
  );
}

test('short of descriptors: idle connections are closed, silent ones too, one under way is not, and it recovers', async () => {
  const { proxy, port } = await start();
  const opened = (): number => readdirSync(`/proc/${proxy.child.pid}/fd`).length;
  const busy = await askHeld(port);
  const before = opened();
  const idle = Array.from({ length: 40 }, () => dial(port));
  await eventually(
    () => sleep(20, opened()),
    (count) => count >= before + 40,
  );
  const closed = idle.map((socket) => once(socket.resume(), 'close'));
  // All are in use.
  limitDescriptors(proxy, opened());
  await Promise.all(closed);
  await proxy.says('overload, descriptors');
  await proxy.says('nothing is shed any more');
  expect(await proxy.counter('shed_idle_clients_descriptors')).toBe(40);
  held[0]!.end('late');
  expect(await busy.answer).toMatchObject({ status: 200, text: 'late' });
  expect(await ask(port, '/')).toMatchObject({ status: 200, text: 'ok' });
});

async function http2(port: number): Promise<ClientHttp2Session> {
  const session = connectHttp2(`http://127.0.0.1:${port}`).on('error', () => undefined);
  scope.closing.push(() => session.destroy());
  await once(session, 'remoteSettings');
  return session;
}

/** Its head, and whether that is all of the answer. */
async function askHttp2(
  session: ClientHttp2Session,
  headers: Record<string, string>,
): Promise<{ head: IncomingHttpHeaders & IncomingHttpStatusHeader; alone: boolean }> {
  const stream = session.request(headers);
  stream.end();
  const [head, flags] = (await once(stream, 'response')) as [IncomingHttpHeaders & IncomingHttpStatusHeader, number];
  stream.resume();
  await once(stream, 'close');
  const endStream = 1;
  return { head, alone: (flags & endStream) !== 0 };
}

test('over HTTP/2 too requests get 503 with Retry-After, gRPC calls UNAVAILABLE; the status says what is shed and why', async () => {
  const { proxy, port } = await start();
  const session = await http2(port);
  expect((await proxy.state()).overloads).toEqual([]);
  // What is under way keeps the connection from being closed as idle.
  const busy = askHttp2(session, { ':path': '/held' });
  await eventually(
    () => sleep(5, held.length),
    (count) => count > 0,
  );
  const agent = keptAlive();
  expect((await ask(port, '/', agent)).status).toBe(200);
  limitDescriptors(proxy, 8);
  expect(await untilShed(port, agent)).toMatchObject({ status: 503 });
  const { head } = await askHttp2(session, { ':path': '/' });
  expect(head).toMatchObject({ ':status': 503, 'retry-after': '1' });
  const call = { ':method': 'POST', ':path': '/shop.Shop/Buy', 'content-type': 'application/grpc', te: 'trailers' };
  const unavailable = '14';
  expect(await askHttp2(session, call)).toMatchObject({ head: { ':status': 200, 'grpc-status': unavailable }, alone: true });
  limitDescriptors(proxy, 20_000);
  // Found calm, it sheds for two seconds more.
  const { overloads } = await proxy.state();
  expect(overloads).toHaveLength(1);
  expect(overloads[0]).toMatchObject({
    resource: 'descriptors',
    worker: undefined,
    actions: ['shrink_idle', 'stop_accepting_connections', 'stop_accepting_requests'],
  });
  expect(overloads[0]!.detail).toMatch(/^descriptors: \d+ of \d+ open \(\d+ %\): closing idle connections, .*; raise RLIMIT_NOFILE/);
  await proxy.says('nothing is shed any more');
  expect((await proxy.state()).overloads).toEqual([]);
  // Its worker hears it with its next beat.
  const again = await eventually(
    () => askHttp2(session, { ':path': '/' }),
    (answer) => answer.head[':status'] !== 503,
  );
  expect(again.head).toMatchObject({ ':status': 200 });
  held[0]!.end('late');
  expect((await busy).head).toMatchObject({ ':status': 200 });
});

test('with more descriptors open than there may be, requests get 503 with Retry-After and new connections wait', async () => {
  const { proxy, port } = await start();
  const agent = keptAlive();
  const busy = await askHeld(port);
  expect((await ask(port, '/', agent)).status).toBe(200);
  limitDescriptors(proxy, 8);
  expect(await untilShed(port, agent)).toMatchObject({ status: 503, retryAfter: '1' });
  const waiting = ask(port, '/');
  limitDescriptors(proxy, 20_000);
  expect(await waiting).toMatchObject({ status: 200 });
  expect(await proxy.counter('shed_requests_descriptors')).toBeGreaterThan(0);
  held[0]!.end('late');
  expect(await busy.answer).toMatchObject({ status: 200, text: 'late' });
});

/** A kind of cgroup: where ours are, and the file that makes them what a test needs. */
interface Hierarchy {
  readonly folder: string;
  readonly file: string;
}

/** The first that there is, that this process may make groups in, and that has the file. */
function usable(...kinds: readonly { readonly controller: string; readonly file: string }[]): Hierarchy | null {
  for (const { controller, file } of kinds) {
    const own = new RegExp(`^\\d+:${controller}:(.*)$`, 'm').exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1];
    if (own === undefined) continue;
    const folder = join('/sys/fs/cgroup', controller, own);
    const probe = join(folder, `weft-overload-probe-${process.pid}`);
    try {
      mkdirSync(probe);
    } catch {
      continue;
    }
    const has = existsSync(join(probe, file));
    rmdirSync(probe);
    if (has) return { folder, file };
  }
  return null;
}

/** Of version 1 or 2. */
const MEMORY = usable({ controller: 'memory', file: 'memory.limit_in_bytes' }, { controller: '', file: 'memory.max' });
/** Of version 1: it takes single threads. */
const FREEZER = usable({ controller: 'freezer', file: 'freezer.state' });

function cgroup({ folder }: Hierarchy): string {
  const path = join(folder, `weft-overload-${process.pid}`);
  mkdirSync(path);
  scope.closing.push(async () => {
    await eventually(
      () => sleep(10, readFileSync(`${path}/cgroup.procs`, 'utf8')),
      (procs) => procs === '',
    );
    rmdirSync(path);
  });
  return path;
}

const MIB = 1_048_576;

(MEMORY === null ? test.skip : test)(
  'near the memory limit of its cgroup requests get 503; when the memory is given back it serves again',
  async () => {
    const group = cgroup(MEMORY!);
    writeFileSync(join(group, MEMORY!.file), String(400 * MIB));
    const { proxy, port } = await start('--overload-shrink=0.4', '--overload-stop-accepting=0.5', '--overload-stop-requests=0.6');
    writeFileSync(join(group, 'cgroup.procs'), String(proxy.child.pid));
    const agent = keptAlive();
    expect((await ask(port, '/', agent)).status).toBe(200);
    // Somebody else's pages in the same group.
    const hog: ChildProcess = spawn(
      'sh',
      ['-c', `echo $$ > ${group}/cgroup.procs; exec python3 -c "x = bytearray(${280 * MIB}); input()"`],
      {
        stdio: ['pipe', 'ignore', 'ignore'],
      },
    );
    scope.closing.push(() => hog.kill('SIGKILL'));
    // It goes on asking: a connection that rests would be closed.
    const shed = await eventually(
      () => ask(port, '/', agent),
      ({ status }) => status === 503,
    );
    expect(shed).toMatchObject({ status: 503, retryAfter: '1' });
    expect(proxy.errors).toContain('overload, memory');
    hog.kill('SIGKILL');
    await proxy.says('nothing is shed any more');
    expect(await ask(port, '/')).toMatchObject({ status: 200, text: 'ok' });
  },
);

/** Nanoseconds of CPU time by thread of the process, all but its first (proc(5), schedstat). */
function cpuTimes(pid: number): Map<string, number> {
  const threads = readdirSync(`/proc/${pid}/task`).filter((tid) => tid !== String(pid));
  return new Map(threads.map((tid) => [tid, Number(readFileSync(`/proc/${pid}/task/${tid}/schedstat`, 'utf8').split(' ')[0])]));
}

/** The one that worked most since: the worker, where V8's threads may have worked more at the start. */
function busiestThreadSince(pid: number, before: ReadonlyMap<string, number>): string {
  const worked = [...cpuTimes(pid)].map(([tid, ns]) => [tid, ns - (before.get(tid) ?? 0)] as const);
  return worked.sort(([, one], [, other]) => other - one)[0]![0];
}

/** A proxy, a client that its worker has served, and what stops that thread and lets it go on. */
async function startStoppable(...flags: string[]) {
  const group = cgroup(FREEZER!);
  const { proxy, port } = await start(...flags);
  const agent = keptAlive();
  const before = cpuTimes(proxy.child.pid!);
  for (let i = 0; i < 300; i++) await ask(port, '/', agent);
  writeFileSync(join(group, 'tasks'), busiestThreadSince(proxy.child.pid!, before));
  const become = (state: string): void => writeFileSync(join(group, 'freezer.state'), state);
  scope.closing.push(() => become('THAWED'));
  return { proxy, askAgain: () => ask(port, '/', agent), freeze: () => become('FROZEN'), thaw: () => become('THAWED') };
}

(FREEZER === null ? test.skip : test)('a worker that was stopped once for less than three delays answers everything', async () => {
  const { proxy, askAgain, freeze, thaw } = await startStoppable('--overload-loop-delay-ms', '500');
  freeze();
  const waiting = askAgain();
  await sleep(900);
  thaw();
  expect(await waiting).toMatchObject({ status: 200 });
  const until = performance.now() + 1_000;
  while (performance.now() < until) expect(await askAgain()).toMatchObject({ status: 200 });
  expect(await proxy.counter('shed_requests_loop_delay')).toBe(0);
});

(FREEZER === null ? test.skip : test)(
  'a worker whose event loop hangs is noticed while it hangs, answers what waited, sheds a while and recovers',
  async () => {
    const { proxy, askAgain, freeze, thaw } = await startStoppable('--overload-loop-delay-ms', '500');
    const shed = eventually(askAgain, ({ status }) => status === 503);
    freeze();
    await proxy.says('overload, event loop of worker 0');
    await proxy.says('answering new requests 503');
    thaw();
    expect(await shed).toMatchObject({ status: 503, retryAfter: '1' });
    await proxy.says('nothing is shed any more');
    expect(await askAgain()).toMatchObject({ status: 200, text: 'ok' });
    expect(await proxy.counter('shed_requests_loop_delay')).toBeGreaterThan(0);
  },
);
