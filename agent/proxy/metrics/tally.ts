// What a proxy has counted, under names that mean the same in another process: so a node's counters go on when one proxy takes the other's
// place. Adds, subtracts, and says in messages what has come in addition; counts nothing itself. Gauges are not in it.
import { z } from 'zod';
import { HISTOGRAM_BUCKETS } from '../../telemetry/histogram.js';
import { BYTE_BUCKETS, MAX_EDGES, MAX_SERIES, SERIES_COUNTS, SERIES_SUMS } from './cells.js';
import type { EdgeName, Report, SeriesReport } from './report.js';
import type { TenantReport } from './tenant-report.js';

const text = z.string().max(1024);
const edge = z.strictObject({
  source: text,
  service: text,
  workload: text,
  traffic: z.number().int().min(1).max(3).nullable(),
  isTcp: z.boolean(),
});
const countedName = z.discriminatedUnion('of', [
  z.strictObject({ of: z.literal('series'), edge, status: z.number().int(), reason: text, grpcStatus: z.number().int() }),
  z.strictObject({ of: z.literal('opened'), edge }),
  /** Edges, series that found no room. */
  z.strictObject({ of: z.literal('refused') }),
  /** Of EngineAddon.counterNames(). */
  z.strictObject({ of: z.literal('engine'), name: text }),
  /** CPU seconds, connections, requests refused, requests refused for buffers. */
  z.strictObject({ of: z.literal('tenant'), name: text }),
]);
type CountedName = z.infer<typeof countedName>;

/** What is counted under a name: index and amount, in turn, of all that is not 0. */
export const counted = z.tuple([countedName, z.array(z.number().min(0)).max(2 * (SERIES_SUMS + SERIES_COUNTS))]);
export type Counted = z.infer<typeof counted>;

const AMOUNTS = { series: SERIES_SUMS + SERIES_COUNTS, opened: 1, refused: 2, engine: 1, tenant: 4 } as const;
/** More than one proxy has: an heir keeps those of workloads that are gone. Beyond, it is "other". */
const MAX_NAMES = 2 * (MAX_EDGES + MAX_SERIES);
const OTHER: EdgeName = { source: 'other', service: 'other', workload: 'other', traffic: null, isTcp: false };

interface Entry {
  readonly name: CountedName;
  readonly amounts: Float64Array;
}

export class Tally {
  private readonly entries = new Map<string, Entry>();

  get isEmpty(): boolean {
    return this.entries.size === 0;
  }

  /** `counters`: of the engine; what they count open is left out. */
  static of(report: Report, counters: ReadonlyMap<string, number>, tenants: readonly TenantReport[]): Tally {
    const tally = new Tally();
    tally.addReport(report);
    for (const [name, value] of counters) if (!name.endsWith('_open')) tally.add({ of: 'engine', name }, [value]);
    for (const { name, cpuSeconds, refusedConnections, refusedRequests, refusedForBuffers } of tenants)
      tally.add({ of: 'tenant', name }, [cpuSeconds, refusedConnections, refusedRequests, refusedForBuffers]);
    return tally;
  }

  addAll(other: Tally): void {
    for (const { name, amounts } of other.entries.values()) this.add(name, amounts);
  }

  addCounted(all: readonly Counted[]): void {
    for (const [name, pairs] of all) {
      const amounts = new Float64Array(AMOUNTS[name.of]);
      for (let at = 0; at + 1 < pairs.length; at += 2) amounts[pairs[at]!] = pairs[at + 1]!;
      this.add(name, amounts);
    }
  }

  /** What has come since `before`; a count that is smaller than then began anew. */
  since(before: Tally): Counted[] {
    return [...this.entries].flatMap(([key, { name, amounts }]): Counted[] => {
      const then = before.entries.get(key)?.amounts;
      const pairs: number[] = [];
      amounts.forEach((now, index) => {
        const was = then?.[index] ?? 0;
        if (now !== was) pairs.push(index, now > was ? now - was : now);
      });
      return pairs.length === 0 ? [] : [[name, pairs]];
    });
  }

  /** Of those in `part` what is in `now` from here on: exactly, where sums of differences are rounded. */
  keep(part: readonly Counted[], now: Tally): void {
    for (const [name] of part) {
      const key = keyOf(name);
      const entry = now.entries.get(key);
      if (entry !== undefined) this.entries.set(key, entry);
    }
  }

