// Rules for requests and for whole connections → chains of nodes that the decision walks: (scope, host, path) finds the first node, links lead to the next in precedence.
// Hosts, paths, predicates and mutations become indexes of the engine's tables. A scope is a service's port or a gateway's port.
import { compareCandidates, type RouteCandidate } from '../../../api/compile/route-order.js';
import {
  type Backend,
  type ConnectionRoute,
  type HeaderMutation,
  type HttpMatch,
  type HttpRoute,
  type HttpRule,
  PathMatch_Type,
  type ValueMatch,
} from '../../../api/gen/mesh/v1/model.js';
import { httpRouteName } from '../../model/faults.js';
import { METHODS, type MutationSpec, type PredicateSpec } from '../../native/engine.js';
import { type Variant, variantName } from './clusters.js';
import { Interner } from './interner.js';
import { buildIndex, NodePath, WHOLE_CONNECTION } from './layout.js';
import type { StableIds } from './stable-ids.js';

/** A rule's match under one host of one scope, as it is tried. */
export interface RouteRow {
  /** "service shop/catalog:80" or "gateway shop/edge:8080" */
  readonly scope: string;
  readonly host: string;
  /** "PathPrefix /v1"; "connection" */
  readonly match: string;
  /** "shop/catalog rule 0"; "TLSRoute/shop/db" */
  readonly route: string;
  readonly backends: readonly Backend[];
  /** Stable id of the counter; -1: none was free. */
  readonly ruleId: number;
}

interface Entry {
  readonly scope: number;
  readonly scopeName: string;
  readonly candidate: RouteCandidate;
  /** A rule for connections, not for requests. */
  readonly isWhole: boolean;
  readonly backends: readonly Backend[];
  readonly action: number;
}

export interface RouteSections {
  readonly hostParents: number[];
  readonly pathParents: number[];
  readonly pathLengths: number[];
  readonly hostIndex: number[];
  readonly pathIndex: number[];
  readonly nodes: number[];
  readonly predicates: number[];
  readonly actions: number[];
  readonly backends: number[];
}

export class RouteChains {
  readonly hosts = new Interner<string>((host) => host);
  readonly paths = new Interner<string>((path) => path);
  readonly predicates = new Interner<PredicateSpec>(({ kind, name, value }) => JSON.stringify([kind, name, value]));
  readonly mutations = new Interner<MutationSpec>((mutation) => JSON.stringify(mutation));
  private readonly entries: Entry[] = [];
  /** Scope and host beyond which no more general host is tried. */
  private readonly stops = new Map<string, { readonly scope: number; readonly host: string }>();
  private readonly actionRows: number[] = [];
  private readonly backendRows: number[] = [];
  private readonly actionByRule = new Map<HttpRule, Map<string, number>>();

  constructor(private readonly clusterRows: ReadonlyMap<string, number>) {}

  /** Requests of `host` that no rule under it matches get 404, though a more general host has rules. Empty: every host. */
  stopAt(scope: number, host: string): void {
    this.stops.set(`${scope} ${host}`, { scope, host });
    if (host !== '') this.hosts.add(host);
  }

  /** All rules of a route under one host; empty: every host. `shownBy`: the gateway whose certificate backends are shown; empty: none is. */
  add(scope: number, scopeName: string, host: string, route: HttpRoute, shownBy = ''): void {
    if (host !== '') this.hosts.add(host);
    const name = httpRouteName(route);
    const variant = route.kind === 'GRPCRoute' ? 'http2' : 'declared';
    route.rules.forEach((rule, ruleIndex) => {
      const action = this.actionOf(rule, variant, shownBy);
      const matches: (HttpMatch | null)[] = rule.matches.length === 0 ? [null] : rule.matches;
      matches.forEach((match, matchIndex) => {
        const candidate = { hostname: host, match, createdAtMs: route.createdAtMs, route: name, ruleIndex, matchIndex };
        this.entries.push({ scope, scopeName, candidate, isWhole: false, backends: rule.backends, action });
      });
    });
  }

  /** For connections that are not read, under one server name; empty: every connection. `variant`: whether TLS begins here where the backend asks for it. */
  addConnections(
    scope: number,
    scopeName: string,
    serverName: string,
    { kind, namespace, name, createdAtMs, backends }: ConnectionRoute,
    variant: Variant,
    shownBy = '',
  ): void {
    if (serverName !== '') this.hosts.add(serverName);
    const route = `${kind}/${namespace}/${name}`;
    const candidate = { hostname: serverName, match: null, createdAtMs, route, ruleIndex: 0, matchIndex: 0 };
    const action = this.addAction(backends, variant, shownBy, [-1, -1, 0, 0]);
    this.entries.push({ scope, scopeName, candidate, isWhole: true, backends, action });
  }

