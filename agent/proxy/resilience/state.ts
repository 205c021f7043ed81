// What the workers and the main thread know of clusters with a policy and of their endpoints: one shared memory, by a cluster's row and by an
// endpoint's id, both stable over generations. Owns the layout alone. Counts are added to with Atomics; limits are the main thread's to write.
import { MAX_ENDPOINTS } from '../metrics/cells.js';

/** Rows 1 … MAX_ROWS - 1; row 0 is no policy's. */
export const MAX_ROWS = 4_096;
export const MAX_CLASSES = 4;
export const NO_LIMIT = 0x7fffffff;
/** Shares are parts of this. */
export const WHOLE = 65_536;
/** One retry of a budget. */
export const RETRY = 1_024;

/** Counts that only ever grow wrap: differences are taken with `| 0`. */
export const ROW_WORDS = 36;
export const enum Row {
  /** Attempts in flight, and those of them that are retries. */
  Active = 0,
  Retrying = 1,
  /** Ever: first attempts, retries. */
  Requests = 2,
  Retries = 3,
  /** What the budget of an interval has, in parts of RETRY, and what each request adds; -1: no such budget. */
  Tokens = 4,
  Deposit = 5,
  /** Limits; NO_LIMIT: none. */
  MaxRequests = 6,
  MaxRetries = 7,
  MaxEndpointRequests = 8,
  /** Retries in flight, of the active attempts, in parts of WHOLE (-1: no such budget), and how many may be in any case. */
  BudgetActive = 9,
  BudgetMinActive = 10,
  /** Of admission; 0: there is none. */
  Limit = 11,
  /** An endpoint that the next request tries; -1: none. */
  Trial = 12,
  /** Results that are against an endpoint, ever: there is something to look at. */
  Failures = 13,
  /** 1: what the proxy itself finds (it can't connect) is counted apart from what endpoints answer. */
  SplitsLocal = 14,
  /** 1: inbound; requests go on to where they were sent, and no endpoint is chosen. */
  IsPassedOn = 15,
  /** Refused at the limits, ever. Beyond: by admission, for want of room. */
  RefusedRequests = 16,
  RefusedRetries = 17,
  RefusedEndpointRequests = 18,
  Beyond = 19,
  /** By class, MAX_CLASSES words each: the share that is let in; ever: who asked, who was refused. */
  Share = 20,
  Asked = 24,
  Shed = 28,
  /** 1: what is in flight is limited, so that it must be known at once that a request has ended. */
  IsLimited = 32,
}

export const ENDPOINT_WORDS = 7;
export const enum Endpoint {
  /** In a row, without a success between. */
  Consecutive5xx = 0,
  ConsecutiveGateway = 1,
  ConsecutiveLocal = 2,
  /** Ever: results, and successes among them. Local: of reaching it, where that is split. */
  Results = 3,
  Successes = 4,
  LocalResults = 5,
  LocalSuccesses = 6,
}

/** Latencies of admitted requests: eight buckets an octave from 16 µs to 134 s, each an eighth wide at most. */
export const SAMPLE_BUCKETS = 184;
const LEAST_US = 16;

export function sampleBucket(us: number): number {
  if (us <= LEAST_US) return 0;
  const octave = 31 - Math.clz32(us / LEAST_US);
  const within = Math.floor((us / (LEAST_US * 2 ** octave) - 1) * 8);
  return Math.min(SAMPLE_BUCKETS - 1, octave * 8 + within);
}

/** Its lower bound, µs; of SAMPLE_BUCKETS: the last one's upper. */
export function sampleBoundUs(bucket: number): number {
  return LEAST_US * 2 ** (bucket >> 3) * (1 + (bucket & 7) / 8);
}

const LAYOUT = {
  rows: MAX_ROWS * ROW_WORDS,
  endpoints: MAX_ENDPOINTS * ENDPOINT_WORDS,
  samples: MAX_ROWS * SAMPLE_BUCKETS,
} as const;

export class ResilienceState {
  /** Pages that nobody writes are never there: 7 MiB at most. */
  static allocate(): SharedArrayBuffer {
    return new SharedArrayBuffer((LAYOUT.rows + LAYOUT.endpoints + LAYOUT.samples) * 4);
  }

  readonly rows: Int32Array;
  readonly endpoints: Int32Array;
  readonly samples: Int32Array;

  constructor(readonly buffer: SharedArrayBuffer) {
    this.rows = new Int32Array(buffer, 0, LAYOUT.rows);
    this.endpoints = new Int32Array(buffer, LAYOUT.rows * 4, LAYOUT.endpoints);
    this.samples = new Int32Array(buffer, (LAYOUT.rows + LAYOUT.endpoints) * 4, LAYOUT.samples);
  }
}

/** What one worker has added to Active, then to Retrying, by row: to be given back should it crash. */
export function allocateShare(): SharedArrayBuffer {
  return new SharedArrayBuffer(MAX_ROWS * 2 * 4);
}
