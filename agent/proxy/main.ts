// The proxy process: its composition root and its life, from the namespace it enters to the last connection it drains.
// Everything that decides or serves is elsewhere; nothing here runs per request.
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import type { Logger } from 'pino';
import { assertUnserved } from '../../api/grpc/listen.js';
import { createLog } from '../../api/log.js';
import { MetricsServer } from '../../api/metrics-server.js';
import { VERSION } from '../../api/version.js';
import { DiscoveryClient } from '../discovery/discovery-client.js';
import type { AccessLogAddon } from '../native/access-log.js';
import { loadAddon } from '../native/addon.js';
import { takeNamespaces, watchNamespaces } from '../native/netns.js';
import { makeRunDirectory, PROXY_FILES } from '../run-directory.js';
import { AccessLog, type AccessLogSource } from './access-log.js';
import type { ProxyConfig } from './config.js';
import { findTraffic, watchTraffic } from './confinement.js';
import { DataPlane, engineNowUs } from './data-plane.js';
import { Drain, type DrainResult } from './drain.js';
import type { Channel } from './handover/channel.js';
import { Heir } from './handover/heir.js';
import { type Estate, HandoverServer } from './handover/predecessor.js';
import { Predecessors } from './handover/predecessors.js';
import { Takeover } from './handover/successor.js';
import { QuotaClient } from './rate-limit/quota-client.js';
import { ReadyFile } from './ready-file.js';
import { TOKEN_EDGE, TOKEN_ROW_BITS } from './resilience/gate.js';
import { FileWatch, loadManifests } from './static-source.js';
import { ProxyStatus, type StatusServer, serveStatus } from './status.js';
import type { Generation } from './tables/compile.js';
import { lowerV8Threads } from './thread-priority.js';

/** A client of ours may have a request under way when it is closed as idle: with a successor there is time to wait for it. */
const IDLE_MS = { atSignal: 250, withSuccessor: 5_000 };
const DRAIN_REPORT_INTERVAL_MS = 1_000;
/** A predecessor's port is free once it has said so, or its kernel a moment later. */
const METRICS_RETRIES = 10;
const METRICS_RETRY_MS = 100;

/** Bytecode that V8 inlines into one function, five times what it does by itself: with all that a decision calls it is one piece of code. */
const INLINED_BYTECODE = 5_000;

/** What ends with the process. */
interface Running {
  readonly plane: DataPlane;
  readonly stopSource: () => Promise<void>;
  readonly accessLog: AccessLog | null;
  readonly status: StatusServer;
  readonly metrics: MetricsServer | null;
  readonly handover: HandoverServer;
  readonly predecessors: Predecessors;
  /** Whoever goes on counting after this proxy. */
  readonly heirOf: (successor: Channel) => Heir;
}

