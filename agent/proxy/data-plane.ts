// The model in force: applies updates, compiles them off the hot path, publishes each generation to every worker, opens and closes
// gateway listeners. One update after the other; an update has been applied when the next request is decided by it.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { Rejection } from '../../api/gen/mesh/v1/discovery.js';
import type { PodHello } from '../link/pod-channel.js';
import { isHostProcess, Model, type ModelUpdate } from '../model/model.js';
import { HOST_MARK } from '../native/capture.js';
import {
  type EngineAddon,
  type EngineOptions,
  type ForwardingSpec,
  type ListenerSpec,
  type ListenerTlsSpec,
  MAX_TENANTS,
} from '../native/engine.js';
import type { MessageSocketAddon } from '../native/message-socket.js';
import type { Namespaces } from '../native/netns.js';
import { BalanceReport } from './balance-report.js';
import type { ProxyConfig } from './config.js';
import { EndpointUpkeep, WARMING_INTERVAL_MS } from './endpoint-upkeep.js';
import type { View } from './explain/explain.js';
import { type FilterCounts, type FilterReport, MAX_FILTERS, noCounts, without } from './filters/filter-cells.js';
import { FilterHosts } from './filters/filter-hosts.js';
import type { FilterTables } from './filters/filter-tables.js';
import { type GatewayContext, GatewayTls, HTTP_ALPN, type TicketKeys } from './gateway-tls.js';
import type { HandedSocket } from './handover/channel.js';
import type { InheritedSocket } from './handover/successor.js';
import { MAX_ENDPOINTS, MAX_RULES } from './metrics/cells.js';
import { type TenantReport, TenantTotals } from './metrics/tenant-report.js';
import { OverloadMonitor } from './overload/monitor.js';
import type { Pod, PodLink } from './pod-link.js';
import { LimitMemory } from './rate-limit/plan.js';
import type { QuotaClient } from './rate-limit/quota-client.js';
import type { OutlierEvent } from './resilience/outlier-detector.js';
import { Resilience } from './resilience/resilience.js';
import { MAX_ROWS, ROW_WORDS, Row } from './resilience/state.js';
import { sessionKeyOf } from './sessions.js';
import { admit } from './tables/admission.js';
import { ClusterRows, socketName } from './tables/clusters.js';
import { compileTables, type Generation, type TableIds } from './tables/compile.js';
import {
  DNS_LISTENERS,
  type GatewayListener,
  isHostListener,
  MAX_GATEWAY_LISTENERS,
  MESH_LISTENERS,
  POD_LISTENERS,
} from './tables/gateway-ports.js';
import { HashTables } from './tables/hash-tables.js';
import { Labels } from './tables/labels.js';
import { type OwnPlace, placeFound } from './tables/localities.js';
import { StableIds } from './tables/stable-ids.js';
import { TlsFailureLog } from './tls-failure-log.js';
import { UpstreamTls } from './upstream-tls.js';
import { type ListenerOf, WorkerPool } from './worker-pool.js';

/** How often a listener that could not be opened (its port taken, the redirection's maps not there yet) is tried again. */
const LISTEN_RETRY_MS = 1_000;
const MAX_LABELS = 16_384;
/** Long past the life of a pool, a log record and a scrape. */
const QUARANTINE_MS = 120_000;
/** Of a limit that nodes share: what a node may use before it is told its share. */
const FIRST_SHARE = 0.01;
/** Tickets live for an hour at most: two rotations are long past that. */
const TICKET_KEY_ROTATION_MS = 12 * 3_600_000;

export interface OpenListener {
  readonly id: number;
  readonly name: string;
  readonly kind: ListenerSpec['kind'];
  readonly address: string;
  readonly port: number;
  /** detect on listeners for captured traffic: what its destination declares comes first. */
  readonly protocol: 'http' | 'opaque' | 'detect';
  /** Null: plain text. */
  readonly tls: ListenerTlsSpec | null;
  /** Null: of captured traffic. */
  readonly forwarding: ForwardingSpec | null;
}

