// Whether rate limits refuse the request that is decided on: counts it, or has a service asked that counts, and writes what its client is told.
// Hot path: nothing allocated but for requests that a service is asked about.
import { Descriptor, DescriptorFlag } from '../../native/engine.js';
import { RateLimits } from '../rate-limit/limits.js';
import type { Asked, ServiceAsker } from '../rate-limit/service-asks.js';
import { questionOf } from '../rate-limit/service-request.js';
import type { CallSpec } from '../rate-limit/spec.js';
import type { RequestText } from '../request-text.js';
import { RATE_LIMITED } from '../resilience/gate.js';
import { Reply } from '../tables/layout.js';
import type { Deferral } from './deferral.js';
import type { Draft } from './draft.js';

const D_ATTEMPT = Descriptor.Attempt as number;
const D_RANDOM = Descriptor.Random as number;
const MIRROR = DescriptorFlag.Mirror as number;
const CALL = DescriptorFlag.Call as number;

export class Limiting {
  /** Null: no service is asked. */
  asker: ServiceAsker | null = null;
  private readonly rateLimits: RateLimits;
  /** Key of the set that was counted last: before a service's, it was the route's of the same request. */
  private counted = '';

  constructor(
    private readonly draft: Draft,
    private readonly deferral: Deferral,
    private readonly text: RequestText,
  ) {
    this.rateLimits = new RateLimits(text);
  }

  begin(): void {
    this.counted = '';
  }

  /** True: the decision is made: one of the set refuses it, or a service is asked. `set`: -1, none. */
  refuses(set: number, service: number): boolean {
    const { draft, rateLimits } = this;
    // Who asks whether something passes is not asked about itself.
    if (set < 0 || draft.isOpaque || draft.has(CALL)) return false;
    const { calls, key } = draft.tables.limits.sets[set]!;
    const { asked } = this.deferral;
    const isNew = draft.of(D_ATTEMPT) === 0 && (asked === null || !asked.sets.includes(key));
    const passes = rateLimits.passes(draft.batch, draft.tables, draft.d, set, isNew);
    if (rateLimits.lines !== 0) draft.addAnswerLines(rateLimits.lines);
    if (!passes) draft.answer(429, Reply.RateLimited, service);
    else if (calls.length > 0 && !draft.has(MIRROR)) return isNew ? this.asks(calls, key, service) : this.isRefusedBy(asked, key, service);
    this.counted = key;
    return !passes;
  }

  private asks(calls: readonly CallSpec[], key: string, service: number): boolean {
    const { draft, asker, counted } = this;
    if (asker === null) return false;
    const questions = calls.flatMap((call) => questionOf(draft.batch, draft.tables, draft.d, call, this.text, asker.noAddress) ?? []);
    if (questions.length === 0) return false;
    const sets = [...(this.deferral.asked?.sets ?? []), counted, key];
    const put = asker.putOff(draft.q, { kind: 'asked', set: key, sets, random: draft.of(D_RANDOM) }, questions);
    if (put === 'wait') this.deferral.wait(service);
    else if (put === 'failed') draft.answer(500, Reply.RateLimitFailed, service);
    return put !== 'passes';
  }

  private isRefusedBy(asked: Asked | null, key: string, service: number): boolean {
    const { draft } = this;
    if (asked === null || asked.set !== key || asked.verdict === 'passes') return false;
    if (asked.verdict === 'failed') draft.answer(500, Reply.RateLimitFailed, service);
    else draft.answer(429, asked.verdict === 'replies' ? Reply.None : Reply.RateLimited, service);
    if (asked.verdict === 'replies') draft.note(RATE_LIMITED);
    return true;
  }
}
