// What the controller counts.
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';

/** Of discovery sources: kubernetes, consul, zookeeper. `path`: the part of it that is asked for. */
export class SourceMetrics {
  readonly leads: Gauge;
  readonly #up: Gauge;
  /** By source: those that #up tells of. */
  readonly #paths = new Map<string, Set<string>>();
  readonly lists: Counter;
  readonly events: Counter;
  readonly written: Counter;
  readonly statuses: Counter;

  constructor(registry: Registry) {
    const of = (name: string, help: string, ...labelNames: string[]) => ({
      name,
      help,
      labelNames: ['source', ...labelNames],
      registers: [registry],
    });
    this.leads = new Gauge(of('weft_controller_source_leader', '1 at the replica that reads the source.'));
    this.#up = new Gauge(of('weft_controller_source_up', '1 while the source answers, at the replica that reads it.', 'path'));
    this.lists = new Counter(
      of('weft_controller_source_lists_total', 'Whole lists read: one at the start, more where a watch was lost.', 'path'),
    );
    this.events = new Counter(of('weft_controller_source_events_total', 'Objects told by the source, in lists and watches.', 'path'));
    this.statuses = new Counter(of('weft_controller_source_statuses_total', 'Statuses written back.', 'kind'));
    this.written = new Counter(of('weft_controller_source_writes_total', 'Objects of the source written to etcd or deleted there.'));
  }

  answers(source: string, path: string, isUp: boolean): void {
    const paths = this.#paths.get(source) ?? new Set();
    this.#paths.set(source, paths.add(path));
    this.#up.set({ source, path }, isUp ? 1 : 0);
  }

  /** It is no longer asked for. */
  forget(source: string, path: string): void {
    if (this.#paths.get(source)?.delete(path) === true) this.#up.remove({ source, path });
  }

  /** Another replica reads it. */
  forgetAll(source: string): void {
    for (const path of [...(this.#paths.get(source) ?? [])]) this.forget(source, path);
  }
}

export class ControllerMetrics {
  readonly registry = new Registry();
  readonly sources = new SourceMetrics(this.registry);
  readonly revision = this.#gauge('weft_controller_model_revision', 'Store revision of the compiled model.');
  readonly storeRevision = this.#gauge('weft_controller_store_revision', 'Newest store revision seen.');
  readonly etcdUp = this.#gauge('weft_controller_etcd_up', '1 while etcd answers.');
  readonly resources = this.#gauge('weft_controller_resources', 'Resources of the compiled model.');
  readonly problems = this.#gauge('weft_controller_problems', 'References and other things in valid objects that fit nothing.');
  readonly connectedNodes = this.#gauge('weft_controller_connected_nodes', 'Nodes with a discovery stream at this replica.');
  readonly liveNodes = this.#gauge('weft_controller_live_nodes', 'Nodes whose lease lives, at any replica.');
  readonly rejectedResources = new Gauge({
    name: 'weft_controller_rejected_resources',
    help: 'Resources a node refuses still.',
    labelNames: ['node'],
    registers: [this.registry],
  });
  readonly instances = this.#gauge('weft_controller_instances', 'Instances that registered themselves, on any node.');
  readonly failingEndpoints = this.#gauge('weft_controller_failing_endpoints', 'Endpoints that fail their active checks.');
  readonly registryWatches = this.#gauge('weft_controller_registry_watches', 'Who waits for a change of the registry at this replica.');
  readonly calls = new Counter({
    name: 'weft_controller_calls_total',
    help: 'Calls that were let in and have ended, by gRPC status.',
    labelNames: ['method', 'code'],
    registers: [this.registry],
  });
  readonly refusedCalls = new Counter({
    name: 'weft_controller_refused_calls_total',
    help: 'Calls refused before their service saw them: unauthenticated, unready, role, rate, concurrency, metadata.',
    labelNames: ['method', 'reason'],
    registers: [this.registry],
  });
  readonly joins = new Counter({
    name: 'weft_controller_node_certificates_total',
    help: 'Certificates of nodes signed: by a join token, a Kubernetes token, or the certificate before.',
    labelNames: ['by'],
    registers: [this.registry],
  });
  readonly pushes = this.#counter('weft_controller_pushes_total', 'Deltas and snapshots sent, over all streams.');
  readonly encodings = this.#counter(
    'weft_controller_push_encodings_total',
    'Deltas and snapshots encoded; each is shared by all streams that need it.',
  );
  readonly registrations = this.#counter('weft_controller_registration_failures_total', 'Times a node stopped being written to etcd.');
  readonly pushSeconds = this.#histogram('weft_controller_push_seconds', 'From handing a push to the transport to its ack.');
  readonly compileFailures = this.#counter(
    'weft_controller_compile_failures_total',
    'Compilations that failed by a bug; nodes kept the last model.',
  );
  readonly compileSeconds = this.#histogram('weft_controller_compile_seconds', 'One compilation of the whole model.');

  constructor() {
    collectDefaultMetrics({ register: this.registry });
  }

  #gauge(name: string, help: string): Gauge {
    return new Gauge({ name, help, registers: [this.registry] });
  }

  #counter(name: string, help: string): Counter {
    return new Counter({ name, help, registers: [this.registry] });
  }

  #histogram(name: string, help: string): Histogram {
    const buckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];
    return new Histogram({ name, help, buckets, registers: [this.registry] });
  }
}