/**
 * How this host's traffic comes here. mesh: into the namespace that this process is in; `namespaces`: for processes of the host; null: started
 * in there, with no way out. pods: by address translation in each pod's own.
 */
export type CapturedTraffic =
  | { readonly by: 'mesh'; readonly namespaces: Namespaces | null; readonly bpfDir: string }
  | { readonly by: 'pods'; readonly namespaces: Namespaces; readonly link: PodLink };

/** What a predecessor left. */
export interface Inheritance {
  readonly ticketKeys: TicketKeys;
  take(kind: HandedSocket['kind'], address: string, port: number, pod?: number): readonly InheritedSocket[];
}

export class DataPlane {
  readonly pool: WorkerPool;
  readonly labels = new Labels(MAX_LABELS);
  /** The first update is in force and its listeners are open. */
  readonly isServing: Promise<void>;
  private readonly model = new Model();
  private readonly ids: TableIds;
  private readonly gatewayTls: GatewayTls;
  private readonly upstreamTls: UpstreamTls;
  readonly limits: LimitMemory;
  /** Null: this proxy shares no limit with others. */
  quotas: QuotaClient | null = null;
  private readonly toldFaults = new WeakSet<GatewayContext>();
  readonly overload: OverloadMonitor | null;
  readonly resilience: Resilience;
  readonly filters: FilterHosts;
  private readonly open = new Map<number, OpenListener>();
  /** What was counted under an id before it changed hands. */
  private readonly endpointBase = { requests: new Float64Array(MAX_ENDPOINTS), errors: new Float64Array(MAX_ENDPOINTS) };
  private readonly tenantTotals = new TenantTotals(() => this.pool.memories.map(({ tenants }) => tenants));
  private readonly filterBase = new Map<number, FilterCounts>();
  private readonly ruleBase = new Float64Array(MAX_RULES);
  private current: Generation | null = null;
  private balanceReport: BalanceReport | null = null;
  private handle: number | null = null;
  private retry: NodeJS.Timeout | null = null;
  private warming: NodeJS.Timeout | null = null;
  private readonly upkeep: EndpointUpkeep;
  private readonly lost = new Set<string>();
  private closed: readonly string[] = [];
  /** Pods in whose namespaces every worker listens. */
  private readonly joined = new Set<number>();
  private chain: Promise<unknown> = Promise.resolve();
  private serve: () => void = () => undefined;

