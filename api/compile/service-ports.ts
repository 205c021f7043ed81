// The ports of a Service that the mesh carries.
import type { Stored } from './input.js';

export type DeclaredPort = NonNullable<Stored<'Service'>['manifest']['spec']['ports']>[number];

/** UDP and SCTP pass the mesh by. */
export function tcpPorts(service: Stored<'Service'>): DeclaredPort[] {
  return (service.manifest.spec.ports ?? []).filter((port) => port.protocol === 'TCP');
}
