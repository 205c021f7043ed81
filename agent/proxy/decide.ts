// The decision on every request and connection: with what it calls the only code of ours that runs for each of them.
// Runs on a worker's thread, once a tick, over a batch. Allocates nothing, keeps no strings, reads bytes only where a rule's pattern asks for
// them; everything was prepared in the decision tables. Must not throw: the engine has no answer to that.
import {
  COMPLETION_WORDS,
  Completion,
  DECISION_WORDS,
  DEFERRED,
  DEFERRED_PLACE_BITS,
  DESCRIPTOR_WORDS,
  Decision,
  DecisionFlag,
  Descriptor,
  DescriptorFlag,
  type Engine,
  Header,
  MAX_TRIED,
  METHODS,
  StreamKind,
} from '../native/engine.js';
import { account } from './account.js';
import { Attempts } from './attempts.js';
import { Balancers } from './balance.js';
import type { DeferredDecisions } from './deferred.js';
import type { EndpointStates } from './endpoint-states.js';
import type { FilterCalls, Filtered } from './filters/filter-calls.js';
import { giveCookie, givesCookie, keyHash } from './hash-key.js';
import { type Cells, Traffic } from './metrics/cells.js';
import { below, mix, pickMember } from './pick.js';
import { RateLimits } from './rate-limit/limits.js';
import { RequestText } from './request-text.js';
import { type Gate, OVERFLOW, rankOf } from './resilience/gate.js';
import { type SessionSpec, Sessions } from './sessions.js';
import { LABEL_BLACKHOLE, LABEL_PASSTHROUGH, LABEL_UNKNOWN } from './tables/labels.js';
import {
  ACTION_WORDS,
  ActionWord,
  ANY_PATH,
  BACKEND_WORDS,
  BackendWord,
  CLUSTER_WORDS,
  ClusterWord,
  ConditionWord,
  DESTINATION_WORDS,
  type DecisionTables,
  DestinationWord,
  EXTRAS_WORDS,
  ExtrasWord,
  GUARD_WORDS,
  GuardWord,
  HOST_FLAG_BITS,
  HostFlag,
  LISTENER_WORDS,
  ListenerKind,
  ListenerWord,
  lookup,
  MEMBER_WORDS,
  MemberWord,
  MIRROR_WORDS,
  MirrorWord,
  NODE_WORDS,
  NodePath,
  NodeWord,
  OriginsWord,
  PASS_ON,
  PLAN_WORDS,
  PlanWord,
  Reply,
  SCOPE_WORDS,
  ScopeWord,
  WHOLE_CONNECTION,
} from './tables/layout.js';
import { isTried, untried } from './tried.js';

// An enum of another module is an object to the compiler: copied once, so that the walk reads constants.
const D_KIND = Descriptor.Kind as number;
const D_METHOD = Descriptor.Method as number;
const D_LISTENER = Descriptor.ListenerId as number;
const D_DESTINATION = Descriptor.DestinationId as number;
const D_HOST = Descriptor.HostId as number;
const D_PATH = Descriptor.PathId as number;
const D_FLAGS = Descriptor.Flags as number;
const D_PREDICATES = Descriptor.PredicateOffset as number;
const D_SOURCE = Descriptor.SourceId as number;
const D_PATH_OFFSET = Descriptor.PathOffset as number;
const D_TOKEN = Descriptor.PreviousToken as number;
const D_PATH_LENGTH = Descriptor.PathLength as number;
const D_ATTEMPT = Descriptor.Attempt as number;
const D_RANDOM = Descriptor.Random as number;
const D_PREVIOUS = Descriptor.PreviousTarget as number;
const D_SERVER_NAME = Descriptor.ServerNameId as number;
const TLS = DescriptorFlag.Tls as number;
const TENTATIVE = DescriptorFlag.Tentative as number;
const DIALLED = DescriptorFlag.Dialled as number;
const PATH_EXACT = DescriptorFlag.PathExact as number;
const OPAQUE = StreamKind.Opaque as number;
const CONNECT = METHODS.indexOf('CONNECT');
const DELIVER = (DecisionFlag.BindClient | DecisionFlag.MarkDeliver) as number;
const INJECT = (DecisionFlag.BindClient | DecisionFlag.MarkInject) as number;
const RETRY = DecisionFlag.Retry as number;
const PROMPT = DecisionFlag.Prompt as number;
const GATEWAY = ListenerKind.Gateway as number;
const OUTBOUND = ListenerKind.Outbound as number;
const INBOUND = ListenerKind.Inbound as number;
const MIRROR = DescriptorFlag.Mirror as number;
const HEDGE = DescriptorFlag.Hedge as number;
const EXTENDED = DecisionFlag.Extended as number;
const ANSWERED = DescriptorFlag.Answered as number;
const FILTERED = DescriptorFlag.Filtered as number;
const FILTERED_NOW = DecisionFlag.Filtered as number;
const X_FILTERS = ExtrasWord.Filters as number;
const OPTIONS = METHODS.indexOf('OPTIONS');
const L_KIND = ListenerWord.Kind as number;
const L_SCOPE = ListenerWord.Scope as number;
const STOP = HostFlag.Stop as number;
const LISTED = HostFlag.Listed as number;
const FINAL = HostFlag.Final as number;
const B_UP_TO = BackendWord.UpTo as number;
const B_CLUSTER = BackendWord.Cluster as number;
const B_REWRITE = BackendWord.Rewrite as number;
const B_REPLACEMENT = BackendWord.Replacement as number;
const C_BITS = ConditionWord.Bits as number;
const C_REST = ConditionWord.Rest as number;
const C_PATTERNS = ConditionWord.Patterns as number;
const C_SOURCES = ConditionWord.Sources as number;
const W_BALANCER = ClusterWord.Balancer as number;
const M_ENDPOINT = MemberWord.EndpointId as number;
const NODE_PREFIX = NodePath.Prefix as number;
const NODE_EXACT = NodePath.Exact as number;
const NODE_EXACT_SLASH = NodePath.ExactSlash as number;
const N_PATH = NodeWord.Path as number;
const N_METHOD = NodeWord.Method as number;
const N_PREDICATES = NodeWord.Predicates as number;
const N_ACTION = NodeWord.Action as number;
const N_RULE = NodeWord.RuleId as number;
const N_NEXT = NodeWord.Next as number;
const D_ROW_SCOPE = DestinationWord.Scope as number;
const D_ROW_LOCAL = DestinationWord.IsLocal as number;
const D_ROW_SERVICE = DestinationWord.ServiceLabel as number;
const D_ROW_WORKLOAD = DestinationWord.WorkloadLabel as number;
const D_ROW_GUARD = DestinationWord.Guard as number;
/** In place of a member: each has as many requests as it may have. */
const ALL_FULL = -2;
const D_ROW_LIMITS = DestinationWord.Limits as number;

