// One limit's counts, in memory that all workers share: token bucket (GCRA) or sliding window, for all requests together or apart by key. One
// word decides, by compare-and-swap: no lock, so no worker ever waits for another one. Knows neither requests nor policies.

/** Of its memory, before the slots. */
export const enum LimitWord {
  /** Since the main thread took them out. */
  Admitted = 0,
  Refused = 1,
  /** Of a token bucket: units from one token to the next, and the state that a new key begins with. */
  Interval = 2,
  Untouched = 3,
}
const HEAD_WORDS = 8;
/** A set of slots is searched for a key. */
const WAYS = 8;
/** Keys of one limit at once; beyond, the one that has used least is forgotten, and begins anew. */
const MAX_KEYS = 16_384;
/** Of a slot: which key (0: nobody's), then the algorithm's words. */
const TAG = 0;
const STATE = 1;
/** Of a token bucket: what stands in place of LimitWord.Interval; 0: that. */
const OWN_INTERVAL = 2;
/** Of a limit that is shared: how often it was asked for. */
const ASKED = 3;
/** Keys are (set, tag): on all nodes the same of the same hash. */
const TAG_VALUES = 2 ** 32;
/** A window is cut in so many parts; the oldest counts until all of it is past. */
const PARTS = 8;
const PART_WORDS = PARTS + 1;
const PART_COUNT = 0xff_ffff;
/** More than any key can have used. */
const FAR = 2 ** 40;
/** Of a bucket's content and of its interval. */
const MAX_CONTENT = 1 << 28;
const MAX_UNITS_PER_TOKEN = 1 << 16;
const MAX_INTERVAL = 1 << 30;
const MAX_UNITS_PER_US = 16;

export interface LimiterShape {
  readonly algorithm: 'token-bucket' | 'sliding-window';
  readonly requests: number;
  readonly perMs: number;
  /** Of a token bucket: what it holds. */
  readonly burst: number;
  readonly isKeyed: boolean;
  /** What is asked for is counted by key: for whoever shares it out. */
  readonly isShared: boolean;
}

export abstract class Limiter {
  /** After take() and look(): requests that would pass now, and µs until one does (when it was refused), or until all of the limit is there again. */
  remaining = 0;
  waitUs = 0;
  readonly words: Int32Array;
  protected readonly slotWords: number;
  private readonly sets: number;

  static allocate({ algorithm, isKeyed }: LimiterShape): SharedArrayBuffer {
    const slots = isKeyed ? MAX_KEYS : 1;
    return new SharedArrayBuffer((HEAD_WORDS + slots * slotWordsOf(algorithm)) * 4);
  }

  static of(shape: LimiterShape, memory: SharedArrayBuffer): Limiter {
    return shape.algorithm === 'token-bucket' ? new TokenBucket(shape, memory) : new SlidingWindow(shape, memory);
  }

  protected constructor(shape: LimiterShape, memory: SharedArrayBuffer) {
    this.words = new Int32Array(memory);
    this.slotWords = slotWordsOf(shape.algorithm);
    this.sets = shape.isKeyed ? MAX_KEYS / WAYS : 0;
  }

  /** Word of the key's slot, which is made if there is none. The two words of a hash; of a limit without keys they say nothing. */
  slotOf(high: number, low: number, nowUs: number): number {
    if (this.sets === 0) return HEAD_WORDS;
    const { words, slotWords } = this;
    const tag = low === 0 ? 1 : low;
    const first = HEAD_WORDS + (high & (this.sets - 1)) * WAYS * slotWords;
    const end = first + WAYS * slotWords;
    for (;;) {
      let free = -1;
      for (let slot = first; slot < end; slot += slotWords) {
        const found = words[slot + TAG]!;
        if (found === tag) return slot;
        if (found === 0 && free < 0) free = slot;
      }
      const seen = free < 0 ? this.leastUsed(first, end, nowUs) : free;
      const before = free < 0 ? Atomics.load(words, seen + TAG) : 0;
      // Somebody else may have taken it meanwhile, for this very key even: then it is looked for again.
      if (before === tag || Atomics.compareExchange(words, seen + TAG, before, tag) !== before) continue;
      if (before !== 0) this.empty(seen);
      this.begin(seen);
      return seen;
    }
  }