  constructor(
    private readonly config: ProxyConfig,
    private readonly addon: EngineAddon & MessageSocketAddon,
    private readonly captured: CapturedTraffic | null,
    private readonly log: Logger,
    private readonly inheritance: Inheritance | null,
  ) {
    this.isServing = new Promise((resolve) => {
      this.serve = resolve;
    });
    this.gatewayTls = new GatewayTls(addon, undefined, inheritance?.ticketKeys);
    this.upstreamTls = new UpstreamTls(addon);
    this.rotateTicketKeysIn(TICKET_KEY_ROTATION_MS - this.gatewayTls.keys.ageMs);
    const failures = new TlsFailureLog(log);
    this.pool = new WorkerPool({
      workers: config.workers,
      limits: config.limits,
      counters: addon.counterNames().length,
      accessLog: config.accessLog.mode !== 'off',
      heartbeatMap: captured?.by === 'mesh' ? `${captured.bpfDir}/maps/workers` : null,
      host: captured?.by === 'mesh' && captured.namespaces !== null ? hostOptions(captured.namespaces, captured.bpfDir) : null,
      podAliveMs: captured?.by === 'pods' ? captured.link.hello.aliveMs : null,
      via: config.via,
      log,
      onFilterStuck: (key) => this.filters.stuck(key),
      onRestart: () => this.filters.renew(),
      onTlsFailures: (some) => failures.add(some),
      closeDescriptor: (descriptor) => addon.closeDescriptor(descriptor),
    });
    this.upkeep = new EndpointUpkeep(this.pool.states, () => performance.now());
    this.resilience = new Resilience(this.pool.resilience, this.pool.states, {
      now: () => performance.now(),
      random: Math.random,
      onEvent: (cluster, event) => this.tellOutlier(cluster, event),
    });
    this.filters = new FilterHosts(config.workers, addon, (slot, message) => this.pool.tellFilters(slot, message), log);
    this.overload = config.overload === null ? null : new OverloadMonitor(this.pool, config.workers, config.overload, log);
    this.overload?.start();
    // A proxy on files is alone with its limits.
    this.limits = new LimitMemory(engineNowUs, config.source.kind === 'static' ? 1 : FIRST_SHARE);
    const ids = (capacity: number, options: { isBusy?: (id: number) => boolean; onReuse?: (id: number) => void } = {}): StableIds =>
      new StableIds({ capacity, quarantineMs: QUARANTINE_MS, now: () => performance.now(), ...options });
    this.ids = {
      endpoints: ids(MAX_ENDPOINTS, {
        isBusy: (id) => Atomics.load(this.pool.outstanding, id) > 0,
        onReuse: (id) => {
          this.endpointBase.requests[id] = this.sum((cells) => cells.endpointRequests[id]!);
          this.endpointBase.errors[id] = this.sum((cells) => cells.endpointErrors[id]!);
          this.pool.states.forget(id);
        },
      }),
      rules: ids(MAX_RULES, {
        onReuse: (id) => {
          this.ruleBase[id] = this.sum((cells) => cells.ruleRequests[id]!);
        },
      }),
      listeners: ids(MAX_GATEWAY_LISTENERS),
      tenants: ids(MAX_TENANTS - 1, {
        isBusy: (id) => this.tenantTotals.isBusy(id + 1),
        onReuse: (id) => this.tenantTotals.forget(id + 1),
      }),
      guards: ids(MAX_ROWS - 1, { isBusy: (id) => Atomics.load(this.pool.resilience.rows, (id + 1) * ROW_WORDS + Row.Active) > 0 }),
      filters: ids(MAX_FILTERS, { onReuse: (slot) => void this.filterBase.set(slot, this.filterCounts(slot)) }),
      labels: this.labels,
      upstreamTls: this.upstreamTls,
      sessionKey: sessionKeyOf(join(config.runDir, 'session.key')),
      hashTables: new HashTables(),
      clusterRows: new ClusterRows(),
      limits: this.limits,
    };
  }

  get generation(): Generation | null {
    return this.current;
  }

  /** What is decided by; null before the first update. */
  get view(): View | null {
    const { current, handle, model, pool } = this;
    if (current === null || handle === null) return null;
    return { model, generation: current, handle, outstanding: pool.outstanding, states: pool.states, resilience: pool.resilience };
  }

  /** Of the last update in force; 0 before the first. */
  get revision(): number {
    return this.current === null ? 0 : this.model.revision;
  }

  /** Of the generation in force; null: there is none yet. */
  get balance(): BalanceReport | null {
    return this.balanceReport;
  }

  get listeners(): readonly OpenListener[] {
    return [...this.open.values()];
  }

  tenants(): TenantReport[] {
    return this.tenantTotals.report(this.current?.tenants ?? new Map());
  }

  /** What should be open and is not, and why; and what of the configuration this software is too old to know. */
  get faults(): readonly string[] {
    const { notice } = this.model;
    return [...this.closed, ...this.filters.faults, ...(notice === null ? [] : [notice])];
  }

  /** What a predecessor serves and this one wants to, and can't. */
  get lostListeners(): readonly string[] {
    return [...this.lost];
  }

  get ticketKeys(): TicketKeys {
    return this.gatewayTls.keys;
  }

