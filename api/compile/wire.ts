// The typed union of everything the compiler emits, and its form on the wire. The one list of which message belongs to which type.
import { type Resource, Resource as ResourceMessage } from '../gen/mesh/v1/discovery.js';
import { ConnectionRoute, Endpoint, Filter, HttpRoute, Listener, ResourceType, Service, Workload } from '../gen/mesh/v1/model.js';
import { messageOf } from '../message-of.js';

export type CompiledResource =
  | { readonly type: ResourceType.SERVICE; readonly name: string; readonly message: Service }
  | { readonly type: ResourceType.ENDPOINT; readonly name: string; readonly message: Endpoint }
  | { readonly type: ResourceType.HTTP_ROUTE; readonly name: string; readonly message: HttpRoute }
  | { readonly type: ResourceType.WORKLOAD; readonly name: string; readonly message: Workload }
  | { readonly type: ResourceType.LISTENER; readonly name: string; readonly message: Listener }
  | { readonly type: ResourceType.CONNECTION_ROUTE; readonly name: string; readonly message: ConnectionRoute }
  | { readonly type: ResourceType.FILTER; readonly name: string; readonly message: Filter };

/** What a subscriber makes of a Resource: a type newer than this build, or a body it can't read, is refused alone. */
export type DecodedResource =
  | { readonly kind: 'resource'; readonly resource: CompiledResource }
  | { readonly kind: 'refused'; readonly type: ResourceType; readonly name: string; readonly error: string };

/** The same message gives the same bytes in one build: maps are encoded in insertion order, which the compiler sorts. */
export function encodeResource(resource: CompiledResource): Resource {
  return ResourceMessage.fromPartial({ type: resource.type, name: resource.name, body: Buffer.from(encodeBody(resource)) });
}

function encodeBody(resource: CompiledResource): Uint8Array {
  switch (resource.type) {
    case ResourceType.SERVICE:
      return Service.encode(resource.message).finish();
    case ResourceType.ENDPOINT:
      return Endpoint.encode(resource.message).finish();
    case ResourceType.HTTP_ROUTE:
      return HttpRoute.encode(resource.message).finish();
    case ResourceType.WORKLOAD:
      return Workload.encode(resource.message).finish();
    case ResourceType.LISTENER:
      return Listener.encode(resource.message).finish();
    case ResourceType.CONNECTION_ROUTE:
      return ConnectionRoute.encode(resource.message).finish();
    case ResourceType.FILTER:
      return Filter.encode(resource.message).finish();
  }
}

/** Never throws: bytes come from another process. */
export function decodeResource(resource: Resource): DecodedResource {
  const { type, name, body } = resource;
  try {
    const decoded = decodeBody(type, name, body);
    if (decoded !== null) return { kind: 'resource', resource: decoded };
    return { kind: 'refused', type, name, error: `resource type ${type} is unknown to this version: upgrade this node` };
  } catch (error) {
    return { kind: 'refused', type, name, error: `can't be decoded: ${messageOf(error)}` };
  }
}

function decodeBody(type: ResourceType, name: string, body: Uint8Array): CompiledResource | null {
  switch (type) {
    case ResourceType.SERVICE:
      return { type, name, message: Service.decode(body) };
    case ResourceType.ENDPOINT:
      return { type, name, message: Endpoint.decode(body) };
    case ResourceType.HTTP_ROUTE:
      return { type, name, message: HttpRoute.decode(body) };
    case ResourceType.WORKLOAD:
      return { type, name, message: Workload.decode(body) };
    case ResourceType.LISTENER:
      return { type, name, message: Listener.decode(body) };
    case ResourceType.CONNECTION_ROUTE:
      return { type, name, message: ConnectionRoute.decode(body) };
    case ResourceType.FILTER:
      return { type, name, message: Filter.decode(body) };
    default:
      return null;
  }
}
