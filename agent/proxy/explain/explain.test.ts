import { createRequire } from 'node:module';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import {
  type ExplainRequest,
  type ExplainResponse,
  ExplainResponse_Outcome,
  RuleVerdict_Verdict,
} from '../../../api/gen/mesh/v1/explain.js';
import { Certificates, secretManifest } from '../../../test/lab/certificates.js';
import type { EngineAddon } from '../../native/engine.js';
import { explainFiles } from './offline.js';

const NOTHING = { from: '', gateway: '', method: 'GET', url: '', headers: [], client: '', clientIdentity: '' };
const addon = createRequire(join(process.cwd(), 'package.json'))('./native/build/Release/weft.node') as EngineAddon;

const service = (name: string): string => `
apiVersion: v1
kind: Service
metadata: {name: ${name}, namespace: shop}
spec: {ports: [{name: http, port: 80, appProtocol: http}]}
---`;
const slice = (name: string, ...endpoints: readonly string[]): string => `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: ${name}-1, namespace: shop, labels: {kubernetes.io/service-name: ${name}}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [${endpoints.join(', ')}]
---`;
const WORKLOAD = `
apiVersion: mesh.weft.dev/v1
kind: Workload
metadata: {name: cart, namespace: shop, labels: {app: cart}}
spec: {node: a, addresses: [10.1.9.9]}
---`;
const EDGE = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  gatewayClassName: weft
  listeners:
  - {name: all, port: 8080, protocol: HTTP}
  - {name: own, port: 8080, protocol: HTTP, hostname: own.test}
---`;
const ROUTE = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, namespace: shop}
spec:
  parentRefs: [{name: edge, sectionName: all}, {kind: Service, group: "", name: catalog}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /items}, headers: [{name: x-user, value: ann}]}]
    filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-v, value: "2"}], remove: [x-w]}}
    - {type: URLRewrite, urlRewrite: {hostname: v2.test, path: {type: ReplacePrefixMatch, replacePrefixMatch: /i}}}
    backendRefs: [{name: v2, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /items}}]
    timeouts: {request: 5s, backendRequest: 1s}
    retry: {attempts: 2, codes: [503], backoff: 50ms}
    backendRefs: [{name: catalog, port: 80, weight: 9}, {name: v2, port: 80, weight: 1}]
  - matches: [{path: {type: Exact, value: /old}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: new.test, path: {type: ReplaceFullPath, replaceFullPath: /items}, statusCode: 301}}]
  - matches: [{path: {type: RegularExpression, value: "/x/[0-9]+"}, method: POST, queryParams: [{name: q, type: RegularExpression, value: "a+"}]}]
    backendRefs: [{name: catalog, port: 80}]
---`;
const SHOP = [
  service('catalog'),
  service('v2'),
  service('empty'),
  slice('catalog', '{addresses: [10.1.0.1]}', '{addresses: [10.1.0.2]}', '{addresses: [10.1.0.3], conditions: {ready: false}}'),
  slice('v2', '{addresses: [10.1.1.1]}'),
  WORKLOAD,
  EDGE,
  ROUTE,
].join('');

function ask(method: string, url: string, headers: Readonly<Record<string, string>> = {}, from = '', gateway = '') {
  const pairs = Object.entries(headers).map(([name, value]) => ({ name, value }));
  return explainFiles([{ name: 'shop.yaml', content: SHOP }], { ...NOTHING, from, gateway, method, url, headers: pairs }, addon);
}

async function told(...request: Parameters<typeof ask>): Promise<ExplainResponse> {
  const explained = await ask(...request);
  if (explained.kind !== 'ok') throw new Error(JSON.stringify(explained));
  return explained.value;
}

/** The answer, or why there is none. */
async function toldBy(content: string, method: string, url: string, more: Partial<ExplainRequest> = {}): Promise<ExplainResponse | string> {
  const explained = await explainFiles([{ name: 'shop.yaml', content }], { ...NOTHING, method, url, ...more }, addon);
  if (explained.kind === 'mistakes') throw new Error(explained.findings.join('\n'));
  return explained.kind === 'refused' ? explained.message : explained.value;
}

function verdicts({ rules }: ExplainResponse): string[] {
  return rules.map(({ route, verdict, why }) => `${route}: ${RuleVerdict_Verdict[verdict]}${why === '' ? '' : `, ${why}`}`);
}

