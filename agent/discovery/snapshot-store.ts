// The last applied state on disk, so that a node starts without its controller. One file, written whole and atomically, off the path of
// updates; a file that cannot be trusted is set aside, never used and never fatal.
//
// Format: one line of text, "weft-snapshot 1 <sha256 of the body, hex> <bytes of the body> <node>\n", then a DiscoveryResponse.
import { createHash } from 'node:crypto';
import { open, readFile, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Logger } from 'pino';
import { DiscoveryResponse } from '../../api/gen/mesh/v1/discovery.js';
import { PROTOCOL } from '../../api/grpc/protocol.js';
import { makeFolder } from '../../api/make-folder.js';
import { messageOf } from '../../api/message-of.js';
import { openNewFile } from '../../api/new-file.js';
import type { Catalog } from './catalog.js';
import type { DiscoveryUpdate } from './discovery-client.js';

const magic = 'weft-snapshot';
const formatVersion = '1';
const quietMs = 500;
/** Times that: between two writes while changes go on, for each write is of everything. What a start from an older one lacks the controller sends. */
const spacing = 10;
const retryMs = 10_000;
const maxHeaderBytes = 1024;

export interface SnapshotStoreOptions {
  readonly stateDir: string;
  readonly node: string;
  readonly log: Logger;
  /** How long changes are gathered before a write; tests shorten it. */
  readonly quietMs?: number;
}

export class SnapshotStore {
  readonly path: string;
  readonly #options: SnapshotStoreOptions;
  #timer: NodeJS.Timeout | null = null;
  #writing: Promise<void> = Promise.resolve();
  #dirty: Catalog | null = null;
  /** On performance.now(). */
  #wroteAt = Number.NEGATIVE_INFINITY;
  #writtenAtMs: number | null = null;
  #error = '';

  constructor(options: SnapshotStoreOptions) {
    this.#options = options;
    this.path = join(options.stateDir, 'snapshot');
  }

  /** Wall-clock time of the file's content; null when there is none. */
  get writtenAtMs(): number | null {
    return this.#writtenAtMs;
  }

  /** Why the last write failed; empty when it did not. */
  get error(): string {
    return this.#error;
  }

  /** The stored state as a full update; null when there is none that can be used. */
  async load(): Promise<DiscoveryUpdate | null> {
    const { log, node } = this.#options;
    let file: Buffer;
    let modifiedMs: number;
    try {
      const handle = await open(this.path, 'r');
      try {
        modifiedMs = (await handle.stat()).mtimeMs;
        file = await readFile(handle);
      } finally {
        await handle.close();
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        log.warn({ err: error }, `snapshot ${this.path} cannot be read; starting without it`);
      return null;
    }
    const decoded = decode(file, node);
    if (decoded.kind === 'bad') {
      await this.#setAside(decoded.reason);
      return null;
    }
    this.#writtenAtMs = modifiedMs;
    return decoded.update;
  }

  /** Writes the catalog's state soon, where changes go on every few seconds; what changes meanwhile is in it. */
  schedule(catalog: Catalog): void {
    this.#dirty = catalog;
    if (this.#timer !== null) return;
    const quiet = this.#options.quietMs ?? quietMs;
    const delay = Math.max(quiet, this.#wroteAt + spacing * quiet - performance.now());
    this.#timer = setTimeout(() => void this.flush(), delay);
  }

  /** Writes now what is waiting, and returns when no write is under way. Never rejects: a failure is logged, and tried again later. */
  flush(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#writing = this.#writing.then(() => this.#write());
    return this.#writing;
  }

  async close(): Promise<void> {
    await this.flush();
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  async #write(): Promise<void> {
    const catalog = this.#dirty;
    if (catalog === null || catalog.token === null) return;
    this.#dirty = null;
    this.#wroteAt = performance.now();
    try {
      await writeAtomically(this.path, encode(catalog, this.#options.node));
      if (this.#error !== '') this.#options.log.info(`snapshot ${this.path} is written again`);
      this.#error = '';
      this.#writtenAtMs = Date.now();
    } catch (error) {
      const reason = messageOf(error);
      if (this.#error === '') {
        this.#options.log.error(
          { err: error },
          `snapshot ${this.path} cannot be written; the node runs on, but would start from an older one: check space and permissions`,
        );
      }
      this.#error = reason;
      this.#dirty = catalog;
      this.#timer ??= setTimeout(() => void this.flush(), retryMs).unref();
    }
  }

  async #setAside(reason: string): Promise<void> {
    const aside = `${this.path}.bad`;
    await rename(this.path, aside).catch(() => {});
    this.#options.log.error(`snapshot ${this.path} cannot be used: ${reason}; moved to ${aside}, waiting for the controller instead`);
  }
}

function encode(catalog: Catalog, node: string): Uint8Array[] {
  // What was refused isn't in it: a token that fits no compiler has the controller send everything again, perhaps to newer software.
  const token = catalog.token === null || catalog.isWhole ? (catalog.token ?? undefined) : { ...catalog.token, compiler: '' };
  const body = DiscoveryResponse.encode({
    nonce: 0,
    revision: token?.revision ?? 0,
    token,
    full: true,
    more: false,
    resources: [...catalog.resources()],
    removed: [],
    packed: Buffer.alloc(0),
    protocol: PROTOCOL,
  }).finish();
  const digest = createHash('sha256').update(body).digest('hex');
  return [Buffer.from(`${magic} ${formatVersion} ${digest} ${body.length} ${node}\n`), body];
}

type Decoded = { kind: 'ok'; update: DiscoveryUpdate } | { kind: 'bad'; reason: string };

function decode(file: Buffer, node: string): Decoded {
  const end = file.subarray(0, maxHeaderBytes).indexOf(0x0a);
  const [fileMagic, version, digest, length, ...owner] = file.toString('utf8', 0, Math.max(end, 0)).split(' ');
  if (fileMagic !== magic) return { kind: 'bad', reason: 'it is not a weft snapshot' };
  if (version !== formatVersion) return { kind: 'bad', reason: `its format is ${version}, this software reads ${formatVersion}` };
  if (owner.join(' ') !== node) return { kind: 'bad', reason: `it is of node "${owner.join(' ')}", this is "${node}"` };
  const body = file.subarray(end + 1);
  if (String(body.length) !== length) return { kind: 'bad', reason: `it is torn: ${body.length} of ${length} bytes` };
  if (createHash('sha256').update(body).digest('hex') !== digest) return { kind: 'bad', reason: 'its checksum is wrong' };
  try {
    const { revision, token, resources } = DiscoveryResponse.decode(body);
    if (token === undefined) return { kind: 'bad', reason: 'it has no resume token' };
    return { kind: 'ok', update: { revision, token, full: true, resources, removed: [] } };
  } catch (error) {
    return { kind: 'bad', reason: `it does not decode: ${messageOf(error)}` };
  }
}

/** Either the old file or the new one is there, whatever happens: content is on disk before the name points to it. */
async function writeAtomically(path: string, parts: readonly Uint8Array[]): Promise<void> {
  makeFolder(dirname(path), 0o700);
  const temporary = `${path}.tmp`;
  try {
    const handle = await openNewFile(temporary);
    try {
      for (const part of parts) await handle.writeFile(part);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {});
    throw error;
  }
  const directory = await open(dirname(path), 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
