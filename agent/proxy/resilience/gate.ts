// A worker's part in the policies of clusters: who is let in, and what became of them. Hot path: integers in shared memory, nothing allocated;
// nothing here runs for clusters without such a policy. Judges nobody: that is the main thread's (outlier-detector.ts, admission.ts).
import { Completion, CompletionKind, DEFERRED } from '../../native/engine.js';
import { GUARD_WORDS, GuardWord } from '../tables/layout.js';
import {
  ENDPOINT_WORDS,
  Endpoint,
  MAX_ROWS,
  NO_LIMIT,
  RETRY,
  type ResilienceState,
  ROW_WORDS,
  Row,
  SAMPLE_BUCKETS,
  sampleBucket,
  WHOLE,
} from './state.js';

const ACTIVE = Row.Active as number;
const RETRYING = Row.Retrying as number;
const REQUESTS = Row.Requests as number;
const RETRIES = Row.Retries as number;
const TOKENS = Row.Tokens as number;
const DEPOSIT = Row.Deposit as number;
const LIMIT = Row.Limit as number;
const TRIAL = Row.Trial as number;
const C_STATUS = Completion.Status as number;
const C_REASON = Completion.Reason as number;
const C_FIRST_BYTE = Completion.FirstByteUs as number;
const C_GRPC = Completion.GrpcStatus as number;
const ENDED = CompletionKind.Ended as number;
const ABANDONED = CompletionKind.Abandoned as number;

/** Of a token: the edge, whether the attempt is a retry, the cluster's row; or of an answer of ours its reason (COMPLETION_REASONS). */
export const TOKEN_EDGE = 0x7ff;
export const TOKEN_RETRY = 0x800;
export const TOKEN_ROW_BITS = 12;

/** Of an answer for want of room: UO. */
export const OVERFLOW = 10 << TOKEN_ROW_BITS;
/** Of one that a rate limit service words: RL. */
export const RATE_LIMITED = 13 << TOKEN_ROW_BITS;

/** The class of a request by its bit set (Descriptor.PredicateOffset): 0 is the most critical. */
export function rankOf(guards: Int32Array, guard: number, bits: Int32Array, offset: number): number {
  const at = guard * GUARD_WORDS;
  const classes = guards[at + GuardWord.Classes]!;
  if (offset >= 0)
    for (let rank = 0; rank < classes; rank++) {
      const mask = at + GuardWord.Masks + 2 * rank;
      if ((bits[offset + guards[mask]!]! & guards[mask + 1]!) !== 0) return rank;
    }
  return guards[at + GuardWord.DefaultClass]!;
}

/** One part of so many of a limit is the most critical class's alone. */
const RESERVE = 4;

// Indexes of COMPLETION_REASONS.
/** Decision.Target of what we answer ourselves, or below: of a token nothing is counted. */
const LOCAL = -100;
const CONNECT_FAILED = 3;
const UPSTREAM_RESET = 4;
const UPSTREAM_TIMEOUT = 5;
const RETRIES_EXHAUSTED = 6;
const UPSTREAM_PROTOCOL = 9;
/** Bit i: grpc-status i is the server's failure; as HTTP status (Envoy's grpcToHttpStatus) below. */
const GRPC_GATEWAY = (1 << 4) | (1 << 14);
const GRPC_FAILURES = GRPC_GATEWAY | (1 << 2) | (1 << 12) | (1 << 13) | (1 << 15);

export class Gate {
  private readonly rows: Int32Array;
  private readonly endpoints: Int32Array;
  private readonly samples: Int32Array;
  private readonly own: Int32Array;

  /** `share`: allocateShare(), this worker's. */
  constructor(state: ResilienceState, share: SharedArrayBuffer) {
    this.rows = state.rows;
    this.endpoints = state.endpoints;
    this.samples = state.samples;
    this.own = new Int32Array(share);
  }

