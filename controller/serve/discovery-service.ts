// Discovery.Stream: every connected node gets each revision of the model, of it what it is told. Owns the streams, the history and the shared
// pushes.
import { createHash } from 'node:crypto';
import { type handleBidiStreamingCall, status } from '@grpc/grpc-js';
import { nodeNameFault } from '../../api/access/names.js';
import type { DiscoveryRequest, ResumeToken, Subscribe } from '../../api/gen/mesh/v1/discovery.js';
import type { EncodedDiscoveryServer } from '../../api/grpc/encoded-discovery.js';
import { protocolFault } from '../../api/grpc/protocol.js';
import { messageOf } from '../../api/message-of.js';
import { principalOf, refusalAsNode } from '../access/principal.js';
import type { Clock } from '../clock.js';
import type { Interest } from '../interest/interest.js';
import type { NodeInterests } from '../interest/node-interests.js';
import type { VisibleResource } from '../interest/units.js';
import { type DiscoveryCall, DiscoverySession, type Reader, type SessionHost, type Standing } from './discovery-session.js';
import { ModelHistory } from './model-history.js';
import type { NodeAcks } from './node-acks.js';
import { encodePush, type Push, SharedPushes } from './push.js';
import { SnapshotTurns } from './snapshot-turns.js';

/** Raise when the same input compiles to something else without a new version of the software. */
const MODEL_VERSION = 1;

/** Streams at one replica; measured to 1,000, planned to 3,000. */
const MAX_STREAMS = 10_000;
/** Of pushes that more nodes may want. */
const MAX_SHARED_BYTES = 32 * 1_048_576;
/** How long a node that has seen a revision waits for it to be compiled here too. */
const COMPILE_WAIT_MS = 2_000;

export interface DiscoveryServiceParts {
  readonly acks: NodeAcks;
  readonly interests: NodeInterests;
  readonly clock: Clock;
  readonly clusterId: () => string;
  /** Brings the store's view to `revision`; false if the store has no such revision, throws while it can't be asked. */
  readonly catchUp: (revision: number) => Promise<boolean>;
  /** The newest revision in the view that touched the model. */
  readonly modelRevision: () => number;
  readonly version: string;
  readonly observe: DiscoveryObserver;
}

export interface DiscoveryObserver {
  connected(node: string, resumed: 'full' | 'delta'): void;
  disconnected(node: string): void;
  encoded(push: Push): void;
  sent(): void;
  acked(node: string, latencyMs: number, rejected: number): void;
}

export class DiscoveryService implements EncodedDiscoveryServer, SessionHost {
  readonly history = new ModelHistory();
  /** By node: the newest stream of each. */
  readonly #sessions = new Map<string, DiscoverySession>();
  readonly #calls = new Map<DiscoverySession, DiscoveryCall>();
  readonly #waiting = new Set<() => void>();
  /** To the newest revision. */
  readonly #pushes = new SharedPushes(MAX_SHARED_BYTES);
  readonly #snapshots: SnapshotTurns;
  readonly #parts: DiscoveryServiceParts;
  readonly #compiler: string;
  #nonce = 0;

  constructor(parts: DiscoveryServiceParts) {
    this.#parts = parts;
    this.#snapshots = new SnapshotTurns(parts.clock);
    this.#compiler = createHash('sha256').update(`${parts.version}\0${MODEL_VERSION}`).digest('hex').slice(0, 16);
  }

  get connectedNodes(): number {
    return this.#sessions.size;
  }

  /** The first model, or one whose revisions have nothing to do with those before. Every stream gets all of it. */
  restart(revision: number, resources: readonly VisibleResource[]): number {
    const wasReady = this.history.isReady;
    this.history.restart(revision, resources);
    this.#pushes.clear();
    if (wasReady) this.#endAll(status.ABORTED, 'the store was replaced: subscribe again');
    this.#wake();
    return resources.length;
  }

  /** Returns how many resources changed. `isTold`: to be sent whatever it changes, as somebody may wait until the nodes have acked it. */
  publish(revision: number, resources: readonly VisibleResource[], isTold: boolean): number {
    const before = this.history.revision;
    const changed = this.history.advance(revision, resources, isTold);
    if (this.history.revision !== before) {
      this.#pushes.clear();
      for (const session of this.#sessions.values()) session.advance();
    }
    this.#wake();
    return changed;
  }

  readonly stream: handleBidiStreamingCall<DiscoveryRequest, Buffer> = (call) => {
    let session: DiscoverySession | null = null;
    let isSubscribed = false;
    let isOver = false;
    const close = (): void => {
      isOver = true;
      if (session !== null) this.#remove(session);
    };
    call.on('data', ({ request }: DiscoveryRequest) => {
      if (request?.$case === 'ack' && session !== null) return session.ack(request.value);
      if (request?.$case !== 'subscribe' || isSubscribed || request.value.node === '') {
        return fail(call, status.INVALID_ARGUMENT, 'the first message must be a Subscribe that names the node, every later one an Ack');
      }
      if (this.#calls.size >= MAX_STREAMS) {
        return fail(call, status.RESOURCE_EXHAUSTED, `this controller serves ${MAX_STREAMS} nodes already: add a replica`);
      }
      const misnamed = nodeNameFault(request.value.node);
      if (misnamed !== null) return fail(call, status.INVALID_ARGUMENT, misnamed);
      const refused = refusalAsNode(principalOf(call), request.value.node);
      if (refused !== null) return fail(call, status.PERMISSION_DENIED, refused);
      const fault = protocolFault(request.value.protocol, `node "${request.value.node}"`);
      if (fault !== null) return fail(call, status.FAILED_PRECONDITION, fault);
      isSubscribed = true;
      const subscribe = request.value;
      this.#start(subscribe).then(
        (from) => {
          if (isOver) return;
          session = this.#add({ node: subscribe.node, isPacked: subscribe.packed }, call, from);
        },
        (error: unknown) => fail(call, status.UNAVAILABLE, messageOf(error)),
      );
    });
    call.on('end', () => {
      close();
      call.end();
    });
    call.on('error', close);
    call.on('cancelled', close);
    call.on('close', close);
  };

