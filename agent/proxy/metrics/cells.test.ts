import { expect, test } from '@jest/globals';
import { HISTOGRAM_BUCKETS } from '../../telemetry/histogram.js';
import { Labels } from '../tables/labels.js';
import { Cells, outcomeOf, SERIES_COUNTS, SERIES_SUMS, SeriesSum, Traffic } from './cells.js';
import { istioMetrics } from './exposition.js';
import { report } from './report.js';

test('buckets count as far as the sums: a busy edge has more than 2³² requests in a few days', () => {
  const cells = new Cells(Cells.allocate());
  const edge = cells.edgeOf(0, 0, 0, Traffic.Outbound * 2);
  const end = (): void => cells.finished(edge, outcomeOf(200, 0, -1), 50, 1, 1);
  end();
  const row = cells.seriesCount - 1;
  const before = 2 ** 32 - 1;
  for (let bucket = 0; bucket < SERIES_COUNTS; bucket++)
    if (cells.counts[row * SERIES_COUNTS + bucket] === 1) cells.counts[row * SERIES_COUNTS + bucket] = before;
  cells.sums[row * SERIES_SUMS + SeriesSum.Count] = before;
  end();
  const metrics = istioMetrics(report([cells], new Labels(16)));
  const buckets = [...metrics.matchAll(/^istio_request_duration_milliseconds_bucket.*le="([^"]*)"} (.*)$/gm)];
  expect(buckets.length).toBeLessThan(HISTOGRAM_BUCKETS);
  expect(new Set(buckets.map(([, , count]) => Number(count)))).toEqual(new Set([2 ** 32]));
});

test('what found no room is never less than nothing', () => {
  const buffer = Cells.allocate();
  const cells = new Cells(buffer);
  for (let source = 1; cells.refusedEdges === 0; source++) cells.edgeOf(source, 0, 0, Traffic.Outbound * 2);
  // Of the head, which is last.
  new Int32Array(buffer, buffer.byteLength - 8)[0] = 2 ** 31 - 1;
  cells.edgeOf(-1, 0, 0, Traffic.Outbound * 2);
  expect(cells.refusedEdges).toBe(2 ** 31);
});
