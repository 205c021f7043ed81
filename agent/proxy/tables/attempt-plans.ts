// What clusters' policies say of further attempts of a request → rows of plans. When a second attempt is made is proxy/attempts.ts's to know.
import type { ClusterPolicy, Retry } from '../../../api/gen/mesh/v1/model.js';
import type { ClusterSet } from './clusters.js';
import type { Labels } from './labels.js';
import { PLAN_WORDS } from './layout.js';

/** Index in TableSpec.retries, and how many attempts there may be beyond the first. */
type RetryRow = (retry: Retry) => readonly [retry: number, attempts: number];

/** Sections `plans` and `attemptPlans`; the latter in the order of clusterSections(): all clusters, then two for each. */
export function planSections(
  { clusters: declared, variants }: ClusterSet,
  labels: Labels,
  retryRow: RetryRow,
): { plans: number[]; attemptPlans: number[] } {
  const plans: number[] = [];
  const known = new Map<string, number>();
  const planOf = ({ name, policy }: { readonly name: string; readonly policy: ClusterPolicy | undefined }): number => {
    const { hedging, retries, connections } = policy ?? {};
    const idleMs = connections?.streamIdleTimeoutMs ?? 0;
    if (hedging === undefined && retries === undefined && idleMs === 0) return -1;
    const row = [labels.idOf(name), ...wordsOf(hedging, retries, retryRow), idleMs];
    const key = row.join();
    const at = known.get(key) ?? plans.length / PLAN_WORDS;
    if (!known.has(key)) plans.push(...row);
    known.set(key, at);
    return at;
  };
  const byCluster = [...declared, ...variants].map(planOf);
  return { plans, attemptPlans: [...byCluster, ...byCluster.flatMap((plan) => [plan, plan])] };
}

function wordsOf(hedging: ClusterPolicy['hedging'], retries: ClusterPolicy['retries'], retryRow: RetryRow): number[] {
  const [retry, attempts] = retries?.retry === undefined ? [-1, -1] : retryRow(retries.retry);
  const { afterMs = 0, afterPercentile = 0, maxPartsPerMillion = 0, anyMethod = false } = hedging ?? {};
  const hedgeWords = [hedging === undefined ? 0 : 1, afterMs, afterPercentile, maxPartsPerMillion, anyMethod ? 1 : 0];
  return [retry, attempts, retries?.attemptTimeoutMs ?? 0, ...hedgeWords];
}
