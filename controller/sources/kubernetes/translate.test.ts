import { describe, expect, test } from '@jest/globals';
import { formatFinding, validateObject } from '../../../api/resources/index.js';
import { objectOf } from './object.js';
import { referencesOfGateway, referencesOfPolicy, referencesOfRule } from './references.js';
import { RESOURCE_TYPES, sourceObject } from './resource-types.js';

/** What is stored of an object of that collection, and what a compilation says of it. */
function stored(plural: string, body: Record<string, unknown>, metadata = {}) {
  const type = RESOURCE_TYPES.find((each) => each.plural === plural)!;
  const object = objectOf({
    metadata: { name: 'a', namespace: 'shop', uid: 'u-1', creationTimestamp: '2026-01-02T03:04:05Z', ...metadata },
    ...body,
  });
  const source = sourceObject(type, type.versions[0]!, object!);
  if (source === null) return null;
  const result = validateObject(source.manifest);
  return { ...source, findings: result.ok ? [] : result.findings.map(formatFinding) };
}

describe('a Service', () => {
  test('keeps what Weft reads; what it has not yet is left out, not the Service', () => {
    const found = stored('services', {
      spec: {
        type: 'LoadBalancer',
        clusterIP: 'fd00::1',
        clusterIPs: ['fd00::1', '10.0.0.1'],
        ipFamilies: ['IPv6', 'IPv4'],
        ipFamilyPolicy: 'RequireDualStack',
        selector: { app: 'a' },
        sessionAffinity: 'ClientIP',
        sessionAffinityConfig: { clientIP: { timeoutSeconds: 10_800 } },
        trafficDistribution: 'PreferSameZone',
        internalTrafficPolicy: 'Local',
        externalIPs: ['1.2.3.4'],
        ports: [
          { name: 'http', protocol: 'TCP', port: 80, targetPort: 'web', nodePort: 30_000, appProtocol: 'example.com/own' },
          { name: 'dns', protocol: 'UDP', port: 53, targetPort: 53 },
        ],
      },
      status: { loadBalancer: {} },
    });
    expect(found).toMatchObject({ findings: [], createdAtMs: Date.parse('2026-01-02T03:04:05Z') });
    expect(found?.manifest).toEqual({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'a', namespace: 'shop' },
      spec: {
        type: 'LoadBalancer',
        clusterIP: 'fd00::1',
        clusterIPs: ['fd00::1', '10.0.0.1'],
        ipFamilies: ['IPv6', 'IPv4'],
        selector: { app: 'a' },
        sessionAffinity: 'ClientIP',
        trafficDistribution: 'PreferSameZone',
        ports: [
          { name: 'http', protocol: 'TCP', port: 80, targetPort: 'web' },
          { name: 'dns', protocol: 'UDP', port: 53, targetPort: 53 },
        ],
      },
    });
  });

  test('is balanced as it says of itself; what a newer Kubernetes calls it is no reason to leave it out', () => {
    const annotations = { 'networking.istio.io/traffic-distribution': 'PreferClose', other: 'x' };
    const ports = [{ port: 80 }];
    const found = stored('services', { spec: { sessionAffinity: 'None', trafficDistribution: 'PreferMoon', ports } }, { annotations });
    expect(found?.findings).toEqual([]);
    expect(found?.manifest).toEqual({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'a', namespace: 'shop', annotations: { 'networking.istio.io/traffic-distribution': 'PreferClose' } },
      spec: { type: 'ClusterIP', ports },
    });
  });

  test('without a selector, headless, and of type ExternalName', () => {
    expect(stored('services', { spec: { clusterIP: 'None', ports: null } })?.findings).toEqual([]);
    expect(stored('services', { spec: { type: 'ExternalName', externalName: 'x.example' } })).toBeNull();
  });
});

