// What Istio's webhook and the rules of its CRDs accept, warn of and refuse, case by case, kind by kind. Owner: Istio.
import { describe, expect, test } from '@jest/globals';
import { verdictOf } from '../../test/lab/verdict.js';

/** Accepted: nothing is said but what is not acted on. "~ path": accepted with a warning there. "path": refused there. */
type Case = readonly [body: string, verdict: string];

const cases = (kind: string, table: readonly Case[], wrap: (body: string) => string = (body) => `spec: ${body}`): void => {
  test.each(table)(`${kind} %s: %s`, (body, verdict) => expect(verdictOf(kind, wrap(body))).toBe(verdict));
};
const ok = 'accepted';

describe('Gateway of Istio', () => {
  const KIND = 'IstioGateway';
  const server = (text: string) => `spec: {servers: [{port: {number: 80, name: p, protocol: http}, hosts: [a.b], ${text}}]}`;
  const hosts = (text: string) => `spec: {servers: [{port: {number: 80, name: p, protocol: http}, hosts: [${text}]}]}`;
  const port = (text: string) => `spec: {servers: [{port: {${text}}, hosts: [a.b]}]}`;
  const tls = (text: string) => `spec: {servers: [{port: {number: 443, name: p, protocol: HTTPS}, hosts: [a.b], tls: {${text}}}]}`;

  cases(KIND, [
    ['{}', 'spec.servers'],
    ['{servers: []}', 'spec.servers'],
    ['{servers: [{hosts: [a.b]}]}', 'spec.servers[0].port'],
    [
      '{servers: [{port: {number: 80, name: p, protocol: HTTP}, hosts: [a.b]}, {port: {number: 81, name: p, protocol: HTTP}, hosts: [c.d]}]}',
      'spec.servers[1].port.name',
    ],
  ]);
  cases(
    KIND,
    [
      ['1.1.1.1', ok],
      ['ns/a.b', ok],
      ['"*/a.b"', ok],
      ['./a.b', ok],
      ['"*"', ok],
      ['"*.a.b"', ok],
      ['A.b', ok],
      ['~/a.b', 'spec.servers[0].hosts[0]'],
      ['a.*.b', 'spec.servers[0].hosts[0]'],
      ['ns/a.*.b', 'spec.servers[0].hosts[0]'],
      ['"*a.b"', 'spec.servers[0].hosts[0]'],
      ['"ns/*-a.b"', 'spec.servers[0].hosts[0]'],
      ['a', 'spec.servers[0].hosts[0]'],
      ['/a.b', 'spec.servers[0].hosts[0]'],
      ['ns/', 'spec.servers[0].hosts[0]'],
      ['', 'spec.servers[0].hosts'],
      [`${'a'.repeat(64)}.b`, 'spec.servers[0].hosts[0]'],
      ['a.b, a.b', ok],
    ],
    hosts,
  );
  cases(
    KIND,
    [
      ['number: 1, name: Henry, protocol: http', ok],
      ['number: 1, name: p, protocol: kafka', 'spec.servers[0].port.protocol'],
      ['number: 66000, name: p, protocol: http', 'spec.servers[0].port.number'],
      ['number: 0, name: p, protocol: http', 'spec.servers[0].port.number'],
      ['number: 1, protocol: http', 'spec.servers[0].port.name'],
      ['number: 1, name: "", protocol: http', 'spec.servers[0].port.name'],
      ['number: 1, name: p, protocol: http, targetPort: 2', 'spec.servers[0].port.targetPort'],
    ],
    port,
  );
  cases(
    KIND,
    [
      ['bind: 127.0.0.1', ok],
      ['bind: a.b', 'spec.servers[0].bind'],
      ['bind: "unix://@a"', 'spec.servers[0].port.number'],
      ['bind: "unix://a"', 'spec.servers[0].bind spec.servers[0].port.number'],
      ['tls: {httpsRedirect: true}', ok],
      ['tls: {mode: SIMPLE, credentialName: a}', 'spec.servers[0].tls.mode'],
      ['tls: {mode: AUTO_PASSTHROUGH}', ok],
    ],
    server,
  );
  cases(KIND, [
    ['{servers: [{port: {number: 0, name: p, protocol: http}, hosts: [a.b], bind: "unix:///a/b"}]}', ok],
    ['{servers: [{port: {number: 80, name: p, protocol: HTTPS}, hosts: [a.b]}]}', 'spec.servers[0].tls'],
    ['{servers: [{port: {number: 80, name: p, protocol: TCP}, hosts: [a.b], tls: {}}]}', 'spec.servers[0].tls'],
  ]);
  const both = 'serverCertificate: c, privateKey: k';
  cases(
    KIND,
    [
      ['mode: ISTIO_MUTUAL', ok],
      [`mode: SIMPLE, ${both}`, ok],
      [`mode: SIMPLE, ${both}, caCertificates: a`, ok],
      ['mode: SIMPLE, credentialName: n', ok],
      ['mode: SIMPLE, credentialName: n, privateKey: k', ok],
      ['mode: SIMPLE, credentialName: n, serverCertificate: c', ok],
      [`mode: SIMPLE, credentialName: n, ${both}`, 'spec.servers[0].tls.credentialName'],
      [`mode: SIMPLE, ${both}, tlsCertificates: [{${both}}]`, 'spec.servers[0].tls.tlsCertificates'],
      ['mode: SIMPLE, privateKey: k', 'spec.servers[0].tls.serverCertificate'],
      ['mode: SIMPLE, serverCertificate: c', 'spec.servers[0].tls.privateKey'],
      [`mode: SIMPLE, tlsCertificates: [{${both}}, {${both}}]`, ok],
      [`mode: SIMPLE, tlsCertificates: [{privateKey: k}, {${both}}]`, 'spec.servers[0].tls.tlsCertificates[0].serverCertificate'],
      [`mode: SIMPLE, tlsCertificates: [{serverCertificate: c}]`, 'spec.servers[0].tls.tlsCertificates[0].privateKey'],
      [`mode: MUTUAL, ${both}, caCertificates: a`, ok],
      [`mode: MUTUAL, ${both}`, 'spec.servers[0].tls.caCertificates'],
      ['mode: MUTUAL, credentialName: n', ok],
      ['mode: MUTUAL, credentialNames: [n, m]', ok],
      [`mode: MUTUAL, credentialNames: [n], tlsCertificates: [{${both}}]`, 'spec.servers[0].tls.tlsCertificates'],
      [`mode: MUTUAL, credentialNames: [n], ${both}`, 'spec.servers[0].tls.credentialNames'],
      [`mode: MUTUAL, caCertificates: a, tlsCertificates: [{${both}}]`, ok],
      [`mode: MUTUAL, tlsCertificates: [{${both}}]`, 'spec.servers[0].tls.caCertificates'],
      ['mode: MUTUAL', 'spec.servers[0].tls.caCertificates spec.servers[0].tls.privateKey spec.servers[0].tls.serverCertificate'],
      ['mode: OPTIONAL_MUTUAL, serverCertificate: c, caCertificates: a', 'spec.servers[0].tls.privateKey'],
      ['mode: PASSTHROUGH, credentialName: n', '~ spec.servers[0].tls.credentialName'],
      ['mode: PASSTHROUGH, caCrl: l', '~ spec.servers[0].tls.caCrl'],
      ['mode: ISTIO_MUTUAL, serverCertificate: c', 'spec.servers[0].tls.serverCertificate'],
      ['mode: ISTIO_MUTUAL, privateKey: k', 'spec.servers[0].tls.privateKey'],
      ['mode: ISTIO_MUTUAL, caCertificates: a', 'spec.servers[0].tls.caCertificates'],
      ['mode: ISTIO_MUTUAL, credentialName: n', 'spec.servers[0].tls.credentialName'],
      [`mode: SIMPLE, ${both}, caCrl: l`, 'spec.servers[0].tls.caCrl'],
      ['mode: SIMPLE, credentialName: n, caCrl: l', ok],
      ['mode: SIMPLE, credentialName: n, cipherSuites: [nonsense]', '~ spec.servers[0].tls.cipherSuites[0]'],
      ['mode: SIMPLE, credentialName: n, cipherSuites: [AES128-SHA, AES128-SHA]', '~ spec.servers[0].tls.cipherSuites[1]'],
      ['mode: SIMPLE, credentialName: n, cipherSuites: [ECDHE-RSA-AES128-SHA, -AES256-SHA, ALL]', ok],
      ['mode: SIMPLE, credentialName: n, minProtocolVersion: TLSV1_1', '~ spec.servers[0].tls.minProtocolVersion'],
      ['mode: SIMPLE, credentialName: n, httpsRedirect: true', '~ spec.servers[0].tls.httpsRedirect'],
    ],
    tls,
  );
  test('its name is one label', () => {
    expect(verdictOf(KIND, `metadata: {name: a.b}\n${server('')}`)).toBe('metadata.name');
  });
});

