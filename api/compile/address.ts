// Address text in its one canonical form, so that the data path can compare text. Pure.
import { isIPv6 } from 'node:net';

/** IPv6 by RFC 5952 (lower case, shortest form); IPv4 has one form already. Never throws: what is no address stays as it is. */
export function canonicalAddress(address: string): string {
  return isIPv6(address) && !address.includes('%') ? new URL(`http://[${address}]/`).hostname.slice(1, -1) : address;
}

export type Family = 4 | 6;

export function familyOf(address: string): Family {
  return isIPv6(address) ? 6 : 4;
}
