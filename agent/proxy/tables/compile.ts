// Model → one generation: the engine's TableSpec, the decision tables in shared memory, and what status shows of them.
// Runs on the main thread, never on the hot path. Owns what destinations, sources and scopes are; the rest is beside it.

import {
  type Backend,
  type ConnectionRoute,
  type HttpRoute,
  type HttpRule,
  type Listener,
  Protocol,
} from '../../../api/gen/mesh/v1/model.js';
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
import type { Entrance } from './actions.js';
import { planSections } from './attempt-plans.js';
import { BalancerRows } from './balancers.js';
import type { CapturedMemory } from './captured-addresses.js';
import { ANYBODY, ClientClasses, clientNamespaces } from './clients.js';
import type { ClusterRows } from './cluster-sections.js';
import { type Cluster, type Clusters, type Variant, variantName } from './clusters.js';
import { packTables } from './decision-tables.js';
import { type DestinationMemory, NO_DESTINATIONS, type Routes } from './destinations.js';
import { covers, type GatewayListener, gatewayPorts, isHttp, isServed, MESH_LISTENERS, ownerOf, passesTls } from './gateway-ports.js';
import { buildGuards } from './guards.js';
import type { HashTables } from './hash-tables.js';
import { LABEL_OTHER, LABEL_PASSTHROUGH, type Labels } from './labels.js';
import { LISTENER_WORDS, ListenerKind, MAX_LISTENERS, PASS_ON, SCOPE_WORDS, ScopeWord } from './layout.js';
import type { OwnPlace } from './localities.js';
import { egressOf, type OutsideHost, outsideHosts, restrictedWorkloads } from './outside.js';
import { buildPairIndex } from './pair-index.js';
import { RouteChains, type RouteRow } from './routes.js';
import type { SourceMemory } from './sources.js';
import type { StableIds } from './stable-ids.js';
import { NOBODY, namespaceOf, Tenants } from './tenants.js';

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

/** Rows of `scopes`: one for each service port (the cluster's row), then one for each gateway port. */
class Scopes {
  readonly rows: number[] = [];
  readonly gatewayScopes = new Map<number, number>();
  private readonly consumers: { readonly scope: number; readonly namespace: string; readonly own: number }[] = [];

  constructor(
    private readonly chains: RouteChains,
    private readonly labels: Labels,
    private readonly clusterRows: ReadonlyMap<string, number>,
  ) {}

  /** Routes of consumers are for scopes of their own, which come behind all others: addConsumers(). */
  addService(cluster: Cluster, clusterRow: number, routes: Routes): void {
    this.addScope(cluster, clusterRow, routesFor('', routes, cluster), '');
  }

  /** A route's hostnames mean nothing here: the destination is known (GAMMA). */
  private addScope(cluster: Cluster, clusterRow: number, { requests, connections }: Routes, consumer: string): void {
    const { name, service, port } = cluster;
    // What a client sends there goes on as it is: its own TLS, if the server asks for it.
    const plainRow = this.clusterRows.get(variantName(cluster.serviceName, port.port, 'plain')) ?? -1;
    if (requests.length === 0 && connections.length === 0 && service.filters.length === 0) {
      this.rows.push(clusterRow, this.labels.idOf(name), plainRow, 0);
      return;
    }
    const scope = this.rows.length / SCOPE_WORDS;
    const scopeName = `service ${name}${consumer === '' ? '' : ` from ${consumer}`}`;
    const entrance = { scheme: 'http', port: port.port, rateLimits: [], filters: service.filters } as const;
    for (const route of requests.length === 0 ? plainRoute(cluster) : requests) this.chains.add(scope, scopeName, '', route, entrance);
    for (const route of connections) {
      for (const serverName of effectiveHosts(route.serverNames, ''))
        this.chains.addConnections(scope, scopeName, serverName, route, 'plain');
    }
    this.rows.push(requests.length === 0 ? clusterRow : -1, this.labels.idOf(name), connections.length === 0 ? plainRow : -1, 0);
  }

