// GRPCRoute → HttpRoute of the model: a service and its method are a path (gRPC over HTTP/2: "/" service "/" method). One route at a time.
import { type HttpMatch, type HttpRoute, type PathMatch, PathMatch_Type } from '../gen/mesh/v1/model.js';
import { ANY_REQUEST, compileMatchedHeaders, compileRuleFrame, type RouteIndex, soundMatches } from './http-route.js';
import type { Stored } from './input.js';
import type { ReportProblem } from './problem.js';
import { compileParents } from './route-parents.js';

type Match = Stored<'GRPCRoute'>['manifest']['spec']['rules'][number]['matches'][number];

export function compileGrpcRoute(route: Stored<'GRPCRoute'>, index: RouteIndex, report: ReportProblem): HttpRoute {
  const { namespace, name, createdAtMs, kind, manifest } = route;
  const parents = compileParents(route, index, report);
  return {
    namespace,
    name,
    createdAtMs,
    parents,
    hostnames: [...(manifest.spec.hostnames ?? [])],
    rules: manifest.spec.rules.flatMap((rule, position) => {
      const matches = soundMatches(rule.matches.map(withPath), position, report);
      if (matches.length === 0) return [];
      const frame = compileRuleFrame(route, rule, position, parents, index, report);
      // A call has its own deadline: grpc-timeout.
      return [{ ...frame, matches: matches.map(compileMatch), requestTimeoutMs: 0, backendTimeoutMs: 0, retry: undefined }];
    }),
    kind,
    inOrder: false,
  };
}

/** By an expression the two names are one path: what is wrong with either shows in it. */
function withPath(match: Match): Match & { readonly path?: { readonly type: string; readonly value: string } } {
  const { type, service, method } = match.method ?? {};
  if (type !== 'RegularExpression') return match;
  return { ...match, path: { type, value: `/(?:${service ?? '[^/]+'})/(?:${method ?? '[^/]+'})` } };
}

function compileMatch({ method, headers, path }: ReturnType<typeof withPath>): HttpMatch {
  return {
    ...ANY_REQUEST,
    path: path === undefined ? pathOf(method) : { type: PathMatch_Type.REGEX, value: path.value, ignoreCase: false },
    headers: compileMatchedHeaders(headers),
    grpcMethod: path === undefined && method?.service === undefined ? (method?.method ?? '') : '',
  };
}

function pathOf(match: Match['method']): PathMatch {
  const prefix = (value: string): PathMatch => ({ type: PathMatch_Type.PREFIX, value, ignoreCase: false });
  if (match?.service === undefined) return prefix('/');
  if (match.method === undefined) return prefix(`/${match.service}`);
  return { type: PathMatch_Type.EXACT, value: `/${match.service}/${match.method}`, ignoreCase: false };
}
