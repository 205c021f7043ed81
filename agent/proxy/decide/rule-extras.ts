// What few rules say of the request that is decided on: CORS, faults, mirrors, and which answers are declined. Hot path: nothing allocated.
import { Decision, Descriptor, METHODS } from '../../native/engine.js';
import { below, mix } from '../pick.js';
import type { RequestText } from '../request-text.js';
import { ExtrasWord, MIRROR_WORDS, MirrorWord, OriginsWord, Reply } from '../tables/layout.js';
import type { Draft } from './draft.js';

const D_METHOD = Descriptor.Method as number;
const D_ATTEMPT = Descriptor.Attempt as number;
const D_RANDOM = Descriptor.Random as number;
const OPTIONS = METHODS.indexOf('OPTIONS');
const MILLION = 1_000_000;

export class RuleExtras {
  constructor(
    private readonly draft: Draft,
    private readonly text: RequestText,
  ) {}

  /** Of the extras at word `row`. True: the decision is made. */
  answer(row: number, service: number): boolean {
    const { draft } = this;
    const { extras } = draft.tables;
    if (this.answerPreflight(row, service)) return true;
    const retry = extras[row + ExtrasWord.Retry]!;
    if (retry >= 0) draft.extend(Decision.Retry, retry);
    draft.retryPlace = extras[row + ExtrasWord.RetryPlace]!;
    if (draft.of(D_ATTEMPT) !== 0) return false;
    const random = mix(draft.of(D_RANDOM) ^ 0x3c6ef372);
    const delayMs = extras[row + ExtrasWord.DelayMs]!;
    if (delayMs > 0 && below(MILLION, random) < extras[row + ExtrasWord.DelayParts]!) draft.extend(Decision.DelayMs, delayMs);
    if (below(MILLION, mix(random)) < extras[row + ExtrasWord.AbortParts]!) {
      draft.answer(extras[row + ExtrasWord.AbortStatus]!, extras[row + ExtrasWord.AbortReply]!, service);
      return true;
    }
    this.drawMirrors(row, random);
    return false;
  }

  /** Of the one backend that was drawn. True: the decision is made. */
  answerForBackend(row: number, service: number): boolean {
    const { draft } = this;
    if (this.answerPreflight(row, service)) return true;
    if (draft.of(D_ATTEMPT) === 0) this.drawMirrors(row, mix(draft.of(D_RANDOM) ^ 0x3c6ef372));
    return false;
  }

  private answerPreflight(row: number, service: number): boolean {
    const cors = this.draft.tables.extras[row + ExtrasWord.Cors]!;
    if (cors < 0 || !this.isPreflight(cors)) return false;
    this.draft.answer(200, Reply.Preflight, service);
    return true;
  }

  /** Each by its own share. */
  private drawMirrors(row: number, random: number): void {
    const { draft } = this;
    const { extras } = draft.tables;
    const first = extras[row + ExtrasWord.Mirrors]!;
    const count = extras[row + ExtrasWord.MirrorCount]!;
    let mask = 0;
    let word = random;
    for (let i = 0; i < count; i++) {
      word = mix(word ^ 0x7f4a7c15);
      if (below(MILLION, word) < draft.tables.mirrors[(first + i) * MIRROR_WORDS + MirrorWord.Parts]!) mask |= 1 << i;
    }
    if (mask === 0) return;
    draft.extend(Decision.Mirrors, first);
    draft.extend(Decision.MirrorMask, mask);
  }

  /** Notes the rules of CORS for an Origin that may know them. True: it is a preflight request, answered here. */
  private isPreflight(cors: number): boolean {
    const { draft, text } = this;
    const { batch, tables, d } = draft;
    const { origins } = tables;
    if (!text.find(batch, tables, d, origins[cors + OriginsWord.Origin]!)) return false;
    const first = cors + OriginsWord.Patterns;
    const end = first + origins[cors + OriginsWord.PatternCount]!;
    let isAllowed = false;
    for (let at = first; at < end && !isAllowed; at++) isAllowed = tables.patterns.test(origins[at]!, text.bytes, text.at, text.length);
    if (isAllowed) draft.extend(Decision.Cors, origins[cors + OriginsWord.Cors]!);
    if (draft.of(D_METHOD) !== OPTIONS) return false;
    if (!text.find(batch, tables, d, origins[cors + OriginsWord.RequestMethod]!)) return false;
    return isAllowed || origins[cors + OriginsWord.ForwardsUnmatched] === 0;
  }
}
