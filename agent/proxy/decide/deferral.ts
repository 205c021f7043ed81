// Decisions that were put off: what was learnt meanwhile of the request that is decided on, and what those are accounted to that end before they are
// made. Asks nobody itself. Hot path: nothing allocated.
import { DEFERRED_PLACE_BITS, Decision, Descriptor, DescriptorFlag } from '../../native/engine.js';
import type { DeferredDecisions } from '../deferred.js';
import { FAILED_FILTERS, type Filtered } from '../filters/filter-calls.js';
import type { Asked } from '../rate-limit/service-asks.js';
import { LABEL_UNKNOWN } from '../tables/labels.js';
import type { Draft } from './draft.js';

const ANSWERED = DescriptorFlag.Answered as number;
const PLACE_MASK = (1 << DEFERRED_PLACE_BITS) - 1;

export type Learnt = Filtered | Asked;

export class Deferral {
  /** Null: nobody is asked. */
  decisions: Pick<DeferredDecisions<Learnt>, 'take' | 'end'> | null = null;
  /** Of the request that is decided on: what it waited for last. */
  filtered: Filtered | null = null;
  asked: Asked | null = null;
  /** By place: what they are accounted to should they end so. */
  private readonly edges = new Int32Array(1 << DEFERRED_PLACE_BITS);

  constructor(private readonly draft: Draft) {}

  /** Of every request, first: an answer is taken whatever becomes of it. */
  begin(): void {
    this.filtered = null;
    this.asked = null;
    if (this.draft.has(ANSWERED)) this.take();
  }

  /** defer() has written the target and the token; of the decision nothing else holds. */
  wait(service: number): void {
    const { draft } = this;
    draft.putOff();
    this.edges[draft.decisions[draft.q + Decision.Token]! & PLACE_MASK] = draft.account(service, LABEL_UNKNOWN);
  }

  /** The request is gone; returns what it is accounted to. */
  end(token: number): number {
    this.decisions?.end(token);
    return this.edges[token & PLACE_MASK]!;
  }

  private take(): void {
    const { draft } = this;
    if (this.decisions === null) return;
    const outcome = this.decisions.take(draft.of(Descriptor.PreviousToken));
    const learnt = outcome?.kind === 'answered' ? outcome.answer : FAILED_FILTERS;
    if (learnt.kind === 'filtered') {
      this.filtered = learnt;
      return;
    }
    this.asked = learnt;
    draft.resume(learnt.random);
  }
}
