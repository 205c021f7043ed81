// Filters of answers on the real `weft proxy --static` process: what they change and replace, and what becomes of answers whose filter fails.
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, request as requestHttp1 } from 'node:http';
import { connect as connectHttp2, createServer as createHttp2Server, type IncomingHttpHeaders } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { EchoBackend, type Seen } from '../lab/echo-backend.js';
import { eventually } from '../lab/eventually.js';
import { extension, type FilterUnderTest, filterManifest, manifest, pathMatch, routeManifest, ruleOf } from '../lab/filter-manifests.js';
import { freePort } from '../lab/ports.js';
import { accessLog, gatewayManifest, ProxyProcess, serviceManifest } from '../lab/proxy-process.js';

const folder = mkdtempSync(join(tmpdir(), 'wfla-'));
const [file, log] = [join(folder, 'edge.yaml'), join(folder, 'access.log')];
const hook = (body: string): string =>
  `import type { OnResponse } from '@weft/filter'; export const onResponse: OnResponse = (response) => { ${body} };`;
const WAYS = `import type { Response } from '@weft/filter';
  const ways: Record<string, (response: Response) => unknown> = {
    status: ({ status }) => ({ status: status === 200 ? 299 : 404, headers: { remove: ['date'] } }),
    sees: ({ status, headers, request }) => ({ headers: { set: { 'x-seen': JSON.stringify([
      status, headers.get('Content-Type'), request.path, request.headers.get('x-a'), request.destination.name,
    ]) } } }),
    replaces: ({ status }) => status >= 500 && { respond: { status: 503, headers: { 'retry-after': '7' }, body: 'come back later\\n' } } || undefined,
    grpc: ({ headers }) => ({ headers: { set: { 'x-filtered': String(headers.get('grpc-status')) } } }),
    throws: () => { throw new Error('no'); },
    crlf: () => ({ headers: { set: { 'x-a': 'b\\r\\nx-evil: 1' } } }),
    framing: () => ({ headers: { set: { 'content-length': '1' } } }),
    path: () => ({ path: '/a' }),
    bodiless: () => ({ status: 204 }),
    number: () => 3,
    loop: () => { for (;;); },
  };
  export const onResponse = (response: Response): any => ways[response.request.path.split(/[/?]/)[2]!]!(response);`;
/** Takes all memory it can, but not before it has let go of some. */
const BOMB = hook(`const kept: string[][] = [];
  if (response.request.path.endsWith('/bang')) for (;;) kept.push('x'.repeat(2 ** 20).split(''));`);
const FILTERS: readonly FilterUnderTest[] = [
  { name: 'bomb', module: BOMB, spec: { timeout: '10s', memoryMiB: 16 } },
  { name: 'bomb-open', module: BOMB, spec: { timeout: '10s', memoryMiB: 16, failurePolicy: 'FailOpen' } },
  { name: 'counted', module: hook('return undefined;'), spec: { timeout: '10s' } },
  { name: 'security', module: readFileSync('api/filter/package/examples/security-headers.ts', 'utf8') },
  { name: 'ways', module: WAYS },
  { name: 'open', module: WAYS, spec: { failurePolicy: 'FailOpen', timeout: '200ms' } },
  {
    name: 'outer',
    module: hook(`return { headers: { set: { 'x-order': response.headers.get('x-order') + ' outer' } } };`),
    spec: { priority: 10 },
  },
  { name: 'inner', module: hook(`return { headers: { set: { 'x-order': 'inner' } } };`) },
  { name: 'version', module: hook(`return { headers: { set: { 'x-version': '0' } } };`), spec: { timeout: '10s' } },
  { name: 'spin', module: hook('for (;;);'), spec: { timeout: '10s' } },
];

let [port, metricsPort, echo, copies] = [0, 0, {} as EchoBackend, {} as EchoBackend];
/** Answers nobody: whom it has is given to another one. */
const slow = createServer(() => undefined);
let proxy: ProxyProcess;
const h2Server = createHttp2Server();
h2Server.on('stream', (stream, headers) => {
  const isOnly = headers[':path'] === '/h2/grpc/only';
  stream.respond(
    { ':status': 200, 'content-type': 'application/grpc', ...(isOnly ? { 'grpc-status': '5' } : {}) },
    isOnly ? { endStream: true } : { waitForTrailers: true },
  );
  if (isOnly) return;
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
  stream.end('message');
});