  /** Connections of clients. */
  get openConnections(): number {
    const slot = this.addon.counterNames().indexOf('downstream_open');
    return this.pool.memories.reduce((total, { counters }) => total + counters[slot]!, 0);
  }

  /** Duplicates of all listening sockets, the caller's to close. */
  async shareSockets(): Promise<readonly (HandedSocket & { readonly descriptor: number })[]> {
    const counts = new Map<string, number>();
    const countOf = (key: string): number => {
      const count = counts.get(key) ?? 0;
      counts.set(key, count + 1);
      return count;
    };
    const shared = await this.pool.share();
    return shared.flatMap(({ id, pod, sockmapKey, descriptor }): (HandedSocket & { readonly descriptor: number })[] => {
      if (pod !== null) return [{ ...this.podListener(id), pod, slot: countOf(`${id} ${pod}`), descriptor }];
      const listener = this.open.get(id);
      // A successor registers its own sockets for processes of the host, a worker's in its place.
      const kind = listener?.kind;
      if (listener === undefined || (kind !== 'gateway' && kind !== 'outbound' && kind !== 'inbound')) {
        this.addon.closeDescriptor(descriptor);
        return [];
      }
      const { address, port } = listener;
      const slot = sockmapKey === null ? countOf(`${id}`) : Math.floor(sockmapKey / MESH_LISTENERS.length);
      return [{ kind, address, port, slot, descriptor }];
    });
  }

  /** The same in every pod. */
  private podListener(id: number): { readonly kind: 'pod-outbound' | 'pod-inbound'; readonly address: string; readonly port: number } {
    const found = POD_LISTENERS.find((listener) => listener.id === id);
    if (found === undefined || this.captured?.by !== 'pods') throw new Error(`listener ${id} is no pod's`);
    const { outboundPort, inboundPort } = this.captured.link.hello;
    return { kind: found.kind, address: found.address, port: found.kind === 'pod-outbound' ? outboundPort : inboundPort };
  }

  /** Of those that some rule has. */
  filterReports(): FilterReport[] {
    const bindings = new Map((this.current?.filters?.chains ?? []).flat().map((binding) => [binding.name, binding]));
    const states = new Map(this.filters.states.map((state) => [state.name, state]));
    return [...bindings.values()].map(({ name, slot }) => {
      const { isRunning = false, restarts = 0, heapBytes = 0 } = states.get(name) ?? {};
      return { name, isRunning, restarts, heapBytes, counts: this.filterCounts(slot, this.filterBase.get(slot)) };
    });
  }

  private filterCounts(slot: number, base: FilterCounts = noCounts()): FilterCounts {
    const counts = noCounts();
    if (slot >= 0) for (const { filters } of this.pool.memories) filters.addTo(slot, counts);
    return without(counts, base);
  }

  requestsOfRule(id: number): number {
    return id < 0 ? 0 : this.sum((cells) => cells.ruleRequests[id]!) - this.ruleBase[id]!;
  }

  trafficOfEndpoint(id: number): { requests: number; errors: number; outstanding: number } {
    if (id < 0) return { requests: 0, errors: 0, outstanding: 0 };
    return {
      requests: this.sum((cells) => cells.endpointRequests[id]!) - this.endpointBase.requests[id]!,
      errors: this.sum((cells) => cells.endpointErrors[id]!) - this.endpointBase.errors[id]!,
      outstanding: Math.max(0, Atomics.load(this.pool.outstanding, id)),
    };
  }

  /**
   * Resolves when every worker decides by the update: `rejected` resources were left as they were, `closed` are listeners that could
   * not be opened, in words.
   */
  apply(update: ModelUpdate): Promise<{ readonly rejected: Rejection[]; readonly closed: string[] }> {
    const applied = this.chain.then(() => this.applyNow(update));
    this.chain = applied.catch(() => undefined);
    return applied;
  }

