// This replica's own certificate: made, and renewed when half its life is over or the authority changes. Owns its key, which is in memory alone.
import { generateKeyPairSync } from 'node:crypto';
import type { ServerProof } from '../../api/access/rotating-credentials.js';
import type { Authority } from '../ca/authority.js';

export class ControllerIdentity {
  readonly #authority: Authority;
  readonly #keyPair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  readonly #watchers = new Set<() => void>();
  readonly #timer: NodeJS.Timeout;
  /** Null: there is no authority yet. */
  proof: ServerProof | null = null;

  constructor(authority: Authority, certificateTtlMs: number) {
    this.#authority = authority;
    authority.watch(() => this.#renew());
    // setInterval takes 31 bits.
    this.#timer = setInterval(() => this.#renew(), Math.min(certificateTtlMs / 2, 2_000_000_000));
    this.#timer.unref();
    this.#renew();
  }

  /** Called at once, and whenever there is another one. */
  watch(watcher: () => void): void {
    this.#watchers.add(watcher);
    watcher();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #renew(): void {
    const { signer, bundle } = this.#authority;
    this.proof =
      signer === null
        ? null
        : {
            // With its authority: who has only a pin finds it there.
            certificate: `${this.#authority.issueController(this.#keyPair.publicKey)}${signer.toString()}`,
            key: this.#keyPair.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
            authorities: bundle,
          };
    for (const watcher of this.#watchers) watcher();
  }
}
