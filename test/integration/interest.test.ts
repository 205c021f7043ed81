// Who is told what, over real etcd and real streams: nodes hear of what their workloads can reach, as of one revision, whatever way they came to it.
import { beforeEach, expect, test } from '@jest/globals';
import type { ListNodesResponse } from '../../api/gen/mesh/v1/admin.js';
import { ResourceType } from '../../api/gen/mesh/v1/model.js';
import { EtcdClient } from '../../controller/store/etcd-client.js';
import { Keyspace } from '../../controller/store/keys.js';
import { commit } from '../../controller/store/transaction.js';
import { closesAfterEach } from '../lab/closing.js';
import { startEtcd, type TestEtcd } from '../lab/etcd.js';
import { eventually } from '../lab/eventually.js';
import { runWeft } from '../lab/weft-command.js';
import {
  apply,
  ask,
  startTestController,
  type TestController,
  TestNode,
  type TestNodeOptions,
  TestRegistration,
} from './controller-lab.js';

let etcd: TestEtcd;
let controller: TestController;
let store: EtcdClient;
const closing = closesAfterEach();

beforeEach(async () => {
  etcd = await startEtcd();
  closing.push(() => etcd.stop());
  store = new EtcdClient({ endpoints: [etcd.endpoint] });
  closing.push(() => store.close());
  controller = await startTestController(etcd.endpoint);
  closing.push(() => controller.stop());
});

/** Every state it was ever in. */
class WatchedNode extends TestNode {
  readonly states: string[] = [];

  override changed(): void {
    const state = [this.named(ResourceType.WORKLOAD), this.named(ResourceType.SERVICE)].map((names) => names.sort().join(' ')).join(' | ');
    if (this.states.at(-1) !== state) this.states.push(state);
    super.changed();
  }
}

function node(name: string, options: TestNodeOptions = {}): WatchedNode {
  const opened = new WatchedNode(controller.address, name, options);
  closing.push(() => opened.close());
  return opened;
}

async function applied(content: string): Promise<number> {
  const { findings, revision } = await apply(controller, content);
  expect(findings).toEqual([]);
  return revision;
}

/** Applied and compiled: who comes now is sent it at once. */
async function compiled(content: string): Promise<number> {
  const revision = await applied(content);
  const probe = node('probe');
  await reached(probe, revision);
  probe.close();
  return revision;
}

async function remove(kind: string, namespace: string, name: string): Promise<number> {
  const { revision } = await ask<{ revision: number }>((done) =>
    controller.admin.delete({ objects: [{ kind, namespace, name }], asOf: 0 }, done),
  );
  return revision;
}

async function keysOf(): Promise<string[]> {
  const { kvs } = await store.range({ key: Buffer.from('/weft/'), range_end: Buffer.from('/weft0'), keys_only: true });
  return kvs.map(({ key }) => key.toString());
}

/** Written again as it stands, past every controller. */
async function touched(kind: string, namespace: string, name: string): Promise<number> {
  const key = new Keyspace('/weft').object({ kind, namespace, name });
  const [found] = (await store.range({ key: Buffer.from(key) })).kvs;
  const result = await commit(store, { expect: new Map(), writes: [{ key, value: found?.value ?? null, lease: null }] });
  if (result.kind !== 'committed') throw new Error(result.kind);
  return result.revision;
}

const reached = (of: TestNode, revision: number): Promise<void> => of.until(`revision ${revision}`, () => of.revision >= revision);

const service = (namespace: string, name: string, exportTo = '.'): string => `apiVersion: v1
kind: Service
metadata: {name: ${name}, namespace: ${namespace}, annotations: {networking.istio.io/exportTo: "${exportTo}"}}
spec: {selector: {app: ${name}}, ports: [{name: http, port: 80}]}
`;
const workload = (namespace: string, name: string, of: string): string => `apiVersion: mesh.weft.dev/v1
kind: Workload
metadata: {name: ${name}, namespace: ${namespace}, labels: {app: ${name}}}
spec: {node: ${of}, networkNamespace: /run/netns/${name}, addresses: [10.0.0.${name.length}]}
`;
const mesh = [
  service('shop', 'cart'),
  service('bank', 'pay'),
  service('bank', 'rates', '*'),
  workload('shop', 'web', 'n1'),
  workload('bank', 'teller', 'n2'),
].join('---\n');

test('nodes are told of what their workloads can reach; when one comes or goes, its services come and go in the same revision', async () => {
  await compiled(mesh);
  const one = node('n1');
  const two = node('n2');
  await reached(one, 1);
  await reached(two, 1);
  // web may call bank/rates, which stands in the namespace of the teller: so the teller's node knows of web.
  expect(two.states).toEqual(['bank/teller shop/web | bank/pay bank/rates']);
  await reached(one, await applied(workload('bank', 'guard', 'n1')));
  await reached(one, await remove('Workload', 'bank', 'guard'));
  await reached(one, await applied(service('bank', 'pay', 'shop')));
  expect(one.states).toEqual([
    'shop/web | bank/rates shop/cart',
    'bank/guard bank/teller shop/web | bank/pay bank/rates shop/cart',
    'shop/web | bank/rates shop/cart',
    'shop/web | bank/pay bank/rates shop/cart',
  ]);
  // By differences: one snapshot each.
  expect(one.responses.filter(({ full }) => full)).toHaveLength(1);
});

