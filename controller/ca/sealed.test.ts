import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { readSealingKey, seal, unseal } from './sealed.js';

const key = randomBytes(32);

test('what was sealed opens with the same key at the same place, and nowhere else', () => {
  const sealed = seal('a private key', key, '/weft/authority x');
  expect(unseal(sealed, key, '/weft/authority x')).toBe('a private key');
  expect(unseal(sealed, key, '/weft/authority y')).toBeNull();
  expect(unseal(sealed, randomBytes(32), '/weft/authority x')).toBeNull();
  expect(sealed).not.toContain(Buffer.from('a private key').toString('base64'));
});

test('one altered bit, or a part of it, opens nothing', () => {
  const sealed = Buffer.from(seal('secret', key, 'p'), 'base64');
  for (let at = 0; at < sealed.length; at++) {
    const altered = Buffer.from(sealed);
    altered[at] = (altered[at] ?? 0) ^ 1;
    expect(unseal(altered.toString('base64'), key, 'p')).toBeNull();
    expect(unseal(sealed.subarray(0, at).toString('base64'), key, 'p')).toBeNull();
  }
});

test('a sealing key is 32 bytes in hexadecimal or base64; anything else is refused with how to make one', () => {
  const folder = mkdtempSync(join(tmpdir(), 'wseal-'));
  const file = (text: string): string => {
    writeFileSync(join(folder, 'key'), text);
    return join(folder, 'key');
  };
  expect(readSealingKey('--f', file(`${key.toString('hex')}\n`))).toEqual(key);
  expect(readSealingKey('--f', file(key.toString('base64')))).toEqual(key);
  expect(() => readSealingKey('--f', file('short'))).toThrow(/expected 32 bytes.*openssl rand -hex 32/);
  expect(() => readSealingKey('--f', join(folder, 'none'))).toThrow(/ENOENT.*openssl rand/);
  rmSync(folder, { recursive: true });
});
