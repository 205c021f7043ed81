// All that a mesh's store keeps → one file, and back: every key under the prefix as of one revision, but for those on leases, which nodes
// and leaders write anew. Owns the file's format and the order of a restore. Knows nothing of what values mean.
//
// Format: lines of JSON. First {"format":"weft-backup","version":1,"revision":R,"createdAt":"…"}; then one {"key","value"} a key, the key without
// the prefix, the value in base64; last {"keys":N,"sha256":"…"}, of all lines before it with their line ends.
import { createHash, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { createInterface } from 'node:readline/promises';
import { z } from 'zod';
import { messageOf } from '../../api/message-of.js';
import { openNewFile } from '../../api/new-file.js';
import { type EtcdClient, storeError, unavailableMessage } from './etcd-client.js';
import type { Keyspace } from './keys.js';
import { listPrefix } from './list.js';
import { BATCH_BYTES, BATCH_OPERATIONS, commit, type Write } from './transaction.js';

/** An expected end, in words for an operator. */
export class BackupFailure extends Error {}

export interface BackupSummary {
  readonly keys: number;
  readonly revision: number;
}

export interface RestoreSummary {
  /** Written because they were missing or different. */
  readonly written: number;
  readonly deleted: number;
  readonly unchanged: number;
}

const VERSION = 1;
const header = z.object({ format: z.literal('weft-backup'), version: z.number(), revision: z.number(), createdAt: z.string() });
const entry = z.object({ key: z.string(), value: z.base64() });
const trailer = z.object({ keys: z.number(), sha256: z.string() });

/** Writes the file as a whole or not at all, for its owner only: Secrets are in it. Throws BackupFailure. */
export async function backUp(client: EtcdClient, keys: Keyspace, path: string, nowMs: number): Promise<BackupSummary> {
  const { revision, pairs } = await readStore(client, keys);
  if (pairs.some(({ key }) => key === keys.restoring)) {
    throw new BackupFailure(
      'a restore is under way or was interrupted, so this is no whole state: finish it first (weft controller restore FILE)',
    );
  }
  const kept = pairs.filter(({ key, lease }) => lease === '0' && !isOfStoreItself(keys, key));
  const lines = kept.map(({ key, value }) => JSON.stringify({ key: key.slice(keys.root.length), value: value.toString('base64') }));
  lines.unshift(JSON.stringify({ format: 'weft-backup', version: VERSION, revision, createdAt: new Date(nowMs).toISOString() }));
  await writeWhole(path, lines, kept.length);
  return { keys: kept.length, revision };
}

/**
 * Makes the store hold what the file does. Where objects stand already it refuses, unless `replace`: then what is not in the file goes, but for what
 * was done or revoked since.
 * Controllers may run: they distribute nothing and refuse changes until it is whole. One that was interrupted is finished by the next. Throws
 * BackupFailure.
 */
export async function restore(client: EtcdClient, keys: Keyspace, path: string, replace: boolean): Promise<RestoreSummary> {
  const wanted = await readFile(path, keys);
  const { pairs } = await readStore(client, keys);
  const before = new Map(
    pairs.filter(({ key, lease }) => lease === '0' && !isOfStoreItself(keys, key)).map((pair) => [pair.key, pair.value]),
  );
  const marker = pairs.find(({ key }) => key === keys.restoring);
  const strangers = [...before.keys()].filter((key) => !wanted.has(key) && !outlives(keys, key));
  const differing = [...wanted].filter(([key, value]) => before.get(key)?.equals(value) !== true);
  if (before.size > 0 && marker === undefined && !replace && strangers.length + differing.length > 0) {
    throw new BackupFailure(
      `${before.size} keys stand under ${keys.root} already: --replace has ${strangers.length} deleted that ${path} does not hold, and ${differing.length} written`,
    );
  }
  const started = await write(client, new Map([[keys.restoring, marker?.modRevision ?? 0]]), [
    { key: keys.restoring, value: randomUUID(), lease: null },
  ]);
  const fence = new Map([[keys.restoring, started]]);
  const writes = [
    ...strangers.map((key): Write => ({ key, value: null, lease: null })),
    ...differing.map(([key, value]): Write => ({ key, value, lease: null })),
  ];
  for (const batch of batches(writes)) await write(client, fence, batch);
  // Who reads a source knew what stood there before: whoever is elected next reads it anew.
  const leaders = (await readStore(client, keys)).pairs.filter(({ key }) => keys.parse(key).kind === 'leader');
  await write(
    client,
    fence,
    [...leaders.map(({ key }) => key), keys.restoring].map((key): Write => ({ key, value: null, lease: null })),
  );
  return { written: differing.length, deleted: strangers.length, unchanged: wanted.size - differing.length };
}

/** What was done stays known, and a node that was revoked since stays so: going back to an older state is no way around either. */
function outlives(keys: Keyspace, key: string): boolean {
  return ['audit', 'refusals', 'revoked'].includes(keys.parse(key).kind);
}

/** Not of the mesh: of this one etcd. */
function isOfStoreItself(keys: Keyspace, key: string): boolean {
  return key === keys.incarnation || key === keys.barrier || key === keys.restoring;
}

async function readStore(client: EtcdClient, keys: Keyspace) {
  try {
    const { revision, pairs } = await listPrefix(client, keys.root);
    return {
      revision,
      pairs: pairs.map(({ key, value, lease, mod_revision }) => ({ key: key.toString(), value, lease, modRevision: Number(mod_revision) })),
    };
  } catch (error) {
    throw new BackupFailure(unavailableMessage(client.endpoints, storeError(error).details));
  }
}

/** Returns its revision. */
async function write(client: EtcdClient, expect: ReadonlyMap<string, number>, writes: readonly Write[]): Promise<number> {
  const result = await commit(client, { expect, writes });
  switch (result.kind) {
    case 'committed':
      return result.revision;
    case 'conflict':
    case 'lease-lost':
      throw new BackupFailure('another restore runs at the same time: this one has stopped');
    case 'too-large':
    case 'unavailable':
      throw new BackupFailure(`${result.message}\nThe restore is not finished: run it again`);
  }
}

function* batches(writes: readonly Write[]): Generator<Write[]> {
  let batch: Write[] = [];
  let bytes = 0;
  for (const each of writes) {
    const size = each.key.length + Buffer.byteLength(each.value ?? '');
    if (batch.length > 0 && (batch.length === BATCH_OPERATIONS || bytes + size > BATCH_BYTES)) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(each);
    bytes += size;
  }
  if (batch.length > 0) yield batch;
}

async function writeWhole(path: string, lines: readonly string[], keys: number): Promise<void> {
  const temporary = `${path}.tmp`;
  const digest = createHash('sha256');
  try {
    const file = await openNewFile(temporary);
    try {
      for (const line of lines) {
        digest.update(`${line}\n`);
        await file.write(`${line}\n`);
      }
      await file.write(`${JSON.stringify({ keys, sha256: digest.digest('hex') })}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw new BackupFailure(`${path} can't be written: ${messageOf(error)}`);
  }
}

/** The values by key with the prefix: nothing is done with a file that isn't whole. */
async function readFile(path: string, keys: Keyspace): Promise<Map<string, Buffer>> {
  const values = new Map<string, Buffer>();
  const digest = createHash('sha256');
  let number = 0;
  let end: z.infer<typeof trailer> | null = null;
  const bad = (why: string) => new BackupFailure(`${path}:${number}: ${why}: nothing was restored`);
  try {
    for await (const line of createInterface({ input: createReadStream(path), crlfDelay: Number.POSITIVE_INFINITY })) {
      number++;
      if (end !== null) throw bad('a line behind the last one');
      const parsed = jsonOf(line);
      const last = number === 1 ? null : trailer.safeParse(parsed);
      if (last?.success) {
        end = last.data;
        continue;
      }
      digest.update(`${line}\n`);
      if (number === 1) {
        const first = header.safeParse(parsed);
        if (!first.success) throw bad('not a backup of weft');
        if (first.data.version !== VERSION) throw bad(`format ${first.data.version}, this software reads ${VERSION}`);
        continue;
      }
      const found = entry.safeParse(parsed);
      if (!found.success) throw bad('not a key and its value');
      values.set(`${keys.root}${found.data.key}`, Buffer.from(found.data.value, 'base64'));
    }
  } catch (error) {
    if (error instanceof BackupFailure) throw error;
    throw new BackupFailure(`${path} can't be read: ${messageOf(error)}`);
  }
  if (end === null || end.keys !== values.size || end.sha256 !== digest.digest('hex')) throw bad('the file is torn or was changed');
  return values;
}

function jsonOf(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}
