// Kinds → internal model: every object of one revision. Pure and deterministic: the same objects in any order at the same time give the same result.
// Each kind's own function compiles one object against the index. A memo, of one compiler over its revisions, spares what is unchanged.
import { ResourceType } from '../gen/mesh/v1/model.js';
import { autoPassthroughRoutes } from './auto-passthrough.js';
import { compileConnectionRoute } from './connection-route.js';
import { compileFilter } from './filters.js';
import { compileGateway } from './gateway.js';
import { compileGrpcRoute } from './grpc-route.js';
import { compileHttpRoute } from './http-route.js';
import { type CompileInput, indexObjects, nameOf, type ObjectIndex, oldestFirst } from './input.js';
import { compileIstioGateway } from './istio-gateway.js';
import { CompileMemo } from './memo.js';
import type { Problem, ReportProblem } from './problem.js';
import { checkReferences } from './references.js';
import { compareText } from './route-order.js';
import { outsideServices } from './service-entry.js';
import { compileVirtualService } from './virtual-service.js';
import { claimsOf } from './virtual-service-claims.js';
import { compileVisibility, type Visibility } from './visibility.js';
import type { CompiledResource } from './wire.js';
import { compileWorkload } from './workload.js';

export interface CompileOutput {
  /** By type, then by name; a name occurs once in its type. */
  readonly resources: CompiledResource[];
  /** Of those, all but services and their endpoints: few of a large model. */
  readonly others: readonly CompiledResource[];
  /** In no way fatal: what is listed here was compiled to what its message says. */
  readonly problems: Problem[];
  /** Null: everything is everyone's. */
  readonly visibility: Visibility | null;
}

/** The result doesn't depend on what the memo holds. */
export function compileModel(input: CompileInput, memo = new CompileMemo()): CompileOutput {
  const outside = outsideServices(input.objects, input.resolved ?? new Map());
  const index = indexObjects(input.objects, outside, input.registry, memo.index);
  const problems: Problem[] = [...outside.problems];
  const reporter =
    (object: { kind: string; namespace: string; name: string }): ReportProblem =>
    (path, message, reason) =>
      problems.push({ kind: object.kind, namespace: object.namespace, name: object.name, path, reason, message });
  const { services, endpoints } = memo.resourcesOf(index, input.running, reporter);
  const others = inOrder(compileOthers(index, input, reporter));
  checkReferences(index, input.running, reporter);
  const { gateways, istioGateways, namespaces, nodes, sidecars, virtualServices } = index;
  const seen = { services: index.services, gateways, istioGateways, namespaces, nodes, sidecars, virtualServices };
  const visibility = memo.index.kept('visibility', Object.values(seen), () => compileVisibility(seen));
  // The types are in this order.
  return { resources: services.concat(endpoints, others), others, problems, visibility };
}

function inOrder(resources: readonly CompiledResource[]): CompiledResource[] {
  return [...resources].sort((a, b) => a.type - b.type || compareText(a.name, b.name));
}

/** All but services and their endpoints, anew each time. */
function compileOthers(
  index: ObjectIndex,
  { running, nowMs }: CompileInput,
  reporter: (object: { kind: string; namespace: string; name: string }) => ReportProblem,
): CompiledResource[] {
  const resources: CompiledResource[] = [];
  for (const [name, route] of index.routes) {
    resources.push({ type: ResourceType.HTTP_ROUTE, name, message: compileHttpRoute(route, index, reporter(route)) });
  }
  for (const route of index.grpcRoutes) {
    const name = `${route.kind}/${nameOf(route)}`;
    resources.push({ type: ResourceType.HTTP_ROUTE, name, message: compileGrpcRoute(route, index, reporter(route)) });
  }
  for (const route of [...index.tlsRoutes, ...index.tcpRoutes]) {
    const name = `${route.kind}/${nameOf(route)}`;
    resources.push({ type: ResourceType.CONNECTION_ROUTE, name, message: compileConnectionRoute(route, index, reporter(route)) });
  }
  const claims = claimsOf(index);
  for (const object of oldestFirst(index.virtualServices.values())) {
    const { http, connections } = compileVirtualService(object, index, claims, reporter(object));
    for (const message of http) resources.push({ type: ResourceType.HTTP_ROUTE, name: `${message.kind}/${nameOf(message)}`, message });
    for (const message of connections)
      resources.push({ type: ResourceType.CONNECTION_ROUTE, name: `${message.kind}/${nameOf(message)}`, message });
  }
  for (const workload of index.workloads.values()) {
    resources.push({ type: ResourceType.WORKLOAD, name: nameOf(workload), message: compileWorkload(workload, running, index) });
  }
  for (const gateway of index.gateways.values()) {
    const context = { index, nowMs: nowMs ?? null, report: reporter(gateway), reporter };
    for (const { name, message } of compileGateway(gateway, context)) resources.push({ type: ResourceType.LISTENER, name, message });
  }
  for (const gateway of index.istioGateways.values()) {
    const { listeners, redirects } = compileIstioGateway(gateway, { index, nowMs: nowMs ?? null, report: reporter(gateway) });
    for (const { name, message } of listeners) resources.push({ type: ResourceType.LISTENER, name, message });
    for (const message of redirects) resources.push({ type: ResourceType.HTTP_ROUTE, name: `${message.kind}/${nameOf(message)}`, message });
    for (const message of autoPassthroughRoutes(gateway, index))
      resources.push({ type: ResourceType.CONNECTION_ROUTE, name: `${message.kind}/${nameOf(message)}`, message });
  }
  for (const [name, filter] of index.filters)
    resources.push({ type: ResourceType.FILTER, name, message: compileFilter(filter, index, reporter(filter)) });
  return resources;
}
