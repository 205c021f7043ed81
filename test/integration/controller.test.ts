// The controller from outside: real etcd, real gRPC clients.

import { readFileSync } from 'node:fs';
import { type ServiceError, status } from '@grpc/grpc-js';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import {
  Change_Action,
  type DeleteResponse,
  type GetResponse,
  type HistoryResponse,
  type ListNodesResponse,
  type RollbackResponse,
  type WaitResponse,
} from '../../api/gen/mesh/v1/admin.js';
import { ConnectionRoute, EndpointHealth, Listener, ResourceType, Service } from '../../api/gen/mesh/v1/model.js';
import { startEtcd, type TestEtcd } from '../lab/etcd.js';
import { runWeft } from '../lab/weft-command.js';
import {
  apply,
  ask,
  serviceYaml,
  startTestController,
  type TestController,
  TestNode,
  TestRegistration,
  workloadYaml,
} from './controller-lab.js';

let etcd: TestEtcd;
let one: TestController;
const closing: { close(): void }[] = [];

beforeEach(async () => {
  etcd = await startEtcd();
  one = await startTestController(etcd.endpoint);
});

afterEach(async () => {
  for (const each of closing.splice(0)) each.close();
  await one.stop();
  await etcd.stop();
});

function discover(at: TestController, node: string, options = {}): TestNode {
  const stream = new TestNode(at.address, node, options);
  closing.push(stream);
  return stream;
}

function register(at: TestController, node: string, workloads: string[] = []): TestRegistration {
  const registration = new TestRegistration(at.address, node, workloads.map(running));
  closing.push(registration);
  return registration;
}

function running(name: string) {
  return { name, addresses: ['10.1.0.1'], health: EndpointHealth.READY };
}

function wait(at: TestController, revision: number, timeoutMs = 10_000) {
  return ask<WaitResponse>((done) => at.admin.wait({ revision, timeoutMs }, done));
}

function remove(kind: string, name: string) {
  return ask<DeleteResponse>((done) => one.admin.delete({ objects: [{ kind, namespace: 'shop', name }], asOf: 0 }, done));
}

function list(kind: string) {
  return ask<GetResponse>((done) => one.admin.get({ kind, namespace: '', name: '' }, done));
}

function listNodes(at: TestController) {
  return ask<ListNodesResponse>((done) => at.admin.listNodes({}, done));
}

/** The first calls come while etcd is being read. */
async function ready(at: TestController): Promise<void> {
  const node = new TestNode(at.address, 'probe');
  await node.until('the first model', () => node.responses.length > 0);
  node.close();
}

test('apply reaches a node as a delta, is acked, and wait returns', async () => {
  const node = discover(one, 'node-a');
  const registration = register(one, 'node-a');
  await node.until('the empty snapshot', () => node.responses.length === 1);
  expect(node.responses[0]).toMatchObject({ full: true, more: false, resources: [] });
  await registration.until('the registration', () => registration.responses > 0);

  const applied = await apply(one, serviceYaml('catalog'));
  expect(applied).toMatchObject({
    findings: [],
    changes: [{ kind: 'Service', namespace: 'shop', name: 'catalog', action: Change_Action.CREATED }],
  });
  const waited = await wait(one, applied.revision);
  expect(waited).toEqual({ acked: ['node-a'], pending: [], rejected: [] });
  // One push may stand for more than the apply: the node's own registration is written meanwhile.
  expect(node.responses.at(-1)?.full).toBe(false);
  expect(node.responses.at(-1)?.revision).toBeGreaterThanOrEqual(applied.revision);
  expect(node.named(ResourceType.SERVICE)).toEqual(['shop/catalog']);

  const again = await apply(one, serviceYaml('catalog'));
  expect(again).toMatchObject({ revision: 0, changes: [{ action: Change_Action.UNCHANGED }] });
  const deleted = await remove('service', 'catalog');
  await wait(one, deleted.revision);
  expect(node.resources.size).toBe(0);
  expect(node.responses.at(-1)?.removed).toEqual([{ type: ResourceType.SERVICE, name: 'shop/catalog' }]);
});

