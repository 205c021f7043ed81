// Which node has acked what, at every replica: this replica's own streams from memory, the others' through <prefix>/acks/ on the nodes'
// leases. Owns writing those keys. They are not part of the model, so writing them makes no revision to be acked.
import type { NodeRejection } from '../../api/gen/mesh/v1/admin.js';
import type { Clock } from '../clock.js';
import type { EtcdClient } from '../store/etcd-client.js';
import { type Keyspace, leaseIdOfNode } from '../store/keys.js';
import { type AckRecord, MAX_REJECTIONS } from '../store/records.js';
import { commit, type Write } from '../store/transaction.js';
import type { StoreView } from '../store/view.js';

const WRITE_INTERVAL_MS = 50;
/** The nodes ack a revision at about the same time: one transaction for those of a small mesh, and behind the last ack of a large one. */
const GATHER_MS = 10;
const RETRY_MS = 1_000;
const WRITES_PER_TRANSACTION = 100;

export interface WaitOutcome {
  readonly acked: string[];
  readonly pending: string[];
  readonly rejected: NodeRejection[];
}

interface Wait {
  readonly revision: number;
  /** Live nodes that have not acked it. */
  readonly pending: Set<string>;
  readonly finish: (outcome: WaitOutcome) => void;
}

export class NodeAcks {
  readonly #client: EtcdClient;
  readonly #view: StoreView;
  readonly #keys: Keyspace;
  readonly #clock: Clock;
  /** By node: of the streams this replica serves. */
  readonly #own = new Map<string, { readonly lease: string; ack: AckRecord }>();
  readonly #dirty = new Set<string>();
  readonly #waits = new Set<Wait>();
  #cancelTimer: (() => void) | null = null;
  #lastWriteMs = Number.NEGATIVE_INFINITY;
  #isWriting = false;
  #isStopped = false;

