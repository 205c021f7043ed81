import { createRequire } from 'node:module';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { type ExplainResponse, ExplainResponse_Outcome, RuleVerdict_Verdict } from '../../../api/gen/mesh/v1/explain.js';
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

describe('a request in the mesh', () => {
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
