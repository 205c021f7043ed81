// Filters on the real `weft proxy --static` process: what they change, what they answer, and that what a hostile one does stays its own.
import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { connect as connectHttp2, createServer as createHttp2Server } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { EchoBackend, type Seen } from '../lab/echo-backend.js';
import { eventually } from '../lab/eventually.js';
import { extension, type FilterUnderTest, filterManifest, pathMatch, routeManifest, ruleOf } from '../lab/filter-manifests.js';
import { freePort } from '../lab/ports.js';
import { accessLog, gatewayManifest, ProxyProcess, serviceManifest } from '../lab/proxy-process.js';

const folder = mkdtempSync(join(tmpdir(), 'wflt-'));
const [file, log] = [join(folder, 'edge.yaml'), join(folder, 'access.log')];
const example = (name: string): string => readFileSync(`api/filter/package/examples/${name}.ts`, 'utf8');

const respond = (expression: string): string =>
  `export const onRequest = (request: any) => ({respond: {status: 200, body: String(${expression})}});`;
const OPEN = { failurePolicy: 'FailOpen', timeout: '200ms' };
const FILTERS: readonly FilterUnderTest[] = [
  { name: 'api-key', module: example('api-key') },
  { name: 'canary', module: example('canary-by-cookie') },
  { name: 'security', module: example('security-headers') },
  {
    name: 'changes',
    module: `import type { OnRequest } from '@weft/filter';
      export const onRequest: OnRequest = ({ headers }) => ({
        headers: { remove: ['x-old'], set: { 'x-set': 'one' }, add: { 'x-add': ['a', 'b'] } }, path: '/elsewhere?q=1', host: 'other.test',
      });`,
    spec: { timeout: '10s' },
  },
  {
    name: 'sees',
    module: respond(
      'JSON.stringify([request.method, request.path, request.authority, request.headers.get("X-A"), request.source, request.destination])',
    ),
  },
  { name: 'first', module: `export const onRequest = () => ({ headers: { add: { 'x-order': 'first' } } });`, spec: { priority: 10 } },
  {
    name: 'second',
    module: `export const onRequest = (r: any) => ({ headers: { set: { 'x-order': r.headers.get('x-order') + ' second' } } });`,
  },
  { name: 'untyped', module: `export const onRequest = () => ({ headers: { remove: ['content-type'] } });` },
  { name: 'loop', module: 'export const onRequest = () => { for (;;); };', spec: { timeout: '200ms' } },
  { name: 'loop-open', module: 'export const onRequest = () => { for (;;); };', spec: OPEN },
  {
    name: 'bomb',
    module: `const kept: any[] = []; export const onRequest = () => { for (;;) kept.push('x'.repeat(2 ** 20).split('')); };`,
    spec: { timeout: '10s', memoryMiB: 16 },
  },
  {
    name: 'bad',
    module: `const ways: Record<string, () => unknown> = {
        throws: () => { throw new Error('no'); },
        promise: async () => ({}),
        crlf: () => ({ headers: { set: { 'x-a': 'b\\r\\nx-evil: 1' } } }),
        'crlf-path': () => ({ path: '/a HTTP/1.1\\r\\nx-evil: 1\\r\\n\\r\\n' }),
        framing: () => ({ headers: { set: { 'transfer-encoding': 'chunked' } } }),
        huge: () => ({ respond: { status: 200, body: 'x'.repeat(1e6) } }),
        many: () => ({ headers: { set: Object.fromEntries([...Array(1000)].map((_, i) => ['x-' + i, 'v'])) } }),
        status: () => ({ respond: { status: 99 } }),
        number: () => 3,
      };
      export const onRequest = (request: any): any => ways[request.path.slice('/bad/'.length)]!();`,
  },
  { name: 'throws-open', module: `export const onRequest = () => { throw new Error('no'); };`, spec: OPEN },
  {
    name: 'polluter',
    module: `Object.prototype.respond = { status: 418 } as any; (JSON as any).stringify = () => '{"result":{"respond":{"status":418}}}'; export const onRequest = () => ({});`,
  },
  {
    name: 'escape',
    module: respond(`(() => {
      const tries = [
        () => (function () {} as any).constructor('return process')(),
        () => request.headers.constructor.constructor('return process')(),
        () => (globalThis as any).constructor.constructor('return process')(),
        () => (async () => {}).constructor('return process')(),
        () => (0, eval)('process'),
        () => new (globalThis as any).Function('return process')(),
      ];
      const names = ['process', 'require', 'Buffer', 'fetch', 'setTimeout', 'WebAssembly', 'SharedArrayBuffer', 'Uint8Array', 'queueMicrotask'];
      return JSON.stringify([tries.map((each) => { try { return typeof each(); } catch { return 'refused'; } }), names.filter((name) => name in globalThis)]);
    })()`),
  },
];

