// Which rule a request meets: its scope, its host and those that cover it, the chain of its path, what a rule asks for besides. Pure walks over
// the decision tables, for the decision and for who explains one; what is not met they say as a number. Hot path: nothing allocated.
import { Descriptor, DescriptorFlag, type Engine, METHODS } from '../../native/engine.js';
import type { RequestText } from '../request-text.js';
import type { DecisionTables } from '../tables/decision-tables.js';
import {
  ANY_PATH,
  ConditionWord,
  HOST_FLAG_BITS,
  HostFlag,
  LISTENER_WORDS,
  ListenerKind,
  ListenerWord,
  NODE_WORDS,
  NodePath,
  NodeWord,
  SCOPE_WORDS,
  ScopeWord,
} from '../tables/layout.js';
import { lookup } from '../tables/pair-index.js';

// By their short names.
const D_METHOD = Descriptor.Method as number;
const D_PATH = Descriptor.PathId as number;
const D_FLAGS = Descriptor.Flags as number;
const D_PREDICATES = Descriptor.PredicateOffset as number;
const D_SOURCE = Descriptor.SourceId as number;
const D_PATH_LENGTH = Descriptor.PathLength as number;
const PATH_EXACT = DescriptorFlag.PathExact as number;
const CONNECT = METHODS.indexOf('CONNECT');
const STOP = HostFlag.Stop as number;
const LISTED = HostFlag.Listed as number;
const C_BITS = ConditionWord.Bits as number;
const C_REST = ConditionWord.Rest as number;
const C_PATTERNS = ConditionWord.Patterns as number;
const C_SOURCES = ConditionWord.Sources as number;
const NODE_PREFIX = NodePath.Prefix as number;
const NODE_EXACT = NodePath.Exact as number;
const NODE_EXACT_SLASH = NodePath.ExactSlash as number;
const N_PATH = NodeWord.Path as number;
const N_METHOD = NodeWord.Method as number;
const N_PREDICATES = NodeWord.Predicates as number;
const N_NEXT = NodeWord.Next as number;

/** What is read of requests. */
export type DescribedRequests = Pick<Engine, 'descriptors' | 'predicates' | 'arena'>;

/** As in hostIndex and hostParents. */
export const ANY_HOST = -1;
/** What unmetOf() says besides offsets in `predicates`. */
export const MET = -1;
export const OTHER_METHOD = -2;

/** The next more general one, ANY_HOST the last; below it: there is none. */
export function hostAbove({ hostParents }: DecisionTables, host: number): number {
  return host === ANY_HOST ? ANY_HOST - 1 : hostParents[host]!;
}

/** Of a service's scope the one that the client's namespace has instead, if it has. */
export function scopeFor({ scopes, sourceTenants, consumers }: DecisionTables, scope: number, source: number): number {
  if (scopes[scope * SCOPE_WORDS + ScopeWord.HasConsumers] === 0 || source < 0) return scope;
  const own = lookup(consumers, scope, sourceTenants[source]!);
  return own < 0 ? scope : own;
}

/** Class of the client, by which clusterFor() goes: its workload's, or its gateway's. 0: nobody's. */
export function clientOf(tables: DecisionTables, listener: number, source: number): number {
  if (!tables.hasClients) return 0;
  const row = listener * LISTENER_WORDS;
  if (tables.listeners[row + ListenerWord.Kind] === ListenerKind.Gateway) return tables.listeners[row + ListenerWord.Client]!;
  return source < 0 ? 0 : tables.sourceClients[source]!;
}

/** Of a cluster the one that such clients have instead, if they have. */
export function clusterFor({ clientClusters }: DecisionTables, cluster: number, client: number): number {
  if (client === 0 || cluster < 0) return cluster;
  const own = lookup(clientClusters, cluster, client);
  return own < 0 ? cluster : own;
}

/** Row of the listener's hostname: the first from the host on at which the search stops (RouteChains.stopAt); -1: no listener's. */
export function listenerOf(tables: DecisionTables, scope: number, from: number): number {
  for (let host = from; host >= ANY_HOST; host = hostAbove(tables, host)) {
    const entry = lookup(tables.hostIndex, scope, host);
    if (entry >= 0 && (entry & STOP) !== 0) return entry >> HOST_FLAG_BITS;
  }
  return -1;
}

