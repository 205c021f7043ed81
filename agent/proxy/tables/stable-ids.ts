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

const NONE = -1;

export class StableIds {
  /** Of names that are held, and of those that rest: a name that returns gets its id back. */
  private readonly idOf = new Map<string, number>();
  private readonly nameOf: string[] = [];
  /** By id: by how many it is held; 0: it rests, or was never given. */
  private readonly holders: Int32Array;
  private readonly restsSince: Float64Array;
  /** Those that rest as a list, in order of release. */
  private readonly before: Int32Array;
  private readonly after: Int32Array;
  private first = NONE;
  private last = NONE;
  private next = 0;
  private assigned = new Map<string, number>();

  constructor(private readonly options: StableIdsOptions) {
    this.holders = new Int32Array(options.capacity);
    this.restsSince = new Float64Array(options.capacity);
    this.before = new Int32Array(options.capacity);
    this.after = new Int32Array(options.capacity);
  }

  get capacity(): number {
    return this.options.capacity;
  }

  /**
   * Ids of `names`; those of the call before that are not in it are released. A name for which no id is free is missing in the answer, which is
   * good until the next call.
   */
  assign(names: Iterable<string>): ReadonlyMap<string, number> {
    const wanted = new Set(names);
    for (const [name, id] of this.assigned) {
      if (wanted.has(name)) continue;
      this.assigned.delete(name);
      this.release(id);
    }
    for (const name of wanted) {
      if (this.assigned.has(name)) continue;
      const id = this.hold(name);
      if (id >= 0) this.assigned.set(name, id);
    }
    return this.assigned;
  }

  /** The name's id, its own until it is released as often as it was held; -1: none is free, and nothing is held. */
  hold(name: string): number {
    let id = this.idOf.get(name);
    if (id === undefined) {
      id = this.unused();
      if (id < 0) return id;
      this.idOf.set(name, id);
      this.nameOf[id] = name;
    } else if (this.holders[id] === 0) {
      this.unlink(id);
    }
    this.holders[id]!++;
    return id;
  }

  release(id: number): void {
    if (--this.holders[id]! > 0) return;
    this.restsSince[id] = this.options.now();
    this.before[id] = this.last;
    this.after[id] = NONE;
    if (this.last === NONE) this.first = id;
    else this.after[this.last] = id;
    this.last = id;
  }

  private unused(): number {
    if (this.next < this.options.capacity) return this.next++;
    const now = this.options.now();
    for (let id = this.first; id !== NONE; id = this.after[id]!) {
      if (now - this.restsSince[id]! < this.options.quarantineMs) return NONE;
      if (this.options.isBusy?.(id) === true) continue;
      this.unlink(id);
      this.idOf.delete(this.nameOf[id]!);
      this.options.onReuse?.(id);
      return id;
    }
    return NONE;
  }

  private unlink(id: number): void {
    const before = this.before[id]!;
    const after = this.after[id]!;
    if (before === NONE) this.first = after;
    else this.after[before] = after;
    if (after === NONE) this.last = before;
    else this.before[after] = before;
  }
}
