// What the control plane costs at its size: one controller over a real etcd, a thousand simulated agents that register, heartbeat and ack,
// ten thousand endpoints; start-up with a hundred thousand; and from `apply` to the first request on the new route through a real agent
// (redirection off) and a real proxy. Targets: issue "The control plane".
import { type ChildProcess, fork } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { credentials } from '@grpc/grpc-js';
import { AdminClient, type ApplyResponse, type WaitResponse } from '../../api/gen/mesh/v1/admin.js';
import { selfSigned } from '../../controller/ca/certificate.js';
import { EtcdClient } from '../../controller/store/etcd-client.js';
import { Keyspace } from '../../controller/store/keys.js';
import { commit, type Write } from '../../controller/store/transaction.js';
import { startEtcd } from '../lab/etcd.js';
import { Bed, type BenchOptions, WEFT } from './bed.js';
import type { AgentsOrder, AgentsReport, NodeAuthority } from './control-agents.js';
import { endpointSlice, gateway, localSlice, service } from './manifests.js';
import { consecutivePorts, cpuTimeUs, type Pinned } from './process.js';
import { type Figure, quantile, rounded } from './report.js';

const AGENTS = 1_000;
const ENDPOINTS_A_SERVICE = 10;
const HOUR_MS = 3_600_000;
const AGENTS_PROGRAM = fileURLToPath(new URL('./control-agents.js', import.meta.url));
const CASES = [
  'first-sync',
  'change-p50',
  'change-max',
  'sustained-lag',
  'memory',
  'first-sync-mtls',
  'memory-mtls',
  'start-100k',
  'apply-to-request-p99',
];

export async function control({ quick, only, onProgress }: BenchOptions): Promise<Figure[]> {
  if (only !== null && !CASES.includes(only)) throw new Error(`no case ${only} in control; there are: ${CASES.join(', ')}`);
  const wanted = (name: string): boolean => only === null || only === name;
  const figures: Figure[] = [];
  if (CASES.slice(0, 5).some(wanted)) figures.push(...(await thousandAgents({ quick, only, onProgress }, wanted)));
  // Asked for by name alone: they are no aims, and take as long as the rest.
  if (only !== null && (wanted('first-sync-mtls') || wanted('memory-mtls'))) figures.push(...(await thousandSecured(quick, onProgress)));
  if (wanted('start-100k')) figures.push(await startWith(10_000, onProgress));
  if (wanted('apply-to-request-p99')) figures.push(await applyToRequest(quick ? 50 : 300, onProgress));
  return figures.filter(({ name }) => wanted(name));
}

async function thousandAgents(
  { quick, only, onProgress }: Omit<BenchOptions, 'peersOnly'>,
  wanted: (name: string) => boolean,
): Promise<Figure[]> {
  const services = 1_000;
  return withController(services, async (controller) => {
    onProgress(`${AGENTS} agents connect, ${services * ENDPOINTS_A_SERVICE} endpoints`);
    const agents = await Agents.start(null);
    const memory = new MemoryWatch(controller.pid);
    try {
      const cpu = new CpuWatch({ controller: controller.pid, 'the agents': agents.pid, etcd: controller.etcdPid });
      const began = Date.now();
      agents.connect(controller.address);
      const firstSync = (await agents.allAt(1)) - began;
      onProgress(`first sync after ${firstSync} ms. CPU until then: ${cpu.told()}`);
      // Until all are registered, so that `wait` waits for all of them.
      while ((await controller.wait(1)).acked.length < AGENTS) await sleep(100);
      onProgress(`all registered after ${Date.now() - began} ms. CPU until then: ${cpu.told()}`);
      const changes: number[] = [];
      const rounds = only === 'first-sync' ? 0 : quick ? 20 : 100;
      if (rounds > 0) onProgress('one change at a time');
      for (let round = 0; round < rounds; round++) {
        const startMs = performance.now();
        const revision = await controller.apply(slice(round % services, round + 1));
        const { pending } = await controller.wait(revision);
        if (pending.length > 0) throw new Error(`${pending.length} agents never acked revision ${revision}`);
        changes.push(performance.now() - startMs);
        // So that each is one after quiet.
        await sleep(150);
      }
      // The most memory is in use then.
      const isSustained = wanted('sustained-lag') || wanted('memory');
      if (isSustained) onProgress('100 changes a second');
      const lag = isSustained ? await sustained(controller, agents, quick ? 10 : 60, onProgress) : Number.NaN;
      return [
        figure('first-sync', firstSync / 1_000, 's', 5),
        figure('change-p50', quantile(changes, 0.5), 'ms', 100),
        figure('change-max', Math.max(...changes), 'ms', 250),
        figure('sustained-lag', lag, 'ms', 2_000),
        figure('memory', memory.mostBytes / 1_048_576, 'MiB', 400),
      ];
    } finally {
      memory.stop();
      agents.stop();
    }
  });
}

