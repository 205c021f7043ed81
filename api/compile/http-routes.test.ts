// HTTPRoutes and GRPCRoutes as the model has them.
import { describe, expect, test } from '@jest/globals';
import { PathMatch_Type, ResourceType } from '../gen/mesh/v1/model.js';
import { compileModel } from './index.js';
import { CATALOG, messages, route, stored } from './testing/manifests.js';

test('a route keeps its shares where a backend dangles, with an empty service', () => {
  const spec =
    '{parentRefs: [{group: "", kind: Service, name: catalog, port: 80}], rules: [{backendRefs: [{name: catalog, port: 80, weight: 90}, {name: gone, port: 80, weight: 7}, {name: catalog, namespace: other, port: 80}, {name: catalog, port: 81, weight: 3}]}]}';
  const { resources, problems } = compileModel({ objects: stored(CATALOG, route(spec)), running: null });
  const [compiled] = messages(resources, ResourceType.HTTP_ROUTE);
  expect(compiled?.parents).toEqual([
    { parent: { $case: 'service', value: 'shop/catalog' }, port: 80, section: '', consumerNamespace: '' },
  ]);
  expect(compiled?.rules[0]?.backends).toMatchObject([
    { service: 'shop/catalog', port: 80, weight: 90 },
    { service: '', port: 80, weight: 7 },
    { service: '', port: 80, weight: 1 },
    { service: '', port: 81, weight: 3 },
  ]);
  expect(problems.map((problem) => problem.path)).toEqual([1, 2, 3].map((index) => `spec.rules[0].backendRefs[${index}]`));
});

test('matches, header mutations and timeouts are spelled out', () => {
  const spec = `
  rules:
  - matches: [{path: {value: /v1/}, method: GET, headers: [{name: X-Beta, value: "1"}], queryParams: [{name: Q, value: a}]}, {path: {type: Exact, value: /x/}}]
    filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: b}], remove: [X-C]}}
    - {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: X-D, value: e}]}}
    timeouts: {request: 1m30s, backendRequest: 250ms}
  - {}`;
  const [compiled] = messages(compileModel({ objects: stored(route(spec)), running: null }).resources, ResourceType.HTTP_ROUTE);
  const rest = { name: '', backends: [] };
  expect(compiled?.rules).toMatchObject([
    {
      ...rest,
      matches: [
        {
          path: { type: 0, value: '/v1' },
          method: 'GET',
          headers: [{ name: 'x-beta', value: '1' }],
          query: [{ name: 'Q', value: 'a' }],
          grpcMethod: '',
        },
        { path: { type: 1, value: '/x/' }, method: '', headers: [], query: [], grpcMethod: '' },
      ],
      requestHeaders: { set: [{ name: 'x-a', value: 'b' }], add: [], remove: ['x-c'] },
      responseHeaders: { set: [], add: [{ name: 'x-d', value: 'e' }], remove: [] },
      requestTimeoutMs: 90_000,
      backendTimeoutMs: 250,
    },
    {
      ...rest,
      matches: [{ path: { type: 0, value: '/' }, method: '', headers: [], query: [], grpcMethod: '' }],
      requestHeaders: undefined,
      responseHeaders: undefined,
      requestTimeoutMs: 0,
      backendTimeoutMs: 0,
    },
  ]);
});

test('a parent of kind Service and another group is no Service', () => {
  const objects = stored(
    CATALOG,
    route('{parentRefs: [{kind: Service, name: catalog}], rules: [{backendRefs: [{name: catalog, port: 80}]}]}'),
  );
  const { resources, problems } = compileModel({ objects, running: null });
  expect(messages(resources, ResourceType.HTTP_ROUTE)).toMatchObject([{ parents: [] }]);
  expect(problems.map(({ path, reason }) => `${path} ${reason}`)).toEqual(['spec.parentRefs[0] InvalidKind']);
});

test('a timeout beyond what a node takes is clamped to it', () => {
  const spec = '{rules: [{timeouts: {request: 99999h}}]}';
  const [compiled] = messages(compileModel({ objects: stored(route(spec)), running: null }).resources, ResourceType.HTTP_ROUTE);
  expect(compiled?.rules[0]?.requestTimeoutMs).toBe(2 ** 31 - 1);
});

