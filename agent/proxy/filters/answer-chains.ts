// Which filters look at the answer to a request: numbers of chains that outlive the tables by which the request was decided, since its answer comes
// when others may be in force. Not for threads to share.
import type { FilterBinding, FilterTables } from './filter-tables.js';

/** Numbers that are kept beside those in use; an answer whose number is forgotten by then fails. */
const MAX_FORMER = 4_096;

export class AnswerChains {
  /** By the names of its filters, oldest first. */
  private readonly numbers = new Map<string, number>();
  private readonly names = new Map<number, readonly string[]>();
  private byName = new Map<string, FilterBinding>();
  /** By index in FilterTables.chains. */
  private current: readonly number[] = [];
  private next = 0;

  install(tables: FilterTables | null): void {
    const chains = tables?.chains ?? [];
    this.byName = new Map(chains.flat().map((filter) => [filter.name, filter]));
    // The last to look at a request is the first to look at its answer.
    const names = chains.map((chain) =>
      chain
        .filter(({ onResponse }) => onResponse)
        .map(({ name }) => name)
        .reverse(),
    );
    this.current = names.map((each) => (each.length === 0 ? -1 : this.keep(each)));
    const [first] = this.numbers.keys();
    for (let key = first; this.numbers.size > MAX_FORMER + chains.length && key !== undefined; [key] = this.numbers.keys()) {
      this.names.delete(this.numbers.get(key) ?? -1);
      this.numbers.delete(key);
    }
  }

  /** -1: no filter of the chain at that index looks at answers. */
  numberOf(chain: number): number {
    return this.current[chain] ?? -1;
  }

  /** As they are now; who has gone is left out. Null: nobody knows the number any more. */
  at(number: number): readonly FilterBinding[] | null {
    const names = this.names.get(number);
    if (names === undefined) return null;
    return names.flatMap((name) => this.byName.get(name) ?? []).filter(({ onResponse }) => onResponse);
  }

  private keep(names: readonly string[]): number {
    const key = names.join(' ');
    const number = this.numbers.get(key) ?? this.next++;
    this.numbers.delete(key);
    this.numbers.set(key, number);
    this.names.set(number, names);
    return number;
  }
}
