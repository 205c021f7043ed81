// When to compile: at once after quiet, so that an apply reaches the nodes without delay; under a storm after 50 ms of quiet, 1 s at most. Quiet is time in which
// this thread had nothing to do: to one that is busy with the last push the next changes seem far apart, and compiling and pushing each alone keeps it busy.
import type { Clock } from '../clock.js';

const QUIET_MS = 50;
const LONGEST_MS = 1_000;

export class CompileSchedule {
  readonly #clock: Clock;
  readonly #idleMs: () => number;
  readonly #compile: () => void;
  /** In idle time: of the last change, or of the compilation it led to: changes that came meanwhile are heard of after it, and were no quiet. */
  #lastBusy = Number.NEGATIVE_INFINITY;
  #firstPending = 0;
  #cancel: (() => void) | null = null;

  /**
   * `idleMs`: for how long this thread has had nothing to do, since whenever. A compilation that throws is told to `failed`, and what was compiled before
   * stays: one object that trips a bug must not end every replica.
   */
  constructor(clock: Clock, idleMs: () => number, compile: () => void, failed: (error: unknown) => void) {
    this.#clock = clock;
    this.#idleMs = idleMs;
    this.#compile = () => {
      try {
        compile();
      } catch (error) {
        failed(error);
      }
      this.#lastBusy = idleMs();
    };
  }

  changed(): void {
    const wasQuiet = this.#quietMs() >= QUIET_MS;
    this.#lastBusy = this.#idleMs();
    if (this.#cancel !== null) return;
    if (wasQuiet) {
      this.#compile();
      return;
    }
    this.#firstPending = this.#clock.now();
    this.#compileLater();
  }

  /** Idempotent; a pending compilation is dropped. */
  stop(): void {
    this.#cancel?.();
    this.#cancel = null;
  }

  #quietMs(): number {
    return this.#idleMs() - this.#lastBusy;
  }

  #compileLater(): void {
    const untilQuiet = QUIET_MS - this.#quietMs();
    const untilLate = this.#firstPending + LONGEST_MS - this.#clock.now();
    const delay = Math.min(untilQuiet, untilLate);
    if (delay > 0) {
      // Timers are whole milliseconds, and may be early by less than one.
      this.#cancel = this.#clock.after(Math.ceil(delay), () => this.#compileLater());
      return;
    }
    this.#cancel = null;
    this.#compile();
  }
}
