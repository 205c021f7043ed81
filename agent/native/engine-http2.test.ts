// HTTP/2 over the real engine, on either side of it: node:http2 and node:http at both ends of one worker thread.
import { once } from 'node:events';
import * as http from 'node:http';
import * as http2 from 'node:http2';
import { connect as dial } from 'node:net';
import { describe, expect, test } from '@jest/globals';
import { until } from '../../test/lab/eventually.js';
import { Bench, call, http1Upstream, http2Upstream, listening } from './testing/http2-scene.js';

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
    await until('no attempt outstanding', () => bench.outstanding[0] === 0);
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
    await until('no attempt outstanding', () => bench.outstanding[0] === 0 && bench.outstanding[1] === 0);
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
    await until('100 kB written', () => written > 100_000);
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
    await until('a reader', () => reading !== undefined);
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
    await until('an attempt outstanding', () => bench.outstanding[0] === 1);
    given.close(http2.constants.NGHTTP2_CANCEL);
    await until('the reset', () => resets.length === 1 && bench.outstanding[0] === 0);
    expect(resets).toEqual([http2.constants.NGHTTP2_CANCEL]);
    const broken = session.request({ ':path': '/broken', ':authority': 'e0.test' });
    broken.resume();
    const [error] = (await once(broken, 'error')) as [Error];
    expect(error.message).toContain('NGHTTP2_INTERNAL_ERROR');
    await until('no attempt outstanding', () => bench.outstanding[0] === 0);
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
    await until('no attempt outstanding', () => bench.outstanding[0] === 0);
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
    await until('no attempt outstanding', () => bench.outstanding[0] === 0);
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
    await until('the GOAWAY', () => goaway >= 0);
    expect(goaway).toBe(http2.constants.NGHTTP2_ENHANCE_YOUR_CALM);
    expect(bench.counter('http2_closed_rapid_reset')).toBe(1);
    await until('no attempt outstanding', () => bench.outstanding[0] === 0);
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
    await until('an attempt outstanding', () => bench.outstanding[0] === 1);
    bench.worker.postMessage('drain');
    const closed = once(session, 'close');
    expect((await busy).status).toBe(200);
    await closed;
    await until('0 connections open', () => bench.counter('downstream_open') === 0);
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
    await until('no attempt outstanding', () => bench.outstanding[0] === 0 && bench.outstanding[1] === 0);
    expect(bench.counter('http2_streams_open')).toBe(0);
  });
});
