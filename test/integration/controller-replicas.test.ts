// Three controllers over one etcd, with the agents' own discovery clients: what a rolling restart under load may cost, which is nothing.
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import pino from 'pino';
import { DiscoveryClient, type DiscoveryUpdate } from '../../agent/discovery/discovery-client.js';
import { type Clock, systemClock } from '../../agent/link/clock.js';
import { shuffled } from '../../agent/link/link.js';
import { decodeResource } from '../../api/compile/index.js';
import { type ApplyResponse, Change_Action, type CurrentRevisionResponse, type ListNodesResponse } from '../../api/gen/mesh/v1/admin.js';
import { ResourceType } from '../../api/gen/mesh/v1/model.js';
import { ObjectChanges } from '../../controller/admin/object-changes.js';
import { systemClock as controllerClock } from '../../controller/clock.js';
import { EtcdClient } from '../../controller/store/etcd-client.js';
import { Keyspace } from '../../controller/store/keys.js';
import { StoreView } from '../../controller/store/view.js';
import { Condition } from '../lab/condition.js';
import { startEtcd, type TestEtcd } from '../lab/etcd.js';
import { eventually } from '../lab/eventually.js';
import { apply, ask, serviceYaml, startTestController, type TestController, TestNode, TestRegistration } from './controller-lab.js';

let etcd: TestEtcd;
const closing: (() => Promise<void> | void)[] = [];
beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  await etcd.stop();
});

/** Waits of minutes are over at once. */
const hurried: Clock = { ...systemClock, delay: (ms, signal) => systemClock.delay(ms > 30_000 ? 50 : ms, signal) };

class Node extends Condition {
  readonly ports = new Map<string, number>();
  updates: DiscoveryUpdate[] = [];
  readonly client: DiscoveryClient;

  constructor(name: string, addresses: readonly string[]) {
    super();
    this.client = new DiscoveryClient({
      addresses: shuffled(addresses, systemClock),
      node: name,
      version: 'test',
      resume: null,
      onUpdate: (update) => Promise.resolve(this.#apply(update)),
      onState: () => this.changed(),
      log: pino({ level: 'silent' }),
      clock: hurried,
    });
    this.client.start();
    closing.push(() => this.client.stop());
  }

  #apply(update: DiscoveryUpdate): [] {
    this.updates.push(update);
    if (update.full) this.ports.clear();
    for (const resource of update.resources) {
      const decoded = decodeResource(resource);
      if (decoded.kind !== 'resource' || decoded.resource.type !== ResourceType.SERVICE) continue;
      this.ports.set(resource.name, decoded.resource.message.ports[0]?.port ?? 0);
    }
    this.changed();
    return [];
  }
}

test('a rolling restart under load loses no change, takes no node back, and leaves the nodes spread as before', async () => {
  const controllers: TestController[] = [];
  for (let index = 0; index < 3; index++) controllers.push(await startTestController(etcd.endpoint));
  closing.push(async () => {
    for (const controller of controllers) await controller.stop();
  });
  const addresses = controllers.map(({ address }) => address);
  const nodes = Array.from({ length: 12 }, (_, index) => new Node(`n${index}`, addresses));
  for (const node of nodes) await node.until('connected', () => node.client.state === 'connected');
  const homes = nodes.map(({ client }) => client.address);
  expect(new Set(homes).size).toBeGreaterThan(1);

  let isOver = false;
  let acknowledged = 0;
  let live = controllers[0]!;
  const writing = (async () => {
    for (let port = 1; !isOver; port++) {
      // The operator's client goes to one that runs; what it is refused, it repeats.
      while (
        !(await apply(live, serviceYaml('counter', port)).then(
          ({ findings }) => findings.length === 0,
          () => false,
        ))
      ) {
        await systemClock.delay(20, new AbortController().signal);
      }
      acknowledged = port;
    }
  })();
  for (const [index, controller] of controllers.entries()) {
    live = controllers[(index + 1) % 3]!;
    const before = acknowledged;
    await controller.stop();
    controllers[index] = await startTestController(etcd.endpoint, { listen: [controller.address] });
    await nodes[0]!.until('a change written meanwhile', () => (nodes[0]!.ports.get('shop/counter') ?? 0) > before);
  }
  isOver = true;
  await writing;
  for (const node of nodes) await node.until('the last change', () => node.ports.get('shop/counter') === acknowledged);
  for (const node of nodes) {
    const revisions = node.updates.map(({ revision }) => revision);
    expect(revisions).toEqual([...revisions].sort((a, b) => a - b));
  }
  for (const [index, node] of nodes.entries()) {
    await node.until(`back at ${homes[index]}`, () => node.client.address === homes[index] && node.client.state === 'connected');
  }
});

