// VirtualService (with the subsets of DestinationRules) → routes of the model, one for each port of a service or of a Gateway that it is for: their
// rules are tried in the order they are written. One VirtualService at a time.
import type { Backend, ConnectionRoute, HttpMatch, HttpRoute, HttpRule, Mirror, RouteParent } from '../gen/mesh/v1/model.js';
import { seenFrom } from '../resources/index.js';
import { covers, fullHost } from '../resources/istio-host.js';
import { NO_BACKEND } from './backend.js';
import { asksForTls } from './backend-tls.js';
import { nameOf, type ObjectIndex, type Stored } from './input.js';
import { type IstioGateway, isNameable, istioGatewayName, type ServerHost, serverHosts } from './istio-gateway.js';
import { type HostIndex, knownHost, rulesOf, servicesOf } from './istio-hosts.js';
import type { ConditionReason, ReportProblem } from './problem.js';
import { rateLimitsOfRule } from './rate-limits.js';
import { takesEverything } from './route-order.js';
import { tcpPorts } from './service-ports.js';
import { type Claims, hasRulesFor, isForMesh, isFree, isOpaque, MESH, parentsInMesh } from './virtual-service-claims.js';
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
import { exportsOf } from './visibility.js';

export type VirtualService = Stored<'VirtualService'>;
type Spec = VirtualService['manifest']['spec'];
export type HttpEntry = NonNullable<Spec['http']>[number];
type Share = NonNullable<HttpEntry['route']>[number];
type Destination = Share['destination'];

export type VirtualServiceIndex = HostIndex &
  Pick<ObjectIndex, 'virtualServices' | 'rulesByHost' | 'namespaces' | 'istioGateways' | 'limitsByTarget'>;

/** Where its rules apply: a port of a service, for requests in the mesh, or of a Gateway. */
interface Place {
  /** "reviews.shop:9080", "gateway shop/edge:8080" */
  readonly name: string;
  readonly port: number;
  /** MESH, or "<namespace>/<name>": as matches name it. */
  readonly gateway: string;
  readonly parents: readonly RouteParent[];
  /** As of HttpRoute. */
  readonly hostnames: readonly string[];
}

export interface CompiledVirtualService {
  readonly http: readonly HttpRoute[];
  readonly connections: readonly ConnectionRoute[];
}

interface Routes {
  readonly http: HttpRoute[];
  readonly connections: ConnectionRoute[];
  /** That there may be more. */
  matchesLeft: number;
}

const MAX_WEIGHT = 1_000_000;
/** Of the rules of a place that others delegate to: a few kilobytes could ask for more than there is memory. */
const MAX_MERGED = 65_536;
/** Of all places together: a host with a wildcard has every port of all services that it covers, and Gateways have ports by the hundred. */
const MAX_SPREAD = 262_144;

export function compileVirtualService(
  object: VirtualService,
  index: VirtualServiceIndex,
  claims: Claims,
  report: ReportProblem,
): CompiledVirtualService {
  const { hosts = [], gateways = [] } = object.manifest.spec;
  const routes: Routes = { http: [], connections: [], matchesLeft: MAX_SPREAD };
  if (hosts.length === 0) return routes;
  if (isForMesh(object)) compileForMesh(object, index, claims, report, routes);
  const named = gateways.map((name) => (name === MESH ? MESH : gatewayNamed(name, object)));
  named.forEach((name, at) => {
    if (name !== MESH && named.indexOf(name) === at) compileForGateway(object, name, `spec.gateways[${at}]`, index, report, routes);
  });
  return routes;
}

function compileForMesh(object: VirtualService, index: VirtualServiceIndex, claims: Claims, report: ReportProblem, routes: Routes): void {
  const { spec } = object.manifest;
  const count = httpCount(object, index) + matchCount(spec.tls) + matchCount(spec.tcp);
  const taken = new Set<string>();
  for (const [at, host] of (spec.hosts ?? []).entries()) {
    const services = claims.services.get(object)?.[at] ?? [];
    if (services.length === 0)
      report(`spec.hosts[${at}]`, `no Service has the host ${host}: the rules do not apply to it`, 'NoMatchingParent');
    const ports = services.flatMap((service) => tcpPorts(service).map((port) => ({ service, port })));
    if (!hasRoom(routes, count, ports.length, (message) => report(`spec.hosts[${at}]`, `${message} to it`, 'UnsupportedValue'))) continue;
    for (const { service, port } of ports) {
      if (!hasRulesFor(spec, port)) continue;
      const parents = parentsInMesh(object, service, port.port).filter((parent) =>
        isFree(object, parent, claims, taken, (message) => report(`spec.hosts[${at}]`, message, 'Conflicted')),
      );
      if (parents.length === 0) continue;
      const place = placeInMesh(service, port.port, parents);
      if (isOpaque(port)) routes.connections.push(...compileConnections(object, place, ['tls', 'tcp'], index, report));
      else routes.http.push(compileHttp(object, place, index, report));
    }
  }
}

