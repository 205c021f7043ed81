// The controller while etcd is away, silent, late or another one, and beside a second controller.
import { type ServiceError, status } from '@grpc/grpc-js';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { ResourceType } from '../../api/gen/mesh/v1/model.js';
import { startEtcd, type TestEtcd } from '../lab/etcd.js';
import { until } from '../lab/eventually.js';
import { runWeft } from '../lab/weft-command.js';
import {
  apply,
  ask,
  serviceYaml,
  startTestController,
  type TestController,
  type TestRegistration,
  workloadYaml,
} from './controller-lab.js';
import { ControllerScope } from './controller-scope.js';

const scope = new ControllerScope();

test('it stops within its grace though etcd is silent from the start', async () => {
  scope.etcd.pause();
  const late = await startTestController(scope.etcd.endpoint);
  const started = performance.now();
  await late.stop();
  expect(performance.now() - started).toBeLessThan(3_000);
  scope.etcd.resume();
});

test('a token of an etcd that was set up anew fits no longer, even when the new one has come as far', async () => {
  const node = scope.discover(scope.one, 'node-a');
  await apply(scope.one, serviceYaml('old'));
  await node.until('the service', () => node.resources.size === 1 && node.token?.clusterId !== '');
  const resume = node.token;
  node.close();
  await scope.one.stop();
  await scope.etcd.wipe();
  scope.one = await startTestController(scope.etcd.endpoint);
  for (let index = 0; index < 10; index++) await apply(scope.one, serviceYaml('new', 81 + index));
  const back = scope.discover(scope.one, 'node-a', { resume });
  await back.until('the new service', () => back.named(ResourceType.SERVICE).length > 0);
  expect(back.responses[0]).toMatchObject({ full: true });
  expect(back.named(ResourceType.SERVICE)).toEqual(['shop/new']);
});

test('an etcd that lost its data while the controller ran is told in its log, with what to do', async () => {
  const node = scope.discover(scope.one, 'node-a');
  for (const name of ['a', 'b', 'c']) await apply(scope.one, serviceYaml(name));
  await node.until('the services', () => node.resources.size === 3);
  await scope.etcd.wipe();
  await scope.one.logged('weft controller restore');
});

