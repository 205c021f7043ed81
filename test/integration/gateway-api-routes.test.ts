// The manifests of the Gateway API's own conformance tests, on the real `weft proxy --static` process with real backends: what its HTTPRoutes ask
// for is what clients see. Gateways stand on a loopback address of this file's own, so that they have the ports of the manifests.
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, type IncomingHttpHeaders, type OutgoingHttpHeaders, request } from 'node:http';
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect } from '@jest/globals';
import { parseAllDocuments } from 'yaml';
import { EchoBackend, type Seen } from '../lab/echo-backend.js';
import { eventually } from '../lab/eventually.js';
import { MODIFIED, REDIRECTS } from '../lab/gateway-api-pairs.js';
import { ProxyProcess } from '../lab/proxy-process.js';
import { testdata, withTestdata } from '../lab/testdata.js';

const { describe, test } = withTestdata;
const ADDRESS = '127.71.0.1';
const NAMESPACE = 'gateway-conformance-infra';
const BACKENDS = ['infra-backend-v1', 'infra-backend-v2', 'infra-backend-v3'] as const;
/** Their routes share Gateways: those without a host name get one of their file. */
const FILES = [
  'httproute-303-redirect',
  'httproute-307-redirect',
  'httproute-308-redirect',
  'httproute-backend-request-redirect',
  'httproute-cors',
  'httproute-redirect-host-and-status',
  'httproute-redirect-path',
  'httproute-redirect-port',
  'httproute-redirect-port-and-scheme',
  'httproute-redirect-scheme',
  'httproute-request-mirror',
  'httproute-request-multiple-mirrors',
  'httproute-request-percentage-mirror',
  'httproute-retry',
  'httproute-retry-connection-error',
  'httproute-retry-with-timeouts',
  'httproute-rewrite-host',
  'httproute-rewrite-path',
];
const LISTENER_SETS = 'listenerset-http-routing';

interface Doc {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly spec: Record<string, unknown>;
}

const hostOf = (file: string): string => `${file}.test`;

/** As they are, on an address of their own: what they have hosts for is in their listeners. */
const SETS_ADDRESS = '127.71.0.2';

function listenerSets(): object[] {
  return parseAllDocuments(testdata(`gateway-api-manifests/${LISTENER_SETS}.yaml`)).flatMap((doc) => {
    const value = doc.toJS() as Doc | null;
    if (value?.kind !== 'Gateway') return value === null ? [] : [value];
    return [{ ...value, spec: { ...value.spec, gatewayClassName: 'weft', addresses: [{ value: SETS_ADDRESS }] } }];
  });
}

function read(name: string): Doc[] {
  return parseAllDocuments(testdata(`gateway-api-manifests/${name}.yaml`)).flatMap((doc) => {
    const value = doc.toJS() as Doc | null;
    if (value === null) return [];
    return value.kind === 'HTTPRoute' ? [{ ...value, spec: { hostnames: [hostOf(name)], ...value.spec } }] : [value];
  });
}

/** With the address and class that are ours, without TLS listeners. */
function placed(doc: Doc): Doc[] {
  if (doc.kind !== 'Gateway') return ['HTTPRoute', 'Namespace'].includes(doc.kind) ? [doc] : [];
  const listeners = (doc.spec.listeners as { protocol: string }[]).filter(({ protocol }) => protocol === 'HTTP');
  if (listeners.length === 0) return [];
  return [{ ...doc, spec: { ...doc.spec, gatewayClassName: 'weft', addresses: [{ value: ADDRESS }], listeners } }];
}

function service(name: string, port: number): object[] {
  return [
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name, namespace: NAMESPACE },
      spec: { ports: [{ name: 'http', port: 8080, appProtocol: 'http' }] },
    },
    {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name: `${name}-1`, namespace: NAMESPACE, labels: { 'kubernetes.io/service-name': name } },
      addressType: 'IPv4',
      ports: [{ name: 'http', port }],
      endpoints: [{ addresses: ['127.0.0.1'] }],
    },
  ];
}

const folder = mkdtempSync(join(tmpdir(), 'wga-'));
const backends = new Map<string, EchoBackend>();
let proxy: ProxyProcess;
const agent = new Agent({ keepAlive: true, maxSockets: 4 });