/** Offset of the node that matches under the host's entry in hostIndex: the longest path first, on each in order of precedence; -1: none. */
export function matchUnder(tables: DecisionTables, batch: DescribedRequests, text: RequestText, d: number, entry: number): number {
  const row = entry >> HOST_FLAG_BITS;
  const byPath = matchPath(tables, batch, text, d, row);
  if ((entry & LISTED) === 0 || (byPath >= 0 && tables.nodes[byPath + N_PATH] !== NODE_PREFIX)) return byPath;
  // Rules under ANY_PATH come behind exact paths and before prefixes.
  const { nodes, pathIndex } = tables;
  for (let node = lookup(pathIndex, row, ANY_PATH); node >= 0; node = nodes[node * NODE_WORDS + N_NEXT]!)
    if (unmetOf(tables, batch, text, d, node * NODE_WORDS) === MET) return node * NODE_WORDS;
  return byPath;
}

function matchPath(tables: DecisionTables, batch: DescribedRequests, text: RequestText, d: number, row: number): number {
  const { nodes, pathIndex, pathParents } = tables;
  for (let path = batch.descriptors[d + D_PATH]!; path >= 0; path = pathParents[path]!) {
    for (let node = lookup(pathIndex, row, path); node >= 0; node = nodes[node * NODE_WORDS + N_NEXT]!) {
      const at = node * NODE_WORDS;
      if (isOnPath(tables, batch.descriptors, d, at, path) && unmetOf(tables, batch, text, d, at) === MET) return at;
    }
  }
  return -1;
}

/** Whether the request's path, one of whose elements' ends `path` is, is as the node under that wants it. */
export function isOnPath({ nodes, pathLengths }: DecisionTables, descriptors: Int32Array, d: number, node: number, path: number): boolean {
  const kind = nodes[node + N_PATH]!;
  if (kind === NODE_EXACT) return path === descriptors[d + D_PATH] && (descriptors[d + D_FLAGS]! & PATH_EXACT) !== 0;
  // A whole-element prefix that is one byte shorter: the byte is a slash.
  return kind !== NODE_EXACT_SLASH || (path === descriptors[d + D_PATH] && descriptors[d + D_PATH_LENGTH] === pathLengths[path]! + 1);
}

/** What the node asks for beside the path, and the request has not: MET, OTHER_METHOD, or an offset as unmetWord() has it. */
export function unmetOf(tables: DecisionTables, batch: DescribedRequests, text: RequestText, d: number, node: number): number {
  const { nodes } = tables;
  const wanted = nodes[node + N_METHOD]!;
  const method = batch.descriptors[d + D_METHOD]!;
  // A tunnel is opened only by a rule that says so: to any other it would be a way past what it allows.
  if (wanted !== method && (wanted >= 0 || method === CONNECT)) return OTHER_METHOD;
  const condition = nodes[node + N_PREDICATES]!;
  return condition < 0 ? MET : unmetWord(tables, batch, text, d, condition);
}

/** Offset in `predicates` of the first three words of the condition that do not hold, or of its set of clients; MET: all of it holds. */
function unmetWord(tables: DecisionTables, batch: DescribedRequests, text: RequestText, d: number, condition: number): number {
  const { predicates, patterns } = tables;
  const bits = batch.descriptors[d + D_PREDICATES]!;
  let at = condition + C_REST;
  for (const end = at + predicates[condition + C_BITS]! * 3; at < end; at += 3) {
    const word = bits < 0 ? 0 : batch.predicates[bits + predicates[at]!]!;
    if ((word & predicates[at + 1]!) !== predicates[at + 2]!) return at;
  }
  const sources = predicates[condition + C_SOURCES]!;
  if (sources >= 0 && !isAmong(tables, sources, batch.descriptors[d + D_SOURCE]!)) return condition + C_SOURCES;
  for (const end = at + predicates[condition + C_PATTERNS]! * 3; at < end; at += 3) {
    const verdict = text.find(batch, tables, d, predicates[at]!)
      ? patterns.test(predicates[at + 1]!, text.bytes, text.at, text.length)
      : false;
    // Of a text that there was no room for nothing is known: no rule may go by it.
    if (text.at < 0 || verdict !== (predicates[at + 2] === 1)) return at;
  }
  return MET;
}

function isAmong({ sourceSets, sourceSetWords }: DecisionTables, set: number, source: number): boolean {
  return source >= 0 && (sourceSets[set * sourceSetWords + (source >>> 5)]! & (1 << (source & 31))) !== 0;
}
