// Which of several endpoints a request gets, which its retries, and what is counted of it in the end.
import { describe, expect, test } from '@jest/globals';
import { LoadBalancing_Algorithm } from '../../api/gen/mesh/v1/model.js';
import { CompletionKind, DecisionFlag } from '../native/engine.js';
import { EDGE_WORDS, SERIES_SUMS, SERIES_WORDS } from './metrics/cells.js';
import { backend, balanced, compiled, endpoint, modelOf, newIds, route, service, toService } from './testing/models.js';
import { TestProxy } from './testing/requests.js';
import { addressOf, catalog, shop } from './testing/shop.js';
import { randoms } from './testing/statistics.js';

describe('balancing', () => {
  const of = (algorithm: LoadBalancing_Algorithm, weights: number[]) =>
    compiled(
      modelOf(
        service('s', '10.0.0.1', balanced(algorithm)),
        ...weights.map((weight, i) => endpoint('s', `e${i}`, `10.1.${(i + 1) >> 8}.${(i + 1) & 255}`, { weight })),
      ),
    );
  const shares = (tables: ReturnType<typeof of>, requests: number, seed: number, finish = true): Record<string, number> => {
    const proxy = new TestProxy(tables);
    const random = randoms(seed);
    const counts: Record<string, number> = {};
    for (let i = 0; i < requests; i++) {
      const decision = proxy.decide({ ...catalog, random: random() });
      const address = addressOf(tables, decision.target);
      counts[address] = (counts[address] ?? 0) + 1;
      if (finish) proxy.complete(decision, 200, 0, 1000, 0, 0);
    }
    return counts;
  };

  test('a 90/10 split holds within four standard deviations', () => {
    const split = route('split', {
      parents: [toService('catalog')],
      rules: [{ backends: [backend('v1', 90), backend('v2', 10), backend('catalog', 0)] }],
    });
    const tables = compiled(modelOf(...shop, split));
    const requests = 20_000;
    const counts = shares(tables, requests, 7);
    expect(Object.keys(counts).sort()).toEqual(['10.1.1.1', '10.1.2.1']);
    expect(Math.abs(counts['10.1.2.1']! - requests * 0.1)).toBeLessThan(4 * Math.sqrt(requests * 0.1 * 0.9));
  });

  test('round robin takes turns, in exact proportion to the weights', () => {
    expect(shares(of(LoadBalancing_Algorithm.ROUND_ROBIN, [1, 1, 1]), 9, 1)).toEqual({ '10.1.0.1': 3, '10.1.0.2': 3, '10.1.0.3': 3 });
    expect(shares(of(LoadBalancing_Algorithm.ROUND_ROBIN, [5, 1, 2]), 80, 1)).toEqual({ '10.1.0.1': 50, '10.1.0.2': 10, '10.1.0.3': 20 });
  });

  test('random follows the weights within four standard deviations', () => {
    const counts = shares(of(LoadBalancing_Algorithm.RANDOM, [3, 1]), 10_000, 3);
    expect(Math.abs(counts['10.1.0.2']! - 2_500)).toBeLessThan(4 * Math.sqrt(10_000 * 0.25 * 0.75));
  });

  test('weights whose sum is more than 2^31 keep their shares', () => {
    const weights = Array.from({ length: 3_000 }, (_, i) => (i % 2 === 0 ? 1_000_000 : 500_000));
    const counts = shares(of(LoadBalancing_Algorithm.RANDOM, weights), 6_000, 3);
    const heavy = Object.entries(counts).filter(([address]) => Number(address.split('.')[3]) % 2 === 1);
    const sum = heavy.reduce((all, [, count]) => all + count, 0);
    expect(Math.abs(sum - 4_000)).toBeLessThan(4 * Math.sqrt((6_000 * 2) / 9));
    expect(Object.keys(counts).length).toBeGreaterThan(2_000);
  });

  test('least request keeps unfinished work in proportion to the weights, scanning few and sampling many', () => {
    expect(shares(of(LoadBalancing_Algorithm.LEAST_REQUEST, [1, 1, 2]), 40, 5, false)).toEqual({
      '10.1.0.1': 10,
      '10.1.0.2': 10,
      '10.1.0.3': 20,
    });
    const many = Object.values(shares(of(LoadBalancing_Algorithm.LEAST_REQUEST, new Array(20).fill(1)), 2_000, 5, false));
    expect(Math.max(...many) - Math.min(...many)).toBeLessThan(12);
  });

  test('a retry goes elsewhere, at most twice, and the failure is counted against the endpoint', () => {
    for (const algorithm of [LoadBalancing_Algorithm.ROUND_ROBIN, LoadBalancing_Algorithm.RANDOM, LoadBalancing_Algorithm.LEAST_REQUEST]) {
      const tables = of(algorithm, [1, 1]);
      const proxy = new TestProxy(tables);
      const random = randoms(9);
      for (let i = 0; i < 50; i++) {
        const first = proxy.decide({ ...catalog, random: random() });
        expect(first.flags & DecisionFlag.Retry).toBe(DecisionFlag.Retry);
        proxy.end(first, CompletionKind.Failed);
        const second = proxy.decide({ ...catalog, attempt: 1, previous: first.target, random: random() });
        expect(second.target).not.toBe(first.target);
        proxy.end(second, CompletionKind.Failed);
        expect(proxy.decide({ ...catalog, attempt: 2, previous: second.target, random: random() }).flags & DecisionFlag.Retry).toBe(0);
      }
      expect(proxy.cells.endpointErrors[0]! + proxy.cells.endpointErrors[1]!).toBe(100);
    }
  });

  test('attempts go to every endpoint once before any has a second, and then to any', () => {
    for (const algorithm of [LoadBalancing_Algorithm.ROUND_ROBIN, LoadBalancing_Algorithm.RANDOM, LoadBalancing_Algorithm.LEAST_REQUEST]) {
      const proxy = new TestProxy(of(algorithm, [1, 1, 1, 5]));
      const random = randoms(3);
      for (let i = 0; i < 50; i++) {
        const tried: number[] = [];
        while (tried.length < 4) {
          const last = tried.length > 0 ? { previous: tried[tried.length - 1]! } : {};
          tried.push(proxy.decide({ ...catalog, attempt: tried.length, ...last, tried, random: random() }).target);
        }
        expect(new Set(tried).size).toBe(4);
        expect(proxy.decide({ ...catalog, attempt: 4, previous: tried[3]!, tried, random: random() }).target).toBeGreaterThanOrEqual(0);
      }
    }
  });
});

