// Services and their endpoints → clusters (a service's port, its balancing, its members that take work) and the engine's endpoints.
import {
  type Backend,
  type BackendTls,
  type Certificate,
  type ClusterPolicy,
  type ConnectionRoute,
  type Endpoint,
  EndpointHealth,
  type HttpRoute,
  LoadBalancing_Algorithm,
  Protocol,
  ProxyProtocol,
  type Service,
  type ServicePort,
} from '../../../api/gen/mesh/v1/model.js';
import { isGuarded, policyOf } from '../../model/cluster-policy.js';
import type { Model } from '../../model/model.js';
import { failsChecksAlone, takeWork } from '../../model/takes-work.js';
import type { EndpointSpec, EndpointTlsSpec, PeerMatch } from '../../native/engine.js';
import type { LimitPlan } from '../rate-limit/plan.js';
import type { UpstreamContexts } from '../upstream-tls.js';
import type { BalancerRows, Candidate } from './balancers.js';
import type { Labels } from './labels.js';
import { Balancing, CLUSTER_WORDS, MEMBER_WORDS } from './layout.js';
import type { StableIds } from './stable-ids.js';

export interface ClusterEndpoint {
  /** The engine's id; -1: no id was free, the endpoint gets no work. */
  readonly id: number;
  readonly address: string;
  readonly port: number;
  readonly node: string;
  /** Empty where unknown. */
  readonly region: string;
  readonly zone: string;
  /** "<namespace>/<name>"; empty where unknown. */
  readonly workload: string;
  readonly weight: number;
  readonly health: EndpointHealth;
  /** Why, in words; empty: as its source has it. */
  readonly healthReason: string;
  /** It fails its checks alone: where no endpoint of its cluster is ready, it is used all the same. */
  readonly isFallback: boolean;
  readonly labels: LabelValues;
}

export interface Cluster {
  /** Unique, and the same in every generation. */
  readonly key: string;
  /** "<namespace>/<service>:<port>" */
  readonly name: string;
  readonly service: Service;
  readonly port: ServicePort;
  readonly balancing: Balancing;
  /** Absent sections are as by default. */
  readonly policy: ClusterPolicy | undefined;
  /** Name under which its requests are limited and its endpoints watched, its own but for its variants; empty: they aren't. */
  readonly guard: string;
  readonly endpoints: readonly ClusterEndpoint[];
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
  readonly endpoints: readonly EndpointSpec[];
  readonly warnings: readonly string[];
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
  return `${clusterName(service, port)} ${variant}${shownBy === '' ? '' : ` by ${shownBy}`}${subsetText(labels)}`;
}

type LabelValues = Readonly<Record<string, string>>;

/** Empty for no labels. */
function subsetText(labels: LabelValues): string {
  const pairs = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
  return pairs.length === 0 ? '' : ` {${pairs.map(([name, value]) => `${name}=${value}`).join(',')}}`;
}

