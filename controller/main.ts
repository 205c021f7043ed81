// The controller's composition root: makes every part, joins them, and takes them apart again. Holds no behaviour of its own beyond that.
import { Server } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { RotatingCredentials, type ServerProof } from '../api/access/rotating-credentials.js';
import { AccessService, NodeIdentityService } from '../api/gen/mesh/v1/access.js';
import { AdminService } from '../api/gen/mesh/v1/admin.js';
import { RegistryService as RegistryDefinition } from '../api/gen/mesh/v1/discovery.js';
import { QuotasService as QuotasDefinition } from '../api/gen/mesh/v1/quota.js';
import { CatalogService } from '../api/gen/mesh/v1/registry.js';
import { EncodedDiscoveryService } from '../api/grpc/encoded-discovery.js';
import { MetricsServer } from '../api/metrics-server.js';
import { MAX_MANIFEST_BYTES } from '../api/resources/limits.js';
import { VERSION } from '../api/version.js';
import { createAccessService } from './access/access-service.js';
import { AuditLog } from './access/audit-log.js';
import { Authenticator } from './access/authenticator.js';
import { ControllerIdentity } from './access/controller-identity.js';
import { Guard, type RequestHead } from './access/guard.js';
import { JoinTokens } from './access/join-tokens.js';
import { type Listeners, listenGuarded } from './access/listeners.js';
import { createNodeIdentityService } from './access/node-identity-service.js';
import { PodIdentity } from './access/pod-identity.js';
import { PublishedAuthorities } from './access/published-authorities.js';
import { revocationOf } from './access/revocations.js';
import { createAdminService } from './admin/admin-service.js';
import { ObjectChanges } from './admin/object-changes.js';
import { Authority } from './ca/authority.js';
import { type Clock, systemClock } from './clock.js';
import { CompileSchedule } from './compile/compile-schedule.js';
import { LatestModel } from './compile/latest-model.js';
import { ModelCompiler } from './compile/model-compiler.js';
import type { ControllerConfig } from './config.js';
import { NodeInterests } from './interest/node-interests.js';
import { ControllerMetrics } from './metrics.js';
import { QuotaService } from './quotas/quota-service.js';
import { CatalogHttp } from './registry/catalog-http.js';
import { createCatalogService } from './registry/catalog-service.js';
import { CatalogWatches } from './registry/catalog-watch.js';
import { RegistryService } from './registry/registry-service.js';
import { DiscoveryService } from './serve/discovery-service.js';
import { NodeAcks } from './serve/node-acks.js';
import { consulReader } from './sources/consul/consul-reader.js';
import { dnsReader } from './sources/dns/dns-reader.js';
import { kubernetesReader } from './sources/kubernetes/kubernetes-reader.js';
import { type IngestionContext, type SourceReader, startIngestion } from './sources/source-ingestion.js';
import { zookeeperReader } from './sources/zookeeper/zookeeper-reader.js';
import { storeBarrier } from './store/barrier.js';
import { EtcdClient, unavailableMessage } from './store/etcd-client.js';
import { secretsOf } from './store/etcd-secrets.js';
import { keepIncarnation } from './store/incarnation.js';
import { Keyspace } from './store/keys.js';
import { Leases } from './store/lease.js';
import type { StoreState } from './store/reflector.js';
import { StoreView } from './store/view.js';

export interface Controller {
  /** As bound: ports that were 0 are the kernel's. */
  readonly addresses: readonly string[];
  readonly metricsAddress: string | null;
  /** Of the registry over HTTP. */
  readonly registryAddress: string | null;
  readonly metrics: ControllerMetrics;
  /** Ends streams, lets calls finish for 2 s, closes etcd. Idempotent. */
  stop(): Promise<void>;
}

/** An apply at its bound, with room for names and framing. */
const MAX_REQUEST_BYTES = MAX_MANIFEST_BYTES + 1_048_576;
/** An agent has a few streams on its connection, the CLI a few calls. Each takes memory before it is known whose it is. */
const MAX_STREAMS_A_CONNECTION = 128;
/** Where nobody is asked: a thousand simulated nodes. */
const MAX_STREAMS_OF_ALL = 2_000;
/** Of one without a call. */
const IDLE_CONNECTION_MS = 300_000;
const STOP_GRACE_MS = 2_000;
/** For so long nobody reads a source after the replica that did was killed. */
const LEADER_TTL_MS = 10_000;

