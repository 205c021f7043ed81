import { describe, expect, test } from '@jest/globals';
import { CompletionKind, DecisionFlag } from '../native/engine.js';
import { mix } from './pick.js';
import { compiled, endpoint, modelOf, route, service, toService } from './testing/models.js';
import { type TestDecision, TestProxy, type TestRequest } from './testing/requests.js';

const ADDRESS = '10.0.0.1';
const request: TestRequest = { listener: 0, destination: [ADDRESS, 80], host: 's' };

function randoms(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x9e3779b9) | 0;
    return mix(state);
  };
}

type Policy = NonNullable<NonNullable<Parameters<typeof service>[2]>['policies']>[number]['policy'];

const proxyOf = (policy: Policy, endpoints = 3, rules: Parameters<typeof route>[1] | null = null): TestProxy =>
  new TestProxy(
    compiled(
      modelOf(
        service('s', ADDRESS, { policies: [{ policy }] }),
        ...Array.from({ length: endpoints }, (_, i) => endpoint('s', `e${i}`, `10.1.0.${i + 1}`)),
        ...(rules === null ? [] : [route('r', rules)]),
      ),
    ),
  );

describe('second attempts of late requests', () => {
  const hedged = (proxy: TestProxy, first: TestDecision, random = 0): TestDecision =>
    proxy.decide({ ...request, attempt: 1, previous: first.target, hedge: true, random });

  test('are made after a fixed time, elsewhere, and no more of them than the policy allows', () => {
    const proxy = proxyOf({ hedging: { afterMs: 50, maxPartsPerMillion: 100_000 } });
    const random = randoms(1);
    let made = 0;
    for (let i = 0; i < 1_000; i++) {
      const first = proxy.decide({ ...request, random: random() });
      expect(first.hedgeMs).toBe(50);
      const second = hedged(proxy, first, random());
      if (second.target >= 0) {
        made++;
        expect(second.target).not.toBe(first.target);
        expect(second.hedgeMs).toBe(50);
        proxy.end(first, CompletionKind.Abandoned, 60_000);
        proxy.complete(second, 200, 0, 1_000, 0, 0);
      } else proxy.complete(first, 200, 0, 1_000, 0, 0);
    }
    expect(made).toBeGreaterThanOrEqual(99);
    expect(made).toBeLessThanOrEqual(100);
    expect(proxy.outstanding.every((count) => count === 0)).toBe(true);
    expect(proxy.cells.inFlight.every((count) => count === 0)).toBe(true);
  });

  test('after a quiet time there are ten at once, at most', () => {
    const proxy = proxyOf({ hedging: { afterMs: 50, maxPartsPerMillion: 500_000 } });
    const firsts = Array.from({ length: 100 }, () => proxy.decide(request));
    expect(firsts.map((first) => hedged(proxy, first)).filter(({ target }) => target >= 0)).toHaveLength(10);
  });

  test('are for idempotent methods, unless the policy says any', () => {
    const usual = proxyOf({ hedging: { afterMs: 5, maxPartsPerMillion: 1_000_000 } });
    expect(usual.decide({ ...request, method: 'POST' }).hedgeMs).toBe(0);
    expect(usual.decide({ ...request, method: 'PURGE' }).hedgeMs).toBe(0);
    for (const method of ['GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS', 'TRACE']) expect(usual.decide({ ...request, method }).hedgeMs).toBe(5);
    const any = proxyOf({ hedging: { afterMs: 5, maxPartsPerMillion: 1_000_000, anyMethod: true } });
    expect(any.decide({ ...request, method: 'POST' }).hedgeMs).toBe(5);
  });

  test('need another endpoint', () => {
    const alone = proxyOf({ hedging: { afterMs: 5, maxPartsPerMillion: 1_000_000 } }, 1);
    const first = alone.decide(request);
    expect(first.hedgeMs).toBe(0);
    expect(hedged(alone, first).target).toBeLessThan(0);
    const without = proxyOf({});
    expect(without.decide(request).hedgeMs).toBe(0);
    expect(hedged(without, without.decide(request)).target).toBeLessThan(0);
  });

  test('by percentile: once enough was seen, to an eighth; what was slower than another attempt counts with the time it had', () => {
    const proxy = proxyOf({ hedging: { afterPercentile: 95, maxPartsPerMillion: 100_000 } });
    const random = randoms(5);
    for (let i = 0; i < 100; i++) {
      const decision = proxy.decide({ ...request, random: random() });
      expect(decision.hedgeMs).toBe(0);
      // Nine of ten take 10 ms, one 100 ms.
      proxy.complete(decision, 200, 0, i % 10 === 0 ? 100_000 : 10_000, 0, 0);
    }
    const seen: number[] = [];
    for (let i = 0; i < 5_000; i++) {
      const decision = proxy.decide({ ...request, random: random() });
      const isSlow = random() % 10 === 0;
      const second = isSlow && decision.hedgeMs < 100 ? hedged(proxy, decision, random()) : null;
      if (second !== null && second.target >= 0) {
        proxy.end(decision, CompletionKind.Abandoned, decision.hedgeMs * 1_000 + 10_000);
        proxy.complete(second, 200, 0, 10_000, 0, 0);
      } else proxy.complete(decision, 200, 0, isSlow ? 100_000 : 10_000, 0, 0);
      seen.push(decision.hedgeMs);
    }
    expect(Math.min(...seen)).toBeGreaterThanOrEqual(89);
    expect(Math.max(...seen)).toBeLessThanOrEqual(113);
  });
});

describe('retries of a service', () => {
  const retry = { attempts: 4, statuses: [503], connectFailure: true };

  test('are for rules that say nothing of them, with the time of an attempt', () => {
    const proxy = proxyOf({ retries: { retry, attemptTimeoutMs: 70 } });
    const first = proxy.decide(request);
    expect(first.retry).toBeGreaterThanOrEqual(0);
    for (const attempt of [1, 3]) expect(proxy.decide({ ...request, attempt, previous: 0 }).flags & DecisionFlag.Retry).not.toBe(0);
    expect(proxy.decide({ ...request, attempt: 4, previous: 0 }).flags & DecisionFlag.Retry).toBe(0);
  });

  test('a rule of its own goes first', () => {
    const rules = (own: object) => ({
      parents: [toService('s')],
      rules: [{ backends: [{ service: 'shop/s', port: 80, weight: 1 }], ...own }],
    });
    const proxy = proxyOf({ retries: { retry } }, 3, rules({ retry: { attempts: 1 } }));
    expect(proxy.decide({ ...request, attempt: 1, previous: 0 }).flags & DecisionFlag.Retry).toBe(0);
    const silent = proxyOf({ retries: { retry } }, 3, rules({}));
    expect(silent.decide({ ...request, attempt: 3, previous: 0 }).flags & DecisionFlag.Retry).not.toBe(0);
  });

  test('0 attempts turn off those that are made by default', () => {
    expect(proxyOf({ retries: { retry: { attempts: 0 } } }).decide(request).flags & DecisionFlag.Retry).toBe(0);
    expect(proxyOf({}).decide(request).flags & DecisionFlag.Retry).not.toBe(0);
  });
});
