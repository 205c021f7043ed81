// Policies of limits as decisions have them: which requests count for what, and what they are answered.
import { expect, test } from '@jest/globals';
import type { Service } from '../../../api/gen/mesh/v1/model.js';
import { CompletionKind, DecisionFlag } from '../../native/engine.js';
import { EndpointStates } from '../endpoint-states.js';
import { Reply } from '../tables/layout.js';
import { backend, compiled, endpoint, modelOf, route, service, toService, workload } from '../testing/models.js';
import { TestProxy, type TestRequest } from '../testing/requests.js';
import { OVERFLOW } from './gate.js';
import { Resilience } from './resilience.js';
import { ROW_WORDS, Row } from './state.js';

const OUTBOUND = 0;
const INBOUND = 2;
const OVERFLOWN = { target: -503, localReply: Reply.Overflow };

type Policy = NonNullable<NonNullable<Parameters<typeof service>[2]>['policies']>[number]['policy'];
const policed = (policy: Policy) => ({ policies: [{ policy }] }) as Partial<Service>;

function proxyOf(policy: Policy, ...more: Parameters<typeof modelOf>): TestProxy {
  const tables = compiled(
    modelOf(
      service('shop', '10.0.0.1', policed(policy)),
      endpoint('shop', 'a', '10.1.0.1'),
      endpoint('shop', 'b', '10.1.0.2'),
      workload('shop-a', { addresses: ['10.1.0.1'], node: 'a', capture: { outbound: true, inbound: true } }),
      ...more,
    ),
  );
  const proxy = new TestProxy(tables);
  const resilience = new Resilience(proxy.resilience, new EndpointStates(EndpointStates.allocate()), {
    now: () => 0,
    random: () => 0.5,
    onEvent: () => undefined,
  });
  resilience.configure(tables.guarded);
  resilience.stop();
  return proxy;
}

const shop: TestRequest = { listener: OUTBOUND, destination: ['10.0.0.1', 80] };
const inbound: TestRequest = { listener: INBOUND, destination: ['10.1.0.1', 8080] };
const end = (proxy: TestProxy, decision: ReturnType<TestProxy['decide']>): void => proxy.complete(decision, 200, 0, 1_000, 0, 0);

test('a service has no more requests than it may, and is told why', () => {
  const proxy = proxyOf({ circuitBreaker: { maxRequests: 2 } });
  const first = proxy.decide(shop);
  expect(first.flags & DecisionFlag.Prompt).toBe(DecisionFlag.Prompt);
  proxy.decide(shop);
  const refused = proxy.decide(shop);
  expect(refused).toMatchObject(OVERFLOWN);
  expect(refused.token & ~0x7ff).toBe(OVERFLOW);
  end(proxy, first);
  expect(proxy.decide(shop).target).toBeGreaterThanOrEqual(0);
});

test('connections that are not read are no requests', () => {
  const proxy = proxyOf({ circuitBreaker: { maxRequests: 1 } });
  for (let i = 0; i < 3; i++) expect(proxy.decide({ ...shop, opaque: true }).target).toBeGreaterThanOrEqual(0);
});

test('an endpoint that has as many requests as it may is passed over', () => {
  const proxy = proxyOf({ circuitBreaker: { maxEndpointRequests: 2 }, loadBalancing: { algorithm: 2 } });
  const targets = Array.from({ length: 4 }, () => proxy.decide({ ...shop, random: 5 }).target);
  expect(targets.toSorted()).toEqual([targets[0], targets[0], targets[2], targets[2]].toSorted());
  expect(proxy.decide(shop)).toMatchObject(OVERFLOWN);
});

test('a retry beyond the budget is not made, nor allowed to the next attempt', () => {
  const proxy = proxyOf({ circuitBreaker: { maxRetries: 1 } });
  const first = proxy.decide(shop);
  expect(first.flags & DecisionFlag.Retry).toBe(DecisionFlag.Retry);
  proxy.end(first, CompletionKind.Failed);
  const retry = proxy.decide({ ...shop, attempt: 1, previous: first.target });
  expect(retry.target).toBeGreaterThanOrEqual(0);
  const other = proxy.decide(shop);
  expect(other.flags & DecisionFlag.Retry).toBe(0);
  expect(proxy.decide({ ...shop, attempt: 1, previous: other.target })).toMatchObject(OVERFLOWN);
  end(proxy, retry);
  expect(proxy.decide(shop).flags & DecisionFlag.Retry).toBe(DecisionFlag.Retry);
});