/** Serves as soon as its addresses are bound; etcd may come later. Throws if an address can't be bound. */
export async function startController(config: ControllerConfig, log: Logger, clock: Clock = systemClock): Promise<Controller> {
  const metrics = new ControllerMetrics();
  const keys = new Keyspace(config.etcdPrefix);
  const client = new EtcdClient({ endpoints: config.etcdEndpoints, secrets: secretsOf(config.etcdSecrets) });
  const view = new StoreView(client, keys, clock, {
    state: (state) => logState(state, client, metrics, log),
    unreadable: (key) => log.warn({ key }, 'a value in etcd can’t be read and counts as absent: another version wrote it, or a hand'),
  });
  keepIncarnation(client, view, keys);
  const acks = new NodeAcks(client, view, keys, clock);
  const barrier = storeBarrier(client, view, keys, clock);
  const interests = new NodeInterests();
  /** By node: as the metric says. To set it anew with each ack of each node took as long as to read the ack. */
  const refused = new Map<string, number>();
  const discovery = new DiscoveryService({
    acks,
    interests,
    clock,
    clusterId: () => view.clusterId,
    catchUp: barrier,
    modelRevision: () => view.modelRevision,
    version: VERSION,
    observe: {
      connected: (node, resumed) => log.info({ node, resumed }, 'node connected'),
      disconnected: (node) => {
        refused.delete(node);
        metrics.rejectedResources.remove({ node });
        log.info({ node }, 'node disconnected');
      },
      encoded: () => metrics.encodings.inc(),
      sent: () => metrics.pushes.inc(),
      acked: (node, latencyMs, rejected) => {
        metrics.pushSeconds.observe(latencyMs / 1_000);
        if (refused.get(node) !== rejected) metrics.rejectedResources.set({ node }, rejected);
        refused.set(node, rejected);
        if (rejected > 0) log.warn({ node, rejected }, 'node refuses resources: weft status names them');
      },
    },
  });
  const registry = new RegistryService({
    client,
    keys,
    view,
    clock,
    ttlMs: config.nodeTtlMs,
    observe: {
      registered: (node) => log.info({ node }, 'node registered'),
      failed: (node, message) => {
        metrics.registrations.inc();
        log.warn({ node, message }, 'node can’t be written to etcd; tried again with its next message');
      },
    },
  });
  const latest = new LatestModel();
  const leases = new Leases(client, clock);
  const quotas = new QuotaService({ client, leases, view, keys, clock, ttlMs: LEADER_TTL_MS, graceMs: config.nodeTtlMs, log });
  const schedule = compileOnChange({ view, discovery, interests, latest, clock, metrics, log });

  const server = new Server({
    'grpc.max_receive_message_length': MAX_REQUEST_BYTES,
    'grpc.keepalive_time_ms': 10_000,
    'grpc.keepalive_timeout_ms': 5_000,
    'grpc.max_concurrent_streams': config.authority === null ? MAX_STREAMS_OF_ALL : MAX_STREAMS_A_CONNECTION,
    'grpc.max_connection_idle_ms': IDLE_CONNECTION_MS,
    // Its books are kept for each connection and message, and nobody can ask for them here.
    'grpc.enable_channelz': 0,
  });
  const access = accessOf(config, { client, view, keys, clock, metrics, log });
  const changes = new ObjectChanges(client, view, keys, () => barrier(Number.MAX_SAFE_INTEGER), Date.now);
  const modelRevision = (): number => discovery.history.revision;
  server.addService(AdminService, createAdminService({ client, view, keys, changes, acks, clock, modelRevision, interests, latest }));
  server.addService(EncodedDiscoveryService, { stream: discovery.stream });
  server.addService(RegistryDefinition, { register: registry.register });
  server.addService(QuotasDefinition, { lease: quotas.lease });
  const watches = new CatalogWatches(latest);
  server.addService(CatalogService, createCatalogService(latest, watches));
  server.addService(AccessService, access.access);
  if (access.nodeIdentity !== null) server.addService(NodeIdentityService, access.nodeIdentity);
  const gauges = setInterval(() => {
    metrics.connectedNodes.set(discovery.connectedNodes);
    metrics.liveNodes.set(view.nodes.size);
    metrics.storeRevision.set(view.revision);
    const { instances, failing } = view.reports;
    metrics.instances.set(countInner(instances));
    metrics.failingEndpoints.set(countInner(failing));
    metrics.registryWatches.set(watches.count);
  }, 1_000);
  gauges.unref();

  const context: IngestionContext = { client, leases, view, keys, clock, ttlMs: LEADER_TTL_MS, metrics: metrics.sources, log };
  const stopSources = sourceReaders(config, context, latest).map((reader) => startIngestion(context, reader));
  stopSources.push(onceNamed(latest, () => startIngestion(context, dnsReader({ ...context, servers: config.dnsServers, latest }))));

  const stop = once(async () => {
    clearInterval(gauges);
    await Promise.all([...stopSources.map((stopSource) => stopSource()), quotas.stop()]);
    leases.close();
    discovery.stop();
    watches.stop();
    registry.stop();
    listeners?.close();
    await shutDown(server, clock);
    await access.stop();
    schedule.stop();
    acks.stop();
    view.stop();
    client.close();
    await metricsServer?.close();
    await catalogHttp?.close();
  });
  let listeners: Listeners | null = null;
  let metricsServer: MetricsServer | null = null;
  let catalogHttp: CatalogHttp | null = null;
  try {
    listeners = await listenGuarded(server, config.listen, access, log);
    const { addresses } = listeners;
    const unready = (): string | null => {
      if (discovery.history.isReady) return null;
      return view.state.kind === 'down' ? unavailableMessage(client.endpoints, view.state.reason) : 'the store is being read';
    };
    if (config.metricsListen !== null) {
      metricsServer = await MetricsServer.listen({ ...config.metricsListen, metrics: () => metrics.registry.metrics(), unready });
    }
    if (config.registryListen !== null) {
      const { guard, identity } = access;
      const security =
        identity === null
          ? null
          : {
              watch: (watcher: (proof: ServerProof | null) => void) => identity.watch(() => watcher(identity.proof)),
              admit: (head: RequestHead) => guard.admitRequest(CatalogService.listEndpoints.path, head),
            };
      catalogHttp = await CatalogHttp.listen(config.registryListen, { latest, watches, clock, security });
    }
    view.start();
    const registryAddress = catalogHttp?.address ?? null;
    const metricsAddress = metricsServer?.address ?? null;
    log.info(
      {
        version: VERSION,
        cluster: config.clusterName,
        addresses,
        metrics: metricsAddress,
        registry: registryAddress,
        etcd: client.endpoints,
      },
      'controller serves',
    );
    return { addresses, metricsAddress, registryAddress, metrics, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Who may do what, and the services about that. */
function accessOf(
  { authority: place, certificateTtlMs, rejoinWindowMs, kubernetes, nodeServiceAccount, publishAuthorities }: ControllerConfig,
  parts: { client: EtcdClient; view: StoreView; keys: Keyspace; clock: Clock; metrics: ControllerMetrics; log: Logger },
) {
  const { client, view, keys, clock, metrics, log } = parts;
  const wallClock = Date.now;
  const authority = place === null ? null : new Authority({ place, client, view, keys, certificateTtlMs, wallClock, log });
  const authenticator = new Authenticator(view, authority, wallClock);
  const audit = new AuditLog({ client, view, keys, clock, wallClock, log });
  const tokens = new JoinTokens(client, keys, wallClock);
  const guard = new Guard({
    authenticator,
    audit,
    clock,
    observe: {
      called: (method, code) => metrics.calls.inc({ method, code }),
      refused: (method, reason) => metrics.refusedCalls.inc({ method, reason }),
    },
  });
  const pods = kubernetes === null || authority === null ? null : new PodIdentity(kubernetes, nodeServiceAccount);
  const published =
    kubernetes === null || authority === null || publishAuthorities === null
      ? null
      : new PublishedAuthorities(kubernetes, authority, publishAuthorities, log);
  const joined = (node: string, by: string): void => {
    metrics.joins.inc({ by });
    log.info({ node, by }, 'certificate of a node signed');
  };
  const identity = authority === null ? null : new ControllerIdentity(authority, certificateTtlMs);
  // Whoever has no certificate may connect: to ask for one, or with a token. The guard decides.
  const credentials = identity === null ? null : new RotatingCredentials(guard.interceptor('tls'), false);
  identity?.watch(() => credentials?.present(identity.proof));
  return {
    guard,
    identity,
    credentials,
    access: createAccessService({ client, view, keys, clock, wallClock, authority, identity, tokens }),
    nodeIdentity:
      authority === null
        ? null
        : createNodeIdentityService({
            authority,
            authenticator,
            tokens,
            pods,
            rejoinWindowMs,
            wallClock,
            joined,
            revocationOf: (node) => revocationOf(client, keys, node),
          }),
    stop: async (): Promise<void> => {
      guard.close();
      pods?.close();
      published?.close();
      identity?.close();
      authority?.close();
      await audit.stop();
    },
  };
}

function sourceReaders(
  { kubernetes, consul, zookeeper }: ControllerConfig,
  { clock, metrics, log }: IngestionContext,
  latest: LatestModel,
): SourceReader[] {
  return [
    ...(kubernetes === null ? [] : [kubernetesReader({ access: kubernetes, latest, clock, metrics, log })]),
    ...(consul === null ? [] : [consulReader({ ...consul, clock, metrics, log })]),
    ...(zookeeper === null ? [] : [zookeeperReader({ ...zookeeper, clock, metrics, log })]),
  ];
}

/** Starts what resolves names when something first goes by one: a mesh that has none needs no leader for it. */
function onceNamed(latest: LatestModel, start: () => () => Promise<void>): () => Promise<void> {
  let stop: (() => Promise<void>) | null = null;
  const unwatch = latest.watch(() => {
    if (stop === null && (latest.model?.names.size ?? 0) > 0) stop = start();
  });
  return async () => {
    unwatch();
    await stop?.();
  };
}

function compileOnChange(parts: {
  view: StoreView;
  discovery: DiscoveryService;
  interests: NodeInterests;
  latest: LatestModel;
  clock: Clock;
  metrics: ControllerMetrics;
  log: Logger;
}): CompileSchedule {
  const { view, discovery, interests, latest, clock, metrics, log } = parts;
  const compiler = new ModelCompiler(view);
  let problemsBefore = '';
  let isRestart = false;
  /** An operator may wait for it, or who is told what is another. */
  let isTold = false;
  const compile = (): void => {
    // Its end is a change of its own.
    if (view.isRestoring) return;
    const startedMs = clock.now();
    const model = compiler.compile();
    const { resources, compiled, visibility, problems } = model;
    isTold = interests.update(compiled, visibility) || isTold;
    const tookMs = clock.now() - startedMs;
    const isFresh = isRestart || !discovery.history.isReady;
    isRestart = false;
    const { revision, modelRevision } = view;
    // Of the first list some deletions may be newer than all that it shows.
    const changed = isFresh ? discovery.restart(revision, resources) : discovery.publish(modelRevision, resources, isTold);
    isTold = false;
    metrics.compileSeconds.observe(tookMs / 1_000);
    metrics.revision.set(revision);
    metrics.resources.set(resources.length);
    metrics.problems.set(problems.length);
    log.debug({ revision, changed, resources: resources.length, tookMs: Math.round(tookMs) }, 'model compiled');
    const problemsNow = JSON.stringify(problems);
    if (problemsNow !== problemsBefore) for (const problem of problems) log.warn(problem, 'object does not fit the others');
    problemsBefore = problemsNow;
    latest.publish(model);
  };
  const idleMs = (): number => performance.eventLoopUtilization().idle;
  const schedule = new CompileSchedule(clock, idleMs, compile, (error) => {
    metrics.compileFailures.inc();
    log.error(
      { err: error, revision: view.revision },
      'the model could not be compiled, a bug of weft: nodes keep the last one; undo the last change',
    );
  });
  view.watch((change) => {
    isRestart ||= change.restarted;
    if (change.restarted) {
      log.error(
        { objects: view.objects.size },
        'etcd is another one, or has lost what it had: nodes are told what it has now. If that was not meant, stop the controllers and bring back a backup: weft controller restore',
      );
    }
    isTold ||= change.applied;
    if (change.model) schedule.changed();
  });
  return schedule;
}

function countInner(map: ReadonlyMap<string, ReadonlyMap<string, unknown>>): number {
  let count = 0;
  for (const inner of map.values()) count += inner.size;
  return count;
}

function logState(state: StoreState, client: EtcdClient, metrics: ControllerMetrics, log: Logger): void {
  metrics.etcdUp.set(state.kind === 'up' ? 1 : 0);
  if (state.kind === 'up') log.info({ etcd: client.endpoints }, 'etcd answers');
  else log.error(`${unavailableMessage(client.endpoints, state.reason)}. Nodes go on with what they have; trying again`);
}

function shutDown(server: Server, clock: Clock): Promise<void> {
  return new Promise((resolve) => {
    const cancel = clock.after(STOP_GRACE_MS, () => {
      server.forceShutdown();
      resolve();
    });
    server.tryShutdown(() => {
      cancel();
      resolve();
    });
  });
}

function once(action: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | null = null;
  return () => {
    running ??= action();
    return running;
  };
}
