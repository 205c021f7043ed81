// Clusters → rows of `clusters` and `members`. A cluster has three rows: of all its members, of those for IPv4 clients and of those for IPv6 clients, which
// mostly are the same members. What a cluster's rows are made of is kept as long as the cluster stands; a generation copies it.
import { EndpointHealth } from '../../../api/gen/mesh/v1/model.js';
import { hostPort } from '../../../api/host-port.js';
import { takeWork } from '../../model/takes-work.js';
import type { LimitPlan } from '../rate-limit/plan.js';
import type { BalancerRows, Candidate } from './balancers.js';
import type { CapturedAddresses } from './captured-addresses.js';
import type { LabelValues } from './cluster-wants.js';
import type { Cluster, ClusterEndpoint } from './clusters.js';
import type { Labels } from './labels.js';
import { CLUSTER_WORDS, ClusterWord, MEMBER_WORDS, MemberWord } from './layout.js';
import type { Grouping, OwnPlace } from './localities.js';

/** What rows are made with. */
export interface SectionContext {
  readonly labels: Labels;
  readonly balancers: BalancerRows;
  readonly limits: LimitPlan;
  readonly addresses: CapturedAddresses;
  /** Row in guards. */
  readonly guardOf: (cluster: Cluster) => number;
}

/** An endpoint that may be chosen: it takes work, or would if its checks let it. */
class Member implements Candidate {
  constructor(
    private readonly endpoint: ClusterEndpoint,
    readonly label: number,
    readonly isLocal: boolean,
    readonly isLast: boolean,
  ) {}

  get id(): number {
    return this.endpoint.id;
  }
  get name(): string {
    return hostPort(this.endpoint.address, this.endpoint.port);
  }
  get weight(): number {
    return this.endpoint.weight;
  }
  get health(): EndpointHealth {
    return this.endpoint.health;
  }
  get isReady(): boolean {
    return this.endpoint.health === EndpointHealth.READY;
  }
  get isV6(): boolean {
    return this.endpoint.address.includes(':');
  }
  get region(): string {
    return this.endpoint.region;
  }
  get zone(): string {
    return this.endpoint.zone;
  }
  get node(): string {
    return this.endpoint.node;
  }
  get labels(): LabelValues {
    return this.endpoint.labels;
  }
}

/** The members of a row. */
interface View {
  /** As they lie in `members`. */
  readonly words: Int32Array;
  readonly totalWeight: number;
  readonly isEven: boolean;
  /** Null: the row itself says all. */
  readonly plan: Grouping<Member> | null;
}

/** Of all members, of IPv4, of IPv6: one object where they are the same. */
type Views = readonly [View, View, View];

interface Kept {
  readonly cluster: Cluster;
  readonly addresses: CapturedAddresses;
  readonly place: OwnPlace;
  readonly views: Views;
  /** By view: its row. */
  readonly rows: readonly [number, number, number];
}

/** Outlives generations: a balancer whose members are the same goes on where it stands. */
export class ClusterRows {
  /** By the keys of clusters: of the generation in force, and of the last that was made. */
  private inForce: ReadonlyMap<string, Kept> = new Map();
  private made: ReadonlyMap<string, Kept> = new Map();
  private generation = 0;
  /** Of the generation that is made; not smaller than those before. */
  private members = new Int32Array(1_024);
  private memberWords = 0;

  /**
   * Rows of `clusters` (all clusters, then two for each) and `members`, the latter until the next call. Of tables that are made again for the same
   * generation the former were discarded (admission.ts).
   */
  sections(
    generation: number,
    all: readonly Cluster[],
    context: SectionContext,
  ): { readonly clusters: Int32Array; readonly members: Int32Array } {
    if (generation !== this.generation) this.inForce = this.made;
    this.generation = generation;
    const words = new Int32Array(3 * all.length * CLUSTER_WORDS);
    const next = new Map<string, Kept>();
    this.memberWords = 0;
    all.forEach((cluster, row) => {
      const families = all.length + row * 2;
      const before = this.inForce.get(cluster.key);
      const views = viewsOf(cluster, context, before);
      const isSame = before?.views === views && before.rows[0] === row && before.rows[1] === families;
      const kept: Kept = isSame
        ? before
        : { cluster, addresses: context.addresses, place: context.balancers.own, views, rows: [row, families, families + 1] };
      next.set(cluster.key, kept);
      this.write(words, kept, before, context);
    });
    this.made = next;
    return { clusters: words, members: this.members.subarray(0, this.memberWords) };
  }

