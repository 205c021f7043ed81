// What each node is told of, revision by revision. Owns the interests that were given out, so that a node that comes back with the digest of one
// is told the difference. Where nothing is narrowed everyone is told everything.
import { isDeepStrictEqual } from 'node:util';
import type { CompiledResource, Visibility } from '../../api/compile/index.js';
import { EVERYTHING, Interest } from './interest.js';
import { digestOf } from './reach.js';
import { isAlike, type NodeParts, Topology } from './topology.js';
import { NO_UNITS, UnitNumbers, UnitSet } from './unit-set.js';

/** Interests that are remembered; a node that comes back with another one gets a full snapshot. */
const MAX_KNOWN = 8_192;

export class NodeInterests {
  readonly #numbers = new UnitNumbers();
  /** By digest, the one asked for last at the end. */
  readonly #known = new Map<string, Interest>();
  #topology: Topology | null = null;
  /** What it was made of, or what is like it. */
  #resources: readonly CompiledResource[] = [];
  #visibility: Visibility | null = null;
  /** Of the present revision. */
  readonly #byNode = new Map<string, Interest>();

  /** The model is this now. True: nodes may be told of other units than before. */
  update(resources: readonly CompiledResource[], visibility: Visibility | null): boolean {
    if (this.#topology === null && visibility === null) return false;
    const isSame = this.#topology !== null && isAlike(this.#resources, resources) && isDeepStrictEqual(this.#visibility, visibility);
    this.#resources = visibility === null ? [] : resources;
    this.#visibility = visibility;
    if (isSame) return false;
    this.#topology = visibility === null ? null : new Topology(resources, visibility, this.#numbers, this.#topology);
    this.#byNode.clear();
    return true;
  }

  of(node: string): Interest {
    if (this.#topology === null) return EVERYTHING;
    let interest = this.#byNode.get(node);
    if (interest === undefined) {
      interest = this.#make(node, this.#topology);
      this.#byNode.set(node, interest);
    }
    return interest;
  }

  /** All there are. */
  get services(): number | null {
    return this.#topology?.services.size ?? null;
  }

  /** Null: not remembered. */
  withDigest(digest: string): Interest | null {
    return digest === '' ? EVERYTHING : (this.#known.get(digest) ?? null);
  }

  #make(node: string, topology: Topology): Interest {
    const parts = topology.partsOf(node);
    const digest = digestOf([...new Set([...parts.reaches.map((reach) => reach.digest), ...parts.units])]);
    const interest = this.#known.get(digest) ?? this.#unite(digest, parts, topology);
    this.#known.delete(digest);
    this.#known.set(digest, interest);
    const [oldest] = this.#known.keys();
    if (this.#known.size > MAX_KNOWN && oldest !== undefined) this.#known.delete(oldest);
    return interest;
  }

  #unite(digest: string, { reaches, units: beside, namespaces, gateways }: NodeParts, { services }: Topology): Interest {
    const units = new UnitSet();
    for (const reach of reaches) units.addAll(reach.units);
    for (const unit of beside) units.add(this.#numbers.of(unit));
    const told = [...units.without(NO_UNITS)].filter((number) => services.has(this.#numbers.nameOf(number))).length;
    return new Interest(digest, this.#numbers, units, { services: told, namespaces, gateways });
  }
}