/** Each agent with a certificate, known by it as a node. */
async function thousandSecured(quick: boolean, onProgress: (text: string) => void): Promise<Figure[]> {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const certificate = selfSigned('weft bench', publicKey, privateKey, Date.now() - HOUR_MS, Date.now() + HOUR_MS);
  const authority = { certificate, key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString() };
  const services = 1_000;
  const work = async (controller: TestedController): Promise<Figure[]> => {
    onProgress(`${AGENTS} agents connect with certificates, ${services * ENDPOINTS_A_SERVICE} endpoints`);
    const agents = await Agents.start(authority);
    const memory = new MemoryWatch(controller.pid);
    try {
      const cpu = new CpuWatch({ controller: controller.pid, 'the agents': agents.pid, etcd: controller.etcdPid });
      const began = Date.now();
      agents.connect(controller.address);
      const firstSync = (await agents.allAt(1)) - began;
      onProgress(`first sync after ${firstSync} ms. CPU until then: ${cpu.told()}`);
      while ((await controller.wait(1)).acked.length < AGENTS) await sleep(100);
      for (let round = 0; round < (quick ? 10 : 100); round++) await controller.wait(await controller.apply(slice(round, round + 1)));
      return [figure('first-sync-mtls', firstSync / 1_000, 's', 10), figure('memory-mtls', memory.mostBytes / 1_048_576, 'MiB', 400)];
    } finally {
      memory.stop();
      agents.stop();
    }
  };
  return withController(services, work, authority);
}

/** The longest time from a change's commit until all agents had it, ms. */
async function sustained(
  controller: TestedController,
  agents: Agents,
  seconds: number,
  onProgress: (text: string) => void,
): Promise<number> {
  const changes = seconds * 100;
  const cpu = new CpuWatch({ controller: controller.pid, 'the agents': agents.pid, etcd: controller.etcdPid, 'this process': process.pid });
  const committed: { readonly revision: number; readonly atMs: number }[] = [];
  const began = performance.now();
  const running: Promise<void>[] = [];
  agents.reached.length = 0;
  for (let index = 0; index < changes; index++) {
    await sleep(Math.max(0, began + index * 10 - performance.now()));
    const applied = controller.apply(slice(index % 1_000, 10_000 + index));
    running.push(applied.then((revision) => void committed.push({ revision, atMs: Date.now() })));
    // Told below: until then nobody listens.
    running.at(-1)?.catch(() => {});
  }
  await Promise.all(running);
  const behindMs = performance.now() - began - seconds * 1_000;
  onProgress(`${changes} changes in ${(behindMs / 1_000 + seconds).toFixed(2)} s. CPU: ${cpu.told()}`);
  // The bench itself must keep its pace for the figure to mean anything.
  if (behindMs > 1_000) throw new Error(`the controller took ${Math.round(behindMs)} ms longer than ${seconds} s for ${changes} changes`);
  await agents.allAt(Math.max(...committed.map(({ revision }) => revision)));
  return Math.max(
    ...committed.map(({ revision, atMs }) => (agents.reached.find((each) => each.revision >= revision)?.atMs ?? Number.NaN) - atMs),
  );
}

