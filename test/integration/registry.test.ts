// The registry as programs read it, over gRPC and HTTP, and instances that nodes report, with a real etcd: versions, health, watches, loss.
import { credentials } from '@grpc/grpc-js';
import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { InstanceState } from '../../api/gen/mesh/v1/discovery.js';
import { EndpointHealth } from '../../api/gen/mesh/v1/model.js';
import {
  CatalogClient,
  ListEndpointsRequest,
  type ListEndpointsResponse,
  ListServicesRequest,
  type ListServicesResponse,
} from '../../api/gen/mesh/v1/registry.js';
import { closesAfterEach } from '../lab/closing.js';
import { Condition } from '../lab/condition.js';
import { startEtcd, type TestEtcd } from '../lab/etcd.js';
import { apply, ask, serviceYaml, startTestController, type TestController, TestRegistration, workloadYaml } from './controller-lab.js';

let etcd: TestEtcd;
beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(() => etcd.stop());

let at: TestController;
let catalog: CatalogClient;
const closing = closesAfterEach();
let run = 0;
beforeEach(async () => {
  at = await startTestController(etcd.endpoint, { etcdPrefix: `/registry-${run++}` });
  closing.push(() => at.stop());
  catalog = new CatalogClient(at.address, credentials.createInsecure());
  closing.push(() => catalog.close());
});

const api = (id: string, address: string, rest: Parameters<typeof InstanceState.fromPartial>[0] = {}): InstanceState =>
  InstanceState.fromPartial({ service: 'shop/api', id, address, ports: [{ name: 'http', port: 9000, protocol: 'http' }], ...rest });

function register(node: string, instances: InstanceState[]): TestRegistration {
  const registration = new TestRegistration(at.address, node);
  registration.tell({ instances, health: { failing: [], pending: false } });
  closing.push(() => registration.close());
  return registration;
}

/** What a watch has told so far. */
class Watch extends Condition {
  readonly answers: ListEndpointsResponse[] = [];
  error: Error | null = null;

  constructor(request: Partial<ListEndpointsRequest>) {
    super();
    const call = catalog.watchEndpoints(ListEndpointsRequest.fromPartial({ namespace: 'shop', service: 'api', ...request }));
    call.on('data', (answer: ListEndpointsResponse) => {
      this.answers.push(answer);
      this.changed();
    });
    call.on('error', (error) => {
      this.error = error;
      this.changed();
    });
    closing.push(() => call.cancel());
  }

  get ids(): string[] {
    return (this.answers.at(-1)?.endpoints ?? []).map(({ id }) => id);
  }
}

