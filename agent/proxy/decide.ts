// The decision on every request and connection: with what it calls the only code of ours that runs for each of them. Here: the batch, and by whose
// rules each of it goes; decide/ has the steps. Runs on a worker's thread, once a tick. Allocates nothing, keeps no strings, reads bytes only
// where a rule's pattern asks for them; everything was prepared in the decision tables. Must not throw: the engine has no answer to that.
import {
  COMPLETION_WORDS,
  Completion,
  DEFERRED,
  Decision,
  type DecisionFlag,
  Descriptor,
  DescriptorFlag,
  Header,
  METHODS,
} from '../native/engine.js';
import { account } from './account.js';
import type { Calls } from './calls.js';
import { Deferral, type Learnt } from './decide/deferral.js';
import { type Batch, Draft } from './decide/draft.js';
import { EndpointChoice } from './decide/endpoint-choice.js';
import { Filtering } from './decide/filtering.js';
import { Forward } from './decide/forward.js';
import { Limiting } from './decide/limiting.js';
import { ANY_HOST, clientOf, hostAbove, listenerOf, matchUnder, scopeFor } from './decide/route-match.js';
import { RuleAction } from './decide/rule-action.js';
import type { DeferredDecisions } from './deferred.js';
import type { EndpointStates } from './endpoint-states.js';
import type { FilterCalls } from './filters/filter-calls.js';
import { type Cells, Traffic } from './metrics/cells.js';
import type { ServiceAsker } from './rate-limit/service-asks.js';
import { RequestText } from './request-text.js';
import type { Gate } from './resilience/gate.js';
import type { DecisionTables } from './tables/decision-tables.js';
import { LABEL_UNKNOWN } from './tables/labels.js';
import {
  DESTINATION_WORDS,
  DestinationWord,
  HOST_FLAG_BITS,
  HostFlag,
  LISTENER_WORDS,
  ListenerKind,
  ListenerWord,
  MIRROR_WORDS,
  MirrorWord,
  NODE_WORDS,
  PASS_ON,
  Reply,
  SCOPE_WORDS,
  ScopeWord,
  WHOLE_CONNECTION,
} from './tables/layout.js';
import { lookup } from './tables/pair-index.js';

// By their short names.
const D_METHOD = Descriptor.Method as number;
const D_LISTENER = Descriptor.ListenerId as number;
const D_DESTINATION = Descriptor.DestinationId as number;
const D_HOST = Descriptor.HostId as number;
const D_SOURCE = Descriptor.SourceId as number;
const D_TOKEN = Descriptor.PreviousToken as number;
const D_RANDOM = Descriptor.Random as number;
const D_SERVER_NAME = Descriptor.ServerNameId as number;
const TLS = DescriptorFlag.Tls as number;
const MIRROR = DescriptorFlag.Mirror as number;
const HELD_ANSWER = DescriptorFlag.HeldAnswer as number;
const CALL = DescriptorFlag.Call as number;
const CONNECT = METHODS.indexOf('CONNECT');
const GATEWAY = ListenerKind.Gateway as number;
const OUTBOUND = ListenerKind.Outbound as number;
const INBOUND = ListenerKind.Inbound as number;
const STOP = HostFlag.Stop as number;
const FINAL = HostFlag.Final as number;
const HTTP_PORT = 80;

/** Whom a decision may wait for, and what a worker asks them with; whoever is absent is not asked. */
export interface Others {
  readonly deferred: Pick<DeferredDecisions<Learnt>, 'take' | 'end'>;
  readonly filters: FilterCalls;
  readonly asker: ServiceAsker;
  readonly calls: Pick<Calls, 'planOf' | 'end'>;
}

export class Decider {
  /** Published but not yet seen in a batch. */
  private next: DecisionTables | null = null;
  private readonly text = new RequestText();
  private readonly draft: Draft;
  private readonly deferral: Deferral;
  private readonly filtering: Filtering;
  private readonly limiting: Limiting;
  private calls: Others['calls'] | null = null;
  private readonly choice: EndpointChoice;
  private readonly forward: Forward;
  private readonly action: RuleAction;

  constructor(
    tables: DecisionTables,
    private readonly cells: Cells,
    outstanding: Int32Array,
    private readonly states: EndpointStates,
    private readonly gate: Gate,
    logFlag: 0 | DecisionFlag.Log,
  ) {
    this.draft = new Draft(tables, cells, logFlag);
    this.deferral = new Deferral(this.draft);
    this.limiting = new Limiting(this.draft, this.deferral, this.text);
    this.filtering = new Filtering(this.draft, this.deferral);
    this.choice = new EndpointChoice(this.draft, this.text, outstanding, states, gate);
    this.forward = new Forward(this.draft, this.choice, this.limiting, cells, outstanding, gate);
    this.action = new RuleAction(this.draft, this.text, this.filtering, this.limiting, this.choice, this.forward, cells);
  }

