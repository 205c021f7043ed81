// Serves mesh.v1.Discovery to the proxy of this node out of the catalog, and says when the proxy has applied a revision. One revision is
// in flight per stream: a slow reader gets the next one as a single delta over all it missed. Must not decode resources.
import type { ServerDuplexStream, UntypedServiceImplementation } from '@grpc/grpc-js';
import { Metadata, status } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import type { DiscoveryRequest, Rejection, ResumeToken } from '../../api/gen/mesh/v1/discovery.js';
import { ResourceType } from '../../api/gen/mesh/v1/model.js';
import { encodeRevision } from '../../api/grpc/encode-revision.js';
import { protocolFault } from '../../api/grpc/protocol.js';
import type { Catalog } from './catalog.js';

/** A proxy and its successor during an upgrade, and room for a mistake. */
const maxStreams = 8;
const ackTimeoutMs = 10_000;

type Stream = ServerDuplexStream<DiscoveryRequest, Buffer>;

interface Reader {
  readonly call: Stream;
  readonly node: string;
  /** What it has, or has been sent; null: nothing. */
  sent: ResumeToken | null;
  inFlight: boolean;
  ackedRevision: number;
  rejected: readonly Rejection[];
  /** Did not ack in time; revisions don't wait for it until it does. */
  isStalled: boolean;
}

export interface RelayOptions {
  readonly catalog: Catalog;
  /** What a proxy refuses, at each of its acks. */
  onRejected?(rejections: readonly Rejection[]): void;
  /** A proxy runs on the catalog's present revision. */
  onCurrent?(): void;
  readonly log: Logger;
  readonly ackTimeoutMs?: number;
}

export class Relay {
  readonly #catalog: Catalog;
  readonly #onRejected: (rejections: readonly Rejection[]) => void;
  readonly #onCurrent: () => void;
  readonly #log: Logger;
  readonly #ackTimeoutMs: number;
  readonly #readers = new Set<Reader>();
  readonly #waiting = new Set<() => void>();
  #nonce = 0;
  #closed = false;
  /** Encoded chunks to the catalog's present revision, by where the reader stands; emptied by publish(). */
  #encoded = new Map<string, readonly Buffer[]>();

  constructor(options: RelayOptions) {
    this.#catalog = options.catalog;
    this.#onRejected = (rejections) => options.onRejected?.(rejections);
    this.#onCurrent = () => options.onCurrent?.();
    this.#log = options.log;
    this.#ackTimeoutMs = options.ackTimeoutMs ?? ackTimeoutMs;
  }

