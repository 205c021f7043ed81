// zod's issues → what an operator reads: which field, which part of it, what was expected. No positions here.
import type { z } from 'zod';
import type { FieldPath } from './finding.js';
import { describe, IS_WARNING, UNKNOWN_FIELD_SEPARATOR } from './schema.js';
import type { Part } from './yaml-tree.js';

export interface Explained {
  readonly path: FieldPath;
  readonly part: Part;
  readonly message: string;
  /** The value is valid, and something about it is to be known. */
  readonly isWarning?: boolean;
}

type Issue = z.core.$ZodIssue;

/** One issue is one mistake, but for unknown fields, which zod gathers by object. */
export function explainIssue(issue: Issue): Explained[] {
  const path = issue.path.map((segment) => (typeof segment === 'number' ? segment : String(segment)));
  if (issue.code === 'unrecognized_keys') {
    const messages = issue.message.split(UNKNOWN_FIELD_SEPARATOR);
    return issue.keys.map((key, index) => ({ path: [...path, key], part: 'key', message: messages[index] ?? 'unknown field' }));
  }
  if (issue.code === 'custom' && issue.params?.[IS_WARNING] === true)
    return [{ path, part: 'value', message: issue.message, isWarning: true }];
  const message = explainMessage(issue);
  if (message.startsWith('required')) return [{ path, part: 'parent', message }];
  return [{ path, part: issue.code === 'custom' && issue.params?.atKey === true ? 'key' : 'value', message }];
}

function explainMessage(issue: Issue): string {
  const isMissing = issue.input === undefined && issue.code !== 'custom';
  switch (issue.code) {
    case 'invalid_type':
      return isMissing ? `required: ${article(issue.expected)}` : explainType(issue);
    case 'invalid_value': {
      if (isMissing) return `required: ${oneOf(issue.values)}`;
      return isDefaultMessage(issue) ? `expected ${oneOf(issue.values)}, found ${describe(issue.input)}` : issue.message;
    }
    case 'invalid_union':
      return isMissing ? 'required' : issue.message;
    case 'too_small':
      return isDefaultMessage(issue) ? `expected at least ${issue.minimum} ${unit(issue.origin, issue.minimum)}` : issue.message;
    case 'too_big':
      return isDefaultMessage(issue) ? `expected at most ${issue.maximum} ${unit(issue.origin, issue.maximum)}` : issue.message;
    default:
      return issue.message;
  }
}

function explainType(issue: Extract<Issue, { code: 'invalid_type' }>): string {
  if (!isDefaultMessage(issue)) return issue.message;
  const isUnquoted = issue.expected === 'string' && (typeof issue.input === 'number' || typeof issue.input === 'boolean');
  return `expected ${article(issue.expected)}, found ${describe(issue.input)}${isUnquoted ? ': write it in quotes' : ''}`;
}

/** zod's own wording begins so; the schemas' begins with "expected" or "not supported". */
function isDefaultMessage(issue: Issue): boolean {
  return /^(Invalid|Too) /.test(issue.message);
}

const ARTICLES: Readonly<Record<string, string>> = {
  array: 'a list',
  object: 'an object',
  record: 'an object',
  string: 'a string',
  boolean: 'true or false',
  number: 'a number',
  int: 'a whole number',
};

function article(expected: string): string {
  return ARTICLES[expected] ?? expected;
}

function oneOf(values: readonly unknown[]): string {
  const shown = values.map((value) => (typeof value === 'string' ? value : String(value)));
  return shown.length === 1 ? (shown[0] ?? '') : `one of ${shown.join(', ')}`;
}

function unit(origin: string, count: number | bigint): string {
  const noun = origin === 'array' ? 'item' : 'character';
  return count === 1 ? noun : `${noun}s`;
}
