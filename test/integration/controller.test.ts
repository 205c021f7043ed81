// The controller from outside: real etcd, real gRPC clients.
import { readFileSync } from 'node:fs';
import { status } from '@grpc/grpc-js';
import { expect, test } from '@jest/globals';
import { Change_Action, type DeleteResponse } from '../../api/gen/mesh/v1/admin.js';
import { ConnectionRoute, EndpointHealth, Listener, ResourceType, Service } from '../../api/gen/mesh/v1/model.js';
import { apply, ask, serviceYaml, startTestController, workloadYaml } from './controller-lab.js';
import { ControllerScope, running } from './controller-scope.js';

const scope = new ControllerScope();

test('apply reaches a node as a delta, is acked, and wait returns', async () => {
  const node = scope.discover(scope.one, 'node-a');
  const registration = scope.register(scope.one, 'node-a');
  await node.until('the empty snapshot', () => node.responses.length === 1);
  expect(node.responses[0]).toMatchObject({ full: true, more: false, resources: [] });
  await registration.until('the registration', () => registration.responses > 0);

  const applied = await apply(scope.one, serviceYaml('catalog'));
  expect(applied).toMatchObject({
    findings: [],
    changes: [{ kind: 'Service', namespace: 'shop', name: 'catalog', action: Change_Action.CREATED }],
  });
  const waited = await scope.wait(scope.one, applied.revision);
  expect(waited).toEqual({ acked: ['node-a'], pending: [], rejected: [] });
  // One push may stand for more than the apply: the node's own registration is written meanwhile.
  expect(node.responses.at(-1)?.full).toBe(false);
  expect(node.responses.at(-1)?.revision).toBeGreaterThanOrEqual(applied.revision);
  expect(node.named(ResourceType.SERVICE)).toEqual(['shop/catalog']);

  const again = await apply(scope.one, serviceYaml('catalog'));
  expect(again).toMatchObject({ revision: 0, changes: [{ action: Change_Action.UNCHANGED }] });
  const deleted = await scope.remove('service', 'catalog');
  await scope.wait(scope.one, deleted.revision);
  expect(node.resources.size).toBe(0);
  expect(node.responses.at(-1)?.removed).toEqual([{ type: ResourceType.SERVICE, name: 'shop/catalog' }]);
});

test('three mistakes are all told with their lines, and nothing is written', async () => {
  await scope.ready(scope.one);
  const broken = `${serviceYaml('good')}---\napiVersion: v1\nkind: Service\nmetadata: { name: bad, namespace: shop }\nspec:\n  prots: []\n  ports: [{ port: 99999 }]\n  selector: 3\n`;
  const applied = await apply(scope.one, broken);
  expect(applied.findings.length).toBeGreaterThanOrEqual(3);
  for (const finding of applied.findings) expect(finding).toMatchObject({ file: 'test.yaml', line: expect.any(Number) });
  expect(applied).toMatchObject({ revision: 0, changes: [] });
  const got = await scope.list('Service');
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
  const node = scope.discover(scope.one, 'node-a');
  const applied = await apply(scope.one, [secret('used'), secret('unused'), gateway].join('---\n'));
  expect(applied.findings).toEqual([]);
  await node.until('the listener', () => node.named(ResourceType.LISTENER).length === 1);
  const body = [...node.resources.values()].find(({ type }) => type === ResourceType.LISTENER)!.body;
  expect(Listener.decode(body).tls?.certificates).toEqual([
    { chain: expect.stringContaining('CERTIFICATE'), key: expect.stringContaining('PRIVATE KEY') },
  ]);
  expect(node.resources.size).toBe(1);
  const shown = (await scope.list('secrets')).objects.map((text) => JSON.parse(text) as { data: unknown });
  expect(shown.map(({ data }) => data)).toEqual(Array(2).fill({ 'tls.crt': '(hidden)', 'tls.key': '(hidden)', 'ca.crt': '(hidden)' }));
});

test('a dry run tells the changes and writes nothing', async () => {
  await scope.ready(scope.one);
  expect(await apply(scope.one, serviceYaml('catalog'), true)).toMatchObject({ revision: 0, changes: [{ action: Change_Action.CREATED }] });
  expect((await scope.list('svc')).objects).toEqual([]);
});

