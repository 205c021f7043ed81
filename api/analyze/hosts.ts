// Hosts: what a name means in a namespace, which names cover which, who sees them. Owner: Istio API (hosts, exportTo), docs/resources.md.
import { EXPORT_TO, seenFrom } from '../resources/index.js';
import { covers, fullHost, SERVICE_DOMAIN } from '../resources/istio-host.js';
import { textOf, type Unchecked } from '../resources/schema.js';
import { type AnalysedObject, itemsIn, recordIn, textsIn, type World } from './world.js';

/** Whether some name is covered by both: equal, or the one's wildcard takes in the other. */
export function overlap(one: string, other: string): boolean {
  return covers(one, other) || covers(other, one);
}

/** The namespaces that an object is seen from; null: all. `listed` as in exportTo; none: all. */
export function visibleIn(listed: readonly string[], namespace: string): ReadonlySet<string> | null {
  const namespaces = seenFrom(listed, namespace);
  return namespaces === null ? null : new Set(namespaces);
}

export function meet(one: ReadonlySet<string> | null, other: ReadonlySet<string> | null): boolean {
  if (one === null) return other === null || other.size > 0;
  if (other === null) return one.size > 0;
  return [...one].some((each) => other.has(each));
}

function isSeenFrom(scope: ReadonlySet<string> | null, namespace: string): boolean {
  return scope === null || scope.has(namespace);
}

export interface KnownHost {
  readonly object: AnalysedObject;
  /** A full name, or a wildcard. */
  readonly host: string;
  readonly scope: ReadonlySet<string> | null;
  /** Empty: any. */
  readonly ports: readonly number[];
}

/** Of Services and ServiceEntries. */
export function knownHosts(world: World): readonly KnownHost[] {
  const ofServices = world.all('Service').map((object): KnownHost => {
    const exported = textOf(recordIn(recordIn(object.value, 'metadata'), 'annotations'), EXPORT_TO);
    const listed = (exported ?? '').split(',').map((each) => each.trim());
    return {
      object,
      host: `${object.name}.${object.namespace}.${SERVICE_DOMAIN}`,
      scope: visibleIn(
        listed.filter((each) => each !== ''),
        object.namespace,
      ),
      ports: numbersIn(object.spec, 'port'),
    };
  });
  const ofEntries = world.all('ServiceEntry.networking.istio.io').flatMap((object) =>
    textsIn(object.spec, 'hosts').map(
      (host): KnownHost => ({
        object,
        host: fullHost(host, object.namespace),
        scope: visibleIn(textsIn(object.spec, 'exportTo'), object.namespace),
        ports: numbersIn(object.spec, 'number'),
      }),
    ),
  );
  return [...ofServices, ...ofEntries];
}

function numbersIn(spec: Unchecked, field: string): number[] {
  return itemsIn(spec, 'ports').flatMap(([, port]) => (typeof port[field] === 'number' ? [port[field]] : []));
}

/** Hosts by name: a mesh has thousands, and every destination is looked up. */
export class HostIndex {
  readonly #exact = new Map<string, KnownHost[]>();
  readonly #wildcards: KnownHost[] = [];

  constructor(hosts: readonly KnownHost[]) {
    for (const host of hosts) {
      const known = this.#exact.get(host.host);
      if (known === undefined) this.#exact.set(host.host, [host]);
      else known.push(host);
      if (host.host.startsWith('*')) this.#wildcards.push(host);
    }
  }

  /** One that is seen from all of these namespaces; the exact name before wildcards. "name.namespace" is a Service's too. */
  find(name: string, namespace: string, seenFrom: readonly string[]): KnownHost | undefined {
    const full = fullHost(name, namespace);
    const isSeen = ({ scope }: KnownHost): boolean => seenFrom.every((each) => isSeenFrom(scope, each));
    const exact = [...(this.#exact.get(full) ?? []), ...(this.#exact.get(`${full}.${SERVICE_DOMAIN}`) ?? [])].find(isSeen);
    return exact ?? this.#wildcards.find((known) => covers(known.host, full) && isSeen(known));
  }
}