/** "<namespace>/<name>" */
function gatewayNamed(name: string, { namespace }: VirtualService): string {
  return name.includes('/') ? name : `${namespace}/${name}`;
}

/** For each of its ports, where servers have hosts in common with it and take it from its namespace. */
function compileForGateway(
  object: VirtualService,
  name: string,
  path: string,
  index: VirtualServiceIndex,
  report: ReportProblem,
  routes: Routes,
): void {
  const { hosts = [], exportTo = [], ...rules } = object.manifest.spec;
  const gateway = index.istioGateways.get(name);
  const refuse = (message: string, reason: ConditionReason): void => report(path, `${message}: the rules do not apply there`, reason);
  if (gateway === undefined) {
    refuse(`Gateway ${name} doesn't exist`, 'NoMatchingParent');
    return;
  }
  if (seenFrom(exportTo, object.namespace)?.includes(gateway.namespace) === false) {
    refuse(`it is not exported to ${gateway.namespace}`, 'NotAllowedByListeners');
    return;
  }
  const own = hosts.map((host) => fullHost(host, object.namespace).toLowerCase());
  const taking = serverHosts(gateway).filter(
    (server) =>
      (server.namespaces === null || server.namespaces.includes(object.namespace)) &&
      server.hosts.some((host) => own.some((each) => covers(host, each) || covers(each, host))),
  );
  if (taking.length === 0)
    refuse(`no server of Gateway ${name} has one of its hosts for namespace ${object.namespace}`, 'NoMatchingListenerHostname');
  const isForAll = own.includes('*');
  const named = isForAll || rules.http === undefined ? [] : own.filter((host) => isNameable(host, 'spec', report));
  for (const takes of ['http', 'tls', 'tcp'] as const) {
    if ((rules[takes] ?? []).length === 0) continue;
    // For no name at all would be for every host of the server.
    if (takes === 'http' && !isForAll && named.length === 0) continue;
    const servers = taking.filter((server) => server.takes === takes);
    const ports = new Set(servers.map((server) => server.port));
    const count = takes === 'http' ? httpCount(object, index) : matchCount(rules[takes]);
    if (!hasRoom(routes, count, ports.size, (message) => report(path, `${message} there`, 'UnsupportedValue'))) continue;
    for (const port of ports) {
      const place: Place = {
        name: `gateway ${name}:${port}`,
        port,
        gateway: name,
        parents: servers.flatMap((server) => (server.port === port ? [gatewayParent(gateway, server)] : [])),
        hostnames: named,
      };
      if (takes === 'http') routes.http.push(compileHttp(object, place, index, report));
      else routes.connections.push(...compileConnections(object, place, [takes], index, report));
    }
  }
}

function gatewayParent(gateway: IstioGateway, { section, port }: ServerHost): RouteParent {
  return { parent: { $case: 'gateway', value: istioGatewayName(gateway) }, port, section, consumerNamespace: '' };
}

function placeInMesh(service: Stored<'Service'>, port: number, parents: readonly RouteParent[]): Place {
  return {
    name: `${service.name}.${service.namespace}:${port}`,
    port,
    gateway: MESH,
    parents,
    hostnames: [],
  };
}

/** Whether what names these gateways (none: all of the VirtualService's) is for that place. */
function isOf(gateways: readonly string[] | undefined, object: VirtualService, { gateway }: Place): boolean {
  if (gateways === undefined || gateways.length === 0) return true;
  return gateways.some((name) => (name === MESH ? MESH : gatewayNamed(name, object)) === gateway);
}

function compileHttp(object: VirtualService, place: Place, index: VirtualServiceIndex, report: ReportProblem): HttpRoute {
  const { namespace, createdAtMs, manifest } = object;
  const entries = manifest.spec.http ?? [];
  const count = mergedCount(object, entries, index);
  if (count > MAX_MERGED)
    report('spec.http', `its delegates make ${count} matches of it, at most ${MAX_MERGED}: their rules are left out`, 'UnsupportedValue');
  const rules = entries.flatMap((entry, at) =>
    entry.delegate !== undefined && count > MAX_MERGED ? [] : compileEntry(object, entry, [null], place, `spec.http[${at}]`, index, report),
  );
  return {
    namespace,
    name: `${object.name}@${place.name}`,
    createdAtMs,
    parents: [...place.parents],
    hostnames: [...place.hostnames],
    rules: upToCatchAll(rules),
    kind: 'VirtualService',
    inOrder: true,
  };
}

