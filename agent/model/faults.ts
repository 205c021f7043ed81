// What makes a decoded model message senseless for a node, in words for the operator. The controller validates kinds; these checks guard
// the node against a controller (or a file on disk) that is newer, older or broken. Must not repair anything.
import { isIP } from 'node:net';
import {
  type Backend,
  type BackendTls,
  type ClusterPolicy,
  type ConnectionRoute,
  type Endpoint,
  EndpointHealth,
  type EndpointPort,
  Failover,
  type Filter,
  type HeaderMutation,
  type HttpMatch,
  type HttpRoute,
  type HttpRule,
  type Listener,
  LoadBalancing_Algorithm,
  PathMatch_Type,
  Protocol,
  ProxyProtocol,
  type RouteParent,
  type Service,
  type Workload,
} from '../../api/gen/mesh/v1/model.js';
import { TLS_CIPHER_SUITES } from '../../api/resources/tls-options.js';
import { keyPairFault, trustFault } from '../../api/resources/tls-pem.js';

/** Gateway API's own bounds, or what the tables can hold; each is checked here so that the tables need not. */
export const MODEL_BOUNDS = {
  maxWeight: 1_000_000,
  maxBackends: 1_000,
  maxMatches: 256,
  maxFilterCode: 1_048_576,
  maxFilterTimeoutMs: 10_000,
  minFilterMemoryMib: 16,
  maxFilterMemoryMib: 1_024,
  maxRules: 1_024,
  maxTimeoutMs: 2 ** 31 - 1,
  maxTrustedHops: 16,
} as const;

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const FIELD_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
const HOSTNAME = /^(\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*$/;

export function serviceFault(service: Service, name: string): string | null {
  if (`${service.namespace}/${service.name}` !== name) return `names ${service.namespace}/${service.name} inside, expected ${name}`;
  const addresses = firstFault(service.addresses, addressFault);
  if (addresses !== null) return addresses;
  const scoped = [...service.policies, ...service.consumers.flatMap(({ policies: own }) => own)];
  const policies = firstFault(scoped, ({ port, policy }) => clusterPolicyFault(policy) ?? backendTlsFault(port, policy?.tls?.tls));
  if (policies !== null) return policies;
  if (!(service.proxyProtocol in ProxyProtocol)) return `PROXY protocol ${service.proxyProtocol} is not known to this node`;
  return (
    firstFault(service.ports, (port) =>
      port.protocol in Protocol
        ? (portFault(port.port) ?? backendTlsFault(port.port, port.tls))
        : `port ${port.port}: protocol ${port.protocol} is not known to this node`,
    ) ??
    duplicate(
      service.ports.map((port) => port.port),
      'port',
    ) ??
    duplicate(
      service.ports.map((port) => port.name),
      'port name',
    )
  );
}

/** What can't be done by a policy as it is meant isn't done by half. */
function clusterPolicyFault(policy: ClusterPolicy | undefined): string | null {
  const { algorithm = LoadBalancing_Algorithm.UNSPECIFIED, failover = Failover.CONSISTENT } = policy?.loadBalancing ?? {};
  if (!(algorithm in LoadBalancing_Algorithm)) return `load balancing algorithm ${algorithm} is not known to this node`;
  return failover in Failover ? null : `failover strategy ${failover} is not known to this node`;
}

/** Trust that can't be read leaves the port without traffic: its tables say so. */
function backendTlsFault(port: number, tls: BackendTls | undefined): string | null {
  if (tls === undefined) return null;
  if (tls.hostname === '') return `port ${port}: tls without a hostname`;
  return tls.hostname.startsWith('*')
    ? `port ${port}: tls for the hostname "${tls.hostname}": expected one host`
    : hostnameFault(tls.hostname);
}

export function endpointFault(endpoint: Endpoint, name: string): string | null {
  if (!isNameOf(name, endpoint)) return `names ${endpoint.service}/${endpoint.id} inside, expected ${name}`;
  if (endpoint.weight > MODEL_BOUNDS.maxWeight) return `weight ${endpoint.weight}: expected at most ${MODEL_BOUNDS.maxWeight}`;
  if (!(endpoint.health in EndpointHealth)) return `health ${endpoint.health} is not known to this node`;
  return addressFault(endpoint.address) ?? firstFault(endpoint.ports, namedPortFault);
}

/** "<service>/<id>", which is not made for it: of all resources these change most. */
function isNameOf(name: string, { service, id }: Endpoint): boolean {
  const slash = service.length;
  return name.length === slash + 1 + id.length && name[slash] === '/' && name.startsWith(service) && name.endsWith(id);
}

export function workloadFault(workload: Workload, name: string): string | null {
  if (`${workload.namespace}/${workload.name}` !== name) return `names ${workload.namespace}/${workload.name} inside, expected ${name}`;
  return firstFault(workload.addresses, addressFault) ?? firstFault(workload.ports, namedPortFault);
}

export function listenerFault(listener: Listener, name: string): string | null {
  // A gateway with several addresses has a listener for each: "<namespace>/<gateway>/<name>/<address>".
  const base = `${listener.gateway}/${listener.name}`;
  if (name !== base && name !== `${base}/${listener.address}`) return `names ${base} inside, expected ${name}`;
  if (listener.address !== '' && isIP(listener.address) === 0) return `address "${listener.address}": expected an IP address`;
  return (
    portFault(listener.port) ??
    hostnameFault(listener.hostname) ??
    tlsFault(listener) ??
    backendCertificateFault(listener) ??
    hopsFault(listener)
  );
}

function hopsFault({ trustedHops }: Listener): string | null {
  return trustedHops !== undefined && trustedHops > MODEL_BOUNDS.maxTrustedHops
    ? `${trustedHops} trusted hops: expected at most ${MODEL_BOUNDS.maxTrustedHops}`
    : null;
}

/** Plain text where TLS is meant, or the reverse, would be worse than no listener. */
function tlsFault({ protocol, tls }: Listener): string | null {
  if (protocol === Protocol.HTTPS && tls === undefined) return 'protocol HTTPS without tls';
  if (protocol !== Protocol.HTTPS && protocol !== Protocol.TLS && tls !== undefined)
    return `tls with protocol ${Protocol[protocol] ?? protocol}`;
  if (tls !== undefined && tls.clientTrust !== '') {
    const fault = trustFault(tls.clientTrust);
    if (fault !== null) return `client trust: ${fault}`;
  }
  const suite = tls?.limits?.cipherSuites.find((name) => !TLS_CIPHER_SUITES.has(name));
  if (suite !== undefined) return `cipher suite "${suite}": this version has none of that name`;
  return firstFault(tls?.certificates ?? [], ({ chain, key }) => keyPairFault(chain, key)?.message ?? null, 'certificate');
}

function backendCertificateFault({ backendCertificate: pair }: Listener): string | null {
  const fault = pair === undefined ? null : keyPairFault(pair.chain, pair.key);
  return fault === null ? null : `certificate for backends: ${fault.message}`;
}

/** The name of its resource: those of several kinds may be called alike. */
export function httpRouteName({ kind, namespace, name }: HttpRoute): string {
  return kind === '' ? `${namespace}/${name}` : `${kind}/${namespace}/${name}`;
}

export function httpRouteFault(route: HttpRoute, name: string): string | null {
  const own = httpRouteName(route);
  if (own !== name) return `names ${own} inside, expected ${name}`;
  if (route.rules.length > MODEL_BOUNDS.maxRules) return `${route.rules.length} rules: expected at most ${MODEL_BOUNDS.maxRules}`;
  return parentsFault(route.parents) ?? firstFault(route.hostnames, hostnameFault) ?? firstFault(route.rules, ruleFault, 'rule');
}

export function connectionRouteFault(route: ConnectionRoute, name: string): string | null {
  const own = `${route.kind}/${route.namespace}/${route.name}`;
  if (own !== name) return `names ${own} inside, expected ${name}`;
  return parentsFault(route.parents) ?? firstFault(route.serverNames, hostnameFault) ?? backendsFault(route.backends);
}

export function filterFault({ namespace, name: own, code, timeoutMs, memoryMib }: Filter, name: string): string | null {
  if (`${namespace}/${own}` !== name) return `names ${namespace}/${own} inside, expected ${name}`;
  if (code.length > MODEL_BOUNDS.maxFilterCode) return `${code.length} characters of code: expected at most ${MODEL_BOUNDS.maxFilterCode}`;
  if (timeoutMs < 1 || timeoutMs > MODEL_BOUNDS.maxFilterTimeoutMs)
    return `a timeout of ${timeoutMs} ms: expected 1 to ${MODEL_BOUNDS.maxFilterTimeoutMs}`;
  const { minFilterMemoryMib: least, maxFilterMemoryMib: most } = MODEL_BOUNDS;
  return memoryMib < least || memoryMib > most ? `${memoryMib} MiB of memory: expected ${least} to ${most}` : null;
}

function parentsFault(parents: readonly RouteParent[]): string | null {
  return parents.some(({ parent }) => parent === undefined) ? 'a parent is neither a service nor a gateway' : null;
}

function ruleFault(rule: HttpRule): string | null {
  if (rule.matches.length > MODEL_BOUNDS.maxMatches) return `${rule.matches.length} matches: expected at most ${MODEL_BOUNDS.maxMatches}`;
  if (Math.max(rule.requestTimeoutMs, rule.backendTimeoutMs) > MODEL_BOUNDS.maxTimeoutMs) return 'a timeout is longer than 24 days';
  return (
    backendsFault(rule.backends) ??
    firstFault(rule.matches, matchFault, 'match') ??
    mutationFault(rule.requestHeaders) ??
    mutationFault(rule.responseHeaders)
  );
}

function backendsFault(backends: readonly Backend[]): string | null {
  if (backends.length > MODEL_BOUNDS.maxBackends) return `${backends.length} backends: expected at most ${MODEL_BOUNDS.maxBackends}`;
  return firstFault(
    backends,
    ({ weight }) => (weight > MODEL_BOUNDS.maxWeight ? `weight ${weight}: expected at most ${MODEL_BOUNDS.maxWeight}` : null),
    'backend',
  );
}

function matchFault(match: HttpMatch): string | null {
  if (match.path !== undefined) {
    const { type, value } = match.path;
    if (!(type in PathMatch_Type)) return `path match type ${type} is not known to this node`;
    const isWritten = type === PathMatch_Type.EXACT || type === PathMatch_Type.PREFIX;
    if (isWritten && (!value.startsWith('/') || value.includes('//'))) return `path "${value}": expected an absolute path without "//"`;
    if (isWritten && /[?#\s]/.test(value)) return `path "${value}": expected no query, fragment or blank`;
  }
  if (match.method !== '' && !TOKEN.test(match.method)) return `method "${match.method}": expected an HTTP token`;
  if (match.grpcMethod.includes('/')) return `gRPC method "${match.grpcMethod}": expected no "/"`;
  return firstFault(match.headers, ({ name }) =>
    TOKEN.test(name) && name === name.toLowerCase() ? null : `header name "${name}": expected a lower-case token`,
  );
}

function mutationFault(mutation: HeaderMutation | undefined): string | null {
  if (mutation === undefined) return null;
  return (
    firstFault([...mutation.set, ...mutation.add], ({ name, value }) =>
      TOKEN.test(name) && FIELD_VALUE.test(value)
        ? null
        : `header "${name}: ${value}": expected a token and a value without control characters`,
    ) ?? firstFault(mutation.remove, (name) => (TOKEN.test(name) ? null : `header name "${name}": expected a token`))
  );
}

function addressFault(address: string): string | null {
  return isIP(address) === 0 ? `address "${address}": expected an IP address` : null;
}

function hostnameFault(hostname: string): string | null {
  return hostname === '' || HOSTNAME.test(hostname) ? null : `hostname "${hostname}": expected lower case, exact or "*.suffix"`;
}

function namedPortFault({ port }: EndpointPort): string | null {
  return portFault(port);
}

function portFault(port: number): string | null {
  return port >= 1 && port <= 65535 ? null : `port ${port}: expected 1 to 65535`;
}

function duplicate(values: readonly (string | number)[], what: string): string | null {
  const seen = new Set<string | number>();
  for (const value of values) {
    if (seen.has(value)) return `${what} "${value}" appears twice`;
    seen.add(value);
  }
  return null;
}

function firstFault<T>(items: readonly T[], fault: (item: T) => string | null, what?: string): string | null {
  for (let index = 0; index < items.length; index++) {
    const found = fault(items[index]!);
    if (found !== null) return what === undefined ? found : `${what} ${index}: ${found}`;
  }
  return null;
}
