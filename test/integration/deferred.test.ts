// Decisions that wait for a real authoriser, over gRPC, in one real engine: what others notice of it, and every way it ends.
import { once } from 'node:events';
import * as http from 'node:http';
import * as http2 from 'node:http2';
import { connect } from 'node:net';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { Server as GrpcServer, ServerCredentials, type sendUnaryData } from '@grpc/grpc-js';
import { expect, test } from '@jest/globals';
import type { EngineLimits } from '../../agent/native/engine.js';
import { ADDON, addon } from '../../agent/native/testing/addon.js';
import { TEST_LIMITS } from '../../agent/native/testing/limits.js';
import { closesAfterEach } from '../lab/closing.js';
import { eventually } from '../lab/eventually.js';
import { listenOnLoopback } from '../lab/listening.js';

const DIST = process.env.WEFT_DIST ?? join(process.cwd(), 'dist');
const DEFERRED = -2;
const [TIMEOUT, CLIENT_GONE, OVERFLOW] = [5, 7, 10];
const LIMITS: EngineLimits = {
  ...TEST_LIMITS,
  maxConnections: 2_000,
  maxBufferedBytes: 262_144,
  maxIdlePerEndpoint: 64,
  requestTimeoutMs: 0,
  maxDeferred: 256,
  deferredTimeoutMs: 30_000,
};

const cleanups = closesAfterEach();

/** Says "yes" to all but "/denied"; keeps what asks for "/held…" until release(), after which nothing is kept. */
class Authorizer {
  readonly asked: string[] = [];
  /** grpc-js names some whose answer it has just sent, too. */
  readonly cancelled: string[] = [];
  private readonly held: (() => void)[] = [];
  private isReleased = false;
  private constructor(
    readonly address: string,
    private readonly server: GrpcServer,
  ) {}

  static async start(): Promise<Authorizer> {
    const server = new GrpcServer();
    const bytes = { requestDeserialize: (value: Buffer) => value, responseSerialize: (value: Buffer) => value };
    const check = (call: { request: Buffer; on: (event: string, on: () => void) => void }, reply: sendUnaryData<Buffer>): void => {
      const path = call.request.toString();
      self.asked.push(path);
      call.on('cancelled', () => self.cancelled.push(path));
      const answer = (): void => reply(null, Buffer.from(path === '/denied' ? 'no' : 'yes'));
      if (path.startsWith('/held') && !self.isReleased) self.held.push(answer);
      else answer();
    };
    server.addService(
      {
        check: {
          path: '/test.Authorizer/Check',
          requestStream: false,
          responseStream: false,
          ...bytes,
          requestSerialize: bytes.responseSerialize,
          responseDeserialize: bytes.requestDeserialize,
        },
      },
      { check: check as never },
    );
    const port = await new Promise<number>((resolve, reject) =>
      server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) => (error ? reject(error) : resolve(bound))),
    );
    const self = new Authorizer(`127.0.0.1:${port}`, server);
    cleanups.push(() => self.stop());
    return self;
  }

  /** Also what is open in the proxy and still on its way here. */
  release(): void {
    this.isReleased = true;
    for (const answer of this.held.splice(0)) answer();
  }

  stop(): void {
    this.server.forceShutdown();
  }
}

/** What the authoriser hears takes its time over the network. */
async function hears(isTrue: () => boolean): Promise<void> {
  await eventually(isTrue, Boolean);
}

interface Facts {
  readonly completions: { target: number; status: number; reason: number }[];
  readonly open: number;
  readonly aborted: number;
}

class Bench {
  private constructor(
    readonly worker: Worker,
    readonly ports: { http: number; opaque: number },
    readonly authorizer: Authorizer,
    readonly counters: Float64Array,
    readonly outstanding: Int32Array,
  ) {}

