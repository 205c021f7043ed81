import { expect, test } from '@jest/globals';
import { murmur3 } from './hash.js';

// Of the reference implementation (github.com/aappleby/smhasher, MurmurHash3_x86_32).
test.each([
  ['', 0, 0],
  ['', 1, 0x514e28b7],
  ['', 0xffffffff, 0x81f16f39],
  ['hello', 0, 0x248bfa47],
  ['hello, world', 0, 0x149bbb7f],
  ['The quick brown fox jumps over the lazy dog', 0, 0x2e4ff723],
  ['The quick brown fox jumps over the lazy dog', 0x9747b28c, 0x2fa826cd],
])('%j with seed %i hashes as MurmurHash3 does, wherever it lies', (text, seed, expected) => {
  const bytes = Buffer.from(`..${text}..`);
  expect(murmur3(bytes, 2, bytes.length - 4, seed)).toBe(expected);
});
