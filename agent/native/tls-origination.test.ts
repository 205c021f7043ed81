// TLS towards upstreams, over real sockets, with node:tls as the peer. Units are in native/test/tls_*_test.cc.
import { connect as connectHttp2, createSecureServer } from 'node:http2';
import { connect as connectTcp, createServer as createTcpServer, type Socket } from 'node:net';
import { createServer as createTlsServer, type TLSSocket } from 'node:tls';
import { describe, expect, test } from '@jest/globals';
import {
  CART,
  closed,
  closing,
  Engine,
  failure,
  foreign,
  get,
  leaf,
  listening,
  open,
  port,
  secured,
  trust,
  until,
} from './testing/tls-scene.js';

describe('origination', () => {
  async function origin(name: string, onRequest: (socket: TLSSocket) => void, options = {}): Promise<number> {
    const { chain: cert, key } = leaf(name);
    const server = createTlsServer({ cert, key, ca: trust, ...options }, (socket) => {
      socket.on('error', () => {});
      socket.on('data', () => onRequest(socket));
    });
    return port(await listening(server));
  }
  const answer = (socket: TLSSocket) => void socket.write('HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n:ok');
  async function plain(engine: Engine): Promise<Socket> {
    const socket = connectTcp(await engine.listen({}), '127.0.0.1');
    closing.push(() => void socket.destroy());
    return socket;
  }

  test('an endpoint is spoken to over mTLS, verified by its SPIFFE ID', async () => {
    const engine = new Engine();
    let seen = '';
    const to = await origin(
      'cart',
      (socket) => {
        seen = socket.getPeerCertificate().subjectaltname ?? '';
        answer(socket);
      },
      { requestCert: true, rejectUnauthorized: true },
    );
    const context = await engine.context({ role: 'client', trust, certificates: [{ serverNames: [], ...leaf('b'), limits: null }] });
    await engine.endpoints({ port: to, tls: { context, serverName: null, accepts: [{ kind: 'spiffeId', value: CART }] } });
    const client = await plain(engine);
    expect(await get(client)).toContain('200');
    expect(await get(client)).toContain('200');
    expect(seen).toBe('DNS:b.test');
    expect(engine.counter('tls_handshakes_full')).toBe(1);
    expect(engine.counter('upstream_reuses')).toBe(1);
  });

  // RFC 9110 7.4: a server may refuse a request of the other scheme than its connection is of.
  test('an endpoint of HTTP/2 over TLS is asked for https, whatever the client spoke', async () => {
    const engine = new Engine();
    const { chain: cert, key } = leaf('a');
    const server = createSecureServer({ cert, key });
    server.on('stream', (stream, headers) => {
      stream.respond({ ':status': 200 });
      stream.end(`${headers[':scheme']}:ok`);
    });
    const context = await engine.context({ role: 'client', trust, alpn: ['h2'] });
    const tls = { context, serverName: 'a.test', accepts: [] };
    await engine.endpoints({ port: port(await listening(server)), tls, protocol: 'http2' });
    expect(await get(await plain(engine))).toContain('https:ok');
    const session = connectHttp2(`http://127.0.0.1:${await engine.listen({ protocol: 'http2' })}`);
    closing.push(() => void session.destroy());
    const stream = session.request({ ':path': '/', ':authority': 'a.test' });
    let body = '';
    for await (const piece of stream) body += piece;
    expect(body).toBe('https:ok');
  });

  test.each([
    ['the wrong name', () => ({ trust }), 'b.test', 'wrong-identity'],
    ['another authority', () => ({ trust: foreign }), 'a.test', 'untrusted'],
  ] as const)('an endpoint of %s is refused as a failed connect', async (_, spec, serverName, reason) => {
    const engine = new Engine();
    const context = await engine.context({ role: 'client', ...spec() });
    await engine.endpoints({ port: await origin('a', answer), tls: { context, serverName, accepts: [] } });
    const client = await plain(engine);
    const refused = until(client, '\r\n\r\n');
    client.write('GET / HTTP/1.1\r\nhost: a.test\r\n\r\n');
    expect(await refused).toContain('503');
    expect(await failure(engine)).toMatchObject({ reason, side: 'upstream' });
    expect(engine.counter('upstream_connect_failures')).toBe(1);
  });

  test('a truncated body that runs to the close is not passed off as whole; one with close_notify is', async () => {
    const engine = new Engine();
    const head = 'HTTP/1.1 200 OK\r\n\r\npart';
    // The raw socket under TLS ends without close_notify.
    const cut = await origin(
      'a',
      (socket) => void socket.write(head, () => (socket as unknown as { _parent: Socket })._parent?.destroy() ?? socket.destroy()),
    );
    const whole = await origin('a', (socket) => void socket.end(head));
    const context = await engine.context({ role: 'client', trust });
    const tls = { context, serverName: 'a.test', accepts: [] };
    await engine.endpoints({ port: cut, tls }, { port: whole, tls });
    const at = await engine.listen({});
    const ask = (host: string) =>
      new Promise<string>((resolve) => {
        const socket = connectTcp(at, '127.0.0.1');
        let got = '';
        let failed = false;
        socket.on('data', (bytes) => (got += bytes.toString()));
        socket.on('error', () => {
          failed = true;
        });
        socket.on('close', () => resolve(failed || !got.endsWith('0\r\n\r\n') ? 'broken' : 'whole'));
        socket.write(`GET / HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`);
      });
    expect(await ask('a.test')).toBe('broken');
    expect(await ask('b.test')).toBe('whole');
  });

  test('opaque: all that an upstream sent before it ended without close_notify arrives, and then a reset', async () => {
    const engine = new Engine();
    const size = 600_000;
    let isGone = (): void => {};
    const gone = new Promise<void>((resolve) => {
      isGone = resolve;
    });
    const cut = await origin('a', (socket) => {
      const raw = (socket as unknown as { _parent?: Socket })._parent ?? socket;
      raw.on('close', isGone);
      socket.write(Buffer.alloc(size, 'x'), () => raw.destroy());
    });
    const context = await engine.context({ role: 'client', trust });
    await engine.endpoints({ port: cut, tls: { context, serverName: 'a.test', accepts: [] } });
    const client = connectTcp(await engine.listen({ protocol: 'opaque' }), '127.0.0.1');
    let got = 0;
    let error = '';
    client.pause().on('error', ({ code }: NodeJS.ErrnoException) => {
      error = code ?? '';
    });
    client.on('data', (bytes) => {
      got += bytes.length;
    });
    // What the client's window has no room for is in the proxy's queues when it meets the end.
    client.pause().write('hello');
    await gone;
    await engine.call('seen');
    await closed(client);
    expect({ got, error }).toEqual({ got: size, error: 'ECONNRESET' });
    expect(engine.counter('downstream_resets')).toBe(1);
    expect(engine.counter('opaque_open')).toBe(0);
  });

  test('a truncated answer from the proxy is seen by its client: abort sends no close_notify', async () => {
    const engine = new Engine();
    const broken = await listening(
      createTcpServer((socket) => {
        socket.on('error', () => {});
        socket.on('data', () => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart'));
      }),
    );
    await engine.endpoints({ port: port(broken) });
    const at = await engine.terminate(await engine.server());
    // TLS 1.2 shows the type of each record: 21 is an alert.
    const far = connectTcp(at, '127.0.0.1');
    const types: number[] = [];
    let bytes = Buffer.alloc(0);
    far.on('data', (more) => {
      bytes = Buffer.concat([bytes, more]);
      while (bytes.length >= 5 && bytes.length >= 5 + bytes.readUInt16BE(3)) {
        types.push(bytes[0]!);
        bytes = bytes.subarray(5 + bytes.readUInt16BE(3));
      }
    });
    far.on('error', () => {});
    const relay = await listening(
      createTcpServer((client) => {
        client.on('error', () => {}).pipe(far);
        far.pipe(client);
      }),
    );
    const client = await secured(open(port(relay), { maxVersion: 'TLSv1.2' }));
    client.write('GET / HTTP/1.1\r\nhost: a.test\r\n\r\n');
    await closed(far);
    expect(types).toContain(23);
    expect(types).not.toContain(21);
  });

  test('a certificate change of the endpoint opens new connections, and resumption works across them', async () => {
    const engine = new Engine();
    const to = await origin('a', answer);
    const context = await engine.context({ role: 'client', trust });
    const tls = { context, serverName: 'a.test', accepts: [] };
    await engine.endpoints({ port: to, tls });
    const client = await plain(engine);
    await get(client);
    // Without TLS the idle connection fits no more; with it again a new one resumes the session.
    await engine.endpoints({ port: to });
    await engine.endpoints({ port: to, tls });
    await get(client);
    expect(engine.counter('upstream_connects')).toBe(2);
    expect(engine.counter('tls_handshakes_resumed')).toBe(1);
  });
});
