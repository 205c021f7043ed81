// The mesh of the chaos test: real etcd, controller, agents and proxies on two hosts of a lab, and pods that come and go. Does what it is
// told; what to do when is main.ts.
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { nodeStatus } from '../../cli/connection.js';
import { until, WEFT } from '../../deploy/local/cluster.js';
import { attempt, inNamespace, run } from '../../deploy/local/command-line.js';
import { compiled } from '../../deploy/local/compiled.js';
import { Lab } from '../../deploy/local/lab.js';
import { NODES, type NodeName, type Pod } from '../../deploy/local/layout.js';
import type { LabProcess } from '../../deploy/local/process.js';
import type { Outcome, Target } from './protocol.js';

const POD_PROGRAM = compiled('test/chaos/pod.js');
const SLOTS_A_NODE = 3;
/** More than slots, fewer than twice as many: a new pod often has an address that another had before. */
const ADDRESSES_A_NODE = 4;
const FREED_WITHIN_MS = 5_000;
const FREED_POLL_MS = 200;

/** A place for a pod: one Workload, whose namespace comes and goes. */
interface Slot {
  readonly name: string;
  readonly node: NodeName;
}

export interface RunningPod {
  readonly slot: Slot;
  readonly pod: Pod;
  readonly token: string;
  readonly process: LabProcess;
}

export class Mesh {
  readonly pods = new Map<string, RunningPod>();
  private readonly proxies = new Map<NodeName, LabProcess>();
  private readonly drained: LabProcess[] = [];
  private readonly logs: string[] = [];
  private generation = 0;

  private constructor(
    readonly lab: Lab,
    /** Servers see the calling pod, and a port by which the way of the call is known: eBPF, not the fallback. */
    readonly isTransparent: boolean,
  ) {}

  static async create(instance: string, capture: string): Promise<Mesh> {
    const lab = await Lab.create({ instance, pods: [], services: [], hosts: '', weft: WEFT, workersPerProxy: 1 });
    return new Mesh(lab, capture === 'auto' || capture.startsWith('ebpf'));
  }

  slots(): readonly Slot[] {
    return NODES.flatMap((node, n) => Array.from({ length: SLOTS_A_NODE }, (_, i) => ({ name: `${'ab'[n]}${i + 1}`, node })));
  }

  async start(): Promise<void> {
    const etcd = await this.lab.startEtcd();
    await until(
      async () => (readFileSync(etcd.spec.logFile, 'utf8').includes('ready to serve client requests') ? true : null),
      () => `etcd is not ready:\n${etcd.lastLines()}`,
    );
    await this.lab.startController();
    for (const node of NODES) {
      await this.startAgent(node);
      await this.startProxy(node);
    }
    const file = join(this.lab.layout.runDir, 'workloads.yaml');
    writeFileSync(
      file,
      this.slots()
        .map((slot) => this.manifest(slot))
        .join('---\n'),
    );
    await until(
      () => run(process.execPath, [WEFT, 'apply', '--controller', this.lab.controllerAddress, '-f', file, '--wait']),
      () => 'the workloads are not applied',
    );
  }

  private manifest({ name, node }: Slot): string {
    const path = `/run/netns/${this.lab.layout.podNamespace(name)}`;
    return `apiVersion: mesh.weft.dev/v1
kind: Workload
metadata: {name: ${name}, namespace: chaos}
spec: {node: ${node}, networkNamespace: ${path}, capture: {failClosed: false}}
`;
  }

  async startProxy(node: NodeName): Promise<void> {
    this.proxies.set(node, await this.lab.startProxy(node));
  }

  proxy(node: NodeName): LabProcess {
    return this.proxies.get(node)!;
  }

  /** Resolves when the old one accepts no more. */
  async upgradeProxy(node: NodeName): Promise<void> {
    const old = this.proxy(node);
    this.drained.push(old);
    await this.startProxy(node);
    const { spec, pid } = this.proxy(node);
    // One file for all proxies of the node.
    const taken = `"pid":${pid},`;
    await until(
      async () => {
        const lines = readFileSync(spec.logFile, 'utf8').split('\n');
        return lines.some((line) => line.includes(taken) && line.includes('it accepts no more, and drains')) ? true : null;
      },
      () => `proxy ${old.pid} of ${node} was not taken over from:\n${this.proxy(node).lastLines()}`,
    );
  }

