// What policies say of failing endpoints and of too many requests → a row of the workers' shared state (resilience/state.ts) for each cluster that
// has any, and what tells a request's criticality. Clusters without such a policy have none.
import type { AdaptiveConcurrency, ClusterPolicy, Criticality, OutlierDetection } from '../../../api/gen/mesh/v1/model.js';
import { policyOf } from '../../model/cluster-policy.js';
import type { AdmissionPolicy } from '../resilience/admission.js';
import type { OutlierPolicy } from '../resilience/outlier-detector.js';
import type { GuardedCluster, ResiliencePolicy } from '../resilience/resilience.js';
import { MAX_CLASSES } from '../resilience/state.js';
import type { CapturedAddresses } from './captured-addresses.js';
import type { Cluster, ClusterSet } from './clusters.js';
import type { Conditions } from './conditions.js';
import { GUARD_WORDS, GuardWord } from './layout.js';
import type { StableIds } from './stable-ids.js';

export interface Guards {
  /** Section guards; row 0 is nobody's. */
  readonly rows: readonly number[];
  readonly clusters: readonly GuardedCluster[];
  readonly warnings: readonly string[];
  /** Row in guards of the cluster's requests; of those to its endpoints here. 0: none. */
  of(cluster: Cluster): number;
  ofInbound(cluster: Cluster): number;
}

export function buildGuards(
  { clusters: declared, variants }: ClusterSet,
  ids: StableIds,
  conditions: Conditions,
  addresses: CapturedAddresses,
): Guards {
  const wanted = new Map<string, Omit<GuardedCluster, 'row'> & { readonly criticality: Criticality | undefined }>();
  for (const cluster of [...declared, ...variants]) {
    if (cluster.guard === '') continue;
    // Variants of a cluster differ in how its endpoints are spoken to, and have ids of their own for them where they do.
    const before = wanted.get(cluster.guard)?.endpoints ?? [];
    const known = new Set(before.flat());
    const own = cluster.endpoints.flatMap(({ id }) => (id >= 0 && !known.has(id) ? [id] : []));
    wanted.set(cluster.guard, {
      name: cluster.guard,
      isInbound: false,
      policy: resilienceOf(cluster.policy),
      endpoints: [...before, own],
      criticality: cluster.policy?.admission?.criticality,
    });
  }
  for (const cluster of declared) {
    const admission = inboundAdmission(cluster);
    if (admission === undefined || !cluster.endpoints.some(({ address }) => addresses.isLocal(address))) continue;
    wanted.set(inboundName(cluster), {
      name: cluster.name,
      isInbound: true,
      policy: { ...NOTHING, admission: admissionOf(admission) },
      endpoints: [],
      criticality: admission.criticality,
    });
  }
  const idByName = ids.assign(wanted.keys());
  const rows: number[] = new Array<number>(GUARD_WORDS).fill(0);
  const rowByName = new Map<string, number>();
  const clusters: GuardedCluster[] = [];
  const warnings: string[] = [];
  for (const [name, { criticality, ...cluster }] of wanted) {
    const id = idByName.get(name);
    if (id === undefined) {
      warnings.push(`${name} is served without its limits and outlier detection: too many services have such policies`);
      continue;
    }
    rowByName.set(name, rows.length / GUARD_WORDS);
    rows.push(...guardRow(id + 1, criticality, conditions));
    clusters.push({ ...cluster, row: id + 1 });
  }
  return {
    rows,
    clusters,
    warnings,
    of: ({ guard }) => rowByName.get(guard) ?? 0,
    ofInbound: (cluster) => rowByName.get(inboundName(cluster)) ?? 0,
  };
}

function inboundName({ name }: Cluster): string {
  return `${name} inbound`;
}

/** Of subsets nothing is known of a connection that comes in. */
function inboundAdmission({ service, port }: Cluster): ClusterPolicy['admission'] {
  return policyOf(service, port.port, {})?.admission;
}

