// A route's reference to a Service → Backend of the model. One reference at a time.
import type { Backend } from '../gen/mesh/v1/model.js';
import { EXPORT_TO, exportedTo } from '../resources/index.js';
import { isHostname } from '../resources/route-references.js';
import { nameOf, type ObjectIndex, type Stored } from './input.js';
import type { ConditionReason } from './problem.js';
import { isGranted, notGranted } from './reference-grants.js';
import { type AnyRoute, isService } from './route-parents.js';
import { resolvableName } from './service-entry.js';
import { tcpPorts } from './service-ports.js';

export type BackendIndex = Pick<ObjectIndex, 'services' | 'grantsByNamespace' | 'entryHosts' | 'limitsByTarget'>;

interface Reference {
  readonly group: string;
  readonly kind: string;
  readonly namespace?: string | undefined;
  readonly name: string;
  readonly port?: number | undefined;
  readonly weight: number;
}

/** Its share answers 500. */
export const NO_BACKEND: Backend = {
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

/** A reference that resolves to nothing keeps its weight with an empty service (Gateway API); what follows from that is the caller's to say. */
export function compileBackend(
  route: AnyRoute,
  reference: Reference,
  index: BackendIndex,
  report: (message: string, reason: ConditionReason) => void,
): Backend {
  const port = reference.port ?? 0;
  const unresolved: Backend = { ...NO_BACKEND, port, weight: reference.weight };
  const found = isHostname(reference) ? serviceOfHost(route, reference.name, index) : serviceOf(route, reference, index);
  if ('reason' in found) {
    report(found.message, found.reason);
    return unresolved;
  }
  const name = nameOf(found);
  const ports = tcpPorts(found).map((candidate) => candidate.port);
  if (!ports.includes(port)) {
    report(
      `${isHostname(reference) ? reference.name : `Service ${name}`} has no TCP port ${port} (it has ${ports.join(', ') || 'none'})`,
      'BackendNotFound',
    );
    return unresolved;
  }
  return { ...NO_BACKEND, service: name, port, weight: reference.weight };
}

interface Missing {
  readonly message: string;
  readonly reason: ConditionReason;
}

function serviceOf(
  route: AnyRoute,
  { group, kind, namespace = route.namespace, name }: Reference,
  index: BackendIndex,
): Stored<'Service'> | Missing {
  if (group !== '' || kind !== 'Service')
    return { message: `backends of kind ${kind} (group ${JSON.stringify(group)}) are not supported`, reason: 'InvalidKind' };
  const target = { kind, namespace, name } as const;
  const qualified = nameOf(target);
  if (!isParentOf(route, qualified) && !isGranted(index, route, target))
    return { message: `Service ${qualified} ${notGranted(route.kind, target)}`, reason: 'RefNotPermitted' };
  return index.services.get(qualified) ?? { message: `Service ${qualified} doesn't exist`, reason: 'BackendNotFound' };
}

/** Of a ServiceEntry, whose exportTo says who may send there: the one of the route's namespace first, then the oldest. */
function serviceOfHost({ namespace }: AnyRoute, host: string, { entryHosts, services }: BackendIndex): Stored<'Service'> | Missing {
  const wanted = resolvableName(host);
  const seen = [...entryHosts].flatMap(([name, each]) => {
    const service = each.host === wanted ? services.get(name) : undefined;
    if (service === undefined) return [];
    const namespaces = exportedTo(service.manifest.metadata.annotations?.[EXPORT_TO], service.namespace);
    return namespaces === null || namespaces.includes(namespace) ? [service] : [];
  });
  const message = `${host} is no host of a ServiceEntry that namespace ${namespace} sees`;
  return seen.find((service) => service.namespace === namespace) ?? seen[0] ?? { message, reason: 'BackendNotFound' };
}

/** Whoever routes to a Service in the mesh may send there: its namespace granted nothing that it does not give to all (GAMMA, consumer routes). */
function isParentOf(route: AnyRoute, service: string): boolean {
  const parents = route.manifest.spec.parentRefs ?? [];
  return (
    parents.length > 0 &&
    parents.every(
      ({ namespace, name, ...type }) => isService(type) && nameOf({ namespace: namespace ?? route.namespace, name }) === service,
    )
  );
}
