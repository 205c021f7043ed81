// Addresses and ports that captured connections are made to → the engine's destinations and their rows: first those of services, which may not be shadowed,
// then what can be called directly, endpoints and declared ports of local workloads. Of equal ones the engine finds the first. What is made of a
// cluster's endpoints is kept as long as all that it is made of stands.
import { type ConnectionRoute, type HttpRoute, Protocol, ProxyProtocol, type Workload } from '../../../api/gen/mesh/v1/model.js';
import { hostPort } from '../../../api/host-port.js';
import { whoBeginsTls } from '../../model/cluster-policy.js';
import type { Model } from '../../model/model.js';
import type { DestinationSpec } from '../../native/engine.js';
import type { LimitPlan } from '../rate-limit/plan.js';
import { type CapturedAddresses, isCaptured } from './captured-addresses.js';
import type { Cluster } from './clusters.js';
import type { Guards } from './guards.js';
import { LABEL_UNKNOWN, type Labels } from './labels.js';
import { DESTINATION_WORDS, DestinationWord } from './layout.js';
import { isOutside } from './outside.js';
import type { Tenants } from './tenants.js';

/** Those for requests and those for whole connections. */
export interface Routes {
  readonly requests: readonly HttpRoute[];
  readonly connections: readonly ConnectionRoute[];
}

export interface DestinationParts {
  readonly model: Model;
  readonly clusters: readonly Cluster[];
  readonly attachedTo: (cluster: Cluster) => Routes;
  /** Our own name. */
  readonly node: string;
  readonly addresses: CapturedAddresses;
  readonly labels: Labels;
  readonly tenants: Tenants;
  readonly guards: Guards;
  readonly limits: LimitPlan;
  /** By port: the scope of the hosts outside of the mesh, and whether they are told apart by server names. */
  readonly outside: ReadonlyMap<number, { readonly scope: number; readonly names: boolean }>;
}

export interface Destinations {
  readonly specs: readonly DestinationSpec[];
  readonly rows: Int32Array;
  readonly tenants: readonly number[];
}

/** Of one cluster's endpoints. */
interface Kept {
  readonly cluster: Cluster;
  readonly addresses: CapturedAddresses;
  /** All else that it is made of. */
  readonly rest: string;
  readonly specs: readonly DestinationSpec[];
  readonly rows: Int32Array;
  readonly tenants: readonly number[];
}

export const NO_DESTINATIONS: Destinations = { specs: [], rows: new Int32Array(0), tenants: [] };

/** Outlives generations. */
export class DestinationMemory {
  /** By the keys of clusters. */
  private kept: ReadonlyMap<string, Kept> = new Map();

  of(parts: DestinationParts): Destinations {
    const next = new Map<string, Kept>();
    for (const cluster of parts.clusters) next.set(cluster.key, this.ofEndpoints(cluster, parts));
    this.kept = next;
    const ordered = [ofServices(parts), ...next.values(), ofWorkloads(parts)];
    const rows = new Int32Array(ordered.reduce((sum, part) => sum + part.rows.length, 0));
    let at = 0;
    for (const part of ordered) {
      rows.set(part.rows, at);
      at += part.rows.length;
    }
    return { specs: ordered.flatMap(({ specs }) => specs), rows, tenants: ordered.flatMap(({ tenants }) => tenants) };
  }

  private ofEndpoints(cluster: Cluster, { attachedTo, addresses, labels, tenants, guards, limits, outside }: DestinationParts): Kept {
    const before = this.kept.get(cluster.key);
    const protocol = inboundProtocolOf(cluster, attachedTo(cluster));
    const guard = guards.ofInbound(cluster);
    const held = limits.setOf(cluster.service.rateLimits);
    const isAsked = isOutside(cluster) && outside.size > 0;
    const rest = isAsked ? '' : `${protocol} ${guard} ${held} ${tenants.text}`;
    if (before?.cluster === cluster && before.addresses === addresses && before.rest === rest && !isAsked) return before;
    const made = new Rows(cluster.endpoints.length);
    const service = labels.idOf(cluster.name);
    for (const { address, port, workload } of cluster.endpoints) {
      const isLocal = addresses.isLocal(address);
      const asked = isAsked ? outside.get(port) : undefined;
      const byName = asked?.names === true && protocol !== 'http' ? 'detect-first' : protocol;
      made.add({ address, port, protocol: byName }, tenants.of(workload === '' ? cluster.name : workload), {
        isLocal,
        service,
        workload: labels.idOf(workload === '' ? hostPort(address, port) : workload),
        guard: isLocal ? guard : 0,
        limits: held,
        outside: asked?.scope ?? -1,
      });
    }
    return { cluster, addresses, rest, ...made.finish() };
  }
}

