// When to compile: at once after quiet, so that an apply reaches the nodes without delay; under a storm after 50 ms of quiet, 1 s at most.
import type { Clock } from '../clock.js';

const QUIET_MS = 50;
const LONGEST_MS = 1_000;

export class CompileSchedule {
  readonly #clock: Clock;
  readonly #compile: () => void;
  /** Of the last change, or of the compilation it led to: changes that came meanwhile are heard of after it, and were no quiet. */
  #lastBusy = Number.NEGATIVE_INFINITY;
  #firstPending = 0;
  #cancel: (() => void) | null = null;

  /** A compilation that throws is told to `failed`, and what was compiled before stays: one object that trips a bug must not end every replica. */
  constructor(clock: Clock, compile: () => void, failed: (error: unknown) => void) {
    this.#clock = clock;
    this.#compile = () => {
      try {
        compile();
      } catch (error) {
        failed(error);
      }
      this.#lastBusy = clock.now();
    };
  }

  changed(): void {
    const now = this.#clock.now();
    const wasQuiet = now - this.#lastBusy >= QUIET_MS;
    this.#lastBusy = now;
    if (this.#cancel === null) {
      if (wasQuiet) {
        this.#compile();
        return;
      }
      this.#firstPending = now;
    } else this.#cancel();
    const delay = Math.min(QUIET_MS, Math.max(0, this.#firstPending + LONGEST_MS - now));
    this.#cancel = this.#clock.after(delay, () => {
      this.#cancel = null;
      this.#compile();
    });
  }

  /** Idempotent; a pending compilation is dropped. */
  stop(): void {
    this.#cancel?.();
    this.#cancel = null;
  }
}
