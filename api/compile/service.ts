// Service (with its TrafficPolicies, DestinationRules and BackendTLSPolicy) → Service of the model. One service at a time.
import { Outside, Protocol, ProxyProtocol, type Service, type ServicePort } from '../gen/mesh/v1/model.js';
import { protocolNamed } from '../resources/index.js';
import { canonicalAddress } from './address.js';
import { compileBackendTls, hasTlsOfRules } from './backend-tls.js';
import { compileClusterPolicies, compileConsumers, type PolicyIndex } from './cluster-policies.js';
import { policyOfAll, rulesInForce } from './destination-rules.js';
import { healthCheckOf } from './health-check.js';
import { nameOf, type ObjectIndex, type Stored } from './input.js';
import { rulesOf } from './istio-hosts.js';
import { policyOfNamespace, type RateLimitIndex, rateLimitsOfService } from './rate-limits.js';
import { type DeclaredPort, tcpPorts } from './service-ports.js';

/** The cluster domain: Kubernetes' default, the same on bare metal. */
const CLUSTER_DOMAIN = 'cluster.local';

type ServiceIndex = PolicyIndex & RateLimitIndex & Pick<ObjectIndex, 'filterTargets'>;

export function compileService(service: Stored<'Service'>, index: ServiceIndex): Service {
  const { namespace, name } = service;
  const policies = index.policiesByService.get(nameOf(service)) ?? [];
  const qualified = `${name}.${namespace}`;
  return {
    namespace,
    name,
    hostnames: index.entryHosts.has(nameOf(service)) ? [name] : [name, qualified, `${qualified}.svc`, `${qualified}.svc.${CLUSTER_DOMAIN}`],
    addresses: virtualAddresses(service),
    ports: tcpPorts(service).map(
      (port): ServicePort => ({
        name: port.name ?? '',
        port: port.port,
        protocol: protocolOf(port),
        tls: compileBackendTls(service, port, index),
      }),
    ),
    proxyProtocol: proxyProtocolOf(policies, rulesInForce(service, null, index)),
    healthCheck: healthCheckOf(service, index),
    outside: outsideOf(service, index),
    policies: compileClusterPolicies(service, null, index),
    consumers: compileConsumers(service, index),
    rateLimits: rateLimitsOfService(namespace, name, index),
    filters: index.filterTargets.of('Service', nameOf(service)),
  };
}

/** What the mesh names itself it knows by address. */
function outsideOf(service: Stored<'Service'>, { entryHosts }: Pick<ObjectIndex, 'entryHosts'>): Outside {
  const entry = entryHosts.get(nameOf(service))?.entry.manifest.spec;
  if (entry === undefined || entry.location === 'MESH_INTERNAL') return Outside.WITHIN;
  return (entry.resolution ?? 'NONE') === 'NONE' ? Outside.AS_SENT : Outside.BY_NAME;
}

/** As inputsOfEndpoints(). null: there is TLS to its endpoints, and that is made of too many things. */
export function inputsOfService(service: Stored<'Service'>, index: ServiceIndex): unknown[] | null {
  if (index.backendTlsByService.has(nameOf(service)) || index.filterTargets.of('Service', nameOf(service)).length > 0) return null;
  if (hasTlsOfRules(service, index)) return null;
  const name = nameOf(service);
  const policies = [...(index.policiesByService.get(name) ?? []), ...(index.backendTrafficByService.get(name) ?? [])];
  return [service, ...policies, policyOfNamespace(service.namespace, index), ...rulesOf(service, index)];
}

/** Canonical text; empty for a headless service and for one without an address yet. */
export function virtualAddresses(service: Stored<'Service'>): string[] {
  const { clusterIP, clusterIPs } = service.manifest.spec;
  const declared = clusterIPs ?? (clusterIP === undefined ? [] : [clusterIP]);
  return declared.filter((address) => address !== '' && address !== 'None').map(canonicalAddress);
}

/** appProtocol, else the port name up to its first "-" (Istio: "http", "http-admin"), else not declared: what its routes are for, or detected. */
export function protocolOf(port: DeclaredPort): Protocol {
  const declared = port.appProtocol ?? (port.name ?? '').split('-')[0] ?? '';
  return protocolNamed(declared) ?? Protocol.UNSPECIFIED;
}

const PROXY_PROTOCOLS = { v1: ProxyProtocol.V1, v2: ProxyProtocol.V2, V1: ProxyProtocol.V1, V2: ProxyProtocol.V2 } as const;

/** Of the first policy that says something, else of the rule that is in force; its default is V1 (Istio). */
function proxyProtocolOf(policies: readonly Stored<'TrafficPolicy'>[], rules: readonly Stored<'DestinationRule'>[]): ProxyProtocol {
  const ofRules = policyOfAll(rules)?.policy.proxyProtocol;
  const ofPolicies = policies.map((policy) => policy.manifest.spec.proxyProtocol).find((found) => found !== undefined);
  const version = ofPolicies ?? (ofRules === undefined ? undefined : (ofRules.version ?? 'V1'));
  return version === undefined ? ProxyProtocol.UNSPECIFIED : PROXY_PROTOCOLS[version];
}
