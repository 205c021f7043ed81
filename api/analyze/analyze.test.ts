import { readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { KINDS } from '../resources/index.js';
import { analyze, RULES, SEVERITY_OF } from './index.js';

const NOW = Date.UTC(2026, 10);

function found(content: string, stored: readonly unknown[] = []): string[] {
  return analyze([{ name: 'f.yaml', content }], NOW, stored).map(
    ({ code, kind, namespace, name, line, column, path }) => `${line}:${column} ${code} ${kind} ${namespace}/${name} ${path}`,
  );
}

const SERVICE = `apiVersion: v1
kind: Service
metadata: {name: catalog, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
`;

const route = (name: string, rules: string, kind = 'HTTPRoute') => `---
apiVersion: gateway.networking.k8s.io/v1
kind: ${kind}
metadata: {name: ${name}, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: catalog}]
  rules:
${rules}
`;

describe('routes of the Gateway API', () => {
  test('a backend that is not there is told at its reference', () => {
    expect(found(SERVICE + route('a', '  - backendRefs: [{name: nothing, port: 80}, {name: catalog, port: 81}]'))).toEqual([
      '12:19 ReferencedResourceNotFound HTTPRoute shop/a spec.rules[0].backendRefs[0]',
      '12:46 ReferencedResourceNotFound HTTPRoute shop/a spec.rules[0].backendRefs[1]',
    ]);
  });

  test('the same match for the same parent is never reached a second time, headers in any order', () => {
    const backend = 'backendRefs: [{name: catalog, port: 80}]';
    const match = (headers: string) => `  - matches: [{path: {value: /a}, headers: [${headers}]}]\n    ${backend}`;
    const [one, other] = ['{name: x, value: "1"}', '{name: y, value: "2"}'];
    const both = SERVICE + route('a', match(`${one}, ${other}`)) + route('b', `${match(one)}\n${match(`${other}, ${one}`)}`);
    expect(found(both)).toEqual(['23:15 RouteMatchUnreachable HTTPRoute shop/b spec.rules[1].matches[0]']);
  });

  test('a path of an HTTPRoute that is a call of a GRPCRoute is the same match', () => {
    const backend = 'backendRefs: [{name: catalog, port: 80}]';
    const calls = route('g', `  - matches: [{method: {service: a.B, method: C}}]\n    ${backend}`, 'GRPCRoute');
    const paths = route('h', `  - matches: [{path: {type: Exact, value: /a.B/C}}]\n    ${backend}`);
    expect(found(SERVICE + calls + paths)).toEqual([expect.stringContaining('RouteMatchUnreachable HTTPRoute shop/h')]);
  });

  test('where matches are left out no position is made up', () => {
    const rules = '  - matches: [{path: {type: RegularExpression, value: "/x("}}]\n  - matches: [{path: {value: /a}}, {path: {value: /a}}]';
    expect(found(SERVICE + route('a', rules)).filter((line) => line.includes('RouteMatchUnreachable'))).toEqual([]);
  });
});

describe('of VirtualServices and DestinationRules', () => {
  const istio = (kind: string, name: string, spec: string) =>
    `---\napiVersion: networking.istio.io/v1\nkind: ${kind}\nmetadata: {name: ${name}, namespace: shop}\nspec: ${spec}\n`;

  test('what is not there is told once, where it is named', () => {
    const rules = `hosts: [catalog], http: [
  {match: [{uri: {exact: /a}}], route: [{destination: {host: nothing}}]},
  {match: [{uri: {exact: /b}}], route: [{destination: {host: catalog, subset: none}}]},
  {match: [{uri: {exact: /c}}], route: [{destination: {host: catalog, port: {number: 81}}}]},
  {route: [{destination: {host: catalog}}], mirrors: [{destination: {host: catalog}}, {destination: {host: nothing}}]}]`;
    const all = found(SERVICE + istio('VirtualService', 'v', `{${rules}}`) + istio('DestinationRule', 'd', '{host: nothing}'));
    expect(all).toEqual([
      '10:62 ReferencedResourceNotFound VirtualService shop/v spec.http[0].route[0].destination.host',
      '11:79 ReferencedResourceNotFound VirtualService shop/v spec.http[1].route[0].destination.subset',
      '12:86 ReferencedResourceNotFound VirtualService shop/v spec.http[2].route[0].destination.port.number',
      '13:108 ReferencedResourceNotFound VirtualService shop/v spec.http[3].mirrors[1].destination.host',
      '18:14 UnknownDestinationRuleHost DestinationRule shop/d spec.host',
    ]);
  });

  test("a Gateway for Istio's own ingress opens whatever port it says, and the node's authorities verify a server", () => {
    const servers = '{selector: {istio: ingressgateway}, servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ["*"]}]}';
    const rule = istio('DestinationRule', 'd', '{host: catalog, trafficPolicy: {tls: {mode: SIMPLE, sni: catalog.test}}}');
    expect(found(SERVICE + istio('Gateway', 'edge', servers) + rule)).toEqual([]);
  });
});

describe('what is stored', () => {
  const stored = [
    { apiVersion: 'v1', kind: 'Service', metadata: { name: 'catalog', namespace: 'shop' }, spec: { ports: [{ name: 'http', port: 80 }] } },
  ];

  test('stands beside the files, without a place', () => {
    expect(found(route('a', '  - backendRefs: [{name: catalog, port: 80}]'), stored)).toEqual([]);
    const broken = { ...stored[0], kind: 'EndpointSlice', apiVersion: 'discovery.k8s.io/v1', spec: undefined, addressType: 'IPv4' };
    expect(found('', [broken])).toEqual(['0:0 ReferencedResourceNotFound EndpointSlice shop/catalog metadata.labels']);
  });

  test('is replaced by the files where they name the same', () => {
    expect(found(SERVICE.replace('80', '8080') + route('a', '  - backendRefs: [{name: catalog, port: 80}]'), stored)).toEqual([
      expect.stringContaining('ReferencedResourceNotFound'),
    ]);
  });

  test('a Secret whose values are hidden is taken as good', () => {
    const secret = {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: 's', namespace: 'shop' },
      type: 'kubernetes.io/tls',
      data: { 'tls.crt': '(hidden)', 'tls.key': '(hidden)' },
    };
    const gateway = `apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec: {gatewayClassName: weft, listeners: [{name: a, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: s}]}}]}
`;
    expect(found(gateway, [secret])).toEqual([]);
    expect(found(gateway)).toHaveLength(2);
  });
});

