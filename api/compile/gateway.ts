// Gateway → Listeners of the model, one per listener and address. One gateway at a time.
import { type Listener, Protocol } from '../gen/mesh/v1/model.js';
import { canonicalAddress } from './address.js';
import { nameOf, type Stored } from './input.js';

export interface NamedListener {
  /** "<namespace>/<gateway>/<listener>", with "/<address>" appended from the second address on. */
  readonly name: string;
  readonly message: Listener;
}

export function compileGateway(gateway: Stored<'Gateway'>): NamedListener[] {
  const declared = (gateway.manifest.spec.addresses ?? []).flatMap((address) =>
    address.value === undefined ? [] : [canonicalAddress(address.value)],
  );
  const addresses = declared.length === 0 ? [''] : declared;
  return gateway.manifest.spec.listeners.flatMap((listener) =>
    addresses.map((address, index) => ({
      name: `${nameOf(gateway)}/${listener.name}${index === 0 ? '' : `/${address}`}`,
      message: {
        gateway: nameOf(gateway),
        name: listener.name,
        address,
        port: listener.port,
        protocol: listener.protocol === 'HTTP' ? Protocol.HTTP : Protocol.TCP,
        hostname: listener.hostname ?? '',
      },
    })),
  );
}
