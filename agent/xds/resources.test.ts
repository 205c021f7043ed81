import { expect, test } from '@jest/globals';
import { Cluster } from '../../api/gen/envoy/config/cluster/v3/cluster.js';
import { HealthStatus } from '../../api/gen/envoy/config/core/v3/core.js';
import { ClusterLoadAssignment } from '../../api/gen/envoy/config/endpoint/v3/endpoint.js';
import { Listener } from '../../api/gen/envoy/config/listener/v3/listener.js';
import { RouteConfiguration } from '../../api/gen/envoy/config/route/v3/route.js';
import { ClientSideWeightedRoundRobin } from '../../api/gen/envoy/extensions/load_balancing_policies/client_side_weighted_round_robin/v3/client_side_weighted_round_robin.js';
import { WrrLocality } from '../../api/gen/envoy/extensions/load_balancing_policies/wrr_locality/v3/wrr_locality.js';
import {
  EndpointHealth,
  LoadBalancing_Algorithm,
  LoadWeights_Source,
  PathMatch_Type,
  ProxyProtocol,
  ValueMatch_Type,
} from '../../api/gen/mesh/v1/model.js';
import { backend, balanced, endpoint, modelOf, route, service, toService } from '../proxy/testing/models.js';
import { MAX_CACHED, type ResourceKind, XdsResources } from './resources.js';

const named = (name: string) => ({ hostnames: [name, `${name}.shop`, `${name}.shop.svc.cluster.local`] });
const catalog = service('catalog', '10.0.0.1', named('catalog'));

function decoded<T>(resources: XdsResources, kind: ResourceKind, name: string, message: { decode(bytes: Uint8Array): T }): T | null {
  const found = resources.get(kind, name);
  return found === null ? null : message.decode(found.value);
}

test('a listener answers to every name of the service, with its port or, where there is one alone, without', () => {
  const two = service('two', '10.0.0.2', {
    ...named('two'),
    ports: [
      { name: 'a', port: 80 },
      { name: 'b', port: 81 },
    ],
  });
  const resources = new XdsResources(modelOf(catalog, two));
  for (const name of ['catalog:80', 'catalog.shop:80', 'CATALOG.shop:80', 'catalog.shop.svc.cluster.local.:80', 'catalog.shop', 'two:81'])
    expect([name, decoded(resources, 'listener', name, Listener)?.name]).toEqual([name, name]);
  for (const name of ['two', 'catalog:81', 'other:80', '', ':80', 'catalog:80:80', 'shop/catalog:80', 'catalog:000000080'])
    expect([name, resources.get('listener', name)]).toEqual([name, null]);
});

test('a short name that two namespaces have means neither', () => {
  const other = service('catalog', '10.0.0.3', { namespace: 'depot', hostnames: ['catalog', 'catalog.depot'] });
  const resources = new XdsResources(modelOf(catalog, { ...other, name: 'depot/catalog' }));
  expect(resources.get('listener', 'catalog:80')).toBeNull();
  expect(resources.get('listener', 'catalog.depot:80')).not.toBeNull();
});

const prefix = (value: string) => ({ path: { type: PathMatch_Type.PREFIX, value } });

