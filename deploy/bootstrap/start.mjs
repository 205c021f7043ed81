// `npm start`: makes the checkout ready, then `weft up` with the arguments given. Plain Node: runs before `npm ci`.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { endWithNpm, main, SetupError, say, wantsHelp } from './console.mjs';
import { ROOT, setUp } from './setup.mjs';

const COMMAND = join(ROOT, 'dist/cli/main.js');
const HELP = `Usage: npm start [-- options of weft up]

Makes this checkout ready (Debian packages, npm packages, builds: minutes the first time, a second later), then runs a whole mesh on this
machine until Ctrl-C: weft up. Needs root.

Examples:
  npm start                     # until Ctrl-C
  npm start -- --once           # the whole mesh proven, then removed
  npm start -- --clean          # remove what a killed one left, and exit
`;

await main(async () => {
  const words = process.argv.slice(2);
  if (wantsHelp(words)) {
    say(HELP);
    if (existsSync(COMMAND)) return weftUp(words);
    say('All options are shown once it is built.');
    return 0;
  }
  if (process.getuid() !== 0)
    throw new SetupError('weft up makes network namespaces and loads BPF programs: run it as root (sudo npm start).');
  endWithNpm();
  await setUp(['build', 'run']);
  return weftUp(words);
});

/** Signals sent to us are meant for it; we end when it has cleaned up. */
function weftUp(args) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [COMMAND, 'up', ...args], { stdio: 'inherit', cwd: ROOT });
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
    child.once('error', reject);
    child.once('close', (code, signal) => resolve(signal === null ? code : 1));
  });
}