describe('a request at a gateway', () => {
  test('is told with the rule that wins, why each other lost, and what is changed of it', async () => {
    const answer = await told('GET', 'http://shop.test:8080/items/7?x=1', { 'x-user': 'ann' });
    expect(answer).toMatchObject({
      entrance: 'gateway shop/edge:8080',
      outcome: ExplainResponse_Outcome.FORWARDED,
      reason: 'goes to 10.1.1.1:8080',
      changes: ['host becomes v2.test', 'path becomes /i/7', 'request: x-w is removed', 'request: x-v is set to 2'],
      backends: [{ service: 'shop/v2:80', share: 1, chosen: true }],
    });
    expect(verdicts(answer)).toEqual([
      'shop/shop rule 2: UNMET, the path is another',
      'shop/shop rule 3: UNMET, the method is not POST',
      'shop/shop rule 0: WON',
      'shop/shop rule 1: BEATEN, shop/shop rule 0 comes first',
    ]);
  });

  test('is told with its split, its endpoints as they are chosen now, and its times', async () => {
    const answer = await told('GET', 'http://shop.test:8080/items');
    expect(verdicts(answer)).toContain('shop/shop rule 0: UNMET, header x-user is not ann');
    expect(answer.plan).toEqual([
      'ends after 5000 ms at the latest',
      'an attempt may take 1000 ms',
      expect.stringMatching(/^is repeated on status 503.*, after 50 ms and then longer$/),
    ]);
    expect(answer.backends.map(({ service, share }) => [service, share])).toEqual([
      ['shop/catalog:80', 0.9],
      ['shop/v2:80', 0.1],
    ]);
    const shares = answer.endpoints.map(({ address, outBecause }) => [address, outBecause]);
    expect(shares).toEqual([
      ['10.1.0.1:8080', ''],
      ['10.1.0.2:8080', ''],
      ['10.1.0.3:8080', 'not ready'],
    ]);
    for (const { share, outBecause } of answer.endpoints) expect(Math.abs(share - (outBecause === '' ? 0.5 : 0))).toBeLessThan(0.1);
  });

  test('is told where a redirection leads, and why nothing matched', async () => {
    const redirected = await told('GET', 'http://shop.test:8080/old');
    expect(redirected).toMatchObject({ status: 301, changes: ['Location: http://new.test:8080/items'], endpoints: [] });
    expect(await told('GET', 'http://shop.test:8080/old?a=b')).toMatchObject({ changes: ['Location: http://new.test:8080/items?a=b'] });
    const lost = await told('POST', 'http://shop.test:8080/x/7?q=b');
    expect(lost).toMatchObject({ outcome: ExplainResponse_Outcome.ANSWERED, status: 404, responseFlag: 'NR' });
    expect(verdicts(lost)).toContain('shop/shop rule 3: UNMET, query parameter q does not match');
    expect(verdicts(await told('POST', 'http://shop.test:8080/x/a?q=a'))).toContain('shop/shop rule 3: UNMET, the path does not match');
  });

  test("of another listener's host does not see the rules of this one", async () => {
    const answer = await told('GET', 'http://own.test:8080/items');
    expect(answer.status).toBe(404);
    expect(new Set(answer.rules.map(({ verdict }) => verdict))).toEqual(new Set([RuleVerdict_Verdict.HIDDEN]));
  });
});

