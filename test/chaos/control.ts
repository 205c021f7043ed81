// `npm run chaos -- control`: three hosts as namespaces, on each an etcd member and a controller, and nodes and writers in a fourth (control-nodes.ts).
// Controllers and members are killed, stopped, restarted and cut off by firewall rules at random, two at a time now and then. Every acknowledged write must
// be on every node in the end, and no node may ever have had a half-applied revision or gone back (control-judge.ts). With a sabotage what must never happen
// is made to happen in etcd itself, to see that it is found. Owns the namespaces and the processes.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { attempt, inNamespace, run } from '../../deploy/local/command-line.js';
import { LabProcess } from '../../deploy/local/process.js';
import { nameOf } from './control-judge.js';
import type { ControlOrder, ControlReport } from './control-protocol.js';

const WEFT = fileURLToPath(new URL('../../cli/main.js', import.meta.url));
const NODES_PROGRAM = fileURLToPath(new URL('./control-nodes.js', import.meta.url));
const HOSTS = [0, 1, 2] as const;
/** The hosts' own network: in these namespaces alone. */
const addressOf = (host: number): string => `10.213.0.${host + 11}`;
const HUB_ADDRESS = '10.213.0.1';
/** All is well for so long before the end, as a cluster has it between its troubles. */
const CALM_MS = 3_000;

/** In etcd. */
const SABOTAGED = `/weft/objects/Service/chaos/${nameOf(0, 0)}`;

type Role = 'etcd' | 'controller';

export const SABOTAGES = ['lost-write', 'half-applied'] as const;
export type Sabotage = (typeof SABOTAGES)[number];

export interface ControlChaosResult {
  readonly deeds: ReadonlyMap<string, number>;
  readonly acknowledged: number;
  readonly refused: number;
  readonly updates: number;
  readonly findings: readonly string[];
}

export interface ControlChaosPlan {
  readonly minutes: number;
  readonly random: () => number;
  readonly logs: string | undefined;
  readonly sabotage: Sabotage | undefined;
}

export async function chaosControl({ minutes, random, logs, sabotage }: ControlChaosPlan): Promise<ControlChaosResult> {
  const plane = await Plane.create(`cc${process.pid}`, logs);
  const interrupted = (): void => void plane.close().then(() => process.exit(130));
  process.once('SIGINT', interrupted).once('SIGTERM', interrupted);
  try {
    await plane.start();
    const deeds = await trouble(plane, random, Date.now() + minutes * 60_000);
    await sleep(CALM_MS);
    await plane.order('stop');
    if (sabotage === 'half-applied') await plane.changeOneOfAGroup();
    if (sabotage === 'lost-write') await plane.loseOne();
    const { acknowledged, refused, updates, findings } = await plane.order('finish');
    const nothing = acknowledged === 0 ? ['no write was ever acknowledged'] : [];
    return { deeds, acknowledged, refused, updates, findings: [...nothing, ...findings, ...plane.ends] };
  } finally {
    process.off('SIGINT', interrupted).off('SIGTERM', interrupted);
    await plane.close();
  }
}

/** One deed after the other, at times a second one into the first. Returns how often each was done. */
async function trouble(plane: Plane, random: () => number, untilMs: number): Promise<Map<string, number>> {
  const done = new Map<string, number>();
  const below = (limit: number): number => Math.floor(random() * limit);
  const one = async (host: number): Promise<void> => {
    const role: Role = below(2) === 0 ? 'etcd' : 'controller';
    const lastsMs = 500 + below(6_000);
    const deeds: readonly [string, () => Promise<void>][] = [
      [`${role} killed`, () => plane.restart(host, role, 'SIGKILL', below(2_000))],
      [`${role} restarted`, () => plane.restart(host, role, 'SIGTERM', 0)],
      [`${role} stopped`, () => plane.pause(host, role, lastsMs)],
      ['host cut off', () => plane.cut(host, 'all', lastsMs)],
      ['host cut off from the other hosts', () => plane.cut(host, 'hosts', lastsMs)],
    ];
    const [name, deed] = deeds[below(deeds.length)]!;
    done.set(name, (done.get(name) ?? 0) + 1);
    await deed();
  };
  while (Date.now() < untilMs) {
    const host = below(HOSTS.length);
    // Two hosts of three: the quorum is gone while it lasts.
    const second = below(4) === 0 ? [one((host + 1 + below(2)) % HOSTS.length)] : [];
    await Promise.all([one(host), ...second]);
    await sleep(200 + below(1_500));
  }
  return done;
}

