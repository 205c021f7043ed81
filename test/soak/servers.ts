// The upstreams of the soak: HTTP/1 and HTTP/2 servers that check what they are sent and answer with the bytes they are asked for (the
// first with WebSockets that echo), and a TCP server that sends back what it gets. What they find wrong is thrown at `onFault`.
import { once } from 'node:events';
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { constants, createServer as createHttp2Server, type Http2ServerRequest, type Http2ServerResponse } from 'node:http2';
import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from 'node:net';
import { WebSocketServer } from 'ws';
import { bytesOf, Comparison, Fault, sliceNamed } from './bytes.js';

/** A request names the body it carries and the one it wants: /…?sent=OFFSET-LENGTH&want=OFFSET-LENGTH&end=chunked|reset. */
async function answer(
  request: IncomingMessage | Http2ServerRequest,
  response: ServerResponse | Http2ServerResponse,
  reset: () => void,
): Promise<void> {
  const query = new URL(request.url ?? '/', 'http://soak.test').searchParams;
  const sent = new Comparison(sliceNamed(query.get('sent') ?? '0-0'), `request body ${request.url}`);
  for await (const chunk of request) sent.add(chunk as Buffer);
  sent.finish();
  const body = bytesOf(sliceNamed(query.get('want') ?? '0-0'));
  const id = request.headers['x-id'];
  if (id !== undefined) response.setHeader('x-id', id);
  if (query.get('end') === 'reset') {
    response.statusCode = 200;
    response.setHeader('content-length', body.length + 1);
    (response as ServerResponse).write(body);
    // A turn later, so that some of it is on its way.
    setImmediate(reset);
    return;
  }
  if (query.get('end') !== 'chunked') response.setHeader('content-length', body.length);
  (response as ServerResponse).end(body);
}

export async function startHttpServer(onFault: (fault: Fault) => void): Promise<number> {
  const server = createHttpServer((request, response) => {
    answer(request, response, () => request.socket.resetAndDestroy()).catch((error: Error) => {
      // A client that was reset in mid-body ends the request here too.
      if (error instanceof Fault && !request.readableAborted) onFault(error);
      response.destroy();
    });
  });
  server.keepAliveTimeout = 60_000;
  new WebSocketServer({ server, perMessageDeflate: false }).on('connection', (socket) => {
    socket.on('error', () => socket.terminate());
    socket.on('message', (data: Buffer, isBinary) => socket.send(data, { binary: isBinary }));
  });
  return listen(server);
}

/**
 * Node 20 never takes back from a connection's account what a stream had to send when it was reset, by either side. Beyond the limit (10 MB
 * by default) it resets each new stream with ENHANCE_YOUR_CALM, a hundred times, then ends the connection with INTERNAL_ERROR. The cuts of
 * the soak reach any limit some day, over connections that all clients share.
 */
const NO_SESSION_LIMIT_MB = 1_000_000;

export async function startHttp2Server(onFault: (fault: Fault) => void): Promise<number> {
  const server = createHttp2Server({ maxSessionMemory: NO_SESSION_LIMIT_MB }, (request, response) => {
    const { stream } = request;
    let wasReset = false;
    stream.on('aborted', () => {
      wasReset = true;
    });
    stream.on('error', () => undefined);
    answer(request, response, () => stream.close(constants.NGHTTP2_INTERNAL_ERROR)).catch((error: Error) => {
      if (error instanceof Fault && !wasReset && !stream.aborted && stream.rstCode === 0) onFault(error);
      stream.close(constants.NGHTTP2_CANCEL);
    });
  });
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
