// HTTPRoute → HttpRoute of the model: references resolved, defaults spelled out. One route at a time.
import {
  type HeaderMutation,
  type HttpMatch,
  type HttpRoute,
  type HttpRule,
  PathMatch_Type,
  type RouteParent,
} from '../gen/mesh/v1/model.js';
import { durationMs } from '../resources/index.js';
import { type BackendIndex, compileBackend } from './backend.js';
import type { ObjectIndex, Stored } from './input.js';
import type { ReportProblem } from './problem.js';
import { compileParents } from './route-parents.js';

type Route = Stored<'HTTPRoute'>;
type Rule = Route['manifest']['spec']['rules'][number];
type Match = Rule['matches'][number];

export function compileHttpRoute(
  route: Route,
  index: BackendIndex & Pick<ObjectIndex, 'gateways' | 'namespaces'>,
  report: ReportProblem,
): HttpRoute {
  const { spec } = route.manifest;
  const parents: RouteParent[] = compileParents(route, index, report);
  return {
    namespace: route.namespace,
    name: route.name,
    createdAtMs: route.createdAtMs,
    parents,
    hostnames: [...(spec.hostnames ?? [])],
    rules: spec.rules.flatMap((rule, position) => compileRule(route, rule, position, index, report)),
    kind: '',
  };
}

function compileRule(route: Route, rule: Rule, position: number, index: BackendIndex, report: ReportProblem): HttpRule[] {
  const matches = exactMatches(rule.matches, position, report);
  if (matches.length === 0) return [];
  return [
    {
      ...compileRuleFrame(route, rule, position, index, report),
      matches: matches.map(compileMatch),
      // Gateway API: 0s is no limit. 0 here would be one that nobody set, for which a node has its own.
      requestTimeoutMs: timeoutMs(rule.timeouts?.request) || (rule.timeouts?.request === undefined ? 0 : MAX_TIMEOUT_MS),
      backendTimeoutMs: timeoutMs(rule.timeouts?.backendRequest),
    },
  ];
}

interface AnyMatch {
  readonly path?: { readonly type: string } | undefined;
  readonly method?: unknown;
  readonly headers?: readonly { readonly type: string }[] | undefined;
  readonly queryParams?: readonly { readonly type: string }[] | undefined;
}

/** A match by regular expression matches nothing yet; a rule without any other is left out, since no match at all would match everything. */
export function exactMatches<M extends AnyMatch>(matches: readonly M[], position: number, report: ReportProblem): readonly M[] {
  const isRegex = ({ path, method, headers, queryParams }: AnyMatch): boolean =>
    [path, method as AnyMatch['path'], ...(headers ?? []), ...(queryParams ?? [])].some((part) => part?.type === 'RegularExpression');
  if (matches.some(isRegex))
    report(`spec.rules[${position}].matches`, 'regular expressions are not supported yet: these matches match nothing', 'UnsupportedValue');
  return matches.filter((match) => !isRegex(match));
}

/** What the rules of an HTTPRoute and a GRPCRoute have in common. */
export function compileRuleFrame(
  route: Route | Stored<'GRPCRoute'>,
  rule: Pick<Rule, 'name' | 'backendRefs' | 'filters'>,
  position: number,
  index: BackendIndex,
  report: ReportProblem,
): Pick<HttpRule, 'name' | 'backends' | 'requestHeaders' | 'responseHeaders'> {
  const path = `spec.rules[${position}]`;
  const unsupported = rule.filters?.find(({ type }) => type !== 'RequestHeaderModifier' && type !== 'ResponseHeaderModifier');
  if (unsupported !== undefined)
    report(`${path}.filters`, `filters of type ${unsupported.type} are not supported yet: the rule answers 500`, 'UnsupportedValue');
  const references = unsupported === undefined ? (rule.backendRefs ?? []) : [];
  const backends = references.map((reference, at) => {
    const backend = compileBackend(route, reference, index, (message, reason) =>
      report(`${path}.backendRefs[${at}]`, `${message}: its share answers 500`, reason),
    );
    if (backend.service === '' || (reference.filters ?? []).length === 0) return backend;
    report(`${path}.backendRefs[${at}].filters`, 'filters of one backend are not supported yet: its share answers 500', 'UnsupportedValue');
    return { ...backend, service: '' };
  });
  const request = rule.filters?.find((filter) => filter.type === 'RequestHeaderModifier')?.requestHeaderModifier;
  const response = rule.filters?.find((filter) => filter.type === 'ResponseHeaderModifier')?.responseHeaderModifier;
  return { name: rule.name ?? '', backends, requestHeaders: compileHeaders(request), responseHeaders: compileHeaders(response) };
}

function compileMatch(match: Match): HttpMatch {
  const isExact = match.path.type === 'Exact';
  return {
    path: isExact
      ? { type: PathMatch_Type.EXACT, value: match.path.value }
      : { type: PathMatch_Type.PREFIX, value: prefixOf(match.path.value) },
    headers: (match.headers ?? []).map(({ name, value }) => ({ name: name.toLowerCase(), value })),
    query: (match.queryParams ?? []).map(({ name, value }) => ({ name, value })),
    method: match.method ?? '',
    grpcMethod: '',
  };
}

/** "/a/" and "/a" are the same prefix (Gateway API); the model has the shorter. */
function prefixOf(value: string): string {
  return value.length > 1 && value.endsWith('/') ? value.slice(0, -1) : value;
}

type Modifier = NonNullable<NonNullable<Rule['filters']>[number]['requestHeaderModifier']>;

function compileHeaders(modifier: Modifier | undefined): HeaderMutation | undefined {
  if (modifier === undefined) return undefined;
  const lower = ({ name, value }: { name: string; value: string }) => ({ name: name.toLowerCase(), value });
  return {
    set: (modifier.set ?? []).map(lower),
    add: (modifier.add ?? []).map(lower),
    remove: (modifier.remove ?? []).map((name) => name.toLowerCase()),
  };
}

/** 24 days: milliseconds in 31 bits, as a node takes them. */
const MAX_TIMEOUT_MS = 0x7fff_ffff;

function timeoutMs(value: string | undefined): number {
  return value === undefined ? 0 : Math.min(durationMs(value) ?? 0, MAX_TIMEOUT_MS);
}
