// For tests: small models in few words, through the same decoding as real ones.
import { Resource } from '../../../api/gen/mesh/v1/discovery.js';
import {
  ConnectionRoute,
  Endpoint,
  HttpRoute,
  Listener,
  type LoadBalancing_Algorithm,
  Protocol,
  ResourceType,
  Service,
  Workload,
} from '../../../api/gen/mesh/v1/model.js';
import { Model } from '../../model/model.js';
import { LimitMemory } from '../rate-limit/plan.js';
import { CapturedMemory } from '../tables/captured-addresses.js';
import { ClusterRows } from '../tables/cluster-sections.js';
import { Clusters } from '../tables/clusters.js';
import { compileTables, type Generation, type TableIds } from '../tables/compile.js';
import { DestinationMemory } from '../tables/destinations.js';
import { MAX_GATEWAY_LISTENERS } from '../tables/gateway-ports.js';
import { HashTables } from '../tables/hash-tables.js';
import { Labels } from '../tables/labels.js';
import type { OwnPlace } from '../tables/localities.js';
import { SourceMemory } from '../tables/sources.js';
import { StableIds } from '../tables/stable-ids.js';
import type { UpstreamContext, UpstreamContextSpec, UpstreamContexts } from '../upstream-tls.js';

export function service(name: string, address: string, fields: Parameters<typeof Service.fromPartial>[0] = {}): Resource {
  const message = Service.fromPartial({
    namespace: 'shop',
    name,
    addresses: [address],
    ports: [{ name: 'http', port: 80, protocol: Protocol.HTTP }],
    ...fields,
  });
  return Resource.fromPartial({ type: ResourceType.SERVICE, name: `shop/${name}`, body: Buffer.from(Service.encode(message).finish()) });
}

/** A service's field. */
export const balanced = (algorithm: LoadBalancing_Algorithm) => ({ policies: [{ policy: { loadBalancing: { algorithm } } }] });

export function endpoint(
  serviceName: string,
  id: string,
  address: string,
  fields: Parameters<typeof Endpoint.fromPartial>[0] = {},
): Resource {
  const message = Endpoint.fromPartial({ service: `shop/${serviceName}`, id, address, ports: [{ name: 'http', port: 8080 }], ...fields });
  return Resource.fromPartial({
    type: ResourceType.ENDPOINT,
    name: `shop/${serviceName}/${id}`,
    body: Buffer.from(Endpoint.encode(message).finish()),
  });
}

export function route(name: string, fields: Parameters<typeof HttpRoute.fromPartial>[0]): Resource {
  const message = HttpRoute.fromPartial({ namespace: 'shop', name, ...fields });
  return Resource.fromPartial({
    type: ResourceType.HTTP_ROUTE,
    name: `shop/${name}`,
    body: Buffer.from(HttpRoute.encode(message).finish()),
  });
}

/** A TLSRoute; without server names as good as a TCPRoute. */
export function connectionRoute(name: string, fields: Parameters<typeof ConnectionRoute.fromPartial>[0]): Resource {
  const message = ConnectionRoute.fromPartial({ kind: 'TLSRoute', namespace: 'shop', name, ...fields });
  return Resource.fromPartial({
    type: ResourceType.CONNECTION_ROUTE,
    name: `TLSRoute/shop/${name}`,
    body: Buffer.from(ConnectionRoute.encode(message).finish()),
  });
}

export function workload(name: string, fields: Parameters<typeof Workload.fromPartial>[0]): Resource {
  const message = Workload.fromPartial({ namespace: 'shop', name, ...fields });
  return Resource.fromPartial({ type: ResourceType.WORKLOAD, name: `shop/${name}`, body: Buffer.from(Workload.encode(message).finish()) });
}

export function listener(
  gateway: string,
  name: string,
  port: number,
  hostname = '',
  fields: Parameters<typeof Listener.fromPartial>[0] = {},
): Resource {
  const message = Listener.fromPartial({ gateway: `shop/${gateway}`, name, port, hostname, protocol: Protocol.HTTP, ...fields });
  return Resource.fromPartial({
    type: ResourceType.LISTENER,
    name: `shop/${gateway}/${name}`,
    body: Buffer.from(Listener.encode(message).finish()),
  });
}

export function modelOf(...resources: Resource[]): Model {
  const model = new Model();
  const rejections = model.apply({ full: true, resources, removed: [], revision: 1 });
  if (rejections.length > 0) throw new Error(JSON.stringify(rejections));
  return model;
}

/** Contexts are numbered as they are asked for, from 1; a trust of "bad" has none. */
class NumberedContexts implements UpstreamContexts {
  private readonly known: string[] = [];
  contextFor(spec: UpstreamContextSpec): UpstreamContext {
    if (spec.trust === 'bad') return { ok: false, fault: 'trust: no PEM certificate in it' };
    const key = JSON.stringify(spec);
    if (!this.known.includes(key)) this.known.push(key);
    return { ok: true, context: this.known.indexOf(key) + 1, outdated: null };
  }
}

export function newIds(now: () => number = () => 0): TableIds {
  const ids = (capacity: number): StableIds => new StableIds({ capacity, quarantineMs: 60_000, now });
  return {
    clusters: new Clusters(ids(4096), ids(16)),
    clusterRows: new ClusterRows(),
    captured: new CapturedMemory(),
    destinations: new DestinationMemory(),
    sources: new SourceMemory(),
    rules: ids(1024),
    listeners: ids(MAX_GATEWAY_LISTENERS),
    tenants: ids(16),
    guards: ids(64),
    filters: ids(16),
    labels: new Labels(1024),
    upstreamTls: new NumberedContexts(),
    sessionKey: Buffer.alloc(32, 7),
    hashTables: new HashTables(),
    limits: new LimitMemory(() => 0, 1),
  };
}

export function compiled(model: Model, node: string | null = 'a', generation = 1, ids = newIds(), place?: OwnPlace): Generation {
  return compileTables(model, generation, node, ids, new Map(), place);
}

export const toService = (name: string, port = 0) => ({ parent: { $case: 'service' as const, value: `shop/${name}` }, port });
export const toGateway = (name: string, section = '', port = 0) => ({
  parent: { $case: 'gateway' as const, value: `shop/${name}` },
  section,
  port,
});
export const backend = (name: string, weight = 1) => ({ service: `shop/${name}`, port: 80, weight });
