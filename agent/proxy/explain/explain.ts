// What the data path would do with a request, and why: describes it with the engine's own tables, has the decision's own code decide on it, asks its
// filters, and says in words what came of it. On the main thread, when an operator asks; the load that it sees is a copy, so that asking changes nothing.
import { MAX_BODY_BYTES } from '../../../api/filter/outcome.js';
import {
  type BackendShare,
  type EndpointShare,
  type ExplainRequest,
  ExplainResponse,
  ExplainResponse_Outcome,
  type FilterVerdict,
  FilterVerdict_Verdict,
  type RuleVerdict,
  RuleVerdict_Verdict,
} from '../../../api/gen/mesh/v1/explain.js';
import { hostPort } from '../../../api/host-port.js';
import type { Model } from '../../model/model.js';
import {
  COLLECT,
  COMPLETION_REASONS,
  COMPLETION_WORDS,
  Completion,
  CompletionKind,
  DECISION_WORDS,
  DEFERRED,
  Decision,
  DecisionFlag,
  type DescribedRequest,
  Descriptor,
  DescriptorFlag,
  type EngineAddon,
  Header,
  type HeadLimits,
  type LocalReplySpec,
  MAX_TRIED,
  type PathChange,
  PORT_OF_REQUEST,
  type RedirectSpec,
  type TableSpec,
} from '../../native/engine.js';
import { reasonOf } from '../account.js';
import { BalanceReport } from '../balance-report.js';
import type { Learnt } from '../decide/deferral.js';
import type { Batch } from '../decide/draft.js';
import { clientOf, clusterFor } from '../decide/route-match.js';
import { Decider } from '../decide.js';
import type { Ask } from '../deferred.js';
import type { EndpointStates } from '../endpoint-states.js';
import { FAILED_FILTERS, FilterCalls, type Filtered } from '../filters/filter-calls.js';
import type { FilterBinding } from '../filters/filter-tables.js';
import { Cells } from '../metrics/cells.js';
import { Patterns } from '../patterns.js';
import { mix } from '../pick.js';
import { Limits } from '../rate-limit/limits.js';
import type { ServiceAsker } from '../rate-limit/service-asks.js';
import { Gate } from '../resilience/gate.js';
import { allocateShare, ResilienceState } from '../resilience/state.js';
import type { Cluster } from '../tables/clusters.js';
import type { Generation } from '../tables/compile.js';
import { DecisionTables } from '../tables/decision-tables.js';
import {
  ACTION_WORDS,
  ActionWord,
  BACKEND_WORDS,
  BackendWord,
  CLUSTER_WORDS,
  ClusterWord,
  EXTRAS_WORDS,
  ExtrasWord,
  MEMBER_WORDS,
  MemberWord,
  NODE_WORDS,
  NodeWord,
  SCOPE_WORDS,
  ScopeWord,
} from '../tables/layout.js';
import { DescribedExchange, withLength } from './described-exchange.js';
import { type Entrance, entranceOf } from './entrance.js';
import { type FilterPrograms, FilterRuns } from './filter-runs.js';
import { findingsOf } from './verdicts.js';
import { askedText, limitsInWords, mutationLines, retryInWords } from './words.js';

/** What a proxy decides by at a moment; stays what it is while it is looked at. */
export interface View {
  readonly model: Model;
  readonly generation: Generation;
  /** Of createTables(). */
  readonly handle: number;
  readonly outstanding: Int32Array;
  readonly states: EndpointStates;
  readonly resilience: ResilienceState;
  readonly filters: FilterPrograms;
  readonly limits: HeadLimits;
}

/** Descriptor.Random of the decision that is told. */
const FIRST_DRAW = 1;
/** Choices made to tell the endpoints' shares. */
const DRAWS = 1_000;
/** As a Filter may read at most, and one byte that is too many. */
const MAX_BODY = MAX_BODY_BYTES + 1;
const TEXT_BYTES = 65_536;
/** Bytes of RFC 9110 5.5 and of what stands in a request line, one a character. */
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
const TARGET = /^[\x21-\x7e\x80-\xff]*$/;
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/** Refused: in words why the request can't be one. */
export type Explained = { readonly kind: 'ok'; readonly value: ExplainResponse } | { readonly kind: 'refused'; readonly message: string };

