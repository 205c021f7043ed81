// The compiled model, encoded, and what changed from revision to revision: answers "what does a node at revision R lack, of what it is told?".
// Owns the ring of recent changes. Knows no streams, and not who is told what.
import type { Resource, ResourceName } from '../../api/gen/mesh/v1/discovery.js';
import { EVERYTHING, type Interest } from '../interest/interest.js';
import type { VisibleResource } from '../interest/units.js';

/** `full`: everything that exists; what isn't in `resources` is gone. */
export interface ModelDelta {
  readonly full: boolean;
  readonly revision: number;
  readonly resources: readonly Resource[];
  readonly removed: readonly ResourceName[];
}

interface HistoryStep {
  readonly revision: number;
  /** Keys of what was added, changed or removed, and the units of each before; null: it is new, or of the same still. */
  readonly keys: ReadonlyMap<string, readonly string[] | null>;
}

/** From what a receiver is told to what it is told from now on. */
export interface Scope {
  readonly before: Interest;
  readonly now: Interest;
}

const UNSCOPED: Scope = { before: EVERYTHING, now: EVERYTHING };

const MAX_STEPS = 1_024;
const MAX_KEYS = 100_000;

export function resourceKey(name: ResourceName): string {
  return `${name.type}/${name.name}`;
}

export class ModelHistory {
  #revision = 0;
  #compiled = 0;
  /** By type, then by name. */
  #sorted: readonly VisibleResource[] = [];
  /** The same, by `resourceKey`. */
  readonly #resources = new Map<string, VisibleResource>();
  /** Keys by unit; null: nobody asked yet. */
  #byUnit: Map<string, Set<string>> | null = null;
  #steps: HistoryStep[] = [];
  #keyCount = 0;
  /** The oldest revision from which a delta can be told. */
  #floor = Number.POSITIVE_INFINITY;

  /** That receivers are brought to. */
  get revision(): number {
    return this.#revision;
  }

  /** Of what the model was made from: it may have changed nothing since `revision`. */
  get compiled(): number {
    return this.#compiled;
  }

  /** False before the first `restart`. */
  get isReady(): boolean {
    return this.#floor !== Number.POSITIVE_INFINITY;
  }

  /** The model as of `revision`, without a past. `resources` by type, then by name, as the compiler gives them. */
  restart(revision: number, resources: readonly VisibleResource[]): void {
    this.#sorted = resources;
    this.#resources.clear();
    for (const resource of resources) this.#resources.set(resourceKey(resource), resource);
    this.#byUnit = null;
    this.#revision = revision;
    this.#compiled = revision;
    this.#steps = [];
    this.#keyCount = 0;
    this.#floor = revision;
  }

  /**
   * Returns how many resources changed or went. One that changes nothing goes to receivers where it `isTold` all the same: who joins and changes nothing
   * for a thousand nodes is nothing to tell a thousand nodes of. `resources` as in restart().
   */
  advance(revision: number, resources: readonly VisibleResource[], isTold: boolean): number {
    const keys = new Map<string, readonly string[] | null>();
    const changed = (key: string, resource: VisibleResource | null): void => {
      const former = this.#resources.get(key)?.units ?? null;
      const isMoved = former !== null && (resource === null || !areSame(former, resource.units));
      keys.set(key, isMoved ? former : null);
      if (resource === null) this.#resources.delete(key);
      else this.#resources.set(key, resource);
      if (former === null || isMoved) this.#reindex(key, former ?? [], resource?.units ?? []);
    };
    const before = this.#sorted;
    let old = 0;
    for (const resource of resources) {
      // What the compiler kept is the same object: of a large model nearly all of it.
      if (before[old] === resource) {
        old++;
        continue;
      }
      let known = before[old];
      for (; known !== undefined && compareNames(known, resource) < 0; known = before[++old]) changed(resourceKey(known), null);
      const isKnown = known !== undefined && compareNames(known, resource) === 0;
      if (isKnown) old++;
      if (!isKnown || !isAlike(known as VisibleResource, resource)) changed(resourceKey(resource), resource);
    }
    for (const gone of before.slice(old)) changed(resourceKey(gone), null);
    this.#sorted = resources;
    this.#compiled = revision;
    if (keys.size === 0 && !isTold) return 0;
    this.#revision = revision;
    this.#remember({ revision, keys });
    return keys.size;
  }

