// What happens to a revision on this node, in order: check → catalog → { disk, proxy, redirection } → ack; and to a verdict of this node's health
// checks: proxy, registry. Part of the agent's composition.
import type { Logger } from 'pino';
import type { RegisterRequest, Rejection, Resource, ResourceName } from '../api/gen/mesh/v1/discovery.js';
import { Endpoint, EndpointHealth, ResourceType } from '../api/gen/mesh/v1/model.js';
import { messageOf } from '../api/message-of.js';
import { VERSION } from '../api/version.js';
import type { Capture } from './capture/capture.js';
import type { AgentConfig } from './config.js';
import { Catalog } from './discovery/catalog.js';
import type { DiscoveryUpdate } from './discovery/discovery-client.js';
import { Relay } from './discovery/relay.js';
import { SnapshotStore } from './discovery/snapshot-store.js';
import { type CheckedEndpoint, endpointsToCheck, HealthChecks } from './health/health-checks.js';
import { type Model, resourceKey } from './model/model.js';
import { NodeLoad } from './registry/node-load.js';

export class NodeUpdates {
  readonly catalog = new Catalog();
  readonly relay: Relay;
  readonly store: SnapshotStore;
  readonly checks: HealthChecks;
  readonly load = new NodeLoad({ onChange: () => this.onVerdict() });
  readonly #config: AgentConfig;
  readonly #capture: Capture;
  readonly #log: Logger;
  readonly #model: Model;
  readonly #onAdmitted: (update: DiscoveryUpdate) => void;
  /** By resource: what this node refuses now. */
  #rejected = new Map<string, Rejection>();
  #isFromDisk = false;
  #checked: readonly CheckedEndpoint[] = [];
  /** The node's registration is to be sent again. */
  onVerdict: () => void = () => {};

