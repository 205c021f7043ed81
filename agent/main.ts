// The agent's composition root: makes every part, connects them, and takes them down in order. No part knows another one but through here.
import { existsSync, rmdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Server } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { isLocalAddress } from '../api/access/secure-channel.js';
import { AggregatedDiscoveryServiceService } from '../api/gen/envoy/service/discovery/v3/discovery.js';
import type { RegisterRequest } from '../api/gen/mesh/v1/discovery.js';
import { QuotasService } from '../api/gen/mesh/v1/quota.js';
import { InstancesService } from '../api/gen/mesh/v1/registry.js';
import { NodeStatusService } from '../api/gen/mesh/v1/status.js';
import { EncodedDiscoveryService } from '../api/grpc/encoded-discovery.js';
import { assertUnserved, listenGrpc } from '../api/grpc/listen.js';
import { createLog } from '../api/log.js';
import { MetricsServer } from '../api/metrics-server.js';
import { VERSION } from '../api/version.js';
import { Capture } from './capture/capture.js';
import type { AgentConfig } from './config.js';
import { useConfinement } from './confinement.js';
import { DiscoveryClient } from './discovery/discovery-client.js';
import { Enrolment } from './identity/enrolment.js';
import { systemClock } from './link/clock.js';
import { shuffled } from './link/link.js';
import { Model } from './model/model.js';
import { NodeUpdates } from './node-updates.js';
import { QuotaRelay } from './quota/quota-relay.js';
import { Instances } from './registry/instances.js';
import { instancesImplementation } from './registry/instances-service.js';
import { RegistryClient } from './registry/registry-client.js';
import { makeRunDirectory, PROXY_FILES } from './run-directory.js';
import { controllersOnly } from './status/controllers-only.js';
import { loadDescriptorSet } from './status/descriptor-set.js';
import { type MetricFacts, renderMetrics } from './status/metrics-text.js';
import { nodeStatusImplementation } from './status/node-status.js';
import { ProxyStatus } from './status/proxy-status.js';
import { addReflection } from './status/reflection.js';
import { AdsService } from './xds/ads-service.js';

export interface RunningAgent {
  /** As bound, in the order of --status-listen. */
  readonly statusAddresses: readonly string[];
  /** Of --metrics-listen. */
  readonly metricsPort: number;
  /** Stops the agent; redirection and proxy go on. Idempotent. */
  stop(): Promise<void>;
}

/** Until SIGTERM or SIGINT. Returns the exit code; when it cannot start, the log says why and what to do. */
export async function runAgent(config: AgentConfig): Promise<number> {
  const log = createLog('agent', config.logLevel);
  const signal = new Promise<string>((resolve) => {
    process.once('SIGTERM', resolve);
    process.once('SIGINT', resolve);
  });
  let lose: () => void = () => undefined;
  const lost = new Promise<null>((resolve) => {
    lose = () => resolve(null);
  });
  let agent: RunningAgent;
  // Called however it ends: a channel to weft-netns that stays open keeps a process alive that can't start.
  let release = (): void => undefined;
  try {
    release = useConfinement(log, lose);
    agent = await startAgent(config, log);
  } catch (error) {
    log.fatal({ err: error }, `the agent can't start: ${(error as Error).message}`);
    release();
    return 1;
  }
  const received = await Promise.race([signal, lost]);
  if (received !== null) log.info(`${received}: stopping; redirection and proxy go on serving`);
  await agent.stop();
  release();
  return received === null ? 1 : 0;
}

