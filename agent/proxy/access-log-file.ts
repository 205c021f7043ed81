// The file that the access log is written to, chunk after chunk. On the main thread; a slow disk holds up nobody but the log: while all chunks wait
// for it there is none to fill, and what it doesn't take is counted. Knows nothing of lines but where they end.
import { closeSync, openSync, write } from 'node:fs';
import { MAX_LINE_BYTES } from '../native/access-log.js';

const CHUNK_BYTES = 4 * MAX_LINE_BYTES;
/** 16 MiB that may wait for the file. */
const MAX_CHUNKS = 32;
/** When a pipe is full. */
const RETRY_MS = 10;
const STDOUT = 1;
const LINE_FEED = 10;

interface Filled {
  readonly chunk: Buffer;
  readonly end: number;
}

/** Standard output, or a file that can be reopened (log rotation). */
export class AccessLogFile {
  /** Lines that the file did not take. */
  lost = 0;
  private fd: number;
  private readonly free: Buffer[] = [];
  private made = 0;
  private readonly filled: Filled[] = [];
  /** The descriptor that is being written to; null: none is. */
  private writing: number | null = null;
  /** What it said the last time; empty: it took it. */
  private failure = '';
  private whenIdle: (() => void) | null = null;

  /** Throws when the file can't be opened for appending. */
  constructor(
    private readonly file: string | null,
    /** Once for as long as it fails alike. */
    private readonly onError: (error: Error) => void,
  ) {
    this.fd = this.open();
  }

  /** Takes more at once. */
  get isIdle(): boolean {
    return this.writing === null;
  }

  /** An empty chunk; null: as many wait as may. */
  take(): Buffer | null {
    const chunk = this.free.pop();
    if (chunk !== undefined) return chunk;
    if (this.made === MAX_CHUNKS) return null;
    this.made++;
    return Buffer.allocUnsafeSlow(CHUNK_BYTES);
  }

  /** Whole lines up to `end`, in a chunk of take(). */
  give(chunk: Buffer, end: number): void {
    this.filled.push({ chunk, end });
    if (this.writing === null) this.next();
  }

  /** Keeps the old file when the new one can't be opened. */
  reopen(): void {
    if (this.file === null) return;
    const old = this.fd;
    try {
      this.fd = this.open();
    } catch (error) {
      this.onError(error as Error);
      return;
    }
    // Else it is closed when that is written.
    if (old !== this.writing) closeSync(old);
  }

  /** When all that was given is written. */
  idle(): Promise<void> {
    return this.isIdle ? Promise.resolve() : new Promise((resolve) => (this.whenIdle = resolve));
  }

  /** When it is idle. */
  close(): void {
    if (this.fd !== STDOUT) closeSync(this.fd);
  }

  private open(): number {
    if (this.file === null) return STDOUT;
    try {
      return openSync(this.file, 'a', 0o640);
    } catch (error) {
      throw new Error(
        `can't open ${this.file}: ${(error as NodeJS.ErrnoException).code}. Make its folder, writable for this user, or give another --access-log-file`,
      );
    }
  }

  private next(): void {
    const filled = this.filled.shift();
    this.writing = filled === undefined ? null : this.fd;
    if (filled !== undefined) {
      this.write(this.fd, filled, 0);
      return;
    }
    this.whenIdle?.();
    this.whenIdle = null;
  }

  private write(fd: number, filled: Filled, from: number): void {
    const { chunk, end } = filled;
    write(fd, chunk, from, end - from, null, (error, bytes) => {
      if (error === null && from + bytes < end) this.write(fd, filled, from + bytes);
      else if (error?.code === 'EAGAIN') setTimeout(() => this.write(fd, filled, from), RETRY_MS);
      else this.written(fd, filled, from, error);
    });
  }

  private written(fd: number, { chunk, end }: Filled, from: number, error: NodeJS.ErrnoException | null): void {
    if (error !== null) this.lost += linesIn(chunk.subarray(from, end));
    const failure = error?.code ?? '';
    if (error !== null && failure !== this.failure) this.onError(error);
    this.failure = failure;
    if (fd !== this.fd) closeSync(fd);
    this.free.push(chunk);
    this.next();
  }
}

function linesIn(bytes: Buffer): number {
  let lines = 0;
  for (let at = bytes.indexOf(LINE_FEED); at >= 0; at = bytes.indexOf(LINE_FEED, at + 1)) lines++;
  return lines;
}
