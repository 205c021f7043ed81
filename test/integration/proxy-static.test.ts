// The real `weft proxy --static` process (from dist, as users run it) between real HTTP clients and servers.
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { Agent, createServer, type IncomingMessage, request, type Server } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { eventually } from '../lab/eventually.js';
import { freePort } from '../lab/ports.js';
import { accessLog, gatewayManifest, ProxyProcess, serviceManifest } from '../lab/proxy-process.js';
import { ProxyScope } from '../lab/proxy-scope.js';

const scope = new ProxyScope();

interface Backend {
  readonly port: number;
  readonly server: Server;
  /** Requests that wait for release(). */
  release(): void;
  readonly waiting: Promise<void>;
}

/** Answers with its name and what it saw; "/slow" waits for release(). */
async function backend(name: string): Promise<Backend> {
  let release = (): void => undefined;
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  let arrived = (): void => undefined;
  const waiting = new Promise<void>((resolve) => {
    arrived = resolve;
  });
  const server = createServer(async (incoming, response) => {
    let body = '';
    for await (const chunk of incoming) body += chunk;
    if (incoming.url === '/slow') {
      response.write('first ');
      arrived();
      await released;
    }
    response.end(JSON.stringify({ name, url: incoming.url, headers: incoming.headers, body }));
  });
  return { port: await scope.listen(server), server, release, waiting };
}

function manifests(port: number, backends: Readonly<Record<string, { port: number; weight: number }>>): string {
  const services = Object.entries(backends).map(([name, { port: target }]) => serviceManifest(name, target));
  const refs = Object.entries(backends).map(([name, { weight }]) => `{name: ${name}, port: 80, weight: ${weight}}`);
  return `${services.join('')}${gatewayManifest(`{name: http, port: ${port}, protocol: HTTP}`)}
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop}
spec:
  parentRefs: [{name: edge}]
  hostnames: [shop.test]
  rules:
    - backendRefs: [${refs.join(', ')}]
`;
}

interface Answer {
  readonly status: number;
  readonly text: string;
  readonly headers: IncomingMessage['headers'];
}

function send(port: number, path: string, options: { host?: string; agent?: Agent; method?: string; body?: string } = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const headers = { host: options.host ?? 'shop.test' };
    const sent = request(
      { port, host: '127.0.0.1', path, method: options.method ?? 'GET', headers, ...(options.agent && { agent: options.agent }) },
      (response) => {
        let text = '';
        response.on('data', (chunk) => {
          text += chunk;
        });
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text, headers: response.headers }));
        response.on('error', reject);
      },
    );
    sent.on('error', reject);
    sent.end(options.body);
  });
}

function keepAlive(): Agent {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  scope.closing.push(() => agent.destroy());
  return agent;
}

async function shop(weights: readonly [number, number], ...flags: string[]) {
  const [v1, v2, port] = [await backend('v1'), await backend('v2'), await freePort()];
  const file = join(scope.folder, 'shop.yaml');
  const write = ([one, two]: readonly [number, number]): void =>
    writeFileSync(file, manifests(port, { v1: { port: v1.port, weight: one }, v2: { port: v2.port, weight: two } }));
  write(weights);
  const proxy = await scope.start(file, ...flags);
  return { proxy, port, file, v1, v2, write };
}

