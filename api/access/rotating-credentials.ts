// A gRPC server's TLS whose certificate changes under it, and what stands before its services. Until it is given a certificate, connections are dropped.
import { ServerCredentials, type ServerInterceptor } from '@grpc/grpc-js';

/** PEM. */
export interface ServerProof {
  /** With the authority behind it. */
  readonly certificate: string;
  readonly key: string;
  /** Of clients. */
  readonly authorities: readonly string[];
}

/** Of a client that connects and says nothing, or little. */
const HANDSHAKE_TIMEOUT_MS = 5_000;
const MIN_VERSION = 'TLSv1.3';

export class RotatingCredentials extends ServerCredentials {
  readonly #interceptor: ServerInterceptor;

  /** Clients are asked for a certificate; `isRequired`: whoever has none that verifies gets no connection. */
  constructor(interceptor: ServerInterceptor, isRequired: boolean) {
    super({ requestCert: true, rejectUnauthorized: isRequired, handshakeTimeout: HANDSHAKE_TIMEOUT_MS, minVersion: MIN_VERSION });
    this.#interceptor = interceptor;
  }

  /** For connections from now on. */
  present(proof: ServerProof | null): void {
    if (proof === null) this.updateSecureContextOptions(null);
    else {
      const { certificate: cert, key, authorities } = proof;
      this.updateSecureContextOptions({ cert, key, ca: [...authorities], minVersion: MIN_VERSION });
    }
  }

  override _getInterceptors(): ServerInterceptor[] {
    return [this.#interceptor];
  }

  override _equals(other: ServerCredentials): boolean {
    return other === this;
  }
}
