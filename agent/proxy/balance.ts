// Balancers of clusters with a policy: which of their members take work now, in which group, and which one takes the next request. On a worker's
// thread; owns its view of who is available, made anew when that changes and not by the request. Hot path: nothing allocated, must not throw.
import { Failover } from '../../api/gen/mesh/v1/model.js';
import type { EndpointStates } from './endpoint-states.js';
import { finalised } from './hash.js';
import { below, drawnCost, mix, nextWord } from './pick.js';
import type { DecisionTables } from './tables/decision-tables.js';
import { ringPoint } from './tables/hash-tables.js';
import {
  ALL_CHOICES,
  BALANCER_WORDS,
  BalancerWord,
  Balancing,
  GROUP_WORDS,
  GroupWord,
  MEMBER_WORDS,
  MemberWord,
  RetryPlace,
} from './tables/layout.js';
import { isTried } from './tried.js';

/** Up to this many members all are compared; above, two chosen by chance. */
const SCAN_LIMIT = 8;
/** A priority counts as whole while so many hundredths of it are there, and the rest can bear it (Envoy's overprovisioning factor). */
const OVERPROVISIONING = 140;
/** Steps of a key whose slot in Maglev's table is of no use, before the slots are gone through one by one. */
const PROBES = 32;
const WARM = 65_536;
/** Endpoints with reports, below which they say nothing of their cluster. */
const MIN_REPORTING = 2;
/** How far from the median a report may take an endpoint: none can have all requests by what it says, nor none. */
const MAX_RATIO = 10;
/** Cost of an endpoint that was asked and never answered yet, per request: whoever is known goes before it (Finagle). */
const UNKNOWN_US = 1e12;
const G_MEMBERS = GroupWord.Members as number;
const G_COUNT = GroupWord.MemberCount as number;
const M_ENDPOINT = MemberWord.EndpointId as number;
const M_WEIGHT = MemberWord.Weight as number;
const FAIL_FAST = Failover.FAIL_FAST as number;
const AT_RANDOM = Failover.RANDOM as number;
const DYNAMIC = Failover.DYNAMIC as number;

export class Balancers {
  /** µs, of Engine.clock: set it before the first pick of a batch. */
  nowUs = 0;
  /** Of each group, from its first member's place on: rows of members that take work, and the sum of their weights up to each. */
  private readonly live: Int32Array;
  private readonly liveUpTo: Float64Array;
  private readonly liveCount: Int32Array;
  private readonly isEven: Uint8Array;
  /** Of groups: what of the load is theirs, up to each of the balancer's. */
  private readonly loadUpTo: Float64Array;
  private readonly health: Float64Array;
  private readonly panics: Uint8Array;
  /** By member, its weight now. */
  private readonly weights: Float64Array;
  /** For weighMembers() alone. */
  private readonly reported: Float64Array;
  /** By balancer, the version that its view is of. */
  private readonly seen: Int32Array;
  private readonly hasReports: boolean;

  constructor(
    private readonly tables: DecisionTables,
    private readonly states: EndpointStates,
    private readonly outstanding: Int32Array,
  ) {
    const members = tables.members.length / MEMBER_WORDS;
    const groups = tables.groups.length / GROUP_WORDS;
    const isNeeded = groups > 0;
    this.live = new Int32Array(isNeeded ? members : 0);
    this.liveUpTo = new Float64Array(isNeeded ? members : 0);
    this.liveCount = new Int32Array(groups);
    this.weights = new Float64Array(isNeeded ? members : 0);
    this.reported = new Float64Array(isNeeded ? members : 0);
    this.isEven = new Uint8Array(groups);
    this.loadUpTo = new Float64Array(groups);
    this.health = new Float64Array(groups);
    this.panics = new Uint8Array(groups);
    const rows = Array.from({ length: tables.balancers.length / BALANCER_WORDS }, (_, balancer) => balancer);
    this.hasReports = rows.some((balancer) => this.asksForLoad(balancer));
    // Another than its version: they are looked at first.
    this.seen = Int32Array.from(rows, (balancer) => this.versionFor(balancer) - 1);
  }

