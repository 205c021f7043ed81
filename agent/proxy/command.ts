// `weft proxy`: flags and environment → configuration, then the process. The only file of the proxy that reads either.
import { hostname } from 'node:os';
import { Command, InvalidArgumentError, Option } from 'commander';
import { LOG_LEVELS } from '../../api/log.js';
import { type EngineLimits, MAX_TENANT_WEIGHT, MIN_TENANT_WEIGHT } from '../native/engine.js';
import { DEFAULT_LIMITS, makeConfig, type ProxyConfig, type RawConfig, withinMemory } from './config.js';
import { confineEarly } from './confinement.js';
import { memory } from './overload/resources.js';

const DAY_MS = 86_400_000;

/** Flag, field, the least and most that the engine takes (SpecReader::engine_options), what it bounds. Every one has a default in DEFAULT_LIMITS. */
export const LIMITS: readonly (readonly [flag: string, field: keyof EngineLimits, least: number, most: number, text: string])[] = [
  ['max-connections', 'maxConnections', 1, 10_000_000, 'downstream connections of one worker'],
  ['max-head-bytes', 'maxHeadBytes', 1_024, 65_536, 'bytes of a request or response head'],
  ['max-headers', 'maxHeaders', 1, 128, 'header fields of a message'],
  ['max-buffered-bytes', 'maxBufferedBytes', 4_096, 4_194_304, 'bytes that wait for one slow reader before its source is no longer read'],
  ['max-idle-per-endpoint', 'maxIdlePerEndpoint', 0, 100_000, 'idle upstream connections kept for one endpoint and worker'],
  ['max-streams', 'maxStreams', 1, 1_000, 'HTTP/2 streams of one client connection at once'],
  ['header-timeout-ms', 'headerTimeoutMs', 1, DAY_MS, 'for a whole request head to come'],
  ['idle-timeout-ms', 'idleTimeoutMs', 1, DAY_MS, 'a downstream connection may be idle'],
  [
    'stream-idle-timeout-ms',
    'streamIdleTimeoutMs',
    1,
    DAY_MS,
    'a client may neither send its body nor take its answer; an upstream may not begin its answer, where its route has no timeout',
  ],
  [
    'upstream-idle-timeout-ms',
    'upstreamIdleTimeoutMs',
    1,
    DAY_MS,
    'an upstream connection may be idle; keep it below the applications’ own',
  ],
  ['connect-timeout-ms', 'connectTimeoutMs', 1, DAY_MS, 'for an upstream connection to be made'],
  ['request-timeout-ms', 'requestTimeoutMs', 0, DAY_MS, 'for a whole exchange where its route says nothing; 0: no limit'],
  ['tcp-idle-timeout-ms', 'tcpIdleTimeoutMs', 0, DAY_MS, 'an opaque connection or a tunnel may be idle; 0: no limit'],
  [
    'detect-timeout-ms',
    'detectTimeoutMs',
    0,
    DAY_MS,
    'until a captured connection of undeclared protocol is taken for opaque; 0: undeclared ports are opaque',
  ],
  ['max-deferred', 'maxDeferred', 0, 16_384, 'requests of one worker that wait for a decision made elsewhere'],
  ['deferred-timeout-ms', 'deferredTimeoutMs', 1, DAY_MS, 'for such a decision; then the request is answered 504'],
  ['max-tenant-connections', 'maxTenantConnections', 0, 10_000_000, 'of those connections that one namespace may have; 0: no limit'],
  ['max-tenant-requests', 'maxTenantRequests', 0, 10_000_000, 'requests in flight of one namespace and worker; 0: no limit'],
  [
    'max-tenant-buffered-bytes',
    'maxTenantBufferedBytes',
    0,
    4_000_000_000,
    'bytes that wait in memory for one namespace and worker; unless said, a quarter of the memory limit over the workers at most; 0: no limit',
  ],
];