const MILLION = 1_000_000;
const HTTP_PORT = 80;
const PLACE_MASK = (1 << DEFERRED_PLACE_BITS) - 1;
const ROOT_TEXT = Buffer.from('/');
/** As in hostIndex and hostParents. */
const ANY_HOST = -1;
/** Attempts after the first, on connect failures only. */
const MAX_RETRIES = 2;
/** What the decision needs of the engine; the engine's memory in production, plain arrays in tests. */
export type Batch = Pick<
  Engine,
  'header' | 'clock' | 'descriptors' | 'decisions' | 'completions' | 'predicates' | 'tried' | 'arena' | 'texts'
>;

export class Decider {
  private tables: DecisionTables;
  /** Of these tables. */
  private balancers: Balancers;
  /** Published but not yet seen in a batch. */
  private next: DecisionTables | null = null;
  private batch: Batch | null = null;
  private deferred: Pick<DeferredDecisions<Filtered>, 'end'> | null = null;
  private filters: FilterCalls | null = null;
  /** Of the request that is decided on: what its filters made of it, where it waited for them. */
  private filtered: Filtered | null = null;
  /** Its filters have seen it. */
  private hasPassed = false;
  /** Of deferred decisions by their place: what they are accounted to should they end so. */
  private readonly deferredEdges = new Int32Array(1 << DEFERRED_PLACE_BITS);
  private readonly text = new RequestText();
  private readonly rateLimits = new RateLimits(this.text);
  private readonly sessions = new Sessions();
  /** Endpoint of the session of the request that is decided on; -1: it has none. */
  private kept = -1;
  /** The decision that is being made has words of the second half. */
  private isExtended = false;
  private attempts: Attempts;

  constructor(
    tables: DecisionTables,
    private readonly cells: Cells,
    private readonly outstanding: Int32Array,
    private readonly states: EndpointStates,
    private readonly gate: Gate,
    private readonly logFlag: 0 | DecisionFlag.Log,
  ) {
    this.tables = tables;
    this.balancers = new Balancers(tables, states, outstanding);
    this.attempts = new Attempts(tables, null);
  }

  /** Before the first batch. Apart from the constructor because the engine wants the callback before it gives its memory. Without `filters` none is asked. */
  attach(batch: Batch, deferred: Pick<DeferredDecisions<Filtered>, 'end'> | null = null, filters: FilterCalls | null = null): void {
    this.batch = batch;
    this.deferred = deferred;
    this.filters = filters;
  }

  /** Call with engine.useTables(): the first batch of this generation switches over. */
  install(tables: DecisionTables): void {
    this.next = tables;
  }

  /** Generation that the last batch used. */
  get generation(): number {
    return this.tables.generation;
  }

  /** The engine's callback: fills every decision, accounts for every completion. */
  readonly run = (): void => {
    const batch = this.batch;
    if (batch === null) return;
    const header = batch.header;
    if (this.next !== null && header[Header.Generation] === this.next.generation) {
      this.next.inherit(this.tables);
      this.tables = this.next;
      this.balancers = new Balancers(this.tables, this.states, this.outstanding);
      this.attempts = new Attempts(this.tables, this.attempts);
      this.next = null;
    }
    // First what has ended: it makes room for what begins.
    const completions = header[Header.CompletionCount]!;
    const nowUs = batch.clock[0]!;
    this.balancers.nowUs = nowUs;
    for (let i = 0; i < completions; i++) this.complete(batch.completions, i * COMPLETION_WORDS, nowUs);
    const requests = header[Header.RequestCount]!;
    for (let i = 0; i < requests; i++) this.decide(batch, i * DESCRIPTOR_WORDS, i * DECISION_WORDS);
  };

  private complete(completions: Int32Array, c: number, nowUs: number): void {
    if (completions[c] === DEFERRED) {
      const token = completions[c + Completion.Token]!;
      this.deferred?.end(token);
      completions[c + Completion.Token] = this.deferredEdges[token & PLACE_MASK]!;
    }
    account(this.cells, this.states, this.gate, this.attempts, nowUs, completions, c);
  }

  private decide(batch: Batch, d: number, q: number): void {
    const { descriptors, decisions } = batch;
    // Whatever became of the one before.
    this.isExtended = false;
    this.hasPassed = false;
    this.filtered = (descriptors[d + D_FLAGS]! & ANSWERED) === 0 ? null : (this.filters?.take(descriptors[d + D_TOKEN]!) ?? null);
    decisions[q + Decision.Flags] = 0;
    decisions[q + Decision.Token] = 0;
    decisions[q + Decision.RequestMutation] = -1;
    decisions[q + Decision.ResponseMutation] = -1;
    decisions[q + Decision.TimeoutMs] = 0;
    decisions[q + Decision.AttemptTimeoutMs] = 0;
    decisions[q + Decision.LocalReply] = -1;
    decisions[q + Decision.RouteId] = -1;
    const { listeners, destinations } = this.tables;
    const listener = descriptors[d + D_LISTENER]! * LISTENER_WORDS;
    const kind = listeners[listener + L_KIND]!;
    if ((descriptors[d + D_FLAGS]! & MIRROR) !== 0) {
      this.mirror(batch, d, q, kind === GATEWAY ? Traffic.Gateway : Traffic.Outbound);
      return;
    }
    if (kind === GATEWAY) {
      const scope = listeners[listener + L_SCOPE]!;
      if (descriptors[d + D_KIND] === OPAQUE) {
        this.routeConnection(batch, d, q, scope, Traffic.Gateway);
      } else if (this.isMisdirected(descriptors, d, scope)) {
        this.answer(batch, d, q, 421, Reply.Misdirected, this.tables.scopes[scope * SCOPE_WORDS + ScopeWord.Label]!, Traffic.Gateway);
      } else {
        this.route(batch, d, q, scope, Traffic.Gateway);
      }
      return;
    }
    const destination = descriptors[d + D_DESTINATION]! * DESTINATION_WORDS;
    if (kind === OUTBOUND && destination >= 0 && destinations[destination + D_ROW_SCOPE]! >= 0) {
      const scope = this.scopeOf(destinations[destination + D_ROW_SCOPE]!, descriptors[d + D_SOURCE]!);
      if (descriptors[d + D_KIND] !== OPAQUE) this.route(batch, d, q, scope, Traffic.Outbound);
      else this.routeConnection(batch, d, q, scope, Traffic.Outbound);
      return;
    }
    if (kind === OUTBOUND && this.tables.hasOutside && this.isForOutside(batch, d, q, destination)) return;
    if (kind === OUTBOUND || kind === INBOUND) this.passOn(batch, d, q, destination, kind, false);
    else this.answer(batch, d, q, 404, Reply.NoRoute, LABEL_UNKNOWN, Traffic.Gateway);
  }

