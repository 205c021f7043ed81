// VirtualService (with the subsets of DestinationRules) → routes of the model, one for each port of a service that it is for: their rules are
// tried in the order they are written. One VirtualService at a time.
import {
  type Backend,
  type ConnectionRoute,
  type HttpMatch,
  type HttpRoute,
  type HttpRule,
  type Mirror,
  Protocol,
  type RouteParent,
} from '../gen/mesh/v1/model.js';
import { seenFrom } from '../resources/index.js';
import { NO_BACKEND } from './backend.js';
import { nameOf, type ObjectIndex, type Stored } from './input.js';
import { type HostIndex, hostOf, knownHost, servicesOf } from './istio-hosts.js';
import type { ConditionReason, ReportProblem } from './problem.js';
import { protocolOf } from './service.js';
import { type DeclaredPort, tcpPorts } from './service-ports.js';
import { compileCors, compileFault, compileRetry, percentParts } from './virtual-service-policies.js';
import {
  answerOf,
  compileHeaders,
  compileMatch,
  compileRewrite,
  type HeaderChanges,
  limitMs,
  mergedMatches,
} from './virtual-service-rules.js';

export type VirtualService = Stored<'VirtualService'>;
type Spec = VirtualService['manifest']['spec'];
export type HttpEntry = NonNullable<Spec['http']>[number];
type Share = NonNullable<HttpEntry['route']>[number];
type Destination = Share['destination'];

export type VirtualServiceIndex = HostIndex & Pick<ObjectIndex, 'virtualServices' | 'destinationRules'>;

/** Where its rules apply: a port of a service, or of those that go through a gateway. */
interface Place {
  readonly service: Stored<'Service'>;
  readonly port: DeclaredPort;
}

export interface CompiledVirtualService {
  readonly http: readonly HttpRoute[];
  readonly connections: readonly ConnectionRoute[];
}

const MESH = 'mesh';
const MAX_WEIGHT = 1_000_000;

/** `claimed`: ports of services that routes or an older VirtualService have; its own are added. */
export function compileVirtualService(
  object: VirtualService,
  index: VirtualServiceIndex,
  claimed: Map<string, string>,
  report: ReportProblem,
): CompiledVirtualService {
  const { spec } = object.manifest;
  const http: HttpRoute[] = [];
  const connections: ConnectionRoute[] = [];
  if ((spec.hosts ?? []).length === 0) return { http, connections };
  const gateways = (spec.gateways ?? []).filter((gateway) => gateway !== MESH);
  if (gateways.length > 0)
    report('spec.gateways', `Gateways of Istio are not served yet: for ${gateways.join(', ')} the rules do not apply`, 'UnsupportedValue');
  if ((spec.gateways ?? []).length > 0 && !spec.gateways?.includes(MESH)) return { http, connections };
  for (const [at, host] of (spec.hosts ?? []).entries()) {
    const services = servicesOf(host, object.namespace, index);
    if (services.length === 0)
      report(`spec.hosts[${at}]`, `no Service has the host ${host}: the rules do not apply to it`, 'NoMatchingParent');
    for (const service of services) {
      for (const port of tcpPorts(service)) {
        const place = { service, port };
        const isBytes = isOpaque(port);
        if (isBytes ? !hasConnectionRules(spec, port.port) : (spec.http ?? []).length === 0) continue;
        if (!isFree(object, place, claimed, (message) => report(`spec.hosts[${at}]`, message, 'Conflicted'))) continue;
        if (isBytes) connections.push(...compileConnections(object, place, index, report));
        else http.push(compileHttp(object, place, index, report));
      }
    }
  }
  return { http, connections };
}

function isOpaque(port: DeclaredPort): boolean {
  return [Protocol.TCP, Protocol.TLS].includes(protocolOf(port));
}

function hasConnectionRules({ tls, tcp }: Spec, port: number): boolean {
  const isFor = ({ match }: { match?: readonly { port?: number | undefined }[] | undefined }): boolean =>
    match === undefined || match.some((each) => each.port === undefined || each.port === port);
  return [...(tls ?? []), ...(tcp ?? [])].some(isFor);
}