describe('at gateways that share a port', () => {
  const gateway = (name: string, ...listeners: readonly string[]): string => `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: ${name}, namespace: shop}
spec: {gatewayClassName: weft, listeners: [${listeners.join(', ')}]}
---`;
  const route = (kind: string, parent: string, rest: string): string => `
apiVersion: gateway.networking.k8s.io/${kind === 'TCPRoute' ? 'v1alpha2' : 'v1'}
kind: ${kind}
metadata: {name: ${parent}, namespace: shop}
spec: {parentRefs: [{name: ${parent}}], ${rest}, rules: [{backendRefs: [{name: catalog, port: 80}]}]}
---`;
  const files = [
    service('catalog'),
    slice('catalog', '{addresses: [10.1.0.1]}'),
    gateway('edge', '{name: a, port: 80, protocol: HTTP, hostname: edge.test}', '{name: d, port: 5432, protocol: TCP}'),
    gateway(
      'inner',
      '{name: a, port: 80, protocol: HTTP, hostname: inner.test}',
      '{name: p, port: 443, protocol: TLS, hostname: db.test, tls: {mode: Passthrough}}',
    ),
    route('HTTPRoute', 'inner', 'hostnames: []'),
    route('TLSRoute', 'inner', 'hostnames: [db.test]'),
  ].join('');

  test('the request is the one whose listener has its host', async () => {
    const inner = { entrance: 'gateway shop/inner:80', reason: 'goes to 10.1.0.1:8080' };
    expect(await toldBy(files, 'GET', 'http://inner.test/a')).toMatchObject(inner);
    expect(await toldBy(files, 'GET', 'http://inner.test/a', { gateway: 'shop/inner' })).toMatchObject(inner);
    expect(await toldBy(files, 'GET', 'http://edge.test/a')).toMatchObject({ entrance: 'gateway shop/edge:80', status: 404, rules: [{}] });
    expect(await toldBy(files, 'GET', 'http://inner.test/a', { gateway: 'shop/edge' })).toBe(
      'no listener of the gateway is for http://inner.test: there are shop/edge:80, shop/inner:80, shop/edge:5432',
    );
    expect(await toldBy(files, 'GET', 'http://inner.test/a', { gateway: 'inner' })).toMatch(
      'no gateway inner listens on this node: there are shop/edge:80, shop/inner:80',
    );
  });

  test("a handshake that no certificate answers is no request's, and one that another listener's answers is", async () => {
    const certificates = new Certificates();
    const pair = certificates.issue(certificates.authority('ca'), 'DNS:edge.test');
    certificates.remove();
    const secret = secretManifest('c', pair).replace('name: c}', 'name: c, namespace: shop}');
    const https = (name: string, certificate: string, rest = ''): string =>
      `{name: ${name}, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: ${certificate}}]}${rest}}`;
    const wild = gateway('edge', https('a', 'c', ', hostname: "*.edge.test"'));
    const wide = gateway('edge', https('a', 'c'), https('b', 'none', ', hostname: b.test'));
    const by = (edge: string, host: string) =>
      toldBy(`${secret}${edge}${route('HTTPRoute', 'edge', 'hostnames: []')}`, 'GET', `https://${host}/`);
    expect(await by(wild, 'a.edge.test')).toMatchObject({ entrance: 'gateway shop/edge:443', status: 500 });
    expect(await by(wild, 'a.b.edge.test')).toMatch('no gateway of this node ends TLS for a.b.edge.test on port 443');
    expect(await by(wide, 'a.test')).toMatchObject({ status: 500 });
    // Closed for want of a certificate: 404, where the handshake is another's.
    expect(await by(wide, 'b.test')).toMatchObject({ entrance: 'gateway shop/edge:443', status: 404 });
  });

  test('where connections pass as a whole there is no request to tell of', async () => {
    expect(await toldBy(files, 'GET', 'https://db.test/a')).toMatch('gateway shop/inner:443 reads no requests for db.test: ');
    expect(await toldBy(files, 'GET', 'http://any.test:5432/a')).toMatch('gateway shop/edge:5432 reads no requests for any.test: ');
  });
});

