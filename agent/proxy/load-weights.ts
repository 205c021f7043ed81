// What endpoints' own reports of their load (ORCA) make of their weights: which are heeded, from when on and for how long (gRFC A58). On the main
// thread, once an update period; the reports themselves are heard by the workers (EndpointStates.hear).
import type { LoadWeights as LoadWeightsPolicy } from '../../api/gen/mesh/v1/model.js';
import type { EndpointStates } from './endpoint-states.js';
import { asksForReports } from './tables/balancers.js';
import type { Cluster } from './tables/clusters.js';

/** A58's least. */
const MIN_UPDATE_MS = 100;

interface Reporter {
  policy: LoadWeightsPolicy;
  /** Of the first report since there was none that counts, µs; 0: there is none. */
  sinceUs: number;
}

export class LoadWeights {
  private readonly reporters = new Map<number, Reporter>();
  private timer: NodeJS.Timeout | null = null;
  private updateMs = 0;

  constructor(
    private readonly states: EndpointStates,
    /** Engine.clock. */
    private readonly nowUs: () => number,
  ) {}

  /** `clusters`: all of a generation, variants too. Of two that share an endpoint the last one's policy holds for it. */
  configure(clusters: readonly Cluster[]): void {
    const wanted = new Map<number, LoadWeightsPolicy>();
    for (const { policy, endpoints } of clusters) {
      const policyOfWeights = policy?.loadBalancing?.weights;
      if (policyOfWeights === undefined || !asksForReports(policy?.loadBalancing)) continue;
      for (const { id } of endpoints) if (id >= 0) wanted.set(id, policyOfWeights);
    }
    const dropped = [...this.reporters.keys()].filter((id) => !wanted.has(id));
    for (const id of dropped) {
      this.reporters.delete(id);
      // What it said when somebody asked last says nothing when somebody asks again.
      this.states.reportedUs[id] = 0;
    }
    this.states.setLoadWeights(dropped.map((id) => [id, 0]));
    for (const [id, policy] of wanted) {
      this.states.errorPenalty[id] = policy.errorPenalty;
      this.reporters.set(id, { policy, sinceUs: this.reporters.get(id)?.sinceUs ?? 0 });
    }
    this.repeat(Math.min(...[...wanted.values()].map(({ updateMs }) => Math.max(MIN_UPDATE_MS, updateMs))));
  }

  stop(): void {
    this.repeat(Number.POSITIVE_INFINITY);
  }

  sweep(): void {
    const nowUs = this.nowUs();
    this.states.setLoadWeights([...this.reporters].map(([id, reporter]) => [id, this.weightOf(id, reporter, nowUs)]));
  }

  private weightOf(id: number, reporter: Reporter, nowUs: number): number {
    const { policy } = reporter;
    const reportedUs = this.states.reportedUs[id]!;
    if (reportedUs === 0 || nowUs - reportedUs >= policy.expirationMs * 1_000) {
      reporter.sinceUs = 0;
      return 0;
    }
    if (reporter.sinceUs === 0) reporter.sinceUs = reportedUs;
    return nowUs - reporter.sinceUs < policy.blackoutMs * 1_000 ? 0 : this.states.reportedWeight[id]!;
  }

  /** Infinite: never again. */
  private repeat(updateMs: number): void {
    if (updateMs === this.updateMs) return;
    if (this.timer !== null) clearInterval(this.timer);
    this.updateMs = updateMs;
    this.timer = Number.isFinite(updateMs) ? setInterval(() => this.sweep(), updateMs).unref() : null;
  }
}
