// Sends the request that is decided on to an endpoint of a cluster, or on to its own destination: whether the policies there let it in, how often it
// may be tried again, and what is counted of it. Hot path: nothing allocated.
import { Decision, DecisionFlag, Descriptor, DescriptorFlag } from '../../native/engine.js';
import { Attempts } from '../attempts.js';
import { type Cells, Traffic } from '../metrics/cells.js';
import { mix } from '../pick.js';
import { type Gate, OVERFLOW, rankOf } from '../resilience/gate.js';
import { LABEL_BLACKHOLE, LABEL_PASSTHROUGH, LABEL_UNKNOWN } from '../tables/labels.js';
import {
  CLUSTER_WORDS,
  ClusterWord,
  DESTINATION_WORDS,
  DestinationWord,
  GUARD_WORDS,
  GuardWord,
  MEMBER_WORDS,
  MemberWord,
  PLAN_WORDS,
  PlanWord,
  Reply,
} from '../tables/layout.js';
import type { Draft } from './draft.js';
import { ALL_FULL, type EndpointChoice } from './endpoint-choice.js';
import type { Limiting } from './limiting.js';
import { clusterFor } from './route-match.js';

const D_METHOD = Descriptor.Method as number;
const D_LISTENER = Descriptor.ListenerId as number;
const D_DESTINATION = Descriptor.DestinationId as number;
const D_SOURCE = Descriptor.SourceId as number;
const D_PREDICATES = Descriptor.PredicateOffset as number;
const D_ATTEMPT = Descriptor.Attempt as number;
const D_RANDOM = Descriptor.Random as number;
const HEDGE = DescriptorFlag.Hedge as number;
const MIRROR = DescriptorFlag.Mirror as number;
const DELIVER = (DecisionFlag.BindClient | DecisionFlag.MarkDeliver) as number;
const INJECT = (DecisionFlag.BindClient | DecisionFlag.MarkInject) as number;
const RETRY = DecisionFlag.Retry as number;
const PROMPT = DecisionFlag.Prompt as number;
const READ_LOAD = DecisionFlag.ReadLoad as number;
const OUTBOUND = Traffic.Outbound as number;
const INBOUND = Traffic.Inbound as number;
/** Attempts after the first, on connect failures only. */
const MAX_RETRIES = 2;

export class Forward {
  attempts: Attempts;

  constructor(
    private readonly draft: Draft,
    private readonly choice: EndpointChoice,
    private readonly limiting: Limiting,
    private readonly cells: Cells,
    private readonly outstanding: Int32Array,
    private readonly gate: Gate,
  ) {
    this.attempts = new Attempts(draft.tables, null);
  }

  /** The draft has other tables. */
  renew(): void {
    this.choice.renew();
    this.attempts = new Attempts(this.draft.tables, this.attempts);
  }

  /** To the connection's own destination: every inbound one, and outbound what is no service's address. `isNamed`: a rule says so, or a service. */
  passOn(isNamed: boolean): void {
    const { draft } = this;
    const { destinations, sourceEgress } = draft.tables;
    const isInbound = draft.traffic === INBOUND;
    const destination = draft.of(D_DESTINATION) * DESTINATION_WORDS;
    const isKnown = destination >= 0;
    // By its name it is known as well. (No such row: undefined.)
    if (!isInbound && !isKnown && !isNamed && sourceEgress[draft.of(D_SOURCE)] === 1) {
      draft.answer(502, Reply.NotInRegistry, LABEL_BLACKHOLE);
      return;
    }
    const isLocal = isInbound || (isKnown && destinations[destination + DestinationWord.IsLocal] === 1);
    const service = isKnown ? destinations[destination + DestinationWord.ServiceLabel]! : LABEL_PASSTHROUGH;
    const workload = isKnown ? destinations[destination + DestinationWord.WorkloadLabel]! : LABEL_UNKNOWN;
    if (isKnown && isLocal && this.limiting.refuses(destinations[destination + DestinationWord.Limits]!, service)) return;
    const guard = isKnown && isInbound ? destinations[destination + DestinationWord.Guard]! : 0;
    const watched = this.watchedBy(guard);
    if (watched !== 0 && !this.isAdmitted(guard, watched, draft.of(D_RANDOM))) {
      this.refuse(service);
      return;
    }
    draft.send(-1, isLocal ? DELIVER : INJECT, service, workload);
    if (watched !== 0) this.watch(watched, false);
  }