test('rules come in the precedence of the Gateway API, as matches that gRPC clients have', () => {
  const rules = [
    { matches: [prefix('/')], backends: [backend('catalog')] },
    { matches: [{ grpcMethod: 'Li.st' }], backends: [backend('catalog')] },
    { matches: [prefix('/shop.Catalog')], backends: [backend('catalog')] },
    { matches: [prefix('/shop.Catalog/Who/')], backends: [backend('catalog')] },
    { matches: [{ path: { type: PathMatch_Type.EXACT, value: '/shop.Catalog/Who' }, headers: [{ name: 'a', value: 'b' }] }] },
    // No call of gRPC's is one of these.
    { matches: [{ method: 'GET' }, { query: [{ name: 'q', value: '1' }] }], backends: [backend('catalog')] },
  ];
  const resources = new XdsResources(modelOf(catalog, route('r', { parents: [toService('catalog')], rules })));
  const [host] = decoded(resources, 'routes', 'shop/catalog:80', RouteConfiguration)?.virtualHosts ?? [];
  expect(host?.domains).toEqual(['*']);
  expect(host?.routes.map(({ match, name }) => [name, match?.pathSpecifier, match?.headers.length])).toEqual([
    ['shop/r rule 4', { $case: 'path', value: '/shop.Catalog/Who' }, 1],
    ['shop/r rule 3', { $case: 'path', value: '/shop.Catalog/Who/' }, 0],
    ['shop/r rule 2', { $case: 'prefix', value: '/shop.Catalog/' }, 0],
    ['shop/r rule 1', { $case: 'safeRegex', value: { regex: '/[^/]+/Li\\.st' } }, 0],
    ['shop/r rule 0', { $case: 'prefix', value: '/' }, 0],
  ]);
});

test('shares of backends that are not there go to a cluster without endpoints; times are those of one attempt or the whole', () => {
  const rules = [
    {
      backends: [backend('catalog', 3), backend('gone', 1), { service: '', port: 0, weight: 2 }, backend('v0', 0)],
      requestTimeoutMs: 2_500,
      backendTimeoutMs: 1_250,
    },
  ];
  const resources = new XdsResources(modelOf(catalog, route('r', { parents: [toService('catalog', 80)], rules })));
  const action = decoded(resources, 'routes', 'shop/catalog:80', RouteConfiguration)?.virtualHosts[0]?.routes[0]?.route;
  expect(action?.clusterSpecifier).toEqual({
    $case: 'weightedClusters',
    value: {
      clusters: [
        { name: 'shop/catalog:80', weight: 3 },
        { name: 'no-backend', weight: 3 },
      ],
    },
  });
  expect(action?.maxStreamDuration?.maxStreamDuration).toEqual({ seconds: 1, nanos: 250_000_000 });
  expect(decoded(resources, 'endpoints', 'no-backend', ClusterLoadAssignment)?.endpoints).toEqual([]);
});

test('routes of another port of the service are none of this one', () => {
  const rules = [{ matches: [prefix('/x')], backends: [backend('catalog')] }];
  const resources = new XdsResources(modelOf(catalog, route('r', { parents: [toService('catalog', 81)], rules })));
  const routes = decoded(resources, 'routes', 'shop/catalog:80', RouteConfiguration)?.virtualHosts[0]?.routes;
  expect(routes?.map(({ match }) => match?.pathSpecifier)).toEqual([{ $case: 'prefix', value: '/' }]);
});

test('endpoints of one zone and weight are a locality, which weighs what its ready ones do together', () => {
  const resources = new XdsResources(
    modelOf(
      catalog,
      endpoint('catalog', 'a', '10.1.0.1', { zone: 'z1' }),
      endpoint('catalog', 'b', '10.1.0.2', { zone: 'z1' }),
      endpoint('catalog', 'c', '10.1.0.3', { zone: 'z1', weight: 5 }),
      endpoint('catalog', 'd', 'fd00::1', { zone: 'z2', weight: 5, health: EndpointHealth.DRAINING }),
      // The same socket once more, under another id; and one without the port.
      endpoint('catalog', 'e', '10.1.0.1', { zone: 'z9' }),
      endpoint('catalog', 'f', '10.1.0.9', { ports: [{ name: 'other', port: 1 }] }),
    ),
  );
  const assignment = decoded(resources, 'endpoints', 'shop/catalog:80', ClusterLoadAssignment);
  expect(
    assignment?.endpoints.map(({ locality, loadBalancingWeight, lbEndpoints }) => [
      `${locality?.zone} ${locality?.subZone}`,
      loadBalancingWeight,
      lbEndpoints.map((each) => `${each.endpoint?.address?.socketAddress?.address} ${HealthStatus[each.healthStatus]}`),
    ]),
  ).toEqual([
    ['z1 ', 2, ['10.1.0.1 HEALTHY', '10.1.0.2 HEALTHY']],
    ['z1 weight 5', 5, ['10.1.0.3 HEALTHY']],
    ['z2 weight 5', 1, ['fd00::1 DRAINING']],
  ]);
});

