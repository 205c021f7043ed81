// What is visible together: a service with its endpoints, the routes that it has for the clients of one namespace, a gateway with its listeners, the
// workloads of a namespace. A route is visible where one of its parents is. Pure; names no node.
import type { CompiledResource } from '../../api/compile/index.js';
import type { Resource } from '../../api/gen/mesh/v1/discovery.js';
import type { RouteParent } from '../../api/gen/mesh/v1/model.js';
import { ResourceType } from '../../api/gen/mesh/v1/model.js';

/** A resource as it is sent, and the units it is of: who sees one of them is told of it. */
export interface VisibleResource extends Resource {
  readonly units: readonly string[];
}

export function unitsOf(resource: CompiledResource): readonly string[] {
  switch (resource.type) {
    case ResourceType.SERVICE:
      return [serviceUnit(resource.name)];
    case ResourceType.ENDPOINT:
      return [serviceUnit(resource.message.service)];
    case ResourceType.HTTP_ROUTE:
    case ResourceType.CONNECTION_ROUTE:
    case ResourceType.FILTER:
      return parentUnits(resource.message.parents);
    case ResourceType.LISTENER:
      return [gatewayUnit(resource.message.gateway)];
    case ResourceType.WORKLOAD:
      return [workloadsUnit(resource.message.namespace)];
  }
}

export function parentUnits(parents: readonly RouteParent[]): string[] {
  const units = parents.flatMap(({ parent, consumerNamespace }) => {
    if (parent === undefined) return [];
    if (parent.$case === 'gateway') return [gatewayUnit(parent.value)];
    return consumerNamespace === '' ? [serviceUnit(parent.value)] : [consumerUnit(parent.value, consumerNamespace)];
  });
  return [...new Set(units)];
}

/** `service`: "<namespace>/<name>", as of a gateway. */
export function serviceUnit(service: string): string {
  return service;
}

/** The routes of a service that are for clients of that namespace alone. */
export function consumerUnit(service: string, namespace: string): string {
  return `${service} from ${namespace}`;
}

export function gatewayUnit(gateway: string): string {
  return `gateway ${gateway}`;
}

export function workloadsUnit(namespace: string): string {
  return `workloads ${namespace}`;
}
