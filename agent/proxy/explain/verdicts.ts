// Of every rule that a request could meet at its entrance: whether it matches, and why not. Asks what the decision asks (../decide/route-match.ts),
// of all rules where that stops at the first that matches; so it may allocate, and says things in words.
import { RuleVerdict_Verdict } from '../../../api/gen/mesh/v1/explain.js';
import { type DescribedRequest, Descriptor, METHODS, type TableSpec } from '../../native/engine.js';
import { ANY_HOST, type DescribedRequests, hostAbove, isOnPath, MET, OTHER_METHOD, unmetOf } from '../decide/route-match.js';
import { RequestText } from '../request-text.js';
import type { Generation } from '../tables/compile.js';
import type { DecisionTables } from '../tables/decision-tables.js';
import { ANY_PATH, ConditionWord, HOST_FLAG_BITS, HostFlag, NODE_WORDS, NodeWord, Subject } from '../tables/layout.js';
import { lookup } from '../tables/pair-index.js';

/** A row of Generation.routes and what is to be said of it, the winner among those that match not told yet. */
export interface Finding {
  readonly row: number;
  readonly verdict: 'matches' | RuleVerdict_Verdict.UNMET | RuleVerdict_Verdict.HIDDEN;
  readonly why: string;
}

/** Of all rules of the scope, in the order in which they stand in the tables. */
export function findingsOf(tables: DecisionTables, generation: Generation, request: DescribedRequest, scope: number): Finding[] {
  const requests = { descriptors: request.descriptor, predicates: request.predicates, arena: request.arena };
  const seen = new Map<number, string>();
  let hiddenBy = '';
  const hidden = new Set<string>();
  const hosts = hostsOf(tables, request.descriptor[Descriptor.HostId]!);
  for (const host of hosts) {
    const name = host === ANY_HOST ? '' : (generation.spec.hosts[host] ?? '');
    if (hiddenBy !== '') hidden.add(name);
    const entry = lookup(tables.hostIndex, scope, host);
    if (entry < 0 || hiddenBy !== '') continue;
    for (const [node, why] of walk(tables, generation.spec, requests, entry >> HOST_FLAG_BITS)) seen.set(node, why);
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
function hostsOf(tables: DecisionTables, host: number): number[] {
  const all: number[] = [];
  for (let at = host; at >= ANY_HOST; at = hostAbove(tables, at)) all.push(at);
  return all;
}

/** Every node that the path leads to under a host's row; empty: it matches, else why it doesn't. */
function walk(tables: DecisionTables, spec: TableSpec, request: DescribedRequests, row: number): Map<number, string> {
  const { pathParents } = tables;
  const found = new Map<number, string>();
  const meet = (path: number): void => {
    for (const node of chainOf(tables, row, path))
      if (path === ANY_PATH || isOnPath(tables, request.descriptors, 0, node * NODE_WORDS, path))
        found.set(node, unmet(tables, spec, request, node * NODE_WORDS));
  };
  for (let path = request.descriptors[Descriptor.PathId]!; path >= 0; path = pathParents[path]!) meet(path);
  meet(ANY_PATH);
  return found;
}

function chainOf({ nodes, pathIndex }: DecisionTables, row: number, path: number): number[] {
  const all: number[] = [];
  for (let node = lookup(pathIndex, row, path); node >= 0; node = nodes[node * NODE_WORDS + NodeWord.Next]!) all.push(node);
  return all;
}

/** What of the method and the conditions does not hold, in words; empty: all does. */
function unmet(tables: DecisionTables, spec: TableSpec, request: DescribedRequests, node: number): string {
  const text = new RequestText();
  const at = unmetOf(tables, request, text, 0, node);
  if (at === MET) return '';
  if (at === OTHER_METHOD) {
    const wanted = tables.nodes[node + NodeWord.Method]!;
    return wanted >= 0 ? `the method is not ${METHODS[wanted]}` : 'tunnels are for rules that name CONNECT';
  }
  const words = tables.predicates;
  const condition = tables.nodes[node + NodeWord.Predicates]!;
  if (at === condition + ConditionWord.Sources) return 'it is for other clients';
  if (at < condition + ConditionWord.Rest + words[condition + ConditionWord.Bits]! * 3) {
    const [word, mask, must] = [words[at]!, words[at + 1]!, words[at + 2]!];
    const bits = request.descriptors[Descriptor.PredicateOffset]!;
    const differing = ((bits < 0 ? 0 : request.predicates[bits + word]!) & mask) ^ must;
    const first = differing & -differing;
    return predicateText(spec, word * 32 + (31 - Math.clz32(first)), (must & first) !== 0);
  }
  const isThere = text.find(request, tables, 0, words[at]!);
  const isWanted = words[at + 2] === 1;
  return `${subjectText(spec, words[at]!)} ${isWanted ? (isThere ? 'does not match' : 'is absent') : 'is one that it excludes'}`;
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