describe('VirtualService', () => {
  const KIND = 'VirtualService';
  const route = 'route: [{destination: {host: c.d}}]';
  const http = (text: string) => `spec: {hosts: [a.b], http: [{${text}}]}`;
  const routed = (text: string) => http(`${route}, ${text}`);
  const at = (path: string) => `spec.http[0].${path}`;

  cases(KIND, [
    [`{hosts: [a.b], http: [{${route}}]}`, ok],
    ['{hosts: [a.b]}', 'spec.http'],
    ['{hosts: ["a.b!c"], http: [{route: [{destination: {host: c}}]}]}', 'spec.hosts[0]'],
    [`{hosts: ["*.a.b", "*.b"], http: [{${route}}]}`, 'spec.hosts[1]'],
    [`{hosts: [a.b, a.b], http: [{${route}}]}`, 'spec.hosts[1]'],
    [`{hosts: [1.1.1.1], http: [{${route}}]}`, ok],
    [`{hosts: [foo.123], http: [{${route}}]}`, 'spec.hosts[0]'],
    [`{hosts: ["*"], http: [{${route}}]}`, 'spec.hosts[0]'],
    [`{hosts: ["*"], gateways: [g], http: [{${route}}]}`, ok],
    [`{hosts: ["*"], gateways: [g, mesh], http: [{${route}}]}`, 'spec.hosts[0]'],
    [`{hosts: [a.b], gateways: ["b@d"], http: [{${route}}]}`, 'spec.gateways[0]'],
    [`{hosts: [a.b], gateways: [g.example.com], http: [{${route}}]}`, '~ spec.gateways[0]'],
    [`{hosts: [a.b], gateways: [ns/g], http: [{${route}}]}`, ok],
    [`{hosts: [a.b], gateways: ["ns/*"], http: [{${route}}]}`, 'spec.gateways[0]'],
    [`{hosts: [a.b], gateways: ["*/g"], http: [{${route}}]}`, 'spec.gateways[0]'],
    [`{hosts: [a.b], gateways: [ns/g.h], http: [{${route}}]}`, 'spec.gateways[0]'],
    ['{hosts: [a.b], tcp: [{match: [{port: 9}]}]}', 'spec.tcp[0].route'],
    ['{hosts: [a.b], tls: [{match: [{port: 9, sniHosts: [a.b]}]}]}', 'spec.tls[0].route'],
    [`{hosts: [a.b], tls: [{match: [{port: 9, sniHosts: [1.1.1.1]}], ${route}}]}`, '~ spec.tls[0].match[0].sniHosts[0]'],
    [`{hosts: [a.b], tls: [{match: [{port: 9, sniHosts: ["a.*.c"]}], ${route}}]}`, 'spec.tls[0].match[0].sniHosts[0]'],
    [`{hosts: [a.b], tls: [{match: [{port: 9, sniHosts: [x.y]}], ${route}}]}`, 'spec.tls[0].match[0].sniHosts[0]'],
    [`{hosts: ["*.b"], tls: [{match: [{sniHosts: ["*.a.b"]}], ${route}}]}`, ok],
    [`{hosts: [a.b], tls: [{${route}}]}`, 'spec.tls[0].match'],
    [`{hosts: [outbound_.80_._.c.d], gateways: [ns/g], tls: [{match: [{sniHosts: [outbound_.80_._.c.d]}], ${route}}]}`, ok],
    [`{hosts: [a.b], exportTo: ["."], http: [{${route}}]}`, ok],
    [`{hosts: [a.b], exportTo: [".", ns1], http: [{${route}}]}`, ok],
    [`{hosts: [a.b], exportTo: ["~"], http: [{${route}}]}`, 'spec.exportTo[0]'],
    [`{hosts: [a.b], exportTo: [".", "*"], http: [{${route}}]}`, 'spec.exportTo[1]'],
    [`{hosts: [a.b], exportTo: [".", default], http: [{${route}}]}`, 'spec.exportTo[1]'],
    [`{hosts: [a.b], exportTo: [ns1, ns2, ns1], http: [{${route}}]}`, 'spec.exportTo[2]'],
    [`{hosts: [a.b], exportTo: [ns1_], http: [{${route}}]}`, 'spec.exportTo[0]'],
    // What another one delegates to.
    [`{http: [{${route}}]}`, ok],
    [`{gateways: [g], http: [{${route}}]}`, 'spec.gateways'],
    [`{tcp: [{${route}}]}`, 'spec.tcp'],
    ['{http: [{delegate: {name: x}}]}', 'spec.http[0].delegate'],
    ['{hosts: [a.b], http: [{delegate: {name: x, namespace: y}}]}', ok],
    [`{hosts: [a.b], http: [{delegate: {name: x}, ${route}}]}`, 'spec.http[0].delegate'],
  ]);
  cases(
    KIND,
    [
      ['', at('route')],
      ['route: []', at('route')],
      ['route: [{}]', at('route[0].destination')],
      ['route: [{destination: {}}]', at('route[0].destination.host')],
      ['route: [{destination: {host: "*"}}]', at('route[0].destination.host')],
      ['route: [{destination: {host: "*-c.d"}}]', ok],
      ['route: [{destination: {host: "*c.d"}}]', ok],
      ['route: [{destination: {host: "c.*"}}]', at('route[0].destination.host')],
      ['route: [{destination: {host: ns/c}}]', at('route[0].destination.host')],
      ['route: [{destination: {host: 1.2.3.4}}]', at('route[0].destination.host')],
      ['route: [{destination: {host: c, subset: v1, port: {number: 9}}}]', ok],
      ['route: [{destination: {host: c, port: {}}}]', at('route[0].destination.port.number')],
      ['route: [{destination: {host: c, subset: a_b}}]', at('route[0].destination.subset')],
      ['route: [{destination: {host: c}, weight: 0}]', ok],
      ['route: [{destination: {host: c}, weight: 100}, {destination: {host: d}, weight: 0}]', ok],
      ['route: [{destination: {host: c}, weight: 550}, {destination: {host: d}, weight: 500}]', ok],
      ['route: [{destination: {host: c}, weight: 0}, {destination: {host: d}, weight: 0}]', at('route')],
      ['route: [{destination: {host: c}, weight: 5}, {destination: {host: d}, weight: -1}]', at('route[1].weight')],
      ['redirect: {uri: /a, authority: b.c}', ok],
      ['redirect: {}', at('redirect')],
      ['redirect: {redirectCode: 302}', at('redirect')],
      ['redirect: {uri: "", authority: ""}', at('redirect')],
      ['redirect: {scheme: https}', ok],
      ['redirect: {scheme: ftp}', at('redirect.scheme')],
      ['redirect: {derivePort: FROM_REQUEST_PORT}', ok],
      ['redirect: {uri: t, redirectCode: 299}', at('redirect.redirectCode')],
      ['redirect: {uri: t, redirectCode: 400}', at('redirect.redirectCode')],
      ['redirect: {uri: t, redirectCode: 308}', ok],
      [`redirect: {uri: t}, ${route}`, at('redirect')],
      ['redirect: {uri: t}, rewrite: {uri: /b}', at('rewrite')],
      ['redirect: {uri: t}, fault: {abort: {httpStatus: 500}}', at('fault')],
      ['directResponse: {status: 200}', ok],
      ['directResponse: {status: 600}', ok],
      ['directResponse: {status: 199}', at('directResponse.status')],
      ['directResponse: {status: 601}', at('directResponse.status')],
      ['directResponse: {status: 200, body: {string: hello}}', ok],
      [`directResponse: {status: 200, body: {string: ${'a'.repeat(103_000)}}}`, '~ spec.http[0].directResponse.body.string'],
      [`directResponse: {status: 200}, ${route}`, at('directResponse')],
      ['directResponse: {status: 200}, rewrite: {uri: /b}', at('rewrite')],
    ],
    http,
  );
  cases(
    KIND,
    [
      ['match: [{headers: {x-a: {exact: b}}}]', ok],
      ['match: [{headers: {"funky!$#_": {exact: b}}}]', ok],
      ['match: [{headers: {":authority": {exact: b}}}]', ok],
      ['match: [{headers: {"::": {exact: b}}}]', at('match[0].headers["::"]')],
      ['match: [{headers: {"a\\"b": {exact: b}}}]', at('match[0].headers["a\\"b"]')],
      ['match: [{headers: {x: {}}}]', ok],
      ['match: [{headers: {x: {prefix: ""}}}]', at('match[0].headers.x.prefix')],
      ['match: [{headers: {x: {regex: ""}}}]', at('match[0].headers.x.regex')],
      ['match: [{headers: {x: {regex: "a("}}}]', at('match[0].headers.x.regex')],
      ['match: [{headers: {x: {regex: "(?=a)"}}}]', at('match[0].headers.x.regex')],
      ['match: [{withoutHeaders: {x: {regex: "*"}}}]', ok],
      ['match: [{withoutHeaders: {x: {prefix: ""}}}]', at('match[0].withoutHeaders.x.prefix')],
      ['match: [{uri: {prefix: ""}}]', ok],
      ['match: [{uri: {regex: ""}}]', at('match[0].uri.regex')],
      ['match: [{method: {regex: ""}}]', at('match[0].method.regex')],
      ['match: [{method: {prefix: ""}}]', at('match[0].method.prefix')],
      ['match: [{scheme: {prefix: ""}}]', at('match[0].scheme.prefix')],
      ['match: [{authority: {prefix: ""}}]', at('match[0].authority.prefix')],
      ['match: [{queryParams: {q: {prefix: ""}}}]', at('match[0].queryParams.q.prefix')],
      ['match: [{queryParams: {q: {regex: ""}}}]', at('match[0].queryParams.q.regex')],
      ['match: [{uri: {exact: a, prefix: b}}]', at('match[0].uri.prefix')],
      [`match: [{uri: {regex: ${'a'.repeat(1025)}}}]`, at('match[0].uri.regex')],
      ['match: [{port: 70000}]', at('match[0].port')],
      ['match: [{sourceNamespace: ns}]', ok],
      ['match: [{sourceNamespace: n_s}]', at('match[0].sourceNamespace')],
      ['match: [{sourceLabels: {"a b": c}}]', at('match[0].sourceLabels["a b"]')],
      ['match: [{gateways: ["b@d"]}]', at('match[0].gateways[0]')],
      ['match: [{headers: {"@request.auth.claims.foo": {exact: b}}}]', at('match[0].headers["@request.auth.claims.foo"]')],
      ['headers: {request: {set: {":authority": a}}}', ok],
      ['headers: {request: {add: {host: a}}}', ok],
      ['headers: {request: {set: {":path": a}}}', at('headers.request.set[":path"]')],
      ['headers: {request: {set: {"": a}}}', at('headers.request.set[""]')],
      ['headers: {request: {remove: [""]}}', at('headers.request.remove[0]')],
      ['headers: {request: {remove: [Host]}}', at('headers.request.remove[0]')],
      ['headers: {request: {remove: [":authority"]}}', at('headers.request.remove[0]')],
      ['headers: {response: {set: {host: a}}}', at('headers.response.set.host')],
      ['headers: {response: {add: {":status": a}}}', at('headers.response.add[":status"]')],
      ['headers: {response: {set: {a: "100%%"}}}', ok],
      ['headers: {response: {set: {a: "abc%def"}}}', at('headers.response.set.a')],
      ['headers: {response: {set: {a: "%START_TIME%%"}}}', at('headers.response.set.a')],
      ['headers: {request: {set: {":authority": a}}}, rewrite: {authority: b}', at('rewrite.authority')],
      ['headers: {request: {set: {host: a}, add: {":authority": b}}}', at('headers.request.add[":authority"]')],
      ['timeout: 10s', ok],
      ['timeout: 10', at('timeout')],
      ['timeout: -1s', at('timeout')],
      ['timeout: 2.0005s', at('timeout')],
      ['retries: {attempts: 10, perTryTimeout: 2s, retryOn: "5xx,gateway-error"}', ok],
      ['retries: {attempts: 0}', ok],
      ['retries: {attempts: 0, retryOn: 5xx}', at('retries.retryOn')],
      ['retries: {retryOn: 5xx}', at('retries.retryOn')],
      ['retries: {attempts: 0, retryRemoteLocalities: false}', at('retries.retryRemoteLocalities')],
      ['retries: {attempts: -1}', at('retries.attempts')],
      ['retries: {attempts: 1, retryOn: "503,connect-failure"}', ok],
      ['retries: {attempts: 1, retryOn: "600,connect-failure"}', at('retries.retryOn')],
      ['retries: {attempts: 1, retryOn: "5xx,any policy"}', at('retries.retryOn')],
      ['retries: {attempts: 1, perTryTimeout: 2.000000001s}', at('retries.perTryTimeout')],
      ['retries: {attempts: 1, perTryTimeout: 999ns}', at('retries.perTryTimeout')],
      ['retries: {attempts: 1, backoff: 999ns}', at('retries.backoff')],
      ['rewrite: {uri: /a, authority: b}', ok],
      ['rewrite: {}', at('rewrite')],
      ['rewrite: {uri: ""}', at('rewrite')],
      ['rewrite: {uriRegexRewrite: {match: "^/a/([^/]+)(/.*)$", rewrite: "\\\\2/b/\\\\1"}}', ok],
      ['rewrite: {uri: /a, uriRegexRewrite: {match: a, rewrite: b}}', at('rewrite.uriRegexRewrite')],
      ['rewrite: {uriRegexRewrite: {rewrite: b}}', at('rewrite.uriRegexRewrite.match')],
      ['rewrite: {uriRegexRewrite: {match: a}}', at('rewrite.uriRegexRewrite.rewrite')],
      ['rewrite: {uriRegexRewrite: {match: "[", rewrite: b}}', at('rewrite.uriRegexRewrite.match')],
      ['mirrorPercent: 5', '~ spec.http[0].mirrorPercent'],
      ['mirrorPercent: 101', at('mirrorPercent')],
      ['mirrorPercentage: {value: 1}', ok],
      ['mirrorPercentage: {value: 101}', at('mirrorPercentage.value')],
      ['mirrorPercentage: {value: -1}', at('mirrorPercentage.value')],
      ['mirrors: [{}]', at('mirrors[0].destination')],
      ['mirrors: [{destination: {host: c}}, {destination: {host: d}, percentage: {value: 50}}]', ok],
      ['mirrors: [{destination: {host: c}, percentage: {value: 101}}]', at('mirrors[0].percentage.value')],
      ['mirror: {host: c}, mirrors: [{destination: {host: c}}]', at('mirrors')],
      ['corsPolicy: {allowMethods: [GET, POST], allowHeaders: [a, b], exposeHeaders: [c], maxAge: 2s}', ok],
      ['corsPolicy: {allowMethods: [GET, PUTT]}', at('corsPolicy.allowMethods[1]')],
      ['corsPolicy: {allowMethods: ["*"]}', at('corsPolicy.allowMethods[0]')],
      ['corsPolicy: {allowHeaders: ["*"]}', ok],
      ['corsPolicy: {exposeHeaders: [""]}', at('corsPolicy.exposeHeaders[0]')],
      ['corsPolicy: {allowHeaders: ["a:b"]}', at('corsPolicy.allowHeaders[0]')],
      ['corsPolicy: {maxAge: 2.5s}', at('corsPolicy.maxAge')],
      ['corsPolicy: {allowOrigins: [{exact: a}, {prefix: b}, {regex: c}]}', ok],
      ['corsPolicy: {allowOrigins: [{exact: ""}]}', at('corsPolicy.allowOrigins[0]')],
      ['corsPolicy: {allowOrigins: [{}]}', at('corsPolicy.allowOrigins[0]')],
      ['fault: {}', at('fault')],
      ['fault: {abort: {httpStatus: 600}}', ok],
      ['fault: {abort: {httpStatus: 100}}', at('fault.abort.httpStatus')],
      ['fault: {abort: {httpStatus: 9000}}', at('fault.abort.httpStatus')],
      ['fault: {abort: {grpcStatus: DEADLINE_EXCEEDED, percentage: {value: 0.001}}}', ok],
      ['fault: {abort: {grpcStatus: BAD_STATUS}}', at('fault.abort.grpcStatus')],
      ['fault: {abort: {httpStatus: 500, percentage: {value: -10}}}', at('fault.abort.percentage.value')],
      ['fault: {abort: {httpStatus: 500, percentage: {value: 0.00001}}}', at('fault.abort.percentage.value')],
      ['fault: {abort: {percentage: {value: 1}}}', '~ spec.http[0].fault.abort'],
      ['fault: {abort: {http2Error: a}}', at('fault.abort.http2Error')],
      ['fault: {delay: {fixedDelay: 3s}}', ok],
      ['fault: {delay: {percentage: {value: 1}}}', '~ spec.http[0].fault.delay'],
      ['fault: {delay: {exponentialDelay: 3s}}', at('fault.delay.exponentialDelay')],
      ['fault: {delay: {fixedDelay: 3s, percentage: {value: 101}}}', at('fault.delay.percentage.value')],
      ['fault: {delay: {fixedDelay: 3.00000004s}}', at('fault.delay.fixedDelay')],
    ],
    routed,
  );
  test('claims of tokens are for gateways alone', () => {
    const match = 'match: [{headers: {"@request.auth.claims[a]": {exact: b}}, withoutHeaders: {"@request.auth.claims.c": {exact: d}}}]';
    expect(verdictOf(KIND, `spec: {hosts: [a.b], gateways: [g], http: [{${match}, ${route}}]}`)).toBe(ok);
  });
});

