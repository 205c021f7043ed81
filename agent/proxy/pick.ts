// The load balancers: which member of a cluster takes the next request. Hot path: integers only, nothing allocated, nothing kept but the
// balancers' own state in the worker's tables.
import { finalised } from './hash.js';
import type { DecisionTables } from './tables/decision-tables.js';
import { Balancing, CLUSTER_WORDS, ClusterWord, MEMBER_WORDS, MemberWord } from './tables/layout.js';

const W_BALANCING = ClusterWord.Balancing as number;
const W_MEMBERS = ClusterWord.Members as number;
const W_COUNT = ClusterWord.MemberCount as number;
const W_TOTAL = ClusterWord.TotalWeight as number;
const W_EVEN = ClusterWord.IsEven as number;
const M_ENDPOINT = MemberWord.EndpointId as number;
const M_WEIGHT = MemberWord.Weight as number;
const M_UP_TO = MemberWord.UpTo as number;
const ROUND_ROBIN = Balancing.RoundRobin as number;
const RANDOM = Balancing.Random as number;

/** Up to this many members, least request looks at all of them; above, at two chosen by chance (Mitzenmacher 2001). */
const SCAN_LIMIT = 8;

/** A new word of 31 bits from an old one, so that one random word of a descriptor serves several choices. */
export function mix(word: number): number {
  return finalised(word) & 0x7fffffff;
}

/** For another choice of the same request. */
export function nextWord(word: number): number {
  return mix(word ^ 0x2545f491);
}

/** A number in [0, limit) from a random word of 31 bits, unbiased to one part in 2^31 / limit. */
export function below(limit: number, random: number): number {
  return Math.floor((random / 0x80000000) * limit);
}

/**
 * Row in `members` of the choice; -1: the cluster has no member that takes work. `avoid`: an endpoint that just failed (-1: none),
 * chosen only if there is no other. `outstanding` is read, not written.
 */
export function pickMember(tables: DecisionTables, cluster: number, random: number, avoid: number, outstanding: Int32Array): number {
  const row = cluster * CLUSTER_WORDS;
  const clusters = tables.clusters;
  const count = clusters[row + W_COUNT]!;
  if (count === 0) return -1;
  const first = clusters[row + W_MEMBERS]!;
  if (count === 1) return first;
  const balancing = clusters[row + W_BALANCING]!;
  let member: number;
  if (balancing === ROUND_ROBIN)
    member = clusters[row + W_EVEN] === 1 ? rotate(tables, cluster, first, count) : smooth(tables, first, count, clusters[row + W_TOTAL]!);
  else if (balancing === RANDOM) member = byWeight(tables.members, first, count, below(clusters[row + W_TOTAL]!, random));
  else if (count <= SCAN_LIMIT) return leastOfAll(tables, cluster, first, count, random, avoid, outstanding);
  else member = leastOfTwo(tables.members, first, count, clusters[row + W_TOTAL]!, random, outstanding);
  if (avoid < 0 || tables.members[member * MEMBER_WORDS + M_ENDPOINT] !== avoid) return member;
  return first + ((member - first + 1 + below(count - 1, mix(random ^ 0x51ed270b))) % count);
}

function rotate(tables: DecisionTables, cluster: number, first: number, count: number): number {
  const at = tables.rotation[cluster]! % count;
  tables.rotation[cluster] = at + 1;
  return first + at;
}

/** nginx's smooth weighted round robin: shares are exact over every `total` picks and as spread out as they can be. */
function smooth(tables: DecisionTables, first: number, count: number, total: number): number {
  const { credit, members } = tables;
  let best = first;
  for (let member = first; member < first + count; member++) {
    credit[member]! += members[member * MEMBER_WORDS + M_WEIGHT]!;
    if (credit[member]! > credit[best]!) best = member;
  }
  credit[best]! -= total;
  return best;
}

function byWeight(members: Int32Array, first: number, count: number, at: number): number {
  let low = first;
  let high = first + count - 1;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (members[middle * MEMBER_WORDS + M_UP_TO]! > at) high = middle;
    else low = middle + 1;
  }
  return low;
}

/**
 * What a member that has so many requests costs by its weight, with a time drawn from the exponential distribution: among members at rest each is
 * the cheapest as often as its weight says, and under load what they have decides. Without it the heaviest had all requests that come one by one.
 */
export function drawnCost(waiting: number, weight: number, random: number): number {
  return (waiting - Math.log(1 - random / 0x80000000)) / weight;
}

/** Starts at another member each time, so that equal loads are spread in turn. */
function leastOfAll(
  tables: DecisionTables,
  cluster: number,
  first: number,
  count: number,
  random: number,
  avoid: number,
  outstanding: Int32Array,
): number {
  const members = tables.members;
  const isEven = tables.clusters[cluster * CLUSTER_WORDS + W_EVEN] === 1;
  let at = tables.rotation[cluster]! % count;
  tables.rotation[cluster] = at + 1;
  let best = first + at;
  let least = Number.POSITIVE_INFINITY;
  let word = random;
  for (let k = 0; k < count; k++) {
    const member = first + at;
    const row = member * MEMBER_WORDS;
    const endpoint = members[row + M_ENDPOINT]!;
    if (endpoint !== avoid) {
      if (!isEven) word = nextWord(word);
      const score = isEven ? outstanding[endpoint]! : drawnCost(outstanding[endpoint]!, members[row + M_WEIGHT]!, word);
      if (score < least) {
        least = score;
        best = member;
      }
    }
    if (++at === count) at = 0;
  }
  return best;
}

/** Of two that are drawn by weight, the one with less to do by its weight; at rest the first. */
function leastOfTwo(members: Int32Array, first: number, count: number, total: number, random: number, outstanding: Int32Array): number {
  const one = byWeight(members, first, count, below(total, random));
  const two = byWeight(members, first, count, below(total, nextWord(random)));
  return load(members, two, outstanding) < load(members, one, outstanding) ? two : one;
}

function load(members: Int32Array, member: number, outstanding: Int32Array): number {
  const row = member * MEMBER_WORDS;
  return outstanding[members[row + M_ENDPOINT]!]! / members[row + M_WEIGHT]!;
}
