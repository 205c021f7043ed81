// The data plane as captured traffic meets it, without the redirection: our workers, decisions and engine on one outbound listener bound
// to a service's own address, so that the socket's local address is the original destination, as it is in the mesh namespace.
// A program: captured-proxy FILE ADDRESS PORT WORKERS. Needs root (the
// listener is transparent). Reads FILE again when it changes.
import { Model } from '../../agent/model/model.js';
import { loadAddon } from '../../agent/native/addon.js';
import { MAX_TENANTS } from '../../agent/native/engine.js';
import { DEFAULT_LIMITS } from '../../agent/proxy/config.js';
import { MAX_ENDPOINTS, MAX_RULES } from '../../agent/proxy/metrics/cells.js';
import { LimitMemory } from '../../agent/proxy/rate-limit/plan.js';
import { FileWatch, loadManifests } from '../../agent/proxy/static-source.js';
import { CapturedMemory } from '../../agent/proxy/tables/captured-addresses.js';
import { ClusterRows } from '../../agent/proxy/tables/cluster-sections.js';
import { Clusters } from '../../agent/proxy/tables/clusters.js';
import { compileTables } from '../../agent/proxy/tables/compile.js';
import { DestinationMemory } from '../../agent/proxy/tables/destinations.js';
import { MAX_GATEWAY_LISTENERS } from '../../agent/proxy/tables/gateway-ports.js';
import { HashTables } from '../../agent/proxy/tables/hash-tables.js';
import { Labels } from '../../agent/proxy/tables/labels.js';
import { SourceMemory } from '../../agent/proxy/tables/sources.js';
import { StableIds } from '../../agent/proxy/tables/stable-ids.js';
import { UpstreamTls } from '../../agent/proxy/upstream-tls.js';
import { WorkerPool } from '../../agent/proxy/worker-pool.js';
import { createLog } from '../../api/log.js';

const LISTENER = 0;

async function main([file, address, port, workers]: readonly string[]): Promise<void> {
  if (file === undefined || address === undefined || port === undefined)
    throw new Error('usage: captured-proxy FILE ADDRESS PORT [WORKERS]');
  const addon = loadAddon();
  const log = createLog('captured-proxy', 'warn');
  const limits = DEFAULT_LIMITS;
  const counters = addon.counterNames().length;
  const pool = new WorkerPool({
    workers: Number(workers ?? 1),
    limits,
    counters,
    accessLog: false,
    heartbeatMap: null,
    host: null,
    via: null,
    podAliveMs: null,
    log,
    onFilterStuck: () => {},
    onRestart: () => {},
    onFailures: () => {},
    closeDescriptor: () => {},
  });
  const model = new Model();
  const ids = (capacity: number): StableIds => new StableIds({ capacity, quarantineMs: 30_000, now: () => performance.now() });
  const tableIds = {
    clusters: new Clusters(ids(MAX_ENDPOINTS), ids(64)),
    clusterRows: new ClusterRows(),
    captured: new CapturedMemory(),
    destinations: new DestinationMemory(),
    sources: new SourceMemory(),
    rules: ids(MAX_RULES),
    listeners: ids(MAX_GATEWAY_LISTENERS),
    tenants: ids(MAX_TENANTS - 1),
    guards: ids(64),
    filters: ids(1),
    labels: new Labels(4096),
    sessionKey: Buffer.alloc(32),
    upstreamTls: new UpstreamTls(addon),
    hashTables: new HashTables(),
    limits: new LimitMemory(() => Number(process.hrtime.bigint() / 1_000n), 1),
  };
  let generation = 0;
  let handle: number | null = null;
  const apply = async (): Promise<void> => {
    const loaded = await loadManifests([file], generation + 1);
    if (!loaded.ok) {
      // Half a file is read again when it is whole.
      if (generation === 0) throw new Error(loaded.findings.join('\n'));
      return;
    }
    model.apply(loaded.update);
    const next = compileTables(model, ++generation, 'bench', tableIds);
    const tables = addon.createTables(next.spec);
    await pool.publish({
      handle: tables,
      buffer: next.buffer,
      patterns: next.patterns,
      sessions: next.sessions,
      limits: next.limits,
      filters: null,
    });
    if (handle !== null) addon.releaseTables(handle);
    handle = tables;
  };
  await apply();
  await new FileWatch([file], apply, log).start();
  const spec = {
    id: LISTENER,
    kind: 'outbound',
    address,
    port: Number(port),
    protocol: 'detect',
    sockmap: null,
    forwarding: null,
    tls: null,
    proxyProtocol: false,
    pod: null,
  } as const;
  const { error } = await pool.listen(LISTENER, () => spec);
  if (error !== null) throw new Error(`can't listen on ${address}:${port}: ${error}`);
  process.once('SIGTERM', () => {
    setTimeout(() => pool.close(), 100);
    void pool.drain(100).then(() => process.exit(0));
  });
}

await main(process.argv.slice(2));