/** How many matches rules and those of their delegates could have together: each of one with each of the other. */
function mergedCount(object: VirtualService, entries: readonly HttpEntry[], index: VirtualServiceIndex): number {
  const inner = new Map<VirtualService | undefined, number>();
  return entries.reduce((sum, entry) => {
    if (entry.delegate === undefined) return sum;
    const target = index.virtualServices.get(`${entry.delegate.namespace || object.namespace}/${entry.delegate.name}`);
    const known = inner.get(target) ?? matchCount(target?.manifest.spec.http);
    inner.set(target, known);
    return sum + matchCount([entry]) * known;
  }, 0);
}

function httpCount(object: VirtualService, index: VirtualServiceIndex): number {
  const entries = object.manifest.spec.http ?? [];
  const merged = mergedCount(object, entries, index);
  return matchCount(entries) + (merged > MAX_MERGED ? 0 : merged);
}

/** For the matches of each of these ports; if so, they have it. */
function hasRoom(routes: Routes, count: number, ports: number, refuse: (message: string) => void): boolean {
  if (count * ports > routes.matchesLeft) {
    refuse(
      `${count} matches for ${ports} ports make ${count * ports}, and of ${MAX_SPREAD} there are ${routes.matchesLeft} left: the rules do not apply`,
    );
    return false;
  }
  routes.matchesLeft -= count * ports;
  return true;
}

/** A rule without any takes everything. */
function matchCount(entries: readonly { readonly match?: readonly unknown[] | undefined }[] = []): number {
  return entries.reduce((sum, { match = [] }) => sum + Math.max(1, match.length), 0);
}

/** What follows a rule that takes everything is never reached (Istio leaves it out). */
function upToCatchAll(rules: readonly HttpRule[]): HttpRule[] {
  const last = rules.findIndex(({ matches }) => matches.length === 0 || matches.some(takesEverything));
  return last < 0 ? [...rules] : rules.slice(0, last + 1);
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
  const own = (entry.match ?? []).filter(({ gateways }) => isOf(gateways, object, place));
  // None of its matches is for this place, which is not to match everything.
  if ((entry.match ?? []).length > 0 && own.length === 0) return [];
  const matches = mergedMatches(outer, own.length === 0 ? [null] : own.map(compileMatch));
  if (matches.length === 0) return [];
  if (entry.delegate !== undefined) return delegated(object, entry, entry.delegate, matches, place, path, index, report);
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
  outer: HttpEntry,
  { name, namespace }: NonNullable<HttpEntry['delegate']>,
  matches: readonly (HttpMatch | null)[],
  place: Place,
  path: string,
  index: VirtualServiceIndex,
  report: ReportProblem,
): HttpRule[] {
  const of = namespace || object.namespace;
  const target = index.virtualServices.get(`${of}/${name}`);
  const { hosts = [], exportTo = [] } = target?.manifest.spec ?? {};
  if (target === undefined || hosts.length > 0 || seenFrom(exportTo, of)?.includes(object.namespace) === false) {
    report(
      `${path}.delegate`,
      `there is no VirtualService ${of}/${name} without hosts that namespace ${object.namespace} sees: the rule is left out`,
      'BackendNotFound',
    );
    return [];
  }
  const shared = inherited(outer, object, index);
  return (target.manifest.spec.http ?? []).flatMap((entry) =>
    entry.delegate === undefined ? compileEntry(target, { ...shared, ...entry }, matches, place, path, index, report) : [],
  );
}

/** What a rule says beside where requests go is for those of its delegate, too, that say nothing of it (Istio). */
function inherited(outer: HttpEntry, { namespace }: VirtualService, index: HostIndex): HttpEntry {
  const { name: _name, match: _match, delegate: _delegate, ...shared } = outer;
  const mirrored = (to: Destination): Destination => ({ ...to, host: knownHost(to.host, namespace, index) });
  return {
    ...shared,
    ...(shared.mirror === undefined ? {} : { mirror: mirrored(shared.mirror) }),
    ...(shared.mirrors === undefined
      ? {}
      : { mirrors: shared.mirrors.map((each) => ({ ...each, destination: mirrored(each.destination) })) }),
  };
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
    rateLimits: rateLimitsOfRule(object.kind, nameOf(object), entry.name ?? '', index),
    sessionPersistence: undefined,
    filters: [],
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
  const services = servicesOf(host, object.namespace, index);
  const service = services.find((each) => exportsOf(each, index)?.includes(object.namespace) !== false) ?? services[0];
  if (service === undefined) {
    refuse(`no Service has the host ${host}`, 'BackendNotFound');
    return null;
  }
  const ports = tcpPorts(service);
  const wanted = port?.number ?? (ports.length === 1 ? ports[0]!.port : place.port);
  if (!ports.some((each) => each.port === wanted)) {
    refuse(`Service ${nameOf(service)} has no port ${wanted} (it has ${ports.map((each) => each.port).join(', ')})`, 'BackendNotFound');
    return null;
  }
  const resolved = { service: nameOf(service), port: wanted, labels: {} };
  if (subset === undefined || subset === '') return resolved;
  const found = subsetOf(object, service, subset, index);
  if (found === null) {
    refuse(`no DestinationRule for ${host} has a subset ${subset}`, 'BackendNotFound');
    return null;
  }
  const { rule, labels = {}, trafficPolicy } = found;
  // Less than what is asked for is not given instead.
  if (Object.keys(labels).length === 0 && asksForTls(trafficPolicy) && !asksForTls(rule.manifest.spec.trafficPolicy)) {
    refuse(`subset ${subset} has TLS and no labels, so that it can't have it apart from the others`, 'UnsupportedValue');
    return null;
  }
  return { ...resolved, labels: { ...labels } };
}

