// The interval of a retry budget, as it moves on: where the workers' counts of requests and retries stood when it began. On the main thread.
import { type ResilienceState, ROW_WORDS, Row } from './state.js';

/** Steps in which an interval moves. */
const STEPS = 10;

export class BudgetInterval {
  /** What Requests and Retries were at the last STEPS steps, the oldest first. */
  private readonly past: { readonly requests: number; readonly retries: number }[] = [];
  private dueMs = 0;

  constructor(
    private readonly state: ResilienceState,
    private readonly row: number,
    private intervalMs: number,
  ) {
    this.state.rows[this.at + Row.RequestsBefore] = this.counts.requests;
    this.state.rows[this.at + Row.RetriesBefore] = this.counts.retries;
  }

  configure(intervalMs: number): void {
    this.intervalMs = intervalMs;
  }

  sweep(nowMs: number): void {
    if (nowMs < this.dueMs) return;
    this.dueMs = nowMs + this.intervalMs / STEPS;
    this.past.push(this.counts);
    if (this.past.length <= STEPS) return;
    const { requests, retries } = this.past.shift()!;
    this.state.rows[this.at + Row.RequestsBefore] = requests;
    this.state.rows[this.at + Row.RetriesBefore] = retries;
  }

  private get at(): number {
    return this.row * ROW_WORDS;
  }

  private get counts(): { requests: number; retries: number } {
    const { rows } = this.state;
    return { requests: Atomics.load(rows, this.at + Row.Requests), retries: Atomics.load(rows, this.at + Row.Retries) };
  }
}
