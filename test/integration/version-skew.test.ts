// A skew of one version between controller, agent and proxy, by what goes over their streams: real processes on one side, on the other the
// messages of version 1 as its own descriptors have them, or those of a version that says more than this one knows.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { credentials, status } from '@grpc/grpc-js';
import { expect, test } from '@jest/globals';
import { AdminClient, type ApplyResponse, type WaitResponse } from '../../api/gen/mesh/v1/admin.js';
import type { DiscoveryResponse } from '../../api/gen/mesh/v1/discovery.js';
import { ResourceType } from '../../api/gen/mesh/v1/model.js';
import { NodeStatusClient, type StatusResponse } from '../../api/gen/mesh/v1/status.js';
import { PROTOCOL } from '../../api/grpc/protocol.js';
import { DiscoveryTestServer, type ScriptedStream } from '../lab/discovery-server.js';
import { startEtcd } from '../lab/etcd.js';
import { eventually } from '../lab/eventually.js';
import { gatewayResources } from '../lab/gateway-resources.js';
import { discoveryOfVersion1, discoveryToCome, OlderSubscriber } from '../lab/other-version.js';
import { freePort } from '../lab/ports.js';
import { ProxyScope } from '../lab/proxy-scope.js';
import { ask, TestRegistration } from './controller-lab.js';

const dist = process.env.WEFT_DIST ?? join(process.cwd(), 'dist');
const scope = new ProxyScope();

function weft(...args: string[]): ChildProcess {
  const child = spawn(process.execPath, [join(dist, 'cli', 'main.js'), ...args], { stdio: 'ignore' });
  scope.closing.push(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  });
  return child;
}

/** A node: the agent, and its proxy. */
function startNode(controller: string): void {
  const run = ['--node', 'n1', '--run-dir', scope.folder];
  const listens = ['--status-listen', '127.0.0.1:0', '--metrics-listen', '127.0.0.1:0'];
  weft('agent', ...run, '--controller', controller, '--state-dir', scope.folder, '--capture', 'off', ...listens);
  weft('proxy', ...run, '--agent', `unix:${scope.folder}/agent.sock`, '--workers', '1');
}

async function nodeStatus(): Promise<StatusResponse> {
  const client = new NodeStatusClient(`unix:${scope.folder}/agent.sock`, credentials.createInsecure());
  return ask<StatusResponse>((done) => client.get({}, done)).finally(() => client.close());
}

const token = (revision: number) => ({ clusterId: 'c', compiler: 'k', revision });

/** A gateway that leads to a server of the test. */
async function gateway(): Promise<{ readonly resources: DiscoveryResponse['resources']; readonly answer: () => Promise<string> }> {
  const backend = await scope.listen(createServer((_, response) => response.end('served')));
  const port = await freePort();
  const resources = gatewayResources('shop/edge', port, 'shop/v1', backend);
  const answer = (): Promise<string> =>
    fetch(`http://127.0.0.1:${port}/`).then(
      (response) => response.text(),
      () => 'nothing',
    );
  return { resources, answer };
}

async function subscribed(controller: DiscoveryTestServer): Promise<ScriptedStream> {
  scope.closing.push(() => controller.stop());
  startNode(controller.address);
  const stream = await controller.nextStream();
  const { request } = await stream.next();
  expect(request).toMatchObject({ $case: 'subscribe', value: { node: 'n1' } });
  return stream;
}

test('under a controller of the version before, an agent and its proxy serve and ack; a proxy of the version before gets all from this agent', async () => {
  const { resources, answer } = await gateway();
  const stream = await subscribed(await DiscoveryTestServer.start('127.0.0.1:0', discoveryOfVersion1));
  stream.send({ nonce: 1, revision: 7, full: true, token: token(7), resources });
  expect((await stream.next()).request).toMatchObject({ $case: 'ack', value: { nonce: 1, revision: 7, rejected: [] } });
  expect(await eventually(answer, (text) => text === 'served')).toBe('served');

  const older = new OlderSubscriber(`unix:${scope.folder}/agent.sock`, 'n1/proxy');
  scope.closing.push(() => older.close());
  await older.until('the older proxy has all', () => older.held.size === resources.length);
  stream.send({ nonce: 2, revision: 8, token: token(8), removed: [{ type: ResourceType.HTTP_ROUTE, name: 'shop/edge' }] });
  // Which waits for both proxies.
  expect((await stream.next()).request).toMatchObject({ $case: 'ack', value: { nonce: 2, revision: 8, rejected: [] } });
  expect(older.held.size).toBe(resources.length - 1);
  expect((await nodeStatus()).notices).toEqual([]);
});