  isHashed(balancer: number): boolean {
    const kind = this.tables.balancers[balancer * BALANCER_WORDS + BalancerWord.Kind]!;
    return kind === Balancing.RingHash || kind === Balancing.Maglev;
  }

  isPassthrough(balancer: number): boolean {
    return this.tables.balancers[balancer * BALANCER_WORDS + BalancerWord.Kind] === Balancing.Passthrough;
  }

  /** Answers of its endpoints are to be read for what they say of their load. */
  asksForLoad(balancer: number): boolean {
    return this.tables.balancers[balancer * BALANCER_WORDS + BalancerWord.HasReports] === 1;
  }

  /**
   * As pickMember(): row in `members`, -1: none takes work. `cluster`: whose rotation it is. `hash`: unsigned, of the request's key; -1: it has
   * none.
   */
  pick(cluster: number, balancer: number, hash: number, random: number, avoid: number): number {
    if (this.seen[balancer] !== this.versionFor(balancer)) this.look(balancer);
    const row = balancer * BALANCER_WORDS;
    const { balancers } = this.tables;
    const kind = balancers[row + BalancerWord.Kind]!;
    const isHashed = kind === Balancing.RingHash || kind === Balancing.Maglev;
    const key = hash < 0 ? spread(random) : hash;
    const group = this.drawGroup(row, isHashed ? mix(key ^ 0x632be5ab) : mix(random ^ 0x7feb352d));
    if (group < 0) return -1;
    if (isHashed) return this.byHash(cluster, row, group, key, random, avoid);
    let member = this.choose(cluster, row, group, random, avoid);
    if (balancers[row + BalancerWord.HasSlowStart] === 1 && kind !== Balancing.RoundRobin)
      member = this.warmed(member, cluster, row, group, random);
    return this.endpointOf(member) === avoid ? this.another(row, group, avoid, random) : member;
  }

  /** As tried.ts has it, among the members that take work, a priority after the other, or as `place` says. */
  untried(balancer: number, picked: number, tried: Int32Array, at: number, random: number, place: RetryPlace): number {
    const [first, end] = this.groupsOf(balancer);
    if (place === RetryPlace.Near) {
      const home = this.groupWith(first, end, tried[at]!);
      const count = home < 0 ? 0 : this.liveCount[home]!;
      const other = home < 0 ? -1 : this.untriedOf(home, tried, at, random);
      if (other >= 0 || count === 0) return other >= 0 ? other : picked;
      return this.live[this.tables.groups[home * GROUP_WORDS + G_MEMBERS]! + below(count, random)]!;
    }
    // Envoy's previous_priorities, as Istio sets it: localities are left after two attempts.
    if (place === RetryPlace.Remote && tried[at + 1]! >= 0) {
      for (let group = first; group < end; group++) {
        const other = this.hasTried(group, tried, at) ? -1 : this.untriedOf(group, tried, at, random);
        if (other >= 0) return other;
      }
    }
    if (!isTried(tried, at, this.endpointOf(picked))) return picked;
    for (let group = first; group < end; group++) {
      const other = this.untriedOf(group, tried, at, random);
      if (other >= 0) return other;
    }
    return picked;
  }

  /** A member of the group that takes work and wasn't tried; -1: there is none. */
  private untriedOf(group: number, tried: Int32Array, at: number, random: number): number {
    const from = this.tables.groups[group * GROUP_WORDS + G_MEMBERS]!;
    const count = this.liveCount[group]!;
    const start = below(count, mix(random ^ 0x1b873593));
    for (let k = 0; k < count; k++) {
      const member = this.live[from + ((start + k) % count)]!;
      if (!isTried(tried, at, this.endpointOf(member))) return member;
    }
    return -1;
  }