/** "10.0.0.1:80", "[fd00::1]:80" */
export function socketName(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

export function buildClusters(model: Model, ids: StableIds, contexts: UpstreamContexts): ClusterSet {
  const warnings = new Set<string>();
  const forGrpc = grpcBackends(model);
  const declared = [...model.services.keys()].sort().flatMap((name) => portsOf(model, name));
  const shown = shownCertificates(model);
  const speak = <C extends (typeof declared)[number]>(
    cluster: C,
    protocol: SpokenTo['protocol'],
    shownBy: ShownCertificate | null = null,
  ) => ({
    ...cluster,
    ...spokenTo(cluster, protocol, shownBy, contexts, warnings),
  });
  const subsets = subsetsByCluster(model);
  const whole = declared.map((cluster) => ({ ...cluster, subset: '' }));
  const parts = declared.flatMap((cluster) => (subsets.get(cluster.name) ?? []).map((labels) => partOf(cluster, labels)));
  const planned = [...whole, ...parts].map((cluster) => speak(cluster, spokenBy(cluster.port)));
  const isHttp2 = ({ name, protocol }: (typeof planned)[number]): boolean => protocol === 'http2' || !forGrpc.has(name);
  const variants = planned.flatMap((cluster) => [
    ...(isHttp2(cluster) ? [] : [{ ...speak(cluster, 'http2'), variants: [['http2', '']] as const }]),
    ...(cluster.port.tls === undefined ? [] : [{ ...cluster, isUsable: true, tls: null, variants: [['plain', '']] as const }]),
    ...(cluster.port.tls === undefined ? [] : (shown.get(cluster.name) ?? [])).flatMap((by) => [
      {
        ...speak(cluster, cluster.protocol, by),
        variants: [
          ['declared', by.gateway],
          ['http2', by.gateway],
        ] as const,
      },
      ...(isHttp2(cluster) ? [] : [{ ...speak(cluster, 'http2', by), variants: [['http2', by.gateway]] as const }]),
    ]),
  ]);
  const found = [...planned, ...variants];
  const keys = found.map((cluster) => cluster.sockets.map((socket) => endpointKey(cluster, socket)));
  const idByKey = ids.assign(keys.flat());
  const endpoints = new Map<number, EndpointSpec>();
  const clusters = found.map((cluster, row): Cluster => {
    const { sockets, isUsable, protocol, tls, shownBy, subset, ...rest } = cluster;
    return {
      ...rest,
      key: `${rest.name}${subset} ${row < planned.length ? '' : `${protocol} ${tls === null ? 'plain' : 'tls'} ${shownBy}`}`,
      endpoints: sockets.map((socket, index) => {
        const id = isUsable ? (idByKey.get(keys[row]![index]!) ?? -1) : -1;
        const proxyProtocol = PROXY_PROTOCOLS[rest.service.proxyProtocol] ?? null;
        if (id >= 0) endpoints.set(id, { id, address: socket.address, port: socket.port, protocol, tls, proxyProtocol });
        else if (isUsable)
          warnings.add(
            `no endpoint id is free for ${socketName(socket.address, socket.port)} of ${cluster.name}: it gets no traffic; fewer endpoints are needed`,
          );
        return { ...socket, id };
      }),
    };
  });
  const rowByName = new Map<string, number>();
  const nameAs = (row: number, variant: Variant, shownBy = ''): string => {
    const { service, port } = clusters[row]!;
    return variantName(`${service.namespace}/${service.name}`, port.port, variant, shownBy) + found[row]!.subset;
  };
  planned.forEach((_, row) => {
    for (const variant of ['declared', 'http2', 'plain'] as const) rowByName.set(nameAs(row, variant), row);
  });
  variants.forEach(({ variants: names }, index) => {
    const row = planned.length + index;
    for (const [variant, shownBy] of names) rowByName.set(nameAs(row, variant, shownBy), row);
  });
  return {
    clusters: clusters.slice(0, declared.length),
    variants: clusters.slice(declared.length),
    rowByName,
    endpoints: [...endpoints.values()],
    warnings: [...warnings],
  };
}

/** By cluster: the labels by which routes choose among its endpoints. */
function subsetsByCluster(model: Model): ReadonlyMap<string, readonly LabelValues[]> {
  const found = new Map<string, Map<string, LabelValues>>();
  const add = (service: string, port: number, labels: LabelValues): void => {
    if (Object.keys(labels).length === 0) return;
    const name = clusterName(service, port);
    found.set(name, (found.get(name) ?? new Map<string, LabelValues>()).set(subsetText(labels), labels));
  };
  for (const { rules } of model.routes.values())
    for (const { backends, mirrors } of rules)
      for (const { service, port, labels } of [...backends, ...mirrors]) add(service, port, labels);
  for (const { backends } of model.connectionRoutes.values()) for (const { service, port, labels } of backends) add(service, port, labels);
  return new Map([...found].map(([name, bySubset]) => [name, [...bySubset.keys()].sort().map((key) => bySubset.get(key)!)]));
}

function partOf(cluster: Unplaced, labels: LabelValues): Unplaced & { subset: string } {
  const wanted = Object.entries(labels);
  const sockets = cluster.sockets.filter((socket) => wanted.every(([name, value]) => socket.labels[name] === value));
  return { ...cluster, ...policed(cluster.name, cluster.service, cluster.port, labels), sockets, subset: subsetText(labels) };
}

/** What its policy says of a cluster. */
function policed(name: string, service: Service, port: ServicePort, labels: LabelValues): Pick<Cluster, 'balancing' | 'policy' | 'guard'> {
  const policy = policyOf(service, port.port, labels);
  return { balancing: balancingOf(policy), policy, guard: isGuarded(policy) ? `${name}${subsetText(labels)}` : '' };
}

/** Names of the clusters to which GRPCRoutes lead. */
function grpcBackends(model: Model): ReadonlySet<string> {
  const routes = [...model.routes.values()].filter(({ kind }) => kind === 'GRPCRoute');
  const backends = routes.flatMap(({ rules }) => rules.flatMap((rule) => rule.backends));
  return new Set(backends.map(({ service, port }) => clusterName(service, port)));
}

interface ShownCertificate {
  readonly gateway: string;
  readonly certificate: Certificate;
}

/** By cluster: of the gateways with a certificate for backends whose routes lead there. */
function shownCertificates(model: Model): ReadonlyMap<string, readonly ShownCertificate[]> {
  const byGateway = new Map<string, ShownCertificate>();
  for (const { gateway, backendCertificate: certificate } of model.listeners.values())
    if (certificate !== undefined) byGateway.set(gateway, { gateway, certificate });
  const byCluster = new Map<string, Set<ShownCertificate>>();
  if (byGateway.size === 0) return new Map();
  const add = ({ parents }: HttpRoute | ConnectionRoute, backends: readonly Backend[]): void => {
    const shown = parents.flatMap(({ parent }) => (parent?.$case === 'gateway' ? (byGateway.get(parent.value) ?? []) : []));
    for (const { service, port } of shown.length === 0 ? [] : backends) {
      const name = clusterName(service, port);
      byCluster.set(name, new Set([...(byCluster.get(name) ?? []), ...shown]));
    }
  };
  for (const route of model.routes.values()) for (const { backends } of route.rules) add(route, backends);
  for (const route of model.connectionRoutes.values()) add(route, route.backends);
  return new Map([...byCluster].map(([name, shown]) => [name, [...shown].sort((a, b) => (a.gateway < b.gateway ? -1 : 1))]));
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
    warnings.add(`${name} gets no traffic: its BackendTLSPolicy can't be followed: ${why}`);
    return { protocol, tls: null, isUsable: false, shownBy };
  };
  const { trust, systemTrust, hostname, accepts } = port.tls;
  if (trust === '' && !systemTrust) return unusable('it has no CA certificate that can be used');
  const found = contexts.contextFor({
    trust: systemTrust ? null : trust,
    alpn: alpnOf(port, protocol),
    certificate: shown?.certificate ?? null,
  });
  if (!found.ok) return unusable(found.fault);
  return { protocol, tls: { context: found.context, serverName: hostname, accepts: accepts.map(peerMatch) }, isUsable: true, shownBy };
}

