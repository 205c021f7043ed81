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
/** What requests add until it is looked at, and what is saved besides, are words of 31 bits together. */
const [MAX_STEP_MS, MAX_TOKENS] = [1_000, 2 ** 30];

export class IntervalBudget {
  /** Of the step before. */
  private requests: number;
  private atMs: number;
  /** Of what is added in any case, the part of a token that is left over. */
  private owed = 0;

  constructor(
    private readonly state: ResilienceState,
    private readonly row: number,
    private share: IntervalShare,
    nowMs: number,
  ) {
    this.requests = this.word(Row.Requests);
    this.atMs = nowMs;
    this.state.rows[this.at + Row.Tokens] = Math.min(MAX_TOKENS, share.least * RETRY);
    this.configure(share);
  }

  configure(share: IntervalShare): void {
    this.share = share;
    this.state.rows[this.at + Row.Deposit] = Math.round((share.percent / 100) * RETRY);
  }

  sweep(nowMs: number): void {
    const { percent, least, ms } = this.share;
    const elapsed = nowMs - this.atMs;
    if (elapsed < Math.min(MAX_STEP_MS, ms / SAVED)) return;
    const requests = this.word(Row.Requests);
    const perInterval = (((requests - this.requests) | 0) * ms) / elapsed;
    this.requests = requests;
    this.atMs = nowMs;
    const most = Math.min(MAX_TOKENS, (least + Math.max(1, (perInterval * percent) / 100 / SAVED)) * RETRY);
    this.owed += (least * RETRY * elapsed) / ms;
    const before = this.word(Row.Tokens);
    const tokens = Math.floor(Math.min(most, before + this.owed));
    this.owed %= 1;
    Atomics.add(this.state.rows, this.at + Row.Tokens, tokens - before);
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
