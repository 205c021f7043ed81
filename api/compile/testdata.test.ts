// What the Gateway API's own manifests are named for. An API server takes them all; what is wrong with one is what its conditions say, as the
// conformance suite expects it.
import { afterAll, beforeAll, expect } from '@jest/globals';
import { Certificates, secretManifest } from '../../test/lab/certificates.js';
import { testdata, testdataFiles, withTestdata } from '../../test/lab/testdata.js';
import { parseManifests } from '../resources/index.js';
import { attachmentsOf } from './attachments.js';
import { compileModel } from './compile.js';
import { statusOf } from './conditions.js';

const { describe, test } = withTestdata;
const FOLDER = 'gateway-api-manifests';
const NAMED_FOR_A_FAULT = /invalid|nonexistent|not-|disallowed|conflict|missing|unsupported/;

/** By file: a condition that some object of it must have, "Kind type=reason". */
const EXPECTED: Readonly<Record<string, string>> = {
  'backendtlspolicy-conflict-resolution': 'BackendTLSPolicy Accepted=Conflicted',
  'backendtlspolicy-invalid-ca-certificate-ref': 'BackendTLSPolicy ResolvedRefs=InvalidCACertificateRef',
  'backendtlspolicy-invalid-kind': 'BackendTLSPolicy ResolvedRefs=InvalidKind',
  'gateway-invalid-default-frontend-client-certificate-validation': 'Gateway Programmed=Invalid',
  'gateway-invalid-listeners-unsupported-protocol': 'Gateway Accepted=UnsupportedProtocol',
  'gateway-invalid-parameters-ref': 'Gateway Accepted=InvalidParameters',
  'gateway-invalid-route-kind': 'Gateway ResolvedRefs=InvalidRouteKinds',
  'gateway-invalid-tls-backend-configuration': 'Gateway ResolvedRefs=InvalidClientCertificateRef',
  'gateway-invalid-tls-configuration': 'Gateway ResolvedRefs=InvalidCertificateRef',
  'gateway-secret-invalid-reference-grant': 'Gateway ResolvedRefs=RefNotPermitted',
  'gateway-secret-missing-reference-grant': 'Gateway ResolvedRefs=RefNotPermitted',
  'gateway-with-invalid-clientcertificate-validation': 'Gateway Programmed=Invalid',
  'httproute-disallowed-kind': 'HTTPRoute Accepted=NotAllowedByListeners',
  'httproute-invalid-backendref-unknown-kind': 'HTTPRoute ResolvedRefs=InvalidKind',
  'httproute-invalid-cross-namespace-backend-ref': 'HTTPRoute ResolvedRefs=RefNotPermitted',
  'httproute-invalid-cross-namespace-parent-ref': 'HTTPRoute Accepted=NotAllowedByListeners',
  'httproute-invalid-nonexistent-backendref': 'HTTPRoute ResolvedRefs=BackendNotFound',
  'httproute-invalid-parentref-not-matching-listener-port': 'HTTPRoute Accepted=NoMatchingParent',
  'httproute-invalid-parentref-not-matching-section-name': 'HTTPRoute Accepted=NoMatchingParent',
  'httproute-invalid-parentref-section-name-not-matching-port': 'HTTPRoute Accepted=NoMatchingParent',
  'httproute-invalid-reference-grant': 'HTTPRoute ResolvedRefs=RefNotPermitted',
  'httproute-partially-invalid-via-invalid-reference-grant': 'HTTPRoute ResolvedRefs=RefNotPermitted',
  'listenerset-default-not-allowed': 'ListenerSet Accepted=NotAllowed',
  'listenerset-gateway-parent-section-name-not-found': 'HTTPRoute Accepted=NoMatchingParent',
  'listenerset-hostname-conflict': 'ListenerSet Conflicted=HostnameConflict',
  'listenerset-protocol-conflict': 'ListenerSet Conflicted=ProtocolConflict',
  'tcproute-invalid-backendref-nonexistent': 'TCPRoute ResolvedRefs=BackendNotFound',
  'tcproute-invalid-cross-namespace-backend-ref': 'TCPRoute ResolvedRefs=RefNotPermitted',
  'tcproute-invalid-non-tcp-listener': 'TCPRoute Accepted=NotAllowedByListeners',
  'tlsroute-invalid-backendref-nonexistent': 'TLSRoute ResolvedRefs=BackendNotFound',
  'tlsroute-invalid-backendref-unknown-kind': 'TLSRoute ResolvedRefs=InvalidKind',
  'tlsroute-invalid-no-matching-listener-hostname': 'TLSRoute Accepted=NoMatchingListenerHostname',
  'tlsroute-invalid-no-matching-listener': 'TLSRoute Accepted=NotAllowedByListeners',
  'tlsroute-invalid-reference-grant': 'TLSRoute ResolvedRefs=RefNotPermitted',
};

