// A section that is an index: pairs of integers → an integer, in words, so that it can lie in memory that threads share.
/** a, b, value. */
const ENTRY_WORDS = 3;
const EMPTY = -2;

function hashPair(a: number, b: number): number {
  let hash = Math.imul(a ^ 0x5bd1e995, 0x9e3779b1) ^ Math.imul(b + 1, 0x85ebca6b);
  hash ^= hash >>> 15;
  hash = Math.imul(hash, 0x2c1b3c6d);
  return hash ^ (hash >>> 13);
}

/** Open addressing, at most half full, so that every search ends. Keys must differ; a ≥ 0. */
export function buildPairIndex(entries: readonly (readonly [a: number, b: number, value: number])[]): Int32Array {
  let rows = 2;
  while (rows < entries.length * 2) rows *= 2;
  const index = new Int32Array(rows * ENTRY_WORDS).fill(EMPTY);
  for (const [a, b, value] of entries) {
    let row = hashPair(a, b) & (rows - 1);
    while (index[row * ENTRY_WORDS] !== EMPTY) row = (row + 1) & (rows - 1);
    index[row * ENTRY_WORDS] = a;
    index[row * ENTRY_WORDS + 1] = b;
    index[row * ENTRY_WORDS + 2] = value;
  }
  return index;
}

/** The value of (a, b); -1: none. */
export function lookup(index: Int32Array, a: number, b: number): number {
  const mask = index.length / ENTRY_WORDS - 1;
  for (let row = hashPair(a, b) & mask; ; row = (row + 1) & mask) {
    const at = row * ENTRY_WORDS;
    const found = index[at]!;
    if (found === EMPTY) return -1;
    if (found === a && index[at + 1] === b) return index[at + 2]!;
  }
}
