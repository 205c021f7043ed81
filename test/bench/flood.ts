// A tenant that means harm, for the benchmark fair. A program: flood KIND PORT HOST. Runs until SIGTERM. It keeps many attempts going at once
// and never waits politely; what it is refused it tries again.
import { connect, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';

const PIECE = Buffer.alloc(64 * 1024, 'x');
/** A fresh connection each, closed by a reset: no port stays in TIME_WAIT, the flood does not end by itself. */
const CONNECTIONS_AT_ONCE = 256;

const GIVES_UP_MS = 20;

type Attack = (port: number, host: string) => Socket;

/** The first bytes of a real client, again and again: they cost the server a signature, and us nothing. */
const CLIENT_HELLO = await clientHello();

const ATTACKS: Readonly<Record<string, Attack>> = {
  connections: (port, host) => {
    const socket = connect(port, '127.0.0.1');
    socket.write(`GET /item HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
    socket.once('data', () => socket.resetAndDestroy());
    return socket;
  },
  // As much as a head may have by default, over and over.
  headers: (port, host) => {
    const socket = connect(port, '127.0.0.1');
    const fields = Array.from({ length: 60 }, (_, i) => `X-Flood-${i}: ${'y'.repeat(1000)}\r\n`).join('');
    const request = `GET /item HTTP/1.1\r\nHost: ${host}\r\n${fields}\r\n`;
    const again = (): void => {
      socket.write(request);
    };
    again();
    socket.on('data', again);
    return socket;
  },
  // Asks for big answers and takes a little of them now and then.
  'slow-reads': (port, host) => {
    const socket = connect(port, '127.0.0.1');
    socket.write(`GET /item HTTP/1.1\r\nHost: ${host}\r\n\r\n`.repeat(100));
    socket.on('readable', () => socket.read(1));
    return socket;
  },
  bodies: (port, host) => {
    const socket = connect(port, '127.0.0.1');
    socket.write(`POST /item HTTP/1.1\r\nHost: ${host}\r\nContent-Length: ${2 ** 40}\r\n\r\n`);
    const push = (): void => {
      while (!socket.destroyed && socket.write(PIECE)) {}
    };
    socket.on('drain', push).on('connect', push);
    return socket;
  },
  // Asks, and is gone before the answer: each leaves the proxy with a connection to end on either side.
  'given-up': (port, host) => {
    const socket = connect(port, '127.0.0.1');
    socket.write(`GET /item HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
    socket.once('connect', () => setTimeout(() => socket.resetAndDestroy(), GIVES_UP_MS));
    return socket;
  },
  handshakes: (port) => {
    const socket = connect(port, '127.0.0.1');
    socket.write(CLIENT_HELLO);
    socket.once('data', () => socket.resetAndDestroy());
    return socket;
  },
};

const [kind = '', port = '', host = ''] = process.argv.slice(2);
const attack = ATTACKS[kind];
if (attack === undefined) throw new Error(`usage: flood ${Object.keys(ATTACKS).join('|')} PORT HOST`);
const start = (): void => {
  const socket = attack(Number(port), host);
  socket.on('error', () => socket.destroy());
  socket.on('close', () => setImmediate(start));
};
for (let i = 0; i < CONNECTIONS_AT_ONCE; i++) start();

/** Of TLS 1.3, for any server. */
function clientHello(): Promise<Buffer> {
  return new Promise((resolve) => {
    const wire = new Duplex({ read: () => {}, write: (chunk: Buffer) => resolve(chunk) });
    connectTls({ socket: wire, minVersion: 'TLSv1.3' }).on('error', () => {});
  });
}
