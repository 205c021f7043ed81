// The real `weft proxy --agent` process against a scripted discovery server: what it serves, what it acks, and life without its agent.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { encodeResource } from '../../api/compile/wire.js';
import { Resource } from '../../api/gen/mesh/v1/discovery.js';
import { Endpoint, HttpRoute, Listener, Protocol, ResourceType, Service } from '../../api/gen/mesh/v1/model.js';
import { DiscoveryTestServer } from '../lab/discovery-server.js';
import { freePort } from '../lab/proxy-process.js';
import { ProxyScope } from '../lab/proxy-scope.js';

const dist = process.env.WEFT_DIST ?? join(process.cwd(), 'dist');

const scope = new ProxyScope();

function startProxy(agent: string): ChildProcess {
  const args = [join(dist, 'cli', 'main.js'), 'proxy', '--agent', agent, '--node', 'n1', '--workers', '2', '--run-dir', scope.folder];
  const child = spawn(process.execPath, args, { stdio: 'ignore' });
  scope.closing.push(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  });
  return child;
}

async function backend(name: string): Promise<number> {
  return scope.listen(createServer((_, response) => response.end(name)));
}

const service = (name: string) =>
  encodeResource({
    type: ResourceType.SERVICE,
    name: `shop/${name}`,
    message: Service.fromPartial({ namespace: 'shop', name, ports: [{ name: 'http', port: 80, protocol: Protocol.HTTP }] }),
  });
const endpoint = (name: string, port: number) =>
  encodeResource({
    type: ResourceType.ENDPOINT,
    name: `shop/${name}/1`,
    message: Endpoint.fromPartial({ service: `shop/${name}`, id: '1', address: '127.0.0.1', ports: [{ name: 'http', port }] }),
  });
const listener = (port: number) =>
  encodeResource({
    type: ResourceType.LISTENER,
    name: 'shop/edge/web',
    message: Listener.fromPartial({ gateway: 'shop/edge', name: 'web', address: '127.0.0.1', port, protocol: Protocol.HTTP }),
  });
const route = (to: string) =>
  encodeResource({
    type: ResourceType.HTTP_ROUTE,
    name: 'shop/r',
    message: HttpRoute.fromPartial({
      namespace: 'shop',
      name: 'r',
      parents: [{ parent: { $case: 'gateway', value: 'shop/edge' } }],
      rules: [{ backends: [{ service: `shop/${to}`, port: 80, weight: 1 }] }],
    }),
  });
const token = (revision: number) => ({ clusterId: 'c', compiler: 'k', revision });

test('an acked revision decides the next request, a bad resource is refused alone, and the proxy outlives its agent', async () => {
  const address = `unix:${scope.folder}/agent.sock`;
  const agent = await DiscoveryTestServer.start(address);
  scope.closing.push(() => agent.stop());
  const [v1, v2, port] = [await backend('v1'), await backend('v2'), await freePort()];
  const proxy = startProxy(address);
  const stream = await agent.nextStream();
  expect((await stream.next()).request).toMatchObject({ $case: 'subscribe', value: { node: 'n1' } });
  const ask = async (): Promise<string> => (await fetch(`http://127.0.0.1:${port}/`)).text();

  const first = [service('v1'), service('v2'), endpoint('v1', v1), endpoint('v2', v2), listener(port), route('v1')];
  stream.send({ nonce: 1, revision: 7, token: token(7), full: true, resources: first });
  expect((await stream.next()).request).toEqual({ $case: 'ack', value: { nonce: 1, revision: 7, rejected: [] } });
  expect(await ask()).toBe('v1');

  for (let revision = 8; revision < 28; revision++) {
    const to = revision % 2 === 0 ? 'v2' : 'v1';
    stream.send({ nonce: revision, revision, token: token(revision), resources: [route(to)] });
    expect((await stream.next()).request).toMatchObject({ $case: 'ack', value: { nonce: revision } });
    expect(await ask()).toBe(to);
  }

  const bad = Resource.fromPartial({ ...route('v2'), body: Buffer.from([0xff, 0xff, 0xff]) });
  stream.send({ nonce: 28, revision: 28, token: token(28), resources: [bad, service('v3')] });
  expect((await stream.next()).request).toMatchObject({ value: { rejected: [{ name: 'shop/r', type: ResourceType.HTTP_ROUTE }] } });
  expect(await ask()).toBe('v1');

  await agent.stop();
  expect(await ask()).toBe('v1');
  proxy.kill('SIGTERM');
  expect(await once(proxy, 'exit')).toEqual([0, null]);
}, 30_000);
