// A simulated mesh around the real decisions: the Decider with its balancers and gate, and the main thread's Resilience, on a clock that jumps from
// event to event. What is simulated is the engine between them, the endpoints and the clients; nothing is decided here.
import {
  COMPLETION_WORDS,
  Completion,
  CompletionKind,
  DECISION_WORDS,
  DESCRIPTOR_WORDS,
  Decision,
  DecisionFlag,
  Descriptor,
  Header,
  MAX_TRIED,
} from '../../agent/native/engine.js';
import type { Batch } from '../../agent/proxy/decide/draft.js';
import { Decider } from '../../agent/proxy/decide.js';
import { EndpointStates } from '../../agent/proxy/endpoint-states.js';
import { EndpointUpkeep } from '../../agent/proxy/endpoint-upkeep.js';
import { Cells } from '../../agent/proxy/metrics/cells.js';
import { Patterns } from '../../agent/proxy/patterns.js';
import { Gate } from '../../agent/proxy/resilience/gate.js';
import { type ClusterReport, Resilience, SWEEP_MS } from '../../agent/proxy/resilience/resilience.js';
import { allocateShare, ResilienceState } from '../../agent/proxy/resilience/state.js';
import type { Generation } from '../../agent/proxy/tables/compile.js';
import { DecisionTables } from '../../agent/proxy/tables/decision-tables.js';
import { compiled, endpoint, modelOf, service } from '../../agent/proxy/testing/models.js';
import { Events } from './events.js';

type Policy = NonNullable<NonNullable<Parameters<typeof service>[2]>['policies']>[number]['policy'];

/** How one endpoint serves; each may change in the course of time. */
export interface ServerModel {
  /** Requests at once; more wait in line. */
  readonly concurrency: number;
  /** ms, of one request. */
  serviceMs(nowMs: number, random: () => number): number;
  fails(nowMs: number, random: () => number): boolean;
}

export interface MeshOptions {
  readonly policy: Policy;
  readonly servers: readonly ServerModel[];
  /** Retries of answers that are failures; 0: none. */
  readonly retries: number;
  /** Predicates of the request's class by which it is let in. */
  readonly seed: number;
}

export interface Outcome {
  /** As the client sees it. */
  readonly status: number;
  /** ms from the request to its answer. */
  readonly latencyMs: number;
  readonly attempts: number;
  readonly endpoint: number;
}

interface Call {
  readonly fromMs: number;
  readonly criticality: string;
  readonly done: (outcome: Outcome) => void;
  readonly tried: number[];
}

const WORKER_BATCH = 64;
const DESTINATION: readonly [string, number] = ['10.0.0.1', 80];

export class SimulatedMesh {
  readonly events = new Events();
  readonly random: () => number;
  /** Attempts, by all. */
  attempts = 0;
  private readonly states = new EndpointStates(EndpointStates.allocate());
  private readonly outstanding = new Int32Array(new SharedArrayBuffer(4 * 1024));
  private readonly resilience: Resilience;
  private readonly decider: Decider;
  private readonly generation: Generation;
  private readonly lines: Server[];
  private readonly batch: Batch;

  constructor(private readonly options: MeshOptions) {
    this.random = randomFrom(options.seed);
    const policies = options.policy === undefined ? [] : [{ policy: options.policy }];
    const endpoints = options.servers.map((_, index) => endpoint('shop', `e${index}`, `10.1.0.${index + 1}`));
    this.generation = compiled(modelOf(service('shop', DESTINATION[0], { policies }), ...endpoints));
    const now = (): number => this.events.nowMs;
    const state = new ResilienceState(ResilienceState.allocate());
    const tables = new DecisionTables(this.generation.buffer, new Patterns(this.generation.patterns));
    this.decider = new Decider(tables, new Cells(Cells.allocate()), this.outstanding, this.states, new Gate(state, allocateShare()), 0);
    this.batch = {
      header: new Int32Array(16),
      clock: new Float64Array(1),
      descriptors: new Int32Array(DESCRIPTOR_WORDS * WORKER_BATCH),
      decisions: new Int32Array(DECISION_WORDS * WORKER_BATCH),
      completions: new Int32Array(COMPLETION_WORDS * WORKER_BATCH),
      predicates: new Int32Array(64),
      tried: new Int32Array(MAX_TRIED * WORKER_BATCH),
      arena: new Uint8Array(64),
      texts: new Uint8Array(1024),
    };
    this.decider.attach(this.batch);
    this.resilience = new Resilience(state, this.states, { now, random: this.random, onEvent: () => undefined });
    const upkeep = new EndpointUpkeep(this.states, now);
    upkeep.prepare([...this.generation.clusters, ...this.generation.variants]);
    this.resilience.configure(this.generation.guarded);
    // The simulation's clock drives it, and no other.
    this.resilience.stop();
    this.lines = options.servers.map((model) => new Server(model, this.events, this.random));
    const sweep = (): void => {
      this.resilience.sweep();
      this.events.in(SWEEP_MS, sweep);
    };
    if (this.generation.guarded.length > 0) this.events.in(SWEEP_MS, sweep);
  }

