// What a DestinationRule or a TrafficPolicy says of endpoints that fail and of too many requests → the model's outlier detection, circuit
// breaker, retry budget and admission, with every default in its place. Pure.
import type { Admission, CircuitBreaker, OutlierDetection, RetryBudget } from '../gen/mesh/v1/model.js';
import { durationMs } from '../resources/index.js';
import { goDurationMs } from '../resources/istio-common.js';
import type { Stored } from './input.js';

type RulePolicy = NonNullable<Stored<'DestinationRule'>['manifest']['spec']['trafficPolicy']>;
type OwnSpec = Stored<'TrafficPolicy'>['manifest']['spec'];
type Own<Section extends keyof OwnSpec> = NonNullable<OwnSpec[Section]>;

/** Envoy's defaults; of success rates and failure percentages nothing is said unless it is asked for, as in Istio. */
const OUTLIERS = {
  consecutive5xx: 5,
  consecutiveLocalOriginFailures: 5,
  intervalMs: 10_000,
  baseEjectionMs: 30_000,
  maxEjectionMs: 300_000,
  maxEjectionPercent: 10,
  trialRequests: 3,
};
const VOLUME = { successRate: 100, failurePercentage: 50, hosts: 5 };

/** Of a DestinationRule; undefined: it says nothing. */
export function outliersOfRule({ outlierDetection }: Pick<RulePolicy, 'outlierDetection'>): OutlierDetection | undefined {
  if (outlierDetection === undefined) return undefined;
  const { consecutiveErrors, consecutiveGatewayErrors, consecutive5xxErrors, interval, baseEjectionTime } = outlierDetection;
  const baseEjectionMs = wholeMs(goDurationMs(baseEjectionTime ?? ''), OUTLIERS.baseEjectionMs);
  return {
    ...OUTLIERS,
    consecutive5xx: consecutive5xxErrors ?? OUTLIERS.consecutive5xx,
    // consecutiveErrors: its name before Istio 1.5.
    consecutiveGatewayErrors: consecutiveGatewayErrors ?? consecutiveErrors ?? 0,
    splitsLocalOrigin: outlierDetection.splitExternalLocalOriginErrors ?? false,
    consecutiveLocalOriginFailures: outlierDetection.consecutiveLocalOriginFailures ?? OUTLIERS.consecutiveLocalOriginFailures,
    intervalMs: wholeMs(goDurationMs(interval ?? ''), OUTLIERS.intervalMs),
    baseEjectionMs,
    maxEjectionMs: Math.max(OUTLIERS.maxEjectionMs, baseEjectionMs),
    maxEjectionPercent: outlierDetection.maxEjectionPercent ?? OUTLIERS.maxEjectionPercent,
    successRate: undefined,
    failurePercentage: undefined,
  };
}

/** Of a TrafficPolicy. */
export function outliersOfPolicy(section: Own<'outlierDetection'>): OutlierDetection {
  const { successRate, failurePercentage } = section;
  const baseEjectionMs = wholeMs(durationMs(section.baseEjectionTime ?? ''), OUTLIERS.baseEjectionMs);
  return {
    consecutive5xx: section.consecutive5xxErrors ?? OUTLIERS.consecutive5xx,
    consecutiveGatewayErrors: section.consecutiveGatewayErrors ?? 0,
    splitsLocalOrigin: section.splitExternalLocalOriginErrors ?? false,
    consecutiveLocalOriginFailures: section.consecutiveLocalOriginFailures ?? OUTLIERS.consecutiveLocalOriginFailures,
    intervalMs: wholeMs(durationMs(section.interval ?? ''), OUTLIERS.intervalMs),
    baseEjectionMs,
    maxEjectionMs: Math.max(wholeMs(durationMs(section.maxEjectionTime ?? ''), OUTLIERS.maxEjectionMs), baseEjectionMs),
    maxEjectionPercent: section.maxEjectionPercent ?? OUTLIERS.maxEjectionPercent,
    successRate:
      successRate === undefined
        ? undefined
        : {
            minimumRequests: successRate.minimumRequests ?? VOLUME.successRate,
            minimumEndpoints: successRate.minimumEndpoints ?? VOLUME.hosts,
            deviations: successRate.standardDeviations ?? 1.9,
          },
    failurePercentage:
      failurePercentage === undefined
        ? undefined
        : {
            minimumRequests: failurePercentage.minimumRequests ?? VOLUME.failurePercentage,
            minimumEndpoints: failurePercentage.minimumEndpoints ?? VOLUME.hosts,
            threshold: failurePercentage.threshold ?? 85,
          },
    trialRequests: section.trialRequests ?? OUTLIERS.trialRequests,
  };
}

