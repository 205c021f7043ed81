// Sets of units: what is visible or not as a whole. Small numbers stand for their names, for as long as the process lives.

/** Numbers of names. They are never taken back: a name costs some bytes, and an eighth of one in every set made after it. */
export class UnitNumbers {
  readonly #numbers = new Map<string, number>();
  readonly #names: string[] = [];

  of(name: string): number {
    let number = this.#numbers.get(name);
    if (number === undefined) {
      number = this.#names.length;
      this.#names.push(name);
      this.#numbers.set(name, number);
    }
    return number;
  }

  nameOf(number: number): string {
    return this.#names[number] ?? '';
  }
}

export class UnitSet {
  #words = new Uint32Array(0);

  has(number: number): boolean {
    return ((this.#words[number >>> 5] ?? 0) & (1 << (number & 31))) !== 0;
  }

  add(number: number): void {
    this.#grow((number >>> 5) + 1);
    this.#words[number >>> 5]! |= 1 << (number & 31);
  }

  addAll(other: UnitSet): void {
    this.#grow(other.#words.length);
    for (let index = 0; index < other.#words.length; index++) this.#words[index]! |= other.#words[index]!;
  }

  keepAll(other: UnitSet): void {
    for (let index = 0; index < this.#words.length; index++) this.#words[index]! &= other.#words[index] ?? 0;
  }

  equals(other: UnitSet): boolean {
    const length = Math.max(this.#words.length, other.#words.length);
    for (let index = 0; index < length; index++) if ((this.#words[index] ?? 0) !== (other.#words[index] ?? 0)) return false;
    return true;
  }

  /** Those that are here and not there, ascending. */
  *without(other: UnitSet): Generator<number> {
    for (let index = 0; index < this.#words.length; index++) {
      let word = this.#words[index]! & ~(other.#words[index] ?? 0);
      for (; word !== 0; word &= word - 1) yield index * 32 + (31 - Math.clz32(word & -word));
    }
  }

  #grow(length: number): void {
    if (length <= this.#words.length) return;
    const words = new Uint32Array(length);
    words.set(this.#words);
    this.#words = words;
  }
}

export const NO_UNITS = new UnitSet();
