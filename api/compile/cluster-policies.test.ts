import { describe, expect, test } from '@jest/globals';
import { LoadBalancing_Algorithm, ProxyProtocol, ResourceType, type ScopedPolicy, type Service } from '../gen/mesh/v1/model.js';
import { CompileMemo, compileModel } from './index.js';
import { stored } from './testing/manifests.js';

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

const policiesOf = (...documents: string[]): ScopedPolicy[] => {
  const { resources } = compileModel({ objects: stored(SERVICE, ...documents), running: null });
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

describe('outlier detection says nothing of the algorithm', () => {
  const detects = 'outlierDetection: {minHealthPercent: 30}';
  const subset = (spec: string) => `subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {${spec}}}]`;
  /** "algorithm, panic threshold, near first" of each scope. */
  const found = (...documents: string[]): string[] =>
    policiesOf(...documents).map(({ policy: of }) => {
      const { algorithm, panicPercent, locality } = of!.loadBalancing!;
      return `${LoadBalancing_Algorithm[algorithm]} ${panicPercent}${locality === undefined ? '' : ' near'}`;
    });

  test('of a subset, which inherits it, as it does the other way round', () => {
    const hashed = 'loadBalancer: {consistentHash: {httpHeaderName: x}}';
    expect(found(rule(`{host: reviews, trafficPolicy: {${hashed}}, ${subset(detects)}}`))).toEqual(['RING_HASH 0', 'RING_HASH 30 near']);
    expect(found(rule(`{host: reviews, trafficPolicy: {${detects}}, ${subset(hashed)}}`))).toEqual([
      'UNSPECIFIED 30 near',
      'RING_HASH 30 near',
    ]);
    const placed = 'loadBalancer: {simple: RANDOM, localityLbSetting: {enabled: false}}';
    expect(found(rule(`{host: reviews, trafficPolicy: {${placed}}, ${subset(detects)}}`))).toEqual(['RANDOM 0', 'RANDOM 30']);
  });

  test('of a subset or a port, where a TrafficPolicy says it', () => {
    expect(found(policy('{type: PeakEWMA}'), rule(`{host: reviews, ${subset(detects)}}`))).toEqual(['PEAK_EWMA 0', 'PEAK_EWMA 30']);
    const port = `portLevelSettings: [{port: {number: 90}, ${detects}}]`;
    expect(found(policy('{type: PeakEWMA, panicThreshold: 50}'), rule(`{host: reviews, trafficPolicy: {${port}}}`))).toEqual([
      'PEAK_EWMA 50',
      'PEAK_EWMA 50',
    ]);
  });

  test('of a Service with an affinity of its own', () => {
    const sticky = SERVICE.replace('spec: {', 'spec: {sessionAffinity: ClientIP, ');
    const { resources } = compileModel({ objects: stored(sticky, rule(`{host: reviews, trafficPolicy: {${detects}}}`)), running: null });
    const { policies } = resources.find(({ type }) => type === ResourceType.SERVICE)!.message as Service;
    expect(policies[0]!.policy!.loadBalancing).toMatchObject({ algorithm: LoadBalancing_Algorithm.RING_HASH, panicPercent: 30 });
  });

  test('of a TrafficPolicy: its minHealthPercent is a threshold too', () => {
    const own = (spec: string) => policy('X').replace('loadBalancer: X', spec);
    expect(found(own(detects))).toEqual(['UNSPECIFIED 30']);
    expect(found(own(`loadBalancer: {type: Random}, ${detects}`))).toEqual(['RANDOM 30']);
    expect(found(own(`loadBalancer: {type: Random, panicThreshold: 40}, ${detects}`))).toEqual(['RANDOM 40']);
  });
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
  const found = (compileModel({ objects: stored(near), running: null }).resources[0]!.message as Service).policies;
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
  const both = compileModel({ objects: stored(near, policy('{type: Random}')), running: null }).resources[0]!.message as Service;
  expect(inWords(both.policies)).toEqual(['0  RANDOM']);
});

test('a rule that changes is compiled anew, and one that stands still is not', () => {
  const memo = new CompileMemo();
  const before = stored(SERVICE, rule('{host: reviews, trafficPolicy: {loadBalancer: {simple: RANDOM}}}'));
  const after = [before[0]!, stored(SERVICE, rule('{host: reviews, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}'))[1]!];
  const messageOf = (objects: typeof before) => compileModel({ objects, running: null }, memo).resources[0]!.message as Service;
  const first = messageOf(before);
  expect(messageOf(before)).toBe(first);
  expect(inWords(messageOf(after).policies)).toEqual(['0  ROUND_ROBIN']);
});

describe('for a client', () => {
  const HOST = 'host: reviews.shop.svc.cluster.local';
  const of = (simple: string, more = ''): string =>
    `{${HOST}, trafficPolicy: {loadBalancer: {simple: ${simple}}}${more === '' ? '' : `, ${more}`}}`;
  const compiled = (...documents: string[]) => {
    const { resources, problems } = compileModel({ objects: stored(SERVICE, ...documents), running: null });
    const { policies, consumers } = resources.find(({ type }) => type === ResourceType.SERVICE)!.message as Service;
    const told = consumers.map((each) => [each.namespace, ...Object.values(each.labels), ':', ...inWords(each.policies)].join(' '));
    return { all: inWords(policies), consumers: told, problems: problems.map(({ path, message }) => `${path}: ${message}`) };
  };

  test('rules of its own namespace come first, then of the service’s, then of the root’s, each for those that see it', () => {
    const root = rule(of('RANDOM'), 'istio-system', 'root');
    const narrow = rule(of('ROUND_ROBIN', 'exportTo: [., bank]'), 'shop', 'service');
    const own = rule(of('LEAST_REQUEST'), 'games', 'own');
    expect(compiled(root, narrow, own)).toEqual({
      all: ['0  RANDOM'],
      consumers: ['bank : 0  ROUND_ROBIN', 'games : 0  LEAST_REQUEST', 'shop : 0  ROUND_ROBIN'],
      problems: [],
    });
    expect(compiled(root, rule(of('ROUND_ROBIN'), 'shop', 'service'), own)).toMatchObject({
      all: ['0  ROUND_ROBIN'],
      consumers: ['games : 0  LEAST_REQUEST'],
    });
  });

  test('a rule of its namespace hides all others, whatever it says; one that it does not see hides nothing', () => {
    const service = rule(of('RANDOM'), 'shop', 'service');
    const empty = rule(`{${HOST}, subsets: [{name: v1, labels: {version: v1}}]}`, 'bank', 'own');
    expect(compiled(service, empty).consumers).toEqual(['bank :']);
    expect(compiled(service, rule(of('ROUND_ROBIN', 'exportTo: [games]'), 'bank', 'own')).consumers).toEqual([]);
  });

  test('a rule that selects workloads is for these, and for no namespace but its own', () => {
    const selecting = rule(of('ROUND_ROBIN', 'workloadSelector: {matchLabels: {app: cart}}'), 'bank', 'selecting');
    expect(compiled(rule(of('RANDOM')), selecting)).toEqual({
      all: ['0  RANDOM'],
      consumers: ['bank cart : 0  ROUND_ROBIN'],
      problems: [],
    });
    const both = [selecting, rule(of('LEAST_REQUEST'), 'bank', 'others')];
    expect(compiled(rule(of('RANDOM')), ...both).consumers).toEqual(['bank cart : 0  ROUND_ROBIN', 'bank : 0  LEAST_REQUEST']);
  });

  test('one that no client can come to is told, and so is what only a rule for all says', () => {
    const shadowed = [rule(of('RANDOM')), rule(of('ROUND_ROBIN', 'exportTo: [shop]'), 'istio-system', 'root')];
    expect(compiled(...shadowed).problems).toEqual([
      'spec.trafficPolicy: every client has another rule that comes before it: this one has no effect',
    ]);
    const proxied = rule(`{${HOST}, trafficPolicy: {proxyProtocol: {version: V1}}, exportTo: [bank]}`);
    expect(compiled(proxied).problems).toEqual([
      'spec.trafficPolicy.proxyProtocol: only a rule that is for all clients says it: it has no effect',
    ]);
  });
});

test('the PROXY protocol is that of the rule in force; a subset has none of its own', () => {
  const said = (...specs: string[]) => {
    const documents = specs.map((spec, index) => rule(`{host: reviews.shop.svc.cluster.local, ${spec}}`, 'shop', `r${index}`));
    const { resources, problems } = compileModel({ objects: stored(SERVICE, ...documents), running: null });
    const { proxyProtocol } = resources.find(({ type }) => type === ResourceType.SERVICE)!.message as Service;
    return [proxyProtocol, ...problems.map(({ path }) => path)];
  };
  const proxied = 'trafficPolicy: {proxyProtocol: {version: V2}}';
  expect(said(proxied)).toEqual([ProxyProtocol.V2]);
  expect(said('trafficPolicy: {loadBalancer: {simple: RANDOM}}', proxied)).toEqual([ProxyProtocol.UNSPECIFIED, 'spec.trafficPolicy']);
  expect(said(`subsets: [{name: v1, labels: {version: v1}, ${proxied}}]`)).toEqual([
    ProxyProtocol.UNSPECIFIED,
    'spec.subsets[0].trafficPolicy.proxyProtocol',
  ]);
});

describe('TLS of a rule', () => {
  const policiesOfTls = (spec: string, ...more: string[]) => {
    const { resources, problems } = compileModel({ objects: stored(SERVICE, rule(spec), ...more), running: null });
    const { ports, policies, consumers } = resources.find(({ type }) => type === ResourceType.SERVICE)!.message as Service;
    const scopes = [policies, ...consumers.map((each) => each.policies)].flat();
    return {
      ports: ports.map(({ tls }) => tls?.hostname ?? 'plain'),
      scopes: scopes.flatMap(({ port, labels, policy }) =>
        policy?.tls === undefined ? [] : [`${port} ${Object.values(labels)}: ${policy.tls.tls?.hostname ?? 'plain'}`],
      ),
      problems: problems.map(({ path, message }) => `${path}: ${message}`),
    };
  };

  test('of a subset, and of its ports, stands in place of the service’s', () => {
    const found = policiesOfTls(`
  host: reviews
  trafficPolicy: {tls: {mode: SIMPLE, sni: all.test}}
  subsets:
  - {name: v1, labels: {version: v1}, trafficPolicy: {tls: {mode: SIMPLE, sni: one.test}}}
  - {name: v2, labels: {version: v2}, trafficPolicy: {tls: {mode: DISABLE}}}
  - {name: v3, labels: {version: v3}, trafficPolicy: {portLevelSettings: [{port: {number: 90}, tls: {mode: SIMPLE, sni: ninety.test}}]}}
  - {name: v4, labels: {version: v4}, trafficPolicy: {loadBalancer: {simple: RANDOM}}}`);
    expect(found).toEqual({
      ports: ['all.test', 'all.test'],
      scopes: ['80 v1: one.test', '90 v1: one.test', '80 v2: plain', '90 v2: plain', '90 v3: ninety.test'],
      problems: [],
    });
  });

  test('that not everyone sees is for those who do', () => {
    const found = policiesOfTls('{host: reviews, exportTo: [bank], trafficPolicy: {tls: {mode: SIMPLE, sni: bank.test}}}');
    expect(found).toEqual({ ports: ['plain', 'plain'], scopes: ['80 : bank.test', '90 : bank.test'], problems: [] });
  });

  test('that can’t be followed is told where it is said', () => {
    const found = policiesOfTls(`
  host: reviews
  trafficPolicy: {tls: {mode: MUTUAL, credentialName: gone}}
  subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {tls: {mode: SIMPLE, credentialName: gone}}}]`);
    expect(found.problems).toEqual([
      'spec.trafficPolicy.tls.credentialName: no Secret shop/gone: requests to its endpoints are answered 503',
      'spec.subsets[0].trafficPolicy.tls.credentialName: no Secret shop/gone with a CA (key cacert or ca.crt): requests to its endpoints are answered 503',
    ]);
  });
});

test('the subsets of a rule are found from the namespaces that it is exported to', () => {
  const problemsOf = (exportTo: string): string[] => {
    const subsets = rule(`{host: reviews, subsets: [{name: v1, labels: {version: v1}}], exportTo: [${exportTo}]}`);
    const route = `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: bank}
spec: {hosts: [reviews.shop.svc.cluster.local], http: [{route: [{destination: {host: reviews.shop.svc.cluster.local, subset: v1}}]}]}`;
    return compileModel({ objects: stored(SERVICE, subsets, route), running: null }).problems.map(({ message }) => message);
  };
  expect(problemsOf('bank')).toEqual([]);
  expect(problemsOf('.')).toEqual([
    'no DestinationRule for reviews.shop.svc.cluster.local has a subset v1: its share answers 500',
    'no DestinationRule for reviews.shop.svc.cluster.local has a subset v1: its share answers 500',
  ]);
});
