// Messages between a proxy and a filter's process: JSON behind its length in bytes. Bounded; cuts a stream into them.

/** Of one message to a filter: the calls of a tick. */
export const MAX_CALLS_BYTES = 16 * 1024 * 1024;
/** Of one message from it: a result has at most 8 MiB, a body of 1 MiB as JSON at its worst. */
export const MAX_ANSWERS_BYTES = 16 * 1024 * 1024;
const HEADER_BYTES = 4;

export function frame(message: unknown): Buffer {
  const json = JSON.stringify(message);
  const buffer = Buffer.allocUnsafe(HEADER_BYTES + Buffer.byteLength(json));
  buffer.write(json, HEADER_BYTES);
  buffer.writeUInt32LE(buffer.length - HEADER_BYTES);
  return buffer;
}

/** Throws on what is no frame: whoever sent it is not to be read any more. */
export class FrameReader {
  private readonly pieces: Buffer[] = [];
  private size = 0;

  constructor(
    private readonly maxBytes: number,
    private readonly onMessage: (message: unknown) => void,
  ) {}

  add(piece: Buffer): void {
    this.pieces.push(piece);
    this.size += piece.length;
    if (this.size < HEADER_BYTES) return;
    let bytes = this.pieces.length === 1 ? piece : null;
    for (;;) {
      const length = this.peekLength();
      if (length > this.maxBytes) throw new Error(`a message of ${length} bytes`);
      if (this.size < HEADER_BYTES + length) return;
      bytes ??= Buffer.concat(this.pieces);
      const rest = bytes.subarray(HEADER_BYTES + length);
      this.pieces.length = 0;
      if (rest.length > 0) this.pieces.push(rest);
      this.size = rest.length;
      this.onMessage(JSON.parse(bytes.toString('utf8', HEADER_BYTES, HEADER_BYTES + length)));
      bytes = rest;
      if (this.size < HEADER_BYTES) return;
    }
  }

  private peekLength(): number {
    const [first] = this.pieces;
    if (first !== undefined && first.length >= HEADER_BYTES) return first.readUInt32LE(0);
    const head = Buffer.concat(this.pieces);
    this.pieces.splice(0, this.pieces.length, head);
    return head.readUInt32LE(0);
  }
}
