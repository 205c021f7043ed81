// The controller over real etcd and a server that speaks Consul's catalogue: from its services to what nodes are told.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, expect, test } from '@jest/globals';
import { EndpointHealth, Protocol } from '../../api/gen/mesh/v1/model.js';
import { Certificates } from '../lab/certificates.js';
import { closesAfterEach } from '../lab/closing.js';
import { ConsulApi, type ConsulInstance } from '../lab/consul-api.js';
import { startEtcd, type TestEtcd } from '../lab/etcd.js';
import { startTestController, type TestController, TestNode } from './controller-lab.js';

const folder = mkdtempSync(join(tmpdir(), 'wconsul-'));
const certificates = new Certificates();
let etcd: TestEtcd;
const closing = closesAfterEach();

beforeEach(async () => {
  etcd = await startEtcd();
  closing.push(() => etcd.stop());
});

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
  certificates.remove();
});

async function consul(options: Parameters<typeof ConsulApi.start>[0] = {}): Promise<ConsulApi> {
  const api = await ConsulApi.start(options);
  let isStopped = false;
  const stop = api.stop.bind(api);
  api.stop = async () => {
    if (!isStopped) await stop();
    isStopped = true;
  };
  closing.push(() => api.stop());
  return api;
}

async function controller(api: ConsulApi, flags = {}): Promise<TestController> {
  const started = await startTestController(etcd.endpoint, { consul: api.url, ...flags });
  closing.push(() => started.stop());
  return started;
}

function follow(at: TestController): TestNode {
  const node = new TestNode(at.address, 'n1');
  closing.push(() => node.close());
  return node;
}

const web = (id: string, address: string, rest: Partial<ConsulInstance> = {}): ConsulInstance => ({
  service: 'web',
  id,
  node: 'Host-1',
  address,
  port: 8080,
  ...rest,
});
const { READY, UNHEALTHY, DRAINING } = EndpointHealth;

test('services, their instances, checks, weights and zones reach the nodes, and so do their changes', async () => {
  const api = await consul();
  api.register(web('web-1', '10.1.0.1', { meta: { protocol: 'http', 'weft-port': '80' }, zone: 'east' }));
  api.register(web('web-2', '10.1.0.2', { port: 9090, weight: 3 }));
  api.register(web('web-3', '10.1.0.2', { port: 9091 }));
  api.register({ service: 'DB_main', id: 'db', node: 'host-2', port: 5432 });
  api.register({ service: 'web-sidecar-proxy', id: 'proxy', node: 'host-2', port: 21_000, kind: 'connect-proxy' });
  const node = follow(await controller(api));
  await node.until('all', () => Object.keys(node.instances()).length === 4);
  expect(node.services().map(({ namespace, name, ports }) => [`${namespace}/${name}`, ports[0]?.port, ports[0]?.protocol])).toEqual(
    expect.arrayContaining([
      ['consul/web', 80, Protocol.HTTP],
      ['consul/db-main', 5432, Protocol.UNSPECIFIED],
    ]),
  );
  expect(node.services()).toHaveLength(2);
  expect(node.instances()).toEqual({
    '10.1.0.1:8080': [READY, 1, 'east'],
    '10.1.0.2:9090': [READY, 3, ''],
    '10.1.0.2:9091': [READY, 1, ''],
    '10.9.0.1:5432': [READY, 1, ''],
  });

  api.check('web-1', { CheckID: 'service:web-1', Status: 'critical' });
  api.check('web-2', { CheckID: 'a', Status: 'warning' });
  await node.until('a failing check', () => node.instances()['10.1.0.1:8080']?.[0] === UNHEALTHY);
  expect(node.instances()['10.1.0.2:9090']?.[0]).toBe(READY);
  api.check('web-1', { CheckID: '_service_maintenance:web-1', Status: 'critical' });
  await node.until('maintenance', () => node.instances()['10.1.0.1:8080']?.[0] === DRAINING);

  api.deregister('web-2');
  await node.until('an instance gone', () => node.instances()['10.1.0.2:9090'] === undefined);
  api.deregister('web-1');
  api.deregister('web-3');
  await node.until('a service gone', () => !node.services().some(({ name }) => name === 'web'));
  api.register(web('web-1', '10.1.0.7'));
  await node.until('a service back', () => node.instances()['10.1.0.7:8080'] !== undefined);
});

test('nothing is taken away when Consul is down, has no leader, hides everything or answers nonsense; it goes on from a lower index', async () => {
  const api = await consul();
  api.register(web('web-1', '10.1.0.1'));
  const at = await controller(api);
  const node = follow(at);
  await node.until('all', () => node.instances()['10.1.0.1:8080'] !== undefined);
  const removals = (): number => node.responses.reduce((sum, { removed }) => sum + removed.length, 0);

  api.fail({ status: 500, text: 'No cluster leader' });
  await at.logged('No cluster leader');
  api.fail({ status: 200, text: '<html>' });
  api.fail(null);
  api.hideAll(true);
  await at.logged('its token may read nothing of this');
  api.hideAll(false);
  api.resetIndex();
  api.register(web('web-2', '10.1.0.2'));
  await node.until('what came after', () => node.instances()['10.1.0.2:8080'] !== undefined);

  const port = Number(new URL(api.url).port);
  await api.stop();
  const again = await consul({ port });
  again.register(web('web-1', '10.1.0.1'));
  again.register(web('web-2', '10.1.0.2'));
  again.register(web('web-3', '10.1.0.3'));
  await node.until('a restarted Consul', () => node.instances()['10.1.0.3:8080'] !== undefined);
  expect(removals()).toBe(0);
});

test('what Consul lost while no controller ran is taken away once it is known', async () => {
  const api = await consul();
  api.register(web('web-1', '10.1.0.1'));
  api.register({ service: 'old', id: 'old', node: 'host-2', port: 1 });
  const first = await startTestController(etcd.endpoint, { consul: api.url });
  const before = follow(first);
  await before.until('all', () => before.services().length === 2);
  before.close();
  await first.stop();
  api.deregister('old');
  const node = follow(await controller(api));
  await node.until('one service', () => node.services().length === 1);
  expect(Object.keys(node.instances())).toEqual(['10.1.0.1:8080']);
});

test('over TLS, with a token from a file that is replaced; the datacenter is asked for', async () => {
  const authority = certificates.authority('consul');
  const api = await consul({ tls: certificates.issue(authority, 'IP:127.0.0.1'), token: 'second' });
  api.register(web('web-1', '10.1.0.1'));
  const tokenFile = join(folder, 'token');
  writeFileSync(tokenFile, 'first\n');
  const at = await controller(api, { consulCa: authority.certFile, consulTokenFile: tokenFile, consulDatacenter: 'dc2' });
  const node = follow(at);
  await at.logged('needs service:read and node:read');
  writeFileSync(tokenFile, 'second\n');
  await node.until('read with the new token', () => node.instances()['10.1.0.1:8080'] !== undefined);
  expect(api.seen.every((path) => path.includes('dc=dc2'))).toBe(true);
});

test('an instance that can’t be reached as it stands is told, the others are served', async () => {
  const api = await consul();
  api.register(web('web-1', 'host.example'));
  api.register(web('web-2', '10.1.0.2'));
  const at = await controller(api);
  const node = follow(at);
  await node.until('the other one', () => node.instances()['10.1.0.2:8080'] !== undefined);
  expect(at.logs.filter((line) => line.includes('its address \\"host.example\\" is none of IPv4 or IPv6'))).toHaveLength(1);
});