test('three mistakes are all told with their lines, and nothing is written', async () => {
  await ready(one);
  const broken = `${serviceYaml('good')}---\napiVersion: v1\nkind: Service\nmetadata: { name: bad, namespace: shop }\nspec:\n  prots: []\n  ports: [{ port: 99999 }]\n  selector: 3\n`;
  const applied = await apply(one, broken);
  expect(applied.findings.length).toBeGreaterThanOrEqual(3);
  for (const finding of applied.findings) expect(finding).toMatchObject({ file: 'test.yaml', line: expect.any(Number) });
  expect(applied).toMatchObject({ revision: 0, changes: [] });
  const got = await list('Service');
  expect(got.objects).toEqual([]);
});

test('a Secret is shown without its values, and its key goes to the nodes with the listener that names it alone', async () => {
  const golden = readFileSync('api/resources/goldens/secrets-and-https.yaml', 'utf8');
  const secret = (name: string): string =>
    golden.slice(golden.indexOf('apiVersion'), golden.indexOf('---')).replace('name: good', `name: ${name}, namespace: shop`);
  const gateway = `apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec: {gatewayClassName: weft, listeners: [{name: web, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: used}]}}]}
`;
  const node = discover(one, 'node-a');
  const applied = await apply(one, [secret('used'), secret('unused'), gateway].join('---\n'));
  expect(applied.findings).toEqual([]);
  await node.until('the listener', () => node.named(ResourceType.LISTENER).length === 1);
  const body = [...node.resources.values()].find(({ type }) => type === ResourceType.LISTENER)!.body;
  expect(Listener.decode(body).tls?.certificates).toEqual([
    { chain: expect.stringContaining('CERTIFICATE'), key: expect.stringContaining('PRIVATE KEY') },
  ]);
  expect(node.resources.size).toBe(1);
  const shown = (await list('secrets')).objects.map((text) => JSON.parse(text) as { data: unknown });
  expect(shown.map(({ data }) => data)).toEqual(Array(2).fill({ 'tls.crt': '(hidden)', 'tls.key': '(hidden)', 'ca.crt': '(hidden)' }));
});

test('a dry run tells the changes and writes nothing', async () => {
  await ready(one);
  expect(await apply(one, serviceYaml('catalog'), true)).toMatchObject({ revision: 0, changes: [{ action: Change_Action.CREATED }] });
  expect((await list('svc')).objects).toEqual([]);
});

test('routes for connections and gRPC, and TLS to endpoints, go to the nodes; a grant that is taken away takes its backend with it', async () => {
  const node = discover(one, 'node-a');
  const gateway = (kind: string, version: string, name: string, spec: string): string =>
    `apiVersion: gateway.networking.k8s.io/${version}\nkind: ${kind}\nmetadata: {name: ${name}, namespace: shop}\nspec: ${spec}\n---\n`;
  const edge = gateway(
    'Gateway',
    'v1',
    'edge',
    '{gatewayClassName: weft, listeners: [{name: tls, port: 443, protocol: TLS, tls: {mode: Passthrough}}]}',
  );
  const abroad = serviceYaml('db').replace('namespace: shop', 'namespace: other');
  const tlsRoute = gateway(
    'TLSRoute',
    'v1alpha2',
    'db',
    '{parentRefs: [{name: edge}], hostnames: [db.test], rules: [{backendRefs: [{name: db, namespace: other, port: 80}]}]}',
  );
  const grpcRoute = gateway(
    'GRPCRoute',
    'v1',
    'db',
    '{parentRefs: [{group: "", kind: Service, name: catalog}], rules: [{matches: [{method: {service: a.B}}]}]}',
  );
  const policy = gateway(
    'BackendTLSPolicy',
    'v1alpha3',
    'catalog',
    '{targetRefs: [{group: "", kind: Service, name: catalog}], validation: {hostname: catalog.test, wellKnownCACertificates: System}}',
  );
  const grant = gateway(
    'ReferenceGrant',
    'v1beta1',
    'db',
    '{from: [{group: gateway.networking.k8s.io, kind: TLSRoute, namespace: shop}], to: [{group: "", kind: Service}]}',
  ).replace('namespace: shop}\nspec', 'namespace: other}\nspec');
  const applied = await apply(one, [edge, tlsRoute, grpcRoute, policy, grant, `${serviceYaml('catalog')}\n---\n`, abroad].join(''));
  expect(applied.findings).toEqual([]);
  await node.until('the whole', () => node.revision >= applied.revision);
  const backends = () => ConnectionRoute.decode(node.resources.get(`${ResourceType.CONNECTION_ROUTE}/TLSRoute/shop/db`)!.body).backends;
  expect(backends()).toMatchObject([{ service: 'other/db', port: 80, weight: 1 }]);
  expect(node.named(ResourceType.HTTP_ROUTE)).toEqual(['GRPCRoute/shop/db']);
  const catalog = Service.decode(node.resources.get(`${ResourceType.SERVICE}/shop/catalog`)!.body);
  expect(catalog.ports[0]?.tls).toMatchObject({ hostname: 'catalog.test', accepts: [], trust: '', systemTrust: true });
  // Kept as the newest version.
  expect((await list('TLSRoute')).objects.map((text) => (JSON.parse(text) as { apiVersion: string }).apiVersion)).toEqual([
    'gateway.networking.k8s.io/v1',
  ]);
  const removed = await ask<DeleteResponse>((done) =>
    one.admin.delete({ objects: [{ kind: 'ReferenceGrant', namespace: 'other', name: 'db' }], asOf: 0 }, done),
  );
  await node.until('the route without its backend', () => node.revision >= removed.revision);
  expect(backends()).toMatchObject([{ service: '', port: 80, weight: 1 }]);
});

