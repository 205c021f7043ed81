// For tests: requests of the Gateway API's own conformance suite (sigs.k8s.io/gateway-api/conformance/tests) and who answers them, by the file of
// manifests in ../shared/testdata. Data alone: who asks is the test's to say.

type Headers = Readonly<Record<string, string>>;

/** What is asked, and the backend's name or the status that answers; undefined headers must not be there. */
export interface Pair {
  readonly path?: string;
  readonly host?: string;
  readonly method?: string;
  readonly port?: number;
  readonly gateway?: string;
  readonly headers?: Headers;
  readonly answer: string | number;
  readonly seen?: Readonly<Record<string, string | undefined>>;
  readonly told?: Readonly<Record<string, string | undefined>>;
}

export const [V1, V2, V3] = ['infra-backend-v1', 'infra-backend-v2', 'infra-backend-v3'] as const;
export const at = (path: string, answer: string | number, headers: Headers = {}, method = 'GET'): Pair => ({
  path,
  answer,
  headers,
  method,
});
const on = (host: string, path: string, answer: string | number, more: Partial<Pair> = {}): Pair => ({ host, path, answer, ...more });
/** The requests that both kinds of header modifiers are tried with; `name`: how the suite spells the fields. */
const CHANGED: readonly (readonly [path: string, before: Headers, after: Readonly<Record<string, string | undefined>>])[] = [
  ['/set', { 'Some-Other-Header': 'val' }, { 'some-other-header': 'val', 'x-header-set': 'set-overwrites-values' }],
  [
    '/set',
    { 'Some-Other-Header': 'val', 'X-Header-Set': 'some-other-value' },
    { 'some-other-header': 'val', 'x-header-set': 'set-overwrites-values' },
  ],
  ['/add', { 'Some-Other-Header': 'val' }, { 'some-other-header': 'val', 'x-header-add': 'add-appends-values' }],
  ['/add', { 'X-Header-Add': 'some-other-value' }, { 'x-header-add': 'some-other-value, add-appends-values' }],
  ['/remove', { 'X-Header-Remove': 'val' }, { 'x-header-remove': undefined }],
  [
    '/multiple',
    {
      'X-Header-Set-2': 'set-val-2',
      'X-Header-Add-2': 'add-val-2',
      'X-Header-Remove-2': 'remove-val-2',
      'Another-Header': 'another-header-val',
    },
    {
      'x-header-set-1': 'header-set-1',
      'x-header-set-2': 'header-set-2',
      'x-header-add-1': 'header-add-1',
      'x-header-add-2': 'add-val-2, header-add-2',
      'x-header-add-3': 'header-add-3',
      'x-header-remove-1': undefined,
      'x-header-remove-2': undefined,
      'another-header': 'another-header-val',
    },
  ],
  [
    '/case-insensitivity',
    {
      'x-header-set': 'original-val-set',
      'x-header-add': 'original-val-add',
      'x-header-remove': 'original-val-remove',
      'Another-Header': 'a',
    },
    { 'x-header-set': 'header-set', 'x-header-add': 'original-val-add, header-add', 'x-header-remove': undefined, 'another-header': 'a' },
  ],
];
/** What a rule with rewrite or mirror says of headers besides, before and after. */
export const MODIFIED = {
  headers: { 'X-Header-Remove': 'remove-val', 'X-Header-Add-Append': 'append-val-1', 'X-Header-Set': 'set-val' },
  seen: {
    'x-header-add': 'header-val-1',
    'x-header-add-append': 'append-val-1, header-val-2',
    'x-header-set': 'set-overwrites-values',
    'x-header-remove': undefined,
  },
} as const;
/** `seen[':path']`: of the request that the backend got. */
const rewritten = (path: string, to: string, more: Pair['seen'] = {}): Pair => ({ path, answer: V1, seen: { ':path': to, ...more } });
const rewrittenHost = (path: string, answer: string, host: string): Pair => ({ path, host: 'rewrite.example', answer, seen: { host } });
/** What the backend is asked to answer with. */
const echoed = (headers: Headers): Headers => ({
  'x-echo-set-header': Object.entries(headers)
    .map(([name, value]) => `${name}: ${value}`)
    .join(', '),
});