  private hasTried(group: number, tried: Int32Array, at: number): boolean {
    const { groups } = this.tables;
    const first = groups[group * GROUP_WORDS + G_MEMBERS]!;
    for (let member = first; member < first + groups[group * GROUP_WORDS + G_COUNT]!; member++)
      if (isTried(tried, at, this.endpointOf(member))) return true;
    return false;
  }

  /** Which of the groups has the endpoint; -1: none. */
  private groupWith(first: number, end: number, endpoint: number): number {
    const { groups } = this.tables;
    for (let group = first; group < end; group++) {
      const from = groups[group * GROUP_WORDS + G_MEMBERS]!;
      for (let member = from; member < from + groups[group * GROUP_WORDS + G_COUNT]!; member++)
        if (this.endpointOf(member) === endpoint) return group;
    }
    return -1;
  }

  /** Whether a group of the balancer uses members that should take no work, for want of others. */
  isPanicking(balancer: number): boolean {
    if (this.seen[balancer] !== this.versionFor(balancer)) this.look(balancer);
    const [first, end] = this.groupsOf(balancer);
    for (let group = first; group < end; group++) if (this.panics[group] === 1) return true;
    return false;
  }

  /** Of a group of the balancer: its part of the load, 0 to 1. */
  loadOf(balancer: number, index: number): number {
    if (this.seen[balancer] !== this.versionFor(balancer)) this.look(balancer);
    const [first, end] = this.groupsOf(balancer);
    const total = this.loadUpTo[end - 1] ?? 0;
    const group = first + index;
    return total === 0 ? 0 : (this.loadUpTo[group]! - (index === 0 ? 0 : this.loadUpTo[group - 1]!)) / total;
  }

  /** Of what its view is of: grows with each change of it. */
  private versionFor(balancer: number): number {
    const { version } = this.states;
    return this.hasReports && this.asksForLoad(balancer) ? (version[0]! + version[1]!) | 0 : version[0]!;
  }

  /** Rows in `members`, of all its groups: they lie one behind the other. */
  membersOf(balancer: number): [first: number, end: number] {
    const { groups } = this.tables;
    const [first, end] = this.groupsOf(balancer);
    if (first === end) return [0, 0];
    const last = (end - 1) * GROUP_WORDS;
    return [groups[first * GROUP_WORDS + G_MEMBERS]!, groups[last + G_MEMBERS]! + groups[last + G_COUNT]!];
  }

  /** Enough of its members report their load. */
  goesByReports(balancer: number): boolean {
    if (!this.asksForLoad(balancer)) return false;
    const [first, end] = this.membersOf(balancer);
    let reporting = 0;
    for (let member = first; member < end; member++) if (this.states.loadWeight[this.endpointOf(member)]! > 0) reporting++;
    return reporting >= MIN_REPORTING;
  }

  /** Of a member of the balancer: its weight now. */
  weightOf(balancer: number, member: number): number {
    if (this.seen[balancer] !== this.versionFor(balancer)) this.look(balancer);
    return this.weights[member]!;
  }

  private groupsOf(balancer: number): [first: number, end: number] {
    const { balancers } = this.tables;
    const first = balancers[balancer * BALANCER_WORDS + BalancerWord.Groups]!;
    return [first, first + balancers[balancer * BALANCER_WORDS + BalancerWord.GroupCount]!];
  }

  private endpointOf(member: number): number {
    return this.tables.members[member * MEMBER_WORDS + M_ENDPOINT]!;
  }

  // Who is available, and what of the load each group has.

