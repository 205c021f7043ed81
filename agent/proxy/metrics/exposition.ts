// The report → Prometheus text under Istio's standard names and labels (istio.io/latest/docs/reference/config/metrics), which Kiali and the
// stock dashboards read. Format: prometheus.io/docs/instrumenting/exposition_formats, 0.0.4.
import { countBelow } from '../../telemetry/histogram.js';
import type { FilterReport } from '../filters/filter-cells.js';
import type { OverloadReport } from '../overload/monitor.js';
import type { RateLimitReport } from '../rate-limit/plan.js';
import type { ConnectionReport } from '../resilience/connection-counts.js';
import type { ClusterReport } from '../resilience/resilience.js';
import { BYTE_BUCKETS, Traffic } from './cells.js';
import type { EdgeName, Report, SeriesReport } from './report.js';
import type { TenantReport } from './tenant-report.js';

/** Upper bounds of istio_request_duration_milliseconds. All are bounds of our own buckets but 3,600,000. */
const DURATION_BOUNDS_MS = [0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000];
const BYTE_BOUNDS = Array.from({ length: BYTE_BUCKETS - 1 }, (_, power) => 8 ** power);

type Labels = Readonly<Record<string, string>>;

export function istioMetrics({ series, opened, refusedEdges, refusedSeries }: Report): string {
  const labelled = summed(
    series.map((one) => ({ labels: seriesLabels(one), one })),
    ({ labels, one }, other) => ({ labels, one: sumOf(one, other.one) }),
  );
  const http = labelled.filter(({ one }) => !one.edge.isTcp);
  const tcp = labelled.filter(({ one }) => one.edge.isTcp);
  const connections = summed(
    opened.map(({ edge, count }) => ({ labels: edgeLabels(edge), count })),
    ({ labels, count }, other) => ({ labels, count: count + other.count }),
  );
  const durations = (one: SeriesReport): [string, number][] =>
    DURATION_BOUNDS_MS.map((ms) => [String(ms), countBelow(one.durations, ms * 1000)]);
  return [
    ...counter(
      'istio_requests_total',
      'Requests that ended.',
      http.map(({ one, labels }) => [labels, one.count]),
    ),
    ...histogram(
      'istio_request_duration_milliseconds',
      'Milliseconds from the first byte of a request to the last of its response.',
      http.map(({ one, labels }) => ({ labels, buckets: durations(one), sum: one.durationUs / 1000, count: one.count })),
    ),
    ...histogram(
      'istio_request_bytes',
      'Bytes of requests.',
      http.map(({ one, labels }) => ({ labels, buckets: byteBuckets(one.receivedBuckets), sum: one.receivedBytes, count: one.count })),
    ),
    ...histogram(
      'istio_response_bytes',
      'Bytes of responses.',
      http.map(({ one, labels }) => ({ labels, buckets: byteBuckets(one.sentBuckets), sum: one.sentBytes, count: one.count })),
    ),
    ...counter(
      'istio_tcp_sent_bytes_total',
      'Bytes sent to clients on TCP connections that ended.',
      tcp.map(({ one, labels }) => [labels, one.sentBytes]),
    ),
    ...counter(
      'istio_tcp_received_bytes_total',
      'Bytes received from clients on TCP connections that ended.',
      tcp.map(({ one, labels }) => [labels, one.receivedBytes]),
    ),
    ...counter(
      'istio_tcp_connections_opened_total',
      'TCP connections opened.',
      connections.map(({ labels, count }) => [labels, count]),
    ),
    ...counter(
      'istio_tcp_connections_closed_total',
      'TCP connections that ended.',
      tcp.map(({ one, labels }) => [labels, one.count]),
    ),
    ...counter('weft_proxy_metric_overflow_total', 'Observations that found no room and were counted as "other".', [
      [{ table: 'edges' }, refusedEdges],
      [{ table: 'series' }, refusedSeries],
    ]),
    '',
  ].join('\n');
}

