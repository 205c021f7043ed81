// A worker's side of filters: puts requests and answers off that a filter must see, asks the filters of a chain one after the other, and tells
// the engine what they changed. Runs for requests that have filters, and for no other.
import type { Call, FilterChannel } from '../../../api/filter/channel.js';
import { failed, Hook, type Outcome } from '../../../api/filter/outcome.js';
import type { Engine } from '../../native/engine.js';
import type { DeferredDecisions } from '../deferred.js';
import { AnswerChains } from './answer-chains.js';
import type { FilterCells } from './filter-cells.js';
import type { FilterBinding, FilterTables } from './filter-tables.js';

/** What the filters made of a request, or of its answer. */
export interface Filtered {
  readonly kind: 'filtered';
  /** Names; none of them is asked again. */
  readonly ran: readonly string[];
  readonly verdict:
    | { readonly kind: 'continue' }
    /** With what replyDeferred() was told. */
    | { readonly kind: 'reply'; readonly status: number }
    | { readonly kind: 'failed' }
    /** The request's body, for a filter that reads it. */
    | { readonly kind: 'too_large' };
}

/** Of one request, or one answer. */
interface Asked {
  readonly token: number;
  readonly signal: AbortSignal;
  readonly chain: readonly FilterBinding[];
  readonly meta: string;
  /** What there was of its body is not held: it is longer than any filter takes. */
  readonly isTooLong: boolean;
}

type Verdict = Filtered['verdict'];

const NONE: readonly string[] = [];
const CONTINUE = { kind: 'continue' } as const;
const FAILED = { kind: 'failed' } as const;
const TOO_LARGE = { kind: 'too_large' } as const;
/** Of a question that failed by itself. */
export const FAILED_FILTERS: Filtered = { kind: 'filtered', ran: NONE, verdict: FAILED };

/** What is asked of the engine about a request that waits for its filters. */
export type FilterEngine = Pick<
  Engine,
  'deferredHead' | 'deferredAnswer' | 'deferredBody' | 'changeDeferred' | 'replaceBody' | 'replyDeferred'
>;
export type FilterCounter = Pick<FilterCells, 'called' | 'replied' | 'failed'>;
type Channel = Pick<FilterChannel, 'call' | 'close'>;

export class FilterCalls {
  private readonly channels = new Map<string, Channel>();
  private readonly answerChains = new AnswerChains();

  constructor(
    private readonly engine: FilterEngine,
    private readonly deferred: Pick<DeferredDecisions<Filtered>, 'defer'>,
    private readonly cells: FilterCounter,
  ) {}

  /** Before the first decision by these tables. */
  install(tables: FilterTables | null): void {
    this.answerChains.install(tables);
  }

  /** Decision.AnswerFilters, of the chain at that index; -1: none of it looks at answers. */
  answersTo(chain: number): number {
    return this.answerChains.numberOf(chain);
  }

  /** In place of the one before. */
  open(key: string, channel: Channel): void {
    this.channels.get(key)?.close();
    this.channels.set(key, channel);
  }

  close(key: string): void {
    this.channels.get(key)?.close();
    this.channels.delete(key);
  }

  closeAll(): void {
    for (const key of [...this.channels.keys()]) this.close(key);
  }

  /**
   * Puts the request at word `q` off until the filters of the chain have seen it that have not (`before`). null: there is nothing to wait
   * for; else what to do at once: 'wait', or 'failed' where no more requests may wait.
   */
  putOff(
    q: number,
    chain: readonly FilterBinding[],
    before: Filtered | null,
    meta: () => string,
    isTooLong: boolean,
  ): 'wait' | 'failed' | null {
    const ran = before?.ran ?? NONE;
    let isNeeded = false;
    let mayFail = true;
    for (const filter of chain) {
      if (!filter.onRequest || ran.includes(filter.name)) continue;
      isNeeded = true;
      mayFail &&= filter.failOpen;
    }
    if (!isNeeded) return null;
    const text = meta();
    if (this.deferred.defer(q, (signal, token) => this.ask({ token, signal, chain, meta: text, isTooLong }, ran))) return 'wait';
    for (const { slot, onRequest } of chain) if (onRequest) this.cells.failed(slot, 'overflow');
    return mayFail ? null : 'failed';
  }

