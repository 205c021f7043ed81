// What a source has → its keys in etcd. Owns all keys of one source for one term: knows what stands there, writes what differs, in few
// transactions, each fenced by the term. Knows nothing of what the objects mean.
import { createHash, randomUUID } from 'node:crypto';
import type { IRangeResponse } from 'etcd3';
import type { ObjectRef } from '../../api/gen/mesh/v1/admin.js';
import type { Clock } from '../clock.js';
import { pause, type Term } from '../store/election.js';
import type { EtcdClient } from '../store/etcd-client.js';
import { type Keyspace, prefixEnd, type Source } from '../store/keys.js';
import { canonicalJson, readObject } from '../store/records.js';
import { commit, type Write } from '../store/transaction.js';

export interface SourceObject {
  readonly ref: ObjectRef;
  readonly manifest: unknown;
  /** Milliseconds since the epoch. */
  readonly createdAtMs: number;
  /** As ObjectRecord has it. */
  readonly generation: number;
}

/** What a source tells, in any order and as often as it likes: only differences are written. */
export interface Ingest {
  put(object: SourceObject): void;
  remove(ref: ObjectRef): void;
  /** All that the source has of the kind was put: what stands there and is not `present` goes. */
  settle(kind: string, present: (ref: ObjectRef) => boolean): void;
}

export interface IngestObserver {
  written(objects: number): void;
  /** On each change from written to not written; null: written again. */
  failing(message: string | null): void;
  refused(ref: ObjectRef, message: string): void;
}

const OBJECTS_PER_TRANSACTION = 100;
/** Transactions under way: while a replica compiles what one has brought, it hears of no other's end. */
const WRITERS = 8;
/** Of values in one transaction; etcd takes 1.5 MiB. */
const TRANSACTION_BYTES = 1_048_576;
/** Of one value: with it alone a transaction is below etcd's limit. */
const OBJECT_BYTES = 1_200_000;
const PAGE_KEYS = 1_000;
const PAGE_DEADLINE_MS = 10_000;
const FIRST_RETRY_MS = 200;
const LAST_RETRY_MS = 5_000;

interface Parts {
  readonly source: Source;
  readonly client: EtcdClient;
  readonly keys: Keyspace;
  readonly clock: Clock;
  readonly observe: IngestObserver;
}

/** An object that is to be written; null: deleted. */
type Pending = { readonly digest: string; readonly body: string } | null;

export class Ingester implements Ingest {
  readonly #parts: Parts;
  readonly #term: Term;
  /** By key: digest of what stands in etcd. Nobody else writes there. */
  readonly #written: Map<string, string>;
  /** By key. */
  readonly #pending = new Map<string, Pending>();
  /** Being written: what will stand there is not known yet. */
  readonly #underWay = new Set<string>();
  /** Writers that have nothing to do. */
  readonly #sleepers: (() => void)[] = [];
  /** Why the term has to end. */
  #reason: string | null = null;
  #isFailing = false;

  private constructor(parts: Parts, term: Term, written: Map<string, string>) {
    this.#parts = parts;
    this.#term = term;
    this.#written = written;
  }

  /** Reads what stands there. Throws StoreError. */
  static async open(parts: Parts, term: Term): Promise<Ingester> {
    return new Ingester(parts, term, await readWritten(parts));
  }

  put({ ref, manifest, createdAtMs, generation }: SourceObject): void {
    const text = canonicalJson(manifest);
    if (Buffer.byteLength(text) > OBJECT_BYTES) {
      this.#parts.observe.refused(ref, `too large: ${Buffer.byteLength(text)} bytes as JSON, at most ${OBJECT_BYTES}`);
      this.remove(ref);
      return;
    }
    const digest = digestOf(text, createdAtMs, generation);
    const body = `{"manifest":${text},"createdAtMs":${createdAtMs},"generation":${generation}`;
    this.#want(this.#keyOf(ref), { digest, body });
  }

  remove(ref: ObjectRef): void {
    this.#want(this.#keyOf(ref), null);
  }

