import { expect, test } from '@jest/globals';
import { EVERYTHING } from '../interest/interest.js';
import { type Push, SharedPushes } from './push.js';
import { SnapshotTurns } from './snapshot-turns.js';

function push(nonce: number, bytes: number): Push {
  return { nonce, revision: 1, interest: EVERYTHING, full: true, keys: [], chunks: [], bytes };
}

test('pushes are made once, until they are too large together: then the oldest is made again', () => {
  const pushes = new SharedPushes(100);
  let made = 0;
  const get = (way: string, bytes: number): number => pushes.get(way, () => push(++made, bytes)).nonce;
  expect([get('a', 40), get('b', 40), get('a', 40)]).toEqual([1, 2, 1]);
  expect(get('c', 200)).toBe(3);
  expect([get('c', 200), get('a', 40)]).toEqual([3, 4]);
  pushes.clear();
  expect(get('a', 40)).toBe(5);
});

class Timers {
  readonly #pending = new Set<() => void>();
  now(): number {
    return 0;
  }
  after(_: number, fire: () => void): () => void {
    this.#pending.add(fire);
    return () => void this.#pending.delete(fire);
  }
  fireAll(): void {
    for (const fire of [...this.#pending]) fire();
  }
}

test('snapshots have turns; one that was given up is skipped, one that takes too long waits no longer for its end', () => {
  const timers = new Timers();
  const turns = new SnapshotTurns(timers);
  const begun: number[] = [];
  const ends = Array.from({ length: 70 }, (_, index) => turns.take(() => begun.push(index)));
  expect(begun).toHaveLength(64);
  ends[64]?.();
  ends[0]?.();
  ends[0]?.();
  expect(begun.slice(64)).toEqual([65]);
  timers.fireAll();
  expect(begun.slice(64)).toEqual([65, 66, 67, 68, 69]);
  // They ended by time: their own end gives no second place.
  for (const end of ends) end();
  const more = Array.from({ length: 65 }, (_, index) => turns.take(() => begun.push(100 + index)));
  expect(begun).toHaveLength(69 + 64);
  more[0]?.();
  expect(begun).toHaveLength(69 + 65);
});
