// What the schemas and CEL rules of Gateway API accept and refuse, case by case, kind by kind. Owner: Gateway API.
import { describe } from '@jest/globals';
import { type Case, cases } from '../../test/lab/verdict.js';

const ok = 'accepted';
const times = (count: number, item: (at: number) => string): string => Array.from({ length: count }, (_, at) => item(at)).join(', ');
const rule = (body: string) => `spec: {rules: [{${body}}]}`;
const match = (body: string) => rule(`matches: [{${body}}]`);
const inRule = (path: string) => `spec.rules[0].${path}`;
const inMatch = (path: string) => `spec.rules[0].matches[0].${path}`;

describe('parentRefs', () => {
  const at = (index: number, field = 'name') => `spec.parentRefs[${index}].${field}`;
  cases(
    'HTTPRoute',
    [
      ['{name: a}', ok],
      ['{name: a, sectionName: x}, {name: a, sectionName: y}', ok],
      ['{name: a, port: 1}, {name: a, port: 2}', ok],
      ['{name: a, sectionName: x, port: 1}, {name: a, sectionName: x, port: 2}', ok],
      ['{name: a, sectionName: x}, {name: a, port: 2}', at(1)],
      ['{name: a, sectionName: x, port: 1}, {name: a, sectionName: y}', at(1)],
      ['{name: a}, {name: a, sectionName: x}', at(1)],
      ['{name: a}, {name: b, sectionName: x}', ok],
      ['{name: a}, {name: a, namespace: b, sectionName: x}', ok],
      ['{name: a}, {name: a, kind: ListenerSet, sectionName: x}', ok],
      ['{name: a}, {name: a}', at(1)],
      ['{name: a, sectionName: x}, {name: a, sectionName: x}', at(1)],
      ['{name: a, kind: Foo, group: foo.example}', ok],
      ['{name: a, kind: foo}', ok],
      ['{name: a, kind: Service}', `~ ${at(0, 'group')}`],
      ['{name: a, group: "b/c"}', at(0, 'group')],
      ['{name: a, group: Foo}', at(0, 'group')],
      ['{name: a, kind: "a b"}', at(0, 'kind')],
      ['{name: a, kind: 1a}', at(0, 'kind')],
      [`{name: a, kind: ${'a'.repeat(64)}}`, at(0, 'kind')],
      ['{name: ""}', at(0)],
      ['{name: a, namespace: ""}', at(0, 'namespace')],
      ['{name: a, sectionName: A}', at(0, 'sectionName')],
      ['{name: a, port: 0}', at(0, 'port')],
      ['{name: a, port: 65536}', at(0, 'port')],
      [times(32, (index) => `{name: a${index}}`), ok],
      [times(33, (index) => `{name: a${index}}`), 'spec.parentRefs'],
    ],
    (body) => `spec: {parentRefs: [${body}]}`,
  );
});