  /**
   * To an endpoint of the cluster, or of the one that the client has instead. `retries`: how many the rule wants; -1: it says nothing, so one that another endpoint is there for. `kept`:
   * the endpoint that the client's session stays with, -1: none.
   */
  to(chosen: number, random: number, retries: number, kept: number): void {
    const { draft } = this;
    const { tables } = draft;
    const isOutbound = draft.traffic === OUTBOUND;
    const own = clusterFor(tables, chosen, draft.client);
    // Ids of captured listeners are even for IPv4, odd for IPv6 (MESH_LISTENERS).
    const cluster = isOutbound ? tables.clusters[own * CLUSTER_WORDS + ClusterWord.Families]! + (draft.of(D_LISTENER) & 1) : own;
    const row = cluster * CLUSTER_WORDS;
    const balancer = tables.clusters[row + ClusterWord.Balancer]!;
    if (balancer >= 0 && isOutbound && this.choice.balancers.isPassthrough(balancer)) {
      this.passOn(true);
      return;
    }
    const service = tables.clusters[row + ClusterWord.Label]!;
    const guard = tables.clusters[row + ClusterWord.Guard]!;
    const watched = this.watchedBy(guard);
    if (watched !== 0 && !this.isAdmitted(guard, watched, random)) {
      this.refuse(service);
      return;
    }
    const picked = this.choice.pick(cluster, balancer, watched, random, kept);
    if (picked < 0) {
      if (picked === ALL_FULL) this.refuse(service);
      else draft.answer(503, Reply.NoEndpoint, service);
      return;
    }
    const member = picked * MEMBER_WORDS;
    const endpoint = tables.members[member + MemberWord.EndpointId]!;
    const plan = tables.attemptPlans[cluster]!;
    if (draft.has(HEDGE) && (this.choice.wasAt(endpoint) || !this.attempts.takesHedge(plan))) {
      draft.decisions[draft.q] = -503;
      return;
    }
    const isLast = tables.members[member + MemberWord.IsLast] === 1;
    if (isLast && this.limiting.refuses(tables.clusters[row + ClusterWord.Limits]!, service)) {
      this.choice.giveUp(watched);
      return;
    }
    const mayRetry = plan < 0 ? retries : this.planAttempts(row, plan, retries);
    Atomics.add(this.outstanding, endpoint, 1);
    this.cells.inFlight[endpoint]! += 1;
    const mark = !isOutbound ? 0 : tables.members[member + MemberWord.IsLocal] === 1 ? DELIVER : INJECT;
    const retry = this.isRetryable(row, mayRetry, watched) ? RETRY : 0;
    const load = balancer >= 0 && this.choice.balancers.asksForLoad(balancer) ? READ_LOAD : 0;
    draft.send(endpoint, mark | retry | load, service, tables.members[member + MemberWord.Label]!);
    if (watched !== 0) this.watch(watched, draft.of(D_ATTEMPT) > 0);
  }

  /** Should the attempt fail. */
  private isRetryable(row: number, retries: number, watched: number): boolean {
    const { draft } = this;
    const attempt = draft.of(D_ATTEMPT);
    const isAllowed = retries < 0 ? attempt < MAX_RETRIES && draft.tables.clusters[row + ClusterWord.MemberCount]! > 1 : attempt < retries;
    return isAllowed && (watched === 0 || this.gate.mayRetry(watched));
  }

  /** What the policy of the cluster (at `row`) says of how long nothing may happen, and of further attempts, where the rule says nothing. How many retries there may be, as to(). */
  private planAttempts(row: number, plan: number, retries: number): number {
    const { draft } = this;
    const { clusters, plans } = draft.tables;
    if (draft.has(MIRROR) || draft.isOpaque) return retries;
    const hedgeMs = this.attempts.hedgeAfterMs(plan, draft.of(D_METHOD), draft.of(D_ATTEMPT) === 0);
    if (hedgeMs > 0 && clusters[row + ClusterWord.MemberCount]! > 1) draft.extend(Decision.HedgeMs, hedgeMs);
    const at = plan * PLAN_WORDS;
    const idleMs = plans[at + PlanWord.IdleTimeoutMs]!;
    if (idleMs > 0) draft.extend(Decision.IdleTimeoutMs, idleMs);
    const attempts = plans[at + PlanWord.RetryAttempts]!;
    if (retries >= 0 || attempts < 0) return retries;
    draft.extend(Decision.Retry, plans[at + PlanWord.Retry]!);
    if (draft.decisions[draft.q + Decision.AttemptTimeoutMs] === 0)
      draft.set(Decision.AttemptTimeoutMs, plans[at + PlanWord.AttemptTimeoutMs]!);
    return attempts;
  }

  /** Row of the shared state; 0: nothing is counted. */
  private watchedBy(guard: number): number {
    return guard === 0 ? 0 : this.draft.tables.guards[guard * GUARD_WORDS + GuardWord.Row]!;
  }

  /** Connections whose bytes are not read are no requests: they are counted, and not limited here. */
  private isAdmitted(guard: number, watched: number, random: number): boolean {
    const { draft } = this;
    if (draft.of(D_ATTEMPT) > 0) return this.gate.admitsRetry(watched);
    if (draft.isOpaque) return true;
    const rank = rankOf(draft.tables.guards, guard, draft.batch.predicates, draft.of(D_PREDICATES));
    return this.gate.admits(watched, rank, mix(random ^ 0x6a09e667));
  }

  /** The attempt counts. */
  private watch(watched: number, isRetry: boolean): void {
    const { decisions, q } = this.draft;
    decisions[q + Decision.Token]! |= this.gate.begin(watched, isRetry);
    if (this.gate.isLimited(watched)) decisions[q + Decision.Flags]! |= PROMPT;
  }

  /** Too many requests. */
  private refuse(service: number): void {
    const { draft } = this;
    draft.answer(503, Reply.Overflow, service);
    draft.decisions[draft.q + Decision.Token]! |= OVERFLOW;
  }
}