test('where nothing is healthy, endpoints that only their checks speak against are told to be', () => {
  const failing = (id: string, address: string, sourceHealth = EndpointHealth.READY) =>
    endpoint('catalog', id, address, {
      health: EndpointHealth.UNHEALTHY,
      check: { node: 'n', sourceHealth, failing: true, detail: 'HTTP 503' },
    });
  const told = (...endpoints: ReturnType<typeof endpoint>[]) => {
    const resources = new XdsResources(modelOf(catalog, ...endpoints));
    const assignment = decoded(resources, 'endpoints', 'shop/catalog:80', ClusterLoadAssignment);
    return assignment?.endpoints.flatMap(({ lbEndpoints }) => lbEndpoints.map(({ healthStatus }) => HealthStatus[healthStatus]));
  };
  const two = [failing('a', '10.1.0.1'), failing('b', '10.1.0.2', EndpointHealth.UNHEALTHY)];
  expect(told(...two)).toEqual(['HEALTHY', 'UNHEALTHY']);
  expect(told(...two, endpoint('catalog', 'c', '10.1.0.3'))).toEqual(['UNHEALTHY', 'UNHEALTHY', 'HEALTHY']);
});

test('weights that are more than 32 bits together are scaled, or clients would refuse them', () => {
  const many = Array.from({ length: 5_000 }, (_, index) =>
    endpoint('catalog', `e${index}`, `10.1.${index >> 8}.${index & 255}`, { weight: 1_000_000 }),
  );
  const resources = new XdsResources(modelOf(catalog, ...many, endpoint('catalog', 'light', '10.9.0.1')));
  const weights = decoded(resources, 'endpoints', 'shop/catalog:80', ClusterLoadAssignment)?.endpoints.map(
    (each) => each.loadBalancingWeight,
  );
  expect(weights).toEqual([1, 4_294_967_294]);
});

test('how calls are spread: what the client knows of what is asked for, else in turn', () => {
  const pickers = (algorithm: LoadBalancing_Algorithm): (string | undefined)[] => {
    const resources = new XdsResources(modelOf(service('s', '10.0.0.9', balanced(algorithm))));
    const [outer] = decoded(resources, 'cluster', 'shop/s:80', Cluster)?.loadBalancingPolicy?.policies ?? [];
    const inner = WrrLocality.decode(outer?.typedExtensionConfig?.typedConfig?.value ?? Buffer.alloc(0));
    return (inner.endpointPickingPolicy?.policies ?? []).map((policy) => policy.typedExtensionConfig?.name);
  };
  expect(pickers(LoadBalancing_Algorithm.UNSPECIFIED)).toEqual(['least_request', 'round_robin']);
  expect(pickers(LoadBalancing_Algorithm.ROUND_ROBIN)).toEqual(['round_robin']);
});

const clusterOf = (policy: object) =>
  decoded(new XdsResources(modelOf(service('s', '10.0.0.9', { policies: [{ policy }] }))), 'cluster', 'shop/s:80', Cluster)!;

