// How a mistake is told to an operator: the text of a Finding, and field paths. Decides nothing about validity.
import type { Finding } from '../gen/mesh/v1/admin.js';

export type { Finding };

/** Segments of a field path, as zod and the YAML tree count them: array indices from 0. */
export type FieldPath = readonly (string | number)[];

const PLAIN_SEGMENT = /^[A-Za-z_][A-Za-z0-9_-]*$/;

/** "spec.rules[0].backendRefs[1].weight"; a segment that isn't a plain name is quoted: `metadata.labels["a/b"]`. */
export function formatFieldPath(path: FieldPath): string {
  let text = '';
  for (const segment of path) {
    if (typeof segment === 'number') text += `[${segment}]`;
    else if (PLAIN_SEGMENT.test(segment)) text += text === '' ? segment : `.${segment}`;
    else text += `[${JSON.stringify(segment)}]`;
  }
  return text;
}

/** "file:line:column: path: message"; what isn't known (no text behind the object, no field) is left out. */
export function formatFinding(finding: Finding): string {
  const position = finding.line === 0 ? finding.file : `${finding.file}:${finding.line}:${finding.column}`;
  return [position, finding.path, finding.message].filter((part) => part !== '').join(': ');
}