test('routes for connections and gRPC, and TLS to endpoints, go to the nodes; a grant that is taken away takes its backend with it', async () => {
  const node = scope.discover(scope.one, 'node-a');
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
  const applied = await apply(scope.one, [edge, tlsRoute, grpcRoute, policy, grant, `${serviceYaml('catalog')}\n---\n`, abroad].join(''));
  expect(applied.findings).toEqual([]);
  await node.until('the whole', () => node.revision >= applied.revision);
  const backends = () => ConnectionRoute.decode(node.resources.get(`${ResourceType.CONNECTION_ROUTE}/TLSRoute/shop/db`)!.body).backends;
  expect(backends()).toMatchObject([{ service: 'other/db', port: 80, weight: 1 }]);
  expect(node.named(ResourceType.HTTP_ROUTE)).toEqual(['GRPCRoute/shop/db']);
  const catalog = Service.decode(node.resources.get(`${ResourceType.SERVICE}/shop/catalog`)!.body);
  expect(catalog.ports[0]?.tls).toMatchObject({ hostname: 'catalog.test', accepts: [], trust: '', systemTrust: true });
  // Kept as the newest version.
  expect((await scope.list('TLSRoute')).objects.map((text) => (JSON.parse(text) as { apiVersion: string }).apiVersion)).toEqual([
    'gateway.networking.k8s.io/v1',
  ]);
  const removed = await ask<DeleteResponse>((done) =>
    scope.one.admin.delete({ objects: [{ kind: 'ReferenceGrant', namespace: 'other', name: 'db' }], asOf: 0 }, done),
  );
  await node.until('the route without its backend', () => node.revision >= removed.revision);
  expect(backends()).toMatchObject([{ service: '', port: 80, weight: 1 }]);
});

test('a resource that a node refuses is refused alone and named', async () => {
  const node = scope.discover(scope.one, 'node-a', {
    refuse: (resource: { name: string }) => (resource.name === 'shop/bad' ? 'no thanks' : null),
  });
  const registration = scope.register(scope.one, 'node-a');
  await registration.until('the registration', () => registration.responses > 0);
  const applied = await apply(scope.one, `${serviceYaml('bad')}---\n${serviceYaml('good')}`);
  const waited = await scope.wait(scope.one, applied.revision);
  expect(waited.acked).toEqual(['node-a']);
  expect(waited.rejected).toEqual([{ node: 'node-a', rejection: { type: ResourceType.SERVICE, name: 'shop/bad', error: 'no thanks' } }]);
  expect(node.named(ResourceType.SERVICE)).toEqual(['shop/good']);
  const { nodes } = await scope.listNodes(scope.one);
  expect(nodes[0]?.rejected).toHaveLength(1);
  await scope.wait(scope.one, (await scope.remove('Service', 'bad')).revision);
  expect((await scope.wait(scope.one, 0)).rejected).toEqual([]);
});

test('a node that comes back gets what it missed and no more; after a restart of the controller, a full snapshot', async () => {
  const before = scope.discover(scope.one, 'node-a');
  await before.until('the first model', () => before.responses.length > 0);
  const first = await apply(scope.one, `${serviceYaml('catalog')}---\n${serviceYaml('cart')}`);
  await before.until('both services', () => before.revision >= first.revision);
  before.close();

  const second = await apply(scope.one, serviceYaml('order'));
  await scope.remove('Service', 'cart');
  const after = scope.discover(scope.one, 'node-a', { resume: before.token });
  await after.until('what it missed', () => after.revision > second.revision);
  expect(after.responses.every((response) => !response.full)).toBe(true);
  expect(after.named(ResourceType.SERVICE)).toEqual(['shop/order']);
  expect(after.responses.flatMap(({ removed }) => removed)).toEqual([{ type: ResourceType.SERVICE, name: 'shop/cart' }]);

  const token = after.token;
  await apply(scope.one, serviceYaml('web'));
  await scope.one.stop();
  scope.one = await startTestController(scope.etcd.endpoint);
  const anew = scope.discover(scope.one, 'node-a', { resume: token });
  await anew.until('the snapshot', () => anew.responses.length > 0);
  expect(anew.responses[0]?.full).toBe(true);
  expect(anew.named(ResourceType.SERVICE).sort()).toEqual(['shop/catalog', 'shop/order', 'shop/web']);
});