test('what comes in for an endpoint here is let in by the service’s admission, the most critical at last refused', () => {
  const criticality = { header: 'x-criticality', values: ['high', 'low'], defaultClass: 1 };
  const proxy = proxyOf({ admission: { maxConcurrency: 4, criticality } });
  const low = Array.from({ length: 3 }, () => proxy.decide(inbound));
  expect(low.map(({ target }) => target)).toEqual([-1, -1, -1]);
  expect(proxy.decide(inbound)).toMatchObject(OVERFLOWN);
  const high = { ...inbound, headers: { 'x-criticality': 'high' } };
  expect(proxy.decide(high).target).toBe(-1);
  expect(proxy.decide(high)).toMatchObject(OVERFLOWN);
  for (const each of low) end(proxy, each);
  expect(proxy.decide(inbound).target).toBe(-1);
  // Of the service as a whole its clients' proxy holds its own.
  expect(proxy.decide(shop).target).toBeGreaterThanOrEqual(0);
});

test('an endpoint of a service that is watched is another one to a service that is not', () => {
  const proxy = proxyOf(
    { outlierDetection: { consecutive5xx: 1, intervalMs: 1, baseEjectionMs: 1, trialRequests: 1 } },
    service('same', '10.0.0.2'),
    endpoint('same', 'a', '10.1.0.1'),
  );
  const watched = new Set(Array.from({ length: 4 }, (_, random) => proxy.decide({ ...shop, random }).target));
  const other = proxy.decide({ listener: OUTBOUND, destination: ['10.0.0.2', 80] });
  expect(watched.has(other.target)).toBe(false);
});

test('a request that a rate limit refuses, or that finds no room, is no trial: the next one is', () => {
  const rateLimits = [{ policy: 'default/shop', name: 'one', target: 'Service/default/shop', requests: 1, perMs: 60_000, burst: 1 }];
  const policy = { outlierDetection: { consecutive5xx: 1, trialRequests: 1 }, circuitBreaker: { maxEndpointRequests: 1 } };
  const tables = compiled(
    modelOf(
      service('shop', '10.0.0.1', { ...policed(policy), rateLimits } as Partial<Service>),
      endpoint('shop', 'a', '10.1.0.1'),
      endpoint('shop', 'b', '10.1.0.2'),
    ),
  );
  const proxy = new TestProxy(tables);
  const states = new EndpointStates(EndpointStates.allocate());
  new Resilience(proxy.resilience, states, { now: () => 0, random: () => 0.5, onEvent: () => undefined }).configure(tables.guarded);
  const first = proxy.decide(shop);
  const row = tables.guarded[0]!.row * ROW_WORDS + Row.Trial;
  proxy.resilience.rows[row] = first.target;
  // It has a request already, and the other endpoint has none.
  expect(proxy.decide(shop).target).toBe(-429);
  expect(proxy.resilience.rows[row]).toBe(first.target);
  end(proxy, first);
  expect(proxy.decide(shop).target).toBe(-429);
  expect(proxy.resilience.rows[row]).toBe(first.target);
});

test('no more endpoints are ejected than may be of those that requests are for, whoever else speaks to them in another way', () => {
  const outlierDetection = { consecutive5xx: 1, intervalMs: 10_000, baseEjectionMs: 30_000, maxEjectionMs: 30_000, maxEjectionPercent: 50 };
  const calls = route('calls', { kind: 'GRPCRoute', parents: [toService('shop')], rules: [{ backends: [backend('shop', 1)] }] });
  const tables = compiled(
    modelOf(
      service('shop', '10.0.0.1', policed({ outlierDetection })),
      ...[1, 2, 3, 4].map((host) => endpoint('shop', `e${host}`, `10.1.0.${host}`)),
      { ...calls, name: 'GRPCRoute/shop/calls' },
    ),
  );
  const proxy = new TestProxy(tables);
  let now = 0;
  const options = { now: () => now, random: () => 0.5, onEvent: () => undefined };
  const resilience = new Resilience(proxy.resilience, proxy.states, options);
  resilience.configure(tables.guarded);
  resilience.stop();
  for (let random = 0; random < 64; random++) {
    const decision = proxy.decide({ ...shop, method: 'POST', random: random * 1_000_003 });
    if (decision.target >= 0) proxy.complete(decision, 200, 0, 1_000, 0, 0, 14);
    now += 20;
    resilience.sweep();
  }
  expect(tables.spec.endpoints.filter(({ id }) => proxy.states.unavailable[id] === 1)).toHaveLength(2);
  expect(proxy.decide(shop).target).toBeGreaterThanOrEqual(0);
});