  /** True: the request is counted. */
  abstract take(slot: number, nowUs: number): boolean;
  /** As take() of a request that was counted before. */
  abstract look(slot: number, nowUs: number): void;
  /** What take() counted is not. */
  abstract giveBack(slot: number, nowUs: number): void;

  count(word: LimitWord.Admitted | LimitWord.Refused): void {
    Atomics.add(this.words, word, 1);
  }

  /**
   * Forgets keys that have used nothing of theirs, and times so long past that they would be taken for others: once in a minute at least. A
   * request that is counted in this very moment may be forgotten with its key.
   */
  sweep(nowUs: number): void {
    const { words, slotWords } = this;
    for (let slot = HEAD_WORDS; slot < words.length; slot += slotWords) {
      if (this.sets !== 0 && Atomics.load(words, slot + TAG) === 0) continue;
      if (!this.isUnused(slot, nowUs)) continue;
      this.empty(slot);
      Atomics.store(words, slot + TAG, 0);
    }
  }

  /** Slots of keys, in use. */
  *usedSlots(): Generator<number> {
    const { words, slotWords } = this;
    for (let slot = HEAD_WORDS; slot < words.length; slot += slotWords)
      if (this.sets === 0 || Atomics.load(words, slot + TAG) !== 0) yield slot;
  }

  /** Of a slot of a key, as slotOf() found it by its hash. */
  keyOf(slot: number): number {
    const set = Math.floor((slot - HEAD_WORDS) / this.slotWords / WAYS);
    return this.sets === 0 ? 0 : set * TAG_VALUES + (Atomics.load(this.words, slot + TAG) >>> 0);
  }

  slotOfKey(key: number, nowUs: number): number {
    return this.slotOf(Math.floor(key / TAG_VALUES), (key % TAG_VALUES) | 0, nowUs);
  }

  private leastUsed(first: number, end: number, nowUs: number): number {
    let found = first;
    let least = Number.POSITIVE_INFINITY;
    for (let slot = first; slot < end; slot += this.slotWords) {
      // One that has a share of its own would have more without it.
      const used = this.usedOf(slot, nowUs) + (this.isPinned(slot) ? FAR : 0);
      if (used >= least) continue;
      least = used;
      found = slot;
    }
    return found;
  }

  protected isPinned(_slot: number): boolean {
    return false;
  }

  protected abstract usedOf(slot: number, nowUs: number): number;
  /** Nothing is lost with it. */
  protected abstract isUnused(slot: number, nowUs: number): boolean;

  /** A key's slot, empty but for what other threads may have counted in it already. */
  protected begin(_slot: number): void {}

  private empty(slot: number): void {
    for (let word = slot + STATE; word < slot + this.slotWords; word++) Atomics.store(this.words, word, 0);
  }
}

function slotWordsOf(algorithm: LimiterShape['algorithm']): number {
  return STATE + (algorithm === 'token-bucket' ? 3 : PART_WORDS);
}

/**
 * As the generic cell rate algorithm (ITU-T I.371) has it: the one word says when the bucket is full again. Its time is counted in units, so
 * many a token that the rate is exact, modulo 2^32; 0: it is full.
 */
export class TokenBucket extends Limiter {
  private readonly unitsPerUs: number;
  /** Units that all its tokens are worth. */
  private readonly content: number;
  private readonly unitsPerToken: number;
  private readonly isShared: boolean;

  constructor(shape: LimiterShape, memory: SharedArrayBuffer) {
    super(shape, memory);
    this.isShared = shape.isShared;
    const usPerToken = (shape.perMs * 1_000) / shape.requests;
    const fitting = Math.min(MAX_CONTENT / shape.burst, usPerToken * MAX_UNITS_PER_US, MAX_UNITS_PER_TOKEN);
    this.unitsPerToken = Math.max(1, Math.floor(fitting));
    this.unitsPerUs = this.unitsPerToken / usPerToken;
    this.content = this.unitsPerToken * shape.burst;
    Atomics.compareExchange(this.words, LimitWord.Interval, 0, this.unitsPerToken);
  }

