// A program in a chaos pod: server and clients at once. `pod TOKEN NODE TARGETS client|self`: TARGETS is a file, a JSON array of Target, read
// again all the time. A server says so when it hears from whom it should not: the caller says from which address it calls; with `self` it
// may be the server's own instead, as the fallback delivers.
// One line of JSON an outcome on standard output.
import { readFileSync, writeSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { networkInterfaces } from 'node:os';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { CHAOS_PORT, type Hello, type Outcome, type Reply, type Target } from './protocol.js';

const SHORT_CLIENTS = 2;
const PAUSE_MS = 30;
/** Of a connection that is held, from one word to the next. */
const HELD_PAUSE_MS = 20;
const HELD_MS = 3_000;
/** Silence that is an error. Longer than a proxy is ever stopped. */
const PATIENCE_MS = 8_000;

const [token = '', node = '', targetsFile = '', seenAs = 'client'] = process.argv.slice(2);

function say(outcome: Outcome): void {
  writeSync(1, `${JSON.stringify(outcome)}\n`);
}

function withoutMapping(address: string | undefined): string {
  return (address ?? '').replace(/^::ffff:/, '');
}

function serve(): Promise<void> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    let isGreeted = false;
    createInterface({ input: socket })
      .on('line', (line) => {
        if (isGreeted) return void socket.write(`${line}\n`);
        isGreeted = true;
        const hello = JSON.parse(line) as Hello;
        const peer = withoutMapping(socket.remoteAddress);
        const isOwn = seenAs === 'self' && peer === withoutMapping(socket.localAddress);
        if (peer !== hello.address && !isOwn)
          say({ kind: 'misattributed', at: Date.now(), from: hello.from, to: token, saw: peer, said: hello.address });
        socket.write(`${JSON.stringify({ server: token, port: socket.remotePort ?? 0 } satisfies Reply)}\n`);
      })
      .on('error', () => {});
  });
  return new Promise((resolve) => server.listen(CHAOS_PORT, '::', resolve));
}

function targets(): readonly Target[] {
  try {
    return (JSON.parse(readFileSync(targetsFile, 'utf8')) as Target[]).filter((target) => target.token !== token);
  } catch {
    // Between two of its states.
    return [];
  }
}

/** One connection: greets, checks who answers, then exchanges words for that long. */
async function call(target: Target, family: 'v4' | 'v6', heldMs: number): Promise<void> {
  const began = Date.now();
  const seen = { heard: began, port: 0 };
  const result = await attempt(target, family, heldMs, seen).catch((error: NodeJS.ErrnoException) => error.code ?? error.message);
  const ends = { from: token, fromNode: node, to: target.token, toNode: target.node };
  say({ kind: 'call', began, ended: Date.now(), ...ends, family, result, ...seen });
}

async function attempt(target: Target, family: 'v4' | 'v6', heldMs: number, seen: { heard: number; port: number }): Promise<string> {
  const socket = connect({ host: target[family], port: CHAOS_PORT });
  try {
    const lines = createInterface({ input: socket })[Symbol.asyncIterator]();
    const address = ownAddresses[family];
    const reply = JSON.parse(
      await asked(socket, lines, JSON.stringify({ from: token, address, to: target.token } satisfies Hello)),
    ) as Reply;
    seen.heard = Date.now();
    seen.port = reply.port;
    if (reply.server !== target.token) return `answered by ${reply.server}`;
    const until = Date.now() + heldMs;
    for (let word = 0; Date.now() < until; word++) {
      if ((await asked(socket, lines, `${token} ${word}`)) !== `${token} ${word}`) return 'another word came back';
      seen.heard = Date.now();
      await sleep(HELD_PAUSE_MS);
    }
    return 'ok';
  } finally {
    socket.destroy();
  }
}

async function asked(socket: Socket, lines: AsyncIterator<string>, line: string): Promise<string> {
  const failed = new Promise<never>((_, reject) => {
    socket.setTimeout(PATIENCE_MS, () => reject(new Error('silence')));
    socket.once('error', reject);
  });
  failed.catch(() => {});
  socket.write(`${line}\n`);
  const { value, done } = await Promise.race([lines.next(), failed]);
  if (done === true) throw new Error('closed');
  return value;
}

async function clients(heldMs: number): Promise<void> {
  for (;;) {
    const all = targets();
    const target = all[Math.floor(Math.random() * all.length)];
    if (target !== undefined) await call(target, Math.random() < 0.5 ? 'v4' : 'v6', heldMs);
    await sleep(PAUSE_MS);
  }
}

const own = networkInterfaces().eth0 ?? [];
const ownAddresses = {
  v4: own.find(({ family }) => family === 'IPv4')?.address ?? '',
  v6: own.find(({ family, scopeid }) => family === 'IPv6' && scopeid === 0)?.address ?? '',
};
await serve();
say({ kind: 'ready', at: Date.now(), from: token });
for (let i = 0; i < SHORT_CLIENTS; i++) void clients(0);
void clients(HELD_MS);
