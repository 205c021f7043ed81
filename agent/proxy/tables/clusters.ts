// Services and their endpoints → clusters (a service's port, its balancing, its endpoints with their ids) and the engine's endpoints. The clusters of a
// service that stands as it did are those of the generation before, the same objects: what is made of a cluster may be kept as long as that is.
import {
  type ClusterPolicy,
  type ConsumerPolicies,
  type Endpoint,
  type EndpointHealth,
  LoadBalancing_Algorithm,
  Protocol,
  ProxyProtocol,
  type Service,
  type ServicePort,
} from '../../../api/gen/mesh/v1/model.js';
import { hostPort } from '../../../api/host-port.js';
import { isGuarded, policyOf, tlsOf } from '../../model/cluster-policy.js';
import type { Model } from '../../model/model.js';
import { failsChecksAlone } from '../../model/takes-work.js';
import type { ConnectionPolicySpec, EndpointSpec, EndpointTlsSpec } from '../../native/engine.js';
import { MAX_CONNECTION_SERVICES } from '../resilience/connection-counts.js';
import type { UpstreamContexts } from '../upstream-tls.js';
import type { Consumer } from './clients.js';
import { type LabelValues, NOTHING_WANTED, type ShownCertificate, subsetText, type Wanted, wantsOf } from './cluster-wants.js';
import { connectionPolicy } from './connection-policy.js';
import { Balancing } from './layout.js';
import { peerMatch } from './peer-match.js';
import type { StableIds } from './stable-ids.js';

/** An endpoint of the model, under the port that the cluster's leads to. */
export class ClusterEndpoint {
  constructor(
    /** The engine's id; -1: no id was free, the endpoint gets no work. */
    readonly id: number,
    readonly port: number,
    private readonly endpoint: Endpoint,
    /** What its node's CPU leaves of its weight; null: weights don't go by that. */
    private readonly nodeWeight: number | null,
  ) {}

  get address(): string {
    return this.endpoint.address;
  }
  get node(): string {
    return this.endpoint.node;
  }
  /** Empty where unknown. */
  get region(): string {
    return this.endpoint.region;
  }
  get zone(): string {
    return this.endpoint.zone;
  }
  /** "<namespace>/<name>"; empty where unknown. */
  get workload(): string {
    return this.endpoint.workload;
  }
  get weight(): number {
    return this.nodeWeight ?? ownWeight(this.endpoint);
  }
  get isByNode(): boolean {
    return this.nodeWeight !== null;
  }
  get health(): EndpointHealth {
    return this.endpoint.health;
  }
  /** Why, in words; empty: as its source has it. */
  get healthReason(): string {
    const { check } = this.endpoint;
    return check?.failing === true ? `check by ${check.node}: ${check.detail}` : '';
  }
  /** It fails its checks alone: where no endpoint of its cluster is ready, it is used all the same. */
  get isFallback(): boolean {
    return failsChecksAlone(this.endpoint);
  }
  get labels(): LabelValues {
    return this.endpoint.labels;
  }
}

export interface Cluster {
  /** Unique, and the same in every generation. */
  readonly key: string;
  /** "<namespace>/<service>:<port>" */
  readonly name: string;
  /** "<namespace>/<service>" */
  readonly serviceName: string;
  readonly service: Service;
  /** With the TLS that its policy asks for. */
  readonly port: ServicePort;
  readonly balancing: Balancing;
  /** Absent sections are as by default. */
  readonly policy: ClusterPolicy | undefined;
  /** Name under which its requests are limited and its endpoints watched, its own but for its variants; empty: they aren't. */
  readonly guard: string;
  /** How its connections are limited and kept, and the name under which they are counted, its own but for its variants; null: there is no such policy. */
  readonly connections: { readonly name: string; readonly policy: ConnectionPolicySpec } | null;
  readonly endpoints: readonly ClusterEndpoint[];
  /** Of those with an id. */
  readonly specs: readonly EndpointSpec[];
  /** By what it is found: variantName(). */
  readonly names: readonly string[];
}

/**
 * How a cluster's endpoints are spoken to: as its port says; by HTTP/2 whatever it says, for gRPC; in plain text whatever it says, for bytes
 * that are TLS already.
 */
