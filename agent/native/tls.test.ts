// TLS that clients begin, over real sockets, with node:tls and OpenSSL's tools as peers. Units are in native/test/tls_*_test.cc.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { connect as connectTcp, createServer as createTcpServer } from 'node:net';
import { createServer as createTlsServer, type TLSSocket } from 'node:tls';
import { describe, expect, test } from '@jest/globals';
import type { PeerMatch } from './engine.js';
import {
  closed,
  closing,
  Engine,
  failure,
  folder,
  get,
  leaf,
  listening,
  open,
  port,
  secured,
  trust,
  until,
  upstream,
} from './testing/tls-scene.js';

describe('termination', () => {
  test.each(['TLSv1.2', 'TLSv1.3'] as const)(
    '%s: a request is answered, and the descriptor says that TLS ends here and for which name',
    async (version) => {
      const engine = new Engine();
      await engine.endpoints({ port: await upstream() });
      const at = await engine.terminate(await engine.server());
      const client = await secured(open(at, { minVersion: version, maxVersion: version }));
      expect(client.getProtocol()).toBe(version);
      expect(await get(client)).toContain('HTTP/1.1 200');
      expect(await engine.call('seen')).toEqual([{ kind: 0, listener: 1, host: 0, flags: 1 | 16, serverName: 0, identity: -1 }]);
    },
  );

  test('TLS 1.1 and ciphers without forward secrecy are refused with a reason', async () => {
    const engine = new Engine();
    const at = await engine.terminate(await engine.server());
    const old = open(at, { minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'ALL:@SECLEVEL=0' });
    await closed(old);
    expect((await failure(engine)).reason).toBe('version');
    const weak = open(at, { maxVersion: 'TLSv1.2', ciphers: 'AES128-SHA' });
    await closed(weak);
    expect((await failure(engine)).reason).toBe('negotiation');
  });

  test('ALPN: http/1.1 is chosen, an unknown protocol is refused', async () => {
    const engine = new Engine();
    const at = await engine.terminate(await engine.server({ alpn: ['http/1.1'] }));
    const client = await secured(open(at, { ALPNProtocols: ['h2', 'http/1.1'] }));
    expect(client.alpnProtocol).toBe('http/1.1');
    await closed(open(at, { ALPNProtocols: ['spdy/3'] }));
    expect(await failure(engine)).toMatchObject({ reason: 'negotiation', side: 'downstream', address: '127.0.0.1' });
  });

  test('plain text on a TLS port is refused and counted', async () => {
    const engine = new Engine();
    const at = await engine.terminate(await engine.server());
    const socket = connectTcp(at, '127.0.0.1');
    socket.on('error', () => {});
    socket.end('GET / HTTP/1.1\r\nhost: a.test\r\n\r\n');
    await closed(socket);
    expect((await failure(engine)).reason).toBe('not-tls');
    expect(engine.counter('tls_failures_not_tls')).toBe(1);
  });

  test('a client that never finishes its handshake is closed by the header timeout', async () => {
    const engine = new Engine({ headerTimeoutMs: 50 });
    const at = await engine.terminate(await engine.server());
    const socket = connectTcp(at, '127.0.0.1');
    socket.write(Buffer.from([22, 3, 1]));
    await closed(socket);
    expect((await failure(engine)).reason).toBe('timed-out');
  });

  test('a ClientHello that comes byte by byte is understood', async () => {
    const engine = new Engine();
    await engine.endpoints({ port: await upstream() });
    const at = await engine.terminate(await engine.server());
    // A relay that passes on one byte a write.
    const relay = await listening(
      createTcpServer((client) => {
        const far = connectTcp({ port: at, host: '127.0.0.1', noDelay: true });
        far.on('error', () => {}).on('close', () => client.destroy());
        client.on('error', () => {}).on('close', () => far.destroy());
        client.on('data', async (bytes) => {
          client.pause();
          for (const byte of bytes) {
            far.write(Buffer.from([byte]));
            await new Promise(setImmediate);
          }
          client.resume();
        });
        far.pipe(client);
      }),
    );
    expect(await get(await secured(open(port(relay))))).toContain('HTTP/1.1 200');
  });

  test('SNI chooses the certificate; a swap changes new connections only, under load', async () => {
    const engine = new Engine();
    await engine.endpoints({ port: await upstream() }, { port: await upstream() }, { port: await upstream() });
    const certificates = [
      { serverNames: ['a.test'], ...leaf('a'), limits: null },
      { serverNames: ['b.test'], ...leaf('b'), limits: null },
      { serverNames: ['*.w.test'], ...leaf('w'), limits: null },
    ];
    const first = await engine.server({ certificates });
    const at = await engine.terminate(first);
    const serial = (socket: TLSSocket) => socket.getPeerCertificate().serialNumber;
    const names = ['a.test', 'b.test', 'x.w.test'];
    const serials = [];
    for (const servername of names) serials.push(serial(await secured(open(at, { servername }))));
    expect(new Set(serials).size).toBe(3);
    await closed(open(at, { servername: 'none.test' }));
    expect((await failure(engine)).reason).toBe('unknown-server-name');

    const kept = await secured(open(at));
    const second = await engine.server({ certificates: [{ serverNames: [], ...leaf('a2'), limits: null }] });
    await engine.call('releaseTlsContext', first);
    let swapped = false;
    const load = Array.from({ length: 8 }, async () => {
      const found = new Set<string>();
      for (let i = 0; i < 12 || !swapped; i++) {
        const socket = await secured(open(at));
        found.add(serial(socket));
        await get(socket);
        socket.destroy();
      }
      return found;
    });
    expect(
      await engine.call('setListener', 1, { tls: { mode: 'terminate', context: second }, forwarding: null, proxyProtocol: false }),
    ).toBe(true);
    swapped = true;
    await Promise.all(load);
    const fresh = await secured(open(at));
    expect(serial(fresh)).not.toBe(serials[0]);
    expect(serial(kept)).toBe(serials[0]);
    expect(await get(kept)).toContain('200');
    expect(await engine.call('setListener', 99, { tls: null, forwarding: null, proxyProtocol: false })).toBe(false);
  });

  test('a body of megabytes goes through both ways unchanged', async () => {
    const engine = new Engine();
    const echo = await listening(createHttpServer((request, response) => void request.pipe(response)));
    await engine.endpoints({ port: port(echo) });
    const client = await secured(open(await engine.terminate(await engine.server())));
    const body = Buffer.alloc(5_000_000, 'abcdefghij0123456789');
    const chunks: Buffer[] = [];
    let size = 0;
    const whole = new Promise<void>((resolve) => {
      client.on('data', (bytes: Buffer) => {
        chunks.push(bytes);
        size += bytes.length;
        if (bytes.subarray(-5).toString() === '0\r\n\r\n') resolve();
      });
    });
    client.write(`POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: ${body.length}\r\n\r\n`);
    client.write(body);
    await whole;
    const answer = Buffer.concat(chunks, size).toString('latin1');
    const payload = answer
      .slice(answer.indexOf('\r\n\r\n') + 4)
      .split('\r\n')
      .filter((_, i) => i % 2 === 1)
      .join('');
    expect(payload === body.toString('latin1')).toBe(true);
  });
});