let [port, echo, canary] = [0, {} as EchoBackend, {} as EchoBackend];
let proxy: ProxyProcess;
const h2Server = createHttp2Server(
  (message, response) => void response.end(JSON.stringify({ path: message.url, headers: message.headers })),
);

function manifests(filters: readonly FilterUnderTest[]): string {
  const backendRefs = [{ name: 'echo', port: 80 }];
  const services = [
    serviceManifest('echo', echo.port),
    serviceManifest('next', canary.port),
    serviceManifest('h2', (h2Server.address() as AddressInfo).port, 'kubernetes.io/h2c'),
  ];
  const objects = [
    ...filters
      .filter(({ name }) => name !== 'canary' && name !== 'first')
      .map(({ name }) => routeManifest(name, ruleOf(`/${name}`, name === 'second' ? ['second', 'first'] : [name]))),
    routeManifest(
      'others',
      ruleOf('/gone', ['gone']),
      ruleOf('/h2', ['changes'], 'h2'),
      ruleOf('/h2-untyped', ['untyped'], 'h2'),
      ruleOf('/canary', ['canary']),
      {
        matches: [pathMatch('/canary', [{ name: 'x-track', value: 'canary' }])],
        filters: [extension('canary')],
        backendRefs: [{ name: 'next', port: 80 }],
      },
      { matches: [pathMatch('/')], backendRefs },
    ),
    ...filters.map(filterManifest),
  ];
  return `${gatewayManifest(`{name: http, port: ${port}, protocol: HTTP}`)}${services.join('')}\n${objects.join('\n---\n')}`;
}

beforeAll(async () => {
  [echo, canary] = await Promise.all([EchoBackend.start('echo'), EchoBackend.start('next')]);
  await new Promise<void>((resolve) => h2Server.listen(0, '127.0.0.1', resolve));
  port = await freePort();
  writeFileSync(file, manifests(FILTERS));
  proxy = ProxyProcess.start(file, folder, '--access-log', 'all', '--access-log-file', log, '--metrics-listen', '127.0.0.1:0');
  await proxy.says('"ready"');
});

afterAll(async () => {
  await proxy?.kill();
  echo?.close();
  canary?.close();
  h2Server.close();
  rmSync(folder, { recursive: true, force: true });
});

