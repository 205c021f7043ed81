// ServiceEntry and WorkloadEntry → what a Service and its EndpointSlices would say of the same hosts: from there on they are compiled like any
// other. A host is a Service called like the host, which no real one is (those have no dot). Owner of the semantics: Istio API. Pure.
import { isIP, isIPv6 } from 'node:net';
import {
  ENDPOINT_LABELS,
  EXPORT_TO,
  isLabelValue,
  MAX_WEIGHT,
  protocolNamed,
  REGION_LABEL,
  SERVICE_NAME_LABEL,
  type StoredObject,
  selects,
  WEIGHT_LABEL,
} from '../resources/index.js';
import { nameOf, oldestFirst, type Stored } from './input.js';
import type { Problem, ReportProblem } from './problem.js';

type Entry = Stored<'ServiceEntry'>;
type WorkloadEntry = Stored<'WorkloadEntry'>;
type Service = Stored<'Service'>;
type Slice = Stored<'EndpointSlice'>;
type Template = NonNullable<Entry['manifest']['spec']['endpoints']>[number];

/** What a name of the DNS stands for. The same object while it stays the same. */
export interface ResolvedName {
  /** Those of the last good answer. */
  readonly addresses: readonly string[];
  /** Why the last try failed; empty: it did not. */
  readonly error: string;
}

/** By resolvableName(); a name that is not in it was not asked for yet. */
export type ResolvedNames = ReadonlyMap<string, ResolvedName>;

/** The entry behind a Service that nobody declared. */
export interface EntryHost {
  readonly entry: Entry;
  readonly host: string;
}

export interface OutsideServices {
  /** Services and EndpointSlices; the same ones again while what they are made of is the same. */
  readonly objects: readonly StoredObject[];
  /** By "<namespace>/<host>". */
  readonly hosts: ReadonlyMap<string, EntryHost>;
  readonly problems: readonly Problem[];
}

const NOTHING: OutsideServices = { objects: [], hosts: new Map(), problems: [] };

export function outsideServices(objects: readonly StoredObject[], resolved: ResolvedNames): OutsideServices {
  const entries = oldestFirst(objects.filter((object): object is Entry => object.kind === 'ServiceEntry'));
  const workloads = oldestFirst(objects.filter((object): object is WorkloadEntry => object.kind === 'WorkloadEntry'));
  if (entries.length + workloads.length === 0) return NOTHING;
  const services = new Map(objects.flatMap((object) => (object.kind === 'Service' ? [[nameOf(object), object] as const] : [])));
  const problems: Problem[] = [];
  const made: StoredObject[] = [];
  const hosts = new Map<string, EntryHost>();
  for (const entry of entries) {
    const report = reporterOf(entry, problems);
    reportFaults(entry, report);
    for (const [position, host] of entry.manifest.spec.hosts.entries()) {
      const name = `${entry.namespace}/${resolvableName(host)}`;
      const fault = hostFault(host, services, hosts.get(name)?.entry);
      if (fault !== null) {
        report(`spec.hosts[${position}]`, ...fault);
        continue;
      }
      hosts.set(name, { entry, host: resolvableName(host) });
      made.push(...objectsOf(entry, position, workloads, resolved, report));
    }
  }
  for (const workload of workloads)
    for (const service of services.values())
      if (isSelected(workload, service.namespace, service.manifest.spec.selector)) made.push(...sliceOf(workload, service, problems));
  return { objects: made, hosts, problems };
}

/** All names that somebody has to resolve. */
export function namesToResolve(objects: readonly StoredObject[]): Set<string> {
  const names = new Set<string>();
  const entries = objects.filter((object): object is Entry => object.kind === 'ServiceEntry');
  if (entries.length === 0) return names;
  const workloads = objects.filter((object): object is WorkloadEntry => object.kind === 'WorkloadEntry');
  for (const entry of entries) {
    if (!isByDns(entry)) continue;
    entry.manifest.spec.hosts.forEach((host) => {
      for (const { template } of templatesOf(entry, host, selectedBy(entry, workloads)))
        if (isName(template.address)) names.add(resolvableName(template.address ?? ''));
    });
  }
  return names;
}