/** Counters and gauges by name, with what they count; names that end in "_open" are gauges. */
export function engineMetrics(counters: ReadonlyMap<string, number>, help: ReadonlyMap<string, string>): string {
  const lines = [...counters].flatMap(([name, value]) => {
    const says = help.get(name)!;
    return name.endsWith('_open')
      ? gauge(`weft_proxy_${name}`, says, [[{}, value]])
      : counter(`weft_proxy_${name}_total`, says, [[{}, value]]);
  });
  return [...lines, ''].join('\n');
}

/** Of each filter that some rule has. */
export function filterMetrics(filters: readonly FilterReport[]): string {
  const of = (value: (filter: FilterReport) => number): [Labels, number][] => filters.map((each) => [{ filter: each.name }, value(each)]);
  const failures = filters.flatMap(({ name, counts }) =>
    Object.entries(counts.failures).map(([reason, count]): [Labels, number] => [{ filter: name, reason }, count]),
  );
  if (filters.length === 0) return '';
  return [
    ...gauge(
      'weft_filter_up',
      '1: its process runs.',
      of(({ isRunning }) => (isRunning ? 1 : 0)),
    ),
    ...gauge(
      'weft_filter_heap_bytes',
      "Of its process's JavaScript heap.",
      of(({ heapBytes }) => heapBytes),
    ),
    ...counter(
      'weft_filter_restarts_total',
      'Times that its process was started again.',
      of(({ restarts }) => restarts),
    ),
    ...counter(
      'weft_filter_calls_total',
      'Calls of its hooks.',
      of(({ counts }) => counts.calls),
    ),
    ...counter(
      'weft_filter_busy_seconds_total',
      'Time that its hooks took.',
      of(({ counts }) => counts.busyUs / 1e6),
    ),
    ...counter(
      'weft_filter_wait_seconds_total',
      'Time that requests waited for it.',
      of(({ counts }) => counts.waitUs / 1e6),
    ),
    ...counter(
      'weft_filter_replies_total',
      'Requests that it answered itself.',
      of(({ counts }) => counts.replies),
    ),
    ...counter('weft_filter_failures_total', 'Calls without an outcome.', failures),
    '',
  ].join('\n');
}

/** What each namespace has of the proxy; of no namespace: an empty label. */
export function tenantMetrics(tenants: readonly TenantReport[]): string {
  const of = (value: (tenant: TenantReport) => number): [Labels, number][] =>
    tenants.map((each) => [{ namespace: each.name }, value(each)]);
  const refused = tenants.flatMap(({ name, refusedConnections, refusedRequests, refusedForBuffers }): [Labels, number][] => [
    [{ namespace: name, reason: 'connections' }, refusedConnections],
    [{ namespace: name, reason: 'requests' }, refusedRequests],
    [{ namespace: name, reason: 'buffered_bytes' }, refusedForBuffers],
  ]);
  return [
    ...gauge(
      'weft_tenant_connections',
      'Downstream connections open now.',
      of(({ connections }) => connections),
    ),
    ...gauge(
      'weft_tenant_requests',
      'Requests in flight.',
      of(({ requests }) => requests),
    ),
    ...gauge(
      'weft_tenant_buffered_bytes',
      'Memory that holds what waits to be sent, or to be sent again.',
      of(({ bufferedBytes }) => bufferedBytes),
    ),
    ...counter(
      'weft_tenant_cpu_seconds_total',
      'Time of the workers that the turns of its connections took.',
      of(({ cpuSeconds }) => cpuSeconds),
    ),
    ...counter('weft_tenant_refused_total', 'Connections and requests refused at the limits of one namespace.', refused),
    '',
  ].join('\n');
}

