// Gateways as the model has them: listeners, their TLS, and the routes that they take.
import { readFileSync } from 'node:fs';
import { rootCertificates } from 'node:tls';
import { describe, expect, test } from '@jest/globals';
import { ForwardClientCert, Protocol, ResourceType, TlsVersion } from '../gen/mesh/v1/model.js';
import { compileModel } from './index.js';
import { gateway, messages, route, stored } from './testing/manifests.js';

test('a gateway takes routes by listener, namespace and hostname', () => {
  const edge = gateway(
    'listeners: [{name: a, port: 80, protocol: HTTP, hostname: "*.shop.test"}, {name: b, port: 81, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}, {name: t, port: 82, protocol: TCP}]',
  );
  const parent = 'parentRefs: [{name: edge, namespace: shop}]';
  const { resources, problems } = compileModel({
    objects: stored(
      edge,
      route(`{${parent}, hostnames: [x.shop.test]}`, 'shop', 'both'),
      route(`{${parent}, hostnames: [elsewhere.test]}`, 'shop', 'b-only'),
      route(`{${parent}}`, 'other', 'foreign'),
      route('{parentRefs: [{name: edge, sectionName: t}, {name: gone}]}', 'shop', 'none'),
    ),
    running: null,
  });
  const sections = messages(resources, ResourceType.HTTP_ROUTE).map(
    (compiled) => `${compiled.name}: ${compiled.parents.map((own) => own.section).join(' ')}`,
  );
  expect(sections).toEqual(['foreign: b', 'b-only: b', 'both: a b', 'none: ']);
  expect(problems.map((problem) => `${problem.name} ${problem.path}`)).toEqual(['none spec.parentRefs[0]', 'none spec.parentRefs[1]']);
  expect(messages(resources, ResourceType.LISTENER)).toMatchObject([
    { gateway: 'shop/edge', name: 'a', port: 80, protocol: Protocol.HTTP, hostname: '*.shop.test', address: '' },
    { name: 'b' },
    { name: 't', protocol: Protocol.TCP },
  ]);
});

test('a filter for a listener of a Gateway is for none of the same name that a ListenerSet adds', () => {
  const listener = (port: number) => `listeners: [{name: web, port: ${port}, protocol: HTTP}]`;
  const set = `apiVersion: gateway.networking.k8s.io/v1\nkind: ListenerSet\nmetadata: {name: more, namespace: shop}\nspec: {parentRef: {name: edge}, ${listener(81)}}`;
  const filter = `apiVersion: mesh.weft.dev/v1\nkind: Filter\nmetadata: {name: f, namespace: shop}\nspec: {targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge, sectionName: web}], module: 'export const onRequest = () => undefined'}`;
  const objects = stored(gateway(`allowedListeners: {namespaces: {from: Same}}, ${listener(80)}`), set, filter);
  const listeners = messages(compileModel({ objects, running: null }).resources, ResourceType.LISTENER);
  expect(listeners.map(({ name, filters }) => [name, ...filters])).toEqual([['shop/more/web'], ['web', 'shop/f']]);
});

describe('an HTTPS listener', () => {
  const golden = readFileSync(new URL('../resources/goldens/secrets-and-https.yaml', import.meta.url), 'utf8');
  const secret = golden.slice(golden.indexOf('apiVersion'), golden.indexOf('---')).replace('name: good', 'name: cert, namespace: shop');
  const https = (name: string, refs: string) =>
    `{name: ${name}, port: 443, protocol: HTTPS, hostname: ${name}.test, tls: {certificateRefs: [${refs}]}}`;

  test('has the certificates of its Secrets; one without is closed and told, and the others go on', () => {
    const listeners = [
      https('a', '{name: cert}, {name: absent}'),
      https('b', '{name: cert, namespace: other}'),
      '{name: c, port: 80, protocol: HTTP}',
    ];
    const objects = stored(secret, gateway(`listeners: [${listeners}]`), route('{parentRefs: [{name: edge}], rules: [{}]}'));
    const { resources, problems } = compileModel({ objects, running: null });
    const [a, b, c] = messages(resources, ResourceType.LISTENER);
    expect(a).toMatchObject({ protocol: Protocol.HTTPS, tls: { certificates: [{ chain: expect.stringContaining('BEGIN CERTIFICATE') }] } });
    expect(b).toMatchObject({ protocol: Protocol.HTTPS, tls: { certificates: [] } });
    expect(c).toMatchObject({ protocol: Protocol.HTTP, tls: undefined });
    expect(problems.map(({ path, message }) => `${path}: ${message}`)).toEqual([
      "spec.listeners[0].tls.certificateRefs[1]: Secret shop/absent doesn't exist: its certificate is not served",
      'spec.listeners[1].tls.certificateRefs[0]: Secret other/cert is in another namespace and no ReferenceGrant in other allows Gateway to refer to it: its certificate is not served',
      'spec.listeners[1]: listener b has no certificate: it is closed',
    ]);
    expect(messages(resources, ResourceType.HTTP_ROUTE)[0]?.parents.map(({ section }) => section)).toEqual(['a', 'b', 'c']);
  });

  test('with an expired certificate is served, and that is told', () => {
    const objects = stored(secret, gateway(`listeners: [${https('a', '{name: cert}')}]`));
    const later = compileModel({ objects, running: null, nowMs: Date.UTC(2200, 0) });
    expect(messages(later.resources, ResourceType.LISTENER)[0]?.tls?.certificates).toHaveLength(1);
    expect(later.problems.map(({ message }) => message)).toEqual([
      expect.stringMatching(/^the certificate of Secret shop\/cert expired at 21/),
    ]);
    expect(compileModel({ objects, running: null, nowMs: Date.UTC(2050, 0) }).problems).toEqual([]);
  });
});

