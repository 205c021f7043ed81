// GRPCRoute → HttpRoute of the model: a service and its method are a path (gRPC over HTTP/2: "/" service "/" method). One route at a time.
import { type HttpMatch, type HttpRoute, type PathMatch, PathMatch_Type } from '../gen/mesh/v1/model.js';
import type { BackendIndex } from './backend.js';
import { compileRuleFrame, exactMatches } from './http-route.js';
import type { ObjectIndex, Stored } from './input.js';
import type { ReportProblem } from './problem.js';
import { compileParents } from './route-parents.js';

type Match = Stored<'GRPCRoute'>['manifest']['spec']['rules'][number]['matches'][number];

export function compileGrpcRoute(
  route: Stored<'GRPCRoute'>,
  index: BackendIndex & Pick<ObjectIndex, 'gateways' | 'namespaces'>,
  report: ReportProblem,
): HttpRoute {
  const { namespace, name, createdAtMs, kind, manifest } = route;
  return {
    namespace,
    name,
    createdAtMs,
    parents: compileParents(route, index, report),
    hostnames: [...(manifest.spec.hostnames ?? [])],
    rules: manifest.spec.rules.flatMap((rule, position) => {
      const matches = exactMatches(rule.matches, position, report);
      if (matches.length === 0) return [];
      const frame = compileRuleFrame(route, rule, position, index, report);
      // A call has its own deadline: grpc-timeout.
      return [{ ...frame, matches: matches.map(compileMatch), requestTimeoutMs: 0, backendTimeoutMs: 0 }];
    }),
    kind,
  };
}

function compileMatch({ method, headers }: Match): HttpMatch {
  return {
    path: pathOf(method),
    headers: (headers ?? []).map(({ name, value }) => ({ name: name.toLowerCase(), value })),
    query: [],
    method: '',
    grpcMethod: method?.service === undefined ? (method?.method ?? '') : '',
  };
}

function pathOf(match: Match['method']): PathMatch {
  if (match?.service === undefined) return { type: PathMatch_Type.PREFIX, value: '/' };
  if (match.method === undefined) return { type: PathMatch_Type.PREFIX, value: `/${match.service}` };
  return { type: PathMatch_Type.EXACT, value: `/${match.service}/${match.method}` };
}
