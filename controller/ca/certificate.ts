// X.509 certificates (RFC 5280): made and signed with node:crypto, which has all of it but the making. Owns the profiles. Nothing that a stranger
// sent is parsed here: who asks for a certificate sends a bare public key.
import { createHash, type KeyObject, randomBytes, sign, X509Certificate } from 'node:crypto';
import { bits, children, type DerValue, explicit, implicit, integer, NULL, octets, oid, sequence, set, TRUE, time, utf8 } from './der.js';

/** What signs: a certificate and its key. */
export interface Signer {
  readonly certificate: X509Certificate;
  readonly key: KeyObject;
}

export interface Leaf {
  readonly commonName: string;
  readonly publicKey: KeyObject;
  readonly dnsNames: readonly string[];
  readonly uris: readonly string[];
  readonly usages: readonly ('server' | 'client')[];
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

const EXTENSION = {
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  authorityKeyIdentifier: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
};
const USAGE = { server: '1.3.6.1.5.5.7.3.1', client: '1.3.6.1.5.5.7.3.2' };
/** digitalSignature; keyCertSign and cRLSign. */
const SIGNS = bits(Buffer.of(0x80), 7);
const SIGNS_CERTIFICATES = bits(Buffer.of(0x06), 1);

/** A root that signs leaves and no other authority. */
export function selfSigned(commonName: string, publicKey: KeyObject, key: KeyObject, notBeforeMs: number, notAfterMs: number): string {
  const name = nameOf(commonName);
  const extensions = [
    extension(EXTENSION.basicConstraints, true, sequence(TRUE, integer(Buffer.of(0)))),
    extension(EXTENSION.keyUsage, true, SIGNS_CERTIFICATES),
    extension(EXTENSION.subjectKeyIdentifier, false, octets(keyIdentifier(publicKey))),
  ];
  return signed(key, name, name, publicKey, notBeforeMs, notAfterMs, extensions);
}

/** PEM. */
export function issue({ certificate, key }: Signer, leaf: Leaf): string {
  const issuer = parts(certificate);
  const names = [
    ...leaf.dnsNames.map((name) => implicit(2, Buffer.from(name, 'latin1'))),
    ...leaf.uris.map((uri) => implicit(6, Buffer.from(uri, 'latin1'))),
  ];
  const extensions = [
    extension(EXTENSION.basicConstraints, true, sequence()),
    extension(EXTENSION.keyUsage, true, SIGNS),
    extension(EXTENSION.extendedKeyUsage, false, sequence(...leaf.usages.map((usage) => oid(USAGE[usage])))),
    extension(EXTENSION.subjectAltName, false, sequence(...names)),
    extension(EXTENSION.subjectKeyIdentifier, false, octets(keyIdentifier(leaf.publicKey))),
  ];
  if (issuer.keyIdentifier !== null) {
    extensions.push(extension(EXTENSION.authorityKeyIdentifier, false, sequence(implicit(0, issuer.keyIdentifier))));
  }
  return signed(key, issuer.subject, nameOf(leaf.commonName), leaf.publicKey, leaf.notBeforeMs, leaf.notAfterMs, extensions);
}

export function spkiOf(publicKey: KeyObject): Buffer {
  return publicKey.export({ type: 'spki', format: 'der' });
}

function signed(
  key: KeyObject,
  issuer: Buffer,
  subject: Buffer,
  publicKey: KeyObject,
  notBeforeMs: number,
  notAfterMs: number,
  extensions: readonly Buffer[],
): string {
  const algorithm = algorithmOf(key);
  const serial = randomBytes(16);
  // Never zero, never negative.
  serial[0] = ((serial[0] ?? 0) & 0x3f) | 0x40;
  const version3 = explicit(0, integer(Buffer.of(2)));
  const validity = sequence(time(notBeforeMs), time(notAfterMs));
  const body = sequence(
    ...[version3, integer(serial), algorithm, issuer, validity, subject],
    ...[spkiOf(publicKey), explicit(3, sequence(...extensions))],
  );
  const whole = sequence(body, algorithm, bits(sign('sha256', body, key)));
  return new X509Certificate(whole).toString();
}

function algorithmOf({ asymmetricKeyType }: KeyObject): Buffer {
  if (asymmetricKeyType === 'ec') return sequence(oid('1.2.840.10045.4.3.2'));
  if (asymmetricKeyType === 'rsa') return sequence(oid('1.2.840.113549.1.1.11'), NULL);
  throw new Error(`an authority's key is of type ec or rsa, this one of ${asymmetricKeyType}`);
}

function nameOf(commonName: string): Buffer {
  return sequence(set(sequence(oid('2.5.4.3'), utf8(commonName))));
}

function extension(id: string, isCritical: boolean, value: Buffer): Buffer {
  return sequence(oid(id), ...(isCritical ? [TRUE] : []), octets(value));
}

/** RFC 7093, method 4: a hash of the SubjectPublicKeyInfo, cut to 160 bits. */
function keyIdentifier(publicKey: KeyObject): Buffer {
  return createHash('sha256').update(spkiOf(publicKey)).digest().subarray(0, 20);
}

interface IssuerParts {
  /** DER, to the byte: verifiers compare it so. */
  readonly subject: Buffer;
  readonly keyIdentifier: Buffer | null;
}

/** Of an authority's own certificate. */
function parts(certificate: X509Certificate): IssuerParts {
  const [whole] = children(certificate.raw);
  const [tbs] = children(bodyOf(whole));
  const fields = children(bodyOf(tbs));
  // Version 3 begins with an explicit tag: serial, algorithm, issuer, validity and subject follow.
  const subject = fields[5];
  const wrapped = fields.find(({ tag }) => tag === 0xa3);
  if (fields[0]?.tag !== 0xa0 || subject === undefined) throw new Error('an authority’s certificate must be of X.509 version 3');
  return { subject: subject.whole, keyIdentifier: wrapped === undefined ? null : subjectKeyIdentifier(wrapped) };
}

function subjectKeyIdentifier(wrapped: DerValue): Buffer | null {
  const wanted = oid(EXTENSION.subjectKeyIdentifier);
  const list = children(wrapped.body)[0];
  for (const each of children(bodyOf(list))) {
    const [id, ...rest] = children(each.body);
    const value = rest.at(-1);
    if (id?.whole.equals(wanted) === true && value !== undefined) return bodyOf(children(value.body)[0]);
  }
  return null;
}

function bodyOf(value: DerValue | undefined): Buffer {
  if (value === undefined) throw new Error('not a certificate: a value is missing');
  return value.body;
}
