// Whether a request's limits let it pass, and what its client is told of them (draft-ietf-httpapi-ratelimit-headers: RateLimit, RateLimit-Policy;
// Retry-After where they don't). On a worker's thread, for the requests alone that a limit is for: allocates nothing, makes no strings.
import { Descriptor, type Engine, Header } from '../../native/engine.js';
import type { RequestText } from '../request-text.js';
import type { DecisionTables } from '../tables/decision-tables.js';
import { type HashKey, KeyHash } from './key-hash.js';
import { Limiter, LimitWord } from './limiter.js';
import type { KeyPart, LimitSetSpec, LimitsSpec } from './spec.js';

type Batch = Pick<Engine, 'header' | 'descriptors' | 'predicates' | 'arena' | 'texts' | 'clock'>;

/** Words in `sourceKeys` of one client: hashes of its namespace and of its identity. */
export const SOURCE_KEY_WORDS = 4;
/** In the place of a text that the request has not: whoever leaves it out is counted with all others who do. */
const ABSENT = -1;
const MAX_LIMITS = 64;
/** In the place of an index of a limit. */
const NONE = MAX_LIMITS;
const [RETRY_AFTER, RESET, LINE_END] = ['retry-after: ', ';t=', '\r\n'].map((text) => Buffer.from(text)) as [Buffer, Buffer, Buffer];
const DIGIT_0 = 0x30;
const US = 1_000_000;

interface CountedLimit {
  readonly limiter: Limiter;
  readonly keys: readonly KeyPart[];
  /** What an answer says of it, up to the number that remains: RateLimit-Policy of all limits of the set that are told, and 'ratelimit: "NAME";r='. */
  readonly head: Uint8Array;
  readonly isTold: boolean;
}

interface LimitSet extends Pick<LimitSetSpec, 'calls' | 'key'> {
  readonly limits: readonly CountedLimit[];
}

/** Of one generation. */
export class Limits {
  readonly sets: readonly LimitSet[];
  readonly hash: KeyHash;
  readonly services: LimitsSpec['services'];
  readonly clients: LimitsSpec['clients'];

  /** `isDry`: nothing is counted, requests are only told whether they would pass, and of all limits. */
  constructor(
    { hashKey, limiters, sets, services, clients }: LimitsSpec,
    readonly isDry = false,
  ) {
    this.services = services;
    this.clients = clients;
    this.hash = new KeyHash(hashKey as HashKey);
    const made = limiters.map(({ shape, keys, memory, name, isTold }) => ({
      limiter: Limiter.of(shape, memory),
      keys,
      isTold: isTold || isDry,
      line: `ratelimit: ${quoted(name)};r=`,
      item: `${quoted(name)};q=${shape.requests};w=${Math.max(1, Math.round(shape.perMs / 1_000))}`,
    }));
    this.sets = sets.map(({ limiters: indexes, calls, key }: LimitSetSpec) => {
      const all = indexes.map((index) => made[index]!);
      const told = all.flatMap(({ item, isTold }) => (isTold ? [item] : []));
      const policy = `ratelimit-policy: ${told.join(', ')}\r\n`;
      return { limits: all.map(({ line, ...limit }) => ({ ...limit, head: Buffer.from(policy + line) })), calls, key };
    });
  }
}

export const NO_LIMITS = new Limits({ hashKey: [0, 0], limiters: [], sets: [], services: new Map(), clients: [] });

/** A string of structured fields (RFC 9651); names have nothing that is to be escaped. */
export function quoted(name: string): string {
  return `"${name}"`;
}

export class RateLimits {
  /** What the last judge() has for the answer: a Decision.AnswerLines. */
  lines = 0;
  private readonly slots = new Int32Array(MAX_LIMITS);

  constructor(private readonly text: RequestText) {}

  /**
   * True: the request at descriptor `d` passes all limits of the set. `isFirst`: it is the first decision on the request; on later ones nothing
   * is counted, and all passes.
   */
  passes(batch: Batch, tables: DecisionTables, d: number, set: number, isFirst: boolean): boolean {
    const { limits } = tables.limits.sets[set]!;
    this.lines = 0;
    if (limits.length === 0) return true;
    const nowUs = batch.clock[0]!;
    const isCounted = isFirst && !tables.limits.isDry;
    const nearest = isCounted ? this.count(batch, tables, d, limits, nowUs) : this.look(batch, tables, d, limits, nowUs, isFirst);
    if (nearest !== NONE) this.lines = this.write(batch, limits[nearest < 0 ? ~nearest : nearest]!, nearest < 0);
    return nearest >= 0;
  }

