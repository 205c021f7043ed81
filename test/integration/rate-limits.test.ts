// Rate limits of a policy in the real proxy: what passes, what is refused, what clients and operators are told of it.
import { readFileSync, writeFileSync } from 'node:fs';
import { connect as connectHttp2 } from 'node:http2';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { EchoBackend } from '../lab/echo-backend.js';
import { eventually } from '../lab/eventually.js';
import { GrpcEchoClient, startGrpcEcho } from '../lab/grpc-echo.js';
import { freePort } from '../lab/ports.js';
import { accessLog, gatewayManifest, type ProxyProcess, serviceManifest } from '../lab/proxy-process.js';
import { ProxyScope } from '../lab/proxy-scope.js';

const scope = new ProxyScope();

interface Policy {
  readonly target?: string;
  readonly limits: string;
}

interface Edge {
  readonly port: number;
  readonly proxy: ProxyProcess;
  metrics(): Promise<string>;
  get(headers?: Readonly<Record<string, string>>, path?: string): Promise<Response>;
}

const route = (name: string, path: string, backend: string, more = ''): string => `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: ${name}}
spec:
  parentRefs: [{name: edge}]
  rules: [{name: main, matches: [{path: {value: ${path}}}], backendRefs: [{name: ${backend}, port: 80}]${more}}]
---`;

function policy({ target = 'kind: HTTPRoute, name: shop', limits }: Policy, name = 'limits'): string {
  return `
apiVersion: mesh.weft.dev/v1
kind: TrafficPolicy
metadata: {name: ${name}}
spec:
  targetRefs: [{${target}}]
  rateLimits: [${limits}]
---`;
}

