// Regular expressions as users write them: RE2's, for the time they take is linear in what they are run on. Says what is wrong with one.
import { RE2JS } from 're2js';

/**
 * Instructions. What a text costs grows with them, and repetitions are written out: "(.{1000}){9}" would have nine thousand. Without
 * repetitions an expression of 1,024 characters has about as many.
 */
const MAX_PROGRAM = 2_048;
/** What alternatives have in common is compiled once, so that less may come of it. */
const MAX_WRITTEN = 4 * MAX_PROGRAM;

/** Null, or why it is none, in words behind "expected a regular expression of RE2: ". */
export function regularExpressionFault(expression: string): string | null {
  const plain = expression.replace(/\\\\/g, '');
  if (/\(\?<?[=!]/.test(plain)) return 'it has no lookahead and lookbehind';
  if (/\\[1-9]/.test(plain)) return 'it has no references back';
  const written = writtenOut(expression);
  if (written > MAX_WRITTEN) return `it compiles to about ${written} instructions, at most ${MAX_PROGRAM}: repeat less`;
  try {
    const size = RE2JS.compile(expression).programSize();
    return size <= MAX_PROGRAM ? null : `it compiles to ${size} instructions, at most ${MAX_PROGRAM}: repeat less`;
  } catch (error) {
    return (error as Error).message.replace(/^error parsing regexp: /, '');
  }
}

const OPENING = String.raw`\((?:\?(?:P?<\w+>|[a-zA-Z-]*:))?`;
const ATOM = String.raw`\\Q[^]*?(?:\\E|$)|\\(?:[pPx]\{[^}]*\}|[^])|\[\^?\]?(?:\[:\^?[a-z]+:\]|\\[^]|[^\]\\])*\]|[^]`;
const TOKEN = new RegExp(String.raw`\(\?[a-zA-Z-]*\)|(${OPENING})|(\))|\{(\d{1,4})(?:,(\d{0,4}))?\}|[*+?|]|(${ATOM})`, 'g');

/** About how many instructions, told before any is made: compiling takes as long as there are. */
function writtenOut(expression: string): number {
  const outer: number[] = [];
  let size = 0;
  let last = 0;
  for (const [, opening, closing, least, most, atom] of expression.matchAll(TOKEN)) {
    if (opening !== undefined) {
      outer.push(size);
      size = 0;
    } else if (closing !== undefined) {
      last = size;
      size += outer.pop() ?? 0;
    } else if (least !== undefined) {
      const repeated = last * Number(most || least);
      size += repeated - last;
      last = repeated;
    } else if (atom !== undefined) {
      last = 1;
      size++;
    }
  }
  return outer.reduce((sum, each) => sum + each, size);
}
