// What the node was told last, as encoded resources: the one copy behind the proxy's stream and the snapshot on disk. Remembers which
// resources recent revisions touched, so that a reader that fell behind gets one coalesced delta. Does not decode bodies.
import type { Resource, ResourceName, ResumeToken } from '../../api/gen/mesh/v1/discovery.js';
import type { DiscoveryUpdate } from './discovery-client.js';

/** Bound of the change log, in touched resources; a reader further behind gets everything. */
const maxLoggedKeys = 65_536;

interface LoggedRevision {
  readonly revision: number;
  readonly touched: readonly ResourceName[];
}

export interface CatalogDelta {
  readonly resources: readonly Resource[];
  readonly removed: readonly ResourceName[];
}

export class Catalog {
  readonly #resources = new Map<string, Resource>();
  readonly #withheld = new Set<string>();
  #log: LoggedRevision[] = [];
  #loggedKeys = 0;
  /** Deltas can be made from this revision on. */
  #floor = 0;
  #token: ResumeToken | null = null;

  /** Null until something was applied. */
  get token(): ResumeToken | null {
    return this.#token;
  }

  /** False while something the node refused is missing, or is an older version. */
  get isWhole(): boolean {
    return this.#withheld.size === 0;
  }

  get size(): number {
    return this.#resources.size;
  }

  resources(): IterableIterator<Resource> {
    return this.#resources.values();
  }

  /** `withheld`: resources of the update that the node refuses; their last good version stays. */
  apply(update: DiscoveryUpdate, withheld: ReadonlySet<string>): void {
    const touched: ResourceName[] = [];
    if (update.full) {
      this.#withheld.clear();
      this.#dropUnnamed(update.resources);
    }
    for (const { type, name } of update.removed) {
      this.#resources.delete(resourceKey({ type, name }));
      this.#withheld.delete(resourceKey({ type, name }));
      touched.push({ type, name });
    }
    for (const { type, name, body } of update.resources) {
      const key = resourceKey({ type, name });
      if (withheld.has(key)) {
        this.#withheld.add(key);
        continue;
      }
      this.#withheld.delete(key);
      // Copied: the body is a view of the whole chunk it came in, which it would keep in memory.
      this.#resources.set(key, { type, name, body: Buffer.from(body) });
      touched.push({ type, name });
    }
    this.#token = update.token;
    if (update.full) this.#forget(update.revision);
    else this.#remember({ revision: update.revision, touched });
  }

  /** What a reader at `token` lacks; null when it must get everything. */
  since(token: ResumeToken): CatalogDelta | null {
    const now = this.#token;
    if (now === null || token.clusterId !== now.clusterId || token.compiler !== now.compiler) return null;
    if (token.revision < this.#floor || token.revision > now.revision) return null;
    const resources = new Map<string, Resource>();
    const removed = new Map<string, ResourceName>();
    for (const { revision, touched } of this.#log) {
      if (revision <= token.revision) continue;
      for (const name of touched) {
        const key = resourceKey(name);
        const resource = this.#resources.get(key);
        if (resource === undefined) removed.set(key, name);
        else resources.set(key, resource);
      }
    }
    return { resources: [...resources.values()], removed: [...removed.values()] };
  }

  #dropUnnamed(resources: readonly Resource[]): void {
    const named = new Set(resources.map(resourceKey));
    for (const key of this.#resources.keys()) if (!named.has(key)) this.#resources.delete(key);
  }

  #forget(floor: number): void {
    this.#log = [];
    this.#loggedKeys = 0;
    this.#floor = floor;
  }

  #remember(entry: LoggedRevision): void {
    this.#log.push(entry);
    this.#loggedKeys += entry.touched.length + 1;
    while (this.#loggedKeys > maxLoggedKeys) {
      const oldest = this.#log.shift();
      if (oldest === undefined) return;
      this.#loggedKeys -= oldest.touched.length + 1;
      this.#floor = oldest.revision;
    }
  }
}

/** One string per resource of any type. */
export function resourceKey({ type, name }: ResourceName): string {
  return `${type}/${name}`;
}
