// What users write to match texts by: regular expressions (RE2, linear time, never the engine's own RegExp), prefixes, exact texts; and what
// they want of a path made anew by one. On a worker's thread, for the requests alone that a rule asks it of. Verdicts on short texts are
// remembered in a table of fixed size, so that a text that comes again costs a comparison of its bytes.
import { randomInt } from 'node:crypto';
import { RE2JS } from 're2js';

/** regex: of the whole text. replace: of all that `value` finds, `replacement`, where \1 is its first group. */
export interface PatternSpec {
  readonly kind: 'exact' | 'prefix' | 'regex' | 'any' | 'replace';
  readonly value: string;
  /** Of replace. */
  readonly replacement: string;
}

/** Texts that are longer are looked at each time. */
const KEY_BYTES = 128;
const SLOTS = 2_048;
/** What a path made anew may have. */
const MAX_REPLACED = 4_096;

export class Patterns {
  private readonly texts: readonly Uint8Array[];
  private readonly compiled: (RE2JS | null)[];
  private memo: Memo | null = null;

  constructor(private readonly specs: readonly PatternSpec[]) {
    this.texts = specs.map(({ value }) => Buffer.from(value));
    this.compiled = specs.map(() => null);
  }

  /** Whether `length` bytes of `bytes` from `at` on match. */
  test(pattern: number, bytes: Uint8Array, at: number, length: number): boolean {
    switch (this.specs[pattern]!.kind) {
      case 'any':
        return true;
      case 'prefix':
        return begins(bytes, at, length, this.texts[pattern]!);
      case 'exact':
        return length === this.texts[pattern]!.length && begins(bytes, at, length, this.texts[pattern]!);
      default:
        return length > KEY_BYTES ? this.look(pattern, bytes, at, length) : this.recall(pattern, bytes, at, length);
    }
  }

  /** The text with the pattern's replacement; null: it would be too long, or no request line could have it. */
  replace(pattern: number, bytes: Uint8Array, at: number, length: number): Uint8Array | null {
    const text = Buffer.from(bytes.buffer, bytes.byteOffset + at, length).toString('latin1');
    const replaced = this.expression(pattern).matcher(text).replaceAll(replacementOf(this.specs[pattern]!.replacement));
    return replaced.length > MAX_REPLACED || !/^[\x21-\x7e\x80-\xff]*$/.test(replaced) ? null : Buffer.from(replaced, 'latin1');
  }

  private recall(pattern: number, bytes: Uint8Array, at: number, length: number): boolean {
    this.memo ??= new Memo();
    const memo = this.memo;
    const slot = memo.slotOf(pattern, bytes, at, length);
    if (memo.has(slot, pattern, bytes, at, length)) return memo.verdicts[slot] === 1;
    const verdict = this.look(pattern, bytes, at, length);
    memo.put(slot, pattern, bytes, at, length, verdict);
    return verdict;
  }

  private look(pattern: number, bytes: Uint8Array, at: number, length: number): boolean {
    return this.expression(pattern).testExact(bytes.subarray(at, at + length));
  }

  private expression(pattern: number): RE2JS {
    const known = this.compiled[pattern];
    if (known !== null && known !== undefined) return known;
    const made = RE2JS.compile(this.specs[pattern]!.value);
    this.compiled[pattern] = made;
    return made;
  }
}

export const NO_PATTERNS = new Patterns([]);

/** RE2's \1 as re2js has it: $1; a "$" of the user's is one. */
function replacementOf(text: string): string {
  return text.replace(/\\([0-9\\])|\$/g, (_, group: string | undefined) => {
    if (group === undefined) return '$$';
    if (group === '\\') return '\\';
    return group === '0' ? '$&' : `$${group}`;
  });
}

function begins(bytes: Uint8Array, at: number, length: number, text: Uint8Array): boolean {
  if (length < text.length) return false;
  for (let i = 0; i < text.length; i++) if (bytes[at + i] !== text[i]) return false;
  return true;
}

/** Verdicts by pattern and text, one a slot: the last one stays. */
class Memo {
  readonly verdicts = new Uint8Array(SLOTS);
  private readonly patterns = new Int32Array(SLOTS).fill(-1);
  private readonly lengths = new Uint8Array(SLOTS);
  private readonly keys = new Uint8Array(SLOTS * KEY_BYTES);
  /** So that nobody outside chooses what displaces what. */
  private readonly seed = randomInt(0x7fffffff);

  slotOf(pattern: number, bytes: Uint8Array, at: number, length: number): number {
    let hash = this.seed ^ Math.imul(pattern + 1, 0x9e3779b1);
    for (let i = at; i < at + length; i++) hash = Math.imul(hash ^ bytes[i]!, 0x01000193);
    return ((hash ^ (hash >>> 15)) >>> 0) % SLOTS;
  }

  has(slot: number, pattern: number, bytes: Uint8Array, at: number, length: number): boolean {
    if (this.patterns[slot] !== pattern || this.lengths[slot] !== length) return false;
    const key = slot * KEY_BYTES;
    for (let i = 0; i < length; i++) if (this.keys[key + i] !== bytes[at + i]) return false;
    return true;
  }

  put(slot: number, pattern: number, bytes: Uint8Array, at: number, length: number, verdict: boolean): void {
    this.patterns[slot] = pattern;
    this.lengths[slot] = length;
    for (let i = 0; i < length; i++) this.keys[slot * KEY_BYTES + i] = bytes[at + i]!;
    this.verdicts[slot] = verdict ? 1 : 0;
  }
}
