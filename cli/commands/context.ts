// What every subcommand gets: where the controller is, where output goes, in which colours.
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Finding } from '../../api/gen/mesh/v1/admin.js';
import { formatFinding } from '../../api/resources/finding.js';
import { DEFAULT_CONTROLLER } from '../connection.js';
import type { Target } from '../credentials.js';
import { type Palette, palette, printable } from '../terminal.js';

export interface Context {
  readonly controller: Target;
  readonly colours: Palette;
  /** What it is made of may be what strangers said: nothing in it moves the cursor. */
  print(text: string): void;
  printError(text: string): void;
}

/** From the options of `command` and of those that it stands below. */
export function contextOf(command: Command): Context {
  return {
    // An empty variable in the environment means none.
    controller: {
      address: nearest<string>(command, 'controller') ?? DEFAULT_CONTROLLER,
      credentialsFile: nearest<string>(command, 'credentials') ?? '',
      isInsecure: nearest<boolean>(command, 'insecure') ?? false,
    },
    colours: palette(process.stdout),
    print: (text) => void process.stdout.write(`${printable(text)}\n`),
    printError: (text) => void process.stderr.write(`${printable(text)}\n`),
  };
}

/** The nearest that says one; an empty variable in the environment means none. */
function nearest<Value>(command: Command, option: string): Value | null {
  for (let each: Command | null = command; each !== null; each = each.parent) {
    const value = each.opts<Record<string, Value>>()[option];
    if (value) return value;
  }
  return null;
}

/** On standard error: what is valid and has no effect, or not the usual one. */
export function printWarnings(warnings: readonly Finding[], context: Context): void {
  for (const warning of warnings) context.printError(`warning: ${formatFinding(warning)}`);
}

/** Examples below a command's help. */
export function examples(command: Command, ...lines: readonly (readonly [example: string, meaning: string])[]): Command {
  const widest = Math.max(...lines.map(([example]) => example.length));
  return command.addHelpText(
    'after',
    `\nExamples:\n${lines.map(([example, meaning]) => `  ${example.padEnd(widest)}   # ${meaning}`).join('\n')}`,
  );
}

export interface JsonFlags {
  readonly output?: 'json';
}

export function jsonOption(): Option {
  return new Option('-o, --output <format>', 'for scripts').choices(['json']);
}

export function wholeNumber(maxDigits: number): (value: string) => number {
  return (value) => {
    if (!/^[0-9]+$/.test(value) || value.length > maxDigits) throw new InvalidArgumentError('Expected a whole number.');
    return Number(value);
  };
}

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** "500ms", "30s", "2m", "24h", "7d" → milliseconds. */
export function durationMs(value: string): number {
  const [, count, unit = ''] = /^([0-9]{1,6})(ms|s|m|h|d)$/.exec(value) ?? [];
  if (count === undefined) throw new InvalidArgumentError('Expected a duration such as 500ms, 30s, 2m, 24h or 7d.');
  return Number(count) * (UNIT_MS[unit] ?? 0);
}

/** `-f`, with one or more behind it (so a shell may write out `-f *.yaml`), given once or more. For commands without arguments of their own. */
export function filenamesOption(): Option {
  return new Option('-f, --filename <path...>', 'files, folders (recursively) or - for standard input; repeatable');
}

/** `-f`, each with a file of its own: what comes behind it are the command's arguments. */
export function filenameOption(): Option {
  return new Option('-f, --filename <path>', 'file, folder (recursively) or - for standard input; repeatable').argParser(
    (value: string, previous: readonly string[] = []) => [...previous, value],
  );
}