  /** Before the first batch. Apart from the constructor because the engine wants the callback before it gives its memory. */
  attach(batch: Batch, others: Partial<Others> = {}): void {
    const { deferred = null, filters = null, asker = null, calls = null } = others;
    this.draft.attach(batch);
    this.deferral.decisions = deferred;
    filters?.install(this.draft.tables.filters);
    this.filtering.calls = filters;
    this.limiting.asker = asker;
    this.calls = calls;
  }

  /** Call with engine.useTables(): the first batch of this generation switches over. */
  install(tables: DecisionTables): void {
    this.next = tables;
  }

  /** Generation that the last batch used. */
  get generation(): number {
    return this.draft.tables.generation;
  }

  /** The engine's callback: fills every decision, accounts for every completion. */
  readonly run = (): void => {
    const { header, clock, completions } = this.draft.batch;
    if (this.next !== null && header[Header.Generation] === this.next.generation) this.renew(this.next);
    // First what has ended: it makes room for what begins.
    const ended = header[Header.CompletionCount]!;
    const nowUs = clock[0]!;
    this.choice.balancers.nowUs = nowUs;
    for (let i = 0; i < ended; i++) this.complete(completions, i * COMPLETION_WORDS, nowUs);
    if (header[Header.EndedCalls] !== 0) this.calls?.end();
    const requests = header[Header.RequestCount]!;
    for (let i = 0; i < requests; i++) this.decide(i);
  };

  private renew(tables: DecisionTables): void {
    tables.inherit(this.draft.tables);
    this.draft.tables = tables;
    this.forward.renew();
    this.filtering.calls?.install(tables.filters);
    this.next = null;
  }

  private complete(completions: Int32Array, c: number, nowUs: number): void {
    if (completions[c] === DEFERRED) {
      completions[c + Completion.Token] = this.deferral.end(completions[c + Completion.Token]!);
    }
    account(this.cells, this.states, this.gate, this.forward.attempts, nowUs, completions, c);
  }

  private decide(index: number): void {
    const { draft } = this;
    draft.begin(index);
    this.deferral.begin();
    this.limiting.begin();
    const { listeners } = draft.tables;
    const listener = draft.of(D_LISTENER) * LISTENER_WORDS;
    const kind = listeners[listener + ListenerWord.Kind]!;
    draft.client = clientOf(draft.tables, draft.of(D_LISTENER), draft.of(D_SOURCE));
    draft.traffic = kind === INBOUND ? Traffic.Inbound : kind === OUTBOUND ? Traffic.Outbound : Traffic.Gateway;
    if (draft.has(HELD_ANSWER)) this.filtering.decideAnswer();
    else if (draft.has(MIRROR)) this.mirror();
    else if (draft.has(CALL)) this.sendCall();
    else if (kind === GATEWAY) this.enterGateway(listeners[listener + ListenerWord.Scope]!);
    else if (kind === OUTBOUND) this.enterOutbound();
    else if (kind === INBOUND) this.forward.passOn(false);
    else draft.answer(404, Reply.NoRoute, LABEL_UNKNOWN);
    draft.finish();
  }

  private enterGateway(scope: number): void {
    const { draft } = this;
    if (!draft.isOpaque && this.isMisdirected(scope)) draft.answer(421, Reply.Misdirected, this.labelOf(scope));
    else this.enter(scope);
  }

  private enterOutbound(): void {
    const { draft } = this;
    const { destinations } = draft.tables;
    const destination = draft.of(D_DESTINATION) * DESTINATION_WORDS;
    const own = destination < 0 ? -1 : destinations[destination + DestinationWord.Scope]!;
    const scope = own < 0 ? this.scopeOutside(destination) : scopeFor(draft.tables, own, draft.of(D_SOURCE));
    if (scope < 0) this.forward.passOn(false);
    else this.enter(scope);
  }

  /** Of the hosts outside of the mesh: with the destination's port, or the one that the client names. -1: there are none. */
  private scopeOutside(destination: number): number {
    const { draft } = this;
    const { destinations, outside, hasOutside } = draft.tables;
    if (!hasOutside) return -1;
    if (destination >= 0) return destinations[destination + DestinationWord.Outside]!;
    if (draft.isOpaque) return -1;
    const port = this.text.port(draft.batch, draft.d);
    return lookup(outside, port < 0 ? HTTP_PORT : port, 0);
  }

