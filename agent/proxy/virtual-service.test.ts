// Istio's VirtualServices from their manifests to decisions on requests of a pod: the Bookinfo examples as they are, and what they don't show.
import { describe, expect, test } from '@jest/globals';
import { compileModel } from '../../api/compile/index.js';
import { encodeResource } from '../../api/compile/wire.js';
import { formatFinding, parseManifests } from '../../api/resources/index.js';
import { testdata, withTestdata } from '../../test/lab/testdata.js';
import { Model } from '../model/model.js';
import { type EndpointSpec, MAX_VALUES } from '../native/engine.js';
import { compiled } from './testing/models.js';
import { type TestDecision, TestProxy, type TestRequest } from './testing/requests.js';

const bookinfo = (name: string): string => testdata(`bookinfo/networking/${name}.yaml`);

/** Services as of bookinfo.yaml; what runs behind them, and who calls. */
const VERSIONS: Readonly<Record<string, readonly string[]>> = {
  productpage: ['v1'],
  details: ['v1', 'v2'],
  ratings: ['v1', 'v2', 'v2-mysql', 'v2-mysql-vm'],
  reviews: ['v1', 'v2', 'v3'],
};
const NAMES = Object.keys(VERSIONS);
const PRODUCTPAGE = '10.1.0.1';
const SUBSETS = NAMES.map((app) => {
  const subsets = VERSIONS[app]!.map((version) => `{name: ${version}, labels: {version: ${version}}}`);
  return `apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: ${app}, namespace: default}\nspec: {host: ${app}, subsets: [${subsets}]}`;
});

function catalog(): string {
  return NAMES.flatMap((app, at) => [
    `apiVersion: v1\nkind: Service\nmetadata: {name: ${app}, namespace: default}\nspec: {clusterIP: 10.96.0.${at + 1}, selector: {app: ${app}}, ports: [{name: http, port: 9080}]}`,
    ...VERSIONS[app]!.map(
      (version, index) =>
        `apiVersion: mesh.weft.dev/v1\nkind: Workload\nmetadata: {name: ${app}-${version}, namespace: default, labels: {app: ${app}, version: ${version}}}\nspec: {node: a, networkNamespace: /run/netns/${app}-${version}, addresses: [10.1.${at}.${index + 1}], ports: [{name: http, port: 9080}]}`,
    ),
  ]).join('\n---\n');
}

class Mesh {
  readonly problems: string[];
  private readonly proxy: TestProxy;
  private readonly generation;

  constructor(...manifests: string[]) {
    const { objects, findings } = parseManifests([{ name: 'f', content: [catalog(), ...manifests].join('\n---\n') }]);
    expect(findings.map(formatFinding)).toEqual([]);
    const stored = objects.map((object, index) => ({
      ...object,
      namespace: object.namespace === '' ? 'default' : object.namespace,
      createdAtMs: 1_000 + index,
    }));
    const { resources, problems } = compileModel({ objects: stored, running: null });
    this.problems = problems.map(({ kind, path, message, reason }) => `${kind} ${path}: ${message} (${reason})`);
    const model = new Model();
    expect(model.apply({ full: true, resources: resources.map(encodeResource), removed: [], revision: 1 })).toEqual([]);
    this.generation = compiled(model);
    this.proxy = new TestProxy(this.generation);
  }

  decide(app: string, request: Partial<TestRequest> = {}): TestDecision {
    const destination = [`10.96.0.${NAMES.indexOf(app) + 1}`, 9080] as const;
    return this.proxy.decide({ listener: 0, destination, source: PRODUCTPAGE, host: `${app}:9080`, ...request });
  }

  spec({ target }: TestDecision): EndpointSpec | undefined {
    return this.generation.spec.endpoints.find(({ id }) => id === target);
  }

  /** How its own proxy reads what comes to the service's first endpoint. */
  inbound(app: string): string | undefined {
    return this.generation.spec.destinations.find(({ address }) => address === `10.1.${NAMES.indexOf(app)}.1`)?.protocol;
  }

