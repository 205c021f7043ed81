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
  /** In order of release. A name that returns gets its id back. */
  private readonly resting = new Map<string, { readonly id: number; readonly since: number }>();
  private next = 0;

  constructor(private readonly options: StableIdsOptions) {}

  /**
   * Ids of `names`; live names that are not in it are released. A name for which no id is free is missing in the answer, which is good
   * until the next call.
   */
  assign(names: Iterable<string>): ReadonlyMap<string, number> {
    const wanted = new Set(names);
    const now = this.options.now();
    for (const [name, id] of this.live) {
      if (wanted.has(name)) continue;
      this.live.delete(name);
      this.resting.set(name, { id, since: now });
    }
    for (const name of wanted) {
      if (this.live.has(name)) continue;
      const id = this.acquire(name, now);
      if (id !== null) this.live.set(name, id);
    }
    return this.live;
  }

  private acquire(name: string, now: number): number | null {
    const own = this.resting.get(name);
    if (own !== undefined) {
      this.resting.delete(name);
      return own.id;
    }
    if (this.next < this.options.capacity) return this.next++;
    for (const [old, { id, since }] of this.resting) {
      if (now - since < this.options.quarantineMs) return null;
      if (this.options.isBusy?.(id) === true) continue;
      this.resting.delete(old);
      this.options.onReuse?.(id);
      return id;
    }
    return null;
  }
}
