// VirtualServices as the model has them: what delegates add to each other, and that nothing is for more requests than it says.
import { expect, test } from '@jest/globals';
import type { HttpRoute } from '../gen/mesh/v1/model.js';
import { compileModel } from './index.js';
import { stored } from './testing/manifests.js';

function compiled(...manifests: string[]) {
  const { resources, problems } = compileModel({ objects: stored(...manifests), running: null });
  const routes = resources.flatMap(({ name, message }) => ('rules' in message && name.startsWith('VirtualService/') ? [message] : []));
  return { routes, problems: problems.map(({ path, message }) => `${path}: ${message}`) };
}

const rulesOf = ({ routes }: { routes: HttpRoute[] }) => routes.flatMap(({ rules }) => rules);
const istio = (kind: string, metadata: string, spec: string): string =>
  `apiVersion: networking.istio.io/v1\nkind: ${kind}\nmetadata: {${metadata}}\nspec: {${spec}}`;
const service = (name: string): string =>
  `apiVersion: v1\nkind: Service\nmetadata: {name: ${name}}\nspec: {ports: [{name: http, port: 80}]}`;
const TO_A = 'route: [{destination: {host: a}}]';
const root = (rule: string): string => istio('VirtualService', 'name: root', `hosts: [a], http: [${rule}]`);
const inner = (rule: string, metadata = 'name: inner', more = ''): string => istio('VirtualService', metadata, `http: [${rule}]${more}`);

test('of a rule and its delegate both matches must hold, whatever they are of', () => {
  const matches = (outer: string, own: string) =>
    rulesOf(compiled(service('a'), root(`{match: [{${outer}}], delegate: {name: inner}}`), inner(`{match: [{${own}}], ${TO_A}}`))).flatMap(
      (rule) => rule.matches,
    );
  const labelled = (labels: Record<string, string>, namespace = '') => [{ source: { namespace, labels } }];
  expect(matches('sourceNamespace: prod', 'sourceLabels: {app: x}')).toMatchObject(labelled({ app: 'x' }, 'prod'));
  expect(matches('sourceLabels: {app: x}', 'sourceLabels: {tier: y}')).toMatchObject(labelled({ app: 'x', tier: 'y' }));
  expect(matches('sourceNamespace: prod', 'uri: {prefix: /b}')).toMatchObject(labelled({}, 'prod'));
  expect(matches('sourceNamespace: prod', 'sourceNamespace: test')).toEqual([]);
  expect(matches('sourceLabels: {app: x}', 'sourceLabels: {app: y}')).toEqual([]);
  expect(matches('method: {regex: GET|HEAD}', 'method: {regex: GET|POST}')).toEqual([]);
});

test('what a rule says beside routing is for its delegate’s rules that say nothing of it; a mirror is a host of its own namespace', () => {
  const outer =
    '{timeout: 3s, rewrite: {uri: /x}, mirror: {host: b}, headers: {request: {set: {x-by: root}}}, delegate: {name: inner, namespace: other}}';
  const own = `{${TO_A.replace('host: a', 'host: a.default.svc.cluster.local')}, timeout: 1s}`;
  const { routes, problems } = compiled(service('a'), service('b'), root(outer), inner(own, 'name: inner, namespace: other'));
  expect(problems).toEqual([]);
  expect(rulesOf({ routes })).toMatchObject([
    {
      requestTimeoutMs: 1_000,
      backends: [{ service: 'default/a', rewrite: { path: { value: '/x' } } }],
      mirrors: [{ service: 'default/b' }],
      requestHeaders: { set: [{ name: 'x-by', value: 'root' }] },
    },
  ]);
});

test('of hosts of one name a rule means its own namespace’s, else the oldest that its namespace sees', () => {
  const entry = (namespace: string, exportTo = '"*"'): string => {
    const spec = `hosts: [api.test], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, exportTo: [${exportTo}]`;
    return istio('ServiceEntry', `name: e, namespace: ${namespace}`, spec);
  };
  const rule = root('{route: [{destination: {host: api.test}}]}');
  const chosen = (...entries: string[]) => rulesOf(compiled(service('a'), ...entries, rule)).map((each) => each.backends[0]?.service);
  expect(chosen(entry('a'), entry('default'))).toEqual(['default/api.test']);
  expect(chosen(entry('c'), entry('b'))).toEqual(['c/api.test']);
  expect(chosen(entry('b', '"."'), entry('c'))).toEqual(['c/api.test']);
  expect(chosen(entry('b', 'default'), entry('c'))).toEqual(['b/api.test']);
});