/** `signal`: nobody waits any more. */
export async function explain(
  request: ExplainRequest,
  view: View,
  addon: Pick<EngineAddon, 'describeRequest' | 'changeHead'>,
  signal: AbortSignal,
): Promise<Explained> {
  // A URL object takes what follows more slashes for the host.
  const url = /^https?:\/\/[^/]/i.test(request.url) && URL.canParse(request.url) ? new URL(request.url) : null;
  if (url === null) return refused(`"${request.url}" is no URL: expected http://HOST[:PORT]/PATH, or https://`);
  if ((request.body?.length ?? 0) > MAX_BODY) return refused(`the body is longer than the ${MAX_BODY_BYTES} bytes that a filter may read`);
  const { model, generation, limits } = view;
  const runs = new FilterRuns(view.filters, signal);
  const { buffer, patterns, sessions } = generation;
  const tables = new DecisionTables(buffer, new Patterns(patterns), new Limits(generation.limits, true), sessions, runs.tables);
  const entrance = entranceOf(request, url, model, generation, tables);
  if (typeof entrance === 'string') return refused(entrance);
  const head = headOf(request, url);
  if (typeof head === 'string') return refused(head);
  const describe = (bytes: Buffer): DescribedRequest | number => addon.describeRequest(view.handle, entrance.connection, bytes, limits);
  const described = describe(head);
  if (typeof described === 'number') return { kind: 'ok', value: refusedHead(described, model.revision, entrance) };
  const { clientAddress, clientIdentity } = entrance.connection;
  const client = [`:source-address: ${clientAddress ?? ''}\n`, clientIdentity === null ? '' : `:source-identity: ${clientIdentity}\n`].join(
    '',
  );
  const exchange = new DescribedExchange(
    head,
    client,
    (bytes) => (describe(bytes) as DescribedRequest).head,
    addon,
    limits,
    (why) => runs.refused(why),
  );
  try {
    const body = request.body?.toString('latin1') ?? '';
    return { kind: 'ok', value: await new Explanation(view, tables, entrance, exchange, body, runs, describe).tell() };
  } finally {
    runs.close();
  }
}

/** Before any rule is looked at. */
function refusedHead(status: number, revision: number, entrance: Entrance): ExplainResponse {
  return ExplainResponse.fromPartial({
    revision,
    entrance: entrance.text,
    outcome: ExplainResponse_Outcome.ANSWERED,
    status,
    responseFlag: 'DPE',
    reason: `is refused with ${status}: ${status === 431 ? 'its head is larger, or has more fields, than the proxy takes' : 'its head is none that the proxy takes'}`,
  });
}

function refused(message: string): Explained {
  return { kind: 'refused', message };
}

