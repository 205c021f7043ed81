// How many requests may be in flight, from how long they take: the gradient controller of Envoy's adaptive concurrency filter (after Netflix's
// concurrency-limits). A pure state machine: it is told latencies of a window, and answers with the limit of the next.
//   gradient = minRTT × (1 + buffer) / sampleRTT, 0.5 to 2;  limit = limit × gradient + √(limit × gradient)
// minRTT, how long a request takes that waits for no other, is measured anew now and then with the limit held down.

export interface GradientPolicy {
  readonly minLimit: number;
  readonly maxLimit: number;
  /** Windows. */
  readonly updateMs: number;
  /** How often minRTT is measured, give or take a tenth. */
  readonly minRttIntervalMs: number;
  /** Requests that a measurement of minRTT takes. */
  readonly minRttRequests: number;
  /** How much longer than minRTT is as good; 0.25: a quarter. */
  readonly buffer: number;
  /** Of the latencies that stands for all, 0 to 1. */
  readonly percentile: number;
}

/** A measurement with fewer requests than it wants ends all the same: nothing is overloaded that is asked so little. */
const MAX_MEASUREMENT_MS = 2_000;
/** Windows with fewer say nothing. */
const MIN_SAMPLES = 5;

export class Gradient {
  limit: number;
  /** µs; 0: not measured yet. */
  minRttUs = 0;
  isMeasuring = true;
  private held: number;
  private measuringSinceMs: number;
  private dueMs = 0;

  constructor(
    private readonly policy: GradientPolicy,
    nowMs: number,
    private readonly random: () => number,
  ) {
    this.limit = policy.minLimit;
    this.held = Math.min(policy.maxLimit, Math.max(policy.minLimit, FIRST_LIMIT));
    this.measuringSinceMs = nowMs;
  }

  /**
   * The window ends: `count` requests ended in it, `rttUs` is their percentile, `active` are in flight. True: they are taken, the next window
   * is a new one.
   */
  update(nowMs: number, count: number, rttUs: number, active: number): boolean {
    if (this.isMeasuring) return this.measure(nowMs, count, rttUs, active);
    if (nowMs >= this.dueMs) {
      this.isMeasuring = true;
      this.measuringSinceMs = nowMs;
      this.held = this.limit;
      this.limit = this.policy.minLimit;
      return true;
    }
    if (count < MIN_SAMPLES) return false;
    const { minLimit, maxLimit, buffer } = this.policy;
    const gradient = Math.min(2, Math.max(0.5, (this.minRttUs * (1 + buffer)) / rttUs));
    const wanted = this.limit * gradient;
    this.limit = Math.round(Math.min(maxLimit, Math.max(minLimit, wanted + Math.sqrt(wanted))));
    return true;
  }

  private measure(nowMs: number, count: number, rttUs: number, active: number): boolean {
    const isOver = nowMs - this.measuringSinceMs >= MAX_MEASUREMENT_MS;
    // Those that began before have waited for others.
    if (active > this.limit && !isOver) return true;
    if (count < this.policy.minRttRequests && !isOver) return false;
    if (count >= MIN_SAMPLES) this.minRttUs = rttUs;
    // Nobody asks: nothing is known, and nothing need be held down.
    if (this.minRttUs === 0) {
      this.measuringSinceMs = nowMs;
      this.limit = this.held;
      return true;
    }
    this.isMeasuring = false;
    this.dueMs = nowMs + this.policy.minRttIntervalMs * (0.9 + 0.2 * this.random());
    this.limit = this.held;
    return true;
  }
}

/** Before anything is known. */
const FIRST_LIMIT = 20;