  /** True: the decision is made, by the rules for hosts outside of the mesh: of the destination's port, or the one that the client names. */
  private isForOutside(batch: Batch, d: number, q: number, destination: number): boolean {
    const { destinations, outside } = this.tables;
    const isBytes = batch.descriptors[d + D_KIND] === OPAQUE;
    let scope = -1;
    if (destination >= 0) scope = destinations[destination + DestinationWord.Outside]!;
    else if (!isBytes) {
      const port = this.text.port(batch, d);
      scope = lookup(outside, port < 0 ? HTTP_PORT : port, 0);
    }
    if (scope < 0) return false;
    if (isBytes) this.routeConnection(batch, d, q, scope, Traffic.Outbound);
    else this.route(batch, d, q, scope, Traffic.Outbound);
    return true;
  }

  /** Of a service's scope the one that the client's namespace has instead, if it has. */
  private scopeOf(scope: number, source: number): number {
    const { scopes, sourceTenants, consumers } = this.tables;
    if (scopes[scope * SCOPE_WORDS + ScopeWord.HasConsumers] === 0 || source < 0) return scope;
    const own = lookup(consumers, scope, sourceTenants[source]!);
    return own < 0 ? scope : own;
  }

  /**
   * A connection belongs to the listener of its TLS server name; a request for another listener's host is not for it (RFC 9110 15.5.20;
   * Gateway API, HTTPS listeners). A host that is no listener's is 404 like any other.
   */
  private isMisdirected(descriptors: Int32Array, d: number, scope: number): boolean {
    const host = descriptors[d + D_HOST]!;
    const serverName = descriptors[d + D_SERVER_NAME]!;
    if (host === serverName || (descriptors[d + D_FLAGS]! & TLS) === 0) return false;
    const owner = this.listenerOf(scope, host);
    return owner >= 0 && owner !== this.listenerOf(scope, serverName);
  }

  /** Row of the listener's hostname: the first from the host on at which the search stops (RouteChains.stopAt); -1: no listener's. */
  private listenerOf(scope: number, from: number): number {
    const { hostIndex, hostParents } = this.tables;
    for (let host = from; host >= ANY_HOST; host = host === ANY_HOST ? ANY_HOST - 1 : hostParents[host]!) {
      const entry = lookup(hostIndex, scope, host);
      if (entry >= 0 && (entry & STOP) !== 0) return entry >> HOST_FLAG_BITS;
    }
    return -1;
  }

  /** To the connection's own destination: every inbound one, and outbound what is no service's address. */
  private passOn(batch: Batch, d: number, q: number, destination: number, kind: number, isNamed: boolean): void {
    const { descriptors, decisions } = batch;
    const { destinations, sourceEgress } = this.tables;
    const isKnown = destination >= 0;
    // By its name it is known as well. (No such row: undefined.)
    if (kind === OUTBOUND && !isKnown && !isNamed && sourceEgress[descriptors[d + D_SOURCE]!] === 1) {
      this.answer(batch, d, q, 502, Reply.NotInRegistry, LABEL_BLACKHOLE, Traffic.Outbound);
      return;
    }
    const isLocal = kind === INBOUND || (isKnown && destinations[destination + D_ROW_LOCAL] === 1);
    const service = isKnown ? destinations[destination + D_ROW_SERVICE]! : LABEL_PASSTHROUGH;
    const workload = isKnown ? destinations[destination + D_ROW_WORKLOAD]! : LABEL_UNKNOWN;
    const traffic = kind === INBOUND ? Traffic.Inbound : Traffic.Outbound;
    const limits = isKnown && isLocal ? destinations[destination + D_ROW_LIMITS]! : -1;
    if (limits >= 0 && this.isLimited(batch, d, q, limits, service, traffic)) return;
    const watched = isKnown && kind === INBOUND ? this.watchedBy(destinations[destination + D_ROW_GUARD]!) : 0;
    const random = descriptors[d + D_RANDOM]!;
    if (watched !== 0 && !this.isAdmitted(batch, d, destinations[destination + D_ROW_GUARD]!, watched, random)) {
      this.refuse(batch, d, q, service, traffic);
      return;
    }
    decisions[q] = -1;
    decisions[q + Decision.Flags] = (isLocal ? DELIVER : INJECT) | this.logFlag;
    decisions[q + Decision.Token] = this.begin(descriptors, d, service, workload, traffic);
    if (watched !== 0) this.watch(decisions, q, watched, false);
    this.finishExtended(batch, q);
  }

  /** Most specific host first, in each the longest path first, on each in order of precedence; the first whose conditions hold wins. */
  private route(batch: Batch, d: number, q: number, scope: number, traffic: Traffic): void {
    const { descriptors } = batch;
    const tables = this.tables;
    for (let host = descriptors[d + D_HOST]!; host >= ANY_HOST; host = host === ANY_HOST ? ANY_HOST - 1 : tables.hostParents[host]!) {
      const entry = lookup(tables.hostIndex, scope, host);
      if (entry >= 0) {
        const node =
          (entry & LISTED) === 0 ? this.match(batch, d, entry >> HOST_FLAG_BITS) : this.matchListed(batch, d, entry >> HOST_FLAG_BITS);
        if (node >= 0) {
          this.act(batch, d, q, scope, node, traffic);
          return;
        }
        if ((entry & FINAL) !== 0) {
          this.answer(batch, d, q, 404, Reply.NoRoute, tables.scopes[scope * SCOPE_WORDS + ScopeWord.Label]!, traffic);
          return;
        }
        if ((entry & STOP) !== 0) break;
      }
    }
    const fallback = tables.scopes[scope * SCOPE_WORDS + ScopeWord.DefaultCluster]!;
    if (fallback === PASS_ON) this.passOn(batch, d, q, descriptors[d + D_DESTINATION]! * DESTINATION_WORDS, OUTBOUND, false);
    else if (fallback >= 0 && descriptors[d + D_METHOD] !== CONNECT) {
      this.forward(batch, d, q, fallback, traffic, descriptors[d + D_RANDOM]!, -1);
      this.finishExtended(batch, q);
    } else this.answer(batch, d, q, 404, Reply.NoRoute, tables.scopes[scope * SCOPE_WORDS + ScopeWord.Label]!, traffic);
  }

