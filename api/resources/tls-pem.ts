// Certificates and private keys as PEM text: whether an engine can serve them, and until when. Messages never quote what was read.
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';

/** A server's own and its intermediates. */
const MAX_CHAIN = 16;
const MAX_PEM_BYTES = 262_144;
const BEGIN = '-----BEGIN CERTIFICATE-----';
const END = '-----END CERTIFICATE-----';
/** What OpenSSL's security level 2 asks of RSA (112 bits). */
const MIN_RSA_BITS = 2048;

export interface KeyPairFault {
  readonly part: 'chain' | 'key';
  readonly message: string;
}

/** Null: a chain, leaf first, and the unencrypted private key of the leaf. Says nothing of names, trust and times. */
export function keyPairFault(chain: string, key: string): KeyPairFault | null {
  const leaf = readLeaf(chain);
  if (typeof leaf === 'string') return { part: 'chain', message: leaf };
  const privateKey = readKey(key);
  if (typeof privateKey === 'string') return { part: 'key', message: privateKey };
  if (leaf.checkPrivateKey(privateKey)) return null;
  return { part: 'key', message: 'expected the private key of the first certificate, found the key of another one' };
}

/** As many as an engine takes. */
const MAX_ANCHORS = 1024;

/** Null: certificates to verify others by, one at least. */
export function trustFault(bundle: string): string | null {
  if (bundle.length > 4 * MAX_PEM_BYTES) return `expected PEM certificates of at most ${4 * MAX_PEM_BYTES} bytes`;
  const found = readCertificates(bundle, MAX_ANCHORS);
  if (typeof found === 'string') return found;
  return found.length > 0 ? null : `expected PEM certificates, found no "${BEGIN}"`;
}

/** Names that the leaf is for, lower case ("*.a.test"); empty if it can't be read. */
export function certificateNames(chain: string): string[] {
  const leaf = readLeaf(chain);
  if (typeof leaf === 'string') return [];
  const names = (leaf.subjectAltName ?? '').split(', ').map((name) => /^DNS:([A-Za-z0-9.*_-]+)$/.exec(name)?.[1]?.toLowerCase());
  return names.filter((name) => name !== undefined);
}

/** Milliseconds since the epoch between which a certificate is valid. */
export interface CertificateTimes {
  readonly fromMs: number;
  readonly toMs: number;
}

/** Of the leaf; null if it can't be read. */
export function certificateTimes(chain: string): CertificateTimes | null {
  const leaf = readLeaf(chain);
  return typeof leaf === 'string' ? null : { fromMs: Date.parse(leaf.validFrom), toMs: Date.parse(leaf.validTo) };
}

/** The leaf, or what is wrong with the chain. */
function readLeaf(chain: string): X509Certificate | string {
  if (chain.length > MAX_PEM_BYTES) return `expected PEM certificates of at most ${MAX_PEM_BYTES} bytes`;
  const certificates = readCertificates(chain, MAX_CHAIN);
  if (typeof certificates === 'string') return certificates;
  const [leaf] = certificates;
  if (leaf === undefined) return `expected PEM certificates, the server's own first, found no "${BEGIN}"`;
  return keyFault(leaf.publicKey) ?? leaf;
}

/** All of them in their order, or what is wrong with one. */
function readCertificates(text: string, most: number): X509Certificate[] | string {
  const certificates: X509Certificate[] = [];
  for (let begin = text.indexOf(BEGIN); begin >= 0; ) {
    const end = text.indexOf(END, begin);
    if (end < 0) return `certificate ${certificates.length} has no "${END}"`;
    if (certificates.length === most) return `expected at most ${most} certificates`;
    try {
      certificates.push(new X509Certificate(text.slice(begin, end + END.length)));
    } catch {
      return `certificate ${certificates.length} can't be read: expected X.509 in PEM`;
    }
    begin = text.indexOf(BEGIN, end);
  }
  return certificates;
}

function readKey(key: string): KeyObject | string {
  if (key.length > MAX_PEM_BYTES) return `expected a PEM private key of at most ${MAX_PEM_BYTES} bytes`;
  if (/-----BEGIN ENCRYPTED|^Proc-Type: 4,ENCRYPTED/m.test(key)) {
    return 'expected a private key without pass phrase, found an encrypted one (openssl pkey -in … -out … removes it)';
  }
  try {
    return createPrivateKey({ key, format: 'pem' });
  } catch {
    return "expected a PEM private key (-----BEGIN PRIVATE KEY-----), it can't be read as one";
  }
}

function keyFault({ asymmetricKeyType: type, asymmetricKeyDetails: details }: KeyObject): string | null {
  switch (type) {
    case 'rsa':
    case 'rsa-pss': {
      const bits = details?.modulusLength ?? 0;
      return bits >= MIN_RSA_BITS ? null : `expected an RSA key of at least ${MIN_RSA_BITS} bits, found ${bits}`;
    }
    case 'ec':
    case 'ed25519':
      return null;
    default:
      return `expected a certificate with an ECDSA, RSA or Ed25519 key, found ${type}`;
  }
}
