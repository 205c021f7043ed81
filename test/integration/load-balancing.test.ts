// Load balancing by what policies say, on the real `weft proxy --static` process between real clients and servers.
import { writeFileSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders, request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import { eventually } from '../lab/eventually.js';
import { freePort } from '../lab/ports.js';
import { ProxyScope } from '../lab/proxy-scope.js';

const scope = new ProxyScope();

interface Endpoint {
  readonly name: string;
  readonly port: number;
  /** Of its answers; servers look at it anew each time. */
  delayMs: number;
  readonly place: string;
  readonly labels: string;
  isReady: boolean;
}

/** Answers with its name. */
async function endpoint(name: string, { place = 'eu/a', labels = 'version=v1' } = {}): Promise<Endpoint> {
  const made = { name, port: 0, delayMs: 0, place, labels, isReady: true };
  const server = createServer(async (_, response) => {
    if (made.delayMs > 0) await wait(made.delayMs);
    response.end(name);
  });
  made.port = await scope.listen(server);
  return made;
}

/** Gateway "edge" on `port`, all of it to Service shop, with what else is given. */
function manifests(port: number, tcpPort: number, endpoints: readonly Endpoint[], ...more: string[]): string {
  const slices = endpoints.map(({ name, port: target, place, labels, isReady }) => {
    const [region, zone] = place.split('/');
    return `apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: shop-${name}
  labels: {kubernetes.io/service-name: shop}
  annotations: {mesh.weft.dev/endpoint-labels: "${labels},topology.kubernetes.io/region=${region}"}
addressType: IPv4
ports: [{name: http, port: ${target}}]
endpoints: [{addresses: [127.0.0.1], zone: ${zone}, conditions: {ready: ${isReady}}}]`;
  });
  return [
    'apiVersion: v1\nkind: Service\nmetadata: {name: shop}\nspec: {ports: [{name: http, port: 80}]}',
    ...slices,
    `apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {bind: 127.0.0.1, port: {number: ${port}, name: http, protocol: HTTP}, hosts: ["*"]}
  - {bind: 127.0.0.1, port: {number: ${tcpPort}, name: tcp, protocol: TCP}, hosts: ["*"]}`,
    ...more,
  ].join('\n---\n');
}

const ALL = `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: ["*"]
  gateways: [edge]
  http:
  - match: [{uri: {prefix: /v2}}]
    route: [{destination: {host: shop, subset: v2}}]
  - route: [{destination: {host: shop}}]
  tcp:
  - route: [{destination: {host: shop}}]`;
const balanced = (loadBalancer: string): string => `apiVersion: mesh.weft.dev/v1
kind: TrafficPolicy
metadata: {name: shop}
spec: {targetRefs: [{kind: Service, name: shop}], loadBalancer: ${loadBalancer}}`;
const rule = (spec: string): string => `apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shop}
spec:
  host: shop
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}${spec.startsWith('{') ? `, trafficPolicy: ${spec}` : ''}}]
${spec.startsWith('{') ? '' : spec}`;

interface Answer {
  readonly name: string;
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
}

async function shop(endpoints: readonly Endpoint[], policies: readonly string[], ...flags: string[]) {
  const [port, tcpPort] = [await freePort(), await freePort()];
  const file = join(scope.folder, 'shop.yaml');
  let revision = 1;
  const write = (): void => writeFileSync(file, manifests(port, tcpPort, endpoints, ALL, ...policies));
  write();
  const proxy = await scope.start(file, ...flags);
  const send = (path = '/', headers: Record<string, string> = {}): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const sent = request({ port, host: '127.0.0.1', path, headers: { host: 'shop.test', ...headers } }, (response) => {
        let name = '';
        response.on('data', (chunk) => {
          name += chunk;
        });
        response.on('end', () => resolve({ name, status: response.statusCode ?? 0, headers: response.headers }));
      });
      sent.on('error', reject);
      sent.end();
    });
  const counts = async (requests: number, path = '/', headersOf: (index: number) => Record<string, string> = () => ({})) => {
    const found: Record<string, number> = {};
    for (let index = 0; index < requests; index++) {
      const { name } = await send(path, headersOf(index));
      found[name] = (found[name] ?? 0) + 1;
    }
    return found;
  };
  const change = async (): Promise<void> => {
    const from = proxy.errors.length;
    revision += 1;
    write();
    await proxy.says(`revision ${revision} is in force`, from);
  };
  /** The name that answers a request sent as bytes, from that address. */
  const tcp = (localAddress: string): Promise<string> =>
    new Promise((resolve, reject) => {
      let answer = '';
      const socket = connect({ host: '127.0.0.1', port: tcpPort, localAddress });
      socket.on('data', (bytes) => {
        answer += bytes.toString();
      });
      socket.on('end', () => resolve(answer.split('\r\n\r\n')[1] ?? ''));
      socket.on('error', reject);
      socket.write('GET / HTTP/1.0\r\n\r\n');
    });
  return { proxy, send, counts, change, tcp };
}

