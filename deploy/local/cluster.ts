// Brings a lab to life: control plane, nodes, shop, manifests by the real `weft apply --wait`; ready when everything is captured.
// One step after another where they depend on each other, and a line for each.
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { EndpointHealth } from '../../api/gen/mesh/v1/model.js';
import type { ProxyState, StatusResponse } from '../../api/gen/mesh/v1/status.js';
import { nodeStatus, withController } from '../../cli/connection.js';
import { CommandFailed, run } from './command-line.js';
import { compiled, source } from './compiled.js';
import { Lab, LabError } from './lab.js';
import { NODES } from './layout.js';
import { hostsFile, SHOP_NAMESPACE, SHOP_PODS, SHOP_SERVICES } from './shop/plan.js';
import { Shop } from './shop/shop.js';

export interface ClusterOptions {
  readonly instance: string;
  readonly workersPerProxy: number;
}

/** Told when a step is done. */
export type Progress = (step: string, seconds: number) => void;

const READY_TIMEOUT_MS = 30_000;
/** The real command. */
export const WEFT = compiled('cli/main.js');
const MANIFESTS = source('deploy/local/shop/manifests');

export class Cluster {
  constructor(
    readonly lab: Lab,
    readonly shop: Shop,
    readonly progress: Progress,
  ) {}

  static async create(options: ClusterOptions, progress: Progress): Promise<Cluster> {
    const began = performance.now();
    const lab = await Lab.create({
      ...{ instance: options.instance, workersPerProxy: options.workersPerProxy, weft: WEFT },
      ...{ pods: SHOP_PODS, services: SHOP_SERVICES, hosts: hostsFile(SHOP_SERVICES) },
    });
    progress(`network: ${NODES.length} hosts, ${SHOP_PODS.length} pods`, since(began));
    return new Cluster(lab, new Shop(lab), progress);
  }

  /** Throws LabError with the last words of whoever didn't get ready. */
  async start(): Promise<void> {
    const shop = this.#step('sample shop: web, cart, order, catalog v1 and v2', () => this.shop.start());
    shop.catch(() => undefined); // Awaited below; must not count as unhandled while the others start.
    await this.#step('etcd', () => this.#startEtcd());
    await this.#step('controller', () => this.lab.startController());
    await this.#step('agents and proxies of node-a and node-b', () => this.#startNodes());
    await shop;
    await this.#step('weft apply -f deploy/local/shop/manifests --wait', () => this.apply([this.manifests()], ['--wait']));
    await this.#step('every pod captured, both proxies on the newest revision', () => this.captured());
  }

