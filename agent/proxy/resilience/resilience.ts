// The policies of all clusters at work: writes the limits that workers go by, looks at what they counted, ejects and brings back, and says what
// it did. On the main thread; what is decided for one cluster is beside it.
import type { EndpointStates } from '../endpoint-states.js';
import { Admission, type AdmissionPolicy } from './admission.js';
import { unlimit } from './gate.js';
import { EJECTION_REASONS, OutlierDetector, type OutlierEvent, type OutlierPolicy } from './outlier-detector.js';
import { IntervalBudget, type IntervalShare } from './retry-budget.js';
import { NO_LIMIT, type ResilienceState, ROW_WORDS, Row, WHOLE } from './state.js';

/** How often the workers' counts are looked at: an endpoint that fails goes on getting requests for so long. */
export const SWEEP_MS = 20;

export interface CircuitBreaker {
  /** null: any number. */
  readonly maxRequests: number | null;
  readonly maxRetries: number | null;
  readonly maxEndpointRequests: number | null;
}

export interface RetryBudget {
  /** Percent of the attempts in flight, and how many may be in any case. */
  readonly active: { readonly percent: number; readonly least: number } | null;
  readonly interval: IntervalShare | null;
}

/** Null: there is no such section. */
export interface ResiliencePolicy {
  readonly outliers: OutlierPolicy | null;
  readonly circuitBreaker: CircuitBreaker | null;
  readonly retryBudget: RetryBudget | null;
  readonly admission: AdmissionPolicy | null;
}

/** A cluster, or the endpoints of one that are called here (inbound): those are chosen by others. */
export interface GuardedCluster {
  readonly row: number;
  readonly name: string;
  readonly isInbound: boolean;
  readonly policy: ResiliencePolicy;
  /** Ids: by each way in which they are spoken to, which some requests are for and others not. */
  readonly endpoints: readonly (readonly number[])[];
}

interface Guarded {
  cluster: GuardedCluster;
  outliers: OutlierDetector | null;
  admission: Admission | null;
  budget: IntervalBudget | null;
  /** What the row's counts were when it became this cluster's. */
  readonly base: Int32Array;
}

export interface ClusterReport {
  readonly name: string;
  readonly isInbound: boolean;
  readonly active: number;
  readonly retrying: number;
  readonly refusedRequests: number;
  readonly refusedRetries: number;
  readonly refusedEndpointRequests: number;
  readonly retries: number;
  /** Null: there is no outlier detection. */
  readonly outliers: { readonly active: number; readonly overflows: number; readonly ejections: ReadonlyMap<string, number> } | null;
  /** Null: there is no admission. Shed: by class. */
  readonly admission: { readonly limit: number; readonly minRttUs: number; readonly shed: readonly number[] } | null;
}

export class Resilience {
  private readonly guarded = new Map<number, Guarded>();
  private timer: NodeJS.Timeout | null = null;

  constructor(
    private readonly state: ResilienceState,
    private readonly endpoints: Pick<EndpointStates, 'setUnavailable' | 'unavailable'>,
    private readonly options: {
      /** Monotonic, ms. */
      readonly now: () => number;
      readonly random: () => number;
      readonly onEvent: (cluster: string, event: OutlierEvent) => void;
    },
  ) {}

  /** Of the next generation: before workers decide by it. */
  configure(clusters: readonly GuardedCluster[]): void {
    const wanted = new Set(clusters.map(({ row }) => row));
    for (const [row, each] of this.guarded) {
      if (wanted.has(row)) continue;
      each.outliers?.close();
      each.admission?.close();
      this.guarded.delete(row);
    }
    for (const cluster of clusters) this.configureOne(cluster);
    if (this.guarded.size === 0) this.stop();
    else this.timer ??= setInterval(() => this.sweep(), SWEEP_MS).unref();
  }

  stop(): void {
    if (this.timer !== null) clearInterval(this.timer);
    this.timer = null;
  }

  sweep(): void {
    const now = this.options.now();
    for (const { cluster, outliers, admission, budget } of this.guarded.values()) {
      for (const event of outliers?.sweep(now) ?? []) this.options.onEvent(cluster.name, event);
      admission?.sweep(now);
      budget?.sweep(now);
    }
  }