export function proxyCommand(): Command {
  const command = new Command('proxy')
    .description('Run the data plane: on files alone (--static), or as the proxy of this host’s agent (--agent).')
    .addOption(
      option('--static <file...>', 'manifests to serve; watched, and applied when they change').env('WEFT_STATIC').argParser(collectFiles),
    )
    .addOption(option('--agent <address>', 'the agent’s discovery, e.g. unix:/run/weft/agent.sock').env('WEFT_AGENT'))
    .addOption(option('--run-dir <folder>', 'where proxy.sock (status, metrics) is made').env('WEFT_RUN_DIR').default('/run/weft'))
    .addOption(option('--node <name>', 'this host’s name in the mesh').env('WEFT_NODE').default(hostname(), 'the host name'))
    .addOption(option('--zone <name>', 'failure zone of this host; default: that of endpoints on it').env('WEFT_ZONE'))
    .addOption(option('--region <name>', 'region of this host; default: the same').env('WEFT_REGION'))
    .addOption(option('--workers <n>', 'worker threads; default: one a core').env('WEFT_WORKERS').argParser(integer(1, 64)))
    .addOption(
      option('--mesh-netns <path>', 'serve captured traffic in this network namespace; waits until it exists').env('WEFT_MESH_NETNS'),
    )
    .addOption(
      option('--bpf-dir <folder>', 'where the redirection programs’ maps are pinned').env('WEFT_BPF_DIR').default('/sys/fs/bpf/weft'),
    )
    .addOption(option('--access-log <which>', 'requests to log').env('WEFT_ACCESS_LOG').choices(['off', 'errors', 'all']).default('off'))
    .addOption(option('--access-log-file <file>', 'where to; reopened on SIGHUP; default: standard output').env('WEFT_ACCESS_LOG_FILE'))
    .addOption(
      option('--metrics-listen <host:port>', 'serve /metrics, /healthz and /readyz here; off by default').env('WEFT_METRICS_LISTEN'),
    )
    .addOption(
      option(
        '--trusted-hops <n>',
        'proxies in front of gateways whose X-Forwarded-* are believed; 0: this is the edge, clients’ are dropped',
      )
        .env('WEFT_TRUSTED_HOPS')
        .argParser(integer(0, 16))
        .default(0),
    )
    .addOption(
      option('--tls-folder <folder>', 'certificates and keys on this host that DestinationRules may name; default: none').env(
        'WEFT_TLS_FOLDER',
      ),
    )
    .addOption(option('--via <name>', 'add Via with this name to what is passed on (RFC 9110 7.6.3); off by default').env('WEFT_VIA'))
    .addOption(
      option(
        '--tenant-weight <namespace=n...>',
        `the namespace’s share of a worker’s time while others want it too, ${MIN_TENANT_WEIGHT} to ${MAX_TENANT_WEIGHT}; not named: 100`,
      )
        .env('WEFT_TENANT_WEIGHT')
        .argParser(collectWeights),
    )
    .addOption(
      option('--overload <switch>', 'shed load when memory, descriptors or a worker’s event loop run out')
        .env('WEFT_OVERLOAD')
        .choices(['on', 'off'])
        .default('on'),
    )
    .addOption(
      option('--overload-shrink <fraction>', 'of a resource in use: close idle connections, buffer less')
        .env('WEFT_OVERLOAD_SHRINK')
        .argParser(fraction)
        .default(0.8),
    )
    .addOption(
      option('--overload-stop-accepting <fraction>', 'accept no new connections either')
        .env('WEFT_OVERLOAD_STOP_ACCEPTING')
        .argParser(fraction)
        .default(0.9),
    )
    .addOption(
      option('--overload-stop-requests <fraction>', 'answer new requests 503 too; never those under way')
        .env('WEFT_OVERLOAD_STOP_REQUESTS')
        .argParser(fraction)
        .default(0.95),
    )
    .addOption(
      option('--overload-loop-delay-ms <n>', 'delay of a worker’s event loop that counts as all of it in use')
        .env('WEFT_OVERLOAD_LOOP_DELAY_MS')
        .argParser(integer(10, 2 ** 31 - 1))
        .default(1_000),
    )
    .addOption(
      option('--takeover <when>', 'take over from the proxy that serves the run directory, without losing a connection')
        .env('WEFT_TAKEOVER')
        .choices(['auto', 'never'])
        .default('auto'),
    )
    .addOption(
      option('--ready-file <file>', 'make this file when traffic is served, remove it when it is no longer').env('WEFT_READY_FILE'),
    )
    .addOption(
      option('--drain-timeout <ms>', 'when a successor has taken over, how long open connections may take to end; 0: no limit')
        .env('WEFT_DRAIN_TIMEOUT')
        .argParser(integer(0, 2 ** 31 - 1))
        .default(0),
    )
    .addOption(
      option('--after-handover <what>', 'then exit, or wait for SIGTERM (under a supervisor that starts what exits again)')
        .env('WEFT_AFTER_HANDOVER')
        .choices(['exit', 'wait'])
        .default('exit'),
    )
    .addOption(
      option('--shutdown-timeout <ms>', 'on SIGTERM, how long open connections may take to end')
        .env('WEFT_SHUTDOWN_TIMEOUT')
        .argParser(integer(0, 2 ** 31 - 1))
        .default(10_000),
    )
    .addOption(
      option('--log-level <level>', 'least severe messages to log')
        .env('WEFT_LOG_LEVEL')
        .choices([...LOG_LEVELS])
        .default('info'),
    );
  for (const [flag, field, least, most, text] of LIMITS) {
    const limit = option(`--${flag} <n>`, `${text} (${least} to ${most})`).env(`WEFT_${flag.toUpperCase().replaceAll('-', '_')}`);
    command.addOption(limit.argParser(integer(least, most)).default(DEFAULT_LIMITS[field]));
  }
  return command.action(async (flags: Record<string, unknown>, self: Command) => {
    let config: ProxyConfig;
    try {
      config = makeConfig({ ...(flags as unknown as RawConfig), limits: limitsOf(flags) });
      if (self.getOptionValueSource('maxTenantBufferedBytes') === 'default') config = withinMemory(config, memory().limit);
    } catch (error) {
      return self.error(`error: ${(error as Error).message}`, { exitCode: 2 });
    }
    confineEarly(config);
    const { runProxy } = await import('./main.js');
    process.exitCode = await runProxy(config);
  });
}

