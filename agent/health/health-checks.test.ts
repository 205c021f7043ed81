import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import { Endpoint, HealthCheck, Service } from '../../api/gen/mesh/v1/model.js';
import { type CheckedEndpoint, endpointsToCheck, HealthChecks } from './health-checks.js';
import type { ProbeResult } from './probe.js';
import { VerdictState } from './verdict.js';

beforeEach(() => void jest.useFakeTimers());
afterEach(() => void jest.useRealTimers());

const CHECK = HealthCheck.fromPartial({ intervalMs: 1_000, timeoutMs: 100, unhealthyThreshold: 3, healthyThreshold: 2 });
const named = (id: string, check: Partial<Endpoint['check']> = {}, ofService = CHECK): CheckedEndpoint => ({
  name: `shop/catalog/${id}`,
  endpoint: Endpoint.fromPartial({
    service: 'shop/catalog',
    id,
    address: id,
    ports: [{ name: '', port: 80 }],
    check: { node: 'n1', ...check },
  }),
  check: ofService,
});

/** Checks whose results are what `well` says at the time. */
function bench(well: (address: string) => boolean) {
  const changes: string[] = [];
  const probes: string[] = [];
  const checks = new HealthChecks({
    onChange: (name, verdict) => void changes.push(`${name} ${verdict}`),
    probe: (_, { address }) => {
      probes.push(address);
      const result: ProbeResult = well(address) ? { isWell: true } : { isWell: false, detail: 'HTTP 503' };
      return Promise.resolve(result);
    },
    random: () => 0.5,
  });
  return { checks, changes, probes };
}

test('a verdict takes as many results in a row as its threshold says; the first of an unknown one decides', () => {
  const thresholds = { unhealthyThreshold: 3, healthyThreshold: 2 };
  const follow = (start: 'unknown' | 'passing' | 'failing', results: string): string => {
    const state = new VerdictState(start);
    return [...results].map((result) => (state.add(result === '+', thresholds) ? state.verdict[0] : '.')).join('');
  };
  expect(follow('unknown', '-')).toBe('f');
  expect(follow('unknown', '+')).toBe('p');
  expect(follow('passing', '--+---')).toBe('.....f');
  expect(follow('failing', '+-++')).toBe('...p');
});

test('an endpoint that fails is told once, with the reason of the time, and once more when it is well again', async () => {
  let isWell = true;
  const { checks, changes, probes } = bench(() => isWell);
  checks.reconcile([named('10.0.0.1')]);
  await jest.advanceTimersByTimeAsync(5_000);
  expect(changes).toEqual([]);
  isWell = false;
  await jest.advanceTimersByTimeAsync(2_000);
  expect(checks.failing()).toEqual([]);
  await jest.advanceTimersByTimeAsync(5_000);
  expect(changes).toEqual(['shop/catalog/10.0.0.1 failing']);
  expect(checks.failing()).toEqual([{ endpoint: 'shop/catalog/10.0.0.1', detail: 'HTTP 503' }]);
  isWell = true;
  await jest.advanceTimersByTimeAsync(3_000);
  expect(changes).toEqual(['shop/catalog/10.0.0.1 failing', 'shop/catalog/10.0.0.1 passing']);
  expect(probes.length).toBe(15);
  checks.close();
  await jest.advanceTimersByTimeAsync(5_000);
  expect(probes.length).toBe(15);
});

test('an endpoint that answers every other time never changes its verdict', async () => {
  let count = 0;
  const { checks, changes } = bench(() => count++ % 2 === 0);
  checks.reconcile([named('10.0.0.1')]);
  await jest.advanceTimersByTimeAsync(60_000);
  expect(changes).toEqual([]);
});

test('what a restarted agent finds failing goes on failing; endpoints that come later are new', async () => {
  const { checks, changes } = bench(() => false);
  checks.reconcile([named('10.0.0.1', { failing: true, detail: 'before' }), named('10.0.0.2')]);
  expect(checks.failing()).toEqual([{ endpoint: 'shop/catalog/10.0.0.1', detail: 'before' }]);
  checks.reconcile([named('10.0.0.1', { failing: true }), named('10.0.0.2'), named('10.0.0.3')]);
  await jest.advanceTimersByTimeAsync(600);
  expect(changes).toEqual(['shop/catalog/10.0.0.3 failing']);
  await jest.advanceTimersByTimeAsync(3_000);
  expect(changes).toEqual(['shop/catalog/10.0.0.3 failing', 'shop/catalog/10.0.0.2 failing']);
});

test('of many endpoints 64 are asked at a time, and those beyond 5,000 are counted', async () => {
  const settle: (() => void)[] = [];
  let running = 0;
  let most = 0;
  const checks = new HealthChecks({
    onChange: () => {},
    probe: () =>
      new Promise((resolve) => {
        most = Math.max(most, ++running);
        settle.push(() => {
          running--;
          resolve({ isWell: true });
        });
      }),
    random: () => 0,
  });
  checks.reconcile(Array.from({ length: 5_010 }, (_, index) => named(`10.0.${index >> 8}.${index & 255}`)));
  expect(checks.dropped).toBe(10);
  await jest.advanceTimersByTimeAsync(10);
  for (let turn = 0; turn < 200; turn++) {
    for (const one of settle.splice(0)) one();
    await jest.advanceTimersByTimeAsync(1);
  }
  expect(most).toBe(64);
  checks.close();
});

test('a node checks what the model says is its to check, by the endpoint’s own check before its service’s', () => {
  const own = HealthCheck.fromPartial({ intervalMs: 500, timeoutMs: 100 });
  const services = new Map([['shop/catalog', Service.fromPartial({ healthCheck: CHECK })]]);
  const all = [
    named('10.0.0.1'),
    named('10.0.0.2', { node: 'n2' }),
    named('10.0.0.3', { own }),
    named('10.0.0.4', { own: { ...own, intervalMs: 0 } }),
  ];
  const endpoints = new Map([['shop/catalog', new Map(all.map(({ name, endpoint }) => [name, endpoint]))]]);
  expect(endpointsToCheck('n1', services, endpoints).map(({ name, check }) => [name, check.intervalMs])).toEqual([
    ['shop/catalog/10.0.0.1', 1_000],
    ['shop/catalog/10.0.0.3', 500],
  ]);
});
