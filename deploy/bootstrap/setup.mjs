// Makes a bare checkout ready: Debian packages, npm packages, builds. Each only where something is missing or changed, so that a second
// run takes a moment. Runs before `npm ci`: plain Node, no packages. Also a command: node deploy/bootstrap/setup.mjs [--test]
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { capture, main, SetupError, step } from './console.mjs';
import { installPackages, refuseUnsupportedSystem } from './packages.mjs';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** In order: each may need the ones before. `inputs`: files, or folders with the endings that count. */
const BUILDS = [
  {
    name: 'BPF programs',
    script: 'build:bpf',
    inputs: [['bpf', /\.[ch]$/], ['deploy/bootstrap/build-bpf.mjs']],
    output: 'native/build/bpf/weft_capture.skel.h',
    stamp: 'native/build/.bpf-stamp',
  },
  {
    name: 'native engine',
    script: 'build:native',
    inputs: [
      ['native/src', /\.(cc|h)$/],
      ['bpf', /\.[ch]$/],
      ['native/CMakeLists.txt'],
      ['deploy/bootstrap/build-native.mjs'],
      ['package-lock.json'],
    ],
    output: 'native/build/Release/weft.node',
    stamp: 'native/build/.native-stamp',
  },
  {
    name: 'TypeScript',
    script: 'build',
    inputs: [
      ...['api', 'agent', 'controller', 'cli', 'deploy', 'test'].map((folder) => [folder, /\.ts$/]),
      ['tsconfig.json'],
      ['package-lock.json'],
    ],
    output: 'dist/cli/main.js',
    stamp: 'dist/.stamp',
  },
];

/** `purposes`: of installPackages(). */
export async function setUp(purposes) {
  refuseUnsupportedSystem();
  await installPackages(purposes);
  if (!isInstalled()) await step('Installing npm packages', installDependencies);
  for (const build of BUILDS) await bringUpToDate(build);
}

/** npm writes what it has installed into node_modules/.package-lock.json: equal versions of all that isn't optional will do. */
function isInstalled() {
  const installed = join(ROOT, 'node_modules/.package-lock.json');
  if (!existsSync(installed)) return false;
  const have = JSON.parse(readFileSync(installed, 'utf8')).packages;
  const want = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')).packages;
  return Object.entries(want).every(([path, { version, optional, devOptional }]) => {
    if (path === '' || optional === true || devOptional === true) return true;
    return have[path]?.version === version && existsSync(join(ROOT, path));
  });
}

async function installDependencies() {
  try {
    await capture('npm', ['ci', '--no-audit', '--no-fund'], { cwd: ROOT });
  } catch (error) {
    throw new SetupError(`${error.message}\nIs there a network? Behind a proxy: npm config set proxy URL, or set HTTPS_PROXY.`);
  }
}

async function bringUpToDate({ name, script, inputs, output, stamp }) {
  const stampFile = join(ROOT, stamp);
  const wanted = fingerprint(inputs);
  const isCurrent = existsSync(join(ROOT, output)) && existsSync(stampFile) && readFileSync(stampFile, 'utf8') === wanted;
  if (isCurrent) return;
  await step(`Building: ${name}`, () => capture('npm', ['run', '-s', script], { cwd: ROOT }));
  mkdirSync(dirname(stampFile), { recursive: true });
  writeFileSync(stampFile, wanted);
}

/** Of the contents, not the times: a fresh checkout of the same files builds nothing. The Node version counts: it shapes the builds. */
function fingerprint(inputs) {
  const hash = createHash('sha256').update(`${process.versions.node} ${process.arch}`);
  for (const file of inputs.flatMap(([path, ending]) => filesOf(path, ending))) {
    hash.update(`\0${relative(ROOT, file)}\0`).update(readFileSync(file));
  }
  return hash.digest('hex');
}

function filesOf(path, ending) {
  const absolute = join(ROOT, path);
  if (!existsSync(absolute)) return [];
  if (statSync(absolute).isFile()) return [absolute];
  return readdirSync(absolute, { recursive: true })
    .filter((name) => ending.test(name))
    .sort()
    .map((name) => join(absolute, name));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await main(async () => {
    await setUp(process.argv.includes('--test') ? ['build', 'run', 'test'] : ['build', 'run']);
    return 0;
  });
}