type Rule = Stored<'DestinationRule'>;
type FoundSubset = NonNullable<Rule['manifest']['spec']['subsets']>[number] & { readonly rule: Rule };

/** Istio's order: the client's namespace, for which ours stands, then the service's, then any. */
function subsetOf(object: VirtualService, service: Stored<'Service'>, subset: string, index: VirtualServiceIndex): FoundSubset | null {
  const rank = ({ namespace }: { namespace: string }): number =>
    namespace === object.namespace ? 0 : namespace === service.namespace ? 1 : 2;
  const rules = rulesOf(service, index).filter(
    ({ namespace, manifest: { spec } }) => seenFrom(spec.exportTo ?? [], namespace)?.includes(object.namespace) !== false,
  );
  for (const rule of rules.sort((a, b) => rank(a) - rank(b))) {
    const found = (rule.manifest.spec.subsets ?? []).find(({ name }) => name === subset);
    if (found !== undefined) return { ...found, rule };
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
    ...(mirror === undefined
      ? []
      : [
          {
            destination: mirror,
            field: 'mirror',
            percent: mirrorPercentage === undefined ? (mirrorPercent ?? mirror_percent ?? 100) : (mirrorPercentage.value ?? 0),
          },
        ]),
    ...(mirrors ?? []).map(({ destination, percentage }, at) => ({
      destination,
      field: `mirrors[${at}].destination`,
      percent: percentage === undefined ? 100 : (percentage.value ?? 0),
    })),
  ];
  return all.flatMap(({ destination, field, percent }) => {
    const found = resolve(object, destination, place, index, (message, reason) =>
      report(`${path}.${field}`, `${message}: nothing is mirrored there`, reason),
    );
    return found === null ? [] : [{ ...found, partsPerMillion: percentParts(percent) }];
  });
}

/** The first rule of a server name has it; those of bytes have all the others. */
function compileConnections(
  object: VirtualService,
  place: Place,
  kinds: readonly ('tls' | 'tcp')[],
  index: VirtualServiceIndex,
  report: ReportProblem,
): ConnectionRoute[] {
  const { tls, tcp } = object.manifest.spec;
  const isFor = ({ port, gateways }: { port?: number | undefined; gateways?: readonly string[] | undefined }): boolean =>
    (port === undefined || port === place.port) && isOf(gateways, object, place);
  const make = (kind: 'tls' | 'tcp', at: number, serverNames: readonly string[], route: readonly Share[]): ConnectionRoute => ({
    kind: 'VirtualService',
    namespace: object.namespace,
    name: `${object.name}@${place.name}-${kind}-${at}`,
    createdAtMs: object.createdAtMs,
    parents: [...place.parents],
    serverNames: [...serverNames],
    backends: scaled(
      route.map((share, position) =>
        backendOf(object, share, route.length === 1, place, `spec.${kind}[${at}].route[${position}]`, index, report),
      ),
    ),
  });
  const checkMatches = (path: string, matches: readonly object[]): void => {
    const narrowing = ['sourceLabels', 'sourceNamespace', 'destinationSubnets', 'sourceSubnet'];
    if (matches.some((each) => narrowing.some((field) => field in each)))
      report(path, 'connections are matched by port and server name alone: this rule is for all others', 'UnsupportedValue');
  };
  const ofNames = (kinds.includes('tls') ? (tls ?? []) : []).flatMap(({ match, route }, at) => {
    const own = match.filter(isFor);
    const names = own.flatMap(({ sniHosts }) => sniHosts);
    checkMatches(`spec.tls[${at}].match`, own);
    return names.length === 0 ? [] : [make('tls', at, names, route)];
  });
  const ofBytes = (kinds.includes('tcp') ? (tcp ?? []) : []).flatMap(({ match, route }, at) => {
    const own = match?.filter(isFor) ?? [];
    if (match !== undefined && match.length > 0 && own.length === 0) return [];
    checkMatches(`spec.tcp[${at}].match`, own);
    return [make('tcp', at, [], route)];
  });
  return [...ofNames, ...ofBytes.slice(0, 1)];
}
