// The model in force: applies updates, compiles them off the hot path, publishes each generation to every worker, has its listeners opened and
// closed. One update after the other; an update has been applied when the next request is decided by it.
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { Rejection } from '../../api/gen/mesh/v1/discovery.js';
import { hostPort } from '../../api/host-port.js';
import { messageOf } from '../../api/message-of.js';
import { isHostProcess, Model, type ModelUpdate } from '../model/model.js';
import { HOST_MARK } from '../native/capture.js';
import { type EngineAddon, type EngineOptions, MAX_TENANTS } from '../native/engine.js';
import type { MessageSocketAddon } from '../native/message-socket.js';
import type { Namespaces } from '../native/netns.js';
import { PROXY_FILES } from '../run-directory.js';
import { BalanceReport } from './balance-report.js';
import type { ProxyConfig } from './config.js';
import { ConnectionFailureLog } from './connection-failure-log.js';
import { EndpointUpkeep, WARMING_INTERVAL_MS } from './endpoint-upkeep.js';
import type { View } from './explain/explain.js';
import { type FilterCounts, type FilterReport, MAX_FILTERS, noCounts, without } from './filters/filter-cells.js';
import { FilterHosts } from './filters/filter-hosts.js';
import type { FilterTables } from './filters/filter-tables.js';
import { type CapturedTraffic, type Inheritance, Listeners } from './listeners.js';
import { LoadWeights } from './load-weights.js';
import { MAX_ENDPOINTS, MAX_RULES } from './metrics/cells.js';
import { type TenantReport, TenantTotals } from './metrics/tenant-report.js';
import { OverloadMonitor } from './overload/monitor.js';
import { LimitMemory } from './rate-limit/plan.js';
import type { QuotaClient } from './rate-limit/quota-client.js';
import { type ConnectionReport, MAX_CONNECTION_SERVICES } from './resilience/connection-counts.js';
import type { OutlierEvent } from './resilience/outlier-detector.js';
import { Resilience } from './resilience/resilience.js';
import { MAX_ROWS, ROW_WORDS, Row } from './resilience/state.js';
import { sessionKeyOf } from './sessions.js';
import { admit } from './tables/admission.js';
import { CapturedMemory } from './tables/captured-addresses.js';
import { ClusterRows } from './tables/cluster-sections.js';
import { Clusters } from './tables/clusters.js';
import { compileTables, type Generation, type TableIds } from './tables/compile.js';
import { DestinationMemory } from './tables/destinations.js';
import { gatewaySocketIds } from './tables/gateway-ports.js';
import { HashTables } from './tables/hash-tables.js';
import { Labels } from './tables/labels.js';
import { type OwnPlace, placeFound } from './tables/localities.js';
import { SourceMemory } from './tables/sources.js';
import { StableIds } from './tables/stable-ids.js';
import { TlsFolder } from './tls-folder.js';
import { UpstreamTls } from './upstream-tls.js';
import { WorkerPool } from './worker-pool.js';

const MAX_LABELS = 16_384;
/** How soon files of certificates that change are read anew. */
const READING_INTERVAL_MS = 2_000;
/** Long past the life of a pool, a log record and a scrape. */
const QUARANTINE_MS = 120_000;
/** Of a limit that nodes share: what a node may use before it is told its share. */
const FIRST_SHARE = 0.01;

export class DataPlane {
  readonly pool: WorkerPool;
  readonly listeners: Listeners;
  readonly labels = new Labels(MAX_LABELS);
  /** The first update is in force and its listeners are open. */
  readonly isServing: Promise<void>;
  private readonly model = new Model();
  private readonly ids: TableIds;
  private readonly upstreamTls: UpstreamTls;
  private readonly tlsFolder: TlsFolder;
  readonly limits: LimitMemory;
  /** Null: this proxy shares no limit with others. */
  quotas: QuotaClient | null = null;
  readonly overload: OverloadMonitor | null;
  readonly resilience: Resilience;
  readonly filters: FilterHosts;
  /** What was counted under an id before it changed hands. */
  private readonly endpointBase = { requests: new Float64Array(MAX_ENDPOINTS), errors: new Float64Array(MAX_ENDPOINTS) };
  private readonly tenantTotals = new TenantTotals(() => this.pool.memories.map(({ tenants }) => tenants));
  private readonly filterBase = new Map<number, FilterCounts>();
  private readonly ruleBase = new Float64Array(MAX_RULES);
  private current: Generation | null = null;
  /** Null: nobody has asked for it yet. */
  private balanceReport: BalanceReport | null = null;
  private handle: number | null = null;
  /** How many look at those tables. */
  private readonly lookers = new Map<number, number>();
  private warming: NodeJS.Timeout | null = null;
  private reading: NodeJS.Timeout | null = null;
  private readonly upkeep: EndpointUpkeep;
  private readonly loadWeights: LoadWeights;
  private chain: Promise<unknown> = Promise.resolve();
  private serve: () => void = () => undefined;