describe('client certificates', () => {
  const accepts: readonly PeerMatch[] = [{ kind: 'trustDomain', value: 'td.test' }];

  test('a verified SPIFFE ID reaches the descriptor', async () => {
    const engine = new Engine();
    await engine.endpoints({ port: await upstream() });
    const at = await engine.terminate(await engine.server({ trust, clientCertificates: 'required', accepts }));
    const { chain: cert, key } = leaf('cart');
    expect(await get(await secured(open(at, { cert, key })))).toContain('200');
    expect(await engine.call('seen')).toMatchObject([{ identity: 1 }]);
  });

  test.each([
    ['required and missing', 'required', null, 'no-certificate'],
    ['of another authority', 'required', 'intruder', 'untrusted'],
    ['of another authority where it is optional', 'optional', 'intruder', 'untrusted'],
    ['without an accepted identity', 'required', 'b', 'wrong-identity'],
  ] as const)('a certificate %s is refused', async (_, clientCertificates, name, reason) => {
    const engine = new Engine();
    const at = await engine.terminate(await engine.server({ trust, clientCertificates, accepts }));
    const own = name === null ? {} : { cert: leaf(name).chain, key: leaf(name).key };
    await closed(open(at, own));
    expect((await failure(engine)).reason).toBe(reason);
  });

  test('optional and missing is no failure', async () => {
    const engine = new Engine();
    await engine.endpoints({ port: await upstream() });
    const at = await engine.terminate(await engine.server({ trust, clientCertificates: 'optional', accepts }));
    expect(await get(await secured(open(at)))).toContain('200');
    expect(await engine.call('seen')).toMatchObject([{ identity: -1 }]);
  });
});