async function startWith(services: number, onProgress: (text: string) => void): Promise<Figure> {
  onProgress(`${services * ENDPOINTS_A_SERVICE} endpoints, then the start of a controller`);
  return withController(services, ({ readyMs }) => Promise.resolve(figure('start-100k', readyMs / 1_000, 's', 15)));
}

interface TestedController {
  readonly address: string;
  readonly pid: number;
  readonly etcdPid: number;
  /** From its start until it is ready to serve nodes. */
  readonly readyMs: number;
  /** Returns the revision. */
  apply(manifest: object): Promise<number>;
  wait(revision: number): Promise<WaitResponse>;
}

/** Over an etcd that holds so many services; everything ends with `work`. */
async function withController<T>(
  services: number,
  work: (controller: TestedController, bed: Bed) => Promise<T>,
  authority: NodeAuthority | null = null,
): Promise<T> {
  const etcd = await startEtcd();
  try {
    await fill(etcd.endpoint, services);
    return await Bed.use(async (bed) => {
      const port = await consecutivePorts(2);
      const address = `127.0.0.1:${port}`;
      const began = performance.now();
      const socket = `unix:${join(bed.folder, 'controller.sock')}`;
      const files = { '--authority-cert': authority?.certificate, '--authority-key': authority?.key };
      const proofs = Object.entries(files).flatMap(([flag, text]) => {
        if (text === undefined) return [];
        writeFileSync(join(bed.folder, flag), text);
        return [flag, join(bed.folder, flag)];
      });
      const flags = [
        '--etcd',
        etcd.endpoint,
        '--listen',
        address,
        '--listen',
        socket,
        ...proofs,
        '--metrics-listen',
        `127.0.0.1:${port + 1}`,
        '--log-level',
        'warn',
      ];
      const process_: Pinned = bed.start(null, [process.execPath, ...process.execArgv, WEFT, 'controller', ...flags]);
      await ready(port + 1);
      const readyMs = performance.now() - began;
      await holds(port + 1, services * (1 + ENDPOINTS_A_SERVICE));
      const admin = new AdminClient(socket, credentials.createInsecure(), { 'grpc.enable_http_proxy': 0 });
      const ask = <R>(call: (done: (error: Error | null, response: R) => void) => unknown): Promise<R> =>
        new Promise((resolve, reject) => call((error, response) => (error === null ? resolve(response) : reject(error))));
      try {
        return await work(
          {
            address,
            pid: process_.pid,
            etcdPid: etcd.pid,
            readyMs,
            apply: async (manifest) => {
              const files = [{ name: 'bench.yaml', content: JSON.stringify(manifest) }];
              const { revision, findings } = await ask<ApplyResponse>((done) => admin.apply({ files, dryRun: false, asOf: 0 }, done));
              if (revision === 0) throw new Error(`nothing was applied: ${findings[0]?.message ?? 'it stands there already'}`);
              return revision;
            },
            wait: (revision) => ask<WaitResponse>((done) => admin.wait({ revision, timeoutMs: 10_000 }, done)),
          },
          bed,
        );
      } finally {
        admin.close();
      }
    });
  } finally {
    await etcd.stop();
  }
}

async function ready(port: number): Promise<void> {
  const deadline = performance.now() + 120_000;
  for (;;) {
    const response = await fetch(`http://127.0.0.1:${port}/readyz`).catch(() => null);
    if (response?.ok) return;
    if (performance.now() > deadline) throw new Error(`the controller is not ready: ${(await response?.text()) ?? 'no answer'}`);
    await sleep(20);
  }
}

/** What was filled in is what is distributed, or nothing here means anything. */
async function holds(port: number, resources: number): Promise<void> {
  const metrics = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  const found = /^weft_controller_resources (\d+)$/m.exec(metrics)?.[1];
  if (found !== String(resources)) throw new Error(`the controller holds ${found} resources, not ${resources}`);
}