  static async start(limits: Partial<EngineLimits> = {}, askTimeoutMs = 30_000): Promise<Bench> {
    const echo = http.createServer((request, response) => {
      request.on('data', (chunk: Buffer) => response.write(chunk));
      request.on('end', () => response.end(`${request.url}\n`));
    });
    const h2 = http2.createServer((request, response) => {
      request.on('data', (chunk: Buffer) => response.write(chunk));
      request.on('end', () => response.end(`${request.url}\n`));
    });
    const authorizer = await Authorizer.start();
    const counters = new Float64Array(new SharedArrayBuffer(8 * 256));
    const outstanding = new Int32Array(new SharedArrayBuffer(4 * 16));
    const worker = new Worker(join(process.cwd(), 'test/integration/deferred-worker.mjs'), {
      workerData: {
        addon: ADDON,
        dist: DIST,
        limits: { ...LIMITS, ...limits },
        endpoints: [
          { port: await listenOnLoopback(echo, cleanups), protocol: 'http1' },
          { port: await listenOnLoopback(h2, cleanups), protocol: 'http2' },
        ],
        authorizer: authorizer.address,
        askTimeoutMs,
        counters,
        outstanding,
      },
    });
    const [ports] = (await once(worker, 'message')) as [Bench['ports']];
    const bench = new Bench(worker, ports, authorizer, counters, outstanding);
    cleanups.push(() => bench.stop());
    return bench;
  }

  counter(name: string): number {
    return this.counters[addon().counterNames().indexOf(name)]!;
  }

  async facts(): Promise<Facts> {
    this.worker.postMessage('facts');
    const [facts] = (await once(this.worker, 'message')) as [Facts];
    return facts;
  }

  async deferred(count: number): Promise<void> {
    await eventually(
      () => this.facts(),
      (facts) => facts.open === count,
    );
    expect(this.counter('deferred_open')).toBe(count);
  }

  private last: Facts | null = null;
  /** What was so at the end. */
  async stop(): Promise<Facts> {
    if (this.last !== null) return this.last;
    this.worker.postMessage('close');
    const [[facts]] = (await Promise.all([once(this.worker, 'message'), once(this.worker, 'exit')])) as [[Facts], unknown];
    this.last = facts;
    return facts;
  }
}

