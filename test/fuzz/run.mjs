// `npm run fuzz -- NAME [--seconds N] [--jobs N]`, `npm run fuzz -- --list`: builds a fuzz target (test/fuzz/NAME.cc) with libFuzzer under
// ASan and UBSan into native/build-fuzz and runs it from its corpus (test/fuzz/corpus/NAME). Exit 1 on a finding. What is found that is new
// stays in native/build-fuzz/NAME; nothing is written to the checkout's corpus. Plain Node, no packages.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const BUILD = join(ROOT, 'native', 'build-fuzz');
const FLAGS = [
  ...['-std=gnu++20', '-O1', '-g', '-fno-rtti', '-fno-exceptions', '-fno-omit-frame-pointer', '-Wall', '-Wextra', '-Werror'],
  ...['-Wno-unused-parameter', '-fsanitize=fuzzer-no-link,address,undefined', '-fno-sanitize-recover=all'],
  ...['native/src', 'native/test', 'test/fuzz'].map((folder) => `-I${folder}`),
];

export function targets() {
  return readdirSync(join(ROOT, 'test', 'fuzz'))
    .filter((name) => name.endsWith('.cc'))
    .map((name) => name.slice(0, -'.cc'.length))
    .sort();
}

/** The target's path. Compiles what is older than its source or than any header. */
function build(name, jobs) {
  mkdirSync(join(BUILD, 'objects'), { recursive: true });
  const core = sourcesOf('native/src/core').filter((file) => file.endsWith('.cc'));
  const headers = ['native/src/core', 'native/test', 'test/fuzz', 'bpf'].flatMap(sourcesOf).filter((file) => /\.h$/.test(file));
  const newest = Math.max(...headers.map((file) => statSync(join(ROOT, file)).mtimeMs), statSync(fileURLToPath(import.meta.url)).mtimeMs);
  const sources = [...core, 'native/test/transcript.cc', `test/fuzz/${name}.cc`];
  const stale = sources.filter((source) => !isFresh(objectOf(source), Math.max(newest, statSync(join(ROOT, source)).mtimeMs)));
  if (stale.length > 0) {
    process.stderr.write(`building ${name}: ${stale.length} files\n`);
    // xargs: as many compilers at once as asked for, and the first failure is ours.
    const lines = stale.map((source) => `${source} ${objectOf(source)}`).join('\n');
    const script = `clang++ ${FLAGS.join(' ')} -c "$1" -o "$2"`;
    run('xargs', ['-P', String(jobs), '-L', '1', 'sh', '-c', script, 'sh'], lines);
  }
  const binary = join(BUILD, `${name}.bin`);
  if (stale.length > 0 || !existsSync(binary))
    run('clang++', ['-fsanitize=fuzzer,address,undefined', ...sources.map(objectOf), ...libraries(), '-o', binary]);
  return binary;
}

function objectOf(source) {
  return join(BUILD, 'objects', `${source.replaceAll('/', '_')}.o`);
}

function isFresh(output, sinceMs) {
  return existsSync(output) && statSync(output).mtimeMs >= sinceMs;
}

/** TLS in the core is OpenSSL's; a core without it links without it. */
function libraries() {
  return /OpenSSL|libssl/i.test(readFileSync(join(ROOT, 'native', 'CMakeLists.txt'), 'utf8')) ? ['-lssl', '-lcrypto'] : [];
}

function sourcesOf(folder) {
  if (!existsSync(join(ROOT, folder))) return [];
  return readdirSync(join(ROOT, folder), { recursive: true })
    .map((name) => join(folder, name))
    .filter((file) => statSync(join(ROOT, file)).isFile());
}

function run(command, args, input = '') {
  const result = spawnSync(command, args, { cwd: ROOT, input, stdio: ['pipe', 'inherit', 'inherit'] });
  if (result.error !== undefined) throw new Error(`${command}: ${result.error.message} (Debian: apt-get install clang)`);
  if (result.status !== 0) throw new Error(`the fuzz target can't be built: ${command} failed, see above`);
}

/** True if nothing was found. Prints what libFuzzer counted, and the end of its report when there is a finding. */
async function fuzz(name, seconds, jobs) {
  const binary = build(name, jobs);
  const found = join(BUILD, name);
  mkdirSync(found, { recursive: true });
  const corpus = join(ROOT, 'test', 'fuzz', 'corpus', name);
  // Seconds that an input may take: those with sockets wait for a busy machine.
  const args = [`-max_total_time=${seconds}`, '-timeout=30', '-rss_limit_mb=2048', `-artifact_prefix=${found}/`, '-print_final_stats=1'];
  if (jobs > 1) args.push(`-fork=${jobs}`);
  args.push(found, ...(existsSync(corpus) ? [corpus] : []));
  const before = new Set(artifacts(found));
  const output = await follow(binary, args);
  const executions = /number_of_executed_units:\s*(\d+)/.exec(output.text)?.[1] ?? lastOf(output.text, /#(\d+)/g) ?? '0';
  const coverage = lastOf(output.text, /cov: (\d+)/g) ?? '?';
  const findings = artifacts(found).filter((file) => !before.has(file));
  const isGood = output.code === 0 && findings.length === 0;
  console.log(`${name}: ${executions} executions in ${seconds} s, ${coverage} edges covered, ${isGood ? 'no finding' : 'A FINDING'}`);
  if (isGood) return true;
  console.log(output.text.trimEnd().split('\n').slice(-60).join('\n'));
  for (const file of findings) console.log(`reproduce: ${relative(ROOT, binary)} ${relative(ROOT, join(found, file))}`);
  return false;
}

/** What libFuzzer writes for an input that crashed, leaked, or took too long or too much. */
function artifacts(folder) {
  return readdirSync(folder).filter((file) => /^(crash|leak|timeout|oom)-/.test(file));
}

function lastOf(text, pattern) {
  return [...text.matchAll(pattern)].at(-1)?.[1];
}

function follow(binary, args) {
  return new Promise((resolve, reject) => {
    const child = spawn(binary, args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
    let text = '';
    // A report with its stack is some 20 KB; the lines of hours are not kept.
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (text = (text + chunk).slice(-200_000)));
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, text }));
    for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => child.kill('SIGTERM'));
  });
}

async function main() {
  const options = {
    seconds: { type: 'string' },
    jobs: { type: 'string' },
    list: { type: 'boolean' },
    help: { type: 'boolean', short: 'h' },
  };
  const { values, positionals } = parseArgs({ allowPositionals: true, options });
  const all = targets();
  if (values.list) {
    console.log(all.join('\n'));
    return 0;
  }
  const [seconds, jobs] = [Number(values.seconds ?? 60), Number(values.jobs ?? 1)];
  const [name] = positionals;
  const usage = `usage: npm run fuzz -- NAME [--seconds N] [--jobs N]   NAME: ${all.join(', ')}\n       npm run fuzz -- --list`;
  if (values.help) {
    console.log(usage);
    return 0;
  }
  if (positionals.length !== 1 || !all.includes(name) || !(seconds > 0) || !(jobs >= 1)) {
    console.error(usage);
    return 2;
  }
  return (await fuzz(name, seconds, jobs)) ? 0 : 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.exitCode = await main().catch((error) => {
    console.error(error.message);
    return 1;
  });
}
