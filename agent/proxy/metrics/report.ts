// The workers' cells, added up: who called whom, how it went, what each endpoint and rule saw. Reads shared memory; changes nothing.
import { COMPLETION_REASONS } from '../../native/engine.js';
import { HISTOGRAM_BUCKETS } from '../../telemetry/histogram.js';
import type { Labels } from '../tables/labels.js';
import {
  BYTE_BUCKETS,
  type Cells,
  EDGE_WORDS,
  EdgeWord,
  readOutcome,
  SERIES_COUNTS,
  SERIES_SUMS,
  SERIES_WORDS,
  SeriesSum,
  SeriesWord,
  Traffic,
} from './cells.js';

export interface EdgeName {
  readonly source: string;
  /** "<namespace>/<service>:<port>", "passthrough", "unknown" or "other". */
  readonly service: string;
  readonly workload: string;
  /** Null on the row that gathers what found no room. */
  readonly traffic: Traffic | null;
  readonly isTcp: boolean;
}

/** One edge and one outcome, over all workers. */
export interface SeriesReport {
  readonly edge: EdgeName;
  readonly status: number;
  /** Response flag; empty when all went well. */
  readonly reason: string;
  /** -1: no gRPC. */
  readonly grpcStatus: number;
  count: number;
  durationUs: number;
  receivedBytes: number;
  sentBytes: number;
  /** Of telemetry/histogram.ts. */
  readonly durations: Float64Array;
  readonly receivedBuckets: Float64Array;
  readonly sentBuckets: Float64Array;
}

export interface Report {
  readonly series: readonly SeriesReport[];
  readonly opened: readonly { readonly edge: EdgeName; readonly count: number }[];
  readonly refusedEdges: number;
  readonly refusedSeries: number;
}

export const TRAFFIC_NAMES: Readonly<Record<Traffic, string>> = {
  [Traffic.Gateway]: 'gateway',
  [Traffic.Outbound]: 'outbound',
  [Traffic.Inbound]: 'inbound',
};

export function report(workers: readonly Cells[], labels: Labels): Report {
  const series = new Map<string, SeriesReport>();
  const opened = new Map<string, { edge: EdgeName; count: number }>();
  let refusedEdges = 0;
  let refusedSeries = 0;
  for (const cells of workers) {
    addSeries(series, cells, labels);
    addOpened(opened, cells, labels);
    refusedEdges += cells.refusedEdges;
    refusedSeries += cells.refusedSeries;
  }
  return { series: [...series.values()], opened: [...opened.values()], refusedEdges, refusedSeries };
}

export function edgeName({ edges }: Cells, labels: Labels, row: number): EdgeName {
  const at = row * EDGE_WORDS;
  const kind = edges[at + EdgeWord.Kind]!;
  const traffic = kind >> 1;
  return {
    source: labels.textOf(edges[at + EdgeWord.Source]!),
    service: labels.textOf(edges[at + EdgeWord.Service]!),
    workload: labels.textOf(edges[at + EdgeWord.Workload]!),
    traffic: traffic === 0 ? null : traffic,
    isTcp: (kind & 1) === 1,
  };
}

function edgeKey({ source, service, workload, traffic, isTcp }: EdgeName): string {
  return `${source} ${service} ${workload} ${traffic} ${isTcp}`;
}

function addSeries(series: Map<string, SeriesReport>, cells: Cells, labels: Labels): void {
  for (let row = 0; row < cells.seriesCount; row++) {
    const at = row * SERIES_SUMS;
    if (cells.sums[at + SeriesSum.Count] === 0) continue;
    const edge = edgeName(cells, labels, cells.series[row * SERIES_WORDS + SeriesWord.Edge]!);
    const outcome = cells.series[row * SERIES_WORDS + SeriesWord.Outcome]!;
    const key = `${edgeKey(edge)} ${outcome}`;
    const total = series.get(key) ?? emptySeries(edge, outcome);
    series.set(key, total);
    total.count += cells.sums[at + SeriesSum.Count]!;
    total.durationUs += cells.sums[at + SeriesSum.DurationUs]!;
    total.receivedBytes += cells.sums[at + SeriesSum.ReceivedBytes]!;
    total.sentBytes += cells.sums[at + SeriesSum.SentBytes]!;
    const counts = row * SERIES_COUNTS;
    addTo(total.durations, cells.counts, counts);
    addTo(total.receivedBuckets, cells.counts, counts + HISTOGRAM_BUCKETS);
    addTo(total.sentBuckets, cells.counts, counts + HISTOGRAM_BUCKETS + BYTE_BUCKETS);
  }
}

function emptySeries(edge: EdgeName, outcome: number): SeriesReport {
  const { status, reason, grpcStatus } = readOutcome(outcome);
  return {
    edge,
    status,
    reason: COMPLETION_REASONS[reason] ?? '',
    grpcStatus,
    count: 0,
    durationUs: 0,
    receivedBytes: 0,
    sentBytes: 0,
    durations: new Float64Array(HISTOGRAM_BUCKETS),
    receivedBuckets: new Float64Array(BYTE_BUCKETS),
    sentBuckets: new Float64Array(BYTE_BUCKETS),
  };
}

function addTo(total: Float64Array, counts: Float64Array, offset: number): void {
  for (let i = 0; i < total.length; i++) total[i]! += counts[offset + i]!;
}

function addOpened(opened: Map<string, { edge: EdgeName; count: number }>, cells: Cells, labels: Labels): void {
  for (let row = 0; row < cells.edgeCount; row++) {
    const count = cells.opened[row]!;
    if (count === 0) continue;
    const edge = edgeName(cells, labels, row);
    const total = opened.get(edgeKey(edge)) ?? { edge, count: 0 };
    total.count += count;
    opened.set(edgeKey(edge), total);
  }
}
