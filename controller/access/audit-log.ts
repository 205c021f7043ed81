// Who did what, and who was refused what: a line of the log at once, and an entry in etcd soon. Owns both bounds: how many are kept, and how many refusals
// a minute are worth an entry, for strangers make them at will.
import { randomUUID } from 'node:crypto';
import type { Logger } from 'pino';
import type { Clock } from '../clock.js';
import type { AuditRecord } from '../store/access-records.js';
import type { EtcdClient } from '../store/etcd-client.js';
import type { Keyspace } from '../store/keys.js';
import { commit, type Write } from '../store/transaction.js';
import type { StoreView } from '../store/view.js';
import { RateLimits } from './rate-limits.js';

/** Every replica has them in memory, some 500 bytes each. Refusals push out refusals alone: whoever is refused often hides nothing by it. */
const MAX_KEPT = { audit: 5_000, refusals: 1_000 };
const MAX_WAITING = 1_000;
const BATCH = 30;
/** Of each family beside a batch, and more than that writes: etcd takes 128 operations in one transaction. */
const PRUNED = 35;
const MAX_TEXT = 1_024;
/** Entries of so long go together: each alone would cost an operator's change a second transaction. */
const GATHER_MS = 200;
const RETRY_MS = 1_000;
const REFUSALS = { perSecond: 1, burst: 100 };
/** Once a batch has failed so often, it is only in the log. */
const ATTEMPTS = 60;

type Family = 'audit' | 'refusals';
export type AuditFacts = Omit<AuditRecord, 'atMs'>;

export class AuditLog {
  readonly #client: EtcdClient;
  readonly #view: StoreView;
  readonly #keys: Keyspace;
  readonly #clock: Clock;
  readonly #wallClock: () => number;
  readonly #log: Logger;
  readonly #refusals: RateLimits;
  readonly #waiting: Write[] = [];
  #writing: Promise<void> | null = null;
  #unsaid = 0;
  #isStopped = false;
  #wake: () => void = () => {};

  constructor(parts: { client: EtcdClient; view: StoreView; keys: Keyspace; clock: Clock; wallClock: () => number; log: Logger }) {
    this.#client = parts.client;
    this.#view = parts.view;
    this.#keys = parts.keys;
    this.#clock = parts.clock;
    this.#wallClock = parts.wallClock;
    this.#log = parts.log;
    this.#refusals = new RateLimits(parts.clock.now);
  }

  done(facts: AuditFacts): void {
    this.#record('audit', facts, '');
  }

  /** One that exceeds the rate is counted, and told with the next that doesn't. */
  refused(facts: AuditFacts): void {
    if (this.#refusals.take('', REFUSALS) > 0) {
      this.#unsaid++;
      return;
    }
    const unsaid = this.#unsaid === 0 ? '' : ` (and ${this.#unsaid} refusals before it that were too many to record)`;
    this.#unsaid = 0;
    this.#record('refusals', facts, unsaid);
  }

  /** Writes what waits; what etcd does not take is in the log alone. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#wake();
    await this.#writing;
  }

  #record(family: Family, facts: AuditFacts, more: string): void {
    const atMs = this.#wallClock();
    const record: AuditRecord = {
      ...{ atMs, actor: cut(facts.actor), by: facts.by, peer: facts.peer, method: facts.method },
      ...{ detail: cut(facts.detail), result: facts.result, message: cut(`${facts.message}${more}`) },
    };
    this.#log.info({ audit: record }, `audit: ${record.actor || 'somebody'} ${record.method} ${record.result}`);
    if (this.#waiting.length >= MAX_WAITING) this.#waiting.shift();
    this.#waiting.push({ key: this.#keys.audit(family, atMs, randomUUID()), value: JSON.stringify(record), lease: null });
    this.#writing ??= this.#write();
  }

  async #write(): Promise<void> {
    await this.#pause(GATHER_MS);
    for (let attempt = 0; this.#waiting.length > 0 && attempt < ATTEMPTS; ) {
      // Taken out: what overflows meanwhile is none of these.
      const batch = this.#waiting.splice(0, BATCH);
      const writes = [...batch, ...this.#outdated('audit', batch.length), ...this.#outdated('refusals', batch.length)];
      const result = await commit(this.#client, { expect: new Map(), writes });
      if (result.kind === 'committed') {
        attempt = 0;
        continue;
      }
      this.#waiting.unshift(...batch);
      if (this.#isStopped) break;
      attempt++;
      await this.#pause(RETRY_MS);
    }
    // Here, so that an entry that comes now begins a write of its own.
    this.#writing = null;
  }

  /** Cut short by stop(). */
  #pause(ms: number): Promise<void> {
    if (this.#isStopped) return Promise.resolve();
    return new Promise((resolve) => {
      const cancel = this.#clock.after(ms, resolve);
      this.#wake = () => {
        cancel();
        resolve();
      };
    });
  }

  /** At most a batch more than have to go: what is written may be of the other family. */
  #outdated(family: Family, more: number): Write[] {
    const known = this.#view[family];
    const excess = Math.min(known.size + more - MAX_KEPT[family], PRUNED);
    const oldest: Write[] = [];
    // In the order in which they came, which is nearly that of time; sorting thousands at each write took longer than the rest of it.
    for (const key of known.keys()) {
      if (oldest.length >= excess) break;
      oldest.push({ key, value: null, lease: null });
    }
    return oldest;
  }
}

/** The newest first. */
export function auditEntries(view: StoreView, limit: number): AuditRecord[] {
  const entries = [...view.audit, ...view.refusals].sort(([, a], [, b]) => b.atMs - a.atMs).map(([, record]) => record);
  return limit > 0 ? entries.slice(0, limit) : entries;
}

function cut(text: string): string {
  return text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text;
}
