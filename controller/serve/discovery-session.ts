// One node's stream: sends what the node lacks, one message at a time, and takes its acks. Holds no queue: a slow reader skips revisions
// and then gets the sum of them.
import type { ServerDuplexStream } from '@grpc/grpc-js';
import type { Ack, DiscoveryRequest, Rejection } from '../../api/gen/mesh/v1/discovery.js';
import { ResourceType } from '../../api/gen/mesh/v1/model.js';
import type { Interest } from '../interest/interest.js';
import { resourceKey } from './model-history.js';
import type { Push } from './push.js';

export type DiscoveryCall = ServerDuplexStream<DiscoveryRequest, Buffer>;

export interface SessionHost {
  /** The push that brings the reader from where it stands to the newest revision; null when it is there. */
  pushFrom(reader: Reader, at: Standing): Push | null;
  sent(): void;
  acked(session: DiscoverySession, latencyMs: number): void;
  now(): number;
}

/** A node that takes messages but doesn't ack gets no more until it does. */
const MAX_UNACKED = 8;
/** As many as an agent tells; what a node says beyond it, or at greater length, is not kept. */
const MAX_REJECTED = 1_000;
const MAX_NAME = 512;
const MAX_ERROR = 1_024;

/** Whose stream it is. */
export interface Reader {
  readonly node: string;
  /** It reads DiscoveryResponse.packed. */
  readonly isPacked: boolean;
}

/** A revision, and what of it a node was told. */
export interface Standing {
  readonly revision: number;
  readonly interest: Interest;
}

/** Without its bytes: they are for who has not been sent them. */
interface SentPush extends Omit<Push, 'chunks' | 'bytes' | 'interest'> {
  readonly atMs: number;
}

export class DiscoverySession implements Reader {
  readonly node: string;
  readonly isPacked: boolean;
  readonly #call: DiscoveryCall;
  readonly #host: SessionHost;
  readonly #rejected = new Map<string, Rejection>();
  #unacked: SentPush[] = [];
  /** null: nothing yet. */
  #sent: Standing | null = null;
  #whenWritten: () => void = () => {};
  #ackedRevision = 0;
  #isWriting = false;
  #isEnded = false;

  constructor({ node, isPacked }: Reader, call: DiscoveryCall, host: SessionHost) {
    this.node = node;
    this.isPacked = isPacked;
    this.#call = call;
    this.#host = host;
  }

  /** 0: none yet on this stream. */
  get ackedRevision(): number {
    return this.#ackedRevision;
  }

  /** What the node refuses still. */
  get rejected(): readonly Rejection[] {
    return [...this.#rejected.values()];
  }

  /** There may be something new. */
  advance(): void {
    if (this.#sent === null || this.#isWriting || this.#isEnded || this.#unacked.length >= MAX_UNACKED) return;
    const push = this.#host.pushFrom(this, this.#sent);
    if (push !== null) this.send(push);
  }

  /** The first push, by the host; every later one by advance(). */
  send(push: Push): void {
    const { nonce, revision, interest, full, keys } = push;
    this.#sent = { revision, interest };
    this.#isWriting = true;
    this.#unacked.push({ nonce, revision, full, keys, atMs: this.#host.now() });
    this.#host.sent();
    this.#write(push, 0);
  }

  /** Called once: the transport has what was sent first, or the session is over. */
  onWritten(whenWritten: () => void): void {
    this.#whenWritten = whenWritten;
  }

  /** An ack of an unknown nonce is ignored: it is of a push that a later one has overtaken. */
  ack(ack: Ack): void {
    const index = this.#unacked.findIndex(({ nonce }) => nonce === ack.nonce);
    const sent = this.#unacked[index];
    if (sent === undefined) return;
    for (const { full, keys } of this.#unacked.slice(0, index + 1)) {
      if (full) this.#rejected.clear();
      else for (const key of keys) this.#rejected.delete(key);
    }
    // One that names no resource is the node's own condition, told anew with every ack.
    for (const [key, { type }] of this.#rejected) if (type === ResourceType.UNSPECIFIED) this.#rejected.delete(key);
    for (const { type, name, error } of ack.rejected) {
      const key = resourceKey({ type, name });
      if (name.length > MAX_NAME || (this.#rejected.size === MAX_REJECTED && !this.#rejected.has(key))) continue;
      this.#rejected.set(key, { type, name, error: error.slice(0, MAX_ERROR) });
    }
    this.#unacked = this.#unacked.slice(index + 1);
    this.#ackedRevision = Math.max(this.#ackedRevision, sent.revision);
    this.#host.acked(this, this.#host.now() - sent.atMs);
    this.advance();
  }

  /** Idempotent. Nothing is sent afterwards. */
  end(): void {
    this.#isEnded = true;
    this.#written();
  }

  /** The callback comes when the transport took the message, so at most one of them waits in memory for a slow reader. */
  #write(push: Push, index: number): void {
    const chunk = push.chunks[index];
    if (chunk === undefined || this.#isEnded) {
      this.#isWriting = false;
      this.#written();
      this.advance();
      return;
    }
    this.#call.write(chunk, () => this.#write(push, index + 1));
  }

  #written(): void {
    const whenWritten = this.#whenWritten;
    this.#whenWritten = () => {};
    whenWritten();
  }
}
