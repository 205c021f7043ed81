// Kinds and manifests as the CLI's commands need them: names as people type them, documents checked or reduced to what they name.
import type { Finding, ManifestFile, ObjectRef } from '../api/gen/mesh/v1/admin.js';
import { formatFinding } from '../api/resources/finding.js';
import { withoutSecrets } from '../api/resources/kind-secret.js';
import { findKind, KINDS } from '../api/resources/kinds.js';
import { suggestion } from '../api/resources/nearest.js';
import { parseManifests } from '../api/resources/parse.js';
import { EXIT_USAGE, Failure } from './failure.js';

/** "svc" → "Service". */
export function resolveKind(word: string): string {
  const found = findKind(word);
  if (found !== null) return found.kind;
  if (/^(endpoints?|ep)$/i.test(word)) {
    throw new Failure(
      'endpoints are made, not stored: `weft registry endpoints SERVICE`, or as a node sees them `weft endpoints NODE`',
      EXIT_USAGE,
    );
  }
  const plurals = KINDS.map((kind) => kind.plural);
  const meant = suggestion(word.toLowerCase(), [...plurals, ...KINDS.map(({ kind }) => kind.toLowerCase())]);
  throw new Failure(`unknown kind "${word}"${meant === '' ? `. There are: ${plurals.join(', ')}` : meant}`, EXIT_USAGE);
}

interface CheckedManifests {
  readonly findings: readonly Finding[];
  readonly warnings: readonly Finding[];
  readonly count: number;
}

export function checkManifests(files: readonly ManifestFile[]): CheckedManifests {
  const { objects, findings, warnings } = parseManifests(files);
  return { findings, warnings, count: objects.length };
}

/** The objects as they would be stored, values of Secrets hidden. */
export function manifestsIn(files: readonly ManifestFile[]): (ObjectRef & { readonly manifest: unknown })[] {
  const { objects } = parseManifests(files);
  return objects.map(({ kind, namespace, name, manifest }) => ({ kind, namespace, name, manifest: withoutSecrets(manifest) }));
}

/** What the files name, in their order; a Failure with every mistake if there is one. */
export function objectsIn(files: readonly ManifestFile[]): ObjectRef[] {
  const { objects, findings } = parseManifests(files);
  if (findings.length > 0) throw new Failure([...findings.map(formatFinding), 'nothing was deleted'].join('\n'));
  return objects.map(({ kind, namespace, name }) => ({ kind, namespace, name }));
}