  /** `own`, and what is counted here. */
  completed(own: Report): Report {
    if (this.isEmpty) return own;
    const sum = new Tally();
    sum.addReport(own);
    sum.addAll(this);
    const all = [...sum.entries.values()];
    const [refusedEdges = 0, refusedSeries = 0] = sum.amounts({ of: 'refused' });
    return {
      series: all.flatMap(({ name, amounts }) => (name.of === 'series' ? [seriesOf(name, amounts)] : [])),
      opened: all.flatMap(({ name, amounts }) => (name.of === 'opened' ? [{ edge: name.edge, count: amounts[0]! }] : [])),
      refusedEdges,
      refusedSeries,
    };
  }

  completedCounter(name: string, own: number): number {
    return own + (this.amounts({ of: 'engine', name })[0] ?? 0);
  }

  completedTenant(own: TenantReport): TenantReport {
    const [cpuSeconds = 0, connections = 0, requests = 0, forBuffers = 0] = this.amounts({ of: 'tenant', name: own.name });
    return {
      ...own,
      cpuSeconds: own.cpuSeconds + cpuSeconds,
      refusedConnections: own.refusedConnections + connections,
      refusedRequests: own.refusedRequests + requests,
      refusedForBuffers: own.refusedForBuffers + forBuffers,
    };
  }

  private addReport({ series, opened, refusedEdges, refusedSeries }: Report): void {
    for (const one of series) {
      const { edge, status, reason, grpcStatus } = one;
      this.add({ of: 'series', edge, status, reason, grpcStatus }, amountsOf(one));
    }
    for (const { edge, count } of opened) this.add({ of: 'opened', edge }, [count]);
    this.add({ of: 'refused' }, [refusedEdges, refusedSeries]);
  }

  private add(name: CountedName, amounts: ArrayLike<number>): void {
    const entry = this.entries.get(keyOf(name)) ?? this.newEntry(name);
    for (let index = 0; index < entry.amounts.length; index++) entry.amounts[index]! += amounts[index]!;
  }

  private newEntry(wanted: CountedName): Entry {
    const isFull = this.entries.size >= MAX_NAMES;
    const name = isFull ? otherOf(wanted) : wanted;
    const known = isFull ? this.entries.get(keyOf(name)) : undefined;
    const entry = known ?? { name, amounts: new Float64Array(AMOUNTS[name.of]) };
    // "Other" has a place always; of the engine's and the tenants' names there are few.
    if (!isFull || name !== wanted) this.entries.set(keyOf(name), entry);
    return entry;
  }

  private amounts(name: CountedName): Float64Array | readonly number[] {
    return this.entries.get(keyOf(name))?.amounts ?? [];
  }
}

function otherOf(name: CountedName): CountedName {
  if (name.of === 'series') return { of: 'series', edge: OTHER, status: 0, reason: '', grpcStatus: -1 };
  return name.of === 'opened' ? { of: 'opened', edge: OTHER } : name;
}

function keyOf(name: CountedName): string {
  if (name.of === 'refused') return name.of;
  if (name.of === 'engine' || name.of === 'tenant') return `${name.of} ${name.name}`;
  const { source, service, workload, traffic, isTcp } = name.edge;
  const outcome = name.of === 'opened' ? [] : [name.status, name.reason, name.grpcStatus];
  return JSON.stringify([name.of, source, service, workload, traffic, isTcp, ...outcome]);
}

/** As in Cells: the sums, then the counts. */
function amountsOf({ count, durationUs, receivedBytes, sentBytes, durations, receivedBuckets, sentBuckets }: SeriesReport): number[] {
  return [count, durationUs, receivedBytes, sentBytes, ...durations, ...receivedBuckets, ...sentBuckets];
}

function seriesOf(name: Extract<CountedName, { of: 'series' }>, amounts: Float64Array): SeriesReport {
  const [count = 0, durationUs = 0, receivedBytes = 0, sentBytes = 0] = amounts;
  const received = SERIES_SUMS + HISTOGRAM_BUCKETS;
  const { edge, status, reason, grpcStatus } = name;
  return {
    ...{ edge, status, reason, grpcStatus, count, durationUs, receivedBytes, sentBytes },
    durations: amounts.subarray(SERIES_SUMS, received),
    receivedBuckets: amounts.subarray(received, received + BYTE_BUCKETS),
    sentBuckets: amounts.subarray(received + BYTE_BUCKETS),
  };
}