/** Written as the controller writes what was applied; through it the manifests of 100,000 endpoints would take minutes to read. */
async function fill(endpoint: string, services: number): Promise<void> {
  const client = new EtcdClient({ endpoints: [endpoint] });
  const keys = new Keyspace('/weft');
  try {
    for (let from = 0; from < services; from += 50) {
      const writes = Array.from({ length: Math.min(50, services - from) }, (_, index): Write[] => {
        const name = `s${from + index}`;
        const stored = (kind: string, manifest: object): Write => ({
          key: keys.object({ kind, namespace: 'default', name }),
          value: JSON.stringify({
            manifest: { ...manifest, metadata: { namespace: 'default', ...metadataOf(manifest) } },
            createdAtMs: 1,
            requestId: '',
          }),
          lease: null,
        });
        return [stored('Service', service(name)), stored('EndpointSlice', slice(from + index, 0))];
      }).flat();
      const result = await commit(client, { expect: new Map(), writes });
      if (result.kind !== 'committed') throw new Error(`etcd took ${from} services: ${result.kind}`);
    }
  } finally {
    client.close();
  }
}

function metadataOf(manifest: object): object {
  return (manifest as { readonly metadata: object }).metadata;
}

/** Of one service; `version` changes the address of one of its endpoints. */
function slice(index: number, version: number): object {
  const name = `s${index}`;
  const address = (last: number): string => `10.${index >> 8}.${index & 255}.${last}`;
  const addresses = Array.from({ length: ENDPOINTS_A_SERVICE - 1 }, (_, at) => address(at + 1));
  return endpointSlice(name, name, { name: 'http', port: 8080 }, [
    ...addresses,
    `11.${(version >> 16) & 255}.${(version >> 8) & 255}.${version & 255}`,
  ]);
}

/** The simulated agents' process. */
class Agents {
  /** What all of them had, and when (milliseconds since the epoch). */
  readonly reached: { readonly revision: number; readonly atMs: number }[] = [];
  #waiting: (() => void)[] = [];
  #failure: Error | null = null;

  private constructor(private readonly child: ChildProcess) {
    child.on('message', (report: AgentsReport) => {
      if (report.kind === 'all-at') this.reached.push(report);
      if (report.kind === 'failed') this.#failure ??= new Error(report.message);
      for (const wake of this.#waiting.splice(0)) wake();
    });
  }

  /** They know who they are, and connect when they are told to. */
  static async start(authority: NodeAuthority | null): Promise<Agents> {
    const child = fork(AGENTS_PROGRAM, [], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    await new Promise((resolve) => child.once('message', resolve));
    child.send({ kind: 'prepare', agents: AGENTS, authority } satisfies AgentsOrder);
    await new Promise((resolve) => child.once('message', resolve));
    return new Agents(child);
  }

  get pid(): number {
    return this.child.pid!;
  }

  connect(address: string): void {
    this.child.send({ kind: 'start', address } satisfies AgentsOrder);
  }

  /** When the last of them came to `revision`. */
  async allAt(revision: number): Promise<number> {
    const deadline = performance.now() + 60_000;
    for (;;) {
      if (this.#failure !== null) throw this.#failure;
      const found = this.reached.find((each) => each.revision >= revision);
      if (found !== undefined) return found.atMs;
      if (performance.now() > deadline) throw new Error(`the agents did not all come to revision ${revision} within 60 s`);
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
        setTimeout(resolve, 1_000);
      });
    }
  }

  stop(): void {
    this.child.kill('SIGKILL');
  }
}

/** What processes have spent since then: they share the machine's cores, and only one of them is what is measured. */
class CpuWatch {
  readonly #began: readonly number[];

  constructor(private readonly pids: Readonly<Record<string, number>>) {
    this.#began = Object.values(pids).map(cpuTimeUs);
  }

