// The whole agent in this process, redirection off, against a real gRPC controller side and a real proxy side.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import { BinaryReader, BinaryWriter } from '@bufbuild/protobuf/wire';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import { Client, credentials, Server, ServerCredentials } from '@grpc/grpc-js';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { Command } from 'commander';
import pino from 'pino';
import { type AgentConfig, addAgentOptions, agentConfig } from '../../agent/config.js';
import { DiscoveryClient, type DiscoveryUpdate } from '../../agent/discovery/discovery-client.js';
import { type RunningAgent, startAgent } from '../../agent/main.js';
import type { Rejection } from '../../api/gen/mesh/v1/discovery.js';
import { ResourceType, Service } from '../../api/gen/mesh/v1/model.js';
import { NodeStatusClient, ProxyState, ProxyStatusService, type StatusResponse } from '../../api/gen/mesh/v1/status.js';
import { DiscoveryTestServer, type ScriptedStream } from '../lab/discovery-server.js';

const log = pino({ level: 'silent' });
const token = (revision: number) => ({ clusterId: 'c', compiler: 'k', revision });
const service = (name: string) => ({
  type: ResourceType.SERVICE,
  name: `shop/${name}`,
  body: Buffer.from(
    Service.encode(
      Service.fromPartial({ namespace: 'shop', name, hostnames: [name], addresses: ['10.0.0.1'], ports: [{ name: 'http', port: 80 }] }),
    ).finish(),
  ),
});

const cleanups: (() => unknown)[] = [];
let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'wag-'));
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function config(controller: string): AgentConfig {
  const command = addAgentOptions(new Command());
  const flags = ['--node', 'n1', '--controller', controller, '--run-dir', folder, '--state-dir', folder, '--capture', 'off'];
  command.parse([...flags, '--status-listen', '127.0.0.1:0', '--metrics-listen', '127.0.0.1:0'], { from: 'user' });
  return agentConfig(command);
}

async function controllerSide(): Promise<DiscoveryTestServer> {
  const server = await DiscoveryTestServer.start();
  cleanups.push(() => server.stop());
  return server;
}

async function agentFor(controller: string): Promise<RunningAgent> {
  const agent = await startAgent(config(controller), log);
  cleanups.push(() => agent.stop());
  return agent;
}

async function subscribed(controller: DiscoveryTestServer): Promise<ScriptedStream> {
  const stream = await controller.nextStream();
  await stream.next();
  return stream;
}

/** A proxy's subscription; `answer` decides about each update. */
function proxySide(answer: (update: DiscoveryUpdate) => Promise<readonly Rejection[]>): {
  updates: DiscoveryUpdate[];
  first: Promise<void>;
} {
  const updates: DiscoveryUpdate[] = [];
  let arrived: () => void = () => {};
  const first = new Promise<void>((resolve) => (arrived = resolve));
  const client = new DiscoveryClient({
    addresses: [`unix:${join(folder, 'agent.sock')}`],
    node: 'n1/proxy',
    version: 'test',
    resume: null,
    onUpdate: (update) => {
      updates.push(update);
      arrived();
      return answer(update);
    },
    log,
  });
  client.start();
  cleanups.push(() => client.stop());
  return { updates, first };
}

function status(agent: RunningAgent): Promise<StatusResponse> {
  const client = new NodeStatusClient(agent.statusAddresses[0] ?? '', credentials.createInsecure());
  return new Promise((resolve, reject) => {
    client.get({}, (error, response) => {
      client.close();
      if (error === null) resolve(response);
      else reject(error);
    });
  });
}

async function page(agent: RunningAgent, path: string): Promise<{ code: number; text: string }> {
  const response = await fetch(`http://127.0.0.1:${agent.metricsPort}${path}`, { headers: { connection: 'close' } });
  return { code: response.status, text: await response.text() };
}

