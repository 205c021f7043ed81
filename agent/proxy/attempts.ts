// Second attempts of late requests: how late that is, by a cluster's policy or by how fast its answers have been, and how many there may be.
// One worker's own; its state goes on over generations. Hot path: nothing allocated but with new tables.
import { METHODS } from '../native/engine.js';
import { MAX_ENDPOINTS } from './metrics/cells.js';
import type { DecisionTables } from './tables/decision-tables.js';
import { CLUSTER_WORDS, ClusterWord, MEMBER_WORDS, MemberWord, PLAN_WORDS, PlanWord } from './tables/layout.js';

const P_LABEL = PlanWord.Label as number;
const P_HEDGES = PlanWord.Hedges as number;
const P_AFTER = PlanWord.HedgeAfterMs as number;
const P_PERCENTILE = PlanWord.HedgePercentile as number;
const P_PARTS = PlanWord.HedgeParts as number;
const P_ANY_METHOD = PlanWord.HedgesAnyMethod as number;
const MILLION = 1_000_000;
/** Second attempts that may be made at once after a quiet time. */
const MAX_SAVED = 10;
/** RFC 9110 9.2.2, by the ids of METHODS. */
const IDEMPOTENT = ['GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS', 'TRACE'].reduce(
  (bits, method) => bits | (1 << (METHODS as readonly string[]).indexOf(method)),
  0,
);

export class Attempts {
  /** By row in plans. */
  private readonly states: HedgeState[] = [];
  /** Row in plans by endpoint id; -1 and out of range: its times are nobody's. Null: no plan looks at times. */
  private readonly planOf: Int32Array | null;

  constructor(
    private readonly tables: DecisionTables,
    before: Attempts | null,
  ) {
    const { plans, attemptPlans, clusters, members } = tables;
    const known = new Map(before?.states.map((state) => [state.label, state]));
    let looksAtTimes = false;
    for (let at = 0; at < plans.length; at += PLAN_WORDS) {
      const label = plans[at + P_LABEL]!;
      this.states.push(known.get(label) ?? new HedgeState(label));
      looksAtTimes ||= plans[at + P_PERCENTILE]! > 0;
    }
    this.planOf = looksAtTimes ? new Int32Array(MAX_ENDPOINTS).fill(-1) : null;
    if (this.planOf === null) return;
    for (let cluster = 0; cluster < attemptPlans.length; cluster++) {
      const plan = attemptPlans[cluster]!;
      if (plan < 0 || plans[plan * PLAN_WORDS + P_PERCENTILE] === 0) continue;
      const first = clusters[cluster * CLUSTER_WORDS + ClusterWord.Members]!;
      const end = first + clusters[cluster * CLUSTER_WORDS + ClusterWord.MemberCount]!;
      for (let member = first; member < end; member++) this.planOf[members[member * MEMBER_WORDS + MemberWord.EndpointId]!] = plan;
    }
  }

  /** Of a first attempt: ms after which a second one is asked for; 0: none is. */
  hedgeAfterMs(plan: number, method: number, isFirst: boolean): number {
    const { plans } = this.tables;
    const at = plan * PLAN_WORDS;
    if (plans[at + P_HEDGES] === 0) return 0;
    const state = this.states[plan]!;
    if (isFirst) state.saved = Math.min(MAX_SAVED, state.saved + plans[at + P_PARTS]! / MILLION);
    if (plans[at + P_ANY_METHOD] === 0 && (method > 31 || ((IDEMPOTENT >>> method) & 1) === 0)) return 0;
    return plans[at + P_PERCENTILE] === 0 ? plans[at + P_AFTER]! : state.percentileMs(plans[at + P_PERCENTILE]!);
  }

  /** Whether a second attempt that is asked for may be made; it then is. */
  takesHedge(plan: number): boolean {
    const state = plan < 0 ? undefined : this.states[plan];
    if (state === undefined || state.saved < 1) return false;
    state.saved -= 1;
    return true;
  }

  /** An answer of the endpoint began after so long, or hadn't yet when another's did. */
  observe(endpoint: number, firstByteUs: number): void {
    if (this.planOf === null || firstByteUs < 0) return;
    const plan = this.planOf[endpoint] ?? -1;
    if (plan >= 0) this.states[plan]!.observe(firstByteUs);
  }
}

/** So many before a percentile means something. */
const MIN_OBSERVATIONS = 100;
/** With so many all are halved: what was seen last counts most. */
const MAX_OBSERVATIONS = 4_096;
/** Buckets of an octave: a percentile is exact to an eighth. */
const STEPS = 8;
const BUCKETS = 31 * STEPS;

class HedgeState {
  /** Second attempts that may be made. */
  saved = 0;
  private readonly counts = new Uint32Array(BUCKETS);
  private total = 0;
  /** Observations until `cachedMs` is found anew. */
  private stale = 0;
  private cachedMs = 0;

  constructor(readonly label: number) {}

  observe(us: number): void {
    const value = Math.max(STEPS, Math.min(us, 0x7fff_ffff));
    const octave = 31 - Math.clz32(value);
    this.counts[(octave - 3) * STEPS + ((value >>> (octave - 3)) & (STEPS - 1))]! += 1;
    this.total += 1;
    this.stale -= 1;
    if (this.total < MAX_OBSERVATIONS) return;
    this.total = 0;
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      this.counts[bucket]! >>>= 1;
      this.total += this.counts[bucket]!;
    }
  }

  /** 0: too little is known. */
  percentileMs(percentile: number): number {
    if (this.total < MIN_OBSERVATIONS) return 0;
    if (this.stale > 0) return this.cachedMs;
    this.stale = 64;
    let above = this.total - (this.total * percentile) / 100;
    let bucket = BUCKETS - 1;
    while (bucket > 0 && above >= this.counts[bucket]!) above -= this.counts[bucket--]!;
    const octave = Math.floor(bucket / STEPS) + 3;
    const bound = 2 ** octave * (1 + ((bucket % STEPS) + 1) / STEPS);
    this.cachedMs = Math.max(1, Math.ceil(bound / 1_000));
    return this.cachedMs;
  }
}
