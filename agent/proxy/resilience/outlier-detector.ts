// Which endpoints of one cluster are left out for a while, by what their requests came to: Envoy's outlier detection, with a recovery by trial.
// On the main thread: reads the counts that workers keep (state.ts), writes who takes no work. A pure state machine with the caller's clock.
//
//   healthy ──▶ ejected, for base × times in a row, at most so long ──▶ on trial: one request at a time ──▶ healthy after so many successes
//      ▲                    ▲                                                     │ a failure
//      └── the cluster's    └─────────────────────────────────────────────────────┘
//          share of ejected endpoints is bounded
import type { EndpointStates } from '../endpoint-states.js';
import { ENDPOINT_WORDS, Endpoint, type ResilienceState, ROW_WORDS, Row } from './state.js';

/** Counts of 0 are off; so are ratios of null. */
export interface OutlierPolicy {
  readonly consecutive5xx: number;
  readonly consecutiveGateway: number;
  readonly consecutiveLocal: number;
  readonly splitsLocal: boolean;
  readonly intervalMs: number;
  readonly baseEjectionMs: number;
  readonly maxEjectionMs: number;
  /** Of the cluster's endpoints, as they are spoken to in one way; one may be ejected in any case. */
  readonly maxEjectionPercent: number;
  /** An endpoint whose rate of successes is more than so many standard deviations below the mean. */
  readonly successRate: (Volume & { readonly deviations: number }) | null;
  /** An endpoint with so many percent of failures. */
  readonly failurePercentage: (Volume & { readonly threshold: number }) | null;
  /** Successes in a row that end a trial. */
  readonly trialRequests: number;
}

interface Volume {
  /** Of an endpoint in an interval, to be looked at; and how many such endpoints there must be. */
  readonly requests: number;
  readonly hosts: number;
}

export const EJECTION_REASONS = [
  'consecutive_5xx',
  'consecutive_gateway_failure',
  'consecutive_local_origin_failure',
  'success_rate',
  'success_rate_local_origin',
  'failure_percentage',
  'failure_percentage_local_origin',
  'trial',
] as const;
export type EjectionReason = (typeof EJECTION_REASONS)[number];

export type OutlierEvent =
  | { readonly kind: 'ejected'; readonly endpoint: number; readonly reason: EjectionReason; readonly forMs: number }
  | { readonly kind: 'returned'; readonly endpoint: number };

interface Watched {
  readonly endpoint: number;
  /** Which of configure()'s lists it is in. */
  group: number;
  phase: 'healthy' | 'ejected' | 'trial';
  reason: EjectionReason | null;
  /** Ejected so many times in a row: each interval that goes well takes one off. */
  times: number;
  untilMs: number;
  /** Of the interval: what the counts were when it began. */
  readonly before: Int32Array;
  /** Of the trial: requests given, and what results() and successes() were when it began. */
  given: number;
  trialResults: number;
  trialSuccesses: number;
  givenAtMs: number;
}

/** A trial whose request is not answered for so long goes on with another. */
const TRIAL_PATIENCE_MS = 10_000;

export class OutlierDetector {
  private policy: OutlierPolicy;
  private watched: Watched[] = [];
  /** Of them, ejected or on trial. */
  active = 0;
  private failures: number;
  private intervalEndsMs: number;
  /** Ever, by EJECTION_REASONS; and how many were not because too many were ejected already. */
  readonly ejections = new Float64Array(EJECTION_REASONS.length);
  overflows = 0;

  constructor(
    policy: OutlierPolicy,
    private readonly state: ResilienceState,
    private readonly endpoints: Pick<EndpointStates, 'setUnavailable'>,
    private readonly row: number,
    nowMs: number,
  ) {
    this.policy = policy;
    this.failures = this.rowWord(Row.Failures);
    this.intervalEndsMs = nowMs + policy.intervalMs;
  }

  /** Of a new generation; `endpoints` as GuardedCluster has them. Whoever stays keeps its history; who is gone is let go. */
  configure(policy: OutlierPolicy, endpoints: readonly (readonly number[])[]): void {
    this.policy = policy;
    const known = new Map(this.watched.map((each) => [each.endpoint, each]));
    this.watched = endpoints.flatMap((ids, group) =>
      ids.map((endpoint) => Object.assign(known.get(endpoint) ?? this.newcomer(endpoint), { group })),
    );
    const stays = new Set(endpoints.flat());
    for (const { endpoint } of known.values()) if (!stays.has(endpoint)) this.endpoints.setUnavailable(endpoint, false);
    this.active = this.watched.filter(({ phase }) => phase !== 'healthy').length;
  }

  /** The policy is gone. */
  close(): void {
    for (const { endpoint } of this.watched) this.endpoints.setUnavailable(endpoint, false);
    this.setRowWord(Row.Trial, -1);
  }

