// The table of kinds: the one list of what this version reads, and of what it knows but doesn't support yet.
import { backendTlsPolicyKind } from './kind-backend-tls-policy.js';
import { configMapKind } from './kind-config-map.js';
import { tcpRouteKind, tlsRouteKind } from './kind-connection-routes.js';
import { endpointSliceKind } from './kind-endpoint-slice.js';
import { gatewayKind } from './kind-gateway.js';
import { gatewayClassKind } from './kind-gateway-class.js';
import { grpcRouteKind } from './kind-grpc-route.js';
import { httpRouteKind } from './kind-http-route.js';
import { namespaceKind } from './kind-namespace.js';
import { nodeKind } from './kind-node.js';
import { referenceGrantKind } from './kind-reference-grant.js';
import { secretKind } from './kind-secret.js';
import { serviceKind } from './kind-service.js';
import { serviceAccountKind } from './kind-service-account.js';
import { trafficPolicyKind } from './kind-traffic-policy.js';
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
  secretKind,
  configMapKind,
  namespaceKind,
  nodeKind,
  serviceAccountKind,
  workloadKind,
  trafficPolicyKind,
] as const;

export type KindDefinition = (typeof KINDS)[number];
export type Kind = KindDefinition['kind'];

/** Named in the design, without behaviour in this version. */
export const LATER_KINDS: readonly string[] = [
  ...['UDPRoute', 'ListenerSet'],
  ...['VirtualService', 'DestinationRule', 'ServiceEntry', 'WorkloadEntry', 'PeerAuthentication', 'RequestAuthentication'],
  ...['AuthorizationPolicy', 'Telemetry', 'Pod', 'Filter'],
];

const BY_KIND: ReadonlyMap<string, KindDefinition> = new Map(KINDS.map((definition) => [definition.kind, definition]));

/** By the exact kind: "HTTPRoute". */
export function kindDefinition(kind: string): KindDefinition | null {
  return BY_KIND.get(kind) ?? null;
}

/** As an operator types it: kind, plural or short name, in any case ("httproute", "HTTPRoutes", "hr"). */
export function findKind(word: string): KindDefinition | null {
  const wanted = word.toLowerCase();
  const isNamed = (definition: KindDefinition): boolean =>
    definition.kind.toLowerCase() === wanted || definition.plural === wanted || definition.shortNames.some((name) => name === wanted);
  return KINDS.find(isNamed) ?? null;
}