  get report(): ClusterReport | undefined {
    return this.resilience.report()[0];
  }

  /** A request, now. `criticality`: value of its header; empty: it has none. */
  request(done: (outcome: Outcome) => void, criticality = ''): void {
    this.attempt({ fromMs: this.events.nowMs, criticality, done, tried: [] });
  }

  private attempt(call: Call): void {
    const [target, flags, token] = this.decide(call);
    if (target < 0) {
      this.complete(target, token, CompletionKind.Ended, -target, 0, -1);
      call.done({ status: -target, latencyMs: this.events.nowMs - call.fromMs, attempts: call.tried.length, endpoint: -1 });
      return;
    }
    this.attempts++;
    const index = this.generation.spec.endpoints.findIndex(({ id }) => id === target);
    const fromMs = this.events.nowMs;
    this.lines[index]!.serve((isFailure) => {
      this.outstanding[target]! -= 1;
      const status = isFailure ? 503 : 200;
      const us = (this.events.nowMs - fromMs) * 1_000;
      const isRepeated = isFailure && (flags & DecisionFlag.Retry) !== 0 && call.tried.length < this.options.retries;
      this.complete(target, token, isRepeated ? CompletionKind.Failed : CompletionKind.Ended, status, 0, us);
      call.tried.push(target);
      if (isRepeated) this.attempt(call);
      else call.done({ status, latencyMs: this.events.nowMs - call.fromMs, attempts: call.tried.length, endpoint: index });
    });
  }

  private decide({ criticality, tried }: Call): readonly [target: number, flags: number, token: number] {
    const { header, descriptors, decisions } = this.batch;
    const { spec } = this.generation;
    this.begin(1, 0);
    descriptors.fill(0, 0, DESCRIPTOR_WORDS);
    descriptors[Descriptor.DestinationId] = spec.destinations.findIndex(({ address }) => address === DESTINATION[0]);
    for (const word of [Descriptor.HostId, Descriptor.PathId, Descriptor.SourceId, Descriptor.ServerNameId]) descriptors[word] = -1;
    const bit = spec.predicates.findIndex(({ value }) => value === criticality);
    descriptors[Descriptor.PredicateOffset] = bit < 0 ? -1 : 0;
    this.batch.predicates.fill(0);
    if (bit >= 0) this.batch.predicates[bit >>> 5] = 1 << (bit & 31);
    descriptors[Descriptor.Attempt] = tried.length;
    descriptors[Descriptor.PreviousTarget] = tried.at(-1) ?? -1;
    this.batch.tried.set([...tried, -1]);
    descriptors[Descriptor.Random] = Math.floor(this.random() * 0x7fffffff);
    header[Header.TextBytes] = 0;
    this.decider.run();
    return [decisions[Decision.Target]!, decisions[Decision.Flags]!, decisions[Decision.Token]!];
  }

  private complete(target: number, token: number, kind: CompletionKind, status: number, reason: number, firstByteUs: number): void {
    const { completions } = this.batch;
    this.begin(0, 1);
    completions.fill(0, 0, COMPLETION_WORDS);
    completions[Completion.Target] = target;
    completions[Completion.Token] = token;
    completions[Completion.Kind] = kind;
    completions[Completion.Status] = status;
    completions[Completion.Reason] = reason;
    completions[Completion.LatencyUs] = Math.max(0, firstByteUs);
    completions[Completion.FirstByteUs] = firstByteUs;
    completions[Completion.GrpcStatus] = -1;
    this.decider.run();
  }

  private begin(requests: number, completions: number): void {
    const { header, clock } = this.batch;
    header[Header.RequestCount] = requests;
    header[Header.CompletionCount] = completions;
    header[Header.Generation] = this.generation.generation;
    clock[0] = this.events.nowMs * 1_000;
  }
}

/** First come, first served. */
class Server {
  private busy = 0;
  private readonly line: ((isFailure: boolean) => void)[] = [];

  constructor(
    private readonly model: ServerModel,
    private readonly events: Events,
    private readonly random: () => number,
  ) {}

  serve(done: (isFailure: boolean) => void): void {
    if (this.busy === this.model.concurrency) this.line.push(done);
    else this.begin(done);
  }

  private begin(done: (isFailure: boolean) => void): void {
    this.busy++;
    this.events.in(this.model.serviceMs(this.events.nowMs, this.random), () => {
      this.busy--;
      const next = this.line.shift();
      if (next !== undefined) this.begin(next);
      done(this.model.fails(this.events.nowMs, this.random));
    });
  }
}

/** mulberry32: the same numbers each time. */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}
