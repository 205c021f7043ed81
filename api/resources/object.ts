// A validated object of any kind, as everything above the schemas handles it.
import type { z } from 'zod';
import type { Kind, KindDefinition } from './kinds.js';

/** The normalised manifest of each kind: plain JSON, defaults filled in, server-owned metadata and status dropped. */
export type ManifestOf<K extends Kind> = z.output<Extract<KindDefinition, { kind: K }>['schema']>;

interface ObjectOf<K extends Kind> {
  readonly apiVersion: string;
  readonly kind: K;
  readonly namespace: string;
  readonly name: string;
  readonly manifest: ManifestOf<K>;
  /** `metadata.resourceVersion` as Weft gives it; absent: none, or that of a Kubernetes API server (which gives a uid beside). */
  readonly resourceVersion?: string;
  /** Where it was read; an empty file and line 0 for an object without text. */
  readonly source: { readonly file: string; readonly line: number };
}

/** Narrow by `kind`. Made by parseManifests and validateObject alone. */
export type ResourceObject = { [K in Kind]: ObjectOf<K> }[Kind];

/** An object as the store holds it. */
export type StoredObject = ResourceObject & { readonly createdAtMs: number };

/** The identity of an object, "HTTPRoute/shop/catalog": equal keys are the same object. */
export function objectKey(kind: string, namespace: string, name: string): string {
  return `${kind}/${namespace}/${name}`;
}

/** "<namespace>/<name>", as references and the internal model write it. */
export function qualifiedName(namespace: string, name: string): string {
  return `${namespace}/${name}`;
}
