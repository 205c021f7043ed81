// The decision that is being made: which request it is about, what is written of it, and whom it is accounted to. One of a worker, begun anew for
// every request; decides nothing itself. Hot path: nothing allocated.
import {
  DECISION_WORDS,
  DESCRIPTOR_WORDS,
  Decision,
  DecisionFlag,
  Descriptor,
  DescriptorFlag,
  type Engine,
  StreamKind,
} from '../../native/engine.js';
import { type Cells, Traffic } from '../metrics/cells.js';
import type { DecisionTables } from '../tables/decision-tables.js';
import { LABEL_UNKNOWN } from '../tables/labels.js';
import { type Reply, RetryPlace } from '../tables/layout.js';

// By their short names.
const D_KIND = Descriptor.Kind as number;
const D_FLAGS = Descriptor.Flags as number;
const D_SOURCE = Descriptor.SourceId as number;
const D_ATTEMPT = Descriptor.Attempt as number;
const TENTATIVE = DescriptorFlag.Tentative as number;
const OPAQUE = StreamKind.Opaque as number;
const EXTENDED = DecisionFlag.Extended as number;
const FILTERED = DecisionFlag.Filtered as number;
const UNTRIED: RetryPlace = RetryPlace.Untried;

/** What decisions need of the engine; the engine's memory in production, plain arrays in tests. */
export type Batch = Pick<
  Engine,
  'header' | 'clock' | 'descriptors' | 'decisions' | 'completions' | 'predicates' | 'tried' | 'arena' | 'texts'
>;

const NO_BATCH: Batch = {
  header: new Int32Array(16),
  clock: new Float64Array(1),
  descriptors: new Int32Array(0),
  decisions: new Int32Array(0),
  completions: new Int32Array(0),
  predicates: new Int32Array(0),
  tried: new Int32Array(0),
  arena: new Uint8Array(0),
  texts: new Uint8Array(0),
};

export class Draft {
  batch: Batch = NO_BATCH;
  /** Of the batch. */
  descriptors: Int32Array = NO_BATCH.descriptors;
  decisions: Int32Array = NO_BATCH.decisions;
  /** Words at which the request's descriptor and its decision begin. */
  d = 0;
  q = 0;
  /** Set it before anything is accounted. */
  traffic: Traffic = Traffic.Gateway;
  /** As clientOf() has it. */
  client = 0;
  /** The request's filters have seen it. */
  isFiltered = false;
  /** Where it goes if it is a further attempt. */
  retryPlace: RetryPlace = RetryPlace.Untried;
  /** It was put off when some of it was decided and counted already. */
  isResumed = false;
  /** It has words of the second half. */
  private isExtended = false;

  constructor(
    /** Of the generation that decisions are made by. */
    public tables: DecisionTables,
    private readonly cells: Cells,
    readonly logFlag: 0 | DecisionFlag.Log,
  ) {}

  /** The addon's object is looked up by name for each word, this copy is not. */
  attach({ header, clock, descriptors, decisions, completions, predicates, tried, arena, texts }: Batch): void {
    this.batch = { header, clock, descriptors, decisions, completions, predicates, tried, arena, texts };
    this.descriptors = descriptors;
    this.decisions = decisions;
  }

  /** For the request at `index` in the batch; says nothing of it yet. */
  begin(index: number): void {
    const { decisions } = this;
    const q = index * DECISION_WORDS;
    this.d = index * DESCRIPTOR_WORDS;
    this.q = q;
    this.isExtended = false;
    this.isFiltered = false;
    this.retryPlace = UNTRIED;
    this.isResumed = false;
    decisions[q + Decision.Flags] = 0;
    decisions[q + Decision.Token] = 0;
    decisions[q + Decision.RequestMutation] = -1;
    decisions[q + Decision.ResponseMutation] = -1;
    decisions[q + Decision.TimeoutMs] = 0;
    decisions[q + Decision.AttemptTimeoutMs] = 0;
    decisions[q + Decision.LocalReply] = -1;
    decisions[q + Decision.RouteId] = -1;
  }

  /** Its target and flags are written: says what else there is. */
  finish(): void {
    if (this.isFiltered) this.decisions[this.q + Decision.Flags]! |= FILTERED;
    if (this.isExtended) this.decisions[this.q + Decision.Flags]! |= EXTENDED;
  }

  /** What was drawn with `random`, before it was put off, is drawn again. */
  resume(random: number): void {
    this.isResumed = true;
    this.descriptors[this.d + Descriptor.Random] = random;
  }

  /** Its target and token are written; it is begun anew later. */
  putOff(): void {
    this.isExtended = false;
    this.set(Decision.Flags, this.logFlag);
    this.set(Decision.AttemptTimeoutMs, 0);
  }

  /** Nothing of it was counted before. */
  get isFirst(): boolean {
    return this.of(D_ATTEMPT) === 0 && !this.isResumed;
  }

  /** A word of the request's descriptor. */
  of(word: number): number {
    return this.descriptors[this.d + word]!;
  }

  /** Its bytes are not read. */
  get isOpaque(): boolean {
    return this.descriptors[this.d + D_KIND] === OPAQUE;
  }

  has(flag: number): boolean {
    return (this.descriptors[this.d + D_FLAGS]! & flag) !== 0;
  }

  /** A word of the decision's first half. */
  set(word: number, value: number): void {
    this.decisions[this.q + word] = value;
  }

  /** A word of the decision's second half; the first clears the others. */
  extend(word: number, value: number): void {
    const { decisions, q } = this;
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
      decisions[q + Decision.AnswerFilters] = -1;
      decisions[q + Decision.AnswerService] = 0;
      decisions[q + Decision.BodyBytes] = 0;
    }
    decisions[q + word] = value;
  }

  /** A place in `texts`: behind those that are there, if it lies behind those. */
  addAnswerLines(lines: number): void {
    const before = this.isExtended ? this.decisions[this.q + Decision.AnswerLines]! : 0;
    const follows = before !== 0 && (before >>> 16) + (before & 0xffff) === lines >>> 16;
    this.extend(Decision.AnswerLines, follows ? before + (lines & 0xffff) : lines);
  }

  /** The request goes to an endpoint, or (-1) to its own destination. */
  send(target: number, flags: number, service: number, workload: number): void {
    const { decisions, q } = this;
    decisions[q] = target;
    decisions[q + Decision.Flags] = flags | this.logFlag;
    decisions[q + Decision.Token] = this.account(service, workload);
  }

  answer(status: number, reply: Reply, service: number): void {
    this.send(-status, 0, service, LABEL_UNKNOWN);
    this.decisions[this.q + Decision.LocalReply] = reply;
  }

  /** Beside the edge, in the token that is written. */
  note(bits: number): void {
    this.decisions[this.q + Decision.Token]! |= bits;
  }

  /** Row of the edge, stable over generations; a connection counts as opened. */
  account(service: number, workload: number): number {
    const source = this.of(D_SOURCE);
    const isTcp = this.isOpaque;
    const edge = this.cells.edgeOf(
      source < 0 ? LABEL_UNKNOWN : this.tables.sources[source]!,
      service,
      workload,
      this.traffic * 2 + (isTcp ? 1 : 0),
    );
    if (isTcp && this.of(D_ATTEMPT) === 0 && !this.has(TENTATIVE)) this.cells.opened[edge]! += 1;
    return edge;
  }
}
