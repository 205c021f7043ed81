// TLSRoutes and TCPRoutes as the model has them, and the ReferenceGrants that they need.
import { describe, expect, test } from '@jest/globals';
import { ResourceType } from '../gen/mesh/v1/model.js';
import { compileModel } from './index.js';
import { CATALOG, gateway, messages, stored } from './testing/manifests.js';

describe('whole connections', () => {
  const kindOf = (kind: string, version: string, name: string, spec: string) =>
    `apiVersion: gateway.networking.k8s.io/${version}\nkind: ${kind}\nmetadata: {name: ${name}, namespace: shop}\nspec: ${spec}`;
  const edge = gateway(
    'listeners: [{name: tls, port: 443, protocol: TLS, hostname: "*.test", tls: {mode: Passthrough}}, {name: tcp, port: 5432, protocol: TCP}]',
  );
  const parents = (section: string) => `parentRefs: [{name: edge, sectionName: ${section}}]`;
  const to = 'rules: [{backendRefs: [{name: catalog, port: 80, weight: 3}]}]';

  test('a TLSRoute of any version and a TCPRoute of the same name become routes of their own', () => {
    const tls = kindOf('TLSRoute', 'v1alpha2', 'db', `{${parents('tls')}, hostnames: [db.test], ${to}}`);
    const tcp = kindOf('TCPRoute', 'v1alpha2', 'db', `{${parents('tcp')}, ${to}}`);
    const { resources, problems } = compileModel({ objects: stored(CATALOG, edge, tls, tcp), running: null });
    expect(problems).toEqual([]);
    expect(resources.filter(({ type }) => type === ResourceType.CONNECTION_ROUTE)).toMatchObject(
      [
        { kind: 'TCPRoute', port: 5432, section: 'tcp', serverNames: [], createdAtMs: 1003 },
        { kind: 'TLSRoute', port: 443, section: 'tls', serverNames: ['db.test'], createdAtMs: 1002 },
      ].map(({ kind, port, section, serverNames, createdAtMs }) => ({
        type: ResourceType.CONNECTION_ROUTE,
        name: `${kind}/shop/db`,
        message: {
          kind,
          namespace: 'shop',
          name: 'db',
          createdAtMs,
          parents: [{ parent: { $case: 'gateway', value: 'shop/edge' }, port, section }],
          serverNames,
          backends: [{ service: 'shop/catalog', port: 80, weight: 3 }],
        },
      })),
    );
  });

  test('a route is not taken by a listener of another protocol or for other names', () => {
    const routes = [
      kindOf('TLSRoute', 'v1alpha2', 'a', `{${parents('tcp')}, ${to}}`),
      kindOf('TCPRoute', 'v1alpha2', 'b', `{${parents('tls')}, ${to}}`),
      kindOf('TLSRoute', 'v1', 'c', `{${parents('tls')}, hostnames: [db.example], ${to}}`),
    ];
    const { problems } = compileModel({ objects: stored(CATALOG, edge, ...routes), running: null });
    expect(problems.map(({ name, message }) => `${name}: ${message}`)).toEqual([
      "a: no listener of Gateway shop/edge allows a route of kind TLSRoute of namespace shop (protocol, allowedRoutes): the route doesn't apply there",
      "c: no hostname of the route is one of a listener of Gateway shop/edge: the route doesn't apply there",
      "b: no listener of Gateway shop/edge allows a route of kind TCPRoute of namespace shop (protocol, allowedRoutes): the route doesn't apply there",
    ]);
  });

  const other = CATALOG.replace('namespace: shop', 'namespace: other');
  const grant = (from: string, to: string, namespace = 'other') =>
    `apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: g, namespace: ${namespace}}\nspec: {from: [${from}], to: [${to}]}`;
  const TLS_ROUTES = '{group: gateway.networking.k8s.io, kind: TLSRoute, namespace: shop}';
  const across = kindOf(
    'TLSRoute',
    'v1alpha2',
    'a',
    `{${parents('tls')}, rules: [{backendRefs: [{name: catalog, namespace: other, port: 80}]}]}`,
  );
  const backendOf = (...objects: string[]) => {
    const { resources, problems } = compileModel({ objects: stored(edge, other, across, ...objects), running: null });
    const [found] = messages(resources, ResourceType.CONNECTION_ROUTE);
    return found?.backends[0]?.service || problems.map(({ path, message }) => `${path}: ${message}`);
  };

  test('a reference to another namespace needs a ReferenceGrant there', () => {
    expect(backendOf()).toEqual([
      'spec.rules[0].backendRefs[0]: Service other/catalog is in another namespace and no ReferenceGrant in other allows TLSRoute to refer to it: its share of the connections is reset',
    ]);
    expect(backendOf(grant(TLS_ROUTES, '{group: "", kind: Service}'))).toBe('other/catalog');
    expect(backendOf(grant(TLS_ROUTES, '{group: "", kind: Service, name: catalog}'))).toBe('other/catalog');
  });

  test.each([
    ['another group', grant(TLS_ROUTES.replace('gateway.networking.k8s.io', 'other.example'), '{group: "", kind: Service}')],
    ['another kind', grant(TLS_ROUTES.replace('TLSRoute', 'HTTPRoute'), '{group: "", kind: Service}')],
    ['another namespace of origin', grant(TLS_ROUTES.replace('shop', 'else'), '{group: "", kind: Service}')],
    ['another kind of target', grant(TLS_ROUTES, '{group: "", kind: Secret}')],
    ['another group of target', grant(TLS_ROUTES, '{group: apps, kind: Service}')],
    ['another name', grant(TLS_ROUTES, '{group: "", kind: Service, name: other}')],
    ['its own namespace', grant(TLS_ROUTES, '{group: "", kind: Service}', 'shop')],
  ])('a grant for %s is none', (_, manifest) => {
    expect(backendOf(manifest)).toHaveLength(1);
  });
});
