// Text for a terminal: aligned tables and colour. Colour only on a TTY, never with NO_COLOR (https://no-color.org). No I/O.
import { stripVTControlCharacters } from 'node:util';

export interface Palette {
  good(text: string): string;
  bad(text: string): string;
  warn(text: string): string;
  faint(text: string): string;
  strong(text: string): string;
}

const plain = (text: string) => text;
const ansi = (code: number) => (text: string) => (text === '' ? '' : `\u001b[${code}m${text}\u001b[0m`);

const COLOURED: Palette = { good: ansi(32), bad: ansi(31), warn: ansi(33), faint: ansi(2), strong: ansi(1) };
const PLAIN: Palette = { good: plain, bad: plain, warn: plain, faint: plain, strong: plain };

export function palette(stream: { readonly isTTY?: boolean }, environment: NodeJS.ProcessEnv = process.env): Palette {
  const wanted = stream.isTTY === true && (environment.NO_COLOR ?? '') === '' && environment.TERM !== 'dumb';
  return wanted ? COLOURED : PLAIN;
}

export interface Column {
  readonly title: string;
  /** Numbers read best from the right. */
  readonly align?: 'right';
}

/** Lines without trailing blanks, columns two blanks apart; cells may be coloured. An empty cell shows as "-". */
export function table(columns: readonly Column[], rows: readonly (readonly string[])[], colours: Palette): string {
  // A cell may be what a stranger said: it makes no line of its own.
  const cells = rows.map((row) => row.map((cell) => cell.replaceAll('\n', escaped)));
  const all = [columns.map((column) => column.title), ...cells];
  const widths = columns.map((_, index) => Math.max(...all.map((row) => width(row[index] ?? ''))));
  const line = (row: readonly string[]) =>
    columns
      .map((column, index) => pad(row[index] || '-', widths[index] ?? 0, column.align))
      .join('  ')
      .trimEnd();
  return all.map((row, index) => (index === 0 ? colours.faint(line(row)) : line(row))).join('\n');
}

function pad(cell: string, to: number, align: 'right' | undefined): string {
  const blanks = ' '.repeat(Math.max(0, to - width(cell)));
  return align === 'right' ? blanks + cell : cell + blanks;
}

function width(cell: string): number {
  return cell === '' ? 1 : stripVTControlCharacters(cell).length;
}

/** What strangers said, without what moves the cursor: those characters as "\\x1b". Lines and colours stay. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: it is these that are looked for.
  return text.replace(/\x1b\[\d{1,2}m|[\0-\x08\x0b-\x1f\x7f-\x9f]/g, (each) => (each.length > 1 ? each : escaped(each)));
}

function escaped(character: string): string {
  return `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`;
}

/** Names and values below each other, the values aligned. */
export function facts(pairs: readonly (readonly [name: string, value: string])[], colours: Palette): string {
  const widest = Math.max(...pairs.map(([name]) => name.length));
  return pairs.map(([name, value]) => `${colours.faint(`${name}:`.padEnd(widest + 2))}${value}`).join('\n');
}

/** "45s", "3m12s", "5h3m", "12d4h". */
export function elapsed(seconds: number): string {
  const whole = Math.floor(seconds);
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m${whole % 60}s`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)}h${Math.floor((whole % 3600) / 60)}m`;
  return `${Math.floor(whole / 86_400)}d${Math.floor((whole % 86_400) / 3600)}h`;
}

/** "2026-11-21T15:20:00Z". */
export function instant(atMs: number): string {
  return new Date(atMs).toISOString().replace(/\.\d+Z$/, 'Z');
}

/** "1 node", "2 nodes". */
export function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
