// Watches memory, descriptors and the workers' event loops, tells each worker ten times a second what to shed, and the operator when that
// changes. Sheds nothing itself: the engine does (native/src/core/overload.h).
import type { Logger } from 'pino';
import { OVERLOAD_REASONS, OverloadLevel } from '../../native/engine.js';
import type { WorkerPool } from '../worker-pool.js';
import { LevelTrigger } from './level.js';
import { descriptors, memory, type Usage } from './resources.js';

const INTERVAL_MS = 100;
/** Memory and descriptors are looked at with every so many: reading the kernel's files is nearly all that a look costs, half a ms. */
const LOOKS_PER_READ = 5;
/** But with each from this part of the first threshold on: what is left can be gone in half a second. */
const NEAR = 0.75;

export interface OverloadThresholds {
  /** Pressure, 0 to 1, of OverloadLevel 1, 2 and 3. */
  readonly levels: readonly number[];
  /** Delay of an event loop that is a pressure of 1. */
  readonly loopDelayMs: number;
}

/** Names of OverloadLevel as metrics have them; the last two are Envoy's. */
const ACTIONS = ['shrink_idle', 'stop_accepting_connections', 'stop_accepting_requests'] as const;
const DONE: Record<OverloadLevel, string> = {
  [OverloadLevel.None]: 'nothing is shed any more',
  [OverloadLevel.ShrinkIdle]: 'closing idle connections, buffering less',
  [OverloadLevel.StopAcceptingConnections]: 'closing idle connections, buffering less, accepting no new connections',
  [OverloadLevel.StopAcceptingRequests]:
    'closing idle connections, buffering less, accepting no new connections, answering new requests 503',
};
type Resource = (typeof OVERLOAD_REASONS)[number];
const ADVICE: Record<Resource, string> = {
  memory: 'raise the memory limit, or lower --max-connections or --max-buffered-bytes',
  descriptors: 'raise RLIMIT_NOFILE (LimitNOFILE=, ulimit -n), or lower --max-connections',
  loop_delay: 'give the proxy more CPU, or --workers as many as it has cores',
};

interface Watched {
  readonly resource: Resource;
  /** Of loop_delay. */
  readonly worker: number | null;
  readonly unit: string;
  readonly trigger: LevelTrigger;
  usage: Usage;
}

/** A resource for the sake of which something is shed. */
export interface Overload {
  readonly resource: Resource;
  readonly worker: number | null;
  readonly pressure: number;
  readonly actions: readonly (typeof ACTIONS)[number][];
  readonly detail: string;
}

export interface OverloadReport {
  readonly pressures: readonly { readonly resource: Resource; readonly worker: number | null; readonly pressure: number }[];
  readonly actions: readonly { readonly action: (typeof ACTIONS)[number]; readonly worker: number; readonly isActive: boolean }[];
}

export class OverloadMonitor {
  private readonly memory: Watched;
  private readonly descriptors: Watched;
  private readonly loops: readonly Watched[];
  private timer: NodeJS.Timeout | null = null;
  private looks = 0;

  constructor(
    private readonly pool: Pick<WorkerPool, 'tellOverload'>,
    workers: number,
    private readonly thresholds: OverloadThresholds,
    private readonly log: Logger,
    private readonly read: { readonly memory: () => Usage; readonly descriptors: () => Usage } = { memory, descriptors },
  ) {
    const watched = (resource: Resource, worker: number | null, unit: string): Watched => ({
      resource,
      worker,
      unit,
      trigger: new LevelTrigger(thresholds.levels),
      usage: { used: 0, limit: 0 },
    });
    this.memory = watched('memory', null, 'bytes');
    this.descriptors = watched('descriptors', null, 'open');
    this.loops = Array.from({ length: workers }, (_, worker) => watched('loop_delay', worker, 'ms'));
  }

  start(): void {
    this.timer = setInterval(() => this.look(performance.now()), INTERVAL_MS);
    this.timer.unref();
  }

  stop(): void {
    if (this.timer !== null) clearInterval(this.timer);
    this.timer = null;
  }

  report(): OverloadReport {
    const pressures = this.all().map((each) => ({ resource: each.resource, worker: each.worker, pressure: pressureOf(each) }));
    const actions = this.loops.flatMap((_, worker) => {
      const { level } = this.levelOf(worker);
      return ACTIONS.map((action, index) => ({ action, worker, isActive: level > index }));
    });
    return { pressures, actions };
  }

  overloads(): Overload[] {
    return this.all()
      .filter(({ trigger }) => trigger.level > OverloadLevel.None)
      .map((each) => ({
        resource: each.resource,
        worker: each.worker,
        pressure: pressureOf(each),
        actions: ACTIONS.slice(0, each.trigger.level),
        detail: `${figureOf(each)}: ${DONE[each.trigger.level]}; ${ADVICE[each.resource]}`,
      }));
  }

  private all(): readonly Watched[] {
    return [this.memory, this.descriptors, ...this.loops];
  }

  /** Once; `nowMs` is monotonic. */
  look(nowMs: number): void {
    const isDue = this.looks++ % LOOKS_PER_READ === 0;
    const near = NEAR * this.thresholds.levels[0]!;
    for (const resource of ['memory', 'descriptors'] as const) {
      if (isDue || pressureOf(this[resource]) >= near) this.update(this[resource], this.read[resource](), nowMs);
    }
    const delays = this.pool.tellOverload((slot) => this.levelOf(slot));
    for (const [worker, delay] of delays.entries()) {
      this.update(this.loops[worker]!, { used: Math.round(delay), limit: this.thresholds.loopDelayMs }, nowMs);
    }
  }

  /** What the worker sheds, and for the sake of which resource: the process's, or its own event loop. */
  private levelOf(worker: number): { level: OverloadLevel; reason: number } {
    const worst = [this.memory, this.descriptors, this.loops[worker]!].reduce((one, other) =>
      other.trigger.level > one.trigger.level ? other : one,
    );
    return { level: worst.trigger.level, reason: OVERLOAD_REASONS.indexOf(worst.resource) };
  }

  private update(watched: Watched, usage: Usage, nowMs: number): void {
    const { trigger, resource, worker } = watched;
    watched.usage = usage;
    const before = trigger.level;
    const level = trigger.update(pressureOf(watched), nowMs);
    if (level === before) return;
    const fields = { resource, worker, ...usage, level };
    if (level > before) this.log.warn(fields, `overload, ${figureOf(watched)}: ${DONE[level]}; ${ADVICE[resource]}`);
    else this.log.info(fields, `overload eases, ${figureOf(watched)}: ${DONE[level]}`);
  }
}

function pressureOf({ usage: { used, limit } }: Watched): number {
  return limit > 0 ? used / limit : 0;
}

function figureOf(watched: Watched): string {
  const { resource, worker, unit, usage } = watched;
  const what = worker === null ? resource : `event loop of worker ${worker}`;
  return `${what}: ${usage.used} of ${usage.limit} ${unit} (${Math.round(pressureOf(watched) * 100)} %)`;
}
