// What was made before and is used again while all that it was made of is the same objects: results, and orders of what changes little. A mesh has
// ten thousand endpoints and changes one: what is looked at each time is looked at by identity alone. Knows nothing of the model.

export function areSame(a: readonly unknown[], b: readonly unknown[]): boolean {
  if (a.length !== b.length) return false;
  // No closure: this runs over everything there is.
  for (let index = 0; index < a.length; index++) if (a[index] !== b[index]) return false;
  return true;
}

/** How many are the same at the beginning of both, and how many of the others at the end. */
export function sameEnds(a: readonly unknown[], b: readonly unknown[]): { readonly start: number; readonly end: number } {
  const most = Math.min(a.length, b.length);
  let start = 0;
  while (start < most && a[start] === b[start]) start++;
  let end = 0;
  while (end < most - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
  return { start, end };
}

/** Results by name, each with what it was made of. */
export class KeptResults {
  readonly #made = new Map<string, { readonly inputs: readonly unknown[]; readonly result: unknown }>();

  /** One name is always of one type. `make` reads nothing that is not in `inputs`, or the same whenever they are. */
  get<Result>(name: string, inputs: readonly unknown[], make: () => Result): Result {
    const known = this.#made.get(name);
    if (known !== undefined && areSame(known.inputs, inputs)) return known.result as Result;
    const result = make();
    this.#made.set(name, { inputs, result });
    return result;
  }
}

/** Items by name. Where one was exchanged for another of the same name the places of all are known. */
export class KeptOrder<Item extends { readonly namespace: string; readonly name: string }> {
  #items: readonly Item[] = [];
  #sorted: readonly Item[] = [];
  /** Where each of #sorted stands in #items. */
  #order: readonly number[] = [];
  readonly #sort: (items: readonly Item[]) => number[];

  /** `sort`: positions in order, by nothing but the names. */
  constructor(sort: (items: readonly Item[]) => number[]) {
    this.#sort = sort;
  }

  /** The same array while the items are the same. */
  of(items: readonly Item[]): readonly Item[] {
    if (areSame(items, this.#items)) return this.#sorted;
    if (!areNamedAlike(items, this.#items)) this.#order = this.#sort(items);
    this.#items = items;
    this.#sorted = this.#order.map((index) => items[index]!);
    return this.#sorted;
  }
}

type Named = { readonly namespace: string; readonly name: string };

function areNamedAlike(a: readonly Named[], b: readonly Named[]): boolean {
  if (a.length !== b.length) return false;
  return a.every((item, index) => {
    const other = b[index]!;
    return item === other || (item.name === other.name && item.namespace === other.namespace);
  });
}

/** The items of blocks, in one order. What came is put where it belongs and what went is left out: to sort all took longer than all else. */
export class KeptUnion<Item> {
  #blocks: readonly (readonly Item[])[] = [];
  #sorted: readonly Item[] = [];
  readonly #compare: (a: Item, b: Item) => number;

  constructor(compare: (a: Item, b: Item) => number) {
    this.#compare = compare;
  }

  /** No two items are equal. The same array while the blocks are the same. */
  of(blocks: readonly (readonly Item[])[]): readonly Item[] {
    const { start, end } = sameEnds(this.#blocks, blocks);
    if (start === blocks.length && start === this.#blocks.length) return this.#sorted;
    const [before, now] = [this.#blocks.slice(start, this.#blocks.length - end), blocks.slice(start, blocks.length - end)];
    const [wasThere, isThere] = [new Set(before), new Set(now)];
    const gone = before.filter((block) => !isThere.has(block)).flat();
    const come = now.filter((block) => !wasThere.has(block)).flat();
    this.#sorted = this.#exchange(gone.sort(this.#compare), come.sort(this.#compare));
    this.#blocks = blocks;
    return this.#sorted;
  }

  #exchange(gone: readonly Item[], come: readonly Item[]): Item[] {
    const places = come.map((item) => this.#placeOf(item));
    const sorted: Item[] = [];
    let [left, put] = [0, 0];
    for (let index = 0; index < this.#sorted.length; index++) {
      while (places[put] === index) sorted.push(come[put++]!);
      const item = this.#sorted[index]!;
      if (item === gone[left]) left++;
      else sorted.push(item);
    }
    return sorted.concat(come.slice(put));
  }

  /** Of the first that is not before it. */
  #placeOf(item: Item): number {
    let [low, high] = [0, this.#sorted.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#compare(this.#sorted[middle]!, item) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
