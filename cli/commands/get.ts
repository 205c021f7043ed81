// `weft get`: stored objects as a table, YAML or JSON.
import { Command, Option } from 'commander';
import { withController } from '../connection.js';
import { Failure } from '../failure.js';
import { columnsOf, rowOf, type StoredObject } from '../object-table.js';
import { table } from '../terminal.js';
import { type Context, contextOf, examples } from './context.js';

interface GetFlags {
  readonly namespace?: string;
  readonly output?: 'yaml' | 'json' | 'wide';
}

export function getCommand(): Command {
  const command = new Command('get')
    .description('Show stored objects of a kind.')
    .argument('<kind>', 'service, workload, httproute, …')
    .argument('[name]', 'only this one')
    .addOption(new Option('-n, --namespace <namespace>', 'only in this namespace (default: all)').conflicts('allNamespaces'))
    // The default; taken because operators type it.
    .option('-A, --all-namespaces', 'in all namespaces')
    .addOption(new Option('-o, --output <format>', 'how to show them').choices(['yaml', 'json', 'wide']))
    .action(async (kind: string, name: string | undefined, flags: GetFlags, self: Command) =>
      get(kind, name ?? '', flags, contextOf(self)),
    );
  return examples(
    command,
    ['weft get httproutes', 'every route of every namespace'],
    ['weft get service catalog -n shop -o yaml', 'one object, to edit and apply again'],
    ['weft get workloads -o json', 'for a script: {"items": […]}'],
  );
}

async function get(kind: string, name: string, { namespace = '', output }: GetFlags, context: Context): Promise<void> {
  // Schemas and YAML load here, not with every command.
  const [{ resolveKind }, { stringify }] = await Promise.all([import('../kinds.js'), import('yaml')]);
  const canonical = resolveKind(kind);
  const answer = await withController(context.controller, (controller) => controller.get({ kind: canonical, namespace, name }));
  const objects = answer.objects.map((text) => JSON.parse(text) as StoredObject);
  const where = namespace === '' ? 'in any namespace' : `in namespace ${namespace}`;
  if (name !== '' && objects.length === 0) throw new Failure(`no ${canonical} "${name}" ${where}`);
  const single = name !== '' && objects.length === 1;
  switch (output) {
    case 'json':
      return context.print(JSON.stringify(single ? objects[0] : { items: objects }, null, 2));
    case 'yaml':
      return context.print(objects.map((object) => stringify(object).trimEnd()).join('\n---\n'));
    default: {
      if (objects.length === 0) return context.printError(`no ${canonical} ${where}`);
      const wide = output === 'wide';
      context.print(
        table(
          columnsOf(canonical, wide),
          objects.map((object) => rowOf(canonical, object, wide)),
          context.colours,
        ),
      );
    }
  }
}