  get implementation(): UntypedServiceImplementation {
    return { stream: (call: Stream) => this.#accept(call) };
  }

  /** Proxies connected now. */
  get connected(): number {
    return this.#readers.size;
  }

  /** A proxy is connected that does not ack. */
  get isStalled(): boolean {
    return [...this.#readers].some((reader) => reader.isStalled);
  }

  /** The catalog has changed, or what the node puts in place of parts of it. */
  publish(): void {
    this.#encoded = new Map();
    const { token } = this.#catalog;
    // Of a store that was replaced: what was acked there says nothing of the revisions that begin anew.
    for (const reader of this.#readers) if (token !== null && token.revision < reader.ackedRevision) reader.ackedRevision = 0;
    for (const reader of this.#readers) void this.#feed(reader);
  }

  /**
   * Settles when every connected proxy has acked `revision`, with what they refused; at once when none is connected. A proxy that does not
   * ack in time yields a rejection of its own, and is not waited for again until it acks.
   */
  async acked(revision: number): Promise<readonly Rejection[]> {
    const deadline = performance.now() + this.#ackTimeoutMs;
    const isPending = (reader: Reader): boolean => reader.ackedRevision < revision && !reader.isStalled;
    while (!this.#closed && [...this.#readers].some(isPending)) {
      const leftMs = deadline - performance.now();
      if (leftMs <= 0) this.#stall([...this.#readers].filter(isPending), revision);
      else await this.#nextChange(leftMs);
    }
    return [...this.#readers].flatMap((reader) =>
      reader.ackedRevision >= revision ? reader.rejected : [stalledRejection(revision, this.#ackTimeoutMs)],
    );
  }

  /** Ends the streams; the proxies go on with what they have. */
  close(): void {
    this.#closed = true;
    for (const { call } of this.#readers) call.end();
    this.#readers.clear();
    this.#changed();
  }

  #accept(call: Stream): void {
    // An error event is followed by 'cancelled' or 'end', which do the work.
    call.on('error', () => {});
    if (this.#closed || this.#readers.size >= maxStreams) {
      call.emit('error', { code: status.RESOURCE_EXHAUSTED, details: `more than ${maxStreams} proxies on one agent` });
      return;
    }
    let reader: Reader | null = null;
    const leave = (): void => {
      if (reader !== null && this.#readers.delete(reader)) this.#changed();
    };
    call.on('data', ({ request }: DiscoveryRequest) => {
      if (reader === null && request?.$case === 'subscribe') {
        const { node, resume, protocol } = request.value;
        const fault = protocolFault(protocol, 'the proxy');
        if (fault !== null) {
          call.emit('error', { code: status.FAILED_PRECONDITION, details: fault });
          return;
        }
        reader = { call, node, sent: resume ?? null, inFlight: false, ackedRevision: 0, rejected: [], isStalled: false };
        this.#readers.add(reader);
        this.#log.info({ subscriber: node, revision: resume?.revision ?? 0 }, 'a proxy subscribed');
        call.sendMetadata(new Metadata());
        this.#adopt(reader);
      } else if (reader !== null && request?.$case === 'ack') {
        this.#onAck(reader, request.value.revision, request.value.rejected);
      } else {
        call.emit('error', { code: status.INVALID_ARGUMENT, details: 'the first request is a subscribe, every later one an ack' });
      }
    });
    call.on('end', () => {
      leave();
      call.end();
    });
    call.on('cancelled', leave);
  }

  /** A reader that resumes at the present revision has applied it already; the empty delta has it say what it refuses. */
  #adopt(reader: Reader): void {
    const token = this.#catalog.servedToken;
    if (token !== null && reader.sent !== null && sameToken(reader.sent, token)) {
      reader.ackedRevision = token.revision;
      this.#onCurrent();
    }
    void this.#feed(reader, true);
    this.#changed();
  }

  #onAck(reader: Reader, revision: number, rejected: readonly Rejection[]): void {
    reader.inFlight = false;
    reader.isStalled = false;
    reader.ackedRevision = revision;
    reader.rejected = rejected;
    this.#onRejected(rejected);
    if (revision === this.#catalog.token?.revision) this.#onCurrent();
    for (const { type, name, error } of rejected)
      this.#log.warn({ type: ResourceType[type], name, error, revision }, 'the proxy refused a resource');
    this.#changed();
    void this.#feed(reader);
  }

  async #feed(reader: Reader, isFirst = false): Promise<void> {
    const token = this.#catalog.servedToken;
    if (reader.inFlight || token === null || (!isFirst && reader.sent !== null && sameToken(reader.sent, token))) return;
    reader.inFlight = true;
    const chunks = this.#encode(reader.sent, token);
    reader.sent = token;
    for (const chunk of chunks) {
      if (!this.#readers.has(reader)) return;
      if (!reader.call.write(chunk)) await drained(reader.call);
    }
  }

  #encode(from: ResumeToken | null, token: ResumeToken): readonly Buffer[] {
    const key = from === null ? '' : `${from.clusterId}/${from.compiler}/${from.revision}`;
    const known = this.#encoded.get(key);
    if (known !== undefined) return known;
    const delta = from === null ? null : this.#catalog.since(from);
    const content = { resources: delta?.resources ?? [...this.#catalog.servedResources()], removed: delta?.removed ?? [] };
    const { chunks } = encodeRevision({ full: delta === null, revision: token.revision, token, ...content }, () => ++this.#nonce);
    this.#encoded.set(key, chunks);
    return chunks;
  }

  #stall(readers: readonly Reader[], revision: number): void {
    for (const reader of readers) {
      reader.isStalled = true;
      this.#log.error({ revision }, stalledRejection(revision, this.#ackTimeoutMs).error);
    }
  }

  #changed(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  #nextChange(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, timeoutMs);
      this.#waiting.add(wake);
    });
  }
}

function stalledRejection(revision: number, timeoutMs: number): Rejection {
  return {
    type: ResourceType.UNSPECIFIED,
    name: 'proxy',
    error: `the proxy did not ack revision ${revision} within ${timeoutMs} ms and serves an older one; look at its log, or restart it`,
  };
}

function sameToken(a: ResumeToken, b: ResumeToken): boolean {
  return a.revision === b.revision && a.clusterId === b.clusterId && a.compiler === b.compiler;
}

function drained(call: Stream): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      call.off('drain', done);
      call.off('cancelled', done);
      call.off('close', done);
      resolve();
    };
    call.on('drain', done);
    call.on('cancelled', done);
    call.on('close', done);
  });
}
