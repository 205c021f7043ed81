// HTTPRoute → HttpRoute of the model: references resolved, defaults spelled out. One route at a time.
import {
  type Backend,
  type HeaderMutation,
  type HttpMatch,
  type HttpRoute,
  type HttpRule,
  PathMatch_Type,
  type RouteParent,
} from '../gen/mesh/v1/model.js';
import { durationMs } from '../resources/index.js';
import { compileParents } from './http-route-parents.js';
import { nameOf, type ObjectIndex, type Stored } from './input.js';
import type { ReportProblem } from './problem.js';
import { tcpPorts } from './service.js';

type Route = Stored<'HTTPRoute'>;
type Rule = Route['manifest']['spec']['rules'][number];
type Match = Rule['matches'][number];

export function compileHttpRoute(route: Route, index: Pick<ObjectIndex, 'services' | 'gateways'>, report: ReportProblem): HttpRoute {
  const { spec } = route.manifest;
  const parents: RouteParent[] = compileParents(route, index, report);
  return {
    namespace: route.namespace,
    name: route.name,
    createdAtMs: route.createdAtMs,
    parents,
    hostnames: [...(spec.hostnames ?? [])],
    rules: spec.rules.map((rule, position) => compileRule(route, rule, position, index, report)),
  };
}

function compileRule(route: Route, rule: Rule, position: number, index: Pick<ObjectIndex, 'services'>, report: ReportProblem): HttpRule {
  const path = `spec.rules[${position}]`;
  const backends = (rule.backendRefs ?? []).map((reference, at) =>
    compileBackend(route, reference, index, (message) => report(`${path}.backendRefs[${at}]`, message)),
  );
  const request = rule.filters?.find((filter) => filter.type === 'RequestHeaderModifier')?.requestHeaderModifier;
  const response = rule.filters?.find((filter) => filter.type === 'ResponseHeaderModifier')?.responseHeaderModifier;
  return {
    name: rule.name ?? '',
    matches: rule.matches.map(compileMatch),
    backends,
    requestHeaders: compileHeaders(request),
    responseHeaders: compileHeaders(response),
    requestTimeoutMs: timeoutMs(rule.timeouts?.request),
    backendTimeoutMs: timeoutMs(rule.timeouts?.backendRequest),
  };
}

type Reference = NonNullable<Rule['backendRefs']>[number];

/** A reference that resolves to nothing keeps its weight with an empty service: its share answers 500 (Gateway API). */
function compileBackend(
  route: Route,
  reference: Reference,
  index: Pick<ObjectIndex, 'services'>,
  report: (message: string) => void,
): Backend {
  const port = reference.port ?? 0;
  const unresolved: Backend = { service: '', port, weight: reference.weight };
  const namespace = reference.namespace ?? route.namespace;
  const name = nameOf({ namespace, name: reference.name });
  if (namespace !== route.namespace) {
    report(`Service ${name} is in another namespace and no ReferenceGrant allows it (not supported yet): its share answers 500`);
    return unresolved;
  }
  const service = index.services.get(name);
  if (service === undefined) {
    report(`Service ${name} doesn't exist: its share answers 500`);
    return unresolved;
  }
  const ports = tcpPorts(service).map((candidate) => candidate.port);
  if (!ports.includes(port)) {
    report(`Service ${name} has no TCP port ${port} (it has ${ports.join(', ') || 'none'}): its share answers 500`);
    return unresolved;
  }
  return { service: name, port, weight: reference.weight };
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

/** Milliseconds in 31 bits, as a node takes them: what lies beyond 24 days is clamped. */
function timeoutMs(value: string | undefined): number {
  return value === undefined ? 0 : Math.min(durationMs(value) ?? 0, 0x7fff_ffff);
}
