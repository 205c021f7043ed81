// All objects of one revision, indexed for what compiling one of them asks of the others. Reads only; holds no compiled state.
import type { WorkloadState } from '../gen/mesh/v1/discovery.js';
import { groupBy } from '../group-by.js';
import { type Kind, qualifiedName, SERVICE_NAME_LABEL, type StoredObject } from '../resources/index.js';
import { GATEWAY_GROUP } from '../resources/route-references.js';
import { FilterTargets } from './filter-targets.js';
import { type GatewayListener, listenersOf } from './gateway-listeners.js';
import { type RulesByHost, rulesByHost } from './istio-hosts.js';
import { areSame, KeptOrder, KeptResults } from './kept.js';
import { keyOfTarget } from './rate-limit-targets.js';
import { impliedServices, NO_REPORTS, type RegistryReports } from './registry.js';
import { compareText } from './route-order.js';
import type { EntryHost, OutsideServices, ResolvedNames } from './service-entry.js';

export type Stored<K extends Kind> = Extract<StoredObject, { kind: K }>;

export interface RunningWorkload {
  /** The node that says so. */
  readonly node: string;
  readonly state: WorkloadState;
}

/** By "<namespace>/<name>" of the Workload. Null: nobody reports (static mode), every Workload counts as running at its spec's addresses. */
export type Running = ReadonlyMap<string, RunningWorkload> | null;

export interface CompileInput {
  readonly objects: readonly StoredObject[];
  readonly running: Running;
  /** Milliseconds since the epoch, for what expires by itself; absent: nothing does. */
  readonly nowMs?: number;
  /** Absent: the nodes report nothing. */
  readonly registry?: RegistryReports;
  /** Absent: nobody resolves names, and what goes by them has no endpoints. */
  readonly resolved?: ResolvedNames;
}

/** Keys are "<namespace>/<name>" where nothing else is said. */
export interface ObjectIndex {
  readonly services: ReadonlyMap<string, Stored<'Service'>>;
  /** Of those that are hosts of ServiceEntries. */
  readonly entryHosts: ReadonlyMap<string, EntryHost>;
  readonly gateways: ReadonlyMap<string, Stored<'Gateway'>>;
  /** By Gateway. */
  readonly gatewayListeners: ReadonlyMap<string, readonly GatewayListener[]>;
  readonly listenerSets: ReadonlyMap<string, Stored<'ListenerSet'>>;
  readonly istioGateways: ReadonlyMap<string, Stored<'IstioGateway'>>;
  readonly routes: ReadonlyMap<string, Stored<'HTTPRoute'>>;
  readonly grpcRoutes: readonly Stored<'GRPCRoute'>[];
  readonly tlsRoutes: readonly Stored<'TLSRoute'>[];
  readonly tcpRoutes: readonly Stored<'TCPRoute'>[];
  readonly udpRoutes: readonly Stored<'UDPRoute'>[];
  readonly virtualServices: ReadonlyMap<string, Stored<'VirtualService'>>;
  /** The oldest first. */
  readonly destinationRules: readonly Stored<'DestinationRule'>[];
  readonly rulesByHost: RulesByHost;
  readonly secrets: ReadonlyMap<string, Stored<'Secret'>>;
  /** By their own namespace: that of the objects they open. */
  readonly grantsByNamespace: ReadonlyMap<string, readonly Stored<'ReferenceGrant'>[]>;
  /** By their own name. */
  readonly namespaces: ReadonlyMap<string, Stored<'Namespace'>>;
  /** By their own name. */
  readonly nodes: ReadonlyMap<string, Stored<'Node'>>;
  readonly workloads: ReadonlyMap<string, Stored<'Workload'>>;
  /** By labelKey(): those that Services select. Not pods of Kubernetes: slices tell of those, as they know which are ready. */
  readonly workloadsByLabel: ReadonlyMap<string, readonly Stored<'Workload'>[]>;
  /** By the service their label names. */
  readonly slicesByService: ReadonlyMap<string, readonly Stored<'EndpointSlice'>[]>;
  /** By the service they target, the one in force first: the oldest, then by name (Gateway API, conflict resolution of policies). */
  readonly policiesByService: ReadonlyMap<string, readonly Stored<'TrafficPolicy'>[]>;
  /** Those with rateLimits, by keyOfTarget(), the one in force first. */
  readonly limitsByTarget: ReadonlyMap<string, readonly Stored<'TrafficPolicy'>[]>;
  /** As policiesByService. */
  readonly backendTlsByService: ReadonlyMap<string, readonly Stored<'BackendTLSPolicy'>[]>;
  readonly backendTrafficPolicies: readonly Stored<'XBackendTrafficPolicy'>[];
  /** As policiesByService. */
  readonly backendTrafficByService: ReadonlyMap<string, readonly Stored<'XBackendTrafficPolicy'>[]>;
  readonly configMaps: ReadonlyMap<string, Stored<'ConfigMap'>>;
  readonly backendTlsPolicies: readonly Stored<'BackendTLSPolicy'>[];
  /** By their own namespace, the oldest first. */
  readonly peerAuthentications: ReadonlyMap<string, readonly Stored<'PeerAuthentication'>[]>;
  readonly slices: readonly Stored<'EndpointSlice'>[];
  /** The oldest first. */
  readonly sidecars: readonly Stored<'Sidecar'>[];
  readonly policies: readonly Stored<'TrafficPolicy'>[];
  readonly filters: ReadonlyMap<string, Stored<'Filter'>>;
  readonly filterTargets: FilterTargets;
  readonly registry: RegistryReports;
}

