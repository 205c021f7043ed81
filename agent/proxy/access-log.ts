// Access log records, taken out of the workers' rings, and the file that their lines (access-log-lines.ts) go to. On the main thread; a slow
// disk loses lines (counted), never time.
import { closeSync, createWriteStream, openSync, type WriteStream } from 'node:fs';
import { ACCESS_LOG_HEADER_BYTES, AccessLogKind, AccessLogRecord, AccessLogRing } from '../native/engine.js';

/** Bytes that may wait for the file. */
const MAX_WAITING_BYTES = 16 * 1_048_576;

/** Takes every whole record; calls `each` with views of all records and the byte at which it is, which are valid until `each` returns. */
export function drainRing(ring: Uint8Array, each: (records: DataView, bytes: Buffer, at: number) => void): void {
  const words = new Int32Array(ring.buffer, ring.byteOffset, ACCESS_LOG_HEADER_BYTES / 4);
  const capacity = ring.byteLength - ACCESS_LOG_HEADER_BYTES;
  const records = new DataView(ring.buffer, ring.byteOffset + ACCESS_LOG_HEADER_BYTES, capacity);
  const bytes = Buffer.from(ring.buffer, ring.byteOffset + ACCESS_LOG_HEADER_BYTES, capacity);
  const written = Atomics.load(words, AccessLogRing.Written) >>> 0;
  let read = Atomics.load(words, AccessLogRing.Read) >>> 0;
  while (read !== written) {
    const at = read % capacity;
    if (records.getInt32(at + AccessLogRecord.Kind * 4, true) !== AccessLogKind.Filler) each(records, bytes, at);
    read = (read + records.getInt32(at + AccessLogRecord.Size * 4, true)) >>> 0;
    Atomics.store(words, AccessLogRing.Read, read | 0);
  }
}

/** Where lines go: a file that can be reopened (log rotation), or standard output. */
export class AccessLogSink {
  /** Lines lost because the file was slow or broken. */
  dropped = 0;
  private stream: WriteStream;

  /** Throws when the file can't be opened for appending. */
  constructor(
    private readonly file: string | null,
    private readonly onError: (error: Error) => void,
  ) {
    this.stream = this.open();
  }

  write(lines: Buffer): void {
    if (this.stream.destroyed || this.stream.writableLength > MAX_WAITING_BYTES)
      this.dropped += lines.toString('latin1').split('\n').length - 1;
    else this.stream.write(lines);
  }

  /** Keeps the old file when the new one can't be opened. */
  reopen(): void {
    if (this.file === null) return;
    const old = this.stream;
    try {
      this.stream = this.open();
      old.end();
    } catch (error) {
      this.onError(error as Error);
    }
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      if (this.stream.destroyed) resolve();
      else this.stream.end(() => resolve());
    });
  }

  private open(): WriteStream {
    const fd = this.file === null ? 1 : openSync(this.file, 'a', 0o640);
    const stream = createWriteStream('', { fd, autoClose: false });
    stream.on('error', this.onError);
    stream.on('close', () => {
      if (fd !== 1) closeSync(fd);
    });
    return stream;
  }
}
