// The compiled model, encoded, and what changed from revision to revision: answers "what does a node at revision R lack?". Owns the ring
// of recent changes. Knows no streams.
import type { Resource, ResourceName } from '../../api/gen/mesh/v1/discovery.js';

/** `full`: everything that exists; what isn't in `resources` is gone. */
export interface ModelDelta {
  readonly full: boolean;
  readonly revision: number;
  readonly resources: readonly Resource[];
  readonly removed: readonly ResourceName[];
}

interface HistoryStep {
  readonly revision: number;
  /** Keys of what was added, changed or removed. */
  readonly keys: readonly string[];
}

const MAX_STEPS = 1_024;
const MAX_KEYS = 100_000;

export function resourceKey(name: ResourceName): string {
  return `${name.type}/${name.name}`;
}

export class ModelHistory {
  #revision = 0;
  /** By type, then by name. */
  #sorted: readonly Resource[] = [];
  /** The same, by `resourceKey`. */
  readonly #resources = new Map<string, Resource>();
  #steps: HistoryStep[] = [];
  #keyCount = 0;
  /** The oldest revision from which a delta can be told. */
  #floor = Number.POSITIVE_INFINITY;

  /** Of the model. */
  get revision(): number {
    return this.#revision;
  }

  /** False before the first `restart`. */
  get isReady(): boolean {
    return this.#floor !== Number.POSITIVE_INFINITY;
  }

  /** The model as of `revision`, without a past. `resources` by type, then by name, as the compiler gives them. */
  restart(revision: number, resources: readonly Resource[]): void {
    this.#sorted = resources;
    this.#resources.clear();
    for (const resource of resources) this.#resources.set(resourceKey(resource), resource);
    this.#revision = revision;
    this.#steps = [];
    this.#keyCount = 0;
    this.#floor = revision;
  }

  /** Returns how many resources changed or went. A revision may change nothing. `resources` as in restart(). */
  advance(revision: number, resources: readonly Resource[]): number {
    const keys: string[] = [];
    const changed = (key: string, resource: Resource | null): void => {
      keys.push(key);
      if (resource === null) this.#resources.delete(key);
      else this.#resources.set(key, resource);
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
      if (!isKnown || Buffer.compare((known as Resource).body, resource.body) !== 0) changed(resourceKey(resource), resource);
    }
    for (const gone of before.slice(old)) changed(resourceKey(gone), null);
    this.#sorted = resources;
    this.#revision = revision;
    this.#remember({ revision, keys });
    return keys.length;
  }

  #remember(step: HistoryStep): void {
    this.#steps.push(step);
    this.#keyCount += step.keys.length;
    while (this.#steps.length > MAX_STEPS || this.#keyCount > MAX_KEYS) {
      const dropped = this.#steps.shift();
      if (dropped === undefined) break;
      this.#keyCount -= dropped.keys.length;
      this.#floor = dropped.revision;
    }
  }

  /** What a receiver at `from` lacks; a full snapshot if that can't be told. null: from anything. */
  since(from: number | null): ModelDelta {
    const revision = this.#revision;
    if (from === null || from < this.#floor) return { full: true, revision, resources: this.#sorted, removed: [] };
    const keys = new Set<string>();
    for (let index = this.#steps.length - 1; index >= 0; index--) {
      const step = this.#steps[index];
      if (step === undefined || step.revision <= from) break;
      for (const key of step.keys) keys.add(key);
    }
    const changed: Resource[] = [];
    const removed: ResourceName[] = [];
    for (const key of keys) {
      const resource = this.#resources.get(key);
      if (resource !== undefined) changed.push(resource);
      else removed.push(nameOf(key));
    }
    return { full: false, revision: Math.max(revision, from), resources: changed, removed };
  }
}

function compareNames(a: ResourceName, b: ResourceName): number {
  return a.type - b.type || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
}

function nameOf(key: string): ResourceName {
  const slash = key.indexOf('/');
  return { type: Number(key.slice(0, slash)), name: key.slice(slash + 1) };
}
