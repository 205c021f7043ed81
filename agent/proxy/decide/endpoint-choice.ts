// Which endpoint of a cluster takes the request that is decided on: one that its client stays with, one that is to be tried, or the balancer's
// choice; none that it has been at, and none that is full. Hot path: nothing allocated.
import { DESCRIPTOR_WORDS, Descriptor, DescriptorFlag, Header, MAX_TRIED } from '../../native/engine.js';
import { Balancers } from '../balance.js';
import type { EndpointStates } from '../endpoint-states.js';
import { giveCookie, givesCookie, keyHash } from '../hash-key.js';
import { pickMember } from '../pick.js';
import type { RequestText } from '../request-text.js';
import type { Gate } from '../resilience/gate.js';
import type { DecisionTables } from '../tables/decision-tables.js';
import { CLUSTER_WORDS, ClusterWord, MEMBER_WORDS, MemberWord, RetryPlace } from '../tables/layout.js';
import { isTried, untried } from '../tried.js';
import type { Draft } from './draft.js';

const D_ATTEMPT = Descriptor.Attempt as number;
const D_PREVIOUS = Descriptor.PreviousTarget as number;
const DIALLED = DescriptorFlag.Dialled as number;
const M_ENDPOINT = MemberWord.EndpointId as number;
const ANYWHERE: RetryPlace = RetryPlace.Anywhere;
/** In place of a member: each has as many requests as it may have. */
export const ALL_FULL = -2;

/** Row in `members`; -1: none. */
export function memberOf({ clusters, members }: DecisionTables, cluster: number, endpoint: number): number {
  if (cluster < 0) return -1;
  const first = clusters[cluster * CLUSTER_WORDS + ClusterWord.Members]!;
  const end = first + clusters[cluster * CLUSTER_WORDS + ClusterWord.MemberCount]!;
  for (let member = first; member < end; member++) if (members[member * MEMBER_WORDS + M_ENDPOINT] === endpoint) return member;
  return -1;
}

export class EndpointChoice {
  /** Of the draft's tables. */
  balancers: Balancers;
  /** That the request which pick() was asked for last is to try; -1: none. */
  private onTrial = -1;

  constructor(
    private readonly draft: Draft,
    private readonly text: RequestText,
    private readonly outstanding: Int32Array,
    private readonly states: EndpointStates,
    private readonly gate: Gate,
  ) {
    this.balancers = new Balancers(draft.tables, states, outstanding);
  }

  /** The draft has other tables. */
  renew(): void {
    this.balancers = new Balancers(this.draft.tables, this.states, this.outstanding);
  }

  /**
   * Row in `members` of the cluster; -1: it has none that takes work, or ALL_FULL. `balancer`: the cluster's, -1: none; `watched`: its row in
   * the shared state, 0: none; `kept`: the endpoint that the client's session stays with, -1: none.
   */
  pick(cluster: number, balancer: number, watched: number, random: number, kept: number): number {
    const { draft } = this;
    const isRetry = draft.of(D_ATTEMPT) > 0;
    this.onTrial = -1;
    let picked = this.staysWith(cluster, balancer, kept);
    if (picked < 0 && watched !== 0 && !isRetry) picked = this.pickTrial(cluster, watched);
    if (picked < 0) {
      const failed = isRetry && draft.retryPlace !== ANYWHERE ? draft.of(D_PREVIOUS) : -1;
      picked =
        balancer < 0
          ? pickMember(draft.tables, cluster, random, failed, this.outstanding)
          : this.balancers.pick(cluster, balancer, this.hashFor(balancer, random), random, failed);
    }
    if (picked >= 0 && isRetry && draft.retryPlace !== ANYWHERE) picked = this.another(cluster, balancer, picked, random);
    return picked >= 0 && watched !== 0 ? this.withRoom(cluster, watched, picked) : picked;
  }

  /** What was picked is not sent there: whatever it was to try, another request tries. */
  giveUp(watched: number): void {
    if (this.onTrial < 0) return;
    this.gate.returnTrial(watched, this.onTrial);
    this.onTrial = -1;
  }

