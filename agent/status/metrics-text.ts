// The node's Prometheus page: the agent's own metrics, and the proxy's text after them.
import { Counter, Gauge, Registry } from 'prom-client';
import type { AgentFacts } from './node-status.js';

/** What the page needs beyond the status. */
export interface MetricFacts extends AgentFacts {
  /** Null: no snapshot on disk. */
  readonly snapshotAgeSeconds: number | null;
  readonly isSnapshotFailing: boolean;
  readonly resources: number;
  /** Resources with fields of newer software. */
  readonly partlyKnown: number;
  readonly isRegistered: boolean;
  /** Since the start, by "<type> <result>". */
  readonly checkResults: ReadonlyMap<string, number>;
  readonly droppedChecks: number;
  /** Milliseconds since the epoch; null: the node has none. */
  readonly certificateExpiresAtMs: number | null;
}

/** One scrape: a registry of its own, so that workloads and counters that went away leave no stale series. */
export async function renderMetrics(facts: MetricFacts, proxyText: string | null): Promise<string> {
  const registry = new Registry();
  const gauge = (name: string, help: string, value: number): void => {
    new Gauge({ name: `weft_agent_${name}`, help, registers: [registry] }).set(value);
  };
  const info = new Gauge({
    name: 'weft_agent_info',
    help: 'Always 1; labels say what runs',
    labelNames: ['node', 'version'],
    registers: [registry],
  });
  info.set({ node: facts.node, version: facts.version }, 1);
  gauge('uptime_seconds', 'Since the start of the agent', facts.uptimeSeconds);
  gauge('applied_revision', 'Store revision that the node runs on', facts.appliedRevision);
  gauge('controller_connected', '1 while the discovery stream to a controller is up', Number(facts.controller.connected));
  gauge('registry_connected', '1 while the registration stream to a controller is up', Number(facts.isRegistered));
  gauge('from_disk', '1 while the node runs on the snapshot from its disk', Number(facts.controller.fromDisk));
  gauge('resources', 'Resources in force', facts.resources);
  gauge('partly_known_resources', 'Resources with fields that this software is too old to know', facts.partlyKnown);
  gauge('rejected_resources', 'Resources that this node refuses', facts.rejected.length);
  gauge('proxy_up', '1 when the proxy answered this scrape', Number(proxyText !== null));
  gauge('proxy_subscribed', 'Proxies that take their configuration from this agent', facts.subscribedProxies);
  gauge('proxy_stalled', '1 while a proxy does not ack its configuration', Number(facts.isProxyStalled));
  if (facts.snapshotAgeSeconds !== null) gauge('snapshot_age_seconds', 'Since the snapshot on disk was written', facts.snapshotAgeSeconds);
  if (facts.certificateExpiresAtMs !== null) {
    gauge(
      'certificate_expiry_timestamp_seconds',
      'When the certificate of the node ends, since the epoch',
      facts.certificateExpiresAtMs / 1_000,
    );
  }
  gauge('snapshot_failing', '1 while the snapshot cannot be written', Number(facts.isSnapshotFailing));
  gauge('resident_memory_bytes', 'Resident memory of the agent', process.memoryUsage.rss());
  addCapture(registry, facts);
  addXds(registry, facts);
  addChecks(registry, facts);
  const own = await registry.metrics();
  return proxyText === null ? own : joinExpositions(own, proxyText);
}

function addChecks(registry: Registry, { checks, checkResults, droppedChecks }: MetricFacts): void {
  const registers = [registry];
  const endpoints = new Gauge({
    name: 'weft_agent_checked_endpoints',
    help: 'Endpoints that this node checks, by verdict; unchecked: too many for one node',
    labelNames: ['verdict'],
    registers,
  });
  for (const verdict of ['passing', 'failing', 'unknown']) endpoints.set({ verdict }, 0);
  for (const { verdict } of checks) endpoints.inc({ verdict });
  endpoints.set({ verdict: 'unchecked' }, droppedChecks);
  const total = new Counter({
    name: 'weft_agent_health_checks_total',
    help: 'Active checks of endpoints, by type and result',
    labelNames: ['type', 'result'],
    registers,
  });
  for (const [key, count] of checkResults) {
    const [type = '', result = ''] = key.split(' ');
    total.inc({ type, result }, count);
  }
}

function addCapture(registry: Registry, { capture }: MetricFacts): void {
  const registers = [registry];
  new Gauge({ name: 'weft_agent_capture_info', help: 'Always 1; the mode of redirection', labelNames: ['mode'], registers }).set(
    { mode: capture.mode },
    1,
  );
  const workloads = new Gauge({
    name: 'weft_agent_workloads',
    help: 'Workloads by state of their capture',
    labelNames: ['state'],
    registers,
  });
  for (const state of ['captured', 'pending', 'failed', 'excluded']) workloads.set({ state }, 0);
  for (const { state } of capture.workloads) workloads.inc({ state });
  const total = new Counter({
    name: 'weft_agent_capture_total',
    help: 'Counters of the BPF programs: packets and connections by outcome, bypasses among them',
    labelNames: ['counter'],
    registers,
  });
  for (const { name, value } of capture.counters) total.inc({ counter: name }, value);
  const perWorkload = new Counter({
    name: 'weft_agent_workload_capture_total',
    help: 'Counters of the BPF programs by workload',
    labelNames: ['workload', 'counter'],
    registers,
  });
  for (const { workload, counters } of capture.workloads) {
    for (const { name, value } of counters) perWorkload.inc({ workload, counter: name }, value);
  }
}

function addXds(registry: Registry, { xds }: MetricFacts): void {
  if (xds === null) return;
  const registers = [registry];
  const counter = (name: string, help: string, value: number): void =>
    new Counter({ name: `weft_agent_xds_${name}_total`, help, registers }).inc(value);
  new Gauge({ name: 'weft_agent_xds_clients', help: 'Proxyless gRPC clients connected', registers }).set(xds.clients.length);
  counter('responses', 'Responses to proxyless gRPC clients', xds.responses);
  counter('refusals', 'Responses that a client refused (NACK)', xds.refusals);
  counter('refused_streams', 'Streams beyond the bound', xds.refusedStreams);
}

/** Two expositions as one: a family's HELP and TYPE appear once. Families that both have must have no series in common. */
function joinExpositions(first: string, second: string): string {
  const described = new Set([...first.matchAll(/^# (HELP|TYPE) (\S+)/gm)].map(([, keyword, name]) => `${keyword} ${name}`));
  const rest = second.split('\n').filter((line) => {
    const comment = /^# (HELP|TYPE) (\S+)/.exec(line);
    return comment === null ? line !== '' && line !== '# EOF' : !described.has(`${comment[1]} ${comment[2]}`);
  });
  return `${first.trimEnd()}\n${rest.join('\n')}\n`;
}
