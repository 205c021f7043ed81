// Consul's instances of one service → those of any catalogue. Pure. Field names: Consul HTTP API, "List Service Instances for Service"
// (/v1/health/service/:service).
import { isIPv4, isIPv6 } from 'node:net';
import { nodeNameFault } from '../../../api/access/names.js';
import { protocolNamed, REGION_LABEL } from '../../../api/resources/index.js';
import { isUnchecked, textOf, type Unchecked } from '../../../api/resources/schema.js';
import type { SourceObject } from '../ingester.js';
import { type Instance, isPort, labelsOf, serviceObjects, weightOf } from '../instances.js';

/** Of the service: the port that clients and routes name. */
const PORT_META = 'weft-port';
/** Of the service, as Consul's own service defaults call it. */
const PROTOCOL_META = 'protocol';
/** Of the node, where the instance's Locality (Consul 1.17) says nothing. */
const ZONE_META = 'zone';

export interface TranslatedService {
  readonly objects: readonly SourceObject[];
  /** Instances that can't be reached as they stand, in words. */
  readonly refused: readonly string[];
}

/** No objects: it has no instance that is one of a service's own (a Connect proxy is not). `name` by serviceName(). */
export function translate(name: string, namespace: string, entries: unknown): TranslatedService {
  const all = (Array.isArray(entries) ? entries : []).filter(isUnchecked);
  const own = all.filter((entry) => (textOf(part(entry, 'Service'), 'Kind') ?? '') === '');
  const found = own.map(instanceOf);
  const metas = own.map((entry) => part(part(entry, 'Service'), 'Meta'));
  const port = metas.map((meta) => Number(textOf(meta, PORT_META) ?? Number.NaN)).find(isPort) ?? null;
  const protocol = metas.map((meta) => textOf(meta, PROTOCOL_META) ?? '').find((text) => protocolNamed(text) !== undefined) ?? null;
  const instances = found.filter((instance) => typeof instance !== 'string');
  return {
    objects: serviceObjects({ name, namespace, port, protocol }, instances),
    refused: found.filter((instance) => typeof instance === 'string'),
  };
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
  return {
    address,
    port,
    node: nodeName(textOf(node, 'Node') ?? ''),
    zone: textOf(part(service, 'Locality'), 'Zone') || textOf(part(node, 'Meta'), ZONE_META) || '',
    weight: weightOf(part(service, 'Weights').Passing),
    labels: labelsOf({ [REGION_LABEL]: textOf(part(service, 'Locality'), 'Region'), ...part(service, 'Meta') }),
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

/** As the mesh calls nodes; empty: it has another kind of name. */
function nodeName(name: string): string {
  const lower = name.toLowerCase();
  return nodeNameFault(lower) === null ? lower : '';
}

function part(value: Unchecked, field: string): Unchecked {
  const inner = value[field];
  return isUnchecked(inner) ? inner : {};
}