test('a resource that a node refuses is refused alone and named', async () => {
  const node = discover(one, 'node-a', { refuse: (resource: { name: string }) => (resource.name === 'shop/bad' ? 'no thanks' : null) });
  const registration = register(one, 'node-a');
  await registration.until('the registration', () => registration.responses > 0);
  const applied = await apply(one, `${serviceYaml('bad')}---\n${serviceYaml('good')}`);
  const waited = await wait(one, applied.revision);
  expect(waited.acked).toEqual(['node-a']);
  expect(waited.rejected).toEqual([{ node: 'node-a', rejection: { type: ResourceType.SERVICE, name: 'shop/bad', error: 'no thanks' } }]);
  expect(node.named(ResourceType.SERVICE)).toEqual(['shop/good']);
  const { nodes } = await listNodes(one);
  expect(nodes[0]?.rejected).toHaveLength(1);
  await wait(one, (await remove('Service', 'bad')).revision);
  expect((await wait(one, 0)).rejected).toEqual([]);
});

test('a node that comes back gets what it missed and no more; after a restart of the controller, a full snapshot', async () => {
  const before = discover(one, 'node-a');
  await before.until('the first model', () => before.responses.length > 0);
  const first = await apply(one, `${serviceYaml('catalog')}---\n${serviceYaml('cart')}`);
  await before.until('both services', () => before.revision >= first.revision);
  before.close();

  const second = await apply(one, serviceYaml('order'));
  await remove('Service', 'cart');
  const after = discover(one, 'node-a', { resume: before.token });
  await after.until('what it missed', () => after.revision > second.revision);
  expect(after.responses.every((response) => !response.full)).toBe(true);
  expect(after.named(ResourceType.SERVICE)).toEqual(['shop/order']);
  expect(after.responses.flatMap(({ removed }) => removed)).toEqual([{ type: ResourceType.SERVICE, name: 'shop/cart' }]);

  const token = after.token;
  await apply(one, serviceYaml('web'));
  await one.stop();
  one = await startTestController(etcd.endpoint);
  const anew = discover(one, 'node-a', { resume: token });
  await anew.until('the snapshot', () => anew.responses.length > 0);
  expect(anew.responses[0]?.full).toBe(true);
  expect(anew.named(ResourceType.SERVICE).sort()).toEqual(['shop/catalog', 'shop/order', 'shop/web']);
});

