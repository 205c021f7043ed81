// Secrets as gateways serve them: certificate, key and authorities, and why they can't be. Remembers what it read.
import type { Certificate } from '../gen/mesh/v1/model.js';
import { type CertificateTimes, certificateTimes, isHidden, keyPairFault, tlsKeyPair } from '../resources/index.js';
import type { Stored } from './input.js';

/** Why clients would refuse it; null: they don't. `nowMs` null: nothing expires. */
export function timeFault(times: CertificateTimes | null, nowMs: number | null): string | null {
  if (times === null || nowMs === null) return null;
  const day = (ms: number): string => new Date(ms).toISOString();
  if (nowMs >= times.toMs) return `expired at ${day(times.toMs)}`;
  return nowMs < times.fromMs ? `is not valid before ${day(times.fromMs)}` : null;
}

export interface ReadSecret {
  readonly pair: Certificate;
  readonly times: CertificateTimes | null;
  /** Why it can't be served. */
  readonly fault: string | null;
}

/** Reading a certificate takes 140 µs, every revision is compiled, and validated manifests stay the same objects. */
const known = new WeakMap<Stored<'Secret'>['manifest'], ReadSecret>();

export function readSecret(manifest: Stored<'Secret'>['manifest']): ReadSecret {
  let read = known.get(manifest);
  if (read === undefined) {
    const pair = tlsKeyPair(manifest);
    const fault = isHidden(manifest)
      ? null
      : pair.chain === '' || pair.key === ''
        ? 'it lacks tls.crt or tls.key'
        : (keyPairFault(pair.chain, pair.key)?.message ?? null);
    read = { pair, times: fault === null ? certificateTimes(pair.chain) : null, fault };
    known.set(manifest, read);
  }
  return read;
}
