import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { rootCertificates } from 'node:tls';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  EndpointHealth,
  ForwardClientCert,
  LoadBalancing_Algorithm,
  Outside,
  PathMatch_Type,
  Protocol,
  ProxyProtocol,
  ResourceType,
  TlsVersion,
} from '../gen/mesh/v1/model.js';
import { formatFinding, parseManifests, type StoredObject } from '../resources/index.js';
import { canonicalAddress } from './address.js';
import { type CompiledResource, compileModel, decodeResource, encodeResource, type Running } from './index.js';

function stored(...documents: string[]): StoredObject[] {
  const { objects, findings } = parseManifests([{ name: 'f', content: documents.join('\n---\n') }]);
  expect(findings.map(formatFinding)).toEqual([]);
  return objects.map((object, index) => ({ ...object, createdAtMs: 1000 + index }));
}

function messages<T extends ResourceType>(resources: readonly CompiledResource[], type: T) {
  return resources
    .filter((resource): resource is Extract<CompiledResource, { type: T }> => resource.type === type)
    .map((resource) => resource.message as Extract<CompiledResource, { type: T }>['message']);
}

const CATALOG = `apiVersion: v1
kind: Service
metadata: {name: catalog, namespace: shop}
spec:
  clusterIPs: [10.96.0.10, "FD00:0:0::A"]
  selector: {app: catalog}
  ports: [{name: http-web, port: 80, targetPort: web}, {name: dns, port: 53, protocol: UDP}]`;

const workload = (name: string, spec: string, labels = '{app: catalog, version: v1}') => `apiVersion: mesh.weft.dev/v1
kind: Workload
metadata: {name: ${name}, namespace: shop, labels: ${labels}}
spec: ${spec}`;
const V1 = workload('catalog-v1', '{node: n1, addresses: [10.1.0.1, "fd01::0001", 10.1.0.9], ports: [{name: web, port: 8080}], weight: 3}');

const route = (spec: string, namespace = 'shop', name = 'catalog') =>
  `apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: ${name}, namespace: ${namespace}}\nspec: ${spec}`;
const gateway = (spec: string) =>
  `apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge, namespace: shop}\nspec: {gatewayClassName: weft, ${spec}}`;

test('a service becomes its names, canonical addresses, TCP ports and protocol', () => {
  const { resources, problems } = compileModel({ objects: stored(CATALOG), running: null });
  expect(problems).toEqual([]);
  expect(resources).toEqual([
    {
      type: ResourceType.SERVICE,
      name: 'shop/catalog',
      message: {
        namespace: 'shop',
        name: 'catalog',
        hostnames: ['catalog', 'catalog.shop', 'catalog.shop.svc', 'catalog.shop.svc.cluster.local'],
        addresses: ['10.96.0.10', 'fd00::a'],
        ports: [{ name: 'http-web', port: 80, protocol: Protocol.HTTP, tls: undefined }],
        proxyProtocol: ProxyProtocol.UNSPECIFIED,
        outside: Outside.WITHIN,
        policies: [],
        consumers: [],
        rateLimits: [],
        filters: [],
      },
    },
  ]);
});

test('without reports every workload runs where its spec says, with one endpoint a family', () => {
  const { resources } = compileModel({ objects: stored(CATALOG, V1), running: null });
  const common = {
    service: 'shop/catalog',
    ports: [{ name: 'http-web', port: 8080 }],
    node: 'n1',
    zone: '',
    weight: 3,
    health: 0,
    workload: 'shop/catalog-v1',
    region: '',
    version: 'v1',
    labels: { app: 'catalog', version: 'v1' },
    check: undefined,
  };
  expect(messages(resources, ResourceType.ENDPOINT)).toEqual([
    { ...common, id: '10.1.0.1', address: '10.1.0.1' },
    { ...common, id: 'fd01::1', address: 'fd01::1' },
  ]);
});

test('addresses that no manifest declares are told to be found, so that their node looks again', () => {
  const objects = stored(V1, workload('bare', '{node: n1}'));
  const state = { name: 'shop/bare', addresses: ['10.2.0.8'], health: EndpointHealth.READY };
  const { resources } = compileModel({ objects, running: new Map([['shop/bare', { node: 'n1', state }]]) });
  expect(messages(resources, ResourceType.WORKLOAD)).toMatchObject([
    { name: 'bare', addresses: ['10.2.0.8'], addressesFound: true },
    { name: 'catalog-v1', addressesFound: false },
  ]);
});

test('with reports only what runs on its own node is an endpoint, at the addresses and health reported', () => {
  const report = (node: string, health: EndpointHealth): Running =>
    new Map([['shop/catalog-v1', { node, state: { name: 'shop/catalog-v1', addresses: ['10.2.0.7'], health } }]]);
  const objects = stored(CATALOG, V1);
  const compile = (running: Running) => compileModel({ objects, running });
  expect(messages(compile(new Map()).resources, ResourceType.ENDPOINT)).toEqual([]);
  expect(messages(compile(report('n1', EndpointHealth.DRAINING)).resources, ResourceType.ENDPOINT)).toMatchObject([
    { address: '10.2.0.7', node: 'n1', health: EndpointHealth.DRAINING },
  ]);
  const foreign = compile(report('n2', EndpointHealth.READY));
  expect(messages(foreign.resources, ResourceType.ENDPOINT)).toEqual([]);
  expect(foreign.problems).toMatchObject([{ kind: 'Workload', path: 'spec.node' }]);
});