  /** "controller 2.10 s, …" */
  told(): string {
    return Object.entries(this.pids)
      .map(([name, pid], index) => `${name} ${((cpuTimeUs(pid) - this.#began[index]!) / 1e6).toFixed(2)} s`)
      .join(', ');
  }
}

/** The most that a process had resident, looked at four times a second. */
class MemoryWatch {
  mostBytes = 0;
  readonly #timer: NodeJS.Timeout;

  constructor(pid: number) {
    const look = (): void => {
      this.mostBytes = Math.max(
        this.mostBytes,
        Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) * 1_024,
      );
    };
    look();
    this.#timer = setInterval(look, 250);
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}

/** `apply` of a route until the first answer by its new backend, through controller, etcd, agent and proxy. */
async function applyToRequest(rounds: number, onProgress: (text: string) => void): Promise<Figure> {
  onProgress('from apply to the first request on the new route');
  const backends = ['a', 'b'].map((name) => createServer((_, response) => response.end(name)).listen(0, '127.0.0.1'));
  try {
    await Promise.all(backends.map((server) => once(server, 'listening')));
    const ports = backends.map((server) => (server.address() as AddressInfo).port);
    const took = await withController(0, async (controller, bed) => {
      const port = await consecutivePorts(3);
      const agent = [
        '--node',
        'bench',
        '--controller',
        controller.address,
        '--run-dir',
        bed.folder,
        '--state-dir',
        join(bed.folder, 'state'),
      ];
      const listens = ['--status-listen', `127.0.0.1:${port + 1}`, '--metrics-listen', `127.0.0.1:${port + 2}`];
      bed.start(null, [process.execPath, WEFT, 'agent', ...agent, ...listens, '--capture', 'off']);
      const proxy = ['--agent', `unix:${join(bed.folder, 'agent.sock')}`, '--node', 'bench', '--workers', '1', '--run-dir', bed.folder];
      const running = bed.start(null, [process.execPath, WEFT, 'proxy', ...proxy]);
      for (const object of [
        ...['a', 'b'].flatMap((name, index) => [service(name), localSlice(name, name, ports[index]!)]),
        gateway('edge', { name: 'web', port, protocol: 'HTTP' }),
        routeTo('b'),
      ])
        await controller.apply(object);
      await running.listensOn(port);
      const samples: number[] = [];
      for (let round = 0; round < rounds; round++) {
        const backend = 'ab'[round % 2]!;
        const startMs = performance.now();
        const applied = controller.apply(routeTo(backend));
        while ((await get(port)) !== backend) {
          if (performance.now() - startMs > 10_000) throw new Error(`the route to ${backend} was not in force after 10 s`);
        }
        samples.push(performance.now() - startMs);
        await applied;
        await sleep(100 + (round % 7) * 10);
      }
      return samples;
    });
    return figure('apply-to-request-p99', quantile(took, 0.99), 'ms', 150);
  } finally {
    for (const server of backends) {
      server.closeAllConnections();
      server.close();
    }
  }
}

function routeTo(name: string): object {
  return {
    apiVersion: 'gateway.networking.k8s.io/v1',
    kind: 'HTTPRoute',
    metadata: { name: 'bench' },
    spec: { parentRefs: [{ name: 'edge' }], rules: [{ backendRefs: [{ name, port: 80 }] }] },
  };
}

/** The answer's body; empty when there is none yet. */
function get(port: number): Promise<string> {
  return new Promise((resolve) => {
    const call = request({ host: '127.0.0.1', port, agent: false }, (response) => {
      let body = '';
      response.on('data', (chunk: Buffer) => {
        body += chunk.toString();
      });
      response.on('end', () => resolve(body)).on('error', () => resolve(''));
    });
    call.on('error', () => resolve(''));
    call.end();
  });
}

function figure(name: string, value: number, unit: string, target: number): Figure {
  return { name, value: rounded(value), unit, target };
}
