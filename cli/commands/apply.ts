// `weft apply` and `weft delete`: send manifests or names to the controller, say what changed, wait for the nodes if asked to.
import { Command, InvalidArgumentError, Option } from 'commander';
import { type Change, Change_Action, type WaitResponse } from '../../api/gen/mesh/v1/admin.js';
import { formatFinding } from '../../api/resources/finding.js';
import { MAX_WAIT_MS } from '../../api/resources/limits.js';
import { type Controller, withController } from '../connection.js';
import { EXIT_USAGE, Failure } from '../failure.js';
import { readCheckedManifests, readManifests } from '../manifest-files.js';
import { plural } from '../terminal.js';
import { type Context, contextOf, durationMs, examples, filenamesOption, printWarnings } from './context.js';

export interface WaitFlags {
  readonly wait?: boolean;
  readonly timeout: number;
}

interface ApplyFlags extends WaitFlags {
  readonly filename: readonly string[];
  readonly dryRun?: boolean;
}

interface DeleteFlags extends WaitFlags {
  readonly filename?: readonly string[];
  readonly namespace: string;
}

const DEFAULT_TIMEOUT_MS = 30_000;

export function applyCommand(): Command {
  const command = new Command('apply')
    .description('Create or change the objects in these files: all of them in one revision, or none.')
    .addOption(filenamesOption().makeOptionMandatory())
    .option('--wait', 'return when every live node runs on the new revision')
    .addOption(timeoutOption())
    .option('--dry-run', 'validate on the controller and say what would change; change nothing')
    .action(async (flags: ApplyFlags, self: Command) => apply(flags, contextOf(self)));
  return examples(
    command,
    ['weft apply -f shop.yaml --wait', 'in force on every node when it returns'],
    ['weft apply -f manifests/ --dry-run', 'a folder: what would change'],
    ['sed s/90/50/ route.yaml | weft apply -f -', 'from standard input'],
  );
}

async function apply(flags: ApplyFlags, context: Context): Promise<void> {
  const { files, warnings } = await readCheckedManifests(flags.filename);
  printWarnings(warnings, context);
  await withController(context.controller, async (controller) => {
    const answer = await controller.apply({ files: [...files], dryRun: flags.dryRun === true });
    printWarnings(answer.warnings, context);
    if (answer.findings.length > 0) {
      throw new Failure(
        [...answer.findings.map(formatFinding), `${plural(answer.findings.length, 'mistake')}: nothing was changed`].join('\n'),
      );
    }
    printChanges(answer.changes, flags.dryRun === true ? ' (dry run)' : '', context);
    if (flags.wait === true && flags.dryRun !== true) await waitForNodes(controller, answer.revision, flags.timeout, context);
  });
}

export function deleteCommand(): Command {
  const command = new Command('delete')
    .description('Delete objects: those in these files, or one by kind and name.')
    .argument('[kind]', 'service, workload, httproute, …')
    .argument('[name]', 'its name')
    .option('-n, --namespace <namespace>', 'namespace of the name', 'default')
    .addOption(filenamesOption())
    .option('--wait', 'return when every live node runs on the new revision')
    .addOption(timeoutOption())
    .action(async (kind: string | undefined, name: string | undefined, flags: DeleteFlags, self: Command) =>
      remove(kind, name, flags, contextOf(self)),
    );
  return examples(
    command,
    ['weft delete httproute catalog -n shop', 'one object'],
    ['weft delete -f shop.yaml --wait', 'every object in the file'],
  );
}

async function remove(kind: string | undefined, name: string | undefined, flags: DeleteFlags, context: Context): Promise<void> {
  const byName = kind !== undefined && name !== undefined;
  const { filename } = flags;
  if (byName === (filename !== undefined)) throw new Failure('delete needs either KIND NAME or -f FILE', EXIT_USAGE);
  const { objectsIn, resolveKind } = await import('../kinds.js');
  const objects = byName ? [{ kind: resolveKind(kind), namespace: flags.namespace, name }] : objectsIn(await readManifests(filename ?? []));
  await withController(context.controller, async (controller) => {
    const answer = await controller.delete({ objects });
    const deleted = answer.changes.filter((change) => change.action === Change_Action.DELETED);
    printChanges(deleted, '', context);
    const gone = new Set(deleted.map(identity));
    const missing = objects.filter((object) => !gone.has(identity(object)));
    if (flags.wait === true && gone.size > 0) await waitForNodes(controller, answer.revision, flags.timeout, context);
    if (missing.length > 0) throw new Failure(missing.map((object) => `${identity(object)} was not there`).join('\n'));
  });
}

const ACTIONS: Readonly<Record<number, string>> = {
  [Change_Action.UNCHANGED]: 'unchanged',
  [Change_Action.CREATED]: 'created',
  [Change_Action.CONFIGURED]: 'configured',
  [Change_Action.DELETED]: 'deleted',
};

export function printChanges(changes: readonly Change[], suffix: string, context: Context): void {
  const { good, warn, faint } = context.colours;
  const colour = (action: Change_Action) =>
    ({ [Change_Action.CREATED]: good, [Change_Action.CONFIGURED]: warn, [Change_Action.DELETED]: warn })[action as number] ?? faint;
  for (const change of changes) {
    context.print(`${identity(change)} ${colour(change.action)(ACTIONS[change.action] ?? 'changed')}${suffix}`);
  }
}

export function identity(object: { readonly kind: string; readonly namespace: string; readonly name: string }): string {
  return `${object.kind.toLowerCase()} ${object.namespace === '' ? '' : `${object.namespace}/`}${object.name}`;
}

/** Revision 0, nothing was written: waits for the newest there is, of which what was applied is a part. */
export async function waitForNodes(controller: Controller, revision: number, timeoutMs: number, context: Context): Promise<void> {
  const began = performance.now();
  const answer = await controller.wait(revision, timeoutMs);
  const seconds = ((performance.now() - began) / 1000).toFixed(2);
  if (answer.pending.length === 0 && answer.rejected.length === 0) {
    const where = answer.acked.length === 0 ? 'no node is connected' : `in force on ${answer.acked.join(', ')}`;
    context.print(context.colours.faint(`${revisionName(revision)}: ${where} after ${seconds} s`));
    return;
  }
  throw new Failure(explainWait(revision, timeoutMs, answer));
}

function revisionName(revision: number): string {
  return revision === 0 ? 'the newest revision' : `revision ${revision}`;
}

function explainWait(revision: number, timeoutMs: number, answer: WaitResponse): string {
  const lines = answer.rejected.map(
    ({ node, rejection }) => `node ${node} refused ${rejection?.name ?? 'a resource'}: ${rejection?.error ?? 'no reason given'}`,
  );
  if (answer.pending.length > 0) lines.push(`not on ${revisionName(revision)} after ${timeoutMs / 1000} s: ${answer.pending.join(', ')}`);
  lines.push('The change itself is stored. Look at the node with `weft status NODE`.');
  return lines.join('\n');
}

export function timeoutOption(): Option {
  return new Option('--timeout <duration>', 'how long --wait waits, at most 10m: 500ms, 30s, 2m')
    .argParser(waitMs)
    .default(DEFAULT_TIMEOUT_MS, '30s');
}

function waitMs(value: string): number {
  const ms = durationMs(value);
  if (ms === 0 || ms > MAX_WAIT_MS) throw new InvalidArgumentError('Expected at most 10m, and more than nothing.');
  return ms;
}
