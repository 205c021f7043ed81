// The controller over real etcd and a server that speaks the Kubernetes API: from the cluster's objects to what nodes are told.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, expect, test } from '@jest/globals';
import { pino } from 'pino';
import type { DeleteResponse, GetResponse } from '../../api/gen/mesh/v1/admin.js';
import { EndpointHealth, Listener, ResourceType, type Service, Workload } from '../../api/gen/mesh/v1/model.js';
import { systemClock } from '../../controller/clock.js';
import { LatestModel } from '../../controller/compile/latest-model.js';
import { ControllerMetrics } from '../../controller/metrics.js';
import { kubeconfigAccess } from '../../controller/sources/kubernetes/cluster-access.js';
import { kubernetesReader } from '../../controller/sources/kubernetes/kubernetes-reader.js';
import { startIngestion } from '../../controller/sources/source-ingestion.js';
import { EtcdClient } from '../../controller/store/etcd-client.js';
import { Keyspace } from '../../controller/store/keys.js';
import { Leases } from '../../controller/store/lease.js';
import { StoreView } from '../../controller/store/view.js';
import { Certificates, secretManifest } from '../lab/certificates.js';
import { closesAfterEach } from '../lab/closing.js';
import { startEtcd, type TestEtcd } from '../lab/etcd.js';
import { eventually } from '../lab/eventually.js';
import { type ApiObject, KubernetesApi, type ResourceDefinition } from '../lab/kubernetes-api.js';
import { apply, ask, serviceYaml, startTestController, type TestController, TestNode } from './controller-lab.js';

const SLICES: ResourceDefinition = {
  groupVersion: 'discovery.k8s.io/v1',
  plural: 'endpointslices',
  kind: 'EndpointSlice',
  namespaced: true,
};
const gatewayApi = (plural: string, kind: string, namespaced = true): ResourceDefinition => ({
  groupVersion: 'gateway.networking.k8s.io/v1',
  plural,
  kind,
  namespaced,
});
const ROUTES = gatewayApi('httproutes', 'HTTPRoute');
const GATEWAYS = gatewayApi('gateways', 'Gateway');
const CLASSES = gatewayApi('gatewayclasses', 'GatewayClass', false);
const TOKEN = 'first-token';

const folder = mkdtempSync(join(tmpdir(), 'wkube-'));
const certificates = new Certificates();
const authority = certificates.authority('cluster');
const server = certificates.issue(authority, 'IP:127.0.0.1');
let etcd: TestEtcd;
let api: KubernetesApi;
let kubeconfig: string;
const closing = closesAfterEach();

beforeEach(async () => {
  etcd = await startEtcd();
  api = await KubernetesApi.start({ tls: server, tokens: [TOKEN] });
  kubeconfig = writeKubeconfig(api.url, authority.certFile);
  closing.push(
    () => etcd.stop(),
    () => api.stop(),
  );
});

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
  certificates.remove();
});

function writeKubeconfig(url: string, ca: string): string {
  writeFileSync(join(folder, 'token'), `${TOKEN}\n`);
  const file = join(folder, 'kubeconfig');
  writeFileSync(
    file,
    `apiVersion: v1
kind: Config
current-context: test
clusters: [{name: c, cluster: {server: "${url}/", certificate-authority: ${ca}}}]
users: [{name: u, user: {tokenFile: token}}]
contexts: [{name: test, context: {cluster: c, user: u}}]
`,
  );
  return file;
}

async function controller(): Promise<TestController> {
  const started = await startTestController(etcd.endpoint, { kubernetes: kubeconfig });
  closing.push(() => started.stop());
  return started;
}

/** A replica's ingestion alone, that looks for new resources every 50 ms. */
function ingestion(): void {
  const found = kubeconfigAccess(kubeconfig, null, () => performance.now());
  if (found.kind === 'fault') throw new Error(found.message);
  const client = new EtcdClient({ endpoints: [etcd.endpoint] });
  const keys = new Keyspace('/weft');
  const leases = new Leases(client, systemClock);
  const view = new StoreView(client, keys, systemClock, { state: () => {}, unreadable: () => {} });
  view.start();
  const { sources: metrics } = new ControllerMetrics();
  const log = pino({ level: 'silent' });
  const context = { client, leases, view, keys, clock: systemClock, ttlMs: 2_000, metrics, log };
  const times = { discoveryMs: 50, discoveryRetryMs: 50, listWatch: { firstRetryMs: 10, lastRetryMs: 100 } };
  const stop = startIngestion(context, kubernetesReader({ ...context, access: found.access, latest: new LatestModel(), times }));
  closing.push(async () => {
    await stop();
    leases.close();
    view.stop();
    client.close();
  });
}

