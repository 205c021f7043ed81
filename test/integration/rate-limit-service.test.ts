// Limits that a rate limit service counts, in the real proxy: a real gRPC server that speaks Envoy's protocol is asked, answers, is slow, dies and
// comes back, and clients over HTTP/1 and gRPC see what follows from it.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { EchoBackend } from '../lab/echo-backend.js';
import { eventually } from '../lab/eventually.js';
import { GrpcEchoClient, startGrpcEcho } from '../lab/grpc-echo.js';
import { freePort } from '../lab/ports.js';
import { accessLog, gatewayManifest, type ProxyProcess, serviceManifest } from '../lab/proxy-process.js';
import { ProxyScope } from '../lab/proxy-scope.js';
import { type ConfiguredLimit, RateLimitService } from '../lab/rate-limit-service.js';
import { runWeft } from '../lab/weft-command.js';

const scope = new ProxyScope();

interface Edge {
  readonly port: number;
  readonly file: string;
  readonly proxy: ProxyProcess;
  readonly service: RateLimitService;
  readonly backend: EchoBackend;
  readonly log: string;
  get(headers?: Readonly<Record<string, string>>, path?: string): Promise<Response>;
  metrics(): Promise<string>;
}

const policy = (limits: string, target = 'kind: HTTPRoute, name: shop', name = 'limits'): string => `
apiVersion: mesh.weft.dev/v1
kind: TrafficPolicy
metadata: {name: ${name}}
spec:
  targetRefs: [{${target}}]
  rateLimits: [${limits}]
---`;
const asked = (by: string, more = ''): string =>
  `{name: asked, by: [${by}], service: {name: limits, port: 80, domain: edge, timeout: 5s${more}}}`;
const route = (kind: string, rule: string): string => `
apiVersion: gateway.networking.k8s.io/v1
kind: ${kind}
metadata: {name: shop}
spec: {parentRefs: [{name: edge}], rules: [{${rule}}]}
---`;

