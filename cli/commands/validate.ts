// `weft validate`: the controller's own checks of manifests, without a controller.
import { Command } from 'commander';
import { formatFinding } from '../../api/resources/finding.js';
import { Failure } from '../failure.js';
import { readCheckedManifests } from '../manifest-files.js';
import { plural } from '../terminal.js';
import { contextOf, examples, filenamesOption, printWarnings } from './context.js';

export function validateCommand(): Command {
  const command = new Command('validate')
    .description('Check manifests offline, with the checks that apply makes. References to objects in no file are not followed.')
    .addOption(filenamesOption().makeOptionMandatory())
    .action(async ({ filename }: { filename: string[] }, self: Command) => {
      const { files, warnings: ofModules } = await readCheckedManifests(filename);
      const { checkManifests } = await import('../kinds.js');
      const { findings, warnings, count } = checkManifests(files);
      const context = contextOf(self);
      printWarnings([...ofModules, ...warnings], context);
      if (findings.length > 0) throw new Failure([...findings.map(formatFinding), plural(findings.length, 'mistake')].join('\n'));
      const but = warnings.length === 0 ? '' : `, but for ${plural(warnings.length, 'warning')}`;
      context.print(`${plural(count, 'object')} in ${plural(files.length, 'file')}: all good${but}`);
    });
  return examples(
    command,
    ['weft validate -f manifests/', 'every manifest below a folder'],
    ['weft validate -f - < route.yaml', 'from standard input'],
  );
}
