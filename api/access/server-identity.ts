// A server that is known by its address: TLS tells servers host names alone (RFC 6066 section 3), and Node throws from version 25 on if it is to tell an address.
import { checkServerIdentity, type PeerCertificate } from 'node:tls';

/** Options of TLS: the server's certificate has to be of `host`, a name or an address without brackets, whatever name it is told. */
export function heldTo(host: string): { checkServerIdentity(told: string, shown: PeerCertificate): Error | undefined } {
  return { checkServerIdentity: (_, shown) => checkServerIdentity(host, shown) };
}
