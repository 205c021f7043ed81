// The node's key, certificate and the authorities it trusts, on disk: one PEM file, replaced as a whole, for its owner alone. The key never leaves it.
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { replaceFile } from '../state-file.js';

export interface NodeIdentity {
  readonly key: KeyObject;
  /** Null: the node has not joined yet. */
  readonly certificate: X509Certificate | null;
  /** PEM, each one certificate. */
  readonly authorities: readonly string[];
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n?/g;

/** Null: there is none. Throws where one can't be read: it isn't to be written over. */
export function readIdentity(file: string): NodeIdentity | null {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new Error(`${file}: ${(error as Error).message}: the agent must be able to read its identity`);
  }
  try {
    const [own, ...authorities] = text.match(CERTIFICATE) ?? [];
    return { key: createPrivateKey(text), certificate: own === undefined ? null : new X509Certificate(own), authorities };
  } catch (error) {
    throw new Error(
      `${file} holds no identity (${(error as Error).message}): remove it and give the agent a join token (weft token create)`,
    );
  }
}

/** Throws where the disk doesn't take it. */
export function writeIdentity(file: string, { key, certificate, authorities }: NodeIdentity): void {
  const parts = [
    key.export({ type: 'pkcs8', format: 'pem' }).toString(),
    ...(certificate === null ? [] : [certificate.toString(), ...authorities]),
  ];
  const text = parts.map((part) => (part.endsWith('\n') ? part : `${part}\n`)).join('');
  replaceFile(file, text);
}