/** What these files are named for is supported here, or said of all UDPRoutes alike. */
const SAID_OTHERWISE = [/^udproute-/, /^tlsroute-listener-.*-not-supported$/];

const INFRA = 'gateway-conformance-infra';
const gateway = (name: string, from: string): string => `
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: ${name}, namespace: ${INFRA}}
spec: {gatewayClassName: weft, listeners: [{name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: ${from}}}}]}`;
const service = (name: string, namespace: string): string => `
---
apiVersion: v1
kind: Service
metadata: {name: ${name}, namespace: ${namespace}}
spec: {ports: [{name: http, port: 8080}]}`;
/** What the suite sets up before any file. */
const BASE = [
  gateway('same-namespace', 'Same'),
  gateway('all-namespaces', 'All'),
  ...['infra-backend-v1', 'infra-backend-v2', 'infra-backend-v3'].map((name) => service(name, INFRA)),
  service('web-backend', 'gateway-conformance-web-backend'),
  service('app-backend-v1', 'gateway-conformance-app-backend'),
].join('');

interface Told {
  readonly kind: string;
  readonly status: Record<string, unknown>;
}

/** What is said of each object of the file, by "Kind name". */
function statusesOf(content: string, besides = ''): Map<string, Told> {
  const own = parseManifests([{ name: 'f', content }]).objects.length;
  const objects = parseManifests([{ name: 'f', content: content + BASE + besides }]).objects.map((object, at) => ({
    ...object,
    createdAtMs: at,
  }));
  const { problems, resources } = compileModel({ objects, running: null, nowMs: 0 });
  const attachments = attachmentsOf(resources);
  return new Map(
    objects.slice(0, own).flatMap(({ kind, namespace, name, manifest }) => {
      const mine = problems.filter((problem) => problem.kind === kind && problem.namespace === namespace && problem.name === name);
      const object = { metadata: { namespace, name, generation: 1 }, body: { ...manifest } };
      const status = statusOf({ kind, object, problems: mine, isOurGateway: () => true, attachments, nodeAddresses: new Map() }, '');
      return status === null ? [] : [[`${kind} ${name}`, { kind, status }] as const];
    }),
  );
}

/** "Kind type=reason" of all conditions that aren't as one would wish. */
function faultsOf(content: string): string[] {
  const found = new Set<string>();
  for (const { kind, status } of statusesOf(content).values()) {
    const conditions = [...JSON.stringify(status).matchAll(/"type":"(\w+)","status":"(\w+)","observedGeneration":1,"reason":"(\w+)"/g)];
    for (const [, type, state, reason] of conditions)
      if ((state === 'False') !== (type === 'Conflicted')) found.add(`${kind} ${type}=${reason}`);
  }
  return [...found];
}

const filled = (name: string): string =>
  testdata(`${FOLDER}/${name}.yaml`).replaceAll('{GATEWAY_CLASS_NAME}', 'weft').replaceAll('{GATEWAY_CONTROLLER_NAME}', 'weft.dev/gateway');

const named = testdataFiles(FOLDER)
  .map((file) => file.replace(/\.yaml$/, ''))
  .filter((name) => NAMED_FOR_A_FAULT.test(name) && !SAID_OTHERWISE.some((pattern) => pattern.test(name)));

describe('manifests of the Gateway API that are named for a fault', () => {
  test('are all here', () => expect(Object.keys(EXPECTED).sort()).toEqual(named.sort()));

  test.each(named)('%s', (name) => {
    expect(faultsOf(filled(name))).toContain(EXPECTED[name]);
  });
});

const [ACCEPTED, PROGRAMMED, RESOLVED] = ['Accepted=True Accepted', 'Programmed=True Programmed', 'ResolvedRefs=True ResolvedRefs'];
const untrusted = (reason: string): string[] => [
  `ResolvedRefs=False ${reason}`,
  'Accepted=False NoValidCACertificate',
  'Programmed=False Invalid',
];
const invalidSet = ['Accepted=False ListenersNotValid', 'Programmed=False ListenersNotValid'];
const onGateway = (condition: string): string[] => ['ancestor same-namespace', condition];
const refusedSet = ['Accepted=False NotAllowed', 'Programmed=False NotAllowed'];

