// A grpc-js server and client of bytes in all four call kinds: what is sent comes back. For tests and the soak; knows no proxy.
import {
  type CallOptions,
  Client,
  type ClientReadableStream,
  credentials,
  type handleBidiStreamingCall,
  type handleClientStreamingCall,
  type handleServerStreamingCall,
  type handleUnaryCall,
  Server,
  ServerCredentials,
  type ServiceDefinition,
  status,
} from '@grpc/grpc-js';

const asIs = (bytes: Buffer): Buffer => bytes;
const method = (name: string, requestStream: boolean, responseStream: boolean) => ({
  path: `/weft.test.Echo/${name}`,
  requestStream,
  responseStream,
  requestSerialize: asIs,
  requestDeserialize: asIs,
  responseSerialize: asIs,
  responseDeserialize: asIs,
});
const METHODS = {
  unary: method('Unary', false, false),
  gather: method('Gather', true, false),
  scatter: method('Scatter', false, true),
  chat: method('Chat', true, true),
} satisfies ServiceDefinition;

/** Messages of one Scatter. */
export const SCATTERED = 4;

/** An empty unary request is refused, one that begins with a zero byte is never answered. */
const unary: handleUnaryCall<Buffer, Buffer> = (call, done) => {
  if (call.request.length === 0) done({ code: status.INVALID_ARGUMENT, details: 'nothing to echo, 100 % empty' });
  else if (call.request[0] !== 0) done(null, call.request);
};
/** All of it in one message. */
const gather: handleClientStreamingCall<Buffer, Buffer> = (call, done) => {
  const messages: Buffer[] = [];
  call.on('data', (message: Buffer) => messages.push(message));
  call.on('end', () => done(null, Buffer.concat(messages)));
};
/** In SCATTERED messages. */
const scatter: handleServerStreamingCall<Buffer, Buffer> = (call) => {
  const size = Math.ceil(call.request.length / SCATTERED);
  for (let i = 0; i < SCATTERED; i++) call.write(call.request.subarray(i * size, (i + 1) * size));
  call.end();
};
/** Message for message, as they come. */
const chat: handleBidiStreamingCall<Buffer, Buffer> = (call) => {
  call.on('data', (message: Buffer) => {
    if (call.write(message)) return;
    call.pause();
    call.once('drain', () => call.resume());
  });
  call.on('end', () => call.end());
};

export async function startGrpcEcho(): Promise<{ readonly port: number; stop(): void }> {
  const server = new Server({ 'grpc.max_receive_message_length': -1 });
  server.addService(METHODS, { unary, gather, scatter, chat });
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    ),
  );
  return { port, stop: () => server.forceShutdown() };
}

/** Rejects with grpc-js's ServiceError. */
export class GrpcEchoClient {
  private readonly client: Client;

  /** A channel, and so a connection, of its own. */
  constructor(port: number) {
    this.client = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), {
      'grpc.use_local_subchannel_pool': 1,
      'grpc.max_receive_message_length': -1,
    });
  }

  unary(message: Buffer, options: CallOptions = {}): Promise<Buffer> {
    return new Promise((resolve, reject) =>
      this.client.makeUnaryRequest(METHODS.unary.path, asIs, asIs, message, options, (error, answer) =>
        error === null ? resolve(answer!) : reject(error),
      ),
    );
  }

  gather(messages: readonly Buffer[]): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const call = this.client.makeClientStreamRequest(METHODS.gather.path, asIs, asIs, (error: Error | null, answer?: Buffer) =>
        error === null ? resolve(answer!) : reject(error),
      );
      for (const message of messages) call.write(message);
      call.end();
    });
  }

  scatter(message: Buffer): Promise<Buffer[]> {
    return allOf(this.client.makeServerStreamRequest(METHODS.scatter.path, asIs, asIs, message));
  }

  /** Each message is sent when the one before has come back. */
  chat(messages: readonly Buffer[]): Promise<Buffer[]> {
    const call = this.client.makeBidiStreamRequest(METHODS.chat.path, asIs, asIs);
    let sent = 0;
    const next = (): void => {
      if (sent < messages.length) call.write(messages[sent++]!);
      else call.end();
    };
    call.on('data', next);
    next();
    return allOf(call);
  }

  /** Begins a chat and goes away in the middle of it. */
  async cutChat(message: Buffer): Promise<void> {
    const call = this.client.makeBidiStreamRequest(METHODS.chat.path, asIs, asIs);
    const ended = new Promise<void>((resolve) => call.on('error', () => resolve()).on('end', () => resolve()));
    call.on('data', () => call.cancel());
    call.write(message);
    await ended;
  }

  close(): void {
    this.client.close();
  }
}

function allOf(call: ClientReadableStream<Buffer>): Promise<Buffer[]> {
  return new Promise((resolve, reject) => {
    const messages: Buffer[] = [];
    call.on('data', (message: Buffer) => messages.push(message));
    call.on('error', reject);
    call.on('end', () => resolve(messages));
  });
}
