// What the proxy says of itself: mesh.v1.ProxyStatus on a unix socket; its metrics and readiness for HTTP. Reads; changes nothing.
import { renameSync, rmSync, statSync } from 'node:fs';
import { status as grpcStatus, Server, type ServiceError } from '@grpc/grpc-js';
import { collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import type { ExplainRequest } from '../../api/gen/mesh/v1/explain.js';
import { EndpointHealth } from '../../api/gen/mesh/v1/model.js';
import {
  type ClusterState,
  type Counter,
  type ListenerState,
  type ProxyState,
  type ProxyStatusServer,
  ProxyStatusService,
  type RouteState,
  type TrafficEdge,
} from '../../api/gen/mesh/v1/status.js';
import { listenGrpc } from '../../api/grpc/listen.js';
import { VERSION } from '../../api/version.js';
import { COMPLETION_REASONS, type EngineAddon } from '../native/engine.js';
import { HISTOGRAM_BUCKETS, quantileUs } from '../telemetry/histogram.js';
import { isError } from './account.js';
import type { EndpointBalance } from './balance-report.js';
import type { DataPlane } from './data-plane.js';
import { type Explained, explain } from './explain/explain.js';
import type { Predecessors } from './handover/predecessors.js';
import type { OpenListener } from './listeners.js';
import {
  balanceMetrics,
  engineMetrics,
  filterMetrics,
  istioMetrics,
  overloadMetrics,
  rateLimitMetrics,
  resilienceMetrics,
  tenantMetrics,
} from './metrics/exposition.js';
import { type EdgeName, type Report, report, type SeriesReport, TRAFFIC_NAMES } from './metrics/report.js';
import { Tally } from './metrics/tally.js';
import type { TenantReport } from './metrics/tenant-report.js';
import { BALANCING_NAMES, type ClusterEndpoint } from './tables/clusters.js';
import type { RouteRow } from './tables/routes.js';

/** Beside the engine's counters. */
const LOST_LINES = 'access_log_lost';
const LOST_LINES_HELP = 'Lines of the access log that its file did not take.';

/** At once: each may run filters, with all the memory that they may have. */
const MAX_EXPLAINING = 2;

export class ProxyStatus {
  private explaining = 0;
  private readonly registry = new Registry();
  private readonly counterNames: readonly string[];
  private readonly counterHelp: ReadonlyMap<string, string>;

  constructor(
    private readonly plane: DataPlane,
    private readonly addon: Pick<EngineAddon, 'counterNames' | 'counterHelp' | 'nativeHeapBytes' | 'describeRequest' | 'changeHead'>,
    handovers: number,
    private readonly predecessors: Predecessors,
    /** Null: there is none. */
    private readonly accessLog: { readonly lost: number } | null,
  ) {
    this.counterNames = addon.counterNames();
    const help = addon.counterHelp();
    this.counterHelp = new Map([...this.counterNames.map((name, slot) => [name, help[slot]!] as const), [LOST_LINES, LOST_LINES_HELP]]);
    // At the default, 10 ms, an idle proxy takes 1 % of a core for it.
    collectDefaultMetrics({ register: this.registry, prefix: 'weft_proxy_', eventLoopMonitoringPrecision: 100 });
    const gauge = (name: string, help: string, value: () => number): void => {
      const metric: Gauge = new Gauge({ name, help, registers: [this.registry], collect: () => metric.set(value()) });
    };
    gauge('weft_proxy_applied_revision', 'Revision that requests are decided by.', () => plane.revision);
    gauge('weft_proxy_listeners', 'Open listeners.', () => plane.listeners.open.length);
    gauge('weft_proxy_faults', 'Listeners that should be open and are not; the status says why.', () => plane.faults.length);
    gauge(
      'weft_proxy_clusters_none_healthy',
      'Clusters all of whose endpoints fail their checks: they are used all the same.',
      () => (plane.generation?.clusters ?? []).filter(({ endpoints }) => isNoneHealthy(endpoints)).length,
    );
    gauge('weft_proxy_handovers', 'Proxies that handed over to one another, up to this one.', () => handovers);
    const predecessorGauge = (name: string, help: string, value: () => number): void =>
      gauge(`weft_proxy_predecessor_connections_${name}`, help, value);
    predecessorGauge('open', 'Connections that proxies before this one still have.', () => predecessors.connectionsOpen);
    predecessorGauge('ended', 'Connections of predecessors that ended by themselves.', () => predecessors.ended);
    predecessorGauge('cut', 'Connections of predecessors that their drain timeout cut.', () => predecessors.cut);
    gauge('weft_proxy_native_heap_bytes', 'Given out by malloc: engine, TLS and Node.js itself; what it keeps free is not in it.', () =>
      addon.nativeHeapBytes(),
    );
    gauge('weft_proxy_label_overflow', 'Names that found no room in the metrics.', () => plane.labels.overflowed);
  }

  state(): ProxyState {
    const { plane } = this;
    return {
      version: VERSION,
      uptimeSeconds: process.uptime(),
      appliedRevision: plane.revision,
      pid: process.pid,
      workers: plane.pool.memories.length,
      listeners: plane.listeners.open.map((listener): ListenerState => {
        const { id, name, kind, address, port } = listener;
        return { name, kind, address, port, protocol: protocolText(listener), connections: this.sum(this.counterNames.length + id) };
      }),
      clusters: this.clusters(),
      routes: (plane.generation?.routes ?? []).map((row) => this.route(row)),
      traffic: trafficEdges(this.report()),
      counters: [...this.counters()].map(([name, value]): Counter => ({ name, value })),
      faults: [...plane.faults],
      registryOnly: [...(plane.generation?.egress.registryOnly ?? [])],
      outsideHosts: plane.generation?.egress.outsideHosts ?? 0,
      overloads: (plane.overload?.overloads() ?? []).map(({ worker, actions, ...overload }) => ({
        ...overload,
        worker: worker ?? undefined,
        actions: [...actions],
      })),
    };
  }

  /** Prometheus text. */
  async metrics(): Promise<string> {
    const texts = [
      await this.registry.metrics(),
      engineMetrics(this.counters(), this.counterHelp),
      istioMetrics(this.report()),
      tenantMetrics(this.tenants()),
      filterMetrics(this.plane.filterReports()),
      rateLimitMetrics(this.plane.limits.report()),
      overloadMetrics(this.plane.overload?.report() ?? null),
      balanceMetrics(this.plane.balance),
      resilienceMetrics(this.plane.resilience.report(), this.plane.connectionReports()),
    ];
    return texts.join('');
  }

  /** What this proxy would do with a request now. `signal`: nobody waits any more. */
  async explain(request: ExplainRequest, signal: AbortSignal): Promise<Explained> {
    if (this.explaining === MAX_EXPLAINING)
      return { kind: 'refused', message: `the proxy explains ${MAX_EXPLAINING} requests already: ask again` };
    this.explaining++;
    try {
      const explained = await this.plane.looked((view) => explain(request, view, this.addon, signal));
      return explained ?? { kind: 'refused', message: 'the proxy has no configuration yet' };
    } finally {
      this.explaining--;
    }
  }

  /** What it waits for; null: it serves by a configuration. */
  unready(): string | null {
    return this.plane.revision > 0 ? null : 'no configuration yet: is `weft agent` running on this host?';
  }

  /** What this proxy has counted, and those before it as far as it was told. */
  tally(): Tally {
    return Tally.of(this.report(), this.counters(), this.tenants());
  }

  private report(): Report {
    const cells = this.plane.pool.memories.map((memory) => memory.cells);
    return this.predecessors.counted.completed(report(cells, this.plane.labels));
  }

  private counters(): ReadonlyMap<string, number> {
    const { counted } = this.predecessors;
    const all = new Map(this.counterNames.map((name, slot) => [name, counted.completedCounter(name, this.sum(slot))]));
    return all.set(LOST_LINES, counted.completedCounter(LOST_LINES, this.accessLog?.lost ?? 0));
  }

  private tenants(): TenantReport[] {
    return this.plane.tenants().map((tenant) => this.predecessors.counted.completedTenant(tenant));
  }

  /** Of one slot of the workers' counters. */
  private sum(slot: number): number {
    return this.plane.pool.memories.reduce((total, { counters }) => total + counters[slot]!, 0);
  }

  private clusters(): ClusterState[] {
    const { balance } = this.plane;
    return (this.plane.generation?.clusters ?? []).map(({ name, balancing, endpoints }, index) => {
      const balances = balance?.groups(index) ?? NO_GROUPS;
      const weights = balance?.weights(index);
      const addition = isNoneHealthy(endpoints) ? '; used all the same, none is healthy' : '';
      const states = endpoints.map(({ id, isFallback, healthReason, address, port, node, region, zone, workload, weight, health }) => ({
        address,
        port,
        node,
        region,
        zone,
        workload,
        weight,
        health,
        healthReason: this.plane.resilience.describe(id) ?? (isFallback ? `${healthReason}${addition}` : healthReason),
        ...this.plane.trafficOfEndpoint(id),
        ewmaMs: balance?.ewmaMs(id) ?? 0,
        unavailable: balance?.isUnavailable(id) ?? false,
        priority: balances.get(id)?.group,
        load: balances.get(id)?.load,
        warmth: balance?.warmth(id) ?? 1,
        weightShare: weights?.get(id)?.share,
        weightSource: weights?.get(id)?.source ?? '',
      }));
      return { name, algorithm: BALANCING_NAMES[balancing], endpoints: states, panics: balance?.panics(index) ?? false };
    });
  }

  private route({ scope, host, match, route, backends, ruleId }: RouteRow): RouteState {
    const total = backends.reduce((sum, { weight }) => sum + weight, 0);
    const share = (weight: number): string => (total === 0 ? '0 %' : `${Math.round((weight / total) * 1000) / 10} %`);
    const shares = backends.map(({ service, port, weight }) => `${service === '' ? 'invalid' : `${service}:${port}`} ${share(weight)}`);
    return { scope, host, match, route, backends: shares, requests: this.plane.requestsOfRule(ruleId) };
  }
}

const NO_GROUPS: ReadonlyMap<number, EndpointBalance> = new Map();

/** Its endpoints get requests although they fail their checks. */
function isNoneHealthy(endpoints: readonly ClusterEndpoint[]): boolean {
  return endpoints.some(({ isFallback }) => isFallback) && endpoints.every(({ health }) => health !== EndpointHealth.READY);
}

function protocolText({ kind, protocol, tls }: OpenListener): string {
  if (kind !== 'gateway') return 'by destination';
  if (tls?.mode === 'by-server-name') return `${protocol === 'http' ? 'https' : 'tls'}, tls passthrough`;
  if (protocol === 'http') return tls === null ? 'http' : 'https';
  return tls === null ? 'tcp' : tls.mode === 'passthrough' ? 'tls passthrough' : 'tls';
}

/** Outcomes of one edge become one row. */
function trafficEdges({ series }: Report): TrafficEdge[] {
  const edges = new Map<string, { edge: EdgeName; all: SeriesReport[] }>();
  for (const one of series) {
    const key = JSON.stringify(one.edge);
    const entry = edges.get(key);
    if (entry === undefined) edges.set(key, { edge: one.edge, all: [one] });
    else entry.all.push(one);
  }
  return [...edges.values()].map(({ edge, all }) => {
    const sum = (of: (one: SeriesReport) => number): number => all.reduce((total, one) => total + of(one), 0);
    const durations = new Float64Array(HISTOGRAM_BUCKETS);
    for (const one of all) for (let bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) durations[bucket]! += one.durations[bucket]!;
    const failed = all.filter(({ status, reason }) =>
      isError(status, COMPLETION_REASONS.indexOf(reason as (typeof COMPLETION_REASONS)[number])),
    );
    return {
      source: edge.source,
      destination: edge.service,
      destinationWorkload: edge.workload,
      direction: edge.traffic === null ? 'other' : TRAFFIC_NAMES[edge.traffic],
      requests: sum(({ count }) => count),
      errors: failed.reduce((total, { count }) => total + count, 0),
      latencyP50Ms: quantileUs(durations, 0.5) / 1000,
      latencyP99Ms: quantileUs(durations, 0.99) / 1000,
      sentBytes: sum(({ sentBytes }) => sentBytes),
      receivedBytes: sum(({ receivedBytes }) => receivedBytes),
    };
  });
}

export interface StatusServer {
  readonly server: Server;
  /** Puts it in its place, and in that of a predecessor. */
  publish(): void;
  /** Removes it, unless another's stands in its place: of a successor that was not ready when this proxy was told to end. */
  withdraw(): void;
}

/**
 * Serves on a unix socket that only our own user may open, under a name of its own until publish(): never is nobody there, and the process
 * that closes removes its own name only. Throws when that fails.
 */
export async function serveStatus(status: ProxyStatus, path: string): Promise<StatusServer> {
  const handlers: ProxyStatusServer = {
    get: (_call, callback) => callback(null, status.state()),
    explain: (call, callback) => {
      const left = new AbortController();
      call.on('cancelled', () => left.abort());
      status.explain(call.request, left.signal).then(
        (explained) => {
          if (explained.kind === 'ok') callback(null, explained.value);
          else callback({ code: grpcStatus.INVALID_ARGUMENT, details: explained.message } as ServiceError);
        },
        (error: Error) => callback({ code: grpcStatus.INTERNAL, details: error.message } as ServiceError),
      );
    },
    metrics: (_call, callback) => {
      status.metrics().then(
        (text) => callback(null, { text }),
        (error: Error) => callback({ code: grpcStatus.INTERNAL, details: error.message } as ServiceError),
      );
    },
  };
  const server = new Server();
  server.addService(ProxyStatusService, handlers);
  const own = `${path}.${process.pid}`;
  await listenGrpc(server, `unix:${own}`, 0o600);
  const { ino } = statSync(own);
  return {
    server,
    publish: () => renameSync(own, path),
    withdraw: () => {
      if (statSync(path, { throwIfNoEntry: false })?.ino === ino) rmSync(path, { force: true });
    },
  };
}