/** In the one form in which names are looked up. */
export function resolvableName(name: string): string {
  return name.toLowerCase().replace(/\.$/, '');
}

function reporterOf({ kind, namespace, name }: StoredObject, problems: Problem[]): ReportProblem {
  return (path, message, reason) => void problems.push({ kind, namespace, name, path, message, reason });
}

function hostFault(
  host: string,
  services: ReadonlyMap<string, Service>,
  earlier: Entry | undefined,
): [string, 'Conflicted' | 'UnsupportedValue'] | null {
  if (!host.includes('.'))
    return ['a host without a dot is taken for the name of a Service: it has no effect; name it in full', 'UnsupportedValue'];
  if (earlier !== undefined) return [`ServiceEntry ${nameOf(earlier)} is older and has this host: this one has no effect`, 'Conflicted'];
  const [, name, namespace] = /^([^.]+)\.([^.]+)\.svc(?:\.cluster\.local)?$/.exec(resolvableName(host)) ?? [];
  if (name === undefined || !services.has(`${namespace}/${name}`)) return null;
  return [`the name of Service ${namespace}/${name}: the Service holds, the entry has no effect for it`, 'Conflicted'];
}

interface Made {
  readonly inputs: readonly unknown[];
  readonly objects: readonly StoredObject[];
  readonly problems: readonly Parameters<ReportProblem>[];
}

/** What was made of an entry's hosts, by position: whoever remembers what it compiled goes by the identity of the objects. */
const known = new WeakMap<Entry, Map<number, Made>>();

function objectsOf(
  entry: Entry,
  position: number,
  workloads: readonly WorkloadEntry[],
  resolved: ResolvedNames,
  report: ReportProblem,
): readonly StoredObject[] {
  const host = resolvableName(entry.manifest.spec.hosts[position] ?? '');
  const templates = templatesOf(entry, host, selectedBy(entry, workloads));
  const inputs = templates.flatMap(({ template }) => [template, resolved.get(resolvableName(template.address ?? ''))]);
  const ofEntry = known.get(entry) ?? new Map<number, Made>();
  known.set(entry, ofEntry);
  let made = ofEntry.get(position);
  if (made === undefined || made.inputs.length !== inputs.length || made.inputs.some((each, at) => each !== inputs[at])) {
    const problems: Parameters<ReportProblem>[] = [];
    const toReport: ReportProblem = (...problem) => void problems.push(problem);
    const service = serviceOf(entry, host);
    const slices = templates.flatMap((found, index) => slicesOf(entry, host, found, index, resolved, toReport));
    made = { inputs, objects: [service, ...slices], problems };
    ofEntry.set(position, made);
  }
  for (const problem of made.problems) report(...problem);
  return made.objects;
}

interface Found {
  readonly template: Template;
  /** Where it stands in the entry. */
  readonly path: string;
}

/** What stands behind a host, before names are resolved. */
function templatesOf(entry: Entry, host: string, selected: readonly WorkloadEntry[]): Found[] {
  const { spec } = entry.manifest;
  if (spec.workloadSelector !== undefined)
    return selected.map((workload) => ({
      template: workload.manifest.spec,
      path: 'spec.workloadSelector',
    }));
  if (spec.endpoints !== undefined && spec.endpoints.length > 0)
    return spec.endpoints.map((template, index) => ({ template, path: `spec.endpoints[${index}]` }));
  if (isByDns(entry))
    return [{ template: templateOf(entry, host), path: `spec.hosts[${spec.hosts.findIndex((each) => resolvableName(each) === host)}]` }];
  // Where requests were sent is where they go: nothing is chosen, so the addresses are endpoints and not one address in front of several.
  if (isPassedOn(entry)) return exactAddresses(entry).map((address) => ({ template: templateOf(entry, address), path: 'spec.addresses' }));
  return [];
}