function guardRow(row: number, criticality: Criticality | undefined, conditions: Conditions): number[] {
  const words = new Array<number>(GUARD_WORDS).fill(0);
  words[GuardWord.Row] = row;
  if (criticality === undefined) return words;
  const { header, values, defaultClass } = criticality;
  words[GuardWord.Classes] = Math.min(values.length, MAX_CLASSES);
  words[GuardWord.DefaultClass] = Math.min(defaultClass, MAX_CLASSES - 1);
  values.slice(0, MAX_CLASSES).forEach((value, rank) => {
    const bit = conditions.headerBit(header, value);
    words[GuardWord.Masks + 2 * rank] = Math.max(0, bit) >>> 5;
    words[GuardWord.Masks + 2 * rank + 1] = bit < 0 ? 0 : 1 << (bit & 31);
  });
  return words;
}

const NOTHING: ResiliencePolicy = { outliers: null, circuitBreaker: null, retryBudget: null, admission: null };

function resilienceOf(policy: ClusterPolicy | undefined): ResiliencePolicy {
  const { outlierDetection, circuitBreaker, retryBudget, admission } = policy ?? {};
  const { ofActive, ofInterval } = retryBudget ?? {};
  return {
    outliers: outlierDetection === undefined ? null : outliersOf(outlierDetection),
    circuitBreaker:
      circuitBreaker === undefined
        ? null
        : {
            maxRequests: circuitBreaker.maxRequests || null,
            maxRetries: circuitBreaker.maxRetries ?? null,
            maxEndpointRequests: circuitBreaker.maxEndpointRequests || null,
          },
    retryBudget:
      retryBudget === undefined
        ? null
        : {
            active: ofActive === undefined ? null : { percent: ofActive.percent, least: ofActive.least },
            interval: ofInterval === undefined ? null : { percent: ofInterval.percent, least: ofInterval.least, ms: ofInterval.intervalMs },
          },
    admission: admission === undefined ? null : admissionOf(admission),
  };
}

function outliersOf(policy: OutlierDetection): OutlierPolicy {
  const { successRate, failurePercentage } = policy;
  return {
    consecutive5xx: policy.consecutive5xx,
    consecutiveGateway: policy.consecutiveGatewayErrors,
    consecutiveLocal: policy.splitsLocalOrigin ? policy.consecutiveLocalOriginFailures : 0,
    splitsLocal: policy.splitsLocalOrigin,
    intervalMs: policy.intervalMs,
    baseEjectionMs: policy.baseEjectionMs,
    maxEjectionMs: policy.maxEjectionMs,
    maxEjectionPercent: policy.maxEjectionPercent,
    successRate:
      successRate === undefined
        ? null
        : { requests: successRate.minimumRequests, hosts: successRate.minimumEndpoints, deviations: successRate.deviations },
    failurePercentage:
      failurePercentage === undefined
        ? null
        : {
            requests: failurePercentage.minimumRequests,
            hosts: failurePercentage.minimumEndpoints,
            threshold: failurePercentage.threshold,
          },
    trialRequests: policy.trialRequests,
  };
}

function admissionOf({ maxConcurrency, adaptive, criticality }: NonNullable<ClusterPolicy['admission']>): AdmissionPolicy {
  return {
    maxRequests: maxConcurrency || null,
    adaptive: gradientOf(adaptive),
    classes: Math.min(criticality?.values.length ?? 1, MAX_CLASSES),
  };
}

function gradientOf(adaptive: AdaptiveConcurrency | undefined): AdmissionPolicy['adaptive'] {
  return {
    minLimit: adaptive?.minConcurrency || 3,
    maxLimit: adaptive?.maxConcurrency || 1_000,
    updateMs: adaptive?.updateIntervalMs || 100,
    minRttIntervalMs: adaptive?.minRttIntervalMs || 60_000,
    minRttRequests: adaptive?.minRttRequests || 50,
    buffer: (adaptive?.bufferPercent ?? 25) / 100,
    percentile: (adaptive?.percentile ?? 50) / 100,
  };
}
