// Filters that read bodies on the real `weft proxy --static` process: requests and answers, what is written in their place, and what is too long.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request as requestHttp1 } from 'node:http';
import { connect as connectHttp2, createServer as createHttp2Server } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { EchoBackend, type Seen } from '../lab/echo-backend.js';
import { eventually } from '../lab/eventually.js';
import { type FilterUnderTest, filterManifest, pathMatch, routeManifest, ruleOf } from '../lab/filter-manifests.js';
import { freePort } from '../lab/ports.js';
import { accessLog, gatewayManifest, ProxyProcess, serviceManifest } from '../lab/proxy-process.js';

const folder = mkdtempSync(join(tmpdir(), 'wflb-'));
const [file, log] = [join(folder, 'edge.yaml'), join(folder, 'access.log')];
const BODY = { body: { maxBytes: 1_000 } };
const WAYS = `import type { Request, Response } from '@weft/filter';
  const ways: Record<string, (request: Request) => unknown> = {
    sees: ({ body }) => ({ respond: { status: 200, body: JSON.stringify(body === null ? null : [body.size, body.text(), body.latin1().length]) } }),
    rewrites: ({ body }) => body === null ? undefined : ({ body: body.text().toUpperCase() + ' ü', headers: { set: { 'x-was': String(body.size) } } }),
    bytes: ({ body }) => ({ body: { latin1: body!.latin1() + '\\xff' } }),
    empties: () => ({ body: '' }),
    passes: () => undefined,
  };
  export const onRequest = (request: Request): any => ways[request.path.split(/[/?]/)[2]!]!(request);`;
const GRPC = `import type { OnRequest, OnResponse } from '@weft/filter';
  export const onRequest: OnRequest = ({ body }) => ({ headers: { set: { 'x-size': String(body?.size) } } });
  export const onResponse: OnResponse = ({ body }) => body === null ? undefined : { body: { latin1: body.latin1() + body.latin1() } };`;
const FILTERS: readonly FilterUnderTest[] = [
  { name: 'redact', module: readFileSync('api/filter/package/examples/redact-fields.ts', 'utf8'), spec: BODY },
  { name: 'ways', module: WAYS, spec: BODY },
  { name: 'open', module: WAYS, spec: { ...BODY, failurePolicy: 'FailOpen' } },
  { name: 'grpc', module: GRPC, spec: BODY },
];

let [port, metricsPort, echo] = [0, 0, {} as EchoBackend];
let proxy: ProxyProcess;
const h2Server = createHttp2Server();
h2Server.on('stream', (stream, headers) => {
  stream.respond({ ':status': 200, 'content-type': 'application/grpc', 'x-size': headers['x-size'] }, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
  stream.end(Buffer.from([0, 0, 0, 0, 1, 255]));
});

beforeAll(async () => {
  echo = await EchoBackend.start('echo');
  await new Promise<void>((resolve) => h2Server.listen(0, '127.0.0.1', resolve));
  [port, metricsPort] = [await freePort(), await freePort()];
  const services = [
    serviceManifest('echo', echo.port),
    serviceManifest('h2', (h2Server.address() as AddressInfo).port, 'kubernetes.io/h2c'),
  ];
  const objects = [
    routeManifest('all', ...['redact', 'ways', 'open'].map((name) => ruleOf(`/${name}`, [name])), ruleOf('/grpc', ['grpc'], 'h2'), {
      matches: [pathMatch('/')],
      backendRefs: [{ name: 'echo', port: 80 }],
    }),
    ...FILTERS.map(filterManifest),
  ];
  const gateway = gatewayManifest(`{name: http, port: ${port}, protocol: HTTP}`);
  writeFileSync(file, `${gateway}${services.join('')}\n${objects.join('\n---\n')}`);
  proxy = ProxyProcess.start(file, folder, '--access-log', 'all', '--access-log-file', log, '--metrics-listen', `127.0.0.1:${metricsPort}`);
  await proxy.says('"ready"');
});

afterAll(async () => {
  await proxy?.kill();
  echo?.close();
  h2Server.close();
  rmSync(folder, { recursive: true, force: true });
});

const post = (path: string, body: string | ReadableStream<Uint8Array>, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(`http://127.0.0.1:${port}${path}`, { method: 'POST', body, headers, duplex: 'half' } as RequestInit);
const seenIn = async (answer: Response): Promise<Seen> => (await answer.json()) as Seen;
const JSON_TYPE = { 'content-type': 'application/json' };

test('it reads a body as text and as bytes, whole, also one in chunks; none is null', async () => {
  expect(await (await post('/ways/sees', 'grün')).json()).toEqual([5, 'grün', 5]);
  const chunks = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const part of ['one ', 'two']) controller.enqueue(Buffer.from(part));
      controller.close();
    },
  });
  expect(await (await post('/ways/sees', chunks)).json()).toEqual([7, 'one two', 7]);
  expect(await (await fetch(`http://127.0.0.1:${port}/ways/sees`)).json()).toBeNull();
});