export type Variant = 'declared' | 'http2' | 'plain';

export interface ClusterSet {
  /** As declared. A cluster's row is its position. */
  readonly clusters: readonly Cluster[];
  /** Those that differ from it, behind them. */
  readonly variants: readonly Cluster[];
  /** By variantName(). */
  readonly rowByName: ReadonlyMap<string, number>;
  readonly apart: readonly ApartCluster[];
  readonly endpoints: readonly EndpointSpec[];
  readonly warnings: readonly string[];
}

/** Some clients have another cluster (row `own`) in place of one: other policies hold for them. */
export interface ApartCluster {
  readonly row: number;
  readonly consumer: Consumer;
  readonly own: number;
}

export const BALANCING_NAMES: Readonly<Record<Balancing, string>> = {
  [Balancing.RoundRobin]: 'round-robin',
  [Balancing.Random]: 'random',
  [Balancing.LeastRequest]: 'least-request',
  [Balancing.PeakEwma]: 'peak-ewma',
  [Balancing.RingHash]: 'ring-hash',
  [Balancing.Maglev]: 'maglev',
  [Balancing.Passthrough]: 'passthrough',
};

export function clusterName(service: string, port: number): string {
  return `${service}:${port}`;
}

/**
 * `shownBy`: the gateway whose certificate the endpoints are shown; empty: none is. `labels`: of the endpoints, those of a subset. A cluster
 * that has no need of a variant is that itself.
 */
export function variantName(service: string, port: number, variant: Variant, shownBy = '', labels: LabelValues = {}): string {
  return variantOf(clusterName(service, port), variant, shownBy) + subsetText(labels);
}

function variantOf(cluster: string, variant: Variant, shownBy: string): string {
  return `${cluster} ${variant}${shownBy === '' ? '' : ` by ${shownBy}`}`;
}

/** A service's clusters, and what they were made of. */
interface ServiceClusters {
  readonly service: Service;
  readonly endpoints: readonly Endpoint[];
  /** What routes and gateways want of it, in one text. */
  readonly wanted: string;
  /** They depend on nothing else. */
  readonly mayBeKept: boolean;
  readonly declared: readonly Cluster[];
  /** Their endpoints with certain labels. */
  readonly subsets: readonly Cluster[];
  readonly variants: readonly Cluster[];
  /** For clients with policies of their own: all of these again. */
  readonly apart: readonly { readonly consumer: Consumer; readonly clusters: readonly Cluster[] }[];
  /** Of those. */
  readonly consumers: string;
}

/** Outlives generations. */
export class Clusters {
  private services: ReadonlyMap<string, ServiceClusters> = new Map();
  /** By endpoint id: the generation that has it. */
  private readonly seenIn: Int32Array;
  private builds = 0;

  /** `counts`: of names that connections are counted under. */
  constructor(
    private readonly ids: StableIds,
    private readonly counts: StableIds,
  ) {
    this.seenIn = new Int32Array(ids.capacity);
  }

  /** `clients`: namespaces from which requests can come. */
  build(model: Model, contexts: UpstreamContexts, clients: ReadonlySet<string>): ClusterSet {
    const warnings = new Set<string>();
    const wants = wantsOf(model);
    const services = new Map<string, ServiceClusters>();
    for (const name of [...model.services.keys()].sort()) {
      const service = model.services.get(name)!;
      const endpoints = model.endpointsOf(name);
      const wanted = wants.get(name) ?? NOTHING_WANTED;
      const consumers = service.consumers.filter(({ namespace }) => clients.has(namespace));
      const before = this.services.get(name);
      const isSame = before?.mayBeKept === true && before.service === service && before.endpoints === endpoints;
      if (isSame && before.wanted === wanted.text && before.consumers === consumerText(consumers)) services.set(name, before);
      else services.set(name, new Builder(this.ids, this.counts, contexts, warnings, wanted).build(service, endpoints, consumers));
    }
    // Only now: a name that both have keeps its id.
    for (const [name, before] of this.services) if (services.get(name) !== before) this.release(before);
    this.services = services;
    return this.setOf([...services.values()], [...warnings]);
  }

