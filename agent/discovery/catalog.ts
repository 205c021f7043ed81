// What the node was told last, as encoded resources: the one copy behind the proxy's stream and the snapshot on disk. Remembers which
// resources recent revisions touched, so that a reader that fell behind gets one coalesced delta. For the proxy alone the node may put something
// of its own in a resource's place; the token it is served then tells so. Does not decode bodies.
import { randomUUID } from 'node:crypto';
import type { Resource, ResourceName, ResumeToken } from '../../api/gen/mesh/v1/discovery.js';
import { resourceKey } from '../model/model.js';
import type { DiscoveryUpdate } from './discovery-client.js';

/** Bound of the change log, in touched resources; a reader further behind gets everything. */
const maxLoggedKeys = 65_536;
/** In a served token's compiler, between the controller's and how far the node's own changes are. */
const overlayMark = ' node:';

interface LoggedRevision {
  readonly revision: number;
  /** Of its token: which compiler, and what of the mesh it was told. */
  readonly compiler: string;
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
  /** Deltas can be made from this one on. */
  #floor: Pick<LoggedRevision, 'revision' | 'compiler'> = { revision: 0, compiler: '' };
  #token: ResumeToken | null = null;
  /** What stands in a resource's place for the proxy. */
  #overlay = new Map<string, Resource>();
  /** Of the overlay: what is in a token of another one can't be compared. */
  #overlayId = randomUUID();
  #overlayVersion = 0;
  /** By resource: the version that changed it last, for all that ever was in the overlay. */
  readonly #overlaid = new Map<string, { readonly name: ResourceName; readonly version: number }>();

  /** Null until something was applied. */
  get token(): ResumeToken | null {
    return this.#token;
  }

  /** Of what the proxy is served; differs from the controller's once the node has put something of its own in it. */
  get servedToken(): ResumeToken | null {
    if (this.#token === null || this.#overlayVersion === 0) return this.#token;
    return { ...this.#token, compiler: `${this.#token.compiler}${overlayMark}${this.#overlayId}.${this.#overlayVersion}` };
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

  *servedResources(): Generator<Resource> {
    for (const [key, resource] of this.#resources) yield this.#overlay.get(key) ?? resource;
  }

  /** As the controller sent it, whatever the proxy is served in its place. */
  stored(name: ResourceName): Resource | null {
    return this.#resources.get(resourceKey(name)) ?? null;
  }

  isOverlaid(name: ResourceName): boolean {
    return this.#overlay.has(resourceKey(name));
  }

  /** As the proxy gets it. */
  served(name: ResourceName): Resource | null {
    return this.#overlay.get(resourceKey(name)) ?? this.stored(name);
  }

  /** From now on the proxy is served these in place of those of the same name. Returns those that are something else than before. */
  overlay(resources: readonly Resource[]): readonly ResourceName[] {
    const wanted = new Map(resources.map((resource) => [resourceKey(resource), resource]));
    const touched: ResourceName[] = [];
    for (const [key, resource] of wanted) {
      const before = this.#overlay.get(key);
      if (before === undefined || Buffer.compare(before.body, resource.body) !== 0) touched.push(resource);
    }
    for (const [key, resource] of this.#overlay) if (!wanted.has(key)) touched.push(resource);
    this.#overlay = wanted;
    if (touched.length === 0) return touched;
    if (this.#overlaid.size + touched.length > maxLoggedKeys) {
      this.#overlaid.clear();
      this.#overlayId = randomUUID();
    }
    this.#overlayVersion++;
    for (const { type, name } of touched)
      this.#overlaid.set(resourceKey({ type, name }), { name: { type, name }, version: this.#overlayVersion });
    return touched;
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
    const { revision, compiler } = update.token;
    if (update.full) this.#forget({ revision, compiler });
    else this.#remember({ revision, compiler, touched });
  }

  /** What a reader at `token`, a served one, lacks; null when it must get everything. */
  since(token: ResumeToken): CatalogDelta | null {
    const now = this.#token;
    const [compiler = '', overlay] = token.compiler.split(overlayMark);
    if (now === null || token.clusterId !== now.clusterId) return null;
    const [id, version = '0'] = (overlay ?? `${this.#overlayId}.0`).split('.');
    if (id !== this.#overlayId) return null;
    if (token.revision < this.#floor.revision || token.revision > now.revision) return null;
    const first = this.#standing(token.revision, compiler);
    if (first === null) return null;
    const resources = new Map<string, Resource>();
    const removed = new Map<string, ResourceName>();
    const add = (name: ResourceName): void => {
      const key = resourceKey(name);
      const resource = this.#resources.get(key);
      if (resource === undefined) removed.set(key, name);
      else resources.set(key, this.#overlay.get(key) ?? resource);
    };
    for (const { touched } of this.#log.slice(first)) for (const name of touched) add(name);
    for (const { name, version: changed } of this.#overlaid.values()) if (changed > Number(version)) add(name);
    return { resources: [...resources.values()], removed: [...removed.values()] };
  }

  /** Of the log, where a reader at that token of the controller's lacks all from. Null: it was told of other parts of the mesh than this node at that time. */
  #standing(revision: number, compiler: string): number | null {
    const isIt = (entry: Pick<LoggedRevision, 'revision' | 'compiler'>): boolean =>
      entry.revision === revision && entry.compiler === compiler;
    // A revision comes twice where the node was told of more or less of it.
    const same = this.#log.findLastIndex(isIt);
    if (same >= 0 || isIt(this.#floor)) return same + 1;
    const before = this.#log.findLastIndex((entry) => entry.revision <= revision);
    return (this.#log[before] ?? this.#floor).compiler === compiler ? before + 1 : null;
  }

  #dropUnnamed(resources: readonly Resource[]): void {
    const named = new Set(resources.map(resourceKey));
    for (const key of this.#resources.keys()) if (!named.has(key)) this.#resources.delete(key);
  }

  #forget(floor: Pick<LoggedRevision, 'revision' | 'compiler'>): void {
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
      this.#floor = oldest;
    }
  }
}
