// One atomic change of the store: compare, then write. Owns etcd's size limits and the question whether a lost reply was a success.
import { status } from '@grpc/grpc-js';
import type { IRequestOp, ITxnResponse } from 'etcd3';
import { type EtcdClient, isFull, isTokenRefused, storeError, unavailableMessage } from './etcd-client.js';
import { prefixEnd } from './keys.js';
import { type Entry, entryOf } from './reflector.js';

export interface Write {
  readonly key: string;
  /** null deletes. It should hold a request id: it is how an ambiguous reply is resolved. */
  readonly value: string | Buffer | null;
  /** Decimal text; null for none. */
  readonly lease: string | null;
}

export interface Transaction {
  /** Each key must still be at this revision; 0: must not exist. */
  readonly expect: ReadonlyMap<string, number>;
  /** Besides, nothing under the prefix may have been written after the revision. For changes of more keys than can be compared one by one. */
  readonly settled?: { readonly prefix: string; readonly revision: number };
  readonly writes: readonly Write[];
  /** Prefixes of which is told what stands under them then. */
  readonly reads?: readonly string[];
}

export type CommitResult =
  /** `found`: under each of the reads; null where the reply was lost. */
  | { readonly kind: 'committed'; readonly revision: number; readonly found: readonly (readonly KeyedEntry[])[] | null }
  /** Nothing was written. `current` is what stands at the expected keys (null: nothing). */
  | { readonly kind: 'conflict'; readonly current: ReadonlyMap<string, Entry | null> }
  | { readonly kind: 'lease-lost' }
  | { readonly kind: 'too-large'; readonly message: string }
  /** `isKnown` false: it may have been written, or may yet be. */
  | { readonly kind: 'unavailable'; readonly message: string; readonly isKnown: boolean };

export interface KeyedEntry extends Entry {
  readonly key: string;
}

/** etcd's own limit (--max-txn-ops), as it is by default. That of bytes (--max-request-bytes) is asked for by trying. */
export const MAX_OPERATIONS = 128;
/** More writes than that go as transactions within the transaction: etcd counts the operations of each level, and both levels together. */
const NESTED_OPERATIONS = MAX_OPERATIONS / 2;
const MAX_WRITES = NESTED_OPERATIONS * NESTED_OPERATIONS;
/** For those who write much in several: of values, and room for one that passes it alone. */
export const BATCH_OPERATIONS = 100;
export const BATCH_BYTES = 1_048_576;

/** Together under the 3 s in which an operator is to hear that etcd is away. */
const COMMIT_DEADLINE_MS = 1_700;
const RESOLVE_DEADLINE_MS = 700;

/** Never retries by itself: a compare whose reply is lost would then answer "conflict" although it was applied. */
export async function commit(client: EtcdClient, transaction: Transaction): Promise<CommitResult> {
  const { writes, reads = [] } = transaction;
  const tooLarge = sizeProblem(transaction);
  if (tooLarge !== null) return { kind: 'too-large', message: tooLarge };
  const expected = [...transaction.expect];
  const request = {
    compare: comparesOf(transaction),
    success: [...operationsOf(writes), ...reads.map(rangeOf)],
    failure: expected.map(([key]): IRequestOp => ({ request_range: { key: Buffer.from(key) } })),
  };
  try {
    const response = await client.call<ITxnResponse>('KV', 'txn', request, COMMIT_DEADLINE_MS);
    if (response.succeeded) {
      const found = reads.length === 0 ? [] : response.responses.slice(-reads.length);
      return {
        kind: 'committed',
        revision: Number(response.header.revision),
        found: found.map(({ response_range: { kvs } }) => kvs.map((pair) => ({ key: pair.key.toString(), ...entryOf(pair) }))),
      };
    }
    const current = expected.map(([key], index): [string, Entry | null] => {
      const pair = response.responses[index]?.response_range.kvs[0];
      return [key, pair === undefined ? null : entryOf(pair)];
    });
    return { kind: 'conflict', current: new Map(current) };
  } catch (error) {
    const failure = storeError(error);
    if (failure.details.includes('requested lease not found')) return { kind: 'lease-lost' };
    if (isFull(failure.details)) return unavailable(client, failure.details, true);
    const isRefused = failure.code === status.INVALID_ARGUMENT || failure.code === status.RESOURCE_EXHAUSTED;
    if (isRefused && !isTokenRefused(failure)) {
      return { kind: 'too-large', message: `${sizeOf(writes)}: ${failure.details} (see etcd's --max-request-bytes and --max-txn-ops)` };
    }
    if (!failure.mayBeApplied) return unavailable(client, failure.details, true);
    return resolve(client, transaction, failure.details);
  }
}

