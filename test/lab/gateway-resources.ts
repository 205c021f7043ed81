// For tests that speak as a controller does: a gateway on loopback that leads to a backend there, as resources. Gateways and Services are named
// "namespace/name".
import { encodeResource } from '../../api/compile/wire.js';
import type { Resource } from '../../api/gen/mesh/v1/discovery.js';
import { Endpoint, HttpRoute, Listener, Protocol, ResourceType, Service } from '../../api/gen/mesh/v1/model.js';

/** With port 80. */
export function serviceResource(service: string): Resource {
  const [namespace = '', name = ''] = service.split('/');
  const ports = [{ name: 'http', port: 80, protocol: Protocol.HTTP }];
  return encodeResource({ type: ResourceType.SERVICE, name: service, message: Service.fromPartial({ namespace, name, ports }) });
}

export function endpointResource(service: string, port: number): Resource {
  const message = Endpoint.fromPartial({ service, id: '1', address: '127.0.0.1', ports: [{ name: 'http', port }] });
  return encodeResource({ type: ResourceType.ENDPOINT, name: `${service}/1`, message });
}

export function listenerResource(gateway: string, port: number): Resource {
  const message = Listener.fromPartial({ gateway, name: 'web', address: '127.0.0.1', port, protocol: Protocol.HTTP });
  return encodeResource({ type: ResourceType.LISTENER, name: `${gateway}/web`, message });
}

/** Everything that comes to the gateway; named as the gateway. */
export function routeResource(gateway: string, service: string): Resource {
  const [namespace = '', name = ''] = gateway.split('/');
  const message = HttpRoute.fromPartial({
    namespace,
    name,
    parents: [{ parent: { $case: 'gateway', value: gateway } }],
    rules: [{ backends: [{ service, port: 80, weight: 1 }] }],
  });
  return encodeResource({ type: ResourceType.HTTP_ROUTE, name: gateway, message });
}

/** All four. */
export function gatewayResources(gateway: string, port: number, service: string, backendPort: number): Resource[] {
  return [
    serviceResource(service),
    endpointResource(service, backendPort),
    listenerResource(gateway, port),
    routeResource(gateway, service),
  ];
}
