// What one worker counts, in shared memory that only it writes and the main thread reads: edges (who called whom), series (an edge and
// how it went), endpoints, rules. Bounded; what finds no room is counted on the first edge or series, "other". Nothing is allocated after
// the start. An aligned Float64 is read whole; a row is published by storing its table's count last.
import { bucketOf, HISTOGRAM_BUCKETS } from '../../telemetry/histogram.js';

export const MAX_EDGES = 2_048;
export const MAX_SERIES = 4_096;
export const MAX_ENDPOINTS = 65_536;
export const MAX_RULES = 16_384;

/** An edge's name. Labels are those of tables/labels.ts. */
export const EDGE_WORDS = 4;
export const enum EdgeWord {
  Source = 0,
  Service = 1,
  Workload = 2,
  /** Traffic × 2 + (1: TCP). */
  Kind = 3,
}
export const enum Traffic {
  Gateway = 1,
  Outbound = 2,
  Inbound = 3,
}

export const SERIES_WORDS = 2;
export const enum SeriesWord {
  Edge = 0,
  /** See outcomeOf(). */
  Outcome = 1,
}
/** How a request ended, in one word. `grpcStatus`: -1 for no gRPC. */
export function outcomeOf(status: number, reason: number, grpcStatus: number): number {
  return ((grpcStatus + 1) << 18) | (status << 8) | reason;
}
export function readOutcome(outcome: number): { readonly status: number; readonly reason: number; readonly grpcStatus: number } {
  return { status: (outcome >> 8) & 1023, reason: outcome & 255, grpcStatus: (outcome >> 18) - 1 };
}
export const SERIES_SUMS = 4;
export const enum SeriesSum {
  /** HTTP: requests. TCP: connections that ended. */
  Count = 0,
  DurationUs = 1,
  ReceivedBytes = 2,
  SentBytes = 3,
}
/** Upper bounds 1, 8, 64, … 8^10 bytes, then all. */
export const BYTE_BUCKETS = 12;
/** Durations, then received bytes, then sent bytes. */
export const SERIES_COUNTS = HISTOGRAM_BUCKETS + 2 * BYTE_BUCKETS;

/** Rows in use, then what found no room: edges, series, edges refused, series refused. */
const HEAD_WORDS = 4;
const EDGE_SLOTS = MAX_EDGES * 2;
const SERIES_SLOTS = MAX_SERIES * 2;

const LAYOUT = {
  sums: MAX_SERIES * SERIES_SUMS * 8,
  opened: MAX_EDGES * 8,
  endpointRequests: MAX_ENDPOINTS * 8,
  endpointErrors: MAX_ENDPOINTS * 8,
  ruleRequests: MAX_RULES * 8,
  counts: MAX_SERIES * SERIES_COUNTS * 8,
  inFlight: MAX_ENDPOINTS * 4,
  edges: MAX_EDGES * EDGE_WORDS * 4,
  series: MAX_SERIES * SERIES_WORDS * 4,
  edgeSlots: EDGE_SLOTS * 4,
  seriesSlots: SERIES_SLOTS * 4,
  head: HEAD_WORDS * 4,
} as const;
type Part = keyof typeof LAYOUT;

const OTHER_ROW = 0;

export class Cells {
  static allocate(): SharedArrayBuffer {
    const bytes = Object.values(LAYOUT).reduce((sum, part) => sum + part, 0);
    const buffer = new SharedArrayBuffer(bytes);
    const cells = new Cells(buffer);
    cells.head[0] = 1;
    cells.head[1] = 1;
    return buffer;
  }

  readonly sums: Float64Array;
  /** TCP connections opened, by edge. */
  readonly opened: Float64Array;
  readonly endpointRequests: Float64Array;
  readonly endpointErrors: Float64Array;
  readonly ruleRequests: Float64Array;
  readonly counts: Float64Array;
  /** This worker's part of `outstanding`: what to give back should it crash. */
  readonly inFlight: Int32Array;
  readonly edges: Int32Array;
  readonly series: Int32Array;
  private readonly edgeSlots: Int32Array;
  private readonly seriesSlots: Int32Array;
  private readonly head: Int32Array;

  constructor(buffer: SharedArrayBuffer) {
    let offset = 0;
    const place = (part: Part): number => {
      const at = offset;
      offset += LAYOUT[part];
      return at;
    };
    const doubles = (part: Part): Float64Array => new Float64Array(buffer, place(part), LAYOUT[part] / 8);
    const words = (part: Part): Int32Array => new Int32Array(buffer, place(part), LAYOUT[part] / 4);
    this.sums = doubles('sums');
    this.opened = doubles('opened');
    this.endpointRequests = doubles('endpointRequests');
    this.endpointErrors = doubles('endpointErrors');
    this.ruleRequests = doubles('ruleRequests');
    this.counts = doubles('counts');
    this.inFlight = words('inFlight');
    this.edges = words('edges');
    this.series = words('series');
    this.edgeSlots = words('edgeSlots');
    this.seriesSlots = words('seriesSlots');
    this.head = words('head');
  }

