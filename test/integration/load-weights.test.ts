// Weights by load, through the real `weft proxy --static` process: HTTP servers and gRPC's own library that report how busy they are, and get
// requests by that. The nodes' figures: a real agent and a real controller over a real etcd.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type OutgoingHttpHeaders, request } from 'node:http';
import { join } from 'node:path';
import { type handleUnaryCall, Server, ServerCredentials } from '@grpc/grpc-js';
import { expect, test } from '@jest/globals';
import pino from 'pino';
import { DiscoveryClient } from '../../agent/discovery/discovery-client.js';
import { Model } from '../../agent/model/model.js';
import { Condition } from '../lab/condition.js';
import { startEtcd } from '../lab/etcd.js';
import { eventually } from '../lab/eventually.js';
import { GrpcEchoClient } from '../lab/grpc-echo.js';
import { freePort } from '../lab/ports.js';
import type { ProxyProcess } from '../lab/proxy-process.js';
import { ProxyScope } from '../lab/proxy-scope.js';
import { startTestAgent } from './agent-lab.js';
import { apply, startTestController } from './controller-lab.js';

const scope = new ProxyScope();

const policy = (weights: string, type = 'RoundRobin'): string => `apiVersion: mesh.weft.dev/v1
kind: TrafficPolicy
metadata: {name: shop}
spec: {targetRefs: [{kind: Service, name: shop}], loadBalancer: {type: ${type}, weights: ${weights}}}`;
const FAST = '{source: ORCA, blackoutPeriod: 0s, updatePeriod: 100ms}';

const slice = (index: number, port: number): string => `apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: shop-${index}, labels: {kubernetes.io/service-name: shop}}
addressType: IPv4
ports: [{name: p, port: ${port}}]
endpoints: [{addresses: [127.0.0.1]}]`;

async function shop(ports: readonly number[], weights: string, appProtocol = 'http'): Promise<{ proxy: ProxyProcess; port: number }> {
  const port = await freePort();
  const file = join(scope.folder, 'shop.yaml');
  writeFileSync(
    file,
    [
      `apiVersion: v1\nkind: Service\nmetadata: {name: shop}\nspec: {ports: [{name: p, port: 80, appProtocol: ${appProtocol}}]}`,
      ...ports.map((each, index) => slice(index, each)),
      `apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: weft, addresses: [{value: 127.0.0.1}], listeners: [{name: web, port: ${port}, protocol: HTTP}]}`,
      `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop}
spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: shop, port: 80}]}]}`,
      policy(weights),
    ].join('\n---\n'),
  );
  return { proxy: await scope.start(file, '--workers', '1'), port };
}

/** Answers, and says so of itself. */
async function server(asked: number[], index: number, said: OutgoingHttpHeaders): Promise<number> {
  asked[index] = 0;
  return scope.listen(
    createServer((_, response) => {
      asked[index]! += 1;
      response.writeHead(200, said).end('ok');
    }),
  );
}

function get(port: number): Promise<OutgoingHttpHeaders> {
  return new Promise((resolve, reject) => {
    const sent = request({ port, host: '127.0.0.1', headers: { host: 'shop' } }, (response) => {
      response.resume();
      response.on('end', () => resolve(response.headers));
    });
    sent.on('error', reject);
    sent.end();
  });
}

async function told(proxy: ProxyProcess): Promise<[number, string, number][]> {
  const [cluster] = (await proxy.state()).clusters;
  return cluster!.endpoints.map(({ port, weightSource, weightShare }) => [port, weightSource, weightShare ?? 0]);
}

test('servers that say how busy they are, in text, JSON and trailers, get requests by it, and clients are told what they said', async () => {
  const asked: number[] = [];
  const ports = [
    await server(asked, 0, { 'endpoint-load-metrics': 'TEXT cpu_utilization=0.8,rps_fractional=100' }),
    await server(asked, 1, { 'endpoint-load-metrics': 'JSON {"applicationUtilization": 0.2, "rps_fractional": 100, "eps": 0}' }),
  ];
  asked[2] = 0;
  ports.push(
    await scope.listen(
      createServer((_, response) => {
        asked[2]! += 1;
        response.writeHead(200, { trailer: 'endpoint-load-metrics' });
        response.write('ok');
        response.addTrailers({ 'endpoint-load-metrics': 'cpu_utilization=0.4,rps_fractional=100' });
        response.end();
      }),
    ),
  );
  const { proxy, port } = await shop(ports, FAST);
  const said = [await get(port), await get(port), await get(port)].map((headers) => headers['endpoint-load-metrics'] ?? '');
  expect(said.sort()).toEqual(['', expect.stringMatching(/^JSON /), expect.stringMatching(/^TEXT /)]);
  const weighed = await eventually(
    async () => {
      await get(port);
      return told(proxy);
    },
    (all) => all.every(([, source]) => source === 'orca'),
  );
  const shareOf = new Map(weighed.map(([endpoint, , share]) => [endpoint, share]));
  expect(ports.map((endpoint) => shareOf.get(endpoint)!.toFixed(3))).toEqual(['0.143', '0.571', '0.286']);
  asked.fill(0);
  await Promise.all(Array.from({ length: 280 }, () => get(port)));
  // One worker, in turn: what is 1/7 of them to within a turn.
  for (const [index, expected] of [40, 160, 80].entries()) expect(Math.abs(asked[index]! - expected)).toBeLessThanOrEqual(2);
  expect(await proxy.counter('load_reports')).toBeGreaterThanOrEqual(280);
  expect(await proxy.counter('load_reports_unusable')).toBe(0);
});

