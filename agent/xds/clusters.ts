// A service's port → Cluster (how calls are spread) and ClusterLoadAssignment (over which endpoints).
import { type Cluster, DiscoveryType, LbPolicy, type LoadBalancingPolicy } from '../../api/gen/envoy/config/cluster/v3/cluster.js';
import { ApiVersion, type ConfigSource, HealthStatus } from '../../api/gen/envoy/config/core/v3/core.js';
import type { ClusterLoadAssignment, LbEndpoint, LocalityLbEndpoints } from '../../api/gen/envoy/config/endpoint/v3/endpoint.js';
import { ClientSideWeightedRoundRobin } from '../../api/gen/envoy/extensions/load_balancing_policies/client_side_weighted_round_robin/v3/client_side_weighted_round_robin.js';
import { WrrLocality } from '../../api/gen/envoy/extensions/load_balancing_policies/wrr_locality/v3/wrr_locality.js';
import {
  type ClusterPolicy,
  type Endpoint,
  EndpointHealth,
  type LoadBalancing,
  LoadBalancing_Algorithm,
  type LoadWeights,
  LoadWeights_Source,
  ProxyProtocol,
} from '../../api/gen/mesh/v1/model.js';
import { policyOf, tlsOf } from '../model/cluster-policy.js';
import { failsChecksAlone, takeWork } from '../model/takes-work.js';
import { circuitBreakersOf, outlierDetectionOf } from './cluster-limits.js';
import { durationMs } from './routes.js';
import { labelsOfCluster, type Target } from './target.js';

/** The resource comes over the stream that names it. */
export const OVER_ADS: ConfigSource = { ads: {}, resourceApiVersion: ApiVersion.V3 };

const POLICIES = 'type.googleapis.com/envoy.extensions.load_balancing_policies';

/** `target` null: a cluster without endpoints. */
export function cluster(name: string, target: Target | null): Cluster {
  const policy = target === null ? undefined : policyFor(name, target);
  return {
    name,
    type: DiscoveryType.EDS,
    edsClusterConfig: { edsConfig: OVER_ADS, serviceName: name },
    lbPolicy: LbPolicy.ROUND_ROBIN,
    circuitBreakers: policy === undefined ? undefined : circuitBreakersOf(policy),
    outlierDetection: policy === undefined ? undefined : outlierDetectionOf(policy),
    loadBalancingPolicy: pickerOf(policy?.loadBalancing),
  };
}

/** Of whoever has none of his own: whose a client is isn't known. */
function policyFor(name: string, { service, port }: Target): ClusterPolicy | undefined {
  return policyOf(service, port.port, Object.fromEntries(labelsOfCluster(name)));
}

/** What of its policies proxyless clients don't have, in words. */
export function unheededPolicies({ service }: Target): string[] {
  const namespaces = [...new Set(service.consumers.map(({ namespace }) => namespace))].sort().join(', ');
  const name = `${service.namespace}/${service.name}`;
  return namespaces === '' ? [] : [`${name} is treated otherwise by clients of ${namespaces}: proxyless clients treat it as all others do`];
}

const LEAST: ReadonlySet<LoadBalancing_Algorithm> = new Set([
  LoadBalancing_Algorithm.UNSPECIFIED,
  LoadBalancing_Algorithm.LEAST_REQUEST,
  LoadBalancing_Algorithm.PEAK_EWMA,
]);

/** Of several that are offered a client takes the first it knows (gRFC A52): not all know least_request, and none random. */
function pickerOf(setting: LoadBalancing | undefined): LoadBalancingPolicy {
  const isLeast = LEAST.has(setting?.algorithm ?? LoadBalancing_Algorithm.UNSPECIFIED);
  const endpointPickingPolicy = policies([
    ...(setting?.weights?.source === LoadWeights_Source.ORCA ? [weightedByReports(setting.weights)] : []),
    ...(isLeast ? [policy('least_request', 'LeastRequest')] : []),
    policy('round_robin', 'RoundRobin'),
  ]);
  return policies([policy('wrr_locality', 'WrrLocality', WrrLocality.encode({ endpointPickingPolicy }).finish())]);
}

/** gRFC A58. */
function weightedByReports({ blackoutMs, expirationMs, updateMs, errorPenalty }: LoadWeights): LoadBalancingPolicy['policies'][number] {
  const message = ClientSideWeightedRoundRobin.encode({
    blackoutPeriod: durationMs(blackoutMs),
    weightExpirationPeriod: durationMs(expirationMs),
    weightUpdatePeriod: durationMs(updateMs),
    errorUtilizationPenalty: errorPenalty,
  });
  return policy('client_side_weighted_round_robin', 'ClientSideWeightedRoundRobin', message.finish());
}

