// The account of requests, connections and attempts that ended, for metrics and load balancing. On a worker's thread, for each of them:
// allocates nothing, must not throw.
import { COMPLETION_REASONS, Completion, CompletionKind } from '../native/engine.js';
import type { Attempts } from './attempts.js';
import type { EndpointStates } from './endpoint-states.js';
import { type Cells, outcomeOf } from './metrics/cells.js';
import { type Gate, TOKEN_EDGE, TOKEN_ROW_BITS } from './resilience/gate.js';

const ENDED = CompletionKind.Ended as number;
const SETTLED = CompletionKind.Settled as number;
const ABANDONED = CompletionKind.Abandoned as number;
const FAILED = CompletionKind.Failed as number;
/**
 * Bit i: grpc-status i is the server's failure, as HTTP's 5xx is (Envoy's grpcToHttpStatus): Unknown, DeadlineExceeded, Unimplemented,
 * Internal, Unavailable, DataLoss. ResourceExhausted is 429.
 */
const GRPC_FAILURES = (1 << 2) | (1 << 4) | (1 << 12) | (1 << 13) | (1 << 14) | (1 << 15);
/** Answers of ours when the engine gave no reason: indexes of COMPLETION_REASONS. */
const REASON_NO_ROUTE = 1;
const REASON_NO_ENDPOINT = 2;
const CLIENT_LEFT = 7;
/** Decision.Target of what we answer ourselves, or below. */
const LOCAL = -100;
const REASON_RATE_LIMITED = COMPLETION_REASONS.indexOf('RL');

/** Of the completion at word `c`. */
export function account(
  cells: Cells,
  states: EndpointStates,
  gate: Gate,
  attempts: Attempts,
  nowUs: number,
  completions: Int32Array,
  c: number,
): void {
  const target = completions[c + Completion.Target]!;
  const kind = completions[c + Completion.Kind]!;
  const token = completions[c + Completion.Token]!;
  if (completions[c + Completion.RequestsPerSecond] !== 0 && target >= 0) hearLoad(states, target, nowUs, completions, c);
  if (token > TOKEN_EDGE && kind !== SETTLED) gate.settle(completions, c);
  if (kind !== ENDED) {
    if (kind === SETTLED) cells.opened[token & TOKEN_EDGE]! += 1;
    else if (target >= 0) giveUp(cells, target, kind === FAILED);
    if (kind === FAILED && target >= 0) states.observe(target, -1, 0, nowUs);
    const slowUs = completions[c + Completion.FirstByteUs]!;
    if (kind === ABANDONED && target >= 0 && slowUs >= 0) {
      states.observe(target, slowUs, slowUs, nowUs);
      attempts.observe(target, slowUs);
    }
    return;
  }
  const status = completions[c + Completion.Status]!;
  const reason = reasonOf(target, completions[c + Completion.Reason]!, token);
  const received = wide(completions[c + Completion.ReceivedLow]!, completions[c + Completion.ReceivedHigh]!);
  const sent = wide(completions[c + Completion.SentLow]!, completions[c + Completion.SentHigh]!);
  const grpcStatus = completions[c + Completion.GrpcStatus]!;
  const outcome = outcomeOf(status, reason, grpcStatus);
  cells.finished(token & TOKEN_EDGE, outcome, completions[c + Completion.LatencyUs]!, received, sent);
  if (target < 0) return;
  cells.inFlight[target]! -= 1;
  cells.endpointRequests[target]! += 1;
  if (isError(status, reason) || isGrpcFailure(grpcStatus)) cells.endpointErrors[target]! += 1;
  const firstByteUs = completions[c + Completion.FirstByteUs]!;
  attempts.observe(target, firstByteUs);
  if (firstByteUs >= 0 || reason !== CLIENT_LEFT) states.observe(target, firstByteUs, completions[c + Completion.LatencyUs]!, nowUs);
}

const bits = new Int32Array(3);
const figures = new Float32Array(bits.buffer);

function hearLoad(states: EndpointStates, target: number, nowUs: number, completions: Int32Array, c: number): void {
  bits[0] = completions[c + Completion.Utilization]!;
  bits[1] = completions[c + Completion.RequestsPerSecond]!;
  bits[2] = completions[c + Completion.ErrorsPerSecond]!;
  states.hear(target, figures[0]!, figures[1]!, figures[2]!, nowUs);
}

function giveUp(cells: Cells, target: number, hasFailed: boolean): void {
  cells.inFlight[target]! -= 1;
  if (!hasFailed) return;
  cells.endpointRequests[target]! += 1;
  cells.endpointErrors[target]! += 1;
}

/** Index in COMPLETION_REASONS: what the engine said, else what a local answer of ours means. */
export function reasonOf(target: number, reason: number, token: number): number {
  if (reason !== 0) return reason;
  if (target <= LOCAL && token > TOKEN_EDGE) return token >>> TOKEN_ROW_BITS;
  return target === -404 || target === -502 ? REASON_NO_ROUTE : target === -503 ? REASON_NO_ENDPOINT : 0;
}

/** 5xx, or it ended for a reason of its own: not that it was the client's to see to (no route; it went away; too many requests). */
export function isError(status: number, reason: number): boolean {
  return status >= 500 || (reason !== 0 && reason !== 1 && reason !== 7 && reason !== REASON_RATE_LIMITED);
}

/** `grpcStatus`: -1 for no gRPC. */
function isGrpcFailure(grpcStatus: number): boolean {
  return grpcStatus >= 0 && ((GRPC_FAILURES >>> grpcStatus) & 1) === 1;
}

function wide(low: number, high: number): number {
  return high * 0x100000000 + (low >>> 0);
}