test('everything is told again when the last export goes, and the mesh is narrowed by the first', async () => {
  await compiled(mesh.replaceAll('"."', '"*"'));
  const one = node('n1');
  await reached(one, 1);
  expect(one.named(ResourceType.SERVICE).sort()).toEqual(['bank/pay', 'bank/rates', 'shop/cart']);
  await reached(one, await applied(service('bank', 'pay')));
  expect(one.named(ResourceType.SERVICE).sort()).toEqual(['bank/rates', 'shop/cart']);
  await reached(one, await applied(service('bank', 'pay', '*')));
  expect(one.named(ResourceType.SERVICE).sort()).toEqual(['bank/pay', 'bank/rates', 'shop/cart']);
  expect(one.named(ResourceType.WORKLOAD).sort()).toEqual(['bank/teller', 'shop/web']);
  expect(one.responses.filter(({ full }) => full)).toHaveLength(1);
});

test('who comes back is told the difference, what it is not told any more included; at a replica that knows nothing of what it was told, all', async () => {
  await compiled(mesh);
  const first = node('n1');
  await reached(first, 1);
  first.close();
  const later = await compiled(`${service('bank', 'pay', 'shop')}---\n${service('bank', 'rates', '.')}`);
  const back = node('n1', { resume: first.token });
  await reached(back, later);
  expect(back.responses.some(({ full }) => full)).toBe(false);
  expect(back.responses.flatMap(({ removed }) => removed)).toEqual([{ type: ResourceType.SERVICE, name: 'bank/rates' }]);
  expect(back.named(ResourceType.SERVICE)).toEqual(['bank/pay']);
  // Of what is written behind a token another replica can't tell that it changed nothing. So before it: the audit log's entries, which come
  // behind what was applied, and the seat of who leases shares of limits.
  const has = (keys: readonly string[], prefix: string, count: number): boolean =>
    keys.filter((key) => key.startsWith(prefix)).length === count;
  await eventually(keysOf, (keys) => has(keys, '/weft/audit/', 2) && has(keys, '/weft/leaders/quotas', 1));
  const newest = await touched('Service', 'shop', 'cart');
  await reached(back, newest);
  back.close();

  const other = await startTestController(etcd.endpoint);
  closing.push(() => other.stop());
  const same = new WatchedNode(other.address, 'n1', { resume: back.token });
  const stale = new WatchedNode(other.address, 'n1-before', { resume: first.token });
  closing.push(
    () => same.close(),
    () => stale.close(),
  );
  await reached(same, newest);
  expect(same.responses[0]).toMatchObject({ full: false, resources: [], removed: [] });
  await reached(stale, newest);
  expect(stale.responses[0]).toMatchObject({ full: true, resources: [] });
});

test('a slow reader gets the sum: what came and went meanwhile it never hears of, what it lost it is told', async () => {
  await compiled(mesh);
  const slow = node('n1');
  await reached(slow, 1);
  slow.pauseReading();
  const filler = (version: number): string =>
    Array.from({ length: 40 }, (_, index) => service('shop', `s${index}`).replace('port: 80', `port: ${80 + version}`)).join('---\n');
  let last = 0;
  for (let version = 1; version <= 12; version++) last = await applied(filler(version));
  await applied(`${workload('bank', 'guard', 'n1')}---\n${service('bank', 'rates', '.')}`);
  last = await remove('Workload', 'bank', 'guard');
  slow.resumeReading();
  await reached(slow, last);
  expect(slow.named(ResourceType.WORKLOAD)).toEqual(['shop/web']);
  expect(slow.named(ResourceType.SERVICE)).not.toContain('bank/rates');
  expect(slow.named(ResourceType.SERVICE)).toHaveLength(41);
});

test('nodes that are told the same share what is encoded, and what is not for a node reaches it as an empty delta', async () => {
  await compiled(`${mesh}---\n${workload('shop', 'till', 'n3')}`);
  const nodes = [node('n1'), node('n3'), node('n2')];
  for (const each of nodes) await reached(each, 1);
  const encodings = async (): Promise<number> => {
    const text = await controller.metrics();
    return Number(/^weft_controller_push_encodings_total (\d+)$/m.exec(text)?.[1]);
  };
  const before = await encodings();
  const revision = await applied(service('shop', 'more'));
  for (const each of nodes) await reached(each, revision);
  expect((await encodings()) - before).toBe(2);
  expect(nodes.map((each) => each.responses.at(-1)?.resources.length)).toEqual([1, 1, 0]);
});

test('nodes that join and change nothing for others push nothing to them; an apply that changes nothing is acked all the same', async () => {
  await compiled(service('shop', 'cart', '*'));
  const one = node('n1');
  await reached(one, 1);
  const registrations = Array.from({ length: 20 }, (_, index) => new TestRegistration(controller.address, `late-${index}`));
  for (const registration of registrations) closing.push(() => registration.close());
  await eventually(
    () => ask<ListNodesResponse>((done) => controller.admin.listNodes({}, done)),
    (answer) => answer.nodes.length === 20,
  );
  const told = one.responses.length;
  const revision = await applied('apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {a: b}}\n');
  await reached(one, revision);
  expect(one.responses.slice(told).map(({ revision: of, resources }) => [of, resources.length])).toEqual([[revision, 0]]);
  expect(one.responses.slice(1, told)).toEqual([]);
});

test('weft status and weft routes say what a node is told of', async () => {
  await compiled(mesh);
  const registration = new TestRegistration(controller.address, 'n1');
  closing.push(() => registration.close());
  const { nodes } = await eventually(
    () => ask<ListNodesResponse>((done) => controller.admin.listNodes({}, done)),
    (answer) => answer.nodes.length === 1,
  );
  expect(nodes[0]?.interest).toEqual({ services: 2, allServices: 3, namespaces: ['shop'], gateways: [] });
  const { code, stdout } = await runWeft(['status', 'n1'], { WEFT_CONTROLLER: controller.address });
  expect(code).toBe(0);
  expect(stdout).toMatch(/^Told of: +2 of 3 services; workloads of shop; no gateway$/m);
});
