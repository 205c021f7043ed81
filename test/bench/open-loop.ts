// The load of open-loop.c, as the benches ask for it.
import { type Bed, LOAD_CORE } from './bed.js';
import { Pinned } from './process.js';

export interface OpenLoad {
  readonly port: number;
  readonly host: string;
  /** Requests a second. */
  readonly rate: number;
  readonly connections: number;
  readonly seconds: number;
  readonly routes: number;
  /** Seconds before those, not counted. */
  readonly warm?: number;
  /** Of the first so many what met a stop is left out. */
  readonly cores?: number;
  /** What stands before the command. */
  readonly as?: readonly string[];
}

/** Latencies in µs. */
export interface OpenLoadResult {
  readonly count: number;
  readonly left_out: number;
  readonly errors: number;
  /** Within 5 s after the end; they are in the latencies with the time they waited. */
  readonly unanswered: number;
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
}

export async function openLoad(bed: Bed, load: OpenLoad): Promise<OpenLoadResult> {
  const { port, host, rate, connections, seconds, routes, warm = 1, cores = 0, as = [] } = load;
  const words = [port, host, rate, connections, seconds, routes, warm, cores].map(String);
  return JSON.parse(await new Pinned(LOAD_CORE, [...as, bed.tool('open-loop'), ...words]).result());
}