describe('DestinationRule', () => {
  const KIND = 'DestinationRule';
  const policy = (text: string) => `spec: {host: reviews, trafficPolicy: {${text}}}`;
  const at = (path: string) => `spec.trafficPolicy.${path}`;

  cases(KIND, [
    ['{host: reviews, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}', ok],
    ['{subsets: [{name: v1}]}', 'spec.host'],
    ['{host: ""}', 'spec.host'],
    ['{host: "*"}', ok],
    ['{host: 1.2.3.4}', 'spec.host'],
    ['{host: reviews, subsets: [{name: ""}]}', 'spec.subsets[0].name'],
    ['{host: reviews, subsets: [{name: foo}, {name: foo}]}', 'spec.subsets[1].name'],
    ['{host: reviews, workloadSelector: {}}', '~ spec.workloadSelector'],
    ['{host: reviews, workloadSelector: {matchLabels: {a: b}}, exportTo: ["*"]}', 'spec.exportTo[0]'],
    ['{host: reviews, workloadSelector: {matchLabels: {a: b}}, exportTo: ["."]}', ok],
    ['{host: reviews, workloadSelector: {matchLabels: {a: b}}, exportTo: [ns1]}', 'spec.exportTo[0]'],
    ['{host: reviews, workloadSelector: {matchLabels: {a: b}}, exportTo: [".", ns1]}', 'spec.exportTo[1]'],
    ['{host: reviews, subsets: [{name: v1, trafficPolicy: {connectionPool: {}}}]}', 'spec.subsets[0].trafficPolicy.connectionPool'],
    ['{host: reviews, trafficPolicy: {}}', 'spec.trafficPolicy'],
  ]);
  cases(
    KIND,
    [
      ['outlierDetection: {minHealthPercent: 20}', ok],
      ['outlierDetection: {minHealthPercent: -1}', at('outlierDetection.minHealthPercent')],
      ['outlierDetection: {minHealthPercent: 101}', at('outlierDetection.minHealthPercent')],
      ['outlierDetection: {maxEjectionPercent: 105}', at('outlierDetection.maxEjectionPercent')],
      ['outlierDetection: {interval: 2.000000005s}', at('outlierDetection.interval')],
      ['outlierDetection: {baseEjectionTime: 0s}', at('outlierDetection.baseEjectionTime')],
      ['outlierDetection: {consecutiveErrors: 7}', `~ ${at('outlierDetection.consecutiveErrors')}`],
      ['outlierDetection: {consecutiveLocalOriginFailures: 10}', at('outlierDetection.consecutiveLocalOriginFailures')],
      ['outlierDetection: {consecutiveLocalOriginFailures: 10, splitExternalLocalOriginErrors: true}', ok],
      ['connectionPool: {}', at('connectionPool')],
      ['connectionPool: {tcp: {maxConnections: 7, connectTimeout: 2s}, http: {http2MaxRequests: 11, idleTimeout: 30s}}', ok],
      ['connectionPool: {tcp: {}}', ok],
      ['connectionPool: {tcp: {maxConnections: -1}}', at('connectionPool.tcp.maxConnections')],
      ['connectionPool: {tcp: {connectTimeout: 0s}}', at('connectionPool.tcp.connectTimeout')],
      ['connectionPool: {tcp: {connectTimeout: 500us}}', at('connectionPool.tcp.connectTimeout')],
      ['connectionPool: {tcp: {connectTimeout: 2.000000005s}}', at('connectionPool.tcp.connectTimeout')],
      ['connectionPool: {tcp: {connectTimeout: 1d}}', at('connectionPool.tcp.connectTimeout')],
      ['connectionPool: {tcp: {maxConnectionDuration: 500ns}}', at('connectionPool.tcp.maxConnectionDuration')],
      ['connectionPool: {tcp: {idleTimeout: 0s}}', ok],
      ['connectionPool: {http: {idleTimeout: 30.000000005s}}', at('connectionPool.http.idleTimeout')],
      ['connectionPool: {http: {http1MaxPendingRequests: -1}}', at('connectionPool.http.http1MaxPendingRequests')],
      ['connectionPool: {http: {maxRetries: -1}}', at('connectionPool.http.maxRetries')],
      ['connectionPool: {http: {maxConcurrentStreams: -1}}', at('connectionPool.http.maxConcurrentStreams')],
      ['connectionPool: {http: {h2UpgradePolicy: UPGRADE, useClientProtocol: true}}', at('connectionPool.http.useClientProtocol')],
      ['loadBalancer: {simple: ROUND_ROBIN}', ok],
      [
        'loadBalancer: {consistentHash: {minimumRingSize: 1024, httpCookie: {name: a, ttl: 1h}}}',
        `~ ${at('loadBalancer.consistentHash.minimumRingSize')}`,
      ],
      ['loadBalancer: {consistentHash: {httpCookie: {ttl: 1h}}}', at('loadBalancer.consistentHash.httpCookie.name')],
      [
        'loadBalancer: {consistentHash: {minimumRingSize: 1024, useSourceIp: true, ringHash: {}}}',
        at('loadBalancer.consistentHash.minimumRingSize'),
      ],
      [
        'loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 1000}}}',
        at('loadBalancer.consistentHash.maglev.tableSize'),
      ],
      ['loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 1009}}}', ok],
      ['loadBalancer: {consistentHash: {useSourceIp: true, maglev: {}}}', at('loadBalancer.consistentHash.maglev.tableSize')],
      [
        'loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 5000011}}}',
        at('loadBalancer.consistentHash.maglev.tableSize'),
      ],
      ['loadBalancer: {warmup: {duration: 30s}}', ok],
      ['loadBalancer: {simple: RANDOM, warmup: {duration: 30s}}', `~ ${at('loadBalancer.warmup')}`],
      ['loadBalancer: {warmup: {duration: 30s, aggression: 0.5}}', at('loadBalancer.warmup.aggression')],
      ['loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: 100}}]}}', ok],
      ['loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: 90}}]}}', at('loadBalancer.localityLbSetting.distribute[0].to')],
      [
        'loadBalancer: {localityLbSetting: {distribute: [{from: a/*, to: {"a/b/*": 80, a/b/c: 20}}]}}',
        at('loadBalancer.localityLbSetting.distribute[0].to["a/b/c"]'),
      ],
      [
        'loadBalancer: {localityLbSetting: {distribute: [{from: a/*/c, to: {b: 100}}]}}',
        at('loadBalancer.localityLbSetting.distribute[0].from'),
      ],
      [
        'loadBalancer: {localityLbSetting: {distribute: [{from: a//c, to: {b: 100}}]}}',
        at('loadBalancer.localityLbSetting.distribute[0].from'),
      ],
      [
        'loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: 100}}, {from: a/b, to: {c: 100}}]}}',
        at('loadBalancer.localityLbSetting.distribute[1].from'),
      ],
      ['outlierDetection: {}, loadBalancer: {localityLbSetting: {failover: [{from: a, to: b}]}}', ok],
      ['loadBalancer: {localityLbSetting: {failover: [{from: a, to: b}]}}', `~ ${at('loadBalancer.localityLbSetting')}`],
      [
        'outlierDetection: {}, loadBalancer: {localityLbSetting: {failover: [{from: a, to: a}]}}',
        at('loadBalancer.localityLbSetting.failover[0].to'),
      ],
      [
        'outlierDetection: {}, loadBalancer: {localityLbSetting: {failover: [{from: a/b, to: c}]}}',
        at('loadBalancer.localityLbSetting.failover[0].from'),
      ],
      [
        'outlierDetection: {}, loadBalancer: {localityLbSetting: {failover: [{from: a, to: b}], failoverPriority: [topology.kubernetes.io/region]}}',
        at('loadBalancer.localityLbSetting.failoverPriority[0]'),
      ],
      ['tls: {mode: SIMPLE, caCertificates: a, subjectAltNames: [b]}', ok],
      ['tls: {mode: SIMPLE, credentialName: a, subjectAltNames: [b]}', ok],
      ['tls: {mode: SIMPLE, credentialName: a, insecureSkipVerify: true}', at('tls.credentialName')],
      ['tls: {mode: SIMPLE, caCertificates: a, insecureSkipVerify: true}', at('tls.caCertificates')],
      ['tls: {mode: SIMPLE, subjectAltNames: [a], insecureSkipVerify: true}', at('tls.subjectAltNames')],
      ['tls: {mode: SIMPLE, caCertificates: a, insecureSkipVerify: false}', ok],
      ['tls: {mode: SIMPLE, credentialName: a, caCertificates: b}', at('tls.caCertificates')],
      ['tls: {mode: SIMPLE, credentialName: a, caCrl: b}', at('tls.caCrl')],
      ['tls: {mode: MUTUAL, clientCertificate: a, privateKey: b}', ok],
      ['tls: {mode: MUTUAL, privateKey: b}', at('tls.clientCertificate')],
      ['tls: {mode: MUTUAL, clientCertificate: a}', at('tls.privateKey')],
      ['tls: {mode: MUTUAL, credentialName: a, insecureSkipVerify: true}', ok],
      ['tls: {mode: MUTUAL, clientCertificate: a, privateKey: b, caCertificates: c, insecureSkipVerify: true}', at('tls.caCertificates')],
      [
        'tls: {mode: MUTUAL, clientCertificate: a, privateKey: b, subjectAltNames: [c], insecureSkipVerify: true}',
        at('tls.subjectAltNames'),
      ],
      ['tls: {mode: ISTIO_MUTUAL, subjectAltNames: [a]}', ok],
      ['tls: {mode: ISTIO_MUTUAL, caCertificates: a}', `~ ${at('tls.caCertificates')}`],
      ['portLevelSettings: [{loadBalancer: {simple: RANDOM}}]', at('portLevelSettings[0].port')],
      ['portLevelSettings: [{port: {number: 80}}]', at('portLevelSettings[0]')],
      ['portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}]', ok],
      ['tunnel: {targetHost: a.b, targetPort: 80}', ok],
      ['tunnel: {protocol: GET, targetHost: a.b, targetPort: 80}', at('tunnel.protocol')],
      ['tunnel: {targetHost: "*.b", targetPort: 80}', at('tunnel.targetHost')],
      ['tunnel: {targetHost: a.b, targetPort: 80}, proxyProtocol: {version: V1}', at('proxyProtocol')],
    ],
    policy,
  );
});

