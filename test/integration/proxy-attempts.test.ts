// Retries, second attempts and limits of connections on the real `weft proxy --static` process, over HTTP/1, HTTP/2 and gRPC; whatever happens,
// nothing is outstanding in the end.
import { writeFileSync } from 'node:fs';
import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { connect as connectHttp2, createServer as createHttp2Server, type ServerHttp2Stream } from 'node:http2';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { eventually } from '../lab/eventually.js';
import { freePort } from '../lab/ports.js';
import { accessLog, gatewayManifest, type ProxyProcess } from '../lab/proxy-process.js';
import { ProxyScope } from '../lab/proxy-scope.js';

const scope = new ProxyScope();

type Handler = (incoming: IncomingMessage, response: ServerResponse) => void;
const ok: Handler = (_, response) => void response.end('ok');
const busy: Handler = (_, response) => void response.writeHead(503).end('busy');
const silent: Handler = () => undefined;

const backends = (...handlers: readonly Handler[]): Promise<number[]> =>
  Promise.all(handlers.map((handler) => scope.listen(createServer(handler))));

/** A service with an endpoint at each port, a TrafficPolicy for it, and a gateway that leads there. */
function manifests(port: number, endpoints: readonly number[], policy: string, appProtocol = 'http'): string {
  const slices = endpoints.map(
    (each, index) => `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s-${index}, labels: {kubernetes.io/service-name: s}}
addressType: IPv4
ports: [{name: main, port: ${each}}]
endpoints: [{addresses: [127.0.0.1]}]
---`,
  );
  return `${slices.join('')}
apiVersion: v1
kind: Service
metadata: {name: s}
spec: {ports: [{name: main, port: 80, appProtocol: ${appProtocol}}]}
---${gatewayManifest(`{name: http, port: ${port}, protocol: HTTP}`)}
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: s, port: 80}]}]}
---
apiVersion: mesh.weft.dev/v1
kind: TrafficPolicy
metadata: {name: p}
spec:
  targetRefs: [{kind: Service, name: s}]
  loadBalancer: {type: RoundRobin}
${policy}
`;
}

interface Running {
  readonly port: number;
  readonly proxy: ProxyProcess;
  readonly log: string;
  /** Those of the service. */
  readonly metrics: () => Promise<readonly string[]>;
}

async function start(endpoints: readonly number[], policy: string, appProtocol?: string, ...flags: string[]): Promise<Running> {
  const port = await freePort();
  const file = join(scope.folder, 'mesh.yaml');
  const log = join(scope.folder, 'access.log');
  writeFileSync(file, manifests(port, endpoints, policy, appProtocol));
  const metricsListen = `127.0.0.1:${await freePort()}`;
  const proxy = await scope.start(file, '--access-log', 'all', '--access-log-file', log, '--metrics-listen', metricsListen, ...flags);
  const metrics = async () => {
    const text = await (await fetch(`http://${metricsListen}/metrics`)).text();
    return text.split('\n').filter((line) => line.includes('cluster="default/s:80"'));
  };
  return { port, proxy, log, metrics };
}

