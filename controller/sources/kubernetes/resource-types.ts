// The table of what is read from a Kubernetes API server, and what each becomes. Which version of a resource is read is api-discovery.ts's to choose.
import {
  DEFAULT_NAMESPACE,
  EXPORT_TO,
  KINDS,
  type Kind,
  kindDefinition,
  manifestKind,
  manifestPlural,
  SERVICE_NAME_LABEL,
  WEIGHT_LABEL,
} from '../../../api/resources/index.js';
import { isWeight } from '../../../api/resources/kind-endpoint-slice.js';
import { TRAFFIC_DISTRIBUTION } from '../../../api/resources/kind-service.js';
import { isUnchecked } from '../../../api/resources/schema.js';
import type { SourceObject } from '../ingester.js';
import { type KubernetesObject, textsOf } from './object.js';
import {
  type Translated,
  translateConfigMap,
  translateEndpointSlice,
  translateLabels,
  translatePod,
  translateSecret,
  translateService,
  translateSpec,
} from './translate.js';

export interface ResourceType {
  /** Weft's kind that it becomes. */
  readonly kind: Kind;
  /** Empty: the core group. */
  readonly group: string;
  /** The one liked most first. */
  readonly versions: readonly string[];
  readonly plural: string;
  readonly isNamespaced: boolean;
  readonly translate: (object: KubernetesObject) => Translated;
  /** Which of its labels are kept: others change, and mean nothing to Weft. */
  readonly keepsLabel: (label: string, value: string) => boolean;
}

const all = (): boolean => true;
const none = (): boolean => false;

function core(kind: Kind, plural: string, translate: ResourceType['translate'], keepsLabel: ResourceType['keepsLabel']): ResourceType {
  const isNamespaced = kind !== 'Node' && kind !== 'Namespace';
  return { kind, group: '', versions: ['v1'], plural, isNamespaced, translate, keepsLabel };
}

const OWN: readonly ResourceType[] = [
  core('Service', 'services', translateService, all),
  core('Workload', 'pods', translatePod, all),
  core('Node', 'nodes', translateLabels, all),
  core('Namespace', 'namespaces', translateLabels, all),
  core('ServiceAccount', 'serviceaccounts', translateLabels, none),
  {
    kind: 'EndpointSlice',
    group: 'discovery.k8s.io',
    versions: ['v1', 'v1beta1'],
    plural: 'endpointslices',
    isNamespaced: true,
    translate: translateEndpointSlice,
    keepsLabel: (label, value) => label === SERVICE_NAME_LABEL || (label === WEIGHT_LABEL && isWeight(value)),
  },
];

/** Of custom resources: every kind that Weft knows and a group defines. A Workload is what Weft makes of a Pod; others are applied. */
function customTypes(): ResourceType[] {
  const isOfGroup = ({ kind, apiVersion }: (typeof KINDS)[number]): boolean =>
    kind !== 'Workload' && apiVersion.includes('.') && !OWN.some((own) => own.kind === kind);
  return KINDS.filter(isOfGroup).map((definition) => ({
    kind: definition.kind,
    group: definition.apiVersion.split('/')[0] ?? '',
    versions: [definition.apiVersion, ...definition.olderVersions].map((version) => version.split('/')[1] ?? ''),
    plural: manifestPlural(definition),
    isNamespaced: definition.kind !== 'GatewayClass',
    translate: translateSpec,
    keepsLabel: all,
  }));
}

export const RESOURCE_TYPES: readonly ResourceType[] = [...OWN, ...customTypes()];

/** Read one by one, where an object that is read names them. */
export const REFERENCED_TYPES = {
  Secret: core('Secret', 'secrets', translateSecret, none),
  ConfigMap: core('ConfigMap', 'configmaps', translateConfigMap, none),
} as const;

/** Null: of no use to the mesh. `version` is the one it was read in. */
export function sourceObject(type: ResourceType, version: string, object: KubernetesObject): SourceObject | null {
  const translated = type.translate(object);
  if (translated === null) return null;
  const { name, labels, createdAtMs } = object.metadata;
  const generation = isCustom(type) ? object.metadata.generation : 0;
  const namespace = object.metadata.namespace || DEFAULT_NAMESPACE;
  const apiVersion = apiVersionOf(type, version);
  const kept = Object.fromEntries(Object.entries(labels).filter(([label, value]) => type.keepsLabel(label, value)));
  const annotations = type.kind === 'Workload' ? {} : ownAnnotations(object);
  const metadata = {
    name,
    namespace,
    ...(Object.keys(kept).length === 0 ? {} : { labels: kept }),
    ...(Object.keys(annotations).length === 0 ? {} : { annotations }),
  };
  const definition = kindDefinition(type.kind);
  const kind = definition === null ? type.kind : manifestKind(definition);
  const manifest = { apiVersion, kind, metadata, ...translated };
  return { ref: { kind: type.kind, namespace, name }, manifest, createdAtMs, generation };
}

const ANNOTATIONS: readonly string[] = [EXPORT_TO, TRAFFIC_DISTRIBUTION];

/** Those that mean something to Weft: others change as they like. */
function ownAnnotations({ body }: KubernetesObject): Record<string, string> {
  const annotations = isUnchecked(body.metadata) ? textsOf(body.metadata.annotations) : {};
  return Object.fromEntries(Object.entries(annotations).filter(([key]) => key.startsWith('mesh.weft.dev/') || ANNOTATIONS.includes(key)));
}

function isCustom(type: ResourceType): boolean {
  return type.translate === translateSpec;
}

/** What it becomes may have another one than what it is made of. */
function apiVersionOf(type: ResourceType, version: string): string {
  return isCustom(type) ? `${type.group}/${version}` : (KINDS.find(({ kind }) => kind === type.kind)?.apiVersion ?? version);
}