  private look(balancer: number): void {
    // First: what changes meanwhile is looked at again.
    this.seen[balancer] = this.versionFor(balancer);
    const { balancers } = this.tables;
    const row = balancer * BALANCER_WORDS;
    const first = balancers[row + BalancerWord.Groups]!;
    const end = first + balancers[row + BalancerWord.GroupCount]!;
    const panicPercent = balancers[row + BalancerWord.PanicPercent]!;
    this.weighMembers(balancer);
    let ready = 0;
    for (let group = first; group < end; group++) ready += this.fill(group, false);
    const healthy = this.weigh(first, end);
    if (healthy < 100) {
      let panicking = 0;
      for (let group = first; group < end; group++) {
        const total = this.tables.groups[group * GROUP_WORDS + G_COUNT]!;
        // Where none is ready, none passes its checks: a check that is wrong must not take down a service that works.
        const isPanicking = this.liveCount[group]! * 100 < panicPercent * total || (ready === 0 && total > 0);
        this.panics[group] = isPanicking ? 1 : 0;
        if (isPanicking || total === 0) panicking++;
        if (isPanicking) this.fill(group, true);
      }
      if (panicking === end - first) this.weighBySize(first, end);
    }
    this.distribute(row, first, end);
  }

  /**
   * As their source says; by their reports where two of them have any: the others then count as the median of those does (Envoy). No report
   * makes an endpoint more than ten times as heavy as that, nor less than a tenth.
   */
  private weighMembers(balancer: number): void {
    const [first, end] = this.membersOf(balancer);
    const { members } = this.tables;
    for (let member = first; member < end; member++) this.weights[member] = members[member * MEMBER_WORDS + M_WEIGHT]!;
    if (!this.asksForLoad(balancer)) return;
    const { loadWeight } = this.states;
    let reporting = 0;
    for (let member = first; member < end; member++) {
      const reported = loadWeight[this.endpointOf(member)]!;
      if (reported > 0) this.reported[reporting++] = reported;
    }
    if (reporting < MIN_REPORTING) return;
    const median = this.reported.subarray(0, reporting).sort()[reporting >>> 1]!;
    for (let member = first; member < end; member++) {
      const reported = loadWeight[this.endpointOf(member)]! || median;
      this.weights[member] = Math.min(median * MAX_RATIO, Math.max(median / MAX_RATIO, reported));
    }
  }

  /** The members of a group that take work, or all; returns how many are ready. */
  private fill(group: number, all: boolean): number {
    const { groups, members } = this.tables;
    const first = groups[group * GROUP_WORDS + G_MEMBERS]!;
    const count = groups[group * GROUP_WORDS + G_COUNT]!;
    let at = first;
    let total = 0;
    let ready = 0;
    let even = 1;
    this.panics[group] = all ? 1 : 0;
    for (let member = first; member < first + count; member++) {
      const word = member * MEMBER_WORDS;
      const isReady = members[word + MemberWord.IsReady] === 1;
      if (isReady) ready++;
      if (!all && (!isReady || this.states.unavailable[members[word + M_ENDPOINT]!] === 1)) continue;
      total += this.weights[member]!;
      if (at > first && this.weights[member] !== this.weights[this.live[at - 1]!]) even = 0;
      this.live[at] = member;
      this.liveUpTo[at] = total;
      at++;
    }
    this.liveCount[group] = at - first;
    this.isEven[group] = even;
    return ready;
  }

  /** Percent of its load that each group can bear; returns their sum. */
  private weigh(first: number, end: number): number {
    let sum = 0;
    for (let group = first; group < end; group++) {
      const count = this.tables.groups[group * GROUP_WORDS + G_COUNT]!;
      this.health[group] = count === 0 ? 0 : Math.min(100, (OVERPROVISIONING * this.liveCount[group]!) / count);
      sum += this.health[group]!;
    }
    return sum;
  }

  /** Where all panic, priorities are none (Envoy). */
  private weighBySize(first: number, end: number): void {
    let whole = 0;
    for (let group = first; group < end; group++) whole += this.liveCount[group]!;
    for (let group = first; group < end; group++) this.health[group] = whole === 0 ? 0 : (100 * this.liveCount[group]!) / whole;
  }

