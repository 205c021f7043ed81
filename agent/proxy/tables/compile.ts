// Model → one generation: the engine's TableSpec, the decision tables in shared memory, and what status shows of them.
// Runs on the main thread, never on the hot path. Puts together what is made beside it.
import type { Model } from '../../model/model.js';
import type { EndpointSpec, TableSpec } from '../../native/engine.js';
import { FilterChains, type FilterTables, type WantedFilter } from '../filters/filter-tables.js';
import type { PatternSpec } from '../patterns.js';
import type { LimitMemory } from '../rate-limit/plan.js';
import { sourceKeys } from '../rate-limit/source-keys.js';
import type { LimitsSpec } from '../rate-limit/spec.js';
import type { GuardedCluster } from '../resilience/resilience.js';
import { type SessionSpec, sessionEndpoint } from '../sessions.js';
import type { UpstreamContexts } from '../upstream-tls.js';
import { planSections } from './attempt-plans.js';
import { BalancerRows } from './balancers.js';
import type { CapturedMemory } from './captured-addresses.js';
import { ANYBODY, ClientClasses, clientNamespaces } from './clients.js';
import type { ClusterRows } from './cluster-sections.js';
import type { Cluster, Clusters } from './clusters.js';
import { packTables } from './decision-tables.js';
import { type DestinationMemory, NO_DESTINATIONS } from './destinations.js';
import { type GatewayListener, gatewayPorts, MESH_LISTENERS } from './gateway-ports.js';
import { buildGuards } from './guards.js';
import type { HashTables } from './hash-tables.js';
import { LABEL_OTHER, type Labels } from './labels.js';
import { LISTENER_WORDS, ListenerKind, MAX_LISTENERS } from './layout.js';
import type { OwnPlace } from './localities.js';
import { egressOf, outsideHosts, restrictedWorkloads } from './outside.js';
import { buildPairIndex } from './pair-index.js';
import { RouteChains, type RouteRow } from './routes.js';
import { attachedTo, routesByService, Scopes } from './scopes.js';
import type { SourceMemory } from './sources.js';
import type { StableIds } from './stable-ids.js';
import { namespaceOf, Tenants } from './tenants.js';

/** What outlives generations. */
export interface TableIds {
  readonly clusters: Clusters;
  readonly clusterRows: ClusterRows;
  readonly captured: CapturedMemory;
  readonly destinations: DestinationMemory;
  readonly sources: SourceMemory;
  /** Counters of rules. */
  readonly rules: StableIds;
  /** Gateway listeners; the engine's id is FIRST_GATEWAY_LISTENER more. */
  readonly listeners: StableIds;
  /** Namespaces; the engine's id is 1 more. */
  readonly tenants: StableIds;
  /** Clusters with limits or outlier detection; their row of shared state is 1 more. */
  readonly guards: StableIds;
  /** Counters of filters. */
  readonly filters: StableIds;
  readonly labels: Labels;
  readonly upstreamTls: UpstreamContexts;
  /** Of sessions whose rule has no key that all nodes know. */
  readonly sessionKey: Uint8Array;
  readonly hashTables: HashTables;
  readonly limits: LimitMemory;
}

const NOWHERE: OwnPlace = { region: '', zone: '', node: '' };

export interface Generation {
  readonly generation: number;
  readonly spec: TableSpec;
  readonly buffer: SharedArrayBuffer;
  readonly patterns: readonly PatternSpec[];
  readonly limits: LimitsSpec;
  readonly sessions: readonly SessionSpec[];
  /** Null: no rule has any. */
  readonly filters: FilterTables | null;
  /** By FilterBinding.key: what must run. */
  readonly wantedFilters: ReadonlyMap<string, WantedFilter>;
  readonly clusters: readonly Cluster[];
  /** Those that differ from it by how or by which part they are spoken to: of gRPC, of subsets. */
  readonly variants: readonly Cluster[];
  readonly guarded: readonly GuardedCluster[];
  readonly routes: readonly RouteRow[];
  readonly listeners: readonly GatewayListener[];
  /** Ids by namespace. */
  readonly tenants: ReadonlyMap<string, number>;
  /** Workloads of the node for which what is in no registry is refused, and how many hosts there are outside of the mesh. */
  readonly egress: { readonly registryOnly: readonly string[]; readonly outsideHosts: number };
  /** What could not be honoured, in words for the log. */
  readonly warnings: readonly string[];
}