  /** Why it takes no work, in words; null: it does. */
  describe(endpoint: number, nowMs: number): string | null {
    const found = this.watched.find((each) => each.endpoint === endpoint);
    if (found === undefined || found.phase === 'healthy') return null;
    const left = Math.max(0, Math.ceil((found.untilMs - nowMs) / 1000));
    const when = found.phase === 'trial' ? 'on trial' : `for another ${left} s`;
    return `ejected (${found.reason}, ${when})`;
  }

  /** Often: what came since the last time is acted on. */
  sweep(nowMs: number): OutlierEvent[] {
    const events: OutlierEvent[] = [];
    const failures = this.rowWord(Row.Failures);
    const hasFailures = failures !== this.failures;
    this.failures = failures;
    const isInterval = nowMs >= this.intervalEndsMs;
    if (!hasFailures && !isInterval && this.active === 0) return events;
    for (const each of this.watched) {
      if (each.phase === 'healthy' && hasFailures) this.judgeConsecutive(each, nowMs, events);
      if (each.phase === 'ejected' && nowMs >= each.untilMs) this.beginTrial(each, nowMs);
      if (each.phase === 'trial') this.judgeTrial(each, nowMs, events);
    }
    this.giveTrial(nowMs);
    if (isInterval) this.endInterval(nowMs, events);
    return events;
  }

  private judgeConsecutive(each: Watched, nowMs: number, events: OutlierEvent[]): void {
    const { consecutive5xx, consecutiveGateway, consecutiveLocal } = this.policy;
    const at = each.endpoint * ENDPOINT_WORDS;
    const exceeds = (word: Endpoint, limit: number): boolean => {
      if (limit === 0 || Atomics.load(this.state.endpoints, at + word) < limit) return false;
      Atomics.store(this.state.endpoints, at + word, 0);
      return true;
    };
    if (exceeds(Endpoint.Consecutive5xx, consecutive5xx)) this.eject(each, 'consecutive_5xx', nowMs, events);
    else if (exceeds(Endpoint.ConsecutiveGateway, consecutiveGateway)) this.eject(each, 'consecutive_gateway_failure', nowMs, events);
    else if (exceeds(Endpoint.ConsecutiveLocal, consecutiveLocal)) this.eject(each, 'consecutive_local_origin_failure', nowMs, events);
  }

  private eject(each: Watched, reason: EjectionReason, nowMs: number, events: OutlierEvent[]): void {
    const { maxEjectionPercent, baseEjectionMs, maxEjectionMs } = this.policy;
    // One on trial is among the ejected: there are no more of them when it fails.
    if (each.phase === 'healthy') {
      const others = this.watched.filter(({ group }) => group === each.group);
      const active = others.filter(({ phase }) => phase !== 'healthy').length;
      if (active > 0 && (active + 1) * 100 > maxEjectionPercent * others.length) {
        this.overflows += 1;
        return;
      }
      this.active += 1;
    }
    each.times += 1;
    const forMs = Math.min(baseEjectionMs * each.times, Math.max(maxEjectionMs, baseEjectionMs));
    each.phase = 'ejected';
    each.reason = reason;
    each.untilMs = nowMs + forMs;
    this.endpoints.setUnavailable(each.endpoint, true);
    this.ejections[EJECTION_REASONS.indexOf(reason)]! += 1;
    events.push({ kind: 'ejected', endpoint: each.endpoint, reason, forMs });
  }

  private beginTrial(each: Watched, nowMs: number): void {
    each.phase = 'trial';
    each.given = 0;
    each.givenAtMs = nowMs;
    each.trialResults = this.results(each);
    each.trialSuccesses = this.successes(each);
  }

  private judgeTrial(each: Watched, nowMs: number, events: OutlierEvent[]): void {
    const results = (this.results(each) - each.trialResults) | 0;
    const successes = (this.successes(each) - each.trialSuccesses) | 0;
    if (successes < results) {
      this.eject(each, 'trial', nowMs, events);
    } else if (successes >= this.policy.trialRequests) {
      each.phase = 'healthy';
      this.active -= 1;
      each.reason = null;
      this.forget(each);
      this.endpoints.setUnavailable(each.endpoint, false);
      events.push({ kind: 'returned', endpoint: each.endpoint });
    }
  }

  /** One request in flight for each endpoint on trial, and one endpoint at a time. */
  private giveTrial(nowMs: number): void {
    const given = this.rowWord(Row.Trial);
    if (given >= 0) {
      const current = this.watched.find(({ endpoint }) => endpoint === given);
      if (current?.phase === 'trial') return;
      this.setRowWord(Row.Trial, -1);
    }
    const next = this.watched.find((each) => {
      if (each.phase !== 'trial') return false;
      const isAnswered = ((this.results(each) - each.trialResults) | 0) >= each.given;
      return isAnswered || nowMs - each.givenAtMs >= TRIAL_PATIENCE_MS;
    });
    if (next === undefined) return;
    next.given = ((this.results(next) - next.trialResults) | 0) + 1;
    next.givenAtMs = nowMs;
    this.setRowWord(Row.Trial, next.endpoint);
  }