test('of a newer controller a node refuses types it does not know, goes without fields it does not know, and says both', async () => {
  const { resources, answer } = await gateway();
  const stream = await subscribed(await DiscoveryTestServer.start('127.0.0.1:0', discoveryToCome));
  const unknown = { type: 4001 as ResourceType, name: 'shop/novelty', body: Buffer.from('x') };
  stream.send({ nonce: 1, revision: 7, full: true, token: token(7), resources: [...resources, unknown], protocol: PROTOCOL + 1 });
  const { request } = await stream.next();
  expect(request).toMatchObject({ $case: 'ack', value: { rejected: [{ type: 4001, name: 'shop/novelty' }] } });
  expect(await eventually(answer, (text) => text === 'served')).toBe('served');
  const { notices, proxy } = await eventually(nodeStatus, (found) => found.proxy?.appliedRevision === 7);
  expect(notices).toEqual([
    expect.stringMatching(/^4 resources have fields that this software \(.*\) is too old to know, shop\/\S+ for one/),
  ]);
  expect(proxy?.faults).toEqual(notices);
});

test('a controller two versions ahead is not listened to: the node serves what it has, and says what to upgrade', async () => {
  const { resources, answer } = await gateway();
  const stream = await subscribed(await DiscoveryTestServer.start());
  stream.send({ nonce: 1, revision: 7, full: true, token: token(7), resources, protocol: PROTOCOL });
  expect(await eventually(answer, (text) => text === 'served')).toBe('served');
  stream.send({ nonce: 2, revision: 8, full: true, token: token(8), resources: [], protocol: PROTOCOL + 2 });
  await stream.ended;
  expect((await nodeStatus()).controller?.error).toContain(
    `the controller speaks version ${PROTOCOL + 2} of the control protocol, this side ${PROTOCOL}: only neighbours understand each other, upgrade this side`,
  );
  expect(await answer()).toBe('served');
});

test('an agent of the version before is served by this controller, comes back by difference, also where its node is told of a part', async () => {
  const etcd = await startEtcd();
  scope.closing.push(() => etcd.stop());
  const port = await freePort();
  const address = `127.0.0.1:${port}`;
  weft('controller', '--etcd', etcd.endpoint, '--listen', address, '--metrics-listen', '');
  const admin = new AdminClient(address, credentials.createInsecure());
  scope.closing.push(() => admin.close());
  const apply = (content: string): Promise<ApplyResponse> =>
    ask<ApplyResponse>((done) => admin.apply({ files: [{ name: 't.yaml', content }], dryRun: false, asOf: 0 }, done));
  const service = (name: string, exportTo: string): string =>
    `apiVersion: v1\nkind: Service\nmetadata: {name: ${name}, namespace: shop, annotations: {networking.istio.io/exportTo: "${exportTo}"}}\nspec: {ports: [{port: 80}]}\n`;
  const workload =
    'apiVersion: mesh.weft.dev/v1\nkind: Workload\nmetadata: {name: w, namespace: shop}\nspec: {node: n1, networkNamespace: /run/netns/w, addresses: [10.0.0.1]}\n';
  const first = await eventually(
    () => apply(`${service('a', '.')}---\n${service('b', '~')}---\n${workload}`).catch(() => null),
    (applied) => applied !== null,
  );
  expect(first?.findings).toEqual([]);
  const registration = new TestRegistration(address, 'n1');
  scope.closing.push(() => registration.close());
  const older = new OlderSubscriber(address, 'n1');
  const wait = (revision: number): Promise<WaitResponse> => ask<WaitResponse>((done) => admin.wait({ revision, timeoutMs: 10_000 }, done));
  await registration.until('it is registered', () => registration.responses > 0);
  expect(await wait(first?.revision ?? 0)).toEqual({ acked: ['n1'], pending: [], rejected: [] });
  const keys = (...names: string[]): Set<string> => new Set([...names.map((name) => `1/shop/${name}`), '4/shop/w']);
  expect(older.held).toEqual(keys('a'));
  older.close();

  const { revision } = await apply(service('b', '.'));
  const back = new OlderSubscriber(address, 'n1', older.token);
  scope.closing.push(() => back.close());
  expect(await wait(revision)).toMatchObject({ acked: ['n1'] });
  expect(back.responses.some(({ full }) => full)).toBe(false);
  expect(back.held).toEqual(new Set(['1/shop/b']));

  const tooNew = new OlderSubscriber(address, 'n2', undefined, PROTOCOL + 2);
  scope.closing.push(() => tooNew.close());
  await tooNew.until('it is refused', () => tooNew.error !== null);
  expect(tooNew.error?.code).toBe(status.FAILED_PRECONDITION);
  expect(tooNew.error?.details).toContain('upgrade this side, one version at a time');
});