function ofServices({ clusters, attachedTo, labels, tenants }: DestinationParts): Destinations {
  const made = new Rows(clusters.reduce((sum, { service }) => sum + service.addresses.length, 0));
  clusters.forEach((cluster, scope) => {
    const { service, port, name } = cluster;
    if (service.addresses.length === 0) return;
    const protocol = protocolOf(cluster, attachedTo(cluster));
    const tenant = tenants.of(name);
    for (const address of service.addresses)
      made.add({ address, port: port.port, protocol }, tenant, { scope, service: labels.idOf(name) });
  });
  return made.finish();
}

function ofWorkloads({ model, node, addresses, labels, tenants }: DestinationParts): Destinations {
  const found: [string, Workload][] = [];
  for (const [name, workload] of model.workloads) if (workload.node === node && isCaptured(workload)) found.push([name, workload]);
  const made = new Rows(found.reduce((sum, [, workload]) => sum + workload.addresses.length * workload.ports.length, 0));
  for (const [name, workload] of found) {
    const tenant = tenants.of(name);
    for (const address of workload.addresses) {
      const isLocal = addresses.isLocal(address);
      for (const { port } of workload.ports)
        made.add({ address, port, protocol: 'detect' }, tenant, { isLocal, workload: labels.idOf(name) });
    }
  }
  return made.finish();
}

interface Row {
  readonly scope?: number;
  readonly isLocal?: boolean;
  readonly service?: number;
  readonly workload?: number;
  readonly guard?: number;
  readonly limits?: number;
  readonly outside?: number;
}

class Rows {
  private readonly specs: DestinationSpec[] = [];
  private readonly tenants: number[] = [];
  private readonly rows: Int32Array;

  constructor(count: number) {
    this.rows = new Int32Array(count * DESTINATION_WORDS);
  }

  add(spec: DestinationSpec, tenant: number, row: Row): void {
    const at = this.specs.length * DESTINATION_WORDS;
    this.specs.push(spec);
    this.tenants.push(tenant);
    this.rows[at + DestinationWord.Scope] = row.scope ?? -1;
    this.rows[at + DestinationWord.IsLocal] = row.isLocal === true ? 1 : 0;
    this.rows[at + DestinationWord.ServiceLabel] = row.service ?? LABEL_UNKNOWN;
    this.rows[at + DestinationWord.WorkloadLabel] = row.workload ?? LABEL_UNKNOWN;
    this.rows[at + DestinationWord.Guard] = row.guard ?? 0;
    this.rows[at + DestinationWord.Limits] = row.limits ?? -1;
    this.rows[at + DestinationWord.Outside] = row.outside ?? -1;
  }

  finish(): Destinations {
    const { specs, rows, tenants } = this;
    return { specs, rows, tenants };
  }
}

/** Other nodes' proxies begin TLS to such endpoints, or put a PROXY header before all: it is none of ours to read. Where some begin it, that is seen first. */
function inboundProtocolOf(cluster: Cluster, routes: Routes): DestinationSpec['protocol'] {
  const { service, port } = cluster;
  const tls = whoBeginsTls(service, port);
  if (tls === 'all' || service.proxyProtocol !== ProxyProtocol.UNSPECIFIED) return 'opaque';
  const protocol = endpointProtocolOf(cluster, routes);
  return tls === 'some' && protocol === 'http' ? 'detect-first' : protocol;
}

/**
 * Where routes ask for the server name of TLS, nothing can be decided before it is known: whoever speaks no TLS waits for that. Nor is a
 * server dialled ahead that is spoken to over TLS for requests and not for bytes: the connection would be of no use for requests.
 */
function protocolOf(cluster: Cluster, routes: Routes): DestinationSpec['protocol'] {
  const protocol = endpointProtocolOf(cluster, routes);
  if (protocol === 'opaque' && routes.connections.some(({ serverNames }) => serverNames.length > 0)) return 'detect-first';
  return protocol === 'detect' && cluster.port.tls !== undefined ? 'detect-first' : protocol;
}

/**
 * What a port does not declare its routes may: those of requests HTTP, those of connections bytes. Without either it is detected. Whatever
 * version of HTTP the service speaks, its clients may speak either.
 */
function endpointProtocolOf({ port }: Cluster, { requests, connections }: Routes): DestinationSpec['protocol'] {
  if (port.protocol === Protocol.HTTP || port.protocol === Protocol.HTTP2 || port.protocol === Protocol.GRPC) return 'http';
  if (port.protocol !== Protocol.UNSPECIFIED) return 'opaque';
  if (requests.length > 0) return 'http';
  return connections.length > 0 ? 'opaque' : 'detect';
}
