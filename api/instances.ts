// What an instance that registers itself may say: checked by its agent, for a clear answer, and by the controller, which trusts no node.
import { isIP } from 'node:net';
import type { InstanceState } from './gen/mesh/v1/discovery.js';
import { EndpointHealth, type HealthCheck, HealthCheck_Type } from './gen/mesh/v1/model.js';
import { isLabelKey, isLabelValue } from './resources/syntax.js';

/** On one node. */
export const MAX_INSTANCES = 1_000;
const MAX_PORTS = 16;
const MAX_LABELS = 64;
const MAX_LABEL_BYTES = 4_096;
const MAX_WEIGHT = 1_000_000;
const SERVICE = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\/[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const ID = /^[a-z0-9]([a-z0-9.-]{0,126}[a-z0-9])?$/;
const PORT_NAME = /^([a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?)?$/;
const PROTOCOL = /^[A-Za-z0-9./-]{0,63}$/;

/** In words; null: there is none. */
export function instanceFault(instance: InstanceState): string | null {
  const { service, id, address, weight, version, health } = instance;
  if (!SERVICE.test(service)) return `"${service.slice(0, 130)}" is no service: expected "<namespace>/<name>"`;
  if (!ID.test(id))
    return `instance "${id.slice(0, 130)}" of ${service}: expected an id of lower-case letters, digits, "-" and ".", at most 128`;
  const of = `instance ${id} of ${service}`;
  if (isIP(address) === 0 || address.includes('%')) return `${of}: "${address.slice(0, 64)}" is no IPv4 or IPv6 address`;
  if (weight > MAX_WEIGHT) return `${of}: weight ${weight}, at most ${MAX_WEIGHT}`;
  if (!isLabelValue(version)) return `${of}: version "${version.slice(0, 64)}": expected at most 63 letters, digits, "-", "_" and "."`;
  if (health !== EndpointHealth.READY && health !== EndpointHealth.DRAINING) return `${of}: health: expected READY or DRAINING`;
  const fault = portsFault(instance) ?? labelsFault(instance) ?? checkFault(instance.check);
  return fault === null ? null : `${of}: ${fault}`;
}

function portsFault({ ports }: InstanceState): string | null {
  if (ports.length === 0) return 'it has no port';
  if (ports.length > MAX_PORTS) return `${ports.length} ports, at most ${MAX_PORTS}`;
  if (new Set(ports.map(({ name }) => name)).size !== ports.length) return 'two ports have one name';
  for (const { name, port, servicePort, protocol } of ports) {
    if (!PORT_NAME.test(name)) return `port name "${name.slice(0, 32)}": expected at most 15 lower-case letters, digits and "-"`;
    if (name === '' && ports.length > 1) return 'of several ports each needs a name';
    if (!(port >= 1 && port <= 65_535) || servicePort > 65_535) return `port ${port}: expected 1 to 65535`;
    if (!PROTOCOL.test(protocol)) return `protocol "${protocol.slice(0, 64)}": expected such as http, http2, grpc or tcp`;
  }
  return null;
}

function labelsFault({ labels }: InstanceState): string | null {
  const entries = Object.entries(labels);
  if (entries.length > MAX_LABELS) return `${entries.length} labels, at most ${MAX_LABELS}`;
  const bytes = entries.reduce((sum, [key, value]) => sum + key.length + value.length, 0);
  if (bytes > MAX_LABEL_BYTES) return `labels of ${bytes} bytes, at most ${MAX_LABEL_BYTES}`;
  const wrong = entries.find(([key, value]) => !isLabelKey(key) || !isLabelValue(value));
  return wrong === undefined
    ? null
    : `label "${wrong[0].slice(0, 64)}=${wrong[1].slice(0, 64)}": expected the syntax of Kubernetes' labels`;
}

/** Bounds what a check costs, and what it can put into a request. */
export function checkFault(check: HealthCheck | undefined): string | null {
  if (check === undefined) return null;
  const { intervalMs, timeoutMs, unhealthyThreshold, healthyThreshold, port, host, path, serverName, grpcService, statuses } = check;
  if (!(check.type in HealthCheck_Type)) return `check of type ${check.type}: not known to this software`;
  if (!(intervalMs >= 100 && intervalMs <= 3_600_000)) return `check: interval of ${intervalMs} ms, expected 100 ms to 1 h`;
  if (!(timeoutMs >= 10 && timeoutMs <= 60_000)) return `check: timeout of ${timeoutMs} ms, expected 10 ms to 1 min`;
  if (Math.max(unhealthyThreshold, healthyThreshold) > 100) return 'check: thresholds of at most 100';
  if (port > 65_535) return `check: port ${port}, at most 65535`;
  if (check.type === HealthCheck_Type.HTTP && !/^\/[\x21-\x7e]{0,1023}$/.test(path))
    return 'check: expected an absolute path such as /healthz';
  if (!/^[A-Za-z0-9._:[\]-]{0,255}$/.test(host)) return 'check: expected a host, perhaps with a port';
  if (!/^[A-Za-z0-9.-]{0,253}$/.test(serverName)) return 'check: expected a server name';
  if (!/^[\x21-\x7e]{0,255}$/.test(grpcService)) return 'check: expected the name of a gRPC service';
  const isRange = ({ first, last }: { first: number; last: number }): boolean => first >= 100 && first <= last && last <= 599;
  if (statuses.length > 16 || !statuses.every(isRange)) return 'check: expected at most 16 ranges of statuses, 100 to 599';
  return null;
}
