// What rate limits become, for which target, and what is said of those that lead nowhere.
import { expect, test } from '@jest/globals';
import { type HttpRoute, type Listener, RateLimit_Algorithm, ResourceType, type Service } from '../gen/mesh/v1/model.js';
import { parseSources } from '../resources/index.js';
import { compileModel } from './compile.js';

const WORLD = `
apiVersion: v1
kind: Service
metadata: {name: a, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: b, namespace: shop}
spec: {clusterIP: 10.96.0.2, ports: [{name: http, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec: {gatewayClassName: weft, listeners: [{name: http, port: 8080, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: shop}
spec:
  parentRefs: [{name: edge}]
  rules: [{name: one, backendRefs: [{name: a, port: 80}]}, {matches: [{path: {value: /b}}], backendRefs: [{name: b, port: 80}]}]
---
`;

function compile(...policies: readonly (readonly [name: string, spec: string])[]) {
  const texts = policies.map(
    ([name, spec]) => `apiVersion: mesh.weft.dev/v1\nkind: TrafficPolicy\nmetadata: {name: ${name}, namespace: shop}\nspec: ${spec}\n`,
  );
  const { objects, findings } = parseSources([{ name: 'f.yaml', content: [WORLD, ...texts].join('---\n') }]);
  expect(findings).toEqual([]);
  // Of equal age the first by name is in force.
  const { resources, problems } = compileModel({ objects: objects.map((object) => ({ ...object, createdAtMs: 0 })), running: null });
  const of = <Message>(type: ResourceType): Message[] => resources.flatMap((each) => (each.type === type ? [each.message as Message] : []));
  const services = new Map(of<Service>(ResourceType.SERVICE).map((service) => [service.name, service.rateLimits]));
  const [route] = of<HttpRoute>(ResourceType.HTTP_ROUTE);
  const [listener] = of<Listener>(ResourceType.LISTENER);
  return { services, rules: route!.rules.map(({ rateLimits }) => rateLimits), listener: listener!.rateLimits, problems };
}

const named = (limits: readonly { readonly name: string; readonly target: string }[] | undefined): string[] =>
  (limits ?? []).map(({ name, target }) => `${name} ${target}`);

test('each target has its limits, a service without any those of its namespace', () => {
  const { services, rules, listener, problems } = compile(
    ['g', '{targetRefs: [{kind: Gateway, name: edge}], rateLimits: [{name: g, requests: 5}]}'],
    ['n', '{targetRefs: [{kind: Namespace, name: shop}], rateLimits: [{name: n, requests: 5}]}'],
    ['r', '{targetRefs: [{kind: HTTPRoute, name: r}], rateLimits: [{name: r, requests: 5}]}'],
    ['s', '{targetRefs: [{kind: HTTPRoute, name: r, sectionName: one}, {kind: Service, name: a}], rateLimits: [{name: s, requests: 5}]}'],
  );
  expect(problems).toEqual([]);
  expect(named(services.get('a'))).toEqual(['s Service/shop/a']);
  expect(named(services.get('b'))).toEqual(['n Service/shop/b']);
  expect(rules.map(named)).toEqual([['r HTTPRoute/shop/r', 's HTTPRoute/shop/r/one'], ['r HTTPRoute/shop/r']]);
  expect(named(listener)).toEqual(['g Gateway/shop/edge']);
});

test('what is left out is spelled out', () => {
  const { services } = compile([
    's',
    `{targetRefs: [{kind: Service, name: a}], rateLimits: [
      {name: bucket, requests: 5, by: [{header: X-Key}, {source: Address}]},
      {name: window, requests: 7, per: 1m, algorithm: SlidingWindow},
      {name: shared, requests: 9, burst: 3, scope: Mesh, headers: None}]}`,
  ]);
  expect(services.get('a')).toMatchObject([
    {
      policy: 'shop/s',
      perMs: 1_000,
      burst: 5,
      algorithm: RateLimit_Algorithm.TOKEN_BUCKET,
      meshWide: false,
      untold: false,
      keys: [{ key: { $case: 'header', value: 'x-key' } }, { key: { $case: 'clientAddress' } }],
    },
    { perMs: 60_000, burst: 0, algorithm: RateLimit_Algorithm.SLIDING_WINDOW },
    { burst: 3, meshWide: true, untold: true },
  ]);
});

test('what a service is told is named as Envoy names it, unless the policy says otherwise', () => {
  const { services, problems } = compile([
    's',
    `{targetRefs: [{kind: Service, name: a}], rateLimits: [
      {name: asked, service: {name: b, port: 80, domain: edge}, by: [{source: Address}, {source: Path}, {source: Target, as: route}, {value: gold, as: plan}]},
      {name: slow, service: {name: gone, namespace: other, port: 81, domain: edge, hits: 5, timeout: 1s, onFailure: Deny}, by: [{source: Method}]}]}`,
  ]);
  const [asked, slow] = services.get('a') ?? [];
  expect(asked?.keys.map(({ key, descriptorKey }) => `${descriptorKey} ${key?.$case} ${key?.value}`)).toEqual([
    'remote_address clientAddress true',
    'path path true',
    'route value Service/shop/a',
    'plan value gold',
  ]);
  expect(asked?.service).toEqual({ service: 'shop/b', port: 80, domain: 'edge', timeoutMs: 20, failsClosed: false, hits: 1 });
  expect(slow?.service).toEqual({ service: 'other/gone', port: 81, domain: 'edge', timeoutMs: 1_000, failsClosed: true, hits: 5 });
  expect(problems.map(({ path, message }) => `${path}: ${message}`)).toEqual([
    'spec.rateLimits[1].service: Service other/gone has no port 81: nobody is asked, and requests are refused',
  ]);
});

test('targets that are not there, and policies that an older one goes before, are told', () => {
  const { services, problems } = compile(
    ['a', '{targetRefs: [{kind: Service, name: a}], rateLimits: [{name: first, requests: 5}]}'],
    ['b', '{targetRefs: [{kind: Service, name: a}], rateLimits: [{name: second, requests: 5}]}'],
    [
      'c',
      '{targetRefs: [{kind: HTTPRoute, name: gone}, {kind: HTTPRoute, name: r, sectionName: gone}, {kind: Gateway, name: gone}, {kind: Namespace, name: other}, {kind: VirtualService, name: gone}, {kind: GRPCRoute, name: gone}, {kind: Service, name: gone}], rateLimits: [{name: x, requests: 1}]}',
    ],
  );
  expect(named(services.get('a'))).toEqual(['first Service/shop/a']);
  expect(problems.map(({ name, path, reason }) => `${name} ${path} ${reason}`)).toEqual([
    'b spec.targetRefs[0] Conflicted',
    ...[0, 1, 2, 3, 4, 5, 6].map((index) => `c spec.targetRefs[${index}] TargetNotFound`),
  ]);
});
