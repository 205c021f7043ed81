// The compiled model, encoded, and what changed from revision to revision: answers "what does a node at revision R lack?". Owns the ring
// of recent changes. Knows no streams.
import type { Resource, ResourceName } from '../../api/gen/mesh/v1/discovery.js';

/** Resources by `resourceKey`, and the revision they belong to. Immutable. */
export interface Model {
  readonly revision: number;
  readonly resources: ReadonlyMap<string, Resource>;
}

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
  #model: Model = { revision: 0, resources: new Map() };
  #steps: HistoryStep[] = [];
  #keyCount = 0;
  /** The oldest revision from which a delta can be told. */
  #floor = Number.POSITIVE_INFINITY;

  get model(): Model {
    return this.#model;
  }

  /** False before the first `restart`. */
  get isReady(): boolean {
    return this.#floor !== Number.POSITIVE_INFINITY;
  }

  /** The model as of `revision`, without a past. */
  restart(revision: number, resources: readonly Resource[]): void {
    this.#model = { revision, resources: byKey(resources) };
    this.#steps = [];
    this.#keyCount = 0;
    this.#floor = revision;
  }

  /** Returns how many resources changed or went. A revision may change nothing. */
  advance(revision: number, resources: readonly Resource[]): number {
    const before = this.#model.resources;
    const after = byKey(resources);
    const keys: string[] = [];
    for (const [key, resource] of after) {
      const known = before.get(key);
      if (known === undefined || Buffer.compare(known.body, resource.body) !== 0) keys.push(key);
      // The same object again lets unchanged resources share their bytes.
      else after.set(key, known);
    }
    for (const key of before.keys()) if (!after.has(key)) keys.push(key);
    this.#model = { revision, resources: after };
    this.#steps.push({ revision, keys });
    this.#keyCount += keys.length;
    while (this.#steps.length > MAX_STEPS || this.#keyCount > MAX_KEYS) {
      const dropped = this.#steps.shift();
      if (dropped === undefined) break;
      this.#keyCount -= dropped.keys.length;
      this.#floor = dropped.revision;
    }
    return keys.length;
  }

  /** What a receiver at `from` lacks; a full snapshot if that can't be told. null: from anything. */
  since(from: number | null): ModelDelta {
    const { revision, resources } = this.#model;
    if (from === null || from < this.#floor) return { full: true, revision, resources: [...resources.values()], removed: [] };
    const keys = new Set<string>();
    for (let index = this.#steps.length - 1; index >= 0; index--) {
      const step = this.#steps[index];
      if (step === undefined || step.revision <= from) break;
      for (const key of step.keys) keys.add(key);
    }
    const changed: Resource[] = [];
    const removed: ResourceName[] = [];
    for (const key of keys) {
      const resource = resources.get(key);
      if (resource !== undefined) changed.push(resource);
      else removed.push(nameOf(key));
    }
    return { full: false, revision: Math.max(revision, from), resources: changed, removed };
  }
}

function byKey(resources: readonly Resource[]): Map<string, Resource> {
  const map = new Map<string, Resource>();
  for (const resource of resources) map.set(resourceKey(resource), resource);
  return map;
}

function nameOf(key: string): ResourceName {
  const slash = key.indexOf('/');
  return { type: Number(key.slice(0, slash)), name: key.slice(slash + 1) };
}