/**
 * `node`: our own name, by which workloads are known to be here; null: no captured traffic (static mode), so no destinations either.
 * `tenantWeights`: by namespace. `place`: where the node is.
 */
export function compileTables(
  model: Model,
  generation: number,
  node: string | null,
  ids: TableIds,
  tenantWeights: ReadonlyMap<string, number> = new Map(),
  place: OwnPlace = NOWHERE,
): Generation {
  const clusterSet = ids.clusters.build(model, ids.upstreamTls, clientNamespaces(model, node));
  const addresses = ids.captured.of(model, node);
  const { labels } = ids;
  const tenants = new Tenants(namespaces(model), ids.tenants);
  const sources = ids.sources.of(model, labels, tenants);
  const filters = new FilterChains(model.filters, ids.filters.assign([...model.filters.keys()].sort()));
  const chains = new RouteChains(clusterSet.rowByName, sources.sources, ids.limits, filters);
  const scopes = new Scopes(chains, labels, clusterSet.rowByName);
  const routes = [...model.routes.values()];
  const connectionRoutes = [...model.connectionRoutes.values()];
  const attached = { requests: routesByService(routes), connections: routesByService(connectionRoutes) };
  for (const [row, cluster] of clusterSet.clusters.entries()) scopes.addService(cluster, row, attachedTo(attached, cluster));
  const gateways = gatewayPorts(model, ids.listeners);
  for (const { listener, members } of gateways.ports)
    scopes.addGateway(listener, members, { requests: routes, connections: connectionRoutes });
  for (const [row, cluster] of clusterSet.clusters.entries()) scopes.addConsumers(cluster, row, attachedTo(attached, cluster));
  const outside = outsideHosts(node === null ? [] : clusterSet.clusters, (cluster) => attachedTo(attached, cluster));
  const outsideScopes = [...outside].map(([port, hosts]) => [port, 0, scopes.addOutside(port, hosts)] as const);
  const byPort = new Map(
    outsideScopes.map(([port, , scope]) => [port, { scope, names: outside.get(port)!.some(({ connections }) => connections.length > 0) }]),
  );
  const guards = buildGuards(clusterSet, ids.guards, chains.conditions, addresses);
  const { sections, rows } = chains.finish(ids.rules);
  const { clusters } = clusterSet;
  const parts = { model, clusters, addresses, labels, tenants, guards, limits: chains.limits, outside: byPort };
  const destinations =
    node === null ? NO_DESTINATIONS : ids.destinations.of({ ...parts, node, attachedTo: (cluster) => attachedTo(attached, cluster) });
  const listeners = gateways.ports.map(({ listener }) => listener);
  const balancers = new BalancerRows(chains.conditions, ids.hashTables, place);
  const sectionParts = { labels, balancers, limits: chains.limits, addresses, guardOf: guards.of };
  const clusterRows = ids.clusterRows.sections(generation, [...clusterSet.clusters, ...clusterSet.variants], sectionParts);
  ids.hashTables.settle();
  const clients = new ClientClasses(clusterSet.apart);
  const sourceClients = clients.ofSources(sources.sources);
  const listenerWords = listenerRows(scopes, listeners, clients);
  const plans = planSections(clusterSet, labels, (retry) => chains.actions.retryOf(retry));
  const spec: TableSpec = {
    generation,
    hosts: chains.hosts.items,
    paths: chains.paths.items,
    predicates: chains.conditions.predicates.items,
    values: chains.conditions.values.items,
    destinations: destinations.specs,
    sources: sources.addresses,
    sourceTwins: sources.twins,
    identities: [],
    endpoints: clusterSet.endpoints,
    mutations: chains.actions.mutations.items,
    localReplies: chains.actions.replies.items,
    rewrites: chains.actions.rewrites.items,
    cors: chains.actions.cors.items,
    retries: chains.actions.retries.items,
    sourceTenants: sources.tenants,
    destinationTenants: destinations.tenants,
    listenerTenants: tenants.ofListeners(listeners),
    tenantWeights: tenants.weights(tenantWeights),
    names: node === null ? [] : serviceNames(model),
  };
  const buffer = packTables(generation, {
    ...sections,
    ...clusterRows,
    balancers: balancers.balancers,
    groups: balancers.groups,
    hashTables: balancers.hashWords,
    cookies: balancers.cookies,
    guards: guards.rows,
    ...plans,
    listeners: listenerWords,
    scopes: scopes.rows,
    destinations: destinations.rows,
    sources: sources.labels,
    sourceTenants: sources.tenants,
    sourceEgress: egressOf(model, sources.owners),
    outside: buildPairIndex(outsideScopes),
    sourceKeys: chains.limits.looksAtSources ? sourceKeys(sources.sources, ids.limits.hashKey) : [],
    sessionEndpoints: chains.actions.sessions.length === 0 ? [] : sessionWords(clusterSet.endpoints),
    consumers: buildPairIndex(scopes.consumersBy(tenants)),
    sourceClients,
    clientClusters: buildPairIndex(clients.index()),
    sizes: [
      Math.ceil(chains.conditions.predicates.items.length / 32),
      chains.conditions.setWords,
      chains.conditions.values.items.length > 0 ? 1 : 0,
      outsideScopes.length > 0 ? 1 : 0,
      clusterSet.apart.length > 0 ? 1 : 0,
    ],
  });
  ids.limits.settle();
  const warnings = [
    ...clusterSet.warnings,
    ...gateways.warnings,
    ...chains.conditions.warnings,
    ...balancers.warnings,
    ...guards.warnings,
    ...chains.limits.warnings,
    ...capacityWarnings(rows, labels),
  ];
  return {
    generation,
    spec,
    buffer,
    patterns: chains.conditions.patterns.items,
    limits: chains.limits.specFor(sources.sources),
    sessions: chains.actions.sessions.map((session) => (session.key.length === 0 ? { ...session, key: ids.sessionKey } : session)),
    filters: filters.tables(labels.all),
    wantedFilters: filters.wanted,
    clusters: clusterSet.clusters,
    variants: clusterSet.variants,
    guarded: guards.clusters,
    routes: rows,
    listeners,
    tenants: tenants.names,
    egress: {
      registryOnly: node === null ? [] : restrictedWorkloads(model, node),
      outsideHosts: new Set([...outside.values()].flatMap((hosts) => hosts.map(({ host }) => host))).size,
    },
    warnings,
  };
}