  private endInterval(nowMs: number, events: OutlierEvent[]): void {
    this.intervalEndsMs = nowMs + this.policy.intervalMs;
    const { successRate, failurePercentage, splitsLocal } = this.policy;
    const healthy = this.watched.filter(({ phase }) => phase === 'healthy');
    const judge = (isLocal: boolean): void => {
      const [all, good] = isLocal ? [Endpoint.LocalResults, Endpoint.LocalSuccesses] : [Endpoint.Results, Endpoint.Successes];
      const volumes = healthy.map((each) => ({ each, results: this.since(each, all), successes: this.since(each, good) }));
      const suffix = isLocal ? '_local_origin' : '';
      for (const each of successRate === null ? [] : belowTheOthers(volumes, successRate))
        if (each.phase === 'healthy') this.eject(each, `success_rate${suffix}`, nowMs, events);
      for (const each of failurePercentage === null ? [] : failing(volumes, failurePercentage))
        if (each.phase === 'healthy') this.eject(each, `failure_percentage${suffix}`, nowMs, events);
    };
    judge(false);
    if (splitsLocal) judge(true);
    for (const each of this.watched) {
      if (each.phase === 'healthy' && each.times > 0) each.times -= 1;
      each.before.set(this.words(each));
    }
  }

  private newcomer(endpoint: number): Watched {
    const before = new Int32Array(ENDPOINT_WORDS);
    const each: Watched = {
      ...{ endpoint, group: 0, phase: 'healthy', reason: null, times: 0, untilMs: 0, before },
      ...{ given: 0, trialResults: 0, trialSuccesses: 0, givenAtMs: 0 },
    };
    this.forget(each);
    before.set(this.words(each));
    this.endpoints.setUnavailable(endpoint, false);
    return each;
  }

  /** What was against it is not against it any more. */
  private forget({ endpoint }: Watched): void {
    for (const word of [Endpoint.Consecutive5xx, Endpoint.ConsecutiveGateway, Endpoint.ConsecutiveLocal])
      Atomics.store(this.state.endpoints, endpoint * ENDPOINT_WORDS + word, 0);
  }

  private words({ endpoint }: Watched): Int32Array {
    return this.state.endpoints.subarray(endpoint * ENDPOINT_WORDS, (endpoint + 1) * ENDPOINT_WORDS);
  }

  private since(each: Watched, word: Endpoint): number {
    return (this.words(each)[word]! - each.before[word]!) | 0;
  }

  /** Of requests, one each: where what the proxy finds is counted apart, all are among those. */
  private results({ endpoint }: Watched): number {
    const word = this.policy.splitsLocal ? Endpoint.LocalResults : Endpoint.Results;
    return Atomics.load(this.state.endpoints, endpoint * ENDPOINT_WORDS + word);
  }

  /** Read it behind results(): a worker counts it first (Gate.judge). */
  private successes({ endpoint }: Watched): number {
    return Atomics.load(this.state.endpoints, endpoint * ENDPOINT_WORDS + Endpoint.Successes);
  }

  private rowWord(word: Row): number {
    return Atomics.load(this.state.rows, this.row * ROW_WORDS + word);
  }

  private setRowWord(word: Row, value: number): void {
    Atomics.store(this.state.rows, this.row * ROW_WORDS + word, value);
  }
}

interface Counted {
  readonly each: Watched;
  readonly results: number;
  readonly successes: number;
}

function belowTheOthers(
  counted: readonly Counted[],
  { requests, hosts, deviations }: NonNullable<OutlierPolicy['successRate']>,
): Watched[] {
  const busy = counted.filter(({ results }) => results >= requests);
  if (busy.length < hosts || busy.length === 0) return [];
  const rates = busy.map(({ results, successes }) => (results === 0 ? 1 : successes / results));
  const mean = rates.reduce((sum, rate) => sum + rate, 0) / rates.length;
  const variance = rates.reduce((sum, rate) => sum + (rate - mean) ** 2, 0) / rates.length;
  const least = mean - deviations * Math.sqrt(variance);
  return busy.filter((_, index) => rates[index]! < least).map(({ each }) => each);
}

function failing(counted: readonly Counted[], { requests, hosts, threshold }: NonNullable<OutlierPolicy['failurePercentage']>): Watched[] {
  const busy = counted.filter(({ results }) => results > 0 && results >= requests);
  if (busy.length < hosts) return [];
  return busy.filter(({ results, successes }) => (results - successes) * 100 >= threshold * results).map(({ each }) => each);
}