  /** May a request of this class (0: the most critical) go on to the cluster? False: it is answered 503, and counted. `random`: 31 bits. */
  admits(row: number, rank: number, random: number): boolean {
    const at = row * ROW_WORDS;
    const { rows } = this;
    const active = rows[at + ACTIVE]!;
    if (active >= rows[at + Row.MaxRequests]!) {
      Atomics.add(rows, at + Row.RefusedRequests, 1);
      return false;
    }
    const limit = rows[at + LIMIT]!;
    if (limit === 0) return true;
    Atomics.add(rows, at + Row.Asked + rank, 1);
    const room = rank === 0 ? limit : limit - ((limit / RESERVE) | 0);
    if (active < room && (random & (WHOLE - 1)) < rows[at + Row.Share + rank]!) return true;
    Atomics.add(rows, at + Row.Shed + rank, 1);
    if (active >= room) Atomics.add(rows, at + Row.Beyond, 1);
    return false;
  }

  /** Whether one retry more is within the budget now. Counts nothing. */
  mayRetry(row: number): boolean {
    const at = row * ROW_WORDS;
    const { rows } = this;
    const retrying = rows[at + RETRYING]!;
    if (retrying >= rows[at + Row.MaxRetries]!) return false;
    const ofActive = rows[at + Row.BudgetActive]!;
    if (ofActive >= 0) {
      const most = Math.max(rows[at + Row.BudgetMinActive]!, (rows[at + ACTIVE]! * ofActive) / WHOLE);
      if (retrying >= most) return false;
    }
    return rows[at + DEPOSIT]! < 0 || rows[at + TOKENS]! >= RETRY;
  }

  /** As mayRetry(), of one that is about to be made; false: it is answered 503, and counted. */
  admitsRetry(row: number): boolean {
    if (this.mayRetry(row)) return true;
    Atomics.add(this.rows, row * ROW_WORDS + Row.RefusedRetries, 1);
    return false;
  }

  /** Requests that one endpoint may have at once; NO_LIMIT: any number. */
  endpointLimit(row: number): number {
    return this.rows[row * ROW_WORDS + Row.MaxEndpointRequests]!;
  }

  refuseEndpoint(row: number): void {
    Atomics.add(this.rows, row * ROW_WORDS + Row.RefusedEndpointRequests, 1);
  }

  /** An endpoint that is to be tried by one request; -1: none. */
  trial(row: number): number {
    return this.rows[row * ROW_WORDS + TRIAL]!;
  }

  /** This request is the one. */
  takeTrial(row: number, endpoint: number): boolean {
    return Atomics.compareExchange(this.rows, row * ROW_WORDS + TRIAL, endpoint, -1) === endpoint;
  }

  /** It is not sent: another one may be. */
  returnTrial(row: number, endpoint: number): void {
    Atomics.compareExchange(this.rows, row * ROW_WORDS + TRIAL, -1, endpoint);
  }

  /** Whether the ends of attempts are wanted at once (DecisionFlag.Prompt). */
  isLimited(row: number): boolean {
    return this.rows[row * ROW_WORDS + Row.IsLimited] === 1;
  }

  /** An attempt begins; returns what its token has beside the edge. */
  begin(row: number, isRetry: boolean): number {
    const at = row * ROW_WORDS;
    Atomics.add(this.rows, at + ACTIVE, 1);
    this.own[row]! += 1;
    const deposit = this.rows[at + DEPOSIT]!;
    if (!isRetry) {
      Atomics.add(this.rows, at + REQUESTS, 1);
      if (deposit > 0) Atomics.add(this.rows, at + TOKENS, deposit);
      return row << TOKEN_ROW_BITS;
    }
    if (deposit >= 0) Atomics.sub(this.rows, at + TOKENS, RETRY);
    Atomics.add(this.rows, at + RETRIES, 1);
    Atomics.add(this.rows, at + RETRYING, 1);
    this.own[MAX_ROWS + row]! += 1;
    return (row << TOKEN_ROW_BITS) | TOKEN_RETRY;
  }

  /** Of the completion at word `c`, whose token has a row. */
  settle(completions: Int32Array, c: number): void {
    const token = completions[c + Completion.Token]!;
    const target = completions[c + Completion.Target]!;
    if (target === DEFERRED || target <= LOCAL) return;
    const row = token >>> TOKEN_ROW_BITS;
    const at = row * ROW_WORDS;
    // Of an attempt that was completed as failed before.
    if (target < 0 && this.rows[at + Row.IsPassedOn] === 0) return;
    Atomics.sub(this.rows, at + ACTIVE, 1);
    this.own[row]! -= 1;
    if ((token & TOKEN_RETRY) !== 0) {
      Atomics.sub(this.rows, at + RETRYING, 1);
      this.own[MAX_ROWS + row]! -= 1;
    }
    const kind = completions[c + Completion.Kind]!;
    if (kind === ABANDONED) return;
    const firstByteUs = completions[c + C_FIRST_BYTE]!;
    if (kind === ENDED && firstByteUs >= 0 && this.rows[at + LIMIT]! > 0)
      Atomics.add(this.samples, row * SAMPLE_BUCKETS + sampleBucket(firstByteUs), 1);
    if (target >= 0) this.judge(at, target * ENDPOINT_WORDS, completions, c, kind === ENDED ? firstByteUs : -1);
  }

