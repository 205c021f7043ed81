// What is decided of requests: where they go by route, and from where they are sent; and what tables of another generation change.
import { describe, expect, test } from '@jest/globals';
import { EndpointHealth, PathMatch_Type, Protocol } from '../../api/gen/mesh/v1/model.js';
import { Reply } from './tables/layout.js';
import {
  backend,
  compiled,
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
import { addressOf, catalog, deliver, GATEWAY, INBOUND, inject, OUTBOUND, OUTBOUND6, shop } from './testing/shop.js';
import { randoms } from './testing/statistics.js';

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
