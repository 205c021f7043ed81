// Decisions that need time: asked of somebody else (an authoriser, a rate limit service, a slow filter) while the batch goes on, and made
// when the request stands in a batch again. Owns the questions that are open, on one worker's thread; knows no policy, makes no decision.
import { DEFERRED, DEFERRED_PLACE_BITS, Decision, type Engine, Header } from '../native/engine.js';

/** `signal` says that nobody waits any more; `token` is the engine's name for the request. */
export type Ask<Answer> = (signal: AbortSignal, token: number) => Promise<Answer>;
export type Outcome<Answer> = { readonly kind: 'answered'; readonly answer: Answer } | { readonly kind: 'failed'; readonly error: unknown };

interface Question<Answer> {
  readonly token: number;
  readonly ask: Ask<Answer>;
  readonly nobodyWaits: AbortController;
  outcome: Outcome<Answer> | null;
}

const PLACE_MASK = (1 << DEFERRED_PLACE_BITS) - 1;
/** Tokens are positive in an Int32Array. */
const USE_MASK = (1 << (31 - DEFERRED_PLACE_BITS)) - 1;

/**
 * Every question ends once: take() for a descriptor with DescriptorFlag.Answered, or end() for a completion with target DEFERRED.
 * An asker that must fail open or closed by itself has a deadline shorter than the engine's (504).
 */
export class DeferredDecisions<Answer> {
  private readonly questions: (Question<Answer> | null)[];
  private readonly free: number[];
  private readonly uses: Uint16Array;
  private unasked: Question<Answer>[] = [];

  /** `capacity`: EngineLimits.maxDeferred. */
  constructor(
    private readonly engine: Pick<Engine, 'header' | 'decisions' | 'answered'>,
    capacity: number,
  ) {
    this.questions = new Array<Question<Answer> | null>(capacity).fill(null);
    this.free = Array.from({ length: capacity }, (_, place) => capacity - 1 - place);
    this.uses = new Uint16Array(capacity);
  }

  /**
   * Writes target and token of the decision at word `q`; its other words are the caller's, as for any decision. `ask` is called when the
   * tick is over. False: as many wait as may, nothing was written.
   */
  defer(q: number, ask: Ask<Answer>): boolean {
    const place = this.free.pop();
    if (place === undefined) return false;
    const token = (this.uses[place]! << DEFERRED_PLACE_BITS) | place;
    const question = { token, ask, nobodyWaits: new AbortController(), outcome: null };
    this.questions[place] = question;
    if (this.unasked.push(question) === 1) setImmediate(this.askAll);
    this.engine.decisions[q] = DEFERRED;
    this.engine.decisions[q + Decision.Token] = token;
    return true;
  }

  /**
   * What was learnt; `token` is the descriptor's PreviousToken. Null: it ended when it stood in the batch already (an HTTP/2 stream that was reset), and
   * whatever is decided is for nobody.
   */
  take(token: number): Outcome<Answer> | null {
    const question = this.remove(token);
    if (question === null) return null;
    if (question.outcome === null) throw new Error(`deferred decision ${token}: taken before it was answered`);
    return question.outcome;
  }

  /** The request is gone; `token` is the completion's. */
  end(token: number): void {
    this.remove(token)?.nobodyWaits.abort();
  }

  /** Questions that are open. */
  get size(): number {
    return this.questions.length - this.free.length;
  }

  /** Before engine.close(): nobody waits any more. */
  close(): void {
    for (const question of this.questions) if (question !== null) this.end(question.token);
  }

  private readonly askAll = (): void => {
    const questions = this.unasked;
    this.unasked = [];
    for (const question of questions) {
      // A function that throws before it gives a promise is a failure like any other.
      const answer = question.nobodyWaits.signal.aborted ? null : (async () => question.ask(question.nobodyWaits.signal, question.token))();
      answer?.then(
        (value) => this.settle(question, { kind: 'answered', answer: value }),
        (error: unknown) => this.settle(question, { kind: 'failed', error }),
      );
    }
  };

  private settle(question: Question<Answer>, outcome: Outcome<Answer>): void {
    if (question.nobodyWaits.signal.aborted) return;
    question.outcome = outcome;
    const { header, answered } = this.engine;
    const count = header[Header.AnsweredCount]!;
    if (count === answered.length) return void setImmediate(() => this.settle(question, outcome));
    answered[count] = question.token;
    header[Header.AnsweredCount] = count + 1;
  }

  private remove(token: number): Question<Answer> | null {
    const place = token & PLACE_MASK;
    const question = this.questions[place] ?? null;
    if (question === null || question.token !== token) return null;
    this.questions[place] = null;
    this.uses[place] = (this.uses[place]! + 1) & USE_MASK;
    this.free.push(place);
    return question;
  }
}