test('an object that is given twice does not contradict itself', () => {
  const service =
    'apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec: {hosts: [a.b], http: [{directResponse: {status: 200}}]}\n';
  const lines = found(`${service}---\n${service}`);
  expect(lines.filter((line) => line.includes('Conflicting'))).toEqual([]);
  expect(lines.filter((line) => line.includes('Invalid'))).toHaveLength(1);
});

test('arbitrary objects of every kind never throw', () => {
  const key = fc.constantFrom(
    ...[
      'http',
      'tcp',
      'route',
      'match',
      'destination',
      'host',
      'hosts',
      'gateways',
      'servers',
      'port',
      'ports',
      'number',
      'tls',
      'subsets',
      'labels',
    ],
    ...[
      'selector',
      'matchLabels',
      'rules',
      'from',
      'source',
      'namespaces',
      'exportTo',
      'trafficPolicy',
      'conditions',
      'type',
      'status',
      'uri',
      'prefix',
    ],
  );
  const value = fc.letrec((tie) => ({
    node: fc.oneof(
      { depthSize: 'small' },
      fc.constantFrom('a', '*', 'a/b', ''),
      fc.integer(),
      fc.constant(null),
      fc.array(tie('node')),
      fc.dictionary(key, tie('node')),
    ),
  })).node;
  const kind = fc.constantFrom(
    ...KINDS.map(({ kind: name, apiVersion }) => ({ kind: name === 'IstioGateway' ? 'Gateway' : name, apiVersion })),
  );
  const object = fc.record({ type: kind, spec: value, status: value, labels: value });
  fc.assert(
    fc.property(fc.array(object, { maxLength: 6 }), (objects) => {
      const items = objects.map(({ type, spec, status, labels }, index) => ({
        ...type,
        metadata: { name: `a${index}`, labels },
        spec,
        status,
      }));
      for (const { severity } of analyze([{ name: 'f', content: JSON.stringify({ kind: 'List', items }) }], NOW))
        expect(severity).toBeDefined();
    }),
    { numRuns: 300 },
  );
});

test('docs/analyze.md has every code with its severity, and there is a rule behind each', () => {
  const text = readFileSync(new URL('../../docs/analyze.md', import.meta.url), 'utf8');
  const rows = text.split('\n').filter((line) => line.startsWith('| `'));
  for (const [code, severity] of Object.entries(SEVERITY_OF)) {
    expect({ code, row: rows.find((row) => row.includes(`\`${code}\``)) }).toEqual({
      code,
      row: expect.stringContaining(`| ${severity} |`),
    });
  }
  expect(Object.keys(RULES).length).toBeGreaterThan(20);
});
