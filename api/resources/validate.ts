// One plain JSON value → a validated, normalised object, or every mistake in it. Positions are the caller's.
import { z } from 'zod';
import { type Explained, explainIssue } from './explain.js';
import { KINDS, type Kind, type KindDefinition, kindsNamed, LATER_KINDS, manifestKind } from './kinds.js';
import { SERVER_METADATA } from './metadata.js';
import { suggestion } from './nearest.js';
import type { ResourceObject } from './object.js';
import { describe, isUnchecked, NOT_ACTED_ON } from './schema.js';

/** etcd takes 1.5 MiB a request; an object leaves room for its envelope. */
const MAX_OBJECT_BYTES = 1_048_576;

export type Checked =
  | { readonly ok: true; readonly object: ResourceObject; readonly warnings: readonly Explained[] }
  | { readonly ok: false; readonly mistakes: readonly Explained[] };

/** `source` is where the object was read; `value` is JSON without null map entries. Never throws. */
export function checkObject(value: unknown, source: ResourceObject['source']): Checked {
  if (!isUnchecked(value)) return refuse([], `expected an object with apiVersion, kind and metadata, found ${describe(value)}`);
  const definition = definitionOf(value);
  if ('mistakes' in definition) return definition;
  const bytes = Buffer.byteLength(JSON.stringify(value));
  if (bytes > MAX_OBJECT_BYTES) return refuse([], `too large: ${bytes} bytes as JSON, at most ${MAX_OBJECT_BYTES}`);
  // Objects of an older version have the same fields and are kept as the newest, but where the older one says something else.
  const stays = 'isOlderAlone' in definition && definition.isOlderAlone(value);
  const current = stays || value.apiVersion === definition.apiVersion ? value : { ...value, apiVersion: definition.apiVersion };
  const { value: data, issues } = readBy(definition, current);
  const warnings = issues.filter(({ isWarning }) => isWarning === true);
  if (warnings.length < issues.length) return { ok: false, mistakes: issues };
  if ('notActedOn' in definition && definition.notActedOn !== null)
    warnings.push({ path: ['kind'], part: 'value', message: `${NOT_ACTED_ON}: ${definition.notActedOn}`, isWarning: true });
  return { ok: true, object: normalise(definition, data as AnyManifest, source), warnings };
}

/** As safeParse, but with the value also where there are issues: those that are warnings refuse nothing. */
function readBy({ schema }: KindDefinition, value: unknown): { readonly value: unknown; readonly issues: readonly Explained[] } {
  const payload = schema._zod.run({ value, issues: [] }, { async: false });
  if (payload instanceof Promise) throw new Error('a schema of a kind is asynchronous');
  const context = { reportInput: true };
  return {
    value: payload.value,
    issues: payload.issues.flatMap((issue) => explainIssue(z.core.util.finalizeIssue(issue, context, z.config()))),
  };
}

function refuse(path: readonly string[], message: string, part: Explained['part'] = 'value'): Checked & { ok: false } {
  return { ok: false, mistakes: [{ path, part, message }] };
}

function definitionOf(value: Readonly<Record<string, unknown>>): KindDefinition | (Checked & { ok: false }) {
  const { kind, apiVersion } = value;
  const known = [...new Set(KINDS.map(manifestKind))];
  if (kind === undefined) return refuse(['kind'], `required: one of ${known.join(', ')}`, 'parent');
  if (typeof kind !== 'string') return refuse(['kind'], `expected one of ${known.join(', ')}, found ${describe(kind)}`);
  const definitions = kindsNamed(kind);
  if (definitions.length === 0) return refuse(['kind'], unknownKind(kind, known));
  const versions = definitions.map((definition) => definition.apiVersion).join(' or ');
  if (apiVersion === undefined) return refuse(['apiVersion'], `required: ${versions}`, 'parent');
  const found = definitions.find(({ apiVersion: newest, olderVersions }) => [newest, ...olderVersions].includes(apiVersion as string));
  return found ?? refuse(['apiVersion'], `expected ${versions} for kind ${kind}, found ${describe(apiVersion)}`);
}

function unknownKind(kind: string, known: readonly string[]): string {
  if (LATER_KINDS.includes(kind)) return `not supported yet: kind ${kind} is not supported yet by this version`;
  const nearest = suggestion(kind, [...known, ...LATER_KINDS]);
  return `unknown kind ${describe(kind)}${nearest === '' ? `: expected one of ${known.join(', ')}` : nearest}`;
}

interface AnyManifest {
  readonly metadata: { readonly namespace: string; readonly name: string; readonly uid?: unknown; readonly resourceVersion?: unknown };
  readonly apiVersion: string;
  readonly status?: unknown;
}

/** The one place where a manifest's type is taken from its kind: the schema of that kind has just made it. */
function normalise(definition: KindDefinition, data: AnyManifest, source: ResourceObject['source']): ResourceObject {
  const kind: Kind = definition.kind;
  const { status: _dropped, apiVersion, kind: _kind, metadata, ...own } = { kind, ...data };
  const kept = Object.fromEntries(Object.entries(metadata).filter(([field]) => !SERVER_METADATA.includes(field)));
  const manifest = { apiVersion, kind: manifestKind(definition), metadata: kept, ...own };
  const { namespace, name, uid, resourceVersion } = metadata;
  const isOurs = typeof resourceVersion === 'string' && resourceVersion !== '' && uid === undefined;
  const object = { apiVersion, kind, namespace, name, manifest, ...(isOurs ? { resourceVersion } : {}), source };
  return object as unknown as ResourceObject;
}
