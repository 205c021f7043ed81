// Regular expressions as users write them: RE2's, for the time they take is linear in what they are run on. Says what is wrong with one.
import { RE2JS } from 're2js';

/**
 * Instructions. What a text costs grows with them, and repetitions are written out: "(.{1000}){9}" would have nine thousand. Without
 * repetitions an expression of 1,024 characters has about as many.
 */
const MAX_PROGRAM = 2_048;

/** Null, or why it is none, in words behind "expected a regular expression of RE2: ". */
export function regularExpressionFault(expression: string): string | null {
  const plain = expression.replace(/\\\\/g, '');
  if (/\(\?<?[=!]/.test(plain)) return 'it has no lookahead and lookbehind';
  if (/\\[1-9]/.test(plain)) return 'it has no references back';
  try {
    const size = RE2JS.compile(expression).programSize();
    return size <= MAX_PROGRAM ? null : `it compiles to ${size} instructions, at most ${MAX_PROGRAM}: repeat less`;
  } catch (error) {
    return (error as Error).message.replace(/^error parsing regexp: /, '');
  }
}
