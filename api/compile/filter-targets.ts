// Which filters are for what: services, gateways' listeners, rules of routes, by the filters' targetRefs and the routes' ExtensionRefs. Decides
// no order: nodes sort by priority what comes together.
import type { RouteParent } from '../gen/mesh/v1/model.js';
import { qualifiedName, type StoredObject } from '../resources/index.js';

export const FILTER_GROUP = 'mesh.weft.dev';

type StoredFilter = Extract<StoredObject, { kind: 'Filter' }>;
type Target = StoredFilter['manifest']['spec']['targetRefs'][number];
type Route = Extract<StoredObject, { kind: 'HTTPRoute' | 'GRPCRoute' }>;
interface ExtensionRef {
  readonly group: string;
  readonly kind: string;
  readonly name: string;
  readonly namespace?: string | undefined;
}

/** Names by what they are attached to. */
export class FilterTargets {
  readonly #byTarget = new Map<string, string[]>();
  readonly #known: ReadonlyMap<string, StoredFilter>;
  /** Of routes that refer to filters, or that filters refer to: their parents, for parentsOf(). */
  readonly #parents = new Map<string, RouteParent[]>();

  constructor(filters: ReadonlyMap<string, StoredFilter>) {
    this.#known = filters;
    for (const filter of filters.values()) {
      for (const { kind, name, sectionName } of filter.manifest.spec.targetRefs) {
        const key = `${kind} ${filter.namespace}/${name} ${sectionName ?? ''}`;
        this.#byTarget.set(key, [...(this.#byTarget.get(key) ?? []), qualifiedName(filter.namespace, filter.name)]);
      }
    }
  }

  /** `section`: a listener or a rule. */
  of(kind: Target['kind'], name: string, section = ''): string[] {
    if (this.#byTarget.size === 0) return [];
    const whole = this.#byTarget.get(`${kind} ${name} `) ?? [];
    const own = section === '' ? [] : (this.#byTarget.get(`${kind} ${name} ${section}`) ?? []);
    return [...new Set([...whole, ...own])];
  }

  /** Null: there is no such filter. In the route's own namespace alone. */
  referredTo(route: Route, { group, kind, name, namespace }: ExtensionRef): string | null {
    if (group !== FILTER_GROUP || kind !== 'Filter' || (namespace ?? route.namespace) !== route.namespace) return null;
    const own = `${route.namespace}/${name}`;
    return this.#known.has(own) ? own : null;
  }

  /** A rule of a route with these parents has these filters. */
  note(filters: readonly string[], parents: readonly RouteParent[]): void {
    for (const filter of filters) this.#parents.set(filter, [...(this.#parents.get(filter) ?? []), ...parents]);
  }

  parentsOf(filter: string): readonly RouteParent[] {
    return this.#parents.get(filter) ?? [];
  }
}