  private write(words: Int32Array, { cluster, views, rows }: Kept, before: Kept | undefined, context: SectionContext): void {
    const { name, balancing, policy, service } = cluster;
    const label = context.labels.idOf(name);
    const guard = context.guardOf(cluster);
    const limits = context.limits.setOf(service.rateLimits);
    let first = 0;
    let balancer = -1;
    views.forEach((view, index) => {
      if (index === 0 || view !== views[0]) {
        first = this.append(view.words);
        balancer = view.plan === null ? -1 : context.balancers.add(name, balancing, policy?.loadBalancing, view.plan, first);
      }
      const at = rows[index]! * CLUSTER_WORDS;
      words[at + ClusterWord.Balancing] = balancing;
      words[at + ClusterWord.Members] = first;
      words[at + ClusterWord.MemberCount] = view.words.length / MEMBER_WORDS;
      words[at + ClusterWord.TotalWeight] = view.totalWeight;
      words[at + ClusterWord.IsEven] = view.isEven ? 1 : 0;
      words[at + ClusterWord.Label] = label;
      words[at + ClusterWord.Families] = rows[1];
      words[at + ClusterWord.Balancer] = balancer;
      words[at + ClusterWord.Previous] = before !== undefined && hasSameMembers(before.views[index]!, view) ? before.rows[index]! : -1;
      words[at + ClusterWord.Guard] = guard;
      words[at + ClusterWord.Limits] = limits;
    });
  }

  /** Returns the first row. */
  private append(rows: Int32Array): number {
    const at = this.memberWords;
    this.memberWords += rows.length;
    if (this.memberWords > this.members.length) {
      const larger = new Int32Array(2 * this.memberWords);
      larger.set(this.members.subarray(0, at));
      this.members = larger;
    }
    this.members.set(rows, at);
    return at / MEMBER_WORDS;
  }
}

function viewsOf(cluster: Cluster, context: SectionContext, before: Kept | undefined): Views {
  const { addresses, balancers } = context;
  const isSame = before?.cluster === cluster && before.addresses === addresses && isSamePlace(before.place, balancers.own);
  if (isSame) return before.views;
  const candidates = candidatesOf(cluster, context);
  const viewOf = (members: readonly Member[]): View => {
    const plan = balancers.plan(cluster.balancing, cluster.policy, members);
    return {
      plan,
      ...rowsOf(plan === null ? takeWork(members, ({ isReady }) => !isReady) : plan.groups.flatMap((group) => group.members)),
    };
  };
  const all = viewOf(candidates);
  const ofVersion = [false, true].map((isV6) => candidates.filter((member) => member.isV6 === isV6));
  if (ofVersion.some(({ length }) => length === 0)) return [all, all, all];
  const [v4, v6] = ofVersion.map((members) => (isUsable(members, candidates) ? viewOf(members) : all));
  return [all, v4!, v6!];
}

/** Those of one version: of the other only where none of this one could be used. */
function isUsable(members: readonly Member[], all: readonly Member[]): boolean {
  return members.some(({ isReady }) => isReady) || !all.some(({ isReady }) => isReady);
}

function candidatesOf({ endpoints }: Cluster, { labels, addresses }: SectionContext): Member[] {
  const members: Member[] = [];
  for (const endpoint of endpoints) {
    if (endpoint.id < 0 || (endpoint.health !== EndpointHealth.READY && !endpoint.isFallback)) continue;
    const { address, port, workload } = endpoint;
    const label = labels.idOf(workload === '' ? hostPort(address, port) : workload);
    members.push(new Member(endpoint, label, addresses.isLocal(address), addresses.isLast(address)));
  }
  return members;
}

/** Of all members: their sum is a word, and drawn from 31 random bits. */
const MOST_WEIGHT = 2 ** 30;

function rowsOf(members: readonly Member[]): Omit<View, 'plan'> {
  const words = new Int32Array(members.length * MEMBER_WORDS);
  const unit = Math.max(1, members.reduce((sum, member) => sum + member.weight, 0) / MOST_WEIGHT);
  const first = members[0]?.weight;
  let totalWeight = 0;
  let isEven = true;
  members.forEach((member, index) => {
    const at = index * MEMBER_WORDS;
    const weight = Math.max(1, Math.floor(member.weight / unit));
    totalWeight += weight;
    isEven &&= member.weight === first;
    words[at + MemberWord.EndpointId] = member.id;
    words[at + MemberWord.Weight] = weight;
    words[at + MemberWord.UpTo] = totalWeight;
    words[at + MemberWord.IsLocal] = member.isLocal ? 1 : 0;
    words[at + MemberWord.Label] = member.label;
    words[at + MemberWord.IsReady] = member.isReady ? 1 : 0;
    words[at + MemberWord.IsLast] = member.isLast ? 1 : 0;
  });
  return { words, totalWeight, isEven };
}

function hasSameMembers(one: View, other: View): boolean {
  if (one.words.length !== other.words.length) return false;
  if (one === other) return true;
  for (let at = 0; at < one.words.length; at += MEMBER_WORDS) {
    if (one.words[at + MemberWord.EndpointId] !== other.words[at + MemberWord.EndpointId]) return false;
    if (one.words[at + MemberWord.Weight] !== other.words[at + MemberWord.Weight]) return false;
  }
  return true;
}

function isSamePlace(one: OwnPlace, other: OwnPlace): boolean {
  return one.node === other.node && one.region === other.region && one.zone === other.zone;
}