test('a workload that names no node is claimed by none, which is told', () => {
  const running = new Map([
    ['shop/bare', { node: 'n2', state: { name: 'shop/bare', addresses: ['10.2.0.9'], health: EndpointHealth.READY } }],
  ]);
  const { resources, problems } = compileModel({
    objects: stored(CATALOG, workload('bare', '{addresses: [10.1.0.2], ports: [{name: http, port: 1}]}')),
    running,
  });
  expect(messages(resources, ResourceType.ENDPOINT)).toEqual([]);
  expect(messages(resources, ResourceType.WORKLOAD)).toMatchObject([{ name: 'bare', node: '' }]);
  expect(problems).toMatchObject([{ path: 'spec.node', message: expect.stringContaining('spec.node names none: its report is ignored') }]);
});

test('a workload that drains is a draining endpoint, whatever its node says', () => {
  const drains = V1.replace('weight: 3', 'weight: 3, draining: true');
  const state = { name: 'shop/catalog-v1', addresses: ['10.2.0.7'], health: EndpointHealth.READY };
  for (const running of [null, new Map([['shop/catalog-v1', { node: 'n1', state }]])]) {
    const endpoints = messages(compileModel({ objects: stored(CATALOG, drains), running }).resources, ResourceType.ENDPOINT);
    expect(new Set(endpoints.map(({ health }) => health))).toEqual(new Set([EndpointHealth.DRAINING]));
  }
});

test('a workload that lacks the named target port gets no requests, and that is told', () => {
  const { resources, problems } = compileModel({ objects: stored(CATALOG, workload('bare', '{addresses: [10.1.0.2]}')), running: null });
  expect(messages(resources, ResourceType.ENDPOINT)).toEqual([]);
  expect(problems).toMatchObject([{ kind: 'Service', name: 'catalog', path: 'spec.ports' }]);
});

test('labels and namespace select workloads', () => {
  const other = workload('cart', '{addresses: [10.1.0.3], ports: [{name: web, port: 1}]}', '{app: cart}');
  const foreign = V1.replace('namespace: shop', 'namespace: other');
  expect(messages(compileModel({ objects: stored(CATALOG, other, foreign), running: null }).resources, ResourceType.ENDPOINT)).toEqual([]);
});

test('a host process keeps how it is found, and the capture label takes a workload out whatever its spec says', () => {
  const spec = '{node: n1, systemdUnit: catalog.service, addresses: [10.1.0.4], capture: {failClosed: true}}';
  const capturedAs = (labels: string) =>
    messages(compileModel({ objects: stored(workload('unit', spec, labels)), running: null }).resources, ResourceType.WORKLOAD);
  const found = { networkNamespace: '', systemdUnit: 'catalog.service', cgroup: '' };
  expect(capturedAs('{mesh.weft.dev/capture: enabled}')).toMatchObject([{ ...found, capture: { outbound: true, inbound: true } }]);
  expect(capturedAs('{mesh.weft.dev/capture: disabled}')).toMatchObject([
    { ...found, capture: { outbound: false, inbound: false, failClosed: true } },
  ]);
});

test('the capture label of a namespace holds for the workloads in it that have none of their own', () => {
  const spec = '{node: n1, cgroup: /cart}';
  const namespaces = (value: string) =>
    `apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {mesh.weft.dev/capture: ${value}}}\nspec: {finalizers: [kubernetes]}`;
  const captured = (namespace: string, labels: string) => {
    const { resources, problems } = compileModel({ objects: stored(namespaces(namespace), workload('w', spec, labels)), running: null });
    expect(problems).toEqual([]);
    return messages(resources, ResourceType.WORKLOAD).map(({ capture }) => capture?.outbound);
  };
  expect(captured('disabled', '{}')).toEqual([false]);
  expect(captured('disabled', '{mesh.weft.dev/capture: enabled}')).toEqual([true]);
  expect(captured('enabled', '{}')).toEqual([true]);
  expect(captured('enabled', '{mesh.weft.dev/capture: disabled}')).toEqual([false]);
  const elsewhere = namespaces('disabled').replace('name: shop', 'name: other');
  expect(
    messages(compileModel({ objects: stored(elsewhere, workload('w', spec)), running: null }).resources, ResourceType.WORKLOAD),
  ).toMatchObject([{ capture: { outbound: true } }]);
});

