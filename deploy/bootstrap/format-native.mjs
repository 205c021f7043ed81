// clang-format over our C, C++ and BPF sources; `--check` changes nothing and exits 1 where a file differs.
import { execFileSync, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const globs = ['native', 'bpf', 'test', 'deploy'].flatMap((folder) => ['c', 'cc', 'h'].map((ending) => `${folder}/**/*.${ending}`));
const files = execFileSync('git', ['ls-files', '--', ...globs.map((glob) => `:(glob)${glob}`)], { cwd: root, encoding: 'utf8' })
  .split('\n')
  .filter(Boolean);
if (files.length === 0) process.exit(0);
const mode = process.argv.includes('--check') ? ['--dry-run', '-Werror'] : ['-i'];
process.exit(spawnSync('clang-format', [...mode, ...files], { cwd: root, stdio: 'inherit' }).status ?? 1);
