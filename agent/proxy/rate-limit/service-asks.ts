// A worker's side of rate limits that a service counts: puts requests off that it must be asked about, asks, and tells the engine what it
// answered. Runs for requests with such limits, after those that are counted here have let them pass.
import { RateLimitRequest } from '../../../api/gen/envoy/service/ratelimit/v3/rls.js';
import type { Engine } from '../../native/engine.js';
import type { Calls } from '../calls.js';
import type { DeferredDecisions } from '../deferred.js';
import { readAnswer, type ServiceAnswer } from './service-answer.js';
import type { ServiceQuestion } from './service-request.js';
import { type AskedLimitSpec, AskedWord, type CallSpec } from './spec.js';

const METHOD = '/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit';
const RESOURCE_EXHAUSTED = 8;
/** So that the engine's own time for a deferred decision (504) is never the first to be over. */
const SPARE_MS = 1_000;

/** What came of asking. */
export interface Asked {
  readonly kind: 'asked';
  /** LimitSetSpec.key of the set that was asked about, and of all in which the request is counted. */
  readonly set: string;
  readonly sets: readonly string[];
  /** Descriptor.Random of the first decision: what was drawn then is drawn again. */
  readonly random: number;
  /** 'replies': refused, with what replyDeferred() was told. */
  readonly verdict: 'passes' | 'refused' | 'replies' | 'failed';
}

export interface ServiceAsker {
  /** What is told in place of a client's address that is not known; null: its limits are not asked about. */
  readonly noAddress: string | null;
  /** Puts the request at word `q` off until all have answered; else what to do at once. `about`: of what came of it. */
  putOff(q: number, about: Omit<Asked, 'verdict'>, questions: readonly ServiceQuestion[]): 'wait' | 'passes' | 'failed';
}

export class ServiceAsks implements ServiceAsker {
  readonly noAddress = null;
  private readonly words = new WeakMap<SharedArrayBuffer, Int32Array>();

  /** `mostMs`: EngineLimits.deferredTimeoutMs. */
  constructor(
    private readonly engine: Pick<Engine, 'changeDeferred' | 'answerDeferred' | 'replyDeferred'>,
    private readonly deferred: Pick<DeferredDecisions<Asked>, 'defer'>,
    private readonly calls: Pick<Calls, 'call'>,
    private readonly mostMs: number,
  ) {}

  putOff(q: number, about: Omit<Asked, 'verdict'>, questions: readonly ServiceQuestion[]): 'wait' | 'passes' | 'failed' {
    const isPutOff = this.deferred.defer(q, async (signal, token) => ({ ...about, verdict: await this.ask(token, signal, questions) }));
    if (isPutOff) return 'wait';
    return questions.map((question) => this.fails(question)).includes(true) ? 'failed' : 'passes';
  }

  private async ask(token: number, signal: AbortSignal, questions: readonly ServiceQuestion[]): Promise<Asked['verdict']> {
    const answers = await Promise.all(questions.map((question) => this.answerTo(question)));
    const refusal = answers.find((answer): answer is ServiceAnswer => answer !== null && !answer.passes);
    const isFailed = questions.map((question, index) => answers[index] === null && this.fails(question)).includes(true);
    if (signal.aborted || (refusal === undefined && isFailed)) return 'failed';
    for (const answer of refusal === undefined ? answers : [refusal]) if (answer !== null) this.tell(token, answer, refusal === undefined);
    if (refusal === undefined) return 'passes';
    if (refusal.body.length === 0) return 'refused';
    return this.engine.replyDeferred(token, '', refusal.body, RESOURCE_EXHAUSTED) === null ? 'replies' : 'refused';
  }

  private async answerTo({ call, limits, request }: ServiceQuestion): Promise<ServiceAnswer | null> {
    const { service, timeoutMs } = call;
    const plan = { service, timeoutMs: Math.min(timeoutMs, Math.max(1, this.mostMs - SPARE_MS)) };
    const message = await this.calls.call(plan, METHOD, RateLimitRequest.encode(request).finish());
    const answer = readAnswer(message, limits);
    for (const [index, limit] of limits.entries())
      if (answer !== null) this.count(limit, answer.over[index] === true ? AskedWord.OverLimit : AskedWord.Ok);
    return answer;
  }

  /** Each line for itself: one that can't stand where it is to takes none of the others with it. */
  private tell(token: number, { forRequest, forAnswer }: ServiceAnswer, passes: boolean): void {
    if (passes) for (const line of forRequest) this.engine.changeDeferred(token, `${line}\n`, false);
    for (const line of forAnswer) this.engine.answerDeferred(token, `${line}\n`);
  }

  /** Counts that there is no answer; returns whether its requests are refused for that. */
  private fails({ call, limits }: { readonly call: CallSpec; readonly limits: readonly AskedLimitSpec[] }): boolean {
    for (const limit of limits) {
      this.count(limit, AskedWord.Failed);
      if (!call.failsClosed) this.count(limit, AskedWord.LetPass);
    }
    return call.failsClosed;
  }

  private count({ words: memory }: AskedLimitSpec, word: AskedWord): void {
    let words = this.words.get(memory);
    if (words === undefined) {
      words = new Int32Array(memory);
      this.words.set(memory, words);
    }
    Atomics.add(words, word, 1);
  }
}