/** Returns the exit code, when it has drained after a signal or a hand-over, or could not start. */
export async function runProxy(config: ProxyConfig): Promise<number> {
  // Before there is a worker.
  setFlagsFromString(`--max-inlined-bytecode-size-cumulative=${INLINED_BYTECODE}`);
  const log = createLog('proxy', config.logLevel);
  const signals = new Signals();
  lowerV8Threads();
  try {
    const addon = loadAddon();
    const namespaces = takeNamespaces(process.env);
    const captured = await findTraffic(config, namespaces, log, () => signals.received > 0);
    if (signals.received > 0) return 0;
    const unwatch = namespaces === null ? () => undefined : watchNamespaces(addon, namespaces, () => loseNamespaces(log));
    const unwatchTraffic = watchTraffic(config, captured, () => loseTraffic(log));
    makeRunDirectory(config.runDir);
    const readyFile = new ReadyFile(config.readyFile, log);
    readyFile.clear();
    const predecessors = new Predecessors(log);
    const takeover = config.takeover === 'auto' ? await Takeover.begin(handoverSocket(config), addon, predecessors, log) : null;
    // Before a listener is open: two that share one would lose connections when the second ends.
    if (takeover === null) await assertUnserved(statusSocket(config));
    const plane = new DataPlane(config, addon, captured, log, takeover);
    // What can fail comes before there are listeners: what this one accepts would end with it.
    const accessLog = startAccessLog(config, addon, plane, log);
    plane.listeners.followPods();
    const starting = startSource(config, plane, log);
    // It waits for workers, and those may never come up.
    const stopSource = await Promise.race([starting, signals.until(1).then(() => null)]);
    if (stopSource === null || (takeover !== null && !(await isServing(plane, signals)))) {
      takeover?.abandon();
      void starting.then((stop) => stop?.()).catch(() => undefined);
      await plane.quotas?.stop();
      plane.pool.close();
      await plane.pool.drain(0);
      plane.filters.close();
      await accessLog?.close();
      unwatchTraffic();
      unwatch();
      signals.stop();
      if (plane.listeners.lost.length > 0)
        log.fatal(`not taking over: ${plane.listeners.lost.join(', ')} would be closed; the errors are above`);
      return signals.received > 0 ? 0 : 1;
    }
    const running = await serve(config, addon, plane, takeover, predecessors, stopSource, accessLog, log);
    void plane.isServing.then(() => readyFile.serves());
    const successor = await Promise.race([signals.until(1).then(() => null), running.handover.handedOver]);
    readyFile.ends();
    unwatchTraffic();
    if (successor === null) await shutDown(running, config, log, signals);
    else await leaveTo(successor, running, config, log, signals);
    // One may have streams that take days: it needs nobody to end.
    predecessors.abandon();
    unwatch();
    signals.stop();
    return 0;
  } catch (error) {
    log.fatal({ err: error }, `the proxy can't start: ${(error as Error).message}`);
    // Worker threads may be running: nothing else would end them.
    process.exit(1);
  }
}

/** Fail-open workloads go direct until this process is back; without it they would be refused. */
function loseNamespaces(log: Logger): never {
  log.fatal('weft-netns, which opens sockets in other namespaces for this proxy, has ended: start the proxy again');
  process.exit(1);
}

/** Its captured connections have ended with the redirection; the next process serves what the agent has made instead. */
function loseTraffic(log: Logger): never {
  log.fatal('the agent has removed its redirection or captures otherwise now: start the proxy again');
  process.exit(1);
}

/** False when a signal came first, or not all is served that the predecessor serves. */
function isServing(plane: DataPlane, signals: Signals): Promise<boolean> {
  return Promise.race([plane.isServing.then(() => plane.listeners.lost.length === 0), signals.until(1).then(() => false)]);
}

/** What can fail comes first: from complete() on there is no predecessor to go on. */
async function serve(
  config: ProxyConfig,
  addon: ReturnType<typeof loadAddon>,
  plane: DataPlane,
  takeover: Takeover | null,
  predecessors: Predecessors,
  stopSource: () => Promise<void>,
  accessLog: AccessLog | null,
  log: Logger,
): Promise<Running> {
  const socket = statusSocket(config);
  const handovers = takeover?.handovers ?? 0;
  const proxyStatus = new ProxyStatus(plane, addon, handovers, predecessors, accessLog);
  const estate: Estate = {
    shareSockets: () => plane.listeners.share(),
    ticketKeys: () => plane.listeners.ticketKeys,
    handovers,
  };
  const status = await serveStatus(proxyStatus, socket);
  const handover = HandoverServer.start(handoverSocket(config), addon, estate, predecessors, log);
  const hasTakenOver = await takeOver(config, takeover, () => Takeover.begin(handoverSocket(config), addon, predecessors, log));
  status.publish();
  handover.publish();
  const running: Running = {
    plane,
    stopSource,
    accessLog,
    status,
    handover,
    predecessors,
    heirOf: (successor) => new Heir(successor, handoverSocket(config), addon, () => proxyStatus.tally(), log),
    metrics: await startMetrics(config, proxyStatus, hasTakenOver, log),
  };
  log.info({ version: VERSION, workers: config.workers, status: socket }, 'ready');
  return running;
}

/** From `first`; where that has ended, or nobody was there at the start, from whoever has been started since. False: from nobody. */
async function takeOver({ takeover }: ProxyConfig, first: Takeover | null, begin: () => Promise<Takeover | null>): Promise<boolean> {
  if (takeover === 'never') return false;
  let from = first ?? (await begin());
  const hasTakenOver = from !== null;
  while (from !== null && !(await from.complete())) from = await begin().catch(() => null);
  return hasTakenOver;
}