  async #step<Result>(name: string, work: () => Promise<Result>): Promise<Result> {
    const began = performance.now();
    const result = await work();
    this.progress(name, since(began));
    return result;
  }

  async #startEtcd(): Promise<void> {
    const etcd = await this.lab.startEtcd();
    await until(
      async () => (readFileSync(etcd.spec.logFile, 'utf8').includes('ready to serve client requests') ? true : null),
      () => `etcd is not ready. Its last words:\n${etcd.lastLines()}`,
    );
  }

  async #startNodes(): Promise<void> {
    await Promise.all(
      NODES.map(async (node) => {
        await this.lab.startAgent(node);
        await this.lab.startProxy(node);
      }),
    );
    await until(
      () =>
        withController(this.lab.controllerAddress, async (controller) =>
          (await controller.listNodes()).nodes.filter((node) => node.connected).length === NODES.length ? true : null,
        ),
      () =>
        `not every agent has registered. Their last words:\n${NODES.map((node) => this.lab.process(`agent-${node}`).lastLines()).join('\n')}`,
    );
  }

  /** The shop's manifests with this instance's namespaces. */
  manifests(): string {
    const { instance, runDir } = this.lab.layout;
    if (instance === 'weft') return MANIFESTS;
    const copy = `${runDir}/manifests`;
    mkdirSync(copy, { recursive: true });
    cpSync(MANIFESTS, copy, { recursive: true });
    for (const file of readdirSync(copy)) {
      const text = readFileSync(`${copy}/${file}`, 'utf8');
      writeFileSync(`${copy}/${file}`, text.replaceAll('/run/netns/weft-pod-', `/run/netns/${instance}-pod-`));
    }
    return copy;
  }

  /** The real CLI; returns what it printed. Throws LabError with what it complained about. */
  async apply(files: readonly string[], flags: readonly string[]): Promise<string> {
    const args = ['apply', '--controller', this.lab.controllerAddress, ...files.flatMap((file) => ['-f', file]), ...flags];
    try {
      return await run(process.execPath, [WEFT, ...args]);
    } catch (error) {
      if (error instanceof CommandFailed) throw new LabError(`weft ${args.join(' ')}\n${error.stderr}`);
      throw error;
    }
  }

  statuses(): Promise<StatusResponse[]> {
    return Promise.all(NODES.map((node) => nodeStatus(node, this.lab.nodeStatusAddress(node))));
  }

  /** Waits until every pod of every node is captured, and every proxy is on its agent's newest revision and knows every pod. */
  async captured(): Promise<void> {
    let missing: string[] = [];
    await until(
      async () => {
        missing = (await this.statuses()).flatMap(missingOn);
        return missing.length === 0 ? true : null;
      },
      () => `not ready: ${missing.join('; ')}\nLogs are in ${this.lab.layout.logDir}.\n${this.#lastWords()}`,
    );
  }

  #lastWords(): string {
    return NODES.flatMap((node) => [`agent-${node}`, `proxy-${node}`])
      .map((name) => `--- ${name}\n${this.lab.process(name).lastLines(6)}`)
      .join('\n');
  }
}

function missingOn(status: StatusResponse): string[] {
  const missing: string[] = [];
  const expected = SHOP_PODS.filter((pod) => pod.node === status.node);
  for (const pod of expected) {
    const found = status.capture?.workloads.find((workload) => workload.workload === `${SHOP_NAMESPACE}/${pod.name}`);
    if (found?.state !== 'captured')
      missing.push(`${pod.name} is ${found === undefined ? 'unknown' : `${found.state} (${found.detail})`} on ${status.node}`);
  }
  if (status.proxy === undefined) missing.push(`the proxy of ${status.node} does not answer: ${status.proxyError}`);
  else if (status.proxy.appliedRevision < status.appliedRevision)
    missing.push(`the proxy of ${status.node} is on revision ${status.proxy.appliedRevision} of ${status.appliedRevision}`);
  else missing.push(...endpointsMissingIn(status.proxy, status.node));
  return missing;
}

/** Pods are captured before their registration has gone through the controller to every proxy: until then a service has no endpoint. */
function endpointsMissingIn({ clusters }: ProxyState, node: string): string[] {
  return SHOP_SERVICES.flatMap(({ namespace, name, port, pods }) => {
    const endpoints = clusters.find((cluster) => cluster.name === `${namespace}/${name}:${port}`)?.endpoints ?? [];
    const ready = (pod: string) =>
      endpoints.filter(({ workload, health }) => workload === `${SHOP_NAMESPACE}/${pod}` && health === EndpointHealth.READY).length;
    // One endpoint for each address family.
    return pods.filter((pod) => ready(pod) < 2).map((pod) => `the proxy of ${node} does not know ${pod} behind ${name} yet`);
  });
}

/** Polls every 20 ms until there is a result; an error of `probe` counts as "not yet". Throws LabError after 30 s. */
export async function until<Result>(
  probe: () => Promise<Result | null>,
  explain: () => string,
  timeoutMs = READY_TIMEOUT_MS,
): Promise<Result> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    let reason = '';
    const result = await probe().catch((error: Error) => {
      reason = error.message;
      return null;
    });
    if (result !== null) return result;
    if (performance.now() > deadline) throw new LabError(`${explain()}${reason === '' ? '' : `\n${reason}`}`);
    await delay(20);
  }
}

function since(began: number): number {
  return (performance.now() - began) / 1000;
}