function manifests(filters: readonly FilterUnderTest[]): string {
  const services = [
    serviceManifest('echo', echo.port),
    serviceManifest('h2', (h2Server.address() as AddressInfo).port, 'kubernetes.io/h2c'),
    serviceManifest('nobody', 1),
    serviceManifest('copies', copies.port),
    serviceManifest('hedged', echo.port),
    serviceManifest('hedged', (slow.address() as AddressInfo).port)
      .replace('name: hedged-1', 'name: hedged-2')
      .replace(/^.*?---/s, ''),
  ];
  const objects = [
    routeManifest(
      'all',
      ...['security', 'ways', 'open', 'version', 'spin', 'bomb', 'bomb-open'].map((name) => ruleOf(`/${name}`, [name])),
      {
        matches: [pathMatch('/mirrored')],
        filters: [extension('counted'), { type: 'RequestMirror', requestMirror: { backendRef: { name: 'copies', port: 80 } } }],
        backendRefs: [{ name: 'echo', port: 80 }],
      },
      ruleOf('/hedged', ['counted'], 'hedged'),
      ruleOf('/order', ['inner', 'outer']),
      ruleOf('/h2/grpc', ['ways'], 'h2'),
      ruleOf('/nobody/replaces', ['ways'], 'nobody'),
      { matches: [pathMatch('/')], backendRefs: [{ name: 'echo', port: 80 }] },
    ),
    ...filters.map(filterManifest),
    manifest('TrafficPolicy', 'mesh.weft.dev/v1', 'hedged', {
      targetRefs: [{ kind: 'Service', name: 'hedged' }],
      hedging: { after: '10ms', max: 100 },
    }),
  ];
  return `${gatewayManifest(`{name: http, port: ${port}, protocol: HTTP}`)}${services.join('')}\n${objects.join('\n---\n')}`;
}

beforeAll(async () => {
  [echo, copies] = await Promise.all([EchoBackend.start('echo'), EchoBackend.start('copies')]);
  await new Promise<void>((resolve) => slow.listen(0, '127.0.0.1', resolve));
  await new Promise<void>((resolve) => h2Server.listen(0, '127.0.0.1', resolve));
  [port, metricsPort] = [await freePort(), await freePort()];
  writeFileSync(file, manifests(FILTERS));
  proxy = ProxyProcess.start(file, folder, '--access-log', 'all', '--access-log-file', log, '--metrics-listen', `127.0.0.1:${metricsPort}`);
  await proxy.says('"ready"');
});

afterAll(async () => {
  await proxy?.kill();
  echo?.close();
  copies?.close();
  slow.closeAllConnections();
  slow.close();
  h2Server.close();
  rmSync(folder, { recursive: true, force: true });
});

