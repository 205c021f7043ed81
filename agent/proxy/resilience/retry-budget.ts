// The budget of retries that is a share of an interval's requests (Linkerd's retry budget, Gateway API's retryConstraint): tokens, which requests add to
// and retries take from (gate.ts). On the main thread: adds what may be in any case, and takes what was saved for too long.
import { RETRY, type ResilienceState, ROW_WORDS, Row } from './state.js';

export interface IntervalShare {
  /** Of the interval's requests, and how many may be in any case. */
  readonly percent: number;
  readonly least: number;
  readonly ms: number;
}

/** What requests add may be saved for this part of the interval: a retry is for the load of now. */
const SAVED = 10;

export class IntervalBudget {
  /** Of the step before. */
  private requests: number;
  private atMs: number;

  constructor(
    private readonly state: ResilienceState,
    private readonly row: number,
    private share: IntervalShare,
    nowMs: number,
  ) {
    this.requests = this.word(Row.Requests);
    this.atMs = nowMs;
    this.state.rows[this.at + Row.Tokens] = share.least * RETRY;
    this.configure(share);
  }

  configure(share: IntervalShare): void {
    this.share = share;
    this.state.rows[this.at + Row.Deposit] = Math.round((share.percent / 100) * RETRY);
  }

  sweep(nowMs: number): void {
    const { percent, least, ms } = this.share;
    const elapsed = nowMs - this.atMs;
    if (elapsed < ms / SAVED) return;
    const requests = this.word(Row.Requests);
    const perInterval = (((requests - this.requests) | 0) * ms) / elapsed;
    this.requests = requests;
    this.atMs = nowMs;
    const most = Math.floor((least + Math.max(1, (perInterval * percent) / 100 / SAVED)) * RETRY);
    const tokens = this.word(Row.Tokens) + Math.round((least * RETRY * elapsed) / ms);
    Atomics.add(this.state.rows, this.at + Row.Tokens, Math.min(most, tokens) - this.word(Row.Tokens));
  }

  close(): void {
    this.state.rows[this.at + Row.Deposit] = -1;
  }

  private get at(): number {
    return this.row * ROW_WORDS;
  }

  private word(word: Row): number {
    return Atomics.load(this.state.rows, this.at + word);
  }
}
