// Where the texts of a request lie that rules' patterns are tested on: its path, authority, scheme, method, and the values that the engine
// was asked for. On a worker's thread, for the requests alone that a rule asks it of. Allocates and copies nothing; tests nothing itself.
import { Descriptor, DescriptorFlag, type Engine, METHODS } from '../native/engine.js';
import type { DecisionTables } from './tables/decision-tables.js';
import { Subject } from './tables/layout.js';

const [COLON, DIGIT_0, DIGIT_9] = [0x3a, 0x30, 0x39];
const HTTP_TEXT = Buffer.from('http');
const HTTPS_TEXT = Buffer.from('https');
const METHOD_TEXTS = METHODS.map((method) => Buffer.from(method));

type Batch = Pick<Engine, 'descriptors' | 'predicates' | 'arena'>;

export class RequestText {
  /** What find() found: `length` bytes of `bytes` from `at` on. */
  bytes: Uint8Array = HTTP_TEXT;
  at = 0;
  length = 0;

  /** `d`: of its descriptor. False: the request has none, or (`at` -1) nobody knows it. */
  find(batch: Batch, tables: DecisionTables, d: number, subject: number): boolean {
    const { descriptors } = batch;
    this.bytes = batch.arena;
    this.at = 0;
    switch (subject) {
      case Subject.Path:
        return this.set(descriptors[d + Descriptor.PathOffset]!, descriptors[d + Descriptor.PathLength]!);
      case Subject.Authority: {
        const at = descriptors[d + Descriptor.AuthorityOffset]!;
        return this.set(at, hostLength(batch.arena, at, descriptors[d + Descriptor.AuthorityLength]!));
      }
      case Subject.Scheme:
        this.bytes = (descriptors[d + Descriptor.Flags]! & DescriptorFlag.Tls) !== 0 ? HTTPS_TEXT : HTTP_TEXT;
        return this.set(0, this.bytes.length);
      case Subject.Method: {
        const text = METHOD_TEXTS[descriptors[d + Descriptor.Method]!];
        if (text === undefined) return false;
        this.bytes = text;
        return this.set(0, text.length);
      }
      default:
        if (subject >= 0) return this.findValue(batch, tables, d, subject);
        // As a text that there was no room for.
        this.at = -1;
        return false;
    }
  }

  /** That the authority names; -1: it names none. */
  port({ descriptors, arena }: Batch, d: number): number {
    const length = descriptors[d + Descriptor.AuthorityLength]!;
    const at = descriptors[d + Descriptor.AuthorityOffset]!;
    const host = at < 0 ? length : hostLength(arena, at, length);
    let port = host === length ? -1 : 0;
    for (let i = host + 1; i < length; i++) port = port * 10 + arena[at + i]! - DIGIT_0;
    return port;
  }

  private set(at: number, length: number): boolean {
    this.at = at;
    this.length = length;
    return at >= 0;
  }

  /** Behind the bits: a count, then of each value its index, offset and length. */
  private findValue({ descriptors, predicates }: Batch, tables: DecisionTables, d: number, index: number): boolean {
    const bits = descriptors[d + Descriptor.PredicateOffset]!;
    if (bits < 0 || !tables.hasValues) return false;
    const list = bits + tables.predicateWords;
    const end = list + 1 + predicates[list]! * 3;
    for (let at = list + 1; at < end; at += 3) if (predicates[at] === index) return this.set(predicates[at + 1]!, predicates[at + 2]!);
    return false;
  }
}

/** Without the port. */
function hostLength(bytes: Uint8Array, at: number, length: number): number {
  for (let i = length - 1; i > 0; i--) {
    const byte = bytes[at + i]!;
    if (byte === COLON) return i;
    if (byte < DIGIT_0 || byte > DIGIT_9) return length;
  }
  return length;
}