const http = async (path: string, headers: Record<string, string> = {}) => {
  const response = await fetch(`http://${at.controller.registryAddress}${path}`, { headers });
  const text = await response.text();
  return { status: response.status, etag: response.headers.get('etag') ?? '', body: text === '' ? null : JSON.parse(text) };
};
/** Resolves when the registry answers of it. */
async function serviceKnown(name: string): Promise<void> {
  await at.logged('model compiled');
  for (;;) {
    const found = await ask<ListServicesResponse>((done) =>
      catalog.listServices(ListServicesRequest.fromPartial({ namespace: 'shop' }), done),
    );
    if (found.services.some((service) => service.name === name)) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
/** As many wait, as the metrics tell within a second. */
async function watchers(count: number): Promise<void> {
  while (!(await at.metrics()).includes(`weft_controller_registry_watches ${count}\n`))
    await new Promise((resolve) => setTimeout(resolve, 20));
}
const endpoints = (request: Partial<ListEndpointsRequest>) =>
  ask<ListEndpointsResponse>((done) =>
    catalog.listEndpoints(ListEndpointsRequest.fromPartial({ namespace: 'shop', service: 'api', ...request }), done),
  );

test('instances are found by service, version, health, label and zone, the same over gRPC and HTTP', async () => {
  register('n1', [api('a', '10.5.0.1', { version: 'v1' }), api('b', '10.5.0.2', { version: 'v2', health: EndpointHealth.DRAINING })]);
  await serviceKnown('api');
  const watch = new Watch({});
  register('n2', [api('a', '10.5.0.3', { version: 'v2', labels: { tier: 'gold' }, weight: 5 })]);
  await watch.until('both nodes', () => watch.ids.length === 3);

  const ids = async (request: Partial<ListEndpointsRequest>) => (await endpoints(request)).endpoints.map(({ id }) => id);
  expect(await ids({ version: 'v2' })).toEqual(['10.5.0.2', '10.5.0.3']);
  expect(await ids({ version: 'v2', healthy: true })).toEqual(['10.5.0.3']);
  expect(await ids({ labels: { tier: 'gold' } })).toEqual(['10.5.0.3']);
  expect(await ids({ zone: 'z1', node: 'n1' })).toEqual(['10.5.0.1', '10.5.0.2']);
  expect(await ids({ version: '' })).toEqual([]);
  const page = await endpoints({ limit: 2 });
  expect([page.endpoints.length, page.continue]).toEqual([2, '10.5.0.2']);
  expect(await endpoints({ limit: 2, continue: page.continue })).toMatchObject({ endpoints: [{ id: '10.5.0.3' }], continue: '' });

  const services = await ask<ListServicesResponse>((done) => catalog.listServices(ListServicesRequest.fromPartial({}), done));
  expect(services.services).toMatchObject([
    {
      name: 'api',
      versions: [
        { version: 'v1', endpoints: 1, ready: 1 },
        { version: 'v2', endpoints: 2, ready: 1 },
      ],
    },
  ]);
  expect((await http('/v1/services/shop/api')).body).toMatchObject({
    name: 'api',
    ports: [{ name: 'http', port: 9000, protocol: 'HTTP' }],
  });
  expect((await http('/v1/services?namespace=shop&limit=1')).body.services).toHaveLength(1);
  expect((await http('/v1/services/shop/api/endpoints?version=v2&healthy=true&label=tier%3Dgold')).body.endpoints).toEqual([
    {
      id: '10.5.0.3',
      address: '10.5.0.3',
      ports: [{ name: 'http', port: 9000 }],
      node: 'n2',
      zone: 'z1',
      region: 'r1',
      weight: 5,
      version: 'v2',
      labels: { tier: 'gold' },
      health: 'READY',
      workload: '',
    },
  ]);
});

test('workloads and their labels are in it beside instances', async () => {
  await apply(
    at,
    `${serviceYaml('catalog')}---\n${workloadYaml('catalog', 'n1', '10.1.0.1').replace('app: catalog', 'app: catalog, version: v3')}`,
  );
  const registration = new TestRegistration(at.address, 'n1');
  closing.push(() => registration.close());
  await serviceKnown('catalog');
  const watch = new Watch({ service: 'catalog', version: 'v3' });
  registration.say([{ name: 'shop/catalog', addresses: ['10.1.0.1'], health: EndpointHealth.READY }]);
  await watch.until('the workload', () => watch.ids.length === 1);
  expect(watch.answers.at(-1)?.endpoints).toMatchObject([
    { workload: 'shop/catalog', zone: 'z1', region: 'r1', labels: { app: 'catalog', version: 'v3' } },
  ]);
});

test('instances go with the lease of their node, and with what the node says', async () => {
  const n1 = register('n1', [api('a', '10.5.0.1'), api('b', '10.5.0.2')]);
  const n2 = register('n2', [api('a', '10.5.0.3')]);
  await serviceKnown('api');
  const watch = new Watch({});
  await watch.until('all', () => watch.ids.length === 3);
  n1.tell({ instances: [api('b', '10.5.0.2', { health: EndpointHealth.DRAINING })] });
  await watch.until(
    'one is gone, one drains',
    () => watch.ids.length === 2 && watch.answers.at(-1)?.endpoints[0]?.health === EndpointHealth.DRAINING,
  );
  n2.close();
  await watch.until('the lease of n2 ends', () => watch.ids.length === 1);
  n1.tell({ instances: [] });
  // A service that only its instances made goes with the last.
  await watch.until('the service is gone', () => watch.error !== null);
  expect(watch.error?.message).toContain('no service shop/api');
});

test('a node’s verdict on an endpoint that is its to check makes it unhealthy, for all; another’s does not', async () => {
  const n1 = register('n1', [api('a', '10.5.0.1', { check: { intervalMs: 1_000, timeoutMs: 100 } })]);
  const n2 = register('n2', []);
  await serviceKnown('api');
  const watch = new Watch({});
  await watch.until('the instance', () => watch.answers.at(-1)?.endpoints[0]?.check?.node === 'n1');
  const failing = [{ endpoint: 'shop/api/10.5.0.1', detail: 'connection refused' }];
  n2.tell({ health: { failing, pending: false } });
  n1.tell({ health: { failing, pending: false } });
  await watch.until('unhealthy', () => watch.answers.at(-1)?.endpoints[0]?.health === EndpointHealth.UNHEALTHY);
  expect((await endpoints({ healthy: true })).endpoints).toEqual([]);
  // It says nothing of checks: what it found stands. n2's word did not and does not count.
  n1.tell({ health: { failing: [], pending: true }, version: 'restarted' });
  n1.tell({ health: { failing: [], pending: false } });
  await watch.until('ready again', () => watch.answers.at(-1)?.endpoints[0]?.health === EndpointHealth.READY);
  expect(watch.answers.map(({ endpoints: [endpoint] }) => endpoint?.check?.failing)).toEqual([false, true, false]);
});

test('a blocking query answers when the endpoints are others, or says after its time that they are not', async () => {
  const n1 = register('n1', [api('a', '10.5.0.1')]);
  await serviceKnown('api');
  const path = '/v1/services/shop/api/endpoints?healthy=true';
  const first = await http(path);
  expect(await http(`${path}&wait=50ms`, { 'if-none-match': first.etag })).toMatchObject({ status: 304, etag: first.etag });
  const waiting = http(`${path}&wait=30s`, { 'if-none-match': first.etag });
  // Of no concern to who waits.
  await apply(at, serviceYaml('other'));
  n1.tell({ instances: [api('a', '10.5.0.1'), api('b', '10.5.0.2')] });
  const second = await waiting;
  expect(second.body.endpoints).toHaveLength(2);
  expect(second.etag).not.toBe(first.etag);
  // Good at any replica.
  const other = await startTestController(etcd.endpoint, { etcdPrefix: `/registry-${run - 1}` });
  closing.push(() => other.stop());
  await other.logged('model compiled');
  const same = await fetch(`http://${other.controller.registryAddress}${path}`, { headers: { 'if-none-match': second.etag } });
  expect(same.status).toBe(304);
});

test('who watches when a controller stops is told at once that another replica serves', async () => {
  register('n1', [api('a', '10.5.0.1')]);
  await serviceKnown('api');
  const watch = new Watch({});
  await watch.until('the instance', () => watch.ids.length === 1);
  const path = '/v1/services/shop/api/endpoints';
  const { etag } = await http(path);
  const waiting = http(`${path}?wait=30s`, { 'if-none-match': etag });
  await watchers(2);
  await at.stop();
  expect(await waiting).toMatchObject({ status: 503, body: { error: expect.stringContaining('another replica serves') } });
  await watch.until('the end', () => watch.error !== null);
  expect(watch.error).toMatchObject({ code: 14, details: expect.stringContaining('another replica serves') });
  at = await startTestController(etcd.endpoint);
});

test.each([
  ['/v1/services/shop/ap/endpoints', 404, 'did you mean shop/api?'],
  ['/v1/services/shop/api/endpoints?versions=v1', 400, 'unknown parameter versions: there are version, healthy'],
  ['/v1/services/shop/api/endpoints?healthy=yes', 400, 'healthy: expected true or false'],
  ['/v1/services/shop/api/endpoints?limit=9999', 400, 'limit 9999: at most 5000'],
  ['/v1/services/shop/api/endpoints?wait=2h', 400, 'wait: expected a duration'],
  ['/v1/services/shop/api/endpoints?label=x', 400, 'label: expected key=value'],
  ['/v1/services/shop/api/endpoints?zone=a&zone=b', 400, 'zone is given twice'],
  ['/v1/services/shop', 404, 'try /v1/services'],
  ['/v1/services/%E0%A4%A/x', 400, 'percent-encoding'],
  ['/v2', 404, 'try /v1/services'],
])('GET %s: %i, %s', async (path, status, message) => {
  register('n1', [api('a', '10.5.0.1')]);
  await serviceKnown('api');
  expect(await http(path)).toMatchObject({ status, body: { error: expect.stringContaining(message) } });
});

test('over gRPC mistakes are statuses, and a node that says nonsense is refused', async () => {
  await at.logged('model compiled');
  await expect(endpoints({})).rejects.toMatchObject({ code: 5, details: 'no service shop/api' });
  await expect(endpoints({ service: '' })).rejects.toMatchObject({ code: 3 });
  await expect(endpoints({ limit: 100_000 })).rejects.toMatchObject({ code: 3 });
  const bad = register('n1', [api('a', '10.5.0.1', { labels: { 'no label': 'x' } })]);
  await bad.until('the refusal', () => bad.error !== null);
  expect(bad.error?.message).toContain('instance a of shop/api: label "no label=x"');
  const foreign = register('n2', []);
  foreign.tell({ health: { failing: [{ endpoint: '../../nodes/x', detail: '' }], pending: false } });
  await foreign.until('the refusal', () => foreign.error !== null);
  expect(foreign.error?.message).toContain('is no endpoint');
});
