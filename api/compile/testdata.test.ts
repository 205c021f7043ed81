// What the Gateway API's own manifests are named for. An API server takes them all; what is wrong with one is what its conditions say, as the
// conformance suite expects it.
import { expect } from '@jest/globals';
import { testdata, testdataFiles, withTestdata } from '../../test/lab/testdata.js';
import { parseManifests } from '../resources/index.js';
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

/** Of these nothing is said: the kind is not acted on (docs/resources.md), or what the file is named for is supported here. */
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

/** "Kind type=reason" of all conditions that aren't as one would wish. */
function faultsOf(content: string): string[] {
  const own = parseManifests([{ name: 'f', content }]).objects.length;
  const objects = parseManifests([{ name: 'f', content: content + BASE }]).objects.map((object, at) => ({ ...object, createdAtMs: at }));
  const { problems } = compileModel({ objects, running: null, nowMs: 0 });
  const found = new Set<string>();
  for (const { kind, namespace, name, manifest } of objects.slice(0, own)) {
    const mine = problems.filter((problem) => problem.kind === kind && problem.namespace === namespace && problem.name === name);
    const object = { metadata: { namespace, name, generation: 1 }, body: { ...manifest } };
    const status = statusOf(
      { kind, object, problems: mine, isOurGateway: () => true, attachedRoutes: new Map(), nodeAddresses: new Map() },
      '',
    );
    const conditions = [...JSON.stringify(status).matchAll(/"type":"(\w+)","status":"(\w+)","observedGeneration":1,"reason":"(\w+)"/g)];
    for (const [, type, state, reason] of conditions)
      if ((state === 'False') !== (type === 'Conflicted')) found.add(`${kind} ${type}=${reason}`);
  }
  return [...found];
}

const named = testdataFiles(FOLDER)
  .map((file) => file.replace(/\.yaml$/, ''))
  .filter((name) => NAMED_FOR_A_FAULT.test(name) && !SAID_OTHERWISE.some((pattern) => pattern.test(name)));

describe('manifests of the Gateway API that are named for a fault', () => {
  test('are all here', () => expect(Object.keys(EXPECTED).sort()).toEqual(named.sort()));

  test.each(named)('%s', (name) => {
    const content = testdata(`${FOLDER}/${name}.yaml`)
      .replaceAll('{GATEWAY_CLASS_NAME}', 'weft')
      .replaceAll('{GATEWAY_CONTROLLER_NAME}', 'weft.dev/gateway');
    expect(faultsOf(content)).toContain(EXPECTED[name]);
  });
});