/** What a node is told, decoded. */
class Node extends TestNode {
  constructor(at: TestController) {
    super(at.address, 'n1');
    closing.push(() => this.close());
  }

  service(name: string): Service | undefined {
    return this.services().find((service) => service.name === name);
  }

  workload(name: string): Workload | undefined {
    return this.bodies(ResourceType.WORKLOAD, Workload.decode).find((workload) => workload.name === name);
  }

  listeners(): Listener[] {
    return this.bodies(ResourceType.LISTENER, Listener.decode);
  }
}

function namespaced(name: string, fields: Record<string, unknown>, metadata = {}): ApiObject {
  return { metadata: { name, namespace: 'shop', ...metadata }, ...fields };
}

function pod(name: string, ip: string, spec = {}, metadata = {}): ApiObject {
  const containers = [{ name: 'app', image: 'x', ports: [{ name: 'web', containerPort: 8080, protocol: 'TCP' }] }];
  return namespaced(
    name,
    {
      spec: { nodeName: 'n1', serviceAccountName: 'catalog', containers, tolerations: [], ...spec },
      status: { phase: 'Running', podIP: ip, podIPs: [{ ip }] },
    },
    { uid: `uid-${name}`, labels: { app: 'catalog' }, ...metadata },
  );
}

function catalog(spec = {}): ApiObject {
  const ports = [{ name: 'http', protocol: 'TCP', port: 80, targetPort: 'web', nodePort: 30_080 }];
  return namespaced('catalog', {
    spec: {
      type: 'NodePort',
      clusterIP: '10.96.0.20',
      clusterIPs: ['10.96.0.20'],
      sessionAffinity: 'ClientIP',
      selector: { app: 'catalog' },
      ports,
      ...spec,
    },
  });
}

function slice(endpoints: readonly object[]): ApiObject {
  return namespaced(
    'catalog-x1',
    { addressType: 'IPv4', ports: [{ name: 'http', protocol: 'TCP', port: 8080 }], endpoints },
    { labels: { 'kubernetes.io/service-name': 'catalog', 'endpointslice.kubernetes.io/managed-by': 'x' } },
  );
}

test('services, endpoints and pods reach the nodes, and so do their changes', async () => {
  api.serve(SLICES);
  api.put('v1/namespaces', { metadata: { name: 'shop', labels: { 'mesh.weft.dev/capture': 'enabled' } } });
  api.put('v1/nodes', { metadata: { name: 'n1', labels: { 'topology.kubernetes.io/zone': 'east' } }, status: { addresses: [] } });
  api.put('v1/services', catalog());
  api.put('v1/services', namespaced('elsewhere', { spec: { type: 'ExternalName', externalName: 'a.example' } }));
  api.put('v1/pods', pod('catalog-1', '10.1.0.1'));
  api.put('v1/pods', pod('agent', '192.168.0.1', { hostNetwork: true }));
  api.put('v1/pods', pod('quiet', '10.1.0.9', {}, { labels: { 'mesh.weft.dev/capture': 'disabled' } }));
  const endpoint = (ip: string, ready: boolean) => ({
    addresses: [ip],
    conditions: { ready, serving: ready, terminating: false },
    nodeName: 'n1',
    targetRef: { kind: 'Pod', namespace: 'shop', name: 'catalog-1', uid: 'x' },
  });
  api.put('discovery.k8s.io/v1/endpointslices', slice([endpoint('10.1.0.1', false)]));
  const node = new Node(await controller());
  await node.until('all', () => node.endpoints().length === 1 && node.workload('quiet') !== undefined);
  expect(node.service('catalog')).toMatchObject({ addresses: ['10.96.0.20'], ports: [{ name: 'http', port: 80 }] });
  expect(node.service('elsewhere')).toBeUndefined();
  // Its agent says that it runs; whether it is ready its slice says.
  expect(node.endpoints()).toEqual([
    expect.objectContaining({
      address: '10.1.0.1',
      zone: 'east',
      node: 'n1',
      workload: 'shop/catalog-1',
      health: EndpointHealth.UNHEALTHY,
    }),
  ]);
  expect(node.workload('catalog-1')).toMatchObject({
    node: 'n1',
    podUid: 'uid-catalog-1',
    addresses: ['10.1.0.1'],
    serviceAccount: 'catalog',
    ports: [{ name: 'web', port: 8080 }],
    capture: { outbound: true, inbound: true },
  });
  expect(node.workload('quiet')).toMatchObject({ capture: { outbound: false, inbound: false } });
  expect(node.workload('agent')).toBeUndefined();

  api.put('discovery.k8s.io/v1/endpointslices', slice([endpoint('10.1.0.1', true), endpoint('10.1.0.2', true)]));
  await node.until('the other endpoint', () => node.endpoints().length === 2);
  expect(node.endpoints()[0]?.health).toBe(EndpointHealth.READY);
  api.put('v1/namespaces', { metadata: { name: 'shop' } });
  await node.until('no capture', () => node.workload('catalog-1')?.capture?.outbound === false);
  api.delete('v1/pods', 'shop/catalog-1');
  api.delete('v1/services', 'shop/catalog');
  await node.until('nothing of it', () => node.workload('catalog-1') === undefined && node.service('catalog') === undefined);
});