  #remember(step: HistoryStep): void {
    this.#steps.push(step);
    this.#keyCount += step.keys.size;
    while (this.#steps.length > MAX_STEPS || this.#keyCount > MAX_KEYS) {
      const dropped = this.#steps.shift();
      if (dropped === undefined) break;
      this.#keyCount -= dropped.keys.size;
      this.#floor = dropped.revision;
    }
  }

  /** Whether a delta from there can be told. */
  reaches(from: number): boolean {
    return from >= this.#floor;
  }

  /** What a receiver at `from` lacks; a full snapshot if that can't be told. null: from anything. */
  since(from: number | null, scope: Scope = UNSCOPED): ModelDelta {
    const revision = this.#revision;
    const { before, now } = scope;
    if (from === null || !this.reaches(from)) {
      const resources = now.isEverything ? this.#sorted : this.#sorted.filter((resource) => now.sees(resource));
      return { full: true, revision, resources, removed: [] };
    }
    const touched = this.#touchedSince(from);
    const changed: Resource[] = [];
    const removed: ResourceName[] = [];
    for (const [key, former] of touched) {
      const resource = this.#resources.get(key);
      if (resource !== undefined && now.sees(resource)) changed.push(resource);
      else if (before.sees({ units: former ?? resource?.units ?? [] })) removed.push(nameOf(key));
    }
    if (before !== now) {
      for (const key of this.#between(scope)) {
        const resource = this.#resources.get(key);
        if (resource === undefined || touched.has(key)) continue;
        const [was, is] = [before.sees(resource), now.sees(resource)];
        if (is && !was) changed.push(resource);
        else if (was && !is) removed.push(nameOf(key));
      }
    }
    return { full: false, revision: Math.max(revision, from), resources: changed, removed };
  }

  /** Keys, and every unit that each was of meanwhile; null: those it is of now. */
  #touchedSince(from: number): Map<string, readonly string[] | null> {
    const touched = new Map<string, readonly string[] | null>();
    for (let index = this.#steps.length - 1; index >= 0; index--) {
      const step = this.#steps[index];
      if (step === undefined || step.revision <= from) break;
      for (const [key, former] of step.keys) {
        const later = touched.get(key) ?? null;
        touched.set(key, former === null ? later : [...former, ...(later ?? this.#resources.get(key)?.units ?? [])]);
      }
    }
    return touched;
  }

  /** Keys of what may be in one and not in the other. */
  #between({ before, now }: Scope): Iterable<string> {
    if (before.isEverything || now.isEverything) return [...this.#resources.keys()];
    this.#byUnit ??= indexByUnit(this.#resources);
    const keys = new Set<string>();
    for (const unit of [...before.without(now), ...now.without(before)]) for (const key of this.#byUnit.get(unit) ?? []) keys.add(key);
    return keys;
  }

  #reindex(key: string, former: readonly string[], units: readonly string[]): void {
    if (this.#byUnit === null) return;
    for (const unit of former) {
      const keys = this.#byUnit.get(unit);
      keys?.delete(key);
      if (keys?.size === 0) this.#byUnit.delete(unit);
    }
    addTo(this.#byUnit, key, units);
  }
}

function indexByUnit(resources: ReadonlyMap<string, VisibleResource>): Map<string, Set<string>> {
  const byUnit = new Map<string, Set<string>>();
  for (const [key, { units }] of resources) addTo(byUnit, key, units);
  return byUnit;
}

function addTo(byUnit: Map<string, Set<string>>, key: string, units: readonly string[]): void {
  for (const unit of units) {
    const keys = byUnit.get(unit);
    if (keys === undefined) byUnit.set(unit, new Set([key]));
    else keys.add(key);
  }
}

function areSame(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((each, index) => each === b[index]);
}

function isAlike(a: VisibleResource, b: VisibleResource): boolean {
  return Buffer.compare(a.body, b.body) === 0 && areSame(a.units, b.units);
}

function compareNames(a: ResourceName, b: ResourceName): number {
  return a.type - b.type || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
}

function nameOf(key: string): ResourceName {
  const slash = key.indexOf('/');
  return { type: Number(key.slice(0, slash)), name: key.slice(slash + 1) };
}
