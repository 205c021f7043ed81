// Counts the requests that reached a shop pod, and those that came more than once.
import type { ArrivalCount } from './protocol.js';

type MutableArrival = { -readonly [K in keyof ArrivalCount]: ArrivalCount[K] };

/** Request ids remembered: repetitions further apart than this go unnoticed. */
const MAX_REMEMBERED = 200_000;
const MAX_CALLERS = 1_000;

export class Arrivals {
  readonly #counts = new Map<string, MutableArrival>();
  readonly #seen = new Set<string>();

  /** `request`: "<caller>/<number>". */
  arrived(request: string, peer: string): void {
    const count = this.#count(request.split('/', 1)[0] ?? '', peer);
    if (count === null) return;
    count.arrived++;
    if (this.#seen.has(request)) count.repeated++;
    this.#seen.add(request);
    if (this.#seen.size > MAX_REMEMBERED) this.#seen.delete(this.#seen.values().next().value as string);
  }

  counts(): readonly ArrivalCount[] {
    return [...this.#counts.values()];
  }

  #count(caller: string, peer: string): MutableArrival | null {
    const key = `${caller} ${peer}`;
    let count = this.#counts.get(key);
    if (count === undefined) {
      if (this.#counts.size >= MAX_CALLERS) return null;
      count = { caller, peer, arrived: 0, repeated: 0 };
      this.#counts.set(key, count);
    }
    return count;
  }
}