/**
 * Names that nobody else has: in the cluster's own domain, or ".svc". A service without addresses of its own (headless) is somebody else's to
 * answer for.
 */
function serviceNames(model: Model): TableSpec['names'] {
  return [...model.services.values()].flatMap(({ hostnames, addresses }) =>
    addresses.length === 0 ? [] : hostnames.filter((name) => /\.svc(\.|$)/.test(name)).map((name) => ({ name, addresses })),
  );
}

function listenerRows({ gatewayScopes }: Scopes, gateways: readonly GatewayListener[], clients: ClientClasses): number[] {
  const rows = new Array<number>(MAX_LISTENERS * LISTENER_WORDS).fill(0);
  const put = (id: number, kind: ListenerKind, scope: number, client: number): void => {
    rows.splice(id * LISTENER_WORDS, LISTENER_WORDS, kind, scope, client);
  };
  for (const { id, kind } of MESH_LISTENERS) put(id, kind.endsWith('outbound') ? ListenerKind.Outbound : ListenerKind.Inbound, 0, ANYBODY);
  // A port that gateways share is the first one's.
  for (const { name, sockets } of gateways)
    for (const { id } of sockets) put(id, ListenerKind.Gateway, gatewayScopes.get(id) ?? 0, clients.ofGateway(name));
  return rows;
}

function namespaces(model: Model): Set<string> {
  const gateways = [...model.listeners.values()].map(({ gateway }) => gateway);
  return new Set([...model.workloads.keys(), ...model.services.keys(), ...gateways].map(namespaceOf));
}

/** By endpoint id, two each. */
function sessionWords(endpoints: readonly EndpointSpec[]): Int32Array {
  const words = new Int32Array(2 * (1 + endpoints.reduce((most, { id }) => Math.max(most, id), -1)));
  for (const { id, address, port } of endpoints) words.set(sessionEndpoint(address, port), id * 2);
  return words;
}

function capacityWarnings(rows: readonly RouteRow[], labels: Labels): string[] {
  const uncounted = rows.filter(({ ruleId }) => ruleId < 0).length;
  const warnings = uncounted === 0 ? [] : [`${uncounted} route matches are served but not counted: too many for the counters`];
  if (labels.overflowed > 0)
    warnings.push(`${labels.overflowed} names found no room in the metrics and are shown as "${labels.textOf(LABEL_OTHER)}"`);
  return warnings;
}
