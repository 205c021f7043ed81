// The HTTP port that agent, proxy and controller have for machines: /metrics, /healthz (the process lives) and /readyz (it can do its
// work). Bounded in connections and time; serves nothing else.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { hostPort } from './host-port.js';
import { messageOf } from './message-of.js';

export interface MetricsServerOptions {
  readonly host: string;
  readonly port: number;
  /** Prometheus text. */
  metrics(): Promise<string>;
  /** What is missing, and what to check; null: ready. */
  unready(): string | null;
}

export class MetricsServer {
  readonly #server: Server;
  readonly #host: string;

  private constructor(server: Server, host: string) {
    this.#server = server;
    this.#host = host;
  }

  /** Rejects, naming the address, when it can't be bound. */
  static async listen(options: MetricsServerOptions): Promise<MetricsServer> {
    const server = createServer(
      { requestTimeout: 5_000, headersTimeout: 5_000, keepAliveTimeout: 5_000, maxHeaderSize: 8 * 1024 },
      (request, response) => {
        answer(options, request, response).catch((error: unknown) => {
          if (!response.headersSent) response.writeHead(500, { 'content-type': 'text/plain' });
          response.end(`${messageOf(error)}\n`);
        });
      },
    );
    server.maxConnections = 64;
    server.maxRequestsPerSocket = 1_000;
    server.setTimeout(30_000);
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) =>
        reject(new Error(`can't serve metrics on ${hostPort(options.host, options.port)}: ${error.message}`)),
      );
      server.listen(options.port, options.host, resolve);
    });
    return new MetricsServer(server, options.host);
  }

  /** As bound: with the kernel's port where 0 was asked for. */
  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** As in a URL. */
  get address(): string {
    return hostPort(this.#host, this.port);
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }
}

async function answer(options: MetricsServerOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const text = (code: number, body: string, type = 'text/plain; charset=utf-8'): void => {
    response.writeHead(code, { 'content-type': type, 'content-length': Buffer.byteLength(body) });
    response.end(request.method === 'HEAD' ? undefined : body);
  };
  if (request.method !== 'GET' && request.method !== 'HEAD') return text(405, 'only GET and HEAD\n');
  switch (request.url?.split('?', 1)[0]) {
    case '/metrics':
      return text(200, await options.metrics(), 'text/plain; version=0.0.4; charset=utf-8');
    case '/healthz':
      return text(200, 'ok\n');
    case '/readyz': {
      const missing = options.unready();
      return missing === null ? text(200, 'ok\n') : text(503, `${missing}\n`);
    }
    default:
      return text(404, 'try /metrics, /healthz or /readyz\n');
  }
}
