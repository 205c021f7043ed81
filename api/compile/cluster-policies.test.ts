import { expect, test } from '@jest/globals';
import { LoadBalancing_Algorithm, ResourceType, type ScopedPolicy, type Service } from '../gen/mesh/v1/model.js';
import { formatFinding, parseManifests } from '../resources/index.js';
import { CompileMemo, compileModel } from './index.js';

const SERVICE = `apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop}
spec: {ports: [{name: http, port: 80}, {name: grpc, port: 90}]}`;
const rule = (spec: string, namespace = 'shop', name = 'reviews') =>
  `apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: ${name}, namespace: ${namespace}}\nspec: ${spec}`;
const policy = (loadBalancer: string) => `apiVersion: mesh.weft.dev/v1
kind: TrafficPolicy
metadata: {name: reviews, namespace: shop}
spec: {targetRefs: [{kind: Service, name: reviews}], loadBalancer: ${loadBalancer}}`;

const objectsOf = (...documents: string[]) => {
  const { objects, findings } = parseManifests([{ name: 'f', content: documents.join('\n---\n') }]);
  expect(findings.map(formatFinding)).toEqual([]);
  return objects.map((object, index) => ({ ...object, createdAtMs: 1000 + index }));
};

const policiesOf = (...documents: string[]): ScopedPolicy[] => {
  const { resources } = compileModel({ objects: objectsOf(SERVICE, ...documents), running: null });
  const service = resources.find(({ type }) => type === ResourceType.SERVICE);
  return (service!.message as Service).policies;
};

/** "port labels algorithm" */
const inWords = (policies: readonly ScopedPolicy[]): string[] =>
  policies.map(({ port, labels, policy: of }) =>
    [port, Object.values(labels).join(), LoadBalancing_Algorithm[of?.loadBalancing?.algorithm ?? -1] ?? '-'].join(' '),
  );

test('a service that nobody says anything of has no policies', () => {
  expect(policiesOf()).toEqual([]);
});

test('a rule is inherited as in Istio: subsets replace sections, ports replace everything', () => {
  const found = policiesOf(
    rule(`
  host: reviews
  trafficPolicy:
    loadBalancer: {simple: RANDOM}
    portLevelSettings: [{port: {number: 90}, connectionPool: {tcp: {maxConnections: 1}}}]
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}
  - {name: v3, labels: {version: v3}, trafficPolicy: {portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: LEAST_CONN}}]}}`),
  );
  expect(inWords(found)).toEqual([
    '0  RANDOM',
    '90  -',
    '0 v2 ROUND_ROBIN',
    '90 v2 ROUND_ROBIN',
    '0 v3 RANDOM',
    '90 v3 -',
    '80 v3 LEAST_REQUEST',
  ]);
});

test('a TrafficPolicy goes before what a rule says of the whole service, not before what it says of a port or a subset', () => {
  const found = policiesOf(
    policy('{type: PeakEWMA}'),
    rule(`
  host: reviews.shop.svc.cluster.local
  trafficPolicy: {loadBalancer: {simple: RANDOM}, portLevelSettings: [{port: {number: 90}, loadBalancer: {simple: ROUND_ROBIN}}]}
  subsets: [{name: v2, labels: {version: v2}, trafficPolicy: {loadBalancer: {simple: LEAST_REQUEST}}}]`),
  );
  expect(inWords(found)).toEqual(['0  PEAK_EWMA', '90  ROUND_ROBIN', '0 v2 LEAST_REQUEST', '90 v2 LEAST_REQUEST']);
});

