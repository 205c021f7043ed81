// How a proxy ends: its workers accept no more, its connections end by themselves or are cut at a limit. Says what became of them.
import type { DataPlane } from './data-plane.js';

export interface DrainResult {
  /** Connections that ended by themselves. */
  readonly ended: number;
  readonly cut: number;
}

export class Drain {
  readonly done: Promise<DrainResult>;
  private readonly before: number;
  private cutOff = 0;
  private timer: NodeJS.Timeout | null = null;
  private isDone = false;

  /** `idleMs`: idle connections are closed after that to twice that. */
  constructor(
    private readonly plane: DataPlane,
    idleMs: number,
  ) {
    this.before = plane.openConnections;
    this.done = plane.pool.drain(idleMs).then(() => {
      this.isDone = true;
      if (this.timer !== null) clearTimeout(this.timer);
      return { ended: Math.max(0, this.before - this.cutOff), cut: this.cutOff };
    });
  }

  get open(): number {
    return this.plane.openConnections;
  }

  /** From now; instead of any limit before. */
  limit(ms: number): void {
    if (this.isDone) return;
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = setTimeout(() => this.cut(), ms);
  }

  /** Closes what is open. */
  cut(): void {
    this.cutOff = Math.max(this.cutOff, this.open);
    this.plane.pool.close();
  }
}
