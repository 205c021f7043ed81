// Istio's Gateways and the VirtualServices behind them, as the model has them: what isn't supported opens nothing and is told.
import { describe, expect, test } from '@jest/globals';
import { Certificates, secretManifest } from '../../test/lab/certificates.js';
import { type ConnectionRoute, type Listener, ResourceType } from '../gen/mesh/v1/model.js';
import { attachmentsOf } from './attachments.js';
import { compileModel } from './index.js';
import { stored } from './testing/manifests.js';

function compiled(...manifests: string[]) {
  const { resources, problems, visibility } = compileModel({ objects: stored(...manifests), running: null });
  return {
    resources,
    problems: problems.map(({ path, message }) => `${path}: ${message}`),
    visibility,
  };
}

const gateway = (servers: string, name = 'edge', spec = ''): string =>
  `apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: ${name}}\nspec: {servers: [${servers}]${spec}}`;
const server = (port: number, protocol: string, hosts: string, rest = ''): string =>
  `{port: {number: ${port}, name: p${port}, protocol: ${protocol}}, hosts: [${hosts}]${rest}}`;
const virtualService = (name: string, hosts: string, rest: string, gateways = 'edge'): string =>
  `apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: ${name}}\nspec:\n  hosts: [${hosts}]\n  gateways: [${gateways}]\n${rest}`;
const SERVICE = 'apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{name: http, port: 80}, {name: https, port: 443}]}';
const TO_A = '  http: [{route: [{destination: {host: a}}]}]';

describe('what a server asks for and can’t be had', () => {
  test.each<[string, string, RegExp]>([
    ['ISTIO_MUTUAL', server(443, 'HTTPS', '"*"', ', tls: {mode: ISTIO_MUTUAL}'), /ISTIO_MUTUAL.*nothing listens/],
    ['UDP', server(53, 'UDP', '"*"'), /protocol UDP is not supported/],
    ['a socket', server(0, 'HTTP', '"*"', ', bind: "unix:///run/x"'), /no IP address/],
    [
      'two protocols on one port',
      `${server(80, 'HTTP', '"*"')}, {port: {number: 80, name: b, protocol: TCP}, hosts: ["*"]}`,
      /another protocol/,
    ],
  ])('%s opens nothing', (_, servers, message) => {
    const { resources, problems } = compiled(gateway(servers));
    expect(resources.filter(({ name }) => name.includes('edge@istio')).length).toBe(servers.includes('name: b') ? 1 : 0);
    expect(problems.join()).toMatch(message);
  });

  test.each<[string, string]>([
    ['a Secret that is missing', 'credentialName: nowhere'],
    ['hashes of certificates', 'credentialName: shop, verifyCertificateHash: [ab]'],
    ['certificates of files', 'serverCertificate: /a.crt, privateKey: /a.key'],
  ])('%s closes the server', (_, tls) => {
    const { resources, problems } = compiled(gateway(server(443, 'HTTPS', 'a.test', `, tls: {mode: SIMPLE, ${tls}}`)));
    const [listener] = resources;
    expect(listener?.message).toMatchObject({ hostname: 'a.test', tls: { certificates: [] } });
    expect(problems.join()).toContain('the listener is closed');
  });
});

