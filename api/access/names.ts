// Who is who in certificates of the control plane, and the form of tokens: what controllers, agents and the CLI must agree on.
import { createHash, type KeyObject } from 'node:crypto';

/** Every controller's certificate has this name: at whatever address it is reached, it must prove to be one. */
export const CONTROLLER_NAME = 'controller.weft.internal';

const NODE = 'weft://node/';
const LINEAGE = 'weft://lineage/';
const OPERATOR = 'weft://operator/';

/** It becomes part of etcd keys and the value of a metric's label. */
const NODE_NAME = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;

/** Null: a node may be called so. */
export function nodeNameFault(name: string): string | null {
  return NODE_NAME.test(name) ? null : `${JSON.stringify(name)} is no node name: expected lower-case letters, digits, "-" and "."`;
}

/** What a node's certificate says in its subjectAltName. */
export const nodeUris = (node: string, lineage: number): string[] => [`${NODE}${node}`, ...(lineage === 0 ? [] : [`${LINEAGE}${lineage}`])];
export const operatorUri = (operator: string): string => `${OPERATOR}${operator}`;

/** Certificates hold from so long before they are made: clocks differ. */
export const CLOCK_SKEW_MS = 5 * 60_000;

/** What a renewal is signed over, before the new public key. */
export const RENEWAL_CONTEXT = 'weft renew\0';

export type CertificateSubject =
  /** `lineage`: how often the node had been revoked when it joined; a renewal passes it on. */
  { readonly kind: 'node'; readonly name: string; readonly lineage: number } | { readonly kind: 'operator'; readonly name: string };

/** Of a certificate's subjectAltName as node:crypto writes it; null: it is neither's. Names need no quoting, so anything else is none. */
export function subjectOf(subjectAltName: string | undefined): CertificateSubject | null {
  const [, operator] = /^URI:weft:\/\/operator\/([a-z0-9.-]+)$/.exec(subjectAltName ?? '') ?? [];
  if (operator !== undefined) return { kind: 'operator', name: operator };
  const [, name, lineage = '0'] =
    /^URI:weft:\/\/node\/([a-z0-9.-]+)(?:, URI:weft:\/\/lineage\/([1-9]\d{0,8}))?$/.exec(subjectAltName ?? '') ?? [];
  return name === undefined ? null : { kind: 'node', name, lineage: Number(lineage) };
}

/** Whose certificate it is, for those who expect a node's. */
export function isOfNode(subjectAltName: string | undefined, node: string): boolean {
  const subject = subjectOf(subjectAltName);
  return subject?.kind === 'node' && subject.name === node;
}

/** SHA-256 of a SubjectPublicKeyInfo: what tokens pin (as kubeadm's discovery-token-ca-cert-hash). */
export function pinOf(publicKey: KeyObject): string {
  return createHash('sha256')
    .update(publicKey.export({ type: 'spki', format: 'der' }))
    .digest('base64url');
}

export interface Token {
  readonly kind: 'join' | 'operator';
  /** Of the join token, or the operator's name. */
  readonly id: string;
  readonly secret: string;
  /** Of the authority that signs the controllers' certificates: whoever has the token knows whom to give it to. */
  readonly pin: string;
}

const FORM = /^weft1-(join|operator)_([a-z0-9][a-z0-9.-]{0,62})_([0-9a-f]{64})_([A-Za-z0-9_-]{43})$/;

export const MAX_TOKEN_LENGTH = 512;

export function tokenText({ kind, id, secret, pin }: Token): string {
  return `weft1-${kind}_${id}_${secret}_${pin}`;
}

/** Null: it is none of ours. */
export function parseToken(text: string): Token | null {
  const [, kind, id, secret, pin] = text.length > MAX_TOKEN_LENGTH ? [] : (FORM.exec(text) ?? []);
  if (id === undefined || secret === undefined || pin === undefined) return null;
  return { kind: kind === 'join' ? 'join' : 'operator', id, secret, pin };
}
