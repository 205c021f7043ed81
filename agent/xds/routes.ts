// The routes of a service's port → RouteConfiguration, as far as gRPC clients route (gRFC A28, A31, A44): by path and headers, to weighted clusters,
// within a time, with retries. What they can't heed is left out and told by unheeded().
import { compareCandidates, type RouteCandidate } from '../../api/compile/route-order.js';
import type { HeaderMatcher, Route, RouteAction, RouteConfiguration, RouteMatch } from '../../api/gen/envoy/config/route/v3/route.js';
import {
  type Backend,
  type HttpMatch,
  type HttpRoute,
  type HttpRule,
  PathMatch_Type,
  type Service,
  type ValueMatch,
  ValueMatch_Type,
} from '../../api/gen/mesh/v1/model.js';
import { httpRouteName } from '../model/faults.js';
import { clusterName, subsetName, type Target, targetOfCluster } from './target.js';

/** A cluster without endpoints: where a rule's share without a backend goes, so that its calls fail at once. */
export const NO_BACKEND = 'no-backend';

export function routeConfiguration(
  target: Target,
  routes: ReadonlyMap<string, HttpRoute>,
  services: ReadonlyMap<string, Service>,
): RouteConfiguration {
  const name = clusterName(target);
  const attached = [...routes.values()].filter((route) => isAttached(route, target));
  const list = attached.length === 0 ? [withoutRoutes(name)] : candidates(attached).flatMap((each) => routesOf(each, target, services));
  return { name, virtualHosts: [{ name, domains: ['*'], routes: list }] };
}

/** What of the port's routes proxyless clients do without, in words. */
export function unheeded(target: Target, routes: ReadonlyMap<string, HttpRoute>): string[] {
  const told: string[] = [];
  for (const [name, route] of routes) {
    if (isAttached(route, target, true) && !isAttached(route, target))
      told.push(`${name} is for clients of one namespace: it has no effect for proxyless clients`);
    if (!isAttached(route, target)) continue;
    route.rules.forEach((rule, index) => {
      const matches = rule.matches.filter(({ authority, scheme, source }) => (authority ?? scheme ?? source) !== undefined).length;
      if (matches > 0)
        told.push(`${name} rule ${index}: ${matches} matches by authority, scheme or source are never met by proxyless clients`);
      const without = featuresOf(rule);
      if (without.length > 0) told.push(`${name} rule ${index}: proxyless clients do without its ${without.join(', ')}`);
    });
  }
  return told;
}

function featuresOf(rule: HttpRule): string[] {
  const backends = (holds: (backend: Backend) => boolean): boolean => rule.backends.some(holds);
  const has = (mutation: HttpRule['requestHeaders']): boolean => mutation !== undefined;
  const features: readonly (readonly [string, boolean])[] = [
    ['redirects and answers (such calls fail)', backends(({ answer }) => answer !== undefined)],
    ['rewrites', backends(({ rewrite }) => rewrite !== undefined)],
    [
      'header changes',
      has(rule.requestHeaders) || has(rule.responseHeaders) || backends((each) => has(each.requestHeaders) || has(each.responseHeaders)),
    ],
    ['mirrors', rule.mirrors.length > 0 || backends(({ mirrors }) => mirrors.length > 0)],
    ['faults', rule.fault !== undefined],
  ];
  return features.flatMap(([name, isThere]) => (isThere ? [name] : []));
}

/** `ofConsumers`: also where it is for clients of one namespace; which one a client is of is not known here. */
function isAttached({ parents }: HttpRoute, { service, port }: Target, ofConsumers = false): boolean {
  const name = `${service.namespace}/${service.name}`;
  return parents.some(
    (parent) =>
      parent.parent?.$case === 'service' &&
      parent.parent.value === name &&
      (parent.port === 0 || parent.port === port.port) &&
      (ofConsumers || parent.consumerNamespace === ''),
  );
}

const ANY_CALL: RouteMatch = { pathSpecifier: { $case: 'prefix', value: '/' }, caseSensitive: undefined, headers: [] };

function withoutRoutes(name: string): Route {
  return {
    name: '',
    match: ANY_CALL,
    route: { clusterSpecifier: { $case: 'cluster', value: name }, maxStreamDuration: undefined, retryPolicy: undefined },
  };
}

interface Candidate {
  readonly rank: RouteCandidate;
  readonly rule: HttpRule;
}

/** In the order in which they are to be tried. Hostnames mean nothing here: the destination is known (GAMMA). */
function candidates(routes: readonly HttpRoute[]): Candidate[] {
  const found = routes.flatMap((route) =>
    route.rules.flatMap((rule, ruleIndex) => {
      const matches: (HttpMatch | null)[] = rule.matches.length === 0 ? [null] : rule.matches;
      return matches.map((match, matchIndex): Candidate => {
        const { createdAtMs, inOrder } = route;
        return { rule, rank: { hostname: '', match, createdAtMs, route: httpRouteName(route), ruleIndex, matchIndex, inOrder } };
      });
    }),
  );
  return found.sort((a, b) => compareCandidates(a.rank, b.rank));
}

function routesOf({ rank, rule }: Candidate, target: Target, services: ReadonlyMap<string, Service>): Route[] {
  const match = rank.match === null ? ANY_CALL : matchOf(rank.match, target);
  return match === null ? [] : [{ name: `${rank.route} rule ${rank.ruleIndex}`, match, route: actionOf(rule, services) }];
}