beforeAll(async () => {
  for (const name of BACKENDS) backends.set(name, await EchoBackend.start(name));
  const base = read('manifests').filter(
    ({ kind, metadata }) => kind === 'Namespace' || (kind === 'Gateway' && metadata.name === 'same-namespace'),
  );
  const more = FILES.flatMap(read);
  const catchAll: Doc = { kind: 'HTTPRoute', metadata: { name: 'extra', namespace: NAMESPACE }, spec: EXTRA_ROUTE };
  const toHttps: Doc = {
    kind: 'HTTPRoute',
    metadata: { name: 'to-https', namespace: NAMESPACE },
    spec: {
      parentRefs: [{ name: 'same-namespace' }],
      rules: [
        { matches: [{ path: { value: '/to-https' } }], filters: [{ type: 'RequestRedirect', requestRedirect: { scheme: 'https' } }] },
      ],
    },
  };
  const objects = [
    { apiVersion: 'gateway.networking.k8s.io/v1', ...toHttps },
    ...[...base, ...more].flatMap(placed),
    ...listenerSets(),
    { apiVersion: 'gateway.networking.k8s.io/v1', ...catchAll },
    ...[...backends].flatMap(([name, { port }]) => service(name, port)),
  ];
  const file = join(folder, 'all.yaml');
  writeFileSync(file, objects.map((object) => JSON.stringify(object)).join('\n---\n'));
  proxy = ProxyProcess.start(file, folder);
  await proxy.says('"ready"');
});

afterAll(async () => {
  agent.destroy();
  await proxy.kill();
  for (const backend of backends.values()) backend.close();
  rmSync(folder, { recursive: true, force: true });
});

const mirrorTo = (name: string): object => ({ type: 'RequestMirror', requestMirror: { backendRef: { name, port: 8080 } } });
const corsOf = (origin: string): object => ({ type: 'CORS', cors: { allowOrigins: [origin], allowMethods: ['PUT'] } });

/** What the conformance manifests leave to implementations: regular expressions. */
const EXTRA_ROUTE = {
  parentRefs: [{ name: 'same-namespace' }],
  hostnames: ['regex.test'],
  rules: [
    {
      matches: [{ path: { type: 'RegularExpression', value: '/v[0-9]+/items/.*' } }],
      backendRefs: [{ name: 'infra-backend-v2', port: 8080 }],
    },
    { matches: [{ path: { type: 'Exact', value: '/v1/items/exact' } }], backendRefs: [{ name: 'infra-backend-v3', port: 8080 }] },
    {
      matches: [
        { path: { value: '/h' }, headers: [{ type: 'RegularExpression', name: 'User-Agent', value: '.*(Chrome|Firefox)/[0-9]+.*' }] },
      ],
      backendRefs: [{ name: 'infra-backend-v2', port: 8080 }],
    },
    {
      matches: [{ path: { value: '/q' }, queryParams: [{ type: 'RegularExpression', name: 'id', value: '[0-9]{3}' }] }],
      backendRefs: [{ name: 'infra-backend-v3', port: 8080 }],
    },
    {
      matches: [{ path: { value: '/cors-of-get' }, method: 'GET' }],
      filters: [{ type: 'CORS', cors: { allowOrigins: ['https://a.test'], allowCredentials: true, exposeHeaders: ['*'] } }],
      backendRefs: [{ name: 'infra-backend-v1', port: 8080 }],
    },
    {
      matches: [{ path: { value: '/own-mirror' } }],
      filters: [mirrorTo('infra-backend-v2')],
      backendRefs: [
        { name: 'infra-backend-v1', port: 8080, filters: [mirrorTo('infra-backend-v3')] },
        { name: 'infra-backend-v2', port: 8080 },
      ],
    },
    {
      matches: [{ path: { value: '/own-cors' }, method: 'PUT' }],
      filters: [corsOf('https://rule.test')],
      backendRefs: [{ name: 'infra-backend-v1', port: 8080, filters: [corsOf('https://backend.test')] }],
    },
    { backendRefs: [{ name: 'infra-backend-v1', port: 8080 }] },
  ],
};

interface Asked {
  readonly host?: string;
  readonly address?: string;
  readonly port?: number;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

function ask(path: string, { host, address, port, method, headers, body }: Asked = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        host: address ?? ADDRESS,
        port: port ?? 80,
        path,
        method: method ?? 'GET',
        agent,
        headers: { host: host ?? 'example.com', ...headers },
      },
      (response) => {
        let text = '';
        response.on('data', (chunk) => {
          text += chunk;
        });
        response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }));
      },
    );
    sent.on('error', reject);
    sent.end(body);
  });
}

