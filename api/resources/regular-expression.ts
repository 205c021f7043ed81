// Regular expressions as users write them: RE2's, for the time they take is linear in what they are run on. Says what is wrong with one.
import { RE2JS } from 're2js';

/** Null, or why it is none, in words behind "expected a regular expression of RE2: ". */
export function regularExpressionFault(expression: string): string | null {
  const plain = expression.replace(/\\\\/g, '');
  if (/\(\?<?[=!]/.test(plain)) return 'it has no lookahead and lookbehind';
  if (/\\[1-9]/.test(plain)) return 'it has no references back';
  try {
    RE2JS.compile(expression);
    return null;
  } catch (error) {
    return (error as Error).message.replace(/^error parsing regexp: /, '');
  }
}
