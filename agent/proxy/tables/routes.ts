// Rules for requests and for whole connections → chains of nodes that the decision walks: (scope, host, path) finds the first node, links lead to the next in precedence.
// Hosts, paths, predicates and mutations become indexes of the engine's tables. A scope is a service's port or a gateway's port.
import { compareCandidates, type RouteCandidate } from '../../../api/compile/route-order.js';
import {
  type Backend,
  type ConnectionRoute,
  type HttpMatch,
  type HttpRoute,
  PathMatch_Type,
  type ValueMatch,
  ValueMatch_Type,
} from '../../../api/gen/mesh/v1/model.js';
import { httpRouteName } from '../../model/faults.js';
import { METHODS } from '../../native/engine.js';
import type { FilterChains } from '../filters/filter-tables.js';
import { type LimitMemory, LimitPlan } from '../rate-limit/plan.js';
import { Actions, type Entrance } from './actions.js';
import { type Variant, variantName } from './clusters.js';
import { Conditions, type Source } from './conditions.js';
import { Interner } from './interner.js';
import { ANY_PATH, HOST_FLAG_BITS, HostFlag, NODE_WORDS, NodePath, NodeWord, WHOLE_CONNECTION } from './layout.js';
import { buildPairIndex } from './pair-index.js';
import type { StableIds } from './stable-ids.js';

/** A rule's match under one host of one scope, as it is tried: what the node at the same row of `nodes` says in words. */
export interface RouteRow {
  /** "service shop/catalog:80" or "gateway shop/edge:8080" */
  readonly scope: string;
  /** Row in scopes. */
  readonly scopeRow: number;
  /** For connections, not for requests. */
  readonly isConnection: boolean;
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
  /** Tried where it stands among its route's, and not by precedence. */
  readonly inOrder: boolean;
  readonly backends: readonly Backend[];
  readonly action: number;
}

export interface RouteSections {
  readonly hostParents: number[];
  readonly pathParents: number[];
  readonly pathLengths: number[];
  readonly hostIndex: Int32Array;
  readonly pathIndex: Int32Array;
  readonly nodes: number[];
  readonly predicates: number[];
  readonly sourceSets: number[];
  readonly actions: number[];
  readonly backends: number[];
  readonly extras: number[];
  readonly mirrors: number[];
  readonly origins: number[];
}

export class RouteChains {
  readonly hosts = new Interner<string>((host) => host);
  readonly paths = new Interner<string>((path) => path);
  readonly conditions: Conditions;
  readonly actions: Actions;
  private readonly entries: Entry[] = [];
  /** Scope and host beyond which no more general host is tried. */
  private readonly stops = new Map<string, { readonly scope: number; readonly host: string }>();

  readonly limits: LimitPlan;

  constructor(clusterRows: ReadonlyMap<string, number>, sources: readonly Source[], memory: LimitMemory, filters: FilterChains) {
    this.conditions = new Conditions(sources);
    this.limits = new LimitPlan(memory, this.conditions, (service, port) => clusterRows.get(variantName(service, port, 'http2')) ?? -1);
    this.actions = new Actions(clusterRows, this.conditions, this.limits, filters);
  }

  /** Requests of `host` that no rule under it matches get 404, though a more general host has rules. Empty: every host. */
  stopAt(scope: number, host: string): void {
    this.stops.set(`${scope} ${host}`, { scope, host });
    if (host !== '') this.hosts.add(host);
  }