/** What each rate limit let pass and refused. */
export function rateLimitMetrics(limits: readonly RateLimitReport[]): string {
  if (limits.length === 0) return '';
  const labelsOf = ({ policy, name, target }: RateLimitReport): Labels => ({ policy, limit: name, target });
  const of = (value: (limit: RateLimitReport) => number): [Labels, number][] => limits.map((each) => [labelsOf(each), value(each)]);
  return [
    ...counter(
      'weft_rate_limited_total',
      'Requests that a rate limit refused.',
      of(({ refused }) => refused),
    ),
    ...counter(
      'weft_rate_limit_admitted_total',
      'Requests that all rate limits let pass, by each of them.',
      of(({ admitted }) => admitted),
    ),
    ...counter(
      'weft_rate_limit_service_failures_total',
      'Requests that a rate limit service was asked about and gave no answer in time.',
      limits.flatMap((each) => (each.unanswered === null ? [] : [[labelsOf(each), each.unanswered.failed] as const])),
    ),
    ...counter(
      'weft_rate_limit_failure_mode_allowed_total',
      'Those of them that passed all the same.',
      limits.flatMap((each) => (each.unanswered === null ? [] : [[labelsOf(each), each.unanswered.letPass] as const])),
    ),
    ...gauge(
      'weft_rate_limit_share',
      'Part of a limit of all nodes that this one may use now.',
      limits.flatMap((each) => (each.share === null ? [] : [[labelsOf(each), each.share] as const])),
    ),
    '',
  ].join('\n');
}

/** Null: it is off. */
export function overloadMetrics(overload: OverloadReport | null): string {
  if (overload === null) return '';
  const worker = (number: number | null): Labels => (number === null ? {} : { worker: String(number) });
  return [
    ...gauge(
      'weft_overload_pressure',
      'Part of a resource that is in use; of an event loop: its delay, of --overload-loop-delay-ms.',
      overload.pressures.map((one) => [{ resource: one.resource, ...worker(one.worker) }, one.pressure]),
    ),
    ...gauge(
      'weft_overload_action_active',
      '1 while a worker sheds in this way.',
      overload.actions.map((one) => [{ action: one.action, ...worker(one.worker) }, one.isActive ? 1 : 0]),
    ),
    '',
  ].join('\n');
}

/** Of clusters with a policy; null: there is no configuration yet. */
export function balanceMetrics(balance: Balance | null): string {
  const panicking = balance?.panicking() ?? [];
  if (balance === null || panicking.length === 0) return '';
  return [
    ...gauge(
      'weft_cluster_panic',
      '1 while so few endpoints can take work that all of a group are used.',
      panicking.map(({ cluster, panics }) => [{ cluster }, panics ? 1 : 0]),
    ),
    ...gauge(
      'weft_cluster_locality_load',
      'Part of the load of a cluster that the endpoints of a locality have now, 0 to 1.',
      balance.localities().map(({ cluster, locality, load }) => [{ cluster, locality }, load]),
    ),
    ...gauge(
      'weft_endpoint_weight_share',
      'Part of the weights of its cluster that an endpoint has now, 0 to 1, where weights go by load.',
      balance.allWeights().map(({ cluster, endpoint, source, share }) => [{ cluster, endpoint, source }, share]),
    ),
    '',
  ].join('\n');
}

