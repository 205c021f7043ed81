// What validation makes of one object, in a line, and tables of it: what the owners accept and refuse, case by case.
import { expect, test } from '@jest/globals';
import { KINDS, manifestKind } from '../../api/resources/kinds.js';
import { parseManifests } from '../../api/resources/parse.js';
import { NOT_ACTED_ON } from '../../api/resources/schema.js';

/** "accepted", "~ " and where it is warned of, or where it is refused. What is not acted on yet is no warning of the owner's. `body` is YAML below apiVersion and kind. */
export function verdictOf(kind: string, body: string, apiVersion?: string): string {
  const definition = KINDS.find((each) => each.kind === kind);
  if (definition === undefined) throw new Error(`no kind ${kind}`);
  const head = `apiVersion: ${apiVersion ?? definition.apiVersion}\nkind: ${manifestKind(definition)}\n`;
  const name = body.includes('metadata: {name') ? '' : 'metadata: {name: a}\n';
  const { findings, warnings } = parseManifests([{ name: 'f', content: `${head}${name}${body}\n` }]);
  const paths = (found: typeof findings): string => [...new Set(found.map(({ path }) => path))].sort().join(' ');
  if (findings.length > 0) return paths(findings);
  const warned = paths(warnings.filter(({ message }) => !message.startsWith(NOT_ACTED_ON)));
  return warned === '' ? 'accepted' : `~ ${warned}`;
}

export type Case = readonly [body: string, verdict: string];

/** A test for each. `wrap` puts the body where it belongs. */
export function cases(
  kind: string,
  table: readonly Case[],
  wrap: (body: string) => string = (body) => `spec: ${body}`,
  apiVersion?: string,
): void {
  test.each(table)(`${kind} %s: %s`, (body, verdict) => expect(verdictOf(kind, wrap(body), apiVersion)).toBe(verdict));
}