test('weights by reports are offered before what clients without them have', () => {
  const weights = { source: LoadWeights_Source.ORCA, blackoutMs: 10_000, expirationMs: 180_000, updateMs: 1_500, errorPenalty: 0.5 };
  const loadBalancing = { algorithm: LoadBalancing_Algorithm.ROUND_ROBIN, weights };
  const [outer] = clusterOf({ loadBalancing }).loadBalancingPolicy?.policies ?? [];
  const locality = WrrLocality.decode(outer!.typedExtensionConfig!.typedConfig!.value);
  const offered = (locality.endpointPickingPolicy?.policies ?? []).map(({ typedExtensionConfig }) => typedExtensionConfig!);
  expect(offered.map(({ name }) => name)).toEqual(['client_side_weighted_round_robin', 'round_robin']);
  expect(ClientSideWeightedRoundRobin.decode(offered[0]!.typedConfig!.value)).toEqual({
    blackoutPeriod: { seconds: 10, nanos: 0 },
    weightExpirationPeriod: { seconds: 180, nanos: 0 },
    weightUpdatePeriod: { seconds: 1, nanos: 500_000_000 },
    errorUtilizationPenalty: 0.5,
  });
});

test('limits of requests and outlier detection are clients’ own, and what isn’t asked for is not enforced by default', () => {
  expect(clusterOf({ circuitBreaker: { maxRequests: 7 } }).circuitBreakers?.thresholds).toEqual([
    { maxRequests: 7, maxRetries: undefined },
  ]);
  expect(clusterOf({ circuitBreaker: { maxEndpointRequests: 7 } }).circuitBreakers).toBeUndefined();
  const times = { intervalMs: 10_000, baseEjectionMs: 30_500, maxEjectionMs: 300_000, maxEjectionPercent: 20 };
  const bySuccess = { ...times, successRate: { minimumRequests: 100, minimumEndpoints: 5, deviations: 1.9 } };
  expect(clusterOf({ outlierDetection: bySuccess }).outlierDetection).toMatchObject({
    interval: { seconds: 10, nanos: 0 },
    baseEjectionTime: { seconds: 30, nanos: 500_000_000 },
    maxEjectionPercent: 20,
    enforcingSuccessRate: 100,
    successRateStdevFactor: 1_900,
    enforcingFailurePercentage: 0,
    enforcingConsecutive5xx: 0,
  });
  const byPercentage = { ...times, consecutive5xx: 5, failurePercentage: { minimumRequests: 50, minimumEndpoints: 5, threshold: 85 } };
  expect(clusterOf({ outlierDetection: byPercentage }).outlierDetection).toMatchObject({
    enforcingSuccessRate: 0,
    enforcingFailurePercentage: 100,
    failurePercentageThreshold: 85,
    failurePercentageRequestVolume: 50,
    consecutive5xx: 5,
    enforcingConsecutive5xx: 100,
  });
  expect(clusterOf({}).outlierDetection).toBeUndefined();
});

test('endpoints that must be spoken to as gRPC clients do not are withheld, and it is said why', () => {
  const tls = service('tls', '10.0.0.4', { ports: [{ name: 'http', port: 80, tls: { hostname: 'a.example', systemTrust: true } }] });
  const proxied = service('proxied', '10.0.0.5', { proxyProtocol: ProxyProtocol.V2 });
  const resources = new XdsResources(modelOf(tls, proxied, endpoint('tls', 'a', '10.1.0.1'), endpoint('proxied', 'a', '10.1.0.1')));
  for (const [name, why] of [
    ['shop/tls:80', 'TLS'],
    ['shop/proxied:80', 'PROXY protocol'],
  ] as const) {
    expect(decoded(resources, 'endpoints', name, ClusterLoadAssignment)?.endpoints).toEqual([]);
    expect(resources.faults('endpoints', name)).toEqual([expect.stringContaining(why)]);
  }
  expect(resources.faults('endpoints', 'shop/other:80')).toEqual([]);
});

test('after a change of endpoints those of the service are encoded anew, and nothing else is', () => {
  const model = modelOf(catalog, endpoint('catalog', 'a', '10.1.0.1'));
  const resources = new XdsResources(model);
  const before = { endpoints: resources.get('endpoints', 'shop/catalog:80'), cluster: resources.get('cluster', 'shop/catalog:80') };
  model.apply({ full: false, resources: [endpoint('catalog', 'b', '10.1.0.2')], removed: [], revision: 2 });
  resources.changed(new Set(['shop/other']));
  expect(resources.get('endpoints', 'shop/catalog:80')).toBe(before.endpoints);
  resources.changed(new Set(['shop/catalog']));
  expect(resources.get('endpoints', 'shop/catalog:80')).not.toBe(before.endpoints);
  expect(resources.get('cluster', 'shop/catalog:80')).toBe(before.cluster);
});