test('a workload serves while its node says so, and ends with the node’s lease', async () => {
  const watcher = discover(one, 'watcher');
  const node = register(one, 'node-a', ['shop/catalog']);
  await watcher.until('the first model', () => watcher.responses.length > 0);
  await apply(one, `${serviceYaml('catalog')}---\n${workloadYaml('catalog', 'node-a', '10.1.0.1')}`);
  const endpoints = (): string[] => watcher.named(ResourceType.ENDPOINT);
  await watcher.until('the endpoint', () => endpoints().length === 1);
  node.say([]);
  await watcher.until('no endpoint, as the agent said so', () => endpoints().length === 0);
  node.say([running('shop/catalog')]);
  await watcher.until('the endpoint again', () => endpoints().length === 1);
  expect((await listNodes(one)).nodes).toMatchObject([{ name: 'node-a', zone: 'z1', workloads: [{ name: 'shop/catalog' }] }]);
  node.close();
  await watcher.until('no endpoint, as the lease is over', () => endpoints().length === 0);
  expect((await listNodes(one)).nodes).toEqual([]);
});

test('a reader that stops reading skips revisions: memory stays bounded, and it ends at the newest', async () => {
  const slow = discover(one, 'slow');
  const quick = discover(one, 'quick');
  await slow.until('the first model', () => slow.responses.length > 0);
  await quick.until('the first model', () => quick.responses.length > 0);
  slow.pauseReading();
  const revisions = 30;
  for (let step = 1; step <= revisions; step++) {
    const services = Array.from({ length: 100 }, (_, index) => serviceYaml(`service-${index}`, step));
    const { revision } = await apply(one, services.join('---\n'));
    await quick.until('the revision', () => quick.revision >= revision);
  }
  slow.resumeReading();
  await slow.until('the newest', () => slow.revision === quick.revision);
  expect(slow.responses.length).toBeLessThan(revisions / 2);
  expect(slow.resources).toEqual(quick.resources);
});

test('wait names the nodes that have not acked', async () => {
  const registration = register(one, 'node-b');
  await registration.until('the registration', () => registration.responses > 0);
  const applied = await apply(one, serviceYaml('catalog'));
  expect(await wait(one, applied.revision, 200)).toEqual({ acked: [], pending: ['node-b'], rejected: [] });
});

test('a second agent with the same name ends the first one’s streams with the reason', async () => {
  const first = discover(one, 'node-a');
  const firstRegistration = register(one, 'node-a');
  await first.until('the first model', () => first.responses.length > 0);
  await firstRegistration.until('the registration', () => firstRegistration.responses > 0);
  const second = discover(one, 'node-a');
  const secondRegistration = register(one, 'node-a', ['shop/x']);
  await second.until('the model', () => second.responses.length > 0);
  await secondRegistration.until('the registration', () => secondRegistration.responses > 0);
  firstRegistration.say([running('shop/y')]);
  await firstRegistration.until('the end', () => firstRegistration.error !== null);
  expect(firstRegistration.error).toMatchObject({ code: status.ABORTED, details: expect.stringContaining('second agent') });
  await first.until('the end', () => first.error !== null);
});

test('what would become a part of keys, addresses or labels is checked on every stream', async () => {
  const stranger = discover(one, 'a"}/../b');
  await stranger.until('the refusal', () => stranger.error !== null);
  expect(stranger.error).toMatchObject({ code: status.INVALID_ARGUMENT, details: expect.stringContaining('no node name') });
  const registration = register(one, 'node-a');
  await registration.until('the registration', () => registration.responses > 0);
  registration.say([{ name: 'shop/w', addresses: ['fe80::1%eth0'], health: EndpointHealth.READY }]);
  await registration.until('the refusal', () => registration.error !== null);
  expect(registration.error).toMatchObject({
    code: status.INVALID_ARGUMENT,
    details: expect.stringContaining('"fe80::1%eth0" is no IPv4 or IPv6'),
  });
});

test('it stops within its grace though etcd is silent from the start', async () => {
  etcd.pause();
  const late = await startTestController(etcd.endpoint);
  const started = performance.now();
  await late.stop();
  expect(performance.now() - started).toBeLessThan(3_000);
  etcd.resume();
});

