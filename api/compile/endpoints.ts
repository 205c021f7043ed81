// What stands behind one service: running Workloads its selector matches, EndpointSlices that name it, and instances that registered
// themselves. One endpoint per address.
import { type Endpoint, EndpointHealth, type HealthCheck } from '../gen/mesh/v1/model.js';
import { INSTANCES_LABEL } from '../resources/capture-label.js';
import { endpointLabels, qualifiedName, REGION_LABEL, WEIGHT_LABEL, ZONE_LABEL } from '../resources/index.js';
import { canonicalAddress, type Family, familyOf } from './address.js';
import { checked, healthCheckOf } from './health-check.js';
import { labelKey, nameOf, type ObjectIndex, type Running, type Stored } from './input.js';
import { boundedLabels, versionOf } from './labels.js';
import type { ReportProblem } from './problem.js';
import type { RegisteredInstance, RegistryReports } from './registry.js';
import { compareText } from './route-order.js';
import { virtualAddresses } from './service.js';
import { tcpPorts } from './service-ports.js';
import { placeOf } from './workload.js';

type EndpointIndex = Pick<
  ObjectIndex,
  'workloads' | 'workloadsByLabel' | 'slicesByService' | 'nodes' | 'namespaces' | 'policiesByService' | 'registry'
>;

/** An endpoint before it is known who checks it. */
interface Found {
  readonly endpoint: Endpoint;
  /** Its own, not its service's. */
  readonly check: HealthCheck | null;
}

/** Sorted by id. The id is the address, and the port too where several instances share an address: unique within the service, and stable over changes of slices. */
export function compileEndpoints(service: Stored<'Service'>, index: EndpointIndex, running: Running, report: ReportProblem): Endpoint[] {
  const found: Found[] = [
    ...[
      ...matchingWorkloads(service, index).flatMap((workload) => endpointsOfWorkload(service, workload, index, running, report)),
      ...(index.slicesByService.get(nameOf(service)) ?? []).flatMap((slice) => endpointsOfSlice(service, slice, index)),
    ].map((endpoint) => ({ endpoint, check: null })),
    ...instancesOf(service, index, report).flatMap((instance) => foundInstance(service, instance, index, report)),
  ];
  const byAddress = new Map<string, Found[]>();
  for (const each of found) {
    const siblings = byAddress.get(each.endpoint.address);
    if (siblings === undefined) byAddress.set(each.endpoint.address, [each]);
    else siblings.push(each);
  }
  const byService = healthCheckOf(service, index);
  const weighs = weighsByLoad(service, index);
  return [...byAddress.values()]
    .flatMap(unite)
    .map(({ endpoint, check }) => ({ endpoint: drainedWithNode(endpoint, index.registry), check }))
    .map(({ endpoint, check }) => checked(endpoint, { byService, own: check }, index.registry))
    .map((endpoint) => (weighs ? { ...endpoint, nodeIdlePercent: index.registry.idlePercent.get(endpoint.node) } : endpoint))
    .sort((a, b) => compareText(a.id, b.id));
}

/**
 * All that compileEndpoints() reads, by identity: while these stay the same objects, its result does. Who has it read more adds it here
 * (a test compares with compiling anew over random changes).
 */
export function inputsOfEndpoints(service: Stored<'Service'>, index: EndpointIndex, running: Running): unknown[] {
  const { nodes, instances, failing, drained } = index.registry;
  const name = nameOf(service);
  const ofService = instances.get(name);
  const inputs: unknown[] = [service, ofService, drained];
  const weighs = weighsByLoad(service, index);
  const place = (node: string): void => {
    inputs.push(nodes.get(node)?.zone, nodes.get(node)?.region);
    if (weighs) inputs.push(index.registry.idlePercent.get(node));
  };
  for (const workload of matchingWorkloads(service, index)) {
    const report = running?.get(nameOf(workload));
    inputs.push(workload, report);
    if (report !== undefined) place(report.node);
  }
  for (const { node } of ofService?.values() ?? []) place(node);
  const policies = index.policiesByService.get(name) ?? [];
  inputs.push(...policies);
  const isChecked =
    policies.some(({ manifest }) => manifest.spec.healthCheck !== undefined) ||
    instancesOf(service, index).some(({ state }) => state.check !== undefined);
  if (ofService !== undefined) inputs.push(index.namespaces.get(service.namespace));
  if (isChecked) inputs.push(nodes, failing.get(name));
  for (const slice of index.slicesByService.get(nameOf(service)) ?? []) {
    inputs.push(slice);
    for (const { targetRef, nodeName, zone } of slice.manifest.endpoints) {
      if (targetRef?.kind === 'Pod') inputs.push(index.workloads.get(podOf(targetRef, slice.namespace)));
      if (nodeName !== undefined) inputs.push(index.nodes.get(nodeName), nodes.get(nodeName)?.region);
      if (zone === undefined && nodeName !== undefined) inputs.push(nodes.get(nodeName)?.zone);
      if (weighs && nodeName !== undefined) inputs.push(index.registry.idlePercent.get(nodeName));
    }
  }
  return inputs;
}

