// core/v1 Secret of type kubernetes.io/tls: a certificate and its private key, for listeners of Gateways. Owner: Kubernetes API reference,
// Secret v1. No message here quotes a value.
import { z } from 'zod';
import { objectOf } from './metadata.js';
import { describe, isUnchecked, openChoice, type Report, type Unchecked, withRule } from './schema.js';
import { dnsSubdomain } from './syntax.js';
import { keyPairFault } from './tls-pem.js';

const CERTIFICATE = 'tls.crt';
const KEY = 'tls.key';
/** What stands for a value where an object is shown. */
const HIDDEN = '(hidden)';
/** RFC 4648 with padding; line breaks as YAML's block texts have them. */
const BASE64 = /^[A-Za-z0-9+/\r\n]*={0,2}[\r\n]*$/;
const LATER_TYPES = ['kubernetes.io/dockerconfigjson', 'kubernetes.io/basic-auth', 'kubernetes.io/ssh-auth'];

function texts(expected: string) {
  const error = ({ input }: { input?: unknown }): string | undefined =>
    input === undefined ? undefined : `expected ${expected}, found ${Array.isArray(input) ? 'a list' : `a value of type ${typeof input}`}`;
  return z.record(z.string().regex(/^[A-Za-z0-9._-]{1,253}$/), z.string({ error }), {
    error: (issue) => (issue.code === 'invalid_key' ? `expected a key of letters, digits, "-", "_" and "."` : undefined),
  });
}

const schema = withRule(
  objectOf(
    { kind: 'Secret', apiVersion: 'v1', name: dnsSubdomain },
    {
      type: openChoice(['kubernetes.io/tls', 'Opaque'], 'secrets of type', LATER_TYPES).default('Opaque'),
      data: texts('base64 text').optional(),
      stringData: texts('text').optional(),
      immutable: z.boolean().optional(),
    },
  ),
  checkSecret,
);

function checkSecret(value: Unchecked, report: Report): void {
  let isReadable = value.type === 'kubernetes.io/tls';
  for (const [field, entries] of [
    ['data', value.data],
    ['stringData', value.stringData],
  ] as const) {
    if (!isUnchecked(entries)) continue;
    for (const [key, entry] of Object.entries(entries)) {
      if (typeof entry !== 'string') isReadable = false;
      else if (entry === HIDDEN)
        report([field, key], `${describe(HIDDEN)} is what weft get shows instead of the value: apply the original`);
      else if (field === 'stringData' || (BASE64.test(entry) && entry.replace(/[\r\n]/g, '').length % 4 === 0)) continue;
      else report([field, key], 'expected base64 text (base64 -w0 FILE makes it; plain text belongs under stringData)');
      isReadable = false;
    }
  }
  if (isReadable) checkKeyPair(value, report);
}

function checkKeyPair(value: Unchecked, report: Report): void {
  const [chain, key] = [textOfKey(value, CERTIFICATE), textOfKey(value, KEY)];
  if (chain === null) report(['data', CERTIFICATE], `required: the certificate chain, PEM in base64 (or plain under stringData)`);
  if (key === null) report(['data', KEY], `required: the private key, PEM in base64 (or plain under stringData)`);
  if (chain === null || key === null) return;
  const fault = keyPairFault(chain.text, key.text);
  if (fault === null) return;
  const [found, name] = fault.part === 'chain' ? [chain, CERTIFICATE] : [key, KEY];
  report([found.field, name], fault.message);
}

/** As Kubernetes merges them: stringData wins. */
function textOfKey(value: Unchecked, key: string): { readonly field: 'data' | 'stringData'; readonly text: string } | null {
  for (const field of ['stringData', 'data'] as const) {
    const entries = value[field];
    const entry = isUnchecked(entries) ? entries[key] : undefined;
    if (typeof entry === 'string') return { field, text: field === 'data' ? Buffer.from(entry, 'base64').toString('utf8') : entry };
  }
  return null;
}

export const secretKind = {
  kind: 'Secret',
  apiVersion: 'v1',
  olderVersions: [],
  plural: 'secrets',
  shortNames: [],
  schema,
} as const;

export type SecretManifest = z.output<typeof secretKind.schema>;

/** PEM, of a Secret that was validated. */
export function tlsKeyPair(manifest: SecretManifest): { readonly chain: string; readonly key: string } {
  return { chain: firstText(manifest, [CERTIFICATE, 'cert']), key: firstText(manifest, [KEY, 'key']) };
}

/** Of those who vouch for clients, as Istio has them: PEM; empty: it has none. */
export function caBundle(manifest: SecretManifest): string {
  return firstText(manifest, ['ca.crt', 'cacert']);
}

/** Null: it has no such key. */
export function secretBytes(manifest: SecretManifest, key: string): Buffer | null {
  const plain = manifest.stringData?.[key];
  const encoded = manifest.data?.[key];
  if (plain !== undefined) return Buffer.from(plain);
  return encoded === undefined ? null : Buffer.from(encoded, 'base64');
}

/** Of generic Secrets Istio's names of the keys. */
function firstText(manifest: SecretManifest, keys: readonly string[]): string {
  return keys.map((key) => textOfKey(manifest, key)?.text).find((text) => text !== undefined) ?? '';
}

/** Whether its values are those that are shown instead: nothing can be said of them. */
export function isHidden({ data, stringData }: Unchecked): boolean {
  return [data, stringData].some((entries) => isUnchecked(entries) && Object.values(entries).includes(HIDDEN));
}

/** kubectl apply keeps the whole object, data included, in this annotation. */
const LAST_APPLIED = 'kubectl.kubernetes.io/last-applied-configuration';

/** The manifest as it may be shown: of a Secret the keys remain and every value is "(hidden)". */
export function withoutSecrets(manifest: unknown): unknown {
  if (!isUnchecked(manifest) || manifest.kind !== 'Secret') return manifest;
  const shown: Record<string, unknown> = { ...manifest };
  for (const field of ['data', 'stringData']) {
    const entries = manifest[field];
    if (isUnchecked(entries)) shown[field] = Object.fromEntries(Object.keys(entries).map((key) => [key, HIDDEN]));
    else if (entries !== undefined) shown[field] = HIDDEN;
  }
  const { metadata } = manifest;
  if (isUnchecked(metadata) && isUnchecked(metadata.annotations) && LAST_APPLIED in metadata.annotations) {
    shown.metadata = { ...metadata, annotations: { ...metadata.annotations, [LAST_APPLIED]: HIDDEN } };
  }
  return shown;
}