test('while a large file is read the others are answered; one of more objects than etcd takes at once is refused whole', async () => {
  const content = Array.from({ length: 4_100 }, (_, index) => serviceYaml(`s-${index}`)).join('---\n');
  let isDone = false;
  const applied = expect(apply(one, content).finally(() => (isDone = true))).rejects.toMatchObject({
    details: expect.stringContaining('several steps'),
  });
  let answered = 0;
  while (!isDone) {
    await listNodes(one);
    answered++;
  }
  await applied;
  expect(answered).toBeGreaterThan(5);
  expect((await list('Service')).objects).toEqual([]);
});

test('waiting for what stands there already waits until it is in force', async () => {
  const node = discover(one, 'node-a');
  const registration = register(one, 'node-a');
  await registration.until('the registration', () => registration.responses > 0);
  for (let index = 0; index < 10; index++) {
    const { revision } = await apply(one, serviceYaml('catalog', 81 + index));
    expect((await apply(one, serviceYaml('catalog', 81 + index))).revision).toBe(0);
    expect(await wait(one, 0)).toMatchObject({ pending: [] });
    expect(node.revision).toBeGreaterThanOrEqual(revision);
  }
});

test('a token of an etcd that was set up anew fits no longer, even when the new one has come as far', async () => {
  const node = discover(one, 'node-a');
  await apply(one, serviceYaml('old'));
  await node.until('the service', () => node.resources.size === 1 && node.token?.clusterId !== '');
  const resume = node.token;
  node.close();
  await one.stop();
  await etcd.wipe();
  one = await startTestController(etcd.endpoint);
  for (let index = 0; index < 10; index++) await apply(one, serviceYaml('new', 81 + index));
  const back = discover(one, 'node-a', { resume });
  await back.until('the new service', () => back.named(ResourceType.SERVICE).length > 0);
  expect(back.responses[0]).toMatchObject({ full: true });
  expect(back.named(ResourceType.SERVICE)).toEqual(['shop/new']);
});

test('a node that leaves takes its metrics with it', async () => {
  const series = async () => (await one.metrics()).includes('{node="node-a"}');
  const watcher = discover(one, 'watcher');
  await watcher.until('the first model', () => watcher.responses.length > 0);
  const node = discover(one, 'node-a');
  await node.until('the first model', () => node.responses.length > 0);
  await node.until('its metrics', () => one.logs.some((line) => line.includes('node-a')));
  await apply(one, serviceYaml('catalog'));
  await node.until('the change', () => node.resources.size > 0);
  await apply(one, serviceYaml('cart'));
  await node.until('the change', () => node.resources.size > 1);
  expect(await series()).toBe(true);
  const before = one.logs.length;
  node.close();
  await apply(one, serviceYaml('order'));
  while (!one.logs.slice(before).some((line) => line.includes('node disconnected'))) await listNodes(one);
  expect(await series()).toBe(false);
});

describe('two replicas over one etcd', () => {
  let two: TestController;
  beforeEach(async () => {
    two = await startTestController(etcd.endpoint);
    await ready(two);
  });
  afterEach(() => two.stop());

  test('wait at one sees the ack that came to the other', async () => {
    const node = discover(two, 'node-a');
    const registration = register(two, 'node-a');
    await registration.until('the registration', () => registration.responses > 0);
    await ready(one);
    const applied = await apply(one, serviceYaml('catalog'));
    expect(await wait(one, applied.revision)).toEqual({ acked: ['node-a'], pending: [], rejected: [] });
    expect(node.named(ResourceType.SERVICE)).toEqual(['shop/catalog']);
  });

  test('a node moves over with its token and its lease, without a gap', async () => {
    const watcher = discover(one, 'watcher');
    const node = discover(one, 'node-a');
    const registration = register(one, 'node-a', ['shop/catalog']);
    await registration.until('the registration', () => registration.responses > 0);
    const applied = await apply(one, `${serviceYaml('catalog')}---\n${workloadYaml('catalog', 'node-a', '10.1.0.1')}`);
    await watcher.until('the endpoint', () => watcher.named(ResourceType.ENDPOINT).length === 1);
    await node.until('the delta', () => node.revision >= applied.revision);
    node.close();
    registration.close();
    const moved = register(two, 'node-a', ['shop/catalog']);
    const movedNode = discover(two, 'node-a', { resume: node.token });
    await movedNode.until('a delta', () => movedNode.responses.length > 0);
    expect(movedNode.responses[0]?.full).toBe(false);
    await moved.until('heartbeats beyond the old lease', () => moved.responses >= 8);
    expect(watcher.responses.some(({ removed }) => removed.some(({ type }) => type === ResourceType.ENDPOINT))).toBe(false);
  });
});

