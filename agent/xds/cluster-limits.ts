// What a policy says of endpoints that fail and of too many requests, as xDS clients have it (gRFC A32, A50). Pure.
import type { CircuitBreakers, OutlierDetection } from '../../api/gen/envoy/config/cluster/v3/cluster.js';
import type { ClusterPolicy } from '../../api/gen/mesh/v1/model.js';
import { durationMs } from './routes.js';

/** gRPC clients count requests alone. Undefined: there is no limit that they would know. */
export function circuitBreakersOf({ circuitBreaker }: ClusterPolicy): CircuitBreakers | undefined {
  if (circuitBreaker === undefined) return undefined;
  const { maxRequests, maxRetries } = circuitBreaker;
  return maxRequests === 0 && maxRetries === undefined
    ? undefined
    : { thresholds: [{ maxRequests: maxRequests === 0 ? undefined : maxRequests, maxRetries }] };
}

/** Envoy's and gRPC's defaults enforce what the policy doesn't ask for, so each kind says whether it does. */
export function outlierDetectionOf({ outlierDetection: found }: ClusterPolicy): OutlierDetection | undefined {
  if (found === undefined) return undefined;
  const { successRate, failurePercentage, consecutive5xx, consecutiveGatewayErrors } = found;
  return {
    consecutive5xx,
    enforcingConsecutive5xx: consecutive5xx > 0 ? 100 : 0,
    consecutiveGatewayFailure: consecutiveGatewayErrors,
    enforcingConsecutiveGatewayFailure: consecutiveGatewayErrors > 0 ? 100 : 0,
    interval: durationMs(found.intervalMs),
    baseEjectionTime: durationMs(found.baseEjectionMs),
    maxEjectionTime: durationMs(found.maxEjectionMs),
    maxEjectionPercent: found.maxEjectionPercent,
    enforcingSuccessRate: successRate === undefined ? 0 : 100,
    successRateMinimumHosts: successRate?.minimumEndpoints,
    successRateRequestVolume: successRate?.minimumRequests,
    successRateStdevFactor: successRate === undefined ? undefined : Math.round(successRate.deviations * 1_000),
    enforcingFailurePercentage: failurePercentage === undefined ? 0 : 100,
    failurePercentageThreshold: failurePercentage?.threshold,
    failurePercentageMinimumHosts: failurePercentage?.minimumEndpoints,
    failurePercentageRequestVolume: failurePercentage?.minimumRequests,
  };
}