  /** By the server name of TLS, where there is any: the most specific first, and there the first rule. None: it is reset. */
  private routeConnection(batch: Batch, d: number, q: number, scope: number, traffic: Traffic): void {
    const { descriptors } = batch;
    const tables = this.tables;
    for (
      let host = descriptors[d + D_SERVER_NAME]!;
      host >= ANY_HOST;
      host = host === ANY_HOST ? ANY_HOST - 1 : tables.hostParents[host]!
    ) {
      const entry = lookup(tables.hostIndex, scope, host);
      if (entry < 0) continue;
      const node = lookup(tables.pathIndex, entry >> HOST_FLAG_BITS, WHOLE_CONNECTION);
      if (node >= 0) {
        this.act(batch, d, q, scope, node * NODE_WORDS, traffic);
        return;
      }
      if ((entry & STOP) !== 0) break;
    }
    const fallback = tables.scopes[scope * SCOPE_WORDS + ScopeWord.DefaultOpaque]!;
    if (fallback === PASS_ON) this.passOn(batch, d, q, descriptors[d + D_DESTINATION]! * DESTINATION_WORDS, OUTBOUND, false);
    else if (fallback >= 0) this.forward(batch, d, q, fallback, traffic, descriptors[d + D_RANDOM]!, -1);
    else this.answer(batch, d, q, 404, Reply.NoRoute, tables.scopes[scope * SCOPE_WORDS + ScopeWord.Label]!, traffic);
  }

  /** Offset of the node that matches under the host's row; -1: none. */
  private match(batch: Batch, d: number, row: number): number {
    const { descriptors } = batch;
    const { nodes, pathIndex, pathParents, pathLengths } = this.tables;
    const method = descriptors[d + D_METHOD]!;
    const own = descriptors[d + D_PATH]!;
    for (let path = own; path >= 0; path = pathParents[path]!) {
      for (let node = lookup(pathIndex, row, path); node >= 0; node = nodes[node * NODE_WORDS + N_NEXT]!) {
        const at = node * NODE_WORDS;
        const kind = nodes[at + N_PATH]!;
        if (kind === NODE_EXACT && (path !== own || (descriptors[d + D_FLAGS]! & PATH_EXACT) === 0)) continue;
        // A whole-element prefix that is one byte shorter: the byte is a slash.
        if (kind === NODE_EXACT_SLASH && (path !== own || descriptors[d + D_PATH_LENGTH] !== pathLengths[path]! + 1)) continue;
        if (this.isMet(batch, d, at, method)) return at;
      }
    }
    return -1;
  }

  /** As match(), where the host has rules under ANY_PATH: they come behind exact paths and before prefixes. */
  private matchListed(batch: Batch, d: number, row: number): number {
    const { descriptors } = batch;
    const { nodes, pathIndex } = this.tables;
    const method = descriptors[d + D_METHOD]!;
    const byPath = this.match(batch, d, row);
    if (byPath >= 0 && nodes[byPath + N_PATH] !== NODE_PREFIX) return byPath;
    for (let node = lookup(pathIndex, row, ANY_PATH); node >= 0; node = nodes[node * NODE_WORDS + N_NEXT]!)
      if (this.isMet(batch, d, node * NODE_WORDS, method)) return node * NODE_WORDS;
    return byPath;
  }

  /** All but the path. */
  private isMet(batch: Batch, d: number, node: number, method: number): boolean {
    const { nodes } = this.tables;
    const wanted = nodes[node + N_METHOD]!;
    // A tunnel is opened only by a rule that says so: to any other it would be a way past what it allows.
    if (wanted !== method && (wanted >= 0 || method === CONNECT)) return false;
    const condition = nodes[node + N_PREDICATES]!;
    return condition < 0 || this.holds(batch, d, condition);
  }

  private holds(batch: Batch, d: number, condition: number): boolean {
    const { predicates, patterns } = this.tables;
    const { text } = this;
    const bits = batch.descriptors[d + D_PREDICATES]!;
    let at = condition + C_REST;
    for (const end = at + predicates[condition + C_BITS]! * 3; at < end; at += 3) {
      const word = bits < 0 ? 0 : batch.predicates[bits + predicates[at]!]!;
      if ((word & predicates[at + 1]!) !== predicates[at + 2]!) return false;
    }
    const sources = predicates[condition + C_SOURCES]!;
    if (sources >= 0 && !this.isAmong(sources, batch.descriptors[d + D_SOURCE]!)) return false;
    for (const end = at + predicates[condition + C_PATTERNS]! * 3; at < end; at += 3) {
      const verdict = text.find(batch, this.tables, d, predicates[at]!)
        ? patterns.test(predicates[at + 1]!, text.bytes, text.at, text.length)
        : false;
      // Of a text that there was no room for nothing is known: no rule may go by it.
      if (text.at < 0 || verdict !== (predicates[at + 2] === 1)) return false;
    }
    return true;
  }

  private isAmong(set: number, source: number): boolean {
    const { sourceSets, sourceSetWords } = this.tables;
    return source >= 0 && (sourceSets[set * sourceSetWords + (source >>> 5)]! & (1 << (source & 31))) !== 0;
  }