  get limits(): string[] {
    const all = [...this.generation.clusters, ...this.generation.variants].flatMap(({ connections }) => connections ?? []);
    return all.map(({ name, policy }) => `${name}: ${policy.maxConnections}`);
  }

  /** Names under which endpoints are watched. */
  get guards(): string[] {
    return this.generation.guarded.map(({ name }) => name);
  }

  /** Of the endpoint that is chosen; undefined: none. */
  address(app: string, request: Partial<TestRequest> = {}): string | undefined {
    return this.spec(this.decide(app, request))?.address;
  }

  /** The version that answers, or the status that is answered instead. */
  version(app: string, request: Partial<TestRequest> = {}): string {
    const { target } = this.decide(app, request);
    if (target < 0) return String(-target);
    const { address } = this.generation.spec.endpoints.find(({ id }) => id === target)!;
    return VERSIONS[app]![Number(address.split('.')[3]) - 1]!;
  }

  /** Shares in percent, of random numbers spread evenly. */
  shares(app: string, request: Partial<TestRequest> = {}): Readonly<Record<string, number>> {
    const counts: Record<string, number> = {};
    for (let i = 0; i < 1_000; i++) {
      const version = this.version(app, { random: Math.floor((i / 1_000) * 0x80000000), ...request });
      counts[version] = (counts[version] ?? 0) + 1;
    }
    return Object.fromEntries(Object.entries(counts).map(([version, count]) => [version, Math.round(count / 10)]));
  }

  reply(decision: TestDecision) {
    return this.generation.spec.localReplies[decision.localReply]!;
  }

  rewrite(decision: TestDecision) {
    return this.generation.spec.rewrites[decision.rewrite];
  }
}

const JASON = { headers: { 'end-user': 'jason' } };

test('the rules of one that is exported to some namespaces are for their clients alone, those for connections too', () => {
  const rules = (host: string, exportTo: string): string => `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: narrow, namespace: default}
spec: {hosts: [${host}], exportTo: [${exportTo}], http: [{route: [{destination: {host: reviews}}]}], tcp: [{route: [{destination: {host: reviews}}]}]}`;
  const db = `apiVersion: v1
kind: Service
metadata: {name: db, namespace: default}
spec: {clusterIP: 10.96.0.9, selector: {app: db}, ports: [{name: tcp, port: 9080}]}
---
apiVersion: mesh.weft.dev/v1
kind: Workload
metadata: {name: db, namespace: default, labels: {app: db}}
spec: {node: a, networkNamespace: /run/netns/db, addresses: [10.1.9.1], ports: [{name: tcp, port: 9080}]}`;
  const toDb: Partial<TestRequest> = { destination: ['10.96.0.9', 9080], opaque: true };
  const backendOf = (host: string, exportTo: string, request: Partial<TestRequest> = {}): string | undefined =>
    new Mesh(db, rules(host, exportTo)).address('ratings', request)?.replace(/\.\d+$/, '');
  const [ratings, reviews] = [`10.1.${NAMES.indexOf('ratings')}`, `10.1.${NAMES.indexOf('reviews')}`];
  expect([backendOf('ratings', '.'), backendOf('ratings', 'elsewhere')]).toEqual([reviews, ratings]);
  expect([backendOf('db', '.', toDb), backendOf('db', 'elsewhere', toDb)]).toEqual([reviews, '10.1.9']);
});