describe('ServiceEntry', () => {
  const KIND = 'ServiceEntry';
  const HTTP = 'ports: [{number: 80, name: http, protocol: HTTP}]';
  cases(KIND, [
    ['{}', 'spec.hosts'],
    ['{hosts: []}', 'spec.hosts'],
    ['{hosts: ["-"]}', 'spec.hosts[0]'],
    ['{hosts: [a.b, "*"]}', 'spec.hosts[1]'],
    ['{hosts: [1.2.3.4]}', 'spec.hosts[0]'],
    [`{hosts: ["*.a.b", "*c.d"], ${HTTP}}`, '~ spec.hosts[1]'],
    [`{hosts: [foo, a.b], ${HTTP}, resolution: DNS, endpoints: [{address: c.d, ports: {http: 9}}]}`, ok],
    [`{hosts: ["*.a.b"], ${HTTP}, resolution: DNS, endpoints: [{address: c.d}]}`, ok],
    [`{hosts: ["*.a.b"], ${HTTP}, resolution: DNS}`, 'spec.hosts[0]'],
    [`{hosts: [a.b], ${HTTP}, resolution: DNS}`, ok],
    [`{hosts: [a.b], ${HTTP}, resolution: DNS, endpoints: [{address: "unix:///a/b"}]}`, 'spec.endpoints[0].address'],
    [`{hosts: [a.b], ${HTTP}, resolution: DNS, endpoints: [{address: "*.c.d"}]}`, 'spec.endpoints[0].address'],
    [`{hosts: [a.b], ${HTTP}, resolution: DNS, endpoints: [{address: c.d, ports: {other: 9}}]}`, 'spec.endpoints[0].ports.other'],
    [`{hosts: [a.b], ${HTTP}, resolution: DNS, endpoints: [{network: n}]}`, 'spec.endpoints[0].address'],
    [`{hosts: [a.b], ${HTTP}, resolution: DNS_ROUND_ROBIN, endpoints: [{address: c.d}, {address: e.f}]}`, 'spec.endpoints[1]'],
    [`{hosts: [a.b], ${HTTP}, endpoints: [{address: c.d}]}`, 'spec.endpoints'],
    [`{hosts: [a.b], addresses: [10.0.0.0/8], ${HTTP}}`, ok],
    [`{hosts: [a.b], addresses: [10.0.0.0/8], ${HTTP}, resolution: DNS}`, 'spec.addresses[0]'],
    [`{hosts: [a.b], addresses: [10.0.0.0/99], ${HTTP}}`, 'spec.addresses[0]'],
    [`{hosts: [a.b], ${HTTP}, resolution: STATIC, endpoints: [{address: 1.1.1.1, ports: {http: 9}}]}`, ok],
    [`{hosts: [a.b], ${HTTP}, resolution: STATIC}`, ok],
    [`{hosts: [a.b], ${HTTP}, resolution: STATIC, endpoints: [{address: c.d}]}`, 'spec.endpoints[0].address'],
    [`{hosts: [a.b], ${HTTP}, resolution: STATIC, endpoints: [{address: 1.1.1.1, ports: {http: 65536}}]}`, 'spec.endpoints[0].ports.http'],
    [`{hosts: [a.b], ${HTTP}, resolution: STATIC, endpoints: [{network: n}]}`, '~ spec.endpoints[0].address'],
    [`{hosts: [a.b], ${HTTP}, resolution: STATIC, endpoints: [{address: "unix:///a/b"}]}`, ok],
    [`{hosts: [a.b], ${HTTP}, resolution: STATIC, endpoints: [{address: "unix://./a/b"}]}`, 'spec.endpoints[0].address'],
    [`{hosts: [a.b], ${HTTP}, resolution: STATIC, endpoints: [{address: "unix:///a/b", ports: {http: 1}}]}`, 'spec.endpoints[0].ports'],
    [
      '{hosts: [a.b], ports: [{number: 80, name: a, protocol: HTTP}, {number: 81, name: b, protocol: HTTP}], resolution: STATIC, endpoints: [{address: "unix:///a"}]}',
      'spec.endpoints[0].address',
    ],
    ['{hosts: [a.b], ports: [{number: 80, name: x, protocol: HTTP}, {number: 81, name: x, protocol: HTTP}]}', 'spec.ports[1].name'],
    ['{hosts: [a.b], ports: [{number: 80, name: x, protocol: HTTP}, {number: 80, name: y, protocol: HTTP}]}', 'spec.ports[1].number'],
    ['{hosts: [a.b], ports: [{number: 80, name: a_b, protocol: HTTP}]}', 'spec.ports[0].name'],
    ['{hosts: [a.b], ports: [{number: 80, protocol: HTTP}]}', 'spec.ports[0].name'],
    [`{hosts: [a.b], ports: [{number: 80, name: ${'x'.repeat(64)}, protocol: HTTP}]}`, 'spec.ports[0].name'],
    ['{hosts: [a.b], ports: [{number: 80, name: x, protocol: kafka}]}', 'spec.ports[0].protocol'],
    ['{hosts: [a.b], addresses: [1.2.3.4], ports: [{number: 80, name: x}]}', ok],
    ['{hosts: [a.b], ports: [{number: 80, name: x, targetPort: 81, protocol: HTTP}], resolution: DNS}', ok],
    ['{hosts: [a.b], ports: [{number: 80, name: x, targetPort: 65536, protocol: HTTP}], resolution: DNS}', 'spec.ports[0].targetPort'],
    ['{hosts: [a.b], ports: [{number: 80, name: x, targetPort: 81, protocol: HTTP}]}', '~ spec.ports[0].targetPort'],
    [`{hosts: [a.b, c.d], addresses: [1.2.3.4], resolution: DNS, ports: [{number: 443, name: x, protocol: HTTPS}]}`, '~ spec.hosts[1]'],
    [`{hosts: [a.b, c.d], resolution: DNS, ports: [{number: 443, name: x, protocol: TCP}]}`, 'spec.hosts[1]'],
    [`{hosts: [a.b, c.d], resolution: NONE, addresses: [1.2.3.4], ports: [{number: 443, name: x, protocol: TCP}]}`, ok],
    [`{hosts: [a.b], ${HTTP}, workloadSelector: {labels: {a: b}}, resolution: STATIC}`, ok],
    [`{hosts: [a.b], ${HTTP}, workloadSelector: {labels: {a: b}}, resolution: DNS}`, ok],
    [`{hosts: [a.b], ${HTTP}, workloadSelector: {labels: {a: b}}}`, '~ spec.workloadSelector'],
    [`{hosts: [a.b], ${HTTP}, workloadSelector: {}, resolution: STATIC}`, '~ spec.workloadSelector'],
    [`{hosts: [a.b], ${HTTP}, workloadSelector: {labels: {"": b}}, resolution: STATIC}`, 'spec.workloadSelector.labels'],
    [`{hosts: [a.b], ${HTTP}, workloadSelector: {labels: {a: b}}, resolution: STATIC, endpoints: [{address: 1.1.1.1}]}`, 'spec.endpoints'],
    [`{hosts: [a.b], ${HTTP}, exportTo: ["~"]}`, ok],
    [`{hosts: [a.b], ${HTTP}, exportTo: ["~", ns1]}`, 'spec.exportTo[0]'],
    [`{hosts: [a.b], ${HTTP}, exportTo: ["*", ns1]}`, 'spec.exportTo[0]'],
  ]);
});

