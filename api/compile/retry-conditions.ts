// The conditions of retries by their names in Envoy, Istio and gRPC → the model's. Pure.
import type { Retry } from '../gen/mesh/v1/model.js';
import { isStatusCode, type RetryCondition } from '../resources/retry-condition.js';

type Conditions = Pick<Retry, 'statuses' | 'grpcStatuses' | 'connectFailure' | 'refused' | 'reset' | 'rateLimited' | 'requestNamesHeaders'>;

const SERVER_ERRORS = Array.from({ length: 100 }, (_, index) => 500 + index);
const ANY_END = { connectFailure: true, refused: true, reset: true };
const CONDITIONS: Readonly<Record<RetryCondition, Partial<Conditions>>> = {
  '5xx': { ...ANY_END, statuses: SERVER_ERRORS },
  'gateway-error': { ...ANY_END, statuses: [502, 503, 504] },
  reset: ANY_END,
  // A request is sent as soon as its connection is there.
  'reset-before-request': { connectFailure: true },
  'connect-failure': { connectFailure: true },
  'refused-stream': { refused: true },
  'retriable-4xx': { statuses: [409] },
  'envoy-ratelimited': { rateLimited: true },
  'retriable-headers': { requestNamesHeaders: true },
  // The codes stand beside it; HTTP/3 is not spoken.
  'retriable-status-codes': {},
  'http3-post-connect-failure': {},
  cancelled: { grpcStatuses: [1] },
  'deadline-exceeded': { grpcStatuses: [4] },
  internal: { grpcStatuses: [13] },
  'resource-exhausted': { grpcStatuses: [8] },
  unavailable: { grpcStatuses: [14] },
};

/** Istio's own, where nothing is named. */
export const DEFAULT_RETRY_ON = ['connect-failure', 'refused-stream', 'unavailable', 'cancelled', '503'];

const ascending = (numbers: readonly number[]): number[] => [...new Set(numbers)].sort((a, b) => a - b);

/** `names`: conditions, or status codes; what is neither is passed over. */
export function retryConditions(names: readonly string[]): Conditions {
  const found = names.map((name): Partial<Conditions> => {
    if (isStatusCode(name)) return { statuses: [Number(name)] };
    return CONDITIONS[name as RetryCondition] ?? {};
  });
  return {
    statuses: ascending(found.flatMap(({ statuses }) => statuses ?? [])),
    grpcStatuses: ascending(found.flatMap(({ grpcStatuses }) => grpcStatuses ?? [])),
    connectFailure: found.some(({ connectFailure }) => connectFailure),
    refused: found.some(({ refused }) => refused),
    reset: found.some(({ reset }) => reset),
    rateLimited: found.some(({ rateLimited }) => rateLimited),
    requestNamesHeaders: found.some(({ requestNamesHeaders }) => requestNamesHeaders),
  };
}
