// A histogram of microseconds with fixed buckets, in memory that one thread writes and others read. Owns the bucket bounds.
// Per decade 32 buckets: steps of 0.1 from 1 to 2, 0.25 to 5, 0.5 to 10. So a quantile is off by at most 10 %, and Istio's
// Prometheus bounds (0.5, 1, 5, 10, 25, … 1,800,000 ms) are bucket bounds too: exported counts are exact.

const DECADES = 8;
const PER_DECADE = 32;
/** µs at which the first decade begins; less falls into bucket 0. The last bucket takes all from 10^9 µs. */
const FIRST_DECADE_US = 10;
export const HISTOGRAM_BUCKETS = 1 + DECADES * PER_DECADE + 1;

/** Bounds within a decade, in twentieths of its start: 20 … 200. */
const STEPS: readonly number[] = [
  ...Array.from({ length: 10 }, (_, i) => 20 + 2 * i),
  ...Array.from({ length: 12 }, (_, i) => 40 + 5 * i),
  ...Array.from({ length: 10 }, (_, i) => 100 + 10 * i),
];
/** Bucket within the decade by (value × 20 / decade start) - 20. */
const STEP_OF = Uint8Array.from({ length: 180 }, (_, at) => STEPS.findLastIndex((step) => step <= at + 20));

/** Bucket of a whole number of µs. Bounds are inclusive below, as counted from the next bucket: [lower, upper). */
export function bucketOf(us: number): number {
  if (us < FIRST_DECADE_US) return 0;
  let bucket = 1;
  let start = FIRST_DECADE_US;
  for (let decade = 0; decade < DECADES; decade++) {
    if (us < start * 10) return bucket + STEP_OF[Math.floor((us * 20) / start) - 20]!;
    start *= 10;
    bucket += PER_DECADE;
  }
  return HISTOGRAM_BUCKETS - 1;
}

/** First µs that falls into the bucket. */
export function lowerBoundUs(bucket: number): number {
  if (bucket === 0) return 0;
  const decade = Math.floor((bucket - 1) / PER_DECADE);
  if (decade >= DECADES) return FIRST_DECADE_US * 10 ** DECADES;
  return (FIRST_DECADE_US * 10 ** decade * STEPS[(bucket - 1) % PER_DECADE]!) / 20;
}

/** Interpolated within the bucket. 0 when nothing was counted. */
export function quantileUs(counts: ArrayLike<number>, quantile: number): number {
  let total = 0;
  for (let bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) total += counts[bucket]!;
  if (total === 0) return 0;
  let rest = quantile * total;
  for (let bucket = 0; bucket < HISTOGRAM_BUCKETS - 1; bucket++) {
    const count = counts[bucket]!;
    if (count >= rest && count > 0) return lowerBoundUs(bucket) + (lowerBoundUs(bucket + 1) - lowerBoundUs(bucket)) * (rest / count);
    rest -= count;
  }
  return lowerBoundUs(HISTOGRAM_BUCKETS - 1);
}

/** How many observations are below `boundUs`; exact where it is a bucket bound. */
export function countBelow(counts: ArrayLike<number>, boundUs: number): number {
  let sum = 0;
  for (let bucket = 0; bucket < HISTOGRAM_BUCKETS - 1 && lowerBoundUs(bucket + 1) <= boundUs; bucket++) sum += counts[bucket]!;
  return sum;
}
