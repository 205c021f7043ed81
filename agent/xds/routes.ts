// The routes of a service's port → RouteConfiguration, as far as gRPC clients route (gRFC A28, A31): by path and headers, to weighted
// clusters, within a time. What changes headers has no effect there; a match that no gRPC call can meet is left out.
import { compareCandidates, type RouteCandidate } from '../../api/compile/route-order.js';
import type { Route, RouteAction, RouteConfiguration, RouteMatch } from '../../api/gen/envoy/config/route/v3/route.js';
import { type HttpMatch, type HttpRoute, type HttpRule, PathMatch_Type, type Service } from '../../api/gen/mesh/v1/model.js';
import { httpRouteName } from '../model/faults.js';
import { clusterName, type Target, targetOfCluster } from './target.js';

/** A cluster without endpoints: where a rule's share without a backend goes, so that its calls fail at once. */
export const NO_BACKEND = 'no-backend';

export function routeConfiguration(
  target: Target,
  routes: ReadonlyMap<string, HttpRoute>,
  services: ReadonlyMap<string, Service>,
): RouteConfiguration {
  const name = clusterName(target);
  const attached = [...routes.values()].filter((route) => isAttached(route, target));
  const list = attached.length === 0 ? [withoutRoutes(name)] : candidates(attached).flatMap((each) => routesOf(each, services));
  return { name, virtualHosts: [{ name, domains: ['*'], routes: list }] };
}

function isAttached({ parents }: HttpRoute, { service, port }: Target): boolean {
  const name = `${service.namespace}/${service.name}`;
  return parents.some(
    (parent) =>
      parent.parent?.$case === 'service' &&
      parent.parent.value === name &&
      (parent.port === 0 || parent.port === port.port) &&
      !saysMore(parent, PARENT),
  );
}

function withoutRoutes(name: string): Route {
  return {
    name: '',
    match: { pathSpecifier: { $case: 'prefix', value: '/' }, headers: [] },
    route: { clusterSpecifier: { $case: 'cluster', value: name }, maxStreamDuration: undefined },
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
        const { createdAtMs } = route;
        return { rule, rank: { hostname: '', match, createdAtMs, route: httpRouteName(route), ruleIndex, matchIndex } };
      });
    }),
  );
  return found.sort((a, b) => compareCandidates(a.rank, b.rank));
}

function routesOf({ rank, rule }: Candidate, services: ReadonlyMap<string, Service>): Route[] {
  const match = matchOf(rank.match);
  return match === null ? [] : [{ name: `${rank.route} rule ${rank.ruleIndex}`, match, route: actionOf(rule, services) }];
}

/** Null: no gRPC call is met by it. One is a POST to "/<service>/<method>", without a query. */
function matchOf(match: HttpMatch | null): RouteMatch | null {
  if (match === null) return { pathSpecifier: { $case: 'prefix', value: '/' }, headers: [] };
  if ((match.method !== '' && match.method !== 'POST') || match.query.length > 0) return null;
  const { path } = match;
  if (path !== undefined && path.type !== PathMatch_Type.EXACT && path.type !== PathMatch_Type.PREFIX) return null;
  if (saysMore(match, MATCH) || saysMore(path ?? {}, PATH) || match.headers.some((header) => saysMore(header, HEADER))) return null;
  const pathSpecifier = pathOf(match);
  const headers = match.headers.map(({ name, value }) => ({
    name,
    stringMatch: { matchPattern: { $case: 'exact', value } as const },
  }));
  return { pathSpecifier, headers };
}

const PARENT: readonly string[] = ['parent', 'port', 'section'];
const MATCH: readonly string[] = ['path', 'headers', 'query', 'method', 'grpcMethod'];
const PATH: readonly string[] = ['type', 'value'];
const HEADER: readonly string[] = ['name', 'value'];

/** It has a condition that is not told to clients here: what is left out then is left out whole, rather than made wider. */
function saysMore(message: object, known: readonly string[]): boolean {
  return Object.entries(message).some(
    ([field, value]) => !known.includes(field) && value !== undefined && value !== '' && value !== 0 && value !== false,
  );
}

function pathOf({ path, grpcMethod }: HttpMatch): NonNullable<RouteMatch['pathSpecifier']> {
  if (grpcMethod !== '') return { $case: 'safeRegex', value: { regex: `/[^/]+/${escaped(grpcMethod)}` } };
  const value = path?.value ?? '/';
  if (path?.type === PathMatch_Type.EXACT) return { $case: 'path', value };
  if (value === '/') return { $case: 'prefix', value };
  // Prefixes go by whole elements, of which a call has two: below the first come its methods, below the second nothing.
  return value.indexOf('/', 1) < 0 ? { $case: 'prefix', value: `${value}/` } : { $case: 'path', value };
}

function escaped(text: string): string {
  return text.replace(/[^A-Za-z0-9_]/g, '\\$&');
}

function actionOf(rule: HttpRule, services: ReadonlyMap<string, Service>): RouteAction {
  const shares = new Map<string, number>();
  for (const { service, port, weight } of rule.backends) {
    if (weight === 0) continue;
    const name = `${service}:${port}`;
    const known = targetOfCluster(name, services) === null ? NO_BACKEND : name;
    shares.set(known, (shares.get(known) ?? 0) + weight);
  }
  const [only = NO_BACKEND] = shares.keys();
  const maxStreamDuration = durationOf(rule);
  if (shares.size < 2) return { clusterSpecifier: { $case: 'cluster', value: only }, maxStreamDuration };
  const clusters = [...shares].map(([name, weight]) => ({ name, weight }));
  return { clusterSpecifier: { $case: 'weightedClusters', value: { clusters } }, maxStreamDuration };
}

/** A client makes one attempt of its own accord, so the time of one holds for the call. */
function durationOf({ requestTimeoutMs, backendTimeoutMs }: HttpRule): RouteAction['maxStreamDuration'] {
  const ms = Math.min(requestTimeoutMs || Number.POSITIVE_INFINITY, backendTimeoutMs || Number.POSITIVE_INFINITY);
  if (ms === Number.POSITIVE_INFINITY) return undefined;
  return { maxStreamDuration: { seconds: Math.floor(ms / 1000), nanos: (ms % 1000) * 1_000_000 } };
}