test('a completion is counted on the edge that was decided, with its outcome', () => {
  const tables = compiled(modelOf(...shop));
  const ids = newIds();
  const proxy = new TestProxy(compiled(modelOf(...shop), 'a', 1, ids));
  const decision = proxy.decide({ ...catalog, destination: ['10.0.0.2', 80] });
  proxy.complete(decision, 200, 0, 1500, 120, 5_000_000_000 | 0);
  proxy.complete(proxy.decide({ ...catalog, destination: ['10.0.0.2', 80] }), 502, 3, 2500, 120, 10);
  const { cells } = proxy;
  const edge = decision.token * EDGE_WORDS;
  const names = [...cells.edges.subarray(edge, edge + 3)].map((label) => ids.labels.textOf(label));
  expect(names).toEqual(['shop/cart', 'shop/v1:80', 'shop/v1-a']);
  expect(cells.seriesCount).toBe(3);
  expect([...cells.series.subarray(SERIES_WORDS, SERIES_WORDS * 3)]).toEqual([decision.token, 200 << 8, decision.token, (502 << 8) | 3]);
  expect([...cells.sums.subarray(SERIES_SUMS, SERIES_SUMS + 3)]).toEqual([1, 1500, 120]);
  expect(cells.endpointErrors[decision.target]).toBe(1);
  expect(tables.warnings).toEqual([]);
});

test('gRPC calls that the server failed count as failures of its endpoint, the client’s mistakes do not', () => {
  const proxy = new TestProxy(compiled(modelOf(...shop)));
  const failures = Array.from({ length: 17 }, (_, status) => status).filter((status) => {
    const decision = proxy.decide({ ...catalog, destination: ['10.0.0.2', 80] });
    const before = proxy.cells.endpointErrors[decision.target]!;
    proxy.complete(decision, 200, 0, 1500, 120, 10, status);
    return proxy.cells.endpointErrors[decision.target]! > before;
  });
  expect(failures).toEqual([2, 4, 12, 13, 14, 15]);
});

test('an abandoned decision leaves no load and no failure, a failed attempt leaves a failure', () => {
  const proxy = new TestProxy(compiled(modelOf(...shop)));
  const { cells } = proxy;
  const { target } = proxy.decide(catalog);
  const load = (): number[] => [cells.inFlight[target]!, cells.endpointRequests[target]!, cells.endpointErrors[target]!];
  expect(load()).toEqual([1, 0, 0]);
  proxy.end({ ...proxy.decide(catalog), target }, CompletionKind.Abandoned);
  proxy.end({ ...proxy.decide(catalog), target }, CompletionKind.Failed);
  expect([load()[1], load()[2]]).toEqual([1, 1]);
  expect([...cells.inFlight].reduce((sum, each) => sum + each)).toBe(1);
});