  finish(ids: StableIds): { readonly sections: RouteSections; readonly rows: readonly RouteRow[] } {
    const ordered = [...this.entries].sort((a, b) => a.scope - b.scope || compareCandidates(a.candidate, b.candidate));
    const ruleIds = ids.assign(ordered.map(ruleKey));
    const chains = new Chains();
    for (const { scope, host } of this.stops.values()) chains.hostRow(scope, host === '' ? -1 : this.hosts.find(host), true);
    const rows = ordered.map((entry) => {
      const ruleId = ruleIds.get(ruleKey(entry)) ?? -1;
      this.addNode(chains, entry, ruleId);
      return describe(entry, ruleId);
    });
    const sections = {
      ...chains.sections(),
      hostParents: this.hosts.items.map((host) => this.hostParent(host)),
      pathParents: this.paths.items.map((path) => this.pathParent(path)),
      pathLengths: this.paths.items.map((path) => Buffer.byteLength(path)),
      actions: this.actionRows,
      backends: this.backendRows,
    };
    return { sections, rows };
  }

  private addNode(chains: Chains, { scope, candidate, isWhole, action }: Entry, ruleId: number): void {
    const host = candidate.hostname === '' ? -1 : this.hosts.find(candidate.hostname);
    if (isWhole) {
      chains.append(chains.hostRow(scope, host, false), WHOLE_CONNECTION, [NodePath.Prefix, -1, -1, action, ruleId]);
      return;
    }
    const value = candidate.match?.path?.value ?? '/';
    const hasSlash = value.length > 1 && value.endsWith('/');
    const path = this.paths.add(hasSlash ? value.slice(0, -1) : value);
    const isExact = candidate.match?.path?.type === PathMatch_Type.EXACT;
    const kind = !isExact ? NodePath.Prefix : hasSlash ? NodePath.ExactSlash : NodePath.Exact;
    const method = (METHODS as readonly string[]).indexOf(candidate.match?.method ?? '');
    chains.append(chains.hostRow(scope, host, false), path, [kind, method, chains.bits(this.bitsOf(candidate.match)), action, ruleId]);
  }

  /** Indexes of the predicates that must all hold. A method without a number of its own is one of them. */
  private bitsOf(match: HttpMatch | null): number[] {
    if (match === null) return [];
    const of = (kind: 'header' | 'query', values: readonly ValueMatch[]): number[] =>
      values.map(({ name, value }) => this.predicates.add({ kind, name, value }));
    const bits = [...of('header', match.headers), ...of('query', match.query)];
    if (match.method !== '' && !(METHODS as readonly string[]).includes(match.method)) {
      bits.push(this.predicates.add({ kind: 'method', name: '', value: match.method }));
    }
    if (match.grpcMethod !== '') bits.push(this.predicates.add({ kind: 'grpcMethod', name: '', value: match.grpcMethod }));
    return bits;
  }

  private actionOf(rule: HttpRule, variant: Variant, shownBy: string): number {
    const ofRule = this.actionByRule.get(rule) ?? new Map<string, number>();
    this.actionByRule.set(rule, ofRule);
    const known = ofRule.get(shownBy);
    if (known !== undefined) return known;
    const mutations = [this.mutationOf(rule.requestHeaders), this.mutationOf(rule.responseHeaders)] as const;
    const row = this.addAction(rule.backends, variant, shownBy, [...mutations, rule.requestTimeoutMs, rule.backendTimeoutMs]);
    ofRule.set(shownBy, row);
    return row;
  }

  /** `rest`: the row's words after the backends. */
  private addAction(
    backends: readonly Backend[],
    variant: Variant,
    shownBy: string,
    rest: readonly [requestMutation: number, responseMutation: number, timeoutMs: number, attemptTimeoutMs: number],
  ): number {
    const first = this.backendRows.length / 2;
    let total = 0;
    for (const { service, port, weight } of backends) {
      if (weight === 0) continue;
      total += weight;
      const row =
        this.clusterRows.get(variantName(service, port, variant, shownBy)) ?? this.clusterRows.get(variantName(service, port, variant));
      this.backendRows.push(total, row ?? -1);
    }
    const row = this.actionRows.length / 7;
    this.actionRows.push(first, this.backendRows.length / 2 - first, total, ...rest);
    return row;
  }

