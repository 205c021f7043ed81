// What one worker counts of filters, in shared memory that only it writes and the main thread reads.
import { FILTER_FAILURES, type FilterFailure } from '../../../api/filter/outcome.js';

export const MAX_FILTERS = 256;
const enum Word {
  Calls = 0,
  /** Of the filter's own time, and of the whole wait for it, µs. */
  BusyUs = 1,
  WaitUs = 2,
  Replies = 3,
  /** By FILTER_FAILURES. */
  Failures = 4,
}
const WORDS = Word.Failures + FILTER_FAILURES.length;

export interface FilterCounts {
  calls: number;
  busyUs: number;
  waitUs: number;
  replies: number;
  readonly failures: Record<FilterFailure, number>;
}

export interface FilterReport {
  readonly name: string;
  readonly isRunning: boolean;
  readonly restarts: number;
  readonly heapBytes: number;
  readonly counts: FilterCounts;
}

export class FilterCells {
  static allocate(): SharedArrayBuffer {
    return new SharedArrayBuffer(MAX_FILTERS * WORDS * 8);
  }

  private readonly words: Float64Array;

  constructor(buffer: SharedArrayBuffer) {
    this.words = new Float64Array(buffer);
  }

  /** `busyUs`: -1: unknown. */
  called(slot: number, busyUs: number, waitUs: number): void {
    if (slot < 0) return;
    const at = slot * WORDS;
    this.words[at + Word.Calls]! += 1;
    this.words[at + Word.BusyUs]! += Math.max(0, busyUs);
    this.words[at + Word.WaitUs]! += waitUs;
  }

  replied(slot: number): void {
    if (slot >= 0) this.words[slot * WORDS + Word.Replies]! += 1;
  }

  failed(slot: number, why: FilterFailure): void {
    if (slot >= 0) this.words[slot * WORDS + Word.Failures + FILTER_FAILURES.indexOf(why)]! += 1;
  }

  /** Adds up. */
  addTo(slot: number, counts: FilterCounts): void {
    const at = slot * WORDS;
    counts.calls += this.words[at + Word.Calls]!;
    counts.busyUs += this.words[at + Word.BusyUs]!;
    counts.waitUs += this.words[at + Word.WaitUs]!;
    counts.replies += this.words[at + Word.Replies]!;
    FILTER_FAILURES.forEach((why, index) => {
      counts.failures[why] += this.words[at + Word.Failures + index]!;
    });
  }
}

export function noCounts(): FilterCounts {
  return {
    calls: 0,
    busyUs: 0,
    waitUs: 0,
    replies: 0,
    failures: Object.fromEntries(FILTER_FAILURES.map((why) => [why, 0])) as FilterCounts['failures'],
  };
}

export function without(counts: FilterCounts, base: FilterCounts): FilterCounts {
  const failures = Object.fromEntries(FILTER_FAILURES.map((why) => [why, counts.failures[why] - base.failures[why]]));
  return {
    calls: counts.calls - base.calls,
    busyUs: counts.busyUs - base.busyUs,
    waitUs: counts.waitUs - base.waitUs,
    replies: counts.replies - base.replies,
    failures: failures as FilterCounts['failures'],
  };
}
