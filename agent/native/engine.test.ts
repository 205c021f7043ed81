// The engine over real sockets: one worker thread, raw node:net clients and upstreams. The core's own units are in native/test.
import { connect, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from '@jest/globals';
import { until } from '../../test/lab/eventually.js';
import { type AccessLogAddon, MAX_LINE_BYTES, Missing } from './access-log.js';
import type { EngineAddon } from './engine.js';
import { addon } from './testing/addon.js';
import { Bench, Client, GET, heads, OK, sockets } from './testing/http1-scene.js';

const to = (host: string) => GET.replace('up.test', host);

let bench: Bench;
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  expect(await bench.stop()).toBe(0);
});

describe('HTTP/1.1', () => {
  test('keeps both sides alive: ten requests of one client use one upstream connection', async () => {
    let connections = 0;
    bench = await Bench.start((socket) => {
      connections++;
      heads((from) => from.write(OK))(socket);
    });
    const client = new Client(bench.ports.http);
    for (let i = 1; i <= 10; i++) {
      client.socket.write(GET);
      await client.answers(i);
    }
    expect(connections).toBe(1);
    expect(bench.counter('upstream_reuses')).toBe(9);
    await until('no attempt outstanding', () => bench.outstanding[0] === 0);
  });

  test('answers pipelined requests in order, one at a time', async () => {
    let waiting = 0;
    let most = 0;
    bench = await Bench.start(
      heads((socket, head) => {
        most = Math.max(most, ++waiting);
        setImmediate(() => {
          waiting--;
          const path = head.split(' ')[1]!;
          socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${path.length}\r\n\r\n${path}`);
        });
      }),
    );
    const client = new Client(bench.ports.http);
    client.socket.write(Array.from({ length: 20 }, (_, i) => `GET /n${i}. HTTP/1.1\r\nHost: up.test\r\n\r\n`).join(''));
    await client.until((at) => at.received.includes('/n19.'));
    expect(client.received.match(/\/n\d+\./g)).toEqual(Array.from({ length: 20 }, (_, i) => `/n${i}.`));
    expect(most).toBe(1);
  });

  test('takes a request and its chunked body in single bytes, and gives a chunked answer back', async () => {
    let body = '';
    bench = await Bench.start((socket) => {
      socket.setEncoding('latin1');
      socket.on('data', (piece: string) => {
        body += piece;
        if (body.endsWith('0\r\n\r\n')) {
          for (const byte of 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n3\r\nyes\r\n0\r\n\r\n') socket.write(byte);
        }
      });
    });
    const client = new Client(bench.ports.http);
    const request = 'POST /x HTTP/1.1\r\nHost: up.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=1\r\n world\r\n0\r\n\r\n';
    for (const byte of request) {
      client.socket.write(byte);
      await new Promise(setImmediate);
    }
    await client.until((at) => at.received.endsWith('0\r\n\r\n'));
    const payload = (text: string) => text.slice(text.indexOf('\r\n\r\n') + 4).replace(/(?:^|\r\n)[0-9a-fA-F]+\r\n/g, '');
    expect(payload(body).trim()).toBe('hello world');
    expect(payload(client.received).trim()).toBe('okyes');
  });

  test('sends a request again when its reused upstream connection turns out to be dead', async () => {
    let served = 0;
    bench = await Bench.start((socket) => {
      const mine = socket;
      let first = true;
      socket.on('data', () => {
        served++;
        if (first) {
          first = false;
          mine.write(OK);
          return;
        }
        mine.resetAndDestroy();
      });
    });
    const client = new Client(bench.ports.http);
    client.socket.write(GET);
    await client.answers(1);
    client.socket.write(GET);
    await client.answers(2);
    expect(served).toBe(3);
    expect(bench.counter('retries_stale')).toBe(1);
    expect(client.received).not.toContain('503');
  });

  test('does not repeat a POST that a dying upstream may have processed', async () => {
    let posts = 0;
    bench = await Bench.start((socket) => {
      socket.on('data', (bytes) => {
        if (!bytes.toString().startsWith('POST')) return void socket.write(OK);
        posts++;
        socket.resetAndDestroy();
      });
    });
    const client = new Client(bench.ports.http);
    client.socket.write(GET);
    await client.answers(1);
    client.socket.write('POST /x HTTP/1.1\r\nHost: up.test\r\nContent-Length: 2\r\n\r\nhi');
    await client.until((at) => at.received.includes('503'));
    expect(posts).toBe(1);
  });

  test('brings a request whose upstream refuses back for another decision', async () => {
    bench = await Bench.start(heads((socket) => socket.write(OK)));
    const client = new Client(bench.ports.http);
    client.socket.write(to('retry.test'));
    await client.answers(1);
    // The engine gives back just after it has sent the answer.
    await until('no attempt outstanding', () => bench.outstanding.subarray(0, 3).every((count) => count === 0));
    client.socket.write(to('dead.test'));
    await client.until((at) => at.received.includes('503 Service Unavailable'));
    await until('no attempt outstanding', () => bench.outstanding[1] === 0);
  });

  test('answers locally, with the prepared body, and goes on', async () => {
    bench = await Bench.start(heads((socket) => socket.write(OK)));
    const client = new Client(bench.ports.http);
    client.socket.write(to('local.test') + to('nowhere.test') + GET);
    await client.answers(1);
    expect(client.received).toMatch(/429 Too Many Requests[\s\S]*retry-after: 1[\s\S]*slow down\n[\s\S]*404 Not Found[\s\S]*200 OK/);
  });

  test('answers 503 when the decision function throws, and lives on', async () => {
    bench = await Bench.start(heads((socket) => socket.write(OK)));
    const client = new Client(bench.ports.http);
    client.socket.write(to('throw.test'));
    await client.until((at) => at.received.includes('503'));
    client.socket.write(GET);
    await client.answers(1);
  });

  test('forwards 100 Continue, HEAD without a body, 204, and an answer that ends with its connection', async () => {
    bench = await Bench.start(
      heads((socket, head) => {
        if (head.startsWith('HEAD')) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n');
        else if (head.startsWith('DELETE')) socket.write('HTTP/1.1 204 No Content\r\n\r\n');
        else if (head.startsWith('POST')) {
          socket.write('HTTP/1.1 100 Continue\r\n\r\n');
          socket.removeAllListeners('data').on('data', () => socket.write(OK));
        } else socket.end('HTTP/1.1 200 OK\r\n\r\nuntil the end');
      }),
    );
    const other = new Client(bench.ports.http);
    other.socket.write('GET /x HTTP/1.0\r\nHost: up.test\r\n\r\n');
    await other.until((at) => at.ended);
    expect(other.received).toMatch(/connection: close\r\n(?:.*\r\n)*\r\nuntil the end$/);
    const client = new Client(bench.ports.http);
    client.socket.write('HEAD /x HTTP/1.1\r\nHost: up.test\r\n\r\nDELETE /x HTTP/1.1\r\nHost: up.test\r\n\r\n');
    await client.until((at) => at.received.includes('204 No Content'));
    client.socket.write('POST /x HTTP/1.1\r\nHost: up.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n');
    await client.until((at) => at.received.includes('100 Continue'));
    client.socket.write('body');
    await client.answers(1);
  });

  test('turns a 101 into a tunnel', async () => {
    bench = await Bench.start((socket) => {
      socket.once('data', () => {
        socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nearly.');
        socket.on('data', (bytes) => socket.write(bytes));
        socket.on('end', () => socket.end('bye'));
      });
    });
    const client = new Client(bench.ports.http);
    client.socket.write('GET /x HTTP/1.1\r\nHost: up.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n');
    await client.until((at) => at.received.includes('early.'));
    client.socket.write('\0anything');
    await client.until((at) => at.received.endsWith('\0anything'));
    client.socket.end();
    await client.until((at) => at.ended);
    expect(client.received).toMatch(/bye$/);
    await until('no attempt outstanding', () => bench.outstanding[0] === 0);
  });

  test('resets the client when an answer breaks off, and reports UC', async () => {
    let answering: Socket | undefined;
    bench = await Bench.start(
      heads((socket) => {
        answering = socket;
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf');
      }),
    );
    const client = new Client(bench.ports.http);
    client.socket.write(GET);
    await client.until((at) => at.received.endsWith('half'));
    answering!.end();
    await client.closed();
    expect(client.failed).toBe(true);
    await until('a second call to decide', () => bench.counter('decide_calls') >= 2);
    const [completion] = await bench.ask<number[][]>('completions');
    expect(completion!.slice(0, 4)).toEqual([0, 7, 200, 4]);
  });

  test('gives up a request whose client has gone', async () => {
    let closed = 0;
    bench = await Bench.start((socket) => {
      socket.on('data', () => {});
      socket.on('end', () => socket.end());
      socket.on('close', () => closed++);
    });
    const client = new Client(bench.ports.http);
    client.socket.write(GET);
    await until('an attempt outstanding', () => bench.outstanding[0] === 1);
    client.socket.destroy();
    await until('its end', () => closed === 1 && bench.outstanding[0] === 0);
  });

  test('holds little of a 100 MB answer while its client does not read, and delivers it whole', async () => {
    const [size, piece] = [100_000_000, Buffer.alloc(1_000_000, 'x')];
    let [sent, received, most] = [0, 0, 0];
    bench = await Bench.start(
      heads((socket) => {
        const write = (): void => {
          for (let isTaken = true; isTaken && sent < size; sent += piece.length) isTaken = socket.write(piece);
          if (sent < size) socket.once('drain', write);
        };
        socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${size}\r\n\r\n`);
        write();
      }),
    );
    const client = connect({ port: bench.ports.http, host: '127.0.0.1' });
    sockets.add(client);
    client.pause();
    client.write(GET);
    // Until the upstream is no longer rid of a piece. Where a busy machine only looks so, the reading begins early: it is slow enough.
    for (let [before, still] = [0, 0]; still < 20; before = sent) {
      await new Promise((next) => setTimeout(next, 2));
      still = sent > 0 && sent === before ? still + 1 : 0;
    }
    client.on('data', (bytes: Buffer) => {
      most = Math.max(most, sent - received);
      received += bytes.length;
      if (received % 7 === 0) {
        client.pause();
        setImmediate(() => client.resume());
      }
    });
    client.resume();
    await until('every byte', () => received >= size);
    // Nearly all of it in the kernel's buffers of four sockets.
    expect(most).toBeLessThan(40_000_000);
  });
});

describe('limits and times', () => {
  test('408 for a head that does not come, 504 for an answer that does not, by exchange and by attempt', async () => {
    bench = await Bench.start(() => {}, { headerTimeoutMs: 60, requestTimeoutMs: 150 });
    const slow = new Client(bench.ports.http);
    slow.socket.write('GET /x HT');
    const silent = new Client(bench.ports.http);
    silent.socket.write(to('silent.test'));
    const attempt = new Client(bench.ports.http);
    attempt.socket.write(to('attempt.test'));
    await slow.until((at) => at.received.includes('408 '));
    await attempt.until((at) => at.received.includes('504 '));
    await silent.until((at) => at.received.includes('504 '));
    expect([bench.counter('timeouts_header'), bench.counter('timeouts_attempt'), bench.counter('timeouts_request')]).toEqual([1, 1, 1]);
  });

  test('closes connections above the limit and idle ones', async () => {
    bench = await Bench.start(() => {}, { maxConnections: 2, idleTimeoutMs: 300 });
    const kept = [new Client(bench.ports.http), new Client(bench.ports.http)];
    await until('2 connections open', () => bench.counter('downstream_open') === 2);
    const third = new Client(bench.ports.http);
    await third.until((at) => at.ended || at.failed);
    expect(bench.counter('downstream_refused_limit')).toBe(1);
    await Promise.all(kept.map((client) => client.until((at) => at.ended)));
  });

  test('408 for a body that stops coming, while a connection between requests may stay', async () => {
    bench = await Bench.start(
      heads((socket, head) => void (head.startsWith('GET') && socket.write(OK))),
      { streamIdleTimeoutMs: 300 },
    );
    const between = new Client(bench.ports.http);
    between.socket.write(to('up.test'));
    await between.answers(1);
    const stalled = new Client(bench.ports.http);
    stalled.socket.write('POST / HTTP/1.1\r\nHost: up.test\r\nContent-Length: 10\r\n\r\nhalf');
    await stalled.until((at) => at.ended);
    expect(stalled.received).toContain('408 ');
    between.socket.write(to('up.test'));
    await between.answers(2);
  });

  test('refuses heads that are too long or malformed, and closes', async () => {
    bench = await Bench.start(() => {});
    const long = new Client(bench.ports.http);
    long.socket.write(`GET / HTTP/1.1\r\nHost: up.test\r\nX: ${'x'.repeat(9000)}\r\n\r\n`);
    await long.until((at) => at.ended);
    expect(long.received).toMatch(/^HTTP\/1.1 431 /);
    const smuggler = new Client(bench.ports.http);
    smuggler.socket.write('POST / HTTP/1.1\r\nHost: up.test\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n');
    await smuggler.until((at) => at.ended);
    expect(smuggler.received).toMatch(/^HTTP\/1.1 400 /);
  });
});

describe('opaque TCP', () => {
  test('relays both ways and each end of them on its own', async () => {
    bench = await Bench.start((socket) => {
      let got = '';
      socket.on('data', (bytes) => {
        got += bytes.toString();
      });
      socket.on('end', () => socket.end(`got ${got}`));
    });
    const client = new Client(bench.ports.opaque);
    client.socket.end('first half');
    await client.until((at) => at.ended);
    expect(client.received).toBe('got first half');
    await until('no attempt outstanding', () => bench.outstanding[0] === 0);
  });

  test('resets the client when nothing listens behind', async () => {
    bench = await Bench.start(() => {});
    const client = new Client(bench.ports.deadOpaque);
    await client.closed();
    expect(client.failed).toBe(true);
    await until('no attempt outstanding', () => bench.outstanding[1] === 0);
  });
});

describe('life', () => {
  test('adds what a gateway must, and writes the access log', async () => {
    let head = '';
    bench = await Bench.start(
      heads((socket, text) => {
        head = text;
        socket.write(OK);
      }),
      {},
      true,
    );
    const client = new Client(bench.ports.forwarded);
    client.socket.write('GET /a?b HTTP/1.1\r\nHost: up.test\r\nUser-Agent: probe\r\nX-Forwarded-For: 10.9.9.9\r\n\r\n');
    await client.answers(1);
    expect(head).toMatch(/x-forwarded-for: 10\.9\.9\.9, 127\.0\.0\.1\r\n/i);
    expect(head).toMatch(/x-request-id: [0-9a-f-]{36}\r\n/);
    await until('the record', () => bench.counter('access_log_records') === 1);
    const lines = new (addon() as EngineAddon & AccessLogAddon).AccessLogLines(0xff, 12, false);
    const edges = new Int32Array(32).fill(-1);
    const out = Buffer.alloc(MAX_LINE_BYTES);
    const taken = lines.take(bench.accessLog!, edges, out, 0);
    expect(taken.missing).toBe(Missing.Rule);
    lines.setRule(taken.id, '"a rule"');
    const { end } = lines.take(bench.accessLog!, edges, out, taken.end);
    expect(JSON.parse(out.toString('utf8', 0, end))).toMatchObject({
      protocol: 'http/1',
      status: 200,
      response_flag: '-',
      route: 'a rule',
      path: '/a?b',
      authority: 'up.test',
      user_agent: 'probe',
      request_id: /x-request-id: (\S+)/.exec(head)?.[1],
    });
  });

  test('drains: says close to the busy, closes the idle, accepts nobody', async () => {
    bench = await Bench.start(heads((socket) => setTimeout(() => socket.write(OK), 50)));
    const idle = new Client(bench.ports.http);
    idle.socket.write(GET);
    await idle.answers(1);
    const busy = new Client(bench.ports.http);
    busy.socket.write(GET);
    await until('an attempt outstanding', () => bench.outstanding[0] === 1);
    bench.worker.postMessage('drain');
    await busy.until((at) => at.ended);
    expect(busy.received).toContain('connection: close');
    await idle.until((at) => at.ended);
    const late = new Client(bench.ports.http);
    await late.closed();
    expect(late.failed).toBe(true);
  });

  test('a worker can be terminated in the middle of its work', async () => {
    bench = await Bench.start(heads((socket) => socket.write(OK)));
    const clients = Array.from({ length: 16 }, () => new Client(bench.ports.http));
    for (const client of clients) {
      client.socket.on('data', () => client.socket.write(GET));
      client.socket.write(GET);
    }
    await until('500 requests', () => bench.counter('requests') > 500);
    expect(await bench.terminate()).toBe(1);
    bench = await Bench.start(() => {});
  });
});