test('reports that can’t be are counted and count for nothing', async () => {
  const asked: number[] = [];
  const ports = [
    await server(asked, 0, { 'endpoint-load-metrics': 'TEXT cpu_utilization=nan,rps_fractional=100' }),
    await server(asked, 1, { 'endpoint-load-metrics-bin': `${'A'.repeat(9_000)}` }),
    await server(asked, 2, { 'endpoint-load-metrics-json': `{"cpu_utilization":${'['.repeat(2_000)}` }),
  ];
  const { proxy, port } = await shop(ports, FAST);
  for (let i = 0; i < 60; i++) await get(port);
  expect(asked).toEqual([20, 20, 20]);
  expect([await proxy.counter('load_reports'), await proxy.counter('load_reports_unusable')]).toEqual([60, 60]);
  expect((await told(proxy)).map(([, source]) => source)).toEqual(['static', 'static', 'static']);
});

test('nobody reads reports where no policy asks for them', async () => {
  const asked: number[] = [];
  const ports = [await server(asked, 0, { 'endpoint-load-metrics': 'cpu_utilization=0.5,rps_fractional=100' })];
  const { proxy, port } = await shop(ports, '{source: Static}');
  await get(port);
  expect([asked[0], await proxy.counter('load_reports')]).toEqual([1, 0]);
});

/** gRPC's own library records and sends it, in trailers. */
async function grpcServer(asked: number[], index: number, utilization: number): Promise<number> {
  asked[index] = 0;
  const grpc = new Server({ 'grpc.server_call_metric_recording': 1 });
  const asIs = (bytes: Buffer): Buffer => bytes;
  const serializers = { requestSerialize: asIs, requestDeserialize: asIs, responseSerialize: asIs, responseDeserialize: asIs };
  const unary: handleUnaryCall<Buffer, Buffer> = (call, done) => {
    asked[index]! += 1;
    const recorder = call.getMetricsRecorder();
    recorder.recordCPUUtilizationMetric(utilization);
    recorder.recordQpsMetric(50);
    done(null, call.request);
  };
  grpc.addService({ unary: { path: '/weft.test.Echo/Unary', requestStream: false, responseStream: false, ...serializers } }, { unary });
  scope.closing.push(() => grpc.forceShutdown());
  return new Promise((resolve, reject) =>
    grpc.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) => (error === null ? resolve(port) : reject(error))),
  );
}

test('gRPC servers report with each call’s trailers, as their library does', async () => {
  const asked: number[] = [];
  const ports = [await grpcServer(asked, 0, 0.9), await grpcServer(asked, 1, 0.3)];
  const { proxy, port } = await shop(ports, FAST, 'grpc');
  const client = new GrpcEchoClient(port);
  scope.closing.push(() => client.close());
  await eventually(
    async () => {
      await client.unary(Buffer.from([1]));
      return told(proxy);
    },
    (all) => all.every(([, source]) => source === 'orca'),
  );
  asked.fill(0);
  // Few: grpc-js reads its .proto files for each call that it reports with.
  await Promise.all(Array.from({ length: 40 }, () => client.unary(Buffer.from([1]))));
  for (const [index, expected] of [10, 30].entries()) expect(Math.abs(asked[index]! - expected)).toBeLessThanOrEqual(1);
});

/** Takes its configuration from an agent, as a proxy does. */
class Served extends Condition {
  readonly model = new Model();

  constructor(agent: string) {
    super();
    const onUpdate = async (update: Parameters<Model['apply']>[0]) => {
      const refused = this.model.apply(update);
      this.changed();
      return refused;
    };
    const log = pino({ level: 'silent' });
    const client = new DiscoveryClient({ addresses: [agent], node: 'proxy', version: 'test', resume: null, onUpdate, log });
    client.start();
    scope.closing.push(() => client.stop());
  }

  get idlePercent(): number | undefined {
    return [...(this.model.endpoints.get('shop/shop')?.values() ?? [])][0]?.nodeIdlePercent;
  }
}

test('a node says how much of its CPU is idle as long as a policy weighs its endpoints by that, and other nodes hear of it', async () => {
  const etcd = await startEtcd();
  scope.closing.push(() => etcd.stop());
  const folder = mkdtempSync('/dev/shm/wlw-');
  scope.closing.push(() => rmSync(folder, { recursive: true, force: true }));
  const address = `unix:${join(folder, 'controller.sock')}`;
  const controller = await startTestController(etcd.endpoint, { etcdPrefix: '/weights', listen: [address] });
  scope.closing.push(() => controller.stop());
  for (const node of ['n1', 'n2']) {
    const own = join(folder, node);
    const agent = await startTestAgent('--node', node, '--controller', address, '--run-dir', own, '--state-dir', join(own, 'state'));
    scope.closing.push(() => agent.stop());
  }
  const other = new Served(`unix:${join(folder, 'n2', 'agent.sock')}`);
  const service = `apiVersion: v1
kind: Service
metadata: {name: shop, namespace: shop}
spec: {clusterIP: None, ports: [{name: p, port: 80}]}`;
  const endpoints = slice(0, 8080)
    .replace('{name: shop-0,', '{name: shop-0, namespace: shop,')
    .replace('[127.0.0.1]', '[10.9.0.1], nodeName: n1');
  const weighed = (source: string) => policy(`{source: ${source}}`).replace('{name: shop}', '{name: shop, namespace: shop}');
  await apply(controller, [service, endpoints, weighed('Node')].join('\n---\n'));
  await other.until('n1 is measured', () => other.idlePercent !== undefined);
  expect(other.idlePercent).toBeLessThanOrEqual(100);
  await apply(controller, weighed('Static'));
  await other.until('nobody asks any more', () => other.idlePercent === undefined);
});
