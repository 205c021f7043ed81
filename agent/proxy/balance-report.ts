// What balancers of the generation in force make of their clusters now: who has which part of the load, who is unavailable, how fast who answers,
// for status and metrics. On the main thread, from what the workers share with it; they see the same.
import { hostPort } from '../../api/host-port.js';
import { Balancers } from './balance.js';
import type { EndpointStates } from './endpoint-states.js';
import { NO_PATTERNS } from './patterns.js';
import type { Cluster } from './tables/clusters.js';
import type { Generation } from './tables/compile.js';
import { DecisionTables } from './tables/decision-tables.js';
import {
  BALANCER_WORDS,
  BalancerWord,
  CLUSTER_WORDS,
  ClusterWord,
  GROUP_WORDS,
  GroupWord,
  MEMBER_WORDS,
  MemberWord,
} from './tables/layout.js';
import { localityName } from './tables/localities.js';

/** Of an endpoint of a cluster with a balancer. */
export interface EndpointBalance {
  /** Its group's place among the cluster's, 0 first. */
  readonly group: number;
  /** Part of the cluster's load that its group has, 0 to 1. */
  readonly load: number;
}

export interface EndpointWeight {
  /** Part of the weights of all endpoints of its cluster that may be chosen, 0 to 1. */
  readonly share: number;
  /** orca: its own reports; orca median: those of the others; node: its node's figures; static: as its source has it. */
  readonly source: 'orca' | 'orca median' | 'node' | 'static';
}

export interface LocalityLoad {
  readonly cluster: string;
  /** "region/zone"; empty where unknown. */
  readonly locality: string;
  /** Of the cluster's load, 0 to 1. */
  readonly load: number;
}

export class BalanceReport {
  private readonly tables: DecisionTables;
  private readonly balancers: Balancers;

  constructor(
    private readonly generation: Generation,
    private readonly states: EndpointStates,
    outstanding: Int32Array,
  ) {
    this.tables = new DecisionTables(generation.buffer, NO_PATTERNS);
    this.balancers = new Balancers(this.tables, states, outstanding);
  }

  /** By endpoint id, of a cluster with more groups than one; of another, nothing. `index`: of Generation.clusters. */
  groups(index: number): ReadonlyMap<number, EndpointBalance> {
    const found = this.endpoints(index);
    return [...found.values()].some(({ group }) => group > 0) ? found : new Map();
  }

  private endpoints(index: number): ReadonlyMap<number, EndpointBalance> {
    const found = new Map<number, EndpointBalance>();
    const balancer = this.balancerOf(index);
    if (balancer < 0) return found;
    const { balancers, groups, members } = this.tables;
    const first = balancers[balancer * BALANCER_WORDS + BalancerWord.Groups]!;
    for (let group = 0; group < balancers[balancer * BALANCER_WORDS + BalancerWord.GroupCount]!; group++) {
      const word = (first + group) * GROUP_WORDS;
      const load = this.balancers.loadOf(balancer, group);
      const from = groups[word + GroupWord.Members]!;
      for (let member = from; member < from + groups[word + GroupWord.MemberCount]!; member++)
        found.set(members[member * MEMBER_WORDS + MemberWord.EndpointId]!, { group, load });
    }
    return found;
  }

  /** By endpoint id, of a cluster whose weights go by load; of another, nothing. `index`: of Generation.clusters, then its variants. */
  weights(index: number): ReadonlyMap<number, EndpointWeight> {
    const { clusters, variants } = this.generation;
    const cluster = clusters[index] ?? variants[index - clusters.length];
    const balancer = this.balancerOf(index);
    if (cluster?.policy?.loadBalancing?.weights === undefined || balancer < 0) return new Map();
    const { members } = this.tables;
    const [first, end] = this.balancers.membersOf(balancer);
    const rows = Array.from({ length: end - first }, (_, place) => first + place);
    const total = rows.reduce((sum, member) => sum + this.balancers.weightOf(balancer, member), 0);
    const reports = this.balancers.goesByReports(balancer);
    const ofNode = new Set(cluster.endpoints.filter(({ isByNode }) => isByNode).map(({ id }) => id));
    return new Map(
      rows.map((member) => {
        const id = members[member * MEMBER_WORDS + MemberWord.EndpointId]!;
        const own = this.states.loadWeight[id]! > 0 ? 'orca' : 'orca median';
        const source = reports ? own : ofNode.has(id) ? 'node' : 'static';
        return [id, { share: this.balancers.weightOf(balancer, member) / total, source }];
      }),
    );
  }

  /** Of clusters whose weights go by load, by endpoint's name. */
  allWeights(): readonly (EndpointWeight & { readonly cluster: string; readonly endpoint: string })[] {
    return this.balanced().flatMap(({ cluster, index }) => {
      const weights = this.weights(index);
      return cluster.endpoints.flatMap(({ id, address, port }) => {
        const weight = weights.get(id);
        return weight === undefined ? [] : [{ ...weight, cluster: cluster.name, endpoint: hostPort(address, port) }];
      });
    });
  }

  panics(index: number): boolean {
    const balancer = this.balancerOf(index);
    return balancer >= 0 && this.balancers.isPanicking(balancer);
  }

  /** It takes no new work, whatever its source says; false for an endpoint without an id. */
  isUnavailable(id: number): boolean {
    return id >= 0 && this.states.unavailable[id] === 1;
  }

  /** 0: it is not observed, or never answered. */
  ewmaMs(id: number): number {
    return id < 0 || this.states.decayUs[id] === 0 ? 0 : this.states.ewmaUs[id]! / 1_000;
  }

  /** Of its weight, what slow start leaves now, 0 to 1. */
  warmth(id: number): number {
    return id < 0 ? 1 : 1 - this.states.coldness[id]! / 65_536;
  }

  /** Of clusters with a balancer, by name. */
  panicking(): readonly { readonly cluster: string; readonly panics: boolean }[] {
    return this.balanced().map(({ cluster, index }) => ({ cluster: cluster.name, panics: this.panics(index) }));
  }

  /** What localities have of the load of clusters that look at them: of a group its members' parts by weight. */
  localities(): readonly LocalityLoad[] {
    return this.balanced().flatMap(({ cluster, index }) => {
      if (cluster.policy?.loadBalancing?.locality === undefined) return [];
      const balances = this.endpoints(index);
      const weights = new Map<number, number>();
      const takesPart = ({ id }: { readonly id: number }): boolean => balances.has(id) && !this.isUnavailable(id);
      const parts = cluster.endpoints.filter(takesPart);
      for (const { id, weight } of parts) weights.set(balances.get(id)!.group, (weights.get(balances.get(id)!.group) ?? 0) + weight);
      const loads = new Map(cluster.endpoints.map((endpoint) => [localityName(endpoint), 0]));
      for (const endpoint of parts) {
        const { group, load } = balances.get(endpoint.id)!;
        const name = localityName(endpoint);
        loads.set(name, loads.get(name)! + (load * endpoint.weight) / weights.get(group)!);
      }
      return [...loads].map(([locality, load]) => ({ cluster: cluster.name, locality, load }));
    });
  }

  private balanced(): { readonly cluster: Cluster; readonly index: number }[] {
    return this.generation.clusters.map((cluster, index) => ({ cluster, index })).filter(({ index }) => this.balancerOf(index) >= 0);
  }

  private balancerOf(index: number): number {
    return this.tables.clusters[index * CLUSTER_WORDS + ClusterWord.Balancer]!;
  }
}