/** Whether a policy has its endpoints weighed by how busy they, or their nodes, are. */
function weighsByLoad(service: Stored<'Service'>, index: EndpointIndex): boolean {
  const policies = index.policiesByService.get(nameOf(service)) ?? [];
  return policies.some(({ manifest }) => (manifest.spec.loadBalancer?.weights?.source ?? 'Static') !== 'Static');
}

function drainedWithNode(endpoint: Endpoint, { drained }: RegistryReports): Endpoint {
  if (!drained.has(endpoint.node)) return endpoint;
  return { ...endpoint, health: Math.max(endpoint.health, EndpointHealth.DRAINING) };
}

/**
 * Kubernetes may spread one address over slices, by ports or while it moves between them: that is one endpoint. With different numbers for one
 * port they are instances of one host, each of its own.
 */
function unite(siblings: readonly Found[]): Found[] {
  const numbers = new Map<string, number>();
  const isOne = siblings.every(({ endpoint }) =>
    endpoint.ports.every(({ name, port }) => {
      const known = numbers.get(name) ?? port;
      numbers.set(name, known);
      return known === port;
    }),
  );
  if (isOne) return [siblings.reduce(merge)];
  const byPorts = new Map<string, Found>();
  for (const { endpoint, check } of siblings) {
    const host = endpoint.address.includes(':') ? `[${endpoint.address}]` : endpoint.address;
    const id = `${host}:${endpoint.ports.map(({ port }) => port).join(',')}`;
    const earlier = byPorts.get(id);
    const found = { endpoint: { ...endpoint, id }, check };
    byPorts.set(id, earlier === undefined ? found : merge(earlier, found));
  }
  return [...byPorts.values()];
}

/** Ports unite, the better health holds. */
function merge(one: Found, other: Found): Found {
  const [a, b] = [one.endpoint, other.endpoint];
  const names = new Set(a.ports.map((port) => port.name));
  const endpoint = {
    ...a,
    ports: [...a.ports, ...b.ports.filter((port) => !names.has(port.name))],
    health: Math.min(a.health, b.health),
    node: a.node || b.node,
    zone: a.zone || b.zone,
    region: a.region || b.region,
    version: a.version || b.version,
    workload: a.workload || b.workload,
    labels: Object.keys(a.labels).length > 0 ? a.labels : b.labels,
  };
  return { endpoint, check: one.check ?? other.check };
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
  { registry }: Pick<ObjectIndex, 'registry'>,
  running: Running,
  report: ReportProblem,
): Endpoint[] {
  const place = placeOf(workload, running);
  if (place === null) return [];
  const ports = targetPorts(service, workload, report);
  if (ports.length === 0) return [];
  const labels = boundedLabels(workload.manifest.metadata.labels ?? {});
  const node = registry.nodes.get(place.node);
  const isPublishedUnready = service.manifest.spec.publishNotReadyAddresses === true && place.health === EndpointHealth.UNHEALTHY;
  return onePerFamily(place.addresses, familiesOf(service)).map((address) => ({
    service: nameOf(service),
    id: address,
    address,
    ports,
    node: place.node,
    zone: node?.zone ?? '',
    weight: workload.manifest.spec.weight,
    health: isPublishedUnready ? EndpointHealth.READY : place.health,
    workload: nameOf(workload),
    region: node?.region ?? '',
    version: versionOf(labels),
    labels,
    check: undefined,
  }));
}

