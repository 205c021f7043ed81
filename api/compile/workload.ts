// Workload → Workload of the model, and where it runs. One workload at a time.
import { EgressPolicy, EndpointHealth, type Workload } from '../gen/mesh/v1/model.js';
import { CAPTURE_LABEL, DNS_LABEL } from '../resources/capture-label.js';
import { ROOT_NAMESPACE } from '../resources/index.js';
import { canonicalAddress } from './address.js';
import { nameOf, type ObjectIndex, type Running, type Stored } from './input.js';
import { isStrict } from './peer-authentication.js';
import { compareText } from './route-order.js';

export interface Place {
  readonly node: string;
  /** Canonical text, in the order reported. */
  readonly addresses: readonly string[];
  readonly health: EndpointHealth;
}

/** Null while it doesn't run. A report of another node than `spec.node` counts for nothing, nor one where it names none: a node speaks for its own workloads alone. */
export function placeOf(workload: Stored<'Workload'>, running: Running): Place | null {
  const { node, addresses } = workload.manifest.spec;
  const least = workload.manifest.spec.draining ? EndpointHealth.DRAINING : EndpointHealth.READY;
  if (running === null) return { node: node ?? '', addresses: addresses.map(canonicalAddress), health: least };
  const report = running.get(nameOf(workload));
  if (report === undefined || node !== report.node) return null;
  return { node: report.node, addresses: report.state.addresses.map(canonicalAddress), health: Math.max(report.state.health, least) };
}

/** Present whether it runs or not: its node needs it to capture it. */
export function compileWorkload(
  workload: Stored<'Workload'>,
  running: Running,
  index: Pick<ObjectIndex, 'namespaces' | 'peerAuthentications' | 'sidecars'>,
): Workload {
  const { metadata, spec } = workload.manifest;
  const place = placeOf(workload, running);
  const namespace = index.namespaces.get(workload.namespace)?.manifest.metadata;
  // Who applies a Workload means it; every pod of a cluster is one.
  const unlabelled = spec.podUID === undefined ? 'enabled' : 'disabled';
  const isOptedOut = (metadata.labels?.[CAPTURE_LABEL] ?? namespace?.labels?.[CAPTURE_LABEL] ?? unlabelled) === 'disabled';
  const dnsLabel = metadata.labels?.[DNS_LABEL] ?? namespace?.labels?.[DNS_LABEL];
  const isDnsCaptured = dnsLabel === undefined ? spec.capture.dns : dnsLabel === 'enabled';
  return {
    namespace: workload.namespace,
    name: workload.name,
    node: spec.node ?? place?.node ?? '',
    addresses: [...(place?.addresses ?? spec.addresses.map(canonicalAddress))],
    labels: Object.fromEntries(Object.entries(metadata.labels ?? {}).sort(([a], [b]) => compareText(a, b))),
    serviceAccount: spec.serviceAccount,
    networkNamespace: spec.networkNamespace ?? '',
    systemdUnit: spec.systemdUnit ?? '',
    cgroup: spec.cgroup ?? '',
    podUid: spec.podUID ?? '',
    addressesFound: spec.addresses.length === 0,
    capture: {
      outbound: spec.capture.outbound && !isOptedOut,
      inbound: spec.capture.inbound && !isOptedOut,
      failClosed: spec.capture.failClosed || isStrict(workload, index),
      dns: isDnsCaptured && !isOptedOut,
      excludeOutboundPorts: spec.capture.excludeOutboundPorts,
      excludeInboundPorts: spec.capture.excludeInboundPorts,
      excludeOutboundCidrs: spec.capture.excludeOutboundCIDRs,
      includeOutboundCidrs: spec.capture.includeOutboundCIDRs,
      excludeInboundCidrs: spec.capture.excludeInboundCIDRs,
      includeInboundCidrs: spec.capture.includeInboundCIDRs,
    },
    ports: spec.ports.map(({ name, port }) => ({ name, port })),
    weight: spec.weight,
    egress: egressOf(workload, index),
  };
}

/** Of the Sidecar that selects it, else its namespace's, else the mesh's (of Istio's root namespace); of several the oldest. */
function egressOf({ namespace, manifest }: Stored<'Workload'>, { sidecars }: Pick<ObjectIndex, 'sidecars'>): EgressPolicy {
  const said = sidecars.filter(({ manifest: { spec } }) => spec.outboundTrafficPolicy !== undefined);
  const labelsOf = ({ manifest: { spec } }: Stored<'Sidecar'>): [string, string][] => Object.entries(spec.workloadSelector?.labels ?? {});
  const isWhole = (sidecar: Stored<'Sidecar'>, of: string): boolean => sidecar.namespace === of && labelsOf(sidecar).length === 0;
  const selecting = said.find(
    (sidecar) =>
      sidecar.namespace === namespace &&
      labelsOf(sidecar).length > 0 &&
      labelsOf(sidecar).every(([name, value]) => manifest.metadata.labels?.[name] === value),
  );
  const found = selecting ?? said.find((each) => isWhole(each, namespace)) ?? said.find((each) => isWhole(each, ROOT_NAMESPACE));
  // Istio's default where a policy says no mode.
  const mode = found === undefined ? 'ALLOW_ANY' : (found.manifest.spec.outboundTrafficPolicy?.mode ?? 'REGISTRY_ONLY');
  return EgressPolicy[mode];
}
