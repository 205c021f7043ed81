// `npm test`: makes the checkout ready, then every test there is, and the sum of them on the last line: "N passed, N failed".
// Plain Node: runs before `npm ci`. Arguments choose stages by name: npm test -- unit e2e. The stage fuzz runs in CI (CI=true) or by name.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fuzz as fuzzTarget, targets as fuzzTargets } from '../../test/fuzz/run.mjs';
import { buildSanitized, sanitized } from './build-sanitized.mjs';
import { capture, main, passThrough, SetupError, say, tail, wantsHelp } from './console.mjs';
import { ROOT, setUp } from './setup.mjs';

const NOTHING = { passed: 0, failed: 0, skipped: 0 };

/** `targets`: what it runs of build-sanitized.mjs. */
const STAGES = [
  { name: 'typecheck', run: () => script('typecheck') },
  { name: 'lint', run: () => script('lint') },
  { name: 'lock', run: () => script('check:lock') },
  { name: 'unit', run: () => jest('unit') },
  { name: 'integration', run: () => jest('integration') },
  { name: 'conformance', run: () => jest('conformance') },
  { name: 'redirect', run: () => jest('redirect') },
  { name: 'e2e', run: () => jest('e2e') },
  { name: 'core', run: core, targets: ['core_tests'] },
  { name: 'fuzz', run: fuzz, targets: ['fuzz'], isExtra: process.env.CI !== 'true' },
];
/** Whose files run at once, one a core: integration tests wait most of their time. What measures the kernel's times must not compete with its neighbours. */
const SIDE_BY_SIDE = new Set(['unit', 'integration']);
const FUZZ_SECONDS = 20;
const STAGE_NAMES = STAGES.map(({ name }) => name).join(', ');
const HELP = `Usage: npm test [-- stage…]

Makes this checkout ready, then runs every stage, or those named: ${STAGE_NAMES}.
fuzz runs in CI (CI=true) or by name. Needs root; without: npm run check. One file: npm run jest -- PATH
The last line is the sum: "N passed, N failed".`;

await main(async () => {
  const wanted = process.argv.slice(2);
  if (wantsHelp(wanted)) {
    say(HELP);
    return 0;
  }
  const unknown = wanted.filter((name) => !STAGES.some((stage) => stage.name === name));
  if (unknown.length > 0) throw new SetupError(`no stage ${unknown.join(', ')}. There are: ${STAGE_NAMES}`);
  if (process.getuid() !== 0)
    throw new SetupError(
      'The tests make network namespaces and load BPF programs: run them as root (sudo npm test). Without root: npm run check',
    );
  await setUp(['build', 'run', 'test']);
  const total = { ...NOTHING };
  const stages = STAGES.filter(({ name, isExtra }) => (wanted.length === 0 ? isExtra !== true : wanted.includes(name)));
  const building = buildTargets(stages);
  for (const stage of stages) add(total, await runStage(stage, building));
  if (total.skipped > 0) say(`\n${total.skipped} skipped`);
  say(`\n${total.passed} passed, ${total.failed} failed`);
  return total.failed === 0 && total.passed > 0 ? 0 : 1;
});

/** Minutes of compiling, for the last stages: in the time in which the tests before them wait. Resolves with what went wrong, or null. */
function buildTargets(stages) {
  const targets = stages.flatMap((stage) => stage.targets ?? []);
  if (targets.length === 0) return null;
  return buildSanitized(targets, { isIdle: stages[0].targets === undefined }).then(
    () => null,
    (error) => error,
  );
}