withTestdata.describe('the Bookinfo examples', () => {
  const { test } = withTestdata;
  const mesh = (...names: string[]) => new Mesh(...['destination-rule-all', ...names].map(bookinfo));

  test('all v1', () => {
    const all = mesh('virtual-service-all-v1');
    expect(NAMES.map((app) => all.shares(app))).toEqual(NAMES.map(() => ({ v1: 100 })));
    expect(all.problems).toEqual([]);
  });

  test('reviews: v3; half and half; 80 to 20; 90 to 10; v2 and v3', () => {
    expect(mesh('virtual-service-reviews-v3').shares('reviews')).toEqual({ v3: 100 });
    expect(mesh('virtual-service-reviews-50-v3').shares('reviews')).toEqual({ v1: 50, v3: 50 });
    expect(mesh('virtual-service-reviews-80-20').shares('reviews')).toEqual({ v1: 80, v2: 20 });
    expect(mesh('virtual-service-reviews-90-10').shares('reviews')).toEqual({ v1: 90, v2: 10 });
    expect(mesh('virtual-service-reviews-v2-v3').shares('reviews')).toEqual({ v2: 50, v3: 50 });
  });

  test('reviews: jason sees another version than everybody else', () => {
    const test = mesh('virtual-service-reviews-test-v2');
    expect([test.version('reviews', JASON), test.version('reviews')]).toEqual(['v2', 'v1']);
    const jason = mesh('virtual-service-reviews-jason-v2-v3');
    expect([jason.version('reviews', JASON), jason.version('reviews')]).toEqual(['v2', 'v3']);
    expect(jason.version('reviews', { headers: { 'end-user': 'jasonx' } })).toBe('v3');
  });

  test('ratings: jason waits 7 seconds, or is answered 500', () => {
    const delay = mesh('virtual-service-ratings-test-delay');
    expect(delay.decide('ratings', JASON)).toMatchObject({ delayMs: 7_000 });
    expect(delay.decide('ratings')).toMatchObject({ delayMs: 0 });
    expect(delay.version('ratings', JASON)).toBe('v1');
    const abort = mesh('virtual-service-ratings-test-abort');
    expect([abort.version('ratings', JASON), abort.version('ratings')]).toEqual(['500', 'v1']);
  });

  test('details v2; ratings with MySQL, in a pod and in a VM; ratings with a database', () => {
    expect(mesh('virtual-service-details-v2').shares('details')).toEqual({ v2: 100 });
    const mysql = mesh('virtual-service-ratings-mysql');
    expect([mysql.shares('ratings'), mysql.shares('reviews')]).toEqual([{ 'v2-mysql': 100 }, { v3: 100 }]);
    expect(mesh('virtual-service-ratings-mysql-vm').shares('ratings')).toEqual({ 'v2-mysql-vm': 100 });
    expect(mesh('virtual-service-ratings-db').shares('ratings')).toEqual({ v2: 100 });
  });

  test('faults of details: every request is answered 555', () => {
    const fault = new Mesh(bookinfo('fault-injection-details-v1'));
    expect(fault.shares('details')).toEqual({ 555: 100 });
    expect(fault.problems).toEqual([]);
  });
});

