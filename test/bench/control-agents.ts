// A process of its own with a thousand agents: each a connection with a discovery stream that acks what it is sent and, where told so, a
// registration with its heartbeats. They hold no model and decode no resources: what is measured is the controller. Told what to do over IPC.
import { Client, type ClientDuplexStream, credentials } from '@grpc/grpc-js';
import {
  DiscoveryRequest,
  DiscoveryService,
  RegisterRequest,
  type RegisterResponse,
  RegistryService,
} from '../../api/gen/mesh/v1/discovery.js';
import { PROTOCOL } from '../../api/grpc/protocol.js';

/** To this process. */
export type AgentsOrder = { readonly kind: 'start'; readonly address: string; readonly agents: number };
/** From it. Times are milliseconds since the epoch. */
export type AgentsReport =
  | { readonly kind: 'ready' }
  /** Every agent stands at `revision` or newer. */
  | { readonly kind: 'all-at'; readonly revision: number; readonly atMs: number }
  | { readonly kind: 'failed'; readonly message: string };

const HEARTBEAT_MS = 3_000;
const identity = (bytes: Buffer): Buffer => bytes;
const report = (message: AgentsReport): void => void process.send?.(message);

/** What an ack needs, of the fields before the resources. */
interface Head {
  nonce: number;
  revision: number;
  more: boolean;
}

/** protobuf: fields 1 to 5 of DiscoveryResponse, in order. */
function headOf(bytes: Buffer): Head {
  const head: Head = { nonce: 0, revision: 0, more: false };
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = bytes[at++] ?? 0;
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const field = tag >> 3;
    if (field > 5) break;
    if ((tag & 7) === 2) {
      const length = varint();
      at += length;
      continue;
    }
    const value = varint();
    if (field === 1) head.nonce = value;
    else if (field === 2) head.revision = value;
    else if (field === 5) head.more = value !== 0;
  }
  return head;
}

class Agents {
  readonly #revisions: number[] = [];
  /** How many stand behind `#told` + 1. */
  #oldest = 0;

  start({ address, agents }: AgentsOrder): void {
    for (let index = 0; index < agents; index++) {
      this.#revisions.push(0);
      this.#run(index, address);
    }
  }

  #run(index: number, address: string): void {
    const node = `node-${index}`;
    const client = new Client(address, credentials.createInsecure(), {
      'grpc.use_local_subchannel_pool': 1,
      'grpc.enable_http_proxy': 0,
      'grpc.service_config_disable_resolution': 1,
    });
    const failed = (error: Error): void => report({ kind: 'failed', message: `${node}: ${error.message}` });
    const serialize = (request: DiscoveryRequest): Buffer => Buffer.from(DiscoveryRequest.encode(request).finish());
    const stream = client.makeBidiStreamRequest(DiscoveryService.stream.path, serialize, identity);
    stream.on('error', failed);
    stream.on('data', (bytes: Buffer) => {
      const { nonce, revision, more } = headOf(bytes);
      if (more) return;
      stream.write({ request: { $case: 'ack', value: { nonce, revision, rejected: [] } } });
      this.#at(index, revision);
    });
    stream.write({
      request: { $case: 'subscribe', value: { node, version: 'bench', resume: undefined, protocol: PROTOCOL, packed: true } },
    });
    const { path, requestSerialize, responseDeserialize } = RegistryService.register;
    const register: ClientDuplexStream<RegisterRequest, RegisterResponse> = client.makeBidiStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
    );
    register.on('error', failed);
    register.on('data', () => {});
    const beat = (): void => void register.write(RegisterRequest.fromPartial({ node, zone: 'z', version: 'bench' }));
    beat();
    // Not all at once, as real ones would not.
    setTimeout(() => setInterval(beat, HEARTBEAT_MS), (index * HEARTBEAT_MS) / 1_000);
  }

  #at(index: number, revision: number): void {
    this.#revisions[index] = revision;
    const oldest = this.#revisions.reduce((least, each) => Math.min(least, each), Number.POSITIVE_INFINITY);
    if (oldest <= this.#oldest) return;
    this.#oldest = oldest;
    report({ kind: 'all-at', revision: oldest, atMs: Date.now() });
  }
}

const agents = new Agents();
process.on('message', (order: AgentsOrder) => agents.start(order));
process.on('disconnect', () => process.exit(0));
report({ kind: 'ready' });