test('what clients ask for is kept up to a bound, though nothing changes, and is the same after it', () => {
  const resources = new XdsResources(modelOf(catalog));
  const first = resources.get('cluster', 'shop/catalog:80');
  for (let i = 1; i < MAX_CACHED; i++) resources.get('cluster', `shop/${i}:80`);
  expect(resources.get('cluster', 'shop/catalog:80')).toBe(first);
  resources.get('cluster', 'shop/0:80');
  expect(resources.get('cluster', 'shop/catalog:80')).not.toBe(first);
  expect(resources.get('cluster', 'shop/catalog:80')).toEqual(first);
});

test('patterns, prefixes of the text, presence and what must not be are matches of gRPC clients too; matches that they can not tell are left out', () => {
  const rules = [
    {
      matches: [
        { path: { type: PathMatch_Type.REGEX, value: '/shop\\..*', ignoreCase: true } },
        { path: { type: PathMatch_Type.TEXT_PREFIX, value: '/shop.C', ignoreCase: true } },
        { ...prefix('/a'), headers: [{ name: 'p', type: ValueMatch_Type.PRESENT, inverted: true }] },
        { ...prefix('/b'), headers: [{ name: 'r', value: 'x+', type: ValueMatch_Type.REGEX }] },
        { ...prefix('/c'), headers: [{ name: 't', value: 'x', type: ValueMatch_Type.PREFIX }] },
        { ...prefix('/d'), port: 81 },
        { ...prefix('/e'), source: { namespace: 'shop' } },
        { ...prefix('/f'), authority: { value: 'catalog' } },
      ],
      backends: [backend('catalog')],
    },
  ];
  const resources = new XdsResources(modelOf(catalog, route('r', { parents: [toService('catalog')], rules, inOrder: true })));
  const routes = decoded(resources, 'routes', 'shop/catalog:80', RouteConfiguration)?.virtualHosts[0]?.routes;
  expect(
    routes?.map(({ match }) => [match?.pathSpecifier?.value, match?.caseSensitive, match?.headers[0]?.headerMatchSpecifier?.value]),
  ).toEqual([
    [{ regex: '(?i)/shop\\..*' }, false, undefined],
    ['/shop.C', false, undefined],
    ['/a/', undefined, true],
    ['/b/', undefined, { matchPattern: { $case: 'safeRegex', value: { regex: 'x+' } } }],
    ['/c/', undefined, { matchPattern: { $case: 'prefix', value: 'x' } }],
  ]);
  expect(routes?.[2]?.match?.headers[0]?.invertMatch).toBe(true);
  expect(resources.faults('routes', 'shop/catalog:80')).toEqual([
    'shop/r rule 0: 2 matches by authority, scheme or source are never met by proxyless clients',
  ]);
});

test('a subset is a cluster of its own, with those of the endpoints that have its labels', () => {
  const rules = [{ backends: [{ ...backend('catalog'), labels: { version: 'v2', app: 'c' } }] }];
  const resources = new XdsResources(
    modelOf(
      catalog,
      endpoint('catalog', 'a', '10.1.0.1', { labels: { app: 'c', version: 'v1' } }),
      endpoint('catalog', 'b', '10.1.0.2', { labels: { app: 'c', version: 'v2' } }),
      route('r', { parents: [toService('catalog')], rules }),
    ),
  );
  const name = 'shop/catalog:80 app=c,version=v2';
  const action = decoded(resources, 'routes', 'shop/catalog:80', RouteConfiguration)?.virtualHosts[0]?.routes[0]?.route;
  expect(action?.clusterSpecifier).toEqual({ $case: 'cluster', value: name });
  expect(decoded(resources, 'cluster', name, Cluster)?.edsClusterConfig?.serviceName).toBe(name);
  const assignment = decoded(resources, 'endpoints', name, ClusterLoadAssignment);
  expect(
    assignment?.endpoints.flatMap(({ lbEndpoints }) => lbEndpoints.map((each) => each.endpoint?.address?.socketAddress?.address)),
  ).toEqual(['10.1.0.2']);
  expect(resources.get('cluster', 'shop/other:80 app=c')).toBeNull();
});