test('a workload serves while its node says so, and ends with the node’s lease', async () => {
  const watcher = scope.discover(scope.one, 'watcher');
  const node = scope.register(scope.one, 'node-a', ['shop/catalog']);
  await watcher.until('the first model', () => watcher.responses.length > 0);
  await apply(scope.one, `${serviceYaml('catalog')}---\n${workloadYaml('catalog', 'node-a', '10.1.0.1')}`);
  const endpoints = (): string[] => watcher.named(ResourceType.ENDPOINT);
  await watcher.until('the endpoint', () => endpoints().length === 1);
  node.say([]);
  await watcher.until('no endpoint, as the agent said so', () => endpoints().length === 0);
  node.say([running('shop/catalog')]);
  await watcher.until('the endpoint again', () => endpoints().length === 1);
  expect((await scope.listNodes(scope.one)).nodes).toMatchObject([{ name: 'node-a', zone: 'z1', workloads: [{ name: 'shop/catalog' }] }]);
  node.close();
  await watcher.until('no endpoint, as the lease is over', () => endpoints().length === 0);
  expect((await scope.listNodes(scope.one)).nodes).toEqual([]);
});

test('a reader that stops reading skips revisions: memory stays bounded, and it ends at the newest', async () => {
  const slow = scope.discover(scope.one, 'slow');
  const quick = scope.discover(scope.one, 'quick');
  await slow.until('the first model', () => slow.responses.length > 0);
  await quick.until('the first model', () => quick.responses.length > 0);
  slow.pauseReading();
  const revisions = 30;
  for (let step = 1; step <= revisions; step++) {
    const services = Array.from({ length: 100 }, (_, index) => serviceYaml(`service-${index}`, step));
    const { revision } = await apply(scope.one, services.join('---\n'));
    await quick.until('the revision', () => quick.revision >= revision);
  }
  slow.resumeReading();
  await slow.until('the newest', () => slow.revision === quick.revision);
  expect(slow.responses.length).toBeLessThan(revisions / 2);
  expect(slow.resources).toEqual(quick.resources);
});

test('wait names the nodes that have not acked', async () => {
  const registration = scope.register(scope.one, 'node-b');
  await registration.until('the registration', () => registration.responses > 0);
  const applied = await apply(scope.one, serviceYaml('catalog'));
  expect(await scope.wait(scope.one, applied.revision, 200)).toEqual({ acked: [], pending: ['node-b'], rejected: [] });
});

test('a second agent with the same name ends the first one’s streams with the reason', async () => {
  const first = scope.discover(scope.one, 'node-a');
  const firstRegistration = scope.register(scope.one, 'node-a');
  await first.until('the first model', () => first.responses.length > 0);
  await firstRegistration.until('the registration', () => firstRegistration.responses > 0);
  const second = scope.discover(scope.one, 'node-a');
  const secondRegistration = scope.register(scope.one, 'node-a', ['shop/x']);
  await second.until('the model', () => second.responses.length > 0);
  await secondRegistration.until('the registration', () => secondRegistration.responses > 0);
  firstRegistration.say([running('shop/y')]);
  await firstRegistration.until('the end', () => firstRegistration.error !== null);
  expect(firstRegistration.error).toMatchObject({ code: status.ABORTED, details: expect.stringContaining('second agent') });
  await first.until('the end', () => first.error !== null);
});

test('a first agent that says nothing new hears of a second one too, and what runs there comes back when it registers anew', async () => {
  const watcher = scope.discover(scope.one, 'node-w');
  await apply(scope.one, `${serviceYaml('catalog')}---\n${workloadYaml('catalog', 'node-a', '10.1.0.1')}`);
  const first = scope.register(scope.one, 'node-a', ['shop/catalog']);
  await watcher.until('the endpoint', () => watcher.named(ResourceType.ENDPOINT).length === 1);
  const second = scope.register(scope.one, 'node-a');
  await watcher.until('no endpoint', () => watcher.named(ResourceType.ENDPOINT).length === 0);
  await first.until('the end', () => first.error !== null);
  expect(first.error).toMatchObject({ code: status.ABORTED, details: expect.stringContaining('second agent') });
  second.close();
  scope.register(scope.one, 'node-a', ['shop/catalog']);
  await watcher.until('the endpoint again', () => watcher.named(ResourceType.ENDPOINT).length === 1);
});

