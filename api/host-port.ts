// Addresses with a port as grpc writes them: "host:port", "10.0.0.1:80", "[fd00::1]:80".
import { isIP } from 'node:net';

export interface HostPort {
  /** Without brackets. */
  readonly host: string;
  readonly port: number;
}

/** Null if it is neither "host:port" nor "[v6]:port", or the port is beyond 65535. */
export function parseHostPort(text: string): HostPort | null {
  const match = /^(?:\[([^\]]+)\]|([^:/\s[\]]+)):(\d{1,5})$/.exec(text);
  if (match === null) return null;
  const [, v6, name, digits] = match;
  const port = Number(digits);
  if (port > 65_535 || (v6 !== undefined && isIP(v6) !== 6)) return null;
  return { host: v6 ?? name ?? '', port };
}

/** The other way: what has a colon stands in brackets. */
export function hostPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