describe('names of clients', () => {
  const certificates = new Certificates();
  const authority = certificates.authority('clients');
  const pair = certificates.issue(authority, 'DNS:a.test');
  certificates.remove();
  const secret = `apiVersion: v1
kind: Secret
metadata: {name: shop}
stringData: {cert: ${JSON.stringify(pair.cert)}, key: ${JSON.stringify(pair.key)}, cacert: ${JSON.stringify(authority.cert)}}`;
  const asked = (mode: string, names: string) => {
    const tls = `, tls: {mode: ${mode}, credentialName: shop, subjectAltNames: [${names}]}`;
    const { resources, problems } = compiled(secret, gateway(server(443, 'HTTPS', 'a.test', tls)));
    const { message } = resources.find(({ name }) => name.includes('edge@istio'))!;
    return { message, problems: problems.join() };
  };

  test.each(['MUTUAL', 'OPTIONAL_MUTUAL'])('%s: SPIFFE IDs, DNS names and addresses; others are left out', (mode) => {
    const { message, problems } = asked(mode, '"spiffe://td.test/ns/a/sa/b", c.test, 192.0.2.1, ".d.test", "http://e", ""');
    expect(message).toMatchObject({ tls: { clientAccepts: ['spiffe://td.test/ns/a/sa/b', 'c.test', '192.0.2.1'] } });
    expect(problems.match(/subjectAltNames\[\d\]/g)).toEqual(['subjectAltNames[3]', 'subjectAltNames[4]', 'subjectAltNames[5]']);
  });

  test.each([
    ['none of which can be', 'MUTUAL', '"http://e"'],
    ['where clients are not asked', 'SIMPLE', 'c.test'],
  ])('%s close the server', (_, mode, names) => {
    const { message, problems } = asked(mode, names);
    expect(message).toMatchObject({ tls: { certificates: [] } });
    expect(problems).toContain('the listener is closed');
  });
});

test('of versions older than TLS 1.2 it is told that they are not spoken', () => {
  const certificates = new Certificates();
  const secret = secretManifest('shop', certificates.issue(certificates.authority('root'), 'DNS:a.test')).replace('\n---', '');
  certificates.remove();
  const tls = 'credentialName: shop, minProtocolVersion: TLSV1_0, maxProtocolVersion: TLSV1_1, cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256]';
  const { problems } = compiled(secret, gateway(server(443, 'HTTPS', 'a.test', `, tls: {mode: SIMPLE, ${tls}}`)));
  expect(problems.map((each) => each.split(':').slice(0, 2).join())).toEqual([
    'spec.servers[0].tls.minProtocolVersion, TLSV1_0 is not spoken',
    'spec.servers[0].tls.maxProtocolVersion, TLSV1_1 is not spoken',
  ]);
});

test('AUTO_PASSTHROUGH leads by server name to the ports and subsets of services that its hosts cover and its namespace sees', () => {
  const subsets =
    'apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec: {host: a, subsets: [{name: v1, labels: {version: v1}}]}';
  const hidden = SERVICE.replace('{name: a}', '{name: hidden, annotations: {networking.istio.io/exportTo: "~"}}');
  const outside =
    'apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: o}\nspec: {hosts: [o.local], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}';
  const auto = (hosts: string): string => gateway(server(15443, 'TLS', hosts, ', tls: {mode: AUTO_PASSTHROUGH}'));
  const named = (hosts: string): string[] => {
    const { resources, problems } = compiled(SERVICE, subsets, hidden, outside, auto(hosts));
    expect(problems).toEqual([]);
    const listeners = resources.filter(({ type }) => type === ResourceType.LISTENER).map(({ message }) => (message as Listener).hostname);
    const routes = resources.filter(({ type }) => type === ResourceType.CONNECTION_ROUTE).map(({ message }) => message as ConnectionRoute);
    return [...listeners, ...routes.map(({ serverNames, backends: [to] }) => `${serverNames} ${to?.port} ${Object.values(to!.labels)}`)];
  };
  const all = ['80_._', '80_.v1_', '443_._', '443_.v1_'].sort();
  const routes = all.map(
    (each) => `outbound_.${each}.a.default.svc.cluster.local ${Number.parseInt(each, 10)} ${each.includes('v1') ? 'v1' : ''}`,
  );
  expect(named('"*.local"')).toEqual(['*.local', ...routes]);
  expect(named('a.default.svc.cluster.local')).toEqual(['*.a.default.svc.cluster.local', ...routes]);
  expect(named('other/*.local')).toEqual(['*.local']);
});

test('of a host that several namespaces have AUTO_PASSTHROUGH leads to that of its own, else to the oldest', () => {
  const entry = (namespace: string) =>
    `apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e, namespace: ${namespace}}\nspec: {hosts: [e.local], location: MESH_INTERNAL, resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}]}`;
  const ledTo = (...namespaces: string[]): (string | undefined)[] => {
    const { resources } = compiled(...namespaces.map(entry), gateway(server(15443, 'TLS', '"*.local"', ', tls: {mode: AUTO_PASSTHROUGH}')));
    const routes = resources.filter(({ type }) => type === ResourceType.CONNECTION_ROUTE).map(({ message }) => message as ConnectionRoute);
    return routes.flatMap(({ backends }) => backends.map(({ service }) => service));
  };
  expect(ledTo('a', 'default')).toEqual(['default/e.local']);
  expect(ledTo('b', 'a')).toEqual(['b/e.local']);
});

