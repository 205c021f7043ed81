// Changes of applied objects: one command is one transaction, and so one revision. Owns the optimistic loop; validation comes before it.
// A small change compares the objects it changes. One of more objects than etcd compares at once is made on a view known to be current, and compares
// that nobody has changed any object since: every change leaves an entry of the history in its own transaction.
import { randomUUID } from 'node:crypto';
import { type Change, Change_Action, type ObjectRef } from '../../api/gen/mesh/v1/admin.js';
import type { EtcdClient } from '../store/etcd-client.js';
import type { Keyspace } from '../store/keys.js';
import { canonicalJson, readObject } from '../store/records.js';
import type { Entry } from '../store/reflector.js';
import { type CommitResult, commit, MAX_OPERATIONS, type Write } from '../store/transaction.js';
import type { StoreView } from '../store/view.js';
import { type Cause, historyValue, prunedBy } from './change-history.js';

/** What is wanted at a reference; a null manifest: nothing. */
export interface Wanted {
  readonly ref: ObjectRef;
  readonly manifest: unknown;
  /** The revision at which its writer has seen it: nothing is written when it was changed since. Null: whatever stands there. */
  readonly seenAt: number | null;
}

export type ChangeResult =
  /** Revision 0: nothing had to be written. */
  | { readonly kind: 'done'; readonly revision: number; readonly changes: Change[] }
  | { readonly kind: 'contended' }
  /** Changed since its writer saw it; `revision` 0: it is gone. */
  | { readonly kind: 'stale'; readonly ref: ObjectRef; readonly revision: number }
  /** Changed, at `revision`, since its writer began. */
  | { readonly kind: 'overtaken'; readonly ref: ObjectRef; readonly revision: number }
  | { readonly kind: 'too-large'; readonly message: string }
  | { readonly kind: 'unavailable'; readonly message: string };

const ATTEMPTS = 5;
/** With what comes behind it under the 3 s in which an operator is to hear that etcd is away. */
const CURRENT_DEADLINE_MS = 1_700;
const ABANDONED = 'the caller no longer waits: nothing was written';
const RESTORING =
  'a backup is being restored, nothing was written: try again when it is done; one that was interrupted is finished by running `weft controller restore` again';

/** Of a caller who may be gone, and may have asked another replica since: what it asked here must not come after that. */
export interface Call {
  /** Once it says no, nothing is begun. */
  readonly isAwaited: () => boolean;
  /** What was changed after this revision is not written over; 0: whatever stands there is. */
  readonly asOf: number;
}

interface Current {
  readonly manifest: unknown;
  readonly createdAtMs: number;
  readonly modRevision: number;
}

export class ObjectChanges {
  readonly #client: EtcdClient;
  readonly #view: StoreView;
  readonly #keys: Keyspace;
  readonly #catchUp: () => Promise<unknown>;
  /** Milliseconds since the epoch. */
  readonly #wallClock: () => number;

  /** `catchUp` resolves when the view has all that was written before; throws while etcd can't be asked. */
  constructor(client: EtcdClient, view: StoreView, keys: Keyspace, catchUp: () => Promise<unknown>, wallClock: () => number) {
    this.#client = client;
    this.#view = view;
    this.#keys = keys;
    this.#catchUp = catchUp;
    this.#wallClock = wallClock;
  }