describe('HTTPRoute', () => {
  const KIND = 'HTTPRoute';
  cases(KIND, [
    ['{}', ok],
    ['{rules: []}', 'spec.rules'],
    ['{rules: [{}]}', ok],
    [`{rules: [${times(16, () => '{}')}]}`, ok],
    [`{rules: [${times(17, () => '{}')}]}`, 'spec.rules'],
    [`{rules: [{matches: [${times(64, () => '{}')}]}]}`, ok],
    [`{rules: [{matches: [${times(65, () => '{}')}]}]}`, 'spec.rules[0].matches'],
    [`{rules: [${times(2, () => `{matches: [${times(64, () => '{}')}]}`)}]}`, ok],
    [`{rules: [${times(3, () => `{matches: [${times(43, () => '{}')}]}`)}]}`, 'spec.rules'],
    ['{rules: [{name: a}, {name: b}, {}, {}]}', ok],
    ['{rules: [{name: a}, {name: a}]}', 'spec.rules[1].name'],
    ['{rules: [{name: A}]}', 'spec.rules[0].name'],
    ['{hostnames: ["*.a.b", a]}', ok],
    ['{hostnames: ["*"]}', 'spec.hostnames[0]'],
    ['{hostnames: ["a.b."]}', 'spec.hostnames[0]'],
    ['{hostnames: ["a.*.b"]}', 'spec.hostnames[0]'],
    ['{hostnames: [A.b]}', 'spec.hostnames[0]'],
    ['{hostnames: ["a:80"]}', 'spec.hostnames[0]'],
    ['{hostnames: [""]}', 'spec.hostnames[0]'],
    [`{hostnames: [${times(17, (at) => `a${at}.b`)}]}`, 'spec.hostnames'],
    ['{hostname: a.b}', 'spec.hostname'],
  ]);
  const path = inMatch('path.value');
  cases(
    KIND,
    [
      ['value: /', ok],
      ['value: /a/b', ok],
      ['value: /a/', ok],
      ['type: Exact, value: "/a%20b;c=1,2!$&\'()*+@:~"', ok],
      ['value: a', path],
      ['value: ""', path],
      ['type: Exact, value: a/b', path],
      ['value: //a', path],
      ['value: /a//', path],
      ['value: /./a', path],
      ['value: /../a', path],
      ['type: Exact, value: /a/.', path],
      ['value: /a/..', path],
      ['value: /a/...', ok],
      ['value: /.a', ok],
      ['value: /a%2fb', path],
      ['value: /a%2Fb', path],
      ['value: "/a#b"', path],
      ['value: "/a b"', path],
      ['value: "/a%zz"', path],
      ['value: "/a%2"', path],
      ['value: "/a?b"', path],
      ['value: "/a[b]"', path],
      ['value: "/ä"', path],
      ['type: RegularExpression, value: "a//.*%2F"', ok],
      ['type: RegularExpression, value: "/a(b"', `~ ${path}`],
      ['type: RegularExpression, value: "/a(?=b)"', `~ ${path}`],
      ['type: Prefix, value: /a', inMatch('path.type')],
      [`value: /${'a'.repeat(1024)}`, path],
    ],
    (body) => match(`path: {${body}}`),
  );
  const header = inMatch('headers[0]');
  cases(
    KIND,
    [
      ['{name: a, value: b}', ok],
      ['{type: RegularExpression, name: a, value: "^b.*"}', ok],
      ['{type: RegularExpression, name: a, value: "b["}', `~ ${header}.value`],
      ['{type: Prefix, name: a, value: b}', `${header}.type`],
      ['{name: "", value: b}', `${header}.name`],
      ['{name: "a:b", value: b}', `${header}.name`],
      ['{name: "a/b", value: b}', `${header}.name`],
      ['{name: "a!#$%&*+.^_|~-1", value: b}', ok],
      [`{name: ${'a'.repeat(257)}, value: b}`, `${header}.name`],
      ['{name: a, value: ""}', `${header}.value`],
      ['{name: a}', `${header}.value`],
      ['{name: a, value: b}, {name: a, value: c}', inMatch('headers[1].name')],
      ['{name: a, value: b}, {name: A, value: c}', `~ ${inMatch('headers[1].name')}`],
      [times(17, (at) => `{name: a${at}, value: b}`), inMatch('headers')],
    ],
    (body) => match(`headers: [${body}]`),
  );
  cases(
    KIND,
    [
      ['queryParams: [{name: a, value: b}, {name: A, value: b}]', ok],
      ['queryParams: [{name: a, value: b}, {name: a, value: c}]', inMatch('queryParams[1].name')],
      [`queryParams: [{name: a, value: ${'b'.repeat(1025)}}]`, inMatch('queryParams[0].value')],
      ['queryParams: [{type: RegularExpression, name: a, value: "*"}]', `~ ${inMatch('queryParams[0].value')}`],
      ['method: PATCH', ok],
      ['method: get', inMatch('method')],
      ['method: FOO', inMatch('method')],
    ],
    match,
  );
  const backend = inRule('backendRefs[0]');
  cases(
    KIND,
    [
      ['{name: a, port: 80}', ok],
      ['{name: a}', `${backend}.port`],
      ['{name: a, kind: Service}', `${backend}.port`],
      ['{name: a, kind: Bucket, group: foo.example}', ok],
      ['{name: a, kind: service, port: 1}', ok],
      ['{name: a, group: foo.example}', ok],
      ['{name: a, port: 80, weight: -1}', `${backend}.weight`],
      ['{name: a, port: 80, weight: 1000001}', `${backend}.weight`],
      ['{name: a, port: 80, weight: 0}', ok],
      ['{name: a, port: 0}', `${backend}.port`],
      ['{name: a, port: 80, kind: "*"}', `${backend}.kind`],
      ['{name: a, port: 80, group: "*"}', `${backend}.group`],
      [times(16, () => '{name: a, port: 80}'), ok],
      [times(17, () => '{name: a, port: 80}'), inRule('backendRefs')],
    ],
    (body) => rule(`backendRefs: [${body}]`),
  );
});

