// Two texts → a unified diff (as diff -u prints it). Pure. Bounded: beyond MAX_CELLS the texts are shown as replaced as a whole.

const CONTEXT = 3;
/** Of the table of common lines: some 2,000 lines changed on both sides. */
const MAX_CELLS = 4_000_000;

interface Line {
  readonly mark: ' ' | '-' | '+';
  readonly text: string;
}

/** Without file headers; empty when nothing differs. */
export function unifiedDiff(before: string, after: string): string[] {
  const lines = compareLines(linesOf(before), linesOf(after));
  return hunksOf(lines).flatMap(([from, to]) => [header(lines, from, to), ...lines.slice(from, to).map(({ mark, text }) => mark + text)]);
}

function linesOf(text: string): string[] {
  return text === '' ? [] : text.replace(/\n$/, '').split('\n');
}

function compareLines(a: readonly string[], b: readonly string[]): Line[] {
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
  const same = (texts: readonly string[]): Line[] => texts.map((text) => ({ mark: ' ', text }));
  const middle = compareMiddle(a.slice(start, a.length - end), b.slice(start, b.length - end));
  return [...same(a.slice(0, start)), ...middle, ...same(a.slice(a.length - end))];
}

/** By the longest common subsequence. */
function compareMiddle(a: readonly string[], b: readonly string[]): Line[] {
  const minus = a.map((text): Line => ({ mark: '-', text }));
  const plus = b.map((text): Line => ({ mark: '+', text }));
  if (a.length * b.length > MAX_CELLS) return [...minus, ...plus];
  const width = b.length + 1;
  const common = new Uint32Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--) {
      const here = i * width + j;
      common[here] = a[i] === b[j] ? (common[here + width + 1] ?? 0) + 1 : Math.max(common[here + width] ?? 0, common[here + 1] ?? 0);
    }
  const lines: Line[] = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    const here = i * width + j;
    const [left, right] = [minus[i], plus[j]];
    if (left !== undefined && right !== undefined && left.text === right.text) {
      lines.push({ mark: ' ', text: left.text });
      i++;
      j++;
    } else if (left !== undefined && (right === undefined || (common[here + width] ?? 0) >= (common[here + 1] ?? 0))) {
      lines.push(left);
      i++;
    } else if (right !== undefined) {
      lines.push(right);
      j++;
    }
  }
  return lines;
}

/** Ranges of lines with what surrounds them; those that touch are one. */
function hunksOf(lines: readonly Line[]): [from: number, to: number][] {
  const hunks: [number, number][] = [];
  lines.forEach(({ mark }, index) => {
    if (mark === ' ') return;
    const [from, to] = [Math.max(0, index - CONTEXT), Math.min(lines.length, index + CONTEXT + 1)];
    const last = hunks.at(-1);
    if (last !== undefined && from <= last[1]) last[1] = to;
    else hunks.push([from, to]);
  });
  return hunks;
}

function header(lines: readonly Line[], from: number, to: number): string {
  const range = (mark: '-' | '+'): string => {
    const isOf = (line: Line): boolean => line.mark === ' ' || line.mark === mark;
    const first = lines.slice(0, from).filter(isOf).length + 1;
    const count = lines.slice(from, to).filter(isOf).length;
    return `${mark}${count === 0 ? first - 1 : first},${count}`;
  };
  return `@@ ${range('-')} ${range('+')} @@`;
}