describe('etcd goes away', () => {
  test('kill -9: reads and streams go on, writes say what is wrong within 3 s, and all recovers', async () => {
    const node = discover(one, 'node-a');
    const registration = register(one, 'node-a');
    await registration.until('the registration', () => registration.responses > 0);
    await apply(one, serviceYaml('catalog'));
    await node.until('the service', () => node.resources.size === 1);
    await etcd.kill();
    const started = performance.now();
    await expect(apply(one, serviceYaml('cart'))).rejects.toMatchObject({
      code: status.UNAVAILABLE,
      details: expect.stringContaining(etcd.endpoint),
    });
    expect(performance.now() - started).toBeLessThan(3_000);
    const late = discover(one, 'node-b');
    await late.until('the model from memory', () => late.resources.size === 1);
    expect((await list('Service')).objects).toHaveLength(1);
    await etcd.restart();
    await registration.until('a heartbeat after the return', heard(registration));
    const applied = await apply(one, serviceYaml('cart'));
    expect((await wait(one, applied.revision)).acked).toEqual(['node-a']);
    expect(node.error).toBeNull();
    expect(one.logs.filter((line) => line.includes('does not answer') && !line.includes('"audit"')).length).toBe(1);
  });

  test('silent or gone, every write is refused in words within 3.5 s, by the command too, and reads go on', async () => {
    const registration = register(one, 'node-a');
    await registration.until('the registration', () => registration.responses > 0);
    const first = await apply(one, serviceYaml('catalog'));
    await apply(one, serviceYaml('cart'));
    const object = { kind: 'Service', namespace: 'default', name: 'cart' };
    const writes: Readonly<Record<string, () => Promise<unknown>>> = {
      apply: () => apply(one, serviceYaml('order')),
      delete: () => ask((done) => one.admin.delete({ objects: [object], asOf: 0 }, done)),
      rollback: () => ask((done) => one.admin.rollback({ revision: first.revision, dryRun: false, asOf: 0 }, done)),
      drain: () => ask((done) => one.admin.drainNode({ node: 'node-a', end: false }, done)),
    };
    for (const away of [() => etcd.pause(), () => etcd.kill()]) {
      await away();
      const started = performance.now();
      const refused = Object.entries(writes).map(async ([name, write]) => {
        const error = await write().then(
          () => null,
          (reason: ServiceError) => reason,
        );
        return {
          name,
          code: error?.code,
          isTold: error?.details.includes('does not answer'),
          isQuick: performance.now() - started < 3_500,
        };
      });
      expect(await Promise.all(refused)).toEqual(
        Object.keys(writes).map((name) => ({ name, code: status.UNAVAILABLE, isTold: true, isQuick: true })),
      );
      const command = await runWeft(['apply', '-f', '-'], { WEFT_CONTROLLER: one.address }, serviceYaml('order'));
      expect(command).toMatchObject({ code: 1, stderr: expect.stringContaining('does not answer') });
      expect((await list('Service')).objects).toHaveLength(2);
    }
    await etcd.restart();
    await expect(retry(() => apply(one, serviceYaml('order')))).resolves.toMatchObject({ findings: [] });
  });

  test('SIGSTOP: a write fails within 3 s, and what was acked late is not lost', async () => {
    const node = discover(one, 'node-a');
    await node.until('the first model', () => node.responses.length > 0);
    etcd.pause();
    const started = performance.now();
    await expect(apply(one, serviceYaml('cart'))).rejects.toMatchObject({ code: status.UNAVAILABLE });
    expect(performance.now() - started).toBeLessThan(3_000);
    etcd.resume();
    await expect(retry(() => apply(one, serviceYaml('cart')))).resolves.toMatchObject({ findings: [] });
    await node.until('the service', () => node.named(ResourceType.SERVICE).length === 1);
  });
});

