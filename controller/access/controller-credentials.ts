// The TLS side of a controller's listeners: its own certificate, made and renewed by itself, and clients asked for theirs. Whoever has none, or one that does
// not verify, may still connect: the guard decides what that is good for. Owns the controller's key, which is in memory alone.
import { generateKeyPairSync } from 'node:crypto';
import { ServerCredentials, type ServerInterceptor } from '@grpc/grpc-js';
import type { Authority } from '../ca/authority.js';

/** Of a client that connects and says nothing, or little. */
const HANDSHAKE_TIMEOUT_MS = 5_000;
const MIN_VERSION = 'TLSv1.3';

export class ControllerCredentials extends ServerCredentials {
  readonly #authority: Authority;
  readonly #interceptor: ServerInterceptor;
  readonly #keyPair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  readonly #timer: NodeJS.Timeout;

  /** Until there is an authority, connections are dropped. */
  constructor(authority: Authority, interceptor: ServerInterceptor, certificateTtlMs: number) {
    super({ requestCert: true, rejectUnauthorized: false, handshakeTimeout: HANDSHAKE_TIMEOUT_MS, minVersion: MIN_VERSION });
    this.#authority = authority;
    this.#interceptor = interceptor;
    authority.watch(() => this.#renew());
    // Node takes 31 bits.
    this.#timer = setInterval(() => this.#renew(), Math.min(certificateTtlMs / 2, 2_000_000_000));
    this.#timer.unref();
    this.#renew();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  override _getInterceptors(): ServerInterceptor[] {
    return [this.#interceptor];
  }

  override _equals(other: ServerCredentials): boolean {
    return other === this;
  }

  #renew(): void {
    const { signer, bundle } = this.#authority;
    if (signer === null) {
      this.updateSecureContextOptions(null);
      return;
    }
    const key = this.#keyPair.privateKey.export({ type: 'pkcs8', format: 'pem' });
    // With its authority: who has only a pin finds it there.
    const cert = `${this.#authority.issueController(this.#keyPair.publicKey)}${signer.toString()}`;
    this.updateSecureContextOptions({ cert, key, ca: bundle, minVersion: MIN_VERSION });
  }
}