test.each([
  [
    'of its namespace before the mesh’s',
    [
      rule('{host: "*.shop.svc.cluster.local", trafficPolicy: {loadBalancer: {simple: RANDOM}}}', 'istio-system'),
      rule('{host: reviews, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}'),
    ],
    ['0  ROUND_ROBIN'],
  ],
  ['of the mesh', [rule('{host: "*.local", trafficPolicy: {loadBalancer: {simple: RANDOM}}}', 'istio-system')], ['0  RANDOM']],
  [
    'by its name before a wildcard',
    [
      rule('{host: "*.local", trafficPolicy: {loadBalancer: {simple: RANDOM}}}', 'shop', 'all'),
      rule('{host: reviews, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}'),
    ],
    ['0  ROUND_ROBIN'],
  ],
  [
    'of another namespace is for its clients alone',
    [rule('{host: reviews.shop.svc.cluster.local, trafficPolicy: {loadBalancer: {simple: RANDOM}}}', 'other')],
    [],
  ],
  ['for another host', [rule('{host: ratings, trafficPolicy: {loadBalancer: {simple: RANDOM}}}')], []],
] as const)('which rule holds: %s', (_, rules, expected) => {
  expect(inWords(policiesOf(...rules))).toEqual(expected);
});

test('what a Service says of itself holds where no policy says anything', () => {
  const near = SERVICE.replace('spec: {', 'spec: {trafficDistribution: PreferSameNode, sessionAffinity: ClientIP, ');
  const found = (compileModel({ objects: objectsOf(near), running: null }).resources[0]!.message as Service).policies;
  expect(found).toMatchObject([
    {
      policy: {
        loadBalancing: {
          algorithm: LoadBalancing_Algorithm.RING_HASH,
          hash: { key: { $case: 'sourceAddress', value: true } },
          locality: { priorityLabels: ['topology.kubernetes.io/region', 'topology.kubernetes.io/zone', 'kubernetes.io/hostname'] },
        },
      },
    },
  ]);
  const both = compileModel({ objects: objectsOf(near, policy('{type: Random}')), running: null }).resources[0]!.message as Service;
  expect(inWords(both.policies)).toEqual(['0  RANDOM']);
});

test('a rule that changes is compiled anew, and one that stands still is not', () => {
  const memo = new CompileMemo();
  const before = objectsOf(SERVICE, rule('{host: reviews, trafficPolicy: {loadBalancer: {simple: RANDOM}}}'));
  const after = [before[0]!, objectsOf(SERVICE, rule('{host: reviews, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}'))[1]!];
  const messageOf = (objects: typeof before) => compileModel({ objects, running: null }, memo).resources[0]!.message as Service;
  const first = messageOf(before);
  expect(messageOf(before)).toBe(first);
  expect(inWords(messageOf(after).policies)).toEqual(['0  ROUND_ROBIN']);
});

test('a rule that is exported to some namespaces is for all that see the service, which is told where these are more', () => {
  const narrow = rule('{host: reviews, trafficPolicy: {loadBalancer: {simple: RANDOM}}, exportTo: [., bank]}');
  const exported = (to: string): string =>
    SERVICE.replace('namespace: shop}', `namespace: shop, annotations: {networking.istio.io/exportTo: "${to}"}}`);
  const told = (service: string): string[] =>
    compileModel({ objects: objectsOf(service, narrow), running: null }).problems.map(({ path, message }) => `${path}: ${message}`);
  const wider = ['spec.exportTo: nodes do not tell clients by their namespace: the rule is for all that see the service'];
  expect([SERVICE, exported('shop,bank,games'), exported('.'), exported('bank,shop')].map(told)).toEqual([wider, wider, [], []]);
});

test('the subsets of a rule are found from the namespaces that it is exported to', () => {
  const problemsOf = (exportTo: string): string[] => {
    const subsets = rule(`{host: reviews, subsets: [{name: v1, labels: {version: v1}}], exportTo: [${exportTo}]}`);
    const route = `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: bank}
spec: {hosts: [reviews.shop.svc.cluster.local], http: [{route: [{destination: {host: reviews.shop.svc.cluster.local, subset: v1}}]}]}`;
    return compileModel({ objects: objectsOf(SERVICE, subsets, route), running: null }).problems.map(({ message }) => message);
  };
  expect(problemsOf('bank')).toEqual([]);
  expect(problemsOf('.')).toEqual([
    'no DestinationRule for reviews.shop.svc.cluster.local has a subset v1: its share answers 500',
    'no DestinationRule for reviews.shop.svc.cluster.local has a subset v1: its share answers 500',
  ]);
});
