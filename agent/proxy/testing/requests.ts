// For tests: requests in words → descriptors as the engine would make them (engine.ts is the contract), and decisions back.
// Stands for the engine's tokeniser only; decides nothing.
import { hostnameMatches } from '../../../api/compile/route-order.js';
import {
  COMPLETION_WORDS,
  Completion,
  CompletionKind,
  DECISION_WORDS,
  DESCRIPTOR_WORDS,
  Decision,
  DecisionFlag,
  Descriptor,
  DescriptorFlag,
  Header,
  MAX_TRIED,
  METHODS,
  StreamKind,
  type TableSpec,
} from '../../native/engine.js';
import type { Batch } from '../decide/draft.js';
import { Decider } from '../decide.js';
import { EndpointStates } from '../endpoint-states.js';
import { Cells } from '../metrics/cells.js';
import { Patterns } from '../patterns.js';
import { Limits } from '../rate-limit/limits.js';
import { Gate } from '../resilience/gate.js';
import { allocateShare, ResilienceState } from '../resilience/state.js';
import type { Generation } from '../tables/compile.js';
import { DecisionTables } from '../tables/decision-tables.js';

export interface TestRequest {
  readonly listener: number;
  readonly destination?: readonly [address: string, port: number];
  readonly source?: string;
  readonly host?: string;
  /** Of the connection's TLS; empty: none was sent. Absent: no TLS. */
  readonly serverName?: string;
  readonly path?: string;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly query?: Readonly<Record<string, string>>;
  readonly opaque?: boolean;
  /** Of the protocol nothing is known yet. */
  readonly tentative?: boolean;
  /** `previous` was chosen by such a decision. */
  readonly dialled?: boolean;
  readonly random?: number;
  readonly attempt?: number;
  readonly previous?: number;
  /** A second attempt, beside the one at `previous`. */
  readonly hedge?: boolean;
  /** Of all attempts before; absent: `previous` alone. */
  readonly tried?: readonly number[];
}

export interface TestDecision {
  readonly target: number;
  readonly flags: number;
  readonly token: number;
  readonly routeId: number;
  readonly requestMutation: number;
  readonly localReply: number;
  readonly timeoutMs: number;
  /** Absent words are none. */
  readonly delayMs: number;
  readonly hedgeMs: number;
  readonly retry: number;
  readonly rewrite: number;
  readonly mirrorMask: number;
  readonly text: string;
  readonly answerLines: string;
}

const tablesOf = ({ buffer, patterns, limits, sessions }: Generation): DecisionTables =>
  new DecisionTables(buffer, new Patterns(patterns), new Limits(limits), sessions);

export class TestProxy {
  readonly cells = new Cells(Cells.allocate());
  readonly outstanding = new Int32Array(new SharedArrayBuffer(4 * 4096));
  readonly states = new EndpointStates(EndpointStates.allocate());
  readonly resilience = new ResilienceState(ResilienceState.allocate());
  readonly decider: Decider;
  private arenaUsed = 0;
  private readonly batch: Batch = {
    header: new Int32Array(16),
    clock: new Float64Array(1),
    descriptors: new Int32Array(DESCRIPTOR_WORDS * 64),
    decisions: new Int32Array(DECISION_WORDS * 64),
    completions: new Int32Array(COMPLETION_WORDS * 64),
    predicates: new Int32Array(1024),
    tried: new Int32Array(MAX_TRIED * 64),
    arena: new Uint8Array(8192),
    texts: new Uint8Array(65_536),
  };

  constructor(private current: Generation) {
    this.decider = new Decider(tablesOf(current), this.cells, this.outstanding, this.states, new Gate(this.resilience, allocateShare()), 0);
    this.decider.attach(this.batch);
  }

  /** Of Engine.clock. */
  set nowUs(us: number) {
    this.batch.clock[0] = us;
  }

  /** The engine uses the tables from the next batch on. */
  publish(generation: Generation): void {
    this.current = generation;
    this.decider.install(tablesOf(generation));
  }

  /** The engine hasn't switched over yet. */
  publishLate(generation: Generation): void {
    this.decider.install(tablesOf(generation));
  }

