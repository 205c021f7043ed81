// How many nodes are sent a snapshot at a time: each has a chunk of it in memory, framed for its own connection, until the transport took it.
import type { Clock } from '../clock.js';

/** More gain nothing: one core encodes for all of them. */
const AT_A_TIME = 64;
/** A node that reads more slowly goes on, and no longer keeps another one waiting. */
const LONGEST_MS = 1_000;

export class SnapshotTurns {
  readonly #clock: Clock;
  readonly #waiting = new Set<() => void>();
  #taken = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Calls `begin` now or when it is its turn; the returned function ends the turn, or the wait for it. Idempotent. */
  take(begin: () => void): () => void {
    let end = (): void => void this.#waiting.delete(start);
    const start = (): void => {
      this.#waiting.delete(start);
      this.#taken++;
      let isOver = false;
      end = () => {
        if (isOver) return;
        isOver = true;
        cancel();
        this.#taken--;
        this.#next();
      };
      const cancel = this.#clock.after(LONGEST_MS, end);
      begin();
    };
    if (this.#taken < AT_A_TIME) start();
    else this.#waiting.add(start);
    return () => end();
  }

  #next(): void {
    const [start] = this.#waiting;
    if (start !== undefined && this.#taken < AT_A_TIME) start();
  }
}