/** Routes of the Gateway API go first, then the oldest VirtualService: one port of a service has the rules of one. */
function isFree(object: VirtualService, place: Place, claimed: Map<string, string>, refuse: (message: string) => void): boolean {
  const key = placeKey(place);
  const other = claimed.get(key);
  if (other !== undefined) refuse(`${other} has Service ${key}: the rules do not apply there`);
  else claimed.set(key, `VirtualService ${nameOf(object)}`);
  return other === undefined;
}

/** What routes of the Gateway API have of services of their own namespaces, as compileVirtualService() wants it. */
export function claimedByRoutes({
  routes,
  grpcRoutes,
  services,
}: Pick<ObjectIndex, 'routes' | 'grpcRoutes' | 'services'>): Map<string, string> {
  const claimed = new Map<string, string>();
  for (const route of [...routes.values(), ...grpcRoutes]) {
    for (const { kind, namespace = route.namespace, name, port: only } of route.manifest.spec.parentRefs ?? []) {
      const service = kind === 'Service' && namespace === route.namespace ? services.get(nameOf({ namespace, name })) : undefined;
      if (service === undefined) continue;
      for (const port of tcpPorts(service)) {
        const key = placeKey({ service, port });
        if ((only === undefined || only === port.port) && !claimed.has(key)) claimed.set(key, `${route.kind} ${nameOf(route)}`);
      }
    }
  }
  return claimed;
}

function placeKey({ service, port }: Place): string {
  return `${nameOf(service)}:${port.port}`;
}

function routeName(object: VirtualService, { service, port }: Place): string {
  return `${object.name}@${service.name}.${service.namespace}:${port.port}`;
}

/** Seen from some namespaces only, it is for their clients alone. */
function parentsOf(object: VirtualService, { service, port }: Place): RouteParent[] {
  const namespaces = seenFrom(object.manifest.spec.exportTo ?? [], object.namespace);
  const parent = { parent: { $case: 'service', value: nameOf(service) } as const, port: port.port, section: '' };
  return (namespaces ?? ['']).map((consumerNamespace) => ({ ...parent, consumerNamespace }));
}

function compileHttp(object: VirtualService, place: Place, index: VirtualServiceIndex, report: ReportProblem): HttpRoute {
  const { namespace, createdAtMs, manifest } = object;
  const rules = (manifest.spec.http ?? []).flatMap((entry, at) =>
    compileEntry(object, entry, [null], place, `spec.http[${at}]`, index, report),
  );
  return {
    namespace,
    name: routeName(object, place),
    createdAtMs,
    parents: parentsOf(object, place),
    hostnames: [],
    rules,
    kind: 'VirtualService',
    inOrder: true,
  };
}

/** `outer`: the matches of the rule that delegates to this one. */
function compileEntry(
  object: VirtualService,
  entry: HttpEntry,
  outer: readonly (HttpMatch | null)[],
  place: Place,
  path: string,
  index: VirtualServiceIndex,
  report: ReportProblem,
): HttpRule[] {
  const own = (entry.match ?? []).filter(({ gateways }) => gateways === undefined || gateways.length === 0 || gateways.includes(MESH));
  // None of its matches is for the mesh, which is not to match everything.
  if ((entry.match ?? []).length > 0 && own.length === 0) return [];
  const matches = mergedMatches(outer, own.length === 0 ? [null] : own.map(compileMatch));
  if (matches.length === 0) return [];
  if (entry.delegate !== undefined) return delegated(object, entry.delegate, matches, place, path, index, report);
  return [
    ruleOf(
      object,
      entry,
      matches.filter((match) => match !== null),
      place,
      path,
      index,
      report,
    ),
  ];
}

