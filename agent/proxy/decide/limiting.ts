// Whether rate limits refuse the request that is decided on: asks them, and writes what its client is told. Hot path: nothing allocated.
import { Descriptor } from '../../native/engine.js';
import { RateLimits } from '../rate-limit/limits.js';
import type { RequestText } from '../request-text.js';
import { Reply } from '../tables/layout.js';
import type { Draft } from './draft.js';

const D_ATTEMPT = Descriptor.Attempt as number;

export class Limiting {
  private readonly rateLimits: RateLimits;

  constructor(
    private readonly draft: Draft,
    text: RequestText,
  ) {
    this.rateLimits = new RateLimits(text);
  }

  /** True: one of the set refuses it, and the decision is made. `set`: -1, none. */
  refuses(set: number, service: number): boolean {
    const { draft, rateLimits } = this;
    if (set < 0 || draft.isOpaque) return false;
    const passes = rateLimits.passes(draft.batch, draft.tables, draft.d, set, draft.of(D_ATTEMPT) === 0);
    if (rateLimits.lines !== 0) draft.addAnswerLines(rateLimits.lines);
    if (!passes) draft.answer(429, Reply.RateLimited, service);
    return !passes;
  }
}
