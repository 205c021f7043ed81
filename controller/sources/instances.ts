// Instances of one service, as a catalogue lists them → the Service and EndpointSlices that `weft apply` would take. Pure; knows no catalogue.
import { createHash } from 'node:crypto';
import { isIPv6 } from 'node:net';
import { ENDPOINT_LABELS, SERVICE_NAME_LABEL, WEIGHT_LABEL } from '../../api/resources/index.js';
import { isUnchecked } from '../../api/resources/schema.js';
import { isLabelKey, isLabelValue } from '../../api/resources/syntax.js';
import type { SourceObject } from './ingester.js';

export interface Instance {
  /** IPv4 or IPv6. */
  readonly address: string;
  readonly port: number;
  /** Empty: not known. */
  readonly node: string;
  readonly zone: string;
  /** From 1. */
  readonly weight: number;
  /** By labelsOf(). */
  readonly labels: Readonly<Record<string, string>>;
  readonly conditions: { readonly ready: boolean; readonly serving?: boolean; readonly terminating?: boolean };
}

export interface CatalogueService {
  /** By serviceName(). */
  readonly name: string;
  readonly namespace: string;
  /** The one that clients and routes name; null: the lowest of the instances'. */
  readonly port: number | null;
  /** As appProtocol; null: detected. */
  readonly protocol: string | null;
}

const PORT_NAME = 'service';
/** Kubernetes' bound of one slice. */
const SLICE_ENDPOINTS = 1_000;
const MAX_PORT = 65_535;
const MAX_WEIGHT = 1_000_000;

/** Null: a name of which no DNS label can be made. Capitals become small letters, "_", "." and the like "-". */
export function serviceName(name: string): string | null {
  const label = name.toLowerCase().replace(/[^a-z0-9-]/g, '-');
  return /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(label) ? label : null;
}

export function isPort(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= MAX_PORT;
}

const MAX_LABELS = 64;

/** Of what a catalogue has of an instance, what can be a label. */
export function labelsOf(meta: unknown): Record<string, string> {
  const entries = Object.entries(isUnchecked(meta) ? meta : {}).filter(
    (entry): entry is [string, string] => isLabelKey(entry[0]) && typeof entry[1] === 'string' && entry[1] !== '' && isLabelValue(entry[1]),
  );
  return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)).slice(0, MAX_LABELS));
}

/** 1 for what is none. */
export function weightOf(value: unknown): number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 1 ? Math.min(value, MAX_WEIGHT) : 1;
}

/** None for a service that has no instance and no port of its own. */
export function serviceObjects(
  { name, namespace, port: asked, protocol }: CatalogueService,
  instances: readonly Instance[],
): SourceObject[] {
  if (asked === null && instances.length === 0) return [];
  const port = asked ?? Math.min(...instances.map((instance) => instance.port));
  const object = (kind: string, apiVersion: string, ref: string, rest: object, metadata: object = {}): SourceObject => ({
    ref: { kind, namespace, name: ref },
    manifest: { apiVersion, kind, metadata: { name: ref, namespace, ...metadata }, ...rest },
    createdAtMs: 0,
    generation: 0,
  });
  const ports = [{ name: PORT_NAME, port, ...(protocol === null ? {} : { appProtocol: protocol }) }];
  const slices = slicesOf(name, instances).map(({ ref, weight, labels: ofEndpoints, ...slice }) => {
    const labels = { [SERVICE_NAME_LABEL]: name, ...(weight === 1 ? {} : { [WEIGHT_LABEL]: String(weight) }) };
    const annotations = ofEndpoints === '' ? {} : { annotations: { [ENDPOINT_LABELS]: ofEndpoints } };
    return object('EndpointSlice', 'discovery.k8s.io/v1', ref, slice, { labels, ...annotations });
  });
  return [object('Service', 'v1', name, { spec: { clusterIP: 'None', ports } }), ...slices];
}

/** Instances of one port, family, weight and labels share a slice; its name says which. */
function slicesOf(name: string, instances: readonly Instance[]) {
  const groups = new Map<string, Instance[]>();
  for (const instance of instances) {
    const labels = labelText(instance);
    const digest = labels === '' ? [] : [createHash('sha256').update(labels).digest('hex').slice(0, 12)];
    const key = [instance.port, isIPv6(instance.address) ? 'v6' : 'v4', instance.weight, ...digest].join('-');
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [instance]);
    else group.push(instance);
  }
  return [...groups].flatMap(([key, group]) => {
    const { address, port, weight } = group[0]!;
    const sorted = [...group].sort((a, b) => (a.address < b.address ? -1 : 1));
    return Array.from({ length: Math.ceil(sorted.length / SLICE_ENDPOINTS) }, (_, part) => ({
      ref: `${name}-${key}${part === 0 ? '' : `-${part}`}`,
      weight,
      labels: labelText(group[0]!),
      addressType: isIPv6(address) ? 'IPv6' : 'IPv4',
      ports: [{ name: PORT_NAME, port }],
      endpoints: sorted.slice(part * SLICE_ENDPOINTS, (part + 1) * SLICE_ENDPOINTS).map(endpointOf),
    }));
  });
}

function labelText({ labels }: Instance): string {
  return Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(',');
}

function endpointOf({ address, node, zone, conditions }: Instance): object {
  return { addresses: [address], conditions, ...(node === '' ? {} : { nodeName: node }), ...(zone === '' ? {} : { zone }) };
}