describe('more objects at once than etcd takes in one transaction', () => {
  const many = (count: number, bytes: number) =>
    Array.from({ length: count }, (_, index) =>
      serviceYaml(`many-${index}`).replace('metadata: {', `metadata: { annotations: { note: ${'x'.repeat(bytes)} },`),
    ).join('---\n');

  test('are refused whole, with how many and how much they are, and what to do', async () => {
    await scope.ready(scope.one);
    await expect(apply(scope.one, many(2_500, 400))).rejects.toMatchObject({
      code: status.INVALID_ARGUMENT,
      details: expect.stringMatching(
        /^the change is 2501 keys and \d\.\d MiB: .*(larger than max|too large).*--max-request-bytes.*Nothing was written: make it in parts, each one revision \(weft apply -f/,
      ),
    });
    await expect(apply(scope.one, many(4_100, 1))).rejects.toMatchObject({
      details: expect.stringContaining('takes 4096. Nothing was written: make it in parts'),
    });
    expect((await scope.list('Service')).objects).toEqual([]);
    await apply(scope.one, many(2_500, 1));
    expect((await scope.list('Service')).objects.length).toBe(2_500);
  });

  test('are one revision where etcd was told to take more', async () => {
    const etcd = await startEtcd(null, ['--max-request-bytes', '8388608']);
    scope.closing.push(() => etcd.stop());
    const controller = await startTestController(etcd.endpoint);
    scope.closing.push(() => controller.stop());
    await scope.ready(controller);
    const node = scope.discover(controller, 'node-a');
    const { findings, revision } = await apply(controller, many(2_500, 400));
    expect({ findings, revision }).toEqual({ findings: [], revision: expect.any(Number) });
    await node.until('all of it', () => node.named(ResourceType.SERVICE).length === 2_500);
    // Not in parts.
    expect(new Set(node.responses.filter(({ resources }) => resources.length > 0).map((response) => response.resources.length))).toEqual(
      new Set([2_500]),
    );
  });
});

describe('two replicas over one etcd', () => {
  let two: TestController;
  beforeEach(async () => {
    two = await startTestController(scope.etcd.endpoint);
    await scope.ready(two);
  });
  afterEach(() => two.stop());

  test('wait at one sees the ack that came to the other', async () => {
    const node = scope.discover(two, 'node-a');
    const registration = scope.register(two, 'node-a');
    await registration.until('the registration', () => registration.responses > 0);
    await scope.ready(scope.one);
    const applied = await apply(scope.one, serviceYaml('catalog'));
    expect(await scope.wait(scope.one, applied.revision)).toEqual({ acked: ['node-a'], pending: [], rejected: [] });
    expect(node.named(ResourceType.SERVICE)).toEqual(['shop/catalog']);
  });

  test('a node moves over with its token and its lease, without a gap', async () => {
    const watcher = scope.discover(scope.one, 'watcher');
    const node = scope.discover(scope.one, 'node-a');
    const registration = scope.register(scope.one, 'node-a', ['shop/catalog']);
    await registration.until('the registration', () => registration.responses > 0);
    const applied = await apply(scope.one, `${serviceYaml('catalog')}---\n${workloadYaml('catalog', 'node-a', '10.1.0.1')}`);
    await watcher.until('the endpoint', () => watcher.named(ResourceType.ENDPOINT).length === 1);
    await node.until('the delta', () => node.revision >= applied.revision);
    node.close();
    registration.close();
    const moved = scope.register(two, 'node-a', ['shop/catalog']);
    const movedNode = scope.discover(two, 'node-a', { resume: node.token });
    await movedNode.until('a delta', () => movedNode.responses.length > 0);
    expect(movedNode.responses[0]?.full).toBe(false);
    await moved.until('heartbeats beyond the old lease', () => moved.responses >= 8);
    expect(watcher.responses.some(({ removed }) => removed.some(({ type }) => type === ResourceType.ENDPOINT))).toBe(false);
  });
});

describe('etcd goes away', () => {
  test('kill -9: reads and streams go on, writes say what is wrong within 3 s, and all recovers', async () => {
    const node = scope.discover(scope.one, 'node-a');
    const registration = scope.register(scope.one, 'node-a');
    await registration.until('the registration', () => registration.responses > 0);
    await apply(scope.one, serviceYaml('catalog'));
    await node.until('the service', () => node.resources.size === 1);
    await scope.etcd.kill();
    const started = performance.now();
    await expect(apply(scope.one, serviceYaml('cart'))).rejects.toMatchObject({
      code: status.UNAVAILABLE,
      details: expect.stringContaining(scope.etcd.endpoint),
    });
    expect(performance.now() - started).toBeLessThan(3_000);
    const late = scope.discover(scope.one, 'node-b');
    await late.until('the model from memory', () => late.resources.size === 1);
    expect((await scope.list('Service')).objects).toHaveLength(1);
    await scope.etcd.restart();
    await registration.until('a heartbeat after the return', heard(registration));
    const applied = await apply(scope.one, serviceYaml('cart'));
    expect((await scope.wait(scope.one, applied.revision)).acked).toEqual(['node-a']);
    expect(node.error).toBeNull();
    expect(scope.one.logs.filter((line) => line.includes('does not answer') && !line.includes('"audit"')).length).toBe(1);
  });

  test('silent or gone, every write is refused in words within 3.5 s, by the command too, and reads go on', async () => {
    const registration = scope.register(scope.one, 'node-a');
    await registration.until('the registration', () => registration.responses > 0);
    const first = await apply(scope.one, serviceYaml('catalog'));
    await apply(scope.one, serviceYaml('cart'));
    const object = { kind: 'Service', namespace: 'default', name: 'cart' };
    const writes: Readonly<Record<string, () => Promise<unknown>>> = {
      apply: () => apply(scope.one, serviceYaml('order')),
      delete: () => ask((done) => scope.one.admin.delete({ objects: [object], asOf: 0 }, done)),
      rollback: () => ask((done) => scope.one.admin.rollback({ revision: first.revision, dryRun: false, asOf: 0 }, done)),
      drain: () => ask((done) => scope.one.admin.drainNode({ node: 'node-a', end: false }, done)),
    };
    for (const away of [() => scope.etcd.pause(), () => scope.etcd.kill()]) {
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
      const command = await runWeft(['apply', '-f', '-'], { WEFT_CONTROLLER: scope.one.address }, serviceYaml('order'));
      expect(command).toMatchObject({ code: 1, stderr: expect.stringContaining('does not answer') });
      expect((await scope.list('Service')).objects).toHaveLength(2);
    }
    await scope.etcd.restart();
    await until('a write after the return', async () => (await apply(scope.one, serviceYaml('order'))).findings.length === 0);
  });

  test('full: writes say so and what to do, nothing is written, and all goes on when it has room', async () => {
    await apply(scope.one, serviceYaml('catalog'));
    await scope.etcd.alarm('Activate');
    await expect(apply(scope.one, serviceYaml('cart'))).rejects.toMatchObject({
      code: status.UNAVAILABLE,
      details: expect.stringMatching(/is full .*etcdctl alarm disarm.*Nothing was written/),
    });
    const registration = scope.register(scope.one, 'node-a');
    await scope.one.logged('node can’t be written to etcd');
    expect(scope.one.logs.find((line) => line.includes('can’t be written'))).toContain('etcdctl alarm disarm');
    await scope.etcd.alarm('Deactivate');
    await registration.until('the registration', () => registration.responses > 0);
    await apply(scope.one, serviceYaml('cart'));
  });

  test('SIGSTOP: a write fails within 3 s, and what was acked late is not lost', async () => {
    const node = scope.discover(scope.one, 'node-a');
    await node.until('the first model', () => node.responses.length > 0);
    scope.etcd.pause();
    const started = performance.now();
    await expect(apply(scope.one, serviceYaml('cart'))).rejects.toMatchObject({ code: status.UNAVAILABLE });
    expect(performance.now() - started).toBeLessThan(3_000);
    scope.etcd.resume();
    await until('a write after the silence', async () => (await apply(scope.one, serviceYaml('cart'))).findings.length === 0);
    await node.until('the service', () => node.named(ResourceType.SERVICE).length === 1);
  });
});

function heard(registration: TestRegistration): () => boolean {
  const before = registration.responses;
  return () => registration.responses > before;
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
      const node = scope.discover(controller, 'node-a');
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
