// HTTPRoute → HttpRoute of the model: references resolved, defaults spelled out. One route at a time.
import {
  type Backend,
  type HttpMatch,
  type HttpRoute,
  type HttpRule,
  type PathMatch,
  PathMatch_Type,
  type Retry,
  type RouteParent,
  type ValueMatch,
  ValueMatch_Type,
} from '../gen/mesh/v1/model.js';
import { durationMs } from '../resources/index.js';
import { regularExpressionFault } from '../resources/regular-expression.js';
import { type BackendIndex, compileBackend, NO_BACKEND } from './backend.js';
import { type Changes, compileFilters } from './http-filters.js';
import { nameOf, type ObjectIndex, type Stored } from './input.js';
import type { ReportProblem } from './problem.js';
import { rateLimitsOfRule } from './rate-limits.js';
import { compileParents, type ParentIndex } from './route-parents.js';

import { compileSession, type SessionIndex } from './session-persistence.js';

type Route = Stored<'HTTPRoute'>;
type Rule = Route['manifest']['spec']['rules'][number];
type Match = Rule['matches'][number];

/** What compiling a route asks of the other objects. */
export type RouteIndex = BackendIndex & ParentIndex & SessionIndex & Pick<ObjectIndex, 'filterTargets'>;

export function compileHttpRoute(route: Route, index: RouteIndex, report: ReportProblem): HttpRoute {
  const { spec } = route.manifest;
  const parents: RouteParent[] = compileParents(route, index, report);
  return {
    namespace: route.namespace,
    name: route.name,
    createdAtMs: route.createdAtMs,
    parents,
    hostnames: [...(spec.hostnames ?? [])],
    rules: spec.rules.flatMap((rule, position) => compileRule(route, rule, position, parents, index, report)),
    kind: '',
    inOrder: false,
  };
}

function compileRule(
  route: Route,
  rule: Rule,
  position: number,
  parents: readonly RouteParent[],
  index: RouteIndex,
  report: ReportProblem,
): HttpRule[] {
  const matches = soundMatches(rule.matches, position, report);
  if (matches.length === 0) return [];
  return [
    {
      ...compileRuleFrame(route, rule, position, parents, index, report),
      matches: matches.map(compileMatch),
      // Gateway API: 0s is no limit. 0 here would be one that nobody set, for which a node has its own.
      requestTimeoutMs: timeoutMs(rule.timeouts?.request) || (rule.timeouts?.request === undefined ? 0 : MAX_TIMEOUT_MS),
      backendTimeoutMs: timeoutMs(rule.timeouts?.backendRequest),
      retry: compileRetry(rule.retry),
    },
  ];
}

interface AnyMatch {
  readonly path?: Pattern | undefined;
  readonly method?: unknown;
  readonly headers?: readonly Pattern[] | undefined;
  readonly queryParams?: readonly Pattern[] | undefined;
}

interface Pattern {
  readonly type: string;
  readonly value?: string;
}

/** A match by what is no regular expression matches nothing; a rule without any other is left out, since no match at all would match everything. */
export function soundMatches<M extends AnyMatch>(matches: readonly M[], position: number, report: ReportProblem): readonly M[] {
  return matches.filter(({ path, headers, queryParams }, at) => {
    for (const part of [path, ...(headers ?? []), ...(queryParams ?? [])]) {
      const fault = part?.type === 'RegularExpression' ? regularExpressionFault(part.value ?? '') : null;
      if (fault === null) continue;
      const message = `${JSON.stringify(part?.value)} is no regular expression of RE2 (${fault}): the match matches nothing`;
      report(`spec.rules[${position}].matches[${at}]`, message, 'UnsupportedValue');
      return false;
    }
    return true;
  });
}

/** What the rules of an HTTPRoute and a GRPCRoute have in common. */
export function compileRuleFrame(
  route: Route | Stored<'GRPCRoute'>,
  rule: Pick<Rule, 'name' | 'backendRefs' | 'filters' | 'sessionPersistence'>,
  position: number,
  parents: readonly RouteParent[],
  index: RouteIndex,
  report: ReportProblem,
): Pick<
  HttpRule,
  | 'name'
  | 'backends'
  | 'requestHeaders'
  | 'responseHeaders'
  | 'mirrors'
  | 'cors'
  | 'fault'
  | 'rateLimits'
  | 'sessionPersistence'
  | 'filters'
> {
  const path = `spec.rules[${position}]`;
  const changes = compileFilters(route, rule.filters ?? [], path, index, report);
  const { requestHeaders, responseHeaders, mirrors, cors, unsupported, answer } = changes;
  if (unsupported !== undefined) report(`${path}.filters`, `${unsupported}: the rule answers 500`, 'UnsupportedValue');
  const references = unsupported === undefined && answer === undefined ? (rule.backendRefs ?? []) : [];
  const backends = references.map((reference, at) => compileShare(route, reference, `${path}.backendRefs[${at}]`, changes, index, report));
  const answered = answer === undefined || unsupported !== undefined ? [] : [{ ...NO_BACKEND, answer }];
  const services = backends.flatMap(({ service }) => (service === '' ? [] : [service]));
  const sessionPersistence = compileSession(route, rule.sessionPersistence, position, services, index, report);
  const filters = [...new Set([...changes.filters, ...index.filterTargets.of(route.kind, nameOf(route), rule.name)])];
  index.filterTargets.note(filters, parents);
  const rateLimits = rateLimitsOfRule(route.kind, nameOf(route), rule.name ?? '', index);
  return {
    rateLimits,
    name: rule.name ?? '',
    backends: [...answered, ...backends],
    requestHeaders,
    responseHeaders,
    mirrors,
    cors,
    fault: undefined,
    sessionPersistence,
    filters,
  };
}

