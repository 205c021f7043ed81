// Flags and environment of `weft agent`, as one frozen, typed configuration. The only file of the agent that reads either.
import { existsSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { nodeNameFault } from '../api/access/names.js';
import { isLocalAddress } from '../api/access/secure-channel.js';
import { type HostPort, parseHostPort } from '../api/host-port.js';
import { LOG_LEVELS, type LogLevel } from '../api/log.js';
import { POD_SOCKET } from './link/pod-channel.js';
import { PROXY_FILES } from './run-directory.js';

const captureModes = ['auto', 'ebpf', 'ebpf-tcx', 'ebpf-clsact', 'nftables', 'iptables', 'off'] as const;
export type CaptureMode = (typeof captureModes)[number];
const captureDns = ['labelled', 'all', 'off'] as const;
export type CaptureDns = (typeof captureDns)[number];

export interface AgentConfig {
  readonly node: string;
  readonly zone: string;
  readonly region: string;
  readonly controllers: readonly string[];
  /** Null: plaintext. */
  readonly enrolment: {
    /** Of the node's key and certificate. */
    readonly identityFile: string;
    readonly authoritiesFile: string | null;
    readonly tokenFile: string | null;
  } | null;
  readonly runDir: string;
  readonly stateDir: string;
  readonly bpfDir: string;
  readonly meshNetns: string;
  readonly capture: CaptureMode;
  readonly heartbeatTimeoutMs: number;
  readonly probesFrom: readonly string[];
  readonly captureDns: CaptureDns;
  readonly statusListen: readonly string[];
  /** Where instances may register themselves besides the node's own socket; null: nowhere. */
  readonly instancesListen: string | null;
  /** Where operators and the CLI reach this node's status. */
  readonly statusAdvertise: string;
  readonly metricsListen: HostPort;
  /** For proxyless gRPC clients; empty: none are served. */
  readonly xdsListen: readonly string[];
  readonly logLevel: LogLevel;
  readonly uninstall: boolean;
  /** Of the agent and of the proxy on this node. */
  readonly agentSocket: string;
  readonly proxySocket: string;
  /** Copy of the instances that registered themselves. */
  readonly instancesFile: string;
  /** Where proxies hear of the pods that nftables or iptables capture. */
  readonly podSocket: string;
}

/** What commander hands over, by option name. */
interface AgentFlags {
  readonly node?: string;
  readonly zone?: string;
  readonly region?: string;
  readonly controller?: readonly string[];
  readonly controllerCa?: string;
  readonly joinTokenFile?: string;
  readonly serviceAccountTokenFile?: string;
  readonly insecure?: boolean;
  readonly runDir: string;
  readonly stateDir: string;
  readonly bpfDir: string;
  readonly meshNetns: string;
  readonly capture: CaptureMode;
  readonly heartbeatTimeout: number;
  readonly probesFrom?: readonly string[];
  readonly captureDns: CaptureDns;
  readonly statusListen?: readonly string[];
  readonly instancesListen?: string;
  readonly statusAdvertise?: string;
  readonly metricsListen: string;
  readonly xdsListen?: readonly string[];
  readonly logLevel: LogLevel;
  readonly uninstall?: boolean;
}

const defaultController = '127.0.0.1:15010';
const defaultStatusListen = '0.0.0.0:15011';

export function addAgentOptions(command: Command): Command {
  const option = (flags: string, env: string, description: string): Option => new Option(flags, description).env(env);
  return command
    .addOption(option('--node <name>', 'WEFT_NODE', "this node's name (default: the host name)").argParser(nodeName))
    .addOption(option('--zone <name>', 'WEFT_ZONE', 'failure zone of this node'))
    .addOption(option('--region <name>', 'WEFT_REGION', 'region of this node'))
    .addOption(
      option('--controller <address>', 'WEFT_CONTROLLER', `repeatable; tried in random order (default: ${defaultController})`).argParser(
        addresses,
      ),
    )
    .addOption(
      option(
        '--join-token-file <path>',
        'WEFT_JOIN_TOKEN_FILE',
        'a join token (weft token create), for the first contact; then the node renews itself',
      ),
    )
    .addOption(
      option(
        '--service-account-token-file <path>',
        'WEFT_SERVICE_ACCOUNT_TOKEN_FILE',
        'in Kubernetes: a projected token of audience weft-controller, in place of a join token',
      ),
    )
    .addOption(
      option('--controller-ca <path>', 'WEFT_CONTROLLER_CA', 'whom to trust at first contact, PEM (default: the pin in the join token)'),
    )
    .addOption(option('--insecure', 'WEFT_INSECURE', 'speak plaintext to controllers on other hosts'))
    .addOption(option('--run-dir <path>', 'WEFT_RUN_DIR', 'sockets of agent and proxy').default('/run/weft'))
    .addOption(option('--state-dir <path>', 'WEFT_STATE_DIR', 'the last snapshot').default('/var/lib/weft'))
    .addOption(option('--bpf-dir <path>', 'WEFT_BPF_DIR', 'pins of the BPF programs, on a bpffs').default('/sys/fs/bpf/weft'))
    .addOption(option('--mesh-netns <path>', 'WEFT_MESH_NETNS', 'network namespace of the proxy').default('/run/netns/weft-mesh'))
    .addOption(
      option(
        '--capture <mode>',
        'WEFT_CAPTURE',
        'how traffic is redirected; auto: the first whose self-test passes of eBPF, nftables, iptables; else off',
      )
        .choices(captureModes)
        .default('auto'),
    )
    .addOption(
      option('--heartbeat-timeout <ms>', 'WEFT_HEARTBEAT_TIMEOUT', 'a proxy silent for longer counts as dead, milliseconds')
        .argParser(milliseconds)
        .default(1_000),
    )
    .addOption(
      option(
        '--probes-from <place>',
        'WEFT_PROBES_FROM',
        'systemd unit or cgroup path whose connections into workloads stay direct, such as kubelet.service; at most two',
      ).argParser(probePlaces),
    )
    .addOption(
      option(
        '--capture-dns <which>',
        'WEFT_CAPTURE_DNS',
        'whose DNS queries over UDP the proxy answers or passes on: of workloads that say so, of all captured by eBPF, of none',
      )
        .choices(captureDns)
        .default('labelled'),
    )
    .addOption(
      option('--status-listen <address>', 'WEFT_STATUS_LISTEN', `gRPC status, repeatable (default: ${defaultStatusListen})`).argParser(
        addresses,
      ),
    )
    .addOption(
      option(
        '--instances-listen <address>',
        'WEFT_INSTANCES_LISTEN',
        'where instances may register themselves besides agent.sock: unix:/path (mode 0660) or a loopback address; who may connect may register any service',
      ).argParser(localAddress),
    )
    .addOption(
      option(
        '--status-advertise <address>',
        'WEFT_STATUS_ADVERTISE',
        'where others reach the status (default: the host name and port of the first listener)',
      ),
    )
    .addOption(
      option('--metrics-listen <address>', 'WEFT_METRICS_LISTEN', 'HTTP: /metrics, /healthz, /readyz')
        .argParser(tcpAddress)
        .default('0.0.0.0:15020'),
    )
    .addOption(
      option(
        '--xds-listen <address>',
        'WEFT_XDS_LISTEN',
        'xDS (ADS) for proxyless gRPC clients of this host, repeatable: unix:/run/weft-xds/xds.sock, or loopback (default: none are served)',
      ).argParser(localAddresses),
    )
    .addOption(option('--log-level <level>', 'WEFT_LOG_LEVEL', 'least severe level that is logged').choices(LOG_LEVELS).default('info'))
    .addOption(option('--uninstall', 'WEFT_UNINSTALL', 'remove the redirection and the files of this node, and end'));
}

export function agentConfig(command: Command): AgentConfig {
  const flags = command.opts<AgentFlags>();
  const statusListen = flags.statusListen ?? [defaultStatusListen];
  return Object.freeze({
    node: flags.node ?? nodeOfHost(hostname(), command),
    zone: flags.zone ?? '',
    region: flags.region ?? '',
    controllers: flags.controller ?? [defaultController],
    enrolment: enrolmentOf(flags, command),
    runDir: flags.runDir,
    stateDir: flags.stateDir,
    bpfDir: flags.bpfDir,
    meshNetns: flags.meshNetns,
    capture: flags.capture,
    heartbeatTimeoutMs: flags.heartbeatTimeout,
    probesFrom: flags.probesFrom ?? [],
    captureDns: flags.captureDns,
    statusListen,
    instancesListen: flags.instancesListen ?? null,
    statusAdvertise: flags.statusAdvertise ?? reachable(statusListen[0] ?? defaultStatusListen),
    metricsListen: parseHostPort(flags.metricsListen)!,
    xdsListen: flags.xdsListen ?? [],
    logLevel: flags.logLevel,
    uninstall: flags.uninstall ?? false,
    agentSocket: join(flags.runDir, 'agent.sock'),
    proxySocket: join(flags.runDir, PROXY_FILES.status),
    instancesFile: join(flags.stateDir, 'instances'),
    podSocket: join(flags.runDir, POD_SOCKET),
  });
}

/** TLS where anything was given for it, or the node has joined before. */
function enrolmentOf(flags: AgentFlags, command: Command): AgentConfig['enrolment'] {
  const fail = (message: string): never => command.error(`error: ${message}`, { exitCode: 2 });
  const { controllerCa, joinTokenFile, serviceAccountTokenFile, insecure } = flags;
  const identityFile = join(flags.stateDir, 'identity.pem');
  const isAsked = (controllerCa ?? joinTokenFile ?? serviceAccountTokenFile) !== undefined;
  if (isAsked && insecure === true) return fail('--insecure: leave it out where a token or an authority is given');
  if (joinTokenFile !== undefined && serviceAccountTokenFile !== undefined) {
    return fail('--join-token-file and --service-account-token-file: give one of them');
  }
  if (serviceAccountTokenFile !== undefined && controllerCa === undefined) {
    return fail('--service-account-token-file: has no pin, so --controller-ca must say whom the token may be given to');
  }
  const remote = (flags.controller ?? [defaultController]).find((address) => !isLocalAddress(address));
  if (!isAsked && (insecure === true || !existsSync(identityFile))) {
    if (remote === undefined || insecure === true || flags.uninstall === true) return null;
    return fail(
      `--controller ${remote}: would be spoken to in plaintext: give --join-token-file (weft token create; docs/security.md), or say --insecure`,
    );
  }
  if ((flags.controller ?? [defaultController]).every((address) => address.startsWith('unix:'))) return null;
  return Object.freeze({
    identityFile,
    authoritiesFile: controllerCa ?? null,
    tokenFile: joinTokenFile ?? serviceAccountTokenFile ?? null,
  });
}

/** A wildcard address is no address to others: the host's name stands for it. */
function reachable(listen: string): string {
  return listen.replace(/^(0\.0\.0\.0|\[::\]):/, `${hostname()}:`);
}

/** Repeatable, and comma-separated in the environment. */
function addresses(value: string, previous: readonly string[] | undefined): readonly string[] {
  const added = value.split(',').map((part) => part.trim());
  for (const address of added) if (!/^unix:\/./.test(address)) tcpAddress(address);
  return [...(previous ?? []), ...added];
}

/** Repeatable, and comma-separated in the environment. */
function probePlaces(value: string, previous: readonly string[] | undefined): readonly string[] {
  const places = [...(previous ?? []), ...value.split(',').map((part) => part.trim())];
  const isPlace = (place: string): boolean => /^(\/|[^/]+\.(service|scope|slice)$)/.test(place) && !place.includes('..');
  if (!places.every(isPlace)) throw new InvalidArgumentError('expected a unit such as kubelet.service, or a cgroup path such as /kubelet.');
  if (places.length > 2) throw new InvalidArgumentError('at most two.');
  return places;
}

/** Registration has no login: only this host's own programs may reach it. */
function localAddress(value: string): string {
  if (/^unix:\/./.test(value)) return value;
  if (/^(127\.\d+\.\d+\.\d+|\[::1\]|localhost):/.test(value)) return tcpAddress(value);
  throw new InvalidArgumentError('expected unix:/path or a loopback address such as 127.0.0.1:15012.');
}

/** What is served in plaintext, to whoever reaches it. */
function localAddresses(value: string, previous: readonly string[] | undefined): readonly string[] {
  const all = addresses(value, previous);
  const open = all.find((address) => !isLocalAddress(address));
  if (open === undefined) return all;
  throw new InvalidArgumentError(`${open} would be plaintext to other hosts: expected unix:/path, 127.0.0.1:port or [::1]:port.`);
}

function tcpAddress(value: string): string {
  if (parseHostPort(value) === null)
    throw new InvalidArgumentError('expected host:port, [v6]:port, or where a socket is possible unix:/path.');
  return value;
}

/** The host's name as the node's. Not changed where it doesn't fit: the proxy, and others on this host, would call the node otherwise. */
export function nodeOfHost(host: string, command: Pick<Command, 'error'>): string {
  if (nodeNameFault(host) === null) return host;
  return command.error(`error: this host is called "${host}", a node needs a DNS name in lower case: give --node NAME to agent and proxy`, {
    exitCode: 2,
  });
}

function nodeName(value: string): string {
  if (nodeNameFault(value) !== null) throw new InvalidArgumentError('expected a DNS name in lower case.');
  return value;
}

function milliseconds(value: string): number {
  const ms = Number(value);
  if (!Number.isInteger(ms) || ms < 100 || ms > 60_000) throw new InvalidArgumentError('expected 100 to 60000 milliseconds.');
  return ms;
}
