// `weft filter`: modules of Filters, checked and tried where they are written, with the very code that a proxy runs them with.
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { Command } from 'commander';
import type { Bundled } from '../../api/filter/bundle.js';
import type { Call, FilterChannel } from '../../api/filter/channel.js';
import { Hook, type Outcome } from '../../api/filter/outcome.js';
import { outcomeInWords } from '../../api/filter/outcome-words.js';
import type { ManifestFile } from '../../api/gen/mesh/v1/admin.js';
import { formatFinding } from '../../api/resources/finding.js';
import { Failure } from '../failure.js';
import { readManifests } from '../manifest-files.js';
import { plural } from '../terminal.js';
import { type Context, contextOf, examples, printWarnings, wholeNumber } from './context.js';

const IS_MANIFEST = /\.(ya?ml|json)$/i;
const DEFAULTS = { memoryMiB: 64, timeoutMs: 1_000 };

interface TestFlags {
  readonly requests: string;
  readonly timeout: number;
  readonly memory: number;
}

export function filterCommand(): Command {
  const check = new Command('check')
    .description('Check types and syntax of modules, alone (*.ts) or in the manifests of Filters.')
    .argument('<file...>', 'modules and manifests')
    .action(async (files: string[], _flags: object, self: Command) => checkFiles(files, contextOf(self)));
  const test = new Command('test')
    .description('Run a module on recorded requests, in a process as a proxy has it, and say what it does with each and how long it takes.')
    .argument('<file>', 'the module')
    .requiredOption('--requests <file>', 'JSON lines: {"method", "path", "authority", "headers", …}, or an access log')
    .option('--timeout <ms>', 'of one call', wholeNumber(5), DEFAULTS.timeoutMs)
    .option('--memory <MiB>', "of the process's heap", wholeNumber(4), DEFAULTS.memoryMiB)
    .action(async (file: string, flags: TestFlags, self: Command) => testFile(file, flags, contextOf(self)));
  examples(check, ['weft filter check api-key.ts', 'a module'], ['weft filter check filters.yaml', 'those of all Filters in a manifest']);
  examples(
    test,
    ['weft filter test api-key.ts --requests requests.jsonl', 'one request a line'],
    ['weft filter test api-key.ts --requests /var/log/weft/access.log', 'what has happened: access logs have no headers'],
  );
  return new Command('filter').description('Filters in TypeScript: check their modules, try them.').addCommand(check).addCommand(test);
}

async function checkFiles(paths: readonly string[], context: Context): Promise<void> {
  const { checkModuleFile, findingInFile, readModules, UNCHECKED } = await import('../filter-modules.js');
  const manifests: ManifestFile[] = await readManifests(paths.filter((path) => IS_MANIFEST.test(path)));
  const { findings, warnings } = await readModules(manifests);
  const all = [...findings];
  for (const path of paths.filter((each) => !IS_MANIFEST.test(each))) {
    const { mistakes, areTypesChecked } = await checkModuleFile(path);
    all.push(...mistakes.map((mistake) => findingInFile(mistake, path)));
    if (!areTypesChecked) context.printError(`warning: ${path}: ${UNCHECKED}`);
  }
  printWarnings(warnings, context);
  if (all.length > 0) throw new Failure([...all.map(formatFinding), plural(all.length, 'mistake')].join('\n'));
  context.print(`${plural(paths.length, 'file')}: all good`);
}

