// For tests: waiting for what nobody tells them. What can be told is waited for with condition.ts, without asking again and again.
import { setTimeout as delay, setImmediate } from 'node:timers/promises';
import { inspect } from 'node:util';

/** What takes a second takes ten where ten others want the core, and a whole mesh longer. */
const DEADLINE_MS = 60_000;
const PAUSE_MS = 20;

/**
 * Asks again until `isTrue` of the answer, which it returns; rejects after 60 s with the last answer and what `explain` says. Between two
 * questions this process does its own work, for what is asked may be what it does itself.
 */
export async function eventually<T>(
  ask: () => T | Promise<T>,
  isTrue: (value: T) => boolean,
  explain: () => string = () => '',
): Promise<T> {
  const deadline = performance.now() + DEADLINE_MS;
  for (;;) {
    const value = await ask();
    if (isTrue(value)) return value;
    if (performance.now() > deadline) {
      throw new Error(`not so after ${DEADLINE_MS} ms, the last answer: ${inspect(value, { depth: 6 })}\n${explain()}`);
    }
    await setImmediate();
  }
}

/** Asks every 20 ms until it holds; an error counts as "not yet". Rejects after 60 s with what was waited for, the last error, and what `explain` says. */
export async function until(what: string, holds: () => boolean | Promise<boolean>, explain: () => string = () => ''): Promise<void> {
  const deadline = performance.now() + DEADLINE_MS;
  for (let failure = ''; ; await delay(PAUSE_MS)) {
    try {
      if (await holds()) return;
    } catch (error) {
      failure = `\n${error}`;
    }
    if (performance.now() > deadline) throw new Error(`waited ${DEADLINE_MS} ms for: ${what}${failure}\n${explain()}`);
  }
}