  /** What the attempt says of its endpoint. */
  private judge(at: number, endpoint: number, completions: Int32Array, c: number, firstByteUs: number): void {
    const { endpoints } = this;
    const reason = completions[c + C_REASON]!;
    const status = completions[c + C_STATUS]!;
    const isLocal =
      reason === CONNECT_FAILED ||
      reason === UPSTREAM_RESET ||
      reason === UPSTREAM_TIMEOUT ||
      reason === UPSTREAM_PROTOCOL ||
      (reason === RETRIES_EXHAUSTED && firstByteUs < 0);
    // The client went away before there was an answer, or it was never asked.
    if (!isLocal && firstByteUs < 0 && reason !== 0) return;
    const grpc = completions[c + C_GRPC]!;
    const isFailure = isLocal || status >= 500 || (grpc >= 0 && ((GRPC_FAILURES >>> grpc) & 1) === 1);
    // Before the results, which are read first: no success is taken for a failure that isn't counted yet.
    if (!isFailure) Atomics.add(endpoints, endpoint + Endpoint.Successes, 1);
    if (this.rows[at + Row.SplitsLocal] === 1) {
      if (!isLocal) Atomics.add(endpoints, endpoint + Endpoint.LocalSuccesses, 1);
      Atomics.add(endpoints, endpoint + Endpoint.LocalResults, 1);
      if (isLocal) {
        Atomics.add(endpoints, endpoint + Endpoint.ConsecutiveLocal, 1);
        Atomics.add(this.rows, at + Row.Failures, 1);
        return;
      }
      clear(endpoints, endpoint + Endpoint.ConsecutiveLocal);
    }
    Atomics.add(endpoints, endpoint + Endpoint.Results, 1);
    if (!isFailure) {
      clear(endpoints, endpoint + Endpoint.Consecutive5xx);
      clear(endpoints, endpoint + Endpoint.ConsecutiveGateway);
      return;
    }
    const isGateway = isLocal || (status >= 502 && status <= 504) || (grpc >= 0 && ((GRPC_GATEWAY >>> grpc) & 1) === 1);
    Atomics.add(endpoints, endpoint + Endpoint.Consecutive5xx, 1);
    if (isGateway) Atomics.add(endpoints, endpoint + Endpoint.ConsecutiveGateway, 1);
    else clear(endpoints, endpoint + Endpoint.ConsecutiveGateway);
    Atomics.add(this.rows, at + Row.Failures, 1);
  }
}

/** A word that is nearly always 0 already is not written: its line stays shared. */
function clear(words: Int32Array, at: number): void {
  if (words[at] !== 0) Atomics.store(words, at, 0);
}

/** What a worker that is gone had begun and can't end any more. */
export function giveBack(state: ResilienceState, share: SharedArrayBuffer): void {
  const own = new Int32Array(share);
  for (let row = 0; row < MAX_ROWS; row++) {
    if (own[row] !== 0) Atomics.sub(state.rows, row * ROW_WORDS + ACTIVE, own[row]!);
    if (own[MAX_ROWS + row] !== 0) Atomics.sub(state.rows, row * ROW_WORDS + RETRYING, own[MAX_ROWS + row]!);
  }
  own.fill(0);
}

/** No policy limits anything: what a row is before its own is written. */
export function unlimit(rows: Int32Array, row: number): void {
  const at = row * ROW_WORDS;
  for (const word of [Row.MaxRequests, Row.MaxRetries, Row.MaxEndpointRequests]) rows[at + word] = NO_LIMIT;
  rows[at + Row.BudgetActive] = -1;
  rows[at + Row.Deposit] = -1;
  rows[at + Row.Trial] = -1;
}
