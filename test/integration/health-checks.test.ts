// Active health checks: real agents (redirection off), a real controller over a real etcd, and endpoints that listen on loopback. What is
// looked at is what the nodes' proxies are served, and what the registry answers.
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer as createHttp } from 'node:http';
import { type AddressInfo, createServer as createTcp, type Server as NetServer } from 'node:net';
import { join } from 'node:path';
import { credentials, Server as GrpcServer, ServerCredentials } from '@grpc/grpc-js';
import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import pino from 'pino';
import { DiscoveryClient } from '../../agent/discovery/discovery-client.js';
import type { RunningAgent } from '../../agent/main.js';
import { Model } from '../../agent/model/model.js';
import { EndpointHealth } from '../../api/gen/mesh/v1/model.js';
import { NodeStatusClient, type StatusResponse } from '../../api/gen/mesh/v1/status.js';
import { closesAfterEach } from '../lab/closing.js';
import { Condition } from '../lab/condition.js';
import { startEtcd, type TestEtcd } from '../lab/etcd.js';
import { freePort } from '../lab/ports.js';
import { ProxyProcess } from '../lab/proxy-process.js';
import { startTestAgent } from './agent-lab.js';
import { apply, ask, startTestController, type TestController } from './controller-lab.js';

const log = pino({ level: 'silent' });
let etcd: TestEtcd;
beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(() => etcd.stop());

let folder: string;
let etcdPrefix: string;
let controller: TestController;
const closing = closesAfterEach();
let run = 0;
beforeEach(async () => {
  folder = mkdtempSync('/dev/shm/whc-');
  closing.push(() => rmSync(folder, { recursive: true, force: true }));
  etcdPrefix = `/health-${run++}`;
  controller = await startController();
  closing.push(() => controller.stop());
});

const address = () => `unix:${join(folder, 'controller.sock')}`;
const startController = () => startTestController(etcd.endpoint, { etcdPrefix, listen: [address()] });

interface Node {
  readonly agent: RunningAgent;
  readonly proxy: ServedProxy;
}

async function startNode(node: string): Promise<Node> {
  const own = join(folder, node);
  const agent = await startTestAgent('--node', node, '--controller', address(), '--run-dir', own, '--state-dir', join(own, 'state'));
  closing.push(() => agent.stop());
  const proxy = new ServedProxy(`unix:${join(own, 'agent.sock')}`);
  closing.push(() => proxy.stop());
  return { agent, proxy };
}

/** Takes its configuration from an agent as a proxy does. */
class ServedProxy extends Condition {
  readonly #model = new Model();
  readonly #client: DiscoveryClient;

  constructor(agent: string) {
    super();
    const onUpdate = async (update: Parameters<Model['apply']>[0]) => {
      const refused = this.#model.apply(update);
      this.changed();
      return refused;
    };
    this.#client = new DiscoveryClient({ addresses: [agent], node: 'proxy', version: 'test', resume: null, onUpdate, log });
    this.#client.start();
  }

  stop(): Promise<void> {
    return this.#client.stop();
  }

