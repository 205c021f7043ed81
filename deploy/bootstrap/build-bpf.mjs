// Compiles bpf/*.bpf.c, links them into one object and writes its skeleton, native/build/bpf/weft_capture.skel.h, which the addon embeds.
// Does nothing when no source is newer than the skeleton. Needs clang ≥ 14, bpftool, libbpf-dev; installs nothing itself.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const SOURCE = join(ROOT, 'bpf');
const OUTPUT = join(ROOT, 'native', 'build', 'bpf');
const SKELETON = join(OUTPUT, 'weft_capture.skel.h');
// <asm/types.h> stands in the multiarch folder, which clang does not search for -target bpf.
const MULTIARCH = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' }[process.arch];
const FLAGS = [
  '-O2',
  '-g',
  '-target',
  'bpf',
  '-mcpu=v3',
  '-Wall',
  '-Wextra',
  '-Werror',
  '-Wno-unused-parameter',
  `-I/usr/include/${MULTIARCH}`,
];

function run(command, args) {
  try {
    return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  } catch (error) {
    if (error.code === 'ENOENT')
      throw new Error(`${command} is not installed: apt-get install clang bpftool libbpf-dev (and see PATH: /usr/sbin)`);
    throw new Error(`${command} ${args.join(' ')} failed:\n${error.stderr || error.message}`);
  }
}

function isUpToDate() {
  if (!existsSync(SKELETON)) return false;
  const built = statSync(SKELETON).mtimeMs;
  const sources = readdirSync(SOURCE, { recursive: true })
    .filter((name) => /\.[ch]$/.test(name))
    .map((name) => join(SOURCE, name));
  return [...sources, fileURLToPath(import.meta.url)].every((path) => statSync(path).mtimeMs < built);
}

function build() {
  mkdirSync(OUTPUT, { recursive: true });
  const objects = readdirSync(SOURCE)
    .filter((name) => name.endsWith('.bpf.c'))
    .sort()
    .map((name) => {
      const object = join(OUTPUT, `${basename(name, '.bpf.c')}.o`);
      run('clang', [...FLAGS, '-c', join(SOURCE, name), '-o', object]);
      return object;
    });
  const linked = join(OUTPUT, 'weft_capture.bpf.o');
  run('bpftool', ['gen', 'object', linked, ...objects]);
  const skeleton = run('bpftool', ['gen', 'skeleton', linked, 'name', 'weft_capture']);
  // Renamed into place: a compiler that reads it meanwhile sees the old one or the new one.
  writeFileSync(`${SKELETON}.new`, skeleton);
  renameSync(`${SKELETON}.new`, SKELETON);
  return objects.length;
}

try {
  if (isUpToDate()) {
    process.stdout.write('bpf: up to date\n');
  } else {
    const programs = build();
    process.stdout.write(`bpf: ${programs} programs → ${SKELETON}\n`);
  }
} catch (error) {
  process.stderr.write(`bpf: ${error.message}\n`);
  process.exitCode = 1;
}
