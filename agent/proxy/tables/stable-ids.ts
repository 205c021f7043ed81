// Small integers for names that come and go, stable while the name lives. Bounded; an id is not given to another name until it has
// rested, so that counters, pools and log records which still carry it can't be taken for the new owner's.

export interface StableIdsOptions {
  /** Ids are 0 … capacity - 1. */
  readonly capacity: number;
  /** How long an id rests after its name is gone. */
  readonly quarantineMs: number;
  /** Monotonic, milliseconds. */
  readonly now: () => number;
  /** An id that is still in use somewhere rests on. */
  readonly isBusy?: (id: number) => boolean;
  /** The id changes hands: forget what was counted under it. */
  readonly onReuse?: (id: number) => void;
}

export class StableIds {
  private readonly live = new Map<string, number>();
  /** How often beyond the first a live name is held; absent: not. */
  private readonly further = new Map<string, number>();
  /** In order of release. A name that returns gets its id back. */
  private readonly resting = new Map<string, number>();
  /** By id, as far as it rests. */
  private readonly since: Float64Array;
  private next = 0;

  constructor(private readonly options: StableIdsOptions) {
    this.since = new Float64Array(options.capacity);
  }

  get capacity(): number {
    return this.options.capacity;
  }

  /**
   * Ids of `names`; live names that are not in it are released. A name for which no id is free is missing in the answer, which is good
   * until the next call.
   */
  assign(names: Iterable<string>): ReadonlyMap<string, number> {
    const wanted = new Set(names);
    for (const name of this.live.keys()) if (!wanted.has(name)) this.release(name);
    for (const name of wanted) if (!this.live.has(name)) this.hold(name);
    return this.live;
  }

  /** The name's id, its own until it is released as often as it was held; -1: none is free, and nothing is held. */
  hold(name: string): number {
    const known = this.live.get(name);
    if (known !== undefined) {
      this.further.set(name, (this.further.get(name) ?? 0) + 1);
      return known;
    }
    const id = this.acquire(name, this.options.now());
    if (id >= 0) this.live.set(name, id);
    return id;
  }

  release(name: string): void {
    const further = this.further.get(name) ?? 0;
    if (further > 1) this.further.set(name, further - 1);
    else this.further.delete(name);
    const id = this.live.get(name);
    if (further > 0 || id === undefined) return;
    this.live.delete(name);
    this.since[id] = this.options.now();
    this.resting.set(name, id);
  }

  private acquire(name: string, now: number): number {
    const own = this.resting.get(name);
    if (own !== undefined) {
      this.resting.delete(name);
      return own;
    }
    if (this.next < this.options.capacity) return this.next++;
    for (const [old, id] of this.resting) {
      if (now - this.since[id]! < this.options.quarantineMs) return -1;
      if (this.options.isBusy?.(id) === true) continue;
      this.resting.delete(old);
      this.options.onReuse?.(id);
      return id;
    }
    return -1;
  }
}