const get = (path: string, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(`http://127.0.0.1:${port}${path}`, { headers });
const seenAt = async (path: string, headers: Record<string, string> = {}): Promise<Seen> =>
  (await (await get(path, headers)).json()) as Seen;

describe('what a filter may do', () => {
  test('it changes headers, path and host of what is sent, and the access log keeps what the client asked for', async () => {
    const seen = await seenAt('/changes?x=1', { 'x-old': '1', 'x-set': '0' });
    expect(seen.path).toBe('/elsewhere?q=1');
    expect(seen.headers).toMatchObject({ host: 'other.test', 'x-set': 'one', 'x-add': 'a, b' });
    expect(seen.headers['x-old']).toBeUndefined();
    const lines = await eventually(
      async () => accessLog(log),
      (all) => all.some(({ path }) => path === '/changes?x=1'),
    );
    expect(lines.find(({ path }) => path === '/changes?x=1')).toMatchObject({ status: 200 });
  });

  test('so it does between HTTP/2 and either protocol', async () => {
    const client = connectHttp2(`http://127.0.0.1:${port}`);
    for (const path of ['/changes', '/h2']) {
      const stream = client.request({ ':path': path, 'x-old': '1', authorization: 'secret' });
      let text = '';
      for await (const piece of stream) text += piece;
      const { path: sent, headers } = JSON.parse(text) as Seen;
      expect(sent).toBe('/elsewhere?q=1');
      expect(headers).toMatchObject({ 'x-set': 'one', authorization: 'secret' });
      expect(headers['x-old']).toBeUndefined();
      expect(headers[':authority'] ?? headers.host).toBe('other.test');
    }
    client.close();
    expect((await seenAt('/h2')).path).toBe('/elsewhere?q=1');
  });

  test('gRPC-Web stays gRPC-Web without its content type', async () => {
    const headers = { 'content-type': 'application/grpc-web+json' };
    const one = await fetch(`http://127.0.0.1:${port}/h2-untyped`, { method: 'POST', headers, body: '' });
    const client = connectHttp2(`http://127.0.0.1:${port}`);
    let two = '';
    for await (const piece of client.request({ ':path': '/h2-untyped', ':method': 'POST', ...headers })) two += piece;
    client.close();
    for (const text of [await one.text(), two]) expect((JSON.parse(text) as Seen).headers['content-type']).toBe('application/grpc+proto');
  });

  test('it sees method, path, authority, headers, who asks and for whom', async () => {
    const answer = await get('/sees?page=2', { 'x-a': 'b' });
    expect(await answer.json()).toEqual([
      'GET',
      '/sees?page=2',
      `127.0.0.1:${port}`,
      'b',
      { address: '127.0.0.1', workload: null, namespace: null, identity: null },
      expect.objectContaining({ name: expect.stringContaining('edge') }),
    ]);
  });

  test('several are asked by priority, each sees what the one before it changed', async () => {
    expect((await seenAt('/second')).headers['x-order']).toBe('first second');
  });

  test('a body goes on behind a head that a filter has changed', async () => {
    const body = 'b'.repeat(300_000);
    const answer = await fetch(`http://127.0.0.1:${port}/changes`, { method: 'POST', body });
    expect(((await answer.json()) as Seen).body).toBe(body);
  });

  test('example: an API key is asked for, and taken away', async () => {
    const refused = await get('/api-key');
    expect([refused.status, await refused.text()]).toEqual([401, 'an API key is needed\n']);
    const { headers } = await seenAt('/api-key', { 'x-api-key': 'k-4711' });
    expect(headers['x-client']).toBe('web');
    expect(headers['x-api-key']).toBeUndefined();
  });

  test('example: a cookie leads to the canary by a header that the route matches; the client can not set it', async () => {
    expect((await seenAt('/canary')).backend).toBe('echo');
    expect((await seenAt('/canary', { cookie: 'a=b; track=canary' })).backend).toBe('next');
    expect((await seenAt('/canary', { 'x-track': 'canary' })).backend).toBe('echo');
  });
});

describe('what a filter may not do', () => {
  const FAILS = ['throws', 'promise', 'crlf', 'crlf-path', 'framing', 'huge', 'many', 'status', 'number'];
  test.each(FAILS)('%s: its requests are refused, and nothing of it reaches the backend', async (name) => {
    const before = echo.seen.length;
    const answer = await get(`/bad/${name}`);
    expect([answer.status, await answer.text()]).toEqual([500, 'weft: a filter of this request failed\n']);
    expect(echo.seen.length).toBe(before);
  });

  test('a filter that does not exist refuses its requests', async () => {
    expect((await get('/gone')).status).toBe(500);
  });

  test('what fails open goes on as it came', async () => {
    expect((await seenAt('/throws-open')).path).toBe('/throws-open');
    expect((await seenAt('/loop-open')).path).toBe('/loop-open');
  });

  test('it finds no way out of its context, and nothing of Node.js in it', async () => {
    expect(await (await get('/escape')).json()).toEqual([Array(6).fill('refused'), []]);
  });

  test('what it does to its own prototypes is its own', async () => {
    await get('/polluter');
    expect((await seenAt('/changes')).path).toBe('/elsewhere?q=1');
    expect((await get('/plain')).status).toBe(200);
  });

  test.each(['loop', 'bomb'])('%s: the process is ended and begins again, while other requests go on', async (name) => {
    const from = proxy.errors.length;
    const hostile = get(`/${name}`);
    for (let turn = 0; turn < 50; turn++) expect((await seenAt('/changes')).path).toBe('/elsewhere?q=1');
    expect((await hostile).status).toBe(500);
    await proxy.says(`filter default/${name} ended: ${name === 'loop' ? 'a call took longer' : 'it used more memory'}`, from);
    await proxy.says(`filter default/${name} runs`, from);
    expect(proxy.child.exitCode).toBeNull();
  });
});

test('a new version takes over under load, and no request fails', async () => {
  const version = (number: number): FilterUnderTest => ({
    name: 'changes',
    module: `export const onRequest = () => ({ headers: { set: { 'x-version': '${number}' } } });`,
    // No request is to fail, however busy the machine is.
    spec: { timeout: '10s' },
  });
  const seen = new Set<unknown>();
  let isOver = false;
  let failures = 0;
  const load = Promise.all(
    Array.from({ length: 8 }, async () => {
      while (!isOver) {
        const answer = await get('/changes');
        if (answer.status !== 200) failures++;
        seen.add(((await answer.json()) as Seen).headers['x-version']);
      }
    }),
  );
  for (let number = 1; number <= 3; number++) {
    writeFileSync(`${file}.new`, manifests([...FILTERS.filter(({ name }) => name !== 'changes'), version(number)]));
    renameSync(`${file}.new`, file);
    await eventually(
      async () => (await seenAt('/changes')).headers['x-version'],
      (version) => version === String(number),
    );
  }
  isOver = true;
  await load;
  expect([failures, [...seen].filter((each) => each !== undefined)]).toEqual([0, ['1', '2', '3']]);
});

describe('what was wanted a moment ago', () => {
  const write = (filters: readonly FilterUnderTest[]): void => {
    writeFileSync(`${file}.new`, manifests(filters));
    renameSync(`${file}.new`, file);
  };
  const others = FILTERS.filter(({ name }) => name !== 'sees' && name !== 'escape');
  const sees = (module: string): FilterUnderTest => ({ name: 'sees', module });
  const answer = async (): Promise<string> => (await get('/sees')).text();
  const pidOf = (name: string): string => {
    const line = proxy.errors.split('\n').findLast((each) => each.includes(`filter default/${name} runs`));
    return /.*"pid":(\d+)/.exec(line ?? '')?.[1] ?? '';
  };
  const hasEnded = (pid: string): Promise<boolean> =>
    eventually(
      async () => !existsSync(`/proc/${pid}`),
      (is) => is,
    );

  test('goes on if it is wanted again, when the time of what left with it is over', async () => {
    write([...others, sees(respond('"one"')), FILTERS.find(({ name }) => name === 'escape')!]);
    await eventually(answer, (text) => text === 'one');
    const pid = pidOf('escape');
    write(others);
    await eventually(answer, (text) => text !== 'one');
    write([...others, sees(respond('"one"'))]);
    await eventually(answer, (text) => text === 'one');
    expect(await hasEnded(pid)).toBe(true);
    expect(await answer()).toBe('one');
  }, 40_000);

  test('does not stand in for a new version that does not load', async () => {
    const from = proxy.errors.length;
    const pid = pidOf('sees');
    write([...others, sees(respond('"two"'))]);
    await eventually(answer, (text) => text === 'two');
    const broken = sees('throw new Error("no"); export const onRequest = () => ({});');
    write([...others, broken]);
    await proxy.says('filter default/sees ended', from);
    expect(await hasEnded(pid)).toBe(true);
    expect(await answer()).toBe('two');
    // The version before that goes on for as long, whatever else changes meanwhile.
    const rest = others.filter(({ name }) => name !== 'loop');
    for (const filters of [rest, others]) {
      const then = proxy.errors.length;
      write([...filters, broken]);
      await proxy.says('is in force', then);
      expect(await answer()).toBe('two');
    }
  }, 40_000);

  test('makes room for the new version as soon as that runs, though nothing else changes', async () => {
    const from = proxy.errors.length;
    const late = `if (Date.now() < ${Date.now() + 3_000}) throw new Error("not yet"); ${respond('"three"')}`;
    write([...others, sees(late)]);
    await proxy.says('filter default/sees ended', from);
    await proxy.says('is in force', from);
    expect(await answer()).toBe('two');
    expect(await eventually(answer, (text) => text === 'three')).toBe('three');
  }, 40_000);
});
