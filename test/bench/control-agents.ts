// A process of its own with a thousand agents: each a connection with a discovery stream that acks what it is sent and, where told so, a
// registration with its heartbeats. They hold no model and decode no resources: what is measured is the controller. Told what to do over IPC.
import { createPrivateKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { Client, type ClientDuplexStream, credentials } from '@grpc/grpc-js';
import { nodeUris } from '../../api/access/names.js';
import { type SecureChannel, secureChannel } from '../../api/access/secure-channel.js';
import {
  DiscoveryRequest,
  DiscoveryService,
  RegisterRequest,
  type RegisterResponse,
  RegistryService,
} from '../../api/gen/mesh/v1/discovery.js';
import { PROTOCOL } from '../../api/grpc/protocol.js';
import { issue } from '../../controller/ca/certificate.js';

/** PEM, of whoever signs the agents' certificates and the controller's. */
export interface NodeAuthority {
  readonly certificate: string;
  readonly key: string;
}

/** To this process: first who they are, then that they connect. */
export type AgentsOrder =
  /** Null: plaintext. */
  | { readonly kind: 'prepare'; readonly agents: number; readonly authority: NodeAuthority | null }
  | { readonly kind: 'start'; readonly address: string };

/** From it. Times are milliseconds since the epoch. */
export type AgentsReport =
  | { readonly kind: 'ready' }
  | { readonly kind: 'prepared' }
  /** Every agent stands at `revision` or newer. */
  | { readonly kind: 'all-at'; readonly revision: number; readonly atMs: number }
  | { readonly kind: 'failed'; readonly message: string };

const HEARTBEAT_MS = 3_000;
const RETRY_MS = 1_000;
const READY_MS = 10_000;
/**
 * Handshakes under way at once. Each costs this process some 3 ms, real agents have cores of their own: begun all at once, with a fifth of a core, none of them is
 * done when the controller's 5 s for it are over.
 */
const HANDSHAKES = 64;
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

const PLAINTEXT: SecureChannel = { credentials: credentials.createInsecure(), options: {} };
const HOUR_MS = 3_600_000;

/** As a node that has joined. */
function secured(node: string, { certificate, key }: NodeAuthority): SecureChannel {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const times = { notBeforeMs: Date.now() - HOUR_MS, notAfterMs: Date.now() + HOUR_MS };
  const own = issue(
    { certificate: new X509Certificate(certificate), key: createPrivateKey(key) },
    { commonName: 'weft node', publicKey, dnsNames: [], uris: nodeUris(node, 0), usages: ['client'], ...times },
  );
  return secureChannel({
    authorities: [certificate],
    certificate: own,
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  });
}

class Agents {
  #channels: readonly SecureChannel[] = [];
  readonly #revisions: number[] = [];
  /** How many stand behind `#told` + 1. */
  #oldest = 0;
  readonly #waiting: (() => void)[] = [];
  #handshakes = 0;

  prepare({ agents, authority }: Extract<AgentsOrder, { kind: 'prepare' }>): void {
    this.#channels = Array.from({ length: agents }, (_, index) => (authority === null ? PLAINTEXT : secured(`node-${index}`, authority)));
    report({ kind: 'prepared' });
  }

  start(address: string): void {
    for (const _ of this.#channels) this.#revisions.push(0);
    for (const [index, channel] of this.#channels.entries()) this.#come(index, address, channel);
  }

  #come(index: number, address: string, channel: SecureChannel): void {
    if (channel === PLAINTEXT) this.#run(index, address, channel, () => {});
    else this.#waiting.push(() => this.#run(index, address, channel, () => this.#next(-1)));
    this.#next(0);
  }

  #next(more: 0 | -1): void {
    this.#handshakes += more;
    while (this.#handshakes < HANDSHAKES && this.#waiting.length > 0) {
      this.#handshakes++;
      this.#waiting.shift()?.();
    }
  }

  /** `settled`: called once its handshake is over, or the connection. */
  #run(index: number, address: string, channel: SecureChannel, settled: () => void): void {
    const node = `node-${index}`;
    const client = new Client(address, channel.credentials, {
      ...channel.options,
      'grpc.use_local_subchannel_pool': 1,
      'grpc.enable_http_proxy': 0,
      'grpc.service_config_disable_resolution': 1,
    });
    let isOver = false;
    let isSettled = false;
    const failed = (error: Error): void => {
      if (channel === PLAINTEXT) report({ kind: 'failed', message: `${node}: ${error.message}` });
      if (channel === PLAINTEXT || isOver) return;
      // As an agent: of a thousand handshakes at once some take longer than the controller waits for one.
      isOver = true;
      clearInterval(beating);
      client.close();
      if (!isSettled) settled();
      isSettled = true;
      setTimeout(() => this.#come(index, address, channel), RETRY_MS * (1 + Math.random()));
    };
    let beating: NodeJS.Timeout | undefined;
    const serialize = (request: DiscoveryRequest): Buffer => Buffer.from(DiscoveryRequest.encode(request).finish());
    const stream = client.makeBidiStreamRequest(DiscoveryService.stream.path, serialize, identity);
    stream.on('error', failed);
    client.waitForReady(Date.now() + READY_MS, () => {
      if (!isSettled) settled();
      isSettled = true;
    });
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
    setTimeout(
      () => {
        if (!isOver) beating = setInterval(beat, HEARTBEAT_MS);
      },
      (index * HEARTBEAT_MS) / 1_000,
    );
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
process.on('message', (order: AgentsOrder) => (order.kind === 'prepare' ? agents.prepare(order) : agents.start(order.address)));
process.on('disconnect', () => process.exit(0));
report({ kind: 'ready' });