test('endpoint slices of a cluster before 1.21 are read as v1beta1, with node and zone from their topology', async () => {
  api.serve({ ...SLICES, groupVersion: 'discovery.k8s.io/v1beta1' });
  api.put('v1/services', catalog());
  const topology = { 'kubernetes.io/hostname': 'n7', 'topology.kubernetes.io/zone': 'west' };
  api.put('discovery.k8s.io/v1beta1/endpointslices', slice([{ addresses: ['10.1.0.1'], conditions: { ready: true }, topology }]));
  const node = new Node(await controller());
  await node.until('the endpoint', () => node.endpoints().length === 1);
  expect(node.endpoints()[0]).toMatchObject({ address: '10.1.0.1', node: 'n7', zone: 'west', health: EndpointHealth.READY });
});

test('of two replicas one reads the cluster; when it stops the other one goes on, and nothing flickers', async () => {
  api.put('v1/services', catalog());
  const one = await controller();
  const node = new Node(one);
  await node.until('the service', () => node.service('catalog') !== undefined);
  const two = await controller();
  const other = new Node(two);
  await other.until('the service', () => other.service('catalog') !== undefined);
  const watches = api.openWatches;
  expect(two.logs.some((line) => line.includes('this replica reads'))).toBe(false);
  await one.stop();
  await api.until('the watches of the other', () => api.openWatches === watches);
  api.put('v1/services', catalog({ clusterIP: '10.96.0.21', clusterIPs: ['10.96.0.21'] }));
  await other.until('the change', () => other.service('catalog')?.addresses[0] === '10.96.0.21');
  expect(other.responses.flatMap(({ removed }) => removed)).toEqual([]);
});

test('a replaced token is read again, and a refusal names what to check', async () => {
  const at = await controller();
  const node = new Node(at);
  await api.until('the watches', () => api.openWatches >= 5);
  writeFileSync(join(folder, 'token'), 'second-token');
  api.accept('second-token');
  api.cut();
  api.put('v1/services', catalog());
  await node.until('the service', () => node.service('catalog') !== undefined);
  expect(api.requests.at(-1)?.headers.authorization).toBe('Bearer second-token');
  expect(at.logs.filter((line) => line.includes('refused'))).toEqual([]);
});

test('a collection that may not be read is told with the role to check, the others are followed, and nothing is deleted', async () => {
  api.put('v1/services', catalog());
  api.put('v1/pods', pod('catalog-1', '10.1.0.1'));
  const one = await controller();
  const before = new Node(one);
  await before.until('both', () => before.workload('catalog-1') !== undefined && before.service('catalog') !== undefined);
  before.close();
  await one.stop();
  api.deny('v1/pods');
  const asked = api.requests.length;
  api.delete('v1/services', 'shop/catalog');
  const two = await controller();
  const node = new Node(two);
  await node.until('no service', () => node.responses.length > 0 && node.service('catalog') === undefined);
  expect(node.workload('catalog-1')).toBeDefined();
  await api.until('another try', () => api.requests.slice(asked).filter(({ path }) => path === '/api/v1/pods').length > 1);
  expect(two.logs.find((line) => line.includes('"path":"/api/v1/pods"'))).toContain('ClusterRole');
});

