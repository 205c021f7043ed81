import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { Resource } from '../../api/gen/mesh/v1/discovery.js';
import { EndpointHealth, HttpRoute, LoadBalancing_Algorithm, PathMatch_Type, Protocol, ResourceType } from '../../api/gen/mesh/v1/model.js';
import { CompletionKind, DecisionFlag } from '../native/engine.js';
import { EDGE_WORDS, SERIES_SUMS, SERIES_WORDS } from './metrics/cells.js';
import { FIRST_GATEWAY_LISTENER } from './tables/gateway-ports.js';
import { Reply } from './tables/layout.js';
import {
  backend,
  balanced,
  compiled,
  connectionRoute,
  endpoint,
  listener,
  modelOf,
  newIds,
  route,
  service,
  toGateway,
  toService,
  workload,
} from './testing/models.js';
import { TestProxy, type TestRequest } from './testing/requests.js';
import { randoms } from './testing/statistics.js';

const OUTBOUND = 0;
const OUTBOUND6 = 1;
const INBOUND = 2;
const GATEWAY = FIRST_GATEWAY_LISTENER;
const catalog: TestRequest = { listener: OUTBOUND, destination: ['10.0.0.1', 80], source: '10.1.0.9' };
const shop = [
  service('catalog', '10.0.0.1'),
  service('v1', '10.0.0.2'),
  service('v2', '10.0.0.3'),
  endpoint('catalog', 'a', '10.1.0.1'),
  endpoint('v1', 'a', '10.1.1.1', { workload: 'shop/v1-a' }),
  endpoint('v2', 'a', '10.1.2.1', { workload: 'shop/v2-a' }),
  workload('cart', { addresses: ['10.1.0.9'], node: 'a', capture: { outbound: true } }),
];
const deliver = DecisionFlag.BindClient | DecisionFlag.MarkDeliver;
const inject = DecisionFlag.BindClient | DecisionFlag.MarkInject;

function addressOf(proxy: ReturnType<typeof compiled>, target: number): string {
  return proxy.spec.endpoints.find(({ id }) => id === target)?.address ?? String(target);
}

