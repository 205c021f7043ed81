// What is visible together: a service with its endpoints, a gateway with its listeners, the workloads of a namespace. A route is visible where
// one of its parents is. Pure; names no node.
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
  const units = parents.flatMap(({ parent }) => {
    if (parent === undefined) return [];
    return parent.$case === 'service' ? [serviceUnit(parent.value)] : [gatewayUnit(parent.value)];
  });
  return [...new Set(units)];
}

/** `service`: "<namespace>/<name>", as of a gateway. */
export function serviceUnit(service: string): string {
  return service;
}

export function gatewayUnit(gateway: string): string {
  return `gateway ${gateway}`;
}

export function workloadsUnit(namespace: string): string {
  return `workloads ${namespace}`;
}
