// A process of its own with a thousand agents: each a connection with a discovery stream that acks what it is sent and, where told so, a
// registration with its heartbeats. They hold no model and decode no resources: what is measured is the controller. For that they speak gRPC by
// node:http2 alone, at half of what a gRPC client costs: real agents have cores of their own, these take theirs from the controller. Told what to do over IPC.
import { createPrivateKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { type ClientHttp2Stream, connect, type IncomingHttpHeaders } from 'node:http2';
import { connect as connectTcp } from 'node:net';
import { connect as connectTls, createSecureContext, type SecureContext } from 'node:tls';
import { CONTROLLER_NAME, nodeUris } from '../../api/access/names.js';
import { DiscoveryRequest, DiscoveryService, RegisterRequest, RegistryService } from '../../api/gen/mesh/v1/discovery.js';
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
/** Of a message: the flag that says whether it is compressed, and its length. */
const PREFIX_BYTES = 5;
/** Of a response, that hold all before its resources. */
const HEAD_BYTES = 512;
const report = (message: AgentsReport): void => void process.send?.(message);

/** What an ack needs, of the fields before the resources. */
interface Head {
  nonce: number;
  revision: number;
  more: boolean;
}

/** protobuf: fields 1 to 5 of DiscoveryResponse, in order. `bytes`: the first of it. */
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

/** A message as it is sent. */
function framed(message: Uint8Array): Buffer {
  const frame = Buffer.alloc(PREFIX_BYTES + message.length);
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, PREFIX_BYTES);
  return frame;
}

/** Cuts what a stream brings into messages; keeps of each its first bytes. */
class HeadReader {
  /** Of the message that is being read, with what stands before it. */
  #start: Buffer = Buffer.alloc(0);
  #skip = 0;

  constructor(private readonly onHead: (head: Head) => void) {}

