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

test('a name that is held twice has its id until it is released twice', () => {
  const ids = new StableIds({ capacity: 1, quarantineMs: 0, now: () => 0 });
  expect([ids.hold('a'), ids.hold('a'), ids.hold('b')]).toEqual([0, 0, -1]);
  ids.release(0);
  expect(ids.hold('b')).toBe(-1);
  ids.release(0);
  expect(ids.hold('b')).toBe(0);
});
