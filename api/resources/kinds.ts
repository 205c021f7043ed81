// The table of kinds: the one list of what this version reads, and of what it knows but doesn't support yet.
import { backendTlsPolicyKind } from './kind-backend-tls-policy.js';
import { backendTrafficPolicyKind } from './kind-backend-traffic-policy.js';
import { configMapKind } from './kind-config-map.js';
import { tcpRouteKind, tlsRouteKind, udpRouteKind } from './kind-connection-routes.js';
import { destinationRuleKind } from './kind-destination-rule.js';
import { endpointSliceKind } from './kind-endpoint-slice.js';
import { filterKind } from './kind-filter.js';
import { gatewayKind } from './kind-gateway.js';
import { gatewayClassKind } from './kind-gateway-class.js';
import { grpcRouteKind } from './kind-grpc-route.js';
import { httpRouteKind } from './kind-http-route.js';
import { istioGatewayKind, sidecarKind } from './kind-istio-gateway.js';
import { authorizationPolicyKind, peerAuthenticationKind, requestAuthenticationKind } from './kind-istio-security.js';
import { listenerSetKind } from './kind-listener-set.js';
import { namespaceKind } from './kind-namespace.js';
import { nodeKind } from './kind-node.js';
import { envoyFilterKind, proxyConfigKind, wasmPluginKind } from './kind-of-envoy.js';
import { referenceGrantKind } from './kind-reference-grant.js';
import { secretKind } from './kind-secret.js';
import { serviceKind } from './kind-service.js';
import { serviceAccountKind } from './kind-service-account.js';
import { serviceEntryKind, workloadEntryKind, workloadGroupKind } from './kind-service-entry.js';
import { telemetryKind } from './kind-telemetry.js';
import { trafficPolicyKind } from './kind-traffic-policy.js';
import { virtualServiceKind } from './kind-virtual-service.js';
import { workloadKind } from './kind-workload.js';

/** In the order in which they are listed to people. */
export const KINDS = [
  serviceKind,
  endpointSliceKind,
  gatewayKind,
  gatewayClassKind,
  httpRouteKind,
  grpcRouteKind,
  tlsRouteKind,
  tcpRouteKind,
  referenceGrantKind,
  backendTlsPolicyKind,
  backendTrafficPolicyKind,
  secretKind,
  configMapKind,
  namespaceKind,
  nodeKind,
  serviceAccountKind,
  workloadKind,
  trafficPolicyKind,
  filterKind,
  udpRouteKind,
  listenerSetKind,
  virtualServiceKind,
  destinationRuleKind,
  istioGatewayKind,
  serviceEntryKind,
  workloadEntryKind,
  workloadGroupKind,
  sidecarKind,
  peerAuthenticationKind,
  requestAuthenticationKind,
  authorizationPolicyKind,
  telemetryKind,
  envoyFilterKind,
  wasmPluginKind,
  proxyConfigKind,
] as const;

export type KindDefinition = (typeof KINDS)[number];
export type Kind = KindDefinition['kind'];

/** Named in the design, without a schema in this version. */
export const LATER_KINDS: readonly string[] = [];

/** Of Kubernetes itself, and usual beside the kinds above: neither checked nor kept, so that whole manifests can be given. */
const FOREIGN: Readonly<Record<string, readonly string[]>> = {
  v1: ['Pod', 'Endpoints', 'PersistentVolume', 'PersistentVolumeClaim', 'LimitRange', 'ResourceQuota', 'Event'],
  'apps/v1': ['Deployment', 'DaemonSet', 'StatefulSet', 'ReplicaSet'],
  'batch/v1': ['Job', 'CronJob'],
  'autoscaling/v1': ['HorizontalPodAutoscaler'],
  'autoscaling/v2': ['HorizontalPodAutoscaler'],
  'policy/v1': ['PodDisruptionBudget'],
  'networking.k8s.io/v1': ['Ingress', 'IngressClass', 'NetworkPolicy'],
  'rbac.authorization.k8s.io/v1': ['Role', 'RoleBinding', 'ClusterRole', 'ClusterRoleBinding'],
  'apiextensions.k8s.io/v1': ['CustomResourceDefinition'],
  'apiextensions.k8s.io/v1beta1': ['CustomResourceDefinition'],
  'admissionregistration.k8s.io/v1': ['MutatingWebhookConfiguration', 'ValidatingWebhookConfiguration'],
};

export function isForeign(apiVersion: unknown, kind: unknown): boolean {
  return (
    typeof apiVersion === 'string' &&
    typeof kind === 'string' &&
    Object.hasOwn(FOREIGN, apiVersion) &&
    FOREIGN[apiVersion]?.includes(kind) === true
  );
}

const BY_KIND: ReadonlyMap<string, KindDefinition> = new Map(KINDS.map((definition) => [definition.kind, definition]));

/** As manifests name it: two owners may use one name. */
export function manifestKind(definition: KindDefinition): string {
  return 'manifestKind' in definition ? definition.manifestKind : definition.kind;
}

/** As an API server has it in its paths. */
export function manifestPlural(definition: KindDefinition): string {
  return 'manifestPlural' in definition ? definition.manifestPlural : definition.plural;
}

/** Every kind that manifests name so. */
export function kindsNamed(kind: string): readonly KindDefinition[] {
  return KINDS.filter((definition) => manifestKind(definition) === kind);
}

/** By the exact kind: "HTTPRoute". */
export function kindDefinition(kind: string): KindDefinition | null {
  return BY_KIND.get(kind) ?? null;
}

/** As an operator types it: kind, plural or short name, in any case ("httproute", "HTTPRoutes", "hr"), or with its group ("gateways.networking.istio.io"). */
export function findKind(word: string): KindDefinition | null {
  const wanted = word.toLowerCase();
  const isNamed = (definition: KindDefinition): boolean =>
    definition.kind.toLowerCase() === wanted ||
    definition.plural === wanted ||
    definition.shortNames.some((name: string) => name === wanted) ||
    `${manifestPlural(definition)}.${definition.apiVersion.split('/')[0]}` === wanted;
  return KINDS.find(isNamed) ?? null;
}