  decide(request: TestRequest): TestDecision {
    const { header, decisions } = this.batch;
    header[Header.RequestCount] = 1;
    header[Header.CompletionCount] = 0;
    header[Header.TextBytes] = 0;
    header[Header.Generation] = this.current.generation;
    this.describe(request);
    decisions.fill(0x7f7f7f7f);
    this.decider.run();
    const isExtended = (decisions[Decision.Flags]! & DecisionFlag.Extended) !== 0;
    const extended = (word: number, none: number): number => (isExtended ? decisions[word]! : none);
    const textAt = (place: number): string =>
      Buffer.from(this.batch.texts.subarray(place >>> 16, (place >>> 16) + (place & 0xffff))).toString();
    return {
      target: decisions[Decision.Target]!,
      flags: decisions[Decision.Flags]!,
      token: decisions[Decision.Token]!,
      routeId: decisions[Decision.RouteId]!,
      requestMutation: decisions[Decision.RequestMutation]!,
      localReply: decisions[Decision.LocalReply]!,
      timeoutMs: decisions[Decision.TimeoutMs]!,
      delayMs: extended(Decision.DelayMs, 0),
      hedgeMs: extended(Decision.HedgeMs, 0),
      retry: extended(Decision.Retry, -1),
      rewrite: extended(Decision.Rewrite, -1),
      mirrorMask: extended(Decision.MirrorMask, 0),
      text: textAt(extended(Decision.Text, 0)),
      answerLines: textAt(extended(Decision.AnswerLines, 0)),
    };
  }

  complete(
    { target, token }: TestDecision,
    status: number,
    reason: number,
    latencyUs: number,
    received: number,
    sent: number,
    grpcStatus = -1,
    firstByteUs = latencyUs,
  ): void {
    const { header, completions } = this.batch;
    header[Header.RequestCount] = 0;
    header[Header.CompletionCount] = 1;
    completions.fill(0);
    completions[Completion.GrpcStatus] = grpcStatus;
    completions[Completion.Target] = target;
    completions[Completion.Token] = token;
    completions[Completion.Status] = status;
    completions[Completion.Reason] = reason;
    completions[Completion.LatencyUs] = latencyUs;
    completions[Completion.FirstByteUs] = firstByteUs;
    completions[Completion.ReceivedLow] = received;
    completions[Completion.SentLow] = sent;
    if (target >= 0) this.outstanding[target]! -= 1;
    this.decider.run();
  }

  /** As complete(), well; the endpoint says how busy it is. */
  completeWithLoad({ target, token }: TestDecision, load: readonly [utilization: number, requests: number, errors: number]): void {
    const { header, completions } = this.batch;
    header[Header.RequestCount] = 0;
    header[Header.CompletionCount] = 1;
    completions.fill(0);
    completions[Completion.GrpcStatus] = -1;
    completions[Completion.Target] = target;
    completions[Completion.Token] = token;
    completions[Completion.Status] = 200;
    new Float32Array(completions.buffer).set(load, Completion.Utilization);
    this.outstanding[target]! -= 1;
    this.decider.run();
  }

  /** What becomes of a decision that no exchange ended by. */
  end(
    { target, token }: TestDecision,
    kind: CompletionKind.Settled | CompletionKind.Abandoned | CompletionKind.Failed,
    firstByteUs = -1,
  ): void {
    const { header, completions } = this.batch;
    header[Header.RequestCount] = 0;
    header[Header.CompletionCount] = 1;
    completions.fill(0);
    completions[Completion.Target] = target;
    completions[Completion.Token] = token;
    completions[Completion.Kind] = kind;
    completions[Completion.FirstByteUs] = firstByteUs;
    if (target >= 0 && kind !== CompletionKind.Settled) this.outstanding[target]! -= 1;
    this.decider.run();
  }