describe('rules', () => {
  const of = (http: string, more = '') => new Mesh(`${virtualService('reviews', http)}${more}`, ...SUBSETS);
  const virtualService = (host: string, http: string, name = host): string =>
    `apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: ${name}, namespace: default}\nspec:\n  hosts: [${host}]\n  http:\n${http}\n`;
  const to = (subset: string): string => `route: [{destination: {host: reviews, subset: ${subset}}}]`;

  test('the first that matches wins, whatever is more specific', () => {
    const rules = of(
      `  - {match: [{uri: {prefix: /a}}], ${to('v1')}}\n  - {match: [{uri: {exact: /a/b}}], ${to('v2')}}\n  - {${to('v3')}}`,
    );
    expect(['/a/b', '/ab', '/b', '/'].map((path) => rules.version('reviews', { path }))).toEqual(['v1', 'v1', 'v3', 'v3']);
  });

  test('by path, its case or not; by pattern, and what has no such header', () => {
    const rules = of(
      `  - {match: [{uri: {exact: /CaSe}, ignoreUriCase: true}, {uri: {prefix: /PRE}, ignoreUriCase: true}], ${to('v1')}}\n` +
        `  - {match: [{uri: {regex: "/r[0-9]+"}, withoutHeaders: {x-no: {}}}], ${to('v2')}}\n  - {${to('v3')}}`,
    );
    const versions = ['/case', '/prefixed', '/r12', '/r', '/r1/x'].map((path) => rules.version('reviews', { path }));
    expect(versions).toEqual(['v1', 'v1', 'v2', 'v3', 'v3']);
    expect(rules.version('reviews', { path: '/r12', headers: { 'x-no': '' } })).toBe('v3');
  });

  test('by a name that no place was left for nothing matches, not even its absence', () => {
    const absent = (from: number, to: number): string =>
      Array.from({ length: to - from }, (_, index) => `x-${from + index}: {}`).join(', ');
    const rules = of(
      `  - {match: [{uri: {exact: /never}, withoutHeaders: {${absent(0, MAX_VALUES)}}}], ${to('v1')}}\n` +
        `  - {match: [{uri: {prefix: /last}, withoutHeaders: {${absent(MAX_VALUES, MAX_VALUES + 1)}}}], ${to('v2')}}\n  - {${to('v3')}}`,
    );
    expect(rules.version('reviews', { path: '/last', headers: { [`x-${MAX_VALUES}`]: '' } })).toBe('v3');
    expect(rules.version('reviews', { path: '/last' })).toBe('v3');
    expect(rules.version('reviews', { path: '/never' })).toBe('v1');
  });

  test('by method, authority, query and scheme', () => {
    const rules = of(
      `  - {match: [{method: {regex: "P.*"}, authority: {prefix: rev}, queryParams: {q: {regex: "[0-9]+"}}, scheme: {exact: http}}], ${to('v1')}}\n` +
        `  - {match: [{method: {exact: PURGE}}], ${to('v2')}}\n  - {${to('v3')}}`,
    );
    const ask = (method: string, q: string, host = 'reviews:9080') => rules.version('reviews', { method, query: { q }, host });
    expect([ask('POST', '12'), ask('GET', '12'), ask('POST', 'x'), ask('PUT', '1', 'other'), ask('PURGE', '')]).toEqual([
      ...['v1', 'v3', 'v3', 'v3', 'v2'],
    ]);
  });

  test('by the labels and the namespace of who calls', () => {
    const rules = of(
      `  - {match: [{sourceLabels: {app: productpage}, sourceNamespace: default}], ${to('v1')}}\n  - {match: [{sourceNamespace: other}], ${to('v2')}}\n  - {${to('v3')}}`,
    );
    expect([PRODUCTPAGE, '10.1.1.1', '192.0.2.1'].map((source) => rules.version('reviews', { source }))).toEqual(['v1', 'v3', 'v3']);
  });

  test('weights beyond those of the Gateway API keep their shares', () => {
    const share = (subset: string): string => `{destination: {host: reviews, subset: ${subset}}, weight: 2147483647}`;
    const rules = of(`  - {route: [${['v1', 'v2', 'v3', 'v3'].map(share).join(', ')}]}`);
    expect(rules.shares('reviews')).toEqual({ v1: 25, v2: 25, v3: 50 });
  });

  test('rewrites: a prefix, everything, the host, and what an expression finds', () => {
    const rules = of(
      `  - {match: [{uri: {prefix: /old/}}], rewrite: {uri: /new/, authority: other.test}, ${to('v1')}}\n` +
        `  - {match: [{uri: {exact: /one}}], rewrite: {uri: /two}, ${to('v1')}}\n` +
        `  - {rewrite: {uriRegexRewrite: {match: "/service/([^/]+)(/.*)", rewrite: '\\2/instance/\\1'}}, ${to('v1')}}`,
    );
    const decided = (path: string) => rules.decide('reviews', { path });
    expect(rules.rewrite(decided('/old/x'))).toEqual({ authority: 'other.test', path: { value: '/new/', skip: 5, keepsRest: true } });
    expect(rules.rewrite(decided('/one'))).toEqual({ authority: '', path: { value: '/two', skip: 0, keepsRest: false } });
    expect(decided('/service/foo/v1/api').text).toBe('/v1/api/instance/foo');
  });

  test('a rule that asks for no path rewrites the prefix "/", as Istio has it: what follows stays', () => {
    const rules = of(
      `  - {match: [{headers: {v: {exact: "2"}}}], rewrite: {uri: /v2/}, ${to('v1')}}\n  - {rewrite: {uri: /}, ${to('v1')}}`,
    );
    const path = (headers: Record<string, string>) => rules.rewrite(rules.decide('reviews', { path: '/items/7', headers }))?.path;
    expect(path({ v: '2' })).toEqual({ value: '/v2/', skip: 1, keepsRest: true });
    expect(path({})).toEqual({ value: '/', skip: 1, keepsRest: true });
  });

  test('a mirror has all where nothing is said of its share, and none where the share is nothing (Istio)', () => {
    const mask = (said: string) => of(`  - {mirror: {host: ratings}${said}, ${to('v1')}}`).decide('reviews').mirrorMask;
    const shares = ['', ', mirrorPercentage: {value: 100}', ', mirrorPercentage: {}', ', mirrorPercentage: {value: 0}'];
    expect(shares.map(mask)).toEqual([1, 1, 0, 0]);
  });

  test('faults are for nobody where their share is not said (Istio)', () => {
    const share = (part: string): string => `  - {fault: {abort: {httpStatus: 418${part}}, delay: {fixedDelay: 7s${part}}}, ${to('v1')}}`;
    expect(of(share('')).shares('reviews')).toEqual({ v1: 100 });
    expect(of(share('')).decide('reviews')).toMatchObject({ delayMs: 0 });
    expect(of(share(', percentage: {value: 100}')).shares('reviews')).toEqual({ 418: 100 });
  });

  test('a path that can’t be rewritten goes nowhere, one of which nothing is left is the root', () => {
    const rules = of(`  - {rewrite: {uriRegexRewrite: {match: "^/(a*)$", rewrite: '\\1'}}, ${to('v1')}}`);
    expect(rules.decide('reviews', { path: `/${'a'.repeat(5_000)}` }).target).toBe(-414);
    expect(rules.decide('reviews', { path: '/' })).toMatchObject({ text: '/' });
  });

  test('redirects, answers of its own, aborts of gRPC', () => {
    const rules = of(
      `  - {match: [{uri: {exact: /r}}], redirect: {uri: /to, authority: a.test, redirectCode: 308}}\n` +
        `  - {match: [{uri: {exact: /d}}], directResponse: {status: 418, body: {string: tea}}}\n` +
        `  - {fault: {abort: {grpcStatus: UNAVAILABLE, percentage: {value: 100}}}, ${to('v1')}}`,
    );
    const [redirect, direct, abort] = ['/r', '/d', '/'].map((path) => rules.decide('reviews', { path }));
    expect([redirect!.target, direct!.target, abort!.target]).toEqual([-308, -418, -200]);
    expect(rules.reply(redirect!).redirect).toMatchObject({ host: 'a.test', path: { value: '/to', keepsRest: false } });
    expect(rules.reply(direct!)).toMatchObject({ body: 'tea', grpcStatus: -1 });
    expect(rules.reply(abort!)).toMatchObject({ grpcStatus: 14 });
  });

  test('mirrors, each by its share', () => {
    const rules = of(
      `  - {${to('v1')}, mirrors: [{destination: {host: ratings}}, {destination: {host: details}, percentage: {value: 0}}]}`,
    );
    expect(rules.decide('reviews').mirrorMask).toBe(1);
  });

  test('rules that another VirtualService delegates to hold where both match', () => {
    const delegate = `---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: inner, namespace: default}\nspec:\n  http:\n  - {match: [{uri: {prefix: /a/b}}], ${to('v2')}}\n  - {match: [{uri: {prefix: /z}}], ${to('v2')}}\n  - {${to('v1')}}\n`;
    const rules = of(`  - {match: [{uri: {prefix: /a}}], delegate: {name: inner}}\n  - {${to('v3')}}`, delegate);
    expect(['/a/b', '/a/c', '/z'].map((path) => rules.version('reviews', { path }))).toEqual(['v2', 'v1', 'v3']);
  });

  test('an HTTPRoute goes first, then the older VirtualService, and the other one is told', () => {
    const route =
      '---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r, namespace: default}\nspec: {parentRefs: [{group: "", kind: Service, name: reviews}], rules: [{backendRefs: [{name: ratings, port: 9080}]}]}\n';
    expect(of(`  - {${to('v1')}}`, route).problems).toEqual([
      'VirtualService spec.hosts[0]: HTTPRoute default/r has Service default/reviews:9080: the rules do not apply there (Conflicted)',
    ]);
    const both = of(`  - {${to('v1')}}`, `---\n${virtualService('reviews', `  - {${to('v2')}}`, 'later')}`);
    expect(both.version('reviews')).toBe('v1');
    expect(both.problems).toEqual([expect.stringContaining('VirtualService default/reviews has Service default/reviews:9080')]);
  });

  test('a subset that is not there, and a host, answer 500 and are reported', () => {
    const rules = of(`  - {match: [{uri: {exact: /s}}], ${to('v9')}}\n  - {route: [{destination: {host: nowhere}}]}`);
    expect(['/s', '/'].map((path) => rules.version('reviews', { path }))).toEqual(['500', '500']);
    expect(rules.problems.map((line) => line.split(': ')[1])).toEqual([
      'no DestinationRule for reviews has a subset v9',
      'no Service has the host nowhere',
    ]);
  });
});

