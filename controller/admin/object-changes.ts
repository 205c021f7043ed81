// Changes of applied objects: one command is one transaction, and so one revision. Owns the optimistic loop; validation comes before it.
import { randomUUID } from 'node:crypto';
import { type Change, Change_Action, type ObjectRef } from '../../api/gen/mesh/v1/admin.js';
import type { EtcdClient } from '../store/etcd-client.js';
import type { Keyspace } from '../store/keys.js';
import { canonicalJson, readObject } from '../store/records.js';
import type { Entry } from '../store/reflector.js';
import { commit, type Write } from '../store/transaction.js';
import type { StoreView } from '../store/view.js';

/** What is wanted at a reference; a null manifest: nothing. */
export interface Wanted {
  readonly ref: ObjectRef;
  readonly manifest: unknown;
}

export type ChangeResult =
  /** Revision 0: nothing had to be written. */
  | { readonly kind: 'done'; readonly revision: number; readonly changes: Change[] }
  | { readonly kind: 'contended' }
  | { readonly kind: 'too-large'; readonly message: string }
  | { readonly kind: 'unavailable'; readonly message: string };

const ATTEMPTS = 5;
const RESTORING =
  'a backup is being restored, nothing was written: try again when it is done; one that was interrupted is finished by running `weft controller restore` again';

interface Current {
  readonly manifest: unknown;
  readonly createdAtMs: number;
  readonly modRevision: number;
}

export class ObjectChanges {
  readonly #client: EtcdClient;
  readonly #view: StoreView;
  readonly #keys: Keyspace;
  /** Milliseconds since the epoch. */
  readonly #wallClock: () => number;

  constructor(client: EtcdClient, view: StoreView, keys: Keyspace, wallClock: () => number) {
    this.#client = client;
    this.#view = view;
    this.#keys = keys;
    this.#wallClock = wallClock;
  }

  /** `wanted` names each object once. With `isDryRun` nothing is written and the changes are those that would be. */
  async bring(wanted: readonly Wanted[], isDryRun: boolean): Promise<ChangeResult> {
    // The view may lag behind: a conflict says what really stands there.
    const current = new Map<string, Current | null>();
    for (const { ref } of wanted) current.set(this.#keys.object(ref), this.#fromView(this.#keys.object(ref)));
    const { restoring } = this.#keys;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      if (this.#view.isRestoring || current.has(restoring)) return { kind: 'unavailable', message: RESTORING };
      const { changes, writes, expect } = this.#plan(wanted, current);
      if (writes.length === 0 || isDryRun) return { kind: 'done', revision: 0, changes };
      const result = await commit(this.#client, { expect, writes });
      if (result.kind === 'committed') return { kind: 'done', revision: result.revision, changes };
      if (result.kind === 'too-large' || result.kind === 'unavailable') return result;
      if (result.kind === 'lease-lost') throw new Error('objects stand on no lease');
      for (const [key, entry] of result.current) if (key !== restoring || entry !== null) current.set(key, fromEntry(entry));
    }
    return { kind: 'contended' };
  }

  #plan(wanted: readonly Wanted[], current: ReadonlyMap<string, Current | null>) {
    const requestId = randomUUID();
    const changes: Change[] = [];
    const writes: Write[] = [];
    const expect = new Map<string, number>();
    let hasDeletion = false;
    for (const { ref, manifest } of wanted) {
      const key = this.#keys.object(ref);
      const known = current.get(key) ?? null;
      const action = actionOf(known, manifest);
      changes.push({ ...ref, action });
      if (action === Change_Action.UNCHANGED) continue;
      expect.set(key, known?.modRevision ?? 0);
      hasDeletion ||= action === Change_Action.DELETED;
      const createdAtMs = known?.createdAtMs ?? this.#wallClock();
      writes.push({ key, value: manifest === null ? null : JSON.stringify({ manifest, createdAtMs, requestId }), lease: null });
    }
    expect.set(this.#keys.restoring, 0);
    // A deletion leaves nothing by which a lost reply could be told from a refusal.
    if (hasDeletion) writes.push({ key: this.#keys.lastDeletion, value: JSON.stringify({ requestId }), lease: null });
    return { changes, writes, expect };
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
