// Jittered exponential backoff: each step doubles the ceiling, the wait is drawn from its upper half, so that a fleet which lost the
// same controller does not come back in step.
import type { Clock } from './clock.js';

export class Backoff {
  readonly #minMs: number;
  readonly #maxMs: number;
  readonly #clock: Clock;
  #ceilingMs: number;

  constructor(minMs: number, maxMs: number, clock: Clock) {
    this.#minMs = minMs;
    this.#maxMs = maxMs;
    this.#clock = clock;
    this.#ceilingMs = minMs;
  }

  nextMs(): number {
    const ceiling = this.#ceilingMs;
    this.#ceilingMs = Math.min(ceiling * 2, this.#maxMs);
    return ceiling / 2 + (this.#clock.random() * ceiling) / 2;
  }

  reset(): void {
    this.#ceilingMs = this.#minMs;
  }
}
