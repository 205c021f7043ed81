import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { expect, it } from '@jest/globals';

it('what npm runs is told to end when the shell that npm puts between has ended by the signal', async () => {
  const script = `
    import { endWithNpm } from ${JSON.stringify(join(process.cwd(), 'deploy/bootstrap/console.mjs'))};
    endWithNpm();
    process.on('SIGTERM', () => process.exit(process.stdout.write('told to end')));
    process.stdout.write('runs, ');
    setTimeout(() => process.exit(), 10_000);`;
  // Something behind it, or a shell would become what it runs.
  const shell = spawn('sh', ['-c', `"${process.execPath}" --input-type=module -e "$SCRIPT"; true`], {
    env: { ...process.env, SCRIPT: script, npm_lifecycle_event: 'start' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let heard = '';
  shell.stdout.on('data', (chunk: Buffer) => {
    if (heard === '') shell.kill('SIGTERM');
    heard += chunk.toString();
  });
  await once(shell, 'close');
  expect(heard).toBe('runs, told to end');
});
