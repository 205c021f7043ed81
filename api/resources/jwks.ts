// A JSON Web Key Set as it stands in a manifest (RFC 7517). Says what is wrong with one.
import { createPublicKey } from 'node:crypto';
import { describe, isUnchecked } from './schema.js';

/** Null: it can be read; one key alone is a set too. */
export function jwksFault(text: string): string | null {
  let set: unknown;
  try {
    set = JSON.parse(text);
  } catch {
    return `found ${describe(text)}, which is no JSON`;
  }
  if (!isUnchecked(set)) return `found ${describe(set)}`;
  const keys: readonly unknown[] | undefined = set.keys === undefined ? [set] : Array.isArray(set.keys) ? set.keys : undefined;
  if (keys === undefined) return 'its keys are no list';
  const bad = keys.findIndex((key) => !isKey(key));
  return bad < 0 ? null : `key ${bad} is none of type RSA, EC, OKP or oct`;
}

function isKey(key: unknown): boolean {
  if (!isUnchecked(key)) return false;
  if (key.kty === 'oct') return typeof key.k === 'string' && key.k !== '';
  try {
    createPublicKey({ key, format: 'jwk' });
    return true;
  } catch {
    return false;
  }
}