function heard(registration: TestRegistration): () => boolean {
  const before = registration.responses;
  return () => registration.responses > before;
}

async function retry<T>(action: () => Promise<T>): Promise<T> {
  for (let left = 20; ; left--) {
    try {
      return await action();
    } catch (error) {
      if (left === 0) throw error;
    }
  }
}

describe('a controller whose etcd comes later', () => {
  let late: TestEtcd;
  beforeAll(async () => {
    late = await startEtcd();
    await late.kill();
  });
  afterAll(() => late.stop());

  test('says once what is missing, and serves when it is there', async () => {
    const controller = await startTestController(late.endpoint);
    try {
      await expect(apply(controller, serviceYaml('catalog'))).rejects.toMatchObject({ code: status.UNAVAILABLE });
      const ready = await fetch(`http://${controller.controller.metricsAddress}/readyz`);
      expect(ready.status).toBe(503);
      const node = discover(controller, 'node-a');
      await late.restart();
      await node.until('the model', () => node.responses.length > 0);
      expect((await fetch(`http://${controller.controller.metricsAddress}/readyz`)).status).toBe(200);
      expect(controller.logs.filter((line) => line.includes('does not answer') && !line.includes('"audit"')).length).toBe(1);
      expect(await controller.metrics()).toContain('weft_controller_etcd_up 1');
    } finally {
      await controller.stop();
    }
  });
});

test('what the compilation says of an object stands in its status, and what is not acted on is told when it is applied', async () => {
  const manifest = `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: judged, namespace: shop}
spec:
  useDefaultGateways: All
  parentRefs: [{group: "", kind: Service, name: missing}]
  rules: [{backendRefs: [{name: missing, port: 80}]}]
`;
  const node = discover(one, 'node-a');
  const applied = await apply(one, manifest);
  expect(applied).toMatchObject({
    findings: [],
    warnings: [{ line: 5, path: 'spec.useDefaultGateways', message: 'accepted, not acted on yet: default gateways' }],
  });
  await node.until('the compilation', () => node.revision >= applied.revision);
  const { metadata, status } = JSON.parse((await list('HTTPRoute')).objects[0]!);
  expect(metadata.resourceVersion).toBe(String(applied.revision));
  const told = (conditions: { type: string; status: string; reason: string }[]) =>
    conditions.map((each) => `${each.type}=${each.status} ${each.reason}`);
  expect(told(status.parents[0].conditions)).toEqual(['Accepted=False NoMatchingParent', 'ResolvedRefs=False BackendNotFound']);
  expect(told(status.conditions)).toEqual(['mesh.weft.dev/ActedOn=False NotActedOn']);
});

