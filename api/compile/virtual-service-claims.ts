// Which VirtualService has which ports of services, for requests in the mesh: one port has for the same clients the rules of one. All of them at once.
import { Protocol, type RouteParent } from '../gen/mesh/v1/model.js';
import { seenFrom } from '../resources/index.js';
import { nameOf, type ObjectIndex, oldestFirst, type Stored } from './input.js';
import { type HostIndex, servicesOf } from './istio-hosts.js';
import { isService } from './route-parents.js';
import { protocolOf } from './service.js';
import { type DeclaredPort, tcpPorts } from './service-ports.js';

type VirtualService = Stored<'VirtualService'>;
type Spec = VirtualService['manifest']['spec'];

/** Among the gateways that a VirtualService names: no Gateway, but the mesh. */
export const MESH = 'mesh';

export function isForMesh({ manifest }: VirtualService): boolean {
  const { gateways = [] } = manifest.spec;
  return gateways.length === 0 || gateways.includes(MESH);
}

/** Seen from some namespaces only, it is for their clients alone. */
export function parentsInMesh(object: VirtualService, service: Stored<'Service'>, port: number): RouteParent[] {
  const namespaces = seenFrom(object.manifest.spec.exportTo ?? [], object.namespace);
  const parent = { parent: { $case: 'service', value: nameOf(service) } as const, port, section: '' };
  return (namespaces ?? ['']).map((consumerNamespace) => ({ ...parent, consumerNamespace }));
}

export function isOpaque(port: DeclaredPort): boolean {
  return [Protocol.TCP, Protocol.TLS].includes(protocolOf(port));
}

export function hasRulesFor(spec: Spec, port: DeclaredPort): boolean {
  return isOpaque(port) ? hasConnectionRules(spec, port.port) : (spec.http ?? []).length > 0;
}

function hasConnectionRules({ tls, tcp }: Spec, port: number): boolean {
  const isFor = ({ match }: { match?: readonly { port?: number | undefined }[] | undefined }): boolean =>
    match === undefined || match.some((each) => each.port === undefined || each.port === port);
  return [...(tls ?? []), ...(tcp ?? [])].some(isFor);
}

/** Of all VirtualServices that are for the mesh. */
export interface Claims {
  /** Whose rules a port of a service has for clients of a namespace, by placeKey(). */
  readonly owners: ReadonlyMap<string, string>;
  /** What their hosts name, in the order of the hosts. */
  readonly services: ReadonlyMap<VirtualService, readonly (readonly Stored<'Service'>[])[]>;
}

/** Routes of the Gateway API go first, then who names the host, then the longest wildcard that covers it (Istio); of these the oldest. */
export function claimsOf(index: HostIndex & Pick<ObjectIndex, 'virtualServices' | 'routes' | 'grpcRoutes'>): Claims {
  const objects = oldestFirst(index.virtualServices.values()).filter(isForMesh);
  if (objects.length === 0) return { owners: new Map(), services: new Map() };
  const hostsOf = ({ manifest }: VirtualService): readonly string[] => manifest.spec.hosts ?? [];
  const services = new Map(
    objects.map((object) => [object, hostsOf(object).map((host) => servicesOf(host, object.namespace, index))] as const),
  );
  const owners = claimedByRoutes(index);
  const hosts = objects.flatMap((object) => hostsOf(object).map((host, at) => ({ object, at, exactness: exactnessOf(host) })));
  for (const { object, at } of hosts.sort((a, b) => b.exactness - a.exactness))
    for (const service of services.get(object)?.[at] ?? [])
      for (const port of tcpPorts(service))
        for (const parent of hasRulesFor(object.manifest.spec, port) ? parentsInMesh(object, service, port.port) : [])
          if (!owners.has(keyOfParent(parent))) owners.set(keyOfParent(parent), labelOf(object));
  return { owners, services };
}

function exactnessOf(host: string): number {
  return host.startsWith('*') ? host.length : Number.MAX_SAFE_INTEGER;
}

/** Of what routes of the Gateway API have of services. */
function claimedByRoutes({ routes, grpcRoutes, services }: Pick<ObjectIndex, 'routes' | 'grpcRoutes' | 'services'>): Map<string, string> {
  const claimed = new Map<string, string>();
  for (const route of [...routes.values(), ...grpcRoutes]) {
    for (const { namespace = route.namespace, name, port: only, sectionName, ...type } of route.manifest.spec.parentRefs ?? []) {
      const service = isService(type) ? services.get(nameOf({ namespace, name })) : undefined;
      if (service === undefined) continue;
      const clients = namespace === route.namespace ? '' : route.namespace;
      for (const { port, name: portName } of tcpPorts(service)) {
        const key = placeKey(nameOf(service), port, clients);
        const isMeant = (only === undefined || only === port) && (sectionName === undefined || sectionName === portName);
        if (isMeant && !claimed.has(key)) claimed.set(key, `${route.kind} ${nameOf(route)}`);
      }
    }
  }
  return claimed;
}

/** `clients`: the namespace of those that it is for; empty: all others. */
function placeKey(service: string, port: number, clients: string): string {
  return `${service}:${port} ${clients}`;
}

/** One port of a service has for the same clients the rules of one. `taken`: by other hosts of the same; what is free is added. */
export function isFree(
  object: VirtualService,
  parent: RouteParent,
  { owners }: Claims,
  taken: Set<string>,
  refuse: (message: string) => void,
): boolean {
  const { consumerNamespace: clients, port } = parent;
  const service = parent.parent?.value ?? '';
  const key = keyOfParent(parent);
  const owner = owners.get(key);
  if (owner !== labelOf(object)) {
    refuse(`${owner} has Service ${service}:${port}${clients === '' ? '' : ` for clients of ${clients}`}: the rules do not apply there`);
    return false;
  }
  const isFirst = !taken.has(key);
  taken.add(key);
  return isFirst;
}

function labelOf(object: VirtualService): string {
  return `VirtualService ${nameOf(object)}`;
}

function keyOfParent({ parent, port, consumerNamespace }: RouteParent): string {
  return placeKey(parent?.value ?? '', port, consumerNamespace);
}
