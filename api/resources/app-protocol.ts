// What a Service's appProtocol, or the first part of a port's name, says of the bytes. The one list of these names.
import { Protocol } from '../gen/mesh/v1/model.js';

const PROTOCOLS: ReadonlyMap<string, Protocol> = new Map([
  ['http', Protocol.HTTP],
  ['ws', Protocol.HTTP],
  ['kubernetes.io/ws', Protocol.HTTP],
  ['http2', Protocol.HTTP2],
  ['kubernetes.io/h2c', Protocol.HTTP2],
  ['grpc', Protocol.GRPC],
  ['https', Protocol.TLS],
  ['tls', Protocol.TLS],
  ['wss', Protocol.TLS],
  ['kubernetes.io/wss', Protocol.TLS],
  // Bytes the mesh carries without reading them.
  ...['tcp', 'mysql', 'postgresql', 'postgres', 'redis', 'mongo', 'mongodb', 'amqp', 'mqtt', 'kafka', 'ldap', 'smtp', 'imap', 'ssh'].map(
    (name) => [name, Protocol.TCP] as const,
  ),
]);

/** Those a message offers. */
export const APP_PROTOCOLS: readonly string[] = [...PROTOCOLS.keys()];

/** In any case ("HTTPS", as Istio does); undefined for a name that isn't in the list. */
export function protocolNamed(name: string): Protocol | undefined {
  return PROTOCOLS.get(name.toLowerCase());
}
