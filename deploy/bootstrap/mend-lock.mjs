// Keeps package-lock.json whole. The registry some of us work behind lacks many platform packages that biome, swc and jest's resolver name as
// optional, so npm leaves them out of the lock file, and `npm ci` elsewhere then refuses it: "Missing: … from lock file". A record that
// names the version and the platform is all npm needs; it installs such a package only where os and cpu fit.
// `--check` changes nothing and exits 1 when records are missing.
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const lockPath = fileURLToPath(new URL('../../package-lock.json', import.meta.url));
const lock = JSON.parse(readFileSync(lockPath, 'utf8'));

/** Splits "…-linux-arm64-musl" into the fields that npm filters by. */
function platformOf(name) {
  const words = name.split(/[-/]/);
  const os = ['android', 'darwin', 'freebsd', 'linux', 'openharmony', 'win32'].find((word) => words.includes(word));
  const cpu = ['arm64', 'arm', 'x64', 'ia32', 'ppc64', 's390x', 'riscv64', 'loong64', 'wasm32'].find((word) => words.includes(word));
  if (cpu === undefined && words.includes('wasi')) return { cpu: ['wasm32'] };
  return { ...(os && { os: [os] }), ...(cpu && { cpu: [cpu] }), ...(words.includes('musl') && { libc: ['musl'] }) };
}

const missing = [];
for (const [path, record] of Object.entries(lock.packages)) {
  for (const [name, range] of Object.entries(record.optionalDependencies ?? {})) {
    if (lock.packages[`${path}/node_modules/${name}`] || lock.packages[`node_modules/${name}`]) continue;
    missing.push({ name, range, dev: record.dev === true, by: path.replace(/^.*node_modules\//, '') });
  }
}

if (process.argv.includes('--check')) {
  for (const { name, by } of missing)
    console.error(`package-lock.json: no record of ${name}, which ${by} names: run node deploy/bootstrap/mend-lock.mjs`);
  process.exit(missing.length === 0 ? 0 : 1);
}
for (const { name, range, dev } of missing) {
  lock.packages[`node_modules/${name}`] = {
    version: range.replace(/^[\^~=]/, ''),
    ...platformOf(name),
    ...(dev && { dev: true }),
    license: 'MIT',
    optional: true,
  };
}
lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)));
writeFileSync(lockPath, `${JSON.stringify(lock, null, 2)}\n`);
console.log(`package-lock.json: ${missing.length} records added`);
