// The bytes of the soak: every body is a slice of one random pattern, named by offset and length, so that either end knows what must come
// and compares every byte. And the one source of randomness.
import { randomFillSync } from 'node:crypto';

const PATTERN = randomFillSync(Buffer.alloc(4 * 1_048_576));

export interface Slice {
  readonly offset: number;
  readonly length: number;
}

export function bytesOf({ offset, length }: Slice): Buffer {
  return PATTERN.subarray(offset, offset + length);
}

/** Small, middling and large ones alike; at most `most`. */
export function anySlice(most: number): Slice {
  const length = Math.floor(most ** Math.random());
  return { offset: below(PATTERN.length - length), length };
}

export function below(bound: number): number {
  return Math.floor(Math.random() * bound);
}

export function nameOf({ offset, length }: Slice): string {
  return `${offset}-${length}`;
}

export function sliceNamed(name: string): Slice {
  const [offset, length] = name.split('-').map(Number);
  return { offset: offset ?? 0, length: length ?? 0 };
}

/** A byte was lost, added or changed, or an end was not told as one: never to be explained by load. */
export class Fault extends Error {}

/** Compares what comes, piece by piece, with the slice. Throws a Fault at the first byte that differs or is too much. */
export class Comparison {
  private at = 0;
  private readonly wanted: Buffer;
  constructor(
    slice: Slice,
    private readonly what: string,
  ) {
    this.wanted = bytesOf(slice);
  }

  get isWhole(): boolean {
    return this.at === this.wanted.length;
  }

  add(chunk: Buffer): void {
    const end = this.at + chunk.length;
    if (end > this.wanted.length) throw new Fault(`${this.what}: ${end - this.wanted.length} bytes too many`);
    if (!chunk.equals(this.wanted.subarray(this.at, end))) throw new Fault(`${this.what}: bytes ${this.at} to ${end} differ`);
    this.at = end;
  }

  finish(): void {
    if (!this.isWhole) throw new Fault(`${this.what}: ended after ${this.at} of ${this.wanted.length} bytes`);
  }
}