  constructor(
    private readonly config: ProxyConfig,
    private readonly addon: EngineAddon & MessageSocketAddon,
    captured: CapturedTraffic | null,
    private readonly log: Logger,
    inheritance: Inheritance | null,
  ) {
    this.isServing = new Promise((resolve) => {
      this.serve = resolve;
    });
    this.tlsFolder = new TlsFolder(config.tlsFolder);
    if (this.tlsFolder.problem !== null) log.warn({ folder: config.tlsFolder }, this.tlsFolder.problem);
    const sessionKeyFile = join(config.runDir, PROXY_FILES.sessionKey);
    this.upstreamTls = new UpstreamTls(addon, this.tlsFolder);
    const failures = new ConnectionFailureLog(log);
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
      onRestart: (slot) => this.filters.renew(slot),
      onFailures: (some) => failures.add(some),
      closeDescriptor: (descriptor) => addon.closeDescriptor(descriptor),
    });
    this.listeners = new Listeners({
      addon,
      pool: this.pool,
      captured,
      inheritance,
      trustedHops: config.trustedHops,
      inTurn: (work) =>
        void this.inTurn(work).catch((error: unknown) => log.error({ err: error }, 'the listeners could not be reconciled')),
      log,
    });
    this.upkeep = new EndpointUpkeep(this.pool.states, () => performance.now());
    this.loadWeights = new LoadWeights(this.pool.states, engineNowUs);
    this.resilience = new Resilience(this.pool.resilience, this.pool.states, {
      now: () => performance.now(),
      random: Math.random,
      onEvent: (cluster, event) => {
        if (event.kind === 'returned') this.upkeep.restart(event.endpoint);
        this.keepWarming();
        this.tellOutlier(cluster, event);
      },
    });
    this.filters = new FilterHosts(
      config.workers,
      addon,
      (slot, message) => this.pool.tellFilters(slot, message),
      () => this.applyAgain('a filter runs now whose former version stood in for it'),
      log,
    );
    this.overload = config.overload === null ? null : new OverloadMonitor(this.pool, config.workers, config.overload, log);
    this.overload?.start();
    // A proxy on files is alone with its limits.
    this.limits = new LimitMemory(engineNowUs, config.source.kind === 'static' ? 1 : FIRST_SHARE);
    const ids = (capacity: number, options: { isBusy?: (id: number) => boolean; onReuse?: (id: number) => void } = {}): StableIds =>
      new StableIds({ capacity, quarantineMs: QUARANTINE_MS, now: () => performance.now(), ...options });
    this.ids = {
      clusters: new Clusters(
        ids(MAX_ENDPOINTS, {
          isBusy: (id) => Atomics.load(this.pool.outstanding, id) > 0,
          onReuse: (id) => {
            this.endpointBase.requests[id] = this.sum((cells) => cells.endpointRequests[id]!);
            this.endpointBase.errors[id] = this.sum((cells) => cells.endpointErrors[id]!);
            this.pool.states.forget(id);
          },
        }),
        ids(MAX_CONNECTION_SERVICES, {
          isBusy: (id) => this.pool.connections.isBusy(id),
          onReuse: (id) => this.pool.connections.forget(id),
        }),
      ),
      clusterRows: new ClusterRows(),
      captured: new CapturedMemory(),
      destinations: new DestinationMemory(),
      sources: new SourceMemory(),
      rules: ids(MAX_RULES, {
        onReuse: (id) => {
          this.ruleBase[id] = this.sum((cells) => cells.ruleRequests[id]!);
        },
      }),
      listeners: gatewaySocketIds({
        quarantineMs: QUARANTINE_MS,
        now: () => performance.now(),
        connectionsOf: (listener) => this.pool.connectionsOf(listener),
      }),
      tenants: ids(MAX_TENANTS - 1, {
        isBusy: (id) => this.tenantTotals.isBusy(id + 1),
        onReuse: (id) => this.tenantTotals.forget(id + 1),
      }),
      guards: ids(MAX_ROWS - 1, { isBusy: (id) => Atomics.load(this.pool.resilience.rows, (id + 1) * ROW_WORDS + Row.Active) > 0 }),
      filters: ids(MAX_FILTERS, { onReuse: (slot) => void this.filterBase.set(slot, this.filterCounts(slot)) }),
      labels: this.labels,
      upstreamTls: this.upstreamTls,
      sessionKey: sessionKeyOf(sessionKeyFile, (error) => {
        log.warn({ file: sessionKeyFile }, `the key of sessions can't be kept, they end with this process: ${messageOf(error)}`);
      }),
      hashTables: new HashTables(),
      limits: this.limits,
    };
  }

  get generation(): Generation | null {
    return this.current;
  }

  /** Of clusters whose policies say something of connections. */
  connectionReports(): ConnectionReport[] {
    const { clusters = [], variants = [] } = this.current ?? {};
    const found = [...clusters, ...variants].flatMap(({ connections }) => connections ?? []);
    const services = new Map(found.map(({ name, policy }) => [name, policy.service]));
    return [...services].map(([name, service]) => this.pool.connections.report(name, service));
  }

  /** What is decided by is kept until `look` is through; null before the first update. */
  async looked<Result>(look: (view: View) => Promise<Result>): Promise<Result | null> {
    const { current, handle, model, pool, filters } = this;
    if (current === null || handle === null) return null;
    const programs = { tables: current.filters, program: (key: string) => filters.program(key) };
    const { outstanding, states, resilience } = pool;
    this.lookers.set(handle, (this.lookers.get(handle) ?? 0) + 1);
    try {
      const { limits } = this.config;
      return await look({ model, generation: current, handle, outstanding, states, resilience, filters: programs, limits });
    } finally {
      const others = this.lookers.get(handle)! - 1;
      if (others > 0) this.lookers.set(handle, others);
      else this.lookers.delete(handle);
      if (handle !== this.handle) this.releaseUnseen(handle);
    }
  }

  private releaseUnseen(handle: number): void {
    if (!this.lookers.has(handle)) this.addon.releaseTables(handle);
  }

  /** Of the last update in force; 0 before the first. */
  get revision(): number {
    return this.current === null ? 0 : this.model.revision;
  }

  /** Of the generation in force; null: there is none yet. */
  get balance(): BalanceReport | null {
    if (this.current === null) return null;
    this.balanceReport ??= new BalanceReport(this.current, this.pool.states, this.pool.outstanding);
    return this.balanceReport;
  }

  tenants(): TenantReport[] {
    return this.tenantTotals.report(this.current?.tenants ?? new Map());
  }

  /** What should be open and is not, and why; and what of the configuration this software is too old to know. */
  get faults(): readonly string[] {
    const { notice } = this.model;
    return [...this.listeners.closed, ...this.filters.faults, ...(notice === null ? [] : [notice])];
  }

  /** Connections of clients. */
  get openConnections(): number {
    const slot = this.addon.counterNames().indexOf('downstream_open');
    return this.pool.memories.reduce((total, { counters }) => total + counters[slot]!, 0);
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
  apply(update: ModelUpdate): Promise<{ readonly rejected: Rejection[]; readonly closed: readonly string[] }> {
    return this.inTurn(() => this.applyNow(update));
  }

  private inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    const done = this.chain.then(work);
    this.chain = done.catch(() => undefined);
    return done;
  }

  private async applyNow(update: ModelUpdate): Promise<{ rejected: Rejection[]; closed: readonly string[] }> {
    const { built, rejected } = admit(this.model, update, {
      build: () => this.build(),
      discard: ({ handle }) => this.addon.releaseTables(handle),
    });
    const { handle, next } = built;
    const clusters = [...next.clusters, ...next.variants];
    this.upkeep.prepare(clusters);
    this.loadWeights.configure(clusters);
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
    const former = this.handle;
    this.handle = handle;
    if (former !== null) this.releaseUnseen(former);
    this.upstreamTls.releaseUnused();
    this.keepReading();
    this.current = { ...next, filters };
    this.balanceReport = null;
    const closed = await this.listeners.reconcile({ gateways: next.listeners, hasHostProcesses: this.hasHostProcesses() });
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
    return { ...placeFound(node, this.model.allEndpoints()), node };
  }

  private hasHostProcesses(): boolean {
    for (const workload of this.model.workloads.values()) if (workload.node === this.config.node && isHostProcess(workload)) return true;
    return false;
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

  private keepReading(): void {
    if (this.reading !== null || !this.tlsFolder.isUsed) return;
    this.reading = setInterval(() => {
      if (this.tlsFolder.hasChanged) this.applyAgain('files of certificates have changed: they are read anew');
    }, READING_INTERVAL_MS);
    this.reading.unref();
  }

  /** The model is what it was; what it leads to is not. */
  private applyAgain(why: string): void {
    this.log.info(why);
    void this.inTurn(() => this.applyNow({ full: false, resources: [], removed: [], revision: this.model.revision })).catch(
      (error: unknown) => this.log.error({ err: error }, `${why}; tables could not be made`),
    );
  }

  private tellOutlier(cluster: string, event: OutlierEvent): void {
    const found = this.current?.spec.endpoints.find(({ id }) => id === event.endpoint);
    const endpoint = found === undefined ? `endpoint ${event.endpoint}` : hostPort(found.address, found.port);
    if (event.kind === 'returned') this.log.info({ cluster, endpoint }, `${endpoint} of ${cluster} takes work again`);
    else this.log.warn({ ...event, cluster, endpoint }, `${endpoint} of ${cluster} is ejected for ${event.forMs} ms: ${event.reason}`);
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

function hostOptions({ host, channel }: Namespaces, bpfDir: string): EngineOptions['host'] {
  return { netns: host, sockets: channel, mark: HOST_MARK, flows: `${bpfDir}/maps/host_flows` };
}