async function seenBy(path: string, asked: Asked = {}): Promise<Seen> {
  const { status, text } = await ask(path, asked);
  expect(status).toBe(200);
  return JSON.parse(text) as Seen;
}

describe('redirects', () => {
  test.each(REDIRECTS)('%s: %s is answered %i with %s', async (file, path, status, location, port = 80) => {
    const { status: answered, headers } = await ask(path, { host: hostOf(file), port });
    expect([answered, headers.location]).toEqual([status, location.replace('HOST', hostOf(file))]);
  });
});

test('a redirect of a request without a host is refused: there is nothing to send it to', async () => {
  const socket = connect(80, ADDRESS);
  socket.write('GET /to-https HTTP/1.0\r\n\r\n');
  const [head] = (await once(socket, 'data')) as [Buffer];
  expect(head.toString()).toMatch(/^HTTP\/1\.[01] 400 /);
  socket.destroy();
});

describe('CORS', () => {
  const preflight = (path: string, origin: string, method = 'GET', headers = 'x-header-1, x-header-2') =>
    ask(path, {
      host: hostOf('httproute-cors'),
      method: 'OPTIONS',
      headers: { origin, 'access-control-request-method': method, 'access-control-request-headers': headers },
    });

  test.each(['https://www.foo.com', 'https://www.bar.com', 'https://xpto.www.bar.com'])(
    'a preflight request of %s is answered',
    async (origin) => {
      const { status, headers } = await preflight('/cors-1', origin);
      expect(status).toBe(200);
      expect(headers).toMatchObject({
        'access-control-allow-origin': origin,
        'access-control-allow-methods': 'GET, OPTIONS',
        'access-control-allow-headers': 'x-header-1, x-header-2',
        'access-control-expose-headers': 'x-header-3, x-header-4',
        'access-control-allow-credentials': 'true',
        'access-control-max-age': '3600',
      });
    },
  );

  test.each(['https://foobar.com', 'http://www.foo.com', 'https://bar.com', 'https://www.bar.com.evil.test'])(
    'nothing is allowed to %s',
    async (origin) => {
      for (const answer of [
        await preflight('/cors-1', origin),
        await ask('/cors-1', { host: hostOf('httproute-cors'), headers: { origin } }),
      ]) {
        expect(Object.keys(answer.headers).filter((name) => name.startsWith('access-control-'))).toEqual([]);
        expect(answer.headers.vary).toBe('origin');
        expect(answer.status).toBeLessThan(300);
      }
    },
  );

  test('the answer to a request proper says what its origin may read', async () => {
    const { status, headers } = await ask('/cors-1', { host: hostOf('httproute-cors'), headers: { origin: 'https://www.foo.com' } });
    expect(status).toBe(200);
    expect(headers).toMatchObject({
      'access-control-allow-origin': 'https://www.foo.com',
      'access-control-allow-credentials': 'true',
      'access-control-expose-headers': 'x-header-3, x-header-4',
      vary: 'origin',
    });
    expect((await ask('/cors-1', { host: hostOf('httproute-cors') })).headers['access-control-allow-origin']).toBeUndefined();
  });

  test('caches hear that answers vary by origin, of requests without one too', async () => {
    expect((await ask('/cors-1', { host: hostOf('httproute-cors') })).headers.vary).toBe('origin');
  });

  test('a rule for one method sees its preflight request, and no other’s', async () => {
    const of = (method: string) =>
      ask('/cors-of-get', {
        host: 'regex.test',
        method: 'OPTIONS',
        headers: { origin: 'https://a.test', 'access-control-request-method': method },
      });
    expect(await of('GET')).toMatchObject({ status: 200, headers: { 'access-control-allow-origin': 'https://a.test' } });
    expect((await of('PUT')).headers['access-control-allow-origin']).toBeUndefined();
  });

  test('to who shows credentials the exposed headers are named', async () => {
    const { headers } = await ask('/cors-of-get', { host: 'regex.test', headers: { origin: 'https://a.test' } });
    expect(headers['access-control-expose-headers']?.toLowerCase().split(', ')).toEqual(expect.arrayContaining(['content-type', 'date']));
  });

  test('what may be anything is what was asked for, to who shows credentials, else "*"', async () => {
    const asked = await preflight('/cors-wildcard-methods-headers', 'https://foobar.com', 'PUT', 'x-any');
    expect(asked.headers).toMatchObject({
      'access-control-allow-origin': 'https://foobar.com',
      'access-control-allow-methods': 'PUT',
      'access-control-allow-headers': 'x-any',
    });
    const anyMethod = await preflight('/cors-2', 'https://www.foo.com', 'POST');
    expect(anyMethod.headers).toMatchObject({ 'access-control-allow-origin': 'https://www.foo.com', 'access-control-allow-methods': '*' });
    for (const origin of ['https://foobar.com', 'https://foobar.com:12345']) {
      const { headers } = await preflight('/cors-wildcard-origin', origin, 'PUT');
      expect(headers).toMatchObject({ 'access-control-allow-origin': origin, 'access-control-allow-methods': 'PUT' });
      expect(headers['access-control-allow-credentials']).toBeUndefined();
    }
    const open = await preflight('/cors-wildcard-methods-headers-unauth', 'https://foobar.com', 'PUT', 'x-any');
    expect(open.headers).toMatchObject({ 'access-control-allow-methods': '*', 'access-control-allow-headers': '*' });
    expect(open.headers['access-control-allow-credentials']).toBeUndefined();
  });
});