  private act(batch: Batch, d: number, q: number, scope: number, node: number, traffic: Traffic): void {
    const { descriptors, decisions } = batch;
    const { nodes, actions, backends, scopes } = this.tables;
    const action = nodes[node + N_ACTION]! * ACTION_WORDS;
    const rule = nodes[node + N_RULE]!;
    decisions[q + Decision.RouteId] = rule;
    decisions[q + Decision.TimeoutMs] = actions[action + ActionWord.TimeoutMs]!;
    const filters =
      actions[action + ActionWord.Extras]! < 0 ? -1 : this.tables.extras[actions[action + ActionWord.Extras]! * EXTRAS_WORDS + X_FILTERS]!;
    if (filters >= 0 && this.isFiltered(batch, d, q, filters, scopes[scope * SCOPE_WORDS + ScopeWord.Label]!, traffic)) return;
    if (rule >= 0 && descriptors[d + D_ATTEMPT] === 0) this.cells.ruleRequests[rule]! += 1;
    const random = descriptors[d + D_RANDOM]!;
    const failed = descriptors[d + D_ATTEMPT]! > 0 ? descriptors[d + D_PREVIOUS]! : -1;
    const label = scopes[scope * SCOPE_WORDS + ScopeWord.Label]!;
    const extras = actions[action + ActionWord.Extras]! * EXTRAS_WORDS;
    decisions[q + Decision.TimeoutMs] = actions[action + ActionWord.TimeoutMs]!;
    decisions[q + Decision.AttemptTimeoutMs] = actions[action + ActionWord.AttemptTimeoutMs]!;
    if (extras >= 0) {
      if (this.isAnsweredByExtras(batch, d, q, extras, label, traffic)) return;
      const limits = this.tables.extras[extras + ExtrasWord.Limits]!;
      if (limits >= 0 && this.isLimited(batch, d, q, limits, label, traffic)) return;
    }
    const session = extras < 0 ? undefined : this.tables.sessions[this.tables.extras[extras + ExtrasWord.Session]!];
    const isOfSession = session !== undefined && this.sessions.read(batch, this.tables, d, this.text, session);
    const kept = isOfSession && failed < 0 ? this.backendOfSession(action) : -1;
    const backend = (kept < 0 ? this.backendOf(action, random, failed) : kept) * BACKEND_WORDS;
    const cluster = backend < 0 ? -1 : backends[backend + B_CLUSTER]!;
    if (cluster === PASS_ON) {
      this.passOn(batch, d, q, descriptors[d + D_DESTINATION]! * DESTINATION_WORDS, OUTBOUND, true);
      return;
    }
    if (cluster < 0) {
      const reply = backend < 0 ? -1 : backends[backend + BackendWord.Reply]!;
      // A connection that is reset has no status but its flag: 503 is told as UH.
      const status = descriptors[d + D_KIND] === OPAQUE ? 503 : reply < 0 ? 500 : backends[backend + BackendWord.Status]!;
      this.answer(batch, d, q, status, reply < 0 ? Reply.NoBackend : reply, label, traffic);
      this.finishExtended(batch, q);
      return;
    }
    decisions[q + Decision.RequestMutation] = backends[backend + BackendWord.RequestMutation]!;
    decisions[q + Decision.ResponseMutation] = backends[backend + BackendWord.ResponseMutation]!;
    const rewrite = backends[backend + B_REWRITE]!;
    const replacement = backends[backend + B_REPLACEMENT]!;
    if (rewrite >= 0) this.extend(decisions, q, Decision.Rewrite, rewrite);
    if (replacement >= 0) {
      const fault = this.replacePath(batch, d, q, replacement);
      if (fault !== 0) {
        this.answer(batch, d, q, fault, Reply.NotRewritten, label, traffic);
        this.finishExtended(batch, q);
        return;
      }
    }
    const retries = extras < 0 ? -1 : this.tables.extras[extras + ExtrasWord.RetryAttempts]!;
    this.forward(batch, d, q, cluster, traffic, mix(random), retries);
    this.kept = -1;
    if (session !== undefined) this.keepSession(batch, d, q, session, isOfSession);
    this.finishExtended(batch, q);
  }

  /** True: one of the limits refuses the request, and the decision is made. */
  private isLimited(batch: Batch, d: number, q: number, limits: number, label: number, traffic: Traffic): boolean {
    const { descriptors, decisions } = batch;
    if (descriptors[d + D_KIND] === OPAQUE) return false;
    const passes = this.rateLimits.passes(batch, this.tables, d, limits, descriptors[d + D_ATTEMPT] === 0);
    if (this.rateLimits.lines !== 0) this.addAnswerLines(decisions, q, this.rateLimits.lines);
    if (passes) return false;
    this.answer(batch, d, q, 429, Reply.RateLimited, label, traffic);
    this.finishExtended(batch, q);
    return true;
  }

  /** Row of the backend with the endpoint of the session, which forward() is to take; -1: it has gone. */
  private backendOfSession(action: number): number {
    const { actions, backends, clusters, members, sessionEndpoints } = this.tables;
    const { high, low } = this.sessions;
    const first = actions[action + ActionWord.Backends]!;
    for (let row = first; row < first + actions[action + ActionWord.BackendCount]!; row++) {
      const cluster = backends[row * BACKEND_WORDS + B_CLUSTER]! * CLUSTER_WORDS;
      if (cluster < 0) continue;
      const member = clusters[cluster + ClusterWord.Members]!;
      for (let at = member; at < member + clusters[cluster + ClusterWord.MemberCount]!; at++) {
        const endpoint = members[at * MEMBER_WORDS + M_ENDPOINT]!;
        if (sessionEndpoints[endpoint * 2] !== high || sessionEndpoints[endpoint * 2 + 1] !== low) continue;
        this.kept = endpoint;
        return row;
      }
    }
    return -1;
  }

  /** The client is told of an endpoint that is new to it, and again before the token is idle for too long. */
  private keepSession(batch: Batch, d: number, q: number, session: SessionSpec, isOfSession: boolean): void {
    const { sessions } = this;
    const { sessionEndpoints } = this.tables;
    const endpoint = batch.decisions[q]!;
    if (endpoint < 0) return;
    const [high, low] = [sessionEndpoints[endpoint * 2]!, sessionEndpoints[endpoint * 2 + 1]!];
    const isSame = isOfSession && high === sessions.high && low === sessions.low;
    if (isSame && !sessions.isOld(session)) return;
    const lines = sessions.give(batch, d, session, high, low, isSame);
    if (lines !== 0) this.addAnswerLines(batch.decisions, q, lines);
  }

  /** True: the decision is made, by its filters or to wait for them. */
  private isFiltered(batch: Batch, d: number, q: number, chain: number, label: number, traffic: Traffic): boolean {
    const { descriptors, decisions } = batch;
    const { filters: tables } = this.tables;
    if (tables === null || this.filters === null || descriptors[d + D_KIND] === OPAQUE) return false;
    if ((descriptors[d + D_FLAGS]! & FILTERED) === 0) {
      const { filtered } = this;
      if (filtered !== null && filtered.verdict.kind !== 'continue') {
        const isReply = filtered.verdict.kind === 'reply';
        const status = filtered.verdict.kind === 'reply' ? filtered.verdict.status : 500;
        this.answer(batch, d, q, status, isReply ? Reply.None : Reply.FilterFailed, label, traffic);
        decisions[q + Decision.Flags]! |= FILTERED_NOW;
        return true;
      }
      const put = this.filters.putOff(q, tables.chains[chain]!, filtered, () => this.filterMeta(descriptors, d, label));
      if (put === 'wait') {
        decisions[q + Decision.Flags] = this.logFlag;
        decisions[q + Decision.AttemptTimeoutMs] = 0;
        this.deferredEdges[decisions[q + Decision.Token]! & PLACE_MASK] = this.begin(descriptors, d, label, LABEL_UNKNOWN, traffic);
        return true;
      }
      if (put === 'failed') {
        this.answer(batch, d, q, 500, Reply.FilterFailed, label, traffic);
        return true;
      }
    }
    this.hasPassed = true;
    return false;
  }

