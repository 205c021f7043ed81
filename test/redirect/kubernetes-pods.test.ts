// deploy/kubernetes on one node: its containers with the commands, mounts and capabilities that the manifests give them, and pods that are captured.
// Fails where it cannot run.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Workload } from '../../api/gen/mesh/v1/model.js';
import { DiscoveryTestServer, type ScriptedStream } from '../lab/discovery-server.js';
import { type Container, Node, podOf } from './containers.js';
import { HOST, POD_A, REMOTE } from './lab.js';
import { workloadResource } from './mesh-proxy.js';
import { startSandbox } from './sandbox.js';
import { addressOf, Scene } from './scene.js';

const UID = '2c6b5d5e-8a3f-4c1e-9b1a-0123456789ab';
const dist = process.env.WEFT_DIST ?? join(process.cwd(), 'dist');
const scene = new Scene('wkpod');
const { lab } = scene;
const [agentPod, proxyPod, uninstallPod] = ['agent.yaml', 'proxy.yaml', 'uninstall.yaml'].map(podOf) as [
  ReturnType<typeof podOf>,
  ReturnType<typeof podOf>,
  ReturnType<typeof podOf>,
];
const MESH = '/run/netns/weft-mesh';
let node: Node;
let controller: DiscoveryTestServer;
let endSandbox: () => Promise<void>;
let agent: Container;
let proxy: Container;
let revision = 0;

/** Until it holds; an answer takes a process, so this is no busy loop. */
async function until(what: string, holds: () => boolean, container: Container): Promise<void> {
  const deadline = performance.now() + 15_000;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`waited for: ${what}\n${container.output}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** `env`: besides the manifest's. */
async function startAgent(env: { name: string; value: string }[] = []): Promise<Container> {
  const [spec] = agentPod.containers;
  const started = node.start(agentPod, { ...spec!, env: [...(spec!.env ?? []), ...env] });
  const ended = started.exit.then((code) => {
    throw new Error(`the agent ended with ${code}: ${started.output}`);
  });
  ended.catch(() => undefined);
  const stream: ScriptedStream = await Promise.race([controller.nextStream(), ended]);
  await stream.next();
  const pod = Workload.fromPartial({
    ...scene.workload('a'),
    networkNamespace: '',
    podUid: UID,
    node: 'n1',
    addresses: [POD_A.v4, POD_A.v6],
  });
  const token = { clusterId: 'c', compiler: 'k', revision: ++revision };
  stream.send({ nonce: revision, revision, token, full: true, resources: [workloadResource(pod)] });
  await Promise.race([stream.next(), ended]);
  return started;
}

async function startProxy(): Promise<Container> {
  const started = node.start(proxyPod, proxyPod.containers[0]!);
  await until('a proxy that is ready', () => started.isReady, started);
  return started;
}

function expectCaptured(): void {
  const attempt = lab.connect('a', REMOTE.v4, 8080);
  expect(attempt).toMatchObject({ error: null });
  expect(addressOf(attempt.server?.peer ?? '')).toBe(POD_A.v4);
  // Another socket than the client's reached the server.
  expect(attempt.server?.peer).not.toBe(attempt.local);
}

const probe = (path: string): string =>
  lab.in('host', 'curl', ['-s', '-o', '/dev/null', '-w', '%{http_code}', `http://${HOST.v4}:15020${path}`]);

beforeAll(async () => {
  await scene.up();
  endSandbox = await startSandbox(lab, 'a', UID);
  const socket = `unix:${join(lab.folder, 'controller.sock')}`;
  controller = await DiscoveryTestServer.start(socket);
  const values = { 'spec.nodeName': 'n1', 'status.hostIP': HOST.v4, HOST_IP: HOST.v4, WEFT_CONTROLLER: socket };
  node = await Node.start(lab.folder, lab.path('host'), values, join(dist, 'cli/main.js'));
}, 30_000);

afterAll(async () => {
  await node?.stop();
  controller?.stop();
  await endSandbox?.();
  await scene.down();
}, 30_000);

test('the init container mounts on the node what others must see, once', async () => {
  for (let time = 0; time < 2; time++) {
    const mounts = node.start(agentPod, agentPod.initContainers![0]!);
    expect({ code: await mounts.exit, output: mounts.output }).toEqual({ code: 0, output: '' });
  }
  expect(existsSync(node.path(MESH))).toBe(true);
});

test('agent and proxy capture a pod, and the probes see it', async () => {
  agent = await startAgent();
  expect([probe('/readyz'), probe('/healthz')]).toEqual(['200', '200']);
  proxy = await startProxy();
  expectCaptured();
}, 30_000);

test('the next proxy takes over beside the first, which is not ready any more and waits to be ended', async () => {
  const next = await startProxy();
  expectCaptured();
  await until('the first that waits', () => proxy.output.includes('waiting for SIGTERM'), proxy);
  expect(proxy.isReady).toBe(false);
  expect(await proxy.stop()).toBe(0);
  expect(next.isReady).toBe(true);
  expectCaptured();
  proxy = next;
}, 30_000);

test('an agent that is replaced finds everything again', async () => {
  expect(await agent.stop()).toBe(0);
  expectCaptured();
  agent = await startAgent();
  expectCaptured();
}, 30_000);

test('where an agent can only translate addresses, the same containers do', async () => {
  await proxy.stop();
  await agent.stop();
  agent = await startAgent([{ name: 'WEFT_CAPTURE', value: 'nftables' }]);
  proxy = await startProxy();
  // The kernel redirects from the proxy's first beat on.
  const isCaptured = (): boolean => {
    const { error, server, local } = lab.connect('a', REMOTE.v4, 8080);
    return error === null && server?.peer !== local;
  };
  await until('a connection through the proxy', isCaptured, proxy);
  expect(lab.in('a', 'nft', ['list', 'tables'])).toContain('weft');
}, 30_000);

test('the uninstall leaves nothing on the node', async () => {
  await proxy.stop();
  await agent.stop();
  const uninstall = node.start(uninstallPod, uninstallPod.initContainers![0]!);
  expect({ code: await uninstall.exit, output: uninstall.output }).toMatchObject({ code: 0 });
  expect(existsSync(node.path(MESH))).toBe(false);
  expect(existsSync(node.path('/sys/fs/bpf/weft'))).toBe(false);
  expect(lab.in('a', 'nft', ['list', 'tables'])).not.toContain('weft');
  const attempt = lab.connect('a', REMOTE.v4, 8080);
  expect(attempt).toMatchObject({ error: null, server: { peer: attempt.local } });
}, 30_000);
