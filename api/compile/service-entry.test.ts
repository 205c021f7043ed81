import { expect, test } from '@jest/globals';
import { type Endpoint, EndpointHealth, Protocol, ResourceType, type Service } from '../gen/mesh/v1/model.js';
import { compileModel } from './compile.js';
import { CompileMemo } from './memo.js';
import { namesToResolve, type ResolvedName } from './service-entry.js';
import { stored } from './testing/manifests.js';

const entry = (spec: string, name = 'e'): string =>
  `apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: ${name}, namespace: shop}\nspec: ${spec}`;
const workloadEntry = (name: string, spec: string): string =>
  `apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: ${name}, namespace: shop}\nspec: ${spec}`;
const service = (name: string, spec = '{clusterIP: None, ports: [{name: http, port: 80}]}'): string =>
  `apiVersion: v1\nkind: Service\nmetadata: {name: ${name}, namespace: shop}\nspec: ${spec}`;

function compiled(documents: readonly string[], resolved: Record<string, ResolvedName> = {}) {
  const { resources, problems } = compileModel({
    objects: stored(...documents),
    running: null,
    resolved: new Map(Object.entries(resolved)),
  });
  const services = resources.flatMap((each) => (each.type === ResourceType.SERVICE ? [each.message] : []));
  const endpoints = resources.flatMap((each) => (each.type === ResourceType.ENDPOINT ? [each.message] : []));
  return {
    services,
    endpoints,
    problems: problems.map(({ kind, name, path, reason, message }) => ({ of: `${kind} ${name}`, path, reason, message })),
  };
}

const sockets = (endpoints: readonly Endpoint[], of?: string): string[] =>
  endpoints
    .filter((endpoint) => of === undefined || endpoint.service === of)
    .map(
      ({ address, ports, weight, zone }) => `${address} ${ports.map((port) => `${port.name}=${port.port}`).join(',')} ${weight} ${zone}`,
    );

const good = (...addresses: string[]): ResolvedName => ({ addresses, error: '' });

test('its subjectAltNames hold for a DestinationRule that has none, or an empty list of them, and give way to those it has', () => {
  const one = '{hosts: [api.test], ports: [{number: 443, name: http, protocol: HTTP}], resolution: STATIC, subjectAltNames: [e.test]}';
  const rule = (names: string): string =>
    `apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: r, namespace: shop}\nspec: {host: api.test, trafficPolicy: {tls: {mode: SIMPLE${names}}}}`;
  const accepted = (names: string) => compiled([entry(one), rule(names)]).services[0]?.ports[0]?.tls?.accepts;
  expect(accepted('')).toEqual(['e.test']);
  expect(accepted(', subjectAltNames: []')).toEqual(['e.test']);
  expect(accepted(', subjectAltNames: [r.test]')).toEqual(['r.test']);
});

test('endpoints of resolution STATIC stand behind every host, with port, weight and zone of their own', () => {
  const { services, endpoints, problems } = compiled([
    entry(`
      hosts: [api.example.com, "*.example.org"]
      addresses: [192.0.2.1, "2001:db8::1"]
      ports:
        - {number: 443, name: tls, protocol: HTTPS}
        - {number: 80, name: http, protocol: HTTP, targetPort: 8080}
      resolution: STATIC
      endpoints:
        - {address: 10.1.0.1, weight: 3, locality: eu/eu-1/rack}
        - {address: "2001:db8::2", ports: {http: 9090}}`),
  ]);
  expect(problems).toEqual([]);
  const shape = ({ name, hostnames, addresses, ports }: Service) => [
    name,
    hostnames,
    addresses,
    ports.map((port) => [port.name, port.port, port.protocol]),
  ];
  const ports = [
    ['tls', 443, Protocol.TLS],
    ['http', 80, Protocol.HTTP],
  ];
  const addresses = ['192.0.2.1', '2001:db8::1'];
  expect(services.map(shape)).toEqual([
    ['*.example.org', ['*.example.org'], addresses, ports],
    ['api.example.com', ['api.example.com'], addresses, ports],
  ]);
  expect(sockets(endpoints, 'shop/api.example.com')).toEqual(['10.1.0.1 tls=443,http=8080 3 eu-1', '2001:db8::2 tls=443,http=9090 1 ']);
  expect(endpoints.every(({ health }) => health === EndpointHealth.READY)).toBe(true);
  expect(new Set(endpoints.map(({ address, region }) => `${address} ${region}`))).toEqual(new Set(['10.1.0.1 eu', '2001:db8::2 ']));
});

