// How busy this node is: the CPU time of all its processes, as the kernel counts it, and when that is worth telling. Measures only as long as
// somebody weighs endpoints by it. Does not know what becomes of the figure.
import { readFileSync } from 'node:fs';

/** Of the whole machine, also where the agent is in a container: what a node's endpoints share is all of it. */
const STAT = '/proc/stat';
const SAMPLE_MS = 1_000;
/**
 * Time in which a sample loses 63 % of its weight: weights follow from the figure, and the figure from weights, so faster than this it would
 * swing (agent/registry/node-load.test.ts).
 */
const SMOOTHING_MS = 30_000;
/** Each telling is a revision for the nodes that call what runs here: only a change of so much is told, and no sooner after the last. */
const STEP_PERCENT = 5;
const QUIET_MS = 5_000;

export interface CpuTimes {
  /** In ticks, of all CPUs, since the machine began. */
  readonly idle: number;
  readonly total: number;
}

/** Of the text of /proc/stat; null: it is none. Time that waits for a disk is idle, time that the host of a virtual machine took is not. */
export function cpuTimes(text: string): CpuTimes | null {
  const [, list] = /^cpu +([\d ]+)/.exec(text) ?? [];
  // user nice system idle iowait irq softirq steal; guests' are in user's.
  const ticks = (list ?? '').trim().split(' ').map(Number).slice(0, 8);
  if (ticks.length < 4) return null;
  return { idle: ticks[3]! + (ticks[4] ?? 0), total: ticks.reduce((sum, each) => sum + each, 0) };
}

export interface NodeLoadOptions {
  /** What is told is another figure. */
  onChange(): void;
  readonly read?: () => CpuTimes | null;
  /** Monotonic. */
  readonly nowMs?: () => number;
}

export class NodeLoad {
  readonly #options: NodeLoadOptions;
  #timer: NodeJS.Timeout | null = null;
  #before: CpuTimes | null = null;
  #beforeMs = 0;
  #idle: number | null = null;
  #told: number | null = null;
  #toldMs = 0;

  constructor(options: NodeLoadOptions) {
    this.#options = options;
  }

  /** Of its CPUs, what nobody used of late, as it is to be told; null: not known, or nobody asks. */
  get idlePercent(): number | null {
    return this.#told;
  }

  want(isWanted: boolean): void {
    if (isWanted === (this.#timer !== null)) return;
    if (isWanted) {
      this.#timer = setInterval(() => this.sample(), SAMPLE_MS).unref();
      this.sample();
      return;
    }
    this.close();
    this.#before = this.#idle = this.#told = null;
    this.#options.onChange();
  }

  close(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }

  sample(): void {
    const now = (this.#options.nowMs ?? (() => performance.now()))();
    const times = (this.#options.read ?? readTimes)();
    const before = this.#before;
    const sinceMs = now - this.#beforeMs;
    this.#before = times;
    this.#beforeMs = now;
    if (times === null || before === null || times.total <= before.total) return;
    const sample = Math.min(1, Math.max(0, (times.idle - before.idle) / (times.total - before.total)));
    const kept = Math.exp(-sinceMs / SMOOTHING_MS);
    this.#idle = this.#idle === null ? sample : this.#idle * kept + sample * (1 - kept);
    this.#tell(Math.round(this.#idle * 100), now);
  }

  #tell(percent: number, nowMs: number): void {
    if (this.#told !== null && (Math.abs(percent - this.#told) < STEP_PERCENT || nowMs - this.#toldMs < QUIET_MS)) return;
    this.#told = percent;
    this.#toldMs = nowMs;
    this.#options.onChange();
  }
}

function readTimes(): CpuTimes | null {
  try {
    return cpuTimes(readFileSync(STAT, 'latin1'));
  } catch {
    return null;
  }
}
