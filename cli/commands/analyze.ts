// `weft analyze`: what is wrong between objects: those in files, those that are stored, or files on top of what is stored.
import { Command, InvalidArgumentError, Option } from 'commander';
import type { Diagnosis, Severity } from '../../api/analyze/index.js';
import type { ManifestFile } from '../../api/gen/mesh/v1/admin.js';
import { withController } from '../connection.js';
import { EXIT_USAGE, Failure } from '../failure.js';
import { readCheckedManifests } from '../manifest-files.js';
import { plural } from '../terminal.js';
import { type Context, contextOf, examples, filenamesOption } from './context.js';

interface AnalyzeFlags {
  readonly filename?: readonly string[];
  readonly live?: boolean;
  readonly failOn: Severity;
  readonly suppress?: readonly string[];
  readonly output?: 'json';
}

const RANK: Readonly<Record<Severity, number>> = { error: 0, warning: 1, info: 2 };

export function analyzeCommand(): Command {
  const command = new Command('analyze')
    .description(
      'Find what is wrong between objects: dangling references, rules that are never reached, conflicting hosts, missing subsets, wrong ports.',
    )
    .addOption(filenamesOption())
    .option('--live', 'the files on top of what the controller has; without -f that alone, which is the default then')
    .addOption(new Option('--fail-on <severity>', 'exit 1 from this severity on').choices(['error', 'warning', 'info']).default('error'))
    .addOption(
      new Option('--suppress <code>', 'leave these findings out; repeatable').argParser(
        (value: string, previous: readonly string[] = []) => {
          if (!/^[A-Za-z]+$/.test(value)) throw new InvalidArgumentError('Expected a code such as RouteMatchUnreachable.');
          return [...previous, value];
        },
      ),
    )
    .addOption(new Option('-o, --output <format>', 'how to show them').choices(['json']))
    .action(async (flags: AnalyzeFlags, self: Command) => analyzeObjects(flags, contextOf(self)));
  return examples(
    command,
    ['weft analyze -f manifests/', 'offline: these files alone'],
    ['weft analyze', 'what is stored'],
    ['weft analyze --live -f route.yaml', 'what would be, were this applied'],
  );
}

async function analyzeObjects(flags: AnalyzeFlags, context: Context): Promise<void> {
  const files: readonly ManifestFile[] = flags.filename === undefined ? [] : (await readCheckedManifests(flags.filename)).files;
  const isLive = flags.filename === undefined || flags.live === true;
  const stored = isLive ? await readStored(context) : [];
  const { analyze, SEVERITY_OF } = await import('../../api/analyze/index.js');
  for (const code of flags.suppress ?? [])
    if (!(code in SEVERITY_OF)) throw new Failure(`--suppress ${code}: there are ${Object.keys(SEVERITY_OF).join(', ')}`, EXIT_USAGE);
  const found = analyze(files, Date.now(), stored).filter(({ code }) => !(flags.suppress ?? []).includes(code));
  print(found, flags, context);
  const failing = found.filter(({ severity }) => RANK[severity] <= RANK[flags.failOn]);
  if (failing.length > 0) throw new Failure(summary(found));
}

function print(found: readonly Diagnosis[], flags: AnalyzeFlags, context: Context): void {
  if (flags.output === 'json') {
    context.print(JSON.stringify({ findings: found }, null, 2));
    return;
  }
  const { bad, warn, faint } = context.colours;
  const colour = { error: bad, warning: warn, info: faint };
  for (const { severity, code, kind, namespace, name, file, line, column, path, message } of found) {
    const place = file === '' ? '' : `${file}:${line}:${column}`;
    const object = kind === '' ? '' : `${kind} ${namespace}/${name}`;
    const parts = [place, colour[severity](severity), object, path, message].filter((part) => part !== '');
    context.print(`${parts.join(': ')} ${faint(`[${code}]`)}`);
  }
  if (found.length === 0) context.print('nothing found');
}

function summary(found: readonly Diagnosis[]): string {
  const count = (severity: Severity): number => found.filter((each) => each.severity === severity).length;
  return `${plural(count('error'), 'error')}, ${plural(count('warning'), 'warning')}, ${count('info')} for information`;
}

/** All objects of all kinds. Secrets come without their values: what is in them is not analysed. */
async function readStored(context: Context): Promise<unknown[]> {
  const { KINDS } = await import('../../api/resources/kinds.js');
  return withController(context.controller, async (controller) => {
    const answers = await Promise.all(KINDS.map(({ kind }) => controller.get({ kind, namespace: '', name: '' })));
    return answers.flatMap(({ objects }) => objects.map((text) => JSON.parse(text) as unknown));
  });
}