describe('resumption', () => {
  const keys = (...fill: number[]) => Uint8Array.from(fill.flatMap((byte) => Array.from({ length: 80 }, () => byte)));
  async function ticket(at: number, version: 'TLSv1.2' | 'TLSv1.3', session?: Buffer): Promise<{ reused: boolean; session: Buffer }> {
    const socket = open(at, { minVersion: version, maxVersion: version, ...(session === undefined ? {} : { session }) });
    const issued = new Promise<Buffer>((resolve) => socket.on('session', resolve));
    await secured(socket);
    const answer = await get(socket);
    expect(answer).toContain('200');
    const reused = socket.isSessionReused();
    const next = reused && version === 'TLSv1.2' ? session! : await issued;
    socket.destroy();
    return { reused, session: next };
  }

  test.each(['TLSv1.2', 'TLSv1.3'] as const)(
    '%s: two engines resume each other, also over a rotation of the ticket keys',
    async (version) => {
      const to = await upstream();
      const [one, two] = [new Engine(), new Engine()];
      await one.endpoints({ port: to });
      await two.endpoints({ port: to });
      const context = await one.server({ ticketKeys: keys(1, 2, 3) });
      const first = await one.terminate(context);
      // As another process would: a context of its own from the same keys.
      const second = await two.terminate(await two.server({ ticketKeys: keys(1, 2, 3) }));
      const full = await ticket(first, version);
      expect(full.reused).toBe(false);
      const again = await ticket(second, version, full.session);
      expect(again.reused).toBe(true);
      await one.call('setTicketKeys', context, keys(3, 1, 4));
      const rotated = await ticket(first, version, again.session);
      expect(rotated.reused).toBe(true);
      // The other engine has not rotated yet, and knows the key as its next.
      expect((await ticket(second, version, rotated.session)).reused).toBe(true);
      await one.call('setTicketKeys', context, keys(7, 8, 9));
      expect((await ticket(first, version, again.session)).reused).toBe(false);
      expect(one.counter('tls_handshakes_resumed')).toBe(1);
    },
  );
});

describe('passing through and permissive', () => {
  test('a ClientHello chooses the endpoint by its server name; the bytes go on as they are', async () => {
    const engine = new Engine();
    const servers = [];
    for (const name of ['a', 'b']) {
      const { chain: cert, key } = leaf(name);
      servers.push(await listening(createTlsServer({ cert, key }, (socket) => void socket.on('error', () => {}).end(`I am ${name}:ok`))));
    }
    await engine.endpoints(...servers.map((server) => ({ port: port(server) })));
    const at = await engine.listen({ tls: { mode: 'passthrough', context: null }, protocol: 'opaque' });
    expect(await until(open(at, { servername: 'b.test' }), ':ok')).toBe('I am b:ok');
    expect(await until(open(at, { servername: 'a.test' }), ':ok')).toBe('I am a:ok');
    expect(await engine.call('seen')).toMatchObject([
      { kind: 2, flags: 32, serverName: 1 },
      { kind: 2, flags: 32, serverName: 0 },
    ]);
  });

  test('a permissive listener takes TLS and plain text', async () => {
    const engine = new Engine();
    await engine.endpoints({ port: await upstream() });
    const at = await engine.listen({ tls: { mode: 'permissive', context: await engine.server() } });
    expect(await get(await secured(open(at)))).toContain('200');
    const plain = connectTcp(at, '127.0.0.1');
    closing.push(() => void plain.destroy());
    expect(await get(plain)).toContain('200');
    expect(await engine.call('seen')).toMatchObject([{ flags: 17 }, { flags: 1 }]);
  });

  test('detection before dialling: HTTP and a server that speaks first each reach their endpoint', async () => {
    const engine = new Engine();
    const greeter = await listening(
      createTcpServer((socket) => {
        socket.on('error', () => {});
        socket.write('220 hello:ok');
      }),
    );
    await engine.endpoints({ port: port(greeter) }, { port: await upstream() });
    const at = await engine.listen({ protocol: 'detect-first' });
    const silent = connectTcp(at, '127.0.0.1');
    closing.push(() => void silent.destroy());
    expect(await until(silent, ':ok')).toBe('220 hello:ok');
    const http = connectTcp(at, '127.0.0.1');
    closing.push(() => void http.destroy());
    expect(await get(http, 'b.test')).toContain('b.test:ok');
  });

  test('a PROXY header before TLS names the client, and without one the connection is refused', async () => {
    const engine = new Engine();
    let forwarded = '';
    const server = await listening(
      createHttpServer((request, response) => {
        forwarded = String(request.headers['x-forwarded-for']);
        response.end(':ok');
      }),
    );
    await engine.endpoints({ port: port(server) });
    const at = await engine.terminate(await engine.server(), {
      proxyProtocol: true,
      forwarding: { trustedHops: 0, clientCert: 'sanitize' },
    });
    const raw = connectTcp(at, '127.0.0.1');
    raw.write('PROXY TCP4 203.0.113.7 192.0.2.1 5000 443\r\n');
    expect(await get(await secured(open(at, { socket: raw })))).toContain('200');
    expect(forwarded).toBe('203.0.113.7');
    const none = connectTcp(at, '127.0.0.1');
    none.on('error', () => {});
    none.write('GET / HTTP/1.1\r\n\r\n');
    await closed(none);
    expect(engine.counter('openings_refused_proxy_header')).toBe(1);
  });
});

