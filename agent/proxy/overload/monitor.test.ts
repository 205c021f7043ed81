// What the monitor reads, and when.
import { expect, test } from '@jest/globals';
import { pino } from 'pino';
import { OverloadMonitor } from './monitor.js';

test('event loops are looked at each time, memory and descriptors every fifth, for their files cost half a millisecond, but each time when they are short', () => {
  const seen = { loops: 0, memory: 0, descriptors: 0 };
  const pool = { tellOverload: () => [++seen.loops] };
  const thresholds = { levels: [0.8, 0.9, 0.95], loopDelayMs: 1_000 };
  const read = {
    memory: () => ({ used: ++seen.memory, limit: 2 }),
    descriptors: () => ({ used: ++seen.descriptors, limit: 100 }),
  };
  const monitor = new OverloadMonitor(pool, 1, thresholds, pino({ level: 'silent' }), read);
  const pressureOfMemory = (): number => monitor.report().pressures.find(({ resource }) => resource === 'memory')!.pressure;
  monitor.look(0);
  expect([seen, pressureOfMemory()]).toEqual([{ loops: 1, memory: 1, descriptors: 1 }, 0.5]);
  for (let at = 100; at < 500; at += 100) monitor.look(at);
  expect([seen, pressureOfMemory()]).toEqual([{ loops: 5, memory: 1, descriptors: 1 }, 0.5]);
  monitor.look(500);
  expect([seen, pressureOfMemory()]).toEqual([{ loops: 6, memory: 2, descriptors: 2 }, 1]);
  // Memory is short now: the rest could be gone before the next fifth.
  monitor.look(600);
  monitor.look(700);
  expect(seen).toEqual({ loops: 8, memory: 4, descriptors: 2 });
});
