// `npm run fuzz -- NAME [--seconds N] [--jobs N]`, `npm run fuzz -- --list`: builds a fuzz target (test/fuzz/NAME.cc) with libFuzzer under
// ASan and UBSan and runs it from its corpus (test/fuzz/corpus/NAME). Exit 1 on a finding. What is found that is new stays in
// native/build-fuzz/NAME; nothing is written to the checkout's corpus. Plain Node, no packages.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { buildSanitized, sanitized } from '../../deploy/bootstrap/build-sanitized.mjs';
import { ROOT } from '../../deploy/bootstrap/setup.mjs';

const FOUND = join(ROOT, 'native', 'build-fuzz');
const SIGNALS = ['SIGINT', 'SIGTERM'];

export function targets() {
  return readdirSync(join(ROOT, 'test', 'fuzz'))
    .filter((name) => name.endsWith('.cc'))
    .map((name) => name.slice(0, -'.cc'.length))
    .sort();
}

/**
 * Runs a target that has been built. True if nothing was found. Prints what libFuzzer counted, and the end of its report when there is a
 * finding.
 */
export async function fuzz(name, seconds, jobs = 1) {
  const binary = sanitized(`fuzz_${name}`);
  const found = join(FOUND, name);
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
    const stop = () => child.kill('SIGTERM');
    child.once('error', reject);
    child.once('close', (code) => {
      for (const signal of SIGNALS) process.off(signal, stop);
      resolve({ code, text });
    });
    for (const signal of SIGNALS) process.once(signal, stop);
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
  await buildSanitized([`fuzz_${name}`]);
  return (await fuzz(name, seconds, jobs)) ? 0 : 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  process.exitCode = await main().catch((error) => {
    console.error(error.message);
    return 1;
  });
}
