// What becomes of matches when there are more names than the engine takes.
import { expect, test } from '@jest/globals';
import { HttpMatch } from '../../../api/gen/mesh/v1/model.js';
import { MAX_MATCHED_NAMES } from '../../native/engine.js';
import { Conditions } from './conditions.js';
import { ConditionWord, Subject } from './layout.js';

test('a name beyond the engine’s bound takes its own match out, and no other', () => {
  const conditions = new Conditions([]);
  const wordsOf = (name: string) => conditions.wordsOf(HttpMatch.fromPartial({ headers: [{ name, value: '1' }] }), false);
  for (let at = 0; at < MAX_MATCHED_NAMES; at++) wordsOf(`x-${at}`);
  const beyond = wordsOf('x-beyond');
  expect(beyond[ConditionWord.Bits]).toBe(0);
  expect(beyond[ConditionWord.Patterns]).toBe(1);
  expect(beyond[ConditionWord.Rest]).toBe(Subject.Nothing);
  expect(wordsOf('x-0')[ConditionWord.Bits]).toBe(1);
  expect(conditions.predicates.items).toHaveLength(MAX_MATCHED_NAMES);
  expect([...conditions.warnings]).toEqual([`header x-beyond is not matched: matches are by ${MAX_MATCHED_NAMES} names at most`]);
});