/** None where the service doesn't take them, which is told. */
function instancesOf(
  service: Stored<'Service'>,
  { registry, namespaces }: Pick<ObjectIndex, 'registry' | 'namespaces'>,
  report: ReportProblem = () => {},
): RegisteredInstance[] {
  const instances = [...(registry.instances.get(nameOf(service))?.values() ?? [])];
  const ofNamespace = namespaces.get(service.namespace)?.manifest.metadata.labels?.[INSTANCES_LABEL];
  if (instances.length === 0 || (service.manifest.metadata.labels?.[INSTANCES_LABEL] ?? ofNamespace) === 'enabled') return instances;
  const nodes = [...new Set(instances.map(({ node }) => node))].slice(0, MAX_NAMED).join(', ');
  const what = `${instances.length} registered themselves on ${nodes} and are not used: label it, or its Namespace, ${INSTANCES_LABEL}: enabled to take them`;
  report('metadata.labels', what, 'RefNotPermitted');
  return [];
}

/** Nodes in a message. */
const MAX_NAMED = 5;

/** A service with one port takes an instance's one port, whatever it is called. */
function foundInstance(
  service: Stored<'Service'>,
  { node, state }: RegisteredInstance,
  { registry }: Pick<ObjectIndex, 'registry'>,
  report: ReportProblem,
): Found[] {
  const declared = tcpPorts(service);
  const ports = declared.flatMap(({ name = '' }) => {
    const found =
      state.ports.find((port) => port.name === name) ?? (declared.length === 1 && state.ports.length === 1 ? state.ports[0] : undefined);
    return found === undefined ? [] : [{ name, port: found.port }];
  });
  if (ports.length === 0) {
    const named = declared.map(({ name = '' }) => name).join(', ');
    report('spec.ports', `instance ${state.id} on node ${node} has none of the ports ${named}: it gets no requests`, 'TargetNotFound');
    return [];
  }
  const labels = boundedLabels(state.labels);
  const address = canonicalAddress(state.address);
  const endpoint = {
    service: nameOf(service),
    id: address,
    address,
    ports,
    node,
    zone: registry.nodes.get(node)?.zone ?? '',
    weight: state.weight || 1,
    health: state.health,
    workload: '',
    region: registry.nodes.get(node)?.region ?? '',
    version: state.version || versionOf(labels),
    labels,
    check: undefined,
  };
  return [{ endpoint, check: state.check ?? null }];
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
  { workloads, nodes, registry }: Pick<ObjectIndex, 'workloads' | 'nodes' | 'registry'>,
): Endpoint[] {
  const ports = manifest.ports.filter((port) => port.protocol === 'TCP').map((port) => ({ name: port.name, port: port.port }));
  if (ports.length === 0 || manifest.addressType === 'FQDN') return [];
  const weight = Number(manifest.metadata.labels?.[WEIGHT_LABEL] ?? 1);
  const common = boundedLabels(endpointLabels(manifest.metadata.annotations));
  return manifest.endpoints.flatMap((endpoint) => {
    // The addresses of one entry are interchangeable and consumers take the first (EndpointSlice API).
    const address = canonicalAddress(endpoint.addresses[0] ?? '');
    const { targetRef, nodeName = '' } = endpoint;
    const pod = targetRef?.kind === 'Pod' ? podOf(targetRef, namespace) : '';
    const workload = workloads.get(pod);
    const labels = workload === undefined ? common : boundedLabels(workload.manifest.metadata.labels ?? {});
    const nodeLabels = nodes.get(nodeName)?.manifest.metadata.labels;
    const live = registry.nodes.get(nodeName);
    return {
      service: nameOf(service),
      id: address,
      address,
      ports,
      node: nodeName,
      zone: endpoint.zone ?? nodeLabels?.[ZONE_LABEL] ?? live?.zone ?? '',
      weight,
      health: healthOf(endpoint.conditions ?? {}),
      workload: workload === undefined ? '' : pod,
      region: labels[REGION_LABEL] ?? nodeLabels?.[REGION_LABEL] ?? live?.region ?? '',
      version: versionOf(labels),
      labels,
      check: undefined,
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