  /** For clients of a namespace that has routes of its own to the service, no others of their sort count. The service's own scope is `clusterRow`. */
  addConsumers(cluster: Cluster, clusterRow: number, routes: Routes): void {
    const namespaces = new Set([...routes.requests, ...routes.connections].flatMap(({ parents }) => consumersOf(parents, cluster)));
    for (const namespace of [...namespaces].sort()) {
      this.rows[clusterRow * SCOPE_WORDS + ScopeWord.HasConsumers] = 1;
      this.consumers.push({ scope: clusterRow, namespace, own: this.rows.length / SCOPE_WORDS });
      const [own, others] = [routesFor(namespace, routes, cluster), routesFor('', routes, cluster)];
      const requests = own.requests.length > 0 ? own.requests : others.requests;
      const connections = own.connections.length > 0 ? own.connections : others.connections;
      this.addScope(cluster, clusterRow, { requests, connections }, namespace);
    }
  }

  /** For captured clients, of all hosts outside of the mesh with that port. What is none of them goes on to where it was sent. */
  addOutside(port: number, hosts: readonly OutsideHost[]): number {
    const scope = this.rows.length / SCOPE_WORDS;
    const scopeName = `outside :${port}`;
    this.rows.push(PASS_ON, LABEL_PASSTHROUGH, PASS_ON, 0);
    for (const { host, requests, connections } of hosts) {
      for (const route of requests) this.chains.add(scope, scopeName, host, route, { scheme: 'http', port, rateLimits: [], filters: [] });
      // Bytes whose server name nobody knows may be for any of the hosts.
      for (const route of connections)
        for (const serverName of route.serverNames) this.chains.addConnections(scope, scopeName, serverName, route, 'plain');
    }
    return scope;
  }

  consumersBy(tenants: Tenants): (readonly [number, number, number])[] {
    // A namespace without a number of its own has no clients that could be told from others.
    const rows = this.consumers.map(({ scope, namespace, own }) => [scope, tenants.of(`${namespace}/`), own] as const);
    return rows.filter(([, tenant]) => tenant !== NOBODY);
  }

  /** A request or connection belongs to the listener with the most specific hostname that covers it, and sees the routes of no other. */
  addGateway({ sockets, name }: GatewayListener, listeners: readonly Listener[], { requests, connections }: Routes): void {
    const scope = this.rows.length / SCOPE_WORDS;
    this.rows.push(-1, this.labels.idOf(name), -1, 0);
    for (const { id } of sockets) this.gatewayScopes.set(id, scope);
    for (const listener of listeners) {
      this.chains.stopAt(scope, listener.hostname);
      if (!isServed(listener)) continue;
      const scopeName = `gateway ${listener.gateway}:${listener.port}`;
      const shownBy = listener.backendCertificate === undefined ? '' : listener.gateway;
      const hostsOf = (hostnames: readonly string[]): string[] =>
        effectiveHosts(hostnames, listener.hostname).filter((host) => ownerOf(host, listeners)?.hostname === listener.hostname);
      if (isHttp(listener)) {
        for (const route of requests.filter((candidate) => isAttached(candidate, listener)))
          for (const host of hostsOf(route.hostnames)) this.chains.add(scope, scopeName, host, route, entranceOf(listener), shownBy);
      } else {
        const variant: Variant = passesTls(listener) ? 'plain' : 'declared';
        for (const route of connections.filter((candidate) => isAttached(candidate, listener)))
          for (const host of hostsOf(route.serverNames)) this.chains.addConnections(scope, scopeName, host, route, variant, shownBy);
      }
    }
  }
}

/** Where filters are attached to a service that has no routes: the one that it is without them. */
function plainRoute({ service, port }: Cluster): HttpRoute[] {
  if (service.filters.length === 0) return [];
  const { namespace, name } = service;
  const backend = { ...PLAIN_BACKEND, service: `${namespace}/${name}`, port: port.port };
  return [
    {
      kind: 'Service',
      namespace,
      name,
      createdAtMs: 0,
      parents: [],
      hostnames: [],
      rules: [{ ...PLAIN_RULE, backends: [backend] }],
      inOrder: false,
    },
  ];
}

