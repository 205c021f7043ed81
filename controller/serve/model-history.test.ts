import { expect, test } from '@jest/globals';
import { ResourceType } from '../../api/gen/mesh/v1/model.js';
import { ModelHistory } from './model-history.js';

function service(name: string, body = name) {
  return { type: ResourceType.SERVICE, name, body: Buffer.from(body), units: [name] };
}

function told(history: ModelHistory, from: number | null) {
  const { full, revision, resources, removed } = history.since(from);
  return { full, revision, changed: resources.map(({ name }) => name), removed: removed.map(({ name }) => name) };
}

test('a delta is what changed since, each resource once and as it is now', () => {
  const history = new ModelHistory();
  history.restart(10, [service('a'), service('b')]);
  expect(history.advance(11, [service('a', '2'), service('b')], true)).toBe(1);
  expect(history.advance(12, [service('a', '3'), service('b'), service('c')], true)).toBe(2);
  expect(told(history, 10)).toEqual({ full: false, revision: 12, changed: ['a', 'c'], removed: [] });
  expect(history.since(10).resources[0]?.body.toString()).toBe('3');
  expect(told(history, 11)).toEqual({ full: false, revision: 12, changed: ['a', 'c'], removed: [] });
});

test('a removal is remembered, and forgotten when the resource is back', () => {
  const history = new ModelHistory();
  history.restart(10, [service('a'), service('b')]);
  history.advance(11, [service('b')], false);
  expect(told(history, 10)).toMatchObject({ changed: [], removed: ['a'] });
  history.advance(12, [service('a'), service('b')], false);
  expect(told(history, 10)).toMatchObject({ changed: ['a'], removed: [] });
});

test('a revision that changes nothing advances where somebody waits for it, and else what was made of it is known alone', () => {
  const history = new ModelHistory();
  history.restart(10, [service('a')]);
  expect(history.advance(11, [service('a')], true)).toBe(0);
  expect(told(history, 10)).toEqual({ full: false, revision: 11, changed: [], removed: [] });
  expect(history.advance(12, [service('a')], false)).toBe(0);
  expect(told(history, 10)).toEqual({ full: false, revision: 11, changed: [], removed: [] });
  expect(history.compiled).toBe(12);
  history.advance(13, [service('a', '2')], false);
  expect(told(history, 11)).toEqual({ full: false, revision: 13, changed: ['a'], removed: [] });
});

test('a receiver that is ahead of the model is not taken back', () => {
  const history = new ModelHistory();
  history.restart(10, [service('a')]);
  expect(told(history, 15)).toEqual({ full: false, revision: 15, changed: [], removed: [] });
});

test('from before the model’s past, or from nothing, everything is told', () => {
  const history = new ModelHistory();
  history.restart(10, [service('a')]);
  expect(told(history, 9)).toEqual({ full: true, revision: 10, changed: ['a'], removed: [] });
  expect(told(history, null)).toEqual({ full: true, revision: 10, changed: ['a'], removed: [] });
});

test('the past is bounded: what falls out of it is told in full', () => {
  const history = new ModelHistory();
  history.restart(1, []);
  for (let revision = 2; revision <= 1_100; revision++) history.advance(revision, [service('a', String(revision))], false);
  expect(told(history, 50).full).toBe(true);
  expect(told(history, 500)).toEqual({ full: false, revision: 1_100, changed: ['a'], removed: [] });
});
