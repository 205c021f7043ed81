// Proxyless gRPC: the real @grpc/grpc-js-xds client, with the bootstrap file that `weft xds bootstrap` prints, against the real agent and
// controller, calling real gRPC servers. Redirection is off: nothing but xDS leads a call anywhere.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Client, credentials, Metadata, Server, ServerCredentials, type ServiceError, status } from '@grpc/grpc-js';
import { register } from '@grpc/grpc-js-xds';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { RunningAgent } from '../../agent/main.js';
import { AggregatedDiscoveryServiceClient, type DiscoveryResponse } from '../../api/gen/envoy/service/discovery/v3/discovery.js';
import type { WaitResponse } from '../../api/gen/mesh/v1/admin.js';
import { NodeStatusClient, type StatusResponse } from '../../api/gen/mesh/v1/status.js';
import { Condition } from '../lab/condition.js';
import { startEtcd } from '../lab/etcd.js';
import { runWeft } from '../lab/weft-command.js';
import { startTestAgent } from './agent-lab.js';
import { apply, ask, startTestController, type TestController } from './controller-lab.js';

const cleanups: (() => unknown)[] = [];
afterAll(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const asIs = (bytes: Buffer): Buffer => bytes;
const methodOf = (path: string) => ({
  path,
  requestStream: false,
  responseStream: false,
  requestSerialize: asIs,
  requestDeserialize: asIs,
  responseSerialize: asIs,
  responseDeserialize: asIs,
});
const WHO = '/shop.Catalog/Who';
const LIST = '/shop.Catalog/List';
const HANG = '/shop.Catalog/Hang';

interface Backend {
  readonly name: string;
  readonly address: string;
  readonly port: number;
}

/** Says its name to whoever calls. */
async function startBackend(name: string, address: string): Promise<Backend> {
  const server = new Server();
  const say = (_: unknown, done: (error: null, answer: Buffer) => void): void => done(null, Buffer.from(name));
  server.addService({ who: methodOf(WHO), list: methodOf(LIST), hang: methodOf(HANG) }, { who: say, list: say, hang: () => {} });
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync(`${address}:0`, ServerCredentials.createInsecure(), (error, bound) => (error ? reject(error) : resolve(bound))),
  );
  cleanups.push(() => server.forceShutdown());
  return { name, address, port };
}

const service = (name: string): string => `---
apiVersion: v1
kind: Service
metadata: { name: ${name}, namespace: shop }
spec: { clusterIP: None, ports: [{ name: grpc, port: 9080, appProtocol: grpc }] }
`;
const slice = (of: string, { name, address, port }: Backend, { weight = 1, zone = 'z1', ready = true } = {}): string => `---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  { name: ${of}-${name}, namespace: shop, labels: { kubernetes.io/service-name: ${of}, mesh.weft.dev/weight: "${weight}" } }
addressType: IPv4
ports: [{ name: grpc, port: ${port} }]
endpoints: [{ addresses: [${address}], zone: ${zone}, conditions: { ready: ${ready} } }]
`;
const split = (v1: number, v2: number): string => `---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: { name: catalog, namespace: shop }
spec:
  parentRefs: [{ group: "", kind: Service, name: catalog }]
  rules:
    - matches: [{ method: { service: shop.Catalog }, headers: [{ name: x-version, value: v2 }] }]
      backendRefs: [{ name: catalog-v2, port: 9080 }]
    - matches: [{ method: { service: shop.Catalog, method: List } }]
      backendRefs: [{ name: nothing, port: 9080 }]
    - matches: [{ method: { service: shop.Catalog } }]
      backendRefs: [{ name: catalog-v1, port: 9080, weight: ${v1} }, { name: catalog-v2, port: 9080, weight: ${v2} }]
`;

let controller: TestController;
let agent: RunningAgent;
let xds: string;
let v1: Backend;
let v2: Backend;