describe('filters of an HTTPRoute', () => {
  const KIND = 'HTTPRoute';
  const REDIRECT = '{type: RequestRedirect, requestRedirect: {port: 1}}';
  const REWRITE = '{type: URLRewrite, urlRewrite: {hostname: a.b}}';
  const MIRROR = '{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}}}';
  const HEADERS = '{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}]}}';
  const ANSWERS = '{type: ResponseHeaderModifier, responseHeaderModifier: {remove: [a]}}';
  const AUTH = '{type: ExternalAuth, externalAuth: {protocol: GRPC, backendRef: {name: a, port: 80}, grpc: {}}}';
  const EXTENSION = '{type: ExtensionRef, extensionRef: {group: foo.example, kind: Foo, name: a}}';
  const at = (index: number, field = 'type') => inRule(`filters[${index}].${field}`);
  const filters = (body: string) => rule(`filters: [${body}]`);
  cases(
    KIND,
    [
      [[HEADERS, ANSWERS, MIRROR, REWRITE, EXTENSION].join(', '), ok],
      [`${MIRROR}, ${MIRROR}`, ok],
      [`${EXTENSION}, ${EXTENSION}`, ok],
      [`${AUTH}, ${AUTH}`, ok],
      [`${HEADERS}, ${HEADERS}`, at(1)],
      [`${ANSWERS}, ${ANSWERS}`, at(1)],
      [`${REDIRECT}, ${REDIRECT}`, at(1)],
      [`${REWRITE}, ${REWRITE}`, at(1)],
      [`${REDIRECT}, ${REWRITE}`, at(1)],
      ['{type: CORS, cors: {}}, {type: CORS, cors: {}}', at(1)],
      [times(17, () => MIRROR), inRule('filters')],
      ['{type: Foo}', at(0)],
      ['{requestRedirect: {}}', at(0)],
      ...[
        'requestHeaderModifier RequestHeaderModifier',
        'responseHeaderModifier ResponseHeaderModifier',
        'requestMirror RequestMirror',
        'requestRedirect RequestRedirect',
        'urlRewrite URLRewrite',
        'cors CORS',
        'externalAuth ExternalAuth',
        'extensionRef ExtensionRef',
      ].map((pair): Case => {
        const [field = '', type = ''] = pair.split(' ');
        return [`{type: ${type}}`, at(0, field)];
      }),
      ['{type: RequestHeaderModifier, requestHeaderModifier: {}, requestRedirect: {}}', at(0, 'requestRedirect')],
      ['{type: CORS, cors: {}, urlRewrite: {}}', at(0, 'urlRewrite')],
    ],
    filters,
  );
  cases(
    KIND,
    [
      ['set: [{name: a, value: b}], add: [{name: a, value: c}], remove: [a]', ok],
      ['set: [{name: a, value: b}, {name: a, value: c}]', at(0, 'requestHeaderModifier.set[1].name')],
      ['set: [{name: a, value: b}, {name: A, value: c}]', `~ ${at(0, 'requestHeaderModifier.set[1].name')}`],
      ['add: [{name: "a b", value: b}]', at(0, 'requestHeaderModifier.add[0].name')],
      ['add: [{name: a, value: ""}]', at(0, 'requestHeaderModifier.add[0].value')],
      ['remove: [a, a]', at(0, 'requestHeaderModifier.remove[1]')],
      ['remove: [a, A]', ok],
      ['remove: [Connection]', ok],
      ['set: [{name: Host, value: b}]', ok],
      [`remove: [${times(17, (index) => `a${index}`)}]`, at(0, 'requestHeaderModifier.remove')],
    ],
    (body) => filters(`{type: RequestHeaderModifier, requestHeaderModifier: {${body}}}`),
  );
  const redirected = (field: string) => at(0, `requestRedirect.${field}`);
  cases(
    KIND,
    [
      ['', ok],
      ['scheme: https, hostname: a.b, port: 443, statusCode: 308', ok],
      ['scheme: ftp', redirected('scheme')],
      ['hostname: "*.a.b"', redirected('hostname')],
      ['hostname: A.b', redirected('hostname')],
      ['statusCode: 200', redirected('statusCode')],
      ['port: 0', redirected('port')],
      ['path: {type: ReplaceFullPath, replaceFullPath: /a}', ok],
      ['path: {type: ReplaceFullPath}', redirected('path.replaceFullPath')],
      ['path: {type: ReplacePrefixMatch}', redirected('path.replacePrefixMatch')],
      ['path: {type: ReplacePrefixMatch, replacePrefixMatch: /a}', ok],
      ['path: {type: ReplacePrefixMatch, replacePrefixMatch: ""}', ok],
      [
        'path: {type: ReplacePrefixMatch, replaceFullPath: /a}',
        `${redirected('path.replaceFullPath')} ${redirected('path.replacePrefixMatch')}`,
      ],
      ['path: {type: ReplaceFullPath, replaceFullPath: /a, replacePrefixMatch: /b}', redirected('path.replacePrefixMatch')],
      ['path: {type: Foo}', redirected('path.type')],
      [`path: {type: ReplaceFullPath, replaceFullPath: /${'a'.repeat(1024)}}`, redirected('path.replaceFullPath')],
    ],
    (body) => filters(`{type: RequestRedirect, requestRedirect: {${body}}}`),
  );
  const REPLACE = '{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}';
  const replaced = at(0, 'urlRewrite.path.type');
  cases(
    KIND,
    [
      [`filters: [${REPLACE}]`, ok],
      [`matches: [{}], filters: [${REPLACE}]`, ok],
      [`matches: [{path: {value: /a}}], filters: [${REPLACE}]`, ok],
      [`matches: [{method: GET}], filters: [${REPLACE}]`, ok],
      [`matches: [{path: {type: Exact, value: /a}}], filters: [${REPLACE}]`, replaced],
      [`matches: [{path: {type: RegularExpression, value: /a}}], filters: [${REPLACE}]`, replaced],
      [`matches: [{path: {value: /a}}, {path: {value: /b}}], filters: [${REPLACE}]`, replaced],
      [`matches: [], filters: [${REPLACE}]`, replaced],
      [
        `matches: [{path: {type: Exact, value: /a}}], backendRefs: [{name: a, port: 80, filters: [${REPLACE}]}]`,
        inRule('backendRefs[0].filters[0].urlRewrite.path.type'),
      ],
      [`filters: [${REDIRECT}], backendRefs: [{name: a, port: 80}]`, at(0)],
      [`filters: [${REDIRECT}], backendRefs: []`, ok],
      [`filters: [${HEADERS}], backendRefs: [{name: a, port: 80, filters: [${HEADERS}]}]`, ok],
      [`backendRefs: [{name: a, port: 80, filters: [${HEADERS}, ${HEADERS}]}]`, inRule('backendRefs[0].filters[1].type')],
    ],
    rule,
  );
  const mirrored = (field: string) => at(0, `requestMirror.${field}`);
  cases(
    KIND,
    [
      ['percent: 0', ok],
      ['percent: 100', ok],
      ['percent: 101', mirrored('percent')],
      ['percent: -1', mirrored('percent')],
      ['fraction: {numerator: 1, denominator: 1000}', ok],
      ['fraction: {numerator: 100}', ok],
      ['fraction: {numerator: 101}', mirrored('fraction.numerator')],
      ['fraction: {numerator: 5, denominator: 4}', mirrored('fraction.numerator')],
      ['fraction: {numerator: -1}', mirrored('fraction.numerator')],
      ['fraction: {numerator: 0, denominator: 0}', mirrored('fraction.denominator')],
      ['fraction: {denominator: 4}', mirrored('fraction.numerator')],
      ['percent: 1, fraction: {numerator: 1}', mirrored('fraction')],
    ],
    (body) => filters(`{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}, ${body}}}`),
  );
  const crossed = (field: string) => at(0, `cors.${field}`);
  cases(
    KIND,
    [
      ['allowOrigins: ["*"]', ok],
      ['allowOrigins: ["https://*.a.b", "http://a:8080", "https://*"]', ok],
      ['allowOrigins: ["*", "http://a"]', crossed('allowOrigins[0]')],
      ['allowOrigins: [a.b]', crossed('allowOrigins[0]')],
      ['allowOrigins: ["http://"]', crossed('allowOrigins[0]')],
      ['allowOrigins: ["http://a/b"]', crossed('allowOrigins[0]')],
      ['allowOrigins: ["http://a:port"]', crossed('allowOrigins[0]')],
      ['allowOrigins: ["http://a", "http://a"]', crossed('allowOrigins[1]')],
      ['allowMethods: [GET, "*"]', crossed('allowMethods[1]')],
      ['allowMethods: [FOO]', crossed('allowMethods[0]')],
      ['allowMethods: [GET, GET]', crossed('allowMethods[1]')],
      ['allowHeaders: [a, B]', ok],
      ['allowHeaders: [a, "*"]', crossed('allowHeaders[1]')],
      ['allowHeaders: ["a b"]', crossed('allowHeaders[0]')],
      ['exposeHeaders: [a, "*"]', ok],
      ['exposeHeaders: [a, a]', crossed('exposeHeaders[1]')],
      ['maxAge: 0', crossed('maxAge')],
      ['maxAge: 1, allowCredentials: false', ok],
    ],
    (body) => filters(`{type: CORS, cors: {${body}}}`),
  );
  const checked = (field: string) => at(0, `externalAuth.${field}`);
  cases(
    KIND,
    [
      ['protocol: HTTP, http: {path: /a}', ok],
      ['protocol: GRPC, grpc: {allowedHeaders: [a]}, forwardBody: {maxSize: 10}', ok],
      ['protocol: HTTP', checked('http')],
      ['protocol: GRPC', checked('grpc')],
      ['protocol: HTTP, grpc: {}', `${checked('grpc')} ${checked('http')}`],
      ['protocol: GRPC, grpc: {}, http: {}', checked('http')],
      ['protocol: HTTP, http: {path: "/a b"}', checked('http.path')],
      ['protocol: Foo, http: {}', `${checked('http')} ${checked('protocol')}`],
    ],
    (body) => filters(`{type: ExternalAuth, externalAuth: {backendRef: {name: a, port: 80}, ${body}}}`),
  );
});