describe('an EndpointSlice', () => {
  const labels = { 'kubernetes.io/service-name': 's', 'x/y': 'z' };
  const of = (body: object) => stored('endpointslices', { addressType: 'IPv4', ports: [], ...body }, { labels });

  test('keeps addresses, conditions, node, zone, and which pod it is', () => {
    const found = of({
      ports: [{ name: '', protocol: 'TCP', port: 80, appProtocol: 'http' }, { name: 'all' }],
      endpoints: [
        {
          addresses: ['10.0.0.1'],
          conditions: { ready: null, serving: true, terminating: false },
          nodeName: 'n',
          zone: 'z',
          hints: { forZones: [{ name: 'z' }] },
          targetRef: { kind: 'Pod', namespace: 'shop', name: 'p', uid: 'x' },
        },
        { addresses: ['10.0.0.2'], targetRef: { kind: 'Node', name: 'n' } },
        { addresses: [] },
      ],
    });
    expect(found?.findings).toEqual([]);
    expect(found?.manifest).toMatchObject({
      metadata: { labels: { 'kubernetes.io/service-name': 's' } },
      ports: [{ name: '', protocol: 'TCP', port: 80 }],
      endpoints: [
        {
          addresses: ['10.0.0.1'],
          conditions: { serving: true, terminating: false },
          nodeName: 'n',
          zone: 'z',
          targetRef: { kind: 'Pod', namespace: 'shop', name: 'p' },
        },
        { addresses: ['10.0.0.2'] },
      ],
    });
  });

  test('has the weight of its label; one that is no weight is no reason to leave its endpoints out', () => {
    const weight = (value: string) =>
      stored('endpointslices', { addressType: 'IPv4' }, { labels: { ...labels, 'mesh.weft.dev/weight': value } });
    expect(weight('5')).toMatchObject({ manifest: { metadata: { labels: { 'mesh.weft.dev/weight': '5' } } } });
    expect(weight('much')).toMatchObject({ findings: [], manifest: { metadata: { labels: { 'kubernetes.io/service-name': 's' } } } });
  });

  test('of names, or of no service, is of no use', () => {
    expect(of({ addressType: 'FQDN' })).toBeNull();
    expect(stored('endpointslices', { addressType: 'IPv4' })).toBeNull();
    expect(of({ endpoints: null, ports: null })?.findings).toEqual([]);
  });
});

describe('a Pod', () => {
  const spec = { nodeName: 'n', serviceAccountName: 'sa', containers: [] };
  const of = (more: object, status = {}) =>
    stored('pods', { spec: { ...spec, ...more }, status: { phase: 'Running', podIP: '10.0.0.1', ...status } });

  test('is a Workload that is found by its UID; of two ports of a name the first counts', () => {
    const containers = [
      { ports: [{ containerPort: 9_000 }, { name: 'web', containerPort: 80 }, { name: 'dns', containerPort: 53, protocol: 'UDP' }] },
      { ports: [{ name: 'web', containerPort: 81 }] },
    ];
    const found = of(
      { containers, initContainers: [{ ports: [{ name: 'side', containerPort: 82 }] }] },
      { podIPs: [{ ip: '10.0.0.1' }, { ip: 'fd00::1' }] },
    );
    expect(found).toMatchObject({ ref: { kind: 'Workload', namespace: 'shop', name: 'a' }, findings: [] });
    expect(found?.manifest).toMatchObject({
      apiVersion: 'mesh.weft.dev/v1',
      spec: {
        node: 'n',
        podUID: 'u-1',
        addresses: ['10.0.0.1', 'fd00::1'],
        serviceAccount: 'sa',
        ports: [
          { name: 'web', port: 80 },
          { name: 'side', port: 82 },
        ],
      },
    });
  });

  test('from a file of kubelet’s is called by the hash that its cgroup has', () => {
    const annotations = { 'kubernetes.io/config.mirror': '0123456789abcdef0123456789abcdef' };
    expect(stored('pods', { spec, status: {} }, { annotations })?.manifest).toMatchObject({
      spec: { podUID: annotations['kubernetes.io/config.mirror'] },
    });
  });

  test('may say how it is to be captured; what can’t be read is a mistake of its Workload', () => {
    const captured = (text: string) => stored('pods', { spec, status: {} }, { annotations: { 'mesh.weft.dev/capture-options': text } });
    expect(captured('{"failClosed": true, "excludeOutboundPorts": [25]}')).toMatchObject({
      findings: [],
      manifest: { spec: { capture: { failClosed: true, excludeOutboundPorts: [25] } } },
    });
    expect(captured('{"failClosed"')?.findings).toEqual([expect.stringMatching(/^spec\.capture: .*expected an object/)]);
    expect(captured('{"failclosed": true}')?.findings).toEqual(['spec.capture.failclosed: unknown field; did you mean failClosed?']);
  });

  test('that has no address yet is known to its node all the same', () => {
    expect(of({}, { phase: 'Pending', podIP: undefined })?.manifest).toMatchObject({ spec: { node: 'n', addresses: [] } });
  });

  test.each([
    ['not on a node yet', { nodeName: undefined }, {}],
    ['of the host’s network', { hostNetwork: true }, {}],
    ['that has ended', {}, { phase: 'Succeeded' }],
    ['that has failed', {}, { phase: 'Failed' }],
  ])('%s is none', (_, more, status) => {
    expect(of(more, status)).toBeNull();
  });
});

