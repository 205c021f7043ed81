// The resources that the benchmarks' proxies are configured with: one loopback gateway, services, slices, routes. Nothing of a benchmark's own.
import { stringify } from 'yaml';

export interface GatewayListener {
  readonly name: string;
  readonly port: number;
  readonly protocol: string;
  readonly tls?: object;
}

export function yaml(objects: readonly object[]): string {
  return objects.map((object) => stringify(object)).join('---\n');
}

/** On 127.0.0.1. */
export function gateway(name: string, listener: GatewayListener): object {
  return {
    apiVersion: 'gateway.networking.k8s.io/v1',
    kind: 'Gateway',
    metadata: { name },
    spec: { gatewayClassName: 'weft', addresses: [{ value: '127.0.0.1' }], listeners: [listener] },
  };
}

/** Port 80, called "http". */
export function service(name: string, appProtocol = 'http'): object {
  return { apiVersion: 'v1', kind: 'Service', metadata: { name }, spec: { ports: [{ name: 'http', port: 80, appProtocol }] } };
}

/** One endpoint on 127.0.0.1 for the service's port `portName`. */
export function localSlice(name: string, of: string, port: number, portName = 'http'): object {
  return endpointSlice(name, of, { name: portName, port }, ['127.0.0.1']);
}

export function endpointSlice(name: string, of: string, port: { name: string; port: number }, addresses: readonly string[]): object {
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name, labels: { 'kubernetes.io/service-name': of } },
    addressType: 'IPv4',
    ports: [port],
    endpoints: addresses.map((address) => ({ addresses: [address] })),
  };
}

export function httpRoute(name: string, parent: string, host: string, rules: readonly object[]): object {
  return {
    apiVersion: 'gateway.networking.k8s.io/v1',
    kind: 'HTTPRoute',
    metadata: { name },
    spec: { parentRefs: [{ name: parent }], hostnames: [host], rules },
  };
}

/** Called like the service. */
export function trafficPolicy(service: string, sections: object): object {
  const spec = { targetRefs: [{ kind: 'Service', name: service }], ...sections };
  return { apiVersion: 'mesh.weft.dev/v1', kind: 'TrafficPolicy', metadata: { name: service }, spec };
}

/** Everything to the service's port 80. */
export function routeTo(name: string, parent: string, host: string): object {
  return httpRoute(name, parent, host, [{ backendRefs: [{ name, port: 80 }] }]);
}
