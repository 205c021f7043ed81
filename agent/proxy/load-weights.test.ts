import { expect, test } from '@jest/globals';
import { LoadBalancing_Algorithm, LoadWeights_Source } from '../../api/gen/mesh/v1/model.js';
import { BalanceReport } from './balance-report.js';
import { LoadWeights } from './load-weights.js';
import { balanceMetrics } from './metrics/exposition.js';
import { compiled, endpoint, modelOf, newIds, service } from './testing/models.js';
import { TestProxy, type TestRequest } from './testing/requests.js';
import { chiSquareRatio, randoms } from './testing/statistics.js';

const { LEAST_REQUEST, RANDOM, ROUND_ROBIN } = LoadBalancing_Algorithm;
const ORCA = { source: LoadWeights_Source.ORCA, blackoutMs: 10_000, expirationMs: 180_000, updateMs: 1_000, errorPenalty: 1 };
const NODE = { source: LoadWeights_Source.NODE };
const request: TestRequest = { listener: 0, destination: ['10.0.0.1', 80], source: '10.1.0.9' };
type Load = readonly [utilization: number, requests: number, errors: number];
const SECOND = 1_000_000;

/** A service with `count` endpoints, and the two threads that weigh them, on one clock. */
class Bench {
  readonly ids = newIds();
  readonly proxy: TestProxy;
  readonly weights: LoadWeights;
  private nowUs = SECOND;
  private generation;

  constructor(
    private readonly algorithm: LoadBalancing_Algorithm,
    private readonly count: number,
    weights: object | null = ORCA,
    fields: readonly Parameters<typeof endpoint>[3][] = [],
  ) {
    this.generation = this.compile(weights, fields);
    this.proxy = new TestProxy(this.generation);
    this.weights = new LoadWeights(this.proxy.states, () => this.nowUs);
    this.configure();
  }

  private compile(weights: object | null, fields: readonly Parameters<typeof endpoint>[3][] = [], number = 1) {
    const policies = [{ policy: { loadBalancing: { algorithm: this.algorithm, ...(weights === null ? {} : { weights }) } } }];
    const endpoints = Array.from({ length: this.count }, (_, index) => endpoint('s', `e${index}`, `10.1.0.${index + 1}`, fields[index]));
    return compiled(modelOf(service('s', '10.0.0.1', { policies }), ...endpoints), 'n1', number, this.ids);
  }

  private configure(): void {
    this.weights.configure([...this.generation.clusters, ...this.generation.variants]);
    // The bench's clock drives it, and no other.
    this.weights.stop();
  }

  republish(weights: object | null): void {
    this.generation = this.compile(weights, [], this.generation.generation + 1);
    this.proxy.publish(this.generation);
    this.configure();
  }

  pass(seconds: number): void {
    this.nowUs += seconds * SECOND;
    this.proxy.nowUs = this.nowUs;
    this.weights.sweep();
  }

  /** Each answers once and says so of itself; undefined: nothing. */
  report(...loads: readonly (Load | undefined)[]): void {
    this.proxy.nowUs = this.nowUs;
    loads.forEach((load, index) => {
      const target = this.idOf(index);
      this.proxy.outstanding[target]! += 1;
      const decision = { ...this.proxy.decide(request), target };
      if (load === undefined) this.proxy.complete(decision, 200, 0, 1_000, 0, 0);
      else this.proxy.completeWithLoad(decision, load);
      this.proxy.outstanding.fill(0);
    });
  }

  counts(requests: number): number[] {
    const random = randoms(7);
    const found = new Array<number>(this.count).fill(0);
    const places = new Map(found.map((_, index) => [this.idOf(index), index]));
    for (let i = 0; i < requests; i++) {
      const decision = this.proxy.decide({ ...request, random: random() });
      found[places.get(decision.target)!]! += 1;
      this.proxy.complete(decision, 200, 0, 1_000, 0, 0);
    }
    return found;
  }

  get balance(): BalanceReport {
    return new BalanceReport(this.generation, this.proxy.states, this.proxy.outstanding);
  }

  get index(): number {
    return this.generation.clusters.findIndex(({ name }) => name === 'shop/s:80');
  }

  private idOf(index: number): number {
    return this.generation.spec.endpoints.find(({ address }) => address === `10.1.0.${index + 1}`)!.id;
  }
}

test('decisions ask for reports where the policy goes by them, and nowhere else', () => {
  const READ_LOAD = 256;
  const asks = (weights: object | null) => new Bench(ROUND_ROBIN, 2, weights).proxy.decide(request).flags & READ_LOAD;
  expect([asks(ORCA), asks(NODE), asks(null)]).toEqual([READ_LOAD, 0, 0]);
});

test('shares are as requests a second by utilization, errors added (random: chi-square, p = 0.001)', () => {
  const bench = new Bench(RANDOM, 3);
  // Of 1, 4 and 2: 100 / 0.5, 400 / 0.5, 400 / (0.5 + 200 / 400).
  bench.report([0.5, 100, 0], [0.5, 400, 0], [0.5, 400, 200]);
  bench.pass(0);
  bench.pass(11);
  expect(chiSquareRatio(bench.counts(14_000), [1, 4, 2])).toBeLessThan(1);
});

test('round robin gives exactly the shares', () => {
  const bench = new Bench(ROUND_ROBIN, 2);
  bench.report([0.2, 100, 0], [0.6, 100, 0]);
  bench.pass(0);
  bench.pass(11);
  expect(bench.counts(400)).toEqual([300, 100]);
});

