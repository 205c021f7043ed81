// `npm run chaos -- control --scenario etcd-outage`: a whole mesh (the lab's two hosts and its shop) whose etcd answers nobody for a long time: silent for the
// first half, gone for the second. Meanwhile traffic, local health and reads go on, writes fail in words, and an agent, a proxy and the controller are started
// anew; when etcd is back, all must come together. Owns the mesh, what is done to it and the verdict.
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { EndpointHealth } from '../../api/gen/mesh/v1/model.js';
import { withController } from '../../cli/connection.js';
import { Cluster, until } from '../../deploy/local/cluster.js';
import { compiled } from '../../deploy/local/compiled.js';
import { NODES, type NodeName, type Pod } from '../../deploy/local/layout.js';
import { JUDGED_PODS } from '../../deploy/local/once.js';
import type { LabProcess } from '../../deploy/local/process.js';
import type { PodOptions } from '../../deploy/local/shop/pod.js';
import { TrafficReader } from '../../deploy/local/traffic.js';

/** Requests a second that the pod web begins; each is six in the mesh. */
const RATE = 2;
const ROUND_MS = 15_000;
/** What is sent in a round and a bit less: a round waits for other things too. */
const LEAST_A_ROUND = (RATE * ROUND_MS) / 1_000 / 2;
/** In which an operator is to hear that etcd is away. */
const REFUSED_WITHIN_MS = 3_500;
const HEALTH_WITHIN_MS = 10_000;
const CONVERGED_WITHIN_MS = 60_000;
/** A process's memory may not grow by more while there is nothing to do but to try again. */
const MAX_GROWTH_BYTES = 64 * 1_048_576;
const PROCESSES = ['controller', ...NODES.flatMap((node) => [`agent-${node}`, `proxy-${node}`])];
const REFUSAL = /etcd at \S+ does not answer/;

const PROBED: Pod = { name: 'probed', node: 'node-a', v4: '10.244.1.50', v6: 'fd44:0:0:1::50' };
const PROBED_CLUSTER = 'shop/probed:80';

/** Returns the findings. Throws when the mesh does not come up. */
export async function etcdOutage(instance: string, minutes: number, logs: string | undefined): Promise<readonly string[]> {
  const cluster = await Cluster.create({ instance, workersPerProxy: 1 }, (step, seconds) => console.log(`${step} ${seconds.toFixed(1)} s`));
  const interrupted = (): void => void cluster.lab.close().then(() => process.exit(130));
  process.once('SIGINT', interrupted).once('SIGTERM', interrupted);
  try {
    await cluster.start();
    return await new Outage(cluster).run(minutes * 60_000);
  } finally {
    process.off('SIGINT', interrupted).off('SIGTERM', interrupted);
    if (logs !== undefined) cpSync(cluster.lab.layout.logDir, logs, { recursive: true });
    await cluster.lab.close();
  }
}

class Outage {
  readonly #findings: string[] = [];
  readonly #traffic = new TrafficReader(JUDGED_PODS);
  /** Processes that may end. */
  readonly #ending = new Set<LabProcess>();
  #probed!: LabProcess;
  #isControllerNew = false;
  #rounds = 0;
  #began = 0;
  #before: ReadonlyMap<string, Usage> = new Map();
  #slowestRefusalMs = 0;
  #slowestVerdictMs = 0;

  constructor(private readonly cluster: Cluster) {}

