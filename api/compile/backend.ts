// A route's reference to a Service → Backend of the model. One reference at a time.
import type { Backend } from '../gen/mesh/v1/model.js';
import { nameOf, type ObjectIndex } from './input.js';
import type { ConditionReason } from './problem.js';
import { isGranted, notGranted } from './reference-grants.js';
import type { AnyRoute } from './route-parents.js';
import { tcpPorts } from './service-ports.js';

export type BackendIndex = Pick<ObjectIndex, 'services' | 'grantsByNamespace'>;

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
  if (reference.group !== '' || reference.kind !== 'Service') {
    report(`backends of kind ${reference.kind} (group ${JSON.stringify(reference.group)}) are not supported`, 'InvalidKind');
    return unresolved;
  }
  const target = { kind: 'Service', namespace: reference.namespace ?? route.namespace, name: reference.name } as const;
  const name = nameOf(target);
  if (!isParentOf(route, name) && !isGranted(index, route, target)) {
    report(`Service ${name} ${notGranted(route.kind, target)}`, 'RefNotPermitted');
    return unresolved;
  }
  const service = index.services.get(name);
  if (service === undefined) {
    report(`Service ${name} doesn't exist`, 'BackendNotFound');
    return unresolved;
  }
  const ports = tcpPorts(service).map((candidate) => candidate.port);
  if (!ports.includes(port)) {
    report(`Service ${name} has no TCP port ${port} (it has ${ports.join(', ') || 'none'})`, 'BackendNotFound');
    return unresolved;
  }
  return { ...NO_BACKEND, service: name, port, weight: reference.weight };
}

/** Whoever routes to a Service in the mesh may send there: its namespace granted nothing that it does not give to all (GAMMA, consumer routes). */
function isParentOf(route: AnyRoute, service: string): boolean {
  const parents = route.manifest.spec.parentRefs ?? [];
  return (
    parents.length > 0 &&
    parents.every(
      ({ kind, namespace, name }) => kind === 'Service' && nameOf({ namespace: namespace ?? route.namespace, name }) === service,
    )
  );
}
