// Requests and expectations of the Gateway API's own conformance suite (sigs.k8s.io/gateway-api/conformance/tests), on its own manifests and the
// real `weft proxy --static` process. Redirects, rewrites, CORS, mirrors and retries are in gateway-api-routes.test.ts, what speaks TLS and TCP in
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
import { ProxyProcess } from '../lab/proxy-process.js';
import { hasTestdata, withTestdata } from '../lab/testdata.js';

const { describe, test } = withTestdata;
type Headers = Readonly<Record<string, string>>;

/** What is asked, and the backend's name or the status that answers; undefined headers must not be there. */
interface Pair {
  readonly path?: string;
  readonly host?: string;
  readonly method?: string;
  readonly port?: number;
  readonly gateway?: string;
  readonly headers?: Headers;
  readonly answer: string | number;
  readonly seen?: Readonly<Record<string, string | undefined>>;
  readonly told?: Readonly<Record<string, string | undefined>>;
}

const [V1, V2, V3] = ['infra-backend-v1', 'infra-backend-v2', 'infra-backend-v3'] as const;
const at = (path: string, answer: string | number, headers: Headers = {}, method = 'GET'): Pair => ({ path, answer, headers, method });
const on = (host: string, path: string, answer: string | number, more: Partial<Pair> = {}): Pair => ({ host, path, answer, ...more });
/** The requests that both kinds of header modifiers are tried with; `name`: how the suite spells the fields. */
const CHANGED: readonly (readonly [path: string, before: Headers, after: Readonly<Record<string, string | undefined>>])[] = [
  ['/set', { 'Some-Other-Header': 'val' }, { 'some-other-header': 'val', 'x-header-set': 'set-overwrites-values' }],
  [
    '/set',
    { 'Some-Other-Header': 'val', 'X-Header-Set': 'some-other-value' },
    { 'some-other-header': 'val', 'x-header-set': 'set-overwrites-values' },
  ],
  ['/add', { 'Some-Other-Header': 'val' }, { 'some-other-header': 'val', 'x-header-add': 'add-appends-values' }],
  ['/add', { 'X-Header-Add': 'some-other-value' }, { 'x-header-add': 'some-other-value, add-appends-values' }],
  ['/remove', { 'X-Header-Remove': 'val' }, { 'x-header-remove': undefined }],
  [
    '/multiple',
    {
      'X-Header-Set-2': 'set-val-2',
      'X-Header-Add-2': 'add-val-2',
      'X-Header-Remove-2': 'remove-val-2',
      'Another-Header': 'another-header-val',
    },
    {
      'x-header-set-1': 'header-set-1',
      'x-header-set-2': 'header-set-2',
      'x-header-add-1': 'header-add-1',
      'x-header-add-2': 'add-val-2, header-add-2',
      'x-header-add-3': 'header-add-3',
      'x-header-remove-1': undefined,
      'x-header-remove-2': undefined,
      'another-header': 'another-header-val',
    },
  ],
  [
    '/case-insensitivity',
    {
      'x-header-set': 'original-val-set',
      'x-header-add': 'original-val-add',
      'x-header-remove': 'original-val-remove',
      'Another-Header': 'a',
    },
    { 'x-header-set': 'header-set', 'x-header-add': 'original-val-add, header-add', 'x-header-remove': undefined, 'another-header': 'a' },
  ],
];
/** What the backend is asked to answer with. */
const echoed = (headers: Headers): Headers => ({
  'x-echo-set-header': Object.entries(headers)
    .map(([name, value]) => `${name}: ${value}`)
    .join(', '),
});