async function edge(policies: string, limits: readonly ConfiguredLimit[] = [], rule = ''): Promise<Edge> {
  const [backend, service] = [await EchoBackend.start('shop'), await RateLimitService.start(limits)];
  scope.closing.push(() => backend.close());
  scope.closing.push(() => service.stop());
  const [port, metricsPort] = [await freePort(), await freePort()];
  const [file, log] = [join(scope.folder, 'edge.yaml'), join(scope.folder, 'access.log')];
  const gateway = gatewayManifest(`{name: http, port: ${port}, protocol: HTTP}`);
  const services = serviceManifest('shop', backend.port) + serviceManifest('limits', service.port);
  writeFileSync(file, `${services}${gateway}${route('HTTPRoute', `backendRefs: [{name: shop, port: 80}]${rule}`)}${policies}`);
  const flags = ['--metrics-listen', `127.0.0.1:${metricsPort}`, '--access-log', 'all', '--access-log-file', log];
  const proxy = await scope.start(file, ...flags);
  const metrics = async (): Promise<string> => (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
  const get = (headers: Readonly<Record<string, string>> = {}, path = '/'): Promise<Response> =>
    fetch(`http://127.0.0.1:${port}${path}`, { headers });
  return { port, file, proxy, service, backend, log, get, metrics };
}

const entriesOf = ({ requests }: RateLimitService): string[][] =>
  requests
    .map(({ descriptors }) => descriptors.map(({ entries }) => entries.map(({ key, value }) => `${key}=${value}`).join(' ')).join(' | '))
    .map((text) => [text]);
const metricOf = (text: string, name: string): number =>
  Number(new RegExp(`^${name}{[^}]*limit="asked"[^}]*} (\\d+)`, 'm').exec(text)?.[1]);

test('beyond what the service says requests get 429, and clients are told what is left as of limits that are counted here', async () => {
  const { get, service, log, metrics, backend } = await edge(policy(asked('{header: X-Api-Key}')), [
    { entries: ['x-api-key'], requestsPerHour: 2 },
  ]);
  const first = await get({ 'x-api-key': 'a' });
  expect([first.status, first.headers.get('ratelimit-policy'), first.headers.get('ratelimit')]).toEqual([
    200,
    '"asked";q=2;w=3600',
    '"asked";r=1;t=1235',
  ]);
  expect([first.headers.get('x-ratelimit-limit'), first.headers.get('x-ratelimit-remaining')]).toEqual(['2, 2;w=3600;name="asked"', '1']);
  expect((await get({ 'x-api-key': 'b' })).status).toBe(200);
  expect((await get({ 'x-api-key': 'a' })).status).toBe(200);
  const refused = await get({ 'x-api-key': 'a' });
  expect([refused.status, await refused.text()]).toEqual([429, 'weft: too many requests\n']);
  expect([refused.headers.get('retry-after'), refused.headers.get('x-envoy-ratelimited')]).toEqual(['1235', 'true']);
  expect(service.requests[0]).toMatchObject({ domain: 'edge', hitsAddend: 1 });
  expect(backend.seen).toHaveLength(3);
  // One that lacks the header is not asked about, as in Envoy.
  expect((await get()).status).toBe(200);
  expect(service.requests).toHaveLength(4);
  const records = await eventually(
    () => Promise.resolve(accessLog(log)),
    (all) => all.length >= 5,
  );
  expect(records.map(({ response_flag: flag }) => flag).filter((flag) => flag !== '-')).toEqual(['RL']);
  // The calls themselves are in no log.
  expect(records).toHaveLength(5);
  const text = await metrics();
  expect([metricOf(text, 'weft_rate_limit_admitted_total'), metricOf(text, 'weft_rate_limited_total')]).toEqual([3, 1]);
});

test('the service is told what the policy names, each limit as one descriptor, in one call', async () => {
  const limits = `{name: asked, by: [{source: Address}, {source: Path}, {source: Method, as: verb}, {source: Target}, {value: gold, as: plan}], service: {name: limits, port: 80, domain: edge, hits: 3}},
    {name: second, by: [{header: x-a}], service: {name: limits, port: 80, domain: edge, hits: 3}}`;
  const { get, service, file } = await edge(policy(limits));
  expect((await get({ 'x-a': Buffer.from('schön').toString('latin1') }, '/a/b?q=1')).status).toBe(200);
  expect(entriesOf(service)).toEqual([['remote_address=127.0.0.1 path=/a/b verb=GET target=HTTPRoute/default/shop plan=gold | x-a=schön']]);
  expect(service.requests[0]?.hitsAddend).toBe(3);
  const { stdout } = await runWeft(['explain', '-f', file, '-H', 'x-a: 1', '--gateway', 'default/edge', 'GET', 'http://shop.test/a?q'], {});
  expect(stdout).toContain(
    'passes if default/limits:80 says so, asked about (remote_address=(the client’s), path=/a, verb=GET, target=HTTPRoute/default/shop, plan=gold) and (x-a=1) of edge with 3 hits; without an answer in 20 ms it passes',
  );
});

test('a limit that is counted here is looked at first, and counts a request once', async () => {
  const both = `{name: here, requests: 3, per: 1h}, ${asked('{value: all, as: generic_key}')}`;
  const { get, service } = await edge(policy(both), [{ entries: ['generic_key'], requestsPerHour: 100 }]);
  const found: number[] = [];
  for (let i = 0; i < 5; i++) found.push((await get()).status);
  expect(found).toEqual([200, 200, 200, 429, 429]);
  expect(service.requests).toHaveLength(3);
});

test('a gateway, its route and the service behind are asked about one after the other, and each once', async () => {
  const limit = (name: string): string =>
    `{name: asked, by: [{value: ${name}, as: generic_key}], service: {name: limits, port: 80, domain: edge, timeout: 5s}}`;
  const { get, service } = await edge(
    policy(`${limit('route')}, {name: here, requests: 1, per: 1h}`) +
      policy(limit('gateway'), 'kind: Gateway, name: edge', 'g') +
      policy(`${limit('service')}, {name: too, requests: 5, per: 1h}`, 'kind: Service, name: shop', 's'),
  );
  const answer = await get();
  expect([answer.status, entriesOf(service)]).toEqual([200, [['generic_key=gateway | generic_key=route'], ['generic_key=service']]]);
  expect(answer.headers.get('ratelimit')).toBe('"here";r=0;t=3600, "too";r=4;t=720');
  expect((await get()).status).toBe(429);
});

test('headers of the service go to the backend and to the client, and its body stands in a refusal; what is no header goes nowhere', async () => {
  const { get, service } = await edge(policy(asked('{value: all, as: generic_key}')), [{ entries: ['generic_key'], requestsPerHour: 1 }]);
  const header = (key: string, value: string) => ({ key, value, rawValue: Buffer.alloc(0) });
  service.more = {
    requestHeadersToAdd: [header('X-Plan', 'gold'), header('x-evil', 'a\r\nx-b: c'), header('transfer-encoding', 'chunked')],
    responseHeadersToAdd: [header('X-Used', '1'), header('content-length', '7'), header('x bad', '1')],
    rawBody: Buffer.from('{"wait":true}'),
  };
  const first = await get();
  const seen = (await first.json()) as { headers: Record<string, string> };
  expect([first.status, first.headers.get('x-used'), seen.headers['x-plan']]).toEqual([200, '1', 'gold']);
  expect(Object.keys(seen.headers)).not.toEqual(expect.arrayContaining(['x-evil']));
  const refused = await get();
  expect([refused.status, refused.headers.get('x-used'), await refused.text()]).toEqual([429, '1', '{"wait":true}']);
});

test('a service that is silent, fails, answers nonsense or is gone lets requests pass, counted; with onFailure Deny they get 500 and RLSE', async () => {
  const open = policy(`{name: asked, by: [{value: all, as: generic_key}], service: {name: limits, port: 80, domain: edge, timeout: 50ms}}`);
  const { get, service, metrics, port, proxy, file, log } = await edge(open);
  for (const behaviour of ['is silent', 'fails', 'answers nonsense'] as const) {
    service.behaviour = behaviour;
    expect((await get()).status).toBe(200);
  }
  service.stop();
  expect((await get()).status).toBe(200);
  const text = await metrics();
  expect([metricOf(text, 'weft_rate_limit_service_failures_total'), metricOf(text, 'weft_rate_limit_failure_mode_allowed_total')]).toEqual([
    4, 4,
  ]);

  const from = proxy.errors.length;
  writeFileSync(file, readFileSync(file, 'utf8').replace('timeout: 50ms', 'timeout: 5s, onFailure: Deny'));
  await proxy.says('revision 2 is in force', from);
  const refused = await get();
  expect([refused.status, await refused.text()]).toEqual([500, 'weft: the rate limit service gives no answer\n']);
  const records = await eventually(
    () => Promise.resolve(accessLog(log)),
    (all) => all.some(({ response_flag: flag }) => flag === 'RLSE'),
  );
  expect(records.at(-1)).toMatchObject({ status: 500, response_flag: 'RLSE' });
  // It is back on the same port.
  const again = await RateLimitService.start([], service.port);
  scope.closing.push(() => again.stop());
  expect(
    await eventually(
      async () => (await fetch(`http://127.0.0.1:${port}/`)).status,
      (status) => status === 200,
    ),
  ).toBe(200);
  expect(again.requests.length).toBeGreaterThan(0);
});

test('while one tenant’s requests wait for a silent service others are answered, and who goes away is not waited for', async () => {
  const { get, port, service, proxy } = await edge(policy(asked('{header: x-slow}')));
  service.behaviour = 'is silent';
  const gone = new AbortController();
  const waiting = Array.from({ length: 20 }, () => get({ 'x-slow': '1' }));
  const left = fetch(`http://127.0.0.1:${port}/`, { headers: { 'x-slow': '2' }, signal: gone.signal }).catch(() => null);
  await eventually(
    () => proxy.counter('deferred_open'),
    (open) => open === 21,
  );
  gone.abort();
  await left;
  expect((await get()).status).toBe(200);
  await eventually(
    () => proxy.counter('deferred_open'),
    (open) => open === 20,
  );
  service.stop();
  expect((await Promise.all(waiting)).map(({ status }) => status)).toEqual(Array.from({ length: 20 }, () => 200));
  expect(
    await eventually(
      () => proxy.counter('deferred_open'),
      (open) => open === 0,
    ),
  ).toBe(0);
});

test('a body that comes while the service is asked is not lost, and a retried request has the lines of its limits', async () => {
  const rule = ', retry: {attempts: 1, codes: [503]}';
  const { port, backend } = await edge(
    policy(asked('{value: all, as: generic_key}')),
    [{ entries: ['generic_key'], requestsPerHour: 9 }],
    rule,
  );
  backend.failNext(1, (_, response) => void response.writeHead(503).end());
  const body = 'x'.repeat(10_000);
  const answer = await fetch(`http://127.0.0.1:${port}/`, { method: 'POST', body });
  expect([answer.status, answer.headers.get('ratelimit')]).toEqual([200, '"asked";r=8;t=1235']);
  expect(backend.seen.map((seen) => seen.body.length)).toEqual([10_000, 10_000]);
});

test('a gRPC call beyond the limit is RESOURCE_EXHAUSTED', async () => {
  const [echo, service] = [
    await startGrpcEcho(),
    await RateLimitService.start([{ entries: ['path=/weft.test.Echo/Unary'], requestsPerHour: 1 }]),
  ];
  scope.closing.push(() => echo.stop());
  scope.closing.push(() => service.stop());
  const port = await freePort();
  const file = join(scope.folder, 'edge.yaml');
  const limits = policy(asked('{source: Path}'), 'kind: GRPCRoute, name: shop');
  const gateway = gatewayManifest(`{name: http, port: ${port}, protocol: HTTP}`);
  const services = serviceManifest('echo', echo.port) + serviceManifest('limits', service.port);
  writeFileSync(file, `${services}${gateway}${route('GRPCRoute', 'backendRefs: [{name: echo, port: 80}]')}${limits}`);
  await scope.start(file);
  const client = new GrpcEchoClient(port);
  scope.closing.push(() => client.close());
  const message = Buffer.from('hello');
  expect(await client.unary(message)).toEqual(message);
  expect(await client.chat([message, message])).toHaveLength(2);
  await expect(client.unary(message)).rejects.toMatchObject({ code: 8 });
  expect(entriesOf(service)).toEqual([['path=/weft.test.Echo/Unary'], ['path=/weft.test.Echo/Chat'], ['path=/weft.test.Echo/Unary']]);
});
