// Processes that a benchmark starts, when the benchmark itself is killed.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { eventually } from '../lab/eventually.js';

test('nothing outlives a benchmark that is killed with -9', async () => {
  const module = join(process.env.WEFT_DIST ?? join(process.cwd(), 'dist'), 'test', 'bench', 'process.js');
  const script = `import { Pinned } from ${JSON.stringify(module)}; console.log(new Pinned(null, ['sleep', '600']).pid); setInterval(() => {}, 1000);`;
  const bench = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [said] = (await once(bench.stdout, 'data')) as [Buffer];
  const child = `/proc/${said.toString().trim()}`;
  expect(existsSync(child)).toBe(true);
  bench.kill('SIGKILL');
  expect(
    await eventually(
      async () => existsSync(child),
      (isThere) => !isThere,
    ),
  ).toBe(false);
});
