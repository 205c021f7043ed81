// Requests that the real proxy refuses, each in its way, and what their line of the access log is enough for: it says what became of them, and what is
// asked by it comes out as the proxy decided where that follows from the configuration.
import { writeFileSync } from 'node:fs';
import { createServer, request as httpRequest, type ServerResponse } from 'node:http';
import { createRequire } from 'node:module';
import { connect, createServer as createTcpServer } from 'node:net';
import { join } from 'node:path';
import { expect, jest, test } from '@jest/globals';
import type { EngineAddon } from '../../agent/native/engine.js';
import { COMPLETION_REASONS } from '../../agent/native/engine.js';
import { type ExplainResponse, ExplainResponse_Outcome } from '../../api/gen/mesh/v1/explain.js';
import { type LoggedRequest, readLogLine } from '../../cli/commands/explain-log.js';
import { EchoBackend } from '../lab/echo-backend.js';
import { eventually } from '../lab/eventually.js';
import { extension, filterManifest, manifest, pathMatch } from '../lab/filter-manifests.js';
import { freePort } from '../lab/ports.js';
import { accessLog, gatewayManifest, serviceManifest } from '../lab/proxy-process.js';
import { ProxyScope } from '../lab/proxy-scope.js';
import { runWeft } from '../lab/weft-command.js';

jest.setTimeout(60_000);
const scope = new ProxyScope();
const { explainFiles } = (await import(
  new URL('../../dist/agent/proxy/explain/offline.js', import.meta.url).href
)) as typeof import('../../agent/proxy/explain/offline.js');
const addon = createRequire(join(process.cwd(), 'package.json'))('./native/build/Release/weft.node') as EngineAddon;
const GIVEN = { from: '', gateway: '', headers: [], body: undefined };

const policy = (name: string, spec: object): string =>
  manifest('TrafficPolicy', 'mesh.weft.dev/v1', name, { targetRefs: [{ kind: 'Service', name }], ...spec });
const rule = (path: string, backend: string, more: object = {}): object => ({
  matches: [pathMatch(path)],
  backendRefs: [{ name: backend, port: 80 }],
  ...more,
});
const limit = (name: string, path: string, rateLimit: object): readonly string[] => [
  manifest('HTTPRoute', 'gateway.networking.k8s.io/v1', name, { parentRefs: [{ name: 'edge' }], rules: [rule(path, 'echo')] }),
  manifest('TrafficPolicy', 'mesh.weft.dev/v1', name, { targetRefs: [{ kind: 'HTTPRoute', name }], rateLimits: [{ name, ...rateLimit }] }),
];

const FILTERS = [
  { name: 'rejects', module: `export const onRequest = () => ({ respond: { status: 401, body: 'who?' } });` },
  { name: 'throws', module: `export const onRequest = () => { throw new Error('no'); };` },
  { name: 'reads', module: 'export const onRequest = () => undefined;', spec: { body: { maxBytes: 4 } } },
];

async function edge() {
  const held: ServerResponse[] = [];
  const echo = await EchoBackend.start('echo');
  scope.closing.push(() => echo.close());
  const port = await freePort();
  const backends = {
    echo: echo.port,
    down: await freePort(),
    holds: await scope.listen(createServer((_, response) => void held.push(response))),
    resets: await scope.listen(createServer((message) => void message.socket.destroy())),
    nonsense: await scope.listen(createTcpServer((socket) => void socket.on('error', () => undefined).end('HTTP/1.1 what\r\n\r\n'))),
  };
  const rules = [
    rule('/nobody', 'nobody'),
    rule('/down', 'down'),
    rule('/late', 'holds', { timeouts: { request: '150ms' } }),
    rule('/holds', 'holds'),
    rule('/resets', 'resets'),
    rule('/nonsense', 'nonsense'),
    rule('/none', 'missing'),
    ...FILTERS.map(({ name }) => rule(`/${name}`, 'echo', { filters: [extension(name)] })),
  ];
  const objects = [
    manifest('Service', 'v1', 'nobody', { ports: [{ name: 'http', port: 80, appProtocol: 'http' }] }),
    manifest('HTTPRoute', 'gateway.networking.k8s.io/v1', 'shop', { parentRefs: [{ name: 'edge' }], rules }),
    policy('holds', { circuitBreaker: { maxRequests: 1 } }),
    ...limit('limited', '/limited', { requests: 1, per: '1h' }),
    ...limit('asked', '/asked', {
      by: [{ value: 'all', as: 'all' }],
      service: { name: 'down', port: 80, domain: 'edge', timeout: '1s', onFailure: 'Deny' },
    }),
    ...FILTERS.map(filterManifest),
  ];
  const services = Object.entries(backends).map(([name, at]) => serviceManifest(name, at));
  const content = `${gatewayManifest(`{name: http, port: ${port}, protocol: HTTP}`)}${services.join('')}\n${objects.join('\n---\n')}`;
  const [file, log] = [join(scope.folder, 'edge.yaml'), join(scope.folder, 'access.log')];
  writeFileSync(file, content);
  const proxy = await scope.start(file, '--access-log', 'all', '--access-log-file', log, '--metrics-listen', '127.0.0.1:0');
  return { port, file, log, content, held, proxy };
}

