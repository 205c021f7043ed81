// A TCP listener whose connections begin TLS a few at a time. A handshake is a millisecond and more of the thread that accepts: of a thousand clients that
// come at once each would be half served when its time is over, and all would come again. Here those who have begun are finished first, and who
// can't be begun soon is told so at once, before anything was done for it. Owns who waits. Counts on clients that come again, later and later.
import { createServer, type Socket } from 'node:net';

/** Before what has come on connections is handled once more. */
const BEGUN_A_TURN = 8;
/** Well below what agents give a connection (agent/link): one that is begun must be worth its handshake. */
const LONGEST_WAIT_MS = 2_500;
const MAX_WAITING = 8_192;
const BACKLOG = 4_096;

export interface PacedListenerParts {
  readonly host: string;
  readonly port: number;
  /** Takes the connection over. */
  readonly begin: (socket: Socket) => void;
  /** Milliseconds, monotonic. */
  readonly now: () => number;
}

export interface PacedListener {
  /** As bound. */
  readonly port: number;
  /** Who waits is sent away. Idempotent. */
  close(): void;
}

/** Rejects where the address can't be bound. */
export function listenPaced({ host, port, begin, now }: PacedListenerParts): Promise<PacedListener> {
  const queue = new HandshakeQueue(begin, now);
  // Unread, so that what the client says first is there for who takes it over.
  const server = createServer({ pauseOnConnect: true }, (socket) => queue.add(socket));
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port, backlog: BACKLOG }, () => {
      server.off('error', reject);
      // Out of descriptors, say: the next one may be accepted.
      server.on('error', () => {});
      const address = server.address();
      const close = (): void => {
        server.close();
        queue.clear();
      };
      resolve({ port: typeof address === 'object' && address !== null ? address.port : port, close });
    });
  });
}

export class HandshakeQueue {
  /** And since when, the first first. */
  readonly #waiting = new Map<Socket, number>();
  readonly #begin: (socket: Socket) => void;
  readonly #now: () => number;
  #turn: NodeJS.Immediate | null = null;

  constructor(begin: (socket: Socket) => void, now: () => number) {
    this.#begin = begin;
    this.#now = now;
  }

  add(socket: Socket): void {
    socket.on('error', () => {});
    if (this.#waiting.size >= MAX_WAITING) return void socket.destroy();
    this.#waiting.set(socket, this.#now());
    this.#turn ??= setImmediate(() => this.#next());
  }

  clear(): void {
    if (this.#turn !== null) clearImmediate(this.#turn);
    this.#turn = null;
    for (const socket of this.#waiting.keys()) socket.destroy();
    this.#waiting.clear();
  }

  #next(): void {
    this.#turn = null;
    let begun = 0;
    for (const [socket, sinceMs] of this.#waiting) {
      if (begun === BEGUN_A_TURN) break;
      this.#waiting.delete(socket);
      if (this.#now() - sinceMs > LONGEST_WAIT_MS) socket.destroy();
      else if (!socket.destroyed) {
        this.#begin(socket);
        begun++;
      }
    }
    if (this.#waiting.size > 0) this.#turn = setImmediate(() => this.#next());
  }
}