function delegated(
  object: VirtualService,
  { name, namespace }: NonNullable<HttpEntry['delegate']>,
  matches: readonly (HttpMatch | null)[],
  place: Place,
  path: string,
  index: VirtualServiceIndex,
  report: ReportProblem,
): HttpRule[] {
  const target = index.virtualServices.get(`${namespace ?? object.namespace}/${name}`);
  if (target === undefined || (target.manifest.spec.hosts ?? []).length > 0) {
    report(
      `${path}.delegate`,
      `there is no VirtualService ${namespace ?? object.namespace}/${name} without hosts: the rule is left out`,
      'BackendNotFound',
    );
    return [];
  }
  return (target.manifest.spec.http ?? []).flatMap((entry) =>
    entry.delegate === undefined ? compileEntry(target, entry, matches, place, path, index, report) : [],
  );
}

function ruleOf(
  object: VirtualService,
  entry: HttpEntry,
  matches: HttpMatch[],
  place: Place,
  path: string,
  index: VirtualServiceIndex,
  report: ReportProblem,
): HttpRule {
  const changes: HeaderChanges = compileHeaders(entry.headers, (message) => report(`${path}.headers`, message, 'UnsupportedValue'));
  const answer = answerOf(entry);
  const shares = (entry.route ?? []).map((share, at) => {
    const backend = backendOf(object, share, (entry.route ?? []).length === 1, place, `${path}.route[${at}]`, index, report);
    const own = compileHeaders(share.headers, (message) => report(`${path}.route[${at}].headers`, message, 'UnsupportedValue'));
    return {
      ...backend,
      requestHeaders: own.request,
      responseHeaders: own.response,
      rewrite: compileRewrite(entry.rewrite, own.host || changes.host),
    };
  });
  return {
    name: entry.name ?? '',
    matches,
    backends: answer === undefined ? scaled(shares) : [{ ...NO_BACKEND, answer }],
    requestHeaders: changes.request,
    responseHeaders: changes.response,
    requestTimeoutMs: limitMs(entry.timeout),
    backendTimeoutMs: limitMs(entry.retries?.perTryTimeout),
    mirrors: mirrorsOf(object, entry, place, path, index, report),
    cors: compileCors(entry.corsPolicy),
    retry: compileRetry(entry.retries),
    fault: compileFault(entry.fault),
  };
}

/** Istio's weights have 31 bits; the model's are those of the Gateway API. */
function scaled(backends: Backend[]): Backend[] {
  const unit = Math.max(1, ...backends.map(({ weight }) => weight / MAX_WEIGHT));
  return unit === 1 ? backends : backends.map((backend) => ({ ...backend, weight: Math.ceil(backend.weight / unit) }));
}

/** Alone it has everything, whatever its weight. */
function backendOf(
  object: VirtualService,
  { destination, weight }: Pick<Share, 'destination' | 'weight'>,
  isAlone: boolean,
  place: Place,
  path: string,
  index: VirtualServiceIndex,
  report: ReportProblem,
): Backend {
  const share = isAlone ? 1 : (weight ?? 0);
  const found = resolve(object, destination, place, index, (message, reason) =>
    report(`${path}.destination`, `${message}: its share answers 500`, reason),
  );
  return found === null ? { ...NO_BACKEND, weight: share } : { ...NO_BACKEND, ...found, weight: share };
}

type Resolved = Pick<Backend, 'service' | 'port' | 'labels'>;

function resolve(
  object: VirtualService,
  { host, subset, port }: Destination,
  place: Place,
  index: VirtualServiceIndex,
  refuse: (message: string, reason: ConditionReason) => void,
): Resolved | null {
  const [service] = servicesOf(host, object.namespace, index);
  if (service === undefined) {
    refuse(`no Service has the host ${host}`, 'BackendNotFound');
    return null;
  }
  const ports = tcpPorts(service);
  const wanted = port?.number ?? (ports.length === 1 ? ports[0]!.port : place.port.port);
  if (!ports.some((each) => each.port === wanted)) {
    refuse(`Service ${nameOf(service)} has no port ${wanted} (it has ${ports.map((each) => each.port).join(', ')})`, 'BackendNotFound');
    return null;
  }
  const resolved = { service: nameOf(service), port: wanted, labels: {} };
  if (subset === undefined || subset === '') return resolved;
  const labels = subsetLabels(object, service, subset, index);
  if (labels !== null) return { ...resolved, labels };
  refuse(`no DestinationRule for ${host} has a subset ${subset}`, 'BackendNotFound');
  return null;
}

