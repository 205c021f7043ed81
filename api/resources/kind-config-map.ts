// core/v1 ConfigMap: certificates that are trusted, under the key ca.crt; other keys are kept and not looked at. Owner: Kubernetes API reference.
import { z } from 'zod';
import { objectOf } from './metadata.js';
import { isUnchecked, type Unchecked, withRule } from './schema.js';
import { dnsSubdomain } from './syntax.js';

const key = z.string().regex(/^[A-Za-z0-9._-]{1,253}$/);
const error = (issue: { readonly code?: string | undefined }): string | undefined =>
  issue.code === 'invalid_key' ? `expected a key of letters, digits, "-", "_" and "."` : undefined;

export const configMapKind = {
  kind: 'ConfigMap',
  apiVersion: 'v1',
  olderVersions: [],
  plural: 'configmaps',
  shortNames: ['cm'],
  schema: withRule(
    objectOf(
      { kind: 'ConfigMap', apiVersion: 'v1', name: dnsSubdomain },
      {
        data: z.record(key, z.string(), { error }).optional(),
        binaryData: z.record(key, z.string(), { error }).optional(),
        immutable: z.boolean().optional(),
      },
    ),
    ({ data, binaryData }, report) => {
      if (!isUnchecked(data) || !isUnchecked(binaryData)) return;
      for (const name of Object.keys(binaryData)) if (name in data) report(['binaryData', name], 'is a key of data already');
    },
  ),
} as const;

/** The text under a key; null: it is not there. */
export function configMapText(manifest: Unchecked, name: string): string | null {
  const { data, binaryData } = manifest;
  if (isUnchecked(data) && typeof data[name] === 'string') return data[name];
  if (isUnchecked(binaryData) && typeof binaryData[name] === 'string') return Buffer.from(binaryData[name], 'base64').toString('utf8');
  return null;
}