describe('WorkloadEntry and WorkloadGroup', () => {
  cases('WorkloadEntry', [
    ['{address: 1.2.3.4}', ok],
    ['{}', 'spec.address'],
    ['{network: n}', '~ spec.address'],
    ['{address: "unix:///a/b/c"}', ok],
    ['{address: "unix:///a/b/c", ports: {"7777": 7777}}', 'spec.ports'],
    ['{address: a.com, ports: {"7777": 7777}}', ok],
    ['{address: "a.com:94", ports: {"7777": 7777}}', 'spec.address'],
    ['{address: 1.2.3.4, labels: {".": "~"}}', 'spec.labels["."]'],
  ]);
  cases('WorkloadGroup', [
    ['{template: {}}', ok],
    ['{}', 'spec.template'],
    ['{template: {}, metadata: {labels: {".": a}}}', 'spec.metadata.labels["."]'],
    ['{template: {}, probe: {}}', 'spec.probe.httpGet'],
    ['{template: {}, probe: {httpGet: {}}}', 'spec.probe.httpGet.port'],
    ['{template: {}, probe: {httpGet: {port: 5}}}', ok],
    ['{template: {}, probe: {httpGet: {port: 5, scheme: GOPHER}}}', 'spec.probe.httpGet.scheme'],
    ['{template: {}, probe: {tcpSocket: {}}}', 'spec.probe.tcpSocket.port'],
    ['{template: {}, probe: {tcpSocket: {port: 5}, periodSeconds: -1}}', 'spec.probe.periodSeconds'],
    ['{template: {}, probe: {exec: {command: [a, b]}}}', ok],
    ['{template: {}, probe: {exec: {}}}', 'spec.probe.exec.command'],
  ]);
});