/** Status and text; status 0: it broke. */
function send(
  port: number,
  {
    method = 'GET',
    body = '',
    abortAfterMs = 0,
    agent,
    headers = {},
  }: { method?: string; body?: string; abortAfterMs?: number; agent?: Agent; headers?: Record<string, string> } = {},
) {
  return new Promise<{ status: number; text: string }>((resolve) => {
    const sent = request({ port, host: '127.0.0.1', method, path: '/', headers, ...(agent !== undefined && { agent }) }, (response) => {
      let text = '';
      response.on('data', (chunk: Buffer) => {
        text += chunk.toString();
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
      response.on('error', () => resolve({ status: 0, text }));
    });
    sent.on('error', () => resolve({ status: 0, text: '' }));
    if (abortAfterMs > 0) setTimeout(() => sent.destroy(), abortAfterMs);
    sent.end(body);
  });
}

/** All that was begun has ended, in the balancers' counts too. */
async function isSettled(proxy: ProxyProcess): Promise<void> {
  const outstanding = async () => {
    const { clusters } = await proxy.state();
    return clusters.flatMap(({ endpoints }) => endpoints.map((each) => Number(each.outstanding)));
  };
  expect((await eventually(outstanding, (counts) => counts.every((count) => count === 0))).every((count) => count === 0)).toBe(true);
}

test('a service’s retries save what another endpoint can answer, of requests that may run twice', async () => {
  const { port, proxy } = await start(await backends(busy, ok), '  retries: {attempts: 2, on: ["503"], backoff: 1ms}');
  const gets = await Promise.all(Array.from({ length: 40 }, () => send(port)));
  expect(gets.every(({ status }) => status === 200)).toBe(true);
  const posts = await Promise.all(Array.from({ length: 40 }, () => send(port, { method: 'POST', body: 'x' })));
  expect(new Set(posts.map(({ status }) => status))).toEqual(new Set([200, 503]));
  await isSettled(proxy);
});

test('an answer with a header that the policy names is not taken; nor with one that the request names, if it isn’t anybody’s', async () => {
  const marked: Handler = (_, response) => void response.writeHead(200, { 'x-busy': '1' }).end('marked');
  const named = await start(await backends(marked, ok), '  retries: {attempts: 1, on: [refused-stream], retriableHeaders: [X-Busy]}');
  const answers = await Promise.all(Array.from({ length: 20 }, () => send(named.port)));
  expect(new Set(answers.map(({ text }) => text))).toEqual(new Set(['ok']));
  await named.proxy.kill();
  const texts = async (...flags: string[]): Promise<Set<string>> => {
    const { port, proxy } = await start(await backends(marked, ok), '  retries: {attempts: 1, on: [retriable-headers]}', 'http', ...flags);
    const headers = { 'x-envoy-retriable-header-names': 'x-other, X-Busy' };
    const found = await Promise.all(Array.from({ length: 20 }, () => send(port, { headers })));
    await proxy.kill();
    return new Set(found.map(({ text }) => text));
  };
  expect(await texts('--trusted-hops', '1')).toEqual(new Set(['ok']));
  // At the edge clients don't say what is asked for again.
  expect(await texts()).toEqual(new Set(['ok', 'marked']));
});

test('of two answers that nobody takes the last one is the client’s, and the log says URX', async () => {
  const { port, log, proxy } = await start(await backends(busy, busy), '  retries: {attempts: 1, on: [5xx], backoff: 1ms}');
  expect(await send(port)).toEqual({ status: 503, text: 'busy' });
  await eventually(
    async () => accessLog(log),
    (lines) => lines.length === 1,
  );
  expect(accessLog(log)[0]).toMatchObject({ status: 503, response_flag: 'URX', attempts: 2 });
  await isSettled(proxy);
});

test('second attempts: an endpoint that stalls costs its requests no more than the policy’s time', async () => {
  const { port, proxy } = await start(await backends(silent, ok), '  hedging: {after: 30ms, max: 100}');
  // Before there are any to spend.
  for (let i = 0; i < 20; i++) expect((await send(port, { abortAfterMs: 5_000 })).status).toBe(200);
  const all = await Promise.all(Array.from({ length: 10 }, () => send(port, { abortAfterMs: 5_000 })));
  expect(all.map(({ status }) => status)).toEqual(Array.from({ length: 10 }, () => 200));
  await isSettled(proxy);
});

test('second attempts over HTTP/2 and of gRPC, where the policy is for any method', async () => {
  const grpc = (respond: (stream: ServerHttp2Stream) => void) => {
    const server = createHttp2Server();
    server.on('stream', (stream: ServerHttp2Stream) => {
      stream.on('error', () => undefined);
      stream.resume().on('end', () => respond(stream));
    });
    return scope.listen(server);
  };
  const answer = (stream: ServerHttp2Stream): void => {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.end('message');
  };
  const ports = [await grpc(() => undefined), await grpc(answer)];
  const { port, proxy } = await start(ports, '  hedging: {after: 30ms, max: 100, anyMethod: true}', 'kubernetes.io/h2c');
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  scope.closing.push(() => session.destroy());
  for (let i = 0; i < 10; i++) {
    const stream = session.request({ ':method': 'POST', ':path': '/s/M', 'content-type': 'application/grpc', te: 'trailers' });
    let text = '';
    stream.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    const trailers = new Promise((resolve) => stream.on('trailers', resolve));
    stream.end('question');
    expect(await trailers).toMatchObject({ 'grpc-status': '0' });
    expect(text).toBe('message');
  }
  await isSettled(proxy);
});

test('beyond the limit of connections requests wait, and beyond that of waiting ones they are answered 503 with flag UO', async () => {
  const waiting: ServerResponse[] = [];
  const [backend] = await backends((_, response) => void waiting.push(response));
  const { port, log, proxy, metrics } = await start([backend!], '  connections: {maxConnections: 1, maxPendingRequests: 1}');
  const held = (count: number) =>
    eventually(
      async () => waiting.length,
      (length) => length === count,
    );
  const first = send(port);
  expect(await held(1)).toBe(1);
  const [second, third] = [send(port), send(port)];
  expect((await Promise.race([second, third])).status).toBe(503);
  await eventually(
    async () => accessLog(log),
    (lines) => lines.length === 1,
  );
  expect(accessLog(log)[0]).toMatchObject({ status: 503, response_flag: 'UO' });
  const lines = await metrics();
  for (const said of ['weft_upstream_connections_active{', 'weft_upstream_requests_pending{', 'limit="pending"'])
    expect(lines.filter((line) => line.includes(said)).map((line) => line.split(' ').at(-1))).toEqual(['1']);
  waiting[0]!.end('one');
  expect(await first).toEqual({ status: 200, text: 'one' });
  expect(await held(2)).toBe(2);
  waiting[1]!.end('two');
  const answers = await Promise.all([second, third]);
  expect(answers.map(({ status }) => status).sort()).toEqual([200, 503]);
  await isSettled(proxy);
});

test.each(['kept', 'closed'])(
  'workers share the places that there are: no more connections than may be, none starves, where servers have them %s',
  async (which) => {
    const open = new Set<Socket>();
    let most = 0;
    const server = createServer((_, response) => {
      if (which === 'closed') response.setHeader('connection', 'close');
      setTimeout(() => response.end('ok'), 2);
    });
    server.on('connection', (socket) => {
      open.add(socket);
      most = Math.max(most, open.size);
      socket.on('close', () => open.delete(socket));
    });
    const { port, proxy } = await start([await scope.listen(server)], '  connections: {maxConnections: 2}');
    const clients = Array.from({ length: 12 }, async () => {
      const agent = new Agent({ keepAlive: true, maxSockets: 1 });
      scope.closing.push(() => agent.destroy());
      for (let i = 0; i < 20; i++) expect((await send(port, { agent })).status).toBe(200);
    });
    await Promise.all(clients);
    // Of a connection that has ended the server may hear after it has accepted the next.
    expect(most).toBeLessThanOrEqual(which === 'closed' ? 4 : 3);
    await isSettled(proxy);
  },
);

test('a connection that has lasted as long as its service allows is followed by another, and no request fails of it', async () => {
  let connections = 0;
  const server = createServer(ok);
  server.on('connection', () => void connections++);
  const { port, proxy } = await start([await scope.listen(server)], '  connections: {maxConnectionDuration: 100ms, idleTimeout: 1m}');
  const seen = async (): Promise<number> => {
    expect((await send(port)).status).toBe(200);
    return connections;
  };
  // One a worker at first.
  expect(await eventually(seen, (count) => count >= 4)).toBeGreaterThanOrEqual(4);
  expect(await proxy.counter('timeouts_duration')).toBeGreaterThanOrEqual(2);
  await isSettled(proxy);
});

test('whatever endpoints and clients do, every attempt ends once', async () => {
  let count = 0;
  const moody: Handler = (incoming, response) => {
    switch (count++ % 6) {
      case 0:
        return void response.writeHead(503).end('busy');
      case 1:
        return void incoming.socket.resetAndDestroy();
      case 2:
        return void setTimeout(() => response.end('late'), 60);
      case 3:
        return void setTimeout(() => response.destroy(), 40);
      case 4:
        response.writeHead(200, { 'content-length': 10 }).write('half');
        return void setTimeout(() => response.destroy(), 5);
      default:
        return void response.end('ok');
    }
  };
  const policy = `  retries: {attempts: 3, on: [5xx], backoff: 1ms, perTryTimeout: 2s, anyMethod: true}
  hedging: {after: 20ms, max: 100, anyMethod: true}
  connections: {maxConnections: 8, maxPendingRequests: 100, maxRequestsPerConnection: 5}`;
  const { port, proxy } = await start(await backends(moody, moody, moody), policy);
  const agent = new Agent({ keepAlive: true, maxSockets: 24 });
  scope.closing.push(() => agent.destroy());
  const all = await Promise.all(
    Array.from({ length: 400 }, (_, i) =>
      send(port, {
        agent,
        method: i % 3 === 0 ? 'POST' : 'GET',
        body: i % 3 === 0 ? 'x'.repeat(2_000) : '',
        abortAfterMs: i % 7 === 0 ? 15 + (i % 50) : 0,
      }),
    ),
  );
  expect(all.filter(({ status }) => status === 200).length).toBeGreaterThan(100);
  await isSettled(proxy);
});