  async run(lastsMs: number): Promise<readonly string[]> {
    const { lab, shop } = this.cluster;
    lab.onUnexpectedExit = (ended) => {
      if (!this.#ending.has(ended)) this.#finding(`${ended.spec.name} ended by itself: ${ended.lastLines(5)}`);
    };
    await this.#startProbed();
    await shop.startLoad('web', { requests: null, concurrency: 4, rate: RATE });
    await sleep(ROUND_MS);
    this.#before = new Map(PROCESSES.map((name) => [name, usageOf(lab.process(name).pid)]));
    this.#began = Date.now();
    const ends = this.#began + lastsMs;
    lab.process('etcd').signal('SIGSTOP');
    const deeds = this.#deeds(lastsMs);
    while (Date.now() < ends) {
      const roundEnds = Date.now() + ROUND_MS;
      const isDue = deeds[0] !== undefined && deeds[0].at <= Date.now();
      const deed = isDue ? deeds.shift() : undefined;
      if (deed !== undefined) {
        this.#say(`${deed.name}, ${Math.round((Date.now() - this.#began) / 1_000)} s into the outage`);
        await this.#attempt(deed.name, deed.do);
      }
      await this.#round(roundEnds, deed === undefined);
    }
    for (const name of PROCESSES) this.#compare(name);
    await this.#heal();
    await shop.stopLoad('web');
    await this.#judgeTraffic();
    return this.#findings;
  }

  #deeds(lastsMs: number): { readonly at: number; readonly name: string; readonly do: () => Promise<unknown> }[] {
    const after = (share: number): number => this.#began + lastsMs * share;
    const etcd = this.cluster.lab.process('etcd');
    return [
      {
        at: after(0.25),
        name: 'the agent of node-b is killed and starts from its disk',
        do: () => this.#restart('agent-node-b', 'SIGKILL'),
      },
      { at: after(0.4), name: 'the proxy of node-b is upgraded', do: () => this.#upgradeProxy('node-b') },
      { at: after(0.5), name: 'etcd, silent until now, is killed', do: () => this.#end(etcd, 'SIGKILL') },
      { at: after(0.7), name: 'the controller is restarted', do: () => this.#restartController() },
    ];
  }

  /** What has to hold all the while. */
  async #round(untilMs: number, isQuiet: boolean): Promise<void> {
    const passed = await this.#passed();
    await this.#refusedWrite();
    await this.#read();
    if (this.#rounds++ % 4 === 0) await this.#localHealth();
    await this.#attempt('every pod is captured', () => this.cluster.captured());
    await sleep(Math.max(0, untilMs - Date.now()));
    const since = (await this.#passed()) - passed;
    // A new proxy counts from what it was handed, an agent that is away tells nothing.
    if (isQuiet && since < LEAST_A_ROUND) this.#finding(`only ${since} requests passed the proxies within ${ROUND_MS / 1_000} s`);
  }

  async #passed(): Promise<number> {
    const statuses = await this.cluster.statuses().catch((error: Error) => {
      this.#finding(`an agent did not answer: ${error.message}`);
      return [];
    });
    const { outbound } = this.#traffic.passes(statuses);
    return [...outbound.values()].reduce((sum, count) => sum + count, 0);
  }

  async #refusedWrite(): Promise<void> {
    const file = this.#manifest();
    const said = await this.cluster.apply([file], []).catch((error: Error) => error.message);
    if (!REFUSAL.test(said)) this.#finding(`weft apply said: ${said}`);
    // Without the start of the command, which takes as long as the machine is busy.
    const request = { files: [{ name: file, content: readFileSync(file, 'utf8') }], dryRun: false, asOf: 0 };
    await withController(this.cluster.lab.controllerAddress, async (controller) => {
      const began = Date.now();
      const refused = await controller.apply(request).catch((error: Error) => error.message);
      const tookMs = Date.now() - began;
      this.#slowestRefusalMs = Math.max(this.#slowestRefusalMs, tookMs);
      if (typeof refused !== 'string' || !REFUSAL.test(refused)) this.#finding(`a write was answered by ${JSON.stringify(refused)}`);
      if (tookMs > REFUSED_WITHIN_MS) this.#finding(`a write was refused after ${tookMs} ms`);
    });
  }

  /** From the controller's memory; one that has started meanwhile has none, and says so. */
  async #read(): Promise<void> {
    const { controllerAddress } = this.cluster.lab;
    const found = await withController(controllerAddress, (controller) =>
      controller.get({ kind: 'Service', namespace: 'shop', name: '' }),
    ).then(
      ({ objects }) => objects.length,
      (error: Error) => error.message,
    );
    const isRight = this.#isControllerNew ? typeof found === 'string' && REFUSAL.test(found) : typeof found === 'number' && found > 0;
    if (!isRight) this.#finding(`weft get answered: ${found}`);
  }

  /** The node of an endpoint that answers no more sends nothing there, and again when it does. */
  async #localHealth(): Promise<void> {
    const began = Date.now();
    this.#probed.signal('SIGSTOP');
    const isSeen = await this.#becomes(EndpointHealth.UNHEALTHY, ['node-a']);
    this.#slowestVerdictMs = Math.max(this.#slowestVerdictMs, Date.now() - began);
    this.#probed.signal('SIGCONT');
    if (isSeen) await this.#becomes(EndpointHealth.READY, ['node-a']);
  }

