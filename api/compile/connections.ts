// What a DestinationRule or a TrafficPolicy says of connections → the model's Connections. Pure.
import type { Connections, TcpKeepalive } from '../gen/mesh/v1/model.js';
import { durationMs } from '../resources/index.js';
import { goDurationMs } from '../resources/istio-common.js';
import type { Stored } from './input.js';

type RulePool = NonNullable<NonNullable<Stored<'DestinationRule'>['manifest']['spec']['trafficPolicy']>['connectionPool']>;
type OwnConnections = NonNullable<Stored<'TrafficPolicy'>['manifest']['spec']['connections']>;

/** A day. */
const MAX_MS = 86_400_000;
/** What the engine takes, 24 days. */
const MAX_DURATION_MS = 2_147_483_647;
const milliseconds = (ms: number | null, most = MAX_MS): number => Math.min(Math.ceil(ms ?? 0), most);
/** Istio: 0s is never; here 0 is what the proxy has. */
const idleMs = (said: string | undefined): number => (said === undefined ? 0 : milliseconds(goDurationMs(said) || MAX_MS));
const seconds = (ms: number | null): number => Math.ceil(milliseconds(ms) / 1_000);
/** Istio: 0 is no limit. */
const limitOf = (value: number | undefined): number | undefined => (value === undefined || value === 0 ? undefined : value);

/** Undefined: nothing that is the connections' own. Numbers of requests and retries are the circuit breaker's. */
export function connectionsOfRule(pool: RulePool | undefined): Connections | undefined {
  const { tcp = {}, http = {} } = pool ?? {};
  const { maxConnections, connectTimeout, tcpKeepalive, maxConnectionDuration, idleTimeout: tcpIdle } = tcp;
  const { http1MaxPendingRequests, maxRequestsPerConnection, maxConcurrentStreams, idleTimeout, h2UpgradePolicy } = http;
  const said = [maxConnections, connectTimeout, tcpKeepalive, http1MaxPendingRequests, maxRequestsPerConnection, maxConcurrentStreams];
  const upgradesToHttp2 = h2UpgradePolicy === 'UPGRADE';
  if (!upgradesToHttp2 && [...said, maxConnectionDuration, idleTimeout, tcpIdle].every((each) => each === undefined)) return undefined;
  return {
    maxConnections: limitOf(maxConnections),
    maxPending: limitOf(http1MaxPendingRequests),
    maxEndpointConnections: undefined,
    maxEndpointPending: undefined,
    maxRequestsPerConnection: maxRequestsPerConnection ?? 0,
    maxStreams: maxConcurrentStreams ?? 0,
    connectTimeoutMs: milliseconds(goDurationMs(connectTimeout ?? '')),
    idleTimeoutMs: idleMs(idleTimeout),
    tcpIdleTimeoutMs: idleMs(tcpIdle),
    maxDurationMs: milliseconds(goDurationMs(maxConnectionDuration ?? ''), MAX_DURATION_MS),
    keepalive: keepaliveOf(tcpKeepalive, goDurationMs),
    streamIdleTimeoutMs: 0,
    upgradesToHttp2,
  };
}

export function connectionsOfPolicy(said: OwnConnections): Connections {
  return {
    maxConnections: said.maxConnections,
    maxPending: said.maxPendingRequests,
    maxEndpointConnections: said.maxEndpointConnections,
    maxEndpointPending: said.maxEndpointPendingRequests,
    maxRequestsPerConnection: said.maxRequestsPerConnection ?? 0,
    maxStreams: said.maxConcurrentStreams ?? 0,
    connectTimeoutMs: milliseconds(durationMs(said.connectTimeout ?? '')),
    idleTimeoutMs: milliseconds(durationMs(said.idleTimeout ?? '')),
    tcpIdleTimeoutMs: milliseconds(durationMs(said.tcpIdleTimeout ?? '')),
    keepalive: keepaliveOf(said.tcpKeepalive, durationMs),
    maxDurationMs: milliseconds(durationMs(said.maxConnectionDuration ?? '')),
    streamIdleTimeoutMs: milliseconds(durationMs(said.streamIdleTimeout ?? '')),
    upgradesToHttp2: false,
  };
}

interface Keepalive {
  readonly time?: string | undefined;
  readonly interval?: string | undefined;
  readonly probes?: number | undefined;
}

/** What is not said is the kernel's own; of nothing at all the time has Linux' default, which says that there is keepalive. */
function keepaliveOf(said: Keepalive | undefined, ms: (text: string) => number | null): TcpKeepalive | undefined {
  if (said === undefined) return undefined;
  const { time, interval, probes } = said;
  const found = { timeS: seconds(ms(time ?? '')), intervalS: seconds(ms(interval ?? '')), probes: Math.min(probes ?? 0, 127) };
  return found.timeS + found.intervalS + found.probes === 0 ? { ...found, timeS: 7_200 } : found;
}