describe('Sidecar', () => {
  const KIND = 'Sidecar';
  const port = (number: number, protocol = 'http') => `port: {number: ${number}, protocol: ${protocol}, name: a}`;
  const inbound = (text: string) => `spec: {ingress: [{port: {number: 90, protocol: http, name: a}, ${text}}]}`;
  cases(KIND, [
    ['{}', 'spec'],
    ['{egress: [{hosts: ["*/*"]}]}', ok],
    ['{egress: [{hosts: ["*/*"]}], workloadSelector: {}}', '~ spec.workloadSelector'],
    ['{egress: [{hosts: [./foo.com]}]}', ok],
    ['{egress: [{hosts: ["~/*"]}]}', ok],
    ['{egress: [{hosts: ["*"]}]}', 'spec.egress[0].hosts[0]'],
    ['{egress: [{hosts: [/]}]}', 'spec.egress[0].hosts[0]'],
    ['{egress: [{hosts: []}]}', 'spec.egress[0].hosts'],
    ['{egress: [{hosts: ["ns/*a.com"]}]}', 'spec.egress[0].hosts[0]'],
    ['{egress: [{hosts: [ns/1.2.3.4]}]}', 'spec.egress[0].hosts[0]'],
    ['{egress: [{hosts: ["*/a.com"]}, {hosts: [ns/b.com]}]}', 'spec.egress[0]'],
    [`{egress: [{hosts: ["*/a.com"]}, {${port(80)}, hosts: [ns/b.com]}]}`, 'spec.egress[0]'],
    [`{egress: [{${port(80)}, hosts: [ns/b.com]}, {hosts: ["*/*"]}]}`, ok],
    [
      '{egress: [{port: {number: 1000000, protocol: http1}, hosts: [ns/b.com]}]}',
      'spec.egress[0].port.number spec.egress[0].port.protocol',
    ],
    ['{egress: [{port: {number: 8080, protocol: http}, hosts: [ns/b.com]}]}', ok],
    ['{egress: [{port: {number: 8080, targetPort: 9}, hosts: [ns/b.com]}]}', 'spec.egress[0].port.targetPort'],
    [`{egress: [{${port(0)}, bind: "unix:///a/b", hosts: [ns/b.com]}]}`, ok],
    [`{egress: [{${port(0)}, bind: "foobar:///a/b", hosts: [ns/b.com]}]}`, 'spec.egress[0].bind'],
    [`{egress: [{${port(0)}, bind: "unix:///a/b", captureMode: IPTABLES, hosts: [ns/b.com]}]}`, 'spec.egress[0].captureMode'],
    [
      `{egress: [{${port(0)}, bind: "unix:///a", hosts: [ns/b.com]}, {${port(0)}, bind: "unix:///a", hosts: [ns/b.com]}]}`,
      'spec.egress[1].bind',
    ],
    [`{egress: [{${port(90)}, hosts: [ns/b.com]}, {${port(90)}, hosts: [ns/b.com]}]}`, 'spec.egress[1].port.number'],
    ['{egress: [{hosts: ["*/*", ns/a.com]}]}', '~ spec.egress[0].hosts[0]'],
    ['{egress: [{hosts: ["*/b.com", ns/a.com]}]}', ok],
    ['{egress: [{hosts: ["ns/*", ns/a.com]}]}', '~ spec.egress[0].hosts[1]'],
    ['{egress: [{hosts: [./*, default/a.com]}]}', '~ spec.egress[0].hosts[1]'],
    ['{ingress: [{defaultEndpoint: "127.0.0.1:110"}]}', 'spec.ingress[0].port'],
    [`{ingress: [{${port(90)}}, {${port(90)}}]}`, 'spec.ingress[1].port'],
    [`{ingress: [{${port(0)}, bind: "unix:///a"}]}`, 'spec.ingress[0].bind spec.ingress[0].port.number'],
    ['{outboundTrafficPolicy: {mode: ALLOW_ANY}}', ok],
    ['{outboundTrafficPolicy: {egressProxy: {host: a.b, port: {number: 5}}}}', 'spec.outboundTrafficPolicy.egressProxy'],
    ['{outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a.b, subset: c, port: {number: 5}}}}', ok],
    [
      '{outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: "a*b", port: {number: 5}}}}',
      'spec.outboundTrafficPolicy.egressProxy.host',
    ],
    ['{outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a.b}}}', 'spec.outboundTrafficPolicy.egressProxy.port'],
    ['{inboundConnectionPool: {http: {maxRetries: 9}}}', ok],
    ['{inboundConnectionPool: {}}', 'spec.inboundConnectionPool'],
    [`{ingress: [{${port(90, 'tcp')}, connectionPool: {http: {maxRetries: 9}}}]}`, '~ spec.ingress[0].connectionPool.http'],
    [`{ingress: [{${port(90, 'tcp')}, connectionPool: {}}]}`, 'spec.ingress[0].connectionPool'],
  ]);
  cases(
    KIND,
    [
      ['', ok],
      ['defaultEndpoint: "127.0.0.1:99"', ok],
      ['defaultEndpoint: "[::1]:99"', ok],
      ['defaultEndpoint: ":99"', ok],
      ['defaultEndpoint: "1.1.1.1:99"', 'spec.ingress[0].defaultEndpoint'],
      ['defaultEndpoint: "[1:1:1:1:1:1:1:1]:99"', 'spec.ingress[0].defaultEndpoint'],
      ['defaultEndpoint: "unix:///"', 'spec.ingress[0].defaultEndpoint'],
      ['defaultEndpoint: "127.0.0.1:hi"', 'spec.ingress[0].defaultEndpoint'],
      ['tls: {mode: ISTIO_MUTUAL}', 'spec.ingress[0].tls.mode'],
      ['tls: {mode: AUTO_PASSTHROUGH}', 'spec.ingress[0].tls.mode'],
      ['tls: {mode: SIMPLE, serverCertificate: c, privateKey: k}', ok],
      ['tls: {mode: SIMPLE, serverCertificate: c, privateKey: k, httpsRedirect: true}', 'spec.ingress[0].tls.httpsRedirect'],
      ['tls: {mode: SIMPLE, serverCertificate: c, privateKey: k, subjectAltNames: [a]}', 'spec.ingress[0].tls.subjectAltNames'],
      ['tls: {mode: SIMPLE, credentialName: a}', 'spec.ingress[0].tls.credentialName'],
      ['tls: {mode: SIMPLE, credentialNames: [a]}', 'spec.ingress[0].tls.credentialNames'],
      ['tls: {mode: SIMPLE, tlsCertificates: [{serverCertificate: c, privateKey: k}]}', 'spec.ingress[0].tls.tlsCertificates'],
    ],
    inbound,
  );
});