describe('timeouts, retries and sessions of an HTTPRoute', () => {
  const timeout = (field: string) => inRule(`timeouts.${field}`);
  cases(
    'HTTPRoute',
    [
      ['request: 1h2m3s4ms', ok],
      ['request: 0s, backendRequest: 5s', ok],
      ['request: 5s, backendRequest: 5s', ok],
      ['request: 1s, backendRequest: 1000ms', ok],
      ['request: 1s, backendRequest: 1001ms', timeout('backendRequest')],
      ['backendRequest: 1s', ok],
      ['request: 0', timeout('request')],
      ['request: "10"', timeout('request')],
      ['request: 1.5s', timeout('request')],
      ['request: 1us', timeout('request')],
      ['request: 1d', timeout('request')],
      ['request: -1s', timeout('request')],
      ['request: 100000s', timeout('request')],
      ['request: 99999h99999m99999s99999ms', ok],
      ['request: 1s1s1s1s1s', timeout('request')],
      ['request: ""', timeout('request')],
    ],
    (body) => rule(`timeouts: {${body}}`),
  );
  const retry = (field: string) => inRule(`retry.${field}`);
  cases(
    'HTTPRoute',
    [
      ['codes: [400, 599], attempts: 2, backoff: 100ms', ok],
      ['codes: [399]', retry('codes[0]')],
      ['codes: [600]', retry('codes[0]')],
      ['backoff: 1', retry('backoff')],
    ],
    (body) => rule(`retry: {${body}}`),
  );
  const session = (field: string) => inRule(`sessionPersistence.${field}`);
  cases(
    'HTTPRoute',
    [
      ['', ok],
      ['type: Header, sessionName: a', ok],
      ['type: Cookie, absoluteTimeout: 1h, cookieConfig: {lifetimeType: Permanent}', ok],
      ['cookieConfig: {lifetimeType: Permanent}', session('absoluteTimeout')],
      ['type: Header, cookieConfig: {lifetimeType: Session}', session('cookieConfig')],
      ['type: Foo', session('type')],
      [`sessionName: ${'a'.repeat(129)}`, session('sessionName')],
    ],
    (body) => rule(`sessionPersistence: {${body}}`),
  );
});