const get = (path: string, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(`http://127.0.0.1:${port}${path}`, { headers });
const seenIn = async (answer: Response): Promise<Seen> => (await answer.json()) as Seen;
const logged = async (path: string) => {
  const lines = await eventually(
    async () => accessLog(log),
    (all) => all.some((line) => line.path === path),
  );
  return lines.find((line) => line.path === path);
};

async function call(
  path: string,
): Promise<{ readonly head: IncomingHttpHeaders; readonly trailers: IncomingHttpHeaders; readonly body: string }> {
  const client = connectHttp2(`http://127.0.0.1:${port}`);
  const stream = client.request({ ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' });
  let [head, trailers, body] = [{}, {}, ''];
  stream.on('response', (headers) => {
    head = headers;
  });
  stream.on('trailers', (headers) => {
    trailers = headers;
  });
  stream.end('request');
  for await (const piece of stream) body += piece;
  client.close();
  return { head, trailers, body };
}

describe('what a filter may do with an answer', () => {
  test('example: headers that every answer should have, and some that none should', async () => {
    const answer = await get('/security', { authorization: 'secret' });
    expect((await seenIn(answer)).path).toBe('/security');
    expect(answer.headers.get('strict-transport-security')).toBe('max-age=31536000');
    expect(answer.headers.get('cache-control')).toBe('private, no-store');
    expect((await get('/security')).headers.get('cache-control')).toBeNull();
  });

  test('it changes the status, and so the access log has it', async () => {
    const answer = await get('/ways/status?x=1');
    expect([answer.status, (await seenIn(answer)).path]).toEqual([299, '/ways/status?x=1']);
    expect(await logged('/ways/status?x=1')).toMatchObject({ status: 299, response_flag: '-' });
  });

  test('it sees the answer as its backend gave it, and the request as that got it', async () => {
    const seen: unknown = JSON.parse((await get('/ways/sees?page=2', { 'x-a': 'b' })).headers.get('x-seen') ?? '');
    expect(seen).toEqual([200, 'application/json', '/ways/sees?page=2', 'b', expect.stringContaining('edge')]);
  });

  test('it gives another one in its place, to HTTP/1 and HTTP/2; none in place of what the proxy answers itself', async () => {
    echo.failNext(1, (_request, response) => void response.writeHead(500, { 'x-trace': 'secret' }).end('stack trace'));
    const answer = await get('/ways/replaces');
    expect([answer.status, answer.headers.get('retry-after'), answer.headers.get('x-trace'), await answer.text()]).toEqual([
      503,
      '7',
      null,
      'come back later\n',
    ]);
    expect((await get('/ways/replaces')).status).toBe(200);
    expect((await get('/nobody/replaces')).headers.get('retry-after')).toBeNull();
  });

  test('several are asked in the order opposite to that of requests', async () => {
    expect((await get('/order')).headers.get('x-order')).toBe('inner outer');
  });

  test("gRPC: an answer's head, and one that is all of it", async () => {
    const streamed = await call('/h2/grpc/all');
    expect([streamed.head['x-filtered'], streamed.body, streamed.trailers['grpc-status']]).toEqual(['null', 'message', '0']);
    const only = await call('/h2/grpc/only');
    expect([only.head['x-filtered'], only.head['grpc-status']]).toEqual(['5', '5']);
  });

  test('a long body streams behind its head, and HEAD has none', async () => {
    const body = 'b'.repeat(3_000_000);
    const answer = await fetch(`http://127.0.0.1:${port}/security`, { method: 'POST', body });
    expect((await seenIn(answer)).body).toBe(body);
    const head = await fetch(`http://127.0.0.1:${port}/security`, { method: 'HEAD' });
    expect([head.status, head.headers.get('x-content-type-options')]).toEqual([200, 'nosniff']);
  });

  test('what comes before the answer is not its to see', async () => {
    echo.failNext(1, (_request, response) => {
      response.writeEarlyHints({ link: '</a.css>; rel=preload' });
      response.end('{}');
    });
    const hints = await new Promise<unknown>((resolve, reject) => {
      const request = requestHttp1({ port, host: '127.0.0.1', path: '/security' }, (answer) => answer.resume());
      request.on('information', ({ statusCode, headers }) => resolve([statusCode, headers['x-content-type-options']]));
      request.on('error', reject).end();
    });
    expect(hints).toEqual([103, undefined]);
  });
});

describe('what becomes of answers whose filter fails', () => {
  test.each(['throws', 'crlf', 'framing', 'path', 'bodiless', 'number'])('%s: 500, and nothing of it', async (way) => {
    const path = `/ways/${way}`;
    const answer = await get(path);
    expect([answer.status, await answer.text()]).toEqual([500, 'weft: a filter of this request failed\n']);
    expect(answer.headers.get('x-evil')).toBeNull();
    expect(await logged(path)).toMatchObject({ status: 500, response_flag: 'FF' });
  });

  test.each(['throws', 'number', 'loop'])('%s: fails open, as it came', async (way) => {
    const path = `/open/${way}`;
    const answer = await get(path);
    expect([answer.status, (await seenIn(answer)).path]).toEqual([200, path]);
  });

  test('one that does not return is ended and begins again, and the answer is 500', async () => {
    const from = proxy.errors.length;
    expect((await get('/ways/loop')).status).toBe(500);
    await proxy.says('filter default/ways ended: a call took longer', from);
    await proxy.says('filter default/ways runs', from);
  });

  test.each([
    ['bomb', 500, 'FF'],
    ['bomb-open', 200, '-'],
  ] as const)('%s: one that takes all memory ends alone, its answer is %d, and it begins again', async (name, status, flag) => {
    const from = proxy.errors.length;
    expect((await get(`/${name}/bang`)).status).toBe(status);
    expect(await logged(`/${name}/bang`)).toMatchObject({ status, response_flag: flag });
    await proxy.says(`filter default/${name} ended: it used more memory than it may`, from);
    await proxy.says(`filter default/${name} runs`, from);
    // The workers hear of it a moment later.
    const again = await eventually(
      async () => (await get(`/${name}/again`)).status,
      (each) => each === 200,
    );
    expect(again).toBe(200);
  });

  test('failures are counted by their kind', async () => {
    const metrics = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
    expect(metrics).toContain('weft_filter_failures_total{filter="default/ways",reason="threw"} 1');
    expect(metrics).toContain('weft_filter_failures_total{filter="default/open",reason="timed_out"} 1');
  });
});

describe('answers that no client gets', () => {
  const calls = async (): Promise<number> => {
    const metrics = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
    return Number(/weft_filter_calls_total\{filter="default\/counted"\} (\d+)/.exec(metrics)?.[1]);
  };

  test('those of mirrors are no filter’s to see', async () => {
    const before = await calls();
    for (let count = 1; count <= 3; count++) {
      await (await get(`/mirrored/${count}`)).text();
      await eventually(
        async () => copies.seen.length,
        (seen) => seen === count,
      );
    }
    expect(await calls()).toBe(before + 3);
  });

  test('nor are those of attempts that another one overtakes', async () => {
    const before = await calls();
    const attempts: unknown[] = [];
    for (let count = 0; count < 6; count++) {
      const path = `/hedged/${count}`;
      expect((await seenIn(await get(path))).path).toBe(path);
      attempts.push((await logged(path))?.attempts);
    }
    expect(attempts).toContain(2);
    expect(await calls()).toBe(before + 6);
  });
});

test('a new version takes over under load, and no request fails', async () => {
  const version = (number: number): FilterUnderTest => ({
    name: 'version',
    module: hook(`return { headers: { set: { 'x-version': '${number}' } } };`),
    spec: { timeout: '10s' },
  });
  const seen = new Set<unknown>();
  let isOver = false;
  let failures = 0;
  const load = Promise.all(
    Array.from({ length: 8 }, async () => {
      while (!isOver) {
        const answer = await get('/version');
        await answer.text();
        if (answer.status !== 200) failures++;
        seen.add(answer.headers.get('x-version'));
      }
    }),
  );
  for (let number = 1; number <= 2; number++) {
    writeFileSync(`${file}.new`, manifests([...FILTERS.filter(({ name }) => name !== 'version'), version(number)]));
    renameSync(`${file}.new`, file);
    await eventually(
      async () => (await get('/version')).headers.get('x-version'),
      (each) => each === String(number),
    );
  }
  isOver = true;
  await load;
  expect([failures, [...seen].sort()]).toEqual([0, expect.arrayContaining(['1', '2'])]);
});

test('a proxy that is killed takes a filter that spins with it', async () => {
  const pid = /"filter":"default\/spin","pid":(\d+)/.exec(proxy.errors)?.[1];
  const stat = (): string[] => {
    try {
      return readFileSync(`/proc/${pid}/stat`, 'utf8').split(' ');
    } catch {
      return [];
    }
  };
  const before = Number(stat()[13]);
  void get('/spin').catch(() => undefined);
  const spins = await eventually(
    async () => Number(stat()[13]) > before + 5,
    (is) => is,
  );
  await proxy.kill();
  const state = await eventually(
    async () => stat()[2] ?? 'gone',
    (each) => each === 'gone' || each === 'Z',
  );
  expect([spins, ['gone', 'Z'].includes(state)]).toEqual([true, true]);
});
