// The real `weft proxy --static` process running out of descriptors, memory and CPU: what it sheds, what it does not, that it recovers.
// The limits are the kernel's own; those that take cgroups are skipped where these can't be made (no root).
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, createServer, get, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import { eventually, freePort, ProxyProcess, serviceManifest } from '../lab/proxy-process.js';

/** Each waits for two seconds of calm, and the machine may be busy. */
jest.setTimeout(40_000);

const cleanups: (() => unknown)[] = [];
let folder = '';
/** Answers that the server holds back, of requests for /held. */
let held: ServerResponse[] = [];
beforeEach(() => {
  held = [];
  folder = mkdtempSync(join(tmpdir(), 'wov-'));
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function origin(): Promise<number> {
  const server: Server = createServer((request, response) => {
    if (request.url === '/held') held.push(response);
    else response.end('ok');
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanups.push(() => {
    server.close();
    server.closeAllConnections();
  });
  return (server.address() as AddressInfo).port;
}

async function start(...flags: string[]): Promise<{ proxy: ProxyProcess; port: number }> {
  const port = await freePort();
  const file = join(folder, 'edge.yaml');
  writeFileSync(
    file,
    `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: weft, addresses: [{value: 127.0.0.1}], listeners: [{name: web, port: ${port}, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: all}
spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: origin, port: 80}]}]}
---${serviceManifest('origin', await origin())}`,
  );
  const proxy = ProxyProcess.start(file, folder, '--workers', '1', ...flags);
  cleanups.push(() => proxy.kill());
  await proxy.says('"ready"');
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
  cleanups.push(() => agent.destroy());
  return agent;
}

test('with more descriptors open than there may be, requests get 503 with Retry-After and new connections wait', async () => {
  const { proxy, port } = await start();
  const agent = keptAlive();
  const busy = ask(port, '/held');
  expect((await ask(port, '/', agent)).status).toBe(200);
  execFileSync('prlimit', ['--pid', String(proxy.child.pid), '--nofile=8:20000']);
  const shed = await eventually(
    () => ask(port, '/', agent),
    ({ status }) => status === 503,
  );
  expect(shed).toMatchObject({ status: 503, retryAfter: '1' });
  const waiting = ask(port, '/');
  execFileSync('prlimit', ['--pid', String(proxy.child.pid), '--nofile=20000:20000']);
  expect(await waiting).toMatchObject({ status: 200 });
  expect(await proxy.counter('shed_requests_descriptors')).toBeGreaterThan(0);
  held[0]!.end('late');
  expect(await busy).toMatchObject({ status: 200, text: 'late' });
});

/** Made below ours, or null. */
function cgroup(hierarchy: string): string | null {
  const own = new RegExp(`^\\d+:${hierarchy}:(.*)$`, 'm').exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1];
  if (own === undefined) return null;
  const path = `/sys/fs/cgroup/${hierarchy}${own}/weft-overload-${process.pid}`;
  try {
    mkdirSync(path);
  } catch {
    return null;
  }
  cleanups.push(async () => {
    await eventually(
      () => sleep(10, readFileSync(`${path}/cgroup.procs`, 'utf8')),
      (procs) => procs === '',
    );
    rmdirSync(path);
  });
  return path;
}

const MIB = 1_048_576;

test('near the memory limit of its cgroup requests get 503; when the memory is given back it serves again', async () => {
  const group = cgroup('memory');
  if (group === null || !existsSync(join(group, 'memory.limit_in_bytes'))) return;
  writeFileSync(join(group, 'memory.limit_in_bytes'), String(400 * MIB));
  const { proxy, port } = await start('--overload-shrink=0.4', '--overload-stop-accepting=0.5', '--overload-stop-requests=0.6');
  writeFileSync(join(group, 'cgroup.procs'), String(proxy.child.pid));
  const agent = keptAlive();
  expect((await ask(port, '/', agent)).status).toBe(200);
  // Somebody else's pages in the same group.
  const hog: ChildProcess = spawn('sh', ['-c', `echo $$ > ${group}/cgroup.procs; exec python3 -c "x = bytearray(${280 * MIB}); input()"`], {
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  cleanups.push(() => hog.kill('SIGKILL'));
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
});

/** Ticks of CPU time by thread of the process, all but its first. */
function busiestThread(pid: number): string {
  const ticks = (tid: string): number => {
    const fields = readFileSync(`/proc/${pid}/task/${tid}/stat`, 'utf8').split(') ')[1]!.split(' ');
    return Number(fields[11]) + Number(fields[12]);
  };
  const threads = readdirSync(`/proc/${pid}/task`).filter((tid) => tid !== String(pid));
  return threads.sort((one, other) => ticks(other) - ticks(one))[0]!;
}

test('a worker whose event loop hangs is noticed while it hangs, answers what waited, sheds a while and recovers', async () => {
  const group = cgroup('freezer');
  if (group === null) return;
  const { proxy, port } = await start('--overload-loop-delay-ms', '500');
  const agent = keptAlive();
  for (let i = 0; i < 300; i++) await ask(port, '/', agent);
  // Of version 1: it takes single threads.
  writeFileSync(join(group, 'tasks'), busiestThread(proxy.child.pid!));
  cleanups.push(() => writeFileSync(join(group, 'freezer.state'), 'THAWED'));
  const shed = eventually(
    () => ask(port, '/', agent),
    ({ status }) => status === 503,
  );
  writeFileSync(join(group, 'freezer.state'), 'FROZEN');
  await proxy.says('overload, event loop of worker 0');
  await proxy.says('answering new requests 503');
  writeFileSync(join(group, 'freezer.state'), 'THAWED');
  expect(await shed).toMatchObject({ status: 503, retryAfter: '1' });
  await proxy.says('nothing is shed any more');
  expect(await ask(port, '/')).toMatchObject({ status: 200, text: 'ok' });
  expect(await proxy.counter('shed_requests_loop_delay')).toBeGreaterThan(0);
});