async function testFile(path: string, flags: TestFlags, context: Context): Promise<void> {
  const { checkModuleFile, findingInFile } = await import('../filter-modules.js');
  const { bundleModule } = await import('../../api/filter/bundle.js');
  const { FilterChannel } = await import('../../api/filter/channel.js');
  const { startFilter } = await import('../../api/filter/process.js');
  const { mistakes, code } = await checkModuleFile(path);
  const bundled: Bundled = code === null ? { ok: false, mistakes: [] } : bundleModule(code);
  if (!bundled.ok) throw new Failure([...mistakes, ...bundled.mistakes].map((each) => formatFinding(findingInFile(each, path))).join('\n'));
  const requests = await readRequests(flags.requests);
  let channel: FilterChannel | null = null;
  const program = { code: bundled.code, memoryMib: flags.memory };
  const started = await startFilter(program, ['pipe'], (stream) => {
    channel = new FilterChannel(stream, flags.timeout, () => undefined);
  });
  if (!started.ok) throw new Failure(`${path} can't be run: ${started.error}`);
  let failures = 0;
  const times: number[] = [];
  const ask = async (call: Call): Promise<Outcome> => {
    const [outcome, busyUs] = await new Promise<readonly [Outcome, number]>((resolve) =>
      channel?.call(call, (result, us) => resolve([result, us])),
    );
    if (busyUs >= 0) times.push(busyUs);
    if (outcome.kind === 'failed') failures++;
    context.print(
      `  ${call.hook === Hook.Request ? 'onRequest ' : 'onResponse'} ${describe(outcome)}${busyUs < 0 ? '' : context.colours.faint(` (${busyUs} µs)`)}`,
    );
    return outcome;
  };
  for (const { title, head, body, meta, answer, answerBody } of requests) {
    context.print(title);
    const outcome = bundled.onRequest ? await ask({ hook: Hook.Request, head, body, meta, answer: '' }) : null;
    if (bundled.onResponse && answer !== '' && outcome?.kind !== 'respond')
      await ask({ hook: Hook.Response, head, body: answerBody, meta, answer });
  }
  started.process.kill('done');
  times.sort((a, b) => a - b);
  const at = (share: number): number => times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0;
  context.print(`${plural(times.length, 'call')}: median ${at(0.5)} µs, p99 ${at(0.99)} µs; ${plural(failures, 'failure')}`);
  if (failures > 0) throw new Failure(`${plural(failures, 'call')} failed`);
}

function describe(outcome: Outcome): string {
  const words = outcomeInWords(outcome).join(', ');
  return outcome.kind === 'continue' ? `goes on${words === '' ? ' as it is' : `: ${words}`}` : words;
}

interface Recorded extends Omit<Call, 'hook'> {
  readonly title: string;
  readonly answerBody: string | null;
}

async function readRequests(path: string): Promise<Recorded[]> {
  const text = await (path === '-' ? Promise.resolve(readFileSync(0, 'utf8')) : readFile(path, 'utf8')).catch((error: Error) => {
    throw new Failure(error.message);
  });
  return text.split('\n').flatMap((line, index) => {
    if (line.trim() === '') return [];
    try {
      return recorded(JSON.parse(line) as Readonly<Record<string, unknown>>);
    } catch (error) {
      throw new Failure(`${path}:${index + 1}:1: no JSON of a request: ${(error as Error).message}`);
    }
  });
}

/** Of an access log: what it tells; of connections that are no HTTP: nothing. */
function recorded(line: Readonly<Record<string, unknown>>): Recorded[] {
  const text = (value: unknown, otherwise: string): string => (typeof value === 'string' ? value : otherwise);
  if (line.path === undefined && line.protocol !== undefined) return [];
  const method = text(line.method, 'GET');
  const path = text(line.path, '/');
  const logged = typeof line.user_agent === 'string' ? { 'user-agent': line.user_agent } : {};
  const head = headText(
    {
      ':method': method,
      ':path': path,
      ':authority': text(line.authority, 'localhost'),
      ':source-address': text(line.client, '').replace(/:\d+$/, ''),
      ...(typeof line.client_identity === 'string' ? { ':source-identity': line.client_identity } : {}),
    },
    { ...logged, ...(line.headers as object | undefined) },
  );
  const source = text(line.source, 'unknown');
  const [, destination = '', port = '0'] = /^(.*?)(?::(\d+))?$/.exec(text(line.destination, '')) ?? [];
  const response = (line.response ?? (typeof line.status === 'number' ? { status: line.status } : undefined)) as
    | { readonly status?: unknown; readonly headers?: object; readonly body?: unknown }
    | undefined;
  return [
    {
      title: `${method} ${path}`,
      head,
      body: bytesOf(line.body),
      answerBody: bytesOf(response?.body),
      meta: JSON.stringify([source === 'unknown' ? null : source, destination, Number(port)]),
      answer: response === undefined ? '' : headText({ ':status': String(response.status ?? 200) }, response.headers ?? {}),
    },
  ];
}

/** A character a byte; null: there is none. */
function bytesOf(body: unknown): string | null {
  return typeof body === 'string' && body !== '' ? Buffer.from(body).toString('latin1') : null;
}

function headText(pseudo: Readonly<Record<string, string>>, headers: object): string {
  const fields = Object.entries(headers).flatMap(([name, value]: [string, unknown]) =>
    (Array.isArray(value) ? value : [value]).map((each) => [name, String(each)]),
  );
  return [...Object.entries(pseudo), ...fields].map(([name, value]) => `${name}: ${String(value).replace(/[\r\n]/g, ' ')}\n`).join('');
}