test('requests are forwarded over kept connections, split by weight, and told as they were', async () => {
  const log = join(scope.folder, 'access.log');
  const { proxy, port } = await shop([90, 10], '--access-log', 'all', '--access-log-file', log);
  const agent = keepAlive();
  const counts = { v1: 0, v2: 0 };
  const requests = 400;
  for (let i = 0; i < requests; i++) {
    const { status, text } = await send(port, `/item?n=${i}`, { agent, method: 'POST', body: 'x'.repeat(i) });
    expect(status).toBe(200);
    const seen = JSON.parse(text) as { name: 'v1' | 'v2'; url: string; body: string; headers: Record<string, string> };
    expect([seen.url, seen.body.length, seen.headers['x-forwarded-for'], seen.headers.host]).toEqual([
      `/item?n=${i}`,
      i,
      '127.0.0.1',
      'shop.test',
    ]);
    counts[seen.name]++;
  }
  expect(Math.abs(counts.v2 - requests * 0.1)).toBeLessThan(4 * Math.sqrt(requests * 0.1 * 0.9));
  expect(await send(port, '/', { host: 'other.test' })).toMatchObject({ status: 404, text: 'weft: no route matches this request\n' });

  const told = await eventually(
    () => proxy.state(),
    ({ traffic }) => traffic.reduce((sum, edge) => sum + edge.requests, 0) === requests + 1,
  );
  expect(told.routes).toMatchObject([
    {
      scope: `gateway default/edge:${port}`,
      host: 'shop.test',
      route: 'default/shop rule 0',
      requests,
      backends: ['default/v1:80 90 %', 'default/v2:80 10 %'],
    },
  ]);
  const edge = told.traffic.find(({ destination }) => destination === 'default/v1:80');
  expect(edge).toMatchObject({ direction: 'gateway', requests: counts.v1, errors: 0 });
  expect(edge!.latencyP50Ms).toBeGreaterThan(0);
  const endpoint = told.clusters.find(({ name }) => name === 'default/v1:80')?.endpoints[0];
  expect(endpoint).toMatchObject({ requests: counts.v1, errors: 0, outstanding: 0 });
  expect(told.counters.find(({ name }) => name === 'downstream_accepted')?.value).toBe(2);

  proxy.child.kill('SIGTERM');
  agent.destroy();
  expect(await proxy.exit()).toBe(0);
  const lines = accessLog(log);
  expect(lines).toHaveLength(requests + 1);
  expect(lines[5]).toMatchObject({
    protocol: 'http/1',
    method: 'POST',
    authority: 'shop.test',
    path: '/item?n=5',
    status: 200,
    response_flag: '-',
    route: 'default/shop rule 0',
    attempts: 1,
  });
  expect(lines.find(({ status }) => status === 404)).toMatchObject({
    authority: 'other.test',
    response_flag: 'NR',
    route: null,
    endpoint: null,
  });
});

test('the access log tells HTTP/2 from HTTP/1', async () => {
  const log = join(scope.folder, 'access.log');
  const { port } = await shop([1, 0], '--access-log', 'all', '--access-log-file', log);
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  scope.closing.push(() => session.destroy());
  const call = session.request({ ':path': '/two', ':authority': 'shop.test', 'user-agent': 'probe' });
  const [head] = (await once(call, 'response')) as [Record<string, unknown>];
  expect(head[':status']).toBe(200);
  call.resume();
  await once(call, 'end');
  await send(port, '/one');

  const lines = await eventually(
    async () => accessLog(log),
    ({ length }) => length === 2,
  );
  // Two workers, two rings: the lines may come in either order.
  lines.sort((a, b) => String(a.path).localeCompare(String(b.path)));
  expect(lines).toMatchObject([
    { protocol: 'http/1', path: '/one' },
    { protocol: 'http/2', method: 'GET', authority: 'shop.test', path: '/two', status: 200, user_agent: 'probe' },
  ]);
});

test('a changed file is in force without a connection being closed, and a broken one changes nothing', async () => {
  const { proxy, port, file, v1, write } = await shop([1, 0]);
  const agent = keepAlive();
  let sockets = 0;
  v1.server.on('connection', () => sockets++);
  expect(JSON.parse((await send(port, '/a', { agent })).text)).toMatchObject({ name: 'v1' });
  const slow = send(port, '/slow');
  await v1.waiting;

  let from = proxy.errors.length;
  write([0, 1]);
  await proxy.says('is in force', from);
  expect(JSON.parse((await send(port, '/b', { agent })).text)).toMatchObject({ name: 'v2' });
  v1.release();
  expect((await slow).text).toMatch(/^first .*"v1"/);
  expect(await proxy.counter('downstream_accepted')).toBe(2);

  from = proxy.errors.length;
  writeFileSync(file, readFileSync(file, 'utf8').replace('hostnames', 'hostnamez'));
  await proxy.says('hostnamez', from);
  expect(proxy.errors.slice(from)).toMatch(/shop\.yaml:\d+:\d+: .*hostnamez/);
  expect(JSON.parse((await send(port, '/c', { agent })).text)).toMatchObject({ name: 'v2' });
});

test('bad files at the start are told with their lines, and the exit code is 1', async () => {
  const file = join(scope.folder, 'bad.yaml');
  writeFileSync(
    file,
    manifests(await freePort(), { v1: { port: 1, weight: 1 } })
      .replace(/weight: \d+/, 'weight: one')
      .replace('hostnames', 'hostname'),
  );
  const proxy = scope.launch(file);
  expect(await proxy.exit()).toBe(1);
  const findings = proxy.errors.split('\n').filter((line) => /bad\.yaml:\d+:\d+: spec/.test(line));
  expect(findings).toHaveLength(2);
});