/** Whole, as bytes say; resolves when the connection has closed. */
function raw(port: number, bytes: string): Promise<string> {
  return new Promise((resolve) => {
    let answer = '';
    const socket = connect(port, '127.0.0.1', () => socket.write(bytes, 'latin1'));
    socket.setEncoding('latin1').on('data', (piece: string) => {
      answer += piece;
    });
    socket.on('close', () => resolve(answer)).on('error', () => resolve(answer));
  });
}

const ANSWERED = ExplainResponse_Outcome.ANSWERED;
const FORWARDED = ExplainResponse_Outcome.FORWARDED;

test('every request that is refused is explained from its line of the access log', async () => {
  const { port, file, log, content, held } = await edge();
  const send = (path: string, body?: string): Promise<number> =>
    new Promise((resolve, reject) => {
      const request = httpRequest({ host: '127.0.0.1', port, path, method: body === undefined ? 'GET' : 'POST' }, (response) => {
        response.resume().on('end', () => resolve(response.statusCode ?? 0));
      });
      request.on('error', reject).end(body);
    });
  const holding = send('/holds/first');
  await eventually(
    async () => held.length,
    (count) => count === 1,
  );
  expect(await send('/holds/beyond')).toBe(503);
  held[0]!.end('done');
  expect(await holding).toBe(200);
  for (const path of ['/nobody', '/down', '/late', '/resets', '/nonsense', '/nowhere', '/none', '/rejects', '/throws', '/asked'])
    await send(path);
  await send('/reads', 'longer');
  await send('/limited/first');
  await send('/limited');
  await raw(port, 'GET /bad HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n');
  await raw(port, `GET /large HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(70_000)}\r\n\r\n`);
  await raw(port, '\x16\x03\x01\x00\xff\x1b[2J\r\n\r\n');
  await raw(port, 'POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nnone\r\n');

  const lines = await eventually(
    async () => accessLog(log),
    // Each worker's come by themselves.
    (all) => ['/limited', '/chunks', '/nowhere', '/bad', '/large', ''].every((path) => all.some((line) => line.path === path)),
  );
  const logged = (path: string): LoggedRequest => {
    const line = lines.find((each) => each.path === path);
    if (line === undefined)
      throw new Error(`no line of ${path} among ${JSON.stringify(lines.map((each) => [each.path, each.status, each.response_flag]))}`);
    return readLogLine(JSON.stringify(line), GIVEN);
  };
  const now = async (path: string): Promise<ExplainResponse> => {
    const { request } = logged(path);
    const explained = await explainFiles([{ name: 'edge.yaml', content }], request!, addon);
    if (explained.kind !== 'ok') throw new Error(JSON.stringify(explained));
    return explained.value;
  };
  // What the line says; what becomes of such a request by the configuration alone.
  for (const [path, said, expected] of [
    ['/nowhere', /^status 404 by the proxy itself, NR: no rule was for it/, { outcome: ANSWERED, status: 404, responseFlag: 'NR' }],
    [
      '/nobody',
      /^status 503 by the proxy itself, by default\/shop rule 0, UH: no endpoint/,
      { outcome: ANSWERED, status: 503, responseFlag: 'UH' },
    ],
    [
      '/none',
      /^status 500 by the proxy itself, by default\/shop rule 6$/,
      { outcome: ANSWERED, status: 500, reason: 'is answered 500: the route has no valid backend' },
    ],
    ['/down', /^status 503 with 127\.0\.0\.1:\d+, by default\/shop rule 1, (UF|URX): /, { outcome: FORWARDED }],
    [
      '/late',
      /^status 504 with 127\.0\.0\.1:\d+, .* UT: its time was over/,
      { outcome: FORWARDED, plan: expect.arrayContaining(['ends after 150 ms at the latest']) },
    ],
    ['/resets', /^status 503 with 127\.0\.0\.1:\d+, .* (UC|URX): /, { outcome: FORWARDED }],
    ['/nonsense', /^status 502 with 127\.0\.0\.1:\d+, .* UPE: the answer of the endpoint was none/, { outcome: FORWARDED }],
    [
      '/holds/beyond',
      /^status 503 by the proxy itself, .* UO: too much was under way/,
      { plan: expect.arrayContaining(['the service takes, from each node, at most 1 requests at once']) },
    ],
    [
      '/limited',
      /^status 429 by the proxy itself, .* RL: a rate limit refused it/,
      { outcome: FORWARDED, plan: expect.arrayContaining([expect.stringContaining('its nearest rate limit: "limited"')]) },
    ],
    [
      '/asked',
      /^status 500 by the proxy itself, .* RLSE: the rate limit service gave no answer/,
      { plan: expect.arrayContaining([expect.stringMatching(/^passes if .*without an answer in 1000 ms it is answered 500$/)]) },
    ],
    [
      '/rejects',
      /^status 401 by the proxy itself, by default\/shop rule 7$/,
      { outcome: ANSWERED, status: 401, reason: 'is answered 401 by the filter default/rejects' },
    ],
    ['/throws', /^status 500 by the proxy itself, .* FF: a filter failed/, { outcome: ANSWERED, status: 500, responseFlag: 'FF' }],
    ['/reads', /^status 413 by the proxy itself, by default\/shop rule 9$/, { outcome: FORWARDED }],
  ] as const) {
    expect([path, logged(path).outcome]).toEqual([path, expect.stringMatching(said)]);
    expect([path, await now(path)]).toMatchObject([path, expected]);
  }
  // Of a body the log has nothing: what was sent is said besides.
  const { request } = readLogLine(JSON.stringify(lines.find(({ path }) => path === '/reads')), { ...GIVEN, body: Buffer.from('longer') });
  expect(await explainFiles([{ name: 'edge.yaml', content }], request!, addon)).toMatchObject({ value: { status: 413 } });
  const { stdout } = await runWeft(['explain', '-f', file, '--log', JSON.stringify(lines.find(({ path }) => path === '/throws'))], {});
  expect(stdout).toMatch(
    /^It had status 500 by the proxy itself, by default\/shop rule 8, FF: .*\nNow it comes in at gateway default\/edge:\d+ and is answered 500: a filter of this request failed \(FF\)\./,
  );
  // Of a head that is refused there is what could be read of it, and nothing to ask the configuration.
  for (const [path, said] of [
    ['/bad', 'status 400 by the proxy itself, DPE: it was no request that the proxy takes: its head, its framing, or its size'],
    ['/large', 'status 431 by the proxy itself, DPE: it was no request that the proxy takes: its head, its framing, or its size'],
  ] as const)
    expect(logged(path)).toEqual({ outcome: said, request: null });
  expect(lines.find(({ path }) => path === '/bad')).toMatchObject({ method: 'GET', source: null, destination: null, route: null });
  const unread = JSON.stringify(lines.find(({ method }) => method === 'other'));
  const garbage = await runWeft(['explain', '--log', unread], {});
  expect(garbage.stdout).toMatch(
    /^It had status 400 by the proxy itself, DPE: .*\nWhat would become of it now can't be told: nothing was decided on it/,
  );
  const asJson = await runWeft(['explain', '--log', unread, '-o', 'json'], {});
  expect(JSON.parse(asJson.stdout)).toEqual({ logged: expect.stringMatching(/^status 400 by the proxy itself/) });
  expect(logged('/chunks').outcome).toMatch(/^status 400 by the proxy itself, DPE: it was no request that the proxy takes/);
});

test('every flag that the proxy writes has words', () => {
  for (const flag of COMPLETION_REASONS.slice(1)) {
    const { outcome } = readLogLine(JSON.stringify({ method: 'GET', path: '/', authority: 'a', status: 500, response_flag: flag }), GIVEN);
    expect(outcome).not.toContain('another version');
  }
});
