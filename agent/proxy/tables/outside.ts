// Hosts outside of the mesh that ServiceEntries name, as captured clients reach them: whatever address a client has for one, a request in plain text is
// known by its Host and a connection by the server name of its TLS, among the hosts of its port (Istio). Knows neither chains nor descriptors.
import {
  type Backend,
  type ConnectionRoute,
  EgressPolicy,
  type HttpRoute,
  HttpRule,
  Outside,
  Protocol,
  type Workload,
} from '../../../api/gen/mesh/v1/model.js';
import type { Model } from '../../model/model.js';
import type { Cluster } from './clusters.js';

/** In place of a service: where the client's connection was made to. */
export const AS_SENT = '(as sent)';

export interface OutsideHost {
  /** Lower case, exact or "*.suffix". */
  readonly host: string;
  readonly cluster: Cluster;
  /** Its routes; without any, one to the host itself. Those for the clients of some namespaces alone are not among them. */
  readonly requests: readonly HttpRoute[];
  readonly connections: readonly ConnectionRoute[];
}

interface Attached {
  readonly requests: readonly HttpRoute[];
  readonly connections: readonly ConnectionRoute[];
}

export function isOutside({ service }: Cluster): boolean {
  return service.outside !== Outside.WITHIN;
}

/** By port; of two with one host the first by name has it. */
export function outsideHosts(clusters: readonly Cluster[], attachedTo: (cluster: Cluster) => Attached): Map<number, OutsideHost[]> {
  const byPort = new Map<number, OutsideHost[]>();
  for (const cluster of clusters) {
    const host = cluster.service.hostnames[0];
    const { port } = cluster.port;
    if (!isOutside(cluster) || host === undefined || (host.includes('*') && !host.startsWith('*.'))) continue;
    const hosts = byPort.get(port) ?? [];
    if (hosts.some((other) => other.host === host)) continue;
    const { requests, connections } = attachedTo(cluster);
    const everyones = requests.filter(({ parents }) => parents.every(({ consumerNamespace }) => consumerNamespace === ''));
    const ofRequests = !isRead(cluster)
      ? []
      : everyones.length > 0
        ? everyones.map((route) => asSent(route, cluster))
        : [routeToItself(host, cluster)];
    byPort.set(port, [...hosts, { host, cluster, requests: ofRequests, connections }]);
  }
  return byPort;
}

function isRead({ port }: Cluster): boolean {
  return [Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC, Protocol.UNSPECIFIED].includes(port.protocol);
}

/** The route with what leads to the host itself as its clients resolved it, where the entry says that they do (resolution NONE). */
function asSent(route: HttpRoute, { service, port }: Cluster): HttpRoute {
  if (service.outside !== Outside.AS_SENT) return route;
  const own = `${service.namespace}/${service.name}`;
  const backendOf = (backend: Backend): Backend =>
    backend.service === own && backend.port === port.port ? { ...backend, service: AS_SENT } : backend;
  return { ...route, rules: route.rules.map((rule) => ({ ...rule, backends: rule.backends.map(backendOf) })) };
}

/** Not where the client says that the host is, unless the entry says that clients know (resolution NONE): it could be anywhere. */
function routeToItself(host: string, { service, port }: Cluster): HttpRoute {
  const target = service.outside === Outside.AS_SENT ? AS_SENT : `${service.namespace}/${service.name}`;
  return {
    kind: 'ServiceEntry',
    namespace: service.namespace,
    name: host,
    createdAtMs: 0,
    parents: [],
    hostnames: [],
    inOrder: true,
    rules: [HttpRule.fromPartial({ backends: [{ service: target, port: port.port, weight: 1 }] })],
  };
}

/** By source, whose owners are given: 1, where what is in no registry is refused. None: nobody's is. */
export function egressOf(model: Model, owners: readonly string[]): number[] {
  const rows = owners.map((name) => (isRestricted(model.workloads.get(name)) ? 1 : 0));
  return rows.includes(1) ? rows : [];
}

/** Names of those of the node. */
export function restrictedWorkloads(model: Model, node: string): string[] {
  return [...model.workloads].flatMap(([name, workload]) => (workload.node === node && isRestricted(workload) ? [name] : [])).sort();
}

function isRestricted(workload: Workload | undefined): boolean {
  return workload?.egress === EgressPolicy.REGISTRY_ONLY;
}