test('a listener’s TLS has the limits of its options, and the fallback of its gateway', () => {
  const secure = gateway(
    'listeners: [{name: a, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: absent}], options: {mesh.weft.dev/min-protocol-version: "1.3", mesh.weft.dev/cipher-suites: "TLS_AES_256_GCM_SHA384 , TLS_AES_128_GCM_SHA256"}}}, {name: b, port: 444, protocol: HTTPS, tls: {certificateRefs: [{name: absent}]}}], tls: {frontend: {default: {}, perPort: [{port: 444, tls: {validation: {mode: AllowInsecureFallback, caCertificateRefs: [{group: "", kind: ConfigMap, name: ca}]}}}]}}',
  );
  const configMap = `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ca, namespace: shop}\ndata: {ca.crt: ${JSON.stringify(rootCertificates[0])}}`;
  const { resources } = compileModel({ objects: stored(secure, configMap), running: null });
  expect(messages(resources, ResourceType.LISTENER).map(({ tls }) => [tls?.clientFallback, tls?.limits])).toEqual([
    [
      false,
      {
        minVersion: TlsVersion.TLS_VERSION_1_3,
        maxVersion: TlsVersion.TLS_VERSION_1_3,
        cipherSuites: ['TLS_AES_256_GCM_SHA384', 'TLS_AES_128_GCM_SHA256'],
      },
    ],
    [true, undefined],
  ]);
});

test('what a gateway believes and tells of its clients is said by its annotations', () => {
  const text = gateway('listeners: [{name: a, port: 80, protocol: HTTP}]');
  const said = (annotations: string) =>
    messages(
      compileModel({ objects: stored(text.replace('metadata: {', `metadata: {${annotations}`)), running: null }).resources,
      ResourceType.LISTENER,
    ).map(({ trustedHops, forwardClientCert, proxyProtocol }) => [trustedHops, forwardClientCert, proxyProtocol]);
  expect(said('')).toEqual([[undefined, ForwardClientCert.SANITIZE, false]]);
  expect(said('annotations: {mesh.weft.dev/trusted-hops: "0", mesh.weft.dev/forward-client-cert: SANITIZE_SET}, ')).toEqual([
    [0, ForwardClientCert.SANITIZE_SET, false],
  ]);
  expect(said('annotations: {mesh.weft.dev/proxy-protocol: "true"}, ')).toEqual([[undefined, ForwardClientCert.SANITIZE, true]]);
});

describe('names that certificates of clients must have', () => {
  const compiled = (frontend: string) =>
    compileModel({
      objects: stored(
        gateway(
          `listeners: [{name: a, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: absent}], options: {mesh.weft.dev/client-subject-alt-names: "spiffe://td.test/cart, cart.test,192.0.2.1"}}}]${frontend}`,
        ),
        `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ca, namespace: shop}\ndata: {ca.crt: ${JSON.stringify(rootCertificates[0])}}`,
      ),
      running: null,
    });
  const verified = (mode: string) =>
    `, tls: {frontend: {default: {validation: {mode: ${mode}, caCertificateRefs: [{group: "", kind: ConfigMap, name: ca}]}}}}`;

  test('are those of the listener’s option', () => {
    const [listener] = messages(compiled(verified('AllowValidOnly')).resources, ResourceType.LISTENER);
    expect(listener?.tls).toMatchObject({
      clientTrust: rootCertificates[0],
      clientAccepts: ['spiffe://td.test/cart', 'cart.test', '192.0.2.1'],
    });
  });

  test.each(['', verified('AllowInsecureFallback')])(
    'close the listener where clients need not show one that was verified: %j',
    (frontend) => {
      const { resources, problems } = compiled(frontend);
      expect(messages(resources, ResourceType.LISTENER)[0]?.tls).toMatchObject({ certificates: [], clientTrust: '', clientAccepts: [] });
      expect(problems.map(({ message }) => message)).toContainEqual(
        'mesh.weft.dev/client-subject-alt-names asks for names in certificates of clients, which spec.tls.frontend of the Gateway does not verify on port 443: listener a is closed',
      );
    },
  );
});