  /** JSON of [workload, destination, port]: Call.meta. */
  private filterMeta(descriptors: Int32Array, d: number, label: number): string {
    const labels = this.tables.filters?.labels ?? [];
    const source = descriptors[d + D_SOURCE]!;
    const workload = source < 0 ? null : (labels[this.tables.sources[source]!] ?? null);
    const [, name = '', port = ''] = /^(.*):(\d+)$/.exec(labels[label] ?? '') ?? [null, labels[label] ?? '', '0'];
    return JSON.stringify([workload, name, Number(port)]);
  }

  /** CORS, faults, mirrors and which answers are declined. True: the decision is made. */
  private isAnsweredByExtras(batch: Batch, d: number, q: number, row: number, label: number, traffic: Traffic): boolean {
    const { descriptors, decisions } = batch;
    const { extras } = this.tables;
    const cors = extras[row + ExtrasWord.Cors]!;
    if (cors >= 0 && this.isPreflight(batch, d, q, cors)) {
      this.answer(batch, d, q, 204, Reply.Preflight, label, traffic);
      this.finishExtended(batch, q);
      return true;
    }
    const retry = extras[row + ExtrasWord.Retry]!;
    if (retry >= 0) this.extend(decisions, q, Decision.Retry, retry);
    if (descriptors[d + D_ATTEMPT] !== 0) return false;
    const random = mix(descriptors[d + D_RANDOM]! ^ 0x3c6ef372);
    const delayMs = extras[row + ExtrasWord.DelayMs]!;
    if (delayMs > 0 && below(MILLION, random) < extras[row + ExtrasWord.DelayParts]!) this.extend(decisions, q, Decision.DelayMs, delayMs);
    if (below(MILLION, mix(random)) < extras[row + ExtrasWord.AbortParts]!) {
      this.answer(batch, d, q, extras[row + ExtrasWord.AbortStatus]!, extras[row + ExtrasWord.AbortReply]!, label, traffic);
      this.finishExtended(batch, q);
      return true;
    }
    this.drawMirrors(decisions, q, extras[row + ExtrasWord.Mirrors]!, extras[row + ExtrasWord.MirrorCount]!, random);
    return false;
  }

  /** Each by its own share. */
  private drawMirrors(decisions: Int32Array, q: number, first: number, count: number, random: number): void {
    let mask = 0;
    let word = random;
    for (let i = 0; i < count; i++) {
      word = mix(word ^ 0x7f4a7c15);
      if (below(MILLION, word) < this.tables.mirrors[(first + i) * MIRROR_WORDS + MirrorWord.Parts]!) mask |= 1 << i;
    }
    if (mask === 0) return;
    this.extend(decisions, q, Decision.Mirrors, first);
    decisions[q + Decision.MirrorMask] = mask;
  }

  /** Notes the rules of CORS for an Origin that may know them. True: it is a preflight request, answered here. */
  private isPreflight(batch: Batch, d: number, q: number, cors: number): boolean {
    const { origins, patterns } = this.tables;
    const { text } = this;
    if (!text.find(batch, this.tables, d, origins[cors + OriginsWord.Origin]!)) return false;
    const first = cors + OriginsWord.Patterns;
    const end = first + origins[cors + OriginsWord.PatternCount]!;
    let isAllowed = false;
    for (let at = first; at < end && !isAllowed; at++) isAllowed = patterns.test(origins[at]!, text.bytes, text.at, text.length);
    if (isAllowed) this.extend(batch.decisions, q, Decision.Cors, origins[cors + OriginsWord.Cors]!);
    if (batch.descriptors[d + D_METHOD] !== OPTIONS) return false;
    if (!text.find(batch, this.tables, d, origins[cors + OriginsWord.RequestMethod]!)) return false;
    return isAllowed || origins[cors + OriginsWord.ForwardsUnmatched] === 0;
  }

  /** 0, or the status to answer: as it came the path may lead where the rule is there to keep it from. */
  private replacePath(batch: Batch, d: number, q: number, pattern: number): number {
    const { descriptors, header, texts } = batch;
    const replaced = this.tables.patterns.replace(pattern, batch.arena, descriptors[d + D_PATH_OFFSET]!, descriptors[d + D_PATH_LENGTH]!);
    if (replaced === null) return 414;
    const path = replaced.length === 0 ? ROOT_TEXT : replaced;
    const at = header[Header.TextBytes]!;
    if (at + path.length > texts.length - 1) return 500;
    texts.set(path, at);
    header[Header.TextBytes] = at + path.length;
    this.extend(batch.decisions, q, Decision.Text, (at << 16) | path.length);
    return 0;
  }

  /** Behind those that are there, if they lie behind those. */
  private addAnswerLines(decisions: Int32Array, q: number, lines: number): void {
    const before = this.isExtended ? decisions[q + Decision.AnswerLines]! : 0;
    const follows = before !== 0 && (before >>> 16) + (before & 0xffff) === lines >>> 16;
    this.extend(decisions, q, Decision.AnswerLines, follows ? before + (lines & 0xffff) : lines);
  }

  /** A word of the decision's second half; the first clears the others. */
  private extend(decisions: Int32Array, q: number, word: number, value: number): void {
    if (!this.isExtended) {
      this.isExtended = true;
      decisions[q + Decision.Rewrite] = -1;
      decisions[q + Decision.Text] = 0;
      decisions[q + Decision.Cors] = -1;
      decisions[q + Decision.Mirrors] = -1;
      decisions[q + Decision.MirrorMask] = 0;
      decisions[q + Decision.Retry] = -1;
      decisions[q + Decision.DelayMs] = 0;
      decisions[q + Decision.AnswerLines] = 0;
      decisions[q + Decision.HedgeMs] = 0;
      decisions[q + Decision.IdleTimeoutMs] = 0;
    }
    decisions[q + word] = value;
  }

  private finishExtended({ decisions }: Batch, q: number): void {
    if (this.hasPassed) decisions[q + Decision.Flags]! |= FILTERED_NOW;
    if (!this.isExtended) return;
    this.isExtended = false;
    decisions[q + Decision.Flags]! |= EXTENDED;
  }