  private async applyNow(update: ModelUpdate): Promise<{ rejected: Rejection[]; closed: string[] }> {
    const { built, rejected } = admit(this.model, update, {
      build: () => this.build(),
      discard: ({ handle }) => this.addon.releaseTables(handle),
    });
    const { handle, next } = built;
    this.upkeep.prepare([...next.clusters, ...next.variants]);
    this.keepWarming();
    for (const warning of next.warnings) this.log.warn({ revision: update.revision }, warning);
    for (const { name, error } of rejected)
      this.log.warn({ revision: update.revision, resource: name }, `${name} refused, its last good version is kept: ${error}`);
    this.resilience.configure(next.guarded);
    const instead = await this.filters.want(next.wantedFilters);
    const filters = boundTo(next.filters, instead);
    this.filters.deliver();
    await this.pool.publish({
      handle,
      buffer: next.buffer,
      patterns: next.patterns,
      limits: next.limits,
      sessions: next.sessions,
      filters,
    });
    this.filters.deliver();
    this.filters.retire(new Set([...next.wantedFilters.keys(), ...instead.values()]));
    if (this.handle !== null) this.addon.releaseTables(this.handle);
    this.handle = handle;
    this.upstreamTls.releaseUnused();
    this.current = next;
    this.balanceReport = new BalanceReport(next, this.pool.states, this.pool.outstanding);
    const closed = await this.reconcileListeners();
    for (const text of closed) this.log.error(text);
    this.serve();
    this.log.info(
      { revision: update.revision, generation: next.generation, services: this.model.services.size, routes: this.model.routes.size },
      `revision ${update.revision} is in force`,
    );
    return { rejected, closed };
  }

  /** Tables of the model as it is, in the engine too. */
  private build(): { readonly handle: number; readonly next: Generation } {
    const { mesh, node, tenantWeights } = this.config;
    const generation = (this.current?.generation ?? 0) + 1;
    const next = compileTables(this.model, generation, mesh === null ? null : node, this.ids, tenantWeights, this.place());
    return { handle: this.addon.createTables(next.spec), next };
  }

  private place(): OwnPlace {
    const { node, place } = this.config;
    if (place !== null) return { ...place, node };
    return {
      ...placeFound(
        node,
        [...this.model.endpoints.values()].flatMap((endpoints) => [...endpoints.values()]),
      ),
      node,
    };
  }

  private keepWarming(): void {
    if (this.warming !== null || !this.upkeep.isWarming) return;
    this.warming = setInterval(() => {
      this.upkeep.warm();
      if (this.upkeep.isWarming || this.warming === null) return;
      clearInterval(this.warming);
      this.warming = null;
    }, WARMING_INTERVAL_MS);
    this.warming.unref();
  }

  private tellOutlier(cluster: string, event: OutlierEvent): void {
    const found = this.current?.spec.endpoints.find(({ id }) => id === event.endpoint);
    const endpoint = found === undefined ? `endpoint ${event.endpoint}` : socketName(found.address, found.port);
    if (event.kind === 'returned') this.log.info({ cluster, endpoint }, `${endpoint} of ${cluster} takes work again`);
    else this.log.warn({ ...event, cluster, endpoint }, `${endpoint} of ${cluster} is ejected for ${event.forMs} ms: ${event.reason}`);
  }

  /** Returns what could not be opened; that is tried again until it can, or is no longer wanted. */
  private async reconcileListeners(): Promise<string[]> {
    const closed = [
      ...(await this.openMeshListeners()),
      ...(await this.openDnsListeners()),
      ...(await this.reconcilePods()),
      ...(await this.reconcileGateways(this.current?.listeners ?? [])),
    ];
    this.closed = closed;
    if (closed.length > 0 && this.retry === null) {
      this.retry = setTimeout(() => {
        this.retry = null;
        this.chain = this.chain.then(() => this.reconcileListeners());
      }, LISTEN_RETRY_MS);
      this.retry.unref();
    }
    return closed;
  }