  override take(slot: number, nowUs: number): boolean {
    const { words } = this;
    if (this.isShared) Atomics.add(words, slot + ASKED, 1);
    const interval = this.intervalOf(slot);
    // However small a share of the limit is, it is worth one request at a time.
    const content = Math.max(this.content, interval);
    const now = (nowUs * this.unitsPerUs) | 0;
    for (;;) {
      const full = words[slot + STATE]!;
      const used = usedAt(full, now);
      if (used > content - interval) {
        this.remaining = 0;
        this.waitUs = (used - content + interval) / this.unitsPerUs;
        return false;
      }
      const next = (now + used + interval) | 0;
      if (Atomics.compareExchange(words, slot + STATE, full, next === 0 ? 1 : next) !== full) continue;
      this.tell(used + interval, content, interval);
      return true;
    }
  }

  override look(slot: number, nowUs: number): void {
    const interval = this.intervalOf(slot);
    this.tell(this.usedOf(slot, nowUs), Math.max(this.content, interval), interval);
  }

  override giveBack(slot: number): void {
    Atomics.sub(this.words, slot + STATE, this.intervalOf(slot));
  }

  /**
   * From here on this node has `share` of the limit, of all keys that setKeyShare() was not called for. What buckets hold stays as it is, so
   * that no request is made of moving shares: they fill up at another pace. All of it on one thread.
   */
  setShare(share: number, nowUs: number): void {
    const { words } = this;
    const before = Atomics.load(words, LimitWord.Interval);
    const after = this.intervalFor(share);
    if (after === before) return;
    // Between the steps less passes than might, never more.
    if (after > before) Atomics.store(words, LimitWord.Interval, after);
    this.rescale(LimitWord.Untouched, before, after, nowUs);
    for (const slot of this.usedSlots()) if (!this.isPinned(slot)) this.rescale(slot + STATE, before, after, nowUs);
    if (after < before) Atomics.store(words, LimitWord.Interval, after);
  }

  /** By key: how often it was asked for since the last time. */
  *takeAsked(): Generator<readonly [key: number, asked: number]> {
    for (const slot of this.usedSlots()) {
      const asked = Atomics.exchange(this.words, slot + ASKED, 0);
      if (asked > 0) yield [this.keyOf(slot), asked];
    }
  }

  /** As setShare(), of one key; null: it has that of the limit again. */
  setKeyShare(slot: number, share: number | null, nowUs: number): void {
    const before = this.intervalOf(slot);
    const after = share === null ? Atomics.load(this.words, LimitWord.Interval) : this.intervalFor(share);
    const own = share === null ? 0 : after;
    if (after > before) Atomics.store(this.words, slot + OWN_INTERVAL, own);
    if (after !== before) this.rescale(slot + STATE, before, after, nowUs);
    Atomics.store(this.words, slot + OWN_INTERVAL, own);
  }

  private intervalFor(share: number): number {
    return Math.min(MAX_INTERVAL, Math.ceil(this.unitsPerToken / Math.max(share, 1e-9)));
  }

  private intervalOf(slot: number): number {
    const own = this.words[slot + OWN_INTERVAL]!;
    return own !== 0 ? own : this.words[LimitWord.Interval]!;
  }

  private rescale(word: number, before: number, after: number, nowUs: number): void {
    const now = (nowUs * this.unitsPerUs) | 0;
    for (;;) {
      const full = Atomics.load(this.words, word);
      const left = (this.content - usedAt(full, now)) / before;
      const used = Math.max(0, Math.ceil(this.content - left * after));
      const next = used === 0 ? 0 : (now + used) | 0 || 1;
      if (Atomics.compareExchange(this.words, word, full, next) === full) return;
    }
  }

  protected override isPinned(slot: number): boolean {
    return Atomics.load(this.words, slot + OWN_INTERVAL) !== 0;
  }

  protected override begin(slot: number): void {
    const untouched = Atomics.load(this.words, LimitWord.Untouched);
    if (untouched !== 0) Atomics.compareExchange(this.words, slot + STATE, 0, untouched);
  }

  protected override usedOf(slot: number, nowUs: number): number {
    return usedAt(Atomics.load(this.words, slot + STATE), (nowUs * this.unitsPerUs) | 0);
  }

