import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, test } from '@jest/globals';
import { COMPLETION_WORDS, DECISION_WORDS, DESCRIPTOR_WORDS } from './engine.js';

test('the workers of these tests know how long records are', async () => {
  const specs = pathToFileURL(join(process.cwd(), 'agent/native/testing/specs.mjs')).href;
  const { WORDS } = (await import(specs)) as { readonly WORDS: unknown };
  expect(WORDS).toEqual({ descriptor: DESCRIPTOR_WORDS, decision: DECISION_WORDS, completion: COMPLETION_WORDS });
});