  private describe(request: TestRequest): void {
    const { spec } = this.current;
    const { descriptors } = this.batch;
    descriptors.fill(0);
    this.arenaUsed = 0;
    const path = request.path ?? '/';
    const pathId = longestPath(spec.paths, path);
    descriptors[Descriptor.Kind] = request.opaque === true ? StreamKind.Opaque : StreamKind.Http1;
    const method = (METHODS as readonly string[]).indexOf(request.method ?? 'GET');
    descriptors[Descriptor.Method] = method < 0 ? 255 : method;
    descriptors[Descriptor.ListenerId] = request.listener;
    descriptors[Descriptor.DestinationId] = spec.destinations.findIndex(
      ({ address, port }) => address === request.destination?.[0] && port === request.destination[1],
    );
    descriptors[Descriptor.HostId] = longestHost(spec.hosts, request.host ?? '');
    descriptors[Descriptor.PathId] = pathId;
    const isTls = request.serverName !== undefined;
    descriptors[Descriptor.Flags] = (spec.paths[pathId] === path ? DescriptorFlag.PathExact : 0) | (isTls ? DescriptorFlag.Tls : 0);
    if (request.hedge === true) descriptors[Descriptor.Flags]! |= DescriptorFlag.Hedge;
    if (request.tentative === true) descriptors[Descriptor.Flags]! |= DescriptorFlag.Tentative;
    if (request.dialled === true) descriptors[Descriptor.Flags]! |= DescriptorFlag.Dialled;
    descriptors[Descriptor.ServerNameId] = isTls ? longestHost(spec.hosts, request.serverName) : -1;
    descriptors[Descriptor.PredicateOffset] = this.writePredicates(spec, request);
    descriptors[Descriptor.SourceId] = spec.sources.indexOf(request.source ?? '');
    descriptors[Descriptor.PathOffset] = this.place(path);
    descriptors[Descriptor.PathLength] = Buffer.byteLength(path);
    descriptors[Descriptor.AuthorityOffset] = this.place(request.host ?? '');
    descriptors[Descriptor.AuthorityLength] = Buffer.byteLength(request.host ?? '');
    descriptors[Descriptor.Attempt] = request.attempt ?? 0;
    descriptors[Descriptor.PreviousTarget] = request.previous ?? -1;
    this.batch.tried.set([...(request.tried ?? [request.previous ?? -1]), -1]);
    descriptors[Descriptor.Random] = request.random ?? 0;
  }

  private writePredicates(spec: TableSpec, request: TestRequest): number {
    const { predicates } = this.batch;
    predicates.fill(0);
    const offset = 3;
    spec.predicates.forEach(({ kind, name, value }, bit) => {
      const actual = {
        header: request.headers?.[name],
        query: request.query?.[name],
        method: request.method,
        grpcMethod: /^\/[^/]+\/([^/]*)$/.exec(request.path ?? '/')?.[1],
      }[kind];
      if (actual === value) predicates[offset + (bit >>> 5)]! |= 1 << (bit & 31);
    });
    const list = offset + Math.ceil(spec.predicates.length / 32);
    spec.values.forEach(({ kind, name }, index) => {
      const value = kind === 'clientAddress' ? request.source : (kind === 'header' ? request.headers : request.query)?.[name];
      if (value === undefined) return;
      predicates.set([index, this.place(value), Buffer.byteLength(value)], list + 1 + 3 * predicates[list]!);
      predicates[list]! += 1;
    });
    return predicates.some((word) => word !== 0) ? offset : -1;
  }

  /** Offset in the arena. */
  private place(text: string): number {
    const at = this.arenaUsed;
    this.batch.arena.set(Buffer.from(text), at);
    this.arenaUsed += Buffer.byteLength(text);
    return at;
  }
}

function longestPath(paths: readonly string[], path: string): number {
  const fits = (prefix: string): boolean => prefix === '/' || path === prefix || path.startsWith(`${prefix}/`);
  return longest(paths, fits);
}

function longestHost(hosts: readonly string[], host: string): number {
  const exact = hosts.indexOf(host);
  return exact >= 0 ? exact : longest(hosts, (pattern) => pattern.startsWith('*.') && hostnameMatches(pattern, host));
}

function longest(names: readonly string[], fits: (name: string) => boolean): number {
  let best = -1;
  names.forEach((name, index) => {
    if (fits(name) && (best < 0 || name.length > names[best]!.length)) best = index;
  });
  return best;
}