describe('history', () => {
  const service = (port: number) => serviceYaml('catalog', port);
  const history = () => ask<HistoryResponse>((done) => one.admin.history({ limit: 0 }, done));
  const rollback = (revision: number, dryRun = false) =>
    ask<RollbackResponse>((done) => one.admin.rollback({ revision, dryRun, asOf: 0 }, done));
  const portOf = async () =>
    (JSON.parse((await list('Service')).objects[0] ?? '{}') as { spec?: { ports: { port: number }[] } }).spec?.ports[0]?.port;

  test('every change is told with its revision, time, command and objects; a rollback is one more, and can be rolled back', async () => {
    await ready(one);
    const first = await apply(one, service(81));
    const second = await apply(one, `${service(82)}---\n${serviceYaml('cart')}`);
    const third = await remove('Service', 'cart');
    const { entries } = await history();
    expect(
      entries.map(({ revision, command, changes }) => [
        revision,
        command,
        changes.map(({ name, action }) => `${name} ${Change_Action[action]}`),
      ]),
    ).toEqual([
      [third.revision, 'delete', ['cart DELETED']],
      [second.revision, 'apply', ['catalog CONFIGURED', 'cart CREATED']],
      [first.revision, 'apply', ['catalog CREATED']],
    ]);
    expect(Math.abs((entries[0]?.atMs ?? 0) - Date.now())).toBeLessThan(60_000);

    expect(await rollback(first.revision, true)).toMatchObject({
      revision: 0,
      changes: expect.arrayContaining([expect.objectContaining({ name: 'catalog' })]),
    });
    expect(await portOf()).toBe(82);
    const back = await rollback(first.revision);
    expect(await portOf()).toBe(81);
    await rollback(second.revision);
    expect((await list('Service')).objects.map((text) => JSON.parse(text).metadata.name)).toEqual(['cart', 'catalog']);
    expect((await history()).entries.map(({ command }) => command).slice(0, 2)).toEqual([
      `rollback to ${second.revision}`,
      `rollback to ${first.revision}`,
    ]);
    expect(back.changes).toContainEqual({ kind: 'Service', namespace: 'shop', name: 'catalog', action: Change_Action.CONFIGURED });
    await rollback(first.revision - 1);
    expect((await list('Service')).objects).toEqual([]);
  });

  test('a thousand objects are one revision, and one again on the way back, though others change objects meanwhile', async () => {
    await ready(one);
    const start = await apply(one, service(81));
    const many = Array.from({ length: 1_000 }, (_, index) => serviceYaml(`many-${index}`)).join('---\n');
    const others = Array.from({ length: 3 }, (_, index) => apply(one, serviceYaml(`other-${index}`)));
    const [done, ...rest] = await Promise.all([apply(one, many), ...others]);
    expect(done).toMatchObject({ findings: [], revision: expect.any(Number) });
    for (const each of rest) expect(each.revision).toBeGreaterThan(0);
    const named = (text: string): { name: string; resourceVersion: string } => JSON.parse(text).metadata;
    const stored = (await list('Service')).objects.map(named);
    expect(stored).toHaveLength(1_004);
    const ofMany = stored.filter(({ name }) => name.startsWith('many-'));
    expect(new Set(ofMany.map(({ resourceVersion }) => resourceVersion))).toEqual(new Set([String(done.revision)]));
    // Once more changes nothing; one of them that was changed since it was read refuses them all.
    expect(await apply(one, many)).toMatchObject({ findings: [], revision: 0 });
    const port81 = many.replaceAll('port: 80,', 'port: 81,');
    const stale = port81.replace('name: many-7,', `name: many-7, resourceVersion: "${start.revision}",`);
    expect(await apply(one, stale)).toMatchObject({ revision: 0, findings: [{ path: 'metadata.resourceVersion' }] });

    const changed = await apply(one, port81);
    const back = await rollback(start.revision);
    expect((await history()).entries.slice(0, 2).map(({ revision }) => revision)).toEqual([back.revision, changed.revision]);
    expect((await list('Service')).objects.map((text) => named(text).name)).toEqual(['catalog']);
    await rollback(changed.revision);
    expect((await list('Service')).objects).toHaveLength(1_004);
  });

  test('what lies before the history, and what is yet to come, is refused with what to do', async () => {
    await ready(one);
    const first = await apply(one, service(81));
    await expect(rollback(first.revision - 5)).rejects.toThrow(/the history begins at revision/);
    await expect(rollback(first.revision + 1000)).rejects.toThrow(/there is no revision/);
  });

  test('who changes what another changed meanwhile is refused, unless nothing is left to change or nothing was said of what was seen', async () => {
    await ready(one);
    const seen = (await apply(one, service(81))).revision;
    const edited = (port: number, at: number) => service(port).replace('metadata: {', `metadata: { resourceVersion: "${at}",`);
    const second = await apply(one, edited(82, seen));
    expect(second.findings).toEqual([]);
    expect(await apply(one, edited(83, seen))).toMatchObject({
      revision: 0,
      findings: [{ path: 'metadata.resourceVersion', message: expect.stringContaining(`it is at ${second.revision} now`) }],
    });
    expect(await portOf()).toBe(82);
    expect(await apply(one, edited(82, seen))).toMatchObject({ revision: 0, findings: [] });
    expect((await apply(one, edited(84, seen).replace('metadata: {', 'metadata: { uid: of-an-api-server,'))).findings).toEqual([]);
    expect(await portOf()).toBe(84);
  });
});