const PLAIN_BACKEND: Backend = {
  service: '',
  port: 0,
  weight: 1,
  requestHeaders: undefined,
  responseHeaders: undefined,
  rewrite: undefined,
  answer: undefined,
  labels: {},
  mirrors: [],
  cors: undefined,
};
const PLAIN_RULE: HttpRule = {
  name: '',
  matches: [],
  backends: [],
  requestHeaders: undefined,
  responseHeaders: undefined,
  requestTimeoutMs: 0,
  backendTimeoutMs: 0,
  mirrors: [],
  cors: undefined,
  retry: undefined,
  fault: undefined,
  filters: [],
  rateLimits: [],
  sessionPersistence: undefined,
};

function entranceOf({ protocol, port, rateLimits, filters }: Listener): Entrance {
  return { scheme: protocol === Protocol.HTTPS ? 'https' : 'http', port, rateLimits, filters };
}

/** Namespaces whose clients alone the route is for; none: it is for all. */
function consumersOf(parents: HttpRoute['parents'], { serviceName: name, port }: Cluster): string[] {
  return parents.flatMap((parent) =>
    parent.consumerNamespace !== '' &&
    parent.parent?.$case === 'service' &&
    parent.parent.value === name &&
    (parent.port === 0 || parent.port === port.port)
      ? [parent.consumerNamespace]
      : [],
  );
}

/** `consumer` empty: those that are for no namespace's clients alone. */
function routesFor(consumer: string, routes: Routes, cluster: Cluster): Routes {
  if (routes === NO_ROUTES) return routes;
  const isMeant = ({ parents }: WithParents): boolean => {
    const consumers = consumersOf(parents, cluster);
    return consumer === '' ? consumers.length === 0 : consumers.includes(consumer);
  };
  return { requests: routes.requests.filter(isMeant), connections: routes.connections.filter(isMeant) };
}

interface RoutesByService {
  readonly requests: ReadonlyMap<string, readonly HttpRoute[]>;
  readonly connections: ReadonlyMap<string, readonly ConnectionRoute[]>;
}

const NO_ROUTES: Routes = { requests: [], connections: [] };

type WithParents = Pick<HttpRoute, 'parents'>;

function routesByService<Route extends WithParents>(routes: readonly Route[]): ReadonlyMap<string, readonly Route[]> {
  const byService = new Map<string, Route[]>();
  for (const route of routes) {
    for (const service of new Set(route.parents.flatMap(({ parent }) => (parent?.$case === 'service' ? [parent.value] : [])))) {
      const siblings = byService.get(service);
      if (siblings === undefined) byService.set(service, [route]);
      else siblings.push(route);
    }
  }
  return byService;
}

function attachedTo(attached: RoutesByService, { serviceName: name, port }: Cluster): Routes {
  const requests = attached.requests.get(name);
  const connections = attached.connections.get(name);
  if (requests === undefined && connections === undefined) return NO_ROUTES;
  const isAttached = (route: WithParents): boolean =>
    route.parents.some(
      (parent) => parent.parent?.$case === 'service' && parent.parent.value === name && (parent.port === 0 || parent.port === port.port),
    );
  return { requests: (requests ?? []).filter(isAttached), connections: (connections ?? []).filter(isAttached) };
}

function isAttached(route: WithParents, listener: Listener): boolean {
  return route.parents.some(
    ({ parent, port, section }) =>
      parent?.$case === 'gateway' &&
      parent.value === listener.gateway &&
      (port === 0 || port === listener.port) &&
      (section === '' || section === listener.name),
  );
}

/** The hosts that both the route and the listener cover, each as the more specific of the two says it. */
function effectiveHosts(hostnames: readonly string[], listenerHost: string): string[] {
  if (hostnames.length === 0) return [listenerHost];
  if (listenerHost === '') return [...new Set(hostnames)];
  const both = hostnames.flatMap((host) => (covers(listenerHost, host) ? [host] : covers(host, listenerHost) ? [listenerHost] : []));
  return [...new Set(both)];
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
