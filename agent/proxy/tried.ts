// Where another attempt of a request goes: to an endpoint that none of its attempts before has been at, as long as there is one. Hot path of
// what failed: integers only, nothing allocated.
import { MAX_TRIED } from '../native/engine.js';
import { below, mix } from './pick.js';
import type { DecisionTables } from './tables/decision-tables.js';
import { CLUSTER_WORDS, ClusterWord, MEMBER_WORDS, MemberWord } from './tables/layout.js';

const W_MEMBERS = ClusterWord.Members as number;
const W_COUNT = ClusterWord.MemberCount as number;
const M_ENDPOINT = MemberWord.EndpointId as number;

/** Whether `endpoint` is in the row of `tried` (Engine.tried) that begins at `at`. */
export function isTried(tried: Int32Array, at: number, endpoint: number): boolean {
  for (let word = at; word < at + MAX_TRIED; word++) {
    const other = tried[word]!;
    if (other < 0) return false;
    if (other === endpoint) return true;
  }
  return false;
}

/** Row in `members`: `picked`, a member of the cluster, or where that was tried another one by chance; itself if all were. */
export function untried(tables: DecisionTables, cluster: number, picked: number, tried: Int32Array, at: number, random: number): number {
  const { clusters, members } = tables;
  if (!isTried(tried, at, members[picked * MEMBER_WORDS + M_ENDPOINT]!)) return picked;
  const first = clusters[cluster * CLUSTER_WORDS + W_MEMBERS]!;
  const count = clusters[cluster * CLUSTER_WORDS + W_COUNT]!;
  const start = below(count, mix(random ^ 0x1b873593));
  for (let k = 0; k < count; k++) {
    const member = first + ((start + k) % count);
    if (!isTried(tried, at, members[member * MEMBER_WORDS + M_ENDPOINT]!)) return member;
  }
  return picked;
}