  /** `model` is kept current here alone; `onAdmitted` is called when it has taken an update. */
  constructor(config: AgentConfig, capture: Capture, model: Model, onAdmitted: (update: DiscoveryUpdate) => void, log: Logger) {
    this.#config = config;
    this.#capture = capture;
    this.#model = model;
    this.#onAdmitted = onAdmitted;
    this.#log = log;
    this.relay = new Relay({
      catalog: this.catalog,
      onRejected: (rejections) => this.#refuse(rejections),
      onCurrent: () => capture.release(),
      log,
    });
    this.checks = new HealthChecks({ onChange: (name, verdict, detail) => this.#judge(name, verdict, detail) });
    this.store = new SnapshotStore({ stateDir: config.stateDir, node: config.node, log });
  }

  /** True until a controller has confirmed or replaced what came from disk. */
  get isFromDisk(): boolean {
    return this.#isFromDisk;
  }

  get rejected(): readonly Rejection[] {
    // Of the refusals that name no resource, the proxy's ends when it acks again.
    return [...this.#rejected.values()].filter(
      ({ type, name }) => type !== ResourceType.UNSPECIFIED || name !== 'proxy' || this.relay.isStalled,
    );
  }

  /** What of the configuration is left aside, in words. */
  get notices(): readonly string[] {
    const { notice } = this.#model;
    return notice === null ? [] : [notice];
  }

  get partlyKnown(): number {
    return this.#model.partlyKnownCount;
  }

  /** Serves from the snapshot on disk, if there is a good one. */
  async restore(): Promise<void> {
    const update = await this.store.load();
    if (update === null) return;
    this.#isFromDisk = true;
    this.#admit(update);
    await this.#redirect();
    this.#log.info(
      { revision: update.revision, resources: update.resources.length },
      `serving revision ${update.revision} from ${this.store.path}`,
    );
  }

  /** A controller accepted our resume token: what we have is current, or about to be. */
  confirm(): void {
    this.#isFromDisk = false;
  }

  /** Resolves when the node runs on the revision: redirection reconciled, and acked by the proxy if one is connected. */
  async apply(update: DiscoveryUpdate): Promise<readonly Rejection[]> {
    this.#isFromDisk = false;
    const refused = this.#admit(update);
    this.store.schedule(this.catalog);
    this.relay.publish();
    const isOfWorkloads = touches(update, ResourceType.WORKLOAD);
    const [byProxy, byCapture] = await Promise.all([this.relay.acked(update.revision), isOfWorkloads ? this.#redirect() : []]);
    const rejected = new Map([...refused, ...byCapture, ...byProxy].map((rejection) => [resourceKey(rejection), rejection]));
    this.#refuse([...rejected.values()]);
    for (const { type, name, error } of refused) {
      this.#log.warn(
        { revision: update.revision, type: ResourceType[type], name, error },
        'a resource is refused; its last good version stays',
      );
    }
    return [...rejected.values()];
  }

  /** For the registry: all of the node but what registered itself. */
  registration(): Omit<RegisterRequest, 'instances'> {
    const { node, zone, region, statusAdvertise } = this.#config;
    const workloads = this.#capture.running().map(({ workload, addresses }) => ({
      name: `${workload.namespace}/${workload.name}`,
      addresses: [...addresses],
      health: EndpointHealth.READY,
    }));
    const health = { failing: this.checks.failing(), pending: this.catalog.token === null };
    const idlePercent = this.load.idlePercent ?? undefined;
    return { node, zone, region, version: VERSION, statusAddress: statusAdvertise, workloads, health, idlePercent };
  }

  #refuse(rejections: readonly Rejection[]): void {
    for (const rejection of rejections) this.#rejected.set(resourceKey(rejection), rejection);
  }

  #admit(update: DiscoveryUpdate): readonly Rejection[] {
    this.#forget(update);
    const refused = this.#model.apply(update);
    this.catalog.apply(update, new Set(refused.map(resourceKey)));
    const overlaid = touches(update, ResourceType.SERVICE, ResourceType.ENDPOINT) ? this.#check(update.resources) : [];
    this.#onAdmitted({ ...update, resources: [...update.resources, ...overlaid] });
    return refused;
  }

  /** `told`: what the model has just taken, in place of what was put there. Returns what is put in place anew, or no longer. */
  #check(told: readonly ResourceName[]): readonly Resource[] {
    const { services, endpoints } = this.#model;
    this.load.want(weighsNode(this.#config.node, services, endpoints));
    const found = endpointsToCheck(this.#config.node, services, endpoints);
    // The model has what is put in place; what is to be compared is what the controller sent.
    this.#checked = found.map((each) => {
      const name = { type: ResourceType.ENDPOINT, name: each.name };
      const stored = this.catalog.isOverlaid(name) ? this.catalog.stored(name) : null;
      return stored === null ? each : { ...each, endpoint: Endpoint.decode(stored.body) };
    });
    this.checks.reconcile(this.#checked);
    return this.#overlay(told);
  }

  #judge(name: string, verdict: string, detail: string): void {
    if (verdict === 'failing') this.#log.warn({ endpoint: name, detail }, 'an endpoint fails its health check');
    else this.#log.info({ endpoint: name }, 'an endpoint passes its health check');
    const overlaid = this.#overlay([]);
    const { token } = this.catalog;
    if (overlaid.length > 0 && token !== null) {
      this.#onAdmitted({ full: false, revision: token.revision, token, resources: overlaid, removed: [] });
      this.relay.publish();
    }
    this.onVerdict();
  }

  /**
   * This node's proxy and proxyless clients go by this node's verdicts at once, controller or not; the other nodes hear of them through the registry.
   * Returns what changed by it, as it is now.
   */
  #overlay(told: readonly ResourceName[]): readonly Resource[] {
    const overlay = this.#checked.flatMap(({ name, endpoint }) => {
      const { check } = endpoint;
      const found = this.checks.verdictOf(name);
      if (check === undefined || found === null || found.verdict === 'unknown') return [];
      const failing = found.verdict === 'failing';
      if (failing === check.failing) return [];
      const health = failing ? Math.max(check.sourceHealth, EndpointHealth.UNHEALTHY) : check.sourceHealth;
      const body = Endpoint.encode({ ...endpoint, health, check: { ...check, failing, detail: found.reason } }).finish();
      return [{ type: ResourceType.ENDPOINT, name, body: Buffer.from(body) }];
    });
    const touched = [...this.catalog.overlay(overlay), ...told.filter((name) => this.catalog.isOverlaid(name))];
    const changed = touched.flatMap((name) => this.catalog.served(name) ?? []);
    if (changed.length > 0) this.#model.apply({ full: false, revision: this.#model.revision, resources: changed, removed: [] });
    return changed;
  }

  /** A new version or a removal ends an old rejection; so does any revision for those that name no resource. */
  #forget(update: DiscoveryUpdate): void {
    if (update.full) {
      this.#rejected = new Map();
      return;
    }
    const touched: readonly ResourceName[] = [...update.resources, ...update.removed];
    for (const name of touched) this.#rejected.delete(resourceKey(name));
    for (const [key, { type }] of this.#rejected) if (type === ResourceType.UNSPECIFIED) this.#rejected.delete(key);
  }

  /** Never throws: a redirection that fails is this node's rejection, not the end of its configuration. */
  async #redirect(): Promise<readonly Rejection[]> {
    const workloads = [...this.#model.workloads.values()].filter(({ node }) => node === this.#config.node);
    try {
      await this.#capture.reconcile(workloads);
      return [];
    } catch (error) {
      const reason = messageOf(error);
      this.#log.error({ err: error }, 'redirection could not be reconciled');
      return [
        {
          type: ResourceType.UNSPECIFIED,
          name: 'capture',
          error: `redirection could not be reconciled: ${reason}; see the log of the agent`,
        },
      ];
    }
  }
}

/** Whether clients weigh endpoints that are on the node by how busy that is. */
function weighsNode(node: string, services: Model['services'], endpoints: Model['endpoints']): boolean {
  for (const [name, { policies }] of services) {
    if (!policies.some(({ policy }) => policy?.loadBalancing?.weights !== undefined)) continue;
    for (const endpoint of endpoints.get(name)?.values() ?? []) if (endpoint.node === node) return true;
  }
  return false;
}

function touches({ full, resources, removed }: DiscoveryUpdate, ...types: readonly ResourceType[]): boolean {
  const isOne = ({ type }: ResourceName): boolean => types.includes(type);
  return full || resources.some(isOne) || removed.some(isOne);
}
