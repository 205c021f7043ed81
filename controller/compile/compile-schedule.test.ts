import { expect, test } from '@jest/globals';
import { ManualClock } from '../testing/manual-clock.js';
import { CompileSchedule } from './compile-schedule.js';

class ThreadClock extends ManualClock {
  /** Of the thread: it had something to do all that time, and no more. */
  busyMs = 0;
  readonly idle = (): number => this.now() - this.busyMs;
}

function fail(error: unknown): never {
  throw error;
}

test('a compilation that throws is told, and the next change is compiled again', () => {
  const clock = new ThreadClock();
  const failures: unknown[] = [];
  let calls = 0;
  const compile = (): void => {
    calls++;
    throw new Error(`no ${calls}`);
  };
  const schedule = new CompileSchedule(clock, clock.idle, compile, (error) => failures.push((error as Error).message));
  schedule.changed();
  clock.advance(10);
  schedule.changed();
  clock.advance(50);
  expect(failures).toEqual(['no 1', 'no 2']);
});

function scheduled() {
  const clock = new ThreadClock();
  const compiledAt: number[] = [];
  return { clock, compiledAt, schedule: new CompileSchedule(clock, clock.idle, () => compiledAt.push(clock.now()), fail) };
}

test('the first change after quiet is compiled at once', () => {
  const { clock, compiledAt, schedule } = scheduled();
  schedule.changed();
  clock.advance(100);
  schedule.changed();
  expect(compiledAt).toEqual([0, 100]);
});

test('changes close to each other are compiled together after 50 ms of quiet', () => {
  const { clock, compiledAt, schedule } = scheduled();
  for (let change = 0; change < 4; change++) {
    schedule.changed();
    clock.advance(20);
  }
  clock.advance(1_000);
  expect(compiledAt).toEqual([0, 110]);
});

test('a storm waits no longer than a second', () => {
  const { clock, compiledAt, schedule } = scheduled();
  for (let change = 0; change < 150; change++) {
    schedule.changed();
    clock.advance(10);
  }
  expect(compiledAt.slice(0, 2)).toEqual([0, 1_010]);
});

test('what came while a long compilation ran is compiled together, not one after the other', () => {
  const clock = new ThreadClock();
  const compiledAt: number[] = [];
  const compile = (): void => {
    compiledAt.push(clock.now());
    clock.advance(400);
  };
  const schedule = new CompileSchedule(clock, clock.idle, compile, fail);
  schedule.changed();
  // Heard of only now.
  for (let change = 0; change < 8; change++) schedule.changed();
  clock.advance(1_000);
  expect(compiledAt).toEqual([0, 450]);
});

test('while the thread is busy a gap between changes is no quiet, and a change waits no longer than a second', () => {
  const { clock, compiledAt, schedule } = scheduled();
  for (let change = 0; change < 30; change++) {
    schedule.changed();
    clock.busyMs += 90;
    clock.advance(100);
  }
  expect(compiledAt).toEqual([0, 1_100, 2_100]);
});

test('nothing is compiled after the stop', () => {
  const { clock, compiledAt, schedule } = scheduled();
  schedule.changed();
  clock.advance(10);
  schedule.changed();
  schedule.stop();
  clock.advance(1_000);
  expect(compiledAt).toEqual([0]);
});