test('that nothing has to change is said by etcd, not by a replica that may be behind', async () => {
  const controller = await startTestController(etcd.endpoint);
  closing.push(() => controller.stop());
  await apply(controller, serviceYaml('same'));
  expect(await apply(controller, serviceYaml('same'))).toMatchObject({ revision: 0, findings: [] });
  etcd.pause();
  try {
    await expect(apply(controller, serviceYaml('same'))).rejects.toThrow(/does not answer/);
  } finally {
    etcd.resume();
  }
});

test('what its caller gave up is not tried again over what another replica wrote meanwhile', async () => {
  const client = new EtcdClient({ endpoints: [etcd.endpoint] });
  closing.push(() => client.close());
  const keys = new Keyspace('/given-up');
  // It has seen nothing yet, as one that hung: its first attempt is refused, and etcd says what stands there.
  const behind = new StoreView(client, keys, controllerClock, { state: () => {}, unreadable: () => {} });
  const changes = new ObjectChanges(
    client,
    behind,
    keys,
    () => Promise.reject(new Error('no view')),
    () => 1,
  );
  const ref = { kind: 'Service', namespace: 'shop', name: 's' };
  const cause = { actor: 'test', isVerified: false, command: 'apply' };
  const bring = (manifest: unknown, isAwaited: () => boolean) =>
    changes.bring([{ ref, manifest, seenAt: null }], cause, false, { isAwaited, asOf: 0 });
  expect(await bring('by another', () => true)).toMatchObject({ kind: 'done' });
  let asked = 0;
  expect(await bring('given up', () => asked++ === 0)).toMatchObject({
    kind: 'unavailable',
    message: expect.stringContaining('no longer waits'),
  });
  const { kvs } = await client.range({ key: Buffer.from(keys.object(ref)) });
  expect(kvs[0]?.value.toString()).toContain('by another');
  expect(await bring('awaited', () => true)).toMatchObject({ kind: 'done' });
});

test('what a network held back is not written over what was written meanwhile', async () => {
  const controller = await startTestController(etcd.endpoint);
  closing.push(() => controller.stop());
  const { admin } = controller;
  const { revision } = await ask<CurrentRevisionResponse>((done) => admin.currentRevision({}, done));
  const send = (port: number, asOf: number) => {
    const files = [{ name: 'held.yaml', content: serviceYaml('held', port) }];
    return ask<ApplyResponse>((done) => admin.apply({ files, dryRun: false, asOf }, done));
  };
  const again = await send(81, revision);
  expect(again.changes).toMatchObject([{ name: 'held', action: Change_Action.CREATED }]);
  // The first try, which comes only now.
  await expect(send(80, revision)).rejects.toThrow(`Service shop/held was changed at revision ${again.revision}, after this was begun`);
  expect(await send(81, revision)).toMatchObject({ revision: 0, findings: [] });
  expect(await send(82, again.revision)).toMatchObject({ changes: [{ name: 'held', action: Change_Action.CONFIGURED }] });
});

test('a replica that has just started calls no node behind that another one serves', async () => {
  const serving = await startTestController(etcd.endpoint);
  closing.push(() => serving.stop());
  const { revision } = await apply(serving, serviceYaml('fresh'));
  const node = new TestNode(serving.address, 'served');
  const registrations = [new TestRegistration(serving.address, 'served')];
  closing.push(
    () => node.close(),
    () => {
      for (const each of registrations) each.close();
    },
  );
  await node.until('what was applied', () => node.revision >= revision);
  // Who joins changes nothing for others, and is a part of the model all the same.
  registrations.push(new TestRegistration(serving.address, 'joins'));
  const list = (at: TestController) => ask<ListNodesResponse>((done) => at.admin.listNodes({}, done));
  const served = ({ nodes }: ListNodesResponse) => nodes.find(({ name }) => name === 'served');
  await eventually(
    () => list(serving),
    (listed) => listed.nodes.some(({ name }) => name === 'joins') && (served(listed)?.ackedRevision ?? 0) >= revision,
  );
  const fresh = await startTestController(etcd.endpoint);
  closing.push(() => fresh.stop());
  const listed = await eventually(
    () => list(fresh),
    (all) => (served(all)?.ackedRevision ?? 0) >= revision,
  );
  // Its own model is as of later, and that is nothing that the node lacks.
  expect(listed.revision).toBeGreaterThan(served(listed)!.ackedRevision);
  expect(served(listed)).toMatchObject({ connected: true });
  expect(served(listed)!.ackedRevision).toBeGreaterThanOrEqual(served(listed)!.wantedRevision);
  expect(served(listed)!.wantedRevision).toBeGreaterThanOrEqual(revision);
});
