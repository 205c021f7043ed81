// The heartbeat of pods that are captured by address translation: as long as every worker beats, the first one tells each pod's kernel rules
// to live on. All of them listen there, and the kernel does not look which one is alive: without one of them the pods go direct.
import { writeBeat } from '../link/pod-beat.js';
import type { PodBeat, PodBeatStart } from './worker-messages.js';

/** Of the time that a beat holds: at least three have to be missed. */
const BEATS_PER_LIFE = 4;
/** A round of beats goes out in so many parts: a hundred pods in one piece would hold up requests. */
const PARTS = 8;

export class PodHeart {
  /** Of the first worker; empty in the others. */
  private beats: readonly PodBeat[] = [];
  private readonly clocks: Float64Array;
  private readonly timer: NodeJS.Timeout;
  private part = 0;

  constructor(private readonly start: PodBeatStart) {
    this.clocks = new Float64Array(start.beats);
    this.timer = setInterval(() => this.beat(), start.aliveMs / BEATS_PER_LIFE / PARTS);
  }

  /** The kernel does the rest, when no other process beats. Idempotent. */
  stop(): void {
    clearInterval(this.timer);
    this.beats = [];
  }

  /** All of them, in the place of those before; they begin at once. */
  keep(beats: readonly PodBeat[]): void {
    this.beats = beats;
    this.write(0, 1);
  }

  /** Nobody takes our place: direct from now on, rather than refused until the last beat is too long ago. */
  expire(): void {
    for (const { descriptor, isFile, expire } of this.beats) writeBeat(descriptor, isFile, expire);
    this.stop();
  }

  private beat(): void {
    this.clocks[this.start.slot] = nowMs();
    this.part = (this.part + 1) % PARTS;
    this.write(this.part, PARTS);
  }

  private write(first: number, step: number): void {
    const eldest = nowMs() - this.start.aliveMs / 2;
    if (this.beats.length === 0 || this.clocks.some((clock) => clock < eldest)) return;
    for (let i = first; i < this.beats.length; i += step) {
      const { descriptor, isFile, renew } = this.beats[i]!;
      writeBeat(descriptor, isFile, renew);
    }
  }
}

function nowMs(): number {
  return Number(process.hrtime.bigint() / 1_000_000n);
}
