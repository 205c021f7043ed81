// TLS to a controller, from agents and the CLI: whom they trust, and by what certificate they are known. Owns no connection but the one that looks at a
// controller's authorities.
import { X509Certificate } from 'node:crypto';
import { connect as connectTls, type DetailedPeerCertificate } from 'node:tls';
import { type ChannelCredentials, type ClientOptions, credentials } from '@grpc/grpc-js';
import { parseHostPort } from '../host-port.js';
import { CONTROLLER_NAME, pinOf } from './names.js';

/** PEM throughout. */
export interface Proof {
  readonly authorities: readonly string[];
  /** Null: the caller is known by something else, or not yet. */
  readonly certificate: string | null;
  readonly key: string | null;
}

export interface SecureChannel {
  readonly credentials: ChannelCredentials;
  readonly options: ClientOptions;
}

const TIMEOUT_MS = 5_000;
/** A controller sends its certificate and every authority it trusts. */
const MAX_CHAIN = 16;

export function secureChannel({ authorities, certificate, key }: Proof): SecureChannel {
  const client = certificate === null || key === null ? null : { cert: Buffer.from(certificate), key: Buffer.from(key) };
  return {
    credentials: credentials.createSsl(Buffer.from(authorities.join('\n')), client?.key ?? null, client?.cert ?? null),
    options: { 'grpc.ssl_target_name_override': CONTROLLER_NAME, 'grpc.default_authority': CONTROLLER_NAME },
  };
}

/** Loopback or a unix socket: nobody else is on the way. */
export function isLocalAddress(address: string): boolean {
  return /^(unix:|localhost:\d|127\.\d+\.\d+\.\d+:|\[::1\]:)/.test(address);
}

/**
 * The authority with that pin, as the controller at "host:port" shows it. Nothing is told to whoever answers there: that it is a controller is only proved
 * by the channel made with this authority. Rejects with what is wrong.
 */
export function pinnedAuthority(address: string, pin: string, timeoutMs = TIMEOUT_MS): Promise<string> {
  const at = parseHostPort(address);
  if (at === null) return Promise.reject(new Error(`"${address}": expected host:port or [v6]:port`));
  return new Promise((resolve, reject) => {
    const socket = connectTls({
      ...{ ...at, servername: CONTROLLER_NAME, ALPNProtocols: ['h2'] },
      // Not trusted, looked at.
      rejectUnauthorized: false,
    });
    const end = (error: Error | null, authority: string): void => {
      clearTimeout(timer);
      socket.destroy();
      if (error === null) resolve(authority);
      else reject(error);
    };
    const timer = setTimeout(() => end(new Error(`no TLS handshake within ${timeoutMs} ms`), ''), timeoutMs);
    socket.once('error', (error) => end(error, ''));
    socket.once('secureConnect', () => {
      const found = chainOf(socket.getPeerCertificate(true)).find((certificate) => pinOf(certificate.publicKey) === pin);
      if (found !== undefined) return end(null, found.toString());
      end(new Error('it does not have the authority that the token names: another mesh, a rotated authority, or somebody in between'), '');
    });
  });
}

function chainOf(leaf: DetailedPeerCertificate): X509Certificate[] {
  const chain: X509Certificate[] = [];
  let next: DetailedPeerCertificate | undefined = leaf;
  while (next?.raw !== undefined && chain.length < MAX_CHAIN) {
    chain.push(new X509Certificate(next.raw));
    next = next.issuerCertificate === next ? undefined : next.issuerCertificate;
  }
  return chain;
}