  read(chunk: Buffer): void {
    let rest = chunk;
    while (rest.length > 0) {
      const skipped = Math.min(this.#skip, rest.length);
      this.#skip -= skipped;
      rest = this.#begin(rest.subarray(skipped));
    }
  }

  /** Returns what is not of a head. */
  #begin(bytes: Buffer): Buffer {
    const before = this.#start.length;
    const start = before === 0 ? bytes : Buffer.concat([this.#start, bytes]);
    const length = start.length < PREFIX_BYTES ? Number.POSITIVE_INFINITY : start.readUInt32BE(1);
    const wanted = PREFIX_BYTES + Math.min(length, HEAD_BYTES);
    if (start.length < wanted) {
      this.#start = start;
      return Buffer.alloc(0);
    }
    this.#start = Buffer.alloc(0);
    this.#skip = PREFIX_BYTES + length - wanted;
    // Known to all that the message has.
    this.onHead(headOf(start.subarray(PREFIX_BYTES, wanted)));
    return bytes.subarray(wanted - before);
  }
}

const HOUR_MS = 3_600_000;

/** As a node that has joined. */
function secured(node: string, { certificate, key }: NodeAuthority): SecureContext {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const times = { notBeforeMs: Date.now() - HOUR_MS, notAfterMs: Date.now() + HOUR_MS };
  const own = issue(
    { certificate: new X509Certificate(certificate), key: createPrivateKey(key) },
    { commonName: 'weft node', publicKey, dnsNames: [], uris: nodeUris(node, 0), usages: ['client'], ...times },
  );
  return createSecureContext({ ca: certificate, cert: own, key: privateKey.export({ type: 'pkcs8', format: 'pem' }) });
}

class Agents {
  /** Null: plaintext. */
  #contexts: readonly (SecureContext | null)[] = [];
  readonly #revisions: number[] = [];
  /** That all stand at, and how many stand at no newer one. */
  #oldest = 0;
  #atOldest = 0;
  readonly #waiting: (() => void)[] = [];
  #handshakes = 0;
  /** What was acked last: one push is sent to all, so all ack it in the same words. */
  #ack: { nonce: number; revision: number; frame: Buffer } = { nonce: 0, revision: 0, frame: Buffer.alloc(0) };

  prepare({ agents, authority }: Extract<AgentsOrder, { kind: 'prepare' }>): void {
    this.#contexts = Array.from({ length: agents }, (_, index) => (authority === null ? null : secured(`node-${index}`, authority)));
    report({ kind: 'prepared' });
  }

  start(address: string): void {
    for (const _ of this.#contexts) this.#revisions.push(0);
    this.#atOldest = this.#revisions.length;
    for (const [index, context] of this.#contexts.entries()) this.#come(index, address, context);
  }

  #come(index: number, address: string, context: SecureContext | null): void {
    if (context === null) this.#run(index, address, context, () => {});
    else this.#waiting.push(() => this.#run(index, address, context, () => this.#next(-1)));
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
  #run(index: number, address: string, context: SecureContext | null, settled: () => void): void {
    const node = `node-${index}`;
    const colon = address.lastIndexOf(':');
    const to = { host: address.slice(0, colon), port: Number(address.slice(colon + 1)) };
    const session = connect(`${context === null ? 'http' : 'https'}://${CONTROLLER_NAME}`, {
      createConnection: () =>
        context === null
          ? connectTcp(to)
          : connectTls({ ...to, secureContext: context, servername: CONTROLLER_NAME, ALPNProtocols: ['h2'] }),
    });
    let isOver = false;
    let isSettled = false;
    const settle = (): void => {
      clearTimeout(late);
      if (!isSettled) settled();
      isSettled = true;
    };
    const failed = (error: Error): void => {
      if (isOver) return;
      isOver = true;
      clearInterval(beating);
      session.destroy();
      settle();
      if (context === null) report({ kind: 'failed', message: `${node}: ${error.message}` });
      // As an agent: of a thousand handshakes at once some take longer than the controller waits for one.
      else setTimeout(() => this.#come(index, address, context), RETRY_MS * (1 + Math.random()));
    };
    let beating: NodeJS.Timeout | undefined;
    const late = setTimeout(() => failed(new Error(`no connection within ${READY_MS} ms`)), READY_MS);
    session.once('connect', settle);
    session.on('error', failed);
    session.on('close', () => failed(new Error('the connection was closed')));
    const call = (path: string): ClientHttp2Stream => {
      const stream = session.request({ ':method': 'POST', ':path': path, te: 'trailers', 'content-type': 'application/grpc' });
      const ended = (headers: IncomingHttpHeaders): void => {
        if (headers['grpc-status'] !== undefined)
          failed(new Error(`${path}: ${headers['grpc-status']} ${String(headers['grpc-message'] ?? '')}`));
      };
      stream.on('response', ended).on('trailers', ended).on('error', failed);
      return stream;
    };
    const stream = call(DiscoveryService.stream.path);
    const heads = new HeadReader(({ nonce, revision, more }) => {
      if (more) return;
      stream.write(this.#acking(nonce, revision));
      this.#at(index, revision);
    });
    stream.on('data', (chunk: Buffer) => heads.read(chunk));
    const subscribe = { node, version: 'bench', resume: undefined, protocol: PROTOCOL, packed: true };
    stream.write(framed(DiscoveryRequest.encode({ request: { $case: 'subscribe', value: subscribe } }).finish()));
    const register = call(RegistryService.register.path);
    register.resume();
    const heartbeat = framed(RegisterRequest.encode(RegisterRequest.fromPartial({ node, zone: 'z', version: 'bench' })).finish());
    const beat = (): void => void register.write(heartbeat);
    beat();
    // Not all at once, as real ones would not.
    setTimeout(
      () => {
        if (!isOver) beating = setInterval(beat, HEARTBEAT_MS);
      },
      (index * HEARTBEAT_MS) / 1_000,
    );
  }

  #acking(nonce: number, revision: number): Buffer {
    if (this.#ack.nonce !== nonce || this.#ack.revision !== revision) {
      const message = DiscoveryRequest.encode({ request: { $case: 'ack', value: { nonce, revision, rejected: [] } } }).finish();
      this.#ack = { nonce, revision, frame: framed(message) };
    }
    return this.#ack.frame;
  }

  #at(index: number, revision: number): void {
    const before = this.#revisions[index];
    this.#revisions[index] = revision;
    if (before !== this.#oldest || revision <= this.#oldest || --this.#atOldest > 0) return;
    this.#oldest = Math.min(...this.#revisions);
    this.#atOldest = this.#revisions.filter((each) => each === this.#oldest).length;
    report({ kind: 'all-at', revision: this.#oldest, atMs: Date.now() });
  }
}

const agents = new Agents();
process.on('message', (order: AgentsOrder) => (order.kind === 'prepare' ? agents.prepare(order) : agents.start(order.address)));
process.on('disconnect', () => process.exit(0));
report({ kind: 'ready' });