describe('a request in the mesh', () => {
  test('to a port whose connections pass as a whole is none to tell of', async () => {
    const files = `${service('db').replace('appProtocol: http', 'appProtocol: mysql')}${slice('db', '{addresses: [10.1.0.1]}')}${WORKLOAD}`;
    expect(await toldBy(files, 'GET', 'http://db/', { from: 'shop/cart' })).toMatch('service shop/db:80 reads no requests for db: ');
  });

  test("knows another namespace's service by no short name", async () => {
    const stranger = WORKLOAD.replace('namespace: shop', 'namespace: bank').replace('10.1.9.9', '10.1.9.8');
    const files = `${SHOP}${stranger}`;
    expect(await toldBy(files, 'GET', 'http://v2/', { from: 'bank/cart' })).toBe('no service of bank is called v2: there is v2.shop');
    expect(await toldBy(files, 'GET', 'http://v2.shop/', { from: 'bank/cart' })).toMatchObject({ reason: 'goes to 10.1.1.1:8080' });
  });

  test('for a host outside of the mesh goes by the rules for that host, whatever address its client has', async () => {
    const files = `${WORKLOAD}
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside, namespace: shop}
spec: {hosts: ["*.out.test"], location: MESH_EXTERNAL, resolution: NONE, ports: [{number: 80, name: http, protocol: HTTP}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: outside, namespace: shop}
spec:
  hosts: ["*.out.test"]
  http:
  - {match: [{uri: {prefix: /no}}], directResponse: {status: 403}}
  - route: [{destination: {host: "*.out.test"}}]
`;
    const from = 'shop/cart';
    const host = [{ name: 'Host', value: 'a.out.test' }];
    const refused = { status: 403, rules: [{ verdict: RuleVerdict_Verdict.WON }, { verdict: RuleVerdict_Verdict.BEATEN }] };
    expect(await toldBy(files, 'GET', 'http://a.out.test/no', { from })).toMatchObject({
      ...refused,
      entrance: 'a.out.test:80, outside of the mesh',
    });
    expect(await toldBy(files, 'GET', 'http://192.0.2.1:8443/no', { from, headers: host })).toMatchObject(refused);
    expect(await toldBy(files, 'GET', 'http://a.out.test/yes', { from })).toMatchObject({ outcome: ExplainResponse_Outcome.PASSED_ON });
    const unruled = files.replace('hosts: ["*.out.test"], location', 'hosts: ["*.out.test", free.test], location');
    const answer = await toldBy(unruled, 'GET', 'http://free.test/', { from });
    expect(answer).toMatchObject({ entrance: 'free.test:80, outside of the mesh', outcome: ExplainResponse_Outcome.PASSED_ON });
    expect(verdicts(answer as ExplainResponse)).toContain('ServiceEntry/shop/free.test rule 0: WON');
  });

  test('goes by the routes of its service, else to its endpoints, else nowhere', async () => {
    expect(await told('GET', 'http://catalog/items', {}, 'shop/cart')).toMatchObject({ entrance: 'service shop/catalog:80' });
    const plain = await told('GET', 'http://v2.shop/anything', {}, 'shop/cart');
    expect(plain).toMatchObject({ rules: [], reason: 'goes to 10.1.1.1:8080' });
    expect(plain.endpoints).toMatchObject([{ address: '10.1.1.1:8080', chosen: true, share: 1 }]);
    expect(await told('GET', 'http://empty/', {}, 'shop/cart')).toMatchObject({ status: 503, responseFlag: 'UH' });
    expect(await told('GET', 'http://192.0.2.1:443/', {}, 'shop/cart')).toMatchObject({
      entrance: "192.0.2.1:443, which is no service's",
      outcome: ExplainResponse_Outcome.PASSED_ON,
    });
  });
});

test.each([
  ['no URL', () => ask('GET', 'ftp://x/'), 'is no URL'],
  ['a URL without a host', () => ask('GET', 'http:///items'), 'is no URL'],
  ['no method', () => ask('G T', 'http://shop.test:8080/'), '"G T" is no method'],
  ['a header that breaks lines', () => ask('GET', 'http://shop.test:8080/', { a: 'b\r\nc: d' }), `header "a" can't stand in a request`],
  [
    'an unknown workload',
    () => ask('GET', 'http://catalog/', {}, 'shop/nobody'),
    'no workload "shop/nobody" is known here: there are shop/cart',
  ],
  [
    'an unknown host',
    () => ask('GET', 'http://nowhere.test:8081/', {}, 'shop/cart'),
    'no service that this node knows is called nowhere.test',
  ],
  ['an unknown gateway', () => ask('GET', 'http://shop.test/', {}, '', 'shop/none'), 'no gateway shop/none listens on this node'],
  [
    'a path that breaks lines',
    () => ask('GET', 'http://shop.test:8080/a HTTP/1.1\r\nx-user: ann\r\nb: c'),
    "the path can't stand in a request",
  ],
  ['a header of other characters', () => ask('GET', 'http://shop.test:8080/', { a: '☃' }), `header "a" can't stand in a request`],
])('%s is refused in words', async (_, asked, words) => {
  expect(await asked()).toMatchObject({ kind: 'refused', message: expect.stringContaining(words) });
});
test('a head that the proxy refuses is told with its status', async () => {
  const refused = { outcome: ExplainResponse_Outcome.ANSWERED, responseFlag: 'DPE', rules: [] };
  expect(await told('GET', 'http://shop.test:8080/', { 'content-length': 'x' })).toMatchObject({ ...refused, status: 400 });
  expect(await told('GET', 'http://shop.test:8080/', { a: 'b'.repeat(70_000) })).toMatchObject({ ...refused, status: 431 });
  const many = Object.fromEntries(Array.from({ length: 200 }, (_, index) => [`x-${index}`, 'v']));
  expect(await told('GET', 'http://shop.test:8080/', many)).toMatchObject({ ...refused, status: 431 });
});