  /** Of the service's one endpoint. */
  endpoint(service: string) {
    return [...(this.#model.endpoints.get(`shop/${service}`)?.values() ?? [])][0];
  }

  get revision(): number {
    return this.#model.revision;
  }

  becomes(service: string, health: EndpointHealth): Promise<void> {
    return this.until(`${service} is ${EndpointHealth[health]}`, () => this.endpoint(service)?.health === health);
  }
}

const status = (agent: RunningAgent) => {
  const client = new NodeStatusClient(agent.statusAddresses[0] ?? '', credentials.createInsecure());
  closing.push(() => client.close());
  return ask<StatusResponse>((done) => client.get({}, done));
};

/** A service with one endpoint on loopback, and how it is checked. */
const checkedService = (name: string, port: number, check: string, node = '') => `apiVersion: v1
kind: Service
metadata: {name: ${name}, namespace: shop}
spec: {clusterIP: None, ports: [{name: p, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: ${name}, namespace: shop, labels: {kubernetes.io/service-name: ${name}}}
addressType: IPv4
ports: [{name: p, port: ${port}}]
endpoints: [{addresses: [127.0.0.1]${node === '' ? '' : `, nodeName: ${node}`}}]
---
apiVersion: mesh.weft.dev/v1
kind: TrafficPolicy
metadata: {name: ${name}, namespace: shop}
spec: {targetRefs: [{kind: Service, name: ${name}}], healthCheck: {interval: 100ms, timeout: 500ms, unhealthyThreshold: 2, ${check}}}
`;

async function bound(server: NetServer, port = 0): Promise<number> {
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

/** An HTTP server whose status can be changed. */
async function httpServer() {
  const state = { status: 200, served: 0 };
  const server = createHttp(({ url }, response) => {
    if (url !== '/healthz') state.served++;
    response.writeHead(state.status).end();
  });
  closing.push(() => void server.close());
  return { state, port: await bound(server) };
}

/** n1, whose agent checks the one endpoint of "web", and n2; to both it is ready. */
async function checkedByN1(port: number, check = 'http: {}'): Promise<[n1: Node, n2: Node]> {
  const nodes: [Node, Node] = [await startNode('n1'), await startNode('n2')];
  await apply(controller, checkedService('web', port, check, 'n1'));
  await becomes(nodes, EndpointHealth.READY);
  return nodes;
}

/** To the proxies of all these nodes. */
async function becomes(nodes: readonly Node[], health: EndpointHealth): Promise<void> {
  await Promise.all(nodes.map(({ proxy }) => proxy.becomes('web', health)));
}

test('what one node’s checks find is so for every node, with the reason, and ends when it passes again', async () => {
  const { state, port } = await httpServer();
  const [n1, n2] = await checkedByN1(port, 'http: {path: /healthz}');
  state.status = 503;
  await becomes([n1, n2], EndpointHealth.UNHEALTHY);
  expect(n2.proxy.endpoint('web')?.check).toMatchObject({ node: 'n1', failing: true, detail: 'HTTP 503 from /healthz' });
  expect((await status(n1.agent)).checks).toMatchObject([
    { endpoint: 'shop/web/127.0.0.1', check: `http 127.0.0.1:${port}/healthz`, verdict: 'failing', detail: 'HTTP 503 from /healthz' },
  ]);
  expect((await status(n2.agent)).checks).toEqual([]);
  const metrics = await (await fetch(`http://127.0.0.1:${n1.agent.metricsPort}/metrics`)).text();
  expect(metrics).toContain('weft_agent_checked_endpoints{verdict="failing"} 1');
  expect(metrics).toMatch(/weft_agent_health_checks_total\{type="http",result="failure"\} [2-9]/);
  state.status = 204;
  await becomes([n1, n2], EndpointHealth.READY);
});

test('a gRPC server that says NOT_SERVING, and a port that is closed, get nothing new', async () => {
  let serving = 1;
  const grpc = new GrpcServer();
  const plain = (bytes: Buffer) => bytes;
  const check = {
    path: '/grpc.health.v1.Health/Check',
    requestStream: false,
    responseStream: false,
    requestSerialize: plain,
    requestDeserialize: plain,
    responseSerialize: plain,
    responseDeserialize: plain,
  };
  grpc.addService({ check } as never, {
    check: (_: unknown, reply: (error: null, answer: Buffer) => void) => reply(null, Buffer.from([0x08, serving])),
  });
  closing.push(() => grpc.forceShutdown());
  const grpcPort = await new Promise<number>((resolve) =>
    grpc.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (_, port) => resolve(port)),
  );
  const tcp = createTcp((socket) => socket.destroy());
  const tcpPort = await bound(tcp);
  const { proxy } = await startNode('n1');
  await apply(controller, `${checkedService('rpc', grpcPort, 'grpc: {}')}---\n${checkedService('db', tcpPort, 'tcp: {}')}`);
  await proxy.becomes('rpc', EndpointHealth.READY);
  await proxy.becomes('db', EndpointHealth.READY);
  serving = 2;
  await new Promise((resolve) => tcp.close(resolve));
  await proxy.becomes('rpc', EndpointHealth.UNHEALTHY);
  await proxy.becomes('db', EndpointHealth.UNHEALTHY);
  expect(proxy.endpoint('rpc')?.check?.detail).toBe('gRPC NOT_SERVING');
  expect(proxy.endpoint('db')?.check?.detail).toContain('ECONNREFUSED');
  const again = createTcp((socket) => socket.destroy());
  closing.push(() => void again.close());
  await bound(again, tcpPort);
  await proxy.becomes('db', EndpointHealth.READY);
});

test('an endpoint without a node is checked by one node, and by another one when that is lost', async () => {
  const { state, port } = await httpServer();
  const nodes = new Map([
    ['n1', await startNode('n1')],
    ['n2', await startNode('n2')],
  ]);
  state.status = 500;
  await apply(controller, checkedService('web', port, 'http: {}'));
  const proxies = [...nodes.values()].map(({ proxy }) => proxy);
  await becomes([...nodes.values()], EndpointHealth.UNHEALTHY);
  const first = proxies[0]?.endpoint('web')?.check?.node ?? '';
  const other = first === 'n1' ? 'n2' : 'n1';
  expect((await status(nodes.get(other)!.agent)).checks).toEqual([]);
  await nodes.get(first)!.agent.stop();
  // The lease of its node runs out; what it found goes with it.
  const left = nodes.get(other)!.proxy;
  await left.until('the other one checks', () => left.endpoint('web')?.check?.node === other);
  await left.until(
    'it finds the same',
    () => left.endpoint('web')?.check?.failing === true && left.endpoint('web')?.health === EndpointHealth.UNHEALTHY,
  );
});

test('without a controller a node’s own verdicts reach its proxy, and all agree when it is back', async () => {
  const { state, port } = await httpServer();
  const [n1, n2] = await checkedByN1(port);
  await controller.stop();
  state.status = 500;
  await n1.proxy.becomes('web', EndpointHealth.UNHEALTHY);
  expect(n2.proxy.endpoint('web')?.health).toBe(EndpointHealth.READY);
  controller = await startController();
  await n2.proxy.becomes('web', EndpointHealth.UNHEALTHY);
  state.status = 200;
  await becomes([n1, n2], EndpointHealth.READY);
});

test('with etcd away a node’s verdicts reach its own proxy, and all agree when it is back', async () => {
  const { state, port } = await httpServer();
  const [n1, n2] = await checkedByN1(port);
  await etcd.kill();
  state.status = 500;
  await n1.proxy.becomes('web', EndpointHealth.UNHEALTHY);
  await controller.logged('can’t be written to etcd');
  expect(n2.proxy.endpoint('web')?.health).toBe(EndpointHealth.READY);
  await etcd.restart();
  await n2.proxy.becomes('web', EndpointHealth.UNHEALTHY);
  expect(n2.proxy.endpoint('web')?.check).toMatchObject({ node: 'n1', detail: 'HTTP 500 from /' });
  state.status = 200;
  await becomes([n1, n2], EndpointHealth.READY);
});

test('an agent that starts again goes on with what it knew, also without a controller', async () => {
  const { state, port } = await httpServer();
  const first = await startNode('n1');
  state.status = 500;
  await apply(controller, checkedService('web', port, 'http: {}', 'n1'));
  await first.proxy.becomes('web', EndpointHealth.UNHEALTHY);
  const { revision } = first.proxy;
  await first.proxy.until('the controller knows it too', () => first.proxy.revision > revision);
  await first.proxy.stop();
  await first.agent.stop();
  await controller.stop();
  const second = await startNode('n1');
  await second.proxy.until('the snapshot', () => second.proxy.endpoint('web') !== undefined);
  expect(second.proxy.endpoint('web')).toMatchObject({ health: EndpointHealth.UNHEALTHY });
  state.status = 200;
  await second.proxy.becomes('web', EndpointHealth.READY);
  controller = await startController();
});

/** The real one, fed by the node's agent. */
function startProxy(node: string): void {
  const own = join(folder, node);
  const proxy = ProxyProcess.startWith(['--agent', `unix:${join(own, 'agent.sock')}`, '--node', node, '--workers', '1'], own);
  closing.push(() => proxy.kill());
}

test('a real proxy sends nothing to an endpoint that fails, and to all when all fail; its status says why', async () => {
  const [one, two, port] = [await httpServer(), await httpServer(), await freePort()];
  const { agent } = await startNode('n1');
  const slice = (name: string, at: number) => `---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: ${name}, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: p, port: ${at}}]
endpoints: [{addresses: [127.0.0.1], nodeName: n1}]
`;
  const gateway = `---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec: {gatewayClassName: weft, listeners: [{name: web, port: ${port}, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: web, port: 80}]}]}
`;
  const { findings } = await apply(
    controller,
    `${checkedService('web', one.port, 'http: {path: /healthz}', 'n1')}${slice('other', two.port)}${gateway}`,
  );
  expect(findings).toEqual([]);
  startProxy('n1');
  /** Who answers ten requests; a failing server answers them too. */
  const serving = async (): Promise<string> => {
    const before = [one.state.served, two.state.served];
    for (let index = 0; index < 10; index++) {
      const response = await fetch(`http://127.0.0.1:${port}/`).catch(() => null);
      if (response === null) return 'not up';
      await response.text();
    }
    return [one.state.served > before[0]! ? 'one' : '', two.state.served > before[1]! ? 'two' : ''].filter((name) => name !== '').join('+');
  };
  const until = async (expected: string): Promise<void> => {
    for (let found = ''; found !== expected; found = await serving()) await new Promise((resolve) => setTimeout(resolve, 20));
  };
  const reasons = async () =>
    (await status(agent)).proxy?.clusters.find(({ name }) => name === 'shop/web:80')?.endpoints.map((each) => each.healthReason);
  await until('one+two');
  one.state.status = 503;
  await until('two');
  expect((await reasons())?.sort()).toEqual(['', 'check by n1: HTTP 503 from /healthz']);
  two.state.status = 503;
  await until('one+two');
  expect(await reasons()).toEqual(
    Array.from({ length: 2 }, () => 'check by n1: HTTP 503 from /healthz; used all the same, none is healthy'),
  );
  const metrics = await (await fetch(`http://127.0.0.1:${agent.metricsPort}/metrics`)).text();
  expect(metrics).toContain('weft_proxy_clusters_none_healthy 1');
  two.state.status = 200;
  await until('two');
});