test('custom resources are read when their definitions are installed, and their objects go with them', async () => {
  api.put('v1/services', catalog());
  ingestion();
  const at = await startTestController(etcd.endpoint);
  closing.push(() => at.stop());
  const node = new Node(at);
  await node.until('the service', () => node.service('catalog') !== undefined);
  api.serve(ROUTES);
  const parentRefs = [{ group: '', kind: 'Service', name: 'catalog' }];
  const route = namespaced('catalog', {
    spec: { parentRefs, rules: [{ backendRefs: [{ group: '', kind: 'Service', name: 'catalog', port: 80, weight: 1 }] }] },
  });
  api.put('gateway.networking.k8s.io/v1/httproutes', route);
  await node.until('the route', () => node.named(ResourceType.HTTP_ROUTE).length === 1);
  api.unserve('gateway.networking.k8s.io/v1', 'httproutes');
  await node.until('no route', () => node.named(ResourceType.HTTP_ROUTE).length === 0);
});

test('the leader writes what it says of routes into their status, once, and beside what others say', async () => {
  for (const definition of [ROUTES, GATEWAYS, CLASSES]) api.serve(definition);
  const routes = 'gateway.networking.k8s.io/v1/httproutes';
  const theirs = { parentRef: { name: 'theirs' }, controllerName: 'other.dev/x', conditions: [] };
  const route = (port: number, status: object): ApiObject =>
    namespaced('catalog', {
      spec: {
        parentRefs: [{ name: 'theirs' }, { group: '', kind: 'Service', name: 'catalog' }],
        rules: [{ backendRefs: [{ name: 'catalog', port }] }],
      },
      status,
    });
  api.put('v1/services', catalog());
  api.put(routes, route(80, { parents: [theirs] }));
  await controller();
  const two = await controller();
  type Parent = { controllerName: string; conditions: { type: string; status: string; reason: string; observedGeneration: number }[] };
  const parents = (): Parent[] => (api.get(routes, 'shop/catalog')!.status as { parents: Parent[] }).parents;
  const told = (): string => (parents()[1]?.conditions ?? []).map(({ type, status }) => `${type}=${status}`).join();
  await api.until('the status', () => told() === 'Accepted=True,ResolvedRefs=True');
  expect(parents()[0]).toEqual(theirs);
  expect(parents()[1]).toMatchObject({ controllerName: 'weft.dev/gateway', conditions: [{ observedGeneration: 1 }, {}] });
  const patches = () => api.requests.filter(({ method }) => method === 'PATCH');
  // Another revision, which says the same of it.
  const node = new Node(two);
  await node.until('the service', () => node.service('catalog') !== undefined);
  api.put('v1/services', catalog({ clusterIP: '10.96.0.21', clusterIPs: ['10.96.0.21'] }));
  await node.until('the change', () => node.service('catalog')?.addresses[0] === '10.96.0.21');
  api.put(routes, route(81, { parents: [parents()[1]!] }));
  await api.until('the other status', () => told() === '' && parents()[0]?.conditions[1]?.status === 'False');
  expect(parents()[0]?.conditions[1]).toMatchObject({ reason: 'BackendNotFound', observedGeneration: 2 });
  // Time in which what is written without need would be.
  api.put(routes, { ...route(80, { parents: [] }), metadata: { name: 'later', namespace: 'shop' } });
  await api.until('the status of a later one', () => patches().some(({ path }) => path.includes('later')));
  const path = '/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/catalog/status';
  expect(patches().filter((patch) => patch.path === path)).toHaveLength(2);
});