describe('PeerAuthentication: a STRICT workload fails closed', () => {
  const policy = (name: string, namespace: string, spec: string) =>
    `apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: ${name}, namespace: ${namespace}}\nspec: ${spec}`;
  const strict = (name: string, namespace = 'shop') => policy(name, namespace, '{mtls: {mode: STRICT}}');
  const selecting = (name: string, spec: string, app = 'catalog') =>
    policy(name, 'shop', `{selector: {matchLabels: {app: ${app}}}, ${spec}}`);
  /** The first is the oldest. */
  const compiled = (documents: readonly string[], capture = '{}') => {
    return compileModel({ objects: stored(...documents, workload('w', `{node: n1, cgroup: /cart, capture: ${capture}}`)), running: null });
  };
  const failsClosed = (documents: readonly string[], capture?: string) =>
    messages(compiled(documents, capture).resources, ResourceType.WORKLOAD)[0]?.capture?.failClosed;

  test.each([
    ['none', [], false],
    ['of its namespace', [strict('p')], true],
    ['of another namespace', [strict('p', 'other')], false],
    ['of the mesh', [strict('p', 'istio-system')], true],
    ['of a selector that matches', [selecting('p', 'mtls: {mode: STRICT}')], true],
    ['of a selector that does not', [selecting('p', 'mtls: {mode: STRICT}', 'cart')], false],
    [
      'PERMISSIVE in the namespace of a STRICT mesh',
      [strict('p', 'istio-system'), policy('p', 'shop', '{mtls: {mode: PERMISSIVE}}')],
      false,
    ],
    ['DISABLE for the workload in a STRICT namespace', [strict('p'), selecting('q', 'mtls: {mode: DISABLE}')], false],
    [
      'STRICT for the workload in a namespace that is not',
      [policy('p', 'shop', '{mtls: {mode: DISABLE}}'), selecting('q', 'mtls: {mode: STRICT}')],
      true,
    ],
    [
      'UNSET, which asks the wider scope',
      [strict('p', 'istio-system'), policy('p', 'shop', '{mtls: {mode: UNSET}}'), selecting('q', 'mtls: {}')],
      true,
    ],
    ['the older of two that select it', [selecting('z', 'mtls: {mode: PERMISSIVE}'), selecting('a', 'mtls: {mode: STRICT}')], false],
    ['one port', [selecting('p', 'mtls: {mode: PERMISSIVE}, portLevelMtls: {"80": {mode: DISABLE}, "81": {mode: STRICT}}')], true],
    ['all but one port', [selecting('p', 'mtls: {mode: STRICT}, portLevelMtls: {"80": {mode: PERMISSIVE}}')], true],
    [
      'a selector of the root namespace, which is for workloads there',
      [policy('p', 'istio-system', '{selector: {matchLabels: {app: catalog}}, mtls: {mode: STRICT}}')],
      false,
    ],
  ] as const)('%s', (_name, documents, expected) => {
    expect(failsClosed(documents)).toBe(expected);
  });

  test('whoever fails closed by its own spec goes on doing so', () => {
    expect(failsClosed([policy('p', 'shop', '{mtls: {mode: DISABLE}}')], '{failClosed: true}')).toBe(true);
  });

  test('the newer of two for one namespace has no effect, and says so', () => {
    const { resources, problems } = compiled([policy('z', 'shop', '{mtls: {mode: PERMISSIVE}}'), strict('a')]);
    expect(messages(resources, ResourceType.WORKLOAD)).toMatchObject([{ capture: { failClosed: false } }]);
    expect(problems).toMatchObject([{ kind: 'PeerAuthentication', name: 'a', reason: 'Conflicted' }]);
    expect(problems[0]?.message).toContain('shop/z is older');
  });
});

test('DNS is captured where the spec or a label says so, the nearest first, and never of what is not captured at all', () => {
  const dns = (namespace: string, labels: string, captured = '{}') => {
    const space = `apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: ${namespace}}\nspec: {finalizers: [kubernetes]}`;
    const spec = `{node: n1, cgroup: /cart, capture: ${captured}}`;
    const { resources } = compileModel({ objects: stored(space, workload('w', spec, labels)), running: null });
    return messages(resources, ResourceType.WORKLOAD).map(({ capture }) => capture?.dns);
  };
  const on = '{mesh.weft.dev/dns: enabled}';
  const off = '{mesh.weft.dev/dns: disabled}';
  expect(dns('{}', '{}')).toEqual([false]);
  expect(dns('{}', '{}', '{dns: true}')).toEqual([true]);
  expect(dns(on, '{}')).toEqual([true]);
  expect(dns(on, off)).toEqual([false]);
  expect(dns(off, on)).toEqual([true]);
  expect(dns(off, '{}', '{dns: true}')).toEqual([false]);
  expect(dns(on, '{mesh.weft.dev/capture: disabled}')).toEqual([false]);
});

test('slices of one service unite by address; conditions become health', () => {
  const slice = (name: string, ports: string, endpoints: string) =>
    `apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: ${name}, namespace: shop, labels: {kubernetes.io/service-name: catalog}}\naddressType: IPv4\nports: ${ports}\nendpoints: ${endpoints}`;
  const { resources, problems } = compileModel({
    objects: stored(
      CATALOG,
      slice(
        'a',
        '[{name: http-web, port: 8080}]',
        '[{addresses: [10.3.0.1], nodeName: n3, zone: z}, {addresses: [10.3.0.2], conditions: {ready: false}}]',
      ),
      slice(
        'b',
        '[{name: admin, port: 9090}]',
        '[{addresses: [10.3.0.1]}, {addresses: [10.3.0.3], conditions: {ready: false, serving: true, terminating: true}}]',
      ),
      slice('c', '[{port: 1}]', '[{addresses: [10.3.0.9]}]').replace('service-name: catalog', 'service-name: gone'),
    ),
    running: null,
  });
  expect(messages(resources, ResourceType.ENDPOINT)).toMatchObject([
    {
      id: '10.3.0.1',
      node: 'n3',
      zone: 'z',
      health: EndpointHealth.READY,
      ports: [
        { name: 'http-web', port: 8080 },
        { name: 'admin', port: 9090 },
      ],
    },
    { id: '10.3.0.2', health: EndpointHealth.UNHEALTHY },
    { id: '10.3.0.3', health: EndpointHealth.DRAINING },
  ]);
  expect(problems.map((problem) => `${problem.name} ${problem.message}`)).toEqual([
    "c Service shop/gone doesn't exist: its endpoints are not used",
  ]);
});

