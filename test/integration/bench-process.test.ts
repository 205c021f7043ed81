// Processes that a benchmark starts, when the benchmark itself is killed.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from '@jest/globals';
import { until } from '../lab/eventually.js';

test('nothing outlives a benchmark that is killed with -9', async () => {
  const module = join(process.env.WEFT_DIST ?? join(process.cwd(), 'dist'), 'test', 'bench', 'process.js');
  const script = `import { Pinned } from ${JSON.stringify(module)}; console.log(new Pinned(null, ['sleep', '600']).pid); setInterval(() => {}, 1000);`;
  const bench = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [said] = (await once(bench.stdout, 'data')) as [Buffer];
  const child = `/proc/${said.toString().trim()}`;
  // Until then it is setpriv, which has asked for no signal yet: what is killed in that millisecond leaves it behind.
  await until('the command', () => readFileSync(`${child}/comm`, 'latin1') === 'sleep\n');
  bench.kill('SIGKILL');
  await until('its end', () => !existsSync(child));
});
