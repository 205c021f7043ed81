import { expect, test } from '@jest/globals';
import { RETRY_CONDITIONS } from '../resources/retry-condition.js';
import { retryConditions } from './retry-conditions.js';

const NONE = {
  statuses: [],
  grpcStatuses: [],
  connectFailure: false,
  refused: false,
  reset: false,
  rateLimited: false,
  requestNamesHeaders: false,
};
const ENDS = { connectFailure: true, refused: true, reset: true };

test('every condition is for the ends that Envoy names so', () => {
  const expected: Readonly<Record<string, Partial<ReturnType<typeof retryConditions>>>> = {
    '5xx': { ...ENDS, statuses: Array.from({ length: 100 }, (_, index) => 500 + index) },
    'gateway-error': { ...ENDS, statuses: [502, 503, 504] },
    reset: ENDS,
    'reset-before-request': { connectFailure: true },
    'connect-failure': { connectFailure: true },
    'refused-stream': { refused: true },
    'envoy-ratelimited': { rateLimited: true },
    'retriable-4xx': { statuses: [409] },
    'retriable-status-codes': {},
    'retriable-headers': { requestNamesHeaders: true },
    'http3-post-connect-failure': {},
    cancelled: { grpcStatuses: [1] },
    'deadline-exceeded': { grpcStatuses: [4] },
    internal: { grpcStatuses: [13] },
    'resource-exhausted': { grpcStatuses: [8] },
    unavailable: { grpcStatuses: [14] },
  };
  expect(Object.fromEntries(RETRY_CONDITIONS.map((name) => [name, retryConditions([name])]))).toEqual(
    Object.fromEntries(RETRY_CONDITIONS.map((name) => [name, { ...NONE, ...expected[name] }])),
  );
});

test('several are added up, and numbers are status codes', () => {
  expect(retryConditions(['503', 'retriable-status-codes', '429', '503', 'unavailable', 'cancelled', 'refused-stream'])).toEqual({
    ...NONE,
    statuses: [429, 503],
    grpcStatuses: [1, 14],
    refused: true,
  });
});
