import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { compareCandidates, hostnameMatches, type RouteCandidate } from '../../../api/compile/route-order.js';
import { type HttpMatch, type HttpRoute, PathMatch_Type } from '../../../api/gen/mesh/v1/model.js';
import { backend, compiled, endpoint, listener, modelOf, route, service, toGateway } from '../testing/models.js';
import { TestProxy, type TestRequest } from '../testing/requests.js';
import { FIRST_GATEWAY_LISTENER } from './gateway-ports.js';

// Gateway API word by word: every match of every rule that holds for the request, sorted by precedence, the first wins.
function naive(routes: readonly HttpRoute[], request: TestRequest): string | null {
  const candidates: RouteCandidate[] = [];
  for (const { namespace, name, hostnames, createdAtMs, rules } of routes) {
    for (const hostname of hostnames.length === 0 ? [''] : hostnames) {
      rules.forEach((rule, ruleIndex) => {
        const matches: (HttpMatch | null)[] = rule.matches.length === 0 ? [null] : rule.matches;
        matches.forEach((match, matchIndex) => {
          if (!hostnameMatches(hostname, request.host ?? '') || !holds(match, request)) return;
          candidates.push({ hostname, match, createdAtMs, route: `${namespace}/${name}`, ruleIndex, matchIndex });
        });
      });
    }
  }
  const winner = candidates.sort(compareCandidates)[0];
  return winner === undefined ? null : `${winner.route} rule ${winner.ruleIndex}`;
}

function holds(match: HttpMatch | null, { path = '/', method = 'GET', headers = {}, query = {} }: TestRequest): boolean {
  if (match === null) return true;
  const value = match.path?.value ?? '/';
  const prefix = value.endsWith('/') ? value : `${value}/`;
  const fits = match.path?.type === PathMatch_Type.EXACT ? path === value : path.startsWith(prefix) || `${path}/` === prefix;
  return (
    fits &&
    (match.method === '' || match.method === method) &&
    (match.grpcMethod === '' || new RegExp(`^/[^/]+/${match.grpcMethod}$`).test(path)) &&
    match.headers.every((h) => headers[h.name] === h.value) &&
    match.query.every((q) => query[q.name] === q.value)
  );
}

const paths = ['/', '/a', '/a/', '/ab', '/a/b', '/a/b/', '/a/b/c', '/c'];
const hosts = ['', 'x.test', 'a.x.test', 'b.a.x.test', '*.x.test', '*.a.x.test', '*.test'];
const methods = ['', 'GET', 'POST', 'PROPFIND'];
const pairs = fc
  .subarray(['h0', 'h1', 'h2'])
  .chain((names) => fc.tuple(...names.map((name) => fc.record({ name: fc.constant(name), value: fc.constantFrom('0', '1') }))));
const match = fc.record({
  path: fc.option(fc.record({ type: fc.constantFrom(PathMatch_Type.PREFIX, PathMatch_Type.EXACT), value: fc.constantFrom(...paths) }), {
    nil: undefined,
  }),
  method: fc.constantFrom(...methods),
  grpcMethod: fc.constantFrom('', '', 'b'),
  headers: pairs,
  query: pairs,
});
const routeSets = fc.array(
  fc.record({
    createdAtMs: fc.constantFrom(1, 2),
    hostnames: fc.uniqueArray(fc.constantFrom(...hosts.slice(1)), { maxLength: 2 }),
    rules: fc.array(fc.record({ matches: fc.array(match, { maxLength: 3 }), backends: fc.constant(undefined).map(() => [backend('s')]) }), {
      maxLength: 3,
    }),
  }),
  { maxLength: 5 },
);
const values = fc.dictionary(fc.constantFrom('h0', 'h1', 'h2'), fc.constantFrom('0', '1'));
const requests = fc.array(
  fc.record({
    host: fc.constantFrom('x.test', 'a.x.test', 'b.a.x.test', 'c.x.test', 'other', ''),
    path: fc.constantFrom(...paths, '/a//', '/zz', '/a/b/c/d/'),
    method: fc.constantFrom('GET', 'POST', 'PROPFIND', 'OPTIONS'),
    headers: values,
    query: values,
  }),
  { minLength: 1, maxLength: 12 },
);

test('the table walk finds what a naive Gateway API matcher finds, for any routes and requests', () => {
  fc.assert(
    fc.property(routeSets, requests, (specs, wanted) => {
      const resources = specs.map((spec, index) => route(`r${index}`, { ...spec, parents: [toGateway('edge')] }));
      const model = modelOf(service('s', '10.0.0.1'), endpoint('s', 'e', '10.1.0.1'), listener('edge', 'web', 8080), ...resources);
      const tables = compiled(model, null);
      const proxy = new TestProxy(tables);
      for (const request of wanted) {
        const { routeId, target } = proxy.decide({ listener: FIRST_GATEWAY_LISTENER, ...request });
        const found = tables.routes.find(({ ruleId }) => ruleId === routeId)?.route ?? null;
        expect(found).toBe(naive([...model.routes.values()], { listener: FIRST_GATEWAY_LISTENER, ...request }));
        expect(target >= 0).toBe(found !== null);
      }
    }),
    { numRuns: 300 },
  );
});