  /** Resolves when it answers: the socket of a killed one is there still. */
  async startAgent(node: NodeName): Promise<void> {
    const agent = await this.lab.startAgent(node);
    await until(
      async () => nodeStatus(node, this.lab.nodeStatusAddress(node)).catch(() => null),
      () => `the agent of ${node} does not answer:\n${agent.lastLines()}`,
    );
  }

  agent(node: NodeName): LabProcess {
    return this.lab.process(`agent-${node}`);
  }

  /** The status says so, not a log line. */
  async captured(node: NodeName): Promise<boolean> {
    try {
      const { proxy } = await nodeStatus(node, this.lab.nodeStatusAddress(node));
      return proxy !== undefined && existsSync(`/proc/${this.proxy(node).pid}`);
    } catch {
      return false;
    }
  }

  /** What the agent counted, over programs and workloads of the same name. */
  async counters(node: NodeName): Promise<ReadonlyMap<string, number>> {
    const { capture } = await nodeStatus(node, this.lab.nodeStatusAddress(node));
    const counted = [
      ...(capture?.counters ?? []),
      ...(this.isTransparent ? [] : (capture?.workloads ?? []).flatMap(({ counters }) => counters)),
    ];
    const sums = new Map<string, number>();
    for (const { name, value } of counted) sums.set(name, (sums.get(name) ?? 0) + value);
    return sums;
  }

  async createPod(slot: Slot): Promise<RunningPod> {
    const used = new Set([...this.pods.values()].filter((each) => each.slot.node === slot.node).map(({ pod }) => pod.v4));
    const free = addressesOf(slot.node).filter(({ v4 }) => !used.has(v4));
    const pod = { name: slot.name, node: slot.node, ...free[this.generation % free.length]! };
    const token = `${slot.name}-${++this.generation}`;
    await this.lab.addPod(pod);
    const process = await this.lab.startInPod(slot.name, `pod-${token}`, [
      globalThis.process.execPath,
      POD_PROGRAM,
      token,
      slot.node,
      this.targetsFile(),
      this.isTransparent ? 'client' : 'self',
    ]);
    this.logs.push(process.spec.logFile);
    const running = { slot, pod, token, process };
    await until(
      async () => (readFileSync(process.spec.logFile, 'utf8').includes('"ready"') ? true : null),
      () => `the pod ${token} is not ready:\n${process.lastLines()}`,
    );
    this.pods.set(slot.name, running);
    this.publish();
    return running;
  }

  /** Nobody begins a call to it from `notice` on; then it is killed, and its namespace goes. `deleted` is told just before the kill. */
  async deletePod(slot: string, deleted: () => void): Promise<void> {
    const running = this.pods.get(slot)!;
    this.pods.delete(slot);
    this.publish();
    await sleep(300);
    deleted();
    running.process.signal('SIGKILL');
    await running.process.exited;
    await this.lab.removePod(slot);
  }

  private targetsFile(): string {
    return join(this.lab.layout.runDir, 'targets.json');
  }

  private publish(): void {
    const targets: Target[] = [...this.pods.values()].map(({ token, pod }) => ({ token, node: pod.node, v4: pod.v4, v6: pod.v6 }));
    writeFileSync(`${this.targetsFile()}.new`, JSON.stringify(targets));
    renameSync(`${this.targetsFile()}.new`, this.targetsFile());
  }

  outcomes(): Outcome[] {
    return this.logs
      .flatMap((file) => readFileSync(file, 'utf8').split('\n'))
      .filter((line) => line.startsWith('{') && line.endsWith('}'))
      .map((line) => JSON.parse(line) as Outcome);
  }