test('a route in its clients’ namespace is for them alone, and there no other counts', () => {
  const route = (namespace: string, backend: string, path: string): string =>
    `apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r, namespace: ${namespace}}\nspec: {parentRefs: [{group: "", kind: Service, name: reviews, namespace: default}], rules: [{matches: [{path: {value: ${path}}}], backendRefs: [{name: ${backend}, namespace: default, port: 9080}]}]}`;
  const client =
    'apiVersion: mesh.weft.dev/v1\nkind: Workload\nmetadata: {name: c, namespace: other}\nspec: {node: a, networkNamespace: /run/netns/c, addresses: [10.2.0.1]}';
  const mesh = new Mesh(route('default', 'ratings', '/'), route('other', 'reviews', '/own'), client);
  expect(mesh.problems).toEqual([]);
  const status = (source: string, path: string): number => Math.min(mesh.decide('reviews', { source, path }).target, 0);
  // Its own namespace has rules for /own alone; a client of another one never meets them.
  expect([status('10.2.0.1', '/own'), status('10.2.0.1', '/'), status(PRODUCTPAGE, '/own')]).toEqual([0, -404, 0]);
});

describe('what some clients have instead', () => {
  const client = (namespace: string, name: string, address: string): string =>
    `apiVersion: mesh.weft.dev/v1\nkind: Workload\nmetadata: {name: ${name}, namespace: ${namespace}, labels: {app: ${name}}}\nspec: {node: a, networkNamespace: /run/netns/${name}, addresses: [${address}]}`;
  const destinationRule = (namespace: string, name: string, spec: string): string =>
    `apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: ${name}, namespace: ${namespace}}\nspec: {host: reviews.default.svc.cluster.local, ${spec}}`;
  const [CART, TELLER, VAULT] = ['10.2.0.1', '10.3.0.1', '10.3.0.2'];
  const clients = [client('shop', 'cart', CART), client('bank', 'teller', TELLER), client('bank', 'vault', VAULT)];
  const tls = (sni: string): string => `trafficPolicy: {tls: {mode: SIMPLE, sni: ${sni}}}`;
  /** What each client begins TLS with; plain: none. */
  const spoken = (mesh: Mesh, request: Partial<TestRequest> = {}): string[] =>
    [PRODUCTPAGE, CART, TELLER, VAULT].map(
      (source) => mesh.spec(mesh.decide('reviews', { source, ...request }))?.tls?.serverName ?? 'plain',
    );

  test('holds by their namespaces and labels, for services with rules and without', () => {
    const rules = [
      destinationRule('bank', 'own', tls('bank.test')),
      destinationRule('bank', 'vault', `${tls('vault.test')}, workloadSelector: {matchLabels: {app: vault}}`),
    ];
    const expected = ['plain', 'plain', 'bank.test', 'vault.test'];
    expect(spoken(new Mesh(...clients, ...rules))).toEqual(expected);
    const routed =
      'apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: reviews, namespace: default}\nspec: {hosts: [reviews], http: [{route: [{destination: {host: reviews}}]}]}';
    expect(spoken(new Mesh(...clients, ...rules, routed))).toEqual(expected);
    // Bytes that are not read go on as they are.
    expect(spoken(new Mesh(...clients, ...rules), { opaque: true })).toEqual(['plain', 'plain', 'plain', 'plain']);
  });

  test('is less than the others have, too: their TLS is not for those with a rule of their own', () => {
    const rules = [
      destinationRule('default', 'usual', tls('all.test')),
      destinationRule('bank', 'own', 'trafficPolicy: {loadBalancer: {simple: RANDOM}}'),
    ];
    expect(spoken(new Mesh(...clients, ...rules))).toEqual(['all.test', 'all.test', 'plain', 'plain']);
  });

  test('by HTTP/1 leaves gRPC what it is where all others are upgraded', () => {
    const rules = [
      destinationRule('default', 'usual', 'trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}'),
      destinationRule('bank', 'own', 'trafficPolicy: {loadBalancer: {simple: RANDOM}}'),
    ];
    const route = (kind: string): string =>
      `apiVersion: gateway.networking.k8s.io/v1\nkind: ${kind}\nmetadata: {name: own, namespace: default}\nspec: {parentRefs: [{group: "", kind: Service, name: reviews}], rules: [{backendRefs: [{name: reviews, port: 9080}]}]}`;
    const protocols = (kind: string): (string | undefined)[] => {
      const mesh = new Mesh(...clients, ...rules, route(kind));
      return [CART, TELLER].map((source) => mesh.spec(mesh.decide('reviews', { source, path: '/a.B/c', method: 'POST' }))?.protocol);
    };
    expect(protocols('HTTPRoute')).toEqual(['http2', 'http1']);
    expect(protocols('GRPCRoute')).toEqual(['http2', 'http2']);
  });

  test('has limits, and what is found out of endpoints, of its own', () => {
    const limits = 'connectionPool: {tcp: {maxConnections: 9}}, outlierDetection: {consecutive5xxErrors: 1}';
    const mesh = new Mesh(...clients, destinationRule('default', 'usual', `exportTo: [shop], trafficPolicy: {${limits}}`));
    expect(mesh.limits).toEqual(['default/reviews:9080 for shop: 9']);
    expect(mesh.guards).toEqual(['default/reviews:9080 for shop']);
    expect(mesh.spec(mesh.decide('reviews', { source: TELLER }))).toMatchObject({ connections: null });
  });
});