function alpnOf({ protocol }: ServicePort, spoken: EndpointSpec['protocol']): string[] {
  if (spoken === 'http2') return ['h2'];
  return protocol === Protocol.TCP ? [] : ['http/1.1'];
}

function peerMatch(name: BackendTls['accepts'][number]): PeerMatch {
  return { kind: name.startsWith('spiffe://') ? 'spiffeId' : 'dnsName', value: name };
}

/**
 * Ids are stable over generations: not over what TLS is begun with, which pools know by itself. What a cluster is watched for is its own: the
 * same socket may do well in another.
 */
function endpointKey(
  { name, guard, protocol, tls, shownBy }: { name: string; guard: string } & SpokenTo,
  { address, port }: Socket,
): string {
  const spoken = tls !== null ? ` tls of ${name}${shownBy === '' ? '' : ` by ${shownBy}`}` : '';
  return `${socketName(address, port)} ${protocol}${spoken}${guard === '' ? '' : ` for ${guard}`}`;
}

const PROXY_PROTOCOLS: Readonly<Partial<Record<ProxyProtocol, 'v1' | 'v2'>>> = {
  [ProxyProtocol.V1]: 'v1',
  [ProxyProtocol.V2]: 'v2',
};

/** What is spoken to the endpoints of a port; what its clients may speak is for the listener to say. */
function spokenBy({ protocol }: ServicePort): EndpointSpec['protocol'] {
  if (protocol === Protocol.HTTP2 || protocol === Protocol.GRPC) return 'http2';
  return protocol === Protocol.HTTP ? 'http1' : 'opaque';
}

type Socket = Omit<ClusterEndpoint, 'id'>;
/** A cluster before it is known how its endpoints are spoken to. */
type Unplaced = Omit<Cluster, 'endpoints' | 'key'> & { readonly sockets: Socket[] };

function portsOf(model: Model, name: string): Unplaced[] {
  const service = model.services.get(name)!;
  const endpoints = [...(model.endpoints.get(name)?.entries() ?? [])].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, endpoint]) => endpoint);
  return service.ports.map((port) => ({
    name: clusterName(name, port.port),
    service,
    port,
    ...policed(clusterName(name, port.port), service, port, {}),
    sockets: endpoints.flatMap((endpoint) => socketOf(endpoint, port)),
  }));
}

