// `weft drain`: a controller over a real etcd, real agents (redirection off), the command as an operator types it.
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { EndpointHealth } from '../../api/gen/mesh/v1/model.js';
import { closesAfterEach } from '../lab/closing.js';
import { startEtcd } from '../lab/etcd.js';
import { runWeft } from '../lab/weft-command.js';
import { startTestAgent } from './agent-lab.js';
import { apply, startTestController, TestNode } from './controller-lab.js';

const closing = closesAfterEach();

const CATALOG = `apiVersion: v1
kind: Service
metadata: {name: catalog, namespace: shop}
spec: {clusterIP: 10.96.0.10, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: catalog, namespace: shop, labels: {kubernetes.io/service-name: catalog}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.1.0.1], nodeName: n1}, {addresses: [10.1.0.2], nodeName: n2}]
`;

test('a drained node’s endpoints get nothing new until that is ended, whatever becomes of its agent and its controller', async () => {
  const folder = mkdtempSync('/dev/shm/wdrain-');
  closing.push(() => rmSync(folder, { recursive: true, force: true }));
  const etcd = await startEtcd();
  closing.push(() => etcd.stop());
  const first = await startTestController(etcd.endpoint);
  closing.push(() => first.stop());
  const dirs = ['--run-dir', folder, '--state-dir', join(folder, 'state'), '--status-advertise', `unix:${join(folder, 'agent.sock')}`];
  const agent = await startTestAgent('--node', 'n1', '--controller', first.address, ...dirs);
  closing.push(() => agent.stop());
  await first.logged('node registered');
  await apply(first, CATALOG);
  const weft = (...args: string[]) => runWeft(args, { WEFT_CONTROLLER: first.address });
  const follow = (address: string) => {
    const node = new TestNode(address, 'n2');
    closing.push(() => node.close());
    const becomes = (n1: EndpointHealth) =>
      node.until(`n1 is ${EndpointHealth[n1]}`, () => {
        const health = new Map(node.endpoints().map((each) => [each.node, each.health]));
        return health.get('n1') === n1 && health.get('n2') === EndpointHealth.READY;
      });
    return { becomes };
  };
  const watcher = follow(first.address);
  await watcher.becomes(EndpointHealth.READY);

  const drained = await weft('drain', 'n1', '--wait');
  expect(drained).toMatchObject({ code: 0, stderr: '' });
  expect(drained.stdout).toMatch(
    /^node n1 drains: its endpoints get nothing new\nrevision \d+: in force on n1 after .* s\nnothing is under way to n1\n$/,
  );
  await watcher.becomes(EndpointHealth.DRAINING);
  expect((await weft('status')).stdout).toMatch(/^n1 draining /m);
  expect((await weft('drain', 'n1')).stdout).toContain('(it was so already)');
  expect(await weft('drain', 'n7')).toMatchObject({ code: 1, stderr: expect.stringContaining('no node "n7" is registered') });

  const second = await startTestController(etcd.endpoint);
  closing.push(() => second.stop());
  await follow(second.address).becomes(EndpointHealth.DRAINING);
  // Its lease ends; it is drained still, and that can be ended.
  await agent.stop();
  await first.logged('node disconnected');
  await watcher.becomes(EndpointHealth.DRAINING);
  expect((await weft('undrain', 'n1')).stdout).toBe('node n1 is not drained any more: its endpoints get new work\n');
  await watcher.becomes(EndpointHealth.READY);
});
