// What the tests of HTTP/2 and of gRPC share: one engine in a worker, clients, upstreams. All of it ends with the tests.
import { once } from 'node:events';
import * as http from 'node:http';
import * as http2 from 'node:http2';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { closesAfterEach } from '../../../test/lab/closing.js';
import { listenOnLoopback } from '../../../test/lab/listening.js';
import type { EngineLimits } from '../engine.js';
import { ADDON, addon } from './addon.js';
import { TEST_LIMITS } from './limits.js';

const LIMITS: EngineLimits = { ...TEST_LIMITS, requestTimeoutMs: 0 };

export interface Upstream {
  readonly port: number;
  readonly protocol: 'http1' | 'http2';
}

/** What ends with the test, the last first. */
export const closers = closesAfterEach();

/** On the loopback; ends with the test, with all its connections. */
export function listening(server: Parameters<typeof listenOnLoopback>[0]): Promise<number> {
  return listenOnLoopback(server, closers);
}

export async function http2Upstream(
  onStream: (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => void,
): Promise<Upstream> {
  const server = http2.createServer();
  server.on('sessionError', () => {});
  server.on('stream', (stream, headers) => {
    stream.on('error', () => {});
    onStream(stream, headers);
  });
  return { port: await listening(server), protocol: 'http2' };
}

export async function http1Upstream(onRequest: http.RequestListener): Promise<Upstream> {
  return { port: await listening(http.createServer(onRequest)), protocol: 'http1' };
}

/** One engine in a worker, and its clients over HTTP/2. */
export class Bench {
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
    const worker = new Worker(join(process.cwd(), 'agent/native/testing/http2-worker.mjs'), {
      workerData: { addon: ADDON, limits: { ...LIMITS, ...limits }, endpoints, counters, outstanding, trustedHops },
    });
    const [ports] = (await once(worker, 'message')) as [Bench['ports']];
    const bench = new Bench(worker, ports, counters, outstanding);
    closers.push(() => bench.stop());
    return bench;
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

  private async stop(): Promise<void> {
    for (const session of this.sessions) session.destroy();
    this.worker.postMessage('close');
    await once(this.worker, 'exit');
  }
}

export interface Answer {
  readonly status: number;
  readonly headers: http2.IncomingHttpHeaders;
  readonly trailers: http2.IncomingHttpHeaders;
  readonly body: string;
}

export async function call(session: http2.ClientHttp2Session, headers: http2.OutgoingHttpHeaders, body?: string | Buffer): Promise<Answer> {
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