/** What one compiler made of its objects before: a map of the index is the same object while the objects in it are. */
export class IndexMemo {
  readonly #orders = new Map<Kind, KeptOrder<StoredObject>>();
  readonly #results = new KeptResults();
  #slices: ReadonlyMap<string, readonly Stored<'EndpointSlice'>[]> = new Map();

  /** By name; a store gives its objects in this order already. */
  inOrder<K extends Kind>(kind: K, objects: readonly StoredObject[]): readonly Stored<K>[] {
    let order = this.#orders.get(kind);
    if (order === undefined) {
      order = new KeptOrder<StoredObject>(sortedByName);
      this.#orders.set(kind, order);
    }
    return order.of(objects) as readonly Stored<K>[];
  }

  get kept(): KeptResults['get'] {
    return (name, inputs, make) => this.#results.get(name, inputs, make);
  }

  /** Those of a service are the same array while they are the same. */
  slicesByService(slices: readonly Stored<'EndpointSlice'>[]): ReadonlyMap<string, readonly Stored<'EndpointSlice'>[]> {
    return this.#results.get('slicesByService', [slices], () => {
      const groups = groupBy(slices, (slice) => serviceOfSlice(slice) ?? []);
      for (const [service, group] of groups) {
        const before = this.#slices.get(service);
        if (before !== undefined && areSame(before, group)) groups.set(service, before);
      }
      this.#slices = groups;
      return groups;
    });
  }
}