  /** Only now that there are tables: before, connections go direct rather than to a proxy that knows nothing. */
  private async openMeshListeners(): Promise<string[]> {
    const { captured } = this;
    if (captured?.by !== 'mesh') return [];
    const hasHostProcess = [...this.model.workloads.values()].some(
      (workload) => workload.node === this.config.node && isHostProcess(workload),
    );
    const failures: string[] = [];
    for (const [index, listener] of MESH_LISTENERS.entries()) {
      const { id, kind, address, port } = listener;
      if (isHostListener(listener) && !hasHostProcess) this.closeListener(id);
      if (this.open.has(id) || (isHostListener(listener) && !hasHostProcess)) continue;
      const name = `${kind}-${address.includes(':') ? 'v6' : 'v4'}`;
      const sockmap = (slot: number) => ({ map: `${captured.bpfDir}/maps/listeners`, key: slot * MESH_LISTENERS.length + index });
      const spec = (slot: number): ListenerSpec => ({
        id,
        kind,
        pod: null,
        address,
        port,
        protocol: 'detect',
        sockmap: sockmap(slot),
        forwarding: null,
        tls: null,
        proxyProtocol: false,
      });
      const errors = await this.openListener(
        { id, name, kind, address, port, protocol: 'detect', tls: null, forwarding: null },
        spec,
        isHostListener(listener) ? 'each' : 'shared',
      );
      // A host without IPv6: its processes have no connections to capture.
      if (address === '::1' && errors.some((error) => /EAFNOSUPPORT|EADDRNOTAVAIL/.test(error))) continue;
      failures.push(...errors);
    }
    return failures;
  }

  /** Queries come by sockmap alone, which an older agent has not made. */
  private async openDnsListeners(): Promise<string[]> {
    const { captured } = this;
    if (captured?.by !== 'mesh') return [];
    const map = `${captured.bpfDir}/maps/dns_listeners`;
    if (!existsSync(map)) return [];
    const failures: string[] = [];
    for (const [index, { id, kind, address, port }] of DNS_LISTENERS.entries()) {
      if (this.open.has(id)) continue;
      const name = `dns-${address.includes(':') ? 'v6' : 'v4'}`;
      const common = { id, kind, address, port, tls: null, forwarding: null } as const;
      const spec = (slot: number): ListenerSpec => ({
        ...common,
        pod: null,
        protocol: 'opaque',
        sockmap: { map, key: slot * DNS_LISTENERS.length + index },
        proxyProtocol: false,
      });
      failures.push(...(await this.openListener({ ...common, name, protocol: 'opaque' }, spec)));
    }
    return failures;
  }

  /** The model is in force; which pods there are says the agent, whenever it knows. */
  followPods(): void {
    if (this.captured?.by !== 'pods') return;
    this.captured.link.follow(() => {
      this.chain = this.chain.then(() => (this.current === null ? undefined : this.reconcileListeners()));
    });
  }

  /** Resolves when fail-open pods go direct: with this proxy nobody is left to serve them. */
  async leavePods(): Promise<void> {
    if (this.captured?.by !== 'pods') return;
    this.captured.link.close();
    await this.pool.expirePods();
  }

  /** The last connection has ended: which pods there are is no matter any more. */
  stopFollowingPods(): void {
    if (this.captured?.by === 'pods') this.captured.link.close();
  }

