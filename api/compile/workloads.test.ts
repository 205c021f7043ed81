// Services, workloads and slices as the model has them: which are endpoints, and which are captured.
import { describe, expect, test } from '@jest/globals';
import { EndpointHealth, Outside, Protocol, ProxyProtocol, ResourceType } from '../gen/mesh/v1/model.js';
import { compileModel, type Running } from './index.js';
import { CATALOG, messages, stored, V1, workload } from './testing/manifests.js';

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
