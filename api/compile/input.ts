// All objects of one revision, indexed for what compiling one of them asks of the others. Reads only; holds no compiled state.
import type { WorkloadState } from '../gen/mesh/v1/discovery.js';
import { type Kind, qualifiedName, SERVICE_NAME_LABEL, type StoredObject } from '../resources/index.js';
import { GATEWAY_GROUP } from '../resources/route-references.js';
import { FilterTargets } from './filter-targets.js';
import { type GatewayListener, listenersOf } from './gateway-listeners.js';
import { type RulesByHost, rulesByHost } from './istio-hosts.js';
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

/** Independent of the order of `objects`. */
export function indexObjects(
  objects: readonly StoredObject[],
  outside: OutsideServices,
  registry: RegistryReports = NO_REPORTS,
): ObjectIndex {
  const kinds = groupBy([...objects, ...outside.objects], ({ kind }) => [kind]);
  const ofKind = <K extends Kind>(kind: K): Stored<K>[] => inOrder((kinds.get(kind) ?? []) as Stored<K>[]);
  const workloads = ofKind('Workload');
  const slices = ofKind('EndpointSlice');
  const policies = oldestFirst(ofKind('TrafficPolicy'));
  const backendTlsPolicies = oldestFirst(ofKind('BackendTLSPolicy'));
  const backendTrafficPolicies = oldestFirst(ofKind('XBackendTrafficPolicy'));
  const filters = byName(ofKind('Filter'));
  // An external name is another host's: nothing of the mesh stands behind it.
  const declared = byName(ofKind('Service').filter(({ manifest }) => manifest.spec.type !== 'ExternalName'));
  const gateways = byName(ofKind('Gateway'));
  const listenerSets = oldestFirst(ofKind('ListenerSet'));
  const setsByGateway = groupBy(listenerSets, (set) => [gatewayOfSet(set)]);
  const namespaces = new Map(ofKind('Namespace').map((namespace) => [namespace.name, namespace]));
  const implied = impliedServices(registry, (name) => declared.has(name));
  const services = implied.length === 0 ? declared : byName([...declared.values(), ...implied]);
  const destinationRules = oldestFirst(ofKind('DestinationRule'));
  return {
    services,
    entryHosts: outside.hosts,
    gateways,
    gatewayListeners: new Map(
      [...gateways].map(([name, gateway]) => [name, listenersOf(gateway, setsByGateway.get(name) ?? [], namespaces)]),
    ),
    listenerSets: byName(listenerSets),
    istioGateways: byName(ofKind('IstioGateway')),
    routes: byName(ofKind('HTTPRoute')),
    grpcRoutes: ofKind('GRPCRoute'),
    tlsRoutes: ofKind('TLSRoute'),
    tcpRoutes: ofKind('TCPRoute'),
    udpRoutes: ofKind('UDPRoute'),
    virtualServices: byName(ofKind('VirtualService')),
    destinationRules,
    rulesByHost: rulesByHost(destinationRules, { services, entryHosts: outside.hosts }),
    grantsByNamespace: groupBy(ofKind('ReferenceGrant'), ({ namespace }) => [namespace]),
    secrets: byName(ofKind('Secret')),
    namespaces,
    nodes: new Map(ofKind('Node').map((node) => [node.name, node])),
    workloads: byName(workloads),
    workloadsByLabel: groupBy(
      workloads.filter(({ manifest }) => manifest.spec.podUID === undefined),
      ({ namespace, manifest }) => Object.entries(manifest.metadata.labels ?? {}).map(([key, value]) => labelKey(namespace, key, value)),
    ),
    slicesByService: groupBy(slices, (slice) => serviceOfSlice(slice)),
    policiesByService: groupBy(policies, (policy) =>
      policy.manifest.spec.targetRefs.flatMap(({ kind, name }) => (kind === 'Service' ? [qualifiedName(policy.namespace, name)] : [])),
    ),
    limitsByTarget: groupBy(policies, ({ namespace, manifest: { spec } }) =>
      spec.rateLimits === undefined ? [] : spec.targetRefs.map((target) => keyOfTarget(namespace, target)),
    ),
    backendTlsByService: groupBy(backendTlsPolicies, (policy) => [
      ...new Set(policy.manifest.spec.targetRefs.map((target) => qualifiedName(policy.namespace, target.name))),
    ]),
    backendTrafficPolicies,
    backendTrafficByService: groupBy(backendTrafficPolicies, ({ namespace, manifest }) =>
      manifest.spec.targetRefs.map(({ name }) => qualifiedName(namespace, name)),
    ),
    configMaps: byName(ofKind('ConfigMap')),
    backendTlsPolicies,
    peerAuthentications: groupBy(oldestFirst(ofKind('PeerAuthentication')), ({ namespace }) => [namespace]),
    slices,
    sidecars: oldestFirst(ofKind('Sidecar')),
    policies,
    filters,
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

function serviceOfSlice(slice: Stored<'EndpointSlice'>): string[] {
  const service = slice.manifest.metadata.labels?.[SERVICE_NAME_LABEL];
  return service === undefined ? [] : [qualifiedName(slice.namespace, service)];
}

/** By name. The names are made once, and a store gives its objects in this order already. */
function inOrder<T extends StoredObject>(objects: readonly T[]): T[] {
  const named = objects.map((object) => ({ name: nameOf(object), object }));
  return named.sort((a, b) => compareText(a.name, b.name)).map(({ object }) => object);
}

function byName<T extends { readonly namespace: string; readonly name: string }>(objects: readonly T[]): Map<string, T> {
  return new Map(objects.map((object) => [nameOf(object), object]));
}

function groupBy<T>(items: readonly T[], keysOf: (item: T) => readonly string[]): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    for (const key of keysOf(item)) {
      const group = groups.get(key);
      if (group === undefined) groups.set(key, [item]);
      else group.push(item);
    }
  }
  return groups;
}
