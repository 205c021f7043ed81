import { chmodSync, lstatSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { replaceFile } from './state-file.js';

test('what somebody laid where the file is made neither reads it nor is written over', () => {
  const folder = mkdtempSync(join(tmpdir(), 'weft-state-'));
  try {
    const [file, decoy] = [join(folder, 'identity.pem'), join(folder, 'decoy')];
    writeFileSync(`${file}.tmp`, 'left by a crash');
    chmodSync(`${file}.tmp`, 0o666);
    replaceFile(file, 'one');
    expect([readFileSync(file, 'utf8'), lstatSync(file).mode & 0o777]).toEqual(['one', 0o600]);
    writeFileSync(decoy, 'mine');
    symlinkSync(decoy, `${file}.tmp`);
    replaceFile(file, 'two');
    expect([readFileSync(file, 'utf8'), lstatSync(file).isFile(), readFileSync(decoy, 'utf8')]).toEqual(['two', true, 'mine']);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