export const PAIRS: Readonly<Record<string, readonly Pair[]>> = {
  'httproute-simple-same-namespace': [at('/', V1)],
  'httproute-named-rule': [at('/named', V1), at('/unnamed', V2), at('/', 404)],
  'httproute-exact-path-matching': [
    at('/one', V1),
    at('/two', V2),
    ...['/', '/one/example', '/two/', '/Two', '/twoo'].map((path) => at(path, 404)),
  ],
  'httproute-matching': [
    at('/', V1),
    at('/example', V1),
    at('/', V1, { Version: 'one' }),
    at('/v2', V2),
    at('/v2/example', V2),
    at('/', V2, { Version: 'two' }),
    at('/v2/', V2),
    at('/v2example', V1),
    at('/foo/v2/example', V1),
  ],
  'httproute-matching-across-routes': [
    on('example.com', '/', V1),
    on('example.com', '/example', V1),
    on('example.net', '/example', V1),
    on('example.com', '/example', V1, { headers: { Version: 'one' } }),
    on('example.com', '/v2', V2),
    on('example.net', '/v2', V1),
    on('example.com', '/v2/example', V2),
    on('example.com', '/', V2, { headers: { Version: 'two' } }),
    on('example.org', '/', 404),
  ],
  'httproute-header-matching': [
    at('/', V1, { Version: 'one' }),
    at('/', V2, { Version: 'two' }),
    at('/', V1, { Version: 'two', Color: 'orange' }),
    at('/', V1, { Color: 'blue' }),
    at('/', V1, { Color: 'green' }),
    at('/', V2, { Color: 'red' }),
    at('/', V2, { Color: 'yellow' }),
    at('/', 404, { Color: 'orange' }),
    at('/', 404, { 'Some-Other-Header': 'one' }),
    at('/', 404, { Color: 'purple' }),
    at('/', 404, { Version: 'One' }),
    at('/', 404),
  ],
  'httproute-method-matching': [
    at('/', V1, {}, 'POST'),
    at('/', V2),
    at('/', 404, {}, 'HEAD'),
    at('/path1', V1),
    at('/', V2, { version: 'one' }, 'PUT'),
    at('/path2', V3, { version: 'two' }, 'POST'),
    at('/path3', V1, {}, 'PATCH'),
    at('/path4', V1, { version: 'three' }, 'DELETE'),
    at('/', 404, {}, 'PUT'),
    at('/path4', 404, {}, 'DELETE'),
    at('/path5', V1, {}, 'PATCH'),
    at('/', V2, { version: 'four' }, 'PATCH'),
  ],
  'httproute-query-param-matching': [
    at('/?animal=whale', V1),
    at('/?animal=dolphin', V2),
    at('/?animal=whale&otherparam=irrelevant', V1),
    at('/?animal=dolphin&color=yellow', V2),
    at('/?animal=dolphin&color=blue', V3),
    at('/?ANIMAL=Whale', V3),
    ...['/?color=blue', '/?animal=dog', '/?animal=whaledolphin', '/'].map((path) => at(path, 404)),
    at('/path1?animal=whale', V1),
    at('/?animal=whale', V2, { version: 'one' }),
    at('/path2?animal=whale', V3, { version: 'two' }),
    at('/path3?animal=shark', V1),
    at('/path4?animal=kraken', V1, { version: 'three' }),
    at('/path5?animal=hydra', V1),
    at('/?animal=hydra', V3, { version: 'four' }),
  ],
  'httproute-path-match-order': [
    at('/match/exact/one', V3),
    at('/match/exact', V2),
    at('/match', V1),
    at('/match/prefix/one/any', V2),
    at('/match/prefix/any', V1),
    at('/match/any', V3),
  ],
  'httproute-hostname-intersection': [
    on('very.specific.com', '/s1', V1),
    on('very.specific.com:1234', '/s1', V1),
    ...['non.matching.com', 'foo.nonmatchingwildcard.io', 'foo.wildcard.io'].map((host) => on(host, '/s1', 404)),
    on('very.specific.com', '/non-matching-prefix', 404),
    on('foo.wildcard.io', '/s2', V2),
    on('bar.wildcard.io', '/s2', V2),
    on('foo.bar.wildcard.io', '/s2', V2),
    ...['non.matching.com', 'wildcard.io', 'baz.wildcard.io', 'very.specific.com'].map((host) => on(host, '/s2', 404)),
    on('foo.wildcard.io', '/not-matching-prefix', 404),
    on('very.specific.com', '/s3', V3),
    ...['non.matching.com', 'foo.specific.com', 'foo.wildcard.io'].map((host) => on(host, '/s3', 404)),
    on('very.specific.com', '/not-matching', 404),
    on('one.anotherwildcard.io', '/s4', V1),
    on('one.two.three.anotherwildcard.io', '/s4', V1),
    ...['anotherwildcard.io', 'foo.wildcard.io', 'very.specific.com'].map((host) => on(host, '/s4', 404)),
    ...['specific.but.wrong.com', 'wildcard.io', 'very.specific.com'].map((host) => on(host, '/s5', 404)),
    ...['first.com', 'sub.first.com', 'second.com', 'sub.second.com'].map((host) =>
      on(host, '/', V2, { gateway: 'httproute-hostname-intersection-all' }),
    ),
    on('third.com', '/', 404, { gateway: 'httproute-hostname-intersection-all' }),
  ],
  'httproute-listener-hostname-matching': [
    on('bar.com', '/', V1),
    on('bar.com:8080', '/', V1),
    on('foo.bar.com', '/', V2),
    ...['baz.bar.com', 'boo.bar.com', 'multiple.prefixes.bar.com', 'multiple.prefixes.foo.com'].map((host) => on(host, '/', V3)),
    ...['foo.com', 'no.matching.host'].map((host) => on(host, '/', 404)),
  ],
  'httproute-listener-port-matching': [
    on('foo.com', '/', V1),
    on('bar.com', '/', 404),
    on('foo.com', '/', V2, { port: 8080 }),
    on('bar.com', '/', V2, { port: 8080 }),
    on('foo.com', '/', V3, { port: 8090 }),
    on('bar.com', '/', 404, { port: 8090 }),
  ],
  'gateway-http-listener-isolation': isolation('attaches-to'),
  'gateway-http-listener-isolation-with-hostname-intersection': [...isolation('hosts'), on('bar.com', '/empty-hostname', V1)],
  'httproute-multiple-gateways': [
    at('/shared', V1),
    at('/', V2),
    { path: '/shared', gateway: 'all-namespaces', answer: V1 },
    { path: '/', gateway: 'all-namespaces', answer: V3 },
  ],
  'httproute-cross-namespace': [{ path: '/', gateway: 'backend-namespaces', answer: 'web-backend' }],
  'httproute-reference-grant': [at('/', 'web-backend')],
  'httproute-invalid-reference-grant': [at('/', 500)],
  'httproute-partially-invalid-via-invalid-reference-grant': [at('/v2', 500), at('/', 'app-backend-v1')],
  'httproute-invalid-nonexistent-backendref': [at('/', 500)],
  'httproute-invalid-backendref-unknown-kind': [at('/', 500)],
  'httproute-invalid-cross-namespace-backend-ref': [at('/', 500)],
  'httproute-invalid-cross-namespace-parent-ref': [at('/', 404)],
  'httproute-invalid-parentref-not-matching-listener-port': [at('/', 404)],
  'httproute-invalid-parentref-not-matching-section-name': [at('/', 404)],
  'httproute-invalid-parentref-section-name-not-matching-port': [at('/', 404)],
  'httproute-omitted-backendrefs': [at('/omitted-no-forward', 500), at('/empty-no-forward', 500), at('/', V1)],
  'httproute-service-types': [
    at('/manual-endpointslices', 'manual-endpointslices'),
    at('/headless', 'headless'),
    at('/headless-manual-endpointslices', 'headless-manual-endpointslices'),
  ],
  'httproute-backend-protocol-h2c': [{ path: '/', answer: V1, seen: { ':version': '2.0' } }],
  'httproute-request-header-modifier': CHANGED.map(([path, headers, seen]) => ({ path, headers, seen, answer: V1 })),
  'httproute-response-header-modifier': [
    ...CHANGED.map(([path, headers, told]) => ({ path, headers: echoed(headers), told, answer: V1 })),
    {
      path: '/case-insensitivity',
      answer: V1,
      told: {
        'x-lowercase-add': 'lowercase-add',
        'x-mixedcase-add-1': 'mixedcase-add-1',
        'x-mixedcase-add-2': 'mixedcase-add-2',
        'x-uppercase-add': 'uppercase-add',
      },
    },
    {
      path: '/response-and-request-header-modifiers',
      headers: {
        'X-Header-Remove': 'remove-val',
        'X-Header-Add-Append': 'append-val-1',
        ...echoed({ 'X-Header-Set-2': 'set-val-2', 'X-Header-Remove-1': 'r' }),
      },
      answer: V1,
      seen: {
        'x-header-set': 'set-overwrites-values',
        'x-header-add': 'header-val-1',
        'x-header-add-append': 'append-val-1, header-val-2',
        'x-header-remove': undefined,
      },
      told: {
        'x-header-set-1': 'header-set-1',
        'x-header-set-2': 'header-set-2',
        'x-header-add-1': 'header-add-1',
        'x-header-remove-1': undefined,
      },
    },
  ],
  'httproute-rewrite-path': [
    rewritten('/prefix/one/two', '/one/two'),
    rewritten('/prefix/one?a=b', '/one?a=b'),
    rewritten('/strip-prefix/three', '/three'),
    rewritten('/strip-prefix', '/'),
    rewritten('/full/one/two', '/one'),
    { ...rewritten('/full/rewrite-path-and-modify-headers/x', '/test', MODIFIED.seen), headers: MODIFIED.headers },
    { ...rewritten('/prefix/rewrite-path-and-modify-headers/one', '/prefix/one', MODIFIED.seen), headers: MODIFIED.headers },
  ],
  'httproute-rewrite-host': [
    rewrittenHost('/one', V1, 'one.example.org'),
    rewrittenHost('/two', V2, 'example.org'),
    {
      ...rewrittenHost('/rewrite-host-and-modify-headers', V2, 'test.example.org'),
      headers: MODIFIED.headers,
      seen: { ...MODIFIED.seen, host: 'test.example.org' },
    },
  ],
  'httproute-backend-url-rewrite': [
    rewritten('/full/original', '/rewritten-full'),
    rewritten('/prefix/original', '/rewritten-prefix/original'),
  ],
  'httproute-request-header-modifier-backend': CHANGED.map(([path, headers, seen]) => ({ path, headers, seen, answer: V1 })),
  'httproute-request-header-modifier-backend-weights': [],
  'httproute-weight': [],
  'httproute-timeout-request': [
    at('/request-timeout', V1),
    at('/request-timeout?delay=700', 504),
    at('/disable-request-timeout', V1),
    at('/disable-request-timeout?delay=700', V1),
  ],
  'httproute-timeout-backend-request': [
    at('/backend-timeout', V1),
    at('/backend-timeout?delay=700', 504),
    at('/disable-backend-timeout?delay=700', V1),
  ],
  'httproute-backend-protocol-websocket': [],
  'listenerset-allowed-routes-namespaces': [
    ['all', V1, V2, V3, 404, 404] as const,
    ['same', V1, 404, 404, 404, 404] as const,
    ['selector', 404, V2, 404, 404, 404] as const,
    ['cross-ns-same', 404, 404, 404, V1, 404] as const,
  ].flatMap(([listener, ...answers]) =>
    ['same-namespace', 'selected-namespace', 'not-in-selected-namespace', 'listenerset-namespace', 'gateway-namespace'].map((route, at) =>
      on(
        `listener-set-listener-allowed-routes-${listener}.com`,
        route.startsWith('not-') ? `/route-${route}` : `/route-in-${route}`,
        answers[at] ?? '',
      ),
    ),
  ),
  'listenerset-dual-parentref-independence': [
    on('gw-dual.com', '/dualboth', V1),
    on('ls-dual.com', '/dualboth', V1),
    on('gw-dual.com', '/dualone', 404),
    on('ls-dual.com', '/dualone', V2),
  ],
};