  constructor(client: EtcdClient, view: StoreView, keys: Keyspace, clock: Clock) {
    this.#client = client;
    this.#view = view;
    this.#keys = keys;
    this.#clock = clock;
    // A node may register after its first ack, and lose its key with a lease that ran out.
    view.watch(({ nodes }) => {
      for (const node of nodes) {
        const ack = this.#own.get(node)?.ack;
        if (ack !== undefined && view.nodes.has(node) && isNewer(ack, view.acks.get(node))) this.#dirty.add(node);
        this.#notify(node);
      }
      if (this.#dirty.size > 0) this.#schedule(WRITE_INTERVAL_MS);
    });
  }

  /** Of all replicas. null: none yet. */
  of(node: string): AckRecord | null {
    const own = this.#own.get(node)?.ack ?? null;
    const stored = this.#view.acks.get(node) ?? null;
    if (own === null || stored === null) return own ?? stored;
    return stored.revision > own.revision ? stored : own;
  }

  isConnected(node: string): boolean {
    return this.#own.has(node);
  }

  /** The node's stream is served here; it has acked nothing on it yet. */
  connected(node: string): void {
    this.#own.set(node, { lease: leaseIdOfNode(this.#keys.root, node), ack: { revision: 0, rejected: [] } });
  }

  disconnected(node: string): void {
    this.#own.delete(node);
  }

  /** Between connected() and disconnected(). */
  acked(node: string, { revision, rejected }: AckRecord): void {
    const own = this.#own.get(node);
    if (own === undefined) return;
    own.ack = { revision, rejected: rejected.slice(0, MAX_REJECTIONS) };
    this.#dirty.add(node);
    this.#notify(node);
    this.#schedule(Math.max(GATHER_MS, this.#lastWriteMs + WRITE_INTERVAL_MS - this.#clock.now()));
  }

  /** Of the nodes whose lease lives: returns when all have acked `revision`, at the timeout, or when `signal` ends it. */
  wait(revision: number, timeoutMs: number, signal: AbortSignal): Promise<WaitOutcome> {
    const outcome = this.#outcome(revision);
    if (outcome.pending.length === 0 || timeoutMs === 0 || signal.aborted) return Promise.resolve(outcome);
    return new Promise((resolve) => {
      const finish = (reached: WaitOutcome): void => {
        cancel();
        this.#waits.delete(wait);
        signal.removeEventListener('abort', giveUp);
        resolve(reached);
      };
      const giveUp = (): void => finish(this.#outcome(revision));
      const wait: Wait = { revision, pending: new Set(outcome.pending), finish };
      const cancel = this.#clock.after(timeoutMs, giveUp);
      signal.addEventListener('abort', giveUp);
      this.#waits.add(wait);
    });
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancelTimer?.();
  }

  #outcome(revision: number): WaitOutcome {
    const acked: string[] = [];
    const pending: string[] = [];
    const rejected: NodeRejection[] = [];
    for (const node of [...this.#view.nodes.keys()].sort()) {
      const ack = this.of(node);
      if (ack === null || ack.revision < revision) pending.push(node);
      else {
        acked.push(node);
        for (const rejection of ack.rejected) rejected.push({ node, rejection });
      }
    }
    return { acked, pending, rejected };
  }

  /** One node at a time: with a thousand that ack, looking at all of them at each ack took more time than sending. */
  #notify(node: string): void {
    for (const wait of [...this.#waits]) {
      const isPending = this.#view.nodes.has(node) && (this.of(node)?.revision ?? -1) < wait.revision;
      if (isPending) wait.pending.add(node);
      else if (wait.pending.delete(node) && wait.pending.size === 0) this.#finish(wait);
    }
  }

  /** Unless a stream that acked has ended since, and its ack stands nowhere. */
  #finish(wait: Wait): void {
    const outcome = this.#outcome(wait.revision);
    if (outcome.pending.length === 0) wait.finish(outcome);
    for (const node of outcome.pending) wait.pending.add(node);
  }

  #schedule(delayMs: number): void {
    if (this.#isStopped || this.#isWriting || this.#cancelTimer !== null) return;
    this.#cancelTimer = this.#clock.after(delayMs, () => {
      this.#cancelTimer = null;
      void this.#write();
    });
  }

  async #write(): Promise<void> {
    this.#isWriting = true;
    this.#lastWriteMs = this.#clock.now();
    // Without a lease there is nothing to hang the key on: a node that isn't registered waits in #own.
    for (const node of this.#dirty) if (!this.#view.nodes.has(node) || !this.#own.has(node)) this.#dirty.delete(node);
    const nodes = [...this.#dirty].slice(0, WRITES_PER_TRANSACTION);
    for (const node of nodes) this.#dirty.delete(node);
    const isWritten = nodes.length === 0 || (await this.#commit(nodes));
    this.#isWriting = false;
    if (!isWritten) for (const node of nodes) this.#dirty.add(node);
    if (this.#dirty.size > 0) this.#schedule(isWritten ? WRITE_INTERVAL_MS : RETRY_MS);
  }

  /** False: to be tried again. */
  async #commit(nodes: readonly string[]): Promise<boolean> {
    const writes = nodes.flatMap((node): Write[] => {
      const own = this.#own.get(node);
      // Its stream has ended meanwhile: whoever serves it now writes.
      if (own === undefined) return [];
      return [{ key: this.#keys.ack(node), value: JSON.stringify(own.ack), lease: own.lease }];
    });
    if (writes.length === 0) return true;
    const result = await commit(this.#client, { expect: new Map(), writes });
    if (result.kind === 'committed') return true;
    if (result.kind === 'unavailable') return false;
    // One of them has lost its lease, or the whole is too large: each by itself, and whoever fails is told again when it is back.
    if (nodes.length > 1) for (const node of nodes) await this.#commit([node]);
    return true;
  }
}

function isNewer(own: AckRecord, stored: AckRecord | undefined): boolean {
  return own.revision > 0 && (stored === undefined || stored.revision < own.revision);
}
