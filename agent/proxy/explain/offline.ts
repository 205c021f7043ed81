// Explains a request by manifests alone: compiles them with the controller's and the proxy's own code, as `weft proxy --static` does, and asks the same
// tables. Services get addresses where the manifests give them none, as a cluster would.
import { compileModel } from '../../../api/compile/index.js';
import { encodeResource } from '../../../api/compile/wire.js';
import type { ExplainRequest } from '../../../api/gen/mesh/v1/explain.js';
import { Outside } from '../../../api/gen/mesh/v1/model.js';
import { formatFinding, parseManifests } from '../../../api/resources/index.js';
import { Model } from '../../model/model.js';
import { type EngineAddon, MAX_TENANTS } from '../../native/engine.js';
import { DEFAULT_LIMITS } from '../config.js';
import { EndpointStates } from '../endpoint-states.js';
import { MAX_FILTERS } from '../filters/filter-cells.js';
import { MAX_ENDPOINTS, MAX_RULES } from '../metrics/cells.js';
import { LimitMemory } from '../rate-limit/plan.js';
import { MAX_CONNECTION_SERVICES } from '../resilience/connection-counts.js';
import { Resilience } from '../resilience/resilience.js';
import { MAX_ROWS, ResilienceState } from '../resilience/state.js';
import { CapturedMemory } from '../tables/captured-addresses.js';
import { ClusterRows } from '../tables/cluster-sections.js';
import { Clusters } from '../tables/clusters.js';
import { compileTables, type TableIds } from '../tables/compile.js';
import { DestinationMemory } from '../tables/destinations.js';
import { MAX_GATEWAY_LISTENERS } from '../tables/gateway-ports.js';
import { HashTables } from '../tables/hash-tables.js';
import { Labels } from '../tables/labels.js';
import { SourceMemory } from '../tables/sources.js';
import { StableIds } from '../tables/stable-ids.js';
import { UpstreamTls } from '../upstream-tls.js';
import { type Explained, explain } from './explain.js';

const MAX_LABELS = 65_536;
/** Reserved (RFC 1112): no manifest names an address of it. */
const FIRST_ADDRESS = 240 * 2 ** 24;

/** `findings`: mistakes in the files, a line each. */
export type ExplainedFiles = Explained | { readonly kind: 'mistakes'; readonly findings: readonly string[] };

export async function explainFiles(
  files: readonly { readonly name: string; readonly content: string }[],
  request: ExplainRequest,
  addon: EngineAddon,
): Promise<ExplainedFiles> {
  const parsed = parseManifests(files);
  if (parsed.findings.length > 0) return { kind: 'mistakes', findings: parsed.findings.map(formatFinding) };
  const objects = parsed.objects.map((object) => ({ ...object, createdAtMs: 0 }));
  const { resources } = compileModel({ objects, running: null, nowMs: 0 });
  const model = new Model();
  model.apply({ full: true, resources: resources.map(encodeResource), removed: [], revision: 0 });
  giveAddresses(model);
  const tls = new UpstreamTls(addon);
  // No node of the mesh is called that: nothing is local.
  const generation = compileTables(model, 1, '', newIds(tls));
  const handle = addon.createTables(generation.spec);
  try {
    const outstanding = new Int32Array(new SharedArrayBuffer(MAX_ENDPOINTS * 4));
    const states = new EndpointStates(EndpointStates.allocate());
    const resilience = new ResilienceState(ResilienceState.allocate());
    const policies = new Resilience(resilience, states, { now: () => 0, random: () => 0, onEvent: () => undefined });
    policies.configure(generation.guarded);
    policies.stop();
    const filters = { tables: generation.filters, program: (key: string) => generation.wantedFilters.get(key) ?? null };
    const view = { model, generation, handle, outstanding, states, resilience, filters, limits: DEFAULT_LIMITS };
    return await explain(request, view, addon, new AbortController().signal);
  } finally {
    addon.releaseTables(handle);
  }
}

function newIds(upstreamTls: UpstreamTls): TableIds {
  const ids = (capacity: number): StableIds => new StableIds({ capacity, quarantineMs: 0, now: () => 0 });
  return {
    clusters: new Clusters(ids(MAX_ENDPOINTS), ids(MAX_CONNECTION_SERVICES)),
    clusterRows: new ClusterRows(),
    captured: new CapturedMemory(),
    destinations: new DestinationMemory(),
    sources: new SourceMemory(),
    rules: ids(MAX_RULES),
    listeners: ids(MAX_GATEWAY_LISTENERS),
    tenants: ids(MAX_TENANTS - 1),
    labels: new Labels(MAX_LABELS),
    upstreamTls,
    sessionKey: Buffer.alloc(32),
    hashTables: new HashTables(),
    guards: ids(MAX_ROWS - 1),
    limits: new LimitMemory(() => 0, 1),
    filters: ids(MAX_FILTERS),
  };
}

function giveAddresses({ services }: Model): void {
  let next = FIRST_ADDRESS;
  for (const [name, service] of services) {
    // Hosts outside of the mesh are known by Host.
    if (service.addresses.length > 0 || service.outside !== Outside.WITHIN) continue;
    const address = [next >>> 24, (next >>> 16) & 255, (next >>> 8) & 255, next & 255].join('.');
    services.set(name, { ...service, addresses: [address] });
    next++;
  }
}
