// One machine as a cluster: control plane, two hosts, pods, all in network namespaces with real daemons in them. Used by `weft up`
// and by the end-to-end tests. Owns every process and namespace of its instance; decides nothing about what runs in the mesh.
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { run } from './command-line.js';
import { claimInstance, recordPod, removeInstance } from './instance.js';
import { CONTROLLER_ADDRESS, CONTROLLER_PORT, type Layout, layout, type NodeName, type Pod, type VirtualService } from './layout.js';
import { addPod, buildNetwork, removePod } from './network.js';
import { LabProcess, type ProcessSpec } from './process.js';

export interface LabOptions {
  readonly instance: string;
  readonly pods: readonly Pod[];
  readonly services: readonly VirtualService[];
  /** What every pod sees as /etc/hosts. */
  readonly hosts: string;
  /** The compiled `weft`, dist/cli/main.js. */
  readonly weft: string;
  readonly workersPerProxy: number;
}

/** Set-up that can't go on: the message says what to do. */
export class LabError extends Error {}

const READY_TIMEOUT_MS = 30_000;
/** The agent takes its programs down in this time, or the lab does it. */
const STOP_GRACE_MS = 4_000;

function isOnPath(command: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => existsSync(join(folder, command)));
}

export class Lab {
  readonly #processes = new Map<string, LabProcess>();
  readonly #pods: Map<string, Pod>;
  /** The pod that is being made, if any. */
  #building: Promise<void> = Promise.resolve();
  #closing = false;
  #closed: Promise<string[]> | null = null;
  /** Told of a process that ended without being asked to. */
  onUnexpectedExit: (process: LabProcess) => void = () => undefined;

  private constructor(
    readonly layout: Layout,
    readonly options: LabOptions,
  ) {
    this.#pods = new Map(options.pods.map((pod) => [pod.name, pod]));
  }

  /** Claims the instance and builds its network; nothing runs yet. */
  static async create(options: LabOptions): Promise<Lab> {
    if (process.getuid?.() !== 0) throw new LabError('Making network namespaces needs root: run it with sudo.');
    const names = layout(options.instance);
    const podNames = options.pods.map((pod) => pod.name);
    const claim = await claimInstance(names, podNames);
    switch (claim.kind) {
      case 'running':
        throw new LabError(
          `Already running as process ${claim.pid}. Stop it (kill ${claim.pid}), or start another one with --instance NAME.`,
        );
      case 'foreign':
        throw new LabError(`${claim.path} exists and is not a lab's: a weft agent of this machine? Start the lab with --instance NAME.`);
      case 'claimed':
        break;
    }
    const lab = new Lab(names, options);
    try {
      await lab.#prepare();
    } catch (error) {
      await lab.close();
      throw error;
    }
    return lab;
  }

