// What a proxy tells its heir, and what that makes of it.
import { expect, test } from '@jest/globals';
import { bucketOf, HISTOGRAM_BUCKETS } from '../../telemetry/histogram.js';
import { BYTE_BUCKETS, MAX_EDGES, MAX_SERIES, Traffic } from './cells.js';
import type { EdgeName, Report, SeriesReport } from './report.js';
import { counted, Tally } from './tally.js';
import type { TenantReport } from './tenant-report.js';

function edge(service: string): EdgeName {
  return { source: 'shop/cart', service, workload: 'unknown', traffic: Traffic.Outbound, isTcp: false };
}

/** `count` requests of 10 ms, one byte in and 100 out each. */
function series(service: string, count: number, status = 200): SeriesReport {
  const durations = new Float64Array(HISTOGRAM_BUCKETS);
  const [receivedBuckets, sentBuckets] = [new Float64Array(BYTE_BUCKETS), new Float64Array(BYTE_BUCKETS)];
  durations[bucketOf(10_000)] = count;
  receivedBuckets[0] = count;
  sentBuckets[3] = count;
  const sums = { count, durationUs: count * 10_000, receivedBytes: count, sentBytes: count * 100 };
  return { edge: edge(service), status, reason: '', grpcStatus: -1, ...sums, durations, receivedBuckets, sentBuckets };
}

function reportOf(...all: SeriesReport[]): Report {
  return { series: all, opened: [], refusedEdges: 0, refusedSeries: 0 };
}

function tenant(cpuSeconds: number): TenantReport {
  const refused = { refusedConnections: 1, refusedRequests: 0, refusedForBuffers: 0 };
  return { name: 'shop', connections: 5, requests: 2, bufferedBytes: 10, cpuSeconds, ...refused };
}

const tallyOf = (report: Report, counters: Record<string, number> = {}, tenants: TenantReport[] = []): Tally =>
  Tally.of(report, new Map(Object.entries(counters)), tenants);

/** As it comes out of a message. */
const told = (now: Tally, before = new Tally()) => counted.array().parse(JSON.parse(JSON.stringify(now.since(before))));

test('what two proxies counted under one name becomes one, and the rest stands beside it', () => {
  const heir = new Tally();
  heir.addCounted(
    told(tallyOf({ ...reportOf(series('a', 3), series('b', 1)), opened: [{ edge: edge('tcp'), count: 4 }], refusedEdges: 2 })),
  );
  const { series: all, opened, refusedEdges, refusedSeries } = heir.completed(reportOf(series('a', 2), series('a', 1, 503)));
  expect(all).toHaveLength(3);
  expect(all).toEqual(expect.arrayContaining([series('a', 5), series('a', 1, 503), series('b', 1)]));
  expect(opened).toEqual([{ edge: edge('tcp'), count: 4 }]);
  expect([refusedEdges, refusedSeries]).toEqual([2, 0]);
});

test('only what has come since is told, and nothing when nothing has', () => {
  const before = tallyOf(reportOf(series('a', 3)), { requests: 3, downstream_open: 7 }, [tenant(0.1)]);
  expect(told(before, before)).toEqual([]);
  const now = tallyOf(reportOf(series('a', 3), series('b', 1)), { requests: 4, downstream_open: 1 }, [tenant(0.3)]);
  const heir = new Tally();
  heir.addCounted(told(now, before));
  expect(heir.completed(reportOf()).series).toEqual([series('b', 1)]);
  expect(heir.completedCounter('requests', 10)).toBe(11);
  // What is open is the proxy's own to say.
  expect(heir.completedCounter('downstream_open', 2)).toBe(2);
  expect(heir.completedTenant(tenant(1)).cpuSeconds).toBeCloseTo(1.2);
  expect(heir.completedTenant(tenant(1))).toMatchObject({ connections: 5, refusedConnections: 1 });
});

test('what was told in part is told once, however its sums are rounded', () => {
  const now = tallyOf(reportOf(series('a', 3)), { requests: 3 }, [tenant(0.1 + 0.2)]);
  const [first, ...rest] = told(now) as [ReturnType<typeof told>[0], ...ReturnType<typeof told>];
  const before = new Tally();
  before.keep([first], now);
  expect(told(now, before)).toEqual(rest);
  before.keep(rest, now);
  expect(told(now, before)).toEqual([]);
});

test('a namespace that is made again begins anew, and nothing is taken away for it', () => {
  const heir = new Tally();
  heir.addCounted(told(tallyOf(reportOf(), {}, [tenant(0.25)]), tallyOf(reportOf(), {}, [tenant(5)])));
  expect(heir.completedTenant(tenant(0)).cpuSeconds).toBe(0.25);
});

test('more names than there is room for are one, and none is lost from the sums', () => {
  const heir = new Tally();
  const names = 2 * (MAX_EDGES + MAX_SERIES) + 100;
  for (let i = 0; i < names; i++) heir.addCounted(told(tallyOf(reportOf(series(`s${i}`, 1)))));
  const { series: all } = heir.completed(reportOf());
  expect(all.length).toBeLessThan(names);
  expect(all.reduce((sum, { count }) => sum + count, 0)).toBe(names);
  expect(all.find(({ edge: { service } }) => service === 'other')?.count).toBeGreaterThanOrEqual(100);
});
