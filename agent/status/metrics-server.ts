// The agent's HTTP port for machines: /metrics, /healthz (the process lives) and /readyz (the node has a configuration). Bounded in
// connections and time; serves nothing else.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface MetricsServerOptions {
  readonly host: string;
  readonly port: number;
  metrics(): Promise<string>;
  isReady(): boolean;
}

export class MetricsServer {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Rejects when the address can't be bound. */
  static async listen(options: MetricsServerOptions): Promise<MetricsServer> {
    const server = createServer(
      { requestTimeout: 5_000, headersTimeout: 5_000, keepAliveTimeout: 5_000, maxHeaderSize: 8 * 1024 },
      (request, response) => {
        answer(options, request, response).catch((error: unknown) => {
          if (!response.headersSent) response.writeHead(500, { 'content-type': 'text/plain' });
          response.end(`${error instanceof Error ? error.message : String(error)}\n`);
        });
      },
    );
    server.maxConnections = 64;
    server.maxRequestsPerSocket = 1_000;
    server.setTimeout(30_000);
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(options.port, options.host, resolve);
    });
    return new MetricsServer(server);
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
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
    case '/readyz':
      return options.isReady() ? text(200, 'ok\n') : text(503, 'no configuration yet: neither a controller nor a snapshot on disk\n');
    default:
      return text(404, 'try /metrics, /healthz or /readyz\n');
  }
}