  /** What an operator sees of each host, all that removal must leave as it was. */
  async snapshot(): Promise<Map<string, string>> {
    const seen = new Map<string, string>();
    for (const node of NODES) {
      for (const command of HOST_STATE) {
        const text = await run('nsenter', inNamespace(this.lab.layout.hostNamespace(node), command));
        seen.set(`${node}: ${command.join(' ')}`, text.replace(/^.*nf_conntrack_count.*\n/gm, ''));
      }
    }
    seen.set('pins', await run('find', [this.lab.layout.bpfMount]));
    const cgroups = await run('find', ['/sys/fs/cgroup', '-type', 'd', '-name', `*${this.lab.layout.instance}*`]);
    seen.set('cgroups', cgroups);
    seen.set(
      'namespaces',
      (await run('ip', ['netns', 'list']))
        .split('\n')
        .filter((line) => line.startsWith(this.lab.layout.instance))
        .sort()
        .join('\n'),
    );
    return seen;
  }

  /** Ends pods, proxies and agents, and has the agents remove what they made. Returns maps, links and programs that the kernel still has. */
  async uninstall(): Promise<string[]> {
    const objects = await this.kernelObjects();
    for (const slot of [...this.pods.keys()]) await this.deletePod(slot, () => {});
    for (const proxy of [...this.drained, ...this.proxies.values()]) await proxy.stop(4_000);
    for (const node of NODES) {
      const agent = this.agent(node);
      await agent.stop(4_000);
      const args = [...agent.spec.command, '--uninstall'];
      await run('nsenter', inNamespace(agent.spec.namespace, args));
    }
    for (let waited = 0; waited < FREED_WITHIN_MS; waited += FREED_POLL_MS) {
      const left = await remaining(objects);
      if (left.length === 0) return [];
      // The kernel frees them when nobody can be reading them any more.
      await sleep(FREED_POLL_MS);
    }
    return (await remaining(objects)).map((object) => `the kernel still has ${object.join(' ')}`);
  }

  /** What the pins hold. */
  private async kernelObjects(): Promise<KernelObject[]> {
    const pins = (await run('find', [this.lab.layout.bpfMount, '-type', 'f'])).trim().split('\n');
    const found = await Promise.all(
      pins.flatMap((pin) => {
        const kind = pin.includes('/maps/') ? 'map' : pin.includes('/links/') ? 'link' : null;
        return kind === null ? [] : [objectsAt(kind, pin)];
      }),
    );
    return found.flat();
  }
}

type KernelObject = readonly [kind: 'map' | 'link' | 'prog', id: string];

async function objectsAt(kind: 'map' | 'link', pin: string): Promise<KernelObject[]> {
  const { id, prog_id: program } = JSON.parse(await run('bpftool', ['-j', kind, 'show', 'pinned', pin])) as {
    id: number;
    prog_id?: number;
  };
  return [[kind, String(id)], ...(program === undefined ? [] : [['prog', String(program)] as const])];
}

async function remaining(objects: readonly KernelObject[]): Promise<KernelObject[]> {
  const there = await Promise.all(objects.map(async ([kind, id]) => (await attempt('bpftool', [kind, 'show', 'id', id])) === null));
  return objects.filter((_, index) => there[index]);
}

const HOST_STATE: readonly (readonly string[])[] = [
  ['ip', '-d', 'link', 'show'],
  ['ip', '-j', 'addr', 'show'],
  ['ip', 'route', 'show', 'table', 'all'],
  ['ip', '-6', 'route', 'show', 'table', 'all'],
  ['ip', 'rule', 'show'],
  ['ip', '-6', 'rule', 'show'],
  ['tc', 'qdisc', 'show'],
  ['bpftool', 'net', 'show'],
  ['nft', 'list', 'ruleset'],
  ['iptables-save'],
  ['sysctl', '-a', '-e', '--pattern', '^net[.]'],
];

function addressesOf(node: NodeName): readonly { readonly v4: string; readonly v6: string }[] {
  const n = NODES.indexOf(node) + 1;
  return Array.from({ length: ADDRESSES_A_NODE }, (_, i) => ({ v4: `10.244.${n}.${i + 10}`, v6: `fd44:0:0:${n}::${i + 10}` }));
}