test('a port or a subset whose rule asks for TLS has no endpoints here, rather than plain text; one whose rule asks for none has', () => {
  const tls = { hostname: 'catalog.test', systemTrust: true };
  const told = (port: object, policies: object[], consumers: object[] = []) => {
    const ports = [{ name: 'http', port: 80, ...port }];
    const ofV2 = endpoint('catalog', 'a', '10.1.0.1', { labels: { version: 'v2' } });
    const resources = new XdsResources(modelOf(service('catalog', '10.0.0.1', { ports, policies, consumers }), ofV2));
    return ['shop/catalog:80', 'shop/catalog:80 version=v2'].map((name) => [
      decoded(resources, 'endpoints', name, ClusterLoadAssignment)?.endpoints.length,
      ...resources.faults('endpoints', name),
      ...resources.faults('cluster', name),
    ]);
  };
  const without = (name: string) => [
    0,
    `${name} has no endpoints for proxyless clients: TLS is asked for (BackendTLSPolicy, DestinationRule), which is not handed to them`,
  ];
  const ofSubset = (policy: object): object[] => [{ labels: { version: 'v2' }, policy }];
  expect(told({ tls }, [])).toEqual([without('shop/catalog:80'), without('shop/catalog:80 version=v2')]);
  expect(told({}, ofSubset({ tls: { tls } }))).toEqual([[1], without('shop/catalog:80 version=v2')]);
  expect(told({ tls }, ofSubset({ tls: {} }))).toEqual([without('shop/catalog:80'), [1]]);
  const ofSome = 'shop/catalog is treated otherwise by clients of bank: proxyless clients treat it as all others do';
  expect(told({}, [], [{ namespace: 'bank', policies: [{ policy: { tls: { tls } } }] }])).toEqual([
    [1, ofSome],
    [1, ofSome],
  ]);
});

test('calls are retried where the rule says so of requests that are not idempotent; what clients do without is told', () => {
  const rules = [
    {
      backends: [backend('catalog')],
      retry: { attempts: 3, anyMethod: true, statuses: [503, 500, 418], grpcStatuses: [1, 2], backoffMs: 1_500 },
    },
    { backends: [backend('catalog')], retry: { attempts: 3 }, mirrors: [{ service: 'shop/catalog', port: 80 }], fault: { delayMs: 5 } },
  ];
  const consumer = route('c', { parents: [{ ...toService('catalog'), consumerNamespace: 'depot' }], rules: [] });
  const resources = new XdsResources(modelOf(catalog, route('r', { parents: [toService('catalog')], rules }), consumer));
  const [first, second] = decoded(resources, 'routes', 'shop/catalog:80', RouteConfiguration)?.virtualHosts[0]?.routes ?? [];
  expect(first?.route?.retryPolicy).toEqual({
    retryOn: 'unavailable,internal,cancelled',
    numRetries: 3,
    retryBackOff: { baseInterval: { seconds: 1, nanos: 500_000_000 } },
  });
  expect(second?.route?.retryPolicy).toBeUndefined();
  expect(resources.faults('routes', 'shop/catalog:80')).toEqual([
    'shop/r rule 1: proxyless clients do without its mirrors, faults',
    'shop/c is for clients of one namespace: it has no effect for proxyless clients',
  ]);
});