test('Gateways of Weft’s classes are read, with the Secrets they name and no others', async () => {
  for (const definition of [GATEWAYS, CLASSES]) api.serve(definition);
  const gatewayClass = (name: string, controllerName: string): ApiObject => ({ metadata: { name }, spec: { controllerName } });
  const gateway = (name: string, gatewayClassName: string): ApiObject =>
    namespaced(name, {
      spec: {
        gatewayClassName,
        listeners: [
          { name: 'web', port: 443, protocol: 'HTTPS', tls: { mode: 'Terminate', certificateRefs: [{ group: '', kind: 'Secret', name }] } },
        ],
      },
    });
  const secret = (name: string): ApiObject => {
    const [, crt = '', key = ''] = /tls.crt: (\S+)\s+tls.key: (\S+)/.exec(secretManifest(name, server)) ?? [];
    return namespaced(name, { type: 'kubernetes.io/tls', data: { 'tls.crt': crt, 'tls.key': key } });
  };
  const at = await controller();
  const node = new Node(at);
  for (const name of ['ours', 'theirs', 'unused']) api.put('v1/secrets', secret(name));
  api.put('gateway.networking.k8s.io/v1/gateways', gateway('ours', 'weft'));
  api.put('gateway.networking.k8s.io/v1/gateways', gateway('theirs', 'other'));
  api.put('gateway.networking.k8s.io/v1/gatewayclasses', gatewayClass('other', 'other.dev/gateway'));
  api.put('gateway.networking.k8s.io/v1/gatewayclasses', gatewayClass('weft', 'weft.dev/gateway'));
  await node.until('the listener with its certificate', () => node.listeners()[0]?.tls?.certificates.length === 1);
  const got = (kind: string) => ask<GetResponse>((done) => at.admin.get({ kind, namespace: '', name: '' }, done));
  const names = async (kind: string): Promise<string[]> =>
    (await got(kind)).objects.map((text) => (JSON.parse(text) as ApiObject).metadata.name);
  expect(await names('gateway')).toEqual(['ours']);
  expect(await names('gatewayclass')).toEqual(['weft']);
  expect(await names('secret')).toEqual(['ours']);
  expect(api.requests.filter(({ path }) => path === '/api/v1/secrets')).toEqual([]);
  api.delete('gateway.networking.k8s.io/v1/gatewayclasses', 'weft');
  await node.until('no listener', () => node.named(ResourceType.LISTENER).length === 0);
});

test('Secrets that the TLS of a DestinationRule names are read, as long as it names them', async () => {
  api.serve({ groupVersion: 'networking.istio.io/v1', plural: 'destinationrules', kind: 'DestinationRule', namespaced: true });
  const at = await controller();
  const secrets = async (): Promise<string> => {
    const { objects } = await ask<GetResponse>((done) => at.admin.get({ kind: 'secret', namespace: '', name: '' }, done));
    return objects.map((text) => (JSON.parse(text) as ApiObject).metadata.name).join();
  };
  for (const name of ['client', 'client-cacert', 'unused']) api.put('v1/secrets', namespaced(name, { type: 'Opaque', data: {} }));
  const rule = (mode: string) => ({ host: 'api.test', trafficPolicy: { tls: { mode, credentialName: 'client' } } });
  api.put('networking.istio.io/v1/destinationrules', namespaced('tls', { spec: rule('MUTUAL') }));
  await eventually(secrets, (names) => names === 'client,client-cacert');
  api.put('networking.istio.io/v1/destinationrules', namespaced('tls', { spec: { host: 'api.test' } }));
  await eventually(secrets, (names) => names === '');
});

test('what is read from the cluster is not changed by apply or delete; what was applied before holds', async () => {
  const at = await startTestController(etcd.endpoint);
  closing.push(() => at.stop());
  const node = new Node(at);
  await node.until('the first model', () => node.responses.length > 0);
  await apply(at, serviceYaml('mine'));
  ingestion();
  api.put('v1/services', catalog());
  api.put('v1/services', { ...catalog(), metadata: { name: 'mine', namespace: 'shop' } });
  await node.until('both', () => node.service('catalog') !== undefined && node.service('mine') !== undefined);
  expect(node.service('mine')?.addresses).toEqual(['10.96.0.10']);
  const applied = await apply(at, serviceYaml('catalog'));
  expect(applied.findings).toEqual([
    expect.objectContaining({ line: 1, path: 'metadata.name', message: 'Service shop/catalog is read from kubernetes: change it there' }),
  ]);
  const remove = (name: string) =>
    ask<DeleteResponse>((done) => at.admin.delete({ objects: [{ kind: 'Service', namespace: 'shop', name }], asOf: 0 }, done));
  await expect(remove('catalog')).rejects.toThrow('change it there');
  await remove('mine');
  await node.until('the cluster’s own', () => node.service('mine')?.addresses[0] === '10.96.0.20');
});
