// What a call proves about its caller: by the listener it came to, its client certificate, its bearer token. Reads; changes nothing.
import { createHash, timingSafeEqual, X509Certificate } from 'node:crypto';
import type { Metadata } from '@grpc/grpc-js';
import { parseToken, pinOf, subjectOf } from '../../api/access/names.js';
import type { Authority } from '../ca/authority.js';
import type { OperatorRecord } from '../store/access-records.js';
import type { StoreView } from '../store/view.js';
import type { Principal } from './principal.js';

/** What stands between a listener and its callers. */
export type ListenerSecurity = 'local socket' | 'plaintext' | 'tls';

export type Authentication =
  | Principal
  | { readonly kind: 'refused'; readonly message: string }
  /** It can't be known yet. */
  | { readonly kind: 'unready'; readonly message: string };

export interface CallCredentials {
  readonly security: ListenerSecurity;
  readonly metadata: Metadata;
  readonly peer: string;
  /** DER of a certificate that TLS has verified; null: none. */
  readonly certificate: Buffer | null;
}

const MAX_ACTOR = 256;
const NOT_TRUSTED =
  'the authority that signed the certificate is no longer trusted: a node joins anew with a token, an operator asks for another';
/** A node opens its streams one after the other, and reading its certificate takes longer than all else that lets one in. */
const MAX_READ = 256;

export class Authenticator {
  readonly #view: StoreView;
  readonly #authority: Authority | null;
  readonly #wallClock: () => number;
  /** By their bytes, those that came first going first. */
  readonly #read = new Map<string, X509Certificate>();

  constructor(view: StoreView, authority: Authority | null, wallClock: () => number) {
    this.#view = view;
    this.#authority = authority;
    this.#wallClock = wallClock;
  }

  authenticate({ security, metadata, peer, certificate }: CallCredentials): Authentication {
    if (security !== 'tls') return { kind: 'local', name: claimedName(metadata, peer), by: security };
    if (this.#view.revision === 0)
      return { kind: 'unready', message: 'this controller is starting: it does not know its operators and nodes yet' };
    const bearer = bearerOf(metadata);
    if (bearer !== null) return this.#byToken(bearer);
    if (certificate !== null) return this.#byCertificate(this.#certificateIn(certificate));
    return { kind: 'stranger' };
  }

  /** Why a caller that was let in is no longer; null: it still is. */
  fault(principal: Principal): string | null {
    switch (principal.kind) {
      case 'node':
        return this.#trusts(principal) ? this.nodeFault(principal) : NOT_TRUSTED;
      case 'operator':
        return this.#trusts(principal) ? this.#operatorFault(principal) : NOT_TRUSTED;
      case 'local':
      case 'stranger':
        return null;
    }
  }

  /** Of one whose certificate is of an authority that is trusted. */
  nodeFault({ name, lineage, expiresAtMs }: Principal & { kind: 'node' }): string | null {
    if (expiresAtMs <= this.#wallClock()) return `the certificate of node ${name} has ended: it is to renew it and connect again`;
    const revoked = this.#view.revocations.get(name);
    if (revoked !== undefined && lineage < revoked.lineage)
      return `the certificates of node ${name} were revoked: it needs a new join token`;
    return null;
  }

  /** Of a certificate whose dates are the caller's business: of whom, and until when. */
  nodeOf(certificate: X509Certificate): (Principal & { kind: 'node' }) | null {
    const subject = subjectOf(certificate.subjectAltName);
    const issuer = subject?.kind === 'node' ? this.#issuerOf(certificate) : null;
    if (subject?.kind !== 'node' || issuer === null) return null;
    return { ...subject, expiresAtMs: Date.parse(certificate.validTo), issuer };
  }

  #certificateIn(bytes: Buffer): X509Certificate {
    const key = bytes.toString('latin1');
    const known = this.#read.get(key) ?? new X509Certificate(bytes);
    this.#read.set(key, known);
    const [oldest] = this.#read.keys();
    if (this.#read.size > MAX_READ && oldest !== undefined) this.#read.delete(oldest);
    return known;
  }

  #byCertificate(certificate: X509Certificate): Authentication {
    const node = this.nodeOf(certificate);
    if (node !== null) {
      const fault = this.nodeFault(node);
      return fault === null ? node : { kind: 'refused', message: fault };
    }
    const subject = subjectOf(certificate.subjectAltName);
    const issuer = this.#issuerOf(certificate);
    if (subject?.kind !== 'operator' || issuer === null) {
      return { kind: 'refused', message: 'the client certificate is of no node and no operator of this mesh' };
    }
    if (Date.parse(certificate.validTo) <= this.#wallClock()) return { kind: 'refused', message: 'the client certificate has ended' };
    return this.#operator(subject.name, 'certificate', pinOf(certificate.publicKey), issuer);
  }

  #byToken(text: string): Authentication {
    const token = parseToken(text);
    if (token === null || token.kind !== 'operator') {
      return { kind: 'refused', message: 'the bearer token is none of an operator (weft operator create)' };
    }
    return this.#operator(token.id, 'token', hashOf(token.secret), '');
  }

  #operator(name: string, by: OperatorRecord['by'], hash: string, issuer: string): Authentication {
    const role = this.#view.operators.get(name)?.role ?? 'viewer';
    const principal = { kind: 'operator', name, role, by, hash, issuer } as const;
    const message = this.#operatorFault(principal);
    return message === null ? principal : { kind: 'refused', message };
  }

  #operatorFault({ name, by, hash }: Principal & { kind: 'operator' }): string | null {
    const record = this.#view.operators.get(name);
    const isKnown = record !== undefined && record.by === by && isSame(record.hash, hash);
    if (isKnown && (record.expiresAtMs === 0 || record.expiresAtMs > this.#wallClock())) return null;
    // The same words for each: what is wrong is no stranger's business.
    return `the ${by} of operator ${name} is not valid: deleted, ended or replaced; ask an administrator for another`;
  }

  #issuerOf(certificate: X509Certificate): string | null {
    return this.#authority?.issuerOf(certificate) ?? null;
  }

  #trusts({ issuer }: { readonly issuer: string }): boolean {
    return issuer === '' || this.#authority?.trusts(issuer) === true;
  }
}

/** Of a secret with 256 random bits: no more than one round is needed. */
export function hashOf(secret: string): string {
  return createHash('sha256').update(secret).digest('hex');
}

/** In a time that tells nothing of where they differ. */
export function isSame(a: string, b: string): boolean {
  const [one, other] = [Buffer.from(a), Buffer.from(b)];
  return one.length === other.length && timingSafeEqual(one, other);
}

/** Null: there is none. */
export function bearerOf(metadata: Metadata): string | null {
  const [value] = metadata.get('authorization');
  return typeof value === 'string' && value.startsWith('Bearer ') ? value.slice('Bearer '.length) : null;
}

function claimedName(metadata: Metadata, peer: string): string {
  const [named] = metadata.get('weft-actor');
  return (typeof named === 'string' && named !== '' ? named : peer).slice(0, MAX_ACTOR);
}
