// Requests and expectations of the Gateway API's own conformance suite (sigs.k8s.io/gateway-api/conformance/tests), on its own manifests and the
// real `weft proxy --static` process. Redirects, CORS, mirrors and retries are in gateway-api-routes.test.ts, what speaks TLS and TCP in
// gateway-api-connections.test.ts.
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { Agent, createServer, type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http';
import { connect as connectHttp2, createServer as createHttp2Server, type IncomingHttpHeaders as Http2Headers } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect } from '@jest/globals';
import { WebSocket, WebSocketServer } from 'ws';
import { GatewayApiManifests } from '../lab/gateway-api-manifests.js';
import { at, call, G1, G2, G3, GRPC_PAIRS, PAIRS, type Pair, V1, V2, V3 } from '../lab/gateway-api-pairs.js';
import { ProxyProcess } from '../lab/proxy-process.js';
import { hasTestdata, withTestdata } from '../lab/testdata.js';

const { describe, test } = withTestdata;
const FILES = [...Object.keys(PAIRS), ...Object.keys(GRPC_PAIRS)];

const manifests = new GatewayApiManifests('127.72', '127.73.0', (service, { targetPort }) =>
  portOf(targetPort === 3001 || service.startsWith('grpc-') ? http2 : http),
);
const portOf = (server: { address(): unknown }): number => (server.address() as AddressInfo).port;
const folder = mkdtempSync(join(tmpdir(), 'wgp-'));
const http = createServer((asked, response) => {
  for (const line of String(asked.headers['x-echo-set-header'] ?? '').split(', ')) {
    const [name = '', value] = line.split(': ');
    if (value !== undefined) response.setHeader(name, value);
  }
  const delay = Number(new URL(asked.url ?? '', 'http://a').searchParams.get('delay'));
  const answer = (): void =>
    void response.end(
      JSON.stringify({ backend: manifests.nameAt(asked.socket.localAddress), headers: { ...asked.headers, ':path': asked.url } }),
    );
  if (delay > 0) setTimeout(answer, delay);
  else answer();
});
const sockets = new WebSocketServer({ server: http });
sockets.on('connection', (socket, asked: IncomingMessage) => socket.send(manifests.nameAt(asked.socket.localAddress) ?? ''));
const http2 = createHttp2Server();
http2.on('stream', (stream, headers) => {
  const backend = manifests.nameAt(stream.session?.socket.localAddress);
  const seen = JSON.stringify({ backend, headers: { ...headers, ':version': '2.0' } });
  if (headers['content-type'] !== 'application/grpc') {
    stream.respond({ ':status': 200 });
    stream.end(seen);
    return;
  }
  stream.respond({ ':status': 200, 'content-type': 'application/grpc', 'x-seen': seen }, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
  stream.resume().end();
});
const agent = new Agent({ keepAlive: true, maxSockets: 2 });
let proxy: ProxyProcess;

beforeAll(async () => {
  if (!hasTestdata) return;
  for (const server of [http, http2]) await once(server.listen(0, '0.0.0.0'), 'listening');
  const file = join(folder, 'all.yaml');
  manifests.write(file, FILES);
  proxy = ProxyProcess.start(file, folder);
  await proxy.says('"ready"');
});

afterAll(async () => {
  agent.destroy();
  await proxy?.kill();
  sockets.close();
  http.closeAllConnections();
  http.close();
  http2.close();
  rmSync(folder, { recursive: true, force: true });
});

interface Answered {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

function ask(file: string, pair: Pair): Promise<Answered> {
  const { path = '/', host = 'a.test', method = 'GET', port = 80, headers } = pair;
  return new Promise((resolve, reject) => {
    const sent = request(
      { host: manifests.addressOf(file, pair.gateway), port, path, method, agent, headers: { host, ...headers } },
      (response) => {
        let text = '';
        response.on('data', (piece) => {
          text += piece;
        });
        response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }));
      },
    );
    sent.on('error', reject);
    sent.end();
  });
}

interface Seen {
  readonly backend: string;
  readonly headers: Record<string, string | undefined>;
}

/** As one text, however it was cut into fields. */
const only = (wanted: Pair['seen'], found: Readonly<Record<string, unknown>>): Record<string, unknown> =>
  Object.fromEntries(
    Object.keys(wanted ?? {}).map((name) => [name, found[name] === undefined ? undefined : String(found[name]).replace(/,\s*/g, ', ')]),
  );