/** One of the rule's backends, with its own filters behind the rule's. */
function compileShare(
  route: Route | Stored<'GRPCRoute'>,
  reference: NonNullable<Rule['backendRefs']>[number],
  path: string,
  ofRule: Changes,
  index: RouteIndex,
  report: ReportProblem,
): Backend {
  const backend = compileBackend(route, reference, index, (message, reason) => report(path, `${message}: its share answers 500`, reason));
  const own = compileFilters(route, reference.filters ?? [], path, index, report);
  const unsupported =
    own.unsupported ?? (own.filters.length > 0 ? 'filters of type ExtensionRef are not supported for one backend' : undefined);
  if (unsupported !== undefined) {
    report(`${path}.filters`, `${unsupported}: its share answers 500`, 'UnsupportedValue');
    return { ...NO_BACKEND, weight: backend.weight };
  }
  if (backend.service === '') return backend;
  const { requestHeaders, responseHeaders, mirrors, cors, answer } = own;
  if (answer !== undefined) return { ...NO_BACKEND, weight: backend.weight, responseHeaders, cors, answer };
  const { rewrite } = ofRule;
  const merged =
    rewrite === undefined || own.rewrite === undefined
      ? (own.rewrite ?? rewrite)
      : { host: own.rewrite.host || rewrite.host, path: own.rewrite.path ?? rewrite.path };
  return { ...backend, requestHeaders, responseHeaders, rewrite: merged, mirrors, cors };
}

/** Gateway API: what fails without an answer is tried again whatever its method, since the rule asks for it. */
function compileRetry(retry: Rule['retry']): Retry | undefined {
  if (retry === undefined) return undefined;
  return {
    attempts: Math.min(retry.attempts ?? 1, MAX_RETRIES),
    statuses: [...(retry.codes ?? [])],
    grpcStatuses: [],
    connectFailure: true,
    refused: true,
    reset: true,
    rateLimited: false,
    anyMethod: true,
    heedsRetryAfter: false,
    headers: [],
    requestNamesHeaders: false,
    repeatsEndpoints: false,
    remoteLocalities: undefined,
    backoffMs: Math.min(timeoutMs(retry.backoff), MAX_BACKOFF_MS),
  };
}

function compileMatch(match: Match): HttpMatch {
  return {
    ...ANY_REQUEST,
    path: compilePath(match.path),
    headers: compileMatchedHeaders(match.headers),
    query: (match.queryParams ?? []).map(({ name, ...value }) => ({ ...compileValue(value), name })),
    method: match.method ?? '',
  };
}

/** Of equivalent names the first one counts (Gateway API). */
export function compileMatchedHeaders(headers: Match['headers']): ValueMatch[] {
  const first = new Map<string, ValueMatch>();
  for (const { name, ...value } of headers ?? []) {
    const lower = name.toLowerCase();
    if (!first.has(lower)) first.set(lower, { ...compileValue(value), name: lower });
  }
  return [...first.values()];
}

export const ANY_REQUEST: HttpMatch = {
  path: undefined,
  headers: [],
  query: [],
  method: '',
  grpcMethod: '',
  authority: undefined,
  scheme: undefined,
  methodPattern: undefined,
  port: 0,
  source: undefined,
};

export function compileValue({ type, value }: { readonly type: string; readonly value: string }): ValueMatch {
  return { name: '', value, type: type === 'RegularExpression' ? ValueMatch_Type.REGEX : ValueMatch_Type.EXACT, inverted: false };
}

function compilePath({ type, value }: Match['path']): PathMatch {
  if (type === 'Exact') return { type: PathMatch_Type.EXACT, value, ignoreCase: false };
  if (type === 'RegularExpression') return { type: PathMatch_Type.REGEX, value, ignoreCase: false };
  return { type: PathMatch_Type.PREFIX, value: prefixOf(value), ignoreCase: false };
}

/** "/a/" and "/a" are the same prefix (Gateway API); the model has the shorter. */
function prefixOf(value: string): string {
  return value.length > 1 && value.endsWith('/') ? value.slice(0, -1) : value;
}

/** 24 days: milliseconds in 31 bits, as a node takes them. */
export const MAX_TIMEOUT_MS = 0x7fff_ffff;
/** As many as the engine carries out. */
export const MAX_RETRIES = 15;
const MAX_BACKOFF_MS = 60_000;

function timeoutMs(value: string | undefined): number {
  return value === undefined ? 0 : Math.min(durationMs(value) ?? 0, MAX_TIMEOUT_MS);
}