  /** Rows in use; row 0 is "other". */
  get edgeCount(): number {
    return Atomics.load(this.head, 0);
  }
  get seriesCount(): number {
    return Atomics.load(this.head, 1);
  }
  /** How often something was counted as "other" for want of room. */
  get refusedEdges(): number {
    return Atomics.load(this.head, 2) >>> 0;
  }
  get refusedSeries(): number {
    return Atomics.load(this.head, 3) >>> 0;
  }

  /** The edge's row, made when new. Writer only. */
  edgeOf(source: number, service: number, workload: number, kind: number): number {
    const { edges, edgeSlots } = this;
    for (let slot = hash(source, service, workload, kind) & (EDGE_SLOTS - 1); ; slot = (slot + 1) & (EDGE_SLOTS - 1)) {
      const row = edgeSlots[slot]!;
      if (row === 0) return this.addEdge(slot, source, service, workload, kind);
      const at = row * EDGE_WORDS;
      if (
        edges[at + EdgeWord.Source] === source &&
        edges[at + EdgeWord.Service] === service &&
        edges[at + EdgeWord.Workload] === workload &&
        edges[at + EdgeWord.Kind] === kind
      )
        return row;
    }
  }

  /** A request or connection ended. `duration` in µs. Writer only. */
  finished(edge: number, outcome: number, duration: number, received: number, sent: number): void {
    const row = this.seriesOf(edge, outcome);
    const sums = row * SERIES_SUMS;
    this.sums[sums + SeriesSum.Count]! += 1;
    this.sums[sums + SeriesSum.DurationUs]! += duration;
    this.sums[sums + SeriesSum.ReceivedBytes]! += received;
    this.sums[sums + SeriesSum.SentBytes]! += sent;
    const counts = row * SERIES_COUNTS;
    this.counts[counts + bucketOf(duration)]! += 1;
    this.counts[counts + HISTOGRAM_BUCKETS + byteBucketOf(received)]! += 1;
    this.counts[counts + HISTOGRAM_BUCKETS + BYTE_BUCKETS + byteBucketOf(sent)]! += 1;
  }

  private seriesOf(edge: number, outcome: number): number {
    const { series, seriesSlots } = this;
    for (let slot = hash(edge, outcome, 0, 0) & (SERIES_SLOTS - 1); ; slot = (slot + 1) & (SERIES_SLOTS - 1)) {
      const row = seriesSlots[slot]!;
      if (row === 0) return this.addSeries(slot, edge, outcome);
      const at = row * SERIES_WORDS;
      if (series[at + SeriesWord.Edge] === edge && series[at + SeriesWord.Outcome] === outcome) return row;
    }
  }

  private addEdge(slot: number, source: number, service: number, workload: number, kind: number): number {
    const row = this.head[0]!;
    if (row >= MAX_EDGES) {
      this.head[2]! += 1;
      return OTHER_ROW;
    }
    const at = row * EDGE_WORDS;
    this.edges[at + EdgeWord.Source] = source;
    this.edges[at + EdgeWord.Service] = service;
    this.edges[at + EdgeWord.Workload] = workload;
    this.edges[at + EdgeWord.Kind] = kind;
    this.edgeSlots[slot] = row;
    Atomics.store(this.head, 0, row + 1);
    return row;
  }

  private addSeries(slot: number, edge: number, outcome: number): number {
    const row = this.head[1]!;
    if (row >= MAX_SERIES) {
      this.head[3]! += 1;
      return OTHER_ROW;
    }
    this.series[row * SERIES_WORDS + SeriesWord.Edge] = edge;
    this.series[row * SERIES_WORDS + SeriesWord.Outcome] = outcome;
    this.seriesSlots[slot] = row;
    Atomics.store(this.head, 1, row + 1);
    return row;
  }
}

/** Bucket with the smallest bound 8^n that is at least `bytes`. */
function byteBucketOf(bytes: number): number {
  let bucket = 0;
  for (let bound = 1; bucket < BYTE_BUCKETS - 1 && bytes > bound; bound *= 8) bucket++;
  return bucket;
}

function hash(a: number, b: number, c: number, d: number): number {
  let h = Math.imul(a + 1, 0x9e3779b1) ^ Math.imul(b + 1, 0x85ebca6b) ^ Math.imul(c + 1, 0xc2b2ae35) ^ Math.imul(d + 1, 0x27d4eb2f);
  h ^= h >>> 15;
  h = Math.imul(h, 0x2c1b3c6d);
  return h ^ (h >>> 13);
}