function socketOf(endpoint: Endpoint, port: ServicePort): Socket[] {
  const target = endpoint.ports.find(({ name }) => name === port.name);
  if (target === undefined) return [];
  const { address, node, region, zone, workload, health, check, labels } = endpoint;
  const isFallback = failsChecksAlone(endpoint);
  const healthReason = check?.failing === true ? `check by ${check.node}: ${check.detail}` : '';
  const weight = Math.max(1, endpoint.weight);
  return [{ address, port: target.port, node, region, zone, workload, weight, health, healthReason, isFallback, labels }];
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

/** Of the generation before, by key: the row of a cluster and the ids of its members, so that balancers go on where they stand. */
export class ClusterRows {
  private kept = new Map<string, { readonly row: number; readonly members: string }>();
  private next = new Map<string, { readonly row: number; readonly members: string }>();

  /** -1: there was none, or it had other members. */
  previous(key: string, row: number, members: readonly Member[]): number {
    const same = members.map(({ id, weight }) => `${id}*${weight}`).join(' ');
    this.next.set(key, { row, members: same });
    const before = this.kept.get(key);
    return before?.members === same ? before.row : -1;
  }

  settle(): void {
    this.kept = this.next;
    this.next = new Map();
  }
}

export interface EndpointPlace {
  /** A captured workload of this node owns the address. */
  readonly isLocal: boolean;
  /** No other proxy stands in front of it. */
  readonly isLast: boolean;
}

/** What sections of clusters are made with. */
export interface SectionContext {
  readonly labels: Labels;
  readonly balancers: BalancerRows;
  readonly rows: ClusterRows;
  readonly limits: LimitPlan;
  readonly placeOf: (address: string) => EndpointPlace;
  /** Row in guards. */
  readonly guardOf: (cluster: Cluster) => number;
}

/** Rows of `clusters` (all clusters, then two for each: its members for IPv4 and for IPv6 clients) and `members`. */
export function clusterSections(
  { clusters: declared, variants }: ClusterSet,
  context: SectionContext,
): { clusters: number[]; members: number[] } {
  const clusters = [...declared, ...variants];
  const { labels, balancers } = context;
  const rows: number[] = [];
  const members: number[] = [];
  const add = (cluster: Cluster, family: string, candidates: readonly Member[], families: number): void => {
    const { key, name, balancing, policy, service } = cluster;
    const plan = balancers.plan(balancing, policy, candidates);
    const chosen = plan === null ? takeWork(candidates, ({ isReady }) => !isReady) : plan.groups.flatMap((group) => group.members);
    const first = members.length / MEMBER_WORDS;
    let total = 0;
    for (const { id, weight, isLocal, isLast, label, isReady } of chosen) {
      total += weight;
      members.push(id, weight, total, isLocal ? 1 : 0, label, isReady ? 1 : 0, isLast ? 1 : 0);
    }
    const isEven = chosen.every(({ weight }) => weight === chosen[0]?.weight);
    const balancer = plan === null ? -1 : balancers.add(name, balancing, policy?.loadBalancing, plan, first);
    const held = context.limits.setOf(service.rateLimits);
    const previous = context.rows.previous(`${key} ${family}`, rows.length / CLUSTER_WORDS, chosen);
    rows.push(
      balancing,
      first,
      chosen.length,
      total,
      isEven ? 1 : 0,
      labels.idOf(name),
      families,
      balancer,
      previous,
      context.guardOf(cluster),
      held,
    );
  };
  const candidates = clusters.map((cluster) => candidatesOf(cluster, context));
  for (const [row, cluster] of clusters.entries()) add(cluster, '', candidates[row]!, clusters.length + row * 2);
  for (const [row, cluster] of clusters.entries()) {
    for (const wanted of [false, true]) {
      const ofVersion = candidates[row]!.filter(({ isV6 }) => isV6 === wanted);
      // Of the other version only where none of this one could be used.
      const isUsable =
        takeWork(ofVersion, ({ isReady }) => !isReady).length > 0 &&
        (ofVersion.some(({ isReady }) => isReady) || !candidates[row]!.some(({ isReady }) => isReady));
      add(cluster, wanted ? 'IPv6' : 'IPv4', isUsable ? ofVersion : candidates[row]!, clusters.length + row * 2);
    }
  }
  context.rows.settle();
  return { clusters: rows, members };
}

/** Endpoints that take work, and those that would if their checks let them. */
function candidatesOf({ endpoints }: Cluster, { labels, placeOf }: SectionContext): Member[] {
  return endpoints.flatMap(({ id, weight, address, port, workload, health, isFallback, region, zone, node, labels: own }) => {
    const isReady = health === EndpointHealth.READY;
    if (id < 0 || (!isReady && !isFallback)) return [];
    const name = socketName(address, port);
    const label = labels.idOf(workload === '' ? name : workload);
    const isV6 = address.includes(':');
    return [{ id, name, weight, isReady, health, isV6, ...placeOf(address), label, region, zone, node, labels: own }];
  });
}

/** An endpoint that may be chosen, as its row of `members` tells it. */
interface Member extends Candidate, EndpointPlace {
  readonly id: number;
  readonly health: EndpointHealth;
  readonly isV6: boolean;
  readonly label: number;
}