  /** `member`: row in `members`, of the cluster: it is not ejected, and ready, or nobody there is. */
  takesWork(cluster: number, member: number): boolean {
    const { clusters, members } = this.draft.tables;
    if (this.states.unavailable[members[member * MEMBER_WORDS + M_ENDPOINT]!] === 1) return false;
    if (members[member * MEMBER_WORDS + MemberWord.IsReady] === 1) return true;
    const first = clusters[cluster * CLUSTER_WORDS + ClusterWord.Members]!;
    const end = first + clusters[cluster * CLUSTER_WORDS + ClusterWord.MemberCount]!;
    for (let other = first; other < end; other++) if (members[other * MEMBER_WORDS + MemberWord.IsReady] === 1) return false;
    return true;
  }

  /** An attempt of the request has been at the endpoint. */
  wasAt(endpoint: number): boolean {
    return isTried(this.draft.batch.tried, this.triedAt, endpoint);
  }

  private get triedAt(): number {
    return (this.draft.d / DESCRIPTOR_WORDS) * MAX_TRIED;
  }

  /** The session's, or one chosen a moment ago for the same client: another choice would waste the connection, and every second turn of a rotation. */
  private staysWith(cluster: number, balancer: number, kept: number): number {
    const { draft } = this;
    const member = kept < 0 ? -1 : memberOf(draft.tables, cluster, kept);
    if (member >= 0 || !draft.has(DIALLED) || (balancer >= 0 && this.balancers.isHashed(balancer))) return member;
    return memberOf(draft.tables, cluster, draft.of(D_PREVIOUS));
  }

  /** The endpoint that is to be tried, if there is one; -1: none. */
  private pickTrial(cluster: number, watched: number): number {
    const endpoint = this.gate.trial(watched);
    const member = endpoint < 0 ? -1 : memberOf(this.draft.tables, cluster, endpoint);
    if (member < 0 || !this.gate.takeTrial(watched, endpoint)) return -1;
    this.onTrial = endpoint;
    return member;
  }

  /** Of what the balancer tells requests apart by; -1: by nothing, or the request has it not. Who has no cookie is given one. */
  private hashFor(balancer: number, random: number): number {
    const { draft } = this;
    const { batch, tables } = draft;
    if (!this.balancers.isHashed(balancer)) return -1;
    const hash = keyHash(batch, tables, this.text, draft.d, balancer);
    if (hash >= 0 || draft.isOpaque || !givesCookie(tables, balancer)) return hash;
    const at = batch.header[Header.TextBytes]!;
    const given = giveCookie(batch, tables, balancer, random);
    if (given >= 0) draft.addAnswerLines((at << 16) | (batch.header[Header.TextBytes]! - at));
    return given;
  }

  /** Than those that its attempts have been at. */
  private another(cluster: number, balancer: number, picked: number, random: number): number {
    const { draft, triedAt } = this;
    return balancer < 0
      ? untried(draft.tables, cluster, picked, draft.batch.tried, triedAt, random)
      : this.balancers.untried(balancer, picked, draft.batch.tried, triedAt, random, draft.retryPlace);
  }

  /** The member, or where that has as many requests as it may have, another one; ALL_FULL: none has room. */
  private withRoom(cluster: number, watched: number, picked: number): number {
    const limit = this.gate.endpointLimit(watched);
    if (this.outstanding[this.draft.tables.members[picked * MEMBER_WORDS + M_ENDPOINT]!]! < limit) return picked;
    this.giveUp(watched);
    const member = this.leastBelow(cluster, limit);
    if (member < 0) this.gate.refuseEndpoint(watched);
    return member;
  }

  /** Of the members that take work and have fewer requests, the one with the fewest; ALL_FULL: none. */
  private leastBelow(cluster: number, limit: number): number {
    const { clusters, members } = this.draft.tables;
    const first = clusters[cluster * CLUSTER_WORDS + ClusterWord.Members]!;
    const end = first + clusters[cluster * CLUSTER_WORDS + ClusterWord.MemberCount]!;
    let best = ALL_FULL;
    let least = limit;
    for (let member = first; member < end; member++) {
      const endpoint = members[member * MEMBER_WORDS + M_ENDPOINT]!;
      if (this.outstanding[endpoint]! >= least || this.states.unavailable[endpoint] === 1) continue;
      if (members[member * MEMBER_WORDS + MemberWord.IsReady] === 0) continue;
      least = this.outstanding[endpoint]!;
      best = member;
    }
    return best;
  }
}
