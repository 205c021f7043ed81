import { expect, test } from '@jest/globals';
import { LoadBalancing_Algorithm } from '../../api/gen/mesh/v1/model.js';
import { BalanceReport } from './balance-report.js';
import { EndpointStates } from './endpoint-states.js';
import { balanceMetrics } from './metrics/exposition.js';
import { compiled, endpoint, modelOf, newIds, service } from './testing/models.js';

function reportOf(panicPercent: number) {
  const policy = { loadBalancing: { algorithm: LoadBalancing_Algorithm.RANDOM, locality: {}, panicPercent } };
  const model = modelOf(
    service('plain', '10.0.0.2'),
    service('s', '10.0.0.1', { policies: [{ policy }] }),
    endpoint('s', 'a', '10.1.0.1', { region: 'eu', zone: 'a' }),
    endpoint('s', 'b', '10.1.0.2', { region: 'eu', zone: 'a' }),
    endpoint('s', 'c', '10.1.0.3', { region: 'us' }),
  );
  const generation = compiled(model, 'n1', 1, newIds(), { region: 'eu', zone: 'a', node: 'n1' });
  const states = new EndpointStates(EndpointStates.allocate());
  const report = new BalanceReport(generation, states, new Int32Array(16));
  const index = generation.clusters.findIndex(({ name }) => name === 'shop/s:80');
  return { report, states, index };
}

test('localities, priorities and loads are told as the workers have them, and follow what becomes unavailable', () => {
  const { report, states, index } = reportOf(0);
  expect([...report.groups(index).values()]).toEqual([
    { group: 0, load: 1 },
    { group: 0, load: 1 },
    { group: 1, load: 0 },
  ]);
  states.setUnavailable(0, true);
  expect(report.localities()).toEqual([
    { cluster: 'shop/s:80', locality: 'eu/a', load: expect.closeTo(0.7, 5) },
    { cluster: 'shop/s:80', locality: 'us', load: expect.closeTo(0.3, 5) },
  ]);
  expect([report.isUnavailable(0), report.isUnavailable(1), report.isUnavailable(-1)]).toEqual([true, false, false]);
  expect(balanceMetrics(report)).toContain('weft_cluster_locality_load{cluster="shop/s:80",locality="us"} 0.3');
});

test('panic is told; a cluster without a policy is in none', () => {
  const { report, states, index } = reportOf(60);
  expect(balanceMetrics(report)).toContain('weft_cluster_panic{cluster="shop/s:80"} 0');
  states.setUnavailable(0, true);
  states.setUnavailable(1, true);
  states.setUnavailable(2, true);
  expect([report.panics(index), report.panics(1 - index)]).toEqual([true, false]);
  expect(balanceMetrics(report)).toContain('weft_cluster_panic{cluster="shop/s:80"} 1');
  expect(balanceMetrics(report)).not.toContain('plain');
});