  private release({ declared, subsets, variants, apart }: ServiceClusters): void {
    for (const clusters of [declared, subsets, variants, ...apart.map((each) => each.clusters)]) {
      for (const { specs, connections } of clusters) {
        for (const { id } of specs) this.ids.release(id);
        if (connections !== null) this.counts.release(connections.policy.service);
      }
    }
  }

  private setOf(services: readonly ServiceClusters[], warnings: readonly string[]): ClusterSet {
    const clusters = services.flatMap(({ declared }) => declared);
    const apart = services.flatMap((service) => service.apart);
    const variants = [
      ...services.flatMap(({ subsets }) => subsets),
      ...services.flatMap((service) => service.variants),
      ...apart.flatMap((each) => each.clusters),
    ];
    const rowByName = new Map<string, number>();
    const endpoints: EndpointSpec[] = [];
    this.builds++;
    let row = 0;
    for (const part of [clusters, variants])
      for (const { names, specs } of part) {
        for (const name of names) rowByName.set(name, row);
        row++;
        for (const spec of specs) {
          if (this.seenIn[spec.id] === this.builds) continue;
          this.seenIn[spec.id] = this.builds;
          endpoints.push(spec);
        }
      }
    return { clusters, variants, rowByName, apart: apart.flatMap((each) => placesOf(each, rowByName)), endpoints, warnings };
  }
}

/** Of the clusters that all others have, the rows for which these stand: of several the first. */
function placesOf({ consumer, clusters }: ServiceClusters['apart'][number], rowByName: ReadonlyMap<string, number>): ApartCluster[] {
  const suffix = clientText(consumer);
  const rows = new Map<number, number>();
  for (const name of clusters.flatMap(({ names }) => names)) {
    const row = rowByName.get(name.slice(0, -suffix.length));
    if (row !== undefined && !rows.has(row)) rows.set(row, rowByName.get(name)!);
  }
  return [...rows].map(([row, own]) => ({ row, consumer, own }));
}

/** One service's. */
class Builder {
  private mayBeKept = true;
  /** Ports to which some speak TLS, others plain text perhaps. What all want there is for all, or what is for the one couldn't be told from what is for the other. */
  private tlsPorts: ReadonlySet<number> = new Set();
  /** So, those to which some don't speak HTTP/2. */
  private otherPorts: ReadonlySet<number> = new Set();

  constructor(
    private readonly ids: StableIds,
    private readonly counts: StableIds,
    private readonly contexts: UpstreamContexts,
    private readonly warnings: Set<string>,
    private readonly wanted: Wanted,
  ) {}

  build(service: Service, endpoints: readonly Endpoint[], consumers: readonly ConsumerPolicies[]): ServiceClusters {
    const usual = this.unplaced(service, endpoints, null);
    const apart = consumers.map((consumer) => ({ consumer, ...this.unplaced(service, endpoints, consumer) }));
    const all = [usual, ...apart].flatMap(({ whole, parts }) => [...whole, ...parts]);
    const portsOf = (clusters: readonly Unplaced[]): Set<number> => new Set(clusters.map(({ port }) => port.port));
    this.tlsPorts = portsOf(all.filter(({ port }) => port.tls !== undefined));
    this.otherPorts = portsOf(all.filter((cluster) => spokenBy(cluster) !== 'http2'));
    const [declared, subsets, variants] = this.placed(usual);
    const placed = apart.map((each) => ({ consumer: each.consumer, clusters: this.placed(each).flat() }));
    // Contexts are asked for in every generation that uses them.
    const mayBeKept = this.mayBeKept && this.tlsPorts.size === 0;
    const { wanted } = this;
    return {
      service,
      endpoints,
      wanted: wanted.text,
      mayBeKept,
      declared,
      subsets,
      variants,
      apart: placed,
      consumers: consumerText(consumers),
    };
  }

  private unplaced(
    service: Service,
    endpoints: readonly Endpoint[],
    consumer: ConsumerPolicies | null,
  ): { whole: Unplaced[]; parts: Unplaced[] } {
    const whole = service.ports.map((port) => wholeOf(service, port, endpoints, consumer));
    const parts = whole.flatMap((cluster) =>
      (this.wanted.subsets.get(cluster.port.port) ?? []).map((labels) => partOf(cluster, service.ports, labels, consumer)),
    );
    return { whole, parts };
  }