test('a port that is taken is told in the kernel’s words', async () => {
  const { address } = scope.one;
  await expect(startTestController(scope.etcd.endpoint, { listen: [address] })).rejects.toThrow(
    `can't listen on ${address}: listen EADDRINUSE: address already in use ${address}. Is another weft running`,
  );
});

test('what would become a part of keys, addresses or labels is checked on every stream', async () => {
  const stranger = scope.discover(scope.one, 'a"}/../b');
  await stranger.until('the refusal', () => stranger.error !== null);
  expect(stranger.error).toMatchObject({ code: status.INVALID_ARGUMENT, details: expect.stringContaining('no node name') });
  const registration = scope.register(scope.one, 'node-a');
  await registration.until('the registration', () => registration.responses > 0);
  registration.say([{ name: 'shop/w', addresses: ['fe80::1%eth0'], health: EndpointHealth.READY }]);
  await registration.until('the refusal', () => registration.error !== null);
  expect(registration.error).toMatchObject({
    code: status.INVALID_ARGUMENT,
    details: expect.stringContaining('"fe80::1%eth0" is no IPv4 or IPv6'),
  });
});

test('while a large file is read the others are answered; one of more objects than etcd takes at once is refused whole', async () => {
  const content = Array.from({ length: 4_100 }, (_, index) => serviceYaml(`s-${index}`)).join('---\n');
  let isDone = false;
  const applied = expect(apply(scope.one, content).finally(() => (isDone = true))).rejects.toMatchObject({
    details: expect.stringContaining('make it in parts'),
  });
  let answered = 0;
  while (!isDone) {
    await scope.listNodes(scope.one);
    answered++;
  }
  await applied;
  expect(answered).toBeGreaterThan(5);
  expect((await scope.list('Service')).objects).toEqual([]);
});

test('waiting for what stands there already waits until it is in force', async () => {
  const node = scope.discover(scope.one, 'node-a');
  const registration = scope.register(scope.one, 'node-a');
  await registration.until('the registration', () => registration.responses > 0);
  for (let index = 0; index < 10; index++) {
    const { revision } = await apply(scope.one, serviceYaml('catalog', 81 + index));
    expect((await apply(scope.one, serviceYaml('catalog', 81 + index))).revision).toBe(0);
    expect(await scope.wait(scope.one, 0)).toMatchObject({ pending: [] });
    expect(node.revision).toBeGreaterThanOrEqual(revision);
  }
});

test('a node that leaves takes its metrics with it', async () => {
  const series = async () => (await scope.one.metrics()).includes('{node="node-a"}');
  const watcher = scope.discover(scope.one, 'watcher');
  await watcher.until('the first model', () => watcher.responses.length > 0);
  const node = scope.discover(scope.one, 'node-a');
  await node.until('the first model', () => node.responses.length > 0);
  await node.until('its metrics', () => scope.one.logs.some((line) => line.includes('node-a')));
  await apply(scope.one, serviceYaml('catalog'));
  await node.until('the change', () => node.resources.size > 0);
  await apply(scope.one, serviceYaml('cart'));
  await node.until('the change', () => node.resources.size > 1);
  expect(await series()).toBe(true);
  const before = scope.one.logs.length;
  node.close();
  await apply(scope.one, serviceYaml('order'));
  while (!scope.one.logs.slice(before).some((line) => line.includes('node disconnected'))) await scope.listNodes(scope.one);
  expect(await series()).toBe(false);
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
  const node = scope.discover(scope.one, 'node-a');
  const applied = await apply(scope.one, manifest);
  expect(applied).toMatchObject({
    findings: [],
    warnings: [{ line: 5, path: 'spec.useDefaultGateways', message: 'accepted, not acted on yet: default gateways' }],
  });
  await node.until('the compilation', () => node.revision >= applied.revision);
  const { metadata, status } = JSON.parse((await scope.list('HTTPRoute')).objects[0]!);
  expect(metadata.resourceVersion).toBe(String(applied.revision));
  const told = (conditions: { type: string; status: string; reason: string }[]) =>
    conditions.map((each) => `${each.type}=${each.status} ${each.reason}`);
  expect(told(status.parents[0].conditions)).toEqual(['Accepted=False NoMatchingParent', 'ResolvedRefs=False BackendNotFound']);
  expect(told(status.conditions)).toEqual(['mesh.weft.dev/ActedOn=False NotActedOn']);
});