/** Istio's order: the client's namespace, for which ours stands, then the service's, then any. */
function subsetLabels(
  object: VirtualService,
  service: Stored<'Service'>,
  subset: string,
  index: VirtualServiceIndex,
): Record<string, string> | null {
  const host = hostOf(service, index);
  const rank = ({ namespace }: { namespace: string }): number =>
    namespace === object.namespace ? 0 : namespace === service.namespace ? 1 : 2;
  const rules = index.destinationRules.filter((rule) => knownHost(rule.manifest.spec.host ?? '', rule.namespace, index) === host);
  for (const { manifest } of [...rules].sort((a, b) => rank(a) - rank(b))) {
    const found = (manifest.spec.subsets ?? []).find(({ name }) => name === subset);
    if (found !== undefined) return { ...(found.labels ?? {}) };
  }
  return null;
}

function mirrorsOf(
  object: VirtualService,
  { mirror, mirrors, mirrorPercentage, mirrorPercent, mirror_percent }: HttpEntry,
  place: Place,
  path: string,
  index: VirtualServiceIndex,
  report: ReportProblem,
): Mirror[] {
  const all = [
    ...(mirror === undefined ? [] : [{ destination: mirror, percent: mirrorPercentage?.value ?? mirrorPercent ?? mirror_percent ?? 100 }]),
    ...(mirrors ?? []).map(({ destination, percentage }) => ({
      destination,
      percent: percentage === undefined ? 100 : (percentage.value ?? 0),
    })),
  ];
  return all.flatMap(({ destination, percent }) => {
    const found = resolve(object, destination, place, index, (message, reason) =>
      report(`${path}.mirror`, `${message}: nothing is mirrored there`, reason),
    );
    return found === null ? [] : [{ ...found, partsPerMillion: percentParts(percent) }];
  });
}

/** The first rule of a server name has it; those of bytes have all the others. */
function compileConnections(object: VirtualService, place: Place, index: VirtualServiceIndex, report: ReportProblem): ConnectionRoute[] {
  const { tls, tcp } = object.manifest.spec;
  const isFor = ({ port, gateways }: { port?: number | undefined; gateways?: readonly string[] | undefined }): boolean =>
    (port === undefined || port === place.port.port) && (gateways === undefined || gateways.length === 0 || gateways.includes(MESH));
  const make = (kind: 'tls' | 'tcp', at: number, serverNames: readonly string[], route: readonly Share[]): ConnectionRoute => ({
    kind: 'VirtualService',
    namespace: object.namespace,
    name: `${routeName(object, place)}-${kind}-${at}`,
    createdAtMs: object.createdAtMs,
    parents: parentsOf(object, place),
    serverNames: [...serverNames],
    backends: scaled(
      route.map((share, position) =>
        backendOf(object, share, route.length === 1, place, `spec.${kind}[${at}].route[${position}]`, index, report),
      ),
    ),
  });
  const ofNames = (tls ?? []).flatMap(({ match, route }, at) => {
    const names = match.filter(isFor).flatMap(({ sniHosts }) => sniHosts);
    return names.length === 0 ? [] : [make('tls', at, names, route)];
  });
  const ofBytes = (tcp ?? []).flatMap(({ match, route }, at) => {
    const own = match?.filter(isFor) ?? [];
    if (match !== undefined && match.length > 0 && own.length === 0) return [];
    if (own.some((each) => each.sourceLabels !== undefined || each.sourceNamespace !== undefined || each.destinationSubnets !== undefined))
      report(
        `spec.tcp[${at}].match`,
        'connections are matched by port and server name alone: this rule is for all others',
        'UnsupportedValue',
      );
    return [make('tcp', at, [], route)];
  });
  return [...ofNames, ...ofBytes.slice(0, 1)];
}
