// Where a request is routed from: a service's port (for clients with routes of their own another one), a gateway's port, a port of hosts outside of
// the mesh. Which routes are attached to it, and under which hosts. The chains of rules are the routes' (routes.ts).
import { type ConnectionRoute, HttpRoute, type Listener, Protocol } from '../../../api/gen/mesh/v1/model.js';
import type { Entrance } from './actions.js';
import { type Cluster, type Variant, variantName } from './clusters.js';
import type { Routes } from './destinations.js';
import { covers, type GatewayListener, isHttp, isServed, ownerOf, passesTls } from './gateway-ports.js';
import { LABEL_PASSTHROUGH, type Labels } from './labels.js';
import { PASS_ON, SCOPE_WORDS, ScopeWord } from './layout.js';
import type { OutsideHost } from './outside.js';
import type { RouteChains } from './routes.js';
import { NOBODY, type Tenants } from './tenants.js';

/** Rows of `scopes`: one for each service port (the cluster's row), then one for each gateway port. */
export class Scopes {
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
  const backend = { service: `${namespace}/${name}`, port: port.port, weight: 1 };
  return [HttpRoute.fromPartial({ kind: 'Service', namespace, name, rules: [{ backends: [backend] }] })];
}

function entranceOf({ protocol, port, rateLimits, filters }: Listener): Entrance {
  return { scheme: protocol === Protocol.HTTPS ? 'https' : 'http', port, rateLimits, filters };
}

/** Namespaces whose clients alone the route is for; none: it is for all. */
function consumersOf(parents: HttpRoute['parents'], cluster: Cluster): string[] {
  return parents.flatMap((parent) => (parent.consumerNamespace !== '' && isOf(parent, cluster) ? [parent.consumerNamespace] : []));
}

/** The parent is the service, all its ports or this one. */
function isOf({ parent, port: wanted }: HttpRoute['parents'][number], { serviceName, port }: Cluster): boolean {
  return parent?.$case === 'service' && parent.value === serviceName && (wanted === 0 || wanted === port.port);
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

export function routesByService<Route extends WithParents>(routes: readonly Route[]): ReadonlyMap<string, readonly Route[]> {
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

export function attachedTo(attached: RoutesByService, cluster: Cluster): Routes {
  const requests = attached.requests.get(cluster.serviceName);
  const connections = attached.connections.get(cluster.serviceName);
  if (requests === undefined && connections === undefined) return NO_ROUTES;
  const isMeant = ({ parents }: WithParents): boolean => parents.some((parent) => isOf(parent, cluster));
  return { requests: (requests ?? []).filter(isMeant), connections: (connections ?? []).filter(isMeant) };
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