/** Of a DestinationRule; undefined: it sets none of these limits. 0 means none, as in Istio. */
export function circuitBreakerOfRule({ connectionPool }: Pick<RulePolicy, 'connectionPool'>): CircuitBreaker | undefined {
  const { http2MaxRequests = 0, maxRetries = 0 } = connectionPool?.http ?? {};
  if (http2MaxRequests === 0 && maxRetries === 0) return undefined;
  return { maxRequests: http2MaxRequests, maxRetries: maxRetries === 0 ? undefined : maxRetries, maxEndpointRequests: 0 };
}

/** Of a TrafficPolicy. */
export function circuitBreakerOfPolicy(section: Own<'circuitBreaker'>): CircuitBreaker {
  return {
    maxRequests: section.maxRequests ?? 0,
    maxRetries: section.maxRetries,
    maxEndpointRequests: section.maxRequestsPerEndpoint ?? 0,
  };
}

/** Of a DestinationRule. */
export function retryBudgetOfRule({ retryBudget }: Pick<RulePolicy, 'retryBudget'>): RetryBudget | undefined {
  return retryBudget === undefined ? undefined : { ofActive: ofActive(retryBudget), ofInterval: undefined };
}

/** Of a TrafficPolicy: of the requests in flight (Envoy, Istio), of those of an interval (Gateway API, Linkerd), or both. */
export function retryBudgetOfPolicy(section: Own<'retryBudget'>): RetryBudget {
  const { percent, minRetryConcurrency, budget, minRetryRate } = section;
  const intervalMs = wholeMs(durationMs(budget?.interval ?? ''), 10_000);
  const rateMs = wholeMs(durationMs(minRetryRate?.interval ?? ''), 1_000);
  return {
    ofActive: percent === undefined && minRetryConcurrency === undefined ? undefined : ofActive({ percent, minRetryConcurrency }),
    ofInterval:
      budget === undefined && minRetryRate === undefined
        ? undefined
        : { percent: budget?.percent ?? 20, least: Math.round(((minRetryRate?.count ?? 10) * intervalMs) / rateMs), intervalMs },
  };
}

function ofActive({ percent, minRetryConcurrency }: { percent?: number | undefined; minRetryConcurrency?: number | undefined }) {
  return { percent: percent ?? 20, least: minRetryConcurrency ?? 3, intervalMs: 0 };
}

/** Of a TrafficPolicy. The adaptive limit's defaults are those of Envoy's documentation. */
export function admissionOfPolicy({ maxConcurrency, adaptive = {}, criticality }: Own<'admission'>): Admission {
  return {
    maxConcurrency: maxConcurrency ?? 0,
    adaptive: {
      minConcurrency: adaptive.minConcurrency ?? 3,
      maxConcurrency: adaptive.maxConcurrency ?? 1_000,
      updateIntervalMs: wholeMs(durationMs(adaptive.updateInterval ?? ''), 100),
      minRttIntervalMs: wholeMs(durationMs(adaptive.minRTTInterval ?? ''), 60_000),
      minRttRequests: adaptive.minRTTRequests ?? 50,
      bufferPercent: adaptive.buffer ?? 25,
      percentile: adaptive.percentile ?? 50,
    },
    criticality:
      criticality === undefined
        ? undefined
        : {
            header: criticality.header.toLowerCase(),
            values: [...criticality.values],
            // Whoever says nothing is neither the most nor, where there are more than two, the least critical.
            defaultClass: criticality.default === undefined ? 1 : criticality.values.indexOf(criticality.default),
          },
  };
}

function wholeMs(ms: number | null, otherwise: number): number {
  return ms === null ? otherwise : Math.min(Math.round(ms), 0x7fff_ffff);
}