function option(flags: string, text: string): Option {
  return new Option(flags, text);
}

/** Flags come one at a time, the environment as one list with commas. */
function collectFiles(value: string, before: readonly string[] | undefined): string[] {
  return [...(before ?? []), ...value.split(',').filter((name) => name !== '')];
}

/** As collectFiles; the last word on a namespace counts. */
function collectWeights(value: string, before: ReadonlyMap<string, number> | undefined): Map<string, number> {
  const weights = new Map(before);
  for (const part of value.split(',').filter((text) => text !== '')) {
    const [, namespace, digits] = /^([a-z0-9-]{1,63})=(\d{1,5})$/.exec(part) ?? [];
    const weight = Number(digits);
    if (namespace === undefined || weight < MIN_TENANT_WEIGHT || weight > MAX_TENANT_WEIGHT)
      throw new InvalidArgumentError(`Expected NAMESPACE=N, N from ${MIN_TENANT_WEIGHT} to ${MAX_TENANT_WEIGHT}, not "${part}".`);
    weights.set(namespace, weight);
  }
  return weights;
}

function integer(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max) throw new InvalidArgumentError(`Expected a whole number from ${min} to ${max}.`);
    return value;
  };
}

function fraction(text: string): number {
  const value = Number(text);
  if (!/^\d*\.?\d+$/.test(text) || value <= 0 || value > 1) throw new InvalidArgumentError('Expected a fraction above 0, at most 1.');
  return value;
}

function limitsOf(flags: Record<string, unknown>): EngineLimits {
  const fields = LIMITS.map(([, field]) => [field, flags[field]]);
  return Object.fromEntries(fields) as unknown as EngineLimits;
}
