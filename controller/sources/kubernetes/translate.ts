// Objects of Kubernetes' own kinds → the manifests that `weft apply` would take. Pure. Picks what Weft reads and leaves the rest: the API server has
// validated it, and a field that is another's business (a Service's node ports, a Pod's volumes) is no reason to leave the object out.
import { protocolNamed, SERVICE_NAME_LABEL } from '../../../api/resources/index.js';
import { TRAFFIC_DISTRIBUTIONS } from '../../../api/resources/kind-service.js';
import { isUnchecked, textOf, type Unchecked } from '../../../api/resources/schema.js';
import { itemsOf, type KubernetesObject, textsOf } from './object.js';

/** `spec` and what stands beside it; null: of no use to the mesh. */
export type Translated = Readonly<Record<string, unknown>> | null;

/** Fields that are undefined are left out. */
function only(fields: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

function specOf({ body }: KubernetesObject): Unchecked {
  return isUnchecked(body.spec) ? body.spec : {};
}

const TYPES = ['ClusterIP', 'NodePort', 'LoadBalancer'];

/** An ExternalName has neither addresses nor endpoints. */
export function translateService(object: KubernetesObject): Translated {
  const spec = specOf(object);
  const type = textOf(spec, 'type') ?? 'ClusterIP';
  if (!TYPES.includes(type)) return null;
  const selector = textsOf(spec.selector);
  const { clusterIP, clusterIPs, ipFamilies, publishNotReadyAddresses, sessionAffinity, trafficDistribution } = spec;
  return {
    spec: only({
      type,
      clusterIP,
      clusterIPs,
      ipFamilies,
      publishNotReadyAddresses,
      // A name that a newer Kubernetes gives it says nothing here.
      sessionAffinity: sessionAffinity === 'ClientIP' ? sessionAffinity : undefined,
      trafficDistribution: TRAFFIC_DISTRIBUTIONS.find((known) => known === trafficDistribution),
      selector: Object.keys(selector).length === 0 ? undefined : selector,
      ports: itemsOf(spec.ports).map(({ name, protocol, port, targetPort, appProtocol }) =>
        only({
          name: name === '' ? undefined : name,
          protocol,
          port,
          targetPort: targetPort === 0 || targetPort === '' ? undefined : targetPort,
          // One that Weft doesn't know says nothing; the port's name may.
          appProtocol: typeof appProtocol === 'string' && protocolNamed(appProtocol) !== undefined ? appProtocol : undefined,
        }),
      ),
    }),
  };
}

/** discovery.k8s.io/v1, and v1beta1, where node and zone stand in `topology`. */
export function translateEndpointSlice({ metadata, body }: KubernetesObject): Translated {
  const { addressType } = body;
  if ((addressType !== 'IPv4' && addressType !== 'IPv6') || metadata.labels[SERVICE_NAME_LABEL] === undefined) return null;
  return {
    addressType,
    // No port at all, or one without a number, stands for every port: there is none to name.
    ports: itemsOf(body.ports)
      .filter(({ port }) => typeof port === 'number')
      .map(({ name, protocol, port }) => only({ name: name ?? '', protocol: protocol ?? 'TCP', port })),
    endpoints: itemsOf(body.endpoints)
      .filter(({ addresses }) => Array.isArray(addresses) && addresses.length > 0)
      .map(translateEndpoint),
  };
}

function translateEndpoint(endpoint: Unchecked): Record<string, unknown> {
  const topology = textsOf(endpoint.topology);
  const conditions = isUnchecked(endpoint.conditions) ? endpoint.conditions : {};
  const told = Object.entries(conditions).filter(
    ([name, value]) => ['ready', 'serving', 'terminating'].includes(name) && typeof value === 'boolean',
  );
  const target = isUnchecked(endpoint.targetRef) ? endpoint.targetRef : {};
  return only({
    addresses: endpoint.addresses,
    conditions: told.length === 0 ? undefined : Object.fromEntries(told),
    nodeName: textOf(endpoint, 'nodeName') ?? topology['kubernetes.io/hostname'],
    zone: textOf(endpoint, 'zone') ?? topology['topology.kubernetes.io/zone'],
    targetRef: target.kind === 'Pod' ? only({ kind: 'Pod', namespace: target.namespace, name: target.name }) : undefined,
  });
}

const MAX_PORTS = 100;
/** Annotation of a Pod: `spec.capture` of a Workload, as JSON. */
const CAPTURE_OPTIONS = 'mesh.weft.dev/capture-options';

/** To a Workload, found on its node by the pod's UID. Null: not on a node (yet, any more), or in the node's own network namespace. */
export function translatePod(object: KubernetesObject): Translated {
  const spec = specOf(object);
  const status = isUnchecked(object.body.status) ? object.body.status : {};
  const node = textOf(spec, 'nodeName') ?? '';
  const phase = textOf(status, 'phase');
  if (node === '' || spec.hostNetwork === true || phase === 'Succeeded' || phase === 'Failed') return null;
  const annotations = isUnchecked(object.body.metadata) ? textsOf(object.body.metadata.annotations) : {};
  const podIPs = itemsOf(status.podIPs).map(({ ip }) => ip);
  const addresses = podIPs.length > 0 ? podIPs : [status.podIP];
  return {
    spec: only({
      node,
      podUID: podUid(annotations, object),
      addresses: addresses.filter((address) => typeof address === 'string' && address !== ''),
      serviceAccount: textOf(spec, 'serviceAccountName') || undefined,
      ports: podPorts(spec),
      capture: captureOf(annotations),
    }),
  };
}

/** As its node's cgroups have it: of a pod from a file of kubelet's that is a hash, and what the API server has is its mirror. */
function podUid(annotations: Readonly<Record<string, string>>, { metadata }: KubernetesObject): string {
  return annotations['kubernetes.io/config.mirror'] ?? metadata.uid;
}

/** What can't be read is kept as it is, for the mistake to be told. */
function captureOf({ [CAPTURE_OPTIONS]: text }: Readonly<Record<string, string>>): unknown {
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

/** The named ones: they are asked for by name alone. Two containers may use one name; the first is Kubernetes' choice too. */
function podPorts(spec: Unchecked): unknown[] {
  const byName = new Map<string, unknown>();
  // A restartable init container (a sidecar) has ports too.
  for (const container of [...itemsOf(spec.containers), ...itemsOf(spec.initContainers)]) {
    for (const { name, containerPort, protocol } of itemsOf(container.ports)) {
      const isTcp = protocol === undefined || protocol === 'TCP';
      if (isTcp && typeof name === 'string' && name !== '' && !byName.has(name)) byName.set(name, { name, port: containerPort });
    }
  }
  return [...byName.values()].slice(0, MAX_PORTS);
}

/** Its labels alone. */
export function translateLabels(): Translated {
  return {};
}

/** A kind whose owner's schema Weft has: all of it, so that what can't be served is told to who wrote it. */
export function translateSpec({ body }: KubernetesObject): Translated {
  const { apiVersion: _version, kind: _kind, metadata: _metadata, status: _status, ...rest } = body;
  return rest;
}

/** Only what was asked for of it: everything else of a Secret stays where it is. */
export function translateSecret({ body }: KubernetesObject): Translated {
  return only({ type: body.type, data: body.data });
}

export function translateConfigMap({ body }: KubernetesObject): Translated {
  return only({ data: body.data });
}