/** Each listener sees the routes attached to it alone, whatever less specific ones match. */
function isolation(kind: 'attaches-to' | 'hosts'): Pair[] {
  const paths = ['/empty-hostname', '/wildcard-example-com', '/wildcard-foo-example-com', '/abc-foo-example-com'];
  const of = (host: string, own: string): Pair[] => paths.map((path) => on(host, path, path === own ? V1 : 404));
  return [
    ...(kind === 'hosts' ? [] : of('bar.com', '/empty-hostname')),
    ...of('bar.example.com', '/wildcard-example-com'),
    ...of('bar.foo.example.com', '/wildcard-foo-example-com'),
    ...of('abc.foo.example.com', '/abc-foo-example-com'),
  ];
}

const GRPC_SERVICE = 'gateway_api_conformance.echo_basic.grpcecho.GrpcEcho';
const UNIMPLEMENTED = 12;
export const [G1, G2, G3] = ['grpc-infra-backend-v1', 'grpc-infra-backend-v2', 'grpc-infra-backend-v3'] as const;
export const call = (method: string, answer: string | number, headers: Headers = {}, host = 'a.test'): Pair => ({
  path: `/${GRPC_SERVICE}/${method}`,
  answer,
  headers,
  host,
});
export const GRPC_PAIRS: Readonly<Record<string, readonly Pair[]>> = {
  'grpcroute-exact-method-matching': [call('Echo', G1), call('EchoTwo', G2), call('EchoThree', UNIMPLEMENTED)],
  'grpcroute-named-rule': [call('Echo', G1), call('EchoTwo', G2)],
  'grpcroute-header-matching': [
    call('Echo', G1, { version: 'one' }),
    call('Echo', G2, { version: 'two' }),
    call('Echo', G1, { version: 'two', color: 'orange' }),
    call('Echo', G1, { color: 'blue' }),
    call('Echo', G1, { color: 'green' }),
    call('Echo', G2, { color: 'red' }),
    call('Echo', G2, { color: 'yellow' }),
    call('Echo', UNIMPLEMENTED, { color: 'orange' }),
    call('Echo', UNIMPLEMENTED, { 'some-other-header': 'one' }),
    call('Echo', UNIMPLEMENTED),
  ],
  'grpcroute-listener-hostname-matching': [
    call('Echo', G1, {}, 'bar.com'),
    call('Echo', G2, {}, 'foo.bar.com'),
    ...['baz.bar.com', 'boo.bar.com', 'multiple.prefixes.bar.com', 'multiple.prefixes.foo.com'].map((host) => call('Echo', G3, {}, host)),
    ...['foo.com', 'no.matching.host'].map((host) => call('Echo', UNIMPLEMENTED, {}, host)),
  ],
  'grpcroute-request-header-modifier': [
    { ...call('Echo', G1, { 'x-header-set': 'other' }), seen: { 'x-header-set': 'set-overwrites-values' } },
    {
      ...call('EchoTwo', G2, { 'x-header-set-2': 'a', 'x-header-add-2': 'b', 'x-header-remove-1': 'c' }),
      seen: {
        'x-header-set-1': 'header-set-1',
        'x-header-set-2': 'header-set-2',
        'x-header-add-1': 'header-add-1',
        'x-header-add-2': 'b, header-add-2',
        'x-header-remove-1': undefined,
      },
    },
  ],
  'grpcroute-weight': [],
};

