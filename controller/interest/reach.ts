// What the workloads of a namespace, or a gateway, may come to: units, with a digest of their names.
import { createHash } from 'node:crypto';
import type { Service } from '../../api/gen/mesh/v1/model.js';
import { NO_UNITS, type UnitNumbers, type UnitSet } from './unit-set.js';

export class Reach {
  readonly units: UnitSet;
  /** Those of its services. */
  readonly namespaces: ReadonlySet<string>;
  readonly #numbers: UnitNumbers;
  #digest = '';

  constructor(units: UnitSet, numbers: UnitNumbers, services: ReadonlyMap<string, Service>) {
    this.units = units;
    this.#numbers = numbers;
    this.namespaces = new Set(namesOf(units, numbers).flatMap((name) => services.get(name)?.namespace ?? []));
  }

  /** Of the names, whatever their numbers are here. */
  get digest(): string {
    if (this.#digest === '') this.#digest = digestOf(namesOf(this.units, this.#numbers));
    return this.#digest;
  }
}

function namesOf(units: UnitSet, numbers: UnitNumbers): string[] {
  return [...units.without(NO_UNITS)].map((number) => numbers.nameOf(number));
}

/** In any order. */
export function digestOf(names: readonly string[]): string {
  return createHash('sha256')
    .update([...names].sort().join('\n'))
    .digest('hex')
    .slice(0, 32);
}