describe.each(Object.entries(PAIRS).filter(([, pairs]) => pairs.length > 0))('%s', (file, pairs) => {
  test.each(
    pairs.map(
      (pair) =>
        [
          `${pair.method ?? 'GET'} ${pair.gateway ?? ''} ${pair.host ?? ''}${pair.path} ${JSON.stringify(pair.headers ?? {})}`,
          pair,
        ] as const,
    ),
  )('%s', async (_, pair) => {
    const { status, headers, text } = await ask(file, pair);
    if (typeof pair.answer === 'number') return void expect(status).toBe(pair.answer);
    expect(status).toBe(200);
    const seen = JSON.parse(text) as Seen;
    expect(seen.backend).toBe(pair.answer);
    expect(only(pair.seen, seen.headers)).toEqual(pair.seen ?? {});
    expect(only(pair.told, headers)).toEqual(pair.told ?? {});
  });
});

async function callGrpc(address: string, { path = '', host = 'a.test', headers }: Pair): Promise<{ status: number; seen: Seen | null }> {
  const session = connectHttp2(`http://${address}:80`);
  const stream = session.request({
    ':method': 'POST',
    ':path': path,
    ':authority': host,
    'content-type': 'application/grpc',
    te: 'trailers',
    ...headers,
  });
  let trailers: Http2Headers = {};
  stream.on('trailers', (found) => {
    trailers = found;
  });
  const [head] = (await once(stream.end(Buffer.alloc(5)), 'response')) as [Http2Headers];
  stream.resume();
  await once(stream, 'close');
  session.close();
  const seen = head['x-seen'];
  return {
    status: Number(trailers['grpc-status'] ?? head['grpc-status']),
    seen: seen === undefined ? null : (JSON.parse(String(seen)) as Seen),
  };
}

describe.each(Object.entries(GRPC_PAIRS).filter(([, pairs]) => pairs.length > 0))('%s', (file, pairs) => {
  test.each(pairs.map((pair) => [`${pair.host} ${pair.path} ${JSON.stringify(pair.headers)}`, pair] as const))('%s', async (_, pair) => {
    const { status, seen } = await callGrpc(manifests.addressOf(file, pair.gateway), pair);
    expect(status).toBe(typeof pair.answer === 'number' ? pair.answer : 0);
    if (typeof pair.answer === 'string') expect(seen?.backend).toBe(pair.answer);
    expect(only(pair.seen, seen?.headers ?? {})).toEqual(pair.seen ?? {});
  });
});

/** Of 500: 0.7 lies within 0.62 and 0.78 in all but one of 10,000 runs. */
const DRAWS = 500;
const isNear = (part: number, share: number): boolean => Math.abs(part - share) < 0.08;

test('shares are as the weights say, and weight 0 gets nothing', async () => {
  const count = async (of: () => Promise<string>): Promise<Map<string, number>> => {
    const counts = new Map<string, number>();
    for (let i = 0; i < DRAWS; i++) {
      const name = await of();
      counts.set(name, (counts.get(name) ?? 0) + 1 / DRAWS);
    }
    return counts;
  };
  const backend = async (file: string): Promise<string> => (JSON.parse((await ask(file, at('/', ''))).text) as Seen).backend;
  const split = await count(() => backend('httproute-weight'));
  expect([isNear(split.get(V1) ?? 0, 0.7), isNear(split.get(V2) ?? 0, 0.3), split.get(V3)]).toEqual([true, true, undefined]);
  const session = manifests.addressOf('grpcroute-weight', undefined);
  const calls = await count(async () => (await callGrpc(session, call('Echo', ''))).seen?.backend ?? '');
  expect([isNear(calls.get(G1) ?? 0, 0.7), isNear(calls.get(G2) ?? 0, 0.3), calls.get(G3)]).toEqual([true, true, undefined]);
  const changed = await count(async () => {
    const seen = JSON.parse((await ask('httproute-request-header-modifier-backend-weights', at('/', ''))).text) as Seen;
    expect(seen.headers.backend).toBe(seen.backend);
    return seen.backend;
  });
  expect(isNear(changed.get(V1) ?? 0, 0.5)).toBe(true);
});

test('a WebSocket goes to the backend whose port says that it speaks it', async () => {
  const socket = new WebSocket(`ws://${manifests.addressOf('httproute-backend-protocol-websocket', undefined)}/ws`);
  const [message] = (await once(socket, 'message')) as [Buffer];
  expect(message.toString()).toBe(V1);
  socket.terminate();
});