async function edge(policies: string, ...flags: string[]): Promise<Edge> {
  const backend = await EchoBackend.start('shop');
  scope.closing.push(() => backend.close());
  const port = await freePort();
  const file = join(scope.folder, 'edge.yaml');
  const routes = route('shop', '/', 'shop') + route('other', '/other', 'shop');
  const gateway = gatewayManifest(`{name: http, port: ${port}, protocol: HTTP}`);
  writeFileSync(file, `${serviceManifest('shop', backend.port)}${gateway}${routes}${policies}`);
  const metricsPort = await freePort();
  const proxy = await scope.start(file, '--metrics-listen', `127.0.0.1:${metricsPort}`, ...flags);
  const metrics = async (): Promise<string> => (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
  const get = (headers: Readonly<Record<string, string>> = {}, path = '/'): Promise<Response> =>
    fetch(`http://127.0.0.1:${port}${path}`, { headers });
  return { port, proxy, metrics, get };
}

const statuses = async (count: number, get: () => Promise<Response>): Promise<number[]> => {
  const found: number[] = [];
  for (let i = 0; i < count; i++) found.push((await get()).status);
  return found;
};
const passed = (found: readonly number[]): number => found.filter((status) => status === 200).length;

test('beyond the limit requests of all workers get 429, and every client is told how much is left and when to come again', async () => {
  const log = join(scope.folder, 'access.log');
  const { get, metrics } = await edge(
    policy({ limits: '{name: all, requests: 3, per: 1h}' }),
    '--access-log',
    'all',
    '--access-log-file',
    log,
  );
  const first = await get();
  expect([first.status, first.headers.get('ratelimit-policy')]).toEqual([200, '"all";q=3;w=3600']);
  expect(first.headers.get('ratelimit')).toMatch(/^"all";r=2;t=1200$/);
  expect(passed(await Promise.all(Array.from({ length: 20 }, async () => (await get()).status)))).toBe(2);
  const refused = await get();
  expect([refused.status, await refused.text()]).toEqual([429, 'weft: too many requests\n']);
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(1_100);
  expect(refused.headers.get('ratelimit')).toBe(`"all";r=0;t=${refused.headers.get('retry-after')}`);
  expect(await (await get({}, '/other')).json()).toMatchObject({ path: '/other' });
  const records = await eventually(
    () => Promise.resolve(accessLog(log)),
    (all) => all.length >= 23,
  );
  expect(records.filter(({ response_flag: flag }) => flag === 'RL').length).toBe(19);
  const text = await metrics();
  expect(text).toContain('weft_rate_limited_total{policy="default/limits",limit="all",target="HTTPRoute/default/shop"} 19');
  expect(text).toContain('weft_rate_limit_admitted_total{policy="default/limits",limit="all",target="HTTPRoute/default/shop"} 3');
});

test('by a header each value is counted for itself, and those without it together', async () => {
  const { get } = await edge(policy({ limits: '{name: key, requests: 2, per: 1h, algorithm: SlidingWindow, by: [{header: X-Api-Key}]}' }));
  for (const key of ['a', 'b', 'a long one with spaces in it', ''])
    expect(passed(await statuses(5, () => get({ 'x-api-key': key })))).toBe(2);
  expect(passed(await statuses(5, () => get()))).toBe(2);
});

test('by the address of the client, that proxies in front tell where they are trusted', async () => {
  const { get } = await edge(policy({ limits: '{name: ip, requests: 2, per: 1h, by: [{source: Address}]}' }), '--trusted-hops', '1');
  for (const address of ['192.0.2.1', '192.0.2.2', '2001:db8::7'])
    expect(passed(await statuses(4, () => get({ 'x-forwarded-for': `198.51.100.1, ${address}` })))).toBe(2);
  expect(passed(await statuses(4, () => get()))).toBe(2);
});

test('what one limit refuses counts for no other one, and the nearest is told', async () => {
  const limits = '{name: all, requests: 10, per: 1h}, {name: key, requests: 2, per: 1h, by: [{header: k}]}';
  const { get } = await edge(policy({ limits }));
  expect(passed(await statuses(20, () => get({ k: '1' })))).toBe(2);
  const other = await get({ k: '2' });
  expect(other.headers.get('ratelimit-policy')).toBe('"all";q=10;w=3600, "key";q=2;w=3600');
  expect(other.headers.get('ratelimit')).toMatch(/^"key";r=1;/);
  for (const key of ['2', '3', '3', '4', '4', '5']) expect((await get({ k: key })).status).toBe(200);
  expect((await get({ k: '6' })).status).toBe(200);
  const refused = await get({ k: '7' });
  expect([refused.status, refused.headers.get('ratelimit')?.split(';')[0]]).toEqual([429, '"all"']);
});

test('of limits that are not told clients hear when to come again, and nothing else', async () => {
  const limits =
    '{name: all, requests: 9, per: 1h}, {name: key, requests: 2, per: 1h, headers: None, by: [{header: k}]}, {name: far, requests: 99, per: 1h}';
  const { get, proxy } = await edge(
    policy({ limits }) + policy({ target: 'kind: Service, name: shop', limits: '{name: own, requests: 50, headers: None}' }, 's'),
  );
  const first = await get({ k: '1' });
  expect(first.headers.get('ratelimit-policy')).toBe('"all";q=9;w=3600, "far";q=99;w=3600');
  expect(first.headers.get('ratelimit')).toMatch(/^"all";r=8;/);
  const other = await get({}, '/other');
  expect([other.status, other.headers.get('ratelimit-policy'), other.headers.get('ratelimit')]).toEqual([200, null, null]);
  await get({ k: '1' });
  const refused = await get({ k: '1' });
  expect([refused.status, refused.headers.get('ratelimit-policy'), refused.headers.get('ratelimit')]).toEqual([429, null, null]);
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(1_000);

  const file = join(scope.folder, 'edge.yaml');
  const from = proxy.errors.length;
  writeFileSync(file, readFileSync(file, 'utf8').replace(', headers: None, by', ', by'));
  await proxy.says('revision 2 is in force', from);
  const still = await get({ k: '1' });
  expect([still.status, still.headers.get('ratelimit')?.split(';')[0]]).toEqual([429, '"key"']);
});

test('limits of a gateway, of a rule by its name and of a service hold beside each other', async () => {
  const { get } = await edge(
    policy({ target: 'kind: Gateway, name: edge', limits: '{name: gateway, requests: 9, per: 1h}' }, 'g') +
      policy({ target: 'kind: HTTPRoute, name: shop, sectionName: main', limits: '{name: rule, requests: 5, per: 1h}' }, 'r') +
      policy({ target: 'kind: Service, name: shop', limits: '{name: service, requests: 7, per: 1h}' }, 's'),
  );
  expect(passed(await statuses(8, () => get()))).toBe(5);
  const other = await get({}, '/other');
  expect(other.headers.get('ratelimit-policy')).toBe('"gateway";q=9;w=3600, "service";q=7;w=3600');
  expect(passed(await statuses(4, () => get({}, '/other')))).toBe(1);
});

test('of a namespace each service has the limits for itself, but for one with limits of its own', async () => {
  const { get } = await edge(
    policy({ target: 'kind: Namespace, name: default', limits: '{name: ns, requests: 3, per: 1h}' }, 'n') +
      policy({ target: 'kind: Service, name: shop', limits: '{name: own, requests: 4, per: 1h}' }, 's'),
  );
  expect(passed(await statuses(8, () => get()))).toBe(4);
});

test('a gRPC call beyond the limit is RESOURCE_EXHAUSTED, with the fields of an answer', async () => {
  const echo = await startGrpcEcho();
  scope.closing.push(() => echo.stop());
  const port = await freePort();
  const file = join(scope.folder, 'edge.yaml');
  const limits = policy({ target: 'kind: GRPCRoute, name: echo', limits: '{name: calls, requests: 2, per: 1h}' });
  writeFileSync(
    file,
    `${serviceManifest('echo', echo.port)}${gatewayManifest(`{name: http, port: ${port}, protocol: HTTP}`)}${limits}
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: echo}
spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: echo, port: 80}]}]}
`,
  );
  await scope.start(file);
  const client = new GrpcEchoClient(port);
  scope.closing.push(() => client.close());
  const message = Buffer.from('hello');
  expect(await client.unary(message)).toEqual(message);
  expect(await client.chat([message, message])).toHaveLength(2);
  await expect(client.unary(message)).rejects.toMatchObject({ code: 8 });

  const session = connectHttp2(`http://127.0.0.1:${port}`);
  scope.closing.push(() => session.destroy());
  const stream = session.request({
    ':method': 'POST',
    ':path': '/weft.test.Echo/Unary',
    'content-type': 'application/grpc',
    te: 'trailers',
  });
  const headers = await new Promise<Record<string, unknown>>((resolve) => stream.once('response', resolve));
  expect(headers).toMatchObject({ ':status': 200, 'grpc-status': '8', 'ratelimit-policy': '"calls";q=2;w=3600' });
  expect(Number(headers['retry-after'])).toBeGreaterThan(1_000);
});

test('a changed file keeps the counts of limits that stay, and new limits begin at nothing', async () => {
  const { get, proxy } = await edge(policy({ limits: '{name: all, requests: 3, per: 1h}' }));
  expect(passed(await statuses(5, () => get()))).toBe(3);
  const file = join(scope.folder, 'edge.yaml');
  const before = readFileSync(file, 'utf8');
  const from = proxy.errors.length;
  writeFileSync(file, `${before}${policy({ target: 'kind: Service, name: shop', limits: '{name: more, requests: 50, per: 1h}' }, 'more')}`);
  await proxy.says('revision 2 is in force', from);
  expect(passed(await statuses(3, () => get()))).toBe(0);
  expect((await get({}, '/other')).headers.get('ratelimit')).toMatch(/^"more";r=49;/);
});
