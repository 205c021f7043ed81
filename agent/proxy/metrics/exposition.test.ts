import { expect, test } from '@jest/globals';
import { HISTOGRAM_BUCKETS } from '../../telemetry/histogram.js';
import { BYTE_BUCKETS, Traffic } from './cells.js';
import { istioMetrics } from './exposition.js';
import type { EdgeName, SeriesReport } from './report.js';

const edge = (fields: Partial<EdgeName>): EdgeName => ({
  source: 'unknown',
  service: 'shop/catalog:80',
  workload: 'shop/catalog-1',
  traffic: Traffic.Outbound,
  isTcp: false,
  ...fields,
});

function series(fields: Partial<EdgeName>, count: number): SeriesReport {
  const one = (length: number): Float64Array => new Float64Array(length).fill(count, 3, 4);
  return {
    edge: edge(fields),
    ...{ status: 200, reason: '', grpcStatus: -1, count, durationUs: count * 1_000, receivedBytes: count, sentBytes: count },
    ...{ durations: one(HISTOGRAM_BUCKETS), receivedBuckets: one(BYTE_BUCKETS), sentBuckets: one(BYTE_BUCKETS) },
  };
}

test('what has the same labels is one sample: ports of a service, calls through a gateway and beside it', () => {
  const same = [{}, { service: 'shop/catalog:8080' }, { traffic: Traffic.Gateway }];
  const metrics = istioMetrics({
    series: [...same.map((fields) => series(fields, 2)), ...same.map((fields) => series({ ...fields, isTcp: true }, 3))],
    opened: same.map((fields) => ({ edge: edge({ ...fields, isTcp: true }), count: 4 })),
    refusedEdges: 0,
    refusedSeries: 0,
  });
  const samples = metrics.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  const names = samples.map((line) => line.slice(0, line.lastIndexOf(' ')));
  expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([]);
  const valuesOf = (name: string): number[] =>
    samples.filter((line) => line.startsWith(name)).map((line) => Number(line.split(' ').at(-1)));
  expect(valuesOf('istio_requests_total')).toEqual([6]);
  expect(valuesOf('istio_request_duration_milliseconds_sum')).toEqual([6]);
  expect(valuesOf('istio_request_duration_milliseconds_count')).toEqual([6]);
  expect(valuesOf('istio_request_bytes_bucket').at(-1)).toBe(6);
  expect(valuesOf('istio_tcp_connections_opened_total')).toEqual([12]);
  expect(valuesOf('istio_tcp_connections_closed_total')).toEqual([9]);
});

test('the service is the host that clients ask for: of a ServiceEntry its own', () => {
  const services = ['shop/catalog:80', 'shop/api.example.com:443', 'passthrough'];
  const counted = services.map((service) => series({ service }, 1));
  const metrics = istioMetrics({ series: counted, opened: [], refusedEdges: 0, refusedSeries: 0 });
  const found = [...metrics.matchAll(/^istio_requests_total.*destination_service="([^"]*)"/gm)].map(([, host]) => host);
  expect(found).toEqual(['catalog.shop.svc.cluster.local', 'api.example.com', 'passthrough']);
});