describe('ListenerSets', () => {
  const [one, two] = ['listener-set-http-routing-1', 'listener-set-http-routing-2'];
  const all = ['gateway-listener-1', 'gateway-listener-2', ...[one, two].flatMap((set) => [`${set}-listener-1`, `${set}-listener-2`])];
  test.each<[path: string, backend: string, listeners: readonly string[]]>([
    ['/route', 'infra-backend-v1', all],
    ['/gateway-route', 'infra-backend-v2', all.slice(0, 2)],
    ['/gateway-section-route', 'infra-backend-v3', all.slice(0, 1)],
  ])('%s is of %s by the listeners of its parents alone', async (path, backend, listeners) => {
    for (const listener of all) {
      const { status, text } = await ask(path, { address: SETS_ADDRESS, host: `${listener}.com` });
      expect([listener, status, status === 200 && (JSON.parse(text) as Seen).backend]).toEqual(
        listeners.includes(listener) ? [listener, 200, backend] : [listener, 404, false],
      );
    }
  });
});

describe('regular expressions', () => {
  const host = 'regex.test';
  test.each<[path: string, backend: string, headers?: Readonly<Record<string, string>>]>([
    ['/v12/items/7', 'infra-backend-v2'],
    ['/v12/items/7?x=1', 'infra-backend-v2'],
    ['/vx/items/7', 'infra-backend-v1'],
    ['/a/v1/items/7', 'infra-backend-v1'],
    ['/v1/items/exact', 'infra-backend-v3'],
    ['/h', 'infra-backend-v2', { 'user-agent': 'Mozilla/5.0 Chrome/120 Safari' }],
    ['/h', 'infra-backend-v1', { 'user-agent': 'curl/8' }],
    ['/q?a=1&id=123', 'infra-backend-v3'],
    ['/q?id=1234', 'infra-backend-v1'],
    ['/q', 'infra-backend-v1'],
  ])('%s goes to %s', async (path, backend, headers = {}) => {
    // Twice: the second verdict is a remembered one.
    for (let i = 0; i < 2; i++) expect((await seenBy(path, { host, headers })).backend).toBe(backend);
  });
});

describe('retries', () => {
  test.each<[path: string, status: number, failures: number, answered: number]>([
    ['/retry/code-500-attempts-3', 500, 2, 200],
    ['/retry/code-500-attempts-3', 500, 4, 500],
    ['/retry/code-500-attempts-3', 503, 1, 503],
    ['/retry/code-all-attempts-2', 503, 2, 200],
  ])('%s with %i, %i times: %i', async (path, status, failures, answered) => {
    backends.get('infra-backend-v3')!.failNext(failures, (_, response) => response.writeHead(status).end());
    expect((await ask(path, { host: hostOf('httproute-retry'), method: 'POST', body: 'kept' })).status).toBe(answered);
  });

  test.each<[path: string, stalls: number, answered: number]>([
    ['/retry/backend-request-timeout-200ms', 2, 200],
    ['/retry/backend-request-timeout-200ms', 3, 504],
    ['/retry/request-timeout-200ms', 1, 200],
    ['/retry/request-timeout-200ms', 6, 504],
  ])('%s with %i attempts that get no answer: %i', async (path, stalls, answered) => {
    const began = performance.now();
    backends.get('infra-backend-v3')!.failNext(stalls, () => {});
    expect((await ask(path, { host: hostOf('httproute-retry-with-timeouts') })).status).toBe(answered);
    if (path.startsWith('/retry/request')) expect(performance.now() - began).toBeLessThan(1_000);
    backends.get('infra-backend-v3')!.failNext(0, () => {});
  });

  test('a connection that is cut before an answer is tried again', async () => {
    backends.get('infra-backend-v3')!.failNext(2, (incoming) => incoming.socket.destroy());
    expect((await ask('/retry/no-status-code-attempts-3', { host: hostOf('httproute-retry-connection-error') })).status).toBe(200);
  });
});