describe('certificates of clients', () => {
  const listeners =
    'listeners: [{name: a, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: absent}]}}, {name: b, port: 444, protocol: HTTPS, tls: {certificateRefs: [{name: absent}]}}]';
  const reference = (name: string, more = '') => `{validation: {caCertificateRefs: [{group: "", kind: ConfigMap, name: ${name}${more}}]}}`;
  const closedBy = (tls: string) =>
    compileModel({ objects: stored(gateway(`${listeners}, tls: ${tls}`)), running: null })
      .problems.map(({ path, message }) => `${path}: ${message}`)
      .filter((line) => !line.includes('absent'));

  test('what is said of a port replaces what is said of all, and without any CA the listener is closed', () => {
    expect(closedBy(`{frontend: {default: {}, perPort: [{port: 444, tls: ${reference('no')}}]}}`)).toEqual([
      'spec.listeners[0]: listener a has no certificate: it is closed',
      "spec.tls.frontend.perPort[0].tls.validation.caCertificateRefs[0]: ConfigMap shop/no doesn't exist: it is not used",
      'spec.listeners[1]: no client of listener b could be trusted: it is closed',
    ]);
    expect(closedBy(`{frontend: {default: ${reference('no', ', namespace: other')}, perPort: [{port: 444, tls: {}}]}}`)).toEqual([
      'spec.tls.frontend.default.validation.caCertificateRefs[0]: ConfigMap other/no is in another namespace and no ReferenceGrant in other allows Gateway to refer to it: it is not used',
      'spec.listeners[0]: no client of listener a could be trusted: it is closed',
      'spec.listeners[1]: listener b has no certificate: it is closed',
    ]);
  });
});

test('the first listener of a port has it; nothing listens for other protocols and addresses', () => {
  const objects = stored(
    gateway(
      'addresses: [{value: 10.0.0.1}, {type: Hostname, value: a.b}], listeners: [{name: a, port: 80, protocol: HTTP}, {name: b, port: 80, protocol: TCP}, {name: c, port: 81, protocol: UDP}]',
    ),
  );
  const { resources, problems } = compileModel({ objects, running: null });
  expect(messages(resources, ResourceType.LISTENER).map(({ name, address }) => `${name} ${address}`)).toEqual(['a 10.0.0.1']);
  expect(problems.map(({ path, reason }) => `${path} ${reason}`)).toEqual([
    'spec.addresses[1] UnsupportedAddress',
    'spec.listeners[1] ProtocolConflict',
    'spec.listeners[2].protocol UnsupportedProtocol',
  ]);
});

test('what nothing listens for takes no port away: TCP has the port that UDP has, too', () => {
  const listeners =
    '{name: u, protocol: UDP, port: 53}, {name: t, protocol: TCP, port: 53}, {name: q, protocol: QUIC, port: 80}, {name: h, protocol: HTTP, port: 80}';
  const { resources, problems } = compileModel({ objects: stored(gateway(`listeners: [${listeners}]`)), running: null });
  expect(messages(resources, ResourceType.LISTENER).map(({ name }) => name)).toEqual(['h', 't']);
  expect(problems.map(({ path, reason }) => `${path} ${reason}`)).toEqual([
    'spec.listeners[0].protocol UnsupportedProtocol',
    'spec.listeners[2].protocol UnsupportedProtocol',
  ]);
});

test('a gateway of unsupported addresses alone listens nowhere, not everywhere', () => {
  const objects = stored(gateway('addresses: [{type: Hostname, value: a.b}], listeners: [{name: a, port: 80, protocol: HTTP}]'));
  expect(messages(compileModel({ objects, running: null }).resources, ResourceType.LISTENER)).toEqual([]);
});

test('allowedRoutes by selector asks the labels of the Namespace, which has its own name among them', () => {
  const edge = (selector: string) =>
    gateway(`listeners: [{name: a, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: ${selector}}}}]`);
  const attached = (selector: string): number => {
    const objects = stored(
      edge(selector),
      'apiVersion: v1\nkind: Namespace\nmetadata: {name: team, labels: {edge: open}}',
      route('{parentRefs: [{name: edge, namespace: shop}]}', 'team'),
      route('{parentRefs: [{name: edge, namespace: shop}]}', 'other'),
    );
    const compiled = messages(compileModel({ objects, running: null }).resources, ResourceType.HTTP_ROUTE);
    return compiled.filter(({ parents }) => parents.length > 0).length;
  };
  expect(attached('{matchLabels: {edge: open}}')).toBe(1);
  expect(attached('{matchExpressions: [{key: edge, operator: DoesNotExist}]}')).toBe(1);
  expect(attached('{matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [team, other]}]}')).toBe(2);
  expect(attached('{}')).toBe(2);
  expect(attached('{matchLabels: {edge: shut}}')).toBe(0);
});