test('ports of UDP are left out, and a protocol that the mesh does not know is found out', () => {
  const ports = 'ports: [{number: 53, name: dns, protocol: UDP}, {number: 9000, name: odd, protocol: HBONE}]';
  const { services } = compiled([entry(`{hosts: [a.example.com], ${ports}, resolution: STATIC}`)]);
  expect(services.map((service) => service.ports.map(({ name, protocol }) => [name, protocol]))).toEqual([[['odd', Protocol.UNSPECIFIED]]]);
});

const PORTS = 'ports: [{number: 443, name: tls, protocol: TLS}]';

test('with resolution DNS hosts are resolved, or the names of endpoints; what was once resolved stays, and the error is told', () => {
  const documents = [
    entry(`{hosts: [a.example.com, B.example.com.], ${PORTS}, resolution: DNS}`),
    entry(
      `{hosts: [c.example.com], ${PORTS}, resolution: DNS_ROUND_ROBIN, endpoints: [{address: origin.example.net, ports: {tls: 8443}}]}`,
      'f',
    ),
    entry(`{hosts: [d.example.com], ${PORTS}, resolution: DNS, endpoints: [{address: 10.0.0.4}, {address: gone.example.net}]}`, 'g'),
  ];
  expect([...namesToResolve(stored(...documents))].sort()).toEqual([
    'a.example.com',
    'b.example.com',
    'gone.example.net',
    'origin.example.net',
  ]);
  const { endpoints, problems } = compiled(documents, {
    'a.example.com': good('192.0.2.1', '2001:db8::1'),
    'b.example.com': { addresses: ['192.0.2.2'], error: 'SERVFAIL' },
    'gone.example.net': { addresses: [], error: 'NXDOMAIN' },
  });
  expect(sockets(endpoints)).toEqual(['192.0.2.1 tls=443 1 ', '2001:db8::1 tls=443 1 ', '192.0.2.2 tls=443 1 ', '10.0.0.4 tls=443 1 ']);
  expect(problems.map(({ of, path, reason, message }) => [of, path, reason, message])).toEqual([
    ['ServiceEntry e', 'spec.hosts[1]', 'TargetNotFound', "b.example.com can't be resolved (SERVFAIL): what it was last stays"],
    ['ServiceEntry g', 'spec.endpoints[1]', 'TargetNotFound', "gone.example.net can't be resolved (NXDOMAIN): it has no endpoints"],
  ]);
});

test('with resolution NONE requests go where they were sent: addresses are endpoints, and none stands in front of them', () => {
  const { services, endpoints } = compiled([entry(`{hosts: [db.example.com], addresses: [192.0.2.8, 192.0.2.9], ${PORTS}}`)]);
  expect(services).toMatchObject([{ name: 'db.example.com', addresses: [] }]);
  expect(sockets(endpoints)).toEqual(['192.0.2.8 tls=443 1 ', '192.0.2.9 tls=443 1 ']);
});

test('a workloadSelector takes the WorkloadEntries and Workloads of its namespace; a Service takes WorkloadEntries too', () => {
  const workload = `apiVersion: mesh.weft.dev/v1\nkind: Workload\nmetadata: {name: w, namespace: shop, labels: {app: db}}\nspec: {node: n, cgroup: /w, addresses: [10.2.0.9]}`;
  const { endpoints, problems } = compiled([
    entry(`{hosts: [db.vm], ${PORTS}, resolution: STATIC, workloadSelector: {labels: {app: db}}}`),
    workloadEntry('one', '{address: 10.2.0.1, labels: {app: db}, ports: {tls: 1443, http: 8081}, weight: 5}'),
    workloadEntry('two', '{address: 10.2.0.2, labels: {app: other}}'),
    workloadEntry('named', '{address: vm.example.com, labels: {app: db}}'),
    service('db', '{clusterIP: None, selector: {app: db}, ports: [{name: http, port: 80}, {name: admin, port: 81, targetPort: adm}]}'),
    workload,
  ]);
  expect(sockets(endpoints, 'shop/db.vm')).toEqual(['10.2.0.1 tls=1443 5 ', '10.2.0.9 tls=443 1 ']);
  expect(sockets(endpoints, 'shop/db')).toEqual(['10.2.0.1 http=8081 5 ', '10.2.0.9 http=80 1 ']);
  expect(problems.map(({ of, path }) => `${of} ${path}`)).toEqual([
    'ServiceEntry e spec.workloadSelector',
    'WorkloadEntry named spec.address',
    'Service db spec.ports',
  ]);
});