  /** The beats begin when all workers listen. */
  private async reconcilePods(): Promise<string[]> {
    if (this.captured?.by !== 'pods') return [];
    const { link, namespaces } = this.captured;
    const released = link.takeReleased();
    const wanted = new Map(link.pods);
    const failures: string[] = [];
    for (const key of [...this.joined].filter((known) => !wanted.has(known))) {
      this.joined.delete(key);
      await this.pool.leavePod(key);
    }
    for (const pod of wanted.values()) {
      if (this.joined.has(pod.key)) continue;
      const listeners = podListeners(pod, link.hello, namespaces.channel).map((listener) => ({
        listener,
        inherited: this.inheritance?.take(listener.kind, listener.address, listener.port, pod.key) ?? [],
      }));
      const error = await this.pool.joinPod(pod.key, listeners);
      if (error === null) this.joined.add(pod.key);
      else failures.push(`the proxy can't listen in ${pod.name}: ${error}`);
    }
    await this.pool.setPodBeats([...wanted.values()].filter(({ key }) => this.joined.has(key)).flatMap(({ beats }) => beats));
    for (const descriptor of released) this.addon.closeDescriptor(descriptor);
    return failures;
  }

  private async reconcileGateways(wanted: readonly GatewayListener[]): Promise<string[]> {
    const contexts = new Set<GatewayContext>();
    const listeners = wanted.flatMap((listener) => {
      const tls = this.tlsOf(listener, contexts);
      const forwarding = { trustedHops: listener.trustedHops ?? this.config.trustedHops, clientCert: listener.forwardClientCert };
      return tls === 'none can be served' ? [] : listener.sockets.map(({ id, address }) => ({ ...listener, id, address, tls, forwarding }));
    });
    const keep = new Map(listeners.map(({ id, protocol }) => [id, protocol]));
    for (const { id, kind, protocol } of [...this.open.values()]) {
      if (kind === 'gateway' && keep.get(id) !== protocol) this.closeListener(id);
    }
    const failures: string[] = [];
    for (const { id, name, port, address, protocol, tls, forwarding } of listeners) {
      const open = this.open.get(id);
      if (open !== undefined) {
        await this.resetListener(open, tls, forwarding);
        continue;
      }
      const wantedListener: OpenListener = { id, name, kind: 'gateway', address, port, protocol, tls, forwarding };
      const errors = await this.openListener(wantedListener, () => gatewaySpec(wantedListener));
      // A host without IPv6 still has its "every address".
      if (address === '::' && this.open.size > 0 && errors.some((error) => /EAFNOSUPPORT|EADDRNOTAVAIL/.test(error))) continue;
      failures.push(...errors);
    }
    this.gatewayTls.keepOnly(contexts);
    return failures;
  }

  /** Null: plain text. `used` gets the context, so that it is kept. Certificates that can't be served are told once. */
  private tlsOf(
    { name, protocol, passthrough, certificates, clientTrust, clientFallback, clientOptional }: GatewayListener,
    used: Set<GatewayContext>,
  ): ListenerTlsSpec | null | 'none can be served' {
    const rest: ListenerTlsSpec | null = passthrough.length > 0 ? { mode: 'passthrough', context: null } : null;
    if (certificates === null || (certificates.length === 0 && rest !== null)) return rest;
    const alpn = protocol === 'http' ? HTTP_ALPN : [];
    const found = this.gatewayTls.contextFor({ certificates, passthrough, clientTrust, clientFallback, clientOptional, alpn });
    used.add(found);
    if (!this.toldFaults.has(found)) for (const fault of found.faults) this.log.error({ listener: name }, `${name}: ${fault}`);
    this.toldFaults.add(found);
    if (found.context === null) return rest ?? 'none can be served';
    return { mode: rest === null ? 'terminate' : 'by-server-name', context: found.context };
  }

  /** Connections that are open go on with what they began with. */
  private async resetListener(open: OpenListener, tls: ListenerTlsSpec | null, forwarding: ForwardingSpec): Promise<void> {
    const isSameTls = open.tls?.context === tls?.context;
    const { trustedHops, clientCert } = forwarding;
    if (isSameTls && open.forwarding?.trustedHops === trustedHops && open.forwarding.clientCert === clientCert) return;
    await this.pool.setListener(open.id, { tls, forwarding });
    this.open.set(open.id, { ...open, tls, forwarding });
    if (isSameTls) {
      const text = `${open.name} believes ${trustedHops} proxies in front, and forwards client certificates as ${clientCert}`;
      this.log.info({ listener: open.name }, text);
      return;
    }
    this.log.info(
      { listener: open.name },
      `${open.name} has ${tls === null ? 'no TLS any more' : tls.mode === 'passthrough' ? 'TLS that passes through' : 'new certificates'}`,
    );
  }

