// The proxy process: its composition root and its life, from the namespace it enters to the last connection it drains.
// Everything that decides or serves is elsewhere; nothing here runs per request.
import { existsSync, rmSync } from 'node:fs';
import type { Server as HttpServer } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Server } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { createLog } from '../../api/log.js';
import { VERSION } from '../../api/version.js';
import { DiscoveryClient } from '../discovery/discovery-client.js';
import { loadAddon } from '../native/addon.js';
import { makeRunDirectory } from '../run-directory.js';
import { AccessLogSink, drainRing, formatRecord } from './access-log.js';
import type { ProxyConfig } from './config.js';
import { DataPlane } from './data-plane.js';
import { edgeName } from './metrics/report.js';
import { FileWatch, loadManifests } from './static-source.js';
import { ProxyStatus, serveMetrics, serveStatus } from './status.js';
import type { Generation } from './tables/compile.js';

const ACCESS_LOG_INTERVAL_MS = 50;
const NETNS_POLL_MS = 100;

/** What ends with the process, in the order in which to end it. */
interface Running {
  readonly plane: DataPlane;
  readonly stopSource: () => Promise<void>;
  readonly stopAccessLog: () => Promise<void>;
  readonly status: Server;
  readonly metrics: HttpServer | null;
}

/** Returns the exit code, when it has drained after a signal or could not start. */
export async function runProxy(config: ProxyConfig): Promise<number> {
  const log = createLog('proxy', config.logLevel);
  const signals = new Signals();
  try {
    const addon = loadAddon();
    const hostNetns = config.mesh === null ? null : await enterMesh(addon, config.mesh.netns, log, signals);
    if (signals.received > 0) return 0;
    const plane = new DataPlane(config, addon, hostNetns, log);
    const stopSource = await startSource(config, plane, log);
    if (stopSource === null) {
      plane.pool.close();
      await plane.pool.drain(0);
      return 1;
    }
    makeRunDirectory(config.runDir);
    const socket = join(config.runDir, 'proxy.sock');
    const proxyStatus = new ProxyStatus(plane, addon.counterNames());
    const running: Running = {
      plane,
      stopSource,
      stopAccessLog: startAccessLog(config, plane, log),
      status: await serveStatus(proxyStatus, socket),
      metrics: config.metricsListen === null ? null : await serveMetrics(proxyStatus, config.metricsListen),
    };
    log.info({ version: VERSION, workers: config.workers, status: socket }, 'ready');
    await signals.next();
    await stop(running, config, log, signals);
    rmSync(socket, { force: true });
    return 0;
  } catch (error) {
    log.fatal({ err: error }, `the proxy can't start: ${(error as Error).message}`);
    // Worker threads may be running: nothing else would end them.
    process.exit(1);
  }
}

/** Returns a descriptor of the host's namespace; null when a signal came first. */
async function enterMesh(addon: ReturnType<typeof loadAddon>, netns: string, log: Logger, signals: Signals): Promise<number | null> {
  if (!existsSync(netns)) log.info({ netns }, `waiting for ${netns}: the agent makes it`);
  while (!existsSync(netns) && signals.received === 0) await sleep(NETNS_POLL_MS);
  return signals.received === 0 ? addon.enterNetworkNamespace(netns) : null;
}

/** Returns how to stop it; null when the files are bad, which has been said. */
async function startSource(config: ProxyConfig, plane: DataPlane, log: Logger): Promise<(() => Promise<void>) | null> {
  return config.source.kind === 'static'
    ? startStatic(config.source.files, plane, log)
    : startAgentLink(config, config.source.address, plane, log);
}

async function startStatic(files: readonly string[], plane: DataPlane, log: Logger): Promise<(() => Promise<void>) | null> {
  let revision = 1;
  const load = async (): Promise<readonly string[]> => {
    const loaded = await loadManifests(files, revision);
    if (!loaded.ok) return loaded.findings;
    for (const problem of loaded.problems) log.warn(problem);
    revision++;
    const { rejected, closed } = await plane.apply(loaded.update);
    return [...rejected.map(({ name, error }) => `${name}: ${error}`), ...closed];
  };
  const findings = await load();
  if (findings.length > 0) {
    process.stderr.write(`${findings.join('\n')}\n`);
    return null;
  }
  const reload = async (): Promise<void> => {
    try {
      for (const finding of await load()) log.error(`${finding} (what was served before stays)`);
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
    onUpdate: async (update) => (await plane.apply(update)).rejected,
    log,
    peer: 'agent',
    hint: 'is `weft agent` running on this host? Serving what was applied last, retrying',
  });
  client.start();
  return () => client.stop();
}

/** Returns how to stop it, with the last lines written. */
function startAccessLog(config: ProxyConfig, plane: DataPlane, log: Logger): () => Promise<void> {
  const { mode, file } = config.accessLog;
  if (mode === 'off') return () => Promise.resolve();
  const sink = new AccessLogSink(file, (error) => log.error({ err: error }, `the access log can't be written: ${error.message}`));
  let ruleNames = new Map<number, string>();
  let namesOf: Generation | null = null;
  const ruleName = (ruleId: number): string | null => {
    if (namesOf !== plane.generation) {
      namesOf = plane.generation;
      ruleNames = new Map(namesOf?.routes.map((row) => [row.ruleId, row.route]));
    }
    return ruleNames.get(ruleId) ?? null;
  };
  const names = {
    edge: (slot: number, token: number) => edgeName(plane.pool.memories[slot]!.cells, plane.labels, token),
    rule: ruleName,
  };
  const drain = (): void => {
    plane.pool.memories.forEach(({ accessLog }, slot) => {
      if (accessLog === null) return;
      let lines = '';
      drainRing(accessLog, (record, texts) => {
        lines += formatRecord(record, texts, slot, names, mode === 'errors') ?? '';
      });
      if (lines !== '') sink.write(lines);
    });
  };
  const timer = setInterval(drain, ACCESS_LOG_INTERVAL_MS);
  const reopen = (): void => sink.reopen();
  process.on('SIGHUP', reopen);
  return () => {
    clearInterval(timer);
    process.off('SIGHUP', reopen);
    drain();
    return sink.close();
  };
}

async function stop(
  { plane, stopSource, stopAccessLog, status, metrics }: Running,
  config: ProxyConfig,
  log: Logger,
  signals: Signals,
): Promise<void> {
  log.info({ timeoutMs: config.drainTimeoutMs }, 'draining: no new connections; a second signal ends it at once');
  void signals.next().then(() => plane.pool.close());
  // Together: an update may be waiting for a worker that can't start, and gives up when the pool drains.
  await Promise.all([plane.pool.drain(config.drainTimeoutMs), stopSource()]);
  await stopAccessLog();
  status.forceShutdown();
  metrics?.closeAllConnections();
  metrics?.close();
  signals.stop();
  log.info('drained');
}

/** SIGTERM and SIGINT, counted, so that one that comes early is not lost. */
class Signals {
  received = 0;
  private taken = 0;
  private wake: () => void = () => undefined;
  private readonly handler = (): void => {
    this.received++;
    this.wake();
  };

  constructor() {
    process.on('SIGTERM', this.handler);
    process.on('SIGINT', this.handler);
  }

  async next(): Promise<void> {
    const wanted = ++this.taken;
    while (this.received < wanted) await new Promise<void>((resolve) => (this.wake = resolve));
  }

  stop(): void {
    process.off('SIGTERM', this.handler);
    process.off('SIGINT', this.handler);
  }
}
