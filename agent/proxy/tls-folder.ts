// Files of certificates and keys on this node that operators name in DestinationRules: below one folder alone, since whoever may write a rule could
// else have the proxy show any key that it can read. Remembers what was read, to see that a file has changed.
import { readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { isAbsolute, sep } from 'node:path';
import { messageOf } from '../../api/message-of.js';

const MAX_BYTES = 1_048_576;

export class TlsFolder {
  /** By path: as what it was read, and whether it was since forgetUnread(). */
  private readonly known = new Map<string, { stamp: string; isRead: boolean }>();

  /** `folder` null: there is none. */
  constructor(private readonly folder: string | null) {}

  /** Why nothing can be read there now, in words for the operator; null: it can, or there is no folder. */
  get problem(): string | null {
    if (this.folder === null) return null;
    try {
      readdirSync(this.folder);
      return null;
    } catch (error) {
      return `--tls-folder can't be read, so rules that name files there reach nobody until it can: ${messageOf(error)}`;
    }
  }

  /** Throws in words for the operator. */
  read(path: string): string {
    if (this.folder === null)
      throw new Error(`${path} is a file of the node, and the proxy is given no folder of such files (--tls-folder)`);
    const before = stampOf(path);
    this.known.set(path, { stamp: before, isRead: true });
    if (!isAbsolute(path)) throw new Error(`${path}: expected an absolute path`);
    if (before === '') throw new Error(`${path} can't be read on this node`);
    if (!realpathSync(path).startsWith(`${realpathSync(this.folder)}${sep}`))
      throw new Error(`${path} is not below ${this.folder} (--tls-folder)`);
    if (statSync(path).size > MAX_BYTES) throw new Error(`${path} is larger than ${MAX_BYTES} bytes`);
    return readFileSync(path, 'utf8');
  }

  /** Some file is another than when it was read, has come or has gone. */
  get hasChanged(): boolean {
    return [...this.known].some(([path, { stamp }]) => stampOf(path) !== stamp);
  }

  get isUsed(): boolean {
    return this.known.size > 0;
  }

  /** What nobody has read since the last call. */
  forgetUnread(): void {
    for (const [path, file] of this.known) {
      if (!file.isRead) this.known.delete(path);
      file.isRead = false;
    }
  }
}

/** Empty: it isn't there, or isn't to be seen. */
function stampOf(path: string): string {
  try {
    const stat = statSync(path, { bigint: true });
    return stat.isFile() ? [stat.dev, stat.ino, stat.size, stat.mtimeNs].join(' ') : '';
  } catch {
    return '';
  }
}