function policy(name: string, message: string, value: Uint8Array = Buffer.alloc(0)): LoadBalancingPolicy['policies'][number] {
  return { typedExtensionConfig: { name, typedConfig: { typeUrl: `${POLICIES}.${name}.v3.${message}`, value: Buffer.from(value) } } };
}

function policies(list: LoadBalancingPolicy['policies']): LoadBalancingPolicy {
  return { policies: list };
}

/** Why the endpoints of the cluster can't be spoken to without a proxy: then it has none, rather than plain text where TLS was asked for. Null: they can. */
export function whyUnreachable(name: string, target: Target): string | null {
  const { service, port } = target;
  if (tlsOf(port, policyFor(name, target)) !== undefined)
    return 'TLS is asked for (BackendTLSPolicy, DestinationRule), which is not handed to them';
  if (service.proxyProtocol !== ProxyProtocol.UNSPECIFIED)
    return 'its TrafficPolicy asks for a PROXY protocol header, which gRPC clients do not send';
  return null;
}

const MAX_UINT32 = 4_294_967_295;

export function loadAssignment(name: string, target: Target | null, endpoints: Iterable<Endpoint>): ClusterLoadAssignment {
  if (target === null || whyUnreachable(name, target) !== null) return { clusterName: name, endpoints: [] };
  const labels = labelsOfCluster(name);
  const groups = new Map<string, Group>();
  // One socket twice would have clients refuse the whole.
  const sockets = new Set<string>();
  for (const endpoint of endpoints) {
    const port = endpoint.ports.find((each) => each.name === target.port.name)?.port;
    if (port === undefined || sockets.has(`${endpoint.address} ${port}`)) continue;
    if (labels.some(([key, value]) => endpoint.labels[key] !== value)) continue;
    sockets.add(`${endpoint.address} ${port}`);
    groupOf(groups, endpoint).members.push({ endpoint, port });
  }
  // By name, so that the same endpoints are the same bytes.
  const members = [...groups.values()].flatMap((group) => group.members.map(({ endpoint }) => endpoint));
  const working = new Set(takeWork(members, failsChecksAlone));
  const sorted = [...groups].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, group]) => group);
  const total = sorted.reduce((sum, group) => sum + shareOf(group, working), 0);
  return { clusterName: name, endpoints: sorted.map((group) => localityOf(group, working, Math.max(1, total / MAX_UINT32))) };
}

/**
 * Endpoints of one zone and one weight. Clients weigh localities, and endpoints of one locality alike: so every weight is a locality of its own.
 */
interface Group {
  readonly zone: string;
  readonly weight: number;
  readonly members: { readonly endpoint: Endpoint; readonly port: number }[];
}

function groupOf(groups: Map<string, Group>, endpoint: Endpoint): Group {
  const { zone } = endpoint;
  const weight = Math.max(1, endpoint.weight);
  const key = `${zone}\n${weight}`;
  let group = groups.get(key);
  if (group === undefined) {
    group = { zone, weight, members: [] };
    groups.set(key, group);
  }
  return group;
}

function shareOf({ weight, members }: Group, working: ReadonlySet<Endpoint>): number {
  return Math.max(1, members.filter(({ endpoint }) => working.has(endpoint)).length * weight);
}

/** `divisor`: the weights of all localities are 32 bits together. */
function localityOf(group: Group, working: ReadonlySet<Endpoint>, divisor: number): LocalityLbEndpoints {
  const { zone, weight, members } = group;
  const lbEndpoints = members.map(({ endpoint, port }): LbEndpoint => {
    const socketAddress = { address: endpoint.address, portValue: port };
    return {
      endpoint: { address: { socketAddress } },
      healthStatus: working.has(endpoint) ? HealthStatus.HEALTHY : HEALTH[endpoint.health],
      loadBalancingWeight: weight,
    };
  });
  lbEndpoints.sort((a, b) => (socketOf(a) < socketOf(b) ? -1 : 1));
  return {
    locality: { region: '', zone, subZone: weight === 1 ? '' : `weight ${weight}` },
    lbEndpoints,
    loadBalancingWeight: Math.max(1, Math.floor(shareOf(group, working) / divisor)),
  };
}

const HEALTH: Readonly<Record<EndpointHealth, HealthStatus>> = {
  [EndpointHealth.READY]: HealthStatus.HEALTHY,
  [EndpointHealth.DRAINING]: HealthStatus.DRAINING,
  [EndpointHealth.UNHEALTHY]: HealthStatus.UNHEALTHY,
};

function socketOf({ endpoint }: LbEndpoint): string {
  const socket = endpoint?.address?.socketAddress;
  return `${socket?.address} ${socket?.portValue}`;
}