  /** As putOff(), of the answer to a request with that Decision.AnswerFilters: by the filters that there are now. */
  putAnswerOff(q: number, number: number, meta: () => string, isTooLong: boolean): 'wait' | 'failed' | null {
    const chain = this.answerChains.at(number);
    if (chain === null) return 'failed';
    if (chain.length === 0) return null;
    const text = meta();
    if (this.deferred.defer(q, (signal, token) => this.askOfAnswer({ token, signal, chain, meta: text, isTooLong }))) return 'wait';
    for (const { slot } of chain) this.cells.failed(slot, 'overflow');
    return chain.every(({ failOpen }) => failOpen) ? null : 'failed';
  }

  private async ask({ chain, ...asked }: Asked, before: readonly string[]): Promise<Filtered> {
    const ran = [...before];
    for (const filter of chain) {
      if (!filter.onRequest || ran.includes(filter.name)) continue;
      ran.push(filter.name);
      const head = this.engine.deferredHead(asked.token);
      if (head === null) break;
      const verdict = await this.askOne(filter, Hook.Request, { ...asked, head, answer: '' });
      if (verdict === null) break;
      if (verdict.kind !== 'continue') return { kind: 'filtered', ran, verdict };
    }
    return { kind: 'filtered', ran, verdict: CONTINUE };
  }

  private async askOfAnswer({ chain, ...asked }: Asked): Promise<Filtered> {
    for (const filter of chain) {
      const head = this.engine.deferredHead(asked.token);
      const answer = this.engine.deferredAnswer(asked.token);
      if (head === null || answer === null) break;
      const verdict = await this.askOne(filter, Hook.Response, { ...asked, head, answer });
      if (verdict === null) break;
      if (verdict.kind !== 'continue') return { kind: 'filtered', ran: NONE, verdict };
    }
    return { kind: 'filtered', ran: NONE, verdict: CONTINUE };
  }

  /** Null: nobody waits any more. */
  private async askOne(
    filter: FilterBinding,
    hook: Hook,
    { token, signal, head, meta, answer, isTooLong }: Omit<Asked, 'chain'> & Pick<Call, 'head' | 'answer'>,
  ): Promise<Verdict | null> {
    const body = filter.maxBodyBytes > 0 ? (this.engine.deferredBody(token) ?? '') : '';
    if (filter.maxBodyBytes > 0 && (isTooLong || body.length > filter.maxBodyBytes)) {
      const verdict = this.fail(filter, 'body_too_large');
      return verdict === FAILED && hook === Hook.Request ? TOO_LARGE : verdict;
    }
    const outcome = await this.call(filter, { hook, head, body: body === '' ? null : body, meta, answer });
    return signal.aborted ? null : this.carryOut(filter, token, outcome);
  }

  private call(filter: FilterBinding, call: Call): Promise<Outcome> {
    const channel = this.channels.get(filter.key);
    const began = performance.now();
    return new Promise((resolve) => {
      const done = (outcome: Outcome, busyUs: number): void => {
        this.cells.called(filter.slot, busyUs, (performance.now() - began) * 1_000);
        resolve(outcome);
      };
      if (channel === undefined) done(failed('not_running', 'the filter is not running'), -1);
      else channel.call(call, done);
    });
  }

  private carryOut(filter: FilterBinding, token: number, outcome: Outcome): Verdict {
    if (outcome.kind === 'failed') return this.fail(filter, outcome.why);
    if (outcome.kind === 'respond') {
      const { status, lines, body, grpcStatus } = outcome;
      if (this.engine.replyDeferred(token, lines, body, grpcStatus) !== null) return this.fail(filter, 'invalid');
      this.cells.replied(filter.slot);
      return { kind: 'reply', status };
    }
    if (outcome.body !== null && this.engine.replaceBody(token, outcome.body) !== null) return this.fail(filter, 'invalid');
    if (outcome.changes === '' && !outcome.reroutes) return CONTINUE;
    return this.engine.changeDeferred(token, outcome.changes, outcome.reroutes) === null ? CONTINUE : this.fail(filter, 'invalid');
  }

  private fail({ slot, failOpen }: FilterBinding, why: Parameters<FilterCells['failed']>[1]): Verdict {
    this.cells.failed(slot, why);
    return failOpen ? CONTINUE : FAILED;
  }
}
