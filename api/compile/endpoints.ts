// What stands behind one service: running Workloads its selector matches, and EndpointSlices that name it. One endpoint per address.
import { type Endpoint, EndpointHealth } from '../gen/mesh/v1/model.js';
import { qualifiedName, WEIGHT_LABEL, ZONE_LABEL } from '../resources/index.js';
import { canonicalAddress, type Family, familyOf } from './address.js';
import { labelKey, nameOf, type ObjectIndex, type Running, type Stored } from './input.js';
import type { ReportProblem } from './problem.js';
import { compareText } from './route-order.js';
import { virtualAddresses } from './service.js';
import { tcpPorts } from './service-ports.js';
import { placeOf } from './workload.js';

/** Sorted by id. The id is the address, and the port too where several instances share an address: unique within the service, and stable over changes of slices. */
export function compileEndpoints(
  service: Stored<'Service'>,
  index: Pick<ObjectIndex, 'workloads' | 'workloadsByLabel' | 'slicesByService' | 'nodes'>,
  running: Running,
  report: ReportProblem,
): Endpoint[] {
  const found = [
    ...matchingWorkloads(service, index).flatMap((workload) => endpointsOfWorkload(service, workload, running, report)),
    ...(index.slicesByService.get(nameOf(service)) ?? []).flatMap((slice) => endpointsOfSlice(service, slice, index)),
  ];
  const byAddress = new Map<string, Endpoint[]>();
  for (const endpoint of found) {
    const siblings = byAddress.get(endpoint.address);
    if (siblings === undefined) byAddress.set(endpoint.address, [endpoint]);
    else siblings.push(endpoint);
  }
  return [...byAddress.values()].flatMap(unite).sort((a, b) => compareText(a.id, b.id));
}

/**
 * All that compileEndpoints() reads, by identity: while these stay the same objects, its result does. Who has it read more adds it here
 * (a test compares with compiling anew over random changes).
 */
export function inputsOfEndpoints(
  service: Stored<'Service'>,
  index: Pick<ObjectIndex, 'workloads' | 'workloadsByLabel' | 'slicesByService' | 'nodes'>,
  running: Running,
): unknown[] {
  const inputs: unknown[] = [service];
  for (const workload of matchingWorkloads(service, index)) inputs.push(workload, running?.get(nameOf(workload)));
  for (const slice of index.slicesByService.get(nameOf(service)) ?? []) {
    inputs.push(slice);
    for (const { targetRef, nodeName, zone } of slice.manifest.endpoints) {
      if (targetRef?.kind === 'Pod') inputs.push(index.workloads.has(podOf(targetRef, slice.namespace)));
      if (zone === undefined && nodeName !== undefined) inputs.push(index.nodes.get(nodeName));
    }
  }
  return inputs;
}

/**
 * Kubernetes may spread one address over slices, by ports or while it moves between them: that is one endpoint. With different numbers for one
 * port they are instances of one host, each of its own.
 */
function unite(siblings: readonly Endpoint[]): Endpoint[] {
  const numbers = new Map<string, number>();
  const isOne = siblings.every(({ ports }) =>
    ports.every(({ name, port }) => {
      const known = numbers.get(name) ?? port;
      numbers.set(name, known);
      return known === port;
    }),
  );
  if (isOne) return [siblings.reduce(merge)];
  const byPorts = new Map<string, Endpoint>();
  for (const endpoint of siblings) {
    const host = endpoint.address.includes(':') ? `[${endpoint.address}]` : endpoint.address;
    const id = `${host}:${endpoint.ports.map(({ port }) => port).join(',')}`;
    const earlier = byPorts.get(id);
    byPorts.set(id, earlier === undefined ? { ...endpoint, id } : merge(earlier, endpoint));
  }
  return [...byPorts.values()];
}

/** Ports unite, the better health holds. */
function merge(a: Endpoint, b: Endpoint): Endpoint {
  const names = new Set(a.ports.map((port) => port.name));
  return {
    ...a,
    ports: [...a.ports, ...b.ports.filter((port) => !names.has(port.name))],
    health: Math.min(a.health, b.health),
    node: a.node === '' ? b.node : a.node,
    zone: a.zone === '' ? b.zone : a.zone,
  };
}

function matchingWorkloads(service: Stored<'Service'>, index: Pick<ObjectIndex, 'workloadsByLabel'>): Stored<'Workload'>[] {
  const selector = Object.entries(service.manifest.spec.selector ?? {});
  if (selector.length === 0) return [];
  const [fewest = [], ...others] = selector
    .map(([key, value]) => index.workloadsByLabel.get(labelKey(service.namespace, key, value)) ?? [])
    .sort((a, b) => a.length - b.length);
  if (others.length === 0) return [...fewest];
  return fewest.filter(({ manifest }) => selector.every(([key, value]) => manifest.metadata.labels?.[key] === value));
}

