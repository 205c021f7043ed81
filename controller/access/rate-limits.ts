// Token buckets: what one caller may ask of a controller in a time. Owns their number too: callers are made up easily.

export interface Rate {
  readonly perSecond: number;
  readonly burst: number;
}

interface Bucket {
  tokens: number;
  atMs: number;
}

/** The one asked for least recently is forgotten, which gives its caller a full burst: no more than a new name would. */
const MAX_BUCKETS = 20_000;

export class RateLimits {
  readonly #buckets = new Map<string, Bucket>();
  readonly #now: () => number;

  /** Milliseconds, monotonic. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** 0: it may. Else in how many milliseconds it may. */
  take(caller: string, rate: Rate): number {
    const nowMs = this.#now();
    const bucket = this.#buckets.get(caller) ?? { tokens: rate.burst, atMs: nowMs };
    bucket.tokens = Math.min(rate.burst, bucket.tokens + ((nowMs - bucket.atMs) / 1_000) * rate.perSecond);
    bucket.atMs = nowMs;
    // Renewed: the oldest one in the map is the one that was asked for least recently.
    this.#buckets.delete(caller);
    this.#buckets.set(caller, bucket);
    if (this.#buckets.size > MAX_BUCKETS) this.#forgetOldest();
    if (bucket.tokens < 1) return Math.ceil(((1 - bucket.tokens) / rate.perSecond) * 1_000);
    bucket.tokens -= 1;
    return 0;
  }

  #forgetOldest(): void {
    const [oldest] = this.#buckets.keys();
    if (oldest !== undefined) this.#buckets.delete(oldest);
  }
}