test('a key of sessions that can’t be kept is a warning: the traffic is served', async () => {
  const file = join(scope.folder, 'shop.yaml');
  writeFileSync(file, manifests(await freePort(), { v1: { port: 1, weight: 1 } }));
  mkdirSync(join(scope.folder, 'session.key'));
  const proxy = await scope.start(file);
  expect(proxy.errors).toMatch(/"warn".*session\.key.*sessions can't be kept/);
});

test('draining ends what runs and takes nothing new', async () => {
  const { proxy, port, v1 } = await shop([1, 0]);
  const slow = send(port, '/slow');
  await v1.waiting;
  proxy.child.kill('SIGTERM');
  await proxy.says('draining');
  v1.release();
  expect((await slow).text).toMatch(/^first .*"v1"/);
  expect(await proxy.exit()).toBe(0);
  const refused = connect(port, '127.0.0.1');
  const [error] = (await once(refused, 'error')) as [NodeJS.ErrnoException];
  expect(error.code).toBe('ECONNREFUSED');
});

test('a second signal ends it at once', async () => {
  const { proxy, port, v1 } = await shop([1, 0]);
  const slow = send(port, '/slow').then(
    () => 'answered',
    () => 'broken',
  );
  await v1.waiting;
  proxy.child.kill('SIGTERM');
  await proxy.says('draining');
  proxy.child.kill('SIGTERM');
  expect(await proxy.exit()).toBe(0);
  expect(await slow).toBe('broken');
});

test('a signal ends a proxy whose workers never come up', async () => {
  const file = join(scope.folder, 'shop.yaml');
  writeFileSync(file, manifests(await freePort(), { v1: { port: 1, weight: 1 } }));
  const breaks = join(scope.folder, 'breaks.mjs');
  // Of a worker of the proxy, not of Node's own.
  writeFileSync(breaks, `import { workerData } from 'node:worker_threads';\nif (workerData?.limits) throw new Error('no worker');\n`);
  const proxy = ProxyProcess.startWith(['--static', file], scope.folder, { ...process.env, NODE_OPTIONS: `--import=${breaks}` });
  scope.closing.push(() => proxy.kill());
  await proxy.says('no worker');
  proxy.child.kill('SIGTERM');
  expect(await proxy.exit()).toBe(0);
});

test('metrics have Istio’s names and labels, over HTTP too', async () => {
  const metricsPort = await freePort();
  const { port } = await shop([1, 0], '--metrics-listen', `127.0.0.1:${metricsPort}`);
  await send(port, '/one');
  await send(port, '/two', { method: 'POST', body: 'hello' });
  const { text } = await eventually(
    () => send(metricsPort, '/metrics'),
    (answer) => /istio_requests_total\{.* 2$/m.test(answer.text),
  );
  const total = text.split('\n').find((line) => line.startsWith('istio_requests_total{'));
  expect(total).toMatch(/ 2$/);
  for (const label of [
    'reporter="source"',
    'destination_service="v1.default.svc.cluster.local"',
    'destination_service_namespace="default"',
    'response_code="200"',
    'response_flags="-"',
    'request_protocol="http"',
  ]) {
    expect(total).toContain(label);
  }
  expect(text).toMatch(/istio_request_duration_milliseconds_bucket\{.*le="\+Inf"\} 2/);
  expect(text).toMatch(/weft_proxy_requests_total 2/);
  const named = (what: string): string[] => text.split('\n').flatMap((line) => new RegExp(`^# ${what} (\\S+) .`).exec(line)?.[1] ?? []);
  expect(named('HELP')).toEqual(named('TYPE'));
  expect((await send(metricsPort, '/healthz')).text).toBe('ok\n');
  expect((await send(metricsPort, '/readyz')).text).toBe('ok\n');
});

test('status tells the open connections of a listener', async () => {
  const { proxy, port } = await shop([1, 0]);
  const open = async (): Promise<number | undefined> =>
    (await proxy.state()).listeners.find((listener) => listener.port === port)?.connections;
  const agent = keepAlive();
  await send(port, '/', { agent });
  await send(port, '/', { agent: keepAlive() });
  expect(await open()).toBe(2);
  agent.destroy();
  expect(await eventually(open, (count) => count === 1)).toBe(1);
});

test('with --via both directions are told of this hop, behind what came, in the version that the message came in', async () => {
  const { port } = await shop([1, 0], '--via', 'edge');
  const answer = await new Promise<Answer>((resolve, reject) => {
    const sent = request({ port, host: '127.0.0.1', headers: { host: 'shop.test', via: '1.0 fred' } }, async (response) => {
      let text = '';
      for await (const chunk of response) text += chunk;
      resolve({ status: response.statusCode ?? 0, text, headers: response.headers });
    });
    sent.on('error', reject).end();
  });
  expect(answer.headers.via).toBe('1.1 edge');
  expect((JSON.parse(answer.text) as Answer).headers.via).toBe('1.0 fred, 1.1 edge');
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  scope.closing.push(() => session.destroy());
  const stream = session.request({ ':path': '/', ':authority': 'shop.test' });
  const [head] = (await once(stream, 'response')) as [IncomingMessage['headers']];
  let text = '';
  for await (const chunk of stream) text += chunk;
  expect(head.via).toBe('1.1 edge');
  expect((JSON.parse(text) as Answer).headers.via).toBe('2 edge');
});

test.each([
  { hops: 0, forwardedFor: '127.0.0.1', proto: 'http', host: undefined, client: /^127\.0\.0\.1:[1-9]/ },
  {
    hops: 1,
    forwardedFor: '10.9.9.9, 192.0.2.1, 2001:db8::1, 127.0.0.1',
    proto: 'https',
    host: 'said.test',
    client: /^\[2001:db8::1\]:0$/,
  },
  { hops: 2, forwardedFor: '10.9.9.9, 192.0.2.1, 2001:db8::1, 127.0.0.1', proto: 'https', host: 'said.test', client: /^192\.0\.2\.1:0$/ },
  {
    hops: 4,
    forwardedFor: '10.9.9.9, 192.0.2.1, 2001:db8::1, 127.0.0.1',
    proto: 'https',
    host: 'said.test',
    client: /^127\.0\.0\.1:[1-9]/,
  },
])(
  'behind $hops trusted proxies the client is whom they say, over HTTP/1 and HTTP/2',
  async ({ hops, forwardedFor, proto, host, client }) => {
    const log = join(scope.folder, 'access.log');
    const { port } = await shop([1, 0], '--access-log', 'all', '--access-log-file', log, '--trusted-hops', String(hops));
    const said = { 'x-forwarded-for': '10.9.9.9, 192.0.2.1,, 2001:db8::1', 'x-forwarded-proto': 'https', 'x-forwarded-host': 'said.test' };
    const overHttp1 = await new Promise<string>((resolve, reject) => {
      const sent = request({ port, host: '127.0.0.1', path: '/1', headers: { host: 'shop.test', ...said } }, async (response) => {
        let text = '';
        for await (const chunk of response) text += chunk;
        resolve(text);
      });
      sent.on('error', reject).end();
    });
    const session = connectHttp2(`http://127.0.0.1:${port}`);
    scope.closing.push(() => session.destroy());
    const stream = session.request({ ':path': '/2', ':authority': 'shop.test', ...said });
    let overHttp2 = '';
    for await (const chunk of stream) overHttp2 += chunk;
    for (const text of [overHttp1, overHttp2]) {
      const { headers } = JSON.parse(text) as { headers: Record<string, string> };
      expect(headers['x-forwarded-for']?.replace(',,', ',')).toBe(forwardedFor);
      expect(headers['x-forwarded-proto']).toBe(proto);
      expect(headers['x-forwarded-host']).toBe(host);
      expect(headers['x-request-id']).toMatch(/^[0-9a-f-]{36}$/);
    }
    const lines = await eventually(
      async () => accessLog(log),
      (all) => all.length === 2,
    );
    for (const line of lines) expect(line.client).toMatch(client);
  },
);

test('a route leads to the host of a ServiceEntry, with its endpoints and their ports', async () => {
  const port = await freePort();
  const outside = await backend('outside');
  const file = join(scope.folder, 'mesh.yaml');
  writeFileSync(
    file,
    `${gatewayManifest(`{name: http, port: ${port}, protocol: HTTP}`)}
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api}
spec:
  hosts: [api.example.com]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1, ports: {http: ${outside.port}}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: out}
spec:
  parentRefs: [{name: edge}]
  rules: [{backendRefs: [{group: networking.istio.io, kind: Hostname, name: api.example.com, port: 80}]}]
`,
  );
  await scope.start(file);
  const answer = await fetch(`http://127.0.0.1:${port}/items`);
  expect([answer.status, ((await answer.json()) as { name: string }).name]).toEqual([200, 'outside']);
});
