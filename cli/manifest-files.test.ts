import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { EXIT_USAGE } from './failure.js';
import { readManifests } from './manifest-files.js';

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'weft-manifests-'));
});

afterEach(() => rmSync(folder, { recursive: true }));

test('a folder stands for every manifest below it, sorted, and for nothing else', async () => {
  mkdirSync(join(folder, 'sub'));
  for (const name of ['b.yaml', 'a.yml', 'sub/c.json', 'README.md']) writeFileSync(join(folder, name), name);
  const files = await readManifests([folder]);
  expect(files.map((file) => [file.name, file.content])).toEqual(
    ['a.yml', 'b.yaml', 'sub/c.json'].map((name) => [join(folder, name), name]),
  );
});

test('a file is read under the name it was given, whatever its ending', async () => {
  const path = join(folder, 'manifest.txt');
  writeFileSync(path, 'x');
  expect(await readManifests([path])).toEqual([{ name: path, content: 'x' }]);
});

test('"-" is standard input, and characters split between chunks survive', async () => {
  const bytes = Buffer.from('kind: Ünïcode');
  const files = await readManifests(['-'], Readable.from([bytes.subarray(0, 7), bytes.subarray(7)]));
  expect(files).toEqual([{ name: '<stdin>', content: 'kind: Ünïcode' }]);
});

test('bytes that are no UTF-8 are refused with their line, for they would be applied as others', async () => {
  const path = join(folder, 'latin.yaml');
  writeFileSync(path, Buffer.from('kind: Secret\nname: caf\u00e9\n', 'latin1'));
  await expect(readManifests([path])).rejects.toThrow(`${path}: line 2 is not UTF-8`);
  await expect(readManifests(['-'], Readable.from([Buffer.from('kind: a', 'utf16le'), Buffer.from([0xff])]))).rejects.toThrow(
    '<stdin>: line 1 is not UTF-8',
  );
});

test('what is not there, and a folder without manifests, are bad usage and named', async () => {
  await expect(readManifests([join(folder, 'nix.yaml')])).rejects.toMatchObject({
    exitCode: EXIT_USAGE,
    message: expect.stringContaining('nix.yaml: no such file'),
  });
  await expect(readManifests([folder])).rejects.toMatchObject({ exitCode: EXIT_USAGE, message: expect.stringContaining(folder) });
});
