// An object as the Kubernetes API sends it: its metadata read and bounded, the rest untouched.
import { isUnchecked, textOf, type Unchecked } from '../../../api/resources/schema.js';

export interface KubernetesObject {
  readonly metadata: {
    readonly name: string;
    /** Empty: it stands in none. */
    readonly namespace: string;
    readonly uid: string;
    readonly resourceVersion: string;
    readonly generation: number;
    readonly labels: Readonly<Record<string, string>>;
    /** Milliseconds since the epoch. */
    readonly createdAtMs: number;
  };
  readonly body: Unchecked;
}

/** A name becomes part of a key: no slash, as in every kind that is followed. */
const NAME = /^[a-zA-Z0-9]([a-zA-Z0-9._:-]{0,251}[a-zA-Z0-9])?$/;

export function isName(text: string): boolean {
  return NAME.test(text);
}

/** Null: it has no name that could be one. */
export function objectOf(value: unknown): KubernetesObject | null {
  if (!isUnchecked(value) || !isUnchecked(value.metadata)) return null;
  const { metadata } = value;
  const name = textOf(metadata, 'name') ?? '';
  const namespace = textOf(metadata, 'namespace') ?? '';
  if (!NAME.test(name) || (namespace !== '' && !NAME.test(namespace))) return null;
  const created = Date.parse(textOf(metadata, 'creationTimestamp') ?? '');
  return {
    metadata: {
      name,
      namespace,
      uid: textOf(metadata, 'uid') ?? '',
      resourceVersion: textOf(metadata, 'resourceVersion') ?? '',
      generation: typeof metadata.generation === 'number' ? metadata.generation : 0,
      labels: textsOf(metadata.labels),
      createdAtMs: Number.isNaN(created) ? 0 : created,
    },
    body: value,
  };
}

/** The entries that are texts. */
export function textsOf(value: unknown): Record<string, string> {
  if (!isUnchecked(value)) return {};
  return Object.fromEntries(Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === 'string'));
}

/** The items that are objects. */
export function itemsOf(value: unknown): Unchecked[] {
  return Array.isArray(value) ? value.filter(isUnchecked) : [];
}
