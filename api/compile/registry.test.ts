import { expect, test } from '@jest/globals';
import { InstanceState } from '../gen/mesh/v1/discovery.js';
import { EndpointHealth, HealthCheck, HealthCheck_Type, ResourceType } from '../gen/mesh/v1/model.js';
import { formatFinding, parseManifests, type StoredObject } from '../resources/index.js';
import { compileModel } from './compile.js';
import { chosenNode } from './health-check.js';
import { NO_REPORTS, type RegistryReports } from './registry.js';
import { stored } from './testing/manifests.js';

function compile(objects: readonly StoredObject[], reports: Partial<RegistryReports>) {
  const registry = { ...NO_REPORTS, ...reports };
  const { resources, problems } = compileModel({ objects, running: new Map(), registry });
  const services = resources.flatMap((resource) => (resource.type === ResourceType.SERVICE ? [resource.message] : []));
  const endpoints = resources.flatMap((resource) => (resource.type === ResourceType.ENDPOINT ? [resource.message] : []));
  return { services, endpoints, problems };
}

const SERVICE = `apiVersion: v1
kind: Service
metadata: {name: catalog, namespace: shop, labels: {mesh.weft.dev/instances: enabled}}
spec: {clusterIP: 10.96.0.10, ports: [{name: http, port: 80}]}`;
const slice = (endpoints: string, metadata = '') => `apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: catalog-1, namespace: shop, labels: {kubernetes.io/service-name: catalog}${metadata}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [${endpoints}]`;
const policy = (check: string) => `apiVersion: mesh.weft.dev/v1
kind: TrafficPolicy
metadata: {name: catalog, namespace: shop}
spec: {targetRefs: [{kind: Service, name: catalog}], healthCheck: {${check}}}`;
const nodes = (...names: string[]) => new Map(names.map((name) => [name, { zone: `${name}-zone`, region: 'r1', checks: true }]));
const instance = (state: Partial<InstanceState>, node = 'n1') => ({
  node,
  state: InstanceState.fromPartial({ service: 'shop/api', id: 'a', address: '10.5.0.1', ports: [{ name: 'http', port: 9000 }], ...state }),
});

test('instances are endpoints with the version, labels and weight they say, in their node’s zone and region', () => {
  const instances = new Map([
    [
      'shop/api',
      new Map([
        ['n1/a', instance({ version: 'v2', labels: { tier: 'gold' }, weight: 3 })],
        [
          'n2/b',
          instance({ id: 'b', address: '10.5.0.2', labels: { 'app.kubernetes.io/version': 'v1' }, health: EndpointHealth.DRAINING }, 'n2'),
        ],
      ]),
    ],
  ]);
  const { services, endpoints } = compile([], { instances, nodes: nodes('n1', 'n2') });
  expect(services).toMatchObject([{ namespace: 'shop', name: 'api', addresses: [], ports: [{ name: 'http', port: 9000 }] }]);
  expect(endpoints).toMatchObject([
    { id: '10.5.0.1', version: 'v2', labels: { tier: 'gold' }, weight: 3, node: 'n1', zone: 'n1-zone', region: 'r1', health: 0 },
    { id: '10.5.0.2', version: 'v1', weight: 1, node: 'n2', zone: 'n2-zone', health: EndpointHealth.DRAINING },
  ]);
});

test('a service that is declared stays as declared, and takes the one port of an instance for its one', () => {
  const instances = new Map([
    [
      'shop/catalog',
      new Map([['n1/a', instance({ service: 'shop/catalog', ports: [{ name: 'web', port: 1234, servicePort: 0, protocol: '' }] })]]),
    ],
  ]);
  const { services, endpoints } = compile(stored(SERVICE), { instances });
  expect(services).toMatchObject([{ addresses: ['10.96.0.10'], ports: [{ name: 'http', port: 80 }] }]);
  expect(endpoints).toMatchObject([{ ports: [{ name: 'http', port: 1234 }] }]);
});

