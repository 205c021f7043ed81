// Whether the filters of a rule let the request, or the answer, that is decided on go on: puts it off until they have seen it, and says what they
// made of it.
// Allocates only for requests that have filters.
import { COLLECT, Decision, Descriptor, DescriptorFlag, METHODS } from '../../native/engine.js';
import type { FilterCalls, Filtered } from '../filters/filter-calls.js';
import { LABEL_UNKNOWN } from '../tables/labels.js';
import { Reply } from '../tables/layout.js';
import type { Deferral } from './deferral.js';
import type { Draft } from './draft.js';

const D_ATTEMPT = Descriptor.Attempt as number;
const FILTERED = DescriptorFlag.Filtered as number;
const BODY_TOO_LONG = DescriptorFlag.BodyTooLong as number;
const BODY_LOOKED_AT = (DescriptorFlag.BodyHeld as number) | BODY_TOO_LONG;
const CONNECT = METHODS.indexOf('CONNECT');
/** Decision.Target of a held answer; any that is neither DEFERRED nor local. */
const LET_GO = -1;

export class Filtering {
  /** Null: none is asked. */
  calls: FilterCalls | null = null;

  constructor(
    private readonly draft: Draft,
    private readonly deferral: Deferral,
  ) {}

  /** True: the decision is made, by the filters of the chain or to wait for them. */
  stops(chain: number, service: number): boolean {
    const { draft, calls } = this;
    const { filtered } = this.deferral;
    const { filters } = draft.tables;
    if (filters === null || calls === null || draft.isOpaque) return false;
    // Further attempts ask nobody, whether the rule had filters when the first one was decided or has them since.
    if (!draft.has(FILTERED) && draft.of(D_ATTEMPT) === 0) {
      if (filtered !== null && this.isAnswered(filtered, service)) {
        draft.isFiltered = true;
        return true;
      }
      const { bodyBytes } = filters;
      if (filtered === null && bodyBytes[chain]! > 0 && this.hasBodyToCome()) {
        draft.send(COLLECT, 0, service, LABEL_UNKNOWN);
        draft.extend(Decision.BodyBytes, bodyBytes[chain]!);
        return true;
      }
      const put = calls.putOff(
        draft.q,
        filters.chains[chain]!,
        filtered,
        () => this.meta(service),
        draft.has(BODY_TOO_LONG) || this.hasBodyToCome(),
      );
      if (this.waits(put, service)) return true;
    }
    draft.isFiltered = true;
    const answers = calls.answersTo(chain);
    if (answers >= 0) {
      draft.extend(Decision.AnswerFilters, answers);
      draft.extend(Decision.AnswerService, service);
      draft.extend(Decision.BodyBytes, filters.answerBodyBytes[chain]!);
    }
    return false;
  }

  /** Of an answer that is held for its filters (DescriptorFlag.HeldAnswer): waits for them, then lets go of it or gives another one. */
  decideAnswer(): void {
    const { draft, calls } = this;
    const { filtered } = this.deferral;
    const service = draft.of(Descriptor.HostId);
    if (filtered !== null) {
      if (this.isAnswered(filtered, service)) return;
    } else if (calls !== null) {
      const put = calls.putAnswerOff(draft.q, draft.of(Descriptor.PathId), () => this.meta(service), draft.has(BODY_TOO_LONG));
      if (this.waits(put, service)) return;
    }
    draft.set(Decision.Target, LET_GO);
  }

  /** What asks for a tunnel has none. */
  private hasBodyToCome(): boolean {
    const { draft } = this;
    return (
      draft.has(DescriptorFlag.HasBody) && !draft.has(BODY_LOOKED_AT | DescriptorFlag.Upgrade) && draft.of(Descriptor.Method) !== CONNECT
    );
  }

  /** True: in place of the backend, or of what it answered. */
  private isAnswered({ verdict }: Filtered, service: number): boolean {
    if (verdict.kind === 'reply') this.draft.answer(verdict.status, Reply.None, service);
    else if (verdict.kind === 'failed') this.draft.answer(500, Reply.FilterFailed, service);
    else if (verdict.kind === 'too_large') this.draft.answer(413, Reply.BodyTooLarge, service);
    return verdict.kind !== 'continue';
  }

  /** True: the decision is made. */
  private waits(put: 'wait' | 'failed' | null, service: number): boolean {
    if (put === 'wait') this.deferral.wait(service);
    else if (put === 'failed') this.draft.answer(500, Reply.FilterFailed, service);
    return put !== null;
  }

  /** JSON of [workload, destination, port]: Call.meta. */
  private meta(service: number): string {
    const { tables } = this.draft;
    const labels = tables.filters?.labels ?? [];
    const source = this.draft.of(Descriptor.SourceId);
    const workload = source < 0 ? null : (labels[tables.sources[source]!] ?? null);
    const [, name = '', port = ''] = /^(.*):(\d+)$/.exec(labels[service] ?? '') ?? [null, labels[service] ?? '', '0'];
    return JSON.stringify([workload, name, Number(port)]);
  }
}