export async function startAgent(config: AgentConfig, log: Logger): Promise<RunningAgent> {
  makeRunDirectory(config.runDir);
  const closers: (() => Promise<void> | void)[] = [];
  let stopping: Promise<void> | null = null;
  const stop = (): Promise<void> => {
    stopping ??= closeAll(closers);
    return stopping;
  };
  try {
    return { ...(await compose(config, log, closers)), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Last made, first closed. */
async function closeAll(closers: (() => Promise<void> | void)[]): Promise<void> {
  for (const close of closers.splice(0).reverse()) await close();
}

async function compose(config: AgentConfig, log: Logger, closers: (() => Promise<void> | void)[]): Promise<Omit<RunningAgent, 'stop'>> {
  const { bpfDir, meshNetns, podSocket, heartbeatTimeoutMs, probesFrom, captureDns: dns, capture: mode } = config;
  // Before the redirection is touched: it may be in the hands of a living agent.
  await assertUnserved(config.agentSocket);
  const capture = await Capture.open({ bpfDir, meshNetns, podSocket, heartbeatTimeoutMs, probesFrom, dns, mode, log });
  closers.push(() => capture.close());
  const model = new Model();
  const ads = config.xdsListen.length === 0 ? null : new AdsService({ model, log });
  const updates = new NodeUpdates(config, capture, model, (update) => ads?.publish(update), log);
  closers.push(() => updates.store.close());
  closers.push(() => updates.checks.close());
  closers.push(() => updates.load.close());
  await updates.restore();

  const controllers = shuffled(config.controllers, systemClock);
  const enrolment = enrolmentOf({ ...config, controllers }, log);
  const security = enrolment ?? undefined;
  const discovery = new DiscoveryClient({
    security,
    addresses: controllers,
    node: config.node,
    version: VERSION,
    resume: updates.catalog.token,
    onUpdate: (update) => updates.apply(update),
    onState: (state) => {
      if (state === 'connected') updates.confirm();
    },
    log,
  });
  const instances = new Instances({ file: config.instancesFile, onChange: () => registry.changed(), log });
  closers.push(() => instances.close());
  const state = (): RegisterRequest => ({ ...updates.registration(), instances: instances.states() });
  const registry = new RegistryClient({ security, addresses: controllers, state, log });
  const quotas = new QuotaRelay({ security, addresses: controllers, node: config.node, log });
  closers.push(() => quotas.close());
  const proxy = new ProxyStatus(config.proxySocket);
  const startedAtMs = performance.now();
  const facts = (): MetricFacts => ({
    ...gatherFacts(config, capture, updates, discovery, registry, enrolment, startedAtMs),
    xds: ads === null ? null : { ...ads.state(), ...ads.counters },
  });

  const statusAddresses = await serveGrpc(config, { facts, proxy, updates, instances, quotas, enrolment }, closers);
  if (ads !== null) await serveXds(config.xdsListen, ads, closers);
  const metrics = await MetricsServer.listen({
    ...config.metricsListen,
    metrics: async () => {
      const answer = await proxy.metrics();
      return renderMetrics(facts(), answer.kind === 'ok' ? answer.value.text : null);
    },
    unready: () => (updates.catalog.token === null ? 'no configuration yet: neither a controller nor a snapshot on disk' : null),
  });
  closers.push(() => metrics.close());

  updates.onVerdict = () => registry.changed();
  // Without a certificate there is nothing to try.
  void Promise.resolve(enrolment?.start()).then(() => {
    registry.start();
    discovery.start();
  });
  const unsubscribe = capture.onChange(() => registry.changed());
  closers.push(() => unsubscribe());
  closers.push(async () => {
    // First the relay: an update that waits for the proxy's ack would hold up the client's end.
    updates.relay.close();
    await Promise.all([discovery.stop(), registry.stop(), enrolment?.stop()]);
  });
  log.info({ node: config.node, version: VERSION, capture: capture.state().mode, status: config.statusListen }, 'the agent runs');
  return { statusAddresses, metricsPort: metrics.port };
}

/** Null: controllers are spoken to in plaintext. */
function enrolmentOf({ enrolment, node, controllers }: AgentConfig, log: Logger): Enrolment | null {
  if (enrolment === null) {
    const remote = controllers.filter((address) => !isLocalAddress(address));
    if (remote.length > 0)
      log.warn({ controllers: remote }, 'plaintext: controllers are not verified, and what is said can be read and altered on the way');
    return null;
  }
  const { identityFile: file, authoritiesFile, tokenFile } = enrolment;
  const addresses = controllers.filter((address) => !address.startsWith('unix:'));
  return new Enrolment({ node, addresses, file, authoritiesFile, tokenFile, log });
}

/** The node's own socket has Discovery for the proxy and Instances besides; the addresses for others have not. */
async function serveGrpc(
  config: AgentConfig,
  parts: {
    facts: () => MetricFacts;
    proxy: ProxyStatus;
    updates: NodeUpdates;
    instances: Instances;
    quotas: QuotaRelay;
    enrolment: Enrolment | null;
  },
  closers: (() => Promise<void> | void)[],
): Promise<readonly string[]> {
  const { facts, proxy, updates, instances, quotas, enrolment } = parts;
  const registry = loadDescriptorSet();
  const make = (services: readonly string[]): Server => {
    const server = new Server({ 'grpc.keepalive_time_ms': 10_000, 'grpc.keepalive_timeout_ms': 5_000, 'grpc.max_concurrent_streams': 100 });
    server.addService(NodeStatusService, nodeStatusImplementation(facts, proxy));
    addReflection(server, registry, services);
    closers.push(() => server.forceShutdown());
    return server;
  };
  const local = make(['mesh.v1.NodeStatus', 'mesh.v1.Discovery', 'mesh.v1.Instances', 'mesh.v1.Quotas']);
  local.addService(EncodedDiscoveryService, updates.relay.implementation);
  local.addService(InstancesService, instancesImplementation(instances));
  local.addService(QuotasService, quotas.implementation);
  await listenGrpc(local, `unix:${config.agentSocket}`, 0o600);
  closers.push(() => rmSync(config.agentSocket, { force: true }));
  if (config.instancesListen !== null) {
    const registration = make(['mesh.v1.NodeStatus', 'mesh.v1.Instances']);
    registration.addService(InstancesService, instancesImplementation(instances));
    await listenGrpc(registration, config.instancesListen, 0o660);
  }
  const open = make(['mesh.v1.NodeStatus']);
  const addresses: string[] = [];
  const secure = enrolment === null ? undefined : controllersOnly(enrolment);
  for (const address of config.statusListen) {
    const security = address.startsWith('unix:') ? undefined : secure;
    if (address !== `unix:${config.agentSocket}`) addresses.push(await listenGrpc(open, address, 0o660, security));
  }
  return addresses;
}

/** What a client's request may weigh: MAX_NAMES names, most of them short. */
const XDS_REQUEST_BYTES = 262_144;

/** Apart from the others: these are for the workloads of the host. */
async function serveXds(listen: readonly string[], ads: AdsService, closers: (() => Promise<void> | void)[]): Promise<void> {
  const server = new Server({
    'grpc.keepalive_time_ms': 10_000,
    'grpc.keepalive_timeout_ms': 5_000,
    'grpc.max_concurrent_streams': 16,
    'grpc.max_connection_idle_ms': 300_000,
    'grpc.max_receive_message_length': XDS_REQUEST_BYTES,
  });
  server.addService(AggregatedDiscoveryServiceService, ads.implementation);
  closers.push(() => {
    ads.close();
    server.forceShutdown();
  });
  for (const address of listen) {
    await listenGrpc(server, address, 0o666);
    if (address.startsWith('unix:')) closers.push(() => rmSync(address.slice('unix:'.length), { force: true }));
  }
}

function gatherFacts(
  config: AgentConfig,
  capture: Capture,
  updates: NodeUpdates,
  discovery: DiscoveryClient,
  registry: RegistryClient,
  enrolment: Enrolment | null,
  startedAtMs: number,
): Omit<MetricFacts, 'xds'> {
  const writtenAtMs = updates.store.writtenAtMs;
  return {
    node: config.node,
    version: VERSION,
    uptimeSeconds: (performance.now() - startedAtMs) / 1000,
    appliedRevision: updates.catalog.token?.revision ?? 0,
    controller: {
      address: discovery.address,
      connected: discovery.state === 'connected',
      error: enrolment?.fault || discovery.error,
      fromDisk: updates.isFromDisk,
    },
    capture: capture.state(),
    rejected: updates.rejected,
    notices: updates.notices,
    partlyKnown: updates.partlyKnown,
    checks: updates.checks.standings().map(({ name, title, verdict, detail, sinceMs, lastMs }) => ({
      endpoint: name,
      check: title,
      verdict,
      detail,
      secondsSinceChange: sinceMs / 1_000,
      lastMs,
    })),
    checkResults: updates.checks.results,
    droppedChecks: updates.checks.dropped,
    subscribedProxies: updates.relay.connected,
    isProxyStalled: updates.relay.isStalled,
    snapshotAgeSeconds: writtenAtMs === null ? null : Math.max(0, (Date.now() - writtenAtMs) / 1000),
    isSnapshotFailing: updates.store.error !== '',
    resources: updates.catalog.size,
    isRegistered: registry.isConnected,
    certificateExpiresAtMs: enrolment?.expiresAtMs ?? null,
  };
}

/** Removes redirection and files of this node and says what was there. Other nodes and the controller are not touched. */
export async function uninstallAgent(config: AgentConfig, print: (line: string) => void): Promise<void> {
  const { bpfDir, meshNetns, podSocket } = config;
  const redirection = [bpfDir, meshNetns, podSocket].filter((path) => existsSync(path));
  await Capture.uninstall({ bpfDir, meshNetns, podSocket });
  for (const path of redirection) print(`removed ${path}`);
  const snapshot = join(config.stateDir, 'snapshot');
  const identity = join(config.stateDir, 'identity.pem');
  // Those of processes that were killed.
  const sockets = [...config.statusListen, ...config.xdsListen, config.instancesListen ?? '']
    .filter((address) => address.startsWith('unix:'))
    .map((address) => address.slice('unix:'.length));
  const files = [
    ...[config.agentSocket, ...sockets, ...Object.values(PROXY_FILES).map((name) => join(config.runDir, name))],
    ...[config.instancesFile, identity, snapshot].flatMap((file) => [file, `${file}.tmp`]),
    `${snapshot}.bad`,
  ];
  for (const path of files.filter((file) => existsSync(file))) {
    rmSync(path, { force: true });
    print(`removed ${path}`);
  }
  for (const folder of new Set([config.runDir, dirname(snapshot)])) {
    try {
      rmdirSync(folder);
      print(`removed ${folder}`);
    } catch {
      // Not there, or holds what is not ours.
    }
  }
  print('this node is clean');
}
