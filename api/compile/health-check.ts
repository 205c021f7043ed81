// Active checks of endpoints: what is checked how (TrafficPolicy, or the instance's own), by which node, and what it found. One endpoint at a time.
import { type Endpoint, EndpointHealth, type HealthCheck, HealthCheck_Type } from '../gen/mesh/v1/model.js';
import { durationMs } from '../resources/index.js';
import { nameOf, type ObjectIndex, type Stored } from './input.js';
import type { FailingCheck, LiveNode, RegistryReports } from './registry.js';

const INTERVAL_MS = 10_000;
const TIMEOUT_MS = 1_000;
const UNHEALTHY_THRESHOLD = 3;
const HEALTHY_THRESHOLD = 1;

/** Of the first of its policies that says something. */
export function healthCheckOf(
  service: Stored<'Service'>,
  { policiesByService }: Pick<ObjectIndex, 'policiesByService'>,
): HealthCheck | undefined {
  const policies = policiesByService.get(nameOf(service)) ?? [];
  const spec = policies.map((policy) => policy.manifest.spec.healthCheck).find((found) => found !== undefined);
  if (spec === undefined) return undefined;
  const { http, grpc, interval, timeout, unhealthyThreshold, healthyThreshold, port, tls } = spec;
  return {
    type: http !== undefined ? HealthCheck_Type.HTTP : grpc !== undefined ? HealthCheck_Type.GRPC : HealthCheck_Type.TCP,
    intervalMs: durationMs(interval ?? '') ?? INTERVAL_MS,
    timeoutMs: durationMs(timeout ?? '') ?? TIMEOUT_MS,
    unhealthyThreshold: unhealthyThreshold ?? UNHEALTHY_THRESHOLD,
    healthyThreshold: healthyThreshold ?? HEALTHY_THRESHOLD,
    port: port ?? 0,
    tls: tls !== undefined,
    serverName: tls?.serverName ?? '',
    host: http?.host ?? '',
    path: http?.path ?? (http === undefined ? '' : '/'),
    statuses: (http?.statuses ?? []).map(statusRange),
    grpcService: grpc?.service ?? '',
  };
}

/** "200", "200-299" */
function statusRange(text: string): { first: number; last: number } {
  const [first = '', last = first] = text.split('-');
  return { first: Number(first), last: Number(last) };
}

/** `own`: the instance's; null: none. Without a check the endpoint is as it was. */
export function checked(
  endpoint: Endpoint,
  { byService, own }: { byService: HealthCheck | undefined; own: HealthCheck | null },
  { nodes, failing }: RegistryReports,
): Endpoint {
  if (byService === undefined && own === null) return endpoint;
  // Its own node's agent, which is nearest; one that doesn't live is stood in for.
  const node = nodes.get(endpoint.node)?.checks === true ? endpoint.node : chosenNode(`${endpoint.service}/${endpoint.id}`, nodes);
  // What others say counts for nothing: a node speaks for what is its to check.
  const found: FailingCheck | undefined = failing
    .get(endpoint.service)
    ?.get(endpoint.id)
    ?.find((each) => each.node === node);
  return {
    ...endpoint,
    health: found === undefined ? endpoint.health : Math.max(endpoint.health, EndpointHealth.UNHEALTHY),
    check: {
      node,
      sourceHealth: endpoint.health,
      failing: found !== undefined,
      detail: found?.detail ?? '',
      own: own ?? undefined,
    },
  };
}

/** By rendezvous hashing (Thaler and Ravishankar 1998): a node that comes or goes moves no more endpoints than it must. Empty: there is none. */
export function chosenNode(endpoint: string, nodes: ReadonlyMap<string, LiveNode>): string {
  let best = '';
  let most = -1;
  const ofEndpoint = hash(endpoint);
  for (const [node, ofNode] of hashesOf(nodes)) {
    const score = mix(ofEndpoint ^ ofNode);
    if (score > most || (score === most && node < best)) {
      best = node;
      most = score;
    }
  }
  return best;
}

/** Of the same nodes once: there may be a thousand, and as many endpoints to be placed. */
const hashes = new WeakMap<ReadonlyMap<string, LiveNode>, readonly (readonly [node: string, hash: number])[]>();

function hashesOf(nodes: ReadonlyMap<string, LiveNode>): readonly (readonly [node: string, hash: number])[] {
  let known = hashes.get(nodes);
  if (known === undefined) {
    known = [...nodes].flatMap(([node, { checks }]) => (checks ? [node] : [])).map((node) => [node, hash(node)] as const);
    hashes.set(nodes, known);
  }
  return known;
}

/** FNV-1a. */
function hash(text: string): number {
  let h = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) h = Math.imul(h ^ text.charCodeAt(at), 0x01000193);
  return mix(h);
}

/** MurmurHash3's finaliser: what differs in one bit is far apart. */
function mix(word: number): number {
  let h = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