/** One of an address alone; the same object for the same entry. */
const templates = new WeakMap<Entry, Map<string, Template>>();
function templateOf(entry: Entry, address: string): Template {
  const ofEntry = templates.get(entry) ?? new Map<string, Template>();
  templates.set(entry, ofEntry);
  const template = ofEntry.get(address) ?? { address };
  ofEntry.set(address, template);
  return template;
}

function selectedBy({ namespace, manifest }: Entry, workloads: readonly WorkloadEntry[]): WorkloadEntry[] {
  return workloads.filter((workload) => isSelected(workload, namespace, manifest.spec.workloadSelector?.labels));
}

function isByDns({ manifest }: Entry): boolean {
  return manifest.spec.resolution === 'DNS' || manifest.spec.resolution === 'DNS_ROUND_ROBIN';
}

function isPassedOn({ manifest }: Entry): boolean {
  return manifest.spec.resolution === undefined || manifest.spec.resolution === 'NONE';
}

function exactAddresses({ manifest }: Entry): string[] {
  return (manifest.spec.addresses ?? []).filter((address) => isIP(address) !== 0);
}

function isName(address: string | undefined): boolean {
  return address !== undefined && address !== '' && isIP(address) === 0 && !address.startsWith('unix://') && !address.includes('*');
}

/** Of the entry as a whole, whatever its hosts. */
function reportFaults({ manifest }: Entry, report: ReportProblem): void {
  const { addresses, resolution } = manifest.spec;
  for (const [index, address] of (addresses ?? []).entries())
    if (isIP(address) === 0)
      report(`spec.addresses[${index}]`, 'ranges of addresses are not supported yet: it has no effect', 'UnsupportedValue');
  if (resolution === 'DYNAMIC_DNS')
    report('spec.resolution', 'DYNAMIC_DNS is not supported: the hosts have no endpoints', 'UnsupportedValue');
}

/** UDP passes the mesh by. */
function tcpPortsOf({ manifest }: Entry) {
  return (manifest.spec.ports ?? []).filter(({ protocol }) => protocol?.toUpperCase() !== 'UDP');
}

function serviceOf(entry: Entry, host: string): Service {
  const { namespace, createdAtMs, manifest } = entry;
  const { workloadSelector, exportTo } = manifest.spec;
  const addresses = isPassedOn(entry) ? [] : exactAddresses(entry);
  const annotations = exportTo === undefined || exportTo.length === 0 ? {} : { [EXPORT_TO]: exportTo.join(',') };
  const spec: Service['manifest']['spec'] = {
    type: 'ClusterIP',
    ...(addresses.length === 0 ? { clusterIP: 'None' as const } : { clusterIPs: addresses }),
    selector: workloadSelector?.labels,
    ports: tcpPortsOf(entry).map((port) => {
      const appProtocol = protocolNamed(port.protocol ?? '') === undefined ? undefined : port.protocol?.toLowerCase();
      return { name: port.name, protocol: 'TCP', port: port.number, targetPort: port.targetPort, appProtocol };
    }),
  };
  return {
    apiVersion: 'v1',
    kind: 'Service',
    namespace,
    name: host,
    createdAtMs,
    source: entry.source,
    manifest: { apiVersion: 'v1', kind: 'Service', metadata: { name: host, namespace, annotations }, spec },
  };
}

/** One of each family. */
function slicesOf(
  entry: Entry,
  host: string,
  { template, path }: Found,
  index: number,
  resolved: ResolvedNames,
  report: ReportProblem,
): Slice[] {
  const addresses = addressesOf(entry, template, path, resolved, report);
  const ports = tcpPortsOf(entry).map((port) => ({
    name: port.name,
    port: template.ports?.[port.name] ?? port.targetPort ?? port.number,
  }));
  return [false, true].flatMap((isV6) => {
    const ofFamily = addresses.filter((address) => isIPv6(address) === isV6);
    const name = `${host}-${index}-${isV6 ? 'v6' : 'v4'}`;
    return ofFamily.length === 0 ? [] : [slice(entry, host, name, ofFamily, template, ports)];
  });
}