test('instances that share an address are endpoints of their own; a slice’s label weighs them', () => {
  const slice = (port: number, weight: number) =>
    `apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s-${port}, namespace: shop, labels: {kubernetes.io/service-name: catalog, mesh.weft.dev/weight: "${weight}"}}\naddressType: IPv6\nports: [{name: http-web, port: ${port}}]\nendpoints: [{addresses: ["fd00::1"]}]`;
  const { resources } = compileModel({ objects: stored(CATALOG, slice(81, 3), slice(80, 1)), running: null });
  expect(messages(resources, ResourceType.ENDPOINT)).toMatchObject([
    { id: '[fd00::1]:80', address: 'fd00::1', ports: [{ port: 80 }], weight: 1 },
    { id: '[fd00::1]:81', address: 'fd00::1', ports: [{ port: 81 }], weight: 3 },
  ]);
});

test('a pod of Kubernetes is an endpoint by its slices alone, and captured where a label says so', () => {
  const pod = (labels: string) => workload('p', '{node: n1, podUID: u-1, addresses: [10.1.0.1], ports: [{name: web, port: 8080}]}', labels);
  const node = `apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {topology.kubernetes.io/zone: east}}`;
  const slice = (endpoint: string) => `apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s, namespace: shop, labels: {kubernetes.io/service-name: catalog}}
addressType: IPv4
ports: [{name: http-web, port: 8080}]
endpoints: [{addresses: [10.1.0.1], targetRef: {kind: Pod, name: p, uid: x}, ${endpoint}}]`;
  const space = `apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {mesh.weft.dev/capture: enabled}}`;
  const of = (...documents: string[]) => compileModel({ objects: stored(CATALOG, node, ...documents), running: new Map() }).resources;
  const bare = of(pod('{app: catalog}'));
  expect(messages(bare, ResourceType.ENDPOINT)).toEqual([]);
  expect(messages(bare, ResourceType.WORKLOAD)[0]).toMatchObject({
    podUid: 'u-1',
    node: 'n1',
    capture: { outbound: false, inbound: false },
  });
  const sliced = of(space, pod('{app: catalog}'), slice('nodeName: n1, conditions: {ready: false}'));
  expect(messages(sliced, ResourceType.ENDPOINT)).toEqual([
    expect.objectContaining({ workload: 'shop/p', zone: 'east', node: 'n1', health: EndpointHealth.UNHEALTHY }),
  ]);
  expect(messages(sliced, ResourceType.WORKLOAD)[0]?.capture).toMatchObject({ outbound: true, inbound: true });
  // What the slice says of the zone goes first; a pod that is not known is no workload.
  expect(messages(of(slice('nodeName: n1, zone: west')), ResourceType.ENDPOINT)[0]).toMatchObject({ workload: '', zone: 'west' });
  expect(messages(of(space, pod('{mesh.weft.dev/capture: disabled}')), ResourceType.WORKLOAD)[0]?.capture).toMatchObject({
    outbound: false,
  });
  expect(messages(of(pod('{mesh.weft.dev/capture: enabled}')), ResourceType.WORKLOAD)[0]?.capture).toMatchObject({ outbound: true });
});

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

