// `weft check`: whether this host can run the mesh, and what stands in its way, told with what to do. Prints; the checks are agent/check.
import { Command, Option } from 'commander';
import { Failure } from '../failure.js';
import { type Palette, plural } from '../terminal.js';
import { contextOf, examples, jsonOption } from './context.js';

type Verdict = 'good' | 'warning' | 'bad' | 'unknown';

interface Section {
  readonly title: string;
  readonly checks: readonly { readonly title: string; readonly verdict: Verdict; readonly detail: string; readonly remedy: string }[];
}

export interface CheckOptions {
  readonly bpfDir: string;
  readonly meshNetns: string;
  readonly ports: readonly number[];
}

/** What the agent binds unless told otherwise: status and metrics. */
const AGENT_PORTS = [15_011, 15_020];
const SIGNS: Readonly<Record<Verdict, string>> = { good: '✓', warning: '!', bad: '✗', unknown: '?' };

/** `run` reads the host; it comes from outside because the CLI does not import the agent. */
export function checkCommand(run: (options: CheckOptions) => Promise<readonly Section[]>): Command {
  const command = new Command('check')
    .description('Check this host: privileges, mounts, kernel, and what conflicts with redirection. Run it as the agent runs: as root.')
    .addOption(new Option('--bpf-dir <path>', 'as the agent’s').env('WEFT_BPF_DIR').default('/sys/fs/bpf/weft'))
    .addOption(new Option('--mesh-netns <path>', 'as the agent’s').env('WEFT_MESH_NETNS').default('/run/netns/weft-mesh'))
    .addOption(jsonOption())
    .action(async (flags: { bpfDir: string; meshNetns: string; output?: string }, self: Command) => {
      const { print, colours } = contextOf(self);
      const sections = await run({ bpfDir: flags.bpfDir, meshNetns: flags.meshNetns, ports: AGENT_PORTS });
      print(
        flags.output === 'json' ? JSON.stringify(sections, null, 2) : sections.map((section) => sectionText(section, colours)).join('\n\n'),
      );
      const all = sections.flatMap(({ checks }) => checks);
      const count = (verdict: Verdict) => all.filter((check) => check.verdict === verdict).length;
      if (count('bad') > 0) throw new Failure(`\n${plural(count('bad'), 'thing')} to mend before this host can be captured in full.`);
      if (flags.output !== 'json')
        print(`\n${colours.good('This host can run Weft.')}${count('warning') > 0 ? ` ${plural(count('warning'), 'warning')}.` : ''}`);
    });
  return examples(
    command,
    ['sudo weft check', 'this host'],
    ['sudo weft check -o json', 'for a script; exit code 1: something must be mended'],
  );
}

function sectionText({ title, checks }: Section, colours: Palette): string {
  const lines = checks.flatMap(({ verdict, title: name, detail, remedy }) => {
    const paint = { good: colours.good, warning: colours.warn, bad: colours.bad, unknown: colours.warn }[verdict];
    const line = `  ${paint(SIGNS[verdict])} ${name}: ${verdict === 'good' ? colours.faint(detail) : detail}`;
    return remedy === '' ? [line] : [line, `      ${colours.faint('→')} ${remedy}`];
  });
  return [colours.strong(title), ...lines].join('\n');
}