  private placed({ whole, parts }: { whole: readonly Unplaced[]; parts: readonly Unplaced[] }): [Cluster[], Cluster[], Cluster[]] {
    const declared = whole.map((cluster) => this.planned(cluster));
    const subsets = parts.map((cluster) => this.planned(cluster));
    return [declared, subsets, [...whole, ...parts].flatMap((cluster) => this.variantsOf(cluster))];
  }

  /** As its port says. */
  private planned(cluster: Unplaced): Cluster {
    const names = (['declared', 'http2', 'plain'] as const).map((variant) => nameAs(cluster, variant));
    return this.place(cluster, this.spokenTo(cluster, spokenBy(cluster), null), names);
  }

  private variantsOf(cluster: Unplaced): Cluster[] {
    const { port } = cluster;
    const { wanted } = this;
    const protocol = spokenBy(cluster);
    const wantsHttp2 = wanted.grpcPorts.has(port.port) && this.otherPorts.has(port.port);
    const variants: Cluster[] = [];
    const add = (spoken: SpokenTo, ...names: string[]): void => void variants.push(this.place(cluster, spoken, names));
    if (wantsHttp2) add(this.spokenTo(cluster, 'http2', null), nameAs(cluster, 'http2'));
    if (!this.tlsPorts.has(port.port)) return variants;
    add({ protocol, tls: null, isUsable: true, shownBy: '' }, nameAs(cluster, 'plain'));
    for (const shown of wanted.shown.get(port.port) ?? []) {
      const by = shown.gateway;
      add(this.spokenTo(cluster, protocol, shown), nameAs(cluster, 'declared', by), nameAs(cluster, 'http2', by));
      if (wantsHttp2) add(this.spokenTo(cluster, 'http2', shown), nameAs(cluster, 'http2', by));
    }
    return variants;
  }

  private spokenTo(cluster: Unplaced, protocol: SpokenTo['protocol'], shown: ShownCertificate | null): SpokenTo {
    return spokenTo(cluster, protocol, shown, this.contexts, this.warnings);
  }

  /** `names`: the first is no other cluster's first. */
  private place({ sockets, subset, client, ...rest }: Unplaced, spoken: SpokenTo, names: readonly string[]): Cluster {
    const { protocol, tls, isUsable } = spoken;
    const { name, service, port } = rest;
    const proxyProtocol = PROXY_PROTOCOLS[service.proxyProtocol] ?? null;
    const connections = this.connectionsOf(`${name}${subset}${client}`, rest.policy);
    const counted = connections === null ? '' : ` counted as ${connections.name}`;
    const apart = rest.policy?.tls === undefined ? '' : `${subset}${client}`;
    const suffix = endpointSuffix({ name: `${name}${apart}`, guard: rest.guard }, spoken, proxyProtocol) + counted;
    const specs: EndpointSpec[] = [];
    const weights = nodeWeights(sockets, rest.policy);
    const endpoints = sockets.map((endpoint, index) => {
      const { address } = endpoint;
      const target = portOf(endpoint, port);
      const id = isUsable ? this.hold(`${hostPort(address, target)}${suffix}`) : -1;
      if (id >= 0) specs.push({ id, address, port: target, protocol, tls, proxyProtocol, connections: connections?.policy ?? null });
      else if (isUsable)
        this.warnings.add(
          `no endpoint id is free for ${hostPort(address, target)} of ${name}: it gets no traffic; fewer endpoints are needed`,
        );
      return new ClusterEndpoint(id, target, endpoint, weights?.[index] ?? null);
    });
    return { ...rest, key: names[0]!, connections, endpoints, specs, names };
  }

  private connectionsOf(name: string, policy: ClusterPolicy | undefined): Cluster['connections'] {
    if (policy?.connections === undefined) return null;
    const service = this.counts.hold(name);
    if (service >= 0) return { name, policy: connectionPolicy(service, policy.connections) };
    this.mayBeKept = false;
    this.warnings.add(
      `${name} is served without what its policy says of connections: more than ${MAX_CONNECTION_SERVICES} have such policies`,
    );
    return null;
  }