test('who names a host goes before an older wildcard that covers it, a longer wildcard before a shorter one, and no rule is in its own way', () => {
  const of = (name: string, hosts: string): string => istio('VirtualService', `name: ${name}`, `hosts: [${hosts}], http: [{${TO_A}}]`);
  const { routes, problems } = compiled(
    ...[service('a'), service('ab'), service('c')],
    of('all', '"*.default.svc.cluster.local"'),
    of('some', '"*b.default.svc.cluster.local"'),
    of('one', 'a, a.default.svc.cluster.local'),
    of('late', 'a'),
  );
  expect(routes.map(({ name }) => name)).toEqual(['all@c.default:80', 'one@a.default:80', 'some@ab.default:80']);
  const has = (other: string, place: string) =>
    `spec.hosts[0]: VirtualService default/${other} has Service default/${place}: the rules do not apply there`;
  expect(problems).toEqual([has('one', 'a:80'), has('some', 'ab:80'), has('one', 'a:80')]);
});

test('a delegate is seen where its exportTo says', () => {
  const of = (exportTo: string) =>
    compiled(
      service('a'),
      root('{delegate: {name: inner, namespace: other}}'),
      inner(`{redirect: {uri: /x}}`, 'name: inner, namespace: other', `, exportTo: [${exportTo}]`),
    );
  expect(rulesOf(of('default'))).toHaveLength(1);
  const hidden = of('"."');
  expect(rulesOf(hidden)).toEqual([]);
  expect(hidden.problems.join()).toMatch(/no VirtualService other\/inner without hosts that namespace default sees/);
});

test('a host that the model can’t name is not every host of the gateway', () => {
  const gateway = istio('Gateway', 'name: edge', 'servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*.a.test"]}]');
  const bound = (hosts: string) =>
    compiled(service('a'), gateway, istio('VirtualService', 'name: v', `hosts: [${hosts}], gateways: [edge], http: [{${TO_A}}]`));
  expect(bound('"*.a.test"').routes).toMatchObject([{ hostnames: ['*.a.test'] }]);
  const { routes, problems } = bound('"*b.a.test"');
  expect(routes).toEqual([]);
  expect(problems).toEqual([expect.stringMatching(/^spec\.hosts: \*b\.a\.test is no whole label/)]);
  expect(bound('"*b.a.test", c.a.test').routes).toMatchObject([{ hostnames: ['c.a.test'] }]);
});

test('the authority is that of headers that are set or added, and of a rewrite that says one', () => {
  const hostOf = (rule: string) => rulesOf(compiled(service('a'), root(`{${TO_A}, ${rule}}`)))[0]?.backends[0]?.rewrite;
  expect(hostOf('headers: {request: {add: {Host: x.test}}}')).toEqual({ host: 'x.test', path: undefined });
  expect(hostOf('headers: {request: {set: {Host: x.test}}}, rewrite: {uri: /y, authority: ""}')).toMatchObject({ host: 'x.test' });
  expect(hostOf('rewrite: {uri: "", authority: x.test}')).toEqual({ host: 'x.test', path: undefined });
});

test('retries without attempts are none', () => {
  expect(rulesOf(compiled(service('a'), root(`{${TO_A}, retries: {backoff: 10ms}}`)))[0]?.retry?.attempts).toBe(0);
});

test('the subsets of a rule for a wildcard are those of every host that it covers', () => {
  const rule = istio('DestinationRule', 'name: r', 'host: "*.default.svc.cluster.local", subsets: [{name: v1, labels: {version: v1}}]');
  const { routes, problems } = compiled(service('a'), rule, root('{route: [{destination: {host: a, subset: v1}}]}'));
  expect(problems).toEqual([]);
  expect(rulesOf({ routes })[0]?.backends).toMatchObject([{ labels: { version: 'v1' } }]);
});

test('what a subset without labels, or with those of another one, can’t have of its own is told; plain text is not sent in place of its TLS', () => {
  const of = (subsets: string, more = '') => {
    const rule = istio('DestinationRule', 'name: r', `host: a, subsets: [${subsets}]${more}`);
    const { routes, problems } = compiled(service('a'), rule, root('{route: [{destination: {host: a, subset: s}}]}'));
    return { to: rulesOf({ routes })[0]?.backends[0]?.service, problems: problems.map((problem) => problem.split(':')[0]) };
  };
  const random = 'trafficPolicy: {loadBalancer: {simple: RANDOM}}';
  const tls = 'trafficPolicy: {tls: {mode: SIMPLE}}';
  expect(of(`{name: s, ${random}}`)).toEqual({ to: 'default/a', problems: ['spec.subsets[0].trafficPolicy'] });
  expect(of(`{name: t, labels: {v: x}}, {name: s, labels: {v: x}, ${random}}`)).toEqual({
    to: 'default/a',
    problems: ['spec.subsets[1].trafficPolicy'],
  });
  expect(of(`{name: t, labels: {v: y}, ${random}}, {name: s, labels: {v: x}, ${random}}`)).toEqual({ to: 'default/a', problems: [] });
  expect(of('{name: s}')).toEqual({ to: 'default/a', problems: [] });
  expect(of(`{name: s, ${tls}}`)).toEqual({ to: '', problems: ['spec.http[0].route[0].destination', 'spec.subsets[0].trafficPolicy'] });
  expect(of(`{name: s, ${tls}}`, `, ${tls}`)).toEqual({ to: 'default/a', problems: ['spec.subsets[0].trafficPolicy'] });
});

