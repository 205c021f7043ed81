// What the results of one endpoint's checks add up to. Pure; knows neither time nor network.

export type Verdict = 'unknown' | 'passing' | 'failing';

export interface Thresholds {
  /** So many failures in a row make it failing, so many successes passing; 0 counts as 1. */
  readonly unhealthyThreshold: number;
  readonly healthyThreshold: number;
}

export class VerdictState {
  #verdict: Verdict;
  /** Results in a row that speak against the verdict. */
  #against = 0;

  /** The first result of an unknown endpoint decides at once: it is new, and nothing is known in its favour (as in Envoy). */
  constructor(start: Verdict) {
    this.#verdict = start;
  }

  get verdict(): Verdict {
    return this.#verdict;
  }

  /** True: the verdict is another one now. */
  add(isWell: boolean, { unhealthyThreshold, healthyThreshold }: Thresholds): boolean {
    const now: Verdict = isWell ? 'passing' : 'failing';
    if (this.#verdict === now) {
      this.#against = 0;
      return false;
    }
    this.#against++;
    const needed = this.#verdict === 'unknown' ? 1 : isWell ? healthyThreshold : unhealthyThreshold;
    if (this.#against < needed) return false;
    this.#verdict = now;
    this.#against = 0;
    return true;
  }
}