  /** -1: none is free now. */
  private hold(name: string): number {
    const id = this.ids.hold(name);
    if (id < 0) this.mayBeKept = false;
    return id;
  }
}

function nameAs({ name, subset, client }: Unplaced, variant: Variant, shownBy = ''): string {
  return variantOf(name, variant, shownBy) + subset + client;
}

/** Behind names of what is for them alone. */
function clientText({ namespace, labels }: Consumer): string {
  return ` for ${namespace}${subsetText(labels)}`;
}

function consumerText(consumers: readonly Consumer[]): string {
  return consumers.map(clientText).join();
}

function partOf(cluster: Unplaced, declared: readonly ServicePort[], labels: LabelValues, consumer: ConsumerPolicies | null): Unplaced {
  const wanted = Object.entries(labels);
  const port = declared.find((each) => each.port === cluster.port.port)!;
  const sockets = cluster.sockets.filter((socket) => wanted.every(([name, value]) => socket.labels[name] === value));
  return { ...cluster, ...policed(cluster.name, cluster.service, port, labels, consumer), sockets, subset: subsetText(labels) };
}

/** What its policy says of a cluster, for all (null) or for some. */
function policed(
  name: string,
  service: Service,
  port: ServicePort,
  labels: LabelValues,
  consumer: ConsumerPolicies | null,
): Pick<Unplaced, 'port' | 'balancing' | 'policy' | 'guard' | 'client'> {
  const policy = policyOf(consumer ?? service, port.port, labels);
  const client = consumer === null ? '' : clientText(consumer);
  return {
    port: { ...port, tls: tlsOf(port, policy) },
    balancing: balancingOf(policy),
    policy,
    guard: isGuarded(policy) ? `${name}${subsetText(labels)}${client}` : '',
    client,
  };
}

interface SpokenTo {
  readonly protocol: EndpointSpec['protocol'];
  readonly tls: EndpointTlsSpec | null;
  /** False: TLS is asked for and can't be had; never plain text instead. */
  readonly isUsable: boolean;
  /** The gateway whose certificate is shown; empty: none is. */
  readonly shownBy: string;
}

function spokenTo(
  { name, port }: { name: string; port: ServicePort },
  protocol: SpokenTo['protocol'],
  shown: ShownCertificate | null,
  contexts: UpstreamContexts,
  warnings: Set<string>,
): SpokenTo {
  const shownBy = shown?.gateway ?? '';
  if (port.tls === undefined) return { protocol, tls: null, isUsable: true, shownBy };
  const unusable = (why: string): SpokenTo => {
    warnings.add(`${name} gets no traffic: what is asked for of TLS to it can't be done: ${why}`);
    return { protocol, tls: null, isUsable: false, shownBy };
  };
  const { trust, systemTrust, hostname, accepts, certificate, files, unverified } = port.tls;
  const isTrusting = trust !== '' || systemTrust || unverified || (files?.trust ?? '') !== '';
  if (!isTrusting) return unusable('there is no CA certificate that can be used');
  const found = contexts.contextFor({
    trust: systemTrust ? null : trust,
    alpn: alpnOf(port, protocol),
    certificate: certificate ?? shown?.certificate ?? null,
    files: files ?? null,
    isVerified: !unverified,
  });
  if (!found.ok) return unusable(found.fault);
  if (found.outdated !== null) warnings.add(`${name} is spoken to with what its files of certificates were before: ${found.outdated}`);
  return { protocol, tls: { context: found.context, serverName: hostname, accepts: accepts.map(peerMatch) }, isUsable: true, shownBy };
}

function alpnOf({ protocol }: ServicePort, spoken: EndpointSpec['protocol']): string[] {
  if (spoken === 'http2') return ['h2'];
  return protocol === Protocol.TCP ? [] : ['http/1.1'];
}

/**
 * Behind an endpoint's socket in the name that its id is for. Ids are stable over generations: not over what TLS is begun with, which pools know by
 * itself. What a cluster is watched for is its own: the same socket may do well in another.
 */
