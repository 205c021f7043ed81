// `npm start`: makes the checkout ready, then `weft up` with the arguments given. Plain Node: runs before `npm ci`.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { main, SetupError } from './console.mjs';
import { ROOT, setUp } from './setup.mjs';

await main(async () => {
  if (process.getuid() !== 0)
    throw new SetupError('weft up makes network namespaces and loads BPF programs: run it as root (sudo npm start).');
  await setUp(['build', 'run']);
  return weftUp(process.argv.slice(2));
});

/** Signals sent to us are meant for it; we end when it has cleaned up. */
function weftUp(args) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [join(ROOT, 'dist/cli/main.js'), 'up', ...args], { stdio: 'inherit', cwd: ROOT });
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
    child.once('error', reject);
    child.once('close', (code, signal) => resolve(signal === null ? code : 1));
  });
}
