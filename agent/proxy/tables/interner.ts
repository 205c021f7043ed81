// Gives equal things one index, in order of first sight. For one generation only; StableIds and Labels outlive them.

export class Interner<T> {
  private readonly indexes = new Map<string, number>();
  private readonly list: T[] = [];

  constructor(private readonly keyOf: (item: T) => string) {}

  get items(): readonly T[] {
    return this.list;
  }

  add(item: T): number {
    const key = this.keyOf(item);
    const known = this.indexes.get(key);
    if (known !== undefined) return known;
    const index = this.list.push(item) - 1;
    this.indexes.set(key, index);
    return index;
  }

  /** -1: not there. */
  find(item: T): number {
    return this.indexes.get(this.keyOf(item)) ?? -1;
  }
}
