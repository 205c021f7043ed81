// What the main thread tells the workers of rate limits: plain data, and the memory that they count in.
import type { HashKey } from './key-hash.js';
import type { LimiterShape } from './limiter.js';

/** What requests are counted apart by. */
export type KeyPart =
  | { readonly of: 'sourceNamespace' | 'sourceIdentity' }
  /** `subject`: as in patterns; -1: there is no room for it, and no request has it. */
  | { readonly of: 'text'; readonly subject: number }
  /** The same of all. */
  | { readonly of: 'constant' };

export interface LimiterSpec {
  readonly shape: LimiterShape;
  readonly keys: readonly KeyPart[];
  readonly memory: SharedArrayBuffer;
  /** As clients are told it. */
  readonly name: string;
}

/** Limits that hold together; decisions know them by their index. */
export interface LimitSetSpec {
  /** Indexes of limiters. */
  readonly limiters: readonly number[];
}

export interface LimitsSpec {
  readonly hashKey: HashKey;
  readonly limiters: readonly LimiterSpec[];
  readonly sets: readonly LimitSetSpec[];
}