beforeAll(async () => {
  const folder = mkdtempSync('/dev/shm/wxds-');
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
  const etcd = await startEtcd();
  cleanups.push(() => etcd.stop());
  controller = await startTestController(etcd.endpoint);
  cleanups.push(() => controller.stop());
  xds = `unix:${join(folder, 'xds.sock')}`;
  const places = ['--controller', controller.address, '--run-dir', folder, '--state-dir', folder, '--xds-listen', xds];
  agent = await startTestAgent('--node', 'n1', ...places);
  cleanups.push(() => agent.stop());
  [v1, v2] = await Promise.all([startBackend('v1', '127.0.0.2'), startBackend('v2', '127.0.0.3')]);

  const { code, stdout } = await runWeft(['xds', 'bootstrap', '--address', xds, '--id', 'cart', '--zone', 'z1'], {});
  expect(code).toBe(0);
  writeFileSync(join(folder, 'xds.json'), stdout);
  process.env.GRPC_XDS_BOOTSTRAP = join(folder, 'xds.json');
  register();
});

/** In force on the node: its clients are told at the same time. */
async function change(content: string): Promise<void> {
  const applied = await apply(controller, content);
  expect(applied.findings).toEqual([]);
  const waited = await ask<WaitResponse>((done) => controller.admin.wait({ revision: applied.revision, timeoutMs: 15_000 }, done));
  expect(waited).toMatchObject({ pending: [], rejected: [] });
}

async function remove(kind: string, name: string): Promise<void> {
  await ask((done) => controller.admin.delete({ objects: [{ kind, namespace: 'shop', name }], asOf: 0 }, done));
}

class XdsClient {
  readonly #client: Client;

  constructor(name: string) {
    this.#client = new Client(`xds:///${name}`, credentials.createInsecure());
    cleanups.push(() => this.#client.close());
  }

  /** What answered: a backend's name, or the code of the failure. */
  call(path = WHO, headers: Record<string, string> = {}, timeoutMs = 10_000): Promise<string> {
    const metadata = new Metadata();
    for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
    return new Promise((resolve) =>
      this.#client.makeUnaryRequest(
        path,
        asIs,
        asIs,
        Buffer.alloc(0),
        metadata,
        { deadline: Date.now() + timeoutMs },
        (error: ServiceError | null, answer?: Buffer) => resolve(error === null ? String(answer) : (status[error.code] ?? '')),
      ),
    );
  }

  async counts(calls: number, path = WHO): Promise<Record<string, number>> {
    const counts: Record<string, number> = {};
    for (let call = 0; call < calls; call++) {
      const who = await this.call(path);
      counts[who] = (counts[who] ?? 0) + 1;
    }
    return counts;
  }

  /** Calls until an answer is the one; each is a round trip. */
  async until(who: string, path = WHO): Promise<void> {
    const deadline = Date.now() + 10_000;
    let last = '';
    while (last !== who) {
      if (Date.now() > deadline) throw new Error(`no call was answered by ${who} within 10 s; the last by ${last}`);
      last = await this.call(path);
    }
  }
}

function nodeStatus(): Promise<StatusResponse> {
  const client = new NodeStatusClient(agent.statusAddresses[0] ?? '', credentials.createInsecure());
  return ask<StatusResponse>((done) => client.get({}, done)).finally(() => client.close());
}

test('a real client resolves a service by name, balances over its endpoints, and by their weights', async () => {
  await change(service('catalog') + slice('catalog', v1) + slice('catalog', v2));
  const client = new XdsClient('catalog.shop:9080');
  await client.until('v1');
  await client.until('v2');
  expect(await client.counts(20)).toEqual({ v1: 10, v2: 10 });

  await change(slice('catalog', v1, { weight: 4, zone: 'z2' }));
  // 80 % of 400, and four sigma of it; from 50 % it is 12 sigma away.
  let { v1: heavy = 0 } = await client.counts(400);
  if (heavy < 288) heavy = (await client.counts(400)).v1 ?? 0;
  expect(heavy).toBeGreaterThan(288);
  expect(heavy).toBeLessThan(352);
});

test('an endpoint that is removed, or no longer ready, gets no more calls, and none fails', async () => {
  const client = new XdsClient('catalog.shop.svc.cluster.local:9080');
  await change(slice('catalog', v1) + slice('catalog', v2));
  await client.until('v2');
  await client.until('v1');
  await change(slice('catalog', v1, { ready: false }));
  await client.until('v2');
  await settled(client, { v2: 10 });
  await change(slice('catalog', v1));
  await client.until('v1');
  await remove('EndpointSlice', 'catalog-v2');
  await settled(client, { v1: 10 });
});