const PAIRS: Readonly<Record<string, readonly Pair[]>> = {
  'httproute-simple-same-namespace': [at('/', V1)],
  'httproute-named-rule': [at('/named', V1), at('/unnamed', V2), at('/', 404)],
  'httproute-exact-path-matching': [
    at('/one', V1),
    at('/two', V2),
    ...['/', '/one/example', '/two/', '/Two', '/twoo'].map((path) => at(path, 404)),
  ],
  'httproute-matching': [
    at('/', V1),
    at('/example', V1),
    at('/', V1, { Version: 'one' }),
    at('/v2', V2),
    at('/v2/example', V2),
    at('/', V2, { Version: 'two' }),
    at('/v2/', V2),
    at('/v2example', V1),
    at('/foo/v2/example', V1),
  ],
  'httproute-matching-across-routes': [
    on('example.com', '/', V1),
    on('example.com', '/example', V1),
    on('example.net', '/example', V1),
    on('example.com', '/example', V1, { headers: { Version: 'one' } }),
    on('example.com', '/v2', V2),
    on('example.net', '/v2', V1),
    on('example.com', '/v2/example', V2),
    on('example.com', '/', V2, { headers: { Version: 'two' } }),
    on('example.org', '/', 404),
  ],
  'httproute-header-matching': [
    at('/', V1, { Version: 'one' }),
    at('/', V2, { Version: 'two' }),
    at('/', V1, { Version: 'two', Color: 'orange' }),
    at('/', V1, { Color: 'blue' }),
    at('/', V1, { Color: 'green' }),
    at('/', V2, { Color: 'red' }),
    at('/', V2, { Color: 'yellow' }),
    at('/', 404, { Color: 'orange' }),
    at('/', 404, { 'Some-Other-Header': 'one' }),
    at('/', 404, { Color: 'purple' }),
    at('/', 404, { Version: 'One' }),
    at('/', 404),
  ],
  'httproute-method-matching': [
    at('/', V1, {}, 'POST'),
    at('/', V2),
    at('/', 404, {}, 'HEAD'),
    at('/path1', V1),
    at('/', V2, { version: 'one' }, 'PUT'),
    at('/path2', V3, { version: 'two' }, 'POST'),
    at('/path3', V1, {}, 'PATCH'),
    at('/path4', V1, { version: 'three' }, 'DELETE'),
    at('/', 404, {}, 'PUT'),
    at('/path4', 404, {}, 'DELETE'),
    at('/path5', V1, {}, 'PATCH'),
    at('/', V2, { version: 'four' }, 'PATCH'),
  ],
  'httproute-query-param-matching': [
    at('/?animal=whale', V1),
    at('/?animal=dolphin', V2),
    at('/?animal=whale&otherparam=irrelevant', V1),
    at('/?animal=dolphin&color=yellow', V2),
    at('/?animal=dolphin&color=blue', V3),
    at('/?ANIMAL=Whale', V3),
    ...['/?color=blue', '/?animal=dog', '/?animal=whaledolphin', '/'].map((path) => at(path, 404)),
    at('/path1?animal=whale', V1),
    at('/?animal=whale', V2, { version: 'one' }),
    at('/path2?animal=whale', V3, { version: 'two' }),
    at('/path3?animal=shark', V1),
    at('/path4?animal=kraken', V1, { version: 'three' }),
    at('/path5?animal=hydra', V1),
    at('/?animal=hydra', V3, { version: 'four' }),
  ],
  'httproute-path-match-order': [
    at('/match/exact/one', V3),
    at('/match/exact', V2),
    at('/match', V1),
    at('/match/prefix/one/any', V2),
    at('/match/prefix/any', V1),
    at('/match/any', V3),
  ],
  'httproute-hostname-intersection': [
    on('very.specific.com', '/s1', V1),
    on('very.specific.com:1234', '/s1', V1),
    ...['non.matching.com', 'foo.nonmatchingwildcard.io', 'foo.wildcard.io'].map((host) => on(host, '/s1', 404)),
    on('very.specific.com', '/non-matching-prefix', 404),
    on('foo.wildcard.io', '/s2', V2),
    on('bar.wildcard.io', '/s2', V2),
    on('foo.bar.wildcard.io', '/s2', V2),
    ...['non.matching.com', 'wildcard.io', 'baz.wildcard.io', 'very.specific.com'].map((host) => on(host, '/s2', 404)),
    on('foo.wildcard.io', '/not-matching-prefix', 404),
    on('very.specific.com', '/s3', V3),
    ...['non.matching.com', 'foo.specific.com', 'foo.wildcard.io'].map((host) => on(host, '/s3', 404)),
    on('very.specific.com', '/not-matching', 404),
    on('one.anotherwildcard.io', '/s4', V1),
    on('one.two.three.anotherwildcard.io', '/s4', V1),
    ...['anotherwildcard.io', 'foo.wildcard.io', 'very.specific.com'].map((host) => on(host, '/s4', 404)),
    ...['specific.but.wrong.com', 'wildcard.io', 'very.specific.com'].map((host) => on(host, '/s5', 404)),
    ...['first.com', 'sub.first.com', 'second.com', 'sub.second.com'].map((host) =>
      on(host, '/', V2, { gateway: 'httproute-hostname-intersection-all' }),
    ),
    on('third.com', '/', 404, { gateway: 'httproute-hostname-intersection-all' }),
  ],
  'httproute-listener-hostname-matching': [
    on('bar.com', '/', V1),
    on('bar.com:8080', '/', V1),
    on('foo.bar.com', '/', V2),
    ...['baz.bar.com', 'boo.bar.com', 'multiple.prefixes.bar.com', 'multiple.prefixes.foo.com'].map((host) => on(host, '/', V3)),
    ...['foo.com', 'no.matching.host'].map((host) => on(host, '/', 404)),
  ],
  'httproute-listener-port-matching': [
    on('foo.com', '/', V1),
    on('bar.com', '/', 404),
    on('foo.com', '/', V2, { port: 8080 }),
    on('bar.com', '/', V2, { port: 8080 }),
    on('foo.com', '/', V3, { port: 8090 }),
    on('bar.com', '/', 404, { port: 8090 }),
  ],
  'gateway-http-listener-isolation': isolation('attaches-to'),
  'gateway-http-listener-isolation-with-hostname-intersection': [...isolation('hosts'), on('bar.com', '/empty-hostname', V1)],
  'httproute-multiple-gateways': [
    at('/shared', V1),
    at('/', V2),
    { path: '/shared', gateway: 'all-namespaces', answer: V1 },
    { path: '/', gateway: 'all-namespaces', answer: V3 },
  ],
  'httproute-cross-namespace': [{ path: '/', gateway: 'backend-namespaces', answer: 'web-backend' }],
  'httproute-reference-grant': [at('/', 'web-backend')],
  'httproute-invalid-reference-grant': [at('/', 500)],
  'httproute-partially-invalid-via-invalid-reference-grant': [at('/v2', 500), at('/', 'app-backend-v1')],
  'httproute-invalid-nonexistent-backendref': [at('/', 500)],
  'httproute-invalid-backendref-unknown-kind': [at('/', 500)],
  'httproute-invalid-cross-namespace-backend-ref': [at('/', 500)],
  'httproute-invalid-cross-namespace-parent-ref': [at('/', 404)],
  'httproute-invalid-parentref-not-matching-listener-port': [at('/', 404)],
  'httproute-invalid-parentref-not-matching-section-name': [at('/', 404)],
  'httproute-invalid-parentref-section-name-not-matching-port': [at('/', 404)],
  'httproute-omitted-backendrefs': [at('/omitted-no-forward', 500), at('/empty-no-forward', 500), at('/', V1)],
  'httproute-service-types': [
    at('/manual-endpointslices', 'manual-endpointslices'),
    at('/headless', 'headless'),
    at('/headless-manual-endpointslices', 'headless-manual-endpointslices'),
  ],
  'httproute-backend-protocol-h2c': [{ path: '/', answer: V1, seen: { ':version': '2.0' } }],
  'httproute-request-header-modifier': CHANGED.map(([path, headers, seen]) => ({ path, headers, seen, answer: V1 })),
  'httproute-response-header-modifier': [
    ...CHANGED.map(([path, headers, told]) => ({ path, headers: echoed(headers), told, answer: V1 })),
    {
      path: '/case-insensitivity',
      answer: V1,
      told: {
        'x-lowercase-add': 'lowercase-add',
        'x-mixedcase-add-1': 'mixedcase-add-1',
        'x-mixedcase-add-2': 'mixedcase-add-2',
        'x-uppercase-add': 'uppercase-add',
      },
    },
    {
      path: '/response-and-request-header-modifiers',
      headers: {
        'X-Header-Remove': 'remove-val',
        'X-Header-Add-Append': 'append-val-1',
        ...echoed({ 'X-Header-Set-2': 'set-val-2', 'X-Header-Remove-1': 'r' }),
      },
      answer: V1,
      seen: {
        'x-header-set': 'set-overwrites-values',
        'x-header-add': 'header-val-1',
        'x-header-add-append': 'append-val-1, header-val-2',
        'x-header-remove': undefined,
      },
      told: {
        'x-header-set-1': 'header-set-1',
        'x-header-set-2': 'header-set-2',
        'x-header-add-1': 'header-add-1',
        'x-header-remove-1': undefined,
      },
    },
  ],
  'httproute-request-header-modifier-backend-weights': [],
  'httproute-weight': [],
  'httproute-timeout-request': [
    at('/request-timeout', V1),
    at('/request-timeout?delay=700', 504),
    at('/disable-request-timeout', V1),
    at('/disable-request-timeout?delay=700', V1),
  ],
  'httproute-timeout-backend-request': [
    at('/backend-timeout', V1),
    at('/backend-timeout?delay=700', 504),
    at('/disable-backend-timeout?delay=700', V1),
  ],
  'httproute-backend-protocol-websocket': [],
  'listenerset-allowed-routes-namespaces': [
    ['all', V1, V2, V3, 404, 404] as const,
    ['same', V1, 404, 404, 404, 404] as const,
    ['selector', 404, V2, 404, 404, 404] as const,
    ['cross-ns-same', 404, 404, 404, V1, 404] as const,
  ].flatMap(([listener, ...answers]) =>
    ['same-namespace', 'selected-namespace', 'not-in-selected-namespace', 'listenerset-namespace', 'gateway-namespace'].map((route, at) =>
      on(
        `listener-set-listener-allowed-routes-${listener}.com`,
        route.startsWith('not-') ? `/route-${route}` : `/route-in-${route}`,
        answers[at] ?? '',
      ),
    ),
  ),
  'listenerset-dual-parentref-independence': [
    on('gw-dual.com', '/dualboth', V1),
    on('ls-dual.com', '/dualboth', V1),
    on('gw-dual.com', '/dualone', 404),
    on('ls-dual.com', '/dualone', V2),
  ],
};