  private closeListener(id: number): void {
    if (!this.open.delete(id)) return;
    this.pool.unlisten(id);
  }

  private async openListener(listener: OpenListener, specOf: ListenerOf, ports: 'shared' | 'each' = 'shared'): Promise<string[]> {
    const { port, error } = await this.listen(listener, specOf, ports);
    if (error === null) {
      this.open.set(listener.id, { ...listener, port });
      this.log.info({ listener: listener.name }, `${listener.name} listens on ${socketName(listener.address, port)}`);
      return [];
    }
    return [`${listener.name} can't listen on ${socketName(listener.address, listener.port)}: ${error}`];
  }

  private async listen({ id, name, kind, address, port }: OpenListener, specOf: ListenerOf, ports: 'shared' | 'each') {
    const inherited =
      kind === 'gateway' || kind === 'outbound' || kind === 'inbound' ? (this.inheritance?.take(kind, address, port) ?? []) : [];
    const answer = await this.pool.listen(id, specOf, ports, inherited);
    if (answer.error === null || inherited.length === 0) return answer;
    this.log.warn({ listener: name }, `${name} can't go on with the predecessor's sockets and opens its own: ${answer.error}`);
    const own = await this.pool.listen(id, specOf, ports);
    if (own.error !== null) this.lost.add(name);
    return own;
  }

  private rotateTicketKeysIn(ms: number): void {
    setTimeout(
      () => {
        this.gatewayTls.rotateTicketKeys();
        this.rotateTicketKeysIn(TICKET_KEY_ROTATION_MS);
      },
      Math.max(0, ms),
    ).unref();
  }

  private sum(of: (cells: WorkerPool['memories'][number]['cells']) => number): number {
    return this.pool.memories.reduce((total, { cells }) => total + of(cells), 0);
  }
}

/** CLOCK_MONOTONIC. */
export function engineNowUs(): number {
  return Number(process.hrtime.bigint() / 1_000n);
}

/** What of a new version can't run is bound to the former one. */
function boundTo(tables: FilterTables | null, instead: ReadonlyMap<string, string>): FilterTables | null {
  if (tables === null || instead.size === 0) return tables;
  const chains = tables.chains.map((chain) => chain.map((binding) => ({ ...binding, key: instead.get(binding.key) ?? binding.key })));
  return { ...tables, chains };
}

/** IPv4 and IPv6 of each: what a pod sends is redirected to its loopback, what it is sent to the interface where that arrives. */
function podListeners({ key, netns }: Pod, { outboundPort, inboundPort, mark }: PodHello, sockets: number) {
  const common = {
    protocol: 'detect',
    sockmap: null,
    forwarding: null,
    tls: null,
    proxyProtocol: false,
    pod: { key, netns, sockets, mark },
  } as const;
  return POD_LISTENERS.map(({ id, kind, address }) => ({
    ...common,
    id,
    kind,
    address,
    port: kind === 'pod-outbound' ? outboundPort : inboundPort,
  }));
}

function hostOptions({ host, channel }: Namespaces, bpfDir: string): EngineOptions['host'] {
  return { netns: host, sockets: channel, mark: HOST_MARK, flows: `${bpfDir}/maps/host_flows` };
}

function gatewaySpec({ id, address, port, protocol, tls, forwarding }: OpenListener): ListenerSpec {
  return { id, kind: 'gateway', pod: null, address, port, protocol, sockmap: null, forwarding, tls, proxyProtocol: false };
}
