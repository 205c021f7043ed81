// Addresses as the engine has them, 16 bytes with IPv4 as v4-mapped, in words.

export function addressText(bytes: Uint8Array): string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, 16);
  const isIpv4 = view.getInt32(0) === 0 && view.getInt32(4) === 0 && view.getInt32(8) === 0xffff;
  return isIpv4 ? bytes.subarray(12, 16).join('.') : ipv6Text(view, 0);
}

/** Shortened as RFC 5952 has it. */
export function ipv6Text(view: DataView, offset: number): string {
  const words = Array.from({ length: 8 }, (_, i) => view.getUint16(offset + 2 * i).toString(16));
  return new URL(`http://[${words.join(':')}]`).hostname.slice(1, -1);
}
