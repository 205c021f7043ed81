// Destinations outside of the mesh, from manifests to decisions on what a captured pod sends: hosts of ServiceEntries by name, Istio's egress gateway
// examples, and what becomes of the rest.
import { describe, expect, test } from '@jest/globals';
import { compileModel } from '../../api/compile/index.js';
import { stored } from '../../api/compile/testing/manifests.js';
import { encodeResource } from '../../api/compile/wire.js';
import { Model } from '../model/model.js';
import { compiled } from './testing/models.js';
import { TestProxy, type TestRequest } from './testing/requests.js';

const POD = '10.1.0.1';
const CNN = '151.101.1.67';
const UNKNOWN = '203.0.113.9';

const workload = (name: string, address: string, labels = '{}', namespace = 'default'): string =>
  `apiVersion: mesh.weft.dev/v1\nkind: Workload\nmetadata: {name: ${name}, namespace: ${namespace}, labels: ${labels}}\nspec: {node: a, networkNamespace: /run/netns/${name}, addresses: [${address}]}`;
const entry = (host: string, rest: string): string =>
  `apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: ${host.replace('*', 'any').replaceAll('.', '-')}}\nspec: {hosts: ["${host}"], ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}], ${rest}}`;
const sidecar = (name: string, spec: string, namespace = 'default'): string =>
  `apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: ${name}, namespace: ${namespace}}\nspec: {${spec}}`;
const REGISTRY_ONLY = 'outboundTrafficPolicy: {mode: REGISTRY_ONLY}';
const CNN_ENTRY = entry('edition.cnn.com', `resolution: STATIC, endpoints: [{address: ${CNN}}]`);
const PODS = [workload('cart', POD, '{app: cart}'), workload('other', '10.1.0.2', '{}', 'elsewhere')];

function mesh(...manifests: string[]) {
  const { resources } = compileModel({ objects: stored(...PODS, ...manifests), running: null });
  const model = new Model();
  expect(model.apply({ full: true, resources: resources.map(encodeResource), removed: [], revision: 1 })).toEqual([]);
  const generation = compiled(model);
  const proxy = new TestProxy(generation);
  /** "10.0.0.1:80", "as sent", or the status. */
  const decide = (request: Partial<TestRequest>): string => {
    const { target } = proxy.decide({ listener: 0, source: POD, ...request });
    if (target === -1) return 'as sent';
    if (target < 0) return String(-target);
    const { address, port } = generation.spec.endpoints.find(({ id }) => id === target)!;
    return `${address}:${port}`;
  };
  return { decide, generation };
}

describe('hosts of ServiceEntries', () => {
  test('go by their name whatever address the client has for them, and never where a client only says that they are', () => {
    const { decide } = mesh(CNN_ENTRY);
    expect(decide({ destination: [UNKNOWN, 80], host: 'edition.cnn.com' })).toBe(`${CNN}:80`);
    expect(decide({ destination: [CNN, 80], host: 'edition.cnn.com' })).toBe(`${CNN}:80`);
    // Another port, another host: nothing is known of them.
    expect(decide({ destination: [UNKNOWN, 8080], host: 'edition.cnn.com:8080' })).toBe('as sent');
    expect(decide({ destination: [UNKNOWN, 80], host: 'www.cnn.com' })).toBe('as sent');
    // Many hosts share an address.
    expect(decide({ destination: [CNN, 80], host: 'www.cnn.com' })).toBe('as sent');
    expect(decide({ destination: [CNN, 443], opaque: true })).toBe('as sent');
  });

  test('that clients resolve themselves (NONE) go where they are sent', () => {
    const { decide } = mesh(entry('*.wikipedia.org', 'resolution: NONE'), sidecar('default', REGISTRY_ONLY));
    expect(decide({ destination: [UNKNOWN, 80], host: 'en.wikipedia.org' })).toBe('as sent');
    expect(decide({ destination: [UNKNOWN, 80], host: 'example.org' })).toBe('502');
  });

  test('that clients resolve themselves (NONE) go there by a rule for them, too', () => {
    const rules = `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: wikipedia}
spec:
  hosts: ["*.wikipedia.org"]
  http:
  - {match: [{uri: {prefix: /no}}], directResponse: {status: 403}}
  - {timeout: 3s, route: [{destination: {host: "*.wikipedia.org"}}]}`;
    const { decide } = mesh(entry('*.wikipedia.org', 'resolution: NONE'), rules);
    expect(decide({ destination: [UNKNOWN, 80], host: 'en.wikipedia.org', path: '/no' })).toBe('403');
    expect(decide({ destination: [UNKNOWN, 80], host: 'en.wikipedia.org', path: '/yes' })).toBe('as sent');
  });
});