describe('outbound', () => {
  test('a service without routes is served by its own endpoints', () => {
    const tables = compiled(modelOf(...shop));
    const decision = new TestProxy(tables).decide(catalog);
    expect(addressOf(tables, decision.target)).toBe('10.1.0.1');
    expect(decision.flags).toBe(inject);
  });

  test('a service with routes answers 404 where none matches', () => {
    const only = route('only', {
      parents: [toService('catalog')],
      rules: [{ matches: [{ path: { value: '/v1' } }], backends: [backend('v1')] }],
    });
    const tables = compiled(modelOf(...shop, only));
    const proxy = new TestProxy(tables);
    expect(proxy.decide({ ...catalog, path: '/other' })).toMatchObject({ target: -404, localReply: Reply.NoRoute });
    expect(addressOf(tables, proxy.decide({ ...catalog, path: '/v1/x' }).target)).toBe('10.1.1.1');
    expect(proxy.decide({ ...catalog, path: '/v10' }).target).toBe(-404);
  });

  test('a tunnel is opened by a rule that names CONNECT, and by nothing else', () => {
    const any = route('any', { parents: [toService('v1')], rules: [{ backends: [backend('v1')] }] });
    const named = route('named', { parents: [toService('v2')], rules: [{ matches: [{ method: 'CONNECT' }], backends: [backend('v2')] }] });
    const tables = compiled(modelOf(...shop, any, named));
    const proxy = new TestProxy(tables);
    const connect = { ...catalog, method: 'CONNECT' };
    expect(proxy.decide(connect)).toMatchObject({ target: -404, localReply: Reply.NoRoute });
    expect(proxy.decide({ ...connect, destination: ['10.0.0.2', 80] }).target).toBe(-404);
    expect(addressOf(tables, proxy.decide({ ...connect, destination: ['10.0.0.3', 80] }).target)).toBe('10.1.2.1');
    expect(proxy.decide({ ...catalog, destination: ['10.0.0.3', 80] }).target).toBe(-404);
  });

  test('an endpoint of a captured workload on this node is delivered to, any other is injected towards', () => {
    const here = workload('v1-a', { addresses: ['10.1.1.1'], node: 'a', capture: { inbound: true } });
    const there = workload('v2-a', { addresses: ['10.1.2.1'], node: 'b', capture: { inbound: true } });
    const proxy = new TestProxy(compiled(modelOf(...shop, here, there)));
    expect(proxy.decide({ ...catalog, destination: ['10.0.0.2', 80] }).flags).toBe(deliver);
    expect(proxy.decide({ ...catalog, destination: ['10.0.0.3', 80] }).flags).toBe(inject);
    expect(proxy.decide({ ...catalog, destination: ['10.1.1.1', 8080] })).toMatchObject({ target: -1, flags: deliver });
  });

  test('a client gets endpoints of its own IP version, and others where there are none', () => {
    const both = service('both', '10.0.0.5', { addresses: ['10.0.0.5', 'fd96::5'] });
    const four = service('four', '10.0.0.6', { addresses: ['10.0.0.6', 'fd96::6'] });
    const endpoints = [endpoint('both', 'a', '10.1.5.1'), endpoint('both', 'b', 'fd01:5::1'), endpoint('four', 'a', '10.1.6.1')];
    const tables = compiled(modelOf(...shop, both, four, ...endpoints));
    const proxy = new TestProxy(tables);
    const chosen = (address: string, listener: number) =>
      new Set(
        Array.from({ length: 8 }, randoms(1)).map((random) =>
          addressOf(tables, proxy.decide({ listener, destination: [address, 80], random }).target),
        ),
      );
    expect([...chosen('10.0.0.5', OUTBOUND)]).toEqual(['10.1.5.1']);
    expect([...chosen('fd96::5', OUTBOUND6)]).toEqual(['fd01:5::1']);
    expect([...chosen('fd96::6', OUTBOUND6)]).toEqual(['10.1.6.1']);
  });

  test('a client is known by its addresses of both IP versions', () => {
    const client = workload('dual', { addresses: ['fd01::9', '10.1.0.8', '10.1.0.7'], node: 'a' });
    const { sources, sourceTwins } = compiled(modelOf(...shop, client)).spec;
    const twins = Object.fromEntries(sources.map((address, index) => [address, sources[sourceTwins[index]!] ?? null]));
    expect(twins).toEqual({ '10.1.0.9': null, 'fd01::9': '10.1.0.8', '10.1.0.8': 'fd01::9', '10.1.0.7': 'fd01::9' });
  });

  test('an unknown destination is passed on as it is', () => {
    const proxy = new TestProxy(compiled(modelOf(...shop)));
    expect(proxy.decide({ ...catalog, destination: ['192.0.2.1', 443], opaque: true })).toMatchObject({
      target: -1,
      flags: inject,
      localReply: -1,
    });
  });

  test('an opaque connection to a service goes to one of its endpoints', () => {
    const tcp = service('db', '10.0.0.9', { ports: [{ name: 'http', port: 5432, protocol: Protocol.TCP }] });
    const tables = compiled(modelOf(...shop, tcp, endpoint('db', 'a', '10.1.9.1')));
    expect(tables.spec.destinations.find(({ port }) => port === 5432)?.protocol).toBe('opaque');
    const decision = new TestProxy(tables).decide({ ...catalog, destination: ['10.0.0.9', 5432], opaque: true });
    expect(addressOf(tables, decision.target)).toBe('10.1.9.1');
  });

  test('without a ready endpoint the answer is 503, without a valid backend 500', () => {
    const gone = route('gone', { parents: [toService('catalog')], rules: [{ backends: [{ service: '', port: 80, weight: 1 }] }] });
    const draining = endpoint('empty', 'a', '10.1.8.1', { health: EndpointHealth.DRAINING });
    const proxy = new TestProxy(compiled(modelOf(...shop, gone, service('empty', '10.0.0.8'), draining)));
    expect(proxy.decide({ ...catalog, destination: ['10.0.0.8', 80] })).toMatchObject({ target: -503, localReply: Reply.NoEndpoint });
    expect(proxy.decide(catalog)).toMatchObject({ target: -500, localReply: Reply.NoBackend });
  });

  test('endpoints that fail their checks get nothing while another one is ready, and all when none is; unready ones never', () => {
    const failing = (id: string, address: string, sourceHealth = EndpointHealth.READY) =>
      endpoint('checked', id, address, {
        health: EndpointHealth.UNHEALTHY,
        check: { node: 'n', sourceHealth, failing: true, detail: 'HTTP 503' },
      });
    const checked = service('checked', '10.0.0.7');
    const unready = failing('c', '10.1.7.3', EndpointHealth.UNHEALTHY);
    const chosen = (...endpoints: ReturnType<typeof endpoint>[]) => {
      const tables = compiled(modelOf(...shop, checked, ...endpoints));
      const proxy = new TestProxy(tables);
      const addresses = Array.from({ length: 8 }, randoms(1)).map((random) =>
        addressOf(tables, proxy.decide({ ...catalog, destination: ['10.0.0.7', 80], random }).target),
      );
      return [...new Set(addresses)].sort();
    };
    const two = [failing('a', '10.1.7.1'), failing('b', '10.1.7.2'), unready];
    expect(chosen(...two, endpoint('checked', 'd', '10.1.7.4'))).toEqual(['10.1.7.4']);
    expect(chosen(...two)).toEqual(['10.1.7.1', '10.1.7.2']);
  });
});