/** What the mirrors of "/multi-mirror" got; resolves when both have got something. */
async function mirrored(): Promise<readonly (readonly Seen[])[]> {
  const [two, three] = [backends.get('infra-backend-v2')!.seen, backends.get('infra-backend-v3')!.seen];
  await eventually(
    async () => two.length + three.length,
    (count) => count === 2,
  );
  return [two, three];
}

test('the mirrors of a rule get copies, body and all, and the client the answer of the backend', async () => {
  for (const backend of backends.values()) backend.seen.length = 0;
  expect(
    await seenBy('/multi-mirror', { host: hostOf('httproute-request-multiple-mirrors'), method: 'POST', body: 'x'.repeat(3_000) }),
  ).toMatchObject({ backend: 'infra-backend-v1' });
  for (const seen of await mirrored()) expect(seen).toMatchObject([{ path: '/multi-mirror', method: 'POST', body: 'x'.repeat(3_000) }]);
});

test.each([
  'httproute-request-mirror /mirror-and-modify-headers',
  'httproute-request-multiple-mirrors /multi-mirror-and-modify-request-headers',
])('%s: backend and mirrors see the changed headers', async (which) => {
  const [file = '', path = ''] = which.split(' ');
  for (const backend of backends.values()) backend.seen.length = 0;
  const mirrors = [...backends.values()].slice(1, file.includes('multiple') ? 3 : 2);
  const answer = await seenBy(path, { host: hostOf(file), headers: MODIFIED.headers });
  const copies = await eventually(
    () => Promise.resolve(mirrors.flatMap(({ seen }) => seen)),
    (found) => found.length === mirrors.length,
  );
  expect(answer.backend).toBe('infra-backend-v1');
  for (const { headers } of [answer, ...copies])
    expect(Object.fromEntries(Object.keys(MODIFIED.seen).map((name) => [name, headers[name]]))).toEqual(MODIFIED.seen);
});

/** Of 300: a share lies within 0.12 of what it should be in all but one of 10,000 runs. */
const MIRRORED = 300;

test.each([
  ['/percent-mirror', 0.2],
  ['/percent-mirror-fraction', 0.5],
  ['/percent-mirror-and-modify-headers', 0.35],
])('%s: the mirror gets that share', async (path, share) => {
  const mirror = backends.get('infra-backend-v2')!;
  mirror.seen.length = 0;
  const before = await proxy.counter('mirrors_sent');
  for (let i = 0; i < MIRRORED; i++) await ask(path, { host: hostOf('httproute-request-percentage-mirror') });
  await eventually(
    () => proxy.counter('mirrors_sent'),
    (sent) => sent > before && sent - before === mirror.seen.length,
  );
  expect(Math.abs(mirror.seen.length / MIRRORED - share)).toBeLessThan(0.12);
});

test('mirrors of one backend get copies of its requests, those of the rule of all', async () => {
  for (const backend of backends.values()) backend.seen.length = 0;
  let ofFirst = 0;
  const count = 40;
  for (let i = 0; i < count; i++) if ((await seenBy('/own-mirror', { host: 'regex.test' })).backend === 'infra-backend-v1') ofFirst++;
  const seen = () => Promise.resolve([...backends.values()].map((backend) => backend.seen.length));
  const expected = [ofFirst, count - ofFirst + count, ofFirst];
  expect(await eventually(seen, (found) => found.join() === expected.join())).toEqual(expected);
  expect(ofFirst).toBeGreaterThan(0);
});

