import { readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { durationMs, findKind, formatFinding, KINDS, nearestName, parseManifests, withoutSecrets } from './index.js';
import { manifestKind } from './kinds.js';

function findingsOf(kind: string, body: string): string[] {
  const definition = KINDS.find((each) => each.kind === kind);
  const written = definition === undefined ? kind : manifestKind(definition);
  const content = `apiVersion: ${definition?.apiVersion ?? ''}\nkind: ${written}\n${body.includes('metadata:') ? '' : 'metadata: {name: a}\n'}${body}\n`;
  const { findings, warnings } = parseManifests([{ name: 'f', content }]);
  return [...findings, ...warnings].map((finding) => formatFinding({ ...finding, file: '', line: 0 }).replace(/^: /, ''));
}

const route = (rule: string) => `spec: {rules: [${rule}]}`;
const match = (text: string) => route(`{matches: [${text}]}`);
const rule = (text: string) => `spec: {hosts: [a], http: [{${text}}]}`;
const server = (text: string, protocol = 'HTTP') => `spec: {servers: [{port: {number: 80, name: p, protocol: ${protocol}}, ${text}}]}`;
const entry = (text: string, port = '') => `spec: {hosts: [a.b], ports: [{number: 80, name: a, protocol: HTTP}, ${port}], ${text}}`;
const modifier = (text: string) => route(`{filters: [{type: RequestHeaderModifier, requestHeaderModifier: ${text}}]}`);

describe('accepted', () => {
  test.each([
    ['Service', 'spec: {ports: [{port: 80}]}'],
    ['Service', 'spec: {clusterIP: None, selector: {app: a}}'],
    [
      'Service',
      'metadata: {name: a, annotations: {networking.istio.io/exportTo: "., shop", Example.com/a: b}}\nspec: {ports: [{port: 80}]}',
    ],
    ['Sidecar', 'spec: {workloadSelector: {labels: {app: a}}, egress: [{hosts: [./*, shop/*.shop.svc.cluster.local]}]}'],
    ['Service', 'spec: {ports: [{name: a, port: 53}, {name: b, port: 53, protocol: UDP}]}'],
    [
      'Service',
      'spec: {type: LoadBalancer, loadBalancerIP: x, externalTrafficPolicy: Local, ports: [{port: 80, nodePort: 30080, targetPort: web, appProtocol: HTTPS}]}',
    ],
    ['Service', 'spec: {clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1, "fd00::1"], ipFamilyPolicy: PreferDualStack, ports: [{port: 80}]}'],
    [
      'EndpointSlice',
      'addressType: IPv6\nendpoints: [{addresses: ["fd00::1"], hints: {forZones: []}, targetRef: {kind: Pod}}]\nports: [{name: "", port: 80}]',
    ],
    ['EndpointSlice', 'addressType: IPv4\nendpoints: null\nports: null'],
    [
      'Gateway',
      'spec: {gatewayClassName: "{X}", listeners: [{name: a, port: 80, protocol: HTTP}, {name: b, port: 80, protocol: HTTP, hostname: "*.a.b"}]}',
    ],
    ['GatewayClass', 'spec: {controllerName: weft.dev/gateway}'],
    ['Namespace', 'spec: {finalizers: [kubernetes]}\nstatus: {phase: Active}'],
    ['HTTPRoute', 'spec: {}'],
    ['HTTPRoute', 'spec: {parentRefs: [{name: g, sectionName: a}, {name: g, sectionName: b}], hostnames: ["*.a.b", c]}'],
    ['HTTPRoute', match('{path: {type: Exact, value: /a%20b}}')],
    ['HTTPRoute', route('{timeouts: {request: 0s, backendRequest: 2s}}')],
    ['IstioGateway', server('hosts: [a.b, ns/*.c.d, "*"], tls: {mode: PASSTHROUGH, httpsRedirect: true}')],
    ['Workload', 'spec: {}'],
    ['Workload', 'spec: {node: n, networkNamespace: /run/netns/a.b, capture: {excludeOutboundCIDRs: ["fd00::/8", 0.0.0.0/0]}}'],
    ['Workload', 'spec: {node: n, systemdUnit: cart@1.service, capture: {excludeInboundCIDRs: [10.0.0.0/8]}}'],
    ['Workload', 'spec: {node: n, cgroup: /system.slice/cart.service}'],
    ['TrafficPolicy', 'spec: {targetRefs: [{kind: Service, name: a}]}'],
  ])('%s %s', (kind, body) => {
    expect(findingsOf(kind, body)).toEqual([]);
  });
});

describe('refused', () => {
  test.each([
    ['Service', 'spec: {}', 'spec.ports: required: a service that is not headless (clusterIP: None) needs at least one port'],
    [
      'Service',
      'spec: {clusterIP: 10.0.0.1, clusterIPs: [10.0.0.2], ports: [{port: 80}]}',
      'spec.clusterIPs[0]: expected the same address as clusterIP ("10.0.0.1"), found "10.0.0.2"',
    ],
    [
      'Service',
      'spec: {ports: [{port: 80, targetPort: Web}]}',
      'spec.ports[0].targetPort: expected a port name (lower-case letters, digits',
    ],
    ['Service', 'spec: {ports: [{port: 1.5}]}', 'spec.ports[0].port: expected a whole number from 1 to 65535, found number 1.5'],
    ['Service', `metadata: {name: ${'a'.repeat(64)}}\nspec: {ports: [{port: 1}]}`, 'at most 63 characters, found 64'],
    [
      'Service',
      'spec: {selector: {app: "a b"}, ports: [{port: 1}]}',
      'spec.selector.app: expected a label value (letters, digits, "-", "_" and "."), found "a b"',
    ],
    ['EndpointSlice', 'addressType: IPv4\nendpoints: [{addresses: []}]', 'endpoints[0].addresses: expected at least 1 item'],
    ['EndpointSlice', 'addressType: IPv4\nports: [{}]', 'ports[0].port: required: a number'],
    ['Gateway', 'spec: {listeners: [{name: a, port: 80, protocol: HTTP, tls: {}}]}', 'spec.gatewayClassName: required: a string'],
    [
      'Gateway',
      'spec: {listeners: [{name: a, port: 443, protocol: HTTPS, tls: {options: {mesh.weft.dev/min-protocol-version: 1.3}}}]}',
      'expected text (in quotes), found number 1.3',
    ],
    [
      'Gateway',
      'spec: {listeners: [{name: a, port: 443, protocol: HTTPS, tls: {options: {mesh.weft.dev/min-protocol-version: "1.1"}}}]}',
      'expected "1.2" or "1.3", found "1.1"',
    ],
    [
      'Gateway',
      'spec: {listeners: [{name: a, port: 443, protocol: HTTPS, tls: {options: {mesh.weft.dev/min-protocol-version: "1.3", mesh.weft.dev/max-protocol-version: "1.2"}}}]}',
      'below mesh.weft.dev/min-protocol-version: no version of TLS is left',
    ],
    [
      'Gateway',
      'spec: {listeners: [{name: a, port: 443, protocol: HTTPS, tls: {options: {mesh.weft.dev/cipher-suites: "TLS_AES_128_GCM_SHA255"}}}]}',
      'did you mean TLS_AES_128_GCM_SHA256?',
    ],
    [
      'Gateway',
      'spec: {listeners: [{name: a, port: 443, protocol: HTTPS, tls: {options: {mesh.weft.dev/cipher-suites: "TLS_AES_128_GCM_SHA256,TLS_AES_128_GCM_SHA256"}}}]}',
      'TLS_AES_128_GCM_SHA256 stands there twice',
    ],
    [
      'Gateway',
      'spec: {listeners: [{name: a, port: 443, protocol: HTTPS, tls: {options: {mesh.weft.dev/min-protocol-version: "1.3", mesh.weft.dev/cipher-suites: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}}}]}',
      'none of them is for TLS 1.3',
    ],
    [
      'Gateway',
      'spec: {listeners: [{name: a, port: 443, protocol: HTTPS, tls: {options: {mesh.weft.dev/client-subject-alt-names: "cart.test, *.cart.test"}}}]}',
      'expected SPIFFE IDs, DNS names and addresses with commas between them, found "*.cart.test"',
    ],
    [
      'Gateway',
      'spec: {listeners: [{name: a, port: 443, protocol: HTTPS, tls: {options: {mesh.weft.dev/client-subject-alt-names: ""}}}]}',
      'expected SPIFFE IDs, DNS names and addresses with commas between them, found ""',
    ],
    [
      'Gateway',
      'spec: {listeners: [{name: a, port: 443, protocol: HTTPS, tls: {options: {mesh.weft.dev/min-version: "1.3"}}}]}',
      'accepted, not acted on yet: this TLS option, only mesh.weft.dev/min-protocol-version',
    ],
    [
      'Gateway',
      'spec: {listeners: [{name: a, port: 443, protocol: TLS, tls: {mode: Passthrough, options: {}}}]}',
      'of no effect with mode Passthrough',
    ],
    [
      'Gateway',
      'spec: {gatewayClassName: a, listeners: [{name: a, port: 80, protocol: HTTP, tls: {}}]}',
      'spec.listeners[0].tls: a listener of protocol HTTP has no tls; use protocol HTTPS or TLS',
    ],
    [
      'Gateway',
      'spec: {gatewayClassName: a, listeners: [{name: a, port: 80, protocol: HTTP}, {name: b, port: 80, protocol: HTTP}]}',
      'spec.listeners[1].port: port, protocol and hostname together must be unique',
    ],
    [
      'Gateway',
      'metadata: {name: a, annotations: {mesh.weft.dev/trusted-hops: "17"}}\nspec: {gatewayClassName: a, listeners: [{name: a, port: 80, protocol: HTTP}]}',
      'metadata.annotations["mesh.weft.dev/trusted-hops"]: expected a number from "0" to "16", found "17"',
    ],
    [
      'Gateway',
      'metadata: {name: a, annotations: {mesh.weft.dev/proxy-protocol: v2}}\nspec: {gatewayClassName: a, listeners: [{name: a, port: 80, protocol: HTTP}]}',
      'metadata.annotations["mesh.weft.dev/proxy-protocol"]: expected "true" or "false", found "v2"',
    ],
    [
      'Gateway',
      'metadata: {name: a, annotations: {mesh.weft.dev/node-selector: "role=edge,"}}\nspec: {gatewayClassName: a, listeners: [{name: a, port: 80, protocol: HTTP}]}',
      'metadata.annotations["mesh.weft.dev/node-selector"]: expected labels of nodes such as "role=edge,zone in (a,b)", found "role=edge,"',
    ],
    [
      'Service',
      'metadata: {name: a, annotations: {networking.istio.io/exportTo: "shop, Bank"}}\nspec: {ports: [{port: 80}]}',
      'metadata.annotations["networking.istio.io/exportTo"]: expected namespaces with commas, "." (its own), "*" (all) or "~" (none), found "Bank"',
    ],
    ['Namespace', 'metadata: {name: a, annotations: {networking.istio.io/exportTo: "shop,*"}}', '"*" stands alone: leave out the others'],
    [
      'Service',
      'metadata: {name: a, annotations: {networking.istio.io/exportTo: "a,a"}}\nspec: {ports: [{port: 80}]}',
      '"a" is there already',
    ],
    [
      'Sidecar',
      'spec: {egress: [{port: {number: 80}, hosts: [./*]}]}',
      'spec.egress[0].port: accepted, not acted on yet: listeners of a sidecar',
    ],
    [
      'Gateway',
      'metadata: {name: a, annotations: {mesh.weft.dev/trusted-hop: "1"}}\nspec: {gatewayClassName: a, listeners: [{name: a, port: 80, protocol: HTTP}]}',
      'no annotation of a Gateway, only mesh.weft.dev/trusted-hops, mesh.weft.dev/forward-client-cert, mesh.weft.dev/proxy-protocol, mesh.weft.dev/node-selector; did you mean',
    ],
    [
      'Gateway',
      'metadata: {name: a, annotations: {mesh.weft.dev/forward-client-cert: APPEND}}\nspec: {gatewayClassName: a, listeners: [{name: a, port: 80, protocol: HTTP}]}',
      'expected one of SANITIZE, FORWARD_ONLY, APPEND_FORWARD, SANITIZE_SET, ALWAYS_FORWARD_ONLY, found "APPEND"',
    ],
    ['GatewayClass', 'spec: {controllerName: weft}', 'spec.controllerName: expected a controller name such as weft.dev/gateway'],
    [
      'HTTPRoute',
      'spec: {parentRefs: [{kind: Service, name: a}]}',
      'spec.parentRefs[0].group: no Service is of group "gateway.networking.k8s.io": expected group: ""',
    ],
    ['HTTPRoute', 'spec: {parentRefs: [{name: g}, {name: g}]}', 'spec.parentRefs[1].name: parentRefs must be unique'],
    ['HTTPRoute', 'spec: {hostnames: [10.0.0.1]}', 'spec.hostnames[0]: expected a host name, found the IP address 10.0.0.1'],
    [
      'EndpointSlice',
      'addressType: IPv6\nendpoints: [{addresses: ["fe80::1%eth0"]}]',
      'expected an IPv6 address (addressType), found "fe80::1%eth0"',
    ],
    [
      'Gateway',
      'spec: {gatewayClassName: a, addresses: [{value: "fe80::1%eth0"}], listeners: [{name: a, port: 80, protocol: HTTP}]}',
      'expected an IPv4 or IPv6 address, found "fe80::1%eth0"',
    ],
    ['HTTPRoute', 'spec: {hostnames: ["a.*.b"]}', 'spec.hostnames[0]: expected a host name in lower case'],
    ['HTTPRoute', match('{path: {value: /a/../b}}'), 'spec.rules[0].matches[0].path.value: a path must not contain "/../"'],
    ['HTTPRoute', match('{path: {value: /a%2Fb}}'), 'must not contain "%2F"'],
    ['HTTPRoute', match('{path: {value: "/a b"}}'), 'expected a path of RFC 3986 characters'],
    [
      'HTTPRoute',
      match('{headers: [{name: A, value: x}, {name: a, value: y}]}'),
      'spec.rules[0].matches[0].headers[1].name: one header with item 0 (A): it is not matched, the first one counts',
    ],
    ['HTTPRoute', match('{headers: [{name: "a b", value: x}]}'), 'expected a header name (an RFC 9110 token), found "a b"'],
    [
      'HTTPRoute',
      match('{method: get}'),
      'spec.rules[0].matches[0].method: expected one of GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE, PATCH, found "get"; did you mean GET?',
    ],
    ['HTTPRoute', route('{timeouts: {request: 10}}'), 'expected a duration such as 500ms, 10s or 1h30m (GEP-2257), found number 10'],
    ['HTTPRoute', route('{timeouts: {request: 1.5s}}'), 'expected a duration such as 500ms, 10s or 1h30m (GEP-2257), found "1.5s"'],
    [
      'HTTPRoute',
      route('{backendRefs: [{name: a, port: 80, weight: 1000001}]}'),
      'expected a whole number from 0 to 1000000, found number 1000001',
    ],
    ['HTTPRoute', `spec: {rules: [${'{},'.repeat(17)}]}`, 'spec.rules: expected at most 16 items'],
    [
      'HTTPRoute',
      modifier('{set: [{name: a, value: "x\\ny"}]}'),
      'expected a header value of visible ASCII and bytes up to U+00FF, without control characters',
    ],
    ['HTTPRoute', modifier('{set: [{name: a, value: "日本"}]}'), 'expected a header value of visible ASCII'],
    [
      'HTTPRoute',
      route('{filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: "/a\\r\\nx: y"}}}]}'),
      'requestRedirect.path.replaceFullPath: expected the text of a path, without spaces and control characters',
    ],
    [
      'HTTPRoute',
      route(
        '{matches: [{path: {type: Exact, value: /a}}], backendRefs: [{name: a, port: 80, filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}]}]}',
      ),
      'spec.rules[0].backendRefs[0].filters[0].urlRewrite.path.type: ReplacePrefixMatch goes with exactly one match',
    ],
    ['GRPCRoute', match('{method: {method: 1a}}'), 'method.method: expected the name of a gRPC method, found "1a"'],
    [
      'Gateway',
      'spec: {gatewayClassName: a, listeners: [{name: a, port: 80, protocol: foo bar}]}',
      'listeners[0].protocol: expected one of HTTP, HTTPS, TLS, TCP, UDP, HTTP3, QUIC, found "foo bar"',
    ],
    ['AuthorizationPolicy', 'spec: {rules: [{to: [{operation: {paths: ["/{**}/{*}"]}}]}]}', 'expected {*} or one {**}'],
    [
      'AuthorizationPolicy',
      'spec: {rules: [{when: [{key: destination.port, values: ["70000"]}]}]}',
      'when[0].values[0]: expected a port from 0 to 65535, found "70000"',
    ],
    ['VirtualService', rule('route: [{destination: {host: "*"}}]'), 'destination.host: the host "*" is no destination'],
    ['VirtualService', rule('route: [{destination: {host: a, subset: v1.2}}]'), 'destination.subset: expected the name of a subset'],
    ['VirtualService', rule('route: [{destination: {host: a_b}}]'), 'destination.host: expected a host name'],
    ['VirtualService', rule('route: [{destination: {host: -a.b}}]'), 'destination.host: expected a host name'],
    ['VirtualService', rule('route: [{destination: {host: a.b.7}}]'), 'destination.host: expected a host name'],
    ['VirtualService', rule('match: [{sourceLabels: {"a b": c}}], route: [{destination: {host: a}}]'), 'sourceLabels'],
    ['VirtualService', rule('route: [{destination: {host: a}}], headers: {request: {set: {":path": /}}}'), 'expected the name of a header'],
    [
      'VirtualService',
      rule('route: [{destination: {host: a}}], headers: {response: {set: {":authority": a}}}'),
      'expected the name of a header',
    ],
    ['VirtualService', rule('route: [{destination: {host: a}}], headers: {request: {remove: [Host]}}'), 'it can be set, not removed'],
    [
      'VirtualService',
      rule('route: [{destination: {host: a}}], corsPolicy: {maxAge: 1500ms}'),
      'maxAge: expected whole seconds, found "1500ms"',
    ],
    [
      'VirtualService',
      'spec: {hosts: ["*.shop.example", a.shop.example], gateways: [g], http: [{route: [{destination: {host: a}}]}]}',
      'spec.hosts[1]: "a.shop.example" meets "*.shop.example": one of them is enough',
    ],
    [
      'DestinationRule',
      'spec: {host: a, trafficPolicy: {portLevelSettings: [{port: {number: 80}}]}}',
      'portLevelSettings[0]: says nothing: expected loadBalancer',
    ],
    [
      'DestinationRule',
      'spec: {host: a, subsets: [{name: v1, labels: {version: "v 1"}}]}',
      'subsets[0].labels.version: expected a label value',
    ],
    ['Sidecar', 'spec: {workloadSelector: {labels: {app: a}}}', 'spec: says nothing: expected egress, ingress or outboundTrafficPolicy'],
    ['Sidecar', 'spec: {egress: [{hosts: [./reviews]}]}', 'expected namespace/host'],
    [
      'Sidecar',
      'spec: {ingress: [{port: {number: 80}, defaultEndpoint: "127.0.0.1:80"}, {port: {number: 80}, defaultEndpoint: "127.0.0.1:81"}]}',
      'spec.ingress[1].port: ports must be unique',
    ],
    ['Sidecar', 'spec: {ingress: [{port: {number: 80}, defaultEndpoint: "127.0.0.1:65536"}]}', 'expected 127.0.0.1:PORT'],
    ['IstioGateway', server('hosts: [reviews]'), 'servers[0].hosts[0]: expected a host such as shop.example.com, or namespace/host'],
    ['IstioGateway', server('hosts: [~/a.b]'), 'servers[0].hosts[0]: expected a host'],
    ['IstioGateway', server('bind: everywhere, hosts: [a.b]'), 'servers[0].bind: expected an address or unix:///path'],
    ['IstioGateway', server('hosts: [a.b], tls: {httpsRedirect: true}', 'TCP'), 'a port of protocol TCP ends no TLS'],
    [
      'IstioGateway',
      server('hosts: [a.b], tls: {mode: SIMPLE, credentialName: c}'),
      'servers[0].tls.mode: a port of protocol HTTP ends no TLS',
    ],
    ['ServiceEntry', entry('resolution: DNS, endpoints: [{address: "*.a.b"}]'), 'endpoints[0].address: expected an address, a host name'],
    [
      'ServiceEntry',
      entry('resolution: STATIC, endpoints: [{address: 192.0.2.1, ports: {https: 8443}}]'),
      'endpoints[0].ports.https: no port of the entry has the name "https"',
    ],
    [
      'ServiceEntry',
      entry('resolution: STATIC, endpoints: [{address: "unix:///run/a"}]', '{number: 81, name: b, protocol: HTTP}'),
      'endpoints[0].address: a unix socket stands for one port, found 2',
    ],
    [
      'ServiceEntry',
      entry('resolution: DNS', '{number: 81, name: b, protocol: TCP}').replace('[a.b]', '[a.b, c.d]'),
      'spec.hosts[1]: one host alone with a port of bytes',
    ],
    ['VirtualService', rule('redirect: {uri: "/a b"}'), 'spec.http[0].redirect.uri: expected the text of a path'],
    ['VirtualService', rule('redirect: {authority: a@b}'), 'spec.http[0].redirect.authority: expected a host name, perhaps with a port'],
    ['VirtualService', rule('rewrite: {uri: "/a\\n"}, route: [{destination: {host: a}}]'), 'rewrite.uri: expected the text of a path'],
    [
      'VirtualService',
      rule('headers: {request: {set: {a: "x\\ny"}}}, route: [{destination: {host: a}}]'),
      'headers.request.set.a: expected a header value of visible ASCII',
    ],
    [
      'VirtualService',
      rule('match: [{uri: {regex: "(.{1000}){9}"}}], route: [{destination: {host: a}}]'),
      'uri.regex: expected a regular expression of RE2',
    ],
    [
      'VirtualService',
      rule('match: [{uri: {regex: ".{1000}.{1000}.{1000}"}}], route: [{destination: {host: a}}]'),
      'instructions, at most 2048: repeat less',
    ],
    [
      'HTTPRoute',
      modifier('{remove: [Transfer-Encoding]}'),
      'requestHeaderModifier.remove[0]: accepted, not acted on yet: changes of Transfer-Encoding, which the proxy writes itself',
    ],
    [
      'HTTPRoute',
      route('{filters: [{type: ResponseHeaderModifier, requestHeaderModifier: {}}]}'),
      'spec.rules[0].filters[0].responseHeaderModifier: required by type: ResponseHeaderModifier',
    ],
    ['Workload', 'spec: {networkNamespace: /run/netns/a}', 'spec.node: required: the host on which networkNamespace is found'],
    ['Workload', 'spec: {systemdUnit: a.service}', 'spec.node: required: the host on which systemdUnit is found'],
    [
      'Workload',
      'spec: {node: n, cgroup: /a, networkNamespace: /b}',
      'spec.cgroup: not with networkNamespace: a workload is found in one way',
    ],
    ['Workload', 'spec: {node: n, cgroup: /a/../b}', 'spec.cgroup: expected an absolute path below the root of the cgroups'],
    ['Workload', 'spec: {node: n, systemdUnit: a.socket}', 'spec.systemdUnit: expected the name of a systemd unit that runs processes'],
    ['Workload', 'metadata: {name: w, labels: {mesh.weft.dev/capture: "off"}}', 'metadata.labels["mesh.weft.dev/capture"]'],
    ['Workload', 'spec: {capture: {failclosed: true}}', 'spec.capture.failclosed: unknown field; did you mean failClosed?'],
    [
      'EndpointSlice',
      'metadata: {name: s, labels: {mesh.weft.dev/weight: "0"}}',
      'metadata.labels["mesh.weft.dev/weight"]: expected a whole number from 1 to 1000000, found "0"',
    ],
    ['Workload', 'spec: {weight: 0}', 'spec.weight: expected a whole number from 1 to 1000000, found number 0'],
    ['TrafficPolicy', 'spec: {targetRefs: []}', 'spec.targetRefs: expected at least 1 item'],
    ['TrafficPolicy', 'spec: {targetRefs: [{kind: Pod, name: a}]}', 'expected one of Service, HTTPRoute'],
    [
      'TrafficPolicy',
      'spec: {targetRefs: [{kind: HTTPRoute, name: a}], proxyProtocol: v1}',
      'proxyProtocol is of a Service: a HTTPRoute has rateLimits alone',
    ],
    ['TrafficPolicy', 'spec: {targetRefs: [{kind: Service, name: a}], rateLimits: [{name: a}]}', 'expected requests: how many pass'],
    [
      'TrafficPolicy',
      'spec: {targetRefs: [{kind: Service, name: a}], rateLimits: [{name: a, requests: 5, scope: Mesh, algorithm: SlidingWindow}]}',
      'of a SlidingWindow Node alone',
    ],
    [
      'TrafficPolicy',
      'spec: {targetRefs: [{kind: Service, name: a}], rateLimits: [{name: a, requests: 5, by: [{source: Target}]}]}',
      'only with service',
    ],
    [
      'TrafficPolicy',
      'spec: {targetRefs: [{kind: Service, name: a}], rateLimits: [{name: a, requests: 5, service: {name: b, port: 80, domain: c}}]}',
      'not with service: that one counts',
    ],
  ])('%s %s', (kind, body, message) => {
    expect(findingsOf(kind, body).join('\n')).toContain(message);
  });
});

test('operators name a kind by kind, plural or short name in any case', () => {
  for (const word of ['httproute', 'HTTPRoutes', 'hr']) expect(findKind(word)?.kind).toBe('HTTPRoute');
  expect(findKind('nothing')).toBeNull();
  const words = KINDS.flatMap((definition) => [definition.kind.toLowerCase(), definition.plural, ...definition.shortNames]);
  expect(new Set(words).size).toBe(words.length);
});

test('the nearest name is within a third of its length in edits', () => {
  expect(nearestName('weigth', ['name', 'weight'])).toBe('weight');
  expect(nearestName('xyz', ['name', 'weight'])).toBeNull();
  expect(nearestName('x'.repeat(1000), ['x'.repeat(1000)])).toBeNull();
});

test.each([
  ['1h30m', 5_400_000],
  ['0s', 0],
  ['99999h', 359_996_400_000],
  ['500ms', 500],
  ['1s500ms', 1500],
  ['-1s', null],
  ['1s 1s', null],
  ['', null],
])('the duration %s is %s ms', (text, expected) => {
  expect(durationMs(text)).toBe(expected);
});

test('of a shown Secret the keys remain and nothing of the values; other kinds are shown whole', () => {
  const annotations = { 'kubectl.kubernetes.io/last-applied-configuration': '{"data":"confidential"}', note: 'shown' };
  const secret = {
    kind: 'Secret',
    metadata: { name: 'a', annotations },
    data: { 'tls.key': 'confidential' },
    stringData: { 'tls.crt': 'confidential' },
  };
  expect(JSON.stringify(withoutSecrets(secret))).not.toContain('confidential');
  expect(withoutSecrets(secret)).toMatchObject({ metadata: { annotations: { note: 'shown' } }, data: { 'tls.key': '(hidden)' } });
  const service = { kind: 'Service', data: { key: 'shown' } };
  expect(withoutSecrets(service)).toBe(service);
});

test('docs/resources.md lists every kind', () => {
  const text = readFileSync(new URL('../../docs/resources.md', import.meta.url), 'utf8');
  for (const definition of KINDS) expect(text).toMatch(new RegExp(`\\| (.*, )?${manifestKind(definition)}[ ,].*\``));
});