/** By file and "Kind name", or "Kind name/listener": what the suite wants to read there, among others. */
const STATUSES: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>> = {
  'gateway-invalid-listeners-unsupported-protocol': {
    'Gateway gateway-only-unsupported-protocols': ['Accepted=False ListenersNotValid', 'Programmed=False Invalid'],
    'Gateway gateway-only-unsupported-protocols/invalid': ['Accepted=False UnsupportedProtocol', 'supportedKinds '],
    'Gateway gateway-supported-and-unsupported-protocols': ['Accepted=True ListenersNotValid', PROGRAMMED],
    'Gateway gateway-supported-and-unsupported-protocols/http': [ACCEPTED],
  },
  'gateway-with-invalid-clientcertificate-validation': {
    'Gateway gateway-with-invalid-client-cert-validation/https': [RESOLVED, ACCEPTED, PROGRAMMED],
    'Gateway gateway-with-invalid-client-cert-validation/https-unresolved': untrusted('InvalidCACertificateRef'),
    'Gateway gateway-with-invalid-client-cert-validation/https-invalid-kind': untrusted('InvalidCACertificateKind'),
    'Gateway gateway-with-invalid-client-cert-validation/https-grant-missing': untrusted('RefNotPermitted'),
  },
  'gateway-invalid-default-frontend-client-certificate-validation': {
    'Gateway invalid-default-client-validation-config/http': [RESOLVED, ACCEPTED, PROGRAMMED],
    'Gateway invalid-default-client-validation-config/https': untrusted('InvalidCACertificateRef'),
  },
  'gateway-invalid-tls-backend-configuration': {
    'Gateway gateway-client-certificate-nonexistent-secret': [ACCEPTED, 'ResolvedRefs=False InvalidClientCertificateRef'],
    'Gateway gateway-client-certificate-missing-reference-grant': [ACCEPTED, 'ResolvedRefs=False RefNotPermitted'],
  },
  'gateway-with-attached-routes': {
    'Gateway gateway-with-one-attached-route/http': ['attachedRoutes 1', 'supportedKinds HTTPRoute', ACCEPTED, RESOLVED],
    'Gateway gateway-with-two-attached-routes/http': ['attachedRoutes 2'],
    'Gateway unresolved-gateway-with-one-attached-unresolved-route/tls': [
      'attachedRoutes 1',
      'ResolvedRefs=False InvalidCertificateRef',
      'Programmed=False Invalid',
    ],
  },
  'gateway-with-attached-routes-with-port-8080': {
    'Gateway gateway-with-two-listeners-and-one-attached-route/http-unattached': ['attachedRoutes 0'],
    'Gateway gateway-with-two-listeners-and-one-attached-route/http': ['attachedRoutes 1'],
  },
  'tlsroute-listener-passthrough-supported-kinds': {
    'Gateway gateway-tlsroute-passthrough-supported-kind/tls-passthrough': ['supportedKinds TLSRoute', ACCEPTED],
  },
  'tlsroute-listener-terminate-supported-kinds': {
    'Gateway gateway-tlsroute-terminate-supported/tls-terminate': ['supportedKinds TLSRoute', ACCEPTED],
  },
  'listenerset-allowed-namespace-same': {
    'Gateway gateway-allows-listenerset-in-same-namespace': [ACCEPTED, 'attachedListenerSets 1'],
    'ListenerSet listenerset-in-same-namespace': [ACCEPTED, PROGRAMMED],
    'ListenerSet listenerset-in-different-namespace': refusedSet,
  },
  'listenerset-allowed-namespace-selector': {
    'Gateway gateway-allows-listenerset-in-selected-namespace': ['attachedListenerSets 1'],
    'ListenerSet listenerset-not-in-selected-namespace': refusedSet,
  },
  'listenerset-allowed-namespace-none': { 'ListenerSet listenerset-not-allowed': refusedSet },
  'listenerset-hostname-conflict': {
    'Gateway gateway-with-listenerset-hostname-conflict': [ACCEPTED, 'attachedListenerSets 2'],
    'ListenerSet listenerset-with-hostname-conflict-with-gateway-1': [ACCEPTED, PROGRAMMED],
    'ListenerSet listenerset-with-hostname-conflict-with-gateway-2': invalidSet,
    'ListenerSet listenerset-with-hostname-conflict-with-listener-set-2': invalidSet,
    'ListenerSet listenerset-with-hostname-conflict-with-gateway-1/hostname-conflict-with-gateway-listener': [
      'Conflicted=True HostnameConflict',
    ],
  },
  'listenerset-protocol-conflict': {
    'Gateway gateway-with-listenerset-protocol-conflict': [ACCEPTED, 'attachedListenerSets 2'],
    'ListenerSet listenerset-with-protocol-conflict-with-gateway-2': invalidSet,
  },
  'listenerset-reference-grant': {
    'ListenerSet listenerset-with-reference-grant': [ACCEPTED, PROGRAMMED],
    'ListenerSet listenerset-without-reference-grant': invalidSet,
    'ListenerSet listenerset-without-reference-grant/listenerset-without-reference-grant-listener': ['ResolvedRefs=False RefNotPermitted'],
  },
  'listenerset-allowed-routes-supported-kinds': {
    'ListenerSet listenerset-test-allowed-routes-supported-kinds/listener-set-listener-allowed-routes-tls-only': [
      'ResolvedRefs=False InvalidRouteKinds',
    ],
  },
  'backendtlspolicy-conflict-resolution': {
    'BackendTLSPolicy conflicted-without-section-name-1': onGateway(ACCEPTED),
    'BackendTLSPolicy conflicted-without-section-name-2': onGateway('Accepted=False Conflicted'),
    'BackendTLSPolicy conflicted-with-section-name-1': onGateway(ACCEPTED),
    'BackendTLSPolicy conflicted-with-section-name-2': onGateway('Accepted=False Conflicted'),
    'BackendTLSPolicy not-conflicted-with-section-name': onGateway(ACCEPTED),
    'BackendTLSPolicy not-conflicted-without-section-name': onGateway(ACCEPTED),
  },
  'udproute-not-allowed-by-listeners': { 'UDPRoute udproute-not-allowed-by-listeners': ['Accepted=False NotAllowedByListeners'] },
  'udproute-simple': {
    'Gateway udp-gateway': ['Accepted=False ListenersNotValid'],
    'UDPRoute udp-coredns': ['Accepted=False NotAllowedByListeners'],
  },
  'backendtlspolicy-invalid-kind': {
    'BackendTLSPolicy invalid-kind': [...onGateway('Accepted=False NoValidCACertificate'), 'ResolvedRefs=False InvalidKind'],
  },
  'backendtlspolicy-invalid-ca-certificate-ref': {
    'BackendTLSPolicy malformed-ca-certificate-ref': [
      ...onGateway('Accepted=False NoValidCACertificate'),
      'ResolvedRefs=False InvalidCACertificateRef',
    ],
  },
};