describe("OpenSSL's own tools", () => {
  function run(args: string[]): ChildProcess & { text: () => string } {
    const child = spawn('openssl', args, { cwd: folder, stdio: ['pipe', 'pipe', 'pipe'] });
    let got = '';
    child.stdout.on('data', (bytes: Buffer) => (got += bytes.toString('latin1')));
    child.stderr.on('data', (bytes: Buffer) => (got += bytes.toString('latin1')));
    closing.push(() => void child.kill('SIGKILL'));
    return Object.assign(child, { text: () => got });
  }
  async function said(child: ChildProcess & { text: () => string }, text: string): Promise<void> {
    while (!child.text().includes(text)) {
      if (child.exitCode !== null) throw new Error(child.text());
      await Promise.race([once(child.stdout!, 'data'), once(child.stderr!, 'data'), once(child, 'exit')]);
    }
  }

  test.each(['-tls1_2', '-tls1_3'])('s_client %s is answered and told of the end', async (version) => {
    const engine = new Engine();
    await engine.endpoints({ port: await upstream() });
    const at = await engine.terminate(await engine.server());
    const client = run([
      's_client',
      '-connect',
      `127.0.0.1:${at}`,
      '-servername',
      'a.test',
      '-CAfile',
      'ca.pem',
      version,
      '-ign_eof',
      '-verify_return_error',
    ]);
    await said(client, 'Verify return code: 0');
    client.stdin!.write('GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n');
    await once(client, 'exit');
    expect(client.text()).toContain('a.test:ok');
    expect(client.exitCode).toBe(0);
  });

  test('renegotiation is refused', async () => {
    const engine = new Engine();
    const at = await engine.terminate(await engine.server());
    const client = run(['s_client', '-connect', `127.0.0.1:${at}`, '-servername', 'a.test', '-tls1_2', '-CAfile', 'ca.pem']);
    await said(client, 'Verify return code: 0');
    client.stdin!.write('R\n');
    await once(client, 'exit');
    expect(client.text()).toContain('no renegotiation');
  });

  test.each(['-tls1_2', '-tls1_3'])('s_server %s is spoken to', async (version) => {
    const engine = new Engine();
    const probe = await listening(createTcpServer());
    const free = port(probe);
    probe.close();
    const server = run(['s_server', '-accept', `127.0.0.1:${free}`, '-cert', 'a.pem', '-key', 'a.key', version, '-www']);
    await said(server, 'ACCEPT');
    const context = await engine.context({ role: 'client', trust });
    await engine.endpoints({ port: free, tls: { context, serverName: 'a.test', accepts: [] } });
    const socket = connectTcp(await engine.listen({}), '127.0.0.1');
    closing.push(() => void socket.destroy());
    const answer = until(socket, 'Cipher');
    socket.write('GET / HTTP/1.1\r\nhost: a.test\r\n\r\n');
    expect(await answer).toContain('200');
  });
});
