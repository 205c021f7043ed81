import { mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from '@jest/globals';
import { makeFolder } from './make-folder.js';

const folder = mkdtempSync(join(tmpdir(), 'weft-make-folder-'));
afterAll(() => rmSync(folder, { recursive: true }));

test('a folder is made with those above it, all with its mode, and once there it stays', () => {
  makeFolder(join(folder, 'a', 'b', 'c'), 0o700);
  for (const each of ['a', 'a/b', 'a/b/c']) expect(statSync(join(folder, each)).mode & 0o777).toBe(0o700);
  makeFolder(join(folder, 'a', 'b'), 0o755);
  expect(statSync(join(folder, 'a/b')).mode & 0o777).toBe(0o700);
  symlinkSync('a/b', join(folder, 'link'));
  makeFolder(join(folder, 'link', 'd'), 0o700);
  expect(statSync(join(folder, 'a/b/d')).isDirectory()).toBe(true);
});

test.each([
  ['/proc/weft', 'ENOENT'],
  ['/proc/weft/deeper/still', 'ENOENT'],
])('where nothing can be made it says so at once: %s', (path, code) => {
  expect(() => makeFolder(path, 0o755)).toThrow(expect.objectContaining({ code }));
});

test('what is no folder is not taken for one', () => {
  const file = join(folder, 'file');
  writeFileSync(file, '');
  expect(() => makeFolder(file, 0o755)).toThrow(/EEXIST/);
  expect(() => makeFolder(join(file, 'below'), 0o755)).toThrow(/ENOTDIR/);
  symlinkSync('nowhere', join(folder, 'dangling'));
  expect(() => makeFolder(join(folder, 'dangling'), 0o755)).toThrow(/EEXIST/);
  expect(() => makeFolder(join(folder, 'dangling', 'below'), 0o755)).toThrow(/EEXIST/);
});