describe('GRPCRoute', () => {
  const KIND = 'GRPCRoute';
  const method = (field: string) => inMatch(`method.${field}`);
  cases(
    KIND,
    [
      ['service: shop.Catalog, method: Get', ok],
      ['service: Catalog', ok],
      ['method: Get', ok],
      ['service: .shop.Catalog', ok],
      ['service: _a.b_1', ok],
      ['', method('service')],
      ['type: Exact', method('service')],
      ['service: ""', method('service')],
      ['service: a..b', method('service')],
      ['service: a/b', method('service')],
      ['service: 1a', method('service')],
      ['service: a.b.', method('service')],
      ['method: a.b', method('method')],
      ['method: ""', method('method')],
      ['method: 1a', method('method')],
      ['method: "foo:bar"', method('method')],
      ['type: RegularExpression, service: "a/.*", method: "[Gg]et"', ok],
      ['type: RegularExpression, service: "a("', `~ ${method('service')}`],
      ['type: Foo, service: a', method('type')],
      [`service: ${'a'.repeat(1025)}`, method('service')],
    ],
    (body) => match(`method: {${body}}`),
  );
  cases(KIND, [
    ['{}', ok],
    [`{rules: [${times(17, () => '{}')}]}`, 'spec.rules'],
    [`{rules: [${times(3, () => `{matches: [${times(43, () => '{}')}]}`)}]}`, 'spec.rules'],
    ['{rules: [{name: a}, {name: a}]}', 'spec.rules[1].name'],
    ['{rules: [{matches: [{headers: [{name: a, value: b}, {name: A, value: b}]}]}]}', '~ spec.rules[0].matches[0].headers[1].name'],
    ['{rules: [{matches: [{headers: [{type: RegularExpression, name: a, value: "("}]}]}]}', '~ spec.rules[0].matches[0].headers[0].value'],
    ['{rules: [{backendRefs: [{name: a}]}]}', 'spec.rules[0].backendRefs[0].port'],
    ['{rules: [{timeouts: {request: 1s}}]}', 'spec.rules[0].timeouts'],
    ['{rules: [{filters: [{type: URLRewrite, urlRewrite: {}}]}]}', 'spec.rules[0].filters[0].type spec.rules[0].filters[0].urlRewrite'],
    ['{rules: [{filters: [{type: RequestMirror}]}]}', 'spec.rules[0].filters[0].requestMirror'],
    [
      '{rules: [{filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {}}, {type: ResponseHeaderModifier, responseHeaderModifier: {}}]}]}',
      'spec.rules[0].filters[1].type',
    ],
  ]);
});