test('a declared service takes instances only where it, or its namespace, says so, and that is told', () => {
  const instances = new Map([['shop/catalog', new Map([['n1/a', instance({ service: 'shop/catalog' })]])]]);
  const silent = SERVICE.replace(', labels: {mesh.weft.dev/instances: enabled}', '');
  const namespace = (value: string) =>
    `apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {mesh.weft.dev/instances: ${value}}}`;
  const refused = compile(stored(silent), { instances });
  expect(refused.endpoints).toEqual([]);
  expect(refused.problems).toMatchObject([
    { kind: 'Service', name: 'catalog', message: expect.stringContaining('registered themselves on n1 and are not used') },
  ]);
  expect(compile(stored(silent, namespace('enabled')), { instances }).endpoints).toHaveLength(1);
  expect(compile(stored(SERVICE, namespace('disabled')), { instances }).endpoints).toHaveLength(1);
});

test('an instance without any of the declared ports is no endpoint, and that is told', () => {
  const two = SERVICE.replace('{name: http, port: 80}', '{name: http, port: 80}, {name: admin, port: 81}');
  const ports = [{ name: 'web', port: 1234, servicePort: 0, protocol: '' }];
  const instances = new Map([['shop/catalog', new Map([['n1/a', instance({ service: 'shop/catalog', ports })]])]]);
  const { endpoints, problems } = compile(stored(two), { instances });
  expect(endpoints).toEqual([]);
  expect(problems).toMatchObject([
    { kind: 'Service', message: 'instance a on node n1 has none of the ports http, admin: it gets no requests' },
  ]);
});

test('labels of a slice’s endpoints stand in its annotation, and are refused where they are none', () => {
  const { endpoints } = compile(
    stored(SERVICE, slice('{addresses: [10.3.0.1]}', ', annotations: {mesh.weft.dev/endpoint-labels: "version=v7,tier=gold"}')),
    {},
  );
  expect(endpoints).toMatchObject([{ version: 'v7', labels: { tier: 'gold', version: 'v7' } }]);
  const wrong = parseManifests([{ name: 'f', content: slice('', ', annotations: {mesh.weft.dev/endpoint-labels: "version"}') }]);
  expect(wrong.findings.map(formatFinding)).toEqual([expect.stringContaining('expected labels as key=value')]);
});

test('an endpoint is checked by its own node while that lives, else by one that is chosen; verdicts of others count for nothing', () => {
  const objects = stored(
    SERVICE,
    slice('{addresses: [10.3.0.1], nodeName: n1}, {addresses: [10.3.0.2]}, {addresses: [10.3.0.3], nodeName: lost}'),
    policy('tcp: {}'),
  );
  const live = nodes('n1', 'n2', 'n3');
  const { endpoints } = compile(objects, { nodes: live });
  const [own, without, ofLost] = endpoints.map(({ check }) => check?.node ?? '');
  expect(own).toBe('n1');
  expect([...live.keys()]).toContain(without);
  expect(ofLost).toBe(chosenNode('shop/catalog/10.3.0.3', live));
  const old = new Map([...live].map(([name, node]) => [name, { ...node, checks: name !== 'n1' }]));
  expect(['n2', 'n3']).toContain(compile(objects, { nodes: old }).endpoints[0]?.check?.node);
  const verdict = (node: string) => new Map([['shop/catalog', new Map([['10.3.0.1', [{ node, detail: 'HTTP 503' }]]])]]);
  expect(compile(objects, { nodes: live, failing: verdict('n2') }).endpoints[0]).toMatchObject({
    health: EndpointHealth.READY,
    check: { failing: false },
  });
  expect(compile(objects, { nodes: live, failing: verdict('n1') }).endpoints[0]).toMatchObject({
    health: EndpointHealth.UNHEALTHY,
    check: { failing: true, detail: 'HTTP 503', sourceHealth: EndpointHealth.READY },
  });
});

test('the endpoints on a drained node drain, but for those that are worse; who checks them stays', () => {
  const objects = stored(
    SERVICE,
    slice('{addresses: [10.0.0.1], nodeName: n1}, {addresses: [10.0.0.2], nodeName: n2}, {addresses: [10.0.0.3]}'),
    policy('tcp: {}'),
  );
  const failing = new Map([['shop/catalog', new Map([['10.0.0.1', [{ node: 'n1', detail: 'x' }]]])]]);
  const { DRAINING, READY, UNHEALTHY } = EndpointHealth;
  const health = (reports: Partial<RegistryReports>) =>
    compile(objects, { nodes: nodes('n1', 'n2'), ...reports }).endpoints.map(({ health: each }) => each);
  expect(health({ drained: new Set(['n1']) })).toEqual([DRAINING, READY, READY]);
  expect(health({ drained: new Set(['n1', 'n2']), failing })).toEqual([UNHEALTHY, DRAINING, READY]);
  expect(health({})).toEqual([READY, READY, READY]);
});

