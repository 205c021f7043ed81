// The decision tables of one generation (layout.ts): integers in one SharedArrayBuffer, packed on the main thread and read by every worker.
import type { FilterTables } from '../filters/filter-tables.js';
import type { Patterns } from '../patterns.js';
import { type Limits, NO_LIMITS } from '../rate-limit/limits.js';
import type { SessionSpec } from '../sessions.js';
import { CLUSTER_WORDS, ClusterWord, MEMBER_WORDS, SECTIONS, type Section, type Sections, SizesWord } from './layout.js';

/** Word 0: generation; then offset and length of every section, in words. */
const HEADER_WORDS = 1 + 2 * SECTIONS.length;

export function packTables(generation: number, sections: Sections): SharedArrayBuffer {
  const words = SECTIONS.reduce((sum, name) => sum + sections[name].length, HEADER_WORDS);
  const buffer = new SharedArrayBuffer(words * Int32Array.BYTES_PER_ELEMENT);
  const all = new Int32Array(buffer);
  all[0] = generation;
  let offset = HEADER_WORDS;
  SECTIONS.forEach((name, index) => {
    const rows = sections[name];
    all[1 + 2 * index] = offset;
    all[2 + 2 * index] = rows.length;
    all.set(rows, offset);
    offset += rows.length;
  });
  return buffer;
}

/** A worker's view of one generation, with the balancers' state, which is the worker's own. */
export class DecisionTables {
  readonly generation: number;
  readonly listeners: Int32Array;
  readonly scopes: Int32Array;
  readonly destinations: Int32Array;
  /** Label by Descriptor.SourceId. */
  readonly sources: Int32Array;
  /** Next more general host by host id; -1: any. */
  readonly hostParents: Int32Array;
  /** Next shorter registered path by path id; -1: none. */
  readonly pathParents: Int32Array;
  /** Bytes by path id. */
  readonly pathLengths: Int32Array;
  readonly hostIndex: Int32Array;
  readonly pathIndex: Int32Array;
  readonly nodes: Int32Array;
  readonly predicates: Int32Array;
  readonly sourceSets: Int32Array;
  /** Tenant by Descriptor.SourceId. */
  readonly sourceTenants: Int32Array;
  /** By Descriptor.SourceId: 1, who may reach what is in the registry alone; empty: everybody reaches everything. */
  readonly sourceEgress: Int32Array;
  readonly outside: Int32Array;
  /** Two words by endpoint id, as tokens of sessions have them; empty: no rule has sessions. */
  readonly sessionEndpoints: Int32Array;
  readonly hasOutside: boolean;
  /** SOURCE_KEY_WORDS by Descriptor.SourceId, where rate limits ask for them. */
  readonly sourceKeys: Int32Array;
  readonly consumers: Int32Array;
  /** Class by Descriptor.SourceId, where hasClients. */
  readonly sourceClients: Int32Array;
  readonly clientClusters: Int32Array;
  readonly hasClients: boolean;
  readonly actions: Int32Array;
  readonly backends: Int32Array;
  readonly extras: Int32Array;
  readonly mirrors: Int32Array;
  readonly origins: Int32Array;
  readonly predicateWords: number;
  readonly sourceSetWords: number;
  readonly hasValues: boolean;
  readonly clusters: Int32Array;
  readonly members: Int32Array;
  readonly balancers: Int32Array;
  readonly groups: Int32Array;
  readonly hashTables: Int32Array;
  readonly cookies: Int32Array;
  readonly guards: Int32Array;
  readonly plans: Int32Array;
  /** Row in plans by row in clusters; -1: none. */
  readonly attemptPlans: Int32Array;
  /** Round robin: where each cluster stands. */
  readonly rotation: Int32Array;
  /** Smooth weighted round robin: credit of each member. */
  readonly credit: Float64Array;

  constructor(
    buffer: SharedArrayBuffer,
    readonly patterns: Patterns,
    readonly limits: Limits = NO_LIMITS,
    readonly sessions: readonly SessionSpec[] = [],
    /** Null: no rule has any. */
    readonly filters: FilterTables | null = null,
  ) {
    const all = new Int32Array(buffer);
    this.generation = all[0]!;
    const view = (name: Section): Int32Array => {
      const index = SECTIONS.indexOf(name);
      const offset = all[1 + 2 * index]!;
      return all.subarray(offset, offset + all[2 + 2 * index]!);
    };
    this.listeners = view('listeners');
    this.scopes = view('scopes');
    this.destinations = view('destinations');
    this.sources = view('sources');
    this.hostParents = view('hostParents');
    this.pathParents = view('pathParents');
    this.pathLengths = view('pathLengths');
    this.hostIndex = view('hostIndex');
    this.pathIndex = view('pathIndex');
    this.nodes = view('nodes');
    this.predicates = view('predicates');
    this.sourceSets = view('sourceSets');
    this.sourceTenants = view('sourceTenants');
    this.sourceEgress = view('sourceEgress');
    this.outside = view('outside');
    this.sourceKeys = view('sourceKeys');
    this.sessionEndpoints = view('sessionEndpoints');
    this.consumers = view('consumers');
    this.sourceClients = view('sourceClients');
    this.clientClusters = view('clientClusters');
    this.actions = view('actions');
    this.backends = view('backends');
    this.extras = view('extras');
    this.mirrors = view('mirrors');
    this.origins = view('origins');
    const sizes = view('sizes');
    this.predicateWords = sizes[SizesWord.Predicates]!;
    this.sourceSetWords = sizes[SizesWord.SourceSet]!;
    this.hasValues = sizes[SizesWord.HasValues] === 1;
    this.hasOutside = sizes[SizesWord.HasOutside] === 1;
    this.hasClients = sizes[SizesWord.HasClients] === 1;
    this.clusters = view('clusters');
    this.members = view('members');
    this.balancers = view('balancers');
    this.groups = view('groups');
    this.hashTables = view('hashTables');
    this.cookies = view('cookies');
    this.guards = view('guards');
    this.plans = view('plans');
    this.attemptPlans = view('attemptPlans');
    this.rotation = new Int32Array(this.clusters.length / CLUSTER_WORDS);
    this.credit = new Float64Array(this.members.length / MEMBER_WORDS);
  }

  /** Goes on where balancers of the generation before stand, as far as their clusters have the same members. */
  inherit(before: DecisionTables): void {
    if (before.generation !== this.generation - 1) return;
    const { clusters } = this;
    for (let row = 0, at = 0; at < clusters.length; row++, at += CLUSTER_WORDS) {
      const previous = clusters[at + ClusterWord.Previous]!;
      if (previous < 0) continue;
      this.rotation[row] = before.rotation[previous]!;
      const from = before.clusters[previous * CLUSTER_WORDS + ClusterWord.Members]!;
      const to = clusters[at + ClusterWord.Members]!;
      for (let i = 0; i < clusters[at + ClusterWord.MemberCount]!; i++) this.credit[to + i] = before.credit[from + i]!;
    }
  }
}
