// The controller over real etcd and a real ZooKeeper: from what services register there to what nodes are told.
import { beforeEach, expect, test } from '@jest/globals';
import { EndpointHealth } from '../../api/gen/mesh/v1/model.js';
import { closesAfterEach } from '../lab/closing.js';
import { startEtcd, type TestEtcd } from '../lab/etcd.js';
import { ZooKeeper, ZooKeeperClient } from '../lab/zookeeper.js';
import { startTestController, type TestController, TestNode } from './controller-lab.js';

const { READY, DRAINING } = EndpointHealth;
let etcd: TestEtcd;
let zookeeper: ZooKeeper;
const closing = closesAfterEach();

beforeEach(async () => {
  [etcd, zookeeper] = await Promise.all([startEtcd(), ZooKeeper.start()]);
  closing.push(async () => {
    await Promise.all([zookeeper.stop(), etcd.stop()]);
  });
});

async function controller(): Promise<TestController> {
  const started = await startTestController(etcd.endpoint, { zookeeper: zookeeper.servers });
  closing.push(() => started.stop());
  return started;
}

function client(): ZooKeeperClient {
  const made = new ZooKeeperClient(zookeeper.servers);
  closing.push(() => made.close());
  return made;
}

function follow(at: TestController): TestNode {
  const node = new TestNode(at.address, 'n1');
  closing.push(() => node.close());
  return node;
}

function services(node: TestNode): string[] {
  return node.services().map(({ namespace, name, ports }) => `${namespace}/${name}:${ports[0]?.port}`);
}

const curator = (address: string, port: number, rest: object = {}): object => ({
  name: 'orders',
  id: 'x',
  address,
  port,
  sslPort: null,
  payload: null,
  registrationTimeUTC: 1,
  serviceType: 'DYNAMIC',
  uriSpec: null,
  ...rest,
});

test('what Curator, server sets and plain nodes register reaches the nodes, and so do its changes', async () => {
  const [one, two] = [client(), client()];
  await one.register('/services/orders/a', curator('10.1.0.1', 8080));
  await two.register(
    '/services/orders/b',
    curator('10.1.0.2', 8080, { payload: { metadata: { zone: 'east', weight: '3', instance_status: 'UP' } } }),
  );
  await one.register('/services/Users_v1/member_0000000001', {
    serviceEndpoint: { host: '10.1.0.3', port: 9090 },
    additionalEndpoints: {},
    status: 'ALIVE',
  });
  await one.register('/services/plain/10.1.0.4:70', '');
  const node = follow(await controller());
  await node.until('all', () => Object.keys(node.instances()).length === 4);
  expect(services(node).sort()).toEqual(['zookeeper/orders:8080', 'zookeeper/plain:70', 'zookeeper/users-v1:9090']);
  expect(node.instances()).toEqual({
    '10.1.0.1:8080': [READY, 1, ''],
    '10.1.0.2:8080': [READY, 3, 'east'],
    '10.1.0.3:9090': [READY, 1, ''],
    '10.1.0.4:70': [READY, 1, ''],
  });

  await one.change('/services/orders/a', curator('10.1.0.1', 8080, { enabled: false }));
  await node.until('taken out', () => node.instances()['10.1.0.1:8080']?.[0] === DRAINING);
  await one.register('/services/orders/c', curator('10.1.0.5', 8080));
  await node.until('another one', () => node.instances()['10.1.0.5:8080'] !== undefined);
  await one.register('/services/new/10.1.0.6:80', '');
  await node.until('a service', () => services(node).includes('zookeeper/new:80'));
  two.close();
  await node.until('a process gone', () => node.instances()['10.1.0.2:8080'] === undefined);
  await one.remove('/services/new/10.1.0.6:80');
  await node.until('a service gone', () => !services(node).includes('zookeeper/new:80'));
});

test('nothing is taken away when ZooKeeper is killed; it goes on when it is back', async () => {
  const one = client();
  await one.register('/services/orders/a', curator('10.1.0.1', 8080));
  const at = await controller();
  const node = follow(at);
  await node.until('all', () => node.instances()['10.1.0.1:8080'] !== undefined);
  await zookeeper.kill();
  await at.logged('ZooKeeper can’t be read: what was read last stays');
  await zookeeper.restart();
  await client().register('/services/orders/b', curator('10.1.0.2', 8080));
  await node.until('what came after', () => node.instances()['10.1.0.2:8080'] !== undefined);
  expect(node.responses.flatMap(({ removed }) => removed)).toEqual([]);
});

test('a path that is not there is told, and read when it is; an instance that can’t be used is told, the others are served', async () => {
  const at = await controller();
  const node = follow(at);
  await at.logged('there is no /services: --zookeeper-path names the znode whose children are services');
  const one = client();
  await one.register('/services/orders/bad', curator('host.example', 8080));
  await one.register('/services/orders/a', curator('10.1.0.1', 8080));
  await node.until('the other one', () => node.instances()['10.1.0.1:8080'] !== undefined);
  await at.logged('bad: its address \\"host.example\\" is none of IPv4 or IPv6');
});
