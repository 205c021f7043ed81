// The parents of one route that take it: services and ports that exist, listeners that allow it (Gateway API, route attachment).
import type { RouteParent } from '../gen/mesh/v1/model.js';
import { GATEWAY_GROUP } from '../resources/route-references.js';
import { type DeclaredListener, type ListenerOwner, selectsNamespace } from './gateway-listeners.js';
import { gatewayOfSet, nameOf, type ObjectIndex, type Stored } from './input.js';
import type { ConditionReason, ReportProblem } from './problem.js';
import { hostnameMatches } from './route-order.js';
import { tcpPorts } from './service-ports.js';

export type AnyRoute = Stored<'HTTPRoute'> | Stored<'GRPCRoute'> | Stored<'TLSRoute'> | Stored<'TCPRoute'> | Stored<'UDPRoute'>;
type Reference = NonNullable<AnyRoute['manifest']['spec']['parentRefs']>[number];
type Refuse = (message: string, reason: ConditionReason) => void;
export type ParentIndex = Pick<ObjectIndex, 'services' | 'gateways' | 'gatewayListeners' | 'listenerSets' | 'namespaces'>;

/** Listeners that each kind of route can be attached to. */
const PROTOCOLS: Readonly<Record<AnyRoute['kind'], readonly string[]>> = {
  HTTPRoute: ['HTTP', 'HTTPS'],
  GRPCRoute: ['HTTP', 'HTTPS'],
  TLSRoute: ['TLS'],
  // A TLS listener that ends TLS hands the bytes within to whichever of the two is attached.
  TCPRoute: ['TCP', 'TLS'],
  // No listener is opened for UDP.
  UDPRoute: [],
};

/** Lower case; none: every host. */
export function hostnamesOf(route: AnyRoute): readonly string[] {
  return route.kind === 'TCPRoute' || route.kind === 'UDPRoute' ? [] : (route.manifest.spec.hostnames ?? []);
}

/** Of the core group alone: by default references are to a Gateway's. */
export function isService({ group, kind }: { readonly group: string; readonly kind: string }): boolean {
  return group === '' && kind === 'Service';
}

/** A parent that doesn't take the route is left out and reported. A gateway parent names its listener always. */
export function compileParents(route: AnyRoute, index: ParentIndex, report: ReportProblem): RouteParent[] {
  return (route.manifest.spec.parentRefs ?? []).flatMap((reference, position) => {
    const refuse: Refuse = (message, reason) => report(`spec.parentRefs[${position}]`, `${message}: the route doesn't apply there`, reason);
    const name = nameOf({ namespace: reference.namespace ?? route.namespace, name: reference.name });
    if (isService(reference)) return serviceParent(route, name, reference, index, refuse);
    if (reference.group === GATEWAY_GROUP && reference.kind === 'Gateway')
      return gatewayParents(route, name, index.gateways.get(name), name, reference, index, refuse);
    if (reference.group === GATEWAY_GROUP && reference.kind === 'ListenerSet') {
      const set = index.listenerSets.get(name);
      return gatewayParents(route, name, set, set === undefined ? '' : gatewayOfSet(set), reference, index, refuse);
    }
    refuse(`parents of kind ${reference.kind} (group ${JSON.stringify(reference.group)}) are not supported`, 'InvalidKind');
    return [];
  });
}