function send(port: number, host: string, path: string, body = '', agent?: http.Agent): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const method = body === '' ? 'GET' : 'POST';
    const sent = http.request({ port, host: '127.0.0.1', path, method, headers: { host }, ...(agent && { agent }) }, (response) => {
      let text = '';
      response.on('data', (chunk) => {
        text += chunk;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

test('what the authoriser says is done, with the body that came meanwhile', async () => {
  const { ports, authorizer, outstanding } = await Bench.start();
  const body = 'b'.repeat(300_000);
  expect(await send(ports.http, 'ask.test', '/allowed', body)).toEqual({ status: 200, text: `${body}/allowed\n` });
  expect((await send(ports.http, 'ask.test', '/denied')).status).toBe(403);
  expect(authorizer.asked).toEqual(['/allowed', '/denied']);
  expect(Atomics.load(outstanding, 0)).toBe(0);
});

test('others go on at full speed while some wait', async () => {
  const bench = await Bench.start();
  const held = Array.from({ length: 50 }, (_, i) => send(bench.ports.http, 'ask.test', `/held/${i}`));
  await bench.deferred(50);
  const agent = new http.Agent({ keepAlive: true, maxSockets: 16 });
  cleanups.push(() => agent.destroy());
  const others = Array.from({ length: 2_000 }, () => send(bench.ports.http, 'up.test', '/', '', agent));
  for (const { status } of await Promise.all(others)) expect(status).toBe(200);
  expect((await bench.facts()).open).toBe(50);
  bench.authorizer.release();
  for (const [i, answer] of (await Promise.all(held)).entries()) expect(answer).toEqual({ status: 200, text: `/held/${i}\n` });
  await bench.deferred(0);
});

test('HTTP/2 streams wait each for itself, and one that is reset is no longer asked for', async () => {
  const bench = await Bench.start();
  const session = http2.connect(`http://127.0.0.1:${bench.ports.http}`);
  cleanups.push(() => session.destroy());
  const ask = (path: string): http2.ClientHttp2Stream =>
    session.request({ ':method': 'POST', ':path': path, ':authority': 'ask.test' }).on('error', () => {});
  const [kept, gone] = [ask('/held/kept'), ask('/held/gone')];
  kept.end('body');
  await bench.deferred(2);
  // A question is open before it is asked; given up by then, it is heard of by nobody.
  await hears(() => bench.authorizer.asked.length === 2);
  const allowed = ask('/allowed');
  allowed.end();
  const [headers] = (await once(allowed, 'response')) as [http2.IncomingHttpHeaders];
  expect(headers[':status']).toBe(200);
  allowed.resume();
  gone.close(http2.constants.NGHTTP2_CANCEL);
  await bench.deferred(1);
  await hears(() => bench.authorizer.cancelled.includes('/held/gone'));
  expect(bench.authorizer.cancelled).not.toContain('/held/kept');
  bench.authorizer.release();
  let text = '';
  for await (const chunk of kept) text += chunk;
  expect(text).toBe('body/held/kept\n');
  const { completions, aborted } = await bench.facts();
  expect(completions).toContainEqual({ target: DEFERRED, status: 0, reason: CLIENT_GONE });
  expect(aborted).toBe(1);
});

test('an authoriser that fails, or is late, is told to the decision; one that never answers ends in 504', async () => {
  const late = await Bench.start({}, 50);
  expect((await send(late.ports.http, 'ask.test', '/held')).status).toBe(500);
  late.authorizer.stop();
  expect((await send(late.ports.http, 'ask.test', '/allowed')).status).toBe(500);
  const never = await Bench.start({ deferredTimeoutMs: 50 });
  expect((await send(never.ports.http, 'ask.test', '/held')).status).toBe(504);
  await never.deferred(0);
  expect((await never.facts()).completions).toContainEqual({ target: DEFERRED, status: 504, reason: TIMEOUT });
  expect(never.counter('timeouts_deferred')).toBe(1);
});

test('more than may wait are refused without being asked for', async () => {
  const bench = await Bench.start({ maxDeferred: 3 });
  const held = [1, 2, 3].map((i) => send(bench.ports.http, 'ask.test', `/held/${i}`));
  await bench.deferred(3);
  expect((await send(bench.ports.http, 'ask.test', '/allowed')).status).toBe(503);
  expect((await send(bench.ports.http, 'up.test', '/')).status).toBe(200);
  bench.authorizer.release();
  for (const { status } of await Promise.all(held)) expect(status).toBe(200);
  expect(bench.authorizer.asked).not.toContain('/allowed');
  expect((await send(bench.ports.http, 'ask.test', '/allowed')).status).toBe(200);
  expect((await bench.facts()).completions.filter(({ reason }) => reason === OVERFLOW)).toEqual([]);
});

test('an opaque connection waits too', async () => {
  const bench = await Bench.start();
  const client = connect(bench.ports.opaque, '127.0.0.1');
  cleanups.push(() => client.destroy());
  client.end('GET /opaque HTTP/1.1\r\nhost: up.test\r\nconnection: close\r\n\r\n');
  let text = '';
  for await (const chunk of client) text += chunk;
  expect(text).toContain('/opaque\n');
  expect(bench.authorizer.asked).toEqual(['tcp']);
});

test('closing the engine ends what waits, and what asks is told', async () => {
  const bench = await Bench.start();
  const held = send(bench.ports.http, 'ask.test', '/held').then(
    () => 'answered',
    () => 'cut off',
  );
  await bench.deferred(1);
  await hears(() => bench.authorizer.asked.length === 1);
  expect(await bench.stop()).toMatchObject({ open: 0, aborted: 1 });
  expect(await held).toBe('cut off');
});