interface Part {
  readonly parents?: readonly Part[];
  readonly name?: string;
  readonly conditions?: readonly { readonly type: string; readonly status: string; readonly reason: string }[];
  readonly attachedRoutes?: number;
  readonly attachedListenerSets?: number;
  readonly supportedKinds?: readonly { readonly kind: string }[];
  readonly listeners?: readonly Part[];
  readonly ancestors?: readonly (Part & { readonly ancestorRef: { readonly name: string } })[];
}

function wordsOf({ conditions = [], attachedRoutes, attachedListenerSets, supportedKinds, ancestors = [], parents = [] }: Part): string[] {
  return [
    ...conditions.map(({ type, status, reason }) => `${type}=${status} ${reason}`),
    `attachedRoutes ${attachedRoutes}`,
    `attachedListenerSets ${attachedListenerSets}`,
    `supportedKinds ${(supportedKinds ?? []).map(({ kind }) => kind).join(' ')}`,
    ...parents.flatMap(wordsOf),
    ...ancestors.flatMap((each) => [`ancestor ${each.ancestorRef.name}`, ...wordsOf(each)]),
  ];
}

describe('statuses are those that the suite waits for', () => {
  let certificates: Certificates;
  let besides = '';
  beforeAll(() => {
    certificates = new Certificates();
    const authority = certificates.authority('a');
    const pair = certificates.issue(authority, 'DNS:*.org');
    const secret = (name: string, namespace: string): string =>
      `\n---${secretManifest(name, pair)}`.replace('metadata: {', `metadata: {namespace: ${namespace}, `).replace(/\n---$/, '');
    const bundle = (name: string): string =>
      `\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: ${name}, namespace: ${INFRA}}\ndata: {ca.crt: ${JSON.stringify(authority.cert)}}`;
    besides = [
      secret('tls-validity-checks-certificate', INFRA),
      secret('certificate', 'gateway-conformance-web-backend'),
      ...['tls-checks-ca-certificate', 'tls-validity-checks-ca-certificate'].map(bundle),
    ].join('');
  });
  afterAll(() => certificates.remove());

  test.each(Object.keys(STATUSES))('%s', (file) => {
    const statuses = statusesOf(filled(file), besides);
    for (const [subject, expected] of Object.entries(STATUSES[file]!)) {
      const [object = '', listener] = subject.split('/');
      const status = statuses.get(object)!.status as Part;
      const part = listener === undefined ? status : status.listeners?.find(({ name }) => name === listener);
      expect([subject, ...wordsOf(part!)]).toEqual(expect.arrayContaining([...expected]));
    }
  });
});
