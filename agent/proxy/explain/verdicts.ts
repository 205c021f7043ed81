// Of every rule that a request could meet at its entrance: whether it matches, and why not. Walks the same tables as the decision
// (../decide.ts), all of them where that stops at the first that matches; so it may allocate, and says things in words.
import { RuleVerdict_Verdict } from '../../../api/gen/mesh/v1/explain.js';
import { type DescribedRequest, Descriptor, DescriptorFlag, METHODS, type TableSpec } from '../../native/engine.js';
import { RequestText } from '../request-text.js';
import type { Generation } from '../tables/compile.js';
import {
  ANY_PATH,
  ConditionWord,
  type DecisionTables,
  HOST_FLAG_BITS,
  HostFlag,
  lookup,
  NODE_WORDS,
  NodePath,
  NodeWord,
  Subject,
} from '../tables/layout.js';

/** A row of Generation.routes and what is to be said of it, the winner among those that match not told yet. */
export interface Finding {
  readonly row: number;
  readonly verdict: 'matches' | RuleVerdict_Verdict.UNMET | RuleVerdict_Verdict.HIDDEN;
  readonly why: string;
}

const ANY_HOST = -1;

/** Of all rules of the scope, in the order in which they stand in the tables. */
export function findingsOf(tables: DecisionTables, generation: Generation, request: DescribedRequest, scope: number): Finding[] {
  const seen = new Map<number, string>();
  let hiddenBy = '';
  const hidden = new Set<string>();
  const hosts = hostsOf(tables, request.descriptor[Descriptor.HostId]!);
  for (const host of hosts) {
    const name = host === ANY_HOST ? '' : (generation.spec.hosts[host] ?? '');
    if (hiddenBy !== '') hidden.add(name);
    const entry = lookup(tables.hostIndex, scope, host);
    if (entry < 0 || hiddenBy !== '') continue;
    for (const [node, why] of walk(tables, generation.spec, request, entry >> HOST_FLAG_BITS)) seen.set(node, why);
    if ((entry & (HostFlag.Stop | HostFlag.Final)) !== 0) hiddenBy = name === '' ? '*' : name;
  }
  const names = new Set(hosts.map((host) => (host === ANY_HOST ? '' : (generation.spec.hosts[host] ?? ''))));
  return generation.routes.flatMap(({ scopeRow, host, isConnection }, row): Finding[] => {
    if (scopeRow !== scope || isConnection) return [];
    if (!names.has(host)) return [{ row, verdict: RuleVerdict_Verdict.UNMET, why: `is for the host ${host}` }];
    if (hidden.has(host)) return [{ row, verdict: RuleVerdict_Verdict.HIDDEN, why: `requests for ${hiddenBy} are not looked for here` }];
    const why = seen.get(row);
    if (why === '') return [{ row, verdict: 'matches', why }];
    return [{ row, verdict: RuleVerdict_Verdict.UNMET, why: why ?? 'the path is another' }];
  });
}

/** The request's own host, then those that cover it, the most specific first. */
function hostsOf({ hostParents }: DecisionTables, host: number): number[] {
  const all: number[] = [];
  for (let at = host; at >= 0; at = hostParents[at]!) all.push(at);
  return [...all, ANY_HOST];
}

/** Every node that the path leads to under a host's row; empty: it matches, else why it doesn't. */
function walk(tables: DecisionTables, spec: TableSpec, request: DescribedRequest, row: number): Map<number, string> {
  const { nodes, pathIndex, pathParents, pathLengths } = tables;
  const { descriptor } = request;
  const found = new Map<number, string>();
  const own = descriptor[Descriptor.PathId]!;
  const chain = (path: number): number[] => {
    const all: number[] = [];
    for (let node = lookup(pathIndex, row, path); node >= 0; node = nodes[node * NODE_WORDS + NodeWord.Next]!) all.push(node);
    return all;
  };
  for (let path = own; path >= 0; path = pathParents[path]!) {
    for (const node of chain(path)) {
      const kind = nodes[node * NODE_WORDS + NodeWord.Path]!;
      const isOwn = path === own;
      const isExact = isOwn && (descriptor[Descriptor.Flags]! & DescriptorFlag.PathExact) !== 0;
      const isSlash = isOwn && descriptor[Descriptor.PathLength] === pathLengths[path]! + 1;
      if ((kind === NodePath.Exact && !isExact) || (kind === NodePath.ExactSlash && !isSlash)) continue;
      found.set(node, unmet(tables, spec, request, node * NODE_WORDS));
    }
  }
  for (const node of chain(ANY_PATH)) found.set(node, unmet(tables, spec, request, node * NODE_WORDS));
  return found;
}

