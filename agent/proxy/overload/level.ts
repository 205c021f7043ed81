// One resource's pressure → what is to be shed, with hysteresis. Pure: time is the caller's.
import { OverloadLevel } from '../../native/engine.js';

/** An action ends when the pressure has been below this part of its threshold for so long. */
const RELEASE = 0.9;
const HOLD_MS = 2_000;

export class LevelTrigger {
  level = OverloadLevel.None;
  /** Since when a lower level would do; null: it would not. */
  private calmSinceMs: number | null = null;

  /** `thresholds`: pressure from which level 1, 2, 3 are active; they don't fall. */
  constructor(private readonly thresholds: readonly number[]) {}

  /** The level from now on. It rises at once. */
  update(pressure: number, nowMs: number): OverloadLevel {
    const wanted = this.reached(pressure, 1);
    if (wanted >= this.level) {
      this.level = wanted;
      this.calmSinceMs = null;
      return this.level;
    }
    const kept = this.reached(pressure, RELEASE);
    if (kept >= this.level) {
      this.calmSinceMs = null;
      return this.level;
    }
    this.calmSinceMs ??= nowMs;
    if (nowMs - this.calmSinceMs < HOLD_MS) return this.level;
    this.level = kept;
    this.calmSinceMs = null;
    return this.level;
  }

  /** Highest level whose threshold, times `part`, the pressure has reached. */
  private reached(pressure: number, part: number): OverloadLevel {
    return this.thresholds.filter((threshold) => pressure >= threshold * part).length;
  }
}