  /** Index of the limit that is nearest, of those that are told (NONE: none is); of one that refuses its complement. */
  private count(batch: Batch, tables: DecisionTables, d: number, limits: readonly CountedLimit[], nowUs: number): number {
    let nearest = NONE;
    for (let i = 0; i < limits.length; i++) {
      const { limiter, keys } = limits[i]!;
      const slot = this.slotOf(batch, tables, d, limiter, keys, nowUs);
      this.slots[i] = slot;
      if (!limiter.take(slot, nowUs)) {
        limiter.count(LimitWord.Refused);
        for (let taken = 0; taken < i; taken++) limits[taken]!.limiter.giveBack(this.slots[taken]!, nowUs);
        return ~i;
      }
      nearest = nearer(limits, i, nearest);
    }
    for (let i = 0; i < limits.length; i++) limits[i]!.limiter.count(LimitWord.Admitted);
    return nearest;
  }

  private look(batch: Batch, tables: DecisionTables, d: number, limits: readonly CountedLimit[], nowUs: number, refuses: boolean): number {
    let nearest = NONE;
    for (let i = 0; i < limits.length; i++) {
      const { limiter, keys } = limits[i]!;
      limiter.look(this.slotOf(batch, tables, d, limiter, keys, nowUs), nowUs);
      if (refuses && limiter.remaining === 0) return ~i;
      nearest = nearer(limits, i, nearest);
    }
    return nearest;
  }

  private slotOf(batch: Batch, tables: DecisionTables, d: number, limiter: Limiter, keys: readonly KeyPart[], nowUs: number): number {
    if (keys.length === 0) return limiter.slotOf(0, 0, nowUs);
    const { hash } = tables.limits;
    hash.begin();
    for (let i = 0; i < keys.length; i++) this.add(hash, batch, tables, d, keys[i]!);
    hash.finish();
    return limiter.slotOf(hash.high, hash.low, nowUs);
  }

  private add(hash: KeyHash, batch: Batch, tables: DecisionTables, d: number, part: KeyPart): void {
    if (part.of === 'constant') return;
    if (part.of === 'text' || part.of === 'address') {
      const { text } = this;
      if (text.find(batch, tables, d, part.subject)) hash.bytes(text.bytes, text.at, text.length);
      else hash.word(ABSENT);
      return;
    }
    const source = batch.descriptors[d + Descriptor.SourceId]!;
    if (source < 0) {
      hash.word(ABSENT);
      return;
    }
    const at = source * SOURCE_KEY_WORDS + (part.of === 'sourceNamespace' ? 0 : 2);
    hash.word(tables.sourceKeys[at]!);
    hash.word(tables.sourceKeys[at + 1]!);
  }

  /** Its place in `texts`; 0: there is no room. */
  private write({ header, texts }: Batch, { limiter, head, isTold }: CountedLimit, isRefused: boolean): number {
    const first = header[Header.TextBytes]!;
    // Four numbers of ten digits, with what is between. Half of the room is for paths, without which requests fail.
    if (first + head.length + 64 > texts.length / 2) return 0;
    const seconds = Math.ceil(limiter.waitUs / US);
    const wait = isRefused && seconds < 1 ? 1 : seconds;
    let at = first;
    if (isTold) {
      texts.set(head, at);
      at = putNumber(texts, at + head.length, limiter.remaining);
      at = put(texts, at, RESET);
      at = putNumber(texts, at, wait);
      at = put(texts, at, LINE_END);
    }
    if (isRefused) {
      at = put(texts, at, RETRY_AFTER);
      at = putNumber(texts, at, wait);
      at = put(texts, at, LINE_END);
    }
    header[Header.TextBytes] = at;
    return (first << 16) | (at - first);
  }
}

/** Of the limit at `i` and the nearest of those before it. */
function nearer(limits: readonly CountedLimit[], i: number, nearest: number): number {
  const { limiter, isTold } = limits[i]!;
  return isTold && (nearest === NONE || limiter.remaining < limits[nearest]!.limiter.remaining) ? i : nearest;
}

function put(texts: Uint8Array, at: number, bytes: Uint8Array): number {
  for (let i = 0; i < bytes.length; i++) texts[at + i] = bytes[i]!;
  return at + bytes.length;
}

/** Whole, not negative; at most what 31 bits hold. */
function putNumber(texts: Uint8Array, at: number, value: number): number {
  let rest = Math.min(value, 0x7fff_ffff) | 0;
  let digits = 1;
  for (let bound = 10; rest >= bound; bound *= 10) digits++;
  for (let i = at + digits - 1; i >= at; i--) {
    const next = (rest / 10) | 0;
    texts[i] = DIGIT_0 + rest - next * 10;
    rest = next;
  }
  return at + digits;
}
