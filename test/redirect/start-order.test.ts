// Agent and proxy on a node of Kubernetes in every order of start, restart and change of the agent's way to capture: the proxy serves where the agent
// leads connections to, and in no other namespace. Fails where it cannot run.
import { statSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { until } from '../lab/eventually.js';
import type { Container } from './containers.js';
import { KubernetesNode, MESH } from './kubernetes-node.js';

const node = new KubernetesNode('wkord');
let agent: Container;
let proxy: Container;

beforeAll(() => node.up());
beforeEach(() => node.mount());

afterEach(async () => {
  await proxy?.stop('SIGKILL');
  await agent?.stop('SIGKILL');
  await node.uninstall();
  expect(node.scene.lab.in('a', 'nft', ['list', 'ruleset'])).not.toMatch(/weft/i);
});
afterAll(() => node.down());

const namespaceOf = ({ pid }: Container): number => statSync(`/proc/${pid}/ns/net`).ino;
/** Waiting for its agent, it has entered no namespace. */
async function startProxyAlone(): Promise<void> {
  proxy = node.startProxy();
  await until(
    'a proxy that waits',
    () => proxy.output.includes('waiting for'),
    () => proxy.output,
  );
  expect(namespaceOf(proxy)).toBe(statSync(node.scene.lab.path('host')).ino);
}
/** As Kubernetes starts it again. */
async function startProxyAgain(): Promise<void> {
  expect(await proxy.exit).toBe(1);
  proxy = node.startProxy();
}
async function expectCapturedBy(mode: 'ebpf' | 'nftables' | 'iptables'): Promise<void> {
  await node.expectCaptured(proxy);
  await until(
    'a proxy that is ready',
    () => proxy.isReady,
    () => proxy.output,
  );
  const inMesh = mode === 'ebpf' && namespaceOf(proxy) === statSync(node.path(MESH)).ino;
  const rules = node.scene.lab.in('a', 'nft', ['list', 'ruleset']);
  expect({ inMesh, nftables: rules.includes('table inet weft'), iptables: rules.includes('WEFT-') }).toEqual({
    inMesh: mode === 'ebpf',
    nftables: mode === 'nftables',
    iptables: mode === 'iptables',
  });
}

describe.each(['ebpf', 'nftables', 'iptables'] as const)('%s', (mode) => {
  test('the proxy first, and an agent that comes later', async () => {
    await startProxyAlone();
    agent = await node.startAgent(mode);
    await expectCapturedBy(mode);
  });
});

test('the agent is there first; it is replaced, its init container runs again, and the proxy after it', async () => {
  agent = await node.startAgent('nftables');
  proxy = node.startProxy();
  await expectCapturedBy('nftables');
  await agent.stop();
  await node.mount();
  const next = node.startProxy();
  await until(
    'a proxy that waits',
    () => next.output.includes('waiting for'),
    () => next.output,
  );
  expect(node.isCaptured()).toBe(true);
  agent = await node.startAgent('nftables');
  await until(
    'a successor that is ready',
    () => next.isReady,
    () => next.output,
  );
  await proxy.stop();
  proxy = next;
  await expectCapturedBy('nftables');
});

test('an agent that captures otherwise than the one before it: the proxy ends, and serves what there is now when it is started again', async () => {
  agent = await node.startAgent('ebpf');
  proxy = node.startProxy();
  await expectCapturedBy('ebpf');
  for (const mode of ['nftables', 'ebpf'] as const) {
    await agent.stop();
    await node.mount();
    expect(node.isCaptured()).toBe(true);
    agent = await node.startAgent(mode);
    await startProxyAgain();
    await expectCapturedBy(mode);
  }
});

test('from nftables to iptables the proxy goes on, and the rules of nftables are gone', async () => {
  agent = await node.startAgent('nftables');
  proxy = node.startProxy();
  await expectCapturedBy('nftables');
  await agent.stop();
  agent = await node.startAgent('iptables');
  await expectCapturedBy('iptables');
});
