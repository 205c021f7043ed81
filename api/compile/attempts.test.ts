import { expect, test } from '@jest/globals';
import { hedgingOfPolicy, retriesOfPolicy } from './attempts.js';

test('retries of a policy: Istio’s conditions where none are named, and only what is safe', () => {
  expect(retriesOfPolicy({ attempts: 2 })).toEqual({
    retry: {
      attempts: 2,
      statuses: [503],
      grpcStatuses: [1, 14],
      connectFailure: true,
      refused: true,
      reset: false,
      rateLimited: false,
      anyMethod: false,
      heedsRetryAfter: false,
      headers: [],
      requestNamesHeaders: false,
      repeatsEndpoints: false,
      remoteLocalities: undefined,
      backoffMs: 25,
    },
    attemptTimeoutMs: 0,
  });
  const all = {
    attempts: 1,
    perTryTimeout: '1s',
    on: ['reset'],
    backoff: '100ms',
    retryAfter: true,
    anyMethod: true,
    retriableHeaders: ['X-Busy'],
  };
  expect(retriesOfPolicy(all)).toMatchObject({
    retry: { attempts: 1, statuses: [], reset: true, anyMethod: true, heedsRetryAfter: true, backoffMs: 100, headers: ['x-busy'] },
    attemptTimeoutMs: 1_000,
  });
});

test('second attempts come after a time, or after what most answers take', () => {
  expect(hedgingOfPolicy({ after: '50ms' })).toEqual({ afterMs: 50, afterPercentile: 0, maxPartsPerMillion: 100_000, anyMethod: false });
  expect(hedgingOfPolicy({ after: 'p95', max: 2.5, anyMethod: true })).toEqual({
    afterMs: 0,
    afterPercentile: 95,
    maxPartsPerMillion: 25_000,
    anyMethod: true,
  });
});