describe('Gateway', () => {
  const KIND = 'Gateway';
  const at = (field: string) => `spec.listeners[0].${field}`;
  const listeners = (body: string) => `spec: {gatewayClassName: a, listeners: [${body}]}`;
  const listener = (body: string) => listeners(`{name: a, port: 443, ${body}}`);
  const tls = (body: string) => listener(`protocol: HTTPS, tls: {${body}}`);
  const REFS = 'certificateRefs: [{name: a}]';
  cases(
    KIND,
    [
      ['protocol: HTTP, tls: {}', at('tls')],
      ['protocol: TCP, tls: {}', at('tls')],
      ['protocol: UDP, tls: {}', at('tls')],
      ['protocol: HTTP', ok],
      ['protocol: TCP', ok],
      ['protocol: HTTPS', `~ ${at('tls')}`],
      ['protocol: TLS', `~ ${at('tls')}`],
      ['protocol: HTTPS, tls: {mode: Passthrough}', at('tls.mode')],
      ['protocol: TLS, tls: {mode: Passthrough}', ok],
      ['protocol: TCP, hostname: a.b', at('hostname')],
      ['protocol: UDP, hostname: a.b', at('hostname')],
      ['protocol: HTTP, hostname: "*.a.b"', ok],
      ['protocol: HTTP, hostname: 1.2.3.4', at('hostname')],
      ['protocol: foo.example/bar', ok],
      ['protocol: Http', ok],
      ['protocol: "foo.example/"', at('protocol')],
      ['protocol: HTTP, allowedRoutes: {namespaces: {from: Foo}}', at('allowedRoutes.namespaces.from')],
      ['protocol: HTTP, allowedRoutes: {kinds: [{kind: HTTPRoute}, {kind: foo, group: ""}]}', ok],
      ['protocol: HTTP, allowedRoutes: {kinds: [{kind: "a b"}]}', at('allowedRoutes.kinds[0].kind')],
    ],
    listener,
  );
  cases(
    KIND,
    [
      [REFS, ok],
      [`mode: Terminate, ${REFS}`, ok],
      ['options: {foo.example/a: b}', ok],
      ['', at('tls.certificateRefs')],
      ['mode: Terminate', at('tls.certificateRefs')],
      ['certificateRefs: []', at('tls.certificateRefs')],
      ['options: {}', at('tls.certificateRefs')],
      [`${REFS}, options: {"a b": c}`, at('tls.options["a b"]')],
      [`${REFS}, options: {a: ${'b'.repeat(4097)}}`, at('tls.options.a')],
      ['mode: Foo', `${at('tls.certificateRefs')} ${at('tls.mode')}`],
      ['certificateRefs: [{name: a, kind: secret}]', ok],
      ['certificateRefs: [{name: a, kind: Foo, group: foo.example}]', ok],
      ['certificateRefs: [{name: a, group: "Foo bar"}]', at('tls.certificateRefs[0].group')],
    ],
    tls,
  );
  cases(
    KIND,
    [
      ['', 'spec.listeners'],
      ['{name: a, port: 80, protocol: HTTP}, {name: a, port: 81, protocol: HTTP}', 'spec.listeners[1].name'],
      ['{name: a, port: 80, protocol: HTTP}, {name: b, port: 80, protocol: HTTP}', 'spec.listeners[1].port'],
      ['{name: a, port: 80, protocol: HTTP}, {name: b, port: 80, protocol: HTTP, hostname: a.b}', ok],
      ['{name: a, port: 80, protocol: HTTP, hostname: a.b}, {name: b, port: 80, protocol: HTTP, hostname: a.b}', 'spec.listeners[1].port'],
      ['{name: a, port: 80, protocol: TCP}, {name: b, port: 80, protocol: HTTP}', '~ spec.listeners[1].protocol'],
      ['{name: a, port: 53, protocol: UDP}, {name: b, port: 53, protocol: TCP}', ok],
      ['{name: A, port: 80, protocol: HTTP}', at('name')],
      ['{name: a, port: 0, protocol: HTTP}', at('port')],
      ['{name: a, protocol: HTTP}', at('port')],
      [times(64, (index) => `{name: a${index}, port: ${index + 1}, protocol: HTTP}`), ok],
      [times(65, (index) => `{name: a${index}, port: ${index + 1}, protocol: HTTP}`), 'spec.listeners'],
    ],
    listeners,
  );
  cases(
    KIND,
    [
      ['addresses: [{value: 1.2.3.4}, {type: IPAddress, value: "::1"}]', ok],
      ['addresses: [{value: 1.2.3.4}, {type: IPAddress, value: 1.2.3.4}]', 'spec.addresses[1].value'],
      ['addresses: [{value: 1.2.3.256}]', 'spec.addresses[0].value'],
      ['addresses: [{type: Hostname, value: a.b}, {type: Hostname, value: "*.a.b"}]', ok],
      ['addresses: [{type: Hostname, value: a.b}, {type: Hostname, value: a.b}]', 'spec.addresses[1].value'],
      ['addresses: [{type: Hostname, value: "a.*.b"}]', 'spec.addresses[0].value'],
      ['addresses: [{type: Hostname, value: A_b}]', 'spec.addresses[0].value'],
      ['addresses: [{type: foo.example/bar, value: a}, {type: foo.example/bar, value: a}]', ok],
      ['addresses: [{type: Foo, value: a}]', 'spec.addresses[0].type'],
      ['addresses: [{type: IPAddress}]', ok],
      [`addresses: [${times(17, (index) => `{value: 1.2.3.${index}}`)}]`, 'spec.addresses'],
      ['infrastructure: {labels: {a: b}, annotations: {a.b/c: "d e"}}', ok],
      ['infrastructure: {labels: {"a b": c}}', 'spec.infrastructure.labels["a b"]'],
      ['infrastructure: {labels: {a: "b c"}}', 'spec.infrastructure.labels.a'],
      [`infrastructure: {labels: {${times(9, (index) => `a${index}: b`)}}}`, 'spec.infrastructure.labels'],
      ['infrastructure: {annotations: {"": c}}', 'spec.infrastructure.annotations[""]'],
      [`infrastructure: {annotations: {${times(9, (index) => `a${index}: b`)}}}`, 'spec.infrastructure.annotations'],
      ['infrastructure: {parametersRef: {group: foo.example, kind: Foo, name: a}}', ok],
      ['infrastructure: {parametersRef: {group: foo.example, kind: "F oo", name: a}}', 'spec.infrastructure.parametersRef.kind'],
      ['allowedListeners: {namespaces: {from: Same}}', ok],
      ['allowedListeners: {namespaces: {from: Foo}}', 'spec.allowedListeners.namespaces.from'],
      ['tls: {frontend: {default: {validation: {caCertificateRefs: [{kind: ConfigMap, group: "", name: a}]}}}}', ok],
      ['tls: {frontend: {default: {validation: {caCertificateRefs: []}}}}', 'spec.tls.frontend.default.validation.caCertificateRefs'],
      ['tls: {frontend: {default: {}, perPort: [{port: 1, tls: {}}, {port: 1, tls: {}}]}}', 'spec.tls.frontend.perPort[1].port'],
      ['tls: {frontend: {}}', 'spec.tls.frontend.default'],
    ],
    (body) => `spec: {gatewayClassName: a, listeners: [{name: a, port: 80, protocol: HTTP}], ${body}}`,
  );
  cases(KIND, [
    ['{listeners: [{name: a, port: 80, protocol: HTTP}]}', 'spec.gatewayClassName'],
    ['{gatewayClassName: "", listeners: [{name: a, port: 80, protocol: HTTP}]}', 'spec.gatewayClassName'],
    ['{gatewayClassName: a}', 'spec.listeners'],
  ]);
});