  async #heal(): Promise<void> {
    // What a node found meanwhile is to be known everywhere afterwards.
    this.#probed.signal('SIGSTOP');
    await this.#becomes(EndpointHealth.UNHEALTHY, ['node-a']);
    const began = Date.now();
    const seconds = (): string => `${((Date.now() - began) / 1_000).toFixed(1)} s`;
    await this.cluster.lab.restart('etcd');
    this.#say('etcd is back');
    await this.#attempt('an apply reaches every node', () =>
      until(
        () => this.cluster.apply([this.#manifest()], ['--wait']),
        () => 'no apply went through',
        CONVERGED_WITHIN_MS,
      ),
    );
    this.#say(`an apply had reached every node ${seconds()} later`);
    await this.#becomes(EndpointHealth.UNHEALTHY, NODES, CONVERGED_WITHIN_MS);
    this.#probed.signal('SIGCONT');
    await this.#becomes(EndpointHealth.READY, NODES, CONVERGED_WITHIN_MS);
    this.#say(`all nodes agreed on what one had found ${seconds()} later`);
    await this.#attempt('every pod is captured', () => this.cluster.captured());
  }

  async #judgeTraffic(): Promise<void> {
    const reports = await this.cluster.shop.reports();
    const calls = reports.flatMap((report) => report.calls);
    const sum = (of: 'answered' | 'failed' | 'mismatched'): number => calls.reduce((total, call) => total + call[of], 0);
    this.#say(`${sum('answered')} requests answered, ${sum('failed')} failed, ${sum('mismatched')} got another one's answer`);
    this.#say(`writes refused within ${this.#slowestRefusalMs} ms, local health seen within ${this.#slowestVerdictMs} ms at the longest`);
    for (const failure of reports.flatMap(({ failures }) => failures)) this.#finding(`a request failed: ${failure}`);
    if (sum('mismatched') > 0) this.#finding('a request got the answer to another one');
  }

  async #startProbed(): Promise<void> {
    const { lab } = this.cluster;
    await lab.addPod(PROBED);
    const options: PodOptions = {
      ...{ workload: PROBED.name, service: PROBED.name, version: 'v1', port: 8080, addresses: [PROBED.v4, PROBED.v6], calls: [] },
      controlSocket: lab.layout.podControlSocket(PROBED.name),
    };
    const program = compiled('deploy/local/shop/pod.js');
    this.#probed = await lab.startInPod(PROBED.name, 'pod-probed', [process.execPath, program, JSON.stringify(options)]);
    await this.cluster.apply([this.#manifest()], ['--wait']);
    if (!(await this.#becomes(EndpointHealth.READY, NODES))) throw new Error('the probed pod did not become ready');
  }

  /** Another one each time, so that there is something to write. */
  #manifest(): string {
    const file = join(this.cluster.lab.layout.runDir, 'probed.yaml');
    const { name, node, v4, v6 } = PROBED;
    writeFileSync(
      file,
      `apiVersion: v1
kind: Service
metadata: {name: ${name}, namespace: shop, annotations: {chaos: "${Date.now()}"}}
spec: {clusterIP: 10.96.0.50, selector: {app: ${name}}, ports: [{name: http, port: 80, targetPort: 8080, appProtocol: http}]}
---
apiVersion: mesh.weft.dev/v1
kind: Workload
metadata: {name: ${name}, namespace: shop, labels: {app: ${name}}}
spec: {node: ${node}, networkNamespace: /run/netns/${this.cluster.lab.layout.podNamespace(name)}, addresses: [${v4}, '${v6}']}
---
apiVersion: mesh.weft.dev/v1
kind: TrafficPolicy
metadata: {name: ${name}, namespace: shop}
spec: {targetRefs: [{kind: Service, name: ${name}}], healthCheck: {interval: 1s, timeout: 500ms, unhealthyThreshold: 2, http: {path: /}}}
`,
    );
    return file;
  }

  /** In what those nodes' proxies use; false, and a finding, if not in time. */
  async #becomes(health: EndpointHealth, nodes: readonly NodeName[], withinMs = HEALTH_WITHIN_MS): Promise<boolean> {
    const probe = async (): Promise<true | null> => {
      const seen = (await this.cluster.statuses())
        .filter(({ node }) => nodes.some((each) => each === node))
        .map(({ proxy }) => proxy?.clusters.find(({ name }) => name === PROBED_CLUSTER)?.endpoints ?? []);
      const is = seen.every((endpoints) => endpoints.length > 0 && endpoints.every((endpoint) => endpoint.health === health));
      return is ? true : null;
    };
    return this.#attempt(`the probed endpoint is ${EndpointHealth[health]} at ${nodes.join(' and ')}`, () =>
      until(probe, () => 'it was not', withinMs),
    );
  }

  async #end(process_: LabProcess, signal: NodeJS.Signals): Promise<void> {
    this.#ending.add(process_);
    process_.signal(signal);
    await process_.exited;
  }

  async #restart(name: string, signal: NodeJS.Signals): Promise<void> {
    await this.#end(this.cluster.lab.process(name), signal);
    await this.cluster.lab.restart(name);
    await until(
      () => this.cluster.statuses(),
      () => `${name} did not come back`,
    );
  }

  async #restartController(): Promise<void> {
    this.#compare('controller');
    await this.#end(this.cluster.lab.process('controller'), 'SIGTERM');
    await this.cluster.lab.startController();
    this.#isControllerNew = true;
  }

  async #upgradeProxy(node: NodeName): Promise<void> {
    const old = this.cluster.lab.process(`proxy-${node}`);
    this.#ending.add(old);
    await this.cluster.lab.startProxy(node);
    await old.exited;
  }

  async #attempt(what: string, work: () => Promise<unknown>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      this.#finding(`not so: ${what}: ${(error as Error).message}`);
      return false;
    }
  }

  /** Of one that is the same process still. */
  #compare(name: string): void {
    const first = this.#before.get(name);
    const { pid, bytes, cpuMs } = usageOf(this.cluster.lab.process(name).pid);
    if (first === undefined || first.pid !== pid) return;
    const share = (((cpuMs - first.cpuMs) / (Date.now() - this.#began)) * 100).toFixed(1);
    this.#say(`${name}: ${mebibytes(first.bytes)} before, ${mebibytes(bytes)} after, ${share} % of a core`);
    if (bytes - first.bytes > MAX_GROWTH_BYTES) this.#finding(`${name} grew by ${mebibytes(bytes - first.bytes)}`);
  }

  #say(text: string): void {
    console.log(`${new Date().toTimeString().slice(0, 8)} ${text}`);
  }

  #finding(text: string): void {
    this.#findings.push(text);
    this.#say(text);
  }
}

interface Usage {
  readonly pid: number;
  readonly bytes: number;
  readonly cpuMs: number;
}

const TICK_MS = 10;

function usageOf(pid: number): Usage {
  const rss = Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) * 1_024;
  // proc(5): fields 14 and 15, after a name in parentheses that may hold anything.
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1')
    .replace(/^.*\) /s, '')
    .split(' ');
  return { pid, bytes: rss, cpuMs: (Number(fields[11]) + Number(fields[12])) * TICK_MS };
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / 1_048_576)} MiB`;
}