/** Independent of the order of `objects`. */
export function indexObjects(
  objects: readonly StoredObject[],
  outside: OutsideServices,
  registry: RegistryReports = NO_REPORTS,
  memo = new IndexMemo(),
): ObjectIndex {
  const kinds = new Map<Kind, StoredObject[]>();
  for (const object of [...objects, ...outside.objects]) {
    const known = kinds.get(object.kind);
    if (known === undefined) kinds.set(object.kind, [object]);
    else known.push(object);
  }
  const { kept } = memo;
  const ofKind = <K extends Kind>(kind: K): readonly Stored<K>[] => memo.inOrder(kind, kinds.get(kind) ?? []);
  const oldest = <K extends Kind>(kind: K): readonly Stored<K>[] => kept(`oldest ${kind}`, [ofKind(kind)], () => oldestFirst(ofKind(kind)));
  const named = <K extends Kind>(kind: K): ReadonlyMap<string, Stored<K>> =>
    kept(`named ${kind}`, [ofKind(kind)], () => byName(ofKind(kind)));
  const unqualified = <K extends Kind>(kind: K): ReadonlyMap<string, Stored<K>> =>
    kept(`unqualified ${kind}`, [ofKind(kind)], () => new Map(ofKind(kind).map((object) => [object.name, object])));
  const slices = ofKind('EndpointSlice');
  const workloads = ofKind('Workload');
  const policies = oldest('TrafficPolicy');
  const backendTlsPolicies = oldest('BackendTLSPolicy');
  const backendTrafficPolicies = oldest('XBackendTrafficPolicy');
  const filters = named('Filter');
  const gateways = named('Gateway');
  const listenerSets = oldest('ListenerSet');
  const namespaces = unqualified('Namespace');
  const destinationRules = oldest('DestinationRule');
  const peerAuthentications = oldest('PeerAuthentication');
  // An external name is another host's: nothing of the mesh stands behind it.
  const declared = kept('declared', [ofKind('Service')], () =>
    byName(ofKind('Service').filter(({ manifest }) => manifest.spec.type !== 'ExternalName')),
  );
  const implied = impliedServices(registry, (name) => declared.has(name));
  const services = kept('services', [declared, ...implied], () =>
    implied.length === 0 ? declared : byName([...declared.values(), ...implied]),
  );
  const ofEntries = [...outside.hosts].flatMap(([name, { entry }]) => [name, entry]);
  const entryHosts = kept('entryHosts', ofEntries, () => outside.hosts);
  return {
    services,
    entryHosts,
    gateways,
    gatewayListeners: kept('gatewayListeners', [gateways, listenerSets, namespaces], () => {
      const setsByGateway = groupBy(listenerSets, (set) => [gatewayOfSet(set)]);
      return new Map([...gateways].map(([name, gateway]) => [name, listenersOf(gateway, setsByGateway.get(name) ?? [], namespaces)]));
    }),
    listenerSets: kept('listenerSets', [listenerSets], () => byName(listenerSets)),
    istioGateways: named('IstioGateway'),
    routes: named('HTTPRoute'),
    grpcRoutes: ofKind('GRPCRoute'),
    tlsRoutes: ofKind('TLSRoute'),
    tcpRoutes: ofKind('TCPRoute'),
    udpRoutes: ofKind('UDPRoute'),
    virtualServices: named('VirtualService'),
    destinationRules,
    rulesByHost: kept('rulesByHost', [destinationRules, services, entryHosts], () =>
      rulesByHost(destinationRules, { services, entryHosts }),
    ),
    grantsByNamespace: kept('grantsByNamespace', [ofKind('ReferenceGrant')], () =>
      groupBy(ofKind('ReferenceGrant'), ({ namespace }) => [namespace]),
    ),
    secrets: named('Secret'),
    namespaces,
    nodes: unqualified('Node'),
    workloads: named('Workload'),
    workloadsByLabel: kept('workloadsByLabel', [workloads], () =>
      groupBy(
        workloads.filter(({ manifest }) => manifest.spec.podUID === undefined),
        ({ namespace, manifest }) => Object.entries(manifest.metadata.labels ?? {}).map(([key, value]) => labelKey(namespace, key, value)),
      ),
    ),
    slicesByService: memo.slicesByService(slices),
    policiesByService: kept('policiesByService', [policies], () =>
      groupBy(policies, (policy) =>
        policy.manifest.spec.targetRefs.flatMap(({ kind, name }) => (kind === 'Service' ? [qualifiedName(policy.namespace, name)] : [])),
      ),
    ),
    limitsByTarget: kept('limitsByTarget', [policies], () =>
      groupBy(policies, ({ namespace, manifest: { spec } }) =>
        spec.rateLimits === undefined ? [] : spec.targetRefs.map((target) => keyOfTarget(namespace, target)),
      ),
    ),
    backendTlsByService: kept('backendTlsByService', [backendTlsPolicies], () =>
      groupBy(backendTlsPolicies, (policy) => [
        ...new Set(policy.manifest.spec.targetRefs.map((target) => qualifiedName(policy.namespace, target.name))),
      ]),
    ),
    backendTrafficPolicies,
    backendTrafficByService: kept('backendTrafficByService', [backendTrafficPolicies], () =>
      groupBy(backendTrafficPolicies, ({ namespace, manifest }) =>
        manifest.spec.targetRefs.map(({ name }) => qualifiedName(namespace, name)),
      ),
    ),
    configMaps: named('ConfigMap'),
    backendTlsPolicies,
    peerAuthentications: kept('peerAuthentications', [peerAuthentications], () =>
      groupBy(peerAuthentications, ({ namespace }) => [namespace]),
    ),
    slices,
    sidecars: oldest('Sidecar'),
    policies,
    filters,
    // It takes notes of the routes that are compiled.
    filterTargets: new FilterTargets(filters),
    registry,
  };
}

/** "<namespace>/<name>" of the Gateway it adds to; empty: it is for something else. */
export function gatewayOfSet({ namespace: own, manifest }: Stored<'ListenerSet'>): string {
  const { group, kind, namespace = own, name } = manifest.spec.parentRef;
  return kind === 'Gateway' && group === GATEWAY_GROUP ? qualifiedName(namespace, name) : '';
}

/** Of one label of an object of that namespace. */
export function labelKey(namespace: string, key: string, value: string): string {
  return `${namespace} ${key}=${value}`;
}

export function nameOf(object: { readonly namespace: string; readonly name: string }): string {
  return qualifiedName(object.namespace, object.name);
}

/** Who was there first holds (Gateway API, Istio). */
export function oldestFirst<T extends StoredObject>(objects: Iterable<T>): T[] {
  return [...objects].sort((a, b) => a.createdAtMs - b.createdAtMs || compareText(nameOf(a), nameOf(b)));
}

/** Made once of a slice, and so hashed once. */
const servicesOfSlices = new WeakMap<Stored<'EndpointSlice'>, string | null>();

/** "<namespace>/<name>" by its label; null: it has none. */
export function serviceOfSlice(slice: Stored<'EndpointSlice'>): string | null {
  let service = servicesOfSlices.get(slice);
  if (service === undefined) {
    const label = slice.manifest.metadata.labels?.[SERVICE_NAME_LABEL];
    service = label === undefined ? null : qualifiedName(slice.namespace, label);
    servicesOfSlices.set(slice, service);
  }
  return service;
}

/** Positions. The names are made once. */
function sortedByName(objects: readonly { readonly namespace: string; readonly name: string }[]): number[] {
  const named = objects.map((object, index) => ({ name: nameOf(object), index }));
  return named.sort((a, b) => compareText(a.name, b.name)).map(({ index }) => index);
}

function byName<T extends { readonly namespace: string; readonly name: string }>(objects: readonly T[]): Map<string, T> {
  return new Map(objects.map((object) => [nameOf(object), object]));
}