  settle(kind: string, present: (ref: ObjectRef) => boolean): void {
    const prefix = `${this.#parts.keys.allOf(this.#parts.source)}${kind}/`;
    for (const keys of [[...this.#written.keys()], [...this.#pending.keys()]]) {
      for (const key of keys) {
        if (!key.startsWith(prefix)) continue;
        const parsed = this.#parts.keys.parse(key);
        if (parsed.kind === 'object' && !present(parsed.ref)) this.#want(key, null);
      }
    }
  }

  /** Writes until the term is over. Resolves with the reason if it has to end; null: by its signal. */
  async run(): Promise<string | null> {
    const { signal } = this.#term;
    const wake = (): void => this.#wake();
    signal.addEventListener('abort', wake);
    try {
      await Promise.all(Array.from({ length: WRITERS }, () => this.#write()));
    } finally {
      signal.removeEventListener('abort', wake);
    }
    return this.#reason;
  }

  /** One of several: what they write at a time differs in its keys. */
  async #write(): Promise<void> {
    const { signal } = this.#term;
    let retryMs = FIRST_RETRY_MS;
    while (!signal.aborted && this.#reason === null) {
      const { part, writes } = this.#take();
      if (part.size === 0) {
        await new Promise<void>((resolve) => this.#sleepers.push(resolve));
        continue;
      }
      if (await this.#commit(part, writes)) retryMs = FIRST_RETRY_MS;
      else {
        await pause(this.#parts.clock, retryMs, signal);
        retryMs = Math.min(retryMs * 2, LAST_RETRY_MS);
      }
    }
  }

  #wake(): void {
    for (const resolve of this.#sleepers.splice(0)) resolve();
  }

  #keyOf(ref: ObjectRef): string {
    return this.#parts.keys.sourced(this.#parts.source, ref);
  }

  #want(key: string, pending: Pending): void {
    const stands = !this.#underWay.has(key) && (this.#written.get(key) ?? null) === (pending?.digest ?? null);
    if (stands) this.#pending.delete(key);
    else this.#pending.set(key, pending);
    if (this.#pending.size > 0) this.#wake();
  }

  /** False: to be tried again. */
  async #commit(part: ReadonlyMap<string, Pending>, writes: readonly Write[]): Promise<boolean> {
    const { client, observe } = this.#parts;
    for (const key of part.keys()) this.#underWay.add(key);
    const result = await commit(client, { expect: this.#term.fence, writes });
    for (const key of part.keys()) this.#underWay.delete(key);
    switch (result.kind) {
      case 'committed':
        for (const [key, pending] of part) this.#stands(key, pending);
        observe.written(part.size);
        this.#fail(null);
        break;
      case 'conflict':
      case 'lease-lost':
        this.#end('another replica leads');
        break;
      case 'unavailable':
        this.#fail(result.message);
        // It may yet be written, after what comes next: only another fence keeps it from that.
        if (!result.isKnown) this.#end('whether a change was written is not known');
        break;
      case 'too-large':
        this.#fail(result.message);
        break;
    }
    // Of the keys that were under way some may have changed meanwhile.
    if (this.#pending.size > 0) this.#wake();
    return result.kind === 'committed';
  }

  /** What came meanwhile stays pending, unless it is what stands there now. */
  #stands(key: string, written: Pending): void {
    if (written === null) this.#written.delete(key);
    else this.#written.set(key, written.digest);
    const newer = this.#pending.get(key);
    if (newer !== undefined && (newer?.digest ?? null) === (written?.digest ?? null)) this.#pending.delete(key);
  }

  #end(reason: string): void {
    this.#reason ??= reason;
    this.#wake();
  }

  #take(): { part: Map<string, Pending>; writes: Write[] } {
    const requestId = randomUUID();
    const part = new Map<string, Pending>();
    const writes: Write[] = [];
    let bytes = 0;
    for (const [key, pending] of this.#pending) {
      if (this.#underWay.has(key)) continue;
      const value = pending === null ? null : `${pending.body},"requestId":"${requestId}"}`;
      bytes += key.length + Buffer.byteLength(value ?? '');
      if (writes.length === OBJECTS_PER_TRANSACTION || (writes.length > 0 && bytes > TRANSACTION_BYTES)) break;
      part.set(key, pending);
      writes.push({ key, value, lease: null });
    }
    return { part, writes };
  }

  #fail(message: string | null): void {
    if (this.#isFailing === (message !== null)) return;
    this.#isFailing = message !== null;
    this.#parts.observe.failing(message);
  }
}

async function readWritten({ client, keys, source }: Parts): Promise<Map<string, string>> {
  const written = new Map<string, string>();
  const prefix = keys.allOf(source);
  const end = prefixEnd(prefix);
  for (let from: Buffer = Buffer.from(prefix); ; ) {
    const page: IRangeResponse = await client.range({ key: from, range_end: end, limit: PAGE_KEYS }, PAGE_DEADLINE_MS);
    for (const { key, value } of page.kvs) {
      const record = readObject(value);
      // What can't be read is replaced or deleted.
      written.set(key.toString(), record === null ? '' : digestOf(canonicalJson(record.manifest), record.createdAtMs, record.generation));
    }
    const last = page.kvs.at(-1);
    if (!page.more || last === undefined) return written;
    from = Buffer.concat([last.key, Buffer.of(0)]);
  }
}

function digestOf(manifest: string, createdAtMs: number, generation: number): string {
  return createHash('sha256').update(`${createdAtMs} ${generation} ${manifest}`).digest('base64url').slice(0, 22);
}
