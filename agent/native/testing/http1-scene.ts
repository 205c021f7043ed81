// What the tests of the engine share that speak HTTP/1 and bytes to it: one engine in a worker, raw clients and upstreams. All of it ends with the tests.
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { EngineLimits } from '../engine.js';
import { ADDON, addon } from './addon.js';
import { TEST_LIMITS } from './limits.js';

interface Ports {
  readonly http: number;
  readonly opaque: number;
  readonly deadOpaque: number;
  readonly forwarded: number;
}

/** One engine in a worker, an upstream of the test's, and everything that must end with the test. */
export class Bench {
  private constructor(
    readonly worker: Worker,
    readonly ports: Ports,
    readonly upstream: Server,
    readonly counters: Float64Array,
    readonly outstanding: Int32Array,
    readonly accessLog: Uint8Array | null,
    private readonly servers: readonly Server[],
  ) {}

  static async start(onUpstream: (socket: Socket) => void, limits: Partial<EngineLimits> = {}, withLog = false): Promise<Bench> {
    const upstream = await listening(createServer({ allowHalfOpen: true }, quiet(onUpstream)));
    const dead = await listening(createServer());
    const deadPort = portOf(dead);
    dead.close();
    const silent = await listening(createServer(quiet(() => {})));
    const counters = new Float64Array(new SharedArrayBuffer(8 * 128));
    const outstanding = new Int32Array(new SharedArrayBuffer(4 * 16));
    const accessLog = withLog ? new Uint8Array(new SharedArrayBuffer(64 + 65536)) : null;
    const worker = new Worker(join(process.cwd(), 'agent/native/testing/http1-worker.mjs'), {
      workerData: {
        addon: ADDON,
        limits: { ...TEST_LIMITS, ...limits },
        ports: [portOf(upstream), deadPort, portOf(silent)],
        counters,
        outstanding,
        accessLog,
      },
    });
    const [ports] = (await once(worker, 'message')) as [Ports];
    return new Bench(worker, ports, upstream, counters, outstanding, accessLog, [upstream, silent]);
  }

  async ask<T>(question: 'completions' | 'rss'): Promise<T> {
    this.worker.postMessage(question);
    const [answer] = (await once(this.worker, 'message')) as [T];
    return answer;
  }

  counter(name: string): number {
    return this.counters[addon().counterNames().indexOf(name)]!;
  }

  async stop(): Promise<number> {
    this.worker.postMessage('close');
    const [code] = (await once(this.worker, 'exit')) as [number];
    await this.closeServers();
    return code;
  }

  async terminate(): Promise<number> {
    const code = await this.worker.terminate();
    await this.closeServers();
    return code;
  }

  /** With every socket of the test's: a half-open one that came after the worker's end would keep the process alive. */
  private async closeServers(): Promise<void> {
    const closed = this.servers.map((server) => once(server.close(), 'close'));
    for (const socket of sockets) socket.destroy();
    sockets.clear();
    await Promise.all(closed);
  }
}

/** Those of the test's clients and upstreams. */
export const sockets = new Set<Socket>();
function quiet(then: (socket: Socket) => void): (socket: Socket) => void {
  return (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    then(socket);
  };
}

async function listening(server: Server): Promise<Server> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}

/** A client that keeps what it received. */
export class Client {
  received = '';
  ended = false;
  failed = false;
  readonly socket: Socket;
  constructor(port: number) {
    this.socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
    sockets.add(this.socket);
    this.socket.setEncoding('latin1');
    this.socket.on('data', (text: string) => {
      this.received += text;
    });
    this.socket.on('end', () => {
      this.ended = true;
    });
    this.socket.on('error', () => {
      this.failed = true;
    });
  }
  async until(condition: (client: this) => boolean): Promise<void> {
    while (!condition(this)) {
      if (this.socket.destroyed) throw new Error(`closed before that; received ${JSON.stringify(this.received.slice(-300))}`);
      await this.next(['data', 'end', 'close']);
    }
  }
  /** Waits for `count` whole answers of the form these tests' upstreams give (content-length bodies of "ok"). */
  async answers(count: number): Promise<void> {
    await this.until((client) => client.received.split('ok').length > count);
  }
  /** Unlike once(), an 'error' is no failure here. */
  private next(events: readonly string[]): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        for (const event of events) this.socket.off(event, done);
        resolve();
      };
      for (const event of events) this.socket.on(event, done);
    });
  }
  async closed(): Promise<void> {
    if (!this.socket.closed) await this.next(['close']);
  }
}

/** Calls `reply` for every request head it reads; for requests without bodies. */
export function heads(reply: (socket: Socket, head: string) => void): (socket: Socket) => void {
  return (socket) => {
    let text = '';
    socket.setEncoding('latin1');
    socket.on('end', () => socket.end());
    socket.on('data', (piece: string) => {
      text += piece;
      for (let end = text.indexOf('\r\n\r\n'); end >= 0; end = text.indexOf('\r\n\r\n')) {
        const head = text.slice(0, end + 4);
        text = text.slice(end + 4);
        reply(socket, head);
      }
    });
  };
}
export const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';
export const GET = 'GET /x HTTP/1.1\r\nHost: up.test\r\n\r\n';