test('endpoints are told how idle their nodes are where a policy weighs them by load, and nowhere else', () => {
  const weighs = (source: string) => `
apiVersion: mesh.weft.dev/v1
kind: TrafficPolicy
metadata: {name: weighs, namespace: shop}
spec: {targetRefs: [{kind: Service, name: catalog}], loadBalancer: {weights: {source: ${source}}}}`;
  const endpoints = slice('{addresses: [10.0.0.1], nodeName: n1}, {addresses: [10.0.0.2], nodeName: n2}');
  const idle = (...policies: string[]) =>
    compile(stored(SERVICE, endpoints, ...policies), { idlePercent: new Map([['n1', 40]]) }).endpoints.map((each) => each.nodeIdlePercent);
  expect(idle(weighs('Node'))).toEqual([40, undefined]);
  expect(idle(weighs('ORCA'))).toEqual([40, undefined]);
  expect(idle(weighs('Static'))).toEqual([undefined, undefined]);
  expect(idle()).toEqual([undefined, undefined]);
});

test('a node that goes moves only the endpoints it checked, and all are spread', () => {
  const names = Array.from({ length: 10 }, (_, index) => `node-${index}`);
  const before = nodes(...names);
  const after = nodes(...names.slice(1));
  const endpoints = Array.from({ length: 2_000 }, (_, index) => `shop/catalog/10.3.${index >> 8}.${index & 255}`);
  const counts = new Map<string, number>();
  for (const endpoint of endpoints) {
    const chosen = chosenNode(endpoint, before);
    counts.set(chosen, (counts.get(chosen) ?? 0) + 1);
    if (chosen !== 'node-0') expect(chosenNode(endpoint, after)).toBe(chosen);
  }
  // 200 each: six standard deviations are 81.
  for (const name of names) expect(Math.abs((counts.get(name) ?? 0) - 200)).toBeLessThan(81);
  expect(chosenNode('shop/catalog/10.3.0.1', new Map())).toBe('');
});

test('a policy’s check is in the service, an instance’s own goes before it', () => {
  const own = HealthCheck.fromPartial({ type: HealthCheck_Type.GRPC, intervalMs: 500, timeoutMs: 100 });
  const instances = new Map([['shop/catalog', new Map([['n1/a', instance({ service: 'shop/catalog', check: own })]])]]);
  const check =
    'interval: 2s, timeout: 300ms, unhealthyThreshold: 2, healthyThreshold: 4, port: 9090, tls: {serverName: a.test}, http: {path: /ok, host: h, statuses: ["200-204", "404"]}';
  const { services, endpoints } = compile(stored(SERVICE, policy(check)), { instances, nodes: nodes('n1') });
  expect(services[0]?.healthCheck).toEqual({
    type: HealthCheck_Type.HTTP,
    intervalMs: 2_000,
    timeoutMs: 300,
    unhealthyThreshold: 2,
    healthyThreshold: 4,
    port: 9090,
    tls: true,
    serverName: 'a.test',
    host: 'h',
    path: '/ok',
    statuses: [
      { first: 200, last: 204 },
      { first: 404, last: 404 },
    ],
    grpcService: '',
  });
  expect(endpoints[0]?.check).toMatchObject({ node: 'n1', own });
});

test.each([
  ['interval: 5s', 'expected one of http, grpc, tcp'],
  ['http: {}, tcp: {}', 'not with http'],
  ['tcp: {}, interval: 10ms', 'expected 100ms to 1h'],
  ['http: {path: healthz}', 'expected an absolute path'],
  ['http: {statuses: ["299-200"]}', 'expected the lower status first'],
])('a check of {%s} is refused', (check, message) => {
  const { findings } = parseManifests([{ name: 'f', content: policy(check) }]);
  expect(findings.map(formatFinding)).toEqual([expect.stringContaining(message)]);
});
