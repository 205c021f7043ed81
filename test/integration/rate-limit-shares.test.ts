// One budget for three nodes: real proxies and agents, two controllers of which one coordinates, over a real etcd.
import { mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { EchoBackend } from '../lab/echo-backend.js';
import { startEtcd, type TestEtcd } from '../lab/etcd.js';
import { eventually } from '../lab/eventually.js';
import { freePort } from '../lab/ports.js';
import { ProxyProcess } from '../lab/proxy-process.js';
import { startTestAgent } from './agent-lab.js';
import { apply, startTestController, type TestController } from './controller-lab.js';

/** The budget, and what may pass of it beside: a request of each node. */
const [PER_SECOND, BURST, NODES] = [100, 100, 3];
const closing: (() => Promise<unknown> | unknown)[] = [];
let etcd: TestEtcd;
beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  await etcd.stop();
});

interface Node {
  readonly name: string;
  readonly port: number;
  readonly metricsPort: number;
}

async function startNode(name: string, controllers: readonly TestController[]): Promise<Node> {
  const folder = mkdtempSync('/dev/shm/limits-');
  closing.push(() => rmSync(folder, { recursive: true, force: true }));
  const addresses = controllers.flatMap(({ address }) => ['--controller', address]);
  const agent = await startTestAgent('--node', name, ...addresses, '--run-dir', folder, '--state-dir', folder);
  closing.push(() => agent.stop());
  const metricsPort = await freePort();
  const flags = ['--agent', `unix:${join(folder, 'agent.sock')}`, '--node', name, '--metrics-listen', `127.0.0.1:${metricsPort}`];
  const proxy = ProxyProcess.startWith(flags, folder);
  closing.push(() => proxy.kill());
  return { name, port: await freePort(), metricsPort };
}

function manifests(nodes: readonly Node[], backendPort: number): string {
  const gateways = nodes.map(
    ({ name, port }) => `apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: ${name}, namespace: shop, annotations: {mesh.weft.dev/node-selector: kubernetes.io/hostname=${name}}}
spec: {gatewayClassName: weft, addresses: [{value: 127.0.0.1}], listeners: [{name: http, port: ${port}, protocol: HTTP}]}
---
`,
  );
  return `${gateways.join('')}apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{name: http, port: 80, appProtocol: http}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: ${backendPort}}]
endpoints: [{addresses: [127.0.0.1]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec: {parentRefs: [${nodes.map(({ name }) => `{name: ${name}}`).join(', ')}], rules: [{backendRefs: [{name: web, port: 80}]}]}
---
apiVersion: mesh.weft.dev/v1
kind: TrafficPolicy
metadata: {name: budget, namespace: shop}
spec:
  targetRefs: [{kind: HTTPRoute, name: web}]
  rateLimits: [{name: all, requests: ${PER_SECOND}, per: 1s, scope: Mesh}]
`;
}

/** Every request that passed, by any node, in ms. */
const passed: number[] = [];

function ask(port: number): Promise<void> {
  return new Promise((resolve) => {
    const sent = request({ host: '127.0.0.1', port, path: '/', agent: false }, (response) => {
      response.resume();
      response.on('end', () => {
        if (response.statusCode === 200) passed.push(performance.now());
        resolve();
      });
    });
    sent.on('error', () => resolve());
    sent.end();
  });
}

/** `perSecond` requests of each node; returns how many passed in a second of the second half. */
async function load(seconds: number, perSecond: ReadonlyMap<Node, number>): Promise<number> {
  const startMs = performance.now();
  const sent = new Map([...perSecond.keys()].map((node) => [node, 0]));
  const open = new Set<Promise<void>>();
  for (let nowMs = startMs; nowMs < startMs + seconds * 1_000; nowMs = performance.now()) {
    for (const [node, rate] of perSecond) {
      for (; sent.get(node)! < (rate * (nowMs - startMs)) / 1_000 && open.size < 200; sent.set(node, sent.get(node)! + 1)) {
        const one = ask(node.port).finally(() => open.delete(one));
        open.add(one);
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await Promise.all(open);
  const halfMs = startMs + seconds * 500;
  return passed.filter((at) => at >= halfMs && at < startMs + seconds * 1_000).length / (seconds / 2);
}

/** In no time more passed than one bucket of the whole budget would have let pass, and a request of each node. */
function expectWithinBudget(): void {
  let level = BURST + NODES;
  let before = passed[0] ?? 0;
  for (const at of [...passed].sort((a, b) => a - b)) {
    level = Math.min(BURST + NODES, level + ((at - before) / 1_000) * PER_SECOND);
    before = at;
    level -= 1;
    // Answers of one moment are seen within some ms of it.
    expect(level).toBeGreaterThanOrEqual(-PER_SECOND * 0.05);
  }
}

async function shareOf({ metricsPort }: Node): Promise<number> {
  const text = await fetch(`http://127.0.0.1:${metricsPort}/metrics`).then(
    (response) => response.text(),
    () => '',
  );
  return Number(/^weft_rate_limit_share\{.*\} (\S+)$/m.exec(text)?.[1] ?? Number.NaN);
}

const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 100));
const shares = async (nodes: readonly Node[], areSo: (shares: readonly number[]) => boolean): Promise<number[]> => {
  const found = await eventually(async () => {
    await pause();
    return Promise.all(nodes.map(shareOf));
  }, areSo);
  expect(areSo(found)).toBe(true);
  return found;
};

test('three nodes keep one budget, wherever its demand is, also without the controller that shared it out', async () => {
  const controllers = [await startTestController(etcd.endpoint), await startTestController(etcd.endpoint)];
  closing.push(() => Promise.all(controllers.map((controller) => controller.stop())));
  const backend = await EchoBackend.start('web');
  closing.push(() => backend.close());
  const nodes: Node[] = [];
  for (const name of ['na', 'nb', 'nc']) nodes.push(await startNode(name, controllers));
  const [a, b, c] = nodes as [Node, Node, Node];
  expect((await apply(controllers[0]!, manifests(nodes, backend.port))).findings).toEqual([]);
  await shares(nodes, (found) => found.every((share) => share > 0.25) && found.reduce((sum, share) => sum + share, 0) <= 1.0001);

  // All of the demand at one: nearly all of the budget.
  const alone = await load(6, new Map([[a, 250]]));
  expect(alone).toBeGreaterThan(PER_SECOND * 0.75);
  await shares(nodes, ([first]) => first! > 0.9);
  // At all: together no more.
  await load(
    4,
    new Map([
      [a, 100],
      [b, 100],
      [c, 100],
    ]),
  );
  expectWithinBudget();

  // Whoever coordinates goes: shares stay, and the next one goes on with them.
  const leader = controllers.findIndex(({ logs }) => logs.some((line) => line.includes('this replica shares out')));
  const before = await Promise.all(nodes.map(shareOf));
  await controllers[leader]!.stop();
  const without = await load(
    3,
    new Map([
      [a, 150],
      [b, 150],
      [c, 150],
    ]),
  );
  expect(without).toBeGreaterThan(PER_SECOND * 0.6);
  await controllers[1 - leader]!.logged('this replica shares out');
  await load(6, new Map([[c, 250]]));
  await shares(nodes, (found) => found[2]! > 0.9 && found[2]! > before[2]!);
  expectWithinBudget();
  controllers.splice(leader, 1);
});
