// The filters of an explained request: asked as the data path asks them, each in a process of its own that is started for this one request. Those that
// serve requests are not asked: what ends or fills one would be theirs to bear. Here: the processes, and what came of each.
import type { Duplex } from 'node:stream';
import { type Call, type Done, FilterChannel } from '../../../api/filter/channel.js';
import { type FilterFailure, failed, type Outcome } from '../../../api/filter/outcome.js';
import { outcomeInWords } from '../../../api/filter/outcome-words.js';
import { type FilterProcess, startFilter } from '../../../api/filter/process.js';
import { type FilterVerdict, FilterVerdict_Verdict } from '../../../api/gen/mesh/v1/explain.js';
import type { FilterCounter } from '../filters/filter-calls.js';
import type { FilterBinding, FilterTables, WantedFilter } from '../filters/filter-tables.js';

/** Of a generation. */
export interface FilterPrograms {
  /** As requests are decided by them. */
  readonly tables: FilterTables | null;
  /** By FilterBinding.key; null: the data path has none that runs. */
  program(key: string): WantedFilter | null;
}

/** Of why a filter failed: its stack. */
const MAX_LINES = 8;

interface Run {
  readonly binding: FilterBinding;
  verdict: FilterVerdict_Verdict;
  lines: readonly string[];
  busyUs: number;
}

export class FilterRuns implements FilterCounter {
  /** Slots are places in `bindings`. */
  readonly tables: FilterTables | null;
  private readonly bindings: FilterBinding[] = [];
  private readonly runs: Run[] = [];
  private readonly processes: FilterProcess[] = [];
  /** Of the call that was answered last. */
  private outcome: Outcome | null = null;
  private reason = '';

  /** `signal`: nobody waits any more. */
  constructor(
    private readonly programs: FilterPrograms,
    readonly signal: AbortSignal,
  ) {
    const { tables } = programs;
    const slotted = (binding: FilterBinding): FilterBinding => ({ ...binding, slot: this.bindings.push(binding) - 1 });
    this.tables = tables === null ? null : { ...tables, chains: tables.chains.map((chain) => chain.map(slotted)) };
    signal.addEventListener('abort', this.close, { once: true });
  }

  /** Those that the data path could call. */
  *channels(): Iterable<readonly [key: string, channel: Pick<FilterChannel, 'call' | 'close'>]> {
    for (const key of new Set(this.bindings.map((binding) => binding.key))) {
      const program = key === '' ? null : this.programs.program(key);
      if (program === null) continue;
      let started: Promise<FilterChannel | string> | null = null;
      const call = (asked: Call, done: Done): void => {
        started ??= this.start(program);
        void started.then((channel) => this.ask(channel, asked, done));
      };
      yield [key, { call, close: () => undefined }];
    }
  }

  called(slot: number, busyUs: number): void {
    const { outcome } = this;
    this.outcome = null;
    const lines = outcome === null ? [] : outcomeInWords(outcome);
    this.runs.push({ binding: this.bindings[slot]!, verdict: FilterVerdict_Verdict.CONTINUED, lines, busyUs: Math.max(0, busyUs) });
    this.reason = outcome?.kind === 'failed' ? outcome.detail : '';
  }

  replied(slot: number): void {
    this.runOf(slot).verdict = FilterVerdict_Verdict.ANSWERED;
  }

  /** What it wants of the request can't be. */
  refused(why: string): void {
    this.reason = why;
  }

  failed(slot: number, why: FilterFailure): void {
    const run = this.runOf(slot);
    run.verdict = FilterVerdict_Verdict.FAILED;
    const { key, failOpen } = run.binding;
    const reason = this.reason || (key === '' ? 'its module is missing or does not compile' : '');
    run.lines = [
      ...`${why}${reason === '' ? '' : `: ${reason}`}`.split('\n').slice(0, MAX_LINES),
      failOpen ? 'the request goes on (FailOpen)' : 'the request is refused (FailClosed)',
    ];
  }

  /** Of all that ran, then of what else there is in the chain of the rule by which it went on; `isAnswered`: by the proxy itself. */
  verdicts(chain: readonly FilterBinding[], isAnswered: boolean): FilterVerdict[] {
    const ran = new Set(this.runs.map(({ binding }) => binding.name));
    const others = chain
      .filter(({ name }) => !ran.has(name))
      .map((binding): Run => ({ binding, verdict: FilterVerdict_Verdict.NOT_ASKED, lines: [], busyUs: 0 }));
    return [...this.runs, ...others].map(({ binding: { name, onResponse }, verdict, lines, busyUs }) => ({
      name,
      verdict,
      lines: [...lines],
      busyUs,
      seesAnswers: onResponse && !isAnswered && chain.some((each) => each.name === name),
    }));
  }

  /** Idempotent. */
  readonly close = (): void => {
    for (const process of this.processes.splice(0)) process.kill('its request is explained');
  };

  /** The one that was called last, if it was called at all. */
  private runOf(slot: number): Run {
    const last = this.runs.at(-1);
    const binding = this.bindings[slot]!;
    if (last?.binding.name === binding.name) return last;
    this.reason = '';
    const run = { binding, verdict: FilterVerdict_Verdict.CONTINUED, lines: [], busyUs: 0 };
    this.runs.push(run);
    return run;
  }

  /** A string: why it does not run. */
  private async start(program: WantedFilter): Promise<FilterChannel | string> {
    if (this.signal.aborted) return 'nobody waits any more';
    let channel: FilterChannel | null = null;
    const started = await startFilter(program, ['pipe'], (stream: Duplex) => {
      channel = new FilterChannel(stream, program.timeoutMs, this.close);
    }).catch((error: Error) => ({ ok: false as const, error: error.message }));
    if (!started.ok) return started.error;
    this.processes.push(started.process);
    if (this.signal.aborted) this.close();
    return channel ?? 'it has no channel';
  }

  private ask(channel: FilterChannel | string, call: Call, done: Done): void {
    const told: Done = (outcome, busyUs) => {
      this.outcome = outcome;
      done(outcome, busyUs);
    };
    if (typeof channel === 'string') told(failed('not_running', channel), -1);
    else channel.call(call, told);
  }
}
