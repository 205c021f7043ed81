// ServiceEntries by name: a real controller over a real etcd, a real DNS server.
import { expect, test } from '@jest/globals';
import type { GetResponse } from '../../api/gen/mesh/v1/admin.js';
import { closesAfterEach } from '../lab/closing.js';
import { startDns } from '../lab/dns-server.js';
import { startEtcd } from '../lab/etcd.js';
import { apply, ask, startTestController, type TestController, TestNode } from './controller-lab.js';

const closing = closesAfterEach();

const entry = (name: string, host: string): string => `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: ${name}, namespace: shop }
spec: { hosts: [${host}], ports: [{ number: 443, name: tls, protocol: TLS }], resolution: DNS }
`;

async function shown(controller: TestController, name: string): Promise<string> {
  const { objects } = await ask<GetResponse>((done) => controller.admin.get({ kind: 'ServiceEntry', namespace: 'shop', name }, done));
  return objects[0] ?? '';
}

function addressesOf(node: TestNode, service: string): string[] {
  const found = node.endpoints().filter((endpoint) => endpoint.service === service);
  return found.map(({ address }) => address).sort();
}

test('one replica resolves for all; nodes get the addresses, the status says what can’t be resolved, and who leads next goes on from there', async () => {
  const etcd = await startEtcd();
  closing.push(() => etcd.stop());
  const dns = await startDns();
  closing.push(() => dns.stop());
  dns.records.set('api.example.com', { addresses: ['192.0.2.1', '2001:db8::1'], ttl: 3_600 });
  const flags = { dnsServer: [dns.address] };
  const one = await startTestController(etcd.endpoint, flags);
  closing.push(() => one.stop());
  expect((await apply(one, `${entry('api', 'api.example.com')}---\n${entry('gone', 'gone.example.com')}`)).findings).toEqual([]);
  const node = new TestNode(one.address, 'a');
  closing.push(() => node.close());
  await node.until('the addresses', () => addressesOf(node, 'shop/api.example.com').length === 2);
  expect(addressesOf(node, 'shop/api.example.com')).toEqual(['192.0.2.1', '2001:db8::1']);
  await one.logged('gone.example.com');
  for (let look = 0; look < 200 && !(await shown(one, 'gone')).includes('NXDOMAIN'); look++);
  expect(await shown(one, 'gone')).toContain("gone.example.com can't be resolved (NXDOMAIN: there is no such name): it has no endpoints");
  expect(await shown(one, 'api')).not.toContain('resolved');
  expect(new Set(dns.questions)).toEqual(
    new Set(['api.example.com A', 'api.example.com AAAA', 'gone.example.com A', 'gone.example.com AAAA']),
  );

  // The other one asks nothing while the first leads, and keeps what was resolved when it takes over and the DNS is away.
  const two = await startTestController(etcd.endpoint, flags);
  closing.push(() => two.stop());
  const other = new TestNode(two.address, 'b');
  closing.push(() => other.close());
  await other.until('the addresses', () => addressesOf(other, 'shop/api.example.com').length === 2);
  dns.records.set('api.example.com', { code: 2 });
  const asked = dns.questions.length;
  await one.stop();
  await two.logged('this replica reads the DNS');
  for (let look = 0; look < 200 && !(await shown(two, 'api')).includes('SERVFAIL'); look++);
  expect(await shown(two, 'api')).toContain('what it was last stays');
  expect(dns.questions.length).toBeGreaterThan(asked);
  expect(addressesOf(other, 'shop/api.example.com')).toEqual(['192.0.2.1', '2001:db8::1']);
});
