// Who of several replicas does what one alone may do. A key on a lease; its revision is the fence that every write of the leader compares, so that
// a leader which stalled and was replaced can write nothing any more. Owns key and lease; what a leader does is its caller's.
import { randomBytes, randomUUID } from 'node:crypto';
import { messageOf } from '../../api/message-of.js';
import type { Clock } from '../clock.js';
import { type EtcdClient, storeError } from './etcd-client.js';
import type { Keyspace } from './keys.js';
import type { Leases } from './lease.js';
import { commit } from './transaction.js';
import type { StoreView } from './view.js';

export interface Term {
  /** To be part of every transaction's `expect`. */
  readonly fence: ReadonlyMap<string, number>;
  /** Aborted when the term is over: from then on another replica may lead. */
  readonly signal: AbortSignal;
}

export interface ElectionParts {
  readonly name: string;
  readonly client: EtcdClient;
  readonly leases: Leases;
  readonly view: StoreView;
  readonly keys: Keyspace;
  readonly clock: Clock;
  /** Whole seconds: for so long nobody leads after a leader was killed. */
  readonly ttlMs: number;
  /** From 0 to 1. */
  readonly random: () => number;
  readonly observe: ElectionObserver;
}

export interface ElectionObserver {
  elected(): void;
  /** `reason` null: by stop(). */
  over(reason: string | null): void;
}

const RECHECK_MS = 1_000;

interface Won {
  readonly lease: string;
  readonly fence: ReadonlyMap<string, number>;
  /** Before the request by which the lease is known to live. */
  readonly aliveAtMs: number;
}

export class Election {
  readonly #parts: ElectionParts;
  readonly #key: string;
  readonly #stop = new AbortController();
  #running: Promise<void> | null = null;

  constructor(parts: ElectionParts) {
    this.#parts = parts;
    this.#key = parts.keys.leader(parts.name);
  }

  /** Calls `lead` for every term; it resolves soon after its signal's abort. A `lead` that ends earlier gives the term up. */
  start(lead: (term: Term) => Promise<void>): void {
    this.#running ??= this.#run(lead);
  }

  /** Resolves when the term, if there was one, is over and given up. Idempotent. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(lead: (term: Term) => Promise<void>): Promise<void> {
    const { view, name, clock, random } = this.#parts;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      if (view.state.kind === 'up' && !view.leaders.has(name)) {
        const won = await this.#campaign();
        if (won !== null) await this.#hold(won, lead);
      }
      // Together or not at all is how replicas see a leader go: who waited shorter wins. Also spaces a `lead` that fails at once.
      await pause(clock, RECHECK_MS * (0.2 + random() * 0.8), signal);
    }
  }

  /** Null: another one leads, or etcd is away. */
  async #campaign(): Promise<Won | null> {
    const { client, leases, clock, ttlMs } = this.#parts;
    const lease = String((randomBytes(8).readBigUInt64BE() >> 1n) | 1n);
    const aliveAtMs = clock.now();
    try {
      await leases.acquire(lease, ttlMs);
      const writes = [{ key: this.#key, value: JSON.stringify({ requestId: randomUUID() }), lease }];
      const result = await commit(client, { expect: new Map([[this.#key, 0]]), writes });
      if (result.kind === 'committed') return { lease, fence: new Map([[this.#key, result.revision]]), aliveAtMs };
      await leases.revoke(lease);
    } catch {
      // Away again: the view says so, and the lease runs out.
    }
    return null;
  }

  async #hold({ lease, fence, aliveAtMs }: Won, lead: (term: Term) => Promise<void>): Promise<void> {
    const { leases, observe, view, name } = this.#parts;
    const wonAt = fence.get(this.#key) ?? 0;
    const over = new AbortController();
    let reason: string | null = null;
    const end = (why: string | null): void => {
      if (over.signal.aborted) return;
      reason = why;
      over.abort();
    };
    const stopped = (): void => end(null);
    this.#stop.signal.addEventListener('abort', stopped);
    if (this.#stop.signal.aborted) stopped();
    // Deleted by a hand or a restore: another one may have been elected since.
    const unwatch = view.watch(({ revision }) => {
      if (revision >= wonAt && !view.leaders.has(name)) end('its key is gone');
    });
    observe.elected();
    const kept = this.#keep(lease, aliveAtMs, end, over.signal);
    try {
      if (!over.signal.aborted) await lead({ fence, signal: over.signal });
      end('its work ended');
    } catch (error) {
      end(messageOf(error));
    }
    await kept;
    unwatch();
    this.#stop.signal.removeEventListener('abort', stopped);
    observe.over(reason);
    // So that another one need not wait for the lease. One that lives is of no harm: its fence is no longer used.
    await leases.revoke(lease).catch(() => undefined);
  }

  /** Until the signal, or the lease can't be known to live for another third of its time. */
  async #keep(lease: string, aliveAtMs: number, end: (reason: string) => void, signal: AbortSignal): Promise<void> {
    const { leases, clock, ttlMs } = this.#parts;
    let reason = 'etcd no longer answers';
    const limit = (sinceMs: number) => clock.after(sinceMs + (ttlMs * 2) / 3 - clock.now(), () => end(reason));
    let cancel = limit(aliveAtMs);
    while (!signal.aborted) {
      await pause(clock, ttlMs / 5, signal);
      if (signal.aborted) break;
      const sentMs = clock.now();
      try {
        if (await leases.keepAlive(lease)) {
          cancel();
          cancel = limit(sentMs);
        } else end('its lease is gone');
      } catch (error) {
        reason = `etcd no longer answers (${storeError(error).details})`;
      }
    }
    cancel();
  }
}

/** Until the time is over or the signal is aborted. */
export function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const finish = (): void => {
      cancel();
      signal.removeEventListener('abort', finish);
      resolve();
    };
    const cancel = clock.after(Math.max(0, ms), finish);
    signal.addEventListener('abort', finish);
  });
}
