// For tests: an HTTP/1 server that answers what it saw, as Gateway API's echo backend does in small, and fails when it is told to.
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Seen {
  readonly backend: string;
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

export class EchoBackend {
  /** Every request, as it came to its end. */
  readonly seen: Seen[] = [];
  #failures = 0;
  #fail: (request: IncomingMessage, response: ServerResponse) => void = () => {};

  private constructor(
    readonly name: string,
    private readonly server: Server,
  ) {}

  static async start(name: string): Promise<EchoBackend> {
    const server = createServer();
    const backend = new EchoBackend(name, server);
    server.on('request', (request, response) => void backend.answer(request, response));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return backend;
  }

  /** So many requests from now on get that in place of an answer. */
  failNext(times: number, fail: (request: IncomingMessage, response: ServerResponse) => void): void {
    this.#failures = times;
    this.#fail = fail;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  close(): void {
    this.server.closeAllConnections();
    this.server.close();
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let body = '';
    try {
      for await (const chunk of request) body += chunk;
    } catch {
      return;
    }
    const seen = { backend: this.name, method: request.method ?? '', path: request.url ?? '', headers: request.headers, body };
    this.seen.push(seen);
    if (this.#failures > 0) {
      this.#failures--;
      this.#fail(request, response);
    } else {
      response.setHeader('content-type', 'application/json').end(JSON.stringify(seen));
    }
  }
}
