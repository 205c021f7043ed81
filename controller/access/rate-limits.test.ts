import { expect, test } from '@jest/globals';
import { retryDelayIn, retryInfo } from '../../api/grpc/retry-info.js';
import { RateLimits } from './rate-limits.js';

test('a burst goes through, then one at a time, and the refusal says when', () => {
  let now = 0;
  const limits = new RateLimits(() => now);
  const rate = { perSecond: 8, burst: 3 };
  expect([1, 2, 3].map(() => limits.take('a', rate))).toEqual([0, 0, 0]);
  expect(limits.take('a', rate)).toBe(125);
  expect(limits.take('b', rate)).toBe(0);
  now = 62.5;
  expect(limits.take('a', rate)).toBe(63);
  now = 125;
  expect(limits.take('a', rate)).toBe(0);
  now = 1_000_000;
  expect([1, 2, 3, 4].map(() => limits.take('a', rate) > 0)).toEqual([false, false, false, true]);
});

test('callers that are made up push each other out, and memory stays bounded', () => {
  const limits = new RateLimits(() => 0);
  const rate = { perSecond: 1, burst: 1 };
  limits.take('first', rate);
  for (let at = 0; at < 30_000; at++) limits.take(`made up ${at}`, rate);
  expect(limits.take('made up 29999', rate)).toBeGreaterThan(0);
  expect(limits.take('first', rate)).toBe(0);
});

test('RetryInfo is what Google’s protobuf says it is, and is read back', () => {
  // google.rpc.Status { code: 8, message: "x", details: [Any of RetryInfo { retry_delay { seconds: 1, nanos: 500000000 } }] }
  const value = '0a280a28747970652e676f6f676c65617069732e636f6d2f676f6f676c652e7270632e5265747279496e666f12';
  const trailers = retryInfo(8, 'x', 1_500);
  const [bytes] = trailers.get('grpc-status-details-bin');
  expect(Buffer.from(bytes as Buffer).toString('hex')).toContain(value.slice(4, 84));
  expect(retryDelayIn(trailers)).toBe(1_500);
});