describe('the agent', () => {
  test('with no proxy acks at once, refuses a bad resource alone, and says both in its status', async () => {
    const controller = await controllerSide();
    const agent = await agentFor(controller.address);
    const stream = await subscribed(controller);
    const bad = { type: ResourceType.HTTP_ROUTE, name: 'shop/bad', body: Buffer.from([0xff]) };
    stream.send({ nonce: 7, revision: 3, full: true, token: token(3), resources: [service('catalog'), bad] });
    const ack = await stream.next();
    expect(ack.request).toMatchObject({ $case: 'ack', value: { nonce: 7, revision: 3, rejected: [{ name: 'shop/bad' }] } });
    const state = await status(agent);
    expect(state).toMatchObject({
      node: 'n1',
      appliedRevision: 3,
      controller: { connected: true, fromDisk: false },
      capture: { mode: 'off' },
    });
    expect(state.proxy).toBeUndefined();
    expect(state.proxyError).toContain('weft proxy');
    expect(state.proxyError).toContain('acked without one');
    expect(state.rejected.map(({ name }) => name)).toEqual(['shop/bad']);
  });

  test('acks a revision only when the connected proxy has, and passes its rejections on', async () => {
    const controller = await controllerSide();
    await agentFor(controller.address);
    const stream = await subscribed(controller);
    stream.send({ nonce: 1, revision: 1, full: true, token: token(1), resources: [service('catalog')] });
    await stream.next();
    const releases: ((rejections: readonly Rejection[]) => void)[] = [];
    const started: (() => void)[] = [];
    const proxy = proxySide((update) => {
      if (update.full) return Promise.resolve([]);
      started.shift()?.();
      return new Promise((resolve) => releases.push(resolve));
    });
    await proxy.first;
    const delta = new Promise<void>((resolve) => started.push(resolve));
    stream.send({ nonce: 2, revision: 2, token: token(2), resources: [service('cart')] });
    let acked = false;
    const ack = stream.next().then((request) => {
      acked = true;
      return request;
    });
    await delta;
    expect(acked).toBe(false);
    releases[0]?.([{ type: ResourceType.SERVICE, name: 'shop/cart', error: 'refused by the proxy' }]);
    expect((await ack).request).toMatchObject({
      value: { nonce: 2, revision: 2, rejected: [{ name: 'shop/cart', error: 'refused by the proxy' }] },
    });
    expect(proxy.updates.map((u) => [u.revision, u.full, u.resources.length])).toEqual([
      [1, true, 1],
      [2, false, 1],
    ]);
  });

  test('a proxy that was away gets what changed meanwhile, removals included, as one delta', async () => {
    const controller = await controllerSide();
    await agentFor(controller.address);
    const stream = await subscribed(controller);
    stream.send({ nonce: 1, revision: 1, full: true, token: token(1), resources: [service('a'), service('b')] });
    stream.send({ nonce: 2, revision: 2, token: token(2), resources: [service('c')] });
    stream.send({ nonce: 3, revision: 3, token: token(3), removed: [{ type: ResourceType.SERVICE, name: 'shop/a' }] });
    for (let i = 0; i < 3; i++) await stream.next();
    const update = await new Promise<DiscoveryUpdate>((resolve) => {
      const client = new DiscoveryClient({
        addresses: [`unix:${join(folder, 'agent.sock')}`],
        node: 'n1/proxy',
        version: 'test',
        resume: token(1),
        onUpdate: (received) => {
          resolve(received);
          return Promise.resolve([]);
        },
        log,
      });
      client.start();
      cleanups.push(() => client.stop());
    });
    expect(update).toMatchObject({ revision: 3, full: false, removed: [{ name: 'shop/a' }] });
    expect(update.resources.map(({ name }) => name)).toEqual(['shop/c']);
  });

  test('started again without a controller it serves the last state from disk, and resumes where it was', async () => {
    const controller = await controllerSide();
    const first = await startAgent(config(controller.address), log);
    const stream = await subscribed(controller);
    stream.send({ nonce: 1, revision: 9, full: true, token: token(9), resources: [service('catalog')] });
    await stream.next();
    await first.stop();
    const absent = `unix:${join(folder, 'controller.sock')}`;
    const agent = await agentFor(absent);
    const proxy = proxySide(() => Promise.resolve([]));
    await proxy.first;
    expect(proxy.updates[0]).toMatchObject({ revision: 9, full: true });
    expect(await status(agent)).toMatchObject({ appliedRevision: 9, controller: { connected: false, fromDisk: true } });
    expect((await page(agent, '/readyz')).code).toBe(200);
    const late = await DiscoveryTestServer.start(absent);
    cleanups.push(() => late.stop());
    const resumed = await late.nextStream();
    expect((await resumed.next()).request).toMatchObject({ $case: 'subscribe', value: { resume: token(9) } });
  });

  test.each([
    ['torn', (bytes: Buffer) => bytes.subarray(0, bytes.length - 3)],
    ['damaged', (bytes: Buffer) => Buffer.concat([bytes.subarray(0, bytes.length - 1), Buffer.from([0x7f])])],
    ['foreign', () => Buffer.from('something else\n')],
    ['empty', () => Buffer.alloc(0)],
  ])('an unusable snapshot (%s) is set aside and everything is asked for again', async (_name, spoil) => {
    const controller = await controllerSide();
    const first = await startAgent(config(controller.address), log);
    const stream = await subscribed(controller);
    stream.send({ nonce: 1, revision: 9, full: true, token: token(9), resources: [service('catalog')] });
    await stream.next();
    await first.stop();
    const path = join(folder, 'snapshot');
    const spoiled = spoil(readFileSync(path));
    writeFileSync(path, spoiled);
    const agent = await agentFor(controller.address);
    const again = await controller.nextStream();
    expect((await again.next()).request).toMatchObject({ value: { resume: undefined } });
    expect(readFileSync(`${path}.bad`)).toEqual(spoiled);
    expect((await page(agent, '/readyz')).code).toBe(503);
  });

  test('a disk that takes no snapshot does not stop the node', async () => {
    const controller = await controllerSide();
    writeFileSync(join(folder, 'file'), '');
    const settings = { ...config(controller.address), stateDir: join(folder, 'file') };
    const agent = await startAgent(settings, log);
    cleanups.push(() => agent.stop());
    const stream = await subscribed(controller);
    stream.send({ nonce: 1, revision: 2, full: true, token: token(2), resources: [service('catalog')] });
    expect((await stream.next()).request).toMatchObject({ $case: 'ack' });
    expect((await status(agent)).appliedRevision).toBe(2);
  });

  test('its socket is for its owner only, a stale one is replaced, a live one is respected', async () => {
    const controller = await controllerSide();
    writeFileSync(join(folder, 'agent.sock'), '');
    const agent = await agentFor(controller.address);
    expect(statSync(join(folder, 'agent.sock')).mode & 0o777).toBe(0o600);
    await expect(startAgent(config(controller.address), log)).rejects.toThrow(/served by another process/);
    expect((await page(agent, '/healthz')).text).toBe('ok\n');
  });

  test('its metrics are one exposition with the proxy’s text, each family described once', async () => {
    const proxy = new Server();
    proxy.addService(ProxyStatusService, {
      get: (_call: unknown, reply: (error: null, state: unknown) => void) =>
        reply(null, ProxyState.fromPartial({ version: 'p', appliedRevision: 4 })),
      metrics: (_call: unknown, reply: (error: null, metrics: unknown) => void) =>
        reply(null, { text: '# HELP istio_requests_total Requests\n# TYPE istio_requests_total counter\nistio_requests_total{a="b"} 5\n' }),
    });
    await new Promise<void>((resolve, reject) => {
      proxy.bindAsync(`unix:${join(folder, 'proxy.sock')}`, ServerCredentials.createInsecure(), (error) =>
        error ? reject(error) : resolve(),
      );
    });
    cleanups.push(() => proxy.forceShutdown());
    const agent = await agentFor((await controllerSide()).address);
    const { text } = await page(agent, '/metrics');
    expect(text).toContain('istio_requests_total{a="b"} 5');
    expect(text).toContain('weft_agent_proxy_up 1');
    const families = text.split('\n').flatMap((line) => /^# TYPE (\S+)/.exec(line)?.[1] ?? []);
    expect(new Set(families).size).toBe(families.length);
    for (const line of text.split('\n').filter((l) => l !== '')) expect(line).toMatch(/^(#|[a-zA-Z_:][\w:]*(\{.*\})? \S+$)/);
    expect((await status(agent)).proxy).toMatchObject({ version: 'p', appliedRevision: 4 });
  });

  test.each(['grpc.reflection.v1', 'grpc.reflection.v1alpha'])('a %s client finds NodeStatus and its messages', async (version) => {
    const agent = await agentFor((await controllerSide()).address);
    const client = new Client(agent.statusAddresses[0] ?? '', credentials.createInsecure());
    cleanups.push(() => client.close());
    const bytes = (b: Buffer): Buffer => b;
    const call = client.makeBidiStreamRequest(`/${version}.ServerReflection/ServerReflectionInfo`, bytes, bytes);
    const answers = call[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    const ask = async (field: number, value: string): Promise<Buffer[]> => {
      call.write(Buffer.from(new BinaryWriter().tag(field, 2).string(value).finish()));
      return fields((await answers.next()).value as Buffer, field === 7 ? 6 : 4);
    };
    expect((await ask(7, '')).map((entry) => fields(entry, 1)[0]?.toString())).toEqual(['mesh.v1.NodeStatus']);
    const files = (await ask(4, 'mesh.v1.NodeStatus')).map((file) => fromBinary(FileDescriptorProtoSchema, file));
    expect(files.map(({ name }) => name)).toEqual(['status', 'discovery', 'model', 'explain'].map((name) => `mesh/v1/${name}.proto`));
    expect(files[0]?.service[0]?.method[0]?.name).toBe('Get');
    expect(await ask(4, 'mesh.v1.NodeStatus.Get')).toHaveLength(4);
    expect(await ask(3, 'mesh/v1/model.proto')).toHaveLength(1);
    expect(await ask(4, 'mesh.v1.NoSuch')).toEqual([]);
    call.end();
  });
});

/** All values of the one embedded message `field`: its repeated field 1. */
function fields(message: Buffer, field: number): Buffer[] {
  const found: Buffer[] = [];
  const reader = new BinaryReader(message);
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    if (number !== field) {
      reader.skip(wireType);
      continue;
    }
    const value = Buffer.from(reader.bytes());
    if (field === 1) found.push(value);
    else found.push(...fields(value, 1));
  }
  return found;
}

test('an agent that can’t start says why and ends, so that its unit starts it again', async () => {
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  cleanups.push(() => taken.close());
  const { port } = taken.address() as AddressInfo;
  const flags = ['--node', 'n1', '--controller', '127.0.0.1:1', '--run-dir', folder, '--state-dir', folder, '--capture', 'nftables'];
  const places = ['--mesh-netns', join(folder, 'mesh'), '--bpf-dir', join(folder, 'bpf'), '--metrics-listen', `127.0.0.1:${port}`];
  const agent = spawn(process.execPath, ['dist/cli/main.js', 'agent', ...flags, ...places], { stdio: ['ignore', 'ignore', 'pipe'] });
  cleanups.push(() => agent.kill('SIGKILL'));
  let said = '';
  agent.stderr.on('data', (data) => (said += String(data)));
  expect(await once(agent, 'close')).toEqual([1, null]);
  expect(said).toContain('EADDRINUSE');
});