class Plane {
  /** Of processes that ended by themselves. */
  readonly ends: string[] = [];
  readonly #processes = new Map<string, LabProcess>();
  #nodes: ChildProcess | null = null;

  private constructor(
    private readonly instance: string,
    private readonly folder: string,
    private readonly logs: string,
  ) {}

  static async create(instance: string, logs: string | undefined): Promise<Plane> {
    const folder = mkdtempSync('/dev/shm/weft-chaos-');
    if (logs !== undefined) mkdirSync(logs, { recursive: true });
    const plane = new Plane(instance, folder, logs ?? folder);
    await plane.#network();
    return plane;
  }

  async #network(): Promise<void> {
    const hub = this.#namespace('hub');
    for (const name of ['hub', ...HOSTS.map((host) => `h${host}`)]) {
      await run('ip', ['netns', 'add', this.#namespace(name)]);
      await run('ip', ['-n', this.#namespace(name), 'link', 'set', 'lo', 'up']);
    }
    await run('ip', ['-n', hub, 'link', 'add', 'hosts', 'type', 'bridge']);
    await run('ip', ['-n', hub, 'addr', 'add', `${HUB_ADDRESS}/24`, 'dev', 'hosts']);
    await run('ip', ['-n', hub, 'link', 'set', 'hosts', 'up']);
    for (const host of HOSTS) {
      const own = this.#namespace(`h${host}`);
      await run('ip', ['-n', hub, 'link', 'add', `to${host}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', own]);
      await run('ip', ['-n', hub, 'link', 'set', `to${host}`, 'master', 'hosts', 'up']);
      await run('ip', ['-n', own, 'addr', 'add', `${addressOf(host)}/24`, 'dev', 'eth0']);
      await run('ip', ['-n', own, 'link', 'set', 'eth0', 'up']);
    }
  }

  async start(): Promise<void> {
    for (const host of HOSTS) await this.#launch(host, 'etcd');
    for (const host of HOSTS) await this.#launch(host, 'controller');
    const command = [process.execPath, NODES_PROGRAM];
    const nodes = spawn('nsenter', inNamespace(this.#namespace('hub'), command), { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    this.#nodes = nodes;
    await new Promise((resolve) => nodes.once('message', resolve));
    nodes.send({ kind: 'start', controllers: HOSTS.map((host) => `${addressOf(host)}:15010`) } satisfies ControlOrder);
  }

  /** Resolves with what they say when it is done. */
  order(kind: 'stop' | 'finish'): Promise<ControlReport> {
    return new Promise((resolve, reject) => {
      this.#nodes?.once('message', (report: ControlReport) => resolve(report));
      this.#nodes?.once('exit', (code) => reject(new Error(`the nodes' program ended with ${code}`)));
      this.#nodes?.send({ kind, controllers: [] } satisfies ControlOrder);
    });
  }

  async restart(host: number, role: Role, signal: NodeJS.Signals, awayMs: number): Promise<void> {
    const process_ = this.#processes.get(`${role}${host}`)!;
    const { exit } = process_;
    // A controller that ends by itself is a finding whatever was done to it.
    if (exit !== null) this.ends.push(`${role} ${host} ended by itself with ${exit.code ?? exit.signal}: ${process_.lastLines(5)}`);
    if (signal === 'SIGTERM') await process_.stop(10_000);
    else {
      process_.signal(signal);
      await process_.exited;
    }
    await sleep(awayMs);
    await this.#launch(host, role);
  }

  async pause(host: number, role: Role, lastsMs: number): Promise<void> {
    const process_ = this.#processes.get(`${role}${host}`)!;
    process_.signal('SIGSTOP');
    await sleep(lastsMs);
    process_.signal('SIGCONT');
  }

  /** Dropped in silence, as a cable that is pulled. */
  async cut(host: number, from: 'all' | 'hosts', lastsMs: number): Promise<void> {
    const namespace = this.#namespace(`h${host}`);
    const others = HOSTS.filter((each) => each !== host).map(addressOf);
    const peers = from === 'all' ? [...others, HUB_ADDRESS] : others;
    const set = `{ ${peers.join(', ')} }`;
    const chain = (hook: string, side: string): string => `chain ${hook} {
  type filter hook ${hook} priority 0
  ip ${side} ${set} drop
}`;
    const rules = `table ip cut {\n${chain('input', 'saddr')}\n${chain('output', 'daddr')}\n}\n`;
    await run('nsenter', inNamespace(namespace, ['nft', '-f', '-']), rules);
    await sleep(lastsMs);
    await run('nsenter', inNamespace(namespace, ['nft', 'delete', 'table', 'ip', 'cut']));
  }

  /** An acknowledged write is no more. */
  async loseOne(): Promise<void> {
    await this.#etcdctl('del', SABOTAGED);
  }

  /** One Service of a group has another version than the others. */
  async changeOneOfAGroup(): Promise<void> {
    const value = await this.#etcdctl('get', SABOTAGED, '--print-value-only');
    await this.#etcdctl(
      'put',
      SABOTAGED,
      value.trim().replace(/"port":(\d+)/, (_, port) => `"port":${Number(port) + 1}`),
    );
  }

  #etcdctl(...args: string[]): Promise<string> {
    const command = ['etcdctl', '--endpoints', `http://${addressOf(0)}:2379`, ...args];
    return run('nsenter', inNamespace(this.#namespace('h0'), ['env', 'ETCDCTL_API=3', ...command]));
  }

  async #launch(host: number, role: Role): Promise<void> {
    const name = `${role}${host}`;
    const started = await LabProcess.start({
      name,
      instance: this.instance,
      namespace: this.#namespace(`h${host}`),
      command: role === 'etcd' ? this.#etcd(host) : this.#controller(host),
      environment: {},
      logFile: join(this.logs, `${name}.log`),
      hostsFile: null,
    });
    this.#processes.set(name, started);
  }

  #etcd(host: number): string[] {
    const peer = (each: number): string => `http://${addressOf(each)}:2380`;
    const client = `http://${addressOf(host)}:2379`;
    return [
      ...['etcd', '--name', `m${host}`, '--data-dir', join(this.folder, `etcd${host}`), '--logger', 'zap'],
      ...['--listen-client-urls', client, '--advertise-client-urls', client, '--listen-peer-urls', peer(host)],
      ...['--initial-advertise-peer-urls', peer(host), '--initial-cluster', HOSTS.map((each) => `m${each}=${peer(each)}`).join(',')],
    ];
  }

  #controller(host: number): string[] {
    const etcd = HOSTS.flatMap((each) => ['--etcd', `http://${addressOf(each)}:2379`]);
    return [process.execPath, WEFT, 'controller', ...etcd, '--listen', `${addressOf(host)}:15010`, '--metrics-listen', '', '--insecure'];
  }

  #namespace(name: string): string {
    return `${this.instance}-${name}`;
  }

  /** Idempotent. */
  async close(): Promise<void> {
    for (const [name, process_] of this.#processes) {
      const { exit } = process_;
      if (exit !== null && name.startsWith('controller'))
        console.error(`${name} had ended: ${readFileSync(process_.spec.logFile, 'utf8').slice(-2_000)}`);
      process_.signal('SIGCONT');
      process_.signal('SIGKILL');
    }
    this.#nodes?.kill('SIGKILL');
    this.#nodes = null;
    await Promise.all([...this.#processes.values()].map(({ exited }) => exited));
    for (const name of ['hub', ...HOSTS.map((host) => `h${host}`)]) await attempt('ip', ['netns', 'del', this.#namespace(name)]);
    rmSync(this.folder, { recursive: true, force: true });
  }
}