/** Ten calls in a row are answered so, now or soon; none may fail meanwhile. */
async function settled(client: XdsClient, wanted: Record<string, number>): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (Date.now() < deadline) {
    const counts = await client.counts(10);
    expect(Object.keys(counts).filter((who) => who !== 'v1' && who !== 'v2')).toEqual([]);
    if (JSON.stringify(counts) === JSON.stringify(wanted)) return;
  }
  throw new Error(`no ten calls in a row as ${JSON.stringify(wanted)} within 10 s`);
}

test('calls follow the rules of a GRPCRoute: its split and its change, its headers, its methods', async () => {
  const versions = service('catalog-v1') + service('catalog-v2') + slice('catalog-v1', v1) + slice('catalog-v2', v2);
  await change(service('catalog') + versions + split(1, 0));
  const client = new XdsClient('catalog.shop:9080');
  // No backend: its calls fail, at once.
  await client.until('UNAVAILABLE', LIST);
  await settled(client, { v1: 10 });
  expect(await client.call(WHO, { 'x-version': 'v2' })).toBe('v2');

  await change(split(50, 50));
  await client.until('v2');
  const { v1: half = 0, ...others } = await client.counts(200);
  expect(Object.keys(others)).toEqual(['v2']);
  // Four sigma of 100.
  expect(Math.abs(half - 100)).toBeLessThan(29);

  await change(split(0, 1));
  await settled(client, { v2: 10 });
  expect(await client.call('/shop.Other/Who')).toBe('UNAVAILABLE');
});

test('the time that a route allows is the deadline of its calls', async () => {
  const route = `---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: slow, namespace: shop }
spec:
  parentRefs: [{ group: "", kind: Service, name: slow }]
  rules: [{ timeouts: { request: 150ms }, backendRefs: [{ name: slow, port: 9080 }] }]
`;
  await change(service('slow') + slice('slow', v1) + route);
  const client = new XdsClient('slow.shop:9080');
  await client.until('v1');
  const startedMs = performance.now();
  expect(await client.call(HANG)).toBe('DEADLINE_EXCEEDED');
  expect(performance.now() - startedMs).toBeLessThan(5_000);
});

test('a service that asks for TLS to its endpoints is not spoken to in plain text', async () => {
  const policy = `---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: { name: secret, namespace: shop }
spec:
  targetRefs: [{ group: "", kind: Service, name: secret }]
  validation: { hostname: secret.example.com, wellKnownCACertificates: System }
`;
  await change(service('secret') + slice('secret', v1) + policy);
  const client = new XdsClient('secret.shop:9080');
  expect(await client.call()).toBe('UNAVAILABLE');
  expect((await nodeStatus()).xds?.faults).toEqual([expect.stringContaining('shop/secret:9080 has no endpoints for proxyless clients')]);
});

test('calls follow a VirtualService to the subsets of a DestinationRule, in the order of its rules', async () => {
  const labelled = (backend: Backend): string =>
    slice('reviews', backend).replace('labels:', `annotations: { mesh.weft.dev/endpoint-labels: "version=${backend.name}" }, labels:`);
  const rules = (weight: number): string => `---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: reviews, namespace: shop }
spec: { host: reviews, subsets: [{ name: one, labels: { version: v1 } }, { name: two, labels: { version: v2 } }] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: reviews, namespace: shop }
spec:
  hosts: [reviews]
  http:
    - match: [{ headers: { end-user: { prefix: ja } } }]
      route: [{ destination: { host: reviews, subset: two } }]
    - route:
        - { destination: { host: reviews, subset: one }, weight: ${100 - weight} }
        - { destination: { host: reviews, subset: two }, weight: ${weight} }
`;
  await change(service('reviews') + labelled(v1) + labelled(v2) + rules(0));
  const client = new XdsClient('reviews.shop:9080');
  await client.until('v1');
  await settled(client, { v1: 10 });
  expect(await client.call(WHO, { 'end-user': 'jason' })).toBe('v2');
  await change(rules(100));
  await settled(client, { v2: 10 });
});

const CLUSTER = 'type.googleapis.com/envoy.config.cluster.v3.Cluster';

