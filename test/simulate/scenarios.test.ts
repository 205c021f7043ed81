import { expect, test } from '@jest/globals';
import { adaptiveConcurrency, criticality, ewma, outlier, retryBudget } from './scenarios.js';

test('with one of three endpoints at 20 times the latency, p99 with peak EWMA is at most twice that of healthy ones', () => {
  const { figures } = ewma(0.5);
  expect(figures['p99 peak EWMA / healthy']).toBeLessThanOrEqual(2);
  expect(figures['p99 round robin, ms']).toBeGreaterThan(5 * figures['p99 all healthy, ms']!);
});

test('an endpoint that fails is left out, costs few requests, and has its share when it is well again', () => {
  const { figures } = outlier(0.5);
  expect(figures['failed without, %']).toBeGreaterThan(25);
  expect(figures['failed with outlier detection, %']).toBeLessThan(1);
  expect(figures['share of the endpoint that came back, %']).toBeGreaterThan(25);
});

test('with half of the endpoints failing, retries stay within their budget', () => {
  const { figures } = retryBudget(0.3);
  expect(figures['retries without, % of requests']).toBeGreaterThan(40);
  expect(figures['retries with a budget, % of requests']).toBeLessThanOrEqual(figures['the budget, % of requests']! + 0.5);
  expect(figures['retries with a budget, % of requests']).toBeGreaterThan(15);
});

test('of ten times the load that a service bears so much is shed that it does nine tenths of what it can', () => {
  const { figures } = adaptiveConcurrency(0.25);
  expect(figures['goodput / capacity']).toBeGreaterThanOrEqual(0.9);
  expect(figures['goodput without, 1/s']).toBeLessThan(0.2 * figures['capacity, 1/s']!);
});

test('the less critical are shed first, and nearly nothing of the critical', () => {
  const { figures } = criticality(0.25);
  expect(figures['critical answered, %']).toBeGreaterThan(98);
  expect(figures['sheddable answered, %']).toBeLessThan(5);
  expect(figures['goodput / capacity']).toBeGreaterThanOrEqual(0.85);
});