/** Each listener sees the routes attached to it alone, whatever less specific ones match. */
function isolation(kind: 'attaches-to' | 'hosts'): Pair[] {
  const paths = ['/empty-hostname', '/wildcard-example-com', '/wildcard-foo-example-com', '/abc-foo-example-com'];
  const of = (host: string, own: string): Pair[] => paths.map((path) => on(host, path, path === own ? V1 : 404));
  return [
    ...(kind === 'hosts' ? [] : of('bar.com', '/empty-hostname')),
    ...of('bar.example.com', '/wildcard-example-com'),
    ...of('bar.foo.example.com', '/wildcard-foo-example-com'),
    ...of('abc.foo.example.com', '/abc-foo-example-com'),
  ];
}

const GRPC_SERVICE = 'gateway_api_conformance.echo_basic.grpcecho.GrpcEcho';
const UNIMPLEMENTED = 12;
const [G1, G2, G3] = ['grpc-infra-backend-v1', 'grpc-infra-backend-v2', 'grpc-infra-backend-v3'] as const;
const call = (method: string, answer: string | number, headers: Headers = {}, host = 'a.test'): Pair => ({
  path: `/${GRPC_SERVICE}/${method}`,
  answer,
  headers,
  host,
});
const GRPC_PAIRS: Readonly<Record<string, readonly Pair[]>> = {
  'grpcroute-exact-method-matching': [call('Echo', G1), call('EchoTwo', G2), call('EchoThree', UNIMPLEMENTED)],
  'grpcroute-named-rule': [call('Echo', G1), call('EchoTwo', G2)],
  'grpcroute-header-matching': [
    call('Echo', G1, { version: 'one' }),
    call('Echo', G2, { version: 'two' }),
    call('Echo', G1, { version: 'two', color: 'orange' }),
    call('Echo', G1, { color: 'blue' }),
    call('Echo', G1, { color: 'green' }),
    call('Echo', G2, { color: 'red' }),
    call('Echo', G2, { color: 'yellow' }),
    call('Echo', UNIMPLEMENTED, { color: 'orange' }),
    call('Echo', UNIMPLEMENTED, { 'some-other-header': 'one' }),
    call('Echo', UNIMPLEMENTED),
  ],
  'grpcroute-listener-hostname-matching': [
    call('Echo', G1, {}, 'bar.com'),
    call('Echo', G2, {}, 'foo.bar.com'),
    ...['baz.bar.com', 'boo.bar.com', 'multiple.prefixes.bar.com', 'multiple.prefixes.foo.com'].map((host) => call('Echo', G3, {}, host)),
    ...['foo.com', 'no.matching.host'].map((host) => call('Echo', UNIMPLEMENTED, {}, host)),
  ],
  'grpcroute-request-header-modifier': [
    { ...call('Echo', G1, { 'x-header-set': 'other' }), seen: { 'x-header-set': 'set-overwrites-values' } },
    {
      ...call('EchoTwo', G2, { 'x-header-set-2': 'a', 'x-header-add-2': 'b', 'x-header-remove-1': 'c' }),
      seen: {
        'x-header-set-1': 'header-set-1',
        'x-header-set-2': 'header-set-2',
        'x-header-add-1': 'header-add-1',
        'x-header-add-2': 'b, header-add-2',
        'x-header-remove-1': undefined,
      },
    },
  ],
  'grpcroute-weight': [],
};
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
    void response.end(JSON.stringify({ backend: manifests.nameAt(asked.socket.localAddress), headers: asked.headers }));
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
}, 30_000);

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
