// For tests: an HTTP/1 server that answers what it saw, as Gateway API's echo backend does in small. Paths beginning with "/retry/" fail first.
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
  /** In place of an answer: called for each request before it is answered; true: it has answered by itself. */
  before: (request: IncomingMessage, response: ServerResponse) => boolean = () => false;

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
    if (!this.before(request, response)) response.setHeader('content-type', 'application/json').end(JSON.stringify(seen));
  }
}
