// What a service registers of one instance in ZooKeeper → an instance. Pure. Three forms are known: Apache Curator's service discovery
// (curator-x-discovery, ServiceInstance as JSON; Spring Cloud adds metadata), Finagle's server sets (ServiceInstance as JSON), and a node called "host:port".
import { isIPv4, isIPv6 } from 'node:net';
import { parseHostPort } from '../../../api/host-port.js';
import { REGION_LABEL } from '../../../api/resources/index.js';
import { isUnchecked, textOf, type Unchecked } from '../../../api/resources/schema.js';
import { type Instance, isPort, labelsOf, weightOf } from '../instances.js';

const READY = { ready: true };
const MAX_SHOWN = 120;

/** A text: why it can't be used. `node` is the last part of the znode's path. */
export function instanceOf(node: string, data: Buffer): Instance | string {
  const text = data.toString('utf8').trim();
  if (text === '') return reachedAt(node, node);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return reachedAt(node, text);
  }
  if (!isUnchecked(value)) return `${node}: its data is no object`;
  if (isUnchecked(value.serviceEndpoint)) {
    const { host, port } = value.serviceEndpoint;
    return reached(
      node,
      host,
      port,
      isUnchecked(value.metadata) ? value.metadata : {},
      value.status === undefined || value.status === 'ALIVE',
    );
  }
  const payload = isUnchecked(value.payload) ? value.payload : {};
  const metadata = isUnchecked(payload.metadata) ? payload.metadata : {};
  const isUp = value.enabled !== false && (textOf(metadata, 'instance_status') ?? 'UP') === 'UP';
  return reached(node, value.address, value.port ?? value.sslPort, metadata, isUp);
}

function reached(node: string, host: unknown, port: unknown, metadata: Unchecked, isUp: boolean): Instance | string {
  const address = typeof host === 'string' ? host : '';
  if (!isIPv4(address) && !isIPv6(address)) return `${node}: its address "${address.slice(0, MAX_SHOWN)}" is none of IPv4 or IPv6`;
  if (!isPort(port)) return `${node}: it has no port`;
  return {
    address,
    port,
    node: '',
    zone: textOf(metadata, 'zone') ?? '',
    weight: weightOf(Number(metadata.weight)),
    labels: labelsOf({ [REGION_LABEL]: metadata.region, ...metadata }),
    // Who takes itself out ends what it has begun.
    conditions: isUp ? READY : { ready: false, serving: true, terminating: true },
  };
}

function reachedAt(node: string, text: string): Instance | string {
  const at = parseHostPort(text);
  return reached(node, at?.host ?? text, at?.port, {}, true);
}