test('Nodes and Namespaces are their labels, wherever the server says they are', () => {
  const metadata = { namespace: undefined, labels: { 'topology.kubernetes.io/zone': 'z', 'mesh.weft.dev/capture': 'enabled' } };
  expect(stored('nodes', { spec: { podCIDR: 'x' } }, metadata)).toMatchObject({
    findings: [],
    manifest: { metadata: { labels: { 'topology.kubernetes.io/zone': 'z' } } },
  });
  expect(stored('namespaces', {}, metadata)).toMatchObject({
    findings: [],
    ref: { namespace: 'default' },
    manifest: { metadata: { labels: { 'mesh.weft.dev/capture': 'enabled' } } },
  });
});

test('custom resources are kept whole but for what the server owns, so that a mistake is told', () => {
  const found = stored(
    'httproutes',
    { spec: { rules: [{ retries: {} }] }, status: { parents: [] } },
    { managedFields: [{}], annotations: { a: 'b' } },
  );
  expect(found?.manifest).toEqual({
    apiVersion: 'gateway.networking.k8s.io/v1',
    kind: 'HTTPRoute',
    metadata: { name: 'a', namespace: 'shop' },
    spec: { rules: [{ retries: {} }] },
  });
  expect(found?.findings).toEqual(['spec.rules[0].retries: unknown field']);
});

test('objects without a name that could be one are none', () => {
  for (const name of [undefined, '', 'a/b', '..', 'x'.repeat(300)]) expect(objectOf({ metadata: { name } })).toBeNull();
  for (const value of [null, [], 'x', {}]) expect(objectOf(value)).toBeNull();
});

test('Secrets and ConfigMaps are found wherever a Gateway or a policy names them, and nothing else is', () => {
  const certificateRefs = [
    { name: 'one' },
    { kind: 'Secret', namespace: 'other', name: 'two' },
    { kind: 'Vault', name: 'three' },
    { name: '../x' },
  ];
  const validation = {
    caCertificateRefs: [
      { group: '', kind: 'ConfigMap', name: 'ca' },
      { kind: 'Secret', name: 'four' },
    ],
  };
  const spec = {
    listeners: [{ tls: { certificateRefs } }, { tls: null }, 'x'],
    tls: { backend: { clientCertificateRef: { name: 'five' } }, frontend: { default: { validation }, perPort: [{ tls: { validation } }] } },
  };
  const names = referencesOfGateway('shop', { spec }).map(({ kind, namespace, name }) => `${kind}/${namespace}/${name}`);
  expect([...new Set(names)]).toEqual(['Secret/shop/one', 'Secret/other/two', 'Secret/shop/five', 'ConfigMap/shop/ca']);
  expect(referencesOfPolicy('shop', { spec: { validation } })).toEqual([{ kind: 'ConfigMap', namespace: 'shop', name: 'ca' }]);
});

test('Secrets are found wherever a DestinationRule names them for TLS, with those of their authorities', () => {
  const tls = (credentialName: unknown, mode = 'SIMPLE') => ({ tls: { mode, credentialName } });
  const spec = {
    trafficPolicy: { ...tls('one', 'MUTUAL'), portLevelSettings: [tls('two'), tls(7), tls(''), {}] },
    subsets: [{ trafficPolicy: { ...tls('three'), portLevelSettings: [tls('four')] } }, { trafficPolicy: tls('five', 'DISABLE') }, {}],
  };
  const names = referencesOfRule('shop', { spec }).map(({ kind, namespace, name }) => `${kind}/${namespace}/${name}`);
  expect(names).toEqual(['one', 'two', 'three', 'four'].flatMap((name) => [`Secret/shop/${name}`, `Secret/shop/${name}-cacert`]));
});