  /** Why the endpoint takes no work, in words; null: nothing is known against it. */
  describe(endpoint: number): string | null {
    if (this.endpoints.unavailable[endpoint] !== 1) return null;
    const now = this.options.now();
    for (const { outliers } of this.guarded.values()) {
      const found = outliers?.describe(endpoint, now) ?? null;
      if (found !== null) return found;
    }
    return null;
  }

  report(): ClusterReport[] {
    return [...this.guarded.values()].map(({ cluster, outliers, admission, base }) => {
      const word = (index: number): number => Atomics.load(this.state.rows, cluster.row * ROW_WORDS + index);
      const since = (index: number): number => (word(index) - base[index]!) >>> 0;
      return {
        name: cluster.name,
        isInbound: cluster.isInbound,
        active: word(Row.Active),
        retrying: word(Row.Retrying),
        refusedRequests: since(Row.RefusedRequests),
        refusedRetries: since(Row.RefusedRetries),
        refusedEndpointRequests: since(Row.RefusedEndpointRequests),
        retries: since(Row.Retries),
        outliers:
          outliers === null
            ? null
            : {
                active: outliers.active,
                overflows: outliers.overflows,
                ejections: new Map(EJECTION_REASONS.map((reason, index) => [reason, outliers.ejections[index]!])),
              },
        admission:
          admission === null
            ? null
            : {
                limit: admission.limit,
                minRttUs: admission.minRttUs,
                shed: Array.from({ length: cluster.policy.admission?.classes ?? 1 }, (_, rank) => since(Row.Shed + rank)),
              },
      };
    });
  }

  private configureOne(cluster: GuardedCluster): void {
    const { row, policy } = cluster;
    const now = this.options.now();
    const each = this.guarded.get(row) ?? this.newcomer(cluster);
    each.cluster = cluster;
    this.writeLimits(cluster);
    if (policy.outliers === null) each.outliers?.close();
    each.outliers =
      policy.outliers === null ? null : (each.outliers ?? new OutlierDetector(policy.outliers, this.state, this.endpoints, row, now));
    if (policy.outliers !== null) each.outliers?.configure(policy.outliers, cluster.endpoints);
    if (policy.admission === null) {
      each.admission?.close();
      each.admission = null;
    } else if (each.admission === null) {
      each.admission = new Admission(policy.admission, this.state, row, now, this.options.random);
    } else {
      each.admission.configure(policy.admission, now);
    }
    const interval = policy.retryBudget?.interval ?? null;
    if (interval === null) each.budget?.close();
    each.budget = interval === null ? null : (each.budget ?? new IntervalBudget(this.state, row, interval, now));
    if (interval !== null) each.budget?.configure(interval);
  }

  private newcomer(cluster: GuardedCluster): Guarded {
    const at = cluster.row * ROW_WORDS;
    unlimit(this.state.rows, cluster.row);
    const base = this.state.rows.slice(at, at + ROW_WORDS);
    const each: Guarded = { cluster, outliers: null, admission: null, budget: null, base };
    this.guarded.set(cluster.row, each);
    return each;
  }

  private writeLimits({ row, isInbound, policy }: GuardedCluster): void {
    const { rows } = this.state;
    const at = row * ROW_WORDS;
    const { circuitBreaker, retryBudget, outliers } = policy;
    rows[at + Row.MaxRequests] = circuitBreaker?.maxRequests ?? NO_LIMIT;
    rows[at + Row.MaxRetries] = circuitBreaker?.maxRetries ?? NO_LIMIT;
    rows[at + Row.MaxEndpointRequests] = circuitBreaker?.maxEndpointRequests ?? NO_LIMIT;
    rows[at + Row.BudgetActive] = partsOf(retryBudget?.active?.percent);
    rows[at + Row.BudgetMinActive] = retryBudget?.active?.least ?? 0;
    rows[at + Row.SplitsLocal] = outliers?.splitsLocal === true ? 1 : 0;
    rows[at + Row.IsPassedOn] = isInbound ? 1 : 0;
    rows[at + Row.IsLimited] = circuitBreaker !== null || retryBudget !== null || policy.admission !== null ? 1 : 0;
  }
}

function partsOf(percent: number | undefined): number {
  return percent === undefined ? -1 : Math.round((percent / 100) * WHOLE);
}