describe('outboundTrafficPolicy', () => {
  const unknown = { destination: [UNKNOWN, 80], host: 'example.org' } as const;

  test('REGISTRY_ONLY refuses what is in no registry: requests and connections; the rest goes on', () => {
    const { decide } = mesh(CNN_ENTRY, sidecar('default', REGISTRY_ONLY));
    expect([decide(unknown), decide({ destination: [UNKNOWN, 5432], opaque: true })]).toEqual(['502', '502']);
    expect(decide({ destination: [UNKNOWN, 80], host: 'edition.cnn.com' })).toBe(`${CNN}:80`);
    expect(decide({ destination: [CNN, 443], opaque: true })).toBe('as sent');
    expect(decide({ ...unknown, source: '10.1.0.2' })).toBe('as sent');
    expect(decide({ ...unknown, source: '10.9.9.9' })).toBe('as sent');
  });

  test('a Sidecar that selects the workload goes before its namespace’s, that before the mesh’s', () => {
    const ofMesh = sidecar('default', REGISTRY_ONLY, 'istio-system');
    expect(mesh().decide(unknown)).toBe('as sent');
    expect(mesh(ofMesh).decide({ ...unknown, source: '10.1.0.2' })).toBe('502');
    const ofNamespace = sidecar('default', 'outboundTrafficPolicy: {mode: ALLOW_ANY}');
    expect(mesh(ofMesh, ofNamespace).decide(unknown)).toBe('as sent');
    const ofCart = sidecar('cart', `workloadSelector: {labels: {app: cart}}, ${REGISTRY_ONLY}`);
    expect(mesh(ofMesh, ofNamespace, ofCart).decide(unknown)).toBe('502');
    // One that says nothing of it changes nothing.
    expect(mesh(ofMesh, sidecar('default', 'egress: [{hosts: ["*/*"]}]')).decide(unknown)).toBe('502');
  });
});

/** Istio's documentation, "Egress Gateways": the gateway's Service leads to the node that runs it. */
const EGRESS = `
apiVersion: v1
kind: Service
metadata: {name: istio-egressgateway, namespace: istio-system}
spec: {clusterIP: 10.96.0.9, ports: [{name: http2, port: 80}, {name: tls, port: 443}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: egress-1, namespace: istio-system, labels: {kubernetes.io/service-name: istio-egressgateway}}
addressType: IPv4
ports: [{name: http2, port: 80}, {name: tls, port: 443}]
endpoints: [{addresses: [10.8.0.1]}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: istio-egressgateway}
spec:
  selector: {istio: egressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: [edition.cnn.com]}
  - {port: {number: 443, name: tls, protocol: TLS}, hosts: [edition.cnn.com], tls: {mode: PASSTHROUGH}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: egressgateway-for-cnn}
spec: {host: istio-egressgateway.istio-system.svc.cluster.local, subsets: [{name: cnn}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: direct-cnn-through-egress-gateway}
spec:
  hosts: [edition.cnn.com]
  gateways: [istio-egressgateway, mesh]
  http:
  - match: [{gateways: [mesh], port: 80}]
    route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, subset: cnn, port: {number: 80}}, weight: 100}]
  - match: [{gateways: [istio-egressgateway], port: 80}]
    route: [{destination: {host: edition.cnn.com, port: {number: 80}}, weight: 100}]
  tls:
  - match: [{gateways: [mesh], port: 443, sniHosts: [edition.cnn.com]}]
    route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, subset: cnn, port: {number: 443}}}]
  - match: [{gateways: [istio-egressgateway], port: 443, sniHosts: [edition.cnn.com]}]
    route: [{destination: {host: edition.cnn.com, port: {number: 443}}, weight: 100}]`;

test('Istio’s egress gateway: requests and TLS of the mesh go to the gateway, what comes there to the host', () => {
  const { decide, generation } = mesh(CNN_ENTRY, EGRESS);
  expect(decide({ destination: [UNKNOWN, 80], host: 'edition.cnn.com' })).toBe('10.8.0.1:80');
  expect(decide({ destination: [CNN, 80], host: 'edition.cnn.com' })).toBe('10.8.0.1:80');
  expect(decide({ destination: [CNN, 443], opaque: true, serverName: 'edition.cnn.com' })).toBe('10.8.0.1:443');
  expect(decide({ destination: [CNN, 443], opaque: true, serverName: 'www.cnn.com' })).toBe('as sent');
  const at = (port: number) => generation.listeners.find((listener) => listener.port === port)!.sockets[0]!.id;
  expect(decide({ listener: at(80), source: '10.8.0.7', host: 'edition.cnn.com' })).toBe(`${CNN}:80`);
  expect(decide({ listener: at(443), source: '10.8.0.7', opaque: true, serverName: 'edition.cnn.com' })).toBe(`${CNN}:443`);
  expect(decide({ listener: at(80), source: '10.8.0.7', host: 'www.cnn.com' })).toBe('404');
});