test('what it writes in its place is what the backend gets, with its length', async () => {
  const { body, headers } = await seenIn(await post('/ways/rewrites', 'quiet'));
  expect([body, headers['content-length'], headers['x-was']]).toEqual(['QUIET ü', '8', '5']);
  const bytes = await seenIn(await post('/ways/bytes', 'a'));
  expect(bytes.headers['content-length']).toBe('2');
  const empty = await seenIn(await post('/ways/empties', 'a'));
  expect([empty.body, empty.headers['content-length']]).toEqual(['', '0']);
});

test('one that is too long is answered 413, or goes on unseen; both are counted', async () => {
  const long = 'x'.repeat(200_000);
  const refused = await post('/ways/passes', long);
  expect([refused.status, await refused.text()]).toEqual([413, 'weft: the body is larger than a filter of this request takes\n']);
  expect((await seenIn(await post('/open/passes', long))).body).toBe(long);
  const metrics = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
  for (const name of ['ways', 'open'])
    expect(metrics).toContain(`weft_filter_failures_total{filter="default/${name}",reason="body_too_large"} 1`);
  const lines = await eventually(
    async () => accessLog(log),
    (all) => all.some(({ status }) => status === 413),
  );
  expect(lines.find(({ status }) => status === 413)).toMatchObject({ path: '/ways/passes', bytes_sent: expect.any(Number) });
});

test('example: JSON that comes in is an object, and what goes out lacks some fields', async () => {
  expect((await post('/redact', 'no JSON', JSON_TYPE)).status).toBe(400);
  expect((await seenIn(await post('/redact', '{"a": 1}', JSON_TYPE))).body).toBe('{"a": 1}');
  const secret = '{"user": "u", "password": "p", "more": {"ssn": 1}}';
  echo.failNext(
    1,
    (_request, response) => void response.setHeader('content-type', 'application/json').setHeader('etag', '"1"').end(secret),
  );
  const answer = await fetch(`http://127.0.0.1:${port}/redact`);
  expect([answer.headers.get('etag'), await answer.text()]).toEqual([null, '{"user":"u","more":{}}']);
  const gzip = gzipSync(secret);
  echo.failNext(1, (_request, response) => {
    for (const [name, value] of Object.entries({ ...JSON_TYPE, 'content-encoding': 'gzip' })) response.setHeader(name, value);
    response.end(gzip);
  });
  expect(await (await fetch(`http://127.0.0.1:${port}/redact`)).text()).toBe(secret);
});

test('gRPC: its bodies are frames, and its trailers stay behind them', async () => {
  const client = connectHttp2(`http://127.0.0.1:${port}`);
  const stream = client.request({ ':method': 'POST', ':path': '/grpc', 'content-type': 'application/grpc', te: 'trailers' });
  let [size, trailers] = ['', {}];
  stream.on('response', (headers) => {
    size = String(headers['x-size']);
  });
  stream.on('trailers', (headers) => {
    trailers = { status: headers['grpc-status'] };
  });
  stream.end(Buffer.from([0, 0, 0, 0, 0]));
  const pieces: Buffer[] = [];
  for await (const piece of stream) pieces.push(piece as Buffer);
  client.close();
  expect([size, trailers, [...Buffer.concat(pieces)]]).toEqual(['5', { status: '0' }, [0, 0, 0, 0, 1, 255, 0, 0, 0, 0, 1, 255]]);
});

test('who expects to be asked for the body is asked, once', async () => {
  let asked = 0;
  const status = await new Promise<unknown>((resolve, reject) => {
    const headers = { expect: '100-continue', 'content-length': 4 };
    const request = requestHttp1({ port, host: '127.0.0.1', path: '/ways/passes', method: 'POST', headers }, (answer) => {
      answer.resume();
      resolve(answer.statusCode);
    });
    request.on('continue', () => {
      if (++asked === 1) request.end('body');
    });
    request.on('error', reject);
    request.flushHeaders();
  });
  expect([status, echo.seen.at(-1)?.body, asked]).toEqual([200, 'body', 1]);
});