async function runStage({ name, run, targets }, building) {
  say(`\n── ${name}`);
  const began = Date.now();
  const error = targets === undefined ? null : await building;
  if (error !== null) say(error.message);
  const result = error === null ? await run() : { ...NOTHING, failed: 1 };
  const skipped = result.skipped > 0 ? `, ${result.skipped} skipped` : '';
  say(`── ${name}: ${result.passed} passed, ${result.failed} failed${skipped} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
  return result;
}

/** A stage that is one check. */
async function script(name) {
  const code = await passThrough('npm', ['run', '-s', name], { cwd: ROOT });
  return { ...NOTHING, passed: code === 0 ? 1 : 0, failed: code === 0 ? 0 : 1 };
}

/** The engine's own tests, under ASan and UBSan, without Node. */
async function core() {
  const output = await capture(sanitized('core_tests'), [], { cwd: ROOT }).catch((error) => error.message);
  say(tail(output));
  const counts = /(\d+) passed, (\d+) failed, (\d+) skipped/.exec(output);
  // A sanitizer's report ends the program before it has counted.
  if (counts === null) return { ...NOTHING, failed: 1 };
  return { passed: Number(counts[1]), failed: Number(counts[2]), skipped: Number(counts[3]) };
}

/** Every fuzz target for a while from its corpus, one for each core at a time; one test each. */
async function fuzz() {
  const result = { ...NOTHING };
  const waiting = fuzzTargets();
  const runSome = async () => {
    for (let target = waiting.shift(); target !== undefined; target = waiting.shift())
      result[(await fuzzTarget(target, FUZZ_SECONDS)) ? 'passed' : 'failed']++;
  };
  await Promise.all(Array.from({ length: availableParallelism() }, runSome));
  return result;
}

/**
 * In CI a file that failed is run once more, by a jest of its own: most tests drive real sockets, processes and kernels, and one late packet on a busy machine is
 * no reason to refuse a change. The whole file, for its tests share what they drive. What passed only then is named. Elsewhere nothing is tried again.
 */
async function jest(project) {
  const first = await runJest(project, SIDE_BY_SIDE.has(project) ? '--maxWorkers=100%' : '--runInBand');
  const failed = first.files.filter(({ status }) => status === 'failed').map(({ name }) => name);
  if (process.env.CI !== 'true' || failed.length === 0) return countJest(first);
  say(`trying again: ${failed.map((file) => relative(ROOT, file)).join(', ')}`);
  const again = await runJest(project, '--runInBand', '--runTestsByPath', ...failed);
  for (const { name, status } of again.files) if (status === 'passed') say(`passed only when tried again: ${relative(ROOT, name)}`);
  return countJest({ code: again.code, files: [...first.files.filter(({ status }) => status !== 'failed'), ...again.files] });
}

/** `files`: as jest reports them. */
async function runJest(project, ...words) {
  const folder = mkdtempSync(join(tmpdir(), 'weft-test-'));
  try {
    const report = join(folder, 'jest.json');
    const code = await passThrough(
      'npm',
      ['run', '-s', 'jest', '--', '--selectProjects', project, '--passWithNoTests', '--json', '--outputFile', report, ...words],
      {
        cwd: ROOT,
        // The JSON also goes to standard output; the report for people goes to standard error.
        stdio: ['ignore', 'ignore', 'inherit'],
      },
    );
    return { files: readReport(report)?.testResults ?? [], code };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function readReport(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return null;
  }
}

/** A file that can't even be loaded, or whose hooks fail, counts as one failure, and so does jest itself. */
function countJest({ files, code }) {
  const result = { ...NOTHING };
  for (const { status: ofFile, assertionResults: tests } of files) {
    const failed = tests.filter(({ status }) => status === 'failed').length;
    result.failed += failed === 0 && ofFile === 'failed' ? 1 : failed;
    result.passed += tests.filter(({ status }) => status === 'passed').length;
    for (const { fullName } of tests.filter(({ status }) => status === 'pending' || status === 'todo')) {
      say(`skipped: ${fullName}`);
      result.skipped++;
    }
  }
  if (result.failed === 0 && code !== 0) result.failed = 1;
  return result;
}

function add(total, { passed, failed, skipped }) {
  total.passed += passed;
  total.failed += failed;
  total.skipped += skipped;
}