  pushFrom(reader: Reader, at: Standing): Push | null {
    if (at.revision >= this.history.revision) return null;
    return this.#pushTo(reader, at);
  }

  sent(): void {
    this.#parts.observe.sent();
  }

  acked(session: DiscoverySession, latencyMs: number): void {
    const rejected = session.rejected;
    if (this.#sessions.get(session.node) !== session) return;
    this.#parts.acks.acked(session.node, { revision: session.ackedRevision, rejected });
    this.#parts.observe.acked(session.node, latencyMs, rejected.length);
  }

  now(): number {
    return this.#parts.clock.now();
  }

  /** Ends every stream; the nodes go on with what they have and look for another replica. */
  stop(): void {
    this.#endAll(status.UNAVAILABLE, 'this controller stops: another replica serves');
  }

  /** From where the node may go on; null: from nothing. Waits for the first model, and for a token's revision to be seen here too. */
  async #start(subscribe: Subscribe): Promise<Standing | null> {
    if (!this.history.isReady) await this.#nextModel();
    const token = subscribe.resume;
    if (token === undefined || token.clusterId === '' || token.clusterId !== this.#parts.clusterId()) return null;
    const [compiler, digest = ''] = token.compiler.split('.');
    if (compiler !== this.#compiler || !(await this.#parts.catchUp(token.revision))) return null;
    // What the model was narrowed to there isn't known before it is compiled here.
    if (token.revision > this.history.compiled && this.history.compiled < this.#parts.modelRevision())
      await this.#nextModel(COMPILE_WAIT_MS);
    const interest = this.#parts.interests.withDigest(digest) ?? this.#current(subscribe.node, digest);
    return interest === null ? null : { revision: token.revision, interest };
  }

  /** What the node is told now, if that is what it was told. */
  #current(node: string, digest: string): Interest | null {
    const interest = this.#parts.interests.of(node);
    return interest.digest === digest ? interest : null;
  }

  #nextModel(timeoutMs: number | null = null): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        cancel();
        this.#waiting.delete(wake);
        resolve();
      };
      const cancel = timeoutMs === null ? () => {} : this.#parts.clock.after(timeoutMs, wake);
      this.#waiting.add(wake);
    });
  }

  #wake(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  #add(reader: Reader, call: DiscoveryCall, from: Standing | null): DiscoverySession {
    const { node } = reader;
    const older = this.#sessions.get(node);
    if (older !== undefined) {
      const olderCall = this.#calls.get(older);
      this.#remove(older);
      if (olderCall !== undefined)
        fail(olderCall, status.ABORTED, `another stream subscribed as node "${node}": does a second agent use that name?`);
    }
    const session = new DiscoverySession(reader, call, this);
    this.#sessions.set(node, session);
    this.#calls.set(session, call);
    this.#parts.acks.connected(node);
    const isDelta = from !== null && this.history.reaches(from.revision);
    this.#parts.observe.connected(node, isDelta ? 'delta' : 'full');
    // Even one that resumes at the newest revision gets an empty delta: it tells the node that it is up to date, and has it ack.
    if (isDelta) session.send(this.#pushTo(reader, from));
    else session.onWritten(this.#snapshots.take(() => session.send(this.#pushTo(reader, null))));
    return session;
  }

  #remove(session: DiscoverySession): void {
    session.end();
    this.#calls.delete(session);
    if (this.#sessions.get(session.node) !== session) return;
    this.#sessions.delete(session.node);
    this.#parts.acks.disconnected(session.node);
    this.#parts.observe.disconnected(session.node);
  }

  #pushTo({ node, isPacked }: Reader, from: Standing | null): Push {
    const now = this.#parts.interests.of(node);
    const way = from === null ? ` ${now.digest}` : `${from.revision} ${from.interest.digest} ${now.digest}`;
    return this.#pushes.get(`${way} ${isPacked}`, () => {
      const delta = this.history.since(from?.revision ?? null, { before: from?.interest ?? now, now });
      const compiler = now.digest === '' ? this.#compiler : `${this.#compiler}.${now.digest}`;
      const token: ResumeToken = { clusterId: this.#parts.clusterId(), compiler, revision: delta.revision };
      const push = encodePush(delta, { interest: now, token, isPacked }, () => ++this.#nonce);
      this.#parts.observe.encoded(push);
      return push;
    });
  }

  #endAll(code: status, details: string): void {
    for (const [session, call] of [...this.#calls]) {
      this.#remove(session);
      fail(call, code, details);
    }
  }
}

function fail(call: DiscoveryCall, code: status, details: string): void {
  call.emit('error', { code, details });
}
