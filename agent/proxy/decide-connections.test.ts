// What is decided of connections: the listener of their server name, where they go whole, and what is dialled while their protocol is looked for.
import { readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { LoadBalancing_Algorithm, Protocol } from '../../api/gen/mesh/v1/model.js';
import { CompletionKind } from '../native/engine.js';
import { Reply } from './tables/layout.js';
import {
  backend,
  balanced,
  compiled,
  connectionRoute,
  endpoint,
  listener,
  modelOf,
  route,
  service,
  toGateway,
  toService,
} from './testing/models.js';
import { TestProxy, type TestRequest } from './testing/requests.js';
import { addressOf, catalog, GATEWAY, OUTBOUND, shop } from './testing/shop.js';
import { randoms } from './testing/statistics.js';

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
