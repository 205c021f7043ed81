// The real `weft proxy --agent` process against a scripted discovery server: what it serves, what it acks, and life without its agent.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { expect, test } from '@jest/globals';
import { encodeResource } from '../../api/compile/wire.js';
import { Resource } from '../../api/gen/mesh/v1/discovery.js';
import { HttpRoute, ResourceType } from '../../api/gen/mesh/v1/model.js';
import { DiscoveryTestServer } from '../lab/discovery-server.js';
import { endpointResource, listenerResource, routeResource, serviceResource } from '../lab/gateway-resources.js';
import { freePort } from '../lab/ports.js';
import { ProxyScope } from '../lab/proxy-scope.js';

const scope = new ProxyScope();

async function backend(name: string): Promise<number> {
  return scope.listen(createServer((_, response) => response.end(name)));
}

const token = (revision: number) => ({ clusterId: 'c', compiler: 'k', revision });

test('an acked revision decides the next request, a bad resource is refused alone, and the proxy outlives its agent', async () => {
  const address = `unix:${scope.folder}/agent.sock`;
  const agent = await DiscoveryTestServer.start(address);
  scope.closing.push(() => agent.stop());
  const [v1, v2, port] = [await backend('v1'), await backend('v2'), await freePort()];
  const proxy = scope.launchWith('--agent', address, '--node', 'n1');
  const stream = await agent.nextStream();
  expect((await stream.next()).request).toMatchObject({ $case: 'subscribe', value: { node: 'n1' } });
  const ask = async (): Promise<string> => (await fetch(`http://127.0.0.1:${port}/`)).text();

  const route = (to: string) => routeResource('shop/edge', `shop/${to}`);
  const first = [
    ...[serviceResource('shop/v1'), serviceResource('shop/v2'), endpointResource('shop/v1', v1), endpointResource('shop/v2', v2)],
    ...[listenerResource('shop/edge', port), route('v1')],
  ];
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
  stream.send({ nonce: 28, revision: 28, token: token(28), resources: [bad, serviceResource('shop/v3')] });
  expect((await stream.next()).request).toMatchObject({ value: { rejected: [{ name: 'shop/edge', type: ResourceType.HTTP_ROUTE }] } });
  expect(await ask()).toBe('v1');

  await agent.stop();
  expect(await ask()).toBe('v1');
  proxy.child.kill('SIGTERM');
  expect(await once(proxy.child, 'exit')).toEqual([0, null]);
});

test('what the engine can’t make tables with is refused alone: at a start, and later with its last good version kept', async () => {
  const address = `unix:${scope.folder}/agent.sock`;
  const agent = await DiscoveryTestServer.start(address);
  scope.closing.push(() => agent.stop());
  const [v1, v2, port] = [await backend('v1'), await backend('v2'), await freePort()];
  scope.launchWith('--agent', address, '--node', 'n1');
  const stream = await agent.nextStream();
  await stream.next();
  // No check of the model's looks at these, and the engine takes no method that is no token.
  const routeWith = (name: string, to: string, method: string) =>
    encodeResource({
      ...{ type: ResourceType.HTTP_ROUTE, name },
      message: HttpRoute.fromPartial({
        ...{ namespace: 'shop', name: name.slice(5), parents: [{ parent: { $case: 'gateway', value: 'shop/edge' } }] },
        rules: [{ cors: { origins: [{ value: 'http://a' }], methods: [method] }, backends: [{ service: to, port: 80, weight: 1 }] }],
      }),
    });
  const rest = [
    ...[serviceResource('shop/v1'), serviceResource('shop/v2'), endpointResource('shop/v1', v1), endpointResource('shop/v2', v2)],
    listenerResource('shop/edge', port),
  ];
  const resources = [routeWith('shop/bad', 'shop/v2', 'GE T'), ...rest, routeWith('shop/edge', 'shop/v1', 'GET')];
  stream.send({ nonce: 1, revision: 7, token: token(7), full: true, resources });
  const error = expect.stringMatching(/^no tables can be made with it: createTables: cors\[\d\]: a method or header is no token$/);
  const refused = (name: string) => ({ $case: 'ack', value: { rejected: [{ type: ResourceType.HTTP_ROUTE, name, error }] } });
  expect((await stream.next()).request).toMatchObject(refused('shop/bad'));
  const ask = async (): Promise<string> => (await fetch(`http://127.0.0.1:${port}/`)).text();
  expect(await ask()).toBe('v1');
  stream.send({ nonce: 2, revision: 8, token: token(8), resources: [routeWith('shop/edge', 'shop/v2', 'GE T')], removed: [] });
  expect((await stream.next()).request).toMatchObject({ value: { rejected: expect.arrayContaining(refused('shop/edge').value.rejected) } });
  expect(await ask()).toBe('v1');
  stream.send({ nonce: 3, revision: 9, token: token(9), resources: [routeWith('shop/edge', 'shop/v2', 'GET')], removed: [] });
  await stream.next();
  expect(await ask()).toBe('v2');
});
