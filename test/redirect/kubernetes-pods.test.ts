// deploy/kubernetes on one node: its containers with the commands, mounts and capabilities that the manifests give them, and pods that are captured.
// Each test goes on where the one before ended. Fails where it cannot run.
import { existsSync, readdirSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { until } from '../lab/eventually.js';
import type { Container } from './containers.js';
import { KubernetesNode, MESH } from './kubernetes-node.js';
import { HOST } from './lab.js';

const node = new KubernetesNode('wkpod');
const { lab } = node.scene;
let agent: Container;
let proxy: Container;

async function startProxy(): Promise<Container> {
  const started = node.startProxy();
  await until(
    'a proxy that is ready',
    () => started.isReady,
    () => started.output,
  );
  return started;
}

const probe = (path: string): string =>
  lab.in('host', 'curl', ['-s', '-o', '/dev/null', '-w', '%{http_code}', `http://${HOST.v4}:15020${path}`]);

beforeAll(() => node.up());
afterAll(() => node.down());

test('the init container mounts on the node what others must see, once', async () => {
  await node.mount();
  await node.mount();
  expect(existsSync(node.path(MESH))).toBe(true);
});

test('agent and proxy capture a pod, and the probes see it', async () => {
  agent = await node.startAgent();
  expect([probe('/readyz'), probe('/healthz')]).toEqual(['200', '200']);
  proxy = await startProxy();
  expect(node.isCaptured()).toBe(true);
});

test('the next proxy takes over beside the first, which is not ready any more and waits to be ended', async () => {
  const next = await startProxy();
  expect(node.isCaptured()).toBe(true);
  await until(
    'the first that waits',
    () => proxy.output.includes('waiting for SIGTERM'),
    () => proxy.output,
  );
  expect(proxy.isReady).toBe(false);
  expect(await proxy.stop()).toBe(0);
  expect(next.isReady).toBe(true);
  expect(node.isCaptured()).toBe(true);
  proxy = next;
});

test('an agent that is replaced finds everything again', async () => {
  expect(await agent.stop()).toBe(0);
  expect(node.isCaptured()).toBe(true);
  await node.mount();
  agent = await node.startAgent();
  expect(node.isCaptured()).toBe(true);
});

test('the uninstall leaves nothing on the node', async () => {
  await proxy.stop();
  await agent.stop();
  await node.uninstall();
  expect(existsSync(node.path(MESH))).toBe(false);
  expect(existsSync(node.path('/sys/fs/bpf/weft'))).toBe(false);
  expect(node.isCaptured()).toBe(false);
  expect([readdirSync(node.path('/run/weft')), readdirSync(node.path('/var/lib/weft'))]).toEqual([[], []]);
});