test('inbound traffic is delivered to where it was going', () => {
  const proxy = new TestProxy(compiled(modelOf(...shop)));
  expect(proxy.decide({ listener: INBOUND, destination: ['10.1.1.1', 8080] })).toMatchObject({ target: -1, flags: deliver });
  expect(proxy.decide({ listener: INBOUND, destination: ['10.1.1.1', 9], opaque: true })).toMatchObject({ target: -1, flags: deliver });
});

describe('gateway', () => {
  const byHost = (name: string, hostnames: string[], to: string, section = '') =>
    route(name, { hostnames, parents: [toGateway('edge', section)], rules: [{ backends: [backend(to)] }] });

  test('the most specific hostname wins, and nothing is bound to the client', () => {
    const tables = compiled(
      modelOf(
        ...shop,
        listener('edge', 'web', 8080),
        byHost('any', [], 'catalog'),
        byHost('wild', ['*.example.com'], 'v1'),
        byHost('exact', ['a.example.com'], 'v2'),
      ),
      null,
    );
    const proxy = new TestProxy(tables);
    const to = (host: string) => addressOf(tables, proxy.decide({ listener: GATEWAY, host }).target);
    expect([to('a.example.com'), to('b.example.com'), to('x.b.example.com'), to('example.com'), to('')]).toEqual([
      '10.1.2.1',
      '10.1.1.1',
      '10.1.1.1',
      '10.1.0.1',
      '10.1.0.1',
    ]);
    expect(proxy.decide({ listener: GATEWAY, host: 'a.example.com' }).flags).toBe(0);
  });

  test('a request belongs to the listener with the most specific hostname and sees no other listener’s routes', () => {
    const tables = compiled(
      modelOf(
        ...shop,
        listener('edge', 'all', 8080),
        listener('edge', 'wild', 8080, '*.example.com'),
        byHost('all', [], 'catalog', 'all'),
        byHost('some', ['a.example.com', 'b.test'], 'v1', 'wild'),
      ),
      null,
    );
    expect(tables.listeners).toHaveLength(1);
    const proxy = new TestProxy(tables);
    const to = (host: string) => addressOf(tables, proxy.decide({ listener: GATEWAY, host }).target);
    expect([to('a.example.com'), to('c.example.com'), to('b.test')]).toEqual(['10.1.1.1', '-404', '10.1.0.1']);
  });

  test('conditions on path, method, headers and query are tried in Gateway API order', () => {
    const rule = (to: string, match: object) => ({ matches: [match], backends: [backend(to)] });
    const rules = [
      rule('catalog', { path: { value: '/a' } }),
      rule('v1', { path: { value: '/a' }, headers: [{ name: 'x-canary', value: 'yes' }] }),
      rule('v2', { path: { value: '/a' }, method: 'POST' }),
      rule('v2', { path: { type: PathMatch_Type.EXACT, value: '/a/exact/' } }),
      rule('v1', { path: { type: PathMatch_Type.EXACT, value: '/a/exact' } }),
      rule('v1', { path: { value: '/a' }, method: 'PROPFIND', query: [{ name: 'q', value: '1' }] }),
    ];
    const tables = compiled(modelOf(...shop, listener('edge', 'web', 8080), route('r', { parents: [toGateway('edge')], rules })), null);
    const proxy = new TestProxy(tables);
    const to = (request: Partial<TestRequest>) => addressOf(tables, proxy.decide({ listener: GATEWAY, ...request }).target);
    expect(to({ path: '/a' })).toBe('10.1.0.1');
    expect(to({ path: '/a/', headers: { 'x-canary': 'yes' } })).toBe('10.1.1.1');
    expect(to({ path: '/a', headers: { 'x-canary': 'yes' }, method: 'POST' })).toBe('10.1.2.1');
    expect(to({ path: '/a/exact' })).toBe('10.1.1.1');
    expect(to({ path: '/a/exact/' })).toBe('10.1.2.1');
    expect(to({ path: '/a/exact/x' })).toBe('10.1.0.1');
    expect(to({ path: '/a', method: 'PROPFIND', query: { q: '1' } })).toBe('10.1.1.1');
    expect(to({ path: '/b' })).toBe('-404');
  });
});