test('a gateway takes routes by listener, namespace and hostname', () => {
  const edge = gateway(
    'listeners: [{name: a, port: 80, protocol: HTTP, hostname: "*.shop.test"}, {name: b, port: 81, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}, {name: t, port: 82, protocol: TCP}]',
  );
  const parent = 'parentRefs: [{name: edge, namespace: shop}]';
  const { resources, problems } = compileModel({
    objects: stored(
      edge,
      route(`{${parent}, hostnames: [x.shop.test]}`, 'shop', 'both'),
      route(`{${parent}, hostnames: [elsewhere.test]}`, 'shop', 'b-only'),
      route(`{${parent}}`, 'other', 'foreign'),
      route('{parentRefs: [{name: edge, sectionName: t}, {name: gone}]}', 'shop', 'none'),
    ),
    running: null,
  });
  const sections = messages(resources, ResourceType.HTTP_ROUTE).map(
    (compiled) => `${compiled.name}: ${compiled.parents.map((own) => own.section).join(' ')}`,
  );
  expect(sections).toEqual(['foreign: b', 'b-only: b', 'both: a b', 'none: ']);
  expect(problems.map((problem) => `${problem.name} ${problem.path}`)).toEqual(['none spec.parentRefs[0]', 'none spec.parentRefs[1]']);
  expect(messages(resources, ResourceType.LISTENER)).toMatchObject([
    { gateway: 'shop/edge', name: 'a', port: 80, protocol: Protocol.HTTP, hostname: '*.shop.test', address: '' },
    { name: 'b' },
    { name: 't', protocol: Protocol.TCP },
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

test('a filter for a listener of a Gateway is for none of the same name that a ListenerSet adds', () => {
  const listener = (port: number) => `listeners: [{name: web, port: ${port}, protocol: HTTP}]`;
  const set = `apiVersion: gateway.networking.k8s.io/v1\nkind: ListenerSet\nmetadata: {name: more, namespace: shop}\nspec: {parentRef: {name: edge}, ${listener(81)}}`;
  const filter = `apiVersion: mesh.weft.dev/v1\nkind: Filter\nmetadata: {name: f, namespace: shop}\nspec: {targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge, sectionName: web}], module: 'export const onRequest = () => undefined'}`;
  const objects = stored(gateway(`allowedListeners: {namespaces: {from: Same}}, ${listener(80)}`), set, filter);
  const listeners = messages(compileModel({ objects, running: null }).resources, ResourceType.LISTENER);
  expect(listeners.map(({ name, filters }) => [name, ...filters])).toEqual([['shop/more/web'], ['web', 'shop/f']]);
});

test('whatever an older policy sets too is told', () => {
  const policy = (name: string, spec: string) =>
    `apiVersion: mesh.weft.dev/v1\nkind: TrafficPolicy\nmetadata: {name: ${name}, namespace: shop}\nspec: {targetRefs: [{kind: Service, name: catalog}], ${spec}}`;
  const both = 'retries: {attempts: 1}, connections: {maxConnections: 9}';
  const { problems } = compileModel({ objects: stored(CATALOG, policy('a', both), policy('b', both)), running: null });
  expect(problems.map(({ name, message }) => [name, / sets (\w+) /.exec(message)?.[1]])).toEqual([
    ['b', 'retries'],
    ['b', 'connections'],
  ]);
});

test('the oldest policy sets the load balancer; the others are told', () => {
  const policy = (name: string, type: string) =>
    `apiVersion: mesh.weft.dev/v1\nkind: TrafficPolicy\nmetadata: {name: ${name}, namespace: shop}\nspec: {targetRefs: [{kind: Service, name: catalog}], loadBalancer: {type: ${type}}}`;
  const { resources, problems } = compileModel({
    objects: stored(CATALOG, policy('z', 'Random'), policy('a', 'RoundRobin')),
    running: null,
  });
  expect(messages(resources, ResourceType.SERVICE)[0]?.policies[0]?.policy?.loadBalancing?.algorithm).toBe(LoadBalancing_Algorithm.RANDOM);
  expect(problems).toMatchObject([{ kind: 'TrafficPolicy', name: 'a' }]);
});

test('the order of the objects changes nothing, and everything survives the wire', () => {
  const objects = stored(
    CATALOG,
    V1,
    gateway('listeners: [{name: a, port: 80, protocol: HTTP}]'),
    route('{parentRefs: [{name: edge}, {group: "", kind: Service, name: catalog}], rules: [{backendRefs: [{name: catalog, port: 80}]}]}'),
  );
  const expected = compileModel({ objects, running: null });
  fc.assert(
    fc.property(fc.shuffledSubarray(objects, { minLength: objects.length }), (shuffled) => {
      expect(compileModel({ objects: shuffled, running: null })).toEqual(expected);
    }),
    { numRuns: 20 },
  );
  for (const resource of expected.resources) expect(decodeResource(encodeResource(resource))).toEqual({ kind: 'resource', resource });
});

test('what a node cannot decode is refused alone', () => {
  const refused = decodeResource({ type: ResourceType.SERVICE, name: 'a/b', body: Buffer.from([0xff, 0xff]) });
  expect(refused).toMatchObject({ kind: 'refused', name: 'a/b' });
  expect(decodeResource({ type: 99 as ResourceType, name: 'a/b', body: Buffer.alloc(0) })).toMatchObject({ kind: 'refused' });
});

test('what is no address does not stop the compiler: the node that gets it refuses it alone', () => {
  for (const address of ['fe80::1%eth0', 'not an address', '']) expect(canonicalAddress(address)).toBe(address);
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

describe('an HTTPS listener', () => {
  const golden = readFileSync(new URL('../resources/goldens/secrets-and-https.yaml', import.meta.url), 'utf8');
  const secret = golden.slice(golden.indexOf('apiVersion'), golden.indexOf('---')).replace('name: good', 'name: cert, namespace: shop');
  const https = (name: string, refs: string) =>
    `{name: ${name}, port: 443, protocol: HTTPS, hostname: ${name}.test, tls: {certificateRefs: [${refs}]}}`;

  test('has the certificates of its Secrets; one without is closed and told, and the others go on', () => {
    const listeners = [
      https('a', '{name: cert}, {name: absent}'),
      https('b', '{name: cert, namespace: other}'),
      '{name: c, port: 80, protocol: HTTP}',
    ];
    const objects = stored(secret, gateway(`listeners: [${listeners}]`), route('{parentRefs: [{name: edge}], rules: [{}]}'));
    const { resources, problems } = compileModel({ objects, running: null });
    const [a, b, c] = messages(resources, ResourceType.LISTENER);
    expect(a).toMatchObject({ protocol: Protocol.HTTPS, tls: { certificates: [{ chain: expect.stringContaining('BEGIN CERTIFICATE') }] } });
    expect(b).toMatchObject({ protocol: Protocol.HTTPS, tls: { certificates: [] } });
    expect(c).toMatchObject({ protocol: Protocol.HTTP, tls: undefined });
    expect(problems.map(({ path, message }) => `${path}: ${message}`)).toEqual([
      "spec.listeners[0].tls.certificateRefs[1]: Secret shop/absent doesn't exist: its certificate is not served",
      'spec.listeners[1].tls.certificateRefs[0]: Secret other/cert is in another namespace and no ReferenceGrant in other allows Gateway to refer to it: its certificate is not served',
      'spec.listeners[1]: listener b has no certificate: it is closed',
    ]);
    expect(messages(resources, ResourceType.HTTP_ROUTE)[0]?.parents.map(({ section }) => section)).toEqual(['a', 'b', 'c']);
  });

  test('with an expired certificate is served, and that is told', () => {
    const objects = stored(secret, gateway(`listeners: [${https('a', '{name: cert}')}]`));
    const later = compileModel({ objects, running: null, nowMs: Date.UTC(2200, 0) });
    expect(messages(later.resources, ResourceType.LISTENER)[0]?.tls?.certificates).toHaveLength(1);
    expect(later.problems.map(({ message }) => message)).toEqual([
      expect.stringMatching(/^the certificate of Secret shop\/cert expired at 21/),
    ]);
    expect(compileModel({ objects, running: null, nowMs: Date.UTC(2050, 0) }).problems).toEqual([]);
  });
});

describe('whole connections', () => {
  const kindOf = (kind: string, version: string, name: string, spec: string) =>
    `apiVersion: gateway.networking.k8s.io/${version}\nkind: ${kind}\nmetadata: {name: ${name}, namespace: shop}\nspec: ${spec}`;
  const edge = gateway(
    'listeners: [{name: tls, port: 443, protocol: TLS, hostname: "*.test", tls: {mode: Passthrough}}, {name: tcp, port: 5432, protocol: TCP}]',
  );
  const parents = (section: string) => `parentRefs: [{name: edge, sectionName: ${section}}]`;
  const to = 'rules: [{backendRefs: [{name: catalog, port: 80, weight: 3}]}]';

  test('a TLSRoute of any version and a TCPRoute of the same name become routes of their own', () => {
    const tls = kindOf('TLSRoute', 'v1alpha2', 'db', `{${parents('tls')}, hostnames: [db.test], ${to}}`);
    const tcp = kindOf('TCPRoute', 'v1alpha2', 'db', `{${parents('tcp')}, ${to}}`);
    const { resources, problems } = compileModel({ objects: stored(CATALOG, edge, tls, tcp), running: null });
    expect(problems).toEqual([]);
    expect(resources.filter(({ type }) => type === ResourceType.CONNECTION_ROUTE)).toMatchObject(
      [
        { kind: 'TCPRoute', port: 5432, section: 'tcp', serverNames: [], createdAtMs: 1003 },
        { kind: 'TLSRoute', port: 443, section: 'tls', serverNames: ['db.test'], createdAtMs: 1002 },
      ].map(({ kind, port, section, serverNames, createdAtMs }) => ({
        type: ResourceType.CONNECTION_ROUTE,
        name: `${kind}/shop/db`,
        message: {
          kind,
          namespace: 'shop',
          name: 'db',
          createdAtMs,
          parents: [{ parent: { $case: 'gateway', value: 'shop/edge' }, port, section }],
          serverNames,
          backends: [{ service: 'shop/catalog', port: 80, weight: 3 }],
        },
      })),
    );
  });

  test('a route is not taken by a listener of another protocol or for other names', () => {
    const routes = [
      kindOf('TLSRoute', 'v1alpha2', 'a', `{${parents('tcp')}, ${to}}`),
      kindOf('TCPRoute', 'v1alpha2', 'b', `{${parents('tls')}, ${to}}`),
      kindOf('TLSRoute', 'v1', 'c', `{${parents('tls')}, hostnames: [db.example], ${to}}`),
    ];
    const { problems } = compileModel({ objects: stored(CATALOG, edge, ...routes), running: null });
    expect(problems.map(({ name, message }) => `${name}: ${message}`)).toEqual([
      "a: no listener of Gateway shop/edge allows a route of kind TLSRoute of namespace shop (protocol, allowedRoutes): the route doesn't apply there",
      "c: no hostname of the route is one of a listener of Gateway shop/edge: the route doesn't apply there",
      "b: no listener of Gateway shop/edge allows a route of kind TCPRoute of namespace shop (protocol, allowedRoutes): the route doesn't apply there",
    ]);
  });

  const other = CATALOG.replace('namespace: shop', 'namespace: other');
  const grant = (from: string, to: string, namespace = 'other') =>
    `apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: g, namespace: ${namespace}}\nspec: {from: [${from}], to: [${to}]}`;
  const TLS_ROUTES = '{group: gateway.networking.k8s.io, kind: TLSRoute, namespace: shop}';
  const across = kindOf(
    'TLSRoute',
    'v1alpha2',
    'a',
    `{${parents('tls')}, rules: [{backendRefs: [{name: catalog, namespace: other, port: 80}]}]}`,
  );
  const backendOf = (...objects: string[]) => {
    const { resources, problems } = compileModel({ objects: stored(edge, other, across, ...objects), running: null });
    const [found] = messages(resources, ResourceType.CONNECTION_ROUTE);
    return found?.backends[0]?.service || problems.map(({ path, message }) => `${path}: ${message}`);
  };

  test('a reference to another namespace needs a ReferenceGrant there', () => {
    expect(backendOf()).toEqual([
      'spec.rules[0].backendRefs[0]: Service other/catalog is in another namespace and no ReferenceGrant in other allows TLSRoute to refer to it: its share of the connections is reset',
    ]);
    expect(backendOf(grant(TLS_ROUTES, '{group: "", kind: Service}'))).toBe('other/catalog');
    expect(backendOf(grant(TLS_ROUTES, '{group: "", kind: Service, name: catalog}'))).toBe('other/catalog');
  });

  test.each([
    ['another group', grant(TLS_ROUTES.replace('gateway.networking.k8s.io', 'other.example'), '{group: "", kind: Service}')],
    ['another kind', grant(TLS_ROUTES.replace('TLSRoute', 'HTTPRoute'), '{group: "", kind: Service}')],
    ['another namespace of origin', grant(TLS_ROUTES.replace('shop', 'else'), '{group: "", kind: Service}')],
    ['another kind of target', grant(TLS_ROUTES, '{group: "", kind: Secret}')],
    ['another group of target', grant(TLS_ROUTES, '{group: apps, kind: Service}')],
    ['another name', grant(TLS_ROUTES, '{group: "", kind: Service, name: other}')],
    ['its own namespace', grant(TLS_ROUTES, '{group: "", kind: Service}', 'shop')],
  ])('a grant for %s is none', (_, manifest) => {
    expect(backendOf(manifest)).toHaveLength(1);
  });
});

describe('a BackendTLSPolicy', () => {
  const CA = (() => {
    const folder = mkdtempSync(join(tmpdir(), 'wbt-'));
    const file = join(folder, 'ca.crt');
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', join(folder, 'key')];
    execFileSync('openssl', ['req', '-x509', ...key, '-out', file, '-subj', '/CN=ca'], { stdio: 'ignore' });
    const pem = readFileSync(file, 'utf8');
    rmSync(folder, { recursive: true });
    return pem;
  })();
  const configMap = (name: string, pem: string) =>
    `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ${name}, namespace: shop}\ndata: {ca.crt: ${JSON.stringify(pem)}}`;
  const policy = (name: string, target: string, hostname: string, refs = 'ca') =>
    `apiVersion: gateway.networking.k8s.io/v1alpha3\nkind: BackendTLSPolicy\nmetadata: {name: ${name}, namespace: shop}\nspec: {targetRefs: [{group: "", kind: Service, name: catalog${target}}], validation: {hostname: ${hostname}, caCertificateRefs: [${refs
      .split(' ')
      .map((ref) => `{group: "", kind: ConfigMap, name: ${ref}}`)
      .join(', ')}]}}`;
  const twoPorts = CATALOG.replace('ports: [', 'ports: [{name: admin, port: 81}, ');
  const tlsOf = (...objects: string[]) => {
    const { resources, problems } = compileModel({ objects: stored(twoPorts, configMap('ca', CA), ...objects), running: null });
    const [service] = messages(resources, ResourceType.SERVICE);
    return {
      ports: service?.ports.map(({ port, tls }) => [port, tls?.hostname, tls === undefined ? undefined : tls.trust !== '']),
      problems: problems.map(({ name, path, message }) => `${name} ${path}: ${message}`),
    };
  };

  test('for a port by name goes before one for the service, and of each the oldest holds', () => {
    expect(tlsOf(policy('a', '', 'a.test'), policy('b', ', sectionName: admin', 'b.test'), policy('c', '', 'c.test'))).toEqual({
      ports: [
        [81, 'b.test', true],
        [80, 'a.test', true],
      ],
      problems: [
        'c spec.targetRefs[0]: BackendTLSPolicy shop/b is older or names the port: this one has no effect on Service shop/catalog',
      ],
    });
  });

  test('trusts what of its references can be used; without any of them the port has no trust, never plain text', () => {
    const bad = configMap('bad', 'Hello');
    expect(tlsOf(bad, policy('a', '', 'a.test', 'bad ca absent'))).toEqual({
      ports: [
        [81, 'a.test', true],
        [80, 'a.test', true],
      ],
      problems: [
        'a spec.validation.caCertificateRefs[0]: ConfigMap shop/bad, key ca.crt: expected PEM certificates, found no "-----BEGIN CERTIFICATE-----": it is not used',
        "a spec.validation.caCertificateRefs[2]: ConfigMap shop/absent doesn't exist: it is not used",
      ],
    });
    const { ports, problems } = tlsOf(bad, policy('a', ', sectionName: admin', 'a.test', 'bad'));
    expect(ports).toEqual([
      [81, 'a.test', false],
      [80, undefined, undefined],
    ]);
    expect(problems).toContain('a spec.validation.caCertificateRefs: no CA certificate can be used: requests to its services answer 503');
  });

  test('for a service or port that is not there is told', () => {
    expect(
      tlsOf(policy('a', ', sectionName: absent', 'a.test'), policy('b', '', 'b.test').replace('name: catalog', 'name: absent')).problems,
    ).toEqual([
      'a spec.targetRefs[0].sectionName: Service shop/catalog has no TCP port named absent: the policy has no effect there',
      "b spec.targetRefs[0]: Service shop/absent doesn't exist: the policy has no effect there",
    ]);
  });
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

test('a listener’s TLS has the limits of its options, and the fallback of its gateway', () => {
  const secure = gateway(
    'listeners: [{name: a, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: absent}], options: {mesh.weft.dev/min-protocol-version: "1.3", mesh.weft.dev/cipher-suites: "TLS_AES_256_GCM_SHA384 , TLS_AES_128_GCM_SHA256"}}}, {name: b, port: 444, protocol: HTTPS, tls: {certificateRefs: [{name: absent}]}}], tls: {frontend: {default: {}, perPort: [{port: 444, tls: {validation: {mode: AllowInsecureFallback, caCertificateRefs: [{group: "", kind: ConfigMap, name: ca}]}}}]}}',
  );
  const configMap = `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ca, namespace: shop}\ndata: {ca.crt: ${JSON.stringify(rootCertificates[0])}}`;
  const { resources } = compileModel({ objects: stored(secure, configMap), running: null });
  expect(messages(resources, ResourceType.LISTENER).map(({ tls }) => [tls?.clientFallback, tls?.limits])).toEqual([
    [
      false,
      {
        minVersion: TlsVersion.TLS_VERSION_1_3,
        maxVersion: TlsVersion.TLS_VERSION_1_3,
        cipherSuites: ['TLS_AES_256_GCM_SHA384', 'TLS_AES_128_GCM_SHA256'],
      },
    ],
    [true, undefined],
  ]);
});

test('what a gateway believes and tells of its clients is said by its annotations', () => {
  const text = gateway('listeners: [{name: a, port: 80, protocol: HTTP}]');
  const said = (annotations: string) =>
    messages(
      compileModel({ objects: stored(text.replace('metadata: {', `metadata: {${annotations}`)), running: null }).resources,
      ResourceType.LISTENER,
    ).map(({ trustedHops, forwardClientCert }) => [trustedHops, forwardClientCert]);
  expect(said('')).toEqual([[undefined, ForwardClientCert.SANITIZE]]);
  expect(said('annotations: {mesh.weft.dev/trusted-hops: "0", mesh.weft.dev/forward-client-cert: SANITIZE_SET}, ')).toEqual([
    [0, ForwardClientCert.SANITIZE_SET],
  ]);
});

describe('certificates of clients', () => {
  const listeners =
    'listeners: [{name: a, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: absent}]}}, {name: b, port: 444, protocol: HTTPS, tls: {certificateRefs: [{name: absent}]}}]';
  const reference = (name: string, more = '') => `{validation: {caCertificateRefs: [{group: "", kind: ConfigMap, name: ${name}${more}}]}}`;
  const closedBy = (tls: string) =>
    compileModel({ objects: stored(gateway(`${listeners}, tls: ${tls}`)), running: null })
      .problems.map(({ path, message }) => `${path}: ${message}`)
      .filter((line) => !line.includes('absent'));

  test('what is said of a port replaces what is said of all, and without any CA the listener is closed', () => {
    expect(closedBy(`{frontend: {default: {}, perPort: [{port: 444, tls: ${reference('no')}}]}}`)).toEqual([
      'spec.listeners[0]: listener a has no certificate: it is closed',
      "spec.tls.frontend.perPort[0].tls.validation.caCertificateRefs[0]: ConfigMap shop/no doesn't exist: it is not used",
      'spec.listeners[1]: no client of listener b could be trusted: it is closed',
    ]);
    expect(closedBy(`{frontend: {default: ${reference('no', ', namespace: other')}, perPort: [{port: 444, tls: {}}]}}`)).toEqual([
      'spec.tls.frontend.default.validation.caCertificateRefs[0]: ConfigMap other/no is in another namespace and no ReferenceGrant in other allows Gateway to refer to it: it is not used',
      'spec.listeners[0]: no client of listener a could be trusted: it is closed',
      'spec.listeners[1]: listener b has no certificate: it is closed',
    ]);
  });
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

  test('the first listener of a port has it; nothing listens for other protocols and addresses', () => {
    const objects = stored(
      gateway(
        'addresses: [{value: 10.0.0.1}, {type: Hostname, value: a.b}], listeners: [{name: a, port: 80, protocol: HTTP}, {name: b, port: 80, protocol: TCP}, {name: c, port: 81, protocol: UDP}]',
      ),
    );
    const { resources, problems } = compileModel({ objects, running: null });
    expect(messages(resources, ResourceType.LISTENER).map(({ name, address }) => `${name} ${address}`)).toEqual(['a 10.0.0.1']);
    expect(problems.map(({ path, reason }) => `${path} ${reason}`)).toEqual([
      'spec.addresses[1] UnsupportedAddress',
      'spec.listeners[1] ProtocolConflict',
      'spec.listeners[2].protocol UnsupportedProtocol',
    ]);
  });

  test('a gateway of unsupported addresses alone listens nowhere, not everywhere', () => {
    const objects = stored(gateway('addresses: [{type: Hostname, value: a.b}], listeners: [{name: a, port: 80, protocol: HTTP}]'));
    expect(messages(compileModel({ objects, running: null }).resources, ResourceType.LISTENER)).toEqual([]);
  });
});

test('allowedRoutes by selector asks the labels of the Namespace, which has its own name among them', () => {
  const edge = (selector: string) =>
    gateway(`listeners: [{name: a, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: ${selector}}}}]`);
  const attached = (selector: string): number => {
    const objects = stored(
      edge(selector),
      'apiVersion: v1\nkind: Namespace\nmetadata: {name: team, labels: {edge: open}}',
      route('{parentRefs: [{name: edge, namespace: shop}]}', 'team'),
      route('{parentRefs: [{name: edge, namespace: shop}]}', 'other'),
    );
    const compiled = messages(compileModel({ objects, running: null }).resources, ResourceType.HTTP_ROUTE);
    return compiled.filter(({ parents }) => parents.length > 0).length;
  };
  expect(attached('{matchLabels: {edge: open}}')).toBe(1);
  expect(attached('{matchExpressions: [{key: edge, operator: DoesNotExist}]}')).toBe(1);
  expect(attached('{matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [team, other]}]}')).toBe(2);
  expect(attached('{}')).toBe(2);
  expect(attached('{matchLabels: {edge: shut}}')).toBe(0);
});
