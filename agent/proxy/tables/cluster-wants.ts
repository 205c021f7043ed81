// What routes and gateways want of a service's clusters, beside what the service says itself: parts of its endpoints, HTTP/2 for gRPC, certificates that are
// shown to it. Knows no endpoints.
import type { Backend, Certificate, ConnectionRoute, HttpRoute, RateLimit } from '../../../api/gen/mesh/v1/model.js';
import type { Model } from '../../model/model.js';

export type LabelValues = Readonly<Record<string, string>>;

/** Empty for no labels. */
export function subsetText(labels: LabelValues): string {
  const pairs = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
  return pairs.length === 0 ? '' : ` {${pairs.map(([name, value]) => `${name}=${value}`).join(',')}}`;
}

export interface ShownCertificate {
  readonly gateway: string;
  readonly certificate: Certificate;
}

/** Of one service, by the numbers of its ports. */
export interface Wanted {
  /** Of the labels by which routes choose among its endpoints. */
  readonly subsets: ReadonlyMap<number, readonly LabelValues[]>;
  /** To which GRPCRoutes lead, or that count rate limits: spoken to as gRPC whatever they declare. */
  readonly grpcPorts: ReadonlySet<number>;
  /** Of the gateways with a certificate for backends whose routes lead there. */
  readonly shown: ReadonlyMap<number, readonly ShownCertificate[]>;
  /** All of that which services without TLS depend on. */
  readonly text: string;
}

export const NOTHING_WANTED: Wanted = { subsets: new Map(), grpcPorts: new Set(), shown: new Map(), text: '' };

/** By service; of most there is nothing. */
export function wantsOf(model: Model): ReadonlyMap<string, Wanted> {
  const plans = new Map<string, WantedPlan>();
  const planOf = (service: string): WantedPlan => {
    const known = plans.get(service) ?? new WantedPlan();
    plans.set(service, known);
    return known;
  };
  const addBackend = ({ service, port, labels }: Pick<Backend, 'service' | 'port' | 'labels'>): void => {
    if (Object.keys(labels).length > 0) planOf(service).addSubset(port, labels);
  };
  const shownBy = gatewayCertificates(model);
  const addShown = ({ parents }: HttpRoute | ConnectionRoute, backends: readonly Backend[]): void => {
    if (shownBy.size === 0) return;
    const shown = parents.flatMap(({ parent }) => (parent?.$case === 'gateway' ? (shownBy.get(parent.value) ?? []) : []));
    for (const { service, port } of shown.length === 0 ? [] : backends) planOf(service).addShown(port, shown);
  };
  const addCounters = (limits: readonly RateLimit[]): void => {
    for (const { service } of limits) if (service !== undefined) planOf(service.service).grpcPorts.add(service.port);
  };
  for (const { rateLimits } of [...model.services.values(), ...model.listeners.values()]) addCounters(rateLimits);
  for (const route of model.routes.values()) {
    for (const { backends, mirrors, rateLimits } of route.rules) {
      addCounters(rateLimits);
      for (const target of [...backends, ...mirrors, ...backends.flatMap((backend) => backend.mirrors)]) {
        addBackend(target);
        if (route.kind === 'GRPCRoute') planOf(target.service).grpcPorts.add(target.port);
      }
      addShown(route, backends);
    }
  }
  for (const route of model.connectionRoutes.values()) {
    for (const backend of route.backends) addBackend(backend);
    addShown(route, route.backends);
  }
  return new Map([...plans].map(([service, plan]) => [service, plan.finish()]));
}

class WantedPlan {
  readonly grpcPorts = new Set<number>();
  private readonly subsets = new Map<number, Map<string, LabelValues>>();
  private readonly shown = new Map<number, Set<ShownCertificate>>();

  addSubset(port: number, labels: LabelValues): void {
    this.subsets.set(port, (this.subsets.get(port) ?? new Map<string, LabelValues>()).set(subsetText(labels), labels));
  }

  addShown(port: number, shown: readonly ShownCertificate[]): void {
    this.shown.set(port, new Set([...(this.shown.get(port) ?? []), ...shown]));
  }

  finish(): Wanted {
    const texts = [...this.subsets].map(([port, byText]) => [port, [...byText.keys()].sort()] as const);
    return {
      grpcPorts: this.grpcPorts,
      subsets: new Map(texts.map(([port, sorted]) => [port, sorted.map((text) => this.subsets.get(port)!.get(text)!)])),
      shown: new Map([...this.shown].map(([port, shown]) => [port, [...shown].sort((a, b) => (a.gateway < b.gateway ? -1 : 1))])),
      text: JSON.stringify([[...this.grpcPorts].sort((a, b) => a - b), texts.sort(([a], [b]) => a - b)]),
    };
  }
}

function gatewayCertificates(model: Model): ReadonlyMap<string, ShownCertificate> {
  const byGateway = new Map<string, ShownCertificate>();
  for (const { gateway, backendCertificate: certificate } of model.listeners.values())
    if (certificate !== undefined) byGateway.set(gateway, { gateway, certificate });
  return byGateway;
}