describe('balancing', () => {
  const of = (algorithm: LoadBalancing_Algorithm, weights: number[]) =>
    compiled(
      modelOf(
        service('s', '10.0.0.1', balanced(algorithm)),
        ...weights.map((weight, i) => endpoint('s', `e${i}`, `10.1.0.${i + 1}`, { weight })),
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

describe('generations', () => {
  test('a retry stays with the backend that the split drew', () => {
    const split = route('split', {
      parents: [toService('catalog')],
      rules: [{ backends: [backend('v1', 50), backend('v2', 50)] }],
    });
    const tables = compiled(modelOf(...shop, endpoint('v1', 'b', '10.1.1.2'), endpoint('v2', 'b', '10.1.2.2'), split));
    const proxy = new TestProxy(tables);
    const random = randoms(5);
    for (let i = 0; i < 200; i++) {
      const first = proxy.decide({ ...catalog, random: random() });
      const second = proxy.decide({ ...catalog, attempt: 1, previous: first.target, random: random() });
      expect(addressOf(tables, second.target).slice(0, 7)).toBe(addressOf(tables, first.target).slice(0, 7));
      expect(second.target).not.toBe(first.target);
    }
  });

  test('the old tables decide until a batch of the new generation comes', () => {
    const ids = newIds();
    const model = modelOf(...shop);
    const first = compiled(model, 'a', 1, ids);
    const proxy = new TestProxy(first);
    const block = route('block', { parents: [toService('catalog')], rules: [{ matches: [{ path: { value: '/none' } }] }] });
    model.apply({ full: false, resources: [block], removed: [], revision: 2 });
    const second = compiled(model, 'a', 2, ids);
    proxy.publishLate(second);
    expect(proxy.decide(catalog).target).toBeGreaterThanOrEqual(0);
    expect(proxy.decider.generation).toBe(1);
    proxy.publish(second);
    expect(proxy.decide(catalog).target).toBe(-404);
    expect(proxy.decider.generation).toBe(2);
  });

  test('an endpoint keeps its id while others come and go', () => {
    const ids = newIds();
    const model = modelOf(...shop);
    const before = compiled(model, 'a', 1, ids).spec.endpoints.find(({ address }) => address === '10.1.2.1');
    model.apply({ full: false, resources: [endpoint('catalog', 'b', '10.1.0.2')], removed: [{ type: 2, name: 'shop/v1/a' }], revision: 2 });
    const after = compiled(model, 'a', 2, ids).spec.endpoints;
    expect(after.find(({ address }) => address === '10.1.2.1')).toEqual(before);
    expect(after.map(({ address }) => address).sort()).toEqual(['10.1.0.1', '10.1.0.2', '10.1.2.1']);
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

test('a TLS connection serves the listener of its server name: another listener’s host is 421, a host of none is 404', () => {
  const golden = readFileSync(new URL('../../api/resources/goldens/secrets-and-https.yaml', import.meta.url), 'utf8');
  const pem = (key: string): string => Buffer.from(new RegExp(`tls\\.${key}: (\\S+)`).exec(golden)![1]!, 'base64').toString();
  const https = { protocol: Protocol.HTTPS, tls: { certificates: [{ chain: pem('crt'), key: pem('key') }] } };
  const closed = { protocol: Protocol.HTTPS, tls: { certificates: [] } };
  const model = modelOf(
    ...shop,
    listener('edge', 'a', 443, 'a.test', https),
    listener('edge', 'w', 443, '*.w.test', https),
    listener('edge', 'closed', 443, 'closed.w.test', closed),
    route('r', { parents: [toGateway('edge')], hostnames: [], rules: [{ backends: [backend('v1')] }] }),
    route('x', { parents: [toGateway('edge', 'w')], hostnames: ['x.w.test'], rules: [{ backends: [backend('v2')] }] }),
  );
  const proxy = new TestProxy(compiled(model, null));
  const target = (serverName: string, host: string): number => proxy.decide({ listener: GATEWAY, serverName, host }).target;
  expect(target('a.test', 'a.test')).toBeGreaterThanOrEqual(0);
  // One listener's: its wildcard's certificate is good for each of them.
  expect(target('y.w.test', 'x.w.test')).toBeGreaterThanOrEqual(0);
  expect(target('x.w.test', 'y.w.test')).toBeGreaterThanOrEqual(0);
  expect(proxy.decide({ listener: GATEWAY, serverName: 'x.w.test', host: 'a.test' })).toMatchObject({
    target: -421,
    localReply: Reply.Misdirected,
  });
  expect(target('a.test', 'x.w.test')).toBe(-421);
  expect(target('', 'a.test')).toBe(-421);
  expect(target('a.test', 'other.test')).toBe(-404);
  // Without certificate, but no other listener's.
  expect(target('y.w.test', 'closed.w.test')).toBe(-421);
});

describe('whole connections', () => {
  const tls = (name: string, hostname = '') => listener('edge', name, 443, hostname, { protocol: Protocol.TLS });
  const ask = (tables: ReturnType<typeof compiled>, serverName: string, more: Partial<TestRequest> = {}) => {
    const { target } = new TestProxy(tables).decide({ listener: GATEWAY, opaque: true, serverName, ...more });
    return addressOf(tables, target);
  };

  test('on a gateway the most specific server name wins, then the oldest route; an unknown or missing one is reset', () => {
    const to = (name: string, to: string, serverNames: string[], createdAtMs = 1) =>
      connectionRoute(name, { parents: [toGateway('edge')], serverNames, createdAtMs, backends: [backend(to)] });
    const tables = compiled(
      modelOf(
        ...shop,
        tls('any'),
        to('exact', 'catalog', ['a.shop.test']),
        to('wild', 'v1', ['*.shop.test'], 1),
        to('younger', 'v2', ['*.shop.test', '*.test'], 2),
      ),
    );
    expect(['a.shop.test', 'b.shop.test', 'c.b.shop.test', 'x.test', 'shop.test', 'test', ''].map((name) => ask(tables, name))).toEqual([
      '10.1.0.1',
      '10.1.1.1',
      '10.1.1.1',
      '10.1.2.1',
      '10.1.2.1',
      '-404',
      '-404',
    ]);
  });

  test('a server name belongs to its listener: routes of a more general one do not see it', () => {
    const tables = compiled(
      modelOf(
        ...shop,
        tls('own', '*.own.test'),
        tls('any'),
        connectionRoute('a', { parents: [toGateway('edge', 'own')], serverNames: ['a.own.test'], backends: [backend('v1')] }),
        connectionRoute('b', { parents: [toGateway('edge', 'any')], backends: [backend('v2')] }),
      ),
    );
    expect(['a.own.test', 'b.own.test', 'own.test', ''].map((name) => ask(tables, name))).toEqual([
      '10.1.1.1',
      '-404',
      '10.1.2.1',
      '10.1.2.1',
    ]);
  });

  test('backends are drawn by weight, and one that resolves to nothing resets its share', () => {
    const backends = [backend('v1', 1), { ...backend('v2', 2), service: '' }, backend('v2', 1)];
    const tables = compiled(
      modelOf(
        ...shop,
        listener('edge', 'tcp', 443, '', { protocol: Protocol.TCP }),
        connectionRoute('a', { parents: [toGateway('edge')], backends }),
      ),
    );
    const proxy = new TestProxy(tables);
    const next = randoms(7);
    const counts: Record<string, number> = {};
    for (let i = 0; i < 4000; i++) {
      const { target } = proxy.decide({ listener: GATEWAY, opaque: true, random: next() });
      const key = addressOf(tables, target);
      counts[key] = (counts[key] ?? 0) + 1;
    }
    expect(counts['-503']! / 4000).toBeCloseTo(0.5, 1);
    expect(counts['10.1.1.1']! / 4000).toBeCloseTo(0.25, 1);
  });

  test('in the mesh a route by server name takes what it names, what it does not name is reset', () => {
    const tables = compiled(
      modelOf(
        ...shop,
        service('db', '10.0.0.9', { ports: [{ name: 'db', port: 80, protocol: Protocol.TLS }] }),
        connectionRoute('a', { parents: [toService('db')], serverNames: ['db.test'], backends: [backend('v1')] }),
      ),
    );
    const destination = { listener: OUTBOUND, destination: ['10.0.0.9', 80] as const };
    expect(['db.test', 'other.test', ''].map((name) => ask(tables, name, destination))).toEqual(['10.1.1.1', '-404', '-404']);
    expect(tables.spec.destinations.find(({ address }) => address === '10.0.0.9')?.protocol).toBe('detect-first');
  });

  test('an HTTP route of the same service leaves its connections alone', () => {
    const tables = compiled(modelOf(...shop, route('r', { parents: [toService('catalog')], rules: [{ backends: [backend('v1')] }] })));
    expect(ask(tables, '', { listener: OUTBOUND, destination: ['10.0.0.1', 80] })).toBe('10.1.0.1');
  });
});

describe('detection', () => {
  const raw = (protocol = Protocol.UNSPECIFIED, more: object = {}) =>
    service('raw', '10.0.0.7', { ports: [{ name: 'http', port: 80, protocol, ...more }] });
  const two = [endpoint('raw', 'a', '10.1.7.1'), endpoint('raw', 'b', '10.1.7.2')];
  const protocols = (...resources: Parameters<typeof modelOf>) => {
    const { destinations } = compiled(modelOf(...shop, ...two, ...resources)).spec;
    return ['10.0.0.7', '10.1.7.1'].map((wanted) => destinations.find(({ address }) => address === wanted)?.protocol);
  };
  const tcpRoute = (serverNames: string[]) => connectionRoute('t', { parents: [toService('raw')], serverNames, backends: [backend('v1')] });

  test('is for ports that neither declare their protocol nor have routes, and nothing is dialled ahead where it could be wrong', () => {
    expect(protocols(raw())).toEqual(['detect', 'detect']);
    for (const declared of [Protocol.TCP, Protocol.TLS]) expect(protocols(raw(declared))).toEqual(['opaque', 'opaque']);
    expect(protocols(raw(Protocol.HTTP))).toEqual(['http', 'http']);
    expect(protocols(raw(), route('r', { parents: [toService('raw')], rules: [{ backends: [backend('v1')] }] }))).toEqual(['http', 'http']);
    expect(protocols(raw(), tcpRoute([]))).toEqual(['opaque', 'opaque']);
    expect(protocols(raw(), tcpRoute(['db.test']))).toEqual(['detect-first', 'opaque']);
    expect(protocols(raw(undefined, { tls: { hostname: 'raw.test', trust: 'ca' } }))).toEqual(['detect-first', 'opaque']);
  });

  test('a tentative decision counts as a connection when it is settled, and leaves no load when it is abandoned', () => {
    const proxy = new TestProxy(compiled(modelOf(...shop, raw(), ...two)));
    const ask = { ...catalog, destination: ['10.0.0.7', 80] as const, opaque: true, tentative: true };
    const first = proxy.decide(ask);
    expect([proxy.cells.inFlight[first.target], proxy.cells.opened[first.token]]).toEqual([1, 0]);
    proxy.end(first, CompletionKind.Settled);
    expect([proxy.cells.inFlight[first.target], proxy.cells.opened[first.token]]).toEqual([1, 1]);
    proxy.complete(first, 0, 0, 1, 1, 1);
    const second = proxy.decide(ask);
    proxy.end(second, CompletionKind.Abandoned);
    expect([...proxy.cells.inFlight.subarray(0, 4)]).toEqual([0, 0, 0, 0]);
    expect(proxy.cells.opened[first.token]! + (second.token === first.token ? 0 : proxy.cells.opened[second.token]!)).toBe(1);
  });

  test('the first request goes to the endpoint that was chosen for its connection, unless its route leads elsewhere', () => {
    const tables = compiled(
      modelOf(
        ...shop,
        service('raw', '10.0.0.7', {
          ports: [{ name: 'http', port: 80 }],
          ...balanced(LoadBalancing_Algorithm.ROUND_ROBIN),
        }),
        ...two,
      ),
    );
    const proxy = new TestProxy(tables);
    const ask = { ...catalog, destination: ['10.0.0.7', 80] as const };
    const served = Array.from({ length: 6 }, () => {
      const tentative = proxy.decide({ ...ask, opaque: true, tentative: true });
      const request = proxy.decide({ ...ask, dialled: true, previous: tentative.target });
      expect(request.target).toBe(tentative.target);
      return addressOf(tables, request.target);
    });
    expect(new Set(served.slice(0, 2)).size).toBe(2);
    expect(served.slice(2, 4)).toEqual(served.slice(0, 2));
    const elsewhere = proxy.decide({ ...catalog, dialled: true, previous: proxy.decide(ask).target });
    expect(addressOf(tables, elsewhere.target)).toBe('10.1.0.1');
  });
});

describe('TLS to endpoints', () => {
  const edgeCertificate = () => {
    const made = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=edge', '-keyout', '-'];
    const pem = execFileSync('openssl', made, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    const at = pem.indexOf('-----BEGIN CERTIFICATE');
    return { chain: pem.slice(at), key: pem.slice(0, at) };
  };
  const secured = (tls: object, protocol = Protocol.HTTP) =>
    service('catalog', '10.0.0.1', { ports: [{ name: 'http', port: 80, protocol, tls }] });
  const trusted = { hostname: 'catalog.test', trust: 'ca' };
  const tlsOf = (tables: ReturnType<typeof compiled>, target: number) => tables.spec.endpoints.find(({ id }) => id === target)?.tls;

  test('is for requests; bytes that a captured client sends stay as they are, and the endpoint’s own port is not read', () => {
    const tables = compiled(modelOf(...shop.slice(1), secured(trusted)));
    const proxy = new TestProxy(tables);
    const accepts: never[] = [];
    expect(tlsOf(tables, proxy.decide(catalog).target)).toEqual({ context: 1, serverName: 'catalog.test', accepts });
    expect(tlsOf(tables, proxy.decide({ ...catalog, opaque: true }).target)).toBeNull();
    expect(tables.spec.destinations.find(({ address }) => address === '10.1.0.1')?.protocol).toBe('opaque');
    expect(tables.clusters.map(({ name }) => name)).toEqual(['shop/catalog:80', 'shop/v1:80', 'shop/v2:80']);
  });

  test('on gateways is begun for connections too, but not around TLS that passes through', () => {
    const to = (section: string) => connectionRoute(section, { parents: [toGateway('edge', section)], backends: [backend('catalog')] });
    const tables = compiled(
      modelOf(
        ...shop.slice(1),
        secured(trusted),
        listener('edge', 'passing', 443, '', { protocol: Protocol.TLS }),
        listener('edge', 'tcp', 90, '', { protocol: Protocol.TCP }),
        to('passing'),
        to('tcp'),
      ),
    );
    const proxy = new TestProxy(tables);
    const ids = Object.fromEntries(tables.listeners.map(({ name, sockets }) => [name, sockets[0]!.id]));
    const target = (name: string) => proxy.decide({ listener: ids[name]!, opaque: true }).target;
    expect(tlsOf(tables, target('shop/edge:443'))).toBeNull();
    expect(tlsOf(tables, target('shop/edge:90'))?.serverName).toBe('catalog.test');
  });

  test('on gateways with a certificate for backends shows it, over HTTP/2 too; other gateways and the mesh show none', () => {
    const parents = [toGateway('edge'), toGateway('inner')];
    const grpc = HttpRoute.fromPartial({
      kind: 'GRPCRoute',
      namespace: 'shop',
      name: 'g',
      parents,
      rules: [{ matches: [{ path: { type: PathMatch_Type.PREFIX, value: '/shop.Catalog' } }], backends: [backend('catalog')] }],
    });
    const tables = compiled(
      modelOf(
        ...shop.slice(1),
        secured(trusted),
        listener('edge', 'web', 80, '', { backendCertificate: edgeCertificate() }),
        listener('inner', 'web', 81),
        route('r', { parents, rules: [{ backends: [backend('catalog')] }] }),
        Resource.fromPartial({
          type: ResourceType.HTTP_ROUTE,
          name: 'GRPCRoute/shop/g',
          body: Buffer.from(HttpRoute.encode(grpc).finish()),
        }),
      ),
    );
    const proxy = new TestProxy(tables);
    const ids = Object.fromEntries(tables.listeners.map(({ name, sockets }) => [name, sockets[0]!.id]));
    const contextOf = (ask: Parameters<typeof proxy.decide>[0]) => tlsOf(tables, proxy.decide(ask).target)?.context;
    const found = [
      contextOf(catalog),
      contextOf({ listener: ids['shop/inner:81']! }),
      contextOf({ listener: ids['shop/edge:80']! }),
      contextOf({ listener: ids['shop/inner:81']!, path: '/shop.Catalog/Get' }),
      contextOf({ listener: ids['shop/edge:80']!, path: '/shop.Catalog/Get' }),
    ];
    expect(found[1]).toBe(found[0]);
    expect(new Set(found).size).toBe(4);
    expect(found).not.toContain(undefined);
  });

  test('is that of the gateway’s own namespace, whatever others have, with the certificate for backends or without', () => {
    const edge = listener('edge', 'web', 80, '', { backendCertificate: edgeCertificate() });
    const inner = listener('inner', 'web', 81);
    const own = (tls: object, ports: object) =>
      service('catalog', '10.0.0.1', {
        ports: [{ name: 'http', port: 80, protocol: Protocol.HTTP, ...ports }],
        consumers: [{ namespace: 'shop', policies: [{ policy: { tls } }] }],
      });
    const all = route('r', { parents: [toGateway('edge'), toGateway('inner')], rules: [{ backends: [backend('catalog')] }] });
    const spoken = (...resources: Resource[]) => {
      const tables = compiled(modelOf(...shop.slice(1), ...resources, edge, inner, all));
      const ids = Object.fromEntries(tables.listeners.map(({ name, sockets }) => [name, sockets[0]!.id]));
      const proxy = new TestProxy(tables);
      return ['shop/edge:80', 'shop/inner:81'].map((name) => tlsOf(tables, proxy.decide({ listener: ids[name]! }).target)?.context ?? null);
    };
    expect(spoken(own({}, { tls: trusted }))).toEqual([null, null]);
    const [withCertificate, without] = spoken(own({ tls: trusted }, {}));
    expect([withCertificate, without]).not.toContain(null);
    expect(withCertificate).not.toBe(without);
  });

  test.each([
    ['no trust', { hostname: 'catalog.test' }, 'there is no CA certificate that can be used'],
    ['bad trust', { hostname: 'catalog.test', trust: 'bad' }, 'trust: no PEM certificate in it'],
  ])('with %s nothing is sent', (_, tls, why) => {
    const tables = compiled(modelOf(...shop.slice(1), secured(tls)));
    expect(new TestProxy(tables).decide(catalog)).toMatchObject({ target: -503, localReply: Reply.NoEndpoint });
    expect(tables.warnings).toEqual([`shop/catalog:80 gets no traffic: what is asked for of TLS to it can't be done: ${why}`]);
  });

  test('ids of endpoints outlive a change of what is trusted', () => {
    const ids = newIds();
    const idIn = (trust: string, generation: number): number =>
      new TestProxy(compiled(modelOf(...shop.slice(1), secured({ ...trusted, trust })), 'a', generation, ids)).decide(catalog).target;
    expect(idIn('ca', 1)).toBe(idIn('another', 2));
  });
});

test('backends of a GRPCRoute are spoken to by HTTP/2 whatever their port declares, those of an HTTPRoute beside it as declared', () => {
  const parents = [toGateway('edge')];
  const path = { type: PathMatch_Type.PREFIX, value: '/shop.Catalog' };
  const grpc = HttpRoute.fromPartial({
    kind: 'GRPCRoute',
    namespace: 'shop',
    name: 'r',
    parents,
    rules: [{ matches: [{ path }], backends: [backend('v1')] }],
  });
  const name = 'GRPCRoute/shop/r';
  const tables = compiled(
    modelOf(
      ...shop,
      listener('edge', 'web', 80),
      route('r', { parents, rules: [{ backends: [backend('v1')] }] }),
      Resource.fromPartial({ type: ResourceType.HTTP_ROUTE, name, body: Buffer.from(HttpRoute.encode(grpc).finish()) }),
    ),
  );
  const proxy = new TestProxy(tables);
  const spoken = (path: string) => {
    const { target } = proxy.decide({ listener: GATEWAY, path });
    const found = tables.spec.endpoints.find(({ id }) => id === target);
    return [found?.address, found?.protocol];
  };
  expect(spoken('/shop.Catalog/Get')).toEqual(['10.1.1.1', 'http2']);
  expect(spoken('/')).toEqual(['10.1.1.1', 'http1']);
  expect(tables.routes.map(({ route }) => route)).toEqual(['GRPCRoute/shop/r rule 0', 'shop/r rule 0']);
});
