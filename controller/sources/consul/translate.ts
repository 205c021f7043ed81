// Instances of one Consul service → the Service and EndpointSlices that `weft apply` would take. Pure. Field names: Consul HTTP API,
// "List Service Instances for Service" (/v1/health/service/:service).
import { isIPv4, isIPv6 } from 'node:net';
import type { ObjectRef } from '../../../api/gen/mesh/v1/admin.js';
import { protocolNamed, SERVICE_NAME_LABEL, WEIGHT_LABEL } from '../../../api/resources/index.js';
import { isUnchecked, textOf, type Unchecked } from '../../../api/resources/schema.js';
import type { SourceObject } from '../ingester.js';

/** Of the service: the port that clients and routes name. Without it the lowest one that an instance has. */
const PORT_META = 'weft-port';
/** Of the service, as Consul's own service defaults call it. */
const PROTOCOL_META = 'protocol';
/** Of the node, where the instance's Locality (Consul 1.17) says nothing. */
const ZONE_META = 'zone';
const PORT_NAME = 'service';
/** Kubernetes' bound of one slice. */
const SLICE_ENDPOINTS = 1_000;
const MAX_PORT = 65_535;
const MAX_WEIGHT = 1_000_000;

export interface TranslatedService {
  readonly objects: readonly SourceObject[];
  /** Instances that can't be reached as they stand, in words. */
  readonly refused: readonly string[];
}

interface Instance {
  readonly address: string;
  readonly port: number;
  readonly node: string;
  readonly zone: string;
  readonly weight: number;
  readonly conditions: { readonly ready: boolean; readonly serving?: boolean; readonly terminating?: boolean };
}

/** Null: a name of which no DNS label can be made. Consul allows capitals, "_" and "."; they become small letters and "-". */
export function serviceName(name: string): string | null {
  const label = name.toLowerCase().replace(/[^a-z0-9-]/g, '-');
  return /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(label) ? label : null;
}

/** No objects: it has no instance that is one of a service's own (a Connect proxy is not). `name` by serviceName(). */
export function translate(name: string, namespace: string, entries: unknown): TranslatedService {
  const own = (Array.isArray(entries) ? entries : [])
    .filter(isUnchecked)
    .filter((entry) => (textOf(part(entry, 'Service'), 'Kind') ?? '') === '');
  const found = own.map(instanceOf);
  const instances = found.filter((instance) => typeof instance !== 'string');
  const refused = found.filter((instance) => typeof instance === 'string');
  if (own.length === 0) return { objects: [], refused };
  const metas = own.map((entry) => part(part(entry, 'Service'), 'Meta'));
  const port = servicePort(metas, instances);
  if (port === null) return { objects: [], refused };
  const protocol = metas.map((meta) => textOf(meta, PROTOCOL_META) ?? '').find((text) => protocolNamed(text) !== undefined);
  const object = (kind: string, ref: string, rest: object, labels?: Record<string, string>): SourceObject => ({
    ref: { kind, namespace, name: ref } satisfies ObjectRef,
    manifest: {
      apiVersion: kind === 'Service' ? 'v1' : 'discovery.k8s.io/v1',
      kind,
      metadata: { name: ref, namespace, ...(labels === undefined ? {} : { labels }) },
      ...rest,
    },
    createdAtMs: 0,
    generation: 0,
  });
  const servicePorts = [{ name: PORT_NAME, port, ...(protocol === undefined ? {} : { appProtocol: protocol }) }];
  const slices = slicesOf(name, instances).map(({ ref, weight, addressType, target, endpoints }) =>
    object(
      'EndpointSlice',
      ref,
      { addressType, ports: [{ name: PORT_NAME, port: target }], endpoints },
      {
        [SERVICE_NAME_LABEL]: name,
        ...(weight === 1 ? {} : { [WEIGHT_LABEL]: String(weight) }),
      },
    ),
  );
  return { objects: [object('Service', name, { spec: { clusterIP: 'None', ports: servicePorts } }), ...slices], refused };
}

/** Instances of one port, weight and family share a slice; its name says which. */
function slicesOf(name: string, instances: readonly Instance[]) {
  const groups = new Map<string, Instance[]>();
  for (const instance of instances) {
    const key = [instance.port, isIPv6(instance.address) ? 'v6' : 'v4', instance.weight].join('-');
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [instance]);
    else group.push(instance);
  }
  return [...groups].flatMap(([key, group]) => {
    const sorted = [...group].sort((a, b) => (a.address < b.address ? -1 : 1));
    return Array.from({ length: Math.ceil(sorted.length / SLICE_ENDPOINTS) }, (_, part) => ({
      ref: `${name}-${key}${part === 0 ? '' : `-${part}`}`,
      weight: group[0]!.weight,
      addressType: isIPv6(group[0]!.address) ? 'IPv6' : 'IPv4',
      target: group[0]!.port,
      endpoints: sorted.slice(part * SLICE_ENDPOINTS, (part + 1) * SLICE_ENDPOINTS).map(({ address, node, zone, conditions }) => ({
        addresses: [address],
        conditions,
        ...(node === '' ? {} : { nodeName: node }),
        ...(zone === '' ? {} : { zone }),
      })),
    }));
  });
}

function servicePort(metas: readonly Unchecked[], instances: readonly Instance[]): number | null {
  const asked = metas.map((meta) => Number(textOf(meta, PORT_META) ?? Number.NaN)).find(isPort);
  if (asked !== undefined) return asked;
  return instances.length === 0 ? null : Math.min(...instances.map(({ port }) => port));
}

/** A text: why it can't be reached. */
function instanceOf(entry: Unchecked): Instance | string {
  const service = part(entry, 'Service');
  const node = part(entry, 'Node');
  const address = textOf(service, 'Address') || textOf(node, 'Address') || '';
  const id = `instance ${textOf(service, 'ID') ?? ''} on node ${textOf(node, 'Node') ?? ''}`;
  if (!isIPv4(address) && !isIPv6(address)) return `${id}: its address "${address}" is none of IPv4 or IPv6`;
  const { Port: port } = service;
  if (!isPort(port)) return `${id}: it has no port`;
  const { Passing: weight } = part(service, 'Weights');
  return {
    address,
    port,
    node: nodeName(textOf(node, 'Node') ?? ''),
    zone: textOf(part(service, 'Locality'), 'Zone') || textOf(part(node, 'Meta'), ZONE_META) || '',
    weight: typeof weight === 'number' && Number.isInteger(weight) && weight >= 1 ? Math.min(weight, MAX_WEIGHT) : 1,
    conditions: conditionsOf(Array.isArray(entry.Checks) ? entry.Checks.filter(isUnchecked) : []),
  };
}

/** As Consul's own DNS: a warning is no reason to stay away. Maintenance is meant: it ends requests gently. */
function conditionsOf(checks: readonly Unchecked[]): Instance['conditions'] {
  const critical = checks.filter((check) => check.Status === 'critical').map((check) => textOf(check, 'CheckID') ?? '');
  const failing = critical.filter((id) => id !== '_node_maintenance' && !id.startsWith('_service_maintenance:'));
  if (critical.length === 0) return { ready: true };
  return failing.length > 0 ? { ready: false } : { ready: false, serving: true, terminating: true };
}

/** An endpoint's node has a DNS name, or none. */
function nodeName(name: string): string {
  const lower = name.toLowerCase();
  return /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/.test(lower) ? lower : '';
}

function isPort(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= MAX_PORT;
}

function part(value: Unchecked, field: string): Unchecked {
  const inner = value[field];
  return isUnchecked(inner) ? inner : {};
}