/** A reply was lost: the transaction was applied if one of its values stands there, as each holds a request id. */
async function resolve(client: EtcdClient, transaction: Transaction, details: string): Promise<CommitResult> {
  const witness = transaction.writes.find((write) => write.value !== null);
  if (witness?.value == null) return unavailable(client, details, false);
  try {
    const found = await client.range({ key: Buffer.from(witness.key) }, RESOLVE_DEADLINE_MS);
    const pair = found.kvs[0];
    if (pair?.value.equals(Buffer.from(witness.value))) return { kind: 'committed', revision: Number(pair.mod_revision), found: null };
  } catch {
    // Still away: the first failure says more.
  }
  return unavailable(client, details, false);
}

function unavailable(client: EtcdClient, details: string, isKnown: boolean): CommitResult {
  const outcome = isKnown ? 'Nothing was written.' : 'Whether the change was written is not known: repeat it, a repetition does no harm.';
  return { kind: 'unavailable', message: `${unavailableMessage(client.endpoints, details)}. ${outcome}`, isKnown };
}

function sizeOf(writes: readonly Write[]): string {
  let bytes = 0;
  for (const { key, value } of writes) bytes += key.length + Buffer.byteLength(value ?? '');
  return `the change is ${writes.length} keys and ${(bytes / 1_048_576).toFixed(1)} MiB`;
}

function sizeProblem({ writes, expect, settled }: Transaction): string | null {
  const compares = expect.size + (settled === undefined ? 0 : 1);
  const maxCompares = writes.length > MAX_OPERATIONS ? NESTED_OPERATIONS : MAX_OPERATIONS;
  for (const [count, most, what] of [
    [writes.length, MAX_WRITES, 'change'],
    [compares, maxCompares, 'are compared'],
  ] as const)
    if (count > most) return `${count} keys ${what} at once, one transaction of etcd takes ${most}`;
  return null;
}

/** Enums as etcd3's copy of the proto file names them: another name would silently mean the first one. */
function comparesOf({ expect, settled }: Transaction): object[] {
  const compares: object[] = [...expect].map(([key, modRevision]) => ({
    key: Buffer.from(key),
    target: 'Mod',
    result: 'Equal',
    mod_revision: modRevision,
  }));
  if (settled === undefined) return compares;
  const { prefix, revision } = settled;
  const range = { key: Buffer.from(prefix), range_end: prefixEnd(prefix) };
  return [...compares, { ...range, target: 'Mod', result: 'Less', mod_revision: revision + 1 }];
}

/** However they are nested, they are one revision. */
function operationsOf(writes: readonly Write[]): IRequestOp[] {
  const operations = writes.map(operationOf);
  if (operations.length <= MAX_OPERATIONS) return operations;
  return Array.from({ length: Math.ceil(operations.length / NESTED_OPERATIONS) }, (_, part): IRequestOp => {
    const success = operations.slice(part * NESTED_OPERATIONS, (part + 1) * NESTED_OPERATIONS);
    return { request_txn: { compare: [], success, failure: [] } };
  });
}

function rangeOf(prefix: string): IRequestOp {
  return { request_range: { key: Buffer.from(prefix), range_end: prefixEnd(prefix) } };
}

function operationOf({ key, value, lease }: Write): IRequestOp {
  if (value === null) return { request_delete_range: { key: Buffer.from(key) } };
  return { request_put: { key: Buffer.from(key), value: Buffer.from(value), lease: lease ?? 0 } };
}