function handoverSocket({ runDir }: ProxyConfig): string {
  return join(runDir, PROXY_FILES.handover);
}

function statusSocket({ runDir }: ProxyConfig): string {
  return join(runDir, PROXY_FILES.status);
}

/** Null: none is wanted, or its port does not come free: no reason to end what serves already. */
async function startMetrics(
  { metricsListen }: ProxyConfig,
  status: ProxyStatus,
  hasTakenOver: boolean,
  log: Logger,
): Promise<MetricsServer | null> {
  if (metricsListen === null) return null;
  for (let left = METRICS_RETRIES; ; left--) {
    try {
      return await MetricsServer.listen({ ...metricsListen, metrics: () => status.metrics(), unready: () => status.unready() });
    } catch (error) {
      if (!hasTakenOver) throw error;
      if (left === 0) {
        log.error({ err: error }, (error as Error).message);
        return null;
      }
      await sleep(METRICS_RETRY_MS);
    }
  }
}

/** Returns how to stop it; null when the files are bad, which has been said. */
async function startSource(config: ProxyConfig, plane: DataPlane, log: Logger): Promise<(() => Promise<void>) | null> {
  return config.source.kind === 'static'
    ? startStatic(config.source.files, plane, log)
    : startAgentLink(config, config.source.address, plane, log);
}

async function startStatic(files: readonly string[], plane: DataPlane, log: Logger): Promise<(() => Promise<void>) | null> {
  let revision = 1;
  /** What is wrong: refused, so that what was served before stays, and ports that are closed. */
  const load = async (): Promise<{ refused: readonly string[]; closed: readonly string[] }> => {
    const loaded = await loadManifests(files, revision);
    if (!loaded.ok) return { refused: loaded.findings, closed: [] };
    for (const problem of loaded.problems) log.warn(problem);
    revision++;
    const { rejected, closed } = await plane.apply(loaded.update);
    return { refused: rejected.map(({ name, error }) => `${name}: ${error}`), closed };
  };
  const first = await load();
  const findings = [...first.refused, ...first.closed];
  if (findings.length > 0) {
    process.stderr.write(`${findings.join('\n')}\n`);
    return null;
  }
  const reload = async (): Promise<void> => {
    try {
      const { refused, closed } = await load();
      for (const finding of refused) log.error(`${finding} (what was served before stays)`);
      for (const finding of closed) log.error(finding);
    } catch (error) {
      log.error({ err: error }, 'the changed files could not be applied; what was served before stays');
    }
  };
  const watch = new FileWatch(files, reload, log);
  await watch.start();
  return () => Promise.resolve(watch.stop());
}

/** Starts at once: without an agent the proxy waits, and what it has been given it goes on serving when the agent goes. */
async function startAgentLink(config: ProxyConfig, address: string, plane: DataPlane, log: Logger): Promise<() => Promise<void>> {
  const client = new DiscoveryClient({
    addresses: [address],
    node: config.node,
    version: VERSION,
    resume: null,
    onUpdate: async (update) => {
      plane.limits.useStore(update.token.clusterId);
      return (await plane.apply(update)).rejected;
    },
    log,
    peer: 'agent',
    hint: 'is `weft agent` running on this host? Serving what was applied last, retrying',
  });
  const quotas = new QuotaClient({
    address,
    node: config.node,
    holder: randomUUID(),
    memory: plane.limits,
    nowUs: engineNowUs,
    log,
  });
  plane.quotas = quotas;
  plane.limits.onSettled = () => quotas.follow();
  client.start();
  return () => client.stop();
}

/** Null: there is none. */
function startAccessLog(config: ProxyConfig, addon: AccessLogAddon, plane: DataPlane, log: Logger): AccessLog | null {
  const { mode, file } = config.accessLog;
  if (mode === 'off') return null;
  let ruleNames = new Map<number, string>();
  let namesOf: Generation | null = null;
  const rule = (id: number): string | null => {
    if (namesOf !== plane.generation) {
      namesOf = plane.generation;
      ruleNames = new Map(namesOf?.routes.map((row) => [row.ruleId, row.route]));
    }
    return ruleNames.get(id) ?? null;
  };
  const source: AccessLogSource = {
    rings: () => plane.pool.memories,
    generation: () => plane.generation,
    label: (id) => plane.labels.textOf(id),
    rule,
  };
  const lines = new addon.AccessLogLines(TOKEN_EDGE, TOKEN_ROW_BITS, mode === 'errors');
  const failed = (error: Error): void => log.error({ err: error }, `the access log can't be written: ${error.message}`);
  const accessLog = new AccessLog(file, lines, source, failed);
  process.on('SIGHUP', () => accessLog.reopen());
  return accessLog;
}