/** Clusters with limits or outlier detection, and those with limits of connections. */
export function resilienceMetrics(clusters: readonly ClusterReport[], connections: readonly ConnectionReport[]): string {
  if (clusters.length === 0 && connections.length === 0) return '';
  const labelsOf = ({ name, isInbound }: ClusterReport): Labels => ({ cluster: name, direction: isInbound ? 'inbound' : 'outbound' });
  const samples = (of: (cluster: ClusterReport) => readonly (readonly [Labels, number])[]): [Labels, number][] =>
    clusters.flatMap((cluster) => of(cluster).map(([labels, value]): [Labels, number] => [{ ...labelsOf(cluster), ...labels }, value]));
  const outbound = (of: (cluster: ClusterReport) => readonly (readonly [Labels, number])[]): [Labels, number][] =>
    samples((cluster) => (cluster.isInbound ? [] : of(cluster)));
  const ofConnections = (of: (report: ConnectionReport) => readonly (readonly [Labels, number])[]): [Labels, number][] =>
    connections.flatMap((each) =>
      of(each).map(([labels, value]): [Labels, number] => [{ cluster: each.name, direction: 'outbound', ...labels }, value]),
    );
  return [
    ...gauge(
      'weft_upstream_connections_active',
      'Open connections to services with limits of them, those being made too.',
      ofConnections(({ open }) => [[{}, open]]),
    ),
    ...gauge(
      'weft_upstream_requests_pending',
      'Requests that wait for a connection.',
      ofConnections(({ waiting }) => [[{}, waiting]]),
    ),
    ...gauge(
      'weft_upstream_requests_active',
      'Attempts in flight.',
      samples(({ active }) => [[{}, active]]),
    ),
    ...gauge(
      'weft_upstream_retries_active',
      'Of those the retries.',
      outbound(({ retrying }) => [[{}, retrying]]),
    ),
    ...counter(
      'weft_upstream_retries_total',
      'Retries that were made.',
      outbound(({ retries }) => [[{}, retries]]),
    ),
    ...counter('weft_circuit_breaker_overflow_total', 'Requests, retries and connections that a limit or budget refused.', [
      ...outbound(({ refusedRequests, refusedRetries, refusedEndpointRequests }) => [
        [{ limit: 'requests' }, refusedRequests],
        [{ limit: 'retries' }, refusedRetries],
        [{ limit: 'endpoint_requests' }, refusedEndpointRequests],
      ]),
      ...ofConnections(({ refusedRequests, refusedConnections }) => [
        [{ limit: 'pending' }, refusedRequests],
        [{ limit: 'connections' }, refusedConnections],
      ]),
    ]),
    ...gauge(
      'weft_outlier_ejections_active',
      'Endpoints that take no work, or are on trial.',
      samples(({ outliers }) => (outliers === null ? [] : [[{}, outliers.active]])),
    ),
    ...counter(
      'weft_outlier_ejections_total',
      'Ejections.',
      samples(({ outliers }) => [...(outliers?.ejections ?? [])].map(([type, count]) => [{ type }, count])),
    ),
    ...counter(
      'weft_outlier_ejections_overflow_total',
      'Ejections that were not made: too many endpoints were ejected already.',
      samples(({ outliers }) => (outliers === null ? [] : [[{}, outliers.overflows]])),
    ),
    ...gauge(
      'weft_admission_limit',
      'Requests that may be in flight.',
      samples(({ admission }) => (admission === null ? [] : [[{}, admission.limit]])),
    ),
    ...gauge(
      'weft_admission_min_rtt_seconds',
      'Time to the first byte of the answer to a request that waits for no other; 0: not measured.',
      samples(({ admission }) => (admission === null ? [] : [[{}, admission.minRttUs / 1e6]])),
    ),
    ...counter(
      'weft_admission_shed_total',
      'Requests that were not let in, by class of criticality: 0 is the most critical.',
      samples(({ admission }) => (admission?.shed ?? []).map((count, rank) => [{ class: String(rank) }, count])),
    ),
    '',
  ].join('\n');
}

interface Balance {
  panicking(): readonly { readonly cluster: string; readonly panics: boolean }[];
  localities(): readonly { readonly cluster: string; readonly locality: string; readonly load: number }[];
  allWeights(): readonly { readonly cluster: string; readonly endpoint: string; readonly source: string; readonly share: number }[];
}

function seriesLabels({ edge, status, reason, grpcStatus }: SeriesReport): Labels {
  const call = grpcStatus < 0 ? {} : { request_protocol: 'grpc', grpc_response_status: String(grpcStatus) };
  const outcome = edge.isTcp ? {} : { response_code: String(status), ...call };
  return { ...edgeLabels(edge), ...outcome, response_flags: reason === '' ? '-' : reason };
}