  async #prepare(): Promise<void> {
    const { layout: names, options } = this;
    for (const directory of [names.logDir, names.bpfMount, names.etcdDir, `${names.runDir}/pods`])
      mkdirSync(directory, { recursive: true, mode: 0o700 });
    await run('mount', ['-t', 'bpf', 'bpf', names.bpfMount]);
    for (const pod of options.pods) writeFileSync(names.podHostsFile(pod.name), options.hosts);
    await buildNetwork(names, options.pods, options.services);
  }

  get controllerAddress(): string {
    return `unix:${this.layout.controllerSocket}`;
  }

  nodeStatusAddress(node: NodeName): string {
    return `unix:${this.layout.nodeRunDir(node)}/agent.sock`;
  }

  async startEtcd(): Promise<LabProcess> {
    if (!isOnPath('etcd'))
      throw new LabError('etcd is not installed: npm start installs it, or apt-get install etcd-server (its daemon is not needed).');
    const client = 'http://127.0.0.1:2379';
    const peer = 'http://127.0.0.1:2380';
    const etcd = await this.#start('etcd', this.layout.controlNamespace, [
      'etcd',
      ...['--name', 'lab', '--data-dir', `${this.layout.etcdDir}/data`],
      ...['--listen-client-urls', client, '--advertise-client-urls', client],
      ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer, '--initial-cluster', `lab=${peer}`],
    ]);
    return etcd;
  }

  async startController(): Promise<LabProcess> {
    const controller = await this.startWeft('controller', this.layout.controlNamespace, [
      ...['controller', '--etcd', 'http://127.0.0.1:2379'],
      // Nobody but the lab's own namespaces is on that network.
      ...['--listen', `${CONTROLLER_ADDRESS}:${CONTROLLER_PORT}`, '--listen', this.controllerAddress, '--insecure'],
    ]);
    await this.#ready(controller, () => existsSync(this.layout.controllerSocket));
    return controller;
  }

  async startAgent(node: NodeName): Promise<LabProcess> {
    const runDir = this.layout.nodeRunDir(node);
    mkdirSync(this.layout.nodeStateDir(node), { recursive: true, mode: 0o700 });
    const agent = await this.startWeft(`agent-${node}`, this.layout.hostNamespace(node), [
      ...['agent', '--node', node, '--controller', `${CONTROLLER_ADDRESS}:${CONTROLLER_PORT}`, '--insecure'],
      ...['--run-dir', runDir, '--state-dir', this.layout.nodeStateDir(node), ...this.#nodePaths(node)],
      ...['--status-advertise', this.nodeStatusAddress(node)],
    ]);
    await this.#ready(agent, () => existsSync(`${runDir}/agent.sock`));
    return agent;
  }

  async startProxy(node: NodeName): Promise<LabProcess> {
    const runDir = this.layout.nodeRunDir(node);
    return this.startWeft(`proxy-${node}`, this.layout.hostNamespace(node), [
      ...['proxy', '--node', node, '--agent', `unix:${runDir}/agent.sock`, '--run-dir', runDir],
      ...[
        ...this.#nodePaths(node),
        '--workers',
        String(this.options.workersPerProxy),
        '--shutdown-timeout',
        '1000',
        '--access-log',
        'errors',
      ],
    ]);
  }

  #nodePaths(node: NodeName): string[] {
    return ['--bpf-dir', this.layout.nodeBpfDir(node), '--mesh-netns', `/run/netns/${this.layout.meshNamespace(node)}`];
  }

  /** A process in a pod's namespace, with the pod's hosts file. */
  startInPod(pod: string, name: string, command: readonly string[]): Promise<LabProcess> {
    return this.#start(name, this.layout.podNamespace(pod), command, this.layout.podHostsFile(pod));
  }

  startWeft(name: string, namespace: string, args: readonly string[]): Promise<LabProcess> {
    return this.#start(name, namespace, [process.execPath, this.options.weft, ...args]);
  }

  /** The running or last process of that name. */
  process(name: string): LabProcess {
    const found = this.#processes.get(name);
    if (found === undefined) throw new Error(`no process "${name}": there are ${[...this.#processes.keys()].join(', ')}`);
    return found;
  }

  pod(name: string): Pod {
    const pod = this.#pods.get(name);
    if (pod === undefined) throw new Error(`no pod "${name}"`);
    return pod;
  }

  /** One more pod; nothing runs in it yet. */
  async addPod(pod: Pod): Promise<void> {
    if (this.#closing) throw new LabError('the lab is closing');
    this.#pods.set(pod.name, pod);
    recordPod(this.layout, pod.name);
    writeFileSync(this.layout.podHostsFile(pod.name), this.options.hosts);
    this.#building = addPod(this.layout, pod);
    await this.#building;
  }

  /** Its network, as a CNI does; its processes are the caller's. */
  async removePod(name: string): Promise<void> {
    await removePod(this.layout, this.pod(name));
    this.#pods.delete(name);
  }

  /** Starts a process again as it was started the first time. */
  async restart(name: string): Promise<LabProcess> {
    const { spec } = this.process(name);
    return this.#track(await LabProcess.start(spec));
  }

  /** Waits for a condition; fails with the process's last words if it ends, or after 30 s. */
  async #ready(started: LabProcess, condition: () => boolean): Promise<void> {
    for (let waited = 0; !condition(); waited += 5) {
      if (started.exit !== null) throw new LabError(`${started.spec.name} ended at once. Its last words:\n${started.lastLines()}`);
      if (waited > READY_TIMEOUT_MS)
        throw new LabError(`${started.spec.name} is not ready after 30 s. Its last words:\n${started.lastLines()}`);
      await delay(5);
    }
  }

  async #start(name: string, namespace: string, command: readonly string[], hostsFile: string | null = null): Promise<LabProcess> {
    if (this.#closing) throw new LabError('the lab is closing');
    const spec: ProcessSpec = {
      ...{ name, namespace, command, hostsFile, instance: this.layout.instance },
      environment: { NODE_OPTIONS: '' },
      logFile: `${this.layout.logDir}/${name}.log`,
    };
    return this.#track(await LabProcess.start(spec));
  }

  #track(started: LabProcess): LabProcess {
    if (this.#closing) started.signal('SIGKILL');
    this.#processes.set(started.spec.name, started);
    void started.exited.then(() => {
      if (!this.#closing) this.onUnexpectedExit(started);
    });
    return started;
  }

  /** Stops every process, clients first. Returns complaints about those that had to be killed. Idempotent. */
  async stop(): Promise<string[]> {
    this.#closing = true;
    const complaints: string[] = [];
    for (const group of ['pod-', 'proxy-', 'agent-', 'controller', 'etcd']) {
      const members = [...this.#processes.values()].filter(({ spec, exit }) => spec.name.startsWith(group) && exit === null);
      const stopped = await Promise.all(members.map(async (member) => ({ member, gently: await member.stop(STOP_GRACE_MS) })));
      for (const { member, gently } of stopped) {
        if (!gently) complaints.push(`${member.spec.name} did not end within ${STOP_GRACE_MS / 1000} s of SIGTERM`);
      }
    }
    return complaints;
  }

  /** Stops everything and removes all there is. Idempotent. Returns what stop() does. */
  close(): Promise<string[]> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<string[]> {
    const complaints = await this.stop();
    await this.#building.catch(() => undefined);
    await removeInstance(this.layout, [...this.#pods.keys()]);
    return complaints;
  }
}
