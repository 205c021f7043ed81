// `weft diff`: what applying these files would change, line by line.
import { Command } from 'commander';
import { type Change, Change_Action } from '../../api/gen/mesh/v1/admin.js';
import { formatFinding } from '../../api/resources/finding.js';
import { type Controller, withController } from '../connection.js';
import { Failure } from '../failure.js';
import { readCheckedManifests } from '../manifest-files.js';
import { plural } from '../terminal.js';
import { unifiedDiff } from '../text-diff.js';
import { identity } from './apply.js';
import { type Context, contextOf, examples, filenamesOption, printWarnings } from './context.js';

interface DiffFlags {
  readonly filename: readonly string[];
  readonly exitCode?: boolean;
}

export function diffCommand(): Command {
  const command = new Command('diff')
    .description('Show what applying these files would change, against what is stored. Changes nothing.')
    .addOption(filenamesOption().makeOptionMandatory())
    .option('--exit-code', 'exit 1 when something differs')
    .action(async (flags: DiffFlags, self: Command) => diff(flags, contextOf(self)));
  return examples(
    command,
    ['weft diff -f shop.yaml', 'a unified diff for each object that would change'],
    ['weft diff -f shop/ --exit-code', 'for scripts'],
  );
}

async function diff(flags: DiffFlags, context: Context): Promise<void> {
  const { files } = await readCheckedManifests(flags.filename);
  const { manifestsIn } = await import('../kinds.js');
  await withController(context.controller, async (controller) => {
    // The controller knows what differs: values of Secrets are not shown.
    const answer = await controller.apply({ files, dryRun: true });
    printWarnings(answer.warnings, context);
    if (answer.findings.length > 0)
      throw new Failure([...answer.findings.map(formatFinding), plural(answer.findings.length, 'mistake')].join('\n'));
    const changes = answer.changes.filter(({ action }) => action !== Change_Action.UNCHANGED);
    const wanted = new Map(manifestsIn(files).map((object) => [identity(object), object.manifest]));
    for (const change of changes) await printDiff(change, wanted.get(identity(change)) ?? {}, controller, context);
    if (flags.exitCode === true && changes.length > 0) throw new Failure(`${plural(changes.length, 'object')} would change`);
  });
}

async function printDiff(change: Change, wanted: unknown, controller: Controller, context: Context): Promise<void> {
  const { stringify } = await import('yaml');
  const { kind, namespace, name } = change;
  const [stored] = change.action === Change_Action.CREATED ? [] : (await controller.get({ kind, namespace, name })).objects;
  const text = (manifest: unknown): string => stringify(manifest, { sortMapEntries: true });
  const before = stored === undefined ? '' : text(withoutServerFields(JSON.parse(stored)));
  const lines = unifiedDiff(before, text(wanted));
  const { good, bad, faint, strong } = context.colours;
  context.print(strong(`--- ${before === '' ? '/dev/null' : identity(change)}`));
  context.print(strong(`+++ ${identity(change)}`));
  if (lines.length === 0) context.print(faint('values that are not shown differ'));
  const colour = { '+': good, '-': bad, '@': faint };
  for (const line of lines) context.print((colour[line[0] as '+'] ?? ((same: string) => same))(line));
}

function withoutServerFields({ status: _status, metadata, ...rest }: Record<string, unknown>): unknown {
  const { resourceVersion: _version, ...own } = metadata as Record<string, unknown>;
  return { ...rest, metadata: own };
}