function endpointSuffix(
  { name, guard }: { name: string; guard: string },
  { protocol, tls, shownBy }: SpokenTo,
  proxyProtocol: EndpointSpec['proxyProtocol'],
): string {
  const spoken = tls !== null ? ` tls of ${name}${shownBy === '' ? '' : ` by ${shownBy}`}` : '';
  return ` ${protocol}${spoken}${guard === '' ? '' : ` for ${guard}`}${proxyProtocol === null ? '' : ` behind PROXY ${proxyProtocol}`}`;
}

const PROXY_PROTOCOLS: Readonly<Partial<Record<ProxyProtocol, 'v1' | 'v2'>>> = {
  [ProxyProtocol.V1]: 'v1',
  [ProxyProtocol.V2]: 'v2',
};

/** What is spoken to the endpoints of a port; what its clients may speak is for the listener to say. */
function spokenBy({ port: { protocol }, policy }: Pick<Cluster, 'port' | 'policy'>): EndpointSpec['protocol'] {
  const isHttp2 = protocol === Protocol.HTTP2 || protocol === Protocol.GRPC;
  if (!isHttp2 && protocol !== Protocol.HTTP) return 'opaque';
  return isHttp2 || policy?.connections?.upgradesToHttp2 === true ? 'http2' : 'http1';
}

/** A cluster before it is known how its endpoints are spoken to. */
interface Unplaced extends Omit<Cluster, 'connections' | 'endpoints' | 'specs' | 'names' | 'key'> {
  /** Those that have the port. */
  readonly sockets: readonly Endpoint[];
  /** In words; empty: all of them. */
  readonly subset: string;
  /** For whom, in words; empty: for all that have none of their own. */
  readonly client: string;
}

function wholeOf(service: Service, port: ServicePort, endpoints: readonly Endpoint[], consumer: ConsumerPolicies | null): Unplaced {
  const serviceName = `${service.namespace}/${service.name}`;
  const name = clusterName(serviceName, port.port);
  const sockets = endpoints.filter((endpoint) => portOf(endpoint, port) > 0);
  return { name, serviceName, service, ...policed(name, service, port, {}, consumer), sockets, subset: '' };
}

/** 0: it has none of that name. */
function portOf({ ports }: Endpoint, { name }: ServicePort): number {
  for (const port of ports) if (port.name === name) return port.port;
  return 0;
}

function ownWeight({ weight }: Endpoint): number {
  return Math.max(1, weight);
}

/** Of a busy node's endpoint, what is left of its weight: never nothing, or nobody would find out that the node has room again. */
const LEAST_IDLE_PERCENT = 5;
/** Weights are integers, and so are their sums. */
const MAX_WHOLE_WEIGHT = 10_000;

/** By what their nodes' CPUs have left; of a node that says nothing, as much as the others on average. Null: nobody asks for it, or no node says. */
function nodeWeights(endpoints: readonly Endpoint[], policy: ClusterPolicy | undefined): readonly number[] | null {
  if (policy?.loadBalancing?.weights === undefined) return null;
  const known = endpoints.flatMap(({ nodeIdlePercent }) => nodeIdlePercent ?? []);
  if (known.length === 0) return null;
  const mean = known.reduce((sum, idle) => sum + idle, 0) / known.length;
  const scale = endpoints.some((endpoint) => ownWeight(endpoint) > MAX_WHOLE_WEIGHT) ? 0.01 : 1;
  return endpoints.map((endpoint) => {
    const idle = Math.max(LEAST_IDLE_PERCENT, endpoint.nodeIdlePercent ?? mean);
    return Math.max(1, Math.round(ownWeight(endpoint) * idle * scale));
  });
}

function balancingOf(policy: ClusterPolicy | undefined): Balancing {
  switch (policy?.loadBalancing?.algorithm) {
    case LoadBalancing_Algorithm.ROUND_ROBIN:
      return Balancing.RoundRobin;
    case LoadBalancing_Algorithm.RANDOM:
      return Balancing.Random;
    case LoadBalancing_Algorithm.PEAK_EWMA:
      return Balancing.PeakEwma;
    case LoadBalancing_Algorithm.RING_HASH:
      return Balancing.RingHash;
    case LoadBalancing_Algorithm.MAGLEV:
      return Balancing.Maglev;
    case LoadBalancing_Algorithm.PASSTHROUGH:
      return Balancing.Passthrough;
    default:
      return Balancing.LeastRequest;
  }
}