  private enter(scope: number): void {
    if (this.draft.isOpaque) this.routeConnection(scope);
    else this.route(scope);
  }

  /**
   * A connection belongs to the listener of its TLS server name; a request for another listener's host is not for it (RFC 9110 15.5.20;
   * Gateway API, HTTPS listeners). A host that is no listener's is 404 like any other.
   */
  private isMisdirected(scope: number): boolean {
    const { draft } = this;
    const host = draft.of(D_HOST);
    const serverName = draft.of(D_SERVER_NAME);
    if (host === serverName || !draft.has(TLS)) return false;
    const owner = listenerOf(draft.tables, scope, host);
    return owner >= 0 && owner !== listenerOf(draft.tables, scope, serverName);
  }

  /** Most specific host first, in each the longest path first, on each in order of precedence; the first whose conditions hold wins. */
  private route(scope: number): void {
    const { draft } = this;
    const { tables, batch, d } = draft;
    for (let host = draft.of(D_HOST); host >= ANY_HOST; host = hostAbove(tables, host)) {
      const entry = lookup(tables.hostIndex, scope, host);
      if (entry < 0) continue;
      const node = matchUnder(tables, batch, this.text, d, entry);
      if (node >= 0) {
        this.action.run(node, this.labelOf(scope));
        return;
      }
      if ((entry & FINAL) !== 0) {
        draft.answer(404, Reply.NoRoute, this.labelOf(scope));
        return;
      }
      if ((entry & STOP) !== 0) break;
    }
    const fallback = tables.scopes[scope * SCOPE_WORDS + ScopeWord.DefaultCluster]!;
    this.useDefault(fallback >= 0 && draft.of(D_METHOD) === CONNECT ? -1 : fallback, scope);
  }

  /** By the server name of TLS, where there is any: the most specific first, and there the first rule. None: it is reset. */
  private routeConnection(scope: number): void {
    const { draft } = this;
    const { tables } = draft;
    for (let host = draft.of(D_SERVER_NAME); host >= ANY_HOST; host = hostAbove(tables, host)) {
      const entry = lookup(tables.hostIndex, scope, host);
      if (entry < 0) continue;
      const node = lookup(tables.pathIndex, entry >> HOST_FLAG_BITS, WHOLE_CONNECTION);
      if (node >= 0) {
        this.action.run(node * NODE_WORDS, this.labelOf(scope));
        return;
      }
      if ((entry & STOP) !== 0) break;
    }
    this.useDefault(tables.scopes[scope * SCOPE_WORDS + ScopeWord.DefaultOpaque]!, scope);
  }

  /** Where it goes that no rule is for: a cluster, PASS_ON, or -1. */
  private useDefault(cluster: number, scope: number): void {
    const { draft } = this;
    if (cluster === PASS_ON) this.forward.passOn(false);
    else if (cluster >= 0) this.forward.to(cluster, draft.of(D_RANDOM), -1, -1);
    else draft.answer(404, Reply.NoRoute, this.labelOf(scope));
  }

  /** A call of our own, to the service that it is for. */
  private sendCall(): void {
    const { draft } = this;
    const plan = this.calls?.planOf(draft.of(D_TOKEN)) ?? null;
    const cluster = plan === null ? -1 : (draft.tables.limits.services.get(plan.service) ?? -1);
    draft.traffic = Traffic.Gateway;
    draft.set(Decision.TimeoutMs, plan?.timeoutMs ?? 0);
    if (cluster < 0) draft.answer(503, Reply.NoEndpoint, LABEL_UNKNOWN);
    else this.forward.to(cluster, draft.of(D_RANDOM), -1, -1);
    draft.decisions[draft.q + Decision.Flags]! &= ~draft.logFlag;
  }

  /** A copy of a request, to the mirror that it is for. */
  private mirror(): void {
    const { draft } = this;
    const { mirrors } = draft.tables;
    const row = draft.of(D_TOKEN) * MIRROR_WORDS;
    const cluster = mirrors[row + MirrorWord.Cluster];
    if (cluster === undefined || cluster < 0) {
      draft.answer(500, Reply.NoBackend, LABEL_UNKNOWN);
      return;
    }
    draft.set(Decision.RequestMutation, mirrors[row + MirrorWord.RequestMutation]!);
    const rewrite = mirrors[row + MirrorWord.Rewrite]!;
    if (rewrite >= 0) draft.extend(Decision.Rewrite, rewrite);
    this.forward.to(cluster, draft.of(D_RANDOM), 0, -1);
  }

  private labelOf(scope: number): number {
    return this.draft.tables.scopes[scope * SCOPE_WORDS + ScopeWord.Label]!;
  }
}
