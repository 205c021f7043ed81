import { expect, test } from '@jest/globals';
import { StableIds } from './stable-ids.js';

test('an id is given to another name only after its rest, and never while it is busy', () => {
  let now = 0;
  const busy = new Set<number>();
  const reused: number[] = [];
  const ids = new StableIds({
    capacity: 2,
    quarantineMs: 100,
    now: () => now,
    isBusy: (id) => busy.has(id),
    onReuse: (id) => reused.push(id),
  });
  expect([...ids.assign(['a', 'b'])]).toEqual([
    ['a', 0],
    ['b', 1],
  ]);
  busy.add(0);
  expect(ids.assign(['c']).has('c')).toBe(false);
  now = 100;
  expect(ids.assign(['c']).get('c')).toBe(1);
  expect(ids.assign(['c', 'd']).has('d')).toBe(false);
  busy.clear();
  expect(ids.assign(['c', 'd']).get('d')).toBe(0);
  expect(reused).toEqual([1, 0]);
});

test('a name that returns gets its id back', () => {
  const ids = new StableIds({ capacity: 3, quarantineMs: 100, now: () => 0 });
  ids.assign(['a', 'b']);
  ids.assign(['b']);
  expect(ids.assign(['x', 'a', 'b']).get('a')).toBe(0);
});