test('one that is for some clients takes a port from nobody else’s, and two are in conflict for the same ones alone', () => {
  const own = (name: string, exportTo: string) =>
    istio(
      'VirtualService',
      `name: ${name}, namespace: ${name}`,
      `hosts: [a.default.svc.cluster.local], exportTo: [${exportTo}], http: [{${TO_A.replace('host: a', 'host: a.default.svc.cluster.local')}}]`,
    );
  const route = (metadata: string, parent: string) =>
    `apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {${metadata}}\nspec: {parentRefs: [{group: "", kind: Service, ${parent}}]}`;
  const of = (...manifests: string[]) => {
    const { routes, problems } = compiled(service('a'), ...manifests);
    return { clients: routes.map(({ namespace, parents }) => `${namespace}: ${parents.map((each) => each.consumerNamespace)}`), problems };
  };
  expect(of(own('bank', '.'), own('games', '"*"'))).toEqual({ clients: ['bank: bank', 'games: '], problems: [] });
  expect(of(own('bank', 'games'), own('games', 'games, shop'))).toEqual({
    clients: ['bank: games', 'games: shop'],
    problems: [expect.stringMatching(/VirtualService bank\/bank has Service default\/a:80 for clients of games/)],
  });
  expect(of(route('name: r, namespace: bank', 'name: a, namespace: default'), own('bank', '.'), own('games', '"*"')).clients).toEqual([
    'games: ',
  ]);
  expect(of(route('name: r', 'name: a, sectionName: other'), own('games', '"*"')).clients).toEqual(['games: ']);
  expect(of(route('name: r', 'name: a, sectionName: http'), own('games', '"*"')).clients).toEqual([]);
});

test('a host of a ServiceEntry is the same in capitals', () => {
  const entry = istio(
    'ServiceEntry',
    'name: e',
    'hosts: [Api.Example.com], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]',
  );
  const rule = istio('DestinationRule', 'name: r', 'host: API.example.com, subsets: [{name: v1, labels: {version: v1}}]');
  const to = 'http: [{route: [{destination: {host: Api.Example.com, subset: v1}}]}]';
  const { routes, problems } = compiled(entry, rule, istio('VirtualService', 'name: v', `hosts: [Api.Example.com], ${to}`));
  expect(problems).toEqual([]);
  expect(rulesOf({ routes })[0]?.backends).toMatchObject([{ service: 'default/api.example.com', labels: { version: 'v1' } }]);
});

test('delegates that multiply beyond all bounds are left out, and the rest stays', () => {
  const many = `match: [${Array.from({ length: 1_000 }, (_, index) => `{uri: {prefix: /${index}}}`).join()}]`;
  const own = root(`{${many}, delegate: {name: inner}}, {${TO_A}}`);
  const { routes, problems } = compiled(service('a'), own, inner(`{${many}, ${TO_A}}`));
  expect(rulesOf({ routes })).toHaveLength(1);
  expect(problems).toEqual([expect.stringMatching(/^spec\.http: its delegates make 1000000 matches of it, at most 65536/)]);
});

test('matches that multiply by the services of a host beyond all bounds do not apply to it, and to others they do', () => {
  const many = `match: [${Array.from({ length: 1_000 }, (_, index) => `{uri: {prefix: /${index}}}`).join()}]`;
  const services = Array.from({ length: 263 }, (_, index) => service(`s${index}`));
  const own = istio('VirtualService', 'name: v', `hosts: ["*.default.svc.cluster.local", s7], http: [{${many}, ${TO_A}}]`);
  const { routes, problems } = compiled(service('a'), ...services, own);
  expect(routes.map(({ name }) => name)).toEqual(['v@s7.default:80']);
  expect(problems).toEqual([
    expect.stringMatching(/^spec\.hosts\[0\]: 1000 matches for 264 ports make 264000, and of 262144 there are 262144 left/),
  ]);
});

test('of gateways too, and a gateway that is named twice is one', () => {
  const many = `match: [${Array.from({ length: 1_000 }, (_, index) => `{uri: {prefix: /${index}}}`).join()}]`;
  const edge = (name: string, ports: number) => {
    const servers = Array.from({ length: ports }, (_, at) => `{port: {number: ${at + 1}, name: p${at}, protocol: HTTP}, hosts: ["*"]}`);
    return istio('Gateway', `name: ${name}`, `servers: [${servers.join()}]`);
  };
  const own = istio(
    'VirtualService',
    'name: v',
    `hosts: [a.test], gateways: [big, small, default/small, other], http: [{${many}, ${TO_A}}]`,
  );
  const { routes, problems } = compiled(service('a'), edge('big', 250), edge('small', 1), edge('other', 12), own);
  expect(routes).toHaveLength(251);
  expect(problems).toEqual([
    expect.stringMatching(/^spec\.gateways\[3\]: 1000 matches for 12 ports make 12000, and of 262144 there are 11144 left/),
  ]);
});