  /** A copy of a request, to the mirror that it is for. */
  private mirror(batch: Batch, d: number, q: number, traffic: Traffic): void {
    const { descriptors, decisions } = batch;
    const { mirrors } = this.tables;
    const row = descriptors[d + D_TOKEN]! * MIRROR_WORDS;
    const cluster = mirrors[row + MirrorWord.Cluster]!;
    if (cluster === undefined || cluster < 0) {
      this.answer(batch, d, q, 500, Reply.NoBackend, LABEL_UNKNOWN, traffic);
      return;
    }
    decisions[q + Decision.RequestMutation] = mirrors[row + MirrorWord.RequestMutation]!;
    const rewrite = mirrors[row + MirrorWord.Rewrite]!;
    if (rewrite >= 0) this.extend(decisions, q, Decision.Rewrite, rewrite);
    this.forward(batch, d, q, cluster, traffic, descriptors[d + D_RANDOM]!, 0);
    this.finishExtended(batch, q);
  }

  /** Row of the backend that the weights draw; an attempt after `failed` stays with the one drawn first, or the split would lean. -1: none. */
  private backendOf(action: number, random: number, failed: number): number {
    const { actions, backends } = this.tables;
    const total = actions[action + ActionWord.TotalWeight]!;
    if (total === 0) return -1;
    let backend = actions[action + ActionWord.Backends]!;
    if (failed >= 0) {
      const end = backend + actions[action + ActionWord.BackendCount]!;
      for (let row = backend; row < end; row++) if (this.memberOf(backends[row * BACKEND_WORDS + B_CLUSTER]!, failed) >= 0) return row;
    }
    const drawn = below(total, random);
    while (backends[backend * BACKEND_WORDS + B_UP_TO]! <= drawn) backend++;
    return backend;
  }

  /** Row in `members`; -1: none. */
  private memberOf(cluster: number, endpoint: number): number {
    if (cluster < 0) return -1;
    const { clusters, members } = this.tables;
    const first = clusters[cluster * CLUSTER_WORDS + ClusterWord.Members]!;
    const end = first + clusters[cluster * CLUSTER_WORDS + ClusterWord.MemberCount]!;
    for (let member = first; member < end; member++) if (members[member * MEMBER_WORDS + M_ENDPOINT] === endpoint) return member;
    return -1;
  }

  /** `retries`: how many the rule wants; -1: it says nothing, so one that another endpoint is there for. */
  private forward(batch: Batch, d: number, q: number, chosen: number, traffic: Traffic, random: number, retries: number): void {
    const { descriptors, decisions } = batch;
    const tables = this.tables;
    // Ids of captured listeners are even for IPv4, odd for IPv6 (MESH_LISTENERS).
    const cluster =
      traffic === Traffic.Outbound
        ? tables.clusters[chosen * CLUSTER_WORDS + ClusterWord.Families]! + (descriptors[d + D_LISTENER]! & 1)
        : chosen;
    const row = cluster * CLUSTER_WORDS;
    const service = tables.clusters[row + ClusterWord.Label]!;
    const attempt = descriptors[d + D_ATTEMPT]!;
    const failed = attempt > 0 ? descriptors[d + D_PREVIOUS]! : -1;
    // Chosen a moment ago for the same client: another choice would waste the connection, and every second turn of a rotation.
    const isDialled = (descriptors[d + D_FLAGS]! & DIALLED) !== 0;
    const balancer = tables.clusters[row + W_BALANCER]!;
    if (balancer >= 0 && traffic === Traffic.Outbound && this.balancers.isPassthrough(balancer)) {
      this.passOn(batch, d, q, descriptors[d + D_DESTINATION]! * DESTINATION_WORDS, OUTBOUND, true);
      return;
    }
    const guard = tables.clusters[row + ClusterWord.Guard]!;
    const watched = guard === 0 ? 0 : this.watchedBy(guard);
    if (watched !== 0 && !this.isAdmitted(batch, d, guard, watched, random)) {
      this.refuse(batch, d, q, service, traffic);
      return;
    }
    let picked = this.kept >= 0 ? this.memberOf(cluster, this.kept) : -1;
    if (picked < 0)
      picked =
        isDialled && (balancer < 0 || !this.balancers.isHashed(balancer)) ? this.memberOf(cluster, descriptors[d + D_PREVIOUS]!) : -1;
    if (picked < 0 && watched !== 0 && attempt === 0) picked = this.pickTrial(cluster, watched);
    if (picked < 0)
      picked =
        balancer < 0
          ? pickMember(tables, cluster, random, failed, this.outstanding)
          : this.pickBalanced(batch, d, q, cluster, balancer, random, failed);
    const tried = (d / DESCRIPTOR_WORDS) * MAX_TRIED;
    if (picked >= 0 && attempt > 0)
      picked =
        balancer < 0
          ? untried(tables, cluster, picked, batch.tried, tried, random)
          : this.balancers.untried(balancer, picked, batch.tried, tried, random);
    if (picked >= 0 && watched !== 0) picked = this.withRoom(cluster, watched, picked);
    if (picked < 0) {
      if (picked === ALL_FULL) this.refuse(batch, d, q, service, traffic);
      else this.answer(batch, d, q, 503, Reply.NoEndpoint, service, traffic);
      return;
    }
    const member = picked * MEMBER_WORDS;
    const endpoint = tables.members[member + M_ENDPOINT]!;
    const plan = tables.attemptPlans[cluster]!;
    const isHedge = (descriptors[d + D_FLAGS]! & HEDGE) !== 0;
    if (isHedge && (isTried(batch.tried, tried, endpoint) || !this.attempts.takesHedge(plan))) {
      decisions[q] = -503;
      return;
    }
    const limits = tables.clusters[row + ClusterWord.Limits]!;
    if (limits >= 0 && tables.members[member + MemberWord.IsLast] === 1 && this.isLimited(batch, d, q, limits, service, traffic)) return;
    const mayRetry = plan < 0 ? retries : this.planAttempts(batch, d, q, row, plan, retries);
    Atomics.add(this.outstanding, endpoint, 1);
    this.cells.inFlight[endpoint]! += 1;
    let flags = this.logFlag as number;
    if (traffic === Traffic.Outbound) flags |= tables.members[member + MemberWord.IsLocal] === 1 ? DELIVER : INJECT;
    const isAllowed = mayRetry < 0 ? attempt < MAX_RETRIES && tables.clusters[row + ClusterWord.MemberCount]! > 1 : attempt < mayRetry;
    if (isAllowed && (watched === 0 || this.gate.mayRetry(watched))) flags |= RETRY;
    decisions[q] = endpoint;
    decisions[q + Decision.Flags] = flags;
    decisions[q + Decision.Token] = this.begin(descriptors, d, service, tables.members[member + MemberWord.Label]!, traffic);
    if (watched !== 0) this.watch(decisions, q, watched, attempt > 0);
  }