  private mutationOf(mutation: HeaderMutation | undefined): number {
    if (mutation === undefined) return -1;
    const pairs = (headers: HeaderMutation['set']) => headers.map(({ name, value }) => [name.toLowerCase(), value] as const);
    const spec = { remove: mutation.remove.map((name) => name.toLowerCase()), set: pairs(mutation.set), add: pairs(mutation.add) };
    return spec.remove.length + spec.set.length + spec.add.length === 0 ? -1 : this.mutations.add(spec);
  }

  private hostParent(host: string): number {
    const labels = host.split('.');
    for (let from = host.startsWith('*.') ? 2 : 1; from < labels.length; from++) {
      const parent = this.hosts.find(`*.${labels.slice(from).join('.')}`);
      if (parent >= 0) return parent;
    }
    return -1;
  }

  private pathParent(path: string): number {
    for (let end = path.lastIndexOf('/'); end > 0; end = path.lastIndexOf('/', end - 1)) {
      const parent = this.paths.find(path.slice(0, end));
      if (parent >= 0) return parent;
    }
    return path === '/' ? -1 : this.paths.find('/');
  }
}

/** Nodes and the two indexes that lead to them, as they grow. Nodes must come in order of precedence. */
class Chains {
  private readonly hostRows = new Map<string, { readonly scope: number; readonly host: number; readonly row: number; stop: boolean }>();
  private readonly heads: [row: number, path: number, first: number][] = [];
  private readonly tails = new Map<string, number>();
  private readonly nodes: number[] = [];
  private readonly predicates: number[] = [];

  hostRow(scope: number, host: number, stop: boolean): number {
    const key = `${scope} ${host}`;
    let entry = this.hostRows.get(key);
    if (entry === undefined) {
      entry = { scope, host, row: this.hostRows.size, stop };
      this.hostRows.set(key, entry);
    }
    entry.stop ||= stop;
    return entry.row;
  }

  append(hostRow: number, path: number, node: readonly number[]): void {
    const key = `${hostRow} ${path}`;
    const row = this.nodes.length / 6;
    const tail = this.tails.get(key);
    if (tail === undefined) this.heads.push([hostRow, path, row]);
    else this.nodes[tail * 6 + 5] = row;
    this.tails.set(key, row);
    this.nodes.push(...node, -1);
  }

  /** Offset of the condition that all `bits` are set; -1 for none. */
  bits(bits: readonly number[]): number {
    if (bits.length === 0) return -1;
    const masks = new Map<number, number>();
    for (const bit of bits) masks.set(bit >>> 5, (masks.get(bit >>> 5) ?? 0) | (1 << (bit & 31)));
    const offset = this.predicates.length;
    this.predicates.push(masks.size, ...[...masks].flat());
    return offset;
  }

  sections(): Pick<RouteSections, 'hostIndex' | 'pathIndex' | 'nodes' | 'predicates'> {
    const hosts = [...this.hostRows.values()].map(({ scope, host, row, stop }) => [scope, host, row * 2 + (stop ? 1 : 0)] as const);
    return { hostIndex: buildIndex(hosts), pathIndex: buildIndex(this.heads), nodes: this.nodes, predicates: this.predicates };
  }
}

function ruleKey(entry: Entry): string {
  const { hostname, route, ruleIndex, matchIndex } = entry.candidate;
  return `${entry.scopeName}|${hostname}|${route}|${ruleIndex}|${matchIndex}|${textOf(entry)}`;
}

function describe(entry: Entry, ruleId: number): RouteRow {
  const { scopeName, candidate, isWhole, backends } = entry;
  const { hostname, route, ruleIndex } = candidate;
  return {
    scope: scopeName,
    host: hostname,
    match: textOf(entry),
    route: isWhole ? route : `${route} rule ${ruleIndex}`,
    backends,
    ruleId,
  };
}

function textOf({ isWhole, candidate }: Entry): string {
  return isWhole ? 'connection' : matchText(candidate.match);
}

function matchText(match: HttpMatch | null): string {
  if (match === null) return 'PathPrefix /';
  const path =
    match.path === undefined ? 'PathPrefix /' : `${match.path.type === PathMatch_Type.EXACT ? 'Exact' : 'PathPrefix'} ${match.path.value}`;
  const headers = match.headers.map(({ name, value }) => `header ${name}=${value}`);
  const query = match.query.map(({ name, value }) => `query ${name}=${value}`);
  const grpcMethod = match.grpcMethod === '' ? '' : `gRPC method ${match.grpcMethod}`;
  return [match.method, path, grpcMethod, ...headers, ...query].filter((part) => part !== '').join(' ');
}
