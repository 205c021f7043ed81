// What a filter's hook did, in words, for operators.
import type { Outcome } from './outcome.js';

const SIGNS: Readonly<Record<string, string>> = { '-': 'remove', '=': 'set', '+': 'add', ':': 'to' };
/** Of a body. */
const MAX_CHARACTERS = 1_024;

/** What it changed or answered, a line each; of one that failed, why. */
export function outcomeInWords(outcome: Outcome): string[] {
  if (outcome.kind === 'failed') return [`failed (${outcome.why}): ${outcome.detail}`];
  if (outcome.kind === 'respond') {
    const { status, lines, body } = outcome;
    return [`answers ${status}`, ...changesInWords(lines), ...(body.length === 0 ? [] : [bodyInWords(body)])];
  }
  const changes = [...changesInWords(outcome.changes), ...(outcome.body === null ? [] : [bodyInWords(outcome.body)])];
  return outcome.reroutes ? [...changes, 'routed anew'] : changes;
}

function changesInWords(lines: string): string[] {
  return lines.split('\n').flatMap((line) => (line === '' ? [] : [`${SIGNS[line[0] ?? ''] ?? ''} ${line.slice(1)}`]));
}

function bodyInWords(body: Buffer): string {
  const text = body.toString();
  return text.length <= MAX_CHARACTERS
    ? `body ${JSON.stringify(text)}`
    : `body of ${body.length} bytes, ${JSON.stringify(text.slice(0, MAX_CHARACTERS))}…`;
}
