// How the endpoint that was chosen is spoken to: TLS, HTTP/2.
import { execFileSync } from 'node:child_process';
import { describe, expect, test } from '@jest/globals';
import { Resource } from '../../api/gen/mesh/v1/discovery.js';
import { HttpRoute, PathMatch_Type, Protocol, ResourceType } from '../../api/gen/mesh/v1/model.js';
import { Reply } from './tables/layout.js';
import { backend, compiled, connectionRoute, listener, modelOf, newIds, route, service, toGateway } from './testing/models.js';
import { TestProxy } from './testing/requests.js';
import { catalog, GATEWAY, shop } from './testing/shop.js';

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