test('what is attached to a Gateway of Istio’s stands in no status of the Gateway API', () => {
  const { resources } = compiled(SERVICE, gateway(server(80, 'HTTP', '"*"')), virtualService('v', '"*"', TO_A));
  expect(attachmentsOf(resources)).toEqual({ routes: new Map(), listenerSets: new Map(), gatewaysOf: new Map() });
});

describe('VirtualServices behind a Gateway', () => {
  test('are bound where hosts have something in common, in the namespaces that the server takes', () => {
    const own = gateway(server(80, 'HTTP', '"*.a.test", other/b.test'));
    const { resources, problems } = compiled(
      SERVICE,
      own,
      virtualService('bound', 'x.a.test', TO_A),
      virtualService('elsewhere', 'b.test', TO_A),
      virtualService('nowhere', 'x.a.test', TO_A, 'missing'),
    );
    const routes = resources.filter(({ name }) => name.startsWith('VirtualService/'));
    expect(routes.map(({ name }) => name)).toEqual(['VirtualService/default/bound@gateway default/edge:80']);
    expect(routes[0]?.message).toMatchObject({ hostnames: ['x.a.test'], parents: [{ section: 'p80:*.a.test', port: 80 }] });
    expect(problems.join('\n')).toMatch(/no server of Gateway default\/edge has one of its hosts.*Gateway default\/missing doesn.t exist/s);
  });

  test('a destination without a port is the server’s; rules and matches are for the Gateways that they name', () => {
    const rules = `  http:
  - {match: [{uri: {prefix: /m}, gateways: [mesh]}], route: [{destination: {host: a, port: {number: 443}}}]}
  - {match: [{uri: {prefix: /g}, gateways: [edge]}], route: [{destination: {host: a}}]}
  - {route: [{destination: {host: a}}]}
  - {match: [{uri: {prefix: /never}}], route: [{destination: {host: a}}]}`;
    const { resources } = compiled(SERVICE, gateway(server(443, 'HTTP', '"*"')), virtualService('v', 'a', rules, 'edge, mesh'));
    const rulesOf = (name: string) =>
      resources.flatMap((each) => (each.name === name && 'rules' in each.message ? each.message.rules : []));
    const paths = (name: string) => rulesOf(name).map(({ matches, backends }) => [matches[0]?.path?.value, backends[0]?.port]);
    expect(paths('VirtualService/default/v@gateway default/edge:443')).toEqual([
      ['/g', 443],
      [undefined, 443],
    ]);
    expect(paths('VirtualService/default/v@a.default:80')).toEqual([
      ['/m', 443],
      [undefined, 80],
    ]);
  });
});

test('a selector names labels of nodes; where none has them the Gateway runs on every node', () => {
  const node = 'apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {role: edge}}';
  const on = (labels: string) => compiled(node, gateway(server(80, 'HTTP', '"*"'), 'edge', `, selector: ${labels}`)).visibility?.gateways;
  expect(on('{role: edge}')?.get('default/edge@istio')).toEqual({ matchLabels: { role: 'edge' } });
  expect(on('{istio: ingressgateway}')).toBeUndefined();
});

test('what narrows a rule for connections beyond port and server name is told, of TLS too', () => {
  const tls = '  tls: [{match: [{sniHosts: [a.test], sourceLabels: {app: b}}], route: [{destination: {host: a, port: {number: 443}}}]}]';
  const own = gateway(server(443, 'TLS', 'a.test', ', tls: {mode: PASSTHROUGH}'));
  expect(compiled(SERVICE, own, virtualService('a', 'a.test', tls)).problems).toEqual([
    'spec.tls[0].match: connections are matched by port and server name alone: this rule is for all others',
  ]);
});