test('peak EWMA leaves a slow endpoint alone, and comes back to it when it is not slow any more', async () => {
  const endpoints = [await endpoint('one'), await endpoint('two'), await endpoint('slow')];
  const decayMs = 300;
  const { proxy, counts } = await shop(endpoints, [balanced(`{type: PeakEWMA, peakEWMA: {decay: ${decayMs}ms}}`)], '--workers', '1');
  endpoints[2]!.delayMs = 120;
  await counts(30);
  const from = performance.now();
  const found = await counts(150);
  // Of equals it would get 50. It is looked at again when what is known of it has decayed.
  expect(found.slow ?? 0).toBeLessThanOrEqual(2 + (performance.now() - from) / decayMs);
  const told = async () => (await proxy.state()).clusters.find(({ name }) => name === 'default/shop:80')!;
  expect((await told()).algorithm).toBe('peak-ewma');
  const ewmas = async () => {
    await counts(10);
    const { endpoints: all } = await told();
    const [one, , slow] = endpoints.map((each) => all.find(({ port }) => port === each.port)!.ewmaMs);
    return { one: one!, slow: slow! };
  };
  // A fast one can have had a peak of its own, from a pause of this machine: that goes.
  const { one, slow } = await eventually(ewmas, (now) => now.slow > 10 * now.one);
  expect(slow).toBeGreaterThan(10 * one);
  endpoints[2]!.delayMs = 0;
  const later = await eventually(
    () => counts(30),
    (each) => (each.slow ?? 0) >= 5,
  );
  expect(later.slow).toBeGreaterThanOrEqual(5);
});

test('a locality fails over to the next one, and back', async () => {
  const endpoints = [
    await endpoint('near'),
    await endpoint('zone-b', { place: 'eu/b' }),
    await endpoint('far', { place: 'us/a' }),
    await endpoint('other', { place: 'asia/a' }),
  ];
  const policy = rule(
    '  trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN, localityLbSetting: {enabled: true, failover: [{from: eu, to: us}]}}}',
  );
  const { proxy, counts, change } = await shop(endpoints, [policy], '--region', 'eu', '--zone', 'a');
  expect(await counts(20)).toEqual({ near: 20 });
  const told = (await proxy.state()).clusters[0]!.endpoints.map(({ region, zone, priority, load }) => [region, zone, priority, load]);
  expect(told.sort()).toEqual([
    ['asia', 'a', 3, 0],
    ['eu', 'a', 0, 1],
    ['eu', 'b', 1, 0],
    ['us', 'a', 2, 0],
  ]);
  endpoints[0]!.isReady = false;
  await change();
  expect(await counts(20)).toEqual({ 'zone-b': 20 });
  endpoints[1]!.isReady = false;
  await change();
  expect(await counts(20)).toEqual({ far: 20 });
  endpoints[2]!.isReady = false;
  await change();
  expect(await counts(20)).toEqual({ other: 20 });
  endpoints[0]!.isReady = true;
  await change();
  expect(await counts(20)).toEqual({ near: 20 });
});

test('a subset has the policy that a rule says of it, the rest that of the host', async () => {
  const endpoints = [
    await endpoint('a1'),
    await endpoint('b1'),
    ...(await Promise.all(['a2', 'b2', 'c2'].map((name) => endpoint(name, { labels: 'version=v2' })))),
  ];
  const policies = [
    rule('{loadBalancer: {consistentHash: {httpHeaderName: X-User, maglev: {tableSize: 1009}}}}').replace(
      '  host: shop',
      '  host: shop\n  trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}',
    ),
  ];
  const { counts } = await shop(endpoints, policies, '--workers', '1');
  expect(await counts(20)).toEqual({ a1: 4, b1: 4, a2: 4, b2: 4, c2: 4 });
  for (const user of ['ann', 'bob']) expect(Object.values(await counts(10, '/v2', () => ({ 'x-user': user })))).toEqual([10]);
  const spread = await counts(60, '/v2', (index) => ({ 'x-user': `user-${index}` }));
  expect(Object.keys(spread).sort()).toEqual(['a2', 'b2', 'c2']);
});

test('a cookie that is given leads to one endpoint as long as that is there, and then to another', async () => {
  const endpoints = await Promise.all(['one', 'two', 'three', 'four'].map((name) => endpoint(name)));
  const policy = rule('  trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: sid, ttl: 60s, path: /}}}}');
  const { send, counts, change } = await shop(endpoints, [policy]);
  const first = await send();
  const [line = ''] = first.headers['set-cookie'] ?? [];
  expect(line).toMatch(/^sid=[0-9a-f]{16}; Max-Age=60; Path=\/; HttpOnly$/);
  const cookie = line.split(';')[0]!;
  expect(await counts(20, '/', () => ({ cookie }))).toEqual({ [first.name]: 20 });
  expect((await send('/', { cookie })).headers['set-cookie']).toBeUndefined();
  endpoints.find(({ name }) => name === first.name)!.isReady = false;
  await change();
  const [other, ...more] = Object.entries(await counts(20, '/', () => ({ cookie })));
  expect([other![0] === first.name, other![1], more]).toEqual([false, 20, []]);
  endpoints.find(({ name }) => name === first.name)!.isReady = true;
  await change();
  expect(await counts(5, '/', () => ({ cookie }))).toEqual({ [first.name]: 5 });
});

test('clients have one endpoint by their address, over HTTP and TCP', async () => {
  const endpoints = await Promise.all(['one', 'two', 'three', 'four'].map((name) => endpoint(name)));
  const policy = rule('  trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}');
  const { counts, tcp } = await shop(endpoints, [policy]);
  const [only, ...more] = Object.entries(await counts(20));
  expect([only![1], more]).toEqual([20, []]);
  for (let i = 0; i < 5; i++) expect(await tcp('127.0.0.1')).toBe(only![0]);
  const others = await Promise.all(Array.from({ length: 30 }, (_, index) => tcp(`127.0.1.${index + 1}`)));
  expect(new Set(others).size).toBe(4);
});