  protected override isUnused(slot: number, nowUs: number): boolean {
    if (this.isPinned(slot)) return false;
    const now = (nowUs * this.unitsPerUs) | 0;
    const untouched = usedAt(Atomics.load(this.words, LimitWord.Untouched), now);
    if (untouched === 0) Atomics.store(this.words, LimitWord.Untouched, 0);
    return this.usedOf(slot, nowUs) <= untouched;
  }

  private tell(used: number, content: number, interval: number): void {
    this.remaining = Math.max(0, Math.floor((content - used) / interval));
    this.waitUs = used / this.unitsPerUs;
  }
}

/** Units until the bucket is full. */
function usedAt(full: number, now: number): number {
  if (full === 0) return 0;
  const used = (full - now) | 0;
  return Math.max(used, 0);
}

/**
 * Never more than the limit in any time of the window's length; one is refused only if as many passed within that and an eighth. A word counts
 * the requests of one part, and which part that is (modulo 256 turns).
 */
export class SlidingWindow extends Limiter {
  private readonly partUs: number;
  private readonly most: number;
  /** Of the part that nowUs is in, and of the next: the clocks of workers are not quite the same. */
  private place = 0;
  private turn = 0;
  private nextPlace = 0;
  private nextTurn = 0;

  constructor(shape: LimiterShape, memory: SharedArrayBuffer) {
    super(shape, memory);
    this.partUs = (shape.perMs * 1_000) / PARTS;
    this.most = shape.requests;
  }

  override take(slot: number, nowUs: number): boolean {
    const { words } = this;
    for (;;) {
      this.find(nowUs);
      const word = slot + STATE + this.place;
      // Read first: if it is the same in the end, so is all that was summed up.
      const before = Atomics.load(words, word);
      const counted = this.sum(slot, nowUs);
      if (counted >= this.most) {
        this.remaining = 0;
        this.waitUs = this.waitOf(slot, nowUs, counted);
        return false;
      }
      const next = before >>> 24 === this.turn && before !== 0 ? before + 1 : (this.turn << 24) | 1;
      if (Atomics.compareExchange(words, word, before, next) !== before) continue;
      this.remaining = this.most - counted - 1;
      this.waitUs = this.partUs * PART_WORDS;
      return true;
    }
  }

  override look(slot: number, nowUs: number): void {
    this.remaining = Math.max(0, this.most - this.sum(slot, nowUs));
    this.waitUs = this.partUs * PART_WORDS;
  }

  override giveBack(slot: number, nowUs: number): void {
    this.find(nowUs);
    const word = slot + STATE + this.place;
    if ((Atomics.load(this.words, word) & PART_COUNT) > 0) Atomics.sub(this.words, word, 1);
  }

  protected override usedOf(slot: number, nowUs: number): number {
    return this.sum(slot, nowUs);
  }

  protected override isUnused(slot: number, nowUs: number): boolean {
    return this.sum(slot, nowUs) === 0;
  }

  private find(nowUs: number): void {
    const part = Math.floor(nowUs / this.partUs);
    this.place = part % PART_WORDS;
    this.turn = Math.floor(part / PART_WORDS) & 0xff;
    this.nextPlace = (part + 1) % PART_WORDS;
    this.nextTurn = Math.floor((part + 1) / PART_WORDS) & 0xff;
  }

  private sum(slot: number, nowUs: number): number {
    this.find(nowUs);
    let sum = 0;
    for (let place = 0; place < PART_WORDS; place++) sum += this.countOf(slot, place);
    return sum;
  }

  /** Parts behind the present one are of the turn before. */
  private countOf(slot: number, place: number): number {
    const word = Atomics.load(this.words, slot + STATE + place);
    const turn = place <= this.place ? this.turn : (this.turn - 1) & 0xff;
    const isNext = place === this.nextPlace && word >>> 24 === this.nextTurn;
    return word >>> 24 === turn || isNext ? word & PART_COUNT : 0;
  }

  /** Until so many are past that one passes. */
  private waitOf(slot: number, nowUs: number, counted: number): number {
    const part = Math.floor(nowUs / this.partUs);
    let left = counted;
    for (let age = PARTS; age >= 0; age--) {
      left -= this.countOf(slot, (part - age + PART_WORDS * 2) % PART_WORDS);
      if (left < this.most) return (part - age + PART_WORDS) * this.partUs - nowUs;
    }
    return this.partUs;
  }
}