/** The head as HTTP/1.1 has it; or what can't stand in one, in words. */
function headOf({ method, url: raw, headers, body }: ExplainRequest, url: URL): Buffer | string {
  const name = method === '' ? 'GET' : method;
  if (!TOKEN.test(name)) return `"${name}" is no method`;
  const wrong = headers.find((header) => !TOKEN.test(header.name) || !VALUE.test(header.value));
  if (wrong !== undefined) return `header "${wrong.name}" can't stand in a request`;
  const host = headers.find((header) => header.name.toLowerCase() === 'host')?.value ?? url.host;
  // As it was written: a URL object resolves dots and encodes.
  const path = /^https?:\/\/[^/?#]*([^#]*)/i.exec(raw)?.[1] ?? '/';
  if (!TARGET.test(path)) return `the path can't stand in a request: blanks and what is not Latin-1 are to be percent-encoded`;
  const target = name === 'CONNECT' ? host : path.startsWith('/') ? path : `/${path}`;
  const others = headers.filter((header) => header.name.toLowerCase() !== 'host').map((header) => `${header.name}: ${header.value}\r\n`);
  const head = Buffer.from(`${name} ${target} HTTP/1.1\r\nHost: ${host}\r\n${others.join('')}\r\n`, 'latin1');
  return body === undefined ? head : withLength(head, body.length);
}

class Explanation {
  private readonly spec: TableSpec;
  private readonly revision: number;
  private readonly outstanding: Int32Array;
  private readonly decider: Decider;
  /** What rate limit services would be asked. */
  private asked: string[] = [];
  private readonly filterCalls: FilterCalls;
  /** The decision waits for it. */
  private question: Ask<Filtered> | null = null;
  private learnt: Learnt = FAILED_FILTERS;
  private described: DescribedRequest;
  private batch: Batch;

  constructor(
    private readonly view: View,
    private readonly tables: DecisionTables,
    private readonly entrance: Entrance,
    private readonly exchange: DescribedExchange,
    private readonly body: string,
    private readonly runs: FilterRuns,
    private readonly describe: (head: Buffer) => DescribedRequest | number,
  ) {
    this.spec = view.generation.spec;
    this.revision = view.model.revision;
    this.outstanding = new Int32Array(new SharedArrayBuffer(view.outstanding.byteLength));
    this.outstanding.set(view.outstanding);
    const gate = new Gate(copyOf(view.resilience), allocateShare());
    this.decider = new Decider(tables, new Cells(Cells.allocate()), this.outstanding, view.states, gate, 0);
    this.filterCalls = new FilterCalls(exchange, { defer: (q, ask) => this.putOff(q, ask) }, runs);
    for (const [key, channel] of runs.channels()) this.filterCalls.open(key, channel);
    [this.described, this.batch] = this.look();
  }

  async tell(): Promise<ExplainResponse> {
    const target = await this.decideAll();
    const { decisions } = this.batch;
    const rules = this.rules(decisions[Decision.RouteId]!);
    const { row } = rules;
    const filters = this.runs.verdicts(this.chainOf(row), target <= -100);
    const changes = this.changes();
    const planned = this.plan();
    const status = target <= -100 ? -target : 0;
    const reason = this.reason(target, row, filters);
    const flag = this.replyOf(decisions)?.reason || reasonOf(target, 0, decisions[Decision.Token]!);
    const shares = row < 0 || target === -1 ? { backends: [], cluster: this.clusterOfDefault(target) } : this.backends(row, target);
    return {
      revision: this.revision,
      entrance: this.entrance.text,
      rules: rules.verdicts,
      outcome: outcomeOf(target),
      status,
      responseFlag: COMPLETION_REASONS[flag] ?? '',
      reason,
      changes,
      plan: [...planned, ...limitsInWords(this.clusterAt(shares.cluster)?.policy)],
      backends: shares.backends,
      endpoints: target < 0 || shares.cluster < 0 ? [] : this.endpoints(shares.cluster, target),
      filters,
    };
  }

  /** The request as rules match it now, in a batch. */
  private look(): [DescribedRequest, Batch] {
    const described = this.describe(this.exchange.matched) as DescribedRequest;
    const batch = {
      header: new Int32Array(16),
      clock: Float64Array.of(Number(process.hrtime.bigint() / 1_000n)),
      descriptors: described.descriptor,
      decisions: new Int32Array(DECISION_WORDS),
      completions: new Int32Array(COMPLETION_WORDS),
      predicates: described.predicates,
      tried: new Int32Array(MAX_TRIED).fill(-1),
      arena: described.arena,
      texts: new Uint8Array(TEXT_BYTES),
    };
    const asker: ServiceAsker = {
      noAddress: this.spec.sources[this.entrance.connection.sourceId] ?? '(the client’s)',
      putOff: (_q, _about, questions) => {
        this.asked.push(...questions.map(askedText));
        return 'passes';
      },
    };
    const deferred = { take: () => ({ kind: 'answered' as const, answer: this.learnt }), end: () => undefined };
    this.decider.attach(batch, { deferred, filters: this.filterCalls, asker });
    return [described, batch];
  }

  /** Asks the filters that the decision waits for, as often as it does, and decides again. Decision.Target. */
  private async decideAll(): Promise<number> {
    let flags = 0;
    for (;;) {
      const target = this.decide(FIRST_DRAW);
      // Whatever is decided from here on is decided as of a further attempt.
      if (target !== DEFERRED && target !== COLLECT) {
        if ((this.batch.decisions[Decision.Flags]! & DecisionFlag.Filtered) !== 0) flags |= DescriptorFlag.Filtered;
        this.described.descriptor[Descriptor.Flags]! &= ~DescriptorFlag.Answered;
        this.described.descriptor[Descriptor.Flags]! |= flags;
        return target;
      }
      if (target === COLLECT) {
        const isWhole = this.body.length <= this.batch.decisions[Decision.BodyBytes]!;
        if (isWhole) this.exchange.held = this.body;
        flags |= isWhole ? DescriptorFlag.BodyHeld : DescriptorFlag.BodyTooLong;
      } else {
        const { matched } = this.exchange;
        this.learnt = (await this.question?.(this.runs.signal, 0)) ?? FAILED_FILTERS;
        flags |= DescriptorFlag.Answered;
        if (matched !== this.exchange.matched) [this.described, this.batch] = this.look();
      }
      this.described.descriptor[Descriptor.Flags]! |= flags;
    }
  }

  private putOff(q: number, ask: Ask<Filtered>): boolean {
    this.question = ask;
    this.batch.decisions[q] = DEFERRED;
    return true;
  }

  /** Decision.Target. */
  private decide(random: number): number {
    const { header, decisions, descriptors } = this.batch;
    header[Header.RequestCount] = 1;
    header[Header.Generation] = this.view.generation.generation;
    header[Header.TextBytes] = 0;
    descriptors[Descriptor.Random] = random;
    decisions.fill(0);
    this.asked = [];
    this.decider.run();
    const target = decisions[Decision.Target]!;
    if (target >= 0) this.abandon(target, decisions[Decision.Token]!);
    return target;
  }

  /** So that what is asked next finds the load as it is. */
  private abandon(target: number, token: number): void {
    const { header, completions } = this.batch;
    header[Header.RequestCount] = 0;
    header[Header.CompletionCount] = 1;
    completions[Completion.Target] = target;
    completions[Completion.Token] = token;
    completions[Completion.Kind] = CompletionKind.Abandoned;
    this.decider.run();
    header[Header.CompletionCount] = 0;
    this.outstanding[target]! -= 1;
  }

  private rules(ruleId: number): { readonly verdicts: RuleVerdict[]; readonly row: number } {
    const { generation } = this.view;
    if (this.entrance.scope < 0) return { verdicts: [], row: -1 };
    const findings = findingsOf(this.tables, generation, this.described, this.entrance.scope);
    const winner = findings.find(({ row, verdict }) => verdict === 'matches' && generation.routes[row]!.ruleId === ruleId && ruleId >= 0);
    const won = winner === undefined ? undefined : generation.routes[winner.row];
    const verdicts = findings.map(({ row, verdict, why }): RuleVerdict => {
      const { route, host, match } = generation.routes[row]!;
      const isWinner = row === winner?.row;
      if (verdict !== 'matches') return { route, host, match, verdict, why };
      if (won === undefined)
        return { route, host, match, verdict: RuleVerdict_Verdict.HIDDEN, why: 'it is answered before rules are looked at' };
      return {
        route,
        host,
        match,
        verdict: isWinner ? RuleVerdict_Verdict.WON : RuleVerdict_Verdict.BEATEN,
        why: isWinner ? '' : `${won.route} comes first`,
      };
    });
    return { verdicts, row: winner?.row ?? -1 };
  }

  private reason(target: number, row: number, filters: readonly FilterVerdict[]): string {
    const { decisions } = this.batch;
    if (target >= 0) return `goes to ${this.address(target)}`;
    if (target === DEFERRED) return 'waits until somebody else is asked';
    if (target === -1) return 'goes on to where the client sent it';
    const answering = filters.find(({ verdict }) => verdict === FilterVerdict_Verdict.ANSWERED);
    if (answering !== undefined) return `is answered ${-target} by the filter ${answering.name}`;
    const reply = this.replyOf(decisions);
    if (reply?.redirect != null) return `is redirected with ${-target}`;
    const said = reply?.body.trim().replace(/^weft: /, '') ?? '';
    const why = said === '' || said.length > 200 ? (row < 0 ? '' : ': so the rule says') : `: ${said}`;
    return `is answered ${-target}${why}`;
  }

  /** Of the rule, in the order of requests. */
  private chainOf(row: number): readonly FilterBinding[] {
    const { nodes, actions, extras } = this.tables;
    const extra = row < 0 ? -1 : actions[nodes[row * NODE_WORDS + NodeWord.Action]! * ACTION_WORDS + ActionWord.Extras]!;
    const chain = extra < 0 ? -1 : extras[extra * EXTRAS_WORDS + ExtrasWord.Filters]!;
    return this.tables.filters?.chains[chain] ?? [];
  }

  private replyOf(decisions: Int32Array): LocalReplySpec | undefined {
    return decisions[Decision.Target]! <= -100 ? this.spec.localReplies[decisions[Decision.LocalReply]!] : undefined;
  }

  private changes(): string[] {
    const { decisions, texts } = this.batch;
    const { writesPath, writesAuthority } = this.exchange;
    const lines: string[] = [];
    const extended = (word: Decision, none: number): number =>
      (decisions[Decision.Flags]! & DecisionFlag.Extended) === 0 ? none : decisions[word]!;
    const text = extended(Decision.Text, 0);
    if (text !== 0 && !writesPath)
      lines.push(`path becomes ${Buffer.from(texts.subarray(text >>> 16, (text >>> 16) + (text & 0xffff))).toString('latin1')}`);
    const rewrite = this.spec.rewrites[extended(Decision.Rewrite, -1)];
    if (rewrite !== undefined && rewrite.authority !== '' && !writesAuthority) lines.push(`host becomes ${rewrite.authority}`);
    if (rewrite?.path != null && !writesPath) lines.push(`path becomes ${this.changedPath(rewrite.path)}`);
    const redirect = this.replyOf(decisions)?.redirect ?? null;
    if (redirect !== null) lines.push(`Location: ${this.locationOf(redirect)}`);
    lines.push(...mutationLines('request', this.spec.mutations[decisions[Decision.RequestMutation]!]));
    lines.push(...mutationLines('answer', this.spec.mutations[decisions[Decision.ResponseMutation]!]));
    if (extended(Decision.Cors, -1) >= 0) lines.push('answer: the headers of CORS, for this origin');
    return lines;
  }

  private locationOf({ scheme, host, port, path }: RedirectSpec): string {
    const authority = this.textAt(Descriptor.AuthorityOffset, Descriptor.AuthorityLength);
    const named = host === '' ? authority.replace(/:\d+$/, '') : host;
    const colon = port > 0 ? `:${port}` : port === PORT_OF_REQUEST ? (/:\d+$/.exec(authority)?.[0] ?? '') : '';
    const query = /^[^ ]* [^? ]*(\?[^ ]*)/.exec(this.exchange.sent.toString('latin1'))?.[1] ?? '';
    return `${scheme}://${named}${colon}${path === null ? this.path : this.changedPath(path)}${query}`;
  }

  private get path(): string {
    return this.textAt(Descriptor.PathOffset, Descriptor.PathLength);
  }

  /** As it is sent. */
  private textAt(offset: Descriptor, length: Descriptor): string {
    const { matched, sent } = this.exchange;
    const { descriptor, arena } = sent === matched ? this.described : (this.describe(sent) as DescribedRequest);
    const at = descriptor[offset]!;
    return Buffer.from(arena.subarray(at, at + descriptor[length]!)).toString('latin1');
  }

  private changedPath({ value, skip, keepsRest }: PathChange): string {
    const changed = `${value}${keepsRest ? this.path.slice(skip) : ''}`;
    return changed.startsWith('/') ? changed : `/${changed}`;
  }

  private plan(): string[] {
    const { decisions } = this.batch;
    const flags = decisions[Decision.Flags]!;
    const isExtended = (flags & DecisionFlag.Extended) !== 0;
    const lines: string[] = [];
    const [timeout, attempt] = [decisions[Decision.TimeoutMs]!, decisions[Decision.AttemptTimeoutMs]!];
    if (timeout > 0) lines.push(`ends after ${timeout} ms at the latest`);
    if (attempt > 0) lines.push(`an attempt may take ${attempt} ms`);
    if (isExtended && decisions[Decision.DelayMs]! > 0)
      lines.push(`is delayed by ${decisions[Decision.DelayMs]} ms, as the rule's fault says`);
    if (decisions[Decision.Target]! >= 0)
      lines.push(
        (flags & DecisionFlag.Retry) === 0
          ? 'is not repeated'
          : retryInWords(isExtended ? this.spec.retries[decisions[Decision.Retry]!] : undefined),
      );
    if (isExtended && decisions[Decision.MirrorMask] !== 0) {
      const mask = decisions[Decision.MirrorMask]!;
      const copies = mask.toString(2).replace(/0/g, '').length;
      lines.push(`a copy goes to ${copies} mirror${copies === 1 ? '' : 's'}`);
    }
    if (isExtended) lines.push(...this.rateLimits(decisions[Decision.AnswerLines]!));
    lines.push(...this.asked);
    return lines;
  }

  /** Of the lines that its answer gets. */
  private rateLimits(lines: number): string[] {
    const text = Buffer.from(this.batch.texts.subarray(lines >>> 16, (lines >>> 16) + (lines & 0xffff))).toString('latin1');
    return text.split('\r\n').flatMap((line) => (line.startsWith('ratelimit: ') ? [`its nearest rate limit: ${line.slice(11)}`] : []));
  }

  /** Of the rule's row; the one that the target is an endpoint of is chosen. */
  private backends(row: number, target: number): { readonly backends: BackendShare[]; readonly cluster: number } {
    const { actions, backends, nodes } = this.tables;
    const action = nodes[row * NODE_WORDS + NodeWord.Action]! * ACTION_WORDS;
    const first = actions[action + ActionWord.Backends]!;
    const total = actions[action + ActionWord.TotalWeight]!;
    const weighted = this.view.generation.routes[row]!.backends;
    let cluster = -1;
    let at = first;
    const shares = weighted.map(({ service, port, weight, labels }): BackendShare => {
      let isChosen = false;
      if (weight > 0) {
        const own = clusterFor(this.tables, backends[at * BACKEND_WORDS + BackendWord.Cluster]!, this.client);
        isChosen = cluster < 0 && own >= 0 && this.membersOf(own).some((member) => this.endpointOf(member) === target);
        if (isChosen) cluster = own;
        at++;
      }
      const subset = Object.entries(labels).map(([name, value]) => `${name}=${value}`);
      const name = service === '' ? 'the proxy itself' : `${service}:${port}`;
      return {
        service: `${name}${subset.length === 0 ? '' : ` {${subset.join(',')}}`}`,
        share: total === 0 ? 0 : weight / total,
        chosen: isChosen,
      };
    });
    return { backends: shares, cluster };
  }

  /** Of a service without rules. */
  private clusterOfDefault(target: number): number {
    if (target < 0 || this.entrance.scope < 0) return -1;
    return clusterFor(this.tables, this.tables.scopes[this.entrance.scope * SCOPE_WORDS + ScopeWord.DefaultCluster]!, this.client);
  }

  private get client(): number {
    return clientOf(this.tables, this.entrance.connection.listenerId, this.entrance.connection.sourceId);
  }

  private clusterAt(row: number): Cluster | undefined {
    const { clusters, variants } = this.view.generation;
    return [...clusters, ...variants][row];
  }

  private membersOf(cluster: number): number[] {
    const { clusters } = this.tables;
    const row = cluster * CLUSTER_WORDS;
    const first = clusters[row + ClusterWord.Members]!;
    return Array.from({ length: clusters[row + ClusterWord.MemberCount]! }, (_, index) => first + index);
  }

  private endpointOf(member: number): number {
    return this.tables.members[member * MEMBER_WORDS + MemberWord.EndpointId]!;
  }

  private endpoints(cluster: number, chosen: number): EndpointShare[] {
    const drawn = new Map<number, number>();
    const ids = [...new Set(this.membersOf(cluster).map((member) => this.endpointOf(member)))];
    let random = 1;
    let counted = 0;
    for (let draw = 0; draw < DRAWS; draw++) {
      random = mix((random + 0x9e3779b9) | 0);
      const target = this.decide(random);
      if (!ids.includes(target)) continue;
      drawn.set(target, (drawn.get(target) ?? 0) + 1);
      counted++;
    }
    const { states, outstanding } = this.view;
    const weights = new BalanceReport(this.view.generation, states, outstanding).weights(cluster);
    const shares = this.membersOf(cluster).map((member): EndpointShare => {
      const id = this.endpointOf(member);
      const isReady = this.tables.members[member * MEMBER_WORDS + MemberWord.IsReady] !== 0;
      return {
        address: this.address(id),
        weight: this.tables.members[member * MEMBER_WORDS + MemberWord.Weight]!,
        outstanding: Math.max(0, Atomics.load(outstanding, id)),
        latencyMs: states.ewmaUs[id]! / 1_000,
        share: counted === 0 ? 0 : (drawn.get(id) ?? 0) / counted,
        chosen: id === chosen,
        outBecause: states.unavailable[id] === 1 ? 'ejected' : isReady ? '' : 'fails its checks',
        weightSource: weights.get(id)?.source ?? '',
      };
    });
    return [...new Map(shares.map((share) => [share.address, share])).values(), ...this.unready(cluster)];
  }

  /** Endpoints of the cluster's service that take no work. */
  private unready(cluster: number): EndpointShare[] {
    const found = this.clusterAt(cluster);
    const members = new Set(this.membersOf(cluster).map((member) => this.endpointOf(member)));
    return (found?.endpoints ?? [])
      .filter(({ id }) => !members.has(id))
      .map(({ address, port, weight, healthReason, health }) => ({
        address: hostPort(address, port),
        weight,
        outstanding: 0,
        latencyMs: 0,
        share: 0,
        chosen: false,
        outBecause: healthReason || (health === 1 ? 'draining' : 'not ready'),
        weightSource: '',
      }));
  }

  private address(id: number): string {
    const endpoint = this.spec.endpoints.find((each) => each.id === id);
    return endpoint === undefined ? `endpoint ${id}` : hostPort(endpoint.address, endpoint.port);
  }
}

/** Of what stands against limits now; samples count for nothing here. */
function copyOf({ rows, endpoints }: ResilienceState): ResilienceState {
  const copy = new ResilienceState(ResilienceState.allocate());
  copy.rows.set(rows);
  copy.endpoints.set(endpoints);
  return copy;
}

function outcomeOf(target: number): ExplainResponse_Outcome {
  if (target >= 0) return ExplainResponse_Outcome.FORWARDED;
  if (target === -1) return ExplainResponse_Outcome.PASSED_ON;
  return target === DEFERRED ? ExplainResponse_Outcome.DEFERRED : ExplainResponse_Outcome.ANSWERED;
}