/** What of the method and the conditions does not hold; empty: all does. */
function unmet(tables: DecisionTables, spec: TableSpec, request: DescribedRequest, node: number): string {
  const { nodes } = tables;
  const wanted = nodes[node + NodeWord.Method]!;
  const method = request.descriptor[Descriptor.Method]!;
  if (wanted >= 0 && wanted !== method) return `the method is not ${METHODS[wanted]}`;
  if (wanted < 0 && METHODS[method] === 'CONNECT') return 'tunnels are for rules that name CONNECT';
  const condition = nodes[node + NodeWord.Predicates]!;
  return condition < 0 ? '' : unmetCondition(tables, spec, request, condition);
}

function unmetCondition(tables: DecisionTables, spec: TableSpec, request: DescribedRequest, condition: number): string {
  const words = tables.predicates;
  const { descriptor, predicates } = request;
  const bits = descriptor[Descriptor.PredicateOffset]!;
  let at = condition + ConditionWord.Rest;
  for (const end = at + words[condition + ConditionWord.Bits]! * 3; at < end; at += 3) {
    const [word, mask, must] = [words[at]!, words[at + 1]!, words[at + 2]!];
    const differing = ((bits < 0 ? 0 : predicates[bits + word]!) & mask) ^ must;
    if (differing !== 0)
      return predicateText(spec, word * 32 + (31 - Math.clz32(differing & -differing)), (must & differing & -differing) !== 0);
  }
  const sources = words[condition + ConditionWord.Sources]!;
  const source = descriptor[Descriptor.SourceId]!;
  const isAmong = (): boolean => (tables.sourceSets[sources * tables.sourceSetWords + (source >>> 5)]! & (1 << (source & 31))) !== 0;
  if (sources >= 0 && (source < 0 || !isAmong())) return 'it is for other clients';
  const text = new RequestText();
  for (const end = at + words[condition + ConditionWord.Patterns]! * 3; at < end; at += 3) {
    const [subject, pattern, must] = [words[at]!, words[at + 1]!, words[at + 2]! === 1];
    const isThere = text.find({ descriptors: descriptor, predicates, arena: request.arena }, tables, 0, subject);
    const verdict = isThere && tables.patterns.test(pattern, text.bytes, text.at, text.length);
    if (text.at < 0 || verdict !== must)
      return `${subjectText(spec, subject)} ${must ? (isThere ? 'does not match' : 'is absent') : 'is one that it excludes'}`;
  }
  return '';
}

function predicateText(spec: TableSpec, bit: number, must: boolean): string {
  const predicate = spec.predicates[bit];
  if (predicate === undefined) return 'a condition does not hold';
  const { kind, name, value } = predicate;
  const names = { header: `header ${name}`, query: `query parameter ${name}`, method: 'the method', grpcMethod: 'the gRPC method' };
  return `${names[kind]} is ${must ? 'not ' : ''}${value}`;
}

function subjectText(spec: TableSpec, subject: number): string {
  if (subject >= 0) return `${spec.values[subject]?.kind === 'query' ? 'query parameter' : 'header'} ${spec.values[subject]?.name ?? ''}`;
  const names: Readonly<Record<number, string>> = {
    [Subject.Path]: 'the path',
    [Subject.Authority]: 'the authority',
    [Subject.Scheme]: 'the scheme',
    [Subject.Method]: 'the method',
  };
  return names[subject] ?? 'a value that is not looked at';
}
