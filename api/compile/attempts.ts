// What a TrafficPolicy says of further attempts of a request → the model's. Pure.
import type { Hedging, ServiceRetries } from '../gen/mesh/v1/model.js';
import { durationMs } from '../resources/index.js';
import { hedgeAfter } from '../resources/traffic-policy-attempts.js';
import type { Stored } from './input.js';
import { DEFAULT_RETRY_ON, retryConditions } from './retry-conditions.js';

type Spec = Stored<'TrafficPolicy'>['manifest']['spec'];

const DEFAULT_BACKOFF_MS = 25;
/** Second attempts to a million requests. */
const DEFAULT_MAX_PARTS = 100_000;

export function retriesOfPolicy(retries: NonNullable<Spec['retries']>): ServiceRetries {
  const { attempts, perTryTimeout, on = DEFAULT_RETRY_ON, backoff, retryAfter = false, anyMethod = false, retriableHeaders = [] } = retries;
  return {
    retry: {
      attempts,
      ...retryConditions(on),
      anyMethod,
      heedsRetryAfter: retryAfter,
      headers: retriableHeaders.map((name) => name.toLowerCase()),
      repeatsEndpoints: false,
      remoteLocalities: undefined,
      backoffMs: backoff === undefined ? DEFAULT_BACKOFF_MS : (durationMs(backoff) ?? 0),
    },
    attemptTimeoutMs: durationMs(perTryTimeout ?? '') ?? 0,
  };
}

export function hedgingOfPolicy({ after, max, anyMethod = false }: NonNullable<Spec['hedging']>): Hedging {
  const found = hedgeAfter(after) ?? { ms: 0 };
  return {
    afterMs: 'ms' in found ? found.ms : 0,
    afterPercentile: 'percentile' in found ? found.percentile : 0,
    maxPartsPerMillion: max === undefined ? DEFAULT_MAX_PARTS : Math.round(max * 10_000),
    anyMethod,
  };
}
