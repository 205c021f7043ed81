// The proxy's configuration, typed and frozen; the one place that knows defaults and what combinations make sense.
// command.ts reads flags and environment into RawConfig; nothing else in the proxy looks at either.
import { availableParallelism } from 'node:os';
import { type HostPort, parseHostPort } from '../../api/host-port.js';
import type { LogLevel } from '../../api/log.js';
import type { EngineLimits } from '../native/engine.js';
import type { OverloadThresholds } from './overload/monitor.js';

export type AccessLogMode = 'off' | 'errors' | 'all';

/** Where the model comes from. */
export type Source = { readonly kind: 'static'; readonly files: readonly string[] } | { readonly kind: 'agent'; readonly address: string };

export interface ProxyConfig {
  readonly source: Source;
  readonly runDir: string;
  readonly node: string;
  /** Where the node is; null: as endpoints on it say. */
  readonly place: { readonly region: string; readonly zone: string } | null;
  readonly workers: number;
  /** Captured traffic: the namespace to enter, and where the redirection programs' maps are pinned. Null: gateway listeners only. */
  readonly mesh: { readonly netns: string; readonly bpfDir: string } | null;
  readonly accessLog: { readonly mode: AccessLogMode; readonly file: string | null };
  readonly metricsListen: HostPort | null;
  readonly limits: EngineLimits;
  /** By namespace, MIN_TENANT_WEIGHT … MAX_TENANT_WEIGHT; who is not named has 100. */
  readonly tenantWeights: ReadonlyMap<string, number>;
  /** Proxies in front of the gateways whose X-Forwarded-* are believed. */
  readonly trustedHops: number;
  /** Of files of certificates and keys that operators may name; null: none. */
  readonly tlsFolder: string | null;
  /** Name of this hop in Via; null: none is added. */
  readonly via: string | null;
  /** When what is shed; null: never. */
  readonly overload: OverloadThresholds | null;
  /** Is there while this proxy serves; null: none. */
  readonly readyFile: string | null;
  /** Whether a proxy that serves the run directory is taken over from. */
  readonly takeover: 'auto' | 'never';
  /** What to do once a successor serves and the last connection has ended. */
  readonly afterHandover: 'exit' | 'wait';
  /** Of connections that are open when a successor has taken over; 0: no limit. */
  readonly drainTimeoutMs: number;
  /** Of connections that are open at SIGTERM. */
  readonly shutdownTimeoutMs: number;
  readonly logLevel: LogLevel;
}

export const DEFAULT_LIMITS: EngineLimits = {
  maxConnections: 65_536,
  maxHeadBytes: 65_536,
  maxHeaders: 128,
  maxBufferedBytes: 262_144,
  // Fewer than the connections a busy endpoint needs at once means opening and closing them all the time: 2× CPU with 64 for 512 clients.
  maxIdlePerEndpoint: 1_024,
  maxStreams: 128,
  headerTimeoutMs: 15_000,
  idleTimeoutMs: 3_600_000,
  // Envoy's default: a client that stalls in a request holds buffers, one between requests holds none.
  streamIdleTimeoutMs: 300_000,
  upstreamIdleTimeoutMs: 4_000,
  connectTimeoutMs: 5_000,
  requestTimeoutMs: 0,
  tcpIdleTimeoutMs: 3_600_000,
  detectTimeoutMs: 100,
  maxDeferred: 4_096,
  deferredTimeoutMs: 10_000,
  // Half of the worker's.
  maxTenantConnections: 32_768,
  maxTenantRequests: 16_384,
  maxTenantBufferedBytes: 268_435_456,
};