  /** Of etcd, not of the view. Throws while it can't be asked. */
  async currentRevision(): Promise<number> {
    return Number((await this.#client.range({ key: Buffer.from(this.#keys.barrier) }, CURRENT_DEADLINE_MS)).header.revision);
  }

  /**
   * `wanted` names each object once. With `isDryRun` nothing is written and the changes are those that would be.
   */
  async bring(wanted: readonly Wanted[], cause: Cause, isDryRun: boolean, { isAwaited, asOf }: Call): Promise<ChangeResult> {
    // The view may lag behind: a conflict says what really stands there.
    let current = this.#viewOf(wanted);
    const { restoring } = this.#keys;
    let isReversible = true;
    let isWide = false;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      if (isWide) {
        const failure = await this.#catchUp().then(() => null, String);
        if (failure !== null) return { kind: 'unavailable', message: `${failure.replace(/^Error: /, '')}: nothing was written` };
        current = this.#viewOf(wanted);
      }
      if (this.#view.isRestoring || current.has(restoring)) return { kind: 'unavailable', message: RESTORING };
      if (!isAwaited()) return { kind: 'unavailable', message: ABANDONED };
      // What the view has may be older than what the writer has seen; what a conflict told is not.
      const stale = attempt > 0 || isDryRun ? this.#stale(wanted, current) : null;
      if (stale !== null) return stale;
      const overtaken = asOf > 0 ? this.#overtaken(wanted, current, asOf) : null;
      if (overtaken !== null) return overtaken;
      const { changes, writes, expect, unchanged } = this.#plan(wanted, current, cause, isReversible);
      if (isDryRun) return { kind: 'done', revision: 0, changes };
      if (!isWide && writes.length > MAX_OPERATIONS) {
        isWide = true;
        continue;
      }
      const result = isWide ? await this.#writeWide(writes) : ((await this.#differing(unchanged)) ?? (await this.#write(expect, writes)));
      if (result.kind === 'too-large' && isReversible) {
        isReversible = false;
        continue;
      }
      if (result.kind === 'committed') return { kind: 'done', revision: writes.length === 0 ? 0 : result.revision, changes };
      if (result.kind === 'too-large' || result.kind === 'unavailable') return result;
      if (result.kind === 'lease-lost') throw new Error('objects stand on no lease');
      for (const [key, entry] of result.current) if (key !== restoring || entry !== null) current.set(key, fromEntry(entry));
    }
    return { kind: 'contended' };
  }

  #stale(wanted: readonly Wanted[], current: ReadonlyMap<string, Current | null>): ChangeResult | null {
    for (const { ref, manifest, seenAt } of wanted) {
      const known = current.get(this.#keys.object(ref)) ?? null;
      if (seenAt === null || known?.modRevision === seenAt || actionOf(known, manifest) === Change_Action.UNCHANGED) continue;
      return { kind: 'stale', ref, revision: known?.modRevision ?? 0 };
    }
    return null;
  }

  /** Of an object that was deleted since nothing is known any more: what was to be made of it is made. */
  #overtaken(wanted: readonly Wanted[], current: ReadonlyMap<string, Current | null>, asOf: number): ChangeResult | null {
    for (const { ref, manifest } of wanted) {
      const known = current.get(this.#keys.object(ref)) ?? null;
      if (known === null || known.modRevision <= asOf || actionOf(known, manifest) === Change_Action.UNCHANGED) continue;
      return { kind: 'overtaken', ref, revision: known.modRevision };
    }
    return null;
  }

  /** Null: etcd says too that all stand as the view has them. A replica that is cut off would call "unchanged" what others changed long ago. */
  async #differing(unchanged: readonly [string, number][]): Promise<CommitResult | null> {
    for (let from = 0; from < unchanged.length; from += MAX_OPERATIONS) {
      const expect = new Map(unchanged.slice(from, from + MAX_OPERATIONS));
      const result = await commit(this.#client, { expect, writes: [] });
      if (result.kind !== 'committed') return result;
    }
    return null;
  }

  /** Of what was planned on the view as it is now. */
  #writeWide(writes: readonly Write[]): Promise<CommitResult> | CommitResult {
    if (writes.length === 0) return { kind: 'committed', revision: 0, found: [] };
    const settled = { prefix: this.#keys.allHistory, revision: this.#view.revision };
    return commit(this.#client, { expect: new Map([[this.#keys.restoring, 0]]), settled, writes });
  }

  #write(expect: ReadonlyMap<string, number>, writes: readonly Write[]): Promise<CommitResult> | CommitResult {
    return writes.length === 0 ? { kind: 'committed', revision: 0, found: [] } : commit(this.#client, { expect, writes });
  }

  #plan(wanted: readonly Wanted[], current: ReadonlyMap<string, Current | null>, cause: Cause, isReversible: boolean) {
    const requestId = randomUUID();
    const before: unknown[] = [];
    const changes: Change[] = [];
    const writes: Write[] = [];
    const expect = new Map<string, number>();
    const unchanged: [string, number][] = [];
    for (const { ref, manifest, seenAt } of wanted) {
      const key = this.#keys.object(ref);
      const known = current.get(key) ?? null;
      const action = actionOf(known, manifest);
      changes.push({ ...ref, action });
      if (action === Change_Action.UNCHANGED) {
        unchanged.push([key, known?.modRevision ?? 0]);
        continue;
      }
      expect.set(key, seenAt ?? known?.modRevision ?? 0);
      before.push(known?.manifest ?? null);
      const createdAtMs = known?.createdAtMs ?? this.#wallClock();
      writes.push({ key, value: manifest === null ? null : JSON.stringify({ manifest, createdAtMs, requestId }), lease: null });
    }
    if (writes.length === 0) return { changes, writes, expect, unchanged };
    expect.set(this.#keys.restoring, 0);
    const atMs = this.#wallClock();
    const changed = changes.filter(({ action }) => action !== Change_Action.UNCHANGED);
    const value = historyValue(cause, atMs, requestId, changed, isReversible ? before : null);
    const room = writes.length < MAX_OPERATIONS ? MAX_OPERATIONS - writes.length - 1 : Number.POSITIVE_INFINITY;
    for (const key of prunedBy(this.#view, value.length).slice(0, Math.max(0, room))) writes.push({ key, value: null, lease: null });
    writes.push({ key: this.#keys.history(atMs, requestId), value, lease: null });
    return { changes, writes, expect, unchanged };
  }

  #viewOf(wanted: readonly Wanted[]): Map<string, Current | null> {
    return new Map(wanted.map(({ ref }) => [this.#keys.object(ref), this.#fromView(this.#keys.object(ref))]));
  }

  #fromView(key: string): Current | null {
    const object = this.#view.objects.get(key);
    if (object === undefined) return null;
    return { manifest: object.record.manifest, createdAtMs: object.record.createdAtMs, modRevision: object.modRevision };
  }
}

function fromEntry(entry: Entry | null): Current | null {
  if (entry === null) return null;
  const record = readObject(entry.value);
  // An unreadable value is replaced, as if it had held something else.
  return { manifest: record?.manifest, createdAtMs: record?.createdAtMs ?? 0, modRevision: entry.modRevision };
}

function actionOf(known: Current | null, manifest: unknown): Change_Action {
  if (manifest === null) return known === null ? Change_Action.UNCHANGED : Change_Action.DELETED;
  if (known === null) return Change_Action.CREATED;
  return canonicalJson(known.manifest) === canonicalJson(manifest) ? Change_Action.UNCHANGED : Change_Action.CONFIGURED;
}
