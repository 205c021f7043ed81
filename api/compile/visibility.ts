// Who may see what: exports of services and VirtualServices, what Sidecars ask for, where gateways run. Reads it off the objects; what a node is told for it is the
// controller's to say. It narrows what is distributed and forbids nothing.
import { EXPORT_TO, exportedTo, gatewayNodes, type LabelSelector, ROOT_NAMESPACE, seenFrom, selects } from '../resources/index.js';
import { nameOf, type ObjectIndex, type Stored } from './input.js';
import { istioGatewayName } from './istio-gateway.js';

export interface Visibility {
  /** By "<namespace>/<name>" the namespaces that see the service; none: nobody. One that is not in it is seen by all. */
  readonly exports: ReadonlyMap<string, readonly string[]>;
  readonly sidecars: readonly EgressScope[];
  /** By "<namespace>/<name>". A gateway that is not in it runs on every node. */
  readonly gateways: ReadonlyMap<string, LabelSelector>;
  /** By name: their labels, of those that have a Node object. */
  readonly nodeLabels: ReadonlyMap<string, Readonly<Record<string, string>>>;
}

/** What the workloads that a Sidecar is for ask to be told of. */
export interface EgressScope {
  /** "<namespace>/<name>" of the Sidecar. */
  readonly name: string;
  readonly namespace: string;
  /** Of which it is for those with these labels; null: for all that no other is for. */
  readonly selector: Readonly<Record<string, string>> | null;
  /** For the namespaces without one of their own, too. */
  readonly isOfMesh: boolean;
  readonly hosts: readonly EgressHost[];
}

export interface EgressHost {
  /** Of services; "*": any; ".": the workload's own. */
  readonly namespace: string;
  /** "*", "*.suffix", or a service's whole name. */
  readonly host: string;
}

/** Null: nothing is narrowed, all nodes are told everything. */
export function compileVisibility(
  index: Pick<ObjectIndex, 'services' | 'namespaces' | 'nodes' | 'gateways' | 'istioGateways' | 'sidecars' | 'virtualServices'>,
): Visibility | null {
  const exports = new Map<string, readonly string[]>();
  for (const [name, service] of index.services) {
    const seenBy = exportsOf(service, index);
    if (seenBy !== null) exports.set(name, seenBy);
  }
  const gateways = new Map<string, LabelSelector>();
  for (const [name, { manifest }] of index.gateways) {
    const nodes = gatewayNodes(manifest.metadata.annotations);
    if (nodes !== null) gateways.set(name, nodes);
  }
  for (const gateway of index.istioGateways.values()) {
    const nodes = nodesOfIstioGateway(gateway, index.nodes);
    if (nodes !== null) gateways.set(istioGatewayName(gateway), nodes);
  }
  const sidecars = index.sidecars.flatMap(egressOf);
  // For whom one is stands in its routes.
  const isNarrowed = [...index.virtualServices.values()].some(
    ({ namespace, manifest: { spec } }) => seenFrom(spec.exportTo ?? [], namespace) !== null,
  );
  if (exports.size + gateways.size + sidecars.length === 0 && !isNarrowed) return null;
  const nodeLabels = new Map([...index.nodes].map(([name, { manifest }]) => [name, manifest.metadata.labels ?? {}]));
  return { exports, sidecars, gateways, nodeLabels };
}

/** Namespaces; null: all. */
export function exportsOf(
  { namespace, manifest }: Stored<'Service'>,
  { namespaces }: Pick<ObjectIndex, 'namespaces'>,
): readonly string[] | null {
  const own = manifest.metadata.annotations?.[EXPORT_TO];
  return exportedTo(own ?? namespaces.get(namespace)?.manifest.metadata.annotations?.[EXPORT_TO], namespace);
}

/** `gateway`: "<namespace>/<name>". Every node has its name as a label, as Kubernetes gives it. */
export function runsOn({ gateways, nodeLabels }: Pick<Visibility, 'gateways' | 'nodeLabels'>, gateway: string, node: string): boolean {
  const selector = gateways.get(gateway);
  return selector === undefined || selects(selector, { 'kubernetes.io/hostname': node, ...nodeLabels.get(node) });
}

/**
 * Its selector names labels of nodes here: proxies are the nodes'. Where no node has them (Istio's own are of pods that it brings) it runs on every
 * node, as a Gateway of the Gateway API does that says nothing.
 */
function nodesOfIstioGateway(
  { manifest: { metadata, spec } }: Stored<'IstioGateway'>,
  nodes: ReadonlyMap<string, Stored<'Node'>>,
): LabelSelector | null {
  const asked = gatewayNodes(metadata.annotations);
  if (asked !== null || spec.selector === undefined) return asked;
  const selector = { matchLabels: spec.selector };
  return [...nodes.values()].some((node) => selects(selector, node.manifest.metadata.labels ?? {})) ? selector : null;
}

/** One without egress says nothing of it: what the namespace or the mesh has holds (Istio). */
function egressOf(sidecar: Stored<'Sidecar'>): EgressScope[] {
  const { egress, workloadSelector } = sidecar.manifest.spec;
  if (egress === undefined || egress.length === 0) return [];
  const labels = Object.entries(workloadSelector?.labels ?? {});
  const selector = labels.length === 0 ? null : Object.fromEntries(labels);
  return [
    {
      name: nameOf(sidecar),
      namespace: sidecar.namespace,
      selector,
      isOfMesh: selector === null && sidecar.namespace === ROOT_NAMESPACE,
      // A port narrows a listener; whoever asks for a service on one port is told of the service.
      hosts: egress.flatMap(({ hosts }) => hosts.map(egressHost)),
    },
  ];
}

/** "<namespace>/<host>"; the namespace "~" is nobody's. */
function egressHost(text: string): EgressHost {
  const slash = text.indexOf('/');
  return { namespace: text.slice(0, slash), host: text.slice(slash + 1).toLowerCase() };
}