function serviceParent(route: AnyRoute, name: string, reference: Reference, index: ParentIndex, refuse: Refuse): RouteParent[] {
  const service = index.services.get(name);
  if (service === undefined) {
    refuse(`Service ${name} doesn't exist`, 'NoMatchingParent');
    return [];
  }
  if (route.kind === 'UDPRoute') {
    refuse('UDP passes the mesh by', 'UnsupportedValue');
    return [];
  }
  const isConsumer = service.namespace !== route.namespace;
  if (isConsumer && route.kind !== 'HTTPRoute' && route.kind !== 'GRPCRoute') {
    refuse(
      `Service ${name} is in another namespace: a route of its clients (consumer route) is an HTTPRoute or a GRPCRoute`,
      'UnsupportedValue',
    );
    return [];
  }
  const consumerNamespace = isConsumer ? route.namespace : '';
  const parent = { $case: 'service', value: name } as const;
  if (reference.port === undefined && reference.sectionName === undefined) return [{ parent, port: 0, section: '', consumerNamespace }];
  const port = tcpPorts(service).find(
    (candidate) =>
      (reference.port === undefined || candidate.port === reference.port) &&
      (reference.sectionName === undefined || candidate.name === reference.sectionName),
  );
  if (port !== undefined) return [{ parent, port: port.port, section: '', consumerNamespace }];
  refuse(`Service ${name} has no TCP port ${reference.sectionName ?? reference.port}`, 'NoMatchingParent');
  return [];
}

/** `name`: of the owner of the listeners, a Gateway or a ListenerSet; `gateway`: of the Gateway that has them. */
function gatewayParents(
  route: AnyRoute,
  name: string,
  owner: ListenerOwner | undefined,
  gateway: string,
  { kind, sectionName, port }: Reference,
  index: ParentIndex,
  refuse: Refuse,
): RouteParent[] {
  if (owner === undefined) {
    refuse(`${kind} ${name} doesn't exist`, 'NoMatchingParent');
    return [];
  }
  const own = (index.gatewayListeners.get(gateway) ?? []).filter((each) => each.owner === owner);
  const named = own.filter(
    ({ listener }) => (sectionName === undefined || listener.name === sectionName) && (port === undefined || listener.port === port),
  );
  if (named.length === 0)
    refuse(`${kind} ${name} has no listener ${sectionName ?? ''}${port === undefined ? '' : ` on port ${port}`}`, 'NoMatchingParent');
  const allowed = named.filter(({ listener }) => isAllowed(listener, route, owner.namespace, index));
  if (named.length > 0 && allowed.length === 0)
    refuse(
      `no listener of ${kind} ${name} allows a route of kind ${route.kind} of namespace ${route.namespace} (protocol, allowedRoutes)`,
      'NotAllowedByListeners',
    );
  const taking = allowed.filter(({ listener }) => sharesHostname(listener, route));
  if (allowed.length > 0 && taking.length === 0)
    refuse(`no hostname of the route is one of a listener of ${kind} ${name}`, 'NoMatchingListenerHostname');
  return taking.map(({ listener, section }) => ({
    parent: { $case: 'gateway', value: gateway },
    port: listener.port,
    section,
    consumerNamespace: '',
  }));
}

function isAllowed(listener: DeclaredListener, route: AnyRoute, ownNamespace: string, index: ParentIndex): boolean {
  const { namespaces, kinds } = listener.allowedRoutes;
  if (!PROTOCOLS[route.kind].includes(listener.protocol) || namespaces.from === 'None') return false;
  if (route.kind === 'TCPRoute' && listener.protocol === 'TLS' && listener.tls?.mode === 'Passthrough') return false;
  if (namespaces.from === 'Same' && route.namespace !== ownNamespace) return false;
  const { selector } = namespaces;
  // Without a selector none is selected.
  if (namespaces.from === 'Selector' && (selector === undefined || !selectsNamespace(selector, route.namespace, index.namespaces)))
    return false;
  return (
    kinds === undefined ||
    kinds.length === 0 ||
    kinds.some(({ group, kind }) => group === 'gateway.networking.k8s.io' && kind === route.kind)
  );
}

function sharesHostname(listener: DeclaredListener, route: AnyRoute): boolean {
  const hostnames = hostnamesOf(route);
  const { hostname } = listener;
  if (hostname === undefined || hostnames.length === 0) return true;
  return hostnames.some((own) => intersects(own, hostname));
}

/** Whether some host is covered by both. Of two wildcards one suffix must end in the other. */
function intersects(a: string, b: string): boolean {
  if (a === b) return true;
  return hostnameMatches(a, b.replace(/^\*(?=\.)/, 'x')) || hostnameMatches(b, a.replace(/^\*(?=\.)/, 'x'));
}
