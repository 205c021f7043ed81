import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { unifiedDiff } from './text-diff.js';

test('equal texts differ in nothing', () => {
  expect(unifiedDiff('a\nb\n', 'a\nb\n')).toEqual([]);
  expect(unifiedDiff('', '')).toEqual([]);
});

test('a changed line stands with three lines around it', () => {
  const before = 'a\nb\nc\nd\ne\nf\ng\nh\ni\n';
  expect(unifiedDiff(before, before.replace('e', 'E'))).toEqual(['@@ -2,7 +2,7 @@', ' b', ' c', ' d', '-e', '+E', ' f', ' g', ' h']);
});

test('changes far from each other are hunks of their own', () => {
  const before = Array.from({ length: 30 }, (_, index) => `${index}`).join('\n');
  const hunks = unifiedDiff(before, before.replace('\n3\n', '\nx\n').replace('\n25\n', '\ny\n')).filter((line) => line.startsWith('@@'));
  expect(hunks).toEqual(['@@ -1,7 +1,7 @@', '@@ -23,7 +23,7 @@']);
});

test('a new text is all of it, one that goes too', () => {
  expect(unifiedDiff('', 'a\nb\n')).toEqual(['@@ -0,0 +1,2 @@', '+a', '+b']);
  expect(unifiedDiff('a\n', '')).toEqual(['@@ -1,1 +0,0 @@', '-a']);
});

/** As patch does it: what stands between the hunks is the old text's. */
function patched(before: string, diff: readonly string[]): string {
  const old = before.split('\n').slice(0, -1);
  const out: string[] = [];
  let at = 0;
  for (const line of diff) {
    const header = /^@@ -(\d+),(\d+) /.exec(line);
    if (header !== null) {
      const start = Number(header[1]) - (Number(header[2]) === 0 ? 0 : 1);
      while (at < start) out.push(old[at++] ?? '');
    } else if (line.startsWith('+')) out.push(line.slice(1));
    else {
      expect(old[at]).toBe(line.slice(1));
      if (line.startsWith(' ')) out.push(line.slice(1));
      at++;
    }
  }
  return [...out, ...old.slice(at)].map((line) => `${line}\n`).join('');
}

test('the old text and any diff make the new one', () => {
  const text = fc.array(fc.constantFrom('a', 'b', 'c', 'd'), { maxLength: 14 }).map((lines) => lines.map((line) => `${line}\n`).join(''));
  fc.assert(fc.property(text, text, (before, after) => expect(patched(before, unifiedDiff(before, after))).toBe(after)));
});