function addressesOf(
  entry: Entry,
  { address = '' }: Template,
  path: string,
  resolved: ResolvedNames,
  report: ReportProblem,
): readonly string[] {
  if (isIP(address) !== 0) return [address];
  if (!isName(address)) {
    report(path, 'sockets, gateways of other networks and wildcards are not supported as endpoints: it is left out', 'UnsupportedValue');
    return [];
  }
  if (!isByDns(entry)) {
    report(path, `a name is resolved with resolution DNS alone: ${address} is left out`, 'UnsupportedValue');
    return [];
  }
  const found = resolved.get(resolvableName(address));
  if (found === undefined) return [];
  const kept = found.addresses.length === 0 ? 'it has no endpoints' : 'what it was last stays';
  if (found.error !== '') report(path, `${address} can't be resolved (${found.error}): ${kept}`, 'TargetNotFound');
  return found.addresses;
}

type SlicePorts = readonly { readonly name: string; readonly port: number }[];

function slice(
  { namespace, createdAtMs, source }: StoredObject,
  service: string,
  name: string,
  addresses: readonly string[],
  { weight, locality, labels: own }: Template,
  ports: SlicePorts,
): Slice {
  const [region = '', zone] = locality?.split('/') ?? [];
  const labels = {
    [SERVICE_NAME_LABEL]: service,
    [WEIGHT_LABEL]: String(Math.min(MAX_WEIGHT, Math.max(1, weight ?? 1))),
  };
  const placed = isLabelValue(region) && region !== '' ? { [REGION_LABEL]: region } : {};
  const pairs = Object.entries({ ...placed, ...own }).map(([key, value]) => `${key}=${value}`);
  const annotations = pairs.length === 0 ? {} : { [ENDPOINT_LABELS]: pairs.join(',') };
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    namespace,
    name,
    createdAtMs,
    source,
    manifest: {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name, namespace, labels, annotations },
      addressType: isIPv6(addresses[0] ?? '') ? 'IPv6' : 'IPv4',
      ports: ports.map((port) => ({ ...port, protocol: 'TCP' as const })),
      endpoints: addresses.map((address) => ({ addresses: [address], ...(zone === undefined ? {} : { zone }) })),
    },
  };
}

/** Of a Service or a ServiceEntry: without labels it selects nothing. */
function isSelected(workload: WorkloadEntry, namespace: string, matchLabels: Readonly<Record<string, string>> = {}): boolean {
  if (workload.namespace !== namespace || Object.keys(matchLabels).length === 0) return false;
  return selects({ matchLabels }, workload.manifest.spec.labels ?? {});
}

const knownSlices = new WeakMap<WorkloadEntry, WeakMap<Service, readonly Slice[]>>();

/** Of a WorkloadEntry that a Service selects, as it selects Workloads. */
function sliceOf(workload: WorkloadEntry, service: Service, problems: Problem[]): readonly Slice[] {
  const { address = '', ports: own } = workload.manifest.spec;
  if (isIP(address) === 0) {
    const message = `Service ${nameOf(service)} selects it, and takes addresses alone: it is left out there`;
    reporterOf(workload, problems)('spec.address', message, 'UnsupportedValue');
    return [];
  }
  const ofWorkload = knownSlices.get(workload) ?? new WeakMap<Service, readonly Slice[]>();
  knownSlices.set(workload, ofWorkload);
  let slices = ofWorkload.get(service);
  if (slices === undefined) {
    const ports = (service.manifest.spec.ports ?? []).flatMap(({ name = '', port, targetPort = port }) => {
      const number = own?.[name] ?? (typeof targetPort === 'number' ? targetPort : own?.[targetPort]);
      return number === undefined ? [] : [{ name, port: number }];
    });
    slices = [slice(workload, service.name, `${service.name}-${workload.name}`, [address], workload.manifest.spec, ports)];
    ofWorkload.set(service, slices);
  }
  return slices;
}