/** Where redirects lead: HOST is that of the request. */
type Redirected = readonly [file: string, path: string, status: number, location: string, port?: number];
const portAndScheme = (path: string, location: string, port = 80): Redirected => [
  'httproute-redirect-port-and-scheme',
  path,
  302,
  location,
  port,
];
export const REDIRECTS: readonly Redirected[] = [
  ['httproute-redirect-host-and-status', '/hostname-redirect', 302, 'http://example.org/hostname-redirect'],
  ['httproute-redirect-host-and-status', '/host-and-status?q=1', 301, 'http://example.org/host-and-status?q=1'],
  ['httproute-redirect-path', '/original-prefix/lemon', 302, 'http://HOST/replacement-prefix/lemon'],
  ['httproute-redirect-path', '/full/path/original', 302, 'http://HOST/full-path-replacement'],
  ['httproute-redirect-path', '/path-and-host', 302, 'http://example.org/replacement-prefix'],
  ['httproute-redirect-path', '/path-and-status', 301, 'http://HOST/replacement-prefix'],
  ['httproute-redirect-path', '/full-path-and-host', 302, 'http://example.org/replacement-full'],
  ['httproute-redirect-path', '/full-path-and-status', 301, 'http://HOST/replacement-full'],
  ['httproute-redirect-scheme', '/scheme', 302, 'https://HOST/scheme'],
  ['httproute-redirect-scheme', '/scheme-and-host', 302, 'https://example.org/scheme-and-host'],
  ['httproute-redirect-scheme', '/scheme-and-status', 301, 'https://HOST/scheme-and-status'],
  ['httproute-redirect-scheme', '/scheme-and-host-and-status', 302, 'https://example.org/scheme-and-host-and-status'],
  ['httproute-redirect-port', '/port', 302, 'http://HOST:8083/port'],
  ['httproute-redirect-port', '/port-and-host', 302, 'http://example.org:8083/port-and-host'],
  ['httproute-redirect-port', '/port-and-status', 301, 'http://HOST:8083/port-and-status'],
  ['httproute-redirect-port', '/port-and-host-and-status', 302, 'http://example.org:8083/port-and-host-and-status'],
  portAndScheme('/scheme-nil-and-port-nil', 'http://example.org/scheme-nil-and-port-nil'),
  portAndScheme('/scheme-nil-and-port-80', 'http://example.org/scheme-nil-and-port-80'),
  portAndScheme('/scheme-nil-and-port-8080', 'http://example.org:8080/scheme-nil-and-port-8080'),
  portAndScheme('/scheme-https-and-port-nil', 'https://example.org/scheme-https-and-port-nil'),
  portAndScheme('/scheme-https-and-port-443', 'https://example.org/scheme-https-and-port-443'),
  portAndScheme('/scheme-https-and-port-8443', 'https://example.org:8443/scheme-https-and-port-8443'),
  portAndScheme('/scheme-nil-and-port-nil', 'http://example.org:8080/scheme-nil-and-port-nil', 8080),
  portAndScheme('/scheme-nil-and-port-80', 'http://example.org/scheme-nil-and-port-80', 8080),
  portAndScheme('/scheme-https-and-port-nil', 'https://example.org/scheme-https-and-port-nil', 8080),
  ['httproute-303-redirect', '/see-other', 303, 'http://HOST/see-other'],
  ['httproute-307-redirect', '/temporary', 307, 'http://HOST/temporary'],
  ['httproute-308-redirect', '/permanent', 308, 'http://HOST/permanent'],
  ['httproute-backend-request-redirect', '/full', 302, 'http://HOST/redirected-full'],
  ['httproute-backend-request-redirect', '/prefix/one', 302, 'http://HOST/redirected-prefix/one'],
];
