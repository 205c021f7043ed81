// The node's model as xDS resources: what each name of each type stands for now, encoded once for all clients. Knows no clients.
import { Cluster } from '../../api/gen/envoy/config/cluster/v3/cluster.js';
import { ClusterLoadAssignment } from '../../api/gen/envoy/config/endpoint/v3/endpoint.js';
import { Listener } from '../../api/gen/envoy/config/listener/v3/listener.js';
import { RouteConfiguration } from '../../api/gen/envoy/config/route/v3/route.js';
import { HttpConnectionManager } from '../../api/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.js';
import type { Any } from '../../api/gen/google/protobuf/any.js';
import type { Service } from '../../api/gen/mesh/v1/model.js';
import type { Model } from '../model/model.js';
import { cluster, loadAssignment, OVER_ADS, unheededPolicies, whyUnreachable } from './clusters.js';
import { NO_BACKEND, routeConfiguration, unheeded } from './routes.js';
import { clusterName, serviceOfCluster, servicesByHostname, type Target, targetOfCluster, targetOfName } from './target.js';

/** In the order in which changes are told: what others refer to first. */
export const RESOURCE_TYPES = ['cluster', 'endpoints', 'listener', 'routes'] as const;
export type ResourceKind = (typeof RESOURCE_TYPES)[number];

const TYPE = 'type.googleapis.com/';
export const TYPE_URLS: Readonly<Record<ResourceKind, string>> = {
  cluster: `${TYPE}envoy.config.cluster.v3.Cluster`,
  endpoints: `${TYPE}envoy.config.endpoint.v3.ClusterLoadAssignment`,
  listener: `${TYPE}envoy.config.listener.v3.Listener`,
  routes: `${TYPE}envoy.config.route.v3.RouteConfiguration`,
};

const HTTP_CONNECTION_MANAGER = `${TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`;
const ROUTER = `${TYPE}envoy.extensions.filters.http.router.v3.Router`;

/** Names that nobody asks for any more are kept until so many are; then all are encoded anew as they are asked for. */
export const MAX_CACHED = 16_384;

export class XdsResources {
  readonly #model: Model;
  /** By type and name; null: there is none of that name. */
  readonly #encoded = new Map<string, Any | null>();
  #byHostname: ReadonlyMap<string, Service | null> | null = null;

  constructor(model: Model) {
    this.#model = model;
  }

  /** The model has changed: of these services the endpoints alone; null: anything. */
  changed(services: ReadonlySet<string> | null): void {
    if (services === null) {
      this.#encoded.clear();
      this.#byHostname = null;
      return;
    }
    const prefix = 'endpoints ';
    for (const key of this.#encoded.keys())
      if (key.startsWith(prefix) && services.has(serviceOfCluster(key.slice(prefix.length)))) this.#encoded.delete(key);
  }

  get(kind: ResourceKind, name: string): Any | null {
    const key = `${kind} ${name}`;
    let known = this.#encoded.get(key);
    if (known === undefined) {
      const body = this.#encode(kind, name);
      known = body === null ? null : { typeUrl: TYPE_URLS[kind], value: Buffer.from(body) };
      if (this.#encoded.size >= MAX_CACHED) this.#encoded.clear();
      this.#encoded.set(key, known);
    }
    return known;
  }

  /** What of these resources proxyless clients can't be given, in words. */
  faults(kind: ResourceKind, name: string): string[] {
    const target = targetOfCluster(name, this.#model.services);
    if (target === null) return [];
    if (kind === 'routes') return unheeded(target, this.#model.routes);
    if (kind === 'cluster') return unheededPolicies(target);
    const why = kind === 'endpoints' ? whyUnreachable(name, target) : null;
    return why === null ? [] : [`${name} has no endpoints for proxyless clients: ${why}`];
  }

  #encode(kind: ResourceKind, name: string): Uint8Array | null {
    const { services, routes, endpoints } = this.#model;
    if (kind === 'listener') {
      this.#byHostname ??= servicesByHostname(services);
      const target = targetOfName(name, this.#byHostname);
      return target === null ? null : Listener.encode(listener(name, target)).finish();
    }
    const target = targetOfCluster(name, services);
    if (target === null && (name !== NO_BACKEND || kind === 'routes')) return null;
    switch (kind) {
      case 'cluster':
        return Cluster.encode(cluster(name, target)).finish();
      case 'endpoints':
        return ClusterLoadAssignment.encode(loadAssignment(name, target, endpoints.get(serviceOfCluster(name))?.values() ?? [])).finish();
      case 'routes':
        return target === null ? null : RouteConfiguration.encode(routeConfiguration(target, routes, services)).finish();
    }
  }
}

function listener(name: string, target: Target): Listener {
  const value = HttpConnectionManager.encode({
    statPrefix: name,
    rds: { configSource: OVER_ADS, routeConfigName: clusterName(target) },
    // Clients ask for it, and for it to be the last (gRFC A39).
    httpFilters: [{ name: 'router', typedConfig: { typeUrl: ROUTER, value: Buffer.alloc(0) } }],
  }).finish();
  return { name, apiListener: { apiListener: { typeUrl: HTTP_CONNECTION_MANAGER, value: Buffer.from(value) } } };
}
