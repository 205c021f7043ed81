// HTTP/2 and gRPC over the real engine: node:http2, node:http and grpc-js at both ends of one worker thread.

import { once } from 'node:events';
import * as http from 'node:http';
import * as http2 from 'node:http2';
import { createRequire } from 'node:module';
import type { AddressInfo, Server, Socket } from 'node:net';
import { connect as dial } from 'node:net';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import * as grpc from '@grpc/grpc-js';
import { afterEach, describe, expect, test } from '@jest/globals';
import type { EngineAddon, EngineLimits } from './engine.js';
import { TEST_LIMITS } from './testing/limits.js';

const ADDON = process.env.WEFT_ADDON ?? join(process.cwd(), 'native/build/Release/weft.node');
const LIMITS: EngineLimits = { ...TEST_LIMITS, requestTimeoutMs: 0 };

interface Upstream {
  readonly port: number;
  readonly protocol: 'http1' | 'http2';
}

const closers: (() => void)[] = [];

async function listening(server: Server | http2.Http2Server | http.Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closers.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

async function http2Upstream(onStream: (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => void): Promise<Upstream> {
  const server = http2.createServer();
  server.on('sessionError', () => {});
  server.on('stream', (stream, headers) => {
    stream.on('error', () => {});
    onStream(stream, headers);
  });
  return { port: await listening(server), protocol: 'http2' };
}

async function http1Upstream(onRequest: http.RequestListener): Promise<Upstream> {
  return { port: await listening(http.createServer(onRequest)), protocol: 'http1' };
}

class Bench {
  private readonly sessions: http2.ClientHttp2Session[] = [];
  private constructor(
    readonly worker: Worker,
    readonly ports: { http1: number; http2: number; http: number },
    readonly counters: Float64Array,
    readonly outstanding: Int32Array,
  ) {}

  static async start(
    endpoints: readonly Upstream[],
    limits: Partial<EngineLimits> = {},
    trustedHops: number | null = null,
  ): Promise<Bench> {
    const counters = new Float64Array(new SharedArrayBuffer(8 * 256));
    const outstanding = new Int32Array(new SharedArrayBuffer(4 * 16));
    const worker = new Worker(join(process.cwd(), 'agent/native/engine-http2-test-worker.mjs'), {
      workerData: { addon: ADDON, limits: { ...LIMITS, ...limits }, endpoints, counters, outstanding, trustedHops },
    });
    const [ports] = (await once(worker, 'message')) as [Bench['ports']];
    return new Bench(worker, ports, counters, outstanding);
  }

  counter(name: string): number {
    return this.counters[addon().counterNames().indexOf(name)]!;
  }

  session(port = this.ports.http2, options: http2.ClientSessionOptions = {}): http2.ClientHttp2Session {
    const session = http2.connect(`http://127.0.0.1:${port}`, options);
    session.on('error', () => {});
    this.sessions.push(session);
    return session;
  }

  async stop(): Promise<void> {
    for (const session of this.sessions) session.destroy();
    this.worker.postMessage('close');
    await once(this.worker, 'exit');
  }
}

function addon(): EngineAddon {
  return createRequire(join(process.cwd(), 'package.json'))(ADDON) as EngineAddon;
}

interface Answer {
  readonly status: number;
  readonly headers: http2.IncomingHttpHeaders;
  readonly trailers: http2.IncomingHttpHeaders;
  readonly body: string;
}

async function call(session: http2.ClientHttp2Session, headers: http2.OutgoingHttpHeaders, body?: string | Buffer): Promise<Answer> {
  const stream = session.request(headers, { endStream: body === undefined });
  let received = '';
  let trailers: http2.IncomingHttpHeaders = {};
  const head = once(stream, 'response') as Promise<[http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader]>;
  stream.on('trailers', (fields) => {
    trailers = fields;
  });
  stream.setEncoding('latin1').on('data', (piece: string) => {
    received += piece;
  });
  if (body !== undefined) stream.end(body);
  const [[fields]] = await Promise.all([head, once(stream, 'end')]);
  return { status: fields[':status']!, headers: fields, trailers, body: received };
}

async function untilTrue(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((next) => setTimeout(next, 2));
}

function plainGet(
  port: number,
  host: string,
  path = '/',
  body?: string,
): Promise<{ status: number; body: string; message: http.IncomingMessage }> {
  return new Promise((resolve, reject) => {
    const request = http.request(
      { host: '127.0.0.1', port, path, method: body === undefined ? 'GET' : 'POST', headers: { host }, agent: false },
      (message) => {
        let received = '';
        message.setEncoding('latin1').on('data', (piece: string) => {
          received += piece;
        });
        message.on('end', () => resolve({ status: message.statusCode!, body: received, message }));
        message.on('error', reject);
      },
    );
    request.on('error', reject);
    request.end(body);
  });
}

/** Answers with the size of the body, a trailer, and `?n=` further bytes. */
function measuring(stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders): void {
  let size = 0;
  stream.on('data', (bytes: Buffer) => {
    size += bytes.length;
  });
  stream.on('end', () => {
    const more = Number(new URL(`http://a${headers[':path']}`).searchParams.get('n') ?? 0);
    stream.respond({ ':status': 200, 'x-authority': headers[':authority'], 'x-set': headers['x-set'] ?? '-' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-size': String(size) }));
    stream.end('x'.repeat(more));
  });
}

let bench: Bench;
afterEach(async () => {
  await bench.stop();
  for (const close of closers.splice(0)) close();
});

describe('HTTP/2', () => {
  test('goes through with bodies, trailers and mutations, over one upstream connection', async () => {
    bench = await Bench.start([await http2Upstream(measuring)]);
    const session = bench.session();
    const get = await call(session, { ':path': '/mutated', ':authority': 'e0.test' });
    expect([get.status, get.headers['x-authority'], get.headers['x-set'], get.trailers['x-size']]).toEqual([200, 'e0.test', 'yes', '0']);
    const post = await call(session, { ':path': '/', ':method': 'POST', ':authority': 'e0.test' }, Buffer.alloc(1_000_000));
    expect(post.trailers['x-size']).toBe('1000000');
    const large = await call(session, { ':path': '/?n=3000000', ':authority': 'e0.test' });
    expect([large.body.length, large.trailers['x-size']]).toEqual([3_000_000, '0']);
    expect(bench.counter('upstream_connects')).toBe(1);
    await untilTrue(() => bench.outstanding[0] === 0);
  });

  test('becomes HTTP/1 for an upstream that speaks it, chunked where the length is not known, and trailers go along', async () => {
    bench = await Bench.start([
      await http1Upstream((request, response) => {
        let size = 0;
        request.on('data', (bytes: Buffer) => {
          size += bytes.length;
        });
        request.on('end', () => {
          response.writeHead(200, { trailer: 'x-size', 'x-host': request.headers.host, 'x-cookie': request.headers.cookie ?? '' });
          response.addTrailers({ 'x-size': `${size} ${request.headers['transfer-encoding']} ${request.trailers['x-sum'] ?? ''}` });
          response.end('done');
        });
      }),
    ]);
    const session = bench.session();
    const stream = session.request(
      { ':path': '/', ':method': 'POST', ':authority': 'e0.test', cookie: ['a=1', 'b=2'] },
      { waitForTrailers: true },
    );
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': '42' }));
    stream.end(Buffer.alloc(300_000));
    const [headers] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders];
    const [trailers] = (await once(stream, 'trailers')) as [http2.IncomingHttpHeaders];
    stream.resume();
    expect([headers['x-host'], headers['x-cookie'], trailers['x-size']]).toEqual(['e0.test', 'a=1; b=2', '300000 chunked 42']);
  });

  test('is made of HTTP/1 for an upstream that speaks it, and the answer chunked again', async () => {
    bench = await Bench.start([await http2Upstream(measuring)], {}, 0);
    const post = await plainGet(bench.ports.http1, 'e0.test', '/?n=500000', 'b'.repeat(200_000));
    expect([post.status, post.body.length, post.message.headers['transfer-encoding'], post.message.trailers['x-size']]).toEqual([
      200,
      500_000,
      'chunked',
      '200000',
    ]);
    expect(bench.counter('upstream_connects')).toBe(1);
  });

  test('is told from HTTP/1 by its first bytes', async () => {
    bench = await Bench.start([await http2Upstream(measuring)]);
    expect((await call(bench.session(bench.ports.http), { ':path': '/', ':authority': 'e0.test' })).status).toBe(200);
    expect((await plainGet(bench.ports.http, 'e0.test')).status).toBe(200);
  });

  test('answers locally, and brings a request whose upstream refuses back for another decision', async () => {
    const dead = http.createServer();
    const deadPort = await listening(dead);
    dead.close();
    bench = await Bench.start([await http2Upstream(measuring), { port: deadPort, protocol: 'http2' }]);
    const session = bench.session();
    const local = await call(session, { ':path': '/', ':authority': 'local.test' });
    expect([local.status, local.headers['retry-after'], local.body]).toEqual([503, '1', 'not now\n']);
    expect((await call(session, { ':path': '/', ':authority': 'nowhere.test' })).status).toBe(404);
    expect((await call(session, { ':path': '/', ':method': 'POST', ':authority': 'retry.test' }, 'body')).trailers['x-size']).toBe('4');
    await untilTrue(() => bench.outstanding[0] === 0 && bench.outstanding[1] === 0);
  });

  test('holds little of a large answer while its client does not read, and does not hold up the other streams', async () => {
    const size = 50_000_000;
    let written = 0;
    bench = await Bench.start([
      await http2Upstream((stream, headers) => {
        if (headers[':path'] === '/small') return measuring(stream, headers);
        stream.respond({ ':status': 200 });
        const more = (): void => {
          while (written < size) {
            written += 100_000;
            if (!stream.write(Buffer.alloc(100_000))) return void stream.once('drain', more);
          }
          stream.end();
        };
        more();
      }),
    ]);
    const session = bench.session();
    const slow = session.request({ ':path': '/large', ':authority': 'e0.test' });
    slow.pause();
    await untilTrue(() => written > 100_000);
    for (let i = 0; i < 50; i++) expect((await call(session, { ':path': '/small', ':authority': 'e0.test' })).status).toBe(200);
    expect(written).toBeLessThan(5_000_000);
    let received = 0;
    slow.on('data', (bytes: Buffer) => {
      received += bytes.length;
    });
    slow.resume();
    await once(slow, 'end');
    expect(received).toBe(size);
  });

  test('an upload waits for its upstream to read, and arrives whole', async () => {
    let reading: http2.ServerHttp2Stream | undefined;
    bench = await Bench.start([
      await http2Upstream((stream) => {
        stream.pause();
        reading = stream;
      }),
    ]);
    const stream = bench.session().request({ ':path': '/', ':method': 'POST', ':authority': 'e0.test' });
    let written = 0;
    while (stream.write(Buffer.alloc(65_536)) && written < 1e8) written += 65_536;
    await untilTrue(() => reading !== undefined);
    const total = 20_000_000;
    stream.end(Buffer.alloc(total));
    let received = 0;
    reading!.on('data', (bytes: Buffer) => {
      received += bytes.length;
    });
    reading!.on('end', () => {
      reading!.respond({ ':status': 200 });
      reading!.end();
    });
    reading!.resume();
    await once(stream, 'response');
    expect(received).toBeGreaterThanOrEqual(total);
  });

  test('a reset goes over to the upstream, and the other way', async () => {
    const resets: number[] = [];
    bench = await Bench.start([
      await http2Upstream((stream, headers) => {
        stream.on('close', () => resets.push(stream.rstCode));
        if (headers[':path'] === '/broken') {
          stream.respond({ ':status': 200 });
          stream.write('half');
          stream.on('data', () => {});
          setImmediate(() => stream.destroy(new Error('as asked')));
        }
      }),
    ]);
    const session = bench.session();
    const given = session.request({ ':path': '/', ':authority': 'e0.test' });
    await untilTrue(() => bench.outstanding[0] === 1);
    given.close(http2.constants.NGHTTP2_CANCEL);
    await untilTrue(() => resets.length === 1 && bench.outstanding[0] === 0);
    expect(resets).toEqual([http2.constants.NGHTTP2_CANCEL]);
    const broken = session.request({ ':path': '/broken', ':authority': 'e0.test' });
    broken.resume();
    const [error] = (await once(broken, 'error')) as [Error];
    expect(error.message).toContain('NGHTTP2_INTERNAL_ERROR');
    await untilTrue(() => bench.outstanding[0] === 0);
  });

  test('a GOAWAY of the upstream ends nothing that it serves, and what it refuses goes to a new connection', async () => {
    let connections = 0;
    const server = http2.createServer();
    server.on('session', (session) => {
      connections++;
      if (connections === 1) session.once('stream', () => setImmediate(() => session.goaway(0)));
    });
    server.on('stream', (stream, headers) => {
      stream.on('error', () => {});
      setTimeout(() => measuring(stream, headers), 20);
    });
    bench = await Bench.start([{ port: await listening(server), protocol: 'http2' }]);
    const session = bench.session();
    const answers = await Promise.all(Array.from({ length: 20 }, () => call(session, { ':path': '/', ':authority': 'e0.test' })));
    expect(answers.map(({ status }) => status)).toEqual(new Array(20).fill(200));
    expect((await call(session, { ':path': '/', ':authority': 'e0.test' })).status).toBe(200);
    expect(connections).toBeGreaterThan(1);
    await untilTrue(() => bench.outstanding[0] === 0);
  });

  test('respects the upstream’s stream limit: what is too much waits its turn', async () => {
    let open = 0;
    let most = 0;
    const server = http2.createServer({ settings: { maxConcurrentStreams: 3 } });
    server.on('stream', (stream) => {
      stream.on('error', () => {});
      most = Math.max(most, ++open);
      setTimeout(() => {
        open--;
        stream.respond({ ':status': 200 });
        stream.end();
      }, 2);
    });
    bench = await Bench.start([{ port: await listening(server), protocol: 'http2' }]);
    const session = bench.session();
    await call(session, { ':path': '/', ':authority': 'e0.test' });
    const answers = await Promise.all(Array.from({ length: 120 }, () => call(session, { ':path': '/', ':authority': 'e0.test' })));
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(120);
    expect(bench.counter('upstream_waits')).toBeGreaterThan(0);
    await untilTrue(() => bench.outstanding[0] === 0);
  });

  test('a client that resets request after request is shown out', async () => {
    bench = await Bench.start([await http2Upstream(() => {})]);
    const session = bench.session();
    let goaway = -1;
    session.on('goaway', (code) => {
      goaway = code;
    });
    for (let round = 0; round < 100 && goaway < 0; round++) {
      for (let i = 0; i < 50 && !session.destroyed && !session.closed; i++) {
        const stream = session.request({ ':path': '/', ':authority': 'e0.test' });
        stream.on('error', () => {});
        stream.close(http2.constants.NGHTTP2_CANCEL);
      }
      await new Promise(setImmediate);
    }
    await untilTrue(() => goaway >= 0);
    expect(goaway).toBe(http2.constants.NGHTTP2_ENHANCE_YOUR_CALM);
    expect(bench.counter('http2_closed_rapid_reset')).toBe(1);
    await untilTrue(() => bench.outstanding[0] === 0);
  });

  test('a client that pings without end is shown out', async () => {
    bench = await Bench.start([await http2Upstream(() => {})]);
    const socket = dial(bench.ports.http2, '127.0.0.1');
    socket.on('error', () => {});
    socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
    socket.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
    const ping = Buffer.from([0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    socket.write(Buffer.concat(new Array(5000).fill(ping)));
    socket.resume();
    await once(socket, 'close');
    expect(bench.counter('http2_closed_control_flood')).toBe(1);
  });

  test('drains: GOAWAY, the open stream ends well, the connection closes', async () => {
    bench = await Bench.start([
      await http2Upstream((stream, headers) => {
        setTimeout(() => measuring(stream, headers), 100);
      }),
    ]);
    const session = bench.session();
    const busy = call(session, { ':path': '/', ':authority': 'e0.test' });
    await untilTrue(() => bench.outstanding[0] === 1);
    bench.worker.postMessage('drain');
    const closed = once(session, 'close');
    expect((await busy).status).toBe(200);
    await closed;
    await untilTrue(() => bench.counter('downstream_open') === 0);
  });

  test('loses none of 10,000 requests of many connections, bodies and paths', async () => {
    bench = await Bench.start([
      await http2Upstream(measuring),
      await http1Upstream((request, response) => {
        request.resume().on('end', () => response.end('ok'));
      }),
    ]);
    const sessions = Array.from({ length: 8 }, () => bench.session());
    let done = 0;
    const one = async (worker: number): Promise<void> => {
      for (let i = 0; i < 100; i++) {
        const authority = i % 3 === 0 ? 'e1.test' : 'e0.test';
        const body = i % 2 === 0 ? undefined : Buffer.alloc((i * 977) % 5000);
        const answer = await call(
          sessions[worker % 8]!,
          { ':path': `/${i}?n=${(i * 31) % 2000}`, ':method': body ? 'POST' : 'GET', ':authority': authority },
          body,
        );
        if (answer.status === 200 && (authority === 'e1.test' || answer.trailers['x-size'] === String(body?.length ?? 0))) done++;
      }
    };
    await Promise.all(Array.from({ length: 100 }, (_, worker) => one(worker)));
    expect(done).toBe(10_000);
    await untilTrue(() => bench.outstanding[0] === 0 && bench.outstanding[1] === 0);
    expect(bench.counter('http2_streams_open')).toBe(0);
  });
});

const identity = { serialize: (value: Buffer): Buffer => value, deserialize: (bytes: Buffer): Buffer => bytes };
const method = (name: string, requestStream: boolean, responseStream: boolean) => ({
  path: `/test.Echo/${name}`,
  requestStream,
  responseStream,
  requestSerialize: identity.serialize,
  requestDeserialize: identity.deserialize,
  responseSerialize: identity.serialize,
  responseDeserialize: identity.deserialize,
});
const ECHO = {
  unary: method('Unary', false, false),
  upload: method('Upload', true, false),
  download: method('Download', false, true),
  both: method('Both', true, true),
};

async function grpcUpstream(): Promise<Upstream> {
  const server = new grpc.Server();
  server.addService(ECHO, {
    unary: (request: grpc.ServerUnaryCall<Buffer, Buffer>, answer: grpc.sendUnaryData<Buffer>) => {
      if (request.request.toString() === 'sleep') return;
      if (request.request.toString() === 'fail') return answer({ code: grpc.status.ALREADY_EXISTS, details: 'as asked' });
      answer(null, request.request);
    },
    upload: (request: grpc.ServerReadableStream<Buffer, Buffer>, answer: grpc.sendUnaryData<Buffer>) => {
      let size = 0;
      request.on('data', (bytes: Buffer) => {
        size += bytes.length;
      });
      request.on('end', () => answer(null, Buffer.from(String(size))));
    },
    download: (request: grpc.ServerWritableStream<Buffer, Buffer>) => {
      for (let i = 0; i < 100; i++) request.write(Buffer.alloc(10_000));
      request.end();
    },
    both: (request: grpc.ServerDuplexStream<Buffer, Buffer>) => {
      request.on('data', (bytes: Buffer) => request.write(bytes));
      request.on('end', () => request.end());
    },
  });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  closers.push(() => server.forceShutdown());
  return { port, protocol: 'http2' };
}

describe('gRPC', () => {
  const clientOf = (authority: string): grpc.Client & Record<string, (...args: never[]) => unknown> => {
    const Client = grpc.makeGenericClientConstructor(ECHO, 'Echo');
    const client = new Client(`127.0.0.1:${bench.ports.http2}`, grpc.credentials.createInsecure(), { 'grpc.default_authority': authority });
    closers.push(() => client.close());
    return client as never;
  };
  const unary = (
    client: grpc.Client,
    body: string,
    deadline?: number,
  ): Promise<{ error: grpc.ServiceError | null; body: Buffer | undefined }> =>
    new Promise((resolve) => {
      client.makeUnaryRequest(
        ECHO.unary.path,
        identity.serialize,
        identity.deserialize,
        Buffer.from(body),
        new grpc.Metadata(),
        deadline === undefined ? {} : { deadline: Date.now() + deadline },
        (error, answer) => resolve({ error, body: answer }),
      );
    });

  test('all four kinds of calls', async () => {
    bench = await Bench.start([await grpcUpstream()]);
    const client = clientOf('e0.test');
    expect((await unary(client, 'hello')).body?.toString()).toBe('hello');
    expect((await unary(client, 'fail')).error?.code).toBe(grpc.status.ALREADY_EXISTS);
    const uploaded = await new Promise<Buffer>((resolve, reject) => {
      const upload = client.makeClientStreamRequest(
        ECHO.upload.path,
        identity.serialize,
        identity.deserialize,
        new grpc.Metadata(),
        {},
        (error, answer) => (error ? reject(error) : resolve(answer!)),
      );
      for (let i = 0; i < 100; i++) upload.write(Buffer.alloc(10_000));
      upload.end();
    });
    expect(uploaded.toString()).toBe('1000000');
    const download = client.makeServerStreamRequest(
      ECHO.download.path,
      identity.serialize,
      identity.deserialize,
      Buffer.from('x'),
      new grpc.Metadata(),
      {},
    );
    let downloaded = 0;
    for await (const piece of download) downloaded += (piece as Buffer).length;
    expect(downloaded).toBe(1_000_000);
    const both = client.makeBidiStreamRequest(ECHO.both.path, identity.serialize, identity.deserialize, new grpc.Metadata(), {});
    for (let i = 0; i < 50; i++) {
      both.write(Buffer.from(`message ${i}`));
      const [answer] = (await once(both, 'data')) as [Buffer];
      expect(answer.toString()).toBe(`message ${i}`);
    }
    both.end();
    const [status] = (await once(both, 'status')) as [grpc.StatusObject];
    expect(status.code).toBe(grpc.status.OK);
  });

  test('errors of the proxy are statuses: no route, no upstream, no time', async () => {
    const dead = http.createServer();
    const deadPort = await listening(dead);
    dead.close();
    bench = await Bench.start([await grpcUpstream(), { port: deadPort, protocol: 'http2' }]);
    expect((await unary(clientOf('nowhere.test'), 'x')).error?.code).toBe(grpc.status.UNIMPLEMENTED);
    expect((await unary(clientOf('local.test'), 'x')).error?.code).toBe(grpc.status.UNAVAILABLE);
    expect((await unary(clientOf('e1.test'), 'x')).error?.code).toBe(grpc.status.UNAVAILABLE);
    expect((await unary(clientOf('slow.test'), 'sleep')).error?.code).toBe(grpc.status.DEADLINE_EXCEEDED);
    await untilTrue(() => bench.outstanding.every((count) => count === 0));
  });

  test('the deadline is kept by the proxy, and told shortened to the upstream', async () => {
    const told: string[] = [];
    bench = await Bench.start([
      await http2Upstream((stream, headers) => {
        told.push(String(headers['grpc-timeout']));
        stream.on('data', () => {});
      }),
    ]);
    const answer = await call(
      bench.session(),
      {
        ':path': '/test.Echo/Unary',
        ':method': 'POST',
        ':authority': 'e0.test',
        'content-type': 'application/grpc',
        te: 'trailers',
        'grpc-timeout': '150000u',
      },
      Buffer.from([0, 0, 0, 0, 0]),
    );
    expect([answer.status, answer.headers['grpc-status'], answer.headers['content-type']]).toEqual([200, '4', 'application/grpc']);
    expect(told[0]).toMatch(/^(14\d|150)m$/);
    const slow = await call(
      bench.session(),
      {
        ':path': '/test.Echo/Unary',
        ':method': 'POST',
        ':authority': 'slow.test',
        'content-type': 'application/grpc',
        te: 'trailers',
        'grpc-timeout': '5S',
      },
      Buffer.from([0, 0, 0, 0, 0]),
    );
    expect(slow.headers['grpc-status']).toBe('4');
    expect(told[1]).toMatch(/^(19\d|200)m$/);
  });

  test('loses none of 3,000 calls', async () => {
    bench = await Bench.start([await grpcUpstream()]);
    const clients = Array.from({ length: 4 }, () => clientOf('e0.test'));
    let good = 0;
    const one = async (worker: number): Promise<void> => {
      for (let i = 0; i < 75; i++) {
        const text = `${worker} ${i} ${'x'.repeat((i * 37) % 3000)}`;
        if ((await unary(clients[worker % 4]!, text)).body?.toString() === text) good++;
      }
    };
    await Promise.all(Array.from({ length: 40 }, (_, worker) => one(worker)));
    expect(good).toBe(3000);
  });
});