test('CORS of one backend is in place of the rule’s', async () => {
  const asked = (origin: string, method: string) =>
    ask('/own-cors', { host: 'regex.test', method, headers: { origin, 'access-control-request-method': 'PUT' } });
  for (const method of ['OPTIONS', 'PUT']) {
    const { status, headers } = await asked('https://backend.test', method);
    expect([status, headers['access-control-allow-origin'], headers.vary]).toEqual([200, 'https://backend.test', 'origin']);
    expect((await asked('https://rule.test', method)).headers['access-control-allow-origin']).toBeUndefined();
  }
  expect((await asked('https://backend.test', 'OPTIONS')).headers['access-control-allow-methods']).toBe('PUT');
});

describe('over HTTP/2', () => {
  let session: ClientHttp2Session;
  beforeAll(() => {
    session = connectHttp2(`http://${ADDRESS}`);
  });
  afterAll(() => session.destroy());

  async function call(host: string, path: string, headers: OutgoingHttpHeaders = {}, body = '') {
    const stream = session.request({ ':authority': host, ':path': path, ...headers }, { endStream: body === '' });
    if (body !== '') stream.end(body);
    const [head] = (await once(stream, 'response')) as [Record<string, string>];
    let text = '';
    for await (const chunk of stream) text += chunk;
    return { status: Number(head[':status']), head, text };
  }

  test('redirects, rewrites, CORS and patterns are the same', async () => {
    const redirect = await call(hostOf('httproute-redirect-path'), '/original-prefix/lemon?q=1');
    expect([redirect.status, redirect.head.location]).toEqual([
      302,
      `http://${hostOf('httproute-redirect-path')}/replacement-prefix/lemon?q=1`,
    ]);
    expect(JSON.parse((await call(hostOf('httproute-rewrite-path'), '/prefix/one/two?a=b')).text)).toMatchObject({ path: '/one/two?a=b' });
    expect(JSON.parse((await call('rewrite.example', '/one')).text)).toMatchObject({ headers: { host: 'one.example.org' } });
    const origin = { origin: 'https://www.foo.com' };
    const asked = { ':method': 'OPTIONS', ...origin, 'access-control-request-method': 'GET' };
    expect((await call(hostOf('httproute-cors'), '/cors-1', asked)).head).toMatchObject({
      ':status': 200,
      'access-control-allow-origin': origin.origin,
      'access-control-allow-methods': 'GET, OPTIONS',
    });
    expect((await call(hostOf('httproute-cors'), '/cors-1', origin)).head).toMatchObject({
      ':status': 200,
      'access-control-allow-origin': origin.origin,
    });
    const backendOf = async (path: string, headers: OutgoingHttpHeaders = {}) =>
      (JSON.parse((await call('regex.test', path, headers)).text) as Seen).backend;
    expect(await backendOf('/h', { 'user-agent': 'Mozilla/5.0 Chrome/120 Safari' })).toBe('infra-backend-v2');
    expect(await backendOf('/h', { 'user-agent': 'curl/8' })).toBe('infra-backend-v1');
    expect(await backendOf('/v7/items/1')).toBe('infra-backend-v2');
    expect(await backendOf('/q?id=123')).toBe('infra-backend-v3');
  });

  test('mirrors get copies, body and all', async () => {
    for (const backend of backends.values()) backend.seen.length = 0;
    const sent = { ':method': 'POST', cookie: 'a=b', 'x-own': 'kept' };
    const answer = await call(hostOf('httproute-request-multiple-mirrors'), '/multi-mirror?x=1', sent, 'y'.repeat(20_000));
    expect(JSON.parse(answer.text)).toMatchObject({ backend: 'infra-backend-v1' });
    const expected = { path: '/multi-mirror?x=1', method: 'POST', body: 'y'.repeat(20_000), headers: { cookie: 'a=b', 'x-own': 'kept' } };
    for (const seen of await mirrored()) expect(seen).toMatchObject([expected]);
  });

  test('an answer that the route declines is asked for again', async () => {
    backends.get('infra-backend-v3')!.failNext(2, (_, response) => response.writeHead(500).end());
    const answer = await call(hostOf('httproute-retry'), '/retry/code-500-attempts-3', { ':method': 'POST' }, 'kept');
    expect([answer.status, (JSON.parse(answer.text) as Seen).body]).toEqual([200, 'kept']);
  });
});
