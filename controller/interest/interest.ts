// What one node is told of. Immutable; nodes that are told the same have the same object.
import { NO_UNITS, type UnitNumbers, type UnitSet } from './unit-set.js';
import type { VisibleResource } from './units.js';

/** For people. */
export interface InterestSummary {
  /** Of services, how many are told; null: all. */
  readonly services: number | null;
  /** Those whose workloads are told. */
  readonly namespaces: readonly string[];
  readonly gateways: readonly string[];
}

export class Interest {
  /** Equal ones are the same units, at every replica. Empty: everything. */
  readonly digest: string;
  readonly summary: InterestSummary;
  readonly #numbers: UnitNumbers | null;
  readonly #units: UnitSet;

  /** `numbers` null: everything. */
  constructor(digest: string, numbers: UnitNumbers | null, units: UnitSet, summary: InterestSummary) {
    this.digest = digest;
    this.summary = summary;
    this.#numbers = numbers;
    this.#units = units;
  }

  get isEverything(): boolean {
    return this.#numbers === null;
  }

  sees({ units }: Pick<VisibleResource, 'units'>): boolean {
    const numbers = this.#numbers;
    return numbers === null || units.some((unit) => this.#units.has(numbers.of(unit)));
  }

  /** Names of units that are here and not there. Neither may be everything. */
  without(other: Interest): string[] {
    return [...this.#units.without(other.#units)].map((number) => this.#numbers?.nameOf(number) ?? '');
  }
}

export const EVERYTHING = new Interest('', null, NO_UNITS, { services: null, namespaces: [], gateways: [] });
