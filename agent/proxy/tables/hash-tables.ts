// Which endpoint of a group a hash leads to: ketama's ring and Maglev's table (Eisenbud et al., NSDI 2016, 3.4), built on the main thread. What an
// endpoint has of either depends on its own name and weight alone, as far as that can be: so little moves when others come and go, and every
// node builds the same. Results are kept as long as generations ask for them.
import { murmur3 } from '../hash.js';

export interface Hashed {
  /** "10.0.0.1:80" */
  readonly name: string;
  readonly weight: number;
}

export type HashSpec =
  | { readonly kind: 'ring'; readonly minSize: number; readonly maxSize: number }
  | { readonly kind: 'maglev'; readonly size: number };

export const DEFAULT_RING_MIN = 1_024;
export const MAX_RING = 1_048_576;
export const DEFAULT_MAGLEV = 65_537;
/** Points of an endpoint where nothing else is asked for: a share is within 6 % of its own (1/√256) in two of three cases. */
const POINTS = 256;
/** Of endpoints at which a ring has its least size: fewer have the same points each, or nothing would stay where it is as endpoints come. */
const MIN_SIZE_AT = 4;
const [OFFSET_SEED, SKIP_SEED] = [0x0ff5e7, 0x5c1b];

/**
 * Of a ring: the points, ascending as signed words (a hash with its highest bit turned), then the owner of each. Of Maglev: the owner of
 * each slot. An owner is an index in `members`.
 */
export class HashTables {
  private kept = new Map<string, Int32Array>();
  private asked = new Map<string, Int32Array>();

  of(members: readonly Hashed[], spec: HashSpec): Int32Array {
    const key = `${JSON.stringify(spec)} ${members.map(({ name, weight }) => `${name}*${weight}`).join(' ')}`;
    const table = this.asked.get(key) ?? this.kept.get(key) ?? build(members, spec);
    this.asked.set(key, table);
    return table;
  }

  /** The generation is whole: what it didn't ask for is forgotten. */
  settle(): void {
    this.kept = this.asked;
    this.asked = new Map();
  }
}

function build(members: readonly Hashed[], spec: HashSpec): Int32Array {
  if (members.length === 0) return new Int32Array(0);
  return spec.kind === 'ring' ? ringOf(members, spec) : maglevOf(members, spec.size);
}

function ringOf(members: readonly Hashed[], { minSize, maxSize }: { minSize: number; maxSize: number }): Int32Array {
  const lightest = Math.min(...members.map(({ weight }) => weight));
  const each = Math.max(POINTS, Math.ceil(minSize / MIN_SIZE_AT));
  const wanted = members.map(({ weight }) => Math.max(1, Math.round((each * weight) / lightest)));
  const total = wanted.reduce((sum, count) => sum + count, 0);
  const scale = Math.min(1, maxSize / total);
  const counts = wanted.map((count) => Math.max(1, Math.floor(count * scale)));
  const size = counts.reduce((sum, count) => sum + count, 0);
  // Sorted as one number: the point, then its owner, so that equal points have one order everywhere.
  const pairs = new Float64Array(size);
  const byName = members.map((_, index) => index).sort((a, b) => compare(members[a]!.name, members[b]!.name));
  let at = 0;
  byName.forEach((index, rank) => {
    const name = Buffer.from(members[index]!.name);
    for (let i = 0; i < counts[index]!; i++) pairs[at++] = murmur3(name, 0, name.length, i) * members.length + rank;
  });
  pairs.sort();
  const ring = new Int32Array(size * 2);
  for (let i = 0; i < size; i++) {
    const rank = pairs[i]! % members.length;
    ring[i] = (pairs[i]! - rank) / members.length - 0x80000000;
    ring[size + i] = byName[rank]!;
  }
  return ring;
}

/** Weighted as Envoy's: an endpoint has its turn in that part of the rounds that its weight is of the largest. */
function maglevOf(members: readonly Hashed[], size: number): Int32Array {
  const table = new Int32Array(size).fill(-1);
  const heaviest = Math.max(...members.map(({ weight }) => weight));
  const turns = members
    .map(({ name, weight }, owner) => {
      const bytes = Buffer.from(name);
      const next = murmur3(bytes, 0, bytes.length, OFFSET_SEED) % size;
      return { name, owner, share: weight / heaviest, due: 0, next, skip: (murmur3(bytes, 0, bytes.length, SKIP_SEED) % (size - 1)) + 1 };
    })
    .sort((a, b) => compare(a.name, b.name));
  for (let round = 1, filled = 0; filled < size; round++) {
    for (const turn of turns) {
      if (round * turn.share < turn.due) continue;
      turn.due += 1;
      while (table[turn.next]! >= 0) turn.next = (turn.next + turn.skip) % size;
      table[turn.next] = turn.owner;
      filled++;
      if (filled === size) break;
    }
  }
  return table;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Index in a ring of `size` points of the one at or behind the hash (unsigned), around the end. */
export function ringPoint(tables: Int32Array, first: number, size: number, hash: number): number {
  const wanted = hash - 0x80000000;
  let low = 0;
  let high = size;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (tables[first + middle]! >= wanted) high = middle;
    else low = middle + 1;
  }
  return low === size ? 0 : low;
}
