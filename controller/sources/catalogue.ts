// What the services of one catalogue have become: objects of one namespace that an Ingest is told of, and what of them was left out. Knows which
// catalogue it is no more than what its objects mean.
import type { Ingest, SourceObject } from './ingester.js';
import { serviceName } from './instances.js';

export interface CatalogueParts {
  /** Where the objects are put. */
  readonly namespace: string;
  readonly ingest: Ingest;
  /** What of a service is left out and why; told again only when it changes. */
  readonly refused: (service: string, messages: readonly string[]) => void;
}

type NamesByKind = ReadonlyMap<string, ReadonlySet<string>>;

const KINDS = ['Service', 'EndpointSlice'];

export class Catalogue {
  readonly #parts: CatalogueParts;
  /** By the name of the Service: what the catalogue calls it, and its objects. */
  readonly #services = new Map<string, { readonly service: string; readonly objects: NamesByKind }>();
  /** By what the catalogue calls it. */
  readonly #refused = new Map<string, string>();

  constructor(parts: CatalogueParts) {
    this.#parts = parts;
  }

  /** Those that have objects, as the catalogue calls them. */
  services(): string[] {
    return [...this.#services.values()].map(({ service }) => service);
  }

  /** The service, as the catalogue calls it, that has objects of this name; null: none. */
  holder(name: string): string | null {
    return this.#services.get(name)?.service ?? null;
  }

  /** These are the service's objects; what it had and has no more goes. Its name must be one of which serviceName() makes one, and nobody else's. */
  put(service: string, objects: readonly SourceObject[]): void {
    const name = serviceName(service);
    if (name === null) throw new Error(`no service can be called ${service}`);
    const names = new Map<string, Set<string>>();
    for (const object of objects) {
      this.#parts.ingest.put(object);
      names.set(object.ref.kind, (names.get(object.ref.kind) ?? new Set()).add(object.ref.name));
    }
    this.#removeBut(this.#services.get(name)?.objects, names);
    if (names.size === 0) this.#services.delete(name);
    else this.#services.set(name, { service, objects: names });
  }

  /** The catalogue has it no more. */
  drop(service: string): void {
    this.put(service, []);
    this.#refused.delete(service);
  }

  /** No messages: all of it is taken. */
  refuse(service: string, messages: readonly string[]): void {
    const text = messages.join('; ');
    if ((this.#refused.get(service) ?? '') === text) return;
    this.#refused.set(service, text);
    if (messages.length > 0) this.#parts.refused(service, messages);
  }

  /** All is known: what an earlier leader wrote and the catalogue has no more goes. */
  settle(): void {
    const all = [...this.#services.values()];
    for (const kind of KINDS) {
      const present = new Set(all.flatMap(({ objects }) => [...(objects.get(kind) ?? [])]));
      this.#parts.ingest.settle(kind, ({ namespace, name }) => namespace === this.#parts.namespace && present.has(name));
    }
  }

  #removeBut(had: NamesByKind | undefined, has: NamesByKind): void {
    const { ingest, namespace } = this.#parts;
    for (const [kind, names] of had ?? []) {
      for (const name of names) if (has.get(kind)?.has(name) !== true) ingest.remove({ kind, namespace, name });
    }
  }
}