describe('policies of security', () => {
  const rule = (text: string) => `spec: {rules: [{${text}}]}`;
  const from = (text: string) => rule(`from: [{source: {${text}}}]`);
  const to = (text: string) => rule(`to: [{operation: {${text}}}]`);
  const gateway = 'group: gateway.networking.k8s.io, kind: Gateway';
  cases('AuthorizationPolicy', [
    ['{}', ok],
    ['{action: ALLOW}', ok],
    ['{action: DENY}', 'spec.rules'],
    ['{action: DENY, rules: [{}]}', ok],
    ['{action: CUSTOM, provider: {name: a}, rules: [{}]}', ok],
    ['{action: CUSTOM, provider: {name: a}}', 'spec.rules'],
    ['{action: CUSTOM, provider: {name: ""}, rules: [{}]}', 'spec.provider.name'],
    ['{action: CUSTOM, rules: [{}]}', 'spec.provider'],
    ['{action: ALLOW, provider: {name: a}, rules: [{}]}', 'spec.provider'],
    ...['namespaces', 'notNamespaces', 'principals', 'notPrincipals', 'requestPrincipals', 'notRequestPrincipals'].map(
      (field): Case => [
        `{action: CUSTOM, provider: {name: a}, rules: [{from: [{source: {${field}: [x]}}]}]}`,
        `spec.rules[0].from[0].source.${field}`,
      ],
    ),
    ...['source.namespace', 'source.principal', 'request.auth.claims[a]'].map(
      (key): Case => [
        `{action: CUSTOM, provider: {name: a}, rules: [{when: [{key: "${key}", values: [x]}]}]}`,
        'spec.rules[0].when[0].key',
      ],
    ),
    ['{selector: {matchLabels: {app: "", version: v1}}}', ok],
    ['{selector: {matchLabels: {"": v1}}}', 'spec.selector.matchLabels'],
    ['{selector: {}}', '~ spec.selector'],
    ['{selector: {matchLabels: {app: "a-*"}}}', 'spec.selector.matchLabels.app'],
    ['{selector: {matchLabels: {"app-*": a}}}', 'spec.selector.matchLabels["app-*"]'],
    [`{targetRef: {${gateway}, name: a}}`, ok],
    ['{targetRefs: [{group: "", kind: Service, name: a}, {group: networking.istio.io, kind: ServiceEntry, name: b}]}', ok],
    [`{targetRef: {${gateway}, name: a, namespace: b}}`, 'spec.targetRef.namespace'],
    [`{targetRef: {${gateway}}}`, 'spec.targetRef.name'],
    ['{targetRef: {group: wrong, kind: Gateway, name: a}}', 'spec.targetRef.kind'],
    ['{targetRef: {group: gateway.networking.k8s.io, kind: wrong, name: a}}', 'spec.targetRef.kind'],
    [`{targetRef: {${gateway}, name: a}, selector: {matchLabels: {a: b}}}`, 'spec.targetRef'],
    ['{rules: [{from: []}]}', 'spec.rules[0].from'],
    ['{rules: [{from: [{}]}]}', 'spec.rules[0].from[0].source'],
    ['{rules: [{to: []}]}', 'spec.rules[0].to'],
    ['{rules: [{to: [{}]}]}', 'spec.rules[0].to[0].operation'],
    ['{action: DENY, rules: [{from: [{source: {requestPrincipals: [a/b]}}]}]}', '~ spec.rules[0]'],
    ['{action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]}', '~ spec.rules[0]'],
    ['{action: DENY, rules: [{from: [{source: {principals: [a]}}], to: [{operation: {methods: [GET]}}]}]}', '~ spec.rules[0]'],
    ['{action: DENY, rules: [{from: [{source: {principals: [a]}}], to: [{operation: {ports: ["80"], methods: [GET]}}]}]}', ok],
    ['{action: DENY, rules: [{from: [{source: {principals: [a]}}]}]}', ok],
  ]);
  cases(
    'AuthorizationPolicy',
    [
      ['', 'spec.rules[0].from[0].source'],
      ['serviceAccounts: [ns/sa]', ok],
      ['serviceAccounts: [ns/sa], namespaces: [a]', 'spec.rules[0].from[0].source.serviceAccounts'],
      ['serviceAccounts: [ns/sa, ""]', 'spec.rules[0].from[0].source.serviceAccounts[1]'],
      ['principals: [a, ""]', 'spec.rules[0].from[0].source.principals[1]'],
      ['ipBlocks: [1.2.3.4, 5.6.0.0/16]', ok],
      ['ipBlocks: [1.2.3.4, ip1]', 'spec.rules[0].from[0].source.ipBlocks[1]'],
      ['notRemoteIpBlocks: [1.2.3.4/33]', 'spec.rules[0].from[0].source.notRemoteIpBlocks[0]'],
    ],
    from,
  );
  cases(
    'AuthorizationPolicy',
    [
      ['', 'spec.rules[0].to[0].operation'],
      ['ports: ["0"]', ok],
      ['ports: ["80", port1]', 'spec.rules[0].to[0].operation.ports[1]'],
      ['ports: ["65536"]', 'spec.rules[0].to[0].operation.ports[0]'],
      ['methods: [GET, ""]', 'spec.rules[0].to[0].operation.methods[1]'],
      ['paths: ["/a/{*}/{**}"]', ok],
      ['paths: ["/a/{**}/{*}"]', 'spec.rules[0].to[0].operation.paths[0]'],
      ['paths: ["/a/{b}"]', 'spec.rules[0].to[0].operation.paths[0]'],
      ['paths: ["/a/*/{*}"]', 'spec.rules[0].to[0].operation.paths[0]'],
    ],
    to,
  );
  cases(
    'AuthorizationPolicy',
    [
      ['key: "request.headers[:authority]", values: [a]', ok],
      ['key: "request.headers[:authority]", values: [a, ""]', 'spec.rules[0].when[0].values[1]'],
      ['key: "request.headers", values: [a]', 'spec.rules[0].when[0].key'],
      ['values: [a]', 'spec.rules[0].when[0].key'],
      ['key: "", values: [a]', 'spec.rules[0].when[0].key'],
      ['key: source.principal', 'spec.rules[0].when[0].values'],
      ['key: source.ip, values: [a.b.c.d]', 'spec.rules[0].when[0].values[0]'],
      ['key: source.ip, notValues: [a.b.c.d]', 'spec.rules[0].when[0].notValues[0]'],
      ['key: "destination.labels[a]", values: [b]', 'spec.rules[0].when[0].key'],
      ['key: destination.user, values: [b]', 'spec.rules[0].when[0].key'],
      ['key: key1, values: [b]', 'spec.rules[0].when[0].key'],
      ['key: experimental.envoy.filters.a, values: [b]', 'spec.rules[0].when[0].key'],
    ],
    (text) => rule(`when: [{${text}}]`),
  );
  const jwt = (text: string) => `spec: {jwtRules: [{issuer: a.com, ${text}}]}`;
  cases('RequestAuthentication', [
    ['{}', ok],
    ['{selector: {}}', '~ spec.selector'],
    ['{jwtRules: [{}]}', 'spec.jwtRules[0].issuer'],
    ['{jwtRules: [{issuer: ""}]}', 'spec.jwtRules[0].issuer'],
    [`{targetRef: {group: wrong, kind: Gateway, name: a}}`, 'spec.targetRef.kind'],
  ]);
  cases(
    'RequestAuthentication',
    [
      ['', ok],
      ['jwksUri: a.com', 'spec.jwtRules[0].jwksUri'],
      ['jwksUri: "https://a.com:port"', 'spec.jwtRules[0].jwksUri'],
      ['jwksUri: "https://a.com/certs"', ok],
      ['jwks: foo', 'spec.jwtRules[0].jwks'],
      ['jwks: "{}"', 'spec.jwtRules[0].jwks'],
      [`jwks: '{"keys":[{"kty":"RSA","e":"AQAB","n":"xAE7eB6qugXyCAG3"}]}'`, ok],
      [`jwks: '{"keys":[{"kty":"EC","crv":"P-256","x":"AA"}]}'`, 'spec.jwtRules[0].jwks'],
      [`jwks: '{"kty":"oct","k":"AyM1"}'`, ok],
      [`jwks: '{"keys":[]}'`, ok],
      [`jwks: '{"keys":[]}', jwksUri: "https://a.com"`, 'spec.jwtRules[0].jwks'],
      ['fromHeaders: [{name: "", prefix: a}]', 'spec.jwtRules[0].fromHeaders[0].name'],
      ['fromParams: [""]', 'spec.jwtRules[0].fromParams[0]'],
      ['fromCookies: ["", a]', 'spec.jwtRules[0].fromCookies[0]'],
      ['audiences: [""]', 'spec.jwtRules[0].audiences[0]'],
      ['timeout: 0s', 'spec.jwtRules[0].timeout'],
      ['outputClaimToHeaders: [{header: x-a, claim: sub}]', ok],
      ['outputClaimToHeaders: [{header: "", claim: sub}]', 'spec.jwtRules[0].outputClaimToHeaders[0].header'],
      ['outputClaimToHeaders: [{header: "a%1", claim: sub}]', 'spec.jwtRules[0].outputClaimToHeaders[0].header'],
      ['outputClaimToHeaders: [{header: x-a, claim: ""}]', 'spec.jwtRules[0].outputClaimToHeaders[0].claim'],
    ],
    jwt,
  );
  cases('PeerAuthentication', [
    ['{}', ok],
    ['{selector: {}}', '~ spec.selector'],
    ['{mtls: {mode: UNSET}}', ok],
    ['{selector: {matchLabels: {a: b}}, portLevelMtls: {}}', 'spec.portLevelMtls'],
    ['{portLevelMtls: {"8080": {mode: UNSET}}}', 'spec.portLevelMtls'],
    ['{selector: {}, portLevelMtls: {"8080": {mode: UNSET}}}', 'spec.portLevelMtls'],
    ['{selector: {matchLabels: {a: b}}, portLevelMtls: {"0": {mode: UNSET}}}', 'spec.portLevelMtls["0"]'],
    ['{selector: {matchLabels: {a: b}}, portLevelMtls: {"8080": {mode: STRICT}}}', ok],
  ]);
  test.each([
    ['AuthorizationPolicy', '"true"', 'spec: {action: ALLOW}', ok],
    ['AuthorizationPolicy', '"false"', 'spec: {action: DENY, rules: [{}]}', ok],
    ['AuthorizationPolicy', 'foo', 'spec: {}', 'metadata.annotations["istio.io/dry-run"]'],
    ['AuthorizationPolicy', '"true"', 'spec: {action: AUDIT}', 'metadata.annotations["istio.io/dry-run"]'],
    ['RequestAuthentication', '"true"', 'spec: {}', 'metadata.annotations["istio.io/dry-run"]'],
  ])('%s tried out with istio.io/dry-run %s %s', (kind, value, body, verdict) => {
    expect(verdictOf(kind, `metadata: {name: a, annotations: {istio.io/dry-run: ${value}}}\n${body}`)).toBe(verdict);
  });
});

