import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { Command } from 'commander';
import pino from 'pino';
import { Resource } from '../api/gen/mesh/v1/discovery.js';
import { Endpoint, EndpointHealth, ResourceType, Service } from '../api/gen/mesh/v1/model.js';
import { Capture } from './capture/capture.js';
import { addAgentOptions, agentConfig } from './config.js';
import type { DiscoveryUpdate } from './discovery/discovery-client.js';
import { Model } from './model/model.js';
import { NodeUpdates } from './node-updates.js';

const log = pino({ level: 'silent' });
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** Where nobody listens. */
async function closedPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

test('what a verdict says of an endpoint stands over what is told of it later, and only what changes is handed on', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'weft-node-updates-'));
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
  const command = addAgentOptions(new Command()).parse(['--node', 'n', '--state-dir', folder, '--capture', 'off'], { from: 'user' });
  const config = agentConfig(command);
  const { bpfDir, meshNetns, heartbeatTimeoutMs } = config;
  const capture = await Capture.open({ bpfDir, meshNetns, heartbeatTimeoutMs, mode: 'off', log });
  cleanups.push(() => capture.close());
  const model = new Model();
  const handed: string[][] = [];
  const updates = new NodeUpdates(config, capture, model, ({ resources }) => void handed.push(resources.map(({ name }) => name)), log);
  cleanups.push(
    () => updates.store.close(),
    () => updates.checks.close(),
  );

  const port = await closedPort();
  const checked = (id: string): Resource => {
    const check = { node: 'n', sourceHealth: EndpointHealth.READY };
    const message = Endpoint.fromPartial({ service: 'shop/a', id, address: '127.0.0.1', ports: [{ port }], check });
    return Resource.fromPartial({
      type: ResourceType.ENDPOINT,
      name: `shop/a/${id}`,
      body: Buffer.from(Endpoint.encode(message).finish()),
    });
  };
  const service = Service.fromPartial({
    namespace: 'shop',
    name: 'a',
    ports: [{ port: 80 }],
    healthCheck: { intervalMs: 100, timeoutMs: 1_000 },
  });
  const told = Resource.fromPartial({ type: ResourceType.SERVICE, name: 'shop/a', body: Buffer.from(Service.encode(service).finish()) });
  const tell = (revision: number, resources: Resource[]): Promise<unknown> => {
    const update: DiscoveryUpdate = {
      full: revision === 1,
      revision,
      token: { clusterId: 'c', compiler: 'v1', revision },
      resources,
      removed: [],
    };
    return updates.apply(update);
  };
  const health = () => ['x', 'y'].map((id) => model.endpoints.get('shop/a')?.get(`shop/a/${id}`)?.health);
  await tell(1, [told, checked('x'), checked('y')]);
  expect(health()).toEqual([EndpointHealth.READY, EndpointHealth.READY]);
  await new Promise<void>((resolve) => {
    updates.onVerdict = () => health().every((each) => each === EndpointHealth.UNHEALTHY) && resolve();
  });
  // The first verdict, and the second one, which does not tell of the first again.
  expect(handed.slice(1).map((names) => names.length)).toEqual([1, 1]);
  await tell(2, [checked('x')]);
  expect(health()).toEqual([EndpointHealth.UNHEALTHY, EndpointHealth.UNHEALTHY]);
  await tell(3, [told]);
  expect(health()).toEqual([EndpointHealth.UNHEALTHY, EndpointHealth.UNHEALTHY]);
  expect(handed.at(-1)).toEqual(['shop/a']);
});
