// What the main thread writes of endpoints for their balancers (EndpointStates): which are observed, and how cold those are that begin to take
// work. Looks at each generation before it is published; between generations only while some endpoint is in its slow start, and when one comes back.
import { EndpointHealth, type SlowStart } from '../../api/gen/mesh/v1/model.js';
import type { EndpointStates } from './endpoint-states.js';
import type { Cluster } from './tables/clusters.js';
import { Balancing } from './tables/layout.js';

const DEFAULT_DECAY_MS = 10_000;
const DEFAULT_MINIMUM_PERCENT = 10;
const WARM = 65_536;
export const WARMING_INTERVAL_MS = 100;

interface Warming {
  readonly sinceMs: number;
  readonly slowStart: SlowStart;
}

type Known = ReadonlyMap<string, ReadonlySet<number>>;

export class EndpointUpkeep {
  private observed = new Set<number>();
  /** By cluster with a slow start: its ready endpoints. */
  private ready: Known = new Map();
  private readonly warming = new Map<number, Warming>();
  /** Of endpoints that are ready. */
  private slowStarts: ReadonlyMap<number, SlowStart> = new Map();

  constructor(
    private readonly states: EndpointStates,
    /** Monotonic. */
    private readonly nowMs: () => number,
  ) {}

  /** `clusters`: all of the generation that comes, variants too. */
  prepare(clusters: readonly Cluster[]): void {
    this.observe(clusters);
    const ready = new Map<string, ReadonlySet<number>>();
    const slowStarts = new Map<number, SlowStart>();
    for (const { key, policy, endpoints } of clusters) {
      const slowStart = policy?.loadBalancing?.slowStart;
      if (slowStart === undefined) continue;
      const ids = new Set(endpoints.flatMap(({ id, health }) => (id >= 0 && health === EndpointHealth.READY ? [id] : [])));
      ready.set(key, ids);
      const before = this.ready.get(key) ?? new Set<number>();
      for (const id of ids) {
        slowStarts.set(id, slowStart);
        // Where all begin at once nobody is there to take what they don't.
        if (before.size > 0 && !before.has(id)) this.warming.set(id, { sinceMs: this.nowMs(), slowStart });
      }
    }
    this.ready = ready;
    this.slowStarts = slowStarts;
    for (const id of this.warming.keys()) if (!slowStarts.has(id)) this.end(id);
    this.warm();
  }

  /** It was ejected, and takes work again. */
  restart(id: number): void {
    const slowStart = this.slowStarts.get(id);
    if (slowStart === undefined) return;
    this.warming.set(id, { sinceMs: this.nowMs(), slowStart });
    this.warm();
  }

  /** Envoy's slow start: time's part of the window, to the power of 1 / aggression, no less than the minimum. */
  warm(): void {
    const now = this.nowMs();
    for (const [id, { sinceMs, slowStart }] of this.warming) {
      const part = Math.min(1, (now - sinceMs) / Math.max(1, slowStart.windowMs));
      const factor = Math.max((slowStart.minimumPercent ?? DEFAULT_MINIMUM_PERCENT) / 100, part ** (1 / (slowStart.aggression || 1)));
      if (part >= 1) this.end(id);
      else this.states.coldness[id] = Math.min(WARM - 1, Math.round(WARM * (1 - factor)));
    }
  }

  get isWarming(): boolean {
    return this.warming.size > 0;
  }

  private end(id: number): void {
    this.warming.delete(id);
    this.states.coldness[id] = 0;
  }

  private observe(clusters: readonly Cluster[]): void {
    const observed = new Set<number>();
    for (const { balancing, policy, endpoints } of clusters) {
      if (balancing !== Balancing.PeakEwma) continue;
      const decayUs = (policy?.loadBalancing?.decayMs || DEFAULT_DECAY_MS) * 1_000;
      for (const { id } of endpoints) {
        if (id < 0) continue;
        observed.add(id);
        this.states.decayUs[id] = decayUs;
      }
    }
    for (const id of this.observed) if (!observed.has(id)) this.states.decayUs[id] = 0;
    this.observed = observed;
  }
}