  /** All rules of a route under one host; empty: every host. `shownBy`: the gateway whose certificate backends are shown; empty: none is. */
  add(scope: number, scopeName: string, host: string, route: HttpRoute, entrance: Entrance, shownBy = ''): void {
    if (host !== '') this.hosts.add(host);
    const name = httpRouteName(route);
    const variant = route.kind === 'GRPCRoute' ? 'http2' : 'declared';
    route.rules.forEach((rule, ruleIndex) => {
      const matches: (HttpMatch | null)[] = rule.matches.length === 0 ? [null] : rule.matches;
      const hasCors = rule.cors !== undefined || rule.backends.some(({ cors }) => cors !== undefined);
      matches.flatMap(hasCors ? withPreflight : (match) => [match]).forEach((match, matchIndex) => {
        if (match !== null && match.port !== 0 && match.port !== entrance.port) return;
        const action = this.actions.ofRule(rule, match, variant, shownBy, entrance);
        const candidate = {
          hostname: host,
          match,
          createdAtMs: route.createdAtMs,
          route: name,
          ruleIndex,
          matchIndex,
          inOrder: route.inOrder,
        };
        this.entries.push({ scope, scopeName, candidate, isWhole: false, inOrder: route.inOrder, backends: rule.backends, action });
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
    const candidate = { hostname: serverName, match: null, createdAtMs, route, ruleIndex: 0, matchIndex: 0, inOrder: false };
    const action = this.actions.ofConnections(backends, variant, shownBy);
    this.entries.push({ scope, scopeName, candidate, isWhole: true, inOrder: false, backends, action });
  }

  finish(ids: StableIds): { readonly sections: RouteSections; readonly rows: readonly RouteRow[] } {
    const ordered = [...this.entries].sort((a, b) => a.scope - b.scope || compareCandidates(a.candidate, b.candidate));
    const ruleIds = ids.assign(ordered.map(ruleKey));
    const chains = new Chains();
    for (const { scope, host } of this.stops.values()) chains.hostRow(scope, host === '' ? -1 : this.hosts.find(host), HostFlag.Stop);
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
      sourceSets: this.conditions.sets,
      actions: this.actions.rows,
      backends: this.actions.backends,
      extras: this.actions.extras,
      mirrors: this.actions.mirrors,
      origins: this.actions.origins,
    };
    return { sections, rows };
  }

  private addNode(chains: Chains, { scope, candidate, isWhole, inOrder, action }: Entry, ruleId: number): void {
    const host = candidate.hostname === '' ? -1 : this.hosts.find(candidate.hostname);
    if (isWhole) {
      chains.append(chains.hostRow(scope, host, 0), WHOLE_CONNECTION, [NodePath.Prefix, -1, -1, action, ruleId]);
      return;
    }
    const methodOf = (match: HttpMatch | null): number => (METHODS as readonly string[]).indexOf(match?.method ?? '');
    if (inOrder || candidate.match?.path?.type === PathMatch_Type.REGEX) {
      const condition = chains.condition(this.conditions.wordsOf(candidate.match, true));
      // The host is the VirtualService's (Istio): what it doesn't match is nobody else's.
      const row = chains.hostRow(scope, host, HostFlag.Listed | (inOrder ? HostFlag.Final : 0));
      chains.append(row, ANY_PATH, [NodePath.Any, methodOf(candidate.match), condition, action, ruleId]);
      return;
    }
    const value = candidate.match?.path?.value ?? '/';
    const hasSlash = value.length > 1 && value.endsWith('/');
    const path = this.paths.add(hasSlash ? value.slice(0, -1) : value);
    const isExact = candidate.match?.path?.type === PathMatch_Type.EXACT;
    const kind = !isExact ? NodePath.Prefix : hasSlash ? NodePath.ExactSlash : NodePath.Exact;
    const condition = chains.condition(this.conditions.wordsOf(candidate.match, false));
    chains.append(chains.hostRow(scope, host, 0), path, [kind, methodOf(candidate.match), condition, action, ruleId]);
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

/** Beside it the preflight request for what it matches, which names the method in a header (Gateway API, HTTPCORSFilter). */
function withPreflight(match: HttpMatch | null): (HttpMatch | null)[] {
  if (match === null || match.method === '' || match.method === 'OPTIONS') return [match];
  const exact = { name: 'access-control-request-method', value: match.method, type: ValueMatch_Type.EXACT, inverted: false };
  const origin = { name: 'origin', value: '', type: ValueMatch_Type.PRESENT, inverted: false };
  return [match, { ...match, method: 'OPTIONS', headers: [...match.headers, exact, origin] }];
}

/** Nodes and the two indexes that lead to them, as they grow. Nodes must come in order of precedence. */
class Chains {
  private readonly hostRows = new Map<string, { readonly scope: number; readonly host: number; readonly row: number; flags: number }>();
  private readonly heads: [row: number, path: number, first: number][] = [];
  private readonly tails = new Map<string, number>();
  private readonly nodes: number[] = [];
  private readonly predicates: number[] = [];

  hostRow(scope: number, host: number, flags: number): number {
    const key = `${scope} ${host}`;
    let entry = this.hostRows.get(key);
    if (entry === undefined) {
      entry = { scope, host, row: this.hostRows.size, flags };
      this.hostRows.set(key, entry);
    }
    entry.flags |= flags;
    return entry.row;
  }

  append(hostRow: number, path: number, node: readonly number[]): void {
    const key = `${hostRow} ${path}`;
    const row = this.nodes.length / NODE_WORDS;
    const tail = this.tails.get(key);
    if (tail === undefined) this.heads.push([hostRow, path, row]);
    else this.nodes[tail * NODE_WORDS + NodeWord.Next] = row;
    this.tails.set(key, row);
    this.nodes.push(...node, -1);
  }

  /** Offset of the condition; -1 for none. */
  condition(words: readonly number[]): number {
    if (words.length === 0) return -1;
    const offset = this.predicates.length;
    this.predicates.push(...words);
    return offset;
  }

  sections(): Pick<RouteSections, 'hostIndex' | 'pathIndex' | 'nodes' | 'predicates'> {
    const hosts = [...this.hostRows.values()].map(({ scope, host, row, flags }) => [scope, host, (row << HOST_FLAG_BITS) + flags] as const);
    return { hostIndex: buildPairIndex(hosts), pathIndex: buildPairIndex(this.heads), nodes: this.nodes, predicates: this.predicates };
  }
}

function ruleKey(entry: Entry): string {
  const { hostname, route, ruleIndex, matchIndex } = entry.candidate;
  return `${entry.scopeName}|${hostname}|${route}|${ruleIndex}|${matchIndex}|${textOf(entry)}`;
}

function describe(entry: Entry, ruleId: number): RouteRow {
  const { scope, scopeName, candidate, isWhole, backends } = entry;
  const { hostname, route, ruleIndex } = candidate;
  return {
    scope: scopeName,
    scopeRow: scope,
    isConnection: isWhole,
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
  const path = match.path === undefined ? 'PathPrefix /' : `${PATH_TYPES[match.path.type] ?? ''} ${match.path.value}`;
  const values = [
    ...match.headers.map((each) => valueText(`header ${each.name}`, each)),
    ...match.query.map((each) => valueText(`query ${each.name}`, each)),
    ...(match.authority === undefined ? [] : [valueText('authority', match.authority)]),
    ...(match.scheme === undefined ? [] : [valueText('scheme', match.scheme)]),
    ...(match.methodPattern === undefined ? [] : [valueText('method', match.methodPattern)]),
  ];
  const labels = Object.entries(match.source?.labels ?? {}).map(([name, value]) => `${name}=${value}`);
  const source = match.source === undefined ? '' : `from ${[match.source.namespace, ...labels].filter((part) => part !== '').join(' ')}`;
  const grpcMethod = match.grpcMethod === '' ? '' : `gRPC method ${match.grpcMethod}`;
  return [match.method, path, grpcMethod, ...values, source].filter((part) => part !== '').join(' ');
}

const PATH_TYPES: Readonly<Record<number, string>> = {
  [PathMatch_Type.PREFIX]: 'PathPrefix',
  [PathMatch_Type.EXACT]: 'Exact',
  [PathMatch_Type.REGEX]: 'RegularExpression',
  [PathMatch_Type.TEXT_PREFIX]: 'Prefix',
};

function valueText(name: string, { type, value, inverted }: ValueMatch): string {
  if (type === ValueMatch_Type.PRESENT) return `${inverted ? 'no ' : ''}${name}`;
  const operators = { [ValueMatch_Type.EXACT]: '=', [ValueMatch_Type.REGEX]: '~', [ValueMatch_Type.PREFIX]: '^=' } as const;
  return `${name}${inverted ? '!' : ''}${operators[type as keyof typeof operators] ?? '='}${value}`;
}