test('what has no effect is told: hosts of others, hosts without a dot, ranges, sockets, names that nothing resolves', () => {
  const { services, problems } = compiled([
    service('catalog'),
    entry(
      `{hosts: [catalog.shop.svc.cluster.local, plain, twice.example.com], addresses: [10.0.0.0/8], ${PORTS}, resolution: STATIC, endpoints: [{address: "unix:///run/x"}]}`,
    ),
    entry(`{hosts: [twice.example.com], ${PORTS}, resolution: DNS}`, 'f'),
    entry(`{hosts: [far.example.com], ${PORTS}, resolution: DYNAMIC_DNS}`, 'g'),
  ]);
  expect(services.map(({ name }) => name)).toEqual(['catalog', 'far.example.com', 'twice.example.com']);
  expect(problems.map(({ of, path, reason }) => `${of} ${path} ${reason}`)).toEqual([
    'ServiceEntry e spec.addresses[0] UnsupportedValue',
    'ServiceEntry e spec.hosts[0] Conflicted',
    'ServiceEntry e spec.hosts[1] UnsupportedValue',
    'ServiceEntry e spec.endpoints[0] UnsupportedValue',
    'ServiceEntry f spec.hosts[0] Conflicted',
    'ServiceEntry g spec.resolution UnsupportedValue',
  ]);
});

test('what stands still is compiled once: the same messages again while objects and answers are the same', () => {
  const objects = stored(
    entry(`{hosts: [a.example.com], ${PORTS}, resolution: DNS}`),
    entry(`{hosts: [b.example.com], addresses: [192.0.2.8], ${PORTS}}`, 'f'),
    workloadEntry('one', '{address: 10.2.0.1, labels: {app: db}}'),
    service('db', '{clusterIP: None, selector: {app: db}, ports: [{name: http, port: 80}]}'),
  );
  const memo = new CompileMemo();
  const compile = (a: ResolvedName) => compileModel({ objects, running: null, resolved: new Map([['a.example.com', a]]) }, memo).resources;
  const first = good('192.0.2.1');
  const before = compile(first);
  expect(before).toHaveLength(6);
  expect(compile(first).every((resource, index) => resource === before[index])).toBe(true);
  const after = compile(good('192.0.2.1', '192.0.2.2'));
  expect(after.filter((resource) => !before.includes(resource)).map(({ name }) => name)).toEqual([
    'shop/a.example.com',
    'shop/a.example.com/192.0.2.1',
    'shop/a.example.com/192.0.2.2',
  ]);
});

test('a route leads to a host by the kind Hostname, where its namespace sees it and the host has the port', () => {
  const route = (host: string, port: number, namespace = 'shop') => `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: out, namespace: ${namespace}}
spec: {rules: [{backendRefs: [{group: networking.istio.io, kind: Hostname, name: ${host}, port: ${port}}]}]}`;
  const open = entry(`{hosts: [api.example.com], ${PORTS}, resolution: STATIC, endpoints: [{address: 10.1.0.1}]}`);
  const own = entry(`{hosts: [own.example.com], exportTo: [.], ${PORTS}, resolution: STATIC}`, 'f');
  const outcome = (document: string): string => {
    const objects = stored(open, own, document);
    const { resources, problems } = compileModel({ objects, running: null });
    const backends = resources.flatMap((each) =>
      each.type === ResourceType.HTTP_ROUTE ? each.message.rules.flatMap((rule) => rule.backends) : [],
    );
    return [...backends.map((each) => each.service), ...problems.map(({ reason }) => reason)].join(' ');
  };
  expect(outcome(route('api.example.com', 443))).toBe('shop/api.example.com');
  expect(outcome(route('API.example.com.', 443, 'depot'))).toBe('shop/api.example.com');
  expect(outcome(route('own.example.com', 443))).toBe('shop/own.example.com');
  expect(outcome(route('own.example.com', 443, 'depot'))).toBe(' BackendNotFound');
  expect(outcome(route('api.example.com', 80))).toBe(' BackendNotFound');
  expect(outcome(route('other.example.com', 443))).toBe(' BackendNotFound');
});

test('policies name a host as they name a Service: TLS begins here where a BackendTLSPolicy asks for it', () => {
  const { services, problems } = compiled([
    entry(
      `{hosts: [api.example.com], ports: [{number: 443, name: https, protocol: HTTP}], resolution: STATIC, endpoints: [{address: 10.1.0.1}]}`,
    ),
    `apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: p, namespace: shop}
spec: {targetRefs: [{group: "", kind: Service, name: api.example.com}], validation: {hostname: api.example.com, wellKnownCACertificates: System}}`,
    `apiVersion: mesh.weft.dev/v1
kind: TrafficPolicy
metadata: {name: t, namespace: shop}
spec: {targetRefs: [{kind: Service, name: api.example.com}], loadBalancer: {type: RoundRobin}}`,
  ]);
  expect(problems).toEqual([]);
  expect(services).toMatchObject([
    { ports: [{ tls: { hostname: 'api.example.com', systemTrust: true } }], policies: [{ policy: { loadBalancing: { algorithm: 1 } } }] },
  ]);
});