test('least request heeds them by load: twice as capable, twice as many at once', () => {
  const bench = new Bench(LEAST_REQUEST, 2);
  bench.report([0.25, 100, 0], [0.5, 100, 0]);
  bench.pass(0);
  bench.pass(11);
  const targets = Array.from({ length: 30 }, () => bench.proxy.decide(request).target);
  expect(targets.filter((target) => target === targets[0])).toHaveLength(20);
});

test('reports count after the blackout, as long as they come, and begin anew after they stayed away', () => {
  const bench = new Bench(ROUND_ROBIN, 2);
  const loads: [Load, Load] = [
    [0.2, 100, 0],
    [0.6, 100, 0],
  ];
  bench.report(...loads);
  bench.pass(1);
  bench.pass(8);
  expect(bench.counts(40)).toEqual([20, 20]);
  bench.pass(2);
  expect(bench.counts(40)).toEqual([30, 10]);
  // counts() completes without reports.
  bench.pass(168);
  expect(bench.counts(40)).toEqual([30, 10]);
  bench.pass(2);
  expect(bench.counts(40)).toEqual([20, 20]);
  bench.report(...loads);
  bench.pass(9);
  expect(bench.counts(40)).toEqual([20, 20]);
  bench.report(...loads);
  bench.pass(2);
  expect(bench.counts(40)).toEqual([30, 10]);
});

test('one report of all says nothing; of three endpoints the one without any counts as the median of the others', () => {
  const bench = new Bench(ROUND_ROBIN, 3);
  bench.report([0.1, 100, 0]);
  bench.pass(0);
  bench.pass(11);
  expect(bench.counts(30)).toEqual([10, 10, 10]);
  bench.report([0.1, 100, 0], [0.2, 100, 0]);
  bench.pass(0);
  bench.pass(11);
  expect(bench.counts(50)).toEqual([20, 10, 20]);
});

test('whoever boasts has at most ten times the median, whoever says it is worn out still a tenth', () => {
  const bench = new Bench(ROUND_ROBIN, 3);
  bench.report([1e-6, 1e9, 0], [0.5, 100, 0], [100, 1, 1e9]);
  bench.pass(0);
  bench.pass(11);
  expect(bench.counts(1_110)).toEqual([1_000, 100, 10]);
});

test('what was said under one policy is nothing under the next one that asks', () => {
  const bench = new Bench(ROUND_ROBIN, 2);
  bench.report([0.2, 100, 0], [0.6, 100, 0]);
  bench.pass(0);
  bench.pass(11);
  bench.republish(null);
  expect(bench.counts(40)).toEqual([20, 20]);
  bench.republish(ORCA);
  bench.pass(11);
  expect(bench.counts(40)).toEqual([20, 20]);
});

test('by nodes, weights are what the nodes have idle; of one that says nothing as much as the others on average, of none nothing', () => {
  const idle = (...percents: (number | undefined)[]) => percents.map((nodeIdlePercent) => ({ nodeIdlePercent }));
  expect(new Bench(ROUND_ROBIN, 3, NODE, idle(80, 20, undefined)).counts(150)).toEqual([80, 20, 50]);
  expect(new Bench(ROUND_ROBIN, 2, NODE, idle(95, 0)).counts(200)).toEqual([190, 10]);
  expect(new Bench(ROUND_ROBIN, 2, NODE, idle(undefined, undefined)).counts(20)).toEqual([10, 10]);
  const large = idle(50, 25).map((fields) => ({ ...fields, weight: 1_000_000 }));
  expect(new Bench(ROUND_ROBIN, 2, NODE, large).counts(30)).toEqual([20, 10]);
  expect(new Bench(ROUND_ROBIN, 2, null, idle(80, 20)).counts(20)).toEqual([10, 10]);
});

test('endpoints without reports of their own go by their nodes, until two of them report', () => {
  const bench = new Bench(ROUND_ROBIN, 2, ORCA, [{ nodeIdlePercent: 75 }, { nodeIdlePercent: 25 }]);
  expect(bench.counts(40)).toEqual([30, 10]);
  bench.report([0.6, 100, 0], [0.2, 100, 0]);
  bench.pass(0);
  bench.pass(11);
  expect(bench.counts(40)).toEqual([10, 30]);
});

test('shares and what they follow from are told, in metrics too', () => {
  const bench = new Bench(ROUND_ROBIN, 3, ORCA, [{ nodeIdlePercent: 50 }]);
  const told = (): (readonly [string, string])[] =>
    [...bench.balance.weights(bench.index).values()].map(({ share, source }) => [share.toFixed(2), source]);
  expect(told()).toEqual([
    ['0.33', 'node'],
    ['0.33', 'node'],
    ['0.33', 'node'],
  ]);
  bench.report([0.2, 100, 0], [0.2, 100, 0]);
  bench.pass(0);
  bench.pass(11);
  expect(told().map(([, source]) => source)).toEqual(['orca', 'orca', 'orca median']);
  const line = 'weft_endpoint_weight_share{cluster="shop/s:80",endpoint="10.1.0.3:8080",source="orca median"} 0.333';
  expect(balanceMetrics(bench.balance)).toContain(line);
  expect(new Bench(ROUND_ROBIN, 2, null).balance.weights(0).size).toBe(0);
});
