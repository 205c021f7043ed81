// The limits of admission of one row, window by window: the workers' counts in, the limit and the classes' shares out. On the main thread.
import { Gradient, type GradientPolicy } from './gradient.js';
import { nextShares } from './shedding.js';
import { MAX_CLASSES, type ResilienceState, ROW_WORDS, Row, SAMPLE_BUCKETS, sampleBoundUs, WHOLE } from './state.js';

export interface AdmissionPolicy {
  /** Requests that may be in flight; null: `adaptive` says. */
  readonly maxRequests: number | null;
  readonly adaptive: GradientPolicy;
  /** Classes of criticality; 1: there are none. */
  readonly classes: number;
}

export class Admission {
  private policy: AdmissionPolicy;
  private gradient: Gradient | null = null;
  private shares = new Array<number>(MAX_CLASSES).fill(1);
  /** Of the window: what the counts were when it began. */
  private readonly samples = new Int32Array(SAMPLE_BUCKETS);
  private readonly asked = new Int32Array(MAX_CLASSES);
  private beyond = 0;
  private served = 0;
  private endsMs = 0;

  constructor(
    policy: AdmissionPolicy,
    private readonly state: ResilienceState,
    private readonly row: number,
    nowMs: number,
    private readonly random: () => number,
  ) {
    this.policy = policy;
    this.configure(policy, nowMs);
    this.samples.set(this.sampled);
    this.beginWindow(nowMs);
  }

  configure(policy: AdmissionPolicy, nowMs: number): void {
    const isSame = JSON.stringify(policy) === JSON.stringify(this.policy);
    if (!isSame || (this.gradient === null && policy.maxRequests === null))
      this.gradient = policy.maxRequests === null ? new Gradient(policy.adaptive, nowMs, this.random) : null;
    this.policy = policy;
    this.write();
  }

  get limit(): number {
    return this.gradient?.limit ?? this.policy.maxRequests ?? 0;
  }

  /** µs; 0: not known, or the limit is a fixed one. */
  get minRttUs(): number {
    return this.gradient?.minRttUs ?? 0;
  }

  sweep(nowMs: number): void {
    if (nowMs < this.endsMs) return;
    const now = this.sampled;
    const count = now.reduce((sum, each, bucket) => sum + ((each - this.samples[bucket]!) | 0), 0);
    const isTaken = this.gradient?.update(nowMs, count, this.percentileUs(now, count), this.word(Row.Active)) ?? true;
    this.shares = nextShares(this.shares, {
      asked: Array.from(this.asked, (before, rank) => (this.word(Row.Asked + rank) - before) | 0),
      refused: (this.word(Row.Beyond) - this.beyond) | 0,
      served: count - this.served,
    });
    this.served = isTaken ? 0 : count;
    if (isTaken) this.samples.set(now);
    this.beginWindow(nowMs);
    this.write();
  }

  /** Nobody is held back any more. */
  close(): void {
    this.state.rows[this.row * ROW_WORDS + Row.Limit] = 0;
  }

  private beginWindow(nowMs: number): void {
    this.endsMs = nowMs + this.policy.adaptive.updateMs;
    for (let rank = 0; rank < MAX_CLASSES; rank++) this.asked[rank] = this.word(Row.Asked + rank);
    this.beyond = this.word(Row.Beyond);
  }

  private write(): void {
    const at = this.row * ROW_WORDS;
    const isClassed = this.policy.classes > 1;
    for (let rank = 0; rank < MAX_CLASSES; rank++)
      this.state.rows[at + Row.Share + rank] = isClassed ? Math.round(this.shares[rank]! * WHOLE) : WHOLE;
    this.state.rows[at + Row.Limit] = this.limit;
  }

  private get sampled(): Int32Array {
    return this.state.samples.subarray(this.row * SAMPLE_BUCKETS, (this.row + 1) * SAMPLE_BUCKETS);
  }

  /** Interpolated in its bucket, whose width would else be a step of the limit. */
  private percentileUs(now: Int32Array, count: number): number {
    const wanted = count * this.policy.adaptive.percentile;
    let below = 0;
    for (let bucket = 0; bucket < SAMPLE_BUCKETS; bucket++) {
      const inside = (now[bucket]! - this.samples[bucket]!) | 0;
      if (inside > 0 && below + inside >= wanted) {
        const from = sampleBoundUs(bucket);
        return from + ((sampleBoundUs(bucket + 1) - from) * (wanted - below)) / inside;
      }
      below += inside;
    }
    return 0;
  }

  private word(word: number): number {
    return Atomics.load(this.state.rows, this.row * ROW_WORDS + word);
  }
}