function endpointsOfWorkload(
  service: Stored<'Service'>,
  workload: Stored<'Workload'>,
  running: Running,
  report: ReportProblem,
): Endpoint[] {
  const place = placeOf(workload, running);
  if (place === null) return [];
  const ports = targetPorts(service, workload, report);
  if (ports.length === 0) return [];
  const isPublishedUnready = service.manifest.spec.publishNotReadyAddresses === true && place.health === EndpointHealth.UNHEALTHY;
  return onePerFamily(place.addresses, familiesOf(service)).map((address) => ({
    service: nameOf(service),
    id: address,
    address,
    ports,
    node: place.node,
    zone: '',
    weight: workload.manifest.spec.weight,
    health: isPublishedUnready ? EndpointHealth.READY : place.health,
    workload: nameOf(workload),
  }));
}

/** Declared, else those of its virtual addresses, else both. */
function familiesOf(service: Stored<'Service'>): ReadonlySet<Family> {
  const { ipFamilies } = service.manifest.spec;
  if (ipFamilies !== undefined && ipFamilies.length > 0) return new Set(ipFamilies.map((family) => (family === 'IPv4' ? 4 : 6)));
  const addresses = virtualAddresses(service);
  return addresses.length === 0 ? new Set([4, 6]) : new Set(addresses.map(familyOf));
}

/** A workload's first address of each family, as a pod's are published. */
function onePerFamily(addresses: readonly string[], families: ReadonlySet<Family>): string[] {
  const chosen = new Map<Family, string>();
  for (const address of addresses) {
    const family = familyOf(address);
    if (families.has(family) && !chosen.has(family)) chosen.set(family, address);
  }
  return [...chosen.values()];
}

/** A port whose named target the workload doesn't declare is left out for that workload (Kubernetes does the same). */
function targetPorts(service: Stored<'Service'>, workload: Stored<'Workload'>, report: ReportProblem): Endpoint['ports'] {
  const byName = new Map(workload.manifest.spec.ports.map((port) => [port.name, port.port]));
  return tcpPorts(service).flatMap((port) => {
    const target = port.targetPort ?? port.port;
    const number = typeof target === 'number' ? target : byName.get(target);
    if (number !== undefined) return [{ name: port.name ?? '', port: number }];
    report(
      'spec.ports',
      `targetPort ${target} of port ${port.port} is not in spec.ports of Workload ${nameOf(workload)}: it gets no requests there`,
      'TargetNotFound',
    );
    return [];
  });
}

function endpointsOfSlice(
  service: Stored<'Service'>,
  { manifest, namespace }: Stored<'EndpointSlice'>,
  { workloads, nodes }: Pick<ObjectIndex, 'workloads' | 'nodes'>,
): Endpoint[] {
  const ports = manifest.ports.filter((port) => port.protocol === 'TCP').map((port) => ({ name: port.name, port: port.port }));
  if (ports.length === 0 || manifest.addressType === 'FQDN') return [];
  const weight = Number(manifest.metadata.labels?.[WEIGHT_LABEL] ?? 1);
  return manifest.endpoints.flatMap((endpoint) => {
    // The addresses of one entry are interchangeable and consumers take the first (EndpointSlice API).
    const address = canonicalAddress(endpoint.addresses[0] ?? '');
    const { targetRef, nodeName = '' } = endpoint;
    const pod = targetRef?.kind === 'Pod' ? podOf(targetRef, namespace) : '';
    return {
      service: nameOf(service),
      id: address,
      address,
      ports,
      node: nodeName,
      zone: endpoint.zone ?? nodes.get(nodeName)?.manifest.metadata.labels?.[ZONE_LABEL] ?? '',
      weight,
      health: healthOf(endpoint.conditions ?? {}),
      workload: workloads.has(pod) ? pod : '',
    };
  });
}

function podOf(target: { readonly namespace?: string | undefined; readonly name?: string | undefined }, namespace: string): string {
  return qualifiedName(target.namespace ?? namespace, target.name ?? '');
}

interface Conditions {
  readonly ready?: boolean | undefined;
  readonly serving?: boolean | undefined;
  readonly terminating?: boolean | undefined;
}

/** EndpointSlice API: ready unset means true; a terminating endpoint is never ready, and drains while it still serves. */
function healthOf(conditions: Conditions): EndpointHealth {
  if (conditions.ready ?? true) return EndpointHealth.READY;
  const isDraining = conditions.terminating === true && conditions.serving === true;
  return isDraining ? EndpointHealth.DRAINING : EndpointHealth.UNHEALTHY;
}