  /** Envoy's: a priority takes what it can bear and those before it leave; shares count as far as their group can bear them. */
  private distribute(row: number, first: number, end: number): void {
    const hasShares = this.tables.balancers[row + BalancerWord.HasShares] === 1;
    let whole = 0;
    for (let group = first; group < end; group++) whole += this.health[group]!;
    const scale = whole > 0 && whole < 100 ? 100 / whole : 1;
    let upTo = 0;
    for (let group = first; group < end; group++) {
      const part = hasShares
        ? this.tables.groups[group * GROUP_WORDS + GroupWord.Share]! * this.health[group]!
        : Math.min(100 - upTo, this.health[group]! * scale);
      upTo += part;
      this.loadUpTo[group] = upTo;
    }
  }

  private drawGroup(row: number, random: number): number {
    const { balancers } = this.tables;
    const first = balancers[row + BalancerWord.Groups]!;
    const end = first + balancers[row + BalancerWord.GroupCount]!;
    const total = first === end ? 0 : this.loadUpTo[end - 1]!;
    if (total === 0) return -1;
    if (end - first === 1) return first;
    const drawn = (random / 0x80000000) * total;
    for (let group = first; group < end; group++) if (drawn < this.loadUpTo[group]! && this.liveCount[group]! > 0) return group;
    return -1;
  }

  // One of a group.

  private choose(cluster: number, row: number, group: number, random: number, avoid: number): number {
    const { balancers } = this.tables;
    const kind = balancers[row + BalancerWord.Kind]!;
    const choices = balancers[row + BalancerWord.Choices]!;
    const first = this.tables.groups[group * GROUP_WORDS + G_MEMBERS]!;
    const count = this.liveCount[group]!;
    if (count === 1) return this.live[first]!;
    switch (kind) {
      case Balancing.RoundRobin:
        return this.inTurn(cluster, balancers[row + BalancerWord.HasSlowStart] === 1, group, first, count);
      case Balancing.Random:
        return this.byWeight(first, count, random);
      default:
        return choices === ALL_CHOICES || (choices === 0 && count <= SCAN_LIMIT)
          ? this.cheapest(cluster, kind, group, first, count, random, avoid)
          : this.cheapestOf(choices === 0 ? 2 : choices, kind, group, first, count, random, avoid);
    }
  }

  /** Smooth weighted round robin, where members differ in weight or are cold. */
  private inTurn(cluster: number, mayBeCold: boolean, group: number, first: number, count: number): number {
    const { rotation, credit } = this.tables;
    if (this.isEven[group] === 1 && (!mayBeCold || !this.hasCold(first, count))) {
      const at = rotation[cluster]! % count;
      rotation[cluster] = at + 1;
      return this.live[first + at]!;
    }
    let best = this.live[first]!;
    let total = 0;
    for (let at = first; at < first + count; at++) {
      const member = this.live[at]!;
      const weight = (this.weights[member]! * this.warmth(member)) / WARM;
      total += weight;
      credit[member]! += weight;
      if (credit[member]! > credit[best]!) best = member;
    }
    credit[best]! -= total;
    return best;
  }