describe('kinds without effect', () => {
  cases('Telemetry', [
    ['{}', ok],
    ['{tracing: [{providers: [{name: a}, {name: b}]}]}', '~ spec.tracing[0].providers'],
    ['{tracing: [{}, {}]}', '~ spec.tracing'],
    ['{tracing: [{randomSamplingPercentage: 101}]}', 'spec.tracing[0].randomSamplingPercentage'],
    ['{tracing: [{customTags: {a: {environment: {name: B}}}}]}', ok],
    ['{tracing: [{customTags: {a: {literal: {value: ""}}}}]}', 'spec.tracing[0].customTags.a.literal.value'],
    ['{metrics: [{overrides: [{tagOverrides: {a: {operation: UPSERT}}}]}]}', 'spec.metrics[0].overrides[0].tagOverrides.a.value'],
    ['{metrics: [{overrides: [{tagOverrides: {a: {}}}]}]}', 'spec.metrics[0].overrides[0].tagOverrides.a.value'],
    ['{accessLogging: [{providers: [{name: a}, {name: b}]}]}', ok],
    ['{accessLogging: [{filter: {expression: "response.code >= 400"}}]}', ok],
    [`{accessLogging: [{filter: {expression: "connection.mtls && request.url_path.contains('v1')"}}]}`, ok],
    ['{accessLogging: [{filter: {expression: ")++++"}}]}', 'spec.accessLogging[0].filter.expression'],
    ['{targetRef: {group: wrong, kind: Gateway, name: a}}', 'spec.targetRef.kind'],
  ]);
  cases('WasmPlugin', [
    ['{}', 'spec.url'],
    ['{url: "ftp://a.com/b"}', 'spec.url'],
    ['{url: "http://a.com/b"}', ok],
    ['{url: "oci://a.com/b"}', ok],
    ['{url: a.com/b}', ok],
    ['{url: a.com/b, sha256: 01ba47}', 'spec.sha256'],
    ['{url: a.com/b, vmConfig: {env: [{name: "", valueFrom: HOST}]}}', 'spec.vmConfig.env[0].name'],
    ['{url: a.com/b, vmConfig: {env: [{name: A, value: b}, {name: A, value: b}]}}', 'spec.vmConfig.env[1].name'],
    ['{url: a.com/b, targetRef: {group: wrong, kind: Gateway, name: a}}', 'spec.targetRef.kind'],
  ]);
  cases('ProxyConfig', [
    ['{}', ok],
    ['{concurrency: -1}', 'spec.concurrency'],
  ]);
  const patch = (text: string) => `spec: {configPatches: [{${text}}]}`;
  const at = (path: string) => `spec.configPatches[0].${path}`;
  const remove = 'patch: {operation: REMOVE}';
  const filter = (text: string) => `match: {listener: {filterChain: {filter: {${text}}}}}`;
  const connections = 'name: envoy.filters.network.http_connection_manager';
  cases('EnvoyFilter', [
    ['{}', ok],
    ['{workloadSelector: {}}', '~ spec.workloadSelector'],
  ]);
  cases(
    'EnvoyFilter',
    [
      [remove, at('applyTo')],
      ['applyTo: LISTENER', at('patch')],
      ['applyTo: LISTENER, patch: {}', at('patch.operation')],
      ['applyTo: LISTENER, patch: {operation: ADD}', at('patch.value')],
      [`applyTo: LISTENER, match: {proxy: {proxyVersion: "a++b"}}, ${remove}`, at('match.proxy.proxyVersion')],
      [`applyTo: LISTENER, match: {proxy: {proxyVersion: "a.*"}}, ${remove}`, ok],
      [`applyTo: LISTENER, match: {cluster: {}}, ${remove}`, at('match.cluster')],
      [`applyTo: VIRTUAL_HOST, match: {cluster: {}}, ${remove}`, at('match.cluster')],
      [`applyTo: CLUSTER, match: {listener: {}}, ${remove}`, at('match.listener')],
      [`applyTo: NETWORK_FILTER, ${filter('')}, ${remove}`, at('match.listener.filterChain.filter.name')],
      [`applyTo: NETWORK_FILTER, ${filter('name: a, subFilter: {name: b}')}, ${remove}`, at('match.listener.filterChain.filter.subFilter')],
      [`applyTo: HTTP_FILTER, ${filter('name: a, subFilter: {name: b}')}, ${remove}`, at('match.listener.filterChain.filter.name')],
      [
        `applyTo: HTTP_FILTER, ${filter(`${connections}, subFilter: {}`)}, ${remove}`,
        at('match.listener.filterChain.filter.subFilter.name'),
      ],
      [`applyTo: HTTP_FILTER, ${filter(`${connections}, subFilter: {name: a}`)}, ${remove}`, ok],
    ],
    patch,
  );
});
