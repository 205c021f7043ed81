// Who gives way when a core is short: the workers carry traffic, all other threads of the process can wait. On a machine with few cores
// the table build of a revision, or V8 compiling and collecting on its own threads, else holds up every request for milliseconds.
import { readdirSync } from 'node:fs';
import { setPriority } from 'node:os';
import { setFlagsFromString } from 'node:v8';

/**
 * Nice value of all threads beside the workers: a sixth of a saturated core is left to them. Not less: revisions come into force there, what V8's
 * threads mark and sweep beforehand a collection has to wait for, and the main thread writes the access log: with a tenth (10) a quarter of its
 * lines found no room when one core did all (`npm run bench -- policy`).
 */
const BESIDE = 7;

/**
 * A scavenge is a pause of a worker's, and of 1 ms; shared out among V8's threads it waits for those, which give way to everybody. V8 reads this
 * flag at each scavenge. The like for marking it must not be told once it runs: `--no-parallel-marking` then ends the process.
 */
const SCAVENGE_ALONE = '--no-parallel-scavenge';

/** To be called before the first worker is started: every thread but this one is V8's or libuv's then. */
export function lowerV8Threads(): void {
  setFlagsFromString(SCAVENGE_ALONE);
  for (const thread of readdirSync('/proc/self/task').map(Number)) {
    if (thread !== process.pid) setNice(thread, BESIDE);
  }
}

/** Of the calling thread; one that is started then begins with its priority. */
export function giveWay(): void {
  setNice(0, BESIDE);
}

/** Without privilege what was lowered stays so, and a worker that is started then is no better than this thread. */
export function takeBack(): void {
  setNice(0, 0);
}

function setNice(thread: number, nice: number): void {
  try {
    setPriority(thread, nice);
  } catch {
    // It has ended, or may not be raised: what it is stays.
  }
}
