// A real mesh.v1.Discovery server whose script is the test: it records every request and sends what it is told to.
import { Server, ServerCredentials, type ServerDuplexStream, type ServiceDefinition } from '@grpc/grpc-js';
import {
  type DiscoveryRequest,
  type DiscoveryResponse,
  DiscoveryResponse as DiscoveryResponseMessage,
  DiscoveryService,
} from '../../api/gen/mesh/v1/discovery.js';

export type DiscoveryPeer = ServerDuplexStream<DiscoveryRequest, DiscoveryResponse>;

/** Requests of one stream in order; `next()` waits for the next one. */
export class ScriptedStream {
  readonly #requests: DiscoveryRequest[] = [];
  readonly #waiting: ((request: DiscoveryRequest) => void)[] = [];
  readonly call: DiscoveryPeer;
  readonly ended: Promise<void>;

  constructor(call: DiscoveryPeer) {
    this.call = call;
    call.on('data', (request: DiscoveryRequest) => {
      const waiter = this.#waiting.shift();
      if (waiter === undefined) this.#requests.push(request);
      else waiter(request);
    });
    call.on('error', () => {});
    this.ended = new Promise((resolve) => {
      call.on('end', () => {
        call.end();
        resolve();
      });
      call.on('cancelled', () => resolve());
    });
  }

  next(): Promise<DiscoveryRequest> {
    const request = this.#requests.shift();
    return request !== undefined ? Promise.resolve(request) : new Promise((resolve) => this.#waiting.push(resolve));
  }

  send(response: Partial<DiscoveryResponse>): void {
    this.call.write(DiscoveryResponseMessage.fromPartial(response));
  }

  /** Of a server with EncodedDiscoveryService. */
  sendEncoded(response: Buffer): void {
    (this.call as unknown as ServerDuplexStream<DiscoveryRequest, Buffer>).write(response);
  }
}

export class DiscoveryTestServer {
  readonly #server: Server;
  readonly address: string;
  readonly #streams: ScriptedStream[] = [];
  readonly #waiting: ((stream: ScriptedStream) => void)[] = [];

  private constructor(server: Server, address: string) {
    this.#server = server;
    this.address = address;
  }

  /** `address`: "127.0.0.1:0" or "unix:/path". `definition`: how messages become bytes. */
  static async start(address = '127.0.0.1:0', definition: ServiceDefinition = DiscoveryService): Promise<DiscoveryTestServer> {
    const server = new Server();
    let self: DiscoveryTestServer | null = null;
    server.addService(definition, { stream: (call: DiscoveryPeer) => self?.accept(call) });
    const port = await new Promise<number>((resolve, reject) => {
      server.bindAsync(address, ServerCredentials.createInsecure(), (error, bound) => (error === null ? resolve(bound) : reject(error)));
    });
    self = new DiscoveryTestServer(server, address.startsWith('unix:') ? address : `127.0.0.1:${port}`);
    return self;
  }

  /** The next stream a client opens. */
  nextStream(): Promise<ScriptedStream> {
    const stream = this.#streams.shift();
    return stream !== undefined ? Promise.resolve(stream) : new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** As kill -9 would look to the client. */
  stop(): void {
    this.#server.forceShutdown();
  }

  private accept(call: DiscoveryPeer): void {
    const stream = new ScriptedStream(call);
    const waiter = this.#waiting.shift();
    if (waiter === undefined) this.#streams.push(stream);
    else waiter(stream);
  }
}
