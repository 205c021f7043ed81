// All objects that are analysed together, as they were written: valid or not, since what fits nothing may also be mistaken. Reads loosely, holds no
// findings.
import { DEFAULT_NAMESPACE, type FieldPath, type SourceObject } from '../resources/index.js';
import { isUnchecked, textOf, type Unchecked } from '../resources/schema.js';
import type { Code } from './codes.js';

export interface AnalysedObject {
  /** "Gateway.networking.istio.io"; of the core group "Service". */
  readonly type: string;
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly spec: Unchecked;
  readonly value: Unchecked;
  readonly source: SourceObject;
}

/** Something with labels on which requests arrive: a Pod, what makes Pods, a Workload, a WorkloadEntry. */
export interface LabelledWorkload {
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
}

export type Report = (object: AnalysedObject, code: Code, path: FieldPath, message: string) => void;

/** A rule looks at the whole world and reports. */
export type Rule = (world: World, report: Report) => void;

const POD_MAKERS = new Set(['Deployment.apps', 'DaemonSet.apps', 'StatefulSet.apps', 'ReplicaSet.apps']);

export class World {
  readonly #byType = new Map<string, AnalysedObject[]>();
  readonly #byName = new Map<string, AnalysedObject>();
  readonly objects: readonly AnalysedObject[];
  readonly workloads: readonly LabelledWorkload[];
  /** Of Namespace objects, and those that objects are in. */
  readonly namespaces: ReadonlySet<string>;
  /** Milliseconds since the epoch. */
  readonly nowMs: number;

  constructor(sources: readonly SourceObject[], nowMs: number) {
    this.nowMs = nowMs;
    for (const object of sources.flatMap(analysed)) {
      const key = `${object.type}/${nameOf(object)}`;
      // Given twice is a mistake that is told; the first is the object.
      if (!this.#byName.has(key)) this.#byName.set(key, object);
    }
    this.objects = [...this.#byName.values()];
    for (const object of this.objects) {
      const known = this.#byType.get(object.type);
      if (known === undefined) this.#byType.set(object.type, [object]);
      else known.push(object);
    }
    this.workloads = this.objects.flatMap((object) => this.#labelled(object));
    this.namespaces = new Set(this.objects.map(({ type, namespace, name }) => (type === 'Namespace' ? name : namespace)));
  }

  all(type: string): readonly AnalysedObject[] {
    return this.#byType.get(type) ?? [];
  }

  find(type: string, namespace: string, name: string): AnalysedObject | undefined {
    return this.#byName.get(`${type}/${namespace}/${name}`);
  }

  #labelled(object: AnalysedObject): LabelledWorkload[] {
    const { type, namespace, spec, value } = object;
    if (type === 'Pod') return [{ namespace, labels: { ...this.#topology(textOf(spec, 'nodeName')), ...labelsOf(value) } }];
    if (type === 'Workload.mesh.weft.dev') return [{ namespace, labels: { ...this.#topology(textOf(spec, 'node')), ...labelsOf(value) } }];
    if (type === 'WorkloadEntry.networking.istio.io') return [{ namespace, labels: texts(spec.labels) }];
    if (POD_MAKERS.has(type)) return [{ namespace, labels: labelsOf(recordIn(spec, 'template')) }];
    return [];
  }

  /** Where the node is, in the words of its labels. */
  #topology(node: string | null): Record<string, string> {
    const labels = labelsOf(this.all('Node').find(({ name }) => name === node)?.value ?? {});
    return Object.fromEntries(Object.entries(labels).filter(([key, value]) => key.startsWith('topology.') && value !== ''));
  }
}

function analysed(source: SourceObject): AnalysedObject[] {
  const { value } = source;
  const [kind, apiVersion] = [textOf(value, 'kind'), textOf(value, 'apiVersion')];
  const metadata = recordIn(value, 'metadata');
  const name = textOf(metadata, 'name');
  if (kind === null || apiVersion === null || name === null) return [];
  const group = apiVersion.includes('/') ? `.${apiVersion.split('/')[0]}` : '';
  const namespace = textOf(metadata, 'namespace') ?? DEFAULT_NAMESPACE;
  return [{ type: `${kind}${group}`, kind, namespace, name, spec: recordIn(value, 'spec'), value, source }];
}

/** {} for anything else than an object. */
export function recordIn(value: Unchecked, field: string): Unchecked {
  const found = value[field];
  return isUnchecked(found) ? found : {};
}

/** The items of a list that are objects, with their positions. */
export function itemsIn(value: Unchecked, field: string): readonly (readonly [number, Unchecked])[] {
  const found = value[field];
  return Array.isArray(found) ? found.flatMap((item, index) => (isUnchecked(item) ? [[index, item] as const] : [])) : [];
}

export function textsIn(value: Unchecked, field: string): readonly string[] {
  const found = value[field];
  return Array.isArray(found) ? found.filter((item): item is string => typeof item === 'string') : [];
}

export function texts(value: unknown): Record<string, string> {
  if (!isUnchecked(value)) return {};
  return Object.fromEntries(Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === 'string'));
}

function labelsOf(value: Unchecked): Record<string, string> {
  return texts(recordIn(value, 'metadata').labels);
}

/** Whether all of `selector` is in `labels`. */
export function includes(labels: Readonly<Record<string, string>>, selector: Readonly<Record<string, string>>): boolean {
  return Object.entries(selector).every(([key, value]) => labels[key] === value);
}

export function nameOf({ namespace, name }: { readonly namespace: string; readonly name: string }): string {
  return `${namespace}/${name}`;
}
