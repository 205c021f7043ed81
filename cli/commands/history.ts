// `weft history` and `weft rollback`: what was changed, by whom and when, and back to a revision.
import { Command, Option } from 'commander';
import { type Change, Change_Action, type HistoryEntry } from '../../api/gen/mesh/v1/admin.js';
import { withController } from '../connection.js';
import { instant, table } from '../terminal.js';
import { identity, printChanges, timeoutOption, type WaitFlags, waitForNodes } from './apply.js';
import { type Context, contextOf, examples, wholeNumber } from './context.js';

interface HistoryFlags {
  readonly limit: number;
  readonly output?: 'json';
}

interface RollbackFlags extends WaitFlags {
  readonly dryRun?: boolean;
}

const DEFAULT_LIMIT = 20;
const SHOWN_CHANGES = 3;

export function historyCommand(): Command {
  const command = new Command('history')
    .description('Show what was changed, the newest first: revision, when, who, what.')
    .addOption(new Option('--limit <count>', 'how many; 0: all that are kept').argParser(wholeNumber(15)).default(DEFAULT_LIMIT))
    .addOption(new Option('-o, --output <format>', 'how to show them').choices(['json']))
    .action(async (flags: HistoryFlags, self: Command) => history(flags, contextOf(self)));
  return examples(command, ['weft history', `the newest ${DEFAULT_LIMIT}`], ['weft history --limit 0 -o json', 'all, for a script']);
}

async function history({ limit, output }: HistoryFlags, context: Context): Promise<void> {
  const { entries } = await withController(context.controller, (controller) => controller.history(limit));
  if (output === 'json') {
    context.print(JSON.stringify({ entries: entries.map(asJson) }, null, 2));
    return;
  }
  if (entries.length === 0) {
    context.printError('nothing was changed yet');
    return;
  }
  const columns = [
    { title: 'REVISION', align: 'right' as const },
    { title: 'WHEN' },
    { title: 'WHO' },
    { title: 'COMMAND' },
    { title: 'CHANGES' },
  ];
  const rows = entries.map((entry) => [String(entry.revision), instant(entry.atMs), entry.actor, entry.command, shortly(entry.changes)]);
  context.print(table(columns, rows, context.colours));
}

const MARKS: Readonly<Record<number, string>> = {
  [Change_Action.CREATED]: '+',
  [Change_Action.DELETED]: '-',
  [Change_Action.CONFIGURED]: '~',
};

function shortly(changes: readonly Change[]): string {
  const shown = changes.slice(0, SHOWN_CHANGES).map((change) => `${MARKS[change.action] ?? ''}${identity(change)}`);
  const more = changes.length - shown.length;
  return `${shown.join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}

function asJson(entry: HistoryEntry): unknown {
  const changes = entry.changes.map(({ action, ...ref }) => ({ ...ref, action: Change_Action[action]?.toLowerCase() }));
  return { ...entry, at: instant(entry.atMs), changes };
}

export function rollbackCommand(): Command {
  const command = new Command('rollback')
    .description(
      'Bring every object back to how it stood after a revision, as one revision more. What sources such as Kubernetes own is not touched.',
    )
    .argument('<revision>', 'of weft history', wholeNumber(15))
    .option('--dry-run', 'say what would change; change nothing')
    .option('--wait', 'return when every live node runs on the new revision')
    .addOption(timeoutOption())
    .action(async (revision: number, flags: RollbackFlags, self: Command) => rollback(revision, flags, contextOf(self)));
  return examples(
    command,
    ['weft rollback 12 --dry-run', 'what would change'],
    ['weft rollback 12 --wait', 'in force on every node when it returns'],
  );
}

async function rollback(revision: number, flags: RollbackFlags, context: Context): Promise<void> {
  await withController(context.controller, async (controller) => {
    const answer = await controller.rollback(revision, flags.dryRun === true);
    const changed = answer.changes.filter(({ action }) => action !== Change_Action.UNCHANGED);
    printChanges(changed, flags.dryRun === true ? ' (dry run)' : '', context);
    if (changed.length === 0) context.print(`all objects stand as they did after revision ${revision}`);
    if (flags.wait === true && flags.dryRun !== true && changed.length > 0)
      await waitForNodes(controller, answer.revision, flags.timeout, context);
  });
}