/** After a signal. */
async function shutDown(running: Running, config: ProxyConfig, log: Logger, signals: Signals): Promise<void> {
  const { plane, handover, metrics } = running;
  handover.close();
  await plane.listeners.leavePods();
  log.info({ timeoutMs: config.shutdownTimeoutMs }, 'draining: no new connections; a second signal ends it at once');
  const drain = new Drain(plane, IDLE_MS.atSignal);
  drain.limit(config.shutdownTimeoutMs);
  void signals.until(2).then(() => drain.cut());
  await finish(running, drain, log);
  await metrics?.close();
  running.status.withdraw();
}

/** A successor serves; its sockets stand where ours stood. */
async function leaveTo(successor: Channel, running: Running, config: ProxyConfig, log: Logger, signals: Signals): Promise<void> {
  const { plane, metrics, predecessors } = running;
  const limit = config.drainTimeoutMs === 0 ? 'without a limit' : `for at most ${config.drainTimeoutMs} ms`;
  const drain = new Drain(plane, IDLE_MS.withSuccessor);
  log.info(
    { successor: successor.pid, open: drain.open },
    `handed over to proxy ${successor.pid}; draining ${drain.open} connections ${limit}`,
  );
  if (config.drainTimeoutMs > 0) drain.limit(config.drainTimeoutMs);
  void signals.until(1).then(() => drain.limit(config.shutdownTimeoutMs));
  void signals.until(2).then(() => drain.cut());
  await metrics?.close();
  const heir = running.heirOf(successor);
  await heir.tell({ type: 'released' });
  const drained = new AbortController();
  const telling = tellUntil(drained.signal, () => heir.tell({ type: 'draining', open: drain.open }));
  const result = await finish(running, drain, log);
  drained.abort();
  await telling;
  // What they count from here on is told to another: all that they told this one goes with its own.
  predecessors.abandon();
  await heir.tell({ type: 'drained', ...result });
  heir.close();
  if (config.afterHandover === 'exit' || signals.received > 0) return;
  log.info('waiting for SIGTERM');
  const alive = setInterval(() => undefined, 60_000);
  await signals.until(1);
  clearInterval(alive);
}

async function tellUntil(over: AbortSignal, tell: () => Promise<void>): Promise<void> {
  while (!over.aborted) {
    await tell();
    await sleep(DRAIN_REPORT_INTERVAL_MS, undefined, { signal: over }).catch(() => undefined);
  }
}

async function finish({ plane, stopSource, accessLog, status }: Running, drain: Drain, log: Logger): Promise<DrainResult> {
  // Together: an update may be waiting for a worker that can't start, and gives up when the pool drains.
  const [result] = await Promise.all([drain.done, stopSource()]);
  plane.listeners.stopFollowingPods();
  plane.filters.close();
  // What it served to its end counted against its shares.
  await plane.quotas?.stop();
  await accessLog?.close();
  status.server.forceShutdown();
  log.info(result, `drained: ${result.ended} connections ended, ${result.cut} were cut`);
  return result;
}

/** SIGTERM and SIGINT, counted, so that one that comes early is not lost. */
class Signals {
  received = 0;
  private readonly waiting = new Set<() => void>();
  private readonly handler = (): void => {
    this.received++;
    for (const wake of this.waiting) wake();
    this.waiting.clear();
  };

  constructor() {
    process.on('SIGTERM', this.handler);
    process.on('SIGINT', this.handler);
  }

  /** Resolves when so many have come. */
  async until(count: number): Promise<void> {
    while (this.received < count) await new Promise<void>((resolve) => this.waiting.add(resolve));
  }

  stop(): void {
    process.off('SIGTERM', this.handler);
    process.off('SIGINT', this.handler);
  }
}