test('a timeout of 0s is no limit, and no timeout the node’s own', () => {
  const spec = '{rules: [{timeouts: {request: 0s}}, {timeouts: {request: 1s, backendRequest: 0s}}, {}]}';
  const [compiled] = messages(compileModel({ objects: stored(route(spec)), running: null }).resources, ResourceType.HTTP_ROUTE);
  expect(compiled?.rules.map(({ requestTimeoutMs }) => requestTimeoutMs)).toEqual([2 ** 31 - 1, 1000, 0]);
});

test('a GRPCRoute is a route by path: a service and its method, a service, a method, anything; beside an HTTPRoute of its name', () => {
  const grpc = `apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: catalog, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: catalog}]
  hostnames: [grpc.test]
  rules:
  - matches: [{method: {service: shop.Catalog, method: Get}, headers: [{name: X-Beta, value: "1"}]}, {method: {service: shop.Catalog}}, {method: {method: Get}}]
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [X-Debug]}}]
    backendRefs: [{name: catalog, port: 80}]
  - backendRefs: [{name: absent, port: 80}]`;
  const http = route('{parentRefs: [{group: "", kind: Service, name: catalog}], rules: [{backendRefs: [{name: catalog, port: 80}]}]}');
  const { resources, problems } = compileModel({ objects: stored(CATALOG, grpc, http), running: null });
  expect(problems.map(({ kind, message }) => `${kind}: ${message}`)).toEqual([
    "GRPCRoute: Service shop/absent doesn't exist: its share answers 500",
  ]);
  expect(resources.filter(({ type }) => type === ResourceType.HTTP_ROUTE).map(({ name }) => name)).toEqual([
    'GRPCRoute/shop/catalog',
    'shop/catalog',
  ]);
  const [compiled] = messages(resources, ResourceType.HTTP_ROUTE);
  expect(compiled).toMatchObject({ kind: 'GRPCRoute', hostnames: ['grpc.test'], createdAtMs: 1001 });
  expect(
    compiled?.rules.map(({ matches }) =>
      matches.map(({ path, headers, grpcMethod }) => [path?.type, path?.value, headers.length, grpcMethod]),
    ),
  ).toEqual([
    [
      [PathMatch_Type.EXACT, '/shop.Catalog/Get', 1, ''],
      [PathMatch_Type.PREFIX, '/shop.Catalog', 0, ''],
      [PathMatch_Type.PREFIX, '/', 0, 'Get'],
    ],
    [[PathMatch_Type.PREFIX, '/', 0, '']],
  ]);
  expect(compiled?.rules[0]?.requestHeaders?.remove).toEqual(['x-debug']);
});

describe('what is accepted and not acted on', () => {
  const parent = 'parentRefs: [{group: "", kind: Service, name: catalog}]';
  const backend = 'backendRefs: [{name: catalog, port: 80}]';
  const rulesOf = (spec: string) => {
    const { resources, problems } = compileModel({ objects: stored(CATALOG, route(spec)), running: null });
    const [compiled] = messages(resources, ResourceType.HTTP_ROUTE);
    return { rules: compiled?.rules ?? [], problems: problems.map(({ path, reason }) => `${path} ${reason}`) };
  };

  test('a match by what RE2 does not take matches nothing, and a rule of such matches alone is left out', () => {
    const { rules, problems } = rulesOf(
      `{${parent}, rules: [{matches: [{path: {type: RegularExpression, value: "/a(.*"}}], ${backend}}, {matches: [{headers: [{type: RegularExpression, name: a, value: "(?=b)"}]}, {path: {type: RegularExpression, value: "/c+"}}], ${backend}}]}`,
    );
    expect(rules.map(({ matches }) => matches.map(({ path }) => path?.value))).toEqual([['/c+']]);
    expect(problems).toEqual(['spec.rules[0].matches[0] UnsupportedValue', 'spec.rules[1].matches[0] UnsupportedValue']);
  });

  test('a rule with a filter that is not there answers 500, and so does the share of a backend with one', () => {
    const extension = '{type: ExtensionRef, extensionRef: {group: a.b, kind: Wasm, name: w}}';
    const { rules, problems } = rulesOf(
      `{${parent}, rules: [{filters: [${extension}], ${backend}}, {backendRefs: [{name: catalog, port: 80, filters: [${extension}]}]}]}`,
    );
    expect(rules.map(({ backends }) => backends.map(({ service, weight }) => ({ service, weight })))).toEqual([
      [],
      [{ service: '', weight: 1 }],
    ]);
    expect(problems).toEqual(['spec.rules[0].filters UnsupportedValue', 'spec.rules[1].backendRefs[0].filters UnsupportedValue']);
  });
});