describe('ListenerSet', () => {
  cases('ListenerSet', [
    ['{parentRef: {name: a}, listeners: [{name: a, port: 80, protocol: HTTP}]}', ok],
    ['{parentRef: {name: a}, listeners: [{name: a, port: 443, protocol: TLS, tls: {mode: Passthrough}}]}', ok],
    ['{parentRef: {name: a}, listeners: [{name: a, port: 443, protocol: TLS}]}', 'spec.listeners[0].tls'],
    ['{parentRef: {name: a}, listeners: [{name: a, port: 443, protocol: TLS, tls: {}}]}', 'spec.listeners[0].tls.certificateRefs'],
    ['{parentRef: {name: a}, listeners: [{name: a, port: 443, protocol: HTTPS}]}', '~ spec.listeners[0].tls'],
    ['{parentRef: {name: a}, listeners: []}', 'spec.listeners'],
    ['{parentRef: {name: a, kind: "a b"}, listeners: [{name: a, port: 80, protocol: HTTP}]}', 'spec.parentRef.kind'],
    ['{listeners: [{name: a, port: 80, protocol: HTTP}]}', 'spec.parentRef'],
  ]);
});

describe('routes of connections', () => {
  const RULES = 'rules: [{backendRefs: [{name: a, port: 80}]}]';
  const TWO = 'rules: [{backendRefs: [{name: a, port: 80}]}, {backendRefs: [{name: b, port: 80}]}]';
  const tls = (version: string, table: readonly Case[]): void => {
    cases('TLSRoute', table, undefined, `gateway.networking.k8s.io/${version}`);
  };
  tls('v1', [
    [`{hostnames: [a.b], ${RULES}}`, ok],
    [`{hostnames: ["*.a.b"], ${RULES}}`, ok],
    [`{hostnames: [1.2.3.4], ${RULES}}`, 'spec.hostnames[0]'],
    [`{hostnames: ["*"], ${RULES}}`, 'spec.hostnames[0]'],
    [`{hostnames: [], ${RULES}}`, 'spec.hostnames'],
    [`{${RULES}}`, 'spec.hostnames'],
    ['{hostnames: [a.b], rules: []}', 'spec.rules'],
    [`{hostnames: [a.b], ${TWO}}`, 'spec.rules'],
    ['{hostnames: [a.b]}', 'spec.rules'],
    ['{hostnames: [a.b], rules: [{}]}', 'spec.rules[0].backendRefs'],
    ['{hostnames: [a.b], rules: [{backendRefs: []}]}', 'spec.rules[0].backendRefs'],
  ]);
  tls('v1alpha3', [[`{${RULES}}`, 'spec.hostnames']]);
  tls('v1alpha2', [
    [`{${RULES}}`, ok],
    [`{${TWO}}`, '~ spec.rules[1]'],
  ]);
  for (const kind of ['TCPRoute', 'UDPRoute'])
    cases(kind, [
      [`{${RULES}}`, ok],
      [`{${TWO}}`, '~ spec.rules[1]'],
      ['{rules: [{backendRefs: [{name: a}]}]}', 'spec.rules[0].backendRefs[0].port'],
      [`{rules: [${times(17, () => '{backendRefs: [{name: a, port: 80}]}')}]}`, 'spec.rules'],
    ]);
});

