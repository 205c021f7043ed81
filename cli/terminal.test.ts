import { expect, test } from '@jest/globals';
import { elapsed, facts, palette, plural, printable, table } from './terminal.js';

const PLAIN = palette({});
const TERMINAL = { isTTY: true };

test('columns are aligned by what is visible, numbers to the right, empty cells shown as "-"', () => {
  const { good } = palette(TERMINAL, {});
  const text = table(
    [{ title: 'NAME' }, { title: 'COUNT', align: 'right' }, { title: 'NOTE' }],
    [
      [good('a'), '5', ''],
      ['long', '1234567', 'x'],
    ],
    PLAIN,
  );
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the colours under test
  expect(text.replace(/\u001b\[\d+m/g, '').split('\n')).toEqual(['NAME    COUNT  NOTE', 'a           5  -', 'long  1234567  x']);
});

test('colour is for terminals, and never with NO_COLOR or on a dumb one', () => {
  expect(palette(TERMINAL, {}).bad('x')).toBe('\u001b[31mx\u001b[0m');
  for (const plain of [palette({ isTTY: false }, {}), palette(TERMINAL, { NO_COLOR: '1' }), palette(TERMINAL, { TERM: 'dumb' })]) {
    expect(plain.bad('x')).toBe('x');
  }
  expect(palette(TERMINAL, { NO_COLOR: '' }).bad('x')).not.toBe('x');
});

test('facts align their values', () => {
  expect(
    facts(
      [
        ['Node', 'a'],
        ['Longer', 'b'],
      ],
      PLAIN,
    ),
  ).toBe('Node:   a\nLonger: b');
});

test('times and counts read as people say them', () => {
  expect([0, 59.9, 60, 3_599, 3_600, 90_061].map(elapsed)).toEqual(['0s', '59s', '1m0s', '59m59s', '1h0m', '1d1h']);
  expect([plural(1, 'node'), plural(2, 'node')]).toEqual(['1 node', '2 nodes']);
});

test('what strangers said moves no cursor, and makes no row of a table', () => {
  expect(printable('\u001b[2J\u009b31m\r\u0007a\tb\nc é')).toBe('\\x1b[2J\\x9b31m\\x0d\\x07a\tb\nc é');
  expect(printable(palette(TERMINAL, {}).bad('x'))).toBe('\u001b[31mx\u001b[0m');
  expect(table([{ title: 'WHO' }], [['a\nann  Admin/Apply']], PLAIN)).toBe('WHO\na\\x0aann  Admin/Apply');
});
