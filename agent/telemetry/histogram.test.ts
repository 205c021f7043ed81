import { expect, test } from '@jest/globals';
import { bucketOf, countBelow, HISTOGRAM_BUCKETS, lowerBoundUs, quantileUs } from './histogram.js';

test('every bucket begins at its bound', () => {
  for (let bucket = 1; bucket < HISTOGRAM_BUCKETS; bucket++) {
    const bound = Math.ceil(lowerBoundUs(bucket));
    expect(bucketOf(bound)).toBe(bucket);
    if (lowerBoundUs(bucket) >= 100) expect(bucketOf(bound - 1)).toBe(bucket - 1);
  }
  expect([bucketOf(0), bucketOf(-1), bucketOf(2 ** 31 - 1)]).toEqual([0, 0, HISTOGRAM_BUCKETS - 1]);
});

test('quantiles are within ten percent', () => {
  const counts = new Uint32Array(HISTOGRAM_BUCKETS);
  for (let us = 1; us <= 100_000; us++) counts[bucketOf(us)]! += 1;
  expect(quantileUs(counts, 0.5) / 50_000).toBeCloseTo(1, 1);
  expect(quantileUs(counts, 0.99) / 99_000).toBeCloseTo(1, 1);
  expect(countBelow(counts, 25_000)).toBe(24_999);
  expect(quantileUs(new Uint32Array(HISTOGRAM_BUCKETS), 0.5)).toBe(0);
});
