import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';

/** A checkout that nobody has built: what is asked for must not need more. */
const bare = mkdtempSync(join(tmpdir(), 'weft-bare-'));

beforeAll(() => {
  for (const part of ['deploy/bootstrap', 'test/fuzz/run.mjs', 'package.json']) cpSync(part, join(bare, part), { recursive: true });
});

afterAll(() => rmSync(bare, { recursive: true }));

function run(script: string, ...words: readonly string[]) {
  const { status, stdout } = spawnSync(process.execPath, [`deploy/bootstrap/${script}`, ...words], {
    cwd: bare,
    encoding: 'utf8',
    timeout: 20_000,
    // Nothing that installs or builds is found.
    env: { PATH: '/nowhere' },
  });
  return { status, stdout };
}

describe.each(['--help', '-h'])('%s on a bare checkout', (flag) => {
  test('npm start says what it does and builds nothing', () => {
    expect(run('start.mjs', flag)).toEqual({ status: 0, stdout: expect.stringContaining('npm start -- --once') });
  });

  test('npm test names its stages and builds nothing', () => {
    expect(run('test.mjs', flag)).toEqual({ status: 0, stdout: expect.stringContaining('typecheck, lint, lock, unit, integration') });
  });

  test('leaves the checkout as it was', () => {
    expect(readdirSync(bare).sort()).toEqual(['deploy', 'package.json', 'test']);
  });
});