  /** Row of the shared state. */
  private watchedBy(guard: number): number {
    return this.tables.guards[guard * GUARD_WORDS + GuardWord.Row]!;
  }

  /** Connections whose bytes are not read are no requests: they are counted, and not limited here. */
  private isAdmitted(batch: Batch, d: number, guard: number, watched: number, random: number): boolean {
    const { descriptors } = batch;
    if (descriptors[d + D_ATTEMPT]! > 0) return this.gate.admitsRetry(watched);
    if (descriptors[d + D_KIND] === OPAQUE) return true;
    const rank = rankOf(this.tables.guards, guard, batch.predicates, descriptors[d + D_PREDICATES]!);
    return this.gate.admits(watched, rank, mix(random ^ 0x6a09e667));
  }

  /** The endpoint that is to be tried, if there is one; -1: none. */
  private pickTrial(cluster: number, watched: number): number {
    const endpoint = this.gate.trial(watched);
    const member = endpoint < 0 ? -1 : this.memberOf(cluster, endpoint);
    return member >= 0 && this.gate.takeTrial(watched, endpoint) ? member : -1;
  }

  /** The member, or where that has as many requests as it may have, another one; ALL_FULL: none has room. */
  private withRoom(cluster: number, watched: number, picked: number): number {
    const limit = this.gate.endpointLimit(watched);
    if (this.outstanding[this.tables.members[picked * MEMBER_WORDS + M_ENDPOINT]!]! < limit) return picked;
    const member = this.leastBelow(cluster, limit);
    if (member < 0) this.gate.refuseEndpoint(watched);
    return member;
  }

  /** Of the members that take work and have fewer requests, the one with the fewest; ALL_FULL: none. */
  private leastBelow(cluster: number, limit: number): number {
    const { clusters, members } = this.tables;
    const first = clusters[cluster * CLUSTER_WORDS + ClusterWord.Members]!;
    const end = first + clusters[cluster * CLUSTER_WORDS + ClusterWord.MemberCount]!;
    let best = ALL_FULL;
    let least = limit;
    for (let member = first; member < end; member++) {
      const endpoint = members[member * MEMBER_WORDS + M_ENDPOINT]!;
      if (this.outstanding[endpoint]! >= least || this.states.unavailable[endpoint] === 1) continue;
      if (members[member * MEMBER_WORDS + MemberWord.IsReady] === 0) continue;
      least = this.outstanding[endpoint]!;
      best = member;
    }
    return best;
  }

  /** The attempt counts. */
  private watch(decisions: Int32Array, q: number, watched: number, isRetry: boolean): void {
    decisions[q + Decision.Token]! |= this.gate.begin(watched, isRetry);
    if (this.gate.isLimited(watched)) decisions[q + Decision.Flags]! |= PROMPT;
  }

  /** Too many requests. */
  private refuse(batch: Batch, d: number, q: number, service: number, traffic: Traffic): void {
    this.answer(batch, d, q, 503, Reply.Overflow, service, traffic);
    batch.decisions[q + Decision.Token]! |= OVERFLOW;
  }

  /** By the policy of its cluster. */
  private pickBalanced(batch: Batch, d: number, q: number, cluster: number, balancer: number, random: number, failed: number): number {
    const { tables, balancers } = this;
    let hash = -1;
    if (balancers.isHashed(balancer)) {
      hash = keyHash(batch, tables, this.text, d, balancer);
      if (hash < 0 && batch.descriptors[d + D_KIND] !== OPAQUE && givesCookie(tables, balancer)) {
        const at = batch.header[Header.TextBytes]!;
        hash = giveCookie(batch, tables, balancer, random);
        if (hash >= 0) this.addAnswerLines(batch.decisions, q, (at << 16) | (batch.header[Header.TextBytes]! - at));
      }
    }
    return balancers.pick(cluster, balancer, hash, random, failed);
  }

  /** What the policy of the cluster (at `row`) says of further attempts, where the rule says nothing. How many retries there may be, as forward(). */
  private planAttempts({ descriptors, decisions }: Batch, d: number, q: number, row: number, plan: number, retries: number): number {
    const { clusters, plans } = this.tables;
    const isMirror = (descriptors[d + D_FLAGS]! & MIRROR) !== 0;
    if (isMirror || descriptors[d + D_KIND] === OPAQUE) return retries;
    const hedgeMs = this.attempts.hedgeAfterMs(plan, descriptors[d + D_METHOD]!, descriptors[d + D_ATTEMPT] === 0);
    if (hedgeMs > 0 && clusters[row + ClusterWord.MemberCount]! > 1) this.extend(decisions, q, Decision.HedgeMs, hedgeMs);
    const at = plan * PLAN_WORDS;
    const attempts = plans[at + PlanWord.RetryAttempts]!;
    if (retries >= 0 || attempts < 0) return retries;
    this.extend(decisions, q, Decision.Retry, plans[at + PlanWord.Retry]!);
    if (decisions[q + Decision.AttemptTimeoutMs] === 0) decisions[q + Decision.AttemptTimeoutMs] = plans[at + PlanWord.AttemptTimeoutMs]!;
    return attempts;
  }

  private answer(
    { descriptors, decisions }: Batch,
    d: number,
    q: number,
    status: number,
    reply: Reply,
    service: number,
    traffic: Traffic,
  ): void {
    decisions[q] = -status;
    decisions[q + Decision.Flags] = this.logFlag;
    decisions[q + Decision.LocalReply] = reply;
    decisions[q + Decision.Token] = this.begin(descriptors, d, service, LABEL_UNKNOWN, traffic);
  }

  /** The token: the row of the edge, stable over generations. */
  private begin(descriptors: Int32Array, d: number, service: number, workload: number, traffic: Traffic): number {
    const source = descriptors[d + D_SOURCE]!;
    const isTcp = descriptors[d + D_KIND] === OPAQUE;
    const edge = this.cells.edgeOf(
      source < 0 ? LABEL_UNKNOWN : this.tables.sources[source]!,
      service,
      workload,
      traffic * 2 + (isTcp ? 1 : 0),
    );
    if (isTcp && descriptors[d + D_ATTEMPT] === 0 && (descriptors[d + D_FLAGS]! & TENTATIVE) === 0) this.cells.opened[edge]! += 1;
    return edge;
  }
}