/** Speaks the protocol by hand. */
class RawClient extends Condition {
  readonly responses: DiscoveryResponse[] = [];
  code: status | null = null;
  readonly #client = new AggregatedDiscoveryServiceClient(xds, credentials.createInsecure());
  readonly #call = this.#client.streamAggregatedResources();

  constructor(node: string) {
    super();
    this.#call.on('data', (response: DiscoveryResponse) => {
      this.responses.push(response);
      this.changed();
    });
    this.#call.on('error', ({ code }: ServiceError) => {
      this.code = code;
      this.changed();
    });
    this.say({ node: { id: node, userAgentName: 'by hand', userAgentVersion: '1' } });
    cleanups.push(() => {
      this.#call.cancel();
      this.#client.close();
    });
  }

  say(request: Partial<Parameters<typeof this.send>[0]>): void {
    this.send({ versionInfo: '', node: undefined, resourceNames: [], typeUrl: '', responseNonce: '', errorDetail: undefined, ...request });
  }

  send(request: Parameters<ReturnType<AggregatedDiscoveryServiceClient['streamAggregatedResources']>['write']>[0]): void {
    this.#call.write(request);
  }
}

test('what a client refuses stands in the status, until it accepts again; it is not sent the same twice', async () => {
  const client = new RawClient('picky');
  client.say({ typeUrl: CLUSTER, resourceNames: ['shop/catalog:9080'] });
  await client.until('a first response', () => client.responses.length === 1);
  const [first] = client.responses;
  const errorDetail = { code: 3, message: 'I do not like it' };
  client.say({ typeUrl: CLUSTER, resourceNames: ['shop/catalog:9080'], responseNonce: first?.nonce ?? '', errorDetail });
  // An answer to something else: as if it hadn't come.
  client.say({ typeUrl: CLUSTER, resourceNames: ['shop/catalog-v2:9080'], responseNonce: 'of another time' });
  let seen = await nodeStatus();
  for (let look = 0; look < 100 && !JSON.stringify(seen.xds).includes('not like'); look++) seen = await nodeStatus();
  const ofPicky = seen.xds?.clients.find(({ node }) => node === 'picky');
  expect(ofPicky).toMatchObject({
    agent: 'by hand 1',
    subscriptions: [{ type: 'cluster', resources: 1, acked: '', refused: first?.versionInfo, error: 'I do not like it' }],
  });
  expect(seen.xds?.clients.some(({ node, agent: software }) => node === 'cart' && software.startsWith('gRPC Node'))).toBe(true);

  await change(`---
apiVersion: mesh.weft.dev/v1
kind: TrafficPolicy
metadata: { name: catalog, namespace: shop }
spec: { targetRefs: [{ kind: Service, name: catalog }], loadBalancer: { type: RoundRobin } }
`);
  await client.until('the changed cluster', () => client.responses.length === 2);
  client.say({ typeUrl: CLUSTER, resourceNames: ['shop/catalog:9080'], responseNonce: client.responses[1]?.nonce ?? '' });
  for (let look = 0; look < 100 && JSON.stringify(seen.xds).includes('not like'); look++) seen = await nodeStatus();
  expect(JSON.stringify(seen.xds)).not.toContain('not like');
});

test('who asks for everything, or for too much, is refused', async () => {
  const everything = new RawClient('greedy');
  everything.say({ typeUrl: CLUSTER });
  await everything.until('the end', () => everything.code !== null);
  expect(everything.code).toBe(status.INVALID_ARGUMENT);
  const much = new RawClient('greedier');
  much.say({ typeUrl: CLUSTER, resourceNames: Array.from({ length: 1_001 }, (_, index) => `shop/s${index}:1`) });
  await much.until('the end', () => much.code !== null);
  expect(much.code).toBe(status.INVALID_ARGUMENT);
  const large = new RawClient('greediest');
  large.say({ typeUrl: CLUSTER, resourceNames: ['x'.repeat(300_000)] });
  await large.until('the end', () => large.code !== null);
  expect(large.code).toBe(status.RESOURCE_EXHAUSTED);
});

test('a service that is deleted is gone for its clients', async () => {
  const client = new XdsClient('slow.shop');
  await client.until('v1');
  await remove('HTTPRoute', 'slow');
  await remove('Service', 'slow');
  await client.until('UNAVAILABLE');
});
