// What was changed, by whom and when, and how to get back: the entry of a change, which old entries go, and what a rollback wants. The entry is
// written in the transaction of its change, so that none is without the other.
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import type { Change, HistoryEntry } from '../../api/gen/mesh/v1/admin.js';
import { objectKey } from '../../api/resources/index.js';
import type { StoredHistory, StoreView } from '../store/view.js';

export interface Cause {
  readonly actor: string;
  /** By a token or certificate; else as the caller named itself. */
  readonly isVerified: boolean;
  readonly command: string;
}

const MAX_ENTRIES = 200;
/** Together: every replica has them in memory. */
const MAX_BYTES = 16 * 1_048_576;
/** Deleted with one change; etcd bounds what a transaction holds. */
const MAX_PRUNED = 4;
const MAX_UNPACKED_BYTES = 64 * 1_048_576;

/** The value of a change's entry. `before`: the manifest that each changed object had, null for none; null for all: not kept. */
export function historyValue(
  cause: Cause,
  atMs: number,
  requestId: string,
  changes: readonly Change[],
  before: readonly unknown[] | null,
): string {
  const packed = before === null ? '' : deflateRawSync(JSON.stringify(before)).toString('base64');
  return JSON.stringify({ ...cause, atMs, changes, before: packed, requestId });
}

/** Keys of the entries that one more pushes out. */
export function prunedBy(view: StoreView, bytes: number): string[] {
  const keys = [...view.history.keys()].sort();
  let total = bytes;
  for (const { bytes: each } of view.history.values()) total += each;
  const pruned: string[] = [];
  for (const key of keys) {
    if (pruned.length === MAX_PRUNED || (keys.length - pruned.length < MAX_ENTRIES && total <= MAX_BYTES)) break;
    pruned.push(key);
    total -= view.history.get(key)?.bytes ?? 0;
  }
  return pruned;
}

/** The newest first. */
export function historyEntries(view: StoreView, limit: number): HistoryEntry[] {
  const entries = newestFirst(view).map(({ record, revision }) => {
    const { atMs, actor, isVerified: verified, command, changes, before } = record;
    return { revision, atMs, actor, verified, command, changes: [...changes], reversible: before !== '' };
  });
  return limit > 0 ? entries.slice(0, limit) : entries;
}

function newestFirst(view: StoreView): StoredHistory[] {
  return [...view.history].sort(([a], [b]) => (a < b ? 1 : -1)).map(([, entry]) => entry);
}

export type RollbackPlan =
  /** How each object that was changed since stood after the revision; null: there was none. */
  | { readonly kind: 'plan'; readonly wanted: readonly { readonly ref: Omit<Change, 'action'>; readonly manifest: unknown }[] }
  | { readonly kind: 'refused'; readonly message: string };

/** What stood after `revision`: before the oldest of the changes since then, object by object. */
export function planRollback(view: StoreView, revision: number): RollbackPlan {
  const entries = newestFirst(view);
  const since = entries.filter((entry) => entry.revision > revision);
  const oldest = entries.at(-1);
  if (oldest === undefined) return { kind: 'refused', message: 'there is no history yet: nothing was changed since this version runs' };
  // Right before the oldest entry is as far as can be seen.
  if (since.length === entries.length && revision < oldest.revision - 1)
    return {
      kind: 'refused',
      message: `the history begins at revision ${oldest.revision}: what stood at ${revision} isn't known any more (weft history)`,
    };
  if (revision > view.revision) return { kind: 'refused', message: `there is no revision ${revision} yet, the newest is ${view.revision}` };
  const wanted = new Map<string, { readonly ref: Omit<Change, 'action'>; readonly manifest: unknown }>();
  for (const { record, revision: at } of since) {
    const before = unpack(record.before);
    if (before === null)
      return {
        kind: 'refused',
        message: `the change of revision ${at} was too large to keep what stood before it: roll back to ${at} or later`,
      };
    record.changes.forEach(({ kind, namespace, name }, index) => {
      wanted.set(objectKey(kind, namespace, name), { ref: { kind, namespace, name }, manifest: before[index] ?? null });
    });
  }
  return { kind: 'plan', wanted: [...wanted.values()] };
}

function unpack(before: string): readonly unknown[] | null {
  if (before === '') return null;
  const text = inflateRawSync(Buffer.from(before, 'base64'), { maxOutputLength: MAX_UNPACKED_BYTES }).toString();
  const value: unknown = JSON.parse(text);
  return Array.isArray(value) ? value : null;
}