/** Null: no gRPC call is met by it, or it can't be told. One is a POST to "/<service>/<method>", without a query. */
function matchOf(match: HttpMatch, { port }: Target): RouteMatch | null {
  if ((match.method !== '' && match.method !== 'POST') || match.query.length > 0) return null;
  if (match.port !== 0 && match.port !== port.port) return null;
  if ((match.authority ?? match.scheme ?? match.methodPattern ?? match.source) !== undefined) return null;
  const pathSpecifier = pathOf(match);
  if (pathSpecifier === null) return null;
  return { pathSpecifier, caseSensitive: match.path?.ignoreCase === true ? false : undefined, headers: match.headers.map(headerOf) };
}

function pathOf({ path, grpcMethod }: HttpMatch): RouteMatch['pathSpecifier'] | null {
  if (grpcMethod !== '') return { $case: 'safeRegex', value: { regex: `/[^/]+/${escaped(grpcMethod)}` } };
  const value = path?.value ?? '/';
  switch (path?.type) {
    case PathMatch_Type.EXACT:
      return { $case: 'path', value };
    case PathMatch_Type.REGEX:
      return { $case: 'safeRegex', value: { regex: path.ignoreCase ? `(?i)${value}` : value } };
    case PathMatch_Type.TEXT_PREFIX:
      return { $case: 'prefix', value };
    case undefined:
    case PathMatch_Type.PREFIX:
      if (value === '/') return { $case: 'prefix', value };
      // Prefixes go by whole elements, of which a call has two: below the first come its methods, below the second nothing.
      return value.indexOf('/', 1) < 0 ? { $case: 'prefix', value: `${value}/` } : { $case: 'path', value };
    default:
      return null;
  }
}

function headerOf({ name, value, type, inverted: invertMatch }: ValueMatch): HeaderMatcher {
  if (type === ValueMatch_Type.PRESENT) return { name, invertMatch, headerMatchSpecifier: { $case: 'presentMatch', value: true } };
  const matchPattern =
    type === ValueMatch_Type.REGEX
      ? ({ $case: 'safeRegex', value: { regex: value } } as const)
      : type === ValueMatch_Type.PREFIX
        ? ({ $case: 'prefix', value } as const)
        : ({ $case: 'exact', value } as const);
  return { name, invertMatch, headerMatchSpecifier: { $case: 'stringMatch', value: { matchPattern } } };
}

function escaped(text: string): string {
  return text.replace(/[^A-Za-z0-9_]/g, '\\$&');
}

function actionOf(rule: HttpRule, services: ReadonlyMap<string, Service>): RouteAction {
  const shares = new Map<string, number>();
  for (const { service, port, weight, labels } of rule.backends) {
    if (weight === 0) continue;
    const name = subsetName(`${service}:${port}`, labels);
    const known = targetOfCluster(name, services) === null ? NO_BACKEND : name;
    shares.set(known, (shares.get(known) ?? 0) + weight);
  }
  const [only = NO_BACKEND] = shares.keys();
  const rest = { maxStreamDuration: durationOf(rule), retryPolicy: retryOf(rule) };
  if (shares.size < 2) return { clusterSpecifier: { $case: 'cluster', value: only }, ...rest };
  const clusters = [...shares].map(([name, weight]) => ({ name, weight }));
  return { clusterSpecifier: { $case: 'weightedClusters', value: { clusters } }, ...rest };
}

/** A client makes one attempt of its own accord, so the time of one holds for the call. */
function durationOf({ requestTimeoutMs, backendTimeoutMs }: HttpRule): RouteAction['maxStreamDuration'] {
  const ms = Math.min(requestTimeoutMs || Number.POSITIVE_INFINITY, backendTimeoutMs || Number.POSITIVE_INFINITY);
  if (ms === Number.POSITIVE_INFINITY) return undefined;
  return { maxStreamDuration: durationMs(ms) };
}

/** Those that clients retry: by their numbers, and by what stands for them in HTTP. */
const GRPC_CODES: ReadonlyMap<number, string> = new Map([
  [1, 'cancelled'],
  [4, 'deadline-exceeded'],
  [8, 'resource-exhausted'],
  [13, 'internal'],
  [14, 'unavailable'],
]);
const HTTP_CODES: ReadonlyMap<number, string> = new Map([
  [429, 'resource-exhausted'],
  [500, 'internal'],
  [503, 'unavailable'],
  [504, 'deadline-exceeded'],
]);
const FIRST_BACKOFF_MS = 25;

/** A call is no idempotent request: what says nothing of such is not repeated but where nothing was sent, and that clients do by themselves. */
function retryOf({ retry }: HttpRule): RouteAction['retryPolicy'] {
  if (retry === undefined || retry.attempts === 0 || !retry.anyMethod) return undefined;
  const { statuses, grpcStatuses } = retry;
  const named = [statuses.map((status) => HTTP_CODES.get(status)), grpcStatuses.map((status) => GRPC_CODES.get(status))];
  const codes = new Set(['unavailable', ...named.flat().flatMap((code) => code ?? [])]);
  return {
    retryOn: [...codes].join(','),
    numRetries: retry.attempts,
    retryBackOff: { baseInterval: durationMs(retry.backoffMs || FIRST_BACKOFF_MS) },
  };
}

export function durationMs(ms: number) {
  return { seconds: Math.floor(ms / 1000), nanos: (ms % 1000) * 1_000_000 };
}
