// MurmurHash3_x86_32 (Appleby, public domain) over bytes, and in place: what requests and endpoints are spread by. Every node has the same seeds,
// so that all of them lead one key to one endpoint. Hot path: allocates nothing.

/** Unsigned, 32 bits. */
export function murmur3(bytes: Uint8Array, at: number, length: number, seed: number): number {
  let h = seed | 0;
  const end = at + length;
  let i = at;
  for (; i + 4 <= end; i += 4) {
    h ^= scrambled(bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24));
    h = (Math.imul((h << 13) | (h >>> 19), 5) + 0xe6546b64) | 0;
  }
  let tail = 0;
  for (let shift = 0; i < end; i++, shift += 8) tail |= bytes[i]! << shift;
  return finalised(h ^ scrambled(tail) ^ length) >>> 0;
}

/** MurmurHash3's finaliser: a word, signed, each bit of which depends on each of the old one. */
export function finalised(word: number): number {
  let h = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

function scrambled(word: number): number {
  const k = Math.imul(word, 0xcc9e2d51);
  return Math.imul((k << 15) | (k >>> 17), 0x1b873593);
}