export interface RawConfig {
  readonly static?: readonly string[];
  readonly agent?: string;
  readonly runDir: string;
  readonly node: string;
  readonly zone?: string;
  readonly region?: string;
  readonly workers?: number;
  readonly meshNetns?: string;
  readonly bpfDir: string;
  readonly accessLog: AccessLogMode;
  readonly accessLogFile?: string;
  readonly metricsListen?: string;
  readonly readyFile?: string;
  readonly trustedHops: number;
  readonly tlsFolder?: string;
  readonly via?: string;
  readonly overload: 'on' | 'off';
  readonly overloadShrink: number;
  readonly overloadStopAccepting: number;
  readonly overloadStopRequests: number;
  readonly overloadLoopDelayMs: number;
  readonly takeover: 'auto' | 'never';
  readonly afterHandover: 'exit' | 'wait';
  readonly drainTimeout: number;
  readonly shutdownTimeout: number;
  readonly logLevel: LogLevel;
  readonly limits: EngineLimits;
  readonly tenantWeight?: ReadonlyMap<string, number>;
}

/** Throws an Error in words for the operator when the flags contradict each other. */
export function makeConfig(raw: RawConfig): ProxyConfig {
  const files = raw.static ?? [];
  if (files.length > 0 === (raw.agent !== undefined)) throw new Error('give either --static FILE… or --agent ADDRESS');
  if (files.length > 0 && raw.meshNetns !== undefined)
    throw new Error('--mesh-netns is for captured traffic, which needs --agent; --static serves gateway listeners');
  return deepFreeze({
    source: raw.agent === undefined ? { kind: 'static', files: [...files] } : { kind: 'agent', address: raw.agent },
    runDir: raw.runDir,
    node: raw.node,
    place: raw.zone === undefined && raw.region === undefined ? null : { region: raw.region ?? '', zone: raw.zone ?? '' },
    workers: raw.workers ?? availableParallelism(),
    mesh: raw.meshNetns === undefined ? null : { netns: raw.meshNetns, bpfDir: raw.bpfDir },
    accessLog: { mode: raw.accessLog, file: raw.accessLogFile ?? null },
    metricsListen: raw.metricsListen === undefined ? null : metricsAddress(raw.metricsListen),
    limits: raw.limits,
    tenantWeights: raw.tenantWeight ?? new Map(),
    trustedHops: raw.trustedHops,
    tlsFolder: raw.tlsFolder ?? null,
    via: raw.via === undefined ? null : checkedVia(raw.via),
    overload: raw.overload === 'off' ? null : overloadThresholds(raw),
    readyFile: raw.readyFile ?? null,
    takeover: raw.takeover,
    afterHandover: raw.afterHandover,
    drainTimeoutMs: raw.drainTimeout,
    shutdownTimeoutMs: raw.shutdownTimeout,
    logLevel: raw.logLevel,
  });
}

/** Of the process's memory, what one namespace may have at most of it in buffers, of all workers together, unless a flag says more. */
const TENANT_PART = 0.25;

/** So that no namespace alone takes the memory that all live on: `limit` in bytes; 0: none is known. */
export function withinMemory(config: ProxyConfig, limit: number): ProxyConfig {
  const bytes = Math.floor((limit * TENANT_PART) / config.workers);
  if (limit === 0 || bytes >= config.limits.maxTenantBufferedBytes) return config;
  return deepFreeze({ ...config, limits: { ...config.limits, maxTenantBufferedBytes: bytes } });
}

/** RFC 9110 7.6.3: a pseudonym or host[:port]. */
function checkedVia(name: string): string {
  if (/^[\w!#$%&'*+.^`|~-]{1,64}(:\d{1,5})?$/.test(name)) return name;
  throw new Error(`--via "${name}": expected a name such as "edge", or host:port`);
}

function overloadThresholds(raw: RawConfig): OverloadThresholds {
  const { overloadShrink, overloadStopAccepting, overloadStopRequests, overloadLoopDelayMs } = raw;
  if (overloadShrink > overloadStopAccepting || overloadStopAccepting > overloadStopRequests)
    throw new Error('--overload-shrink, --overload-stop-accepting and --overload-stop-requests must not fall: the cheapest is shed first');
  return { levels: [overloadShrink, overloadStopAccepting, overloadStopRequests], loopDelayMs: overloadLoopDelayMs };
}

function metricsAddress(text: string): HostPort {
  const at = parseHostPort(text);
  if (at === null) throw new Error(`--metrics-listen "${text}": expected host:port or [v6]:port`);
  return at;
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) for (const child of Object.values(value)) deepFreeze(child);
  return Object.freeze(value);
}