test('what comes to endpoints is read unless all begin TLS, and looked at first where some do, on whatever node those are', () => {
  const rule = (namespace: string, spec: string): string =>
    `apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: tls, namespace: ${namespace}}\nspec: {host: reviews.default.svc.cluster.local, ${spec}}`;
  const [tls, none] = ['trafficPolicy: {tls: {mode: SIMPLE, sni: a.test}}', 'trafficPolicy: {tls: {mode: DISABLE}}'];
  const inbound = (...rules: string[]): string | undefined => new Mesh(...rules).inbound('reviews');
  expect(inbound()).toBe('http');
  expect(inbound(rule('default', tls))).toBe('opaque');
  expect(inbound(rule('default', `subsets: [{name: v2, labels: {version: v2}, ${tls}}]`))).toBe('detect-first');
  expect(inbound(rule('default', `${tls}, subsets: [{name: v2, labels: {version: v2}, ${none}}]`))).toBe('detect-first');
  expect(inbound(rule('elsewhere', `exportTo: ["."], ${tls}`))).toBe('detect-first');
  expect(inbound(rule('default', tls), rule('elsewhere', `exportTo: ["."], ${none}`))).toBe('detect-first');
});

test('endpoints of HTTP/1 ports are spoken to by HTTP/2 where a rule upgrades them', () => {
  const rule = (policy: string): string =>
    `apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: up, namespace: default}\nspec: {host: reviews, trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: ${policy}}}}}`;
  const spoken = (policy: string): string | undefined => {
    const mesh = new Mesh(rule(policy));
    return mesh.spec(mesh.decide('reviews'))?.protocol;
  };
  expect(['UPGRADE', 'DO_NOT_UPGRADE', 'DEFAULT'].map(spoken)).toEqual(['http2', 'http1', 'http1']);
});
