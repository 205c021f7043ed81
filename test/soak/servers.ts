// The upstreams of the soak: an HTTP server that checks what it is sent and answers with the bytes it is asked for, and a TCP server that
// sends back what it gets. What they find wrong is thrown at `onFault`.
import { once } from 'node:events';
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from 'node:net';
import { bytesOf, Comparison, Fault, sliceNamed } from './bytes.js';

/** A request names the body it carries and the one it wants: /…?sent=OFFSET-LENGTH&want=OFFSET-LENGTH&end=chunked|reset. */
async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const query = new URL(request.url ?? '/', 'http://soak.test').searchParams;
  const sent = new Comparison(sliceNamed(query.get('sent') ?? '0-0'), `request body ${request.url}`);
  for await (const chunk of request) sent.add(chunk as Buffer);
  sent.finish();
  const body = bytesOf(sliceNamed(query.get('want') ?? '0-0'));
  const id = request.headers['x-id'];
  if (id !== undefined) response.setHeader('x-id', id);
  if (query.get('end') === 'reset') {
    response.writeHead(200, { 'content-length': body.length + 1 });
    response.write(body);
    // A turn later, so that some of it is on its way.
    setImmediate(() => request.socket.resetAndDestroy());
    return;
  }
  if (query.get('end') !== 'chunked') response.setHeader('content-length', body.length);
  response.end(body);
}

export async function startHttpServer(onFault: (fault: Fault) => void): Promise<number> {
  const server = createHttpServer((request, response) => {
    answer(request, response).catch((error: Error) => {
      // A client that was reset in mid-body ends the request here too.
      if (error instanceof Fault && !request.readableAborted) onFault(error);
      response.destroy();
    });
  });
  server.keepAliveTimeout = 60_000;
  return listen(server);
}

/** Echoes, and ends its side when the client has ended its own. */
export async function startEchoServer(): Promise<number> {
  return listen(
    createTcpServer({ allowHalfOpen: true }, (socket: Socket) => {
      socket.on('error', () => socket.destroy());
      socket.pipe(socket);
    }),
  );
}

async function listen(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1', 1024);
  await once(server, 'listening');
  server.unref();
  return (server.address() as AddressInfo).port;
}