describe('BackendTLSPolicy, ReferenceGrant, GatewayClass', () => {
  const VALIDATION = 'validation: {hostname: a.b, wellKnownCACertificates: System}';
  const target = (more: string) => `{group: "", kind: Service, name: a${more}}`;
  cases(
    'BackendTLSPolicy',
    [
      [target(''), ok],
      [`${target(', sectionName: x')}, ${target(', sectionName: y')}`, ok],
      [`${target('')}, ${target(', sectionName: y')}`, 'spec.targetRefs[1].name'],
      [`${target('')}, ${target('')}`, 'spec.targetRefs[1].name'],
      [`${target('')}, {group: foo.example, kind: Foo, name: a}`, ok],
      ['', 'spec.targetRefs'],
    ],
    (body) => `spec: {targetRefs: [${body}], ${VALIDATION}}`,
  );
  const at = (field: string) => `spec.validation.${field}`;
  cases(
    'BackendTLSPolicy',
    [
      ['hostname: a.b, caCertificateRefs: [{group: "", kind: ConfigMap, name: a}]', ok],
      ['hostname: a.b, caCertificateRefs: [], wellKnownCACertificates: System', ok],
      [
        'hostname: a.b, caCertificateRefs: [{group: "", kind: ConfigMap, name: a}], wellKnownCACertificates: System',
        at('wellKnownCACertificates'),
      ],
      ['hostname: a.b', at('caCertificateRefs')],
      ['hostname: a.b, wellKnownCACertificates: Foo', at('wellKnownCACertificates')],
      ['hostname: "*.a.b", wellKnownCACertificates: System', at('hostname')],
      ['hostname: "", wellKnownCACertificates: System', at('hostname')],
      ['wellKnownCACertificates: System', at('hostname')],
    ],
    (body) => `spec: {targetRefs: [${target('')}], validation: {${body}}}`,
  );
  cases(
    'BackendTLSPolicy',
    [
      ['{type: Hostname, hostname: a.b}', ok],
      ['{type: Hostname, hostname: "*.a.b"}', ok],
      ['{type: URI, uri: "spiffe://a/b"}', ok],
      ['{type: URI, uri: "https://a/b?c#d"}', ok],
      ['{type: URI, uri: "mailto:a"}', at('subjectAltNames[0].uri')],
      ['{type: URI, uri: ""}', at('subjectAltNames[0].uri')],
      ['{type: URI}', at('subjectAltNames[0].uri')],
      ['{type: URI, hostname: a.b}', `${at('subjectAltNames[0].hostname')} ${at('subjectAltNames[0].uri')}`],
      ['{type: Hostname}', at('subjectAltNames[0].hostname')],
      ['{type: Hostname, hostname: a.b, uri: "spiffe://a/b"}', at('subjectAltNames[0].uri')],
      [times(6, (index) => `{type: Hostname, hostname: a${index}}`), at('subjectAltNames')],
    ],
    (body) =>
      `spec: {targetRefs: [${target('')}], validation: {hostname: a.b, wellKnownCACertificates: System, subjectAltNames: [${body}]}}`,
  );
  cases('ReferenceGrant', [
    ['{from: [{group: "", kind: Service, namespace: a}], to: [{group: "", kind: Secret, name: b}]}', ok],
    ['{from: [{group: foo.example, kind: Foo, namespace: a}], to: [{group: "", kind: Secret}]}', ok],
    ['{from: [], to: [{group: "", kind: Secret}]}', 'spec.from'],
    ['{from: [{group: "", kind: Service, namespace: a}]}', 'spec.to'],
    ['{from: [{group: "", kind: Service, namespace: "*"}], to: [{group: "", kind: Secret}]}', 'spec.from[0].namespace'],
    ['{from: [{group: "", kind: "*", namespace: a}], to: [{group: "", kind: Secret}]}', 'spec.from[0].kind'],
    ['{from: [{group: "*", kind: A, namespace: a}], to: [{group: "", kind: Secret, name: ""}]}', 'spec.from[0].group spec.to[0].name'],
    ['{from: [{kind: A, namespace: a}], to: [{group: "", kind: Secret}]}', 'spec.from[0].group'],
  ]);
  cases('GatewayClass', [
    ['{controllerName: a.b/c}', ok],
    ['{controllerName: a.b}', 'spec.controllerName'],
    ['{controllerName: ""}', 'spec.controllerName'],
    ['{}', 'spec.controllerName'],
    ['{controllerName: a.b/c, parametersRef: {group: a, kind: B, name: c, namespace: d}}', ok],
    [`{controllerName: a.b/c, description: ${'a'.repeat(65)}}`, 'spec.description'],
  ]);
});