  private byWeight(first: number, count: number, random: number): number {
    const drawn = (random / 0x80000000) * this.liveUpTo[first + count - 1]!;
    let low = first;
    let high = first + count - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.liveUpTo[middle]! > drawn) high = middle;
      else low = middle + 1;
    }
    return this.live[low]!;
  }

  /** Begins at another member each time, so that equal costs are spread in turn. */
  private cheapest(cluster: number, kind: number, group: number, first: number, count: number, random: number, avoid: number): number {
    const { rotation } = this.tables;
    const isDrawn = this.isEven[group] === 0 && kind !== Balancing.PeakEwma;
    let word = random;
    let at = rotation[cluster]! % count;
    rotation[cluster] = at + 1;
    let best = this.live[first + at]!;
    let least = Number.POSITIVE_INFINITY;
    for (let k = 0; k < count; k++) {
      const member = this.live[first + at]!;
      let cost = Number.POSITIVE_INFINITY;
      if (this.endpointOf(member) !== avoid) {
        if (isDrawn) word = nextWord(word);
        cost = isDrawn ? drawnCost(this.waitingAt(member), this.weights[member]!, word) : this.costOf(member, kind);
      }
      if (cost < least) {
        least = cost;
        best = member;
      }
      if (++at === count) at = 0;
    }
    return best;
  }

  /** `choices` members by chance (Mitzenmacher 2001), by their weights where those differ. */
  private cheapestOf(choices: number, kind: number, group: number, first: number, count: number, random: number, avoid: number): number {
    if (this.isEven[group] === 0 && kind !== Balancing.PeakEwma) return this.leastOf(choices, first, count, random, avoid);
    let at = below(count, random);
    const stride = count < 3 ? 1 : 1 + below(count - 1, nextWord(random));
    let best = this.live[first + at]!;
    let least = Number.POSITIVE_INFINITY;
    for (let k = 0; k < choices && k < count; k++) {
      const member = this.live[first + at]!;
      const cost = this.endpointOf(member) === avoid ? Number.POSITIVE_INFINITY : this.costOf(member, kind);
      if (cost < least) {
        least = cost;
        best = member;
      }
      at = (at + stride) % count;
    }
    return best;
  }

  /** Of some that are drawn by weight, the one with least to do by its weight; at rest the first. */
  private leastOf(choices: number, first: number, count: number, random: number, avoid: number): number {
    let word = random;
    let best = this.byWeight(first, count, word);
    let least = Number.POSITIVE_INFINITY;
    for (let k = 0; k < choices && k < count; k++) {
      const member = k === 0 ? best : this.byWeight(first, count, word);
      const load = this.endpointOf(member) === avoid ? Number.POSITIVE_INFINITY : this.waitingAt(member) / this.weights[member]!;
      if (load < least) {
        least = load;
        best = member;
      }
      word = nextWord(word);
    }
    return best;
  }

  /** Requests under way, as heavy as the member is cold. */
  private waitingAt(member: number): number {
    const endpoint = this.endpointOf(member);
    const cold = this.states.coldness[endpoint]!;
    return cold === 0 ? this.outstanding[endpoint]! : this.outstanding[endpoint]! * (WARM / Math.max(1, WARM - cold));
  }

  /** What the member would cost with one request more: the requests it has, or those times how long it takes, by its weight. */
  private costOf(member: number, kind: number): number {
    const endpoint = this.endpointOf(member);
    const weight = this.weights[member]!;
    const waiting = this.waitingAt(member);
    if (kind !== Balancing.PeakEwma) return (waiting + 1) / weight;
    const ewmaUs = this.states.ewmaUs[endpoint]!;
    if (ewmaUs === 0) return waiting === 0 ? 0 : (UNKNOWN_US * waiting) / weight;
    const age = (this.nowUs - this.states.observedUs[endpoint]!) / this.states.decayUs[endpoint]!;
    // Of what was observed a moment ago the tangent is as good, and costs a tenth.
    const left = age < 0.01 ? 1 - age : Math.exp(-age);
    return (ewmaUs * left * (waiting + 1)) / weight;
  }

  // Slow start: what is cold is declined as often as its weight is taken from.

  /** Of 65,536, at least 1. */
  private warmth(member: number): number {
    return Math.max(1, WARM - this.states.coldness[this.endpointOf(member)]!);
  }

  private hasCold(first: number, count: number): boolean {
    for (let at = first; at < first + count; at++) if (this.states.coldness[this.endpointOf(this.live[at]!)] !== 0) return true;
    return false;
  }

  private warmed(member: number, cluster: number, row: number, group: number, random: number): number {
    let chosen = member;
    let word = random;
    for (let k = 0; k < 4; k++) {
      const cold = this.states.coldness[this.endpointOf(chosen)]!;
      if (cold === 0) return chosen;
      word = mix(word ^ 0x165667b1);
      if (below(WARM, word) >= cold) return chosen;
      word = mix(word);
      chosen = this.choose(cluster, row, group, word, this.endpointOf(chosen));
    }
    return chosen;
  }

  // Hashes.

  private byHash(cluster: number, row: number, group: number, hash: number, random: number, avoid: number): number {
    const { groups, hashTables, balancers } = this.tables;
    const word = group * GROUP_WORDS;
    const first = groups[word + G_MEMBERS]!;
    const size = groups[word + GroupWord.TableSize]!;
    const count = this.liveCount[group]!;
    if (size === 0) return this.byWeight(first, count, mix(hash));
    const table = groups[word + GroupWord.Table]!;
    const isRing = balancers[row + BalancerWord.Kind] === Balancing.RingHash;
    const at = isRing ? ringPoint(hashTables, table, size, hash) : hash % size;
    const owners = isRing ? table + size : table;
    const owner = first + hashTables[owners + at]!;
    const isThere = this.panics[group] === 1 || this.states.unavailable[this.endpointOf(owner)] === 0;
    if (isThere && this.endpointOf(owner) !== avoid) return owner;
    const strategy = balancers[row + BalancerWord.Failover]!;
    if (strategy === FAIL_FAST) return isThere ? owner : -1;
    if (count === 1) return this.live[first]!;
    if (strategy === DYNAMIC) return this.cheapest(cluster, Balancing.LeastRequest, group, first, count, random, avoid);
    if (strategy === AT_RANDOM) return this.another(row, group, avoid, random);
    return isRing ? this.nextOnRing(group, first, owners, size, at, avoid) : this.nextInTable(group, first, table, size, hash, avoid);
  }

  private isUsable(group: number, member: number, avoid: number): boolean {
    const endpoint = this.endpointOf(member);
    return endpoint !== avoid && (this.panics[group] === 1 || this.states.unavailable[endpoint] === 0);
  }

  private nextOnRing(group: number, first: number, owners: number, size: number, at: number, avoid: number): number {
    const { hashTables } = this.tables;
    for (let k = 1; k < size; k++) {
      const member = first + hashTables[owners + ((at + k) % size)]!;
      if (this.isUsable(group, member, avoid)) return member;
    }
    return this.live[first]!;
  }

  /** By other hashes of the same key, so that the keys of one endpoint are spread over all others. */
  private nextInTable(group: number, first: number, table: number, size: number, hash: number, avoid: number): number {
    const { hashTables } = this.tables;
    let word = hash;
    for (let k = 0; k < PROBES; k++) {
      word = spread(word ^ 0x9e3779b9);
      const member = first + hashTables[table + (word % size)]!;
      if (this.isUsable(group, member, avoid)) return member;
    }
    for (let k = 0; k < size; k++) {
      const member = first + hashTables[table + ((word + k) % size)]!;
      if (this.isUsable(group, member, avoid)) return member;
    }
    return this.live[first]!;
  }

  /** Any member but `avoid` that takes work, of the group, else of the others in their order; `avoid` itself if there is no other. */
  private another(row: number, group: number, avoid: number, random: number): number {
    const { balancers, groups } = this.tables;
    const first = balancers[row + BalancerWord.Groups]!;
    const groupCount = balancers[row + BalancerWord.GroupCount]!;
    let last = -1;
    for (let g = 0; g < groupCount; g++) {
      const each = first + ((group - first + g) % groupCount);
      const from = groups[each * GROUP_WORDS + G_MEMBERS]!;
      const count = this.liveCount[each]!;
      const start = below(count, mix(random ^ 0x51ed270b));
      for (let k = 0; k < count; k++) {
        const member = this.live[from + ((start + k) % count)]!;
        if (this.endpointOf(member) !== avoid) return member;
        last = member;
      }
    }
    return last;
  }
}

/** 32 bits from 31 or 32, unsigned. */
function spread(word: number): number {
  return finalised(word) >>> 0;
}