function edgeLabels({ source, service, workload, traffic, isTcp }: EdgeName): Labels {
  const named = /^([^/:]+)\/([^/:]+):(\d+)$/.exec(service);
  const [sourceNamespace, sourceName] = workloadName(source);
  const [workloadNamespace, destinationWorkload] = workloadName(workload);
  const namespace = named?.[1] ?? 'unknown';
  const name = named?.[2] ?? service;
  return {
    reporter: traffic === Traffic.Inbound ? 'destination' : 'source',
    source_workload: sourceName,
    source_workload_namespace: sourceNamespace,
    // Names of Services have no dots: the others are hosts of ServiceEntries.
    destination_service: named === null || name.includes('.') ? name : `${name}.${namespace}.svc.cluster.local`,
    destination_service_name: name,
    destination_service_namespace: namespace,
    destination_workload: destinationWorkload,
    destination_workload_namespace: workloadNamespace,
    request_protocol: isTcp ? 'tcp' : 'http',
    connection_security_policy: traffic === Traffic.Inbound ? 'none' : 'unknown',
  };
}

/** Istio's labels say neither the port nor whether it was through a gateway: what differs in that alone is one sample, or Prometheus keeps the first. */
function summed<Sample extends { readonly labels: Labels }>(
  samples: readonly Sample[],
  sum: (one: Sample, other: Sample) => Sample,
): Sample[] {
  const byLabels = new Map<string, Sample>();
  for (const sample of samples) {
    const name = text(sample.labels);
    const before = byLabels.get(name);
    byLabels.set(name, before === undefined ? sample : sum(before, sample));
  }
  return [...byLabels.values()];
}

function sumOf(one: SeriesReport, other: SeriesReport): SeriesReport {
  const added = (to: Float64Array, counts: Float64Array): Float64Array => to.map((count, bucket) => count + counts[bucket]!);
  return {
    ...one,
    count: one.count + other.count,
    durationUs: one.durationUs + other.durationUs,
    receivedBytes: one.receivedBytes + other.receivedBytes,
    sentBytes: one.sentBytes + other.sentBytes,
    durations: added(one.durations, other.durations),
    receivedBuckets: added(one.receivedBuckets, other.receivedBuckets),
    sentBuckets: added(one.sentBuckets, other.sentBuckets),
  };
}

/** Addresses and "unknown" have no namespace. */
function workloadName(label: string): readonly [namespace: string, name: string] {
  const slash = label.indexOf('/');
  return slash < 0 ? ['unknown', label] : [label.slice(0, slash), label.slice(slash + 1)];
}

function byteBuckets(counts: Float64Array): [string, number][] {
  let sum = 0;
  return BYTE_BOUNDS.map((bound, bucket) => {
    sum += counts[bucket]!;
    return [String(bound), sum];
  });
}

function head(name: string, help: string, type: string): string[] {
  return [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`];
}

function gauge(name: string, help: string, samples: readonly (readonly [Labels, number])[]): string[] {
  return [...head(name, help, 'gauge'), ...samples.map(([labels, value]) => `${name}${text(labels)} ${value}`)];
}

function counter(name: string, help: string, samples: readonly (readonly [Labels, number])[]): string[] {
  return [...head(name, help, 'counter'), ...samples.map(([labels, value]) => `${name}${text(labels)} ${value}`)];
}

interface HistogramSample {
  readonly labels: Labels;
  /** Cumulative, without the last. */
  readonly buckets: readonly (readonly [le: string, count: number])[];
  readonly sum: number;
  readonly count: number;
}

function histogram(name: string, help: string, samples: readonly HistogramSample[]): string[] {
  const lines = samples.flatMap(({ labels, buckets, sum, count }) => [
    ...[...buckets, ['+Inf', count] as const].map(([le, value]) => `${name}_bucket${text({ ...labels, le })} ${value}`),
    `${name}_sum${text(labels)} ${sum}`,
    `${name}_count${text(labels)} ${count}`,
  ]);
  return [...head(name, help, 'histogram'), ...lines];
}

function text(labels: Labels): string {
  const pairs = Object.entries(labels).map(
    ([name, value]) => `${name}="${value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`,
  );
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}
