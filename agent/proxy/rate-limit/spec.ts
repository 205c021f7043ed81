// What the main thread tells the workers of rate limits: plain data, and the memory that they count in.
import type { HashKey } from './key-hash.js';
import type { LimiterShape } from './limiter.js';

/** What requests are counted apart by. */
export type KeyPart =
  | { readonly of: 'sourceNamespace' | 'sourceIdentity' }
  /** `subject`: as in patterns; -1: there is no room for it, and no request has it. */
  | { readonly of: 'text' | 'address'; readonly subject: number }
  /** The same of all. */
  | { readonly of: 'constant'; readonly value: string };

export interface LimiterSpec {
  readonly shape: LimiterShape;
  readonly keys: readonly KeyPart[];
  readonly memory: SharedArrayBuffer;
  /** As clients are told it. */
  readonly name: string;
  readonly isTold: boolean;
}

/** A limit that a service counts: one descriptor. */
export interface AskedLimitSpec {
  readonly name: string;
  readonly isTold: boolean;
  readonly entries: readonly { readonly key: string; readonly part: KeyPart }[];
  /** AskedWord of all workers. */
  readonly words: SharedArrayBuffer;
}

export const ASKED_WORDS = 4;
export const enum AskedWord {
  Ok = 0,
  OverLimit = 1,
  /** No answer, and how many of these requests passed all the same. */
  Failed = 2,
  LetPass = 3,
}

/** What a service is asked at once. */
export interface CallSpec {
  /** "shop/limits:8081", of LimitsSpec.services. */
  readonly service: string;
  readonly domain: string;
  readonly hits: number;
  readonly timeoutMs: number;
  readonly failsClosed: boolean;
  readonly limits: readonly AskedLimitSpec[];
}

/** Limits that hold together; decisions know them by their index. */
export interface LimitSetSpec {
  /** Indexes of limiters. */
  readonly limiters: readonly number[];
  /** After those have let a request pass. */
  readonly calls: readonly CallSpec[];
  /** The same in all generations in which it is the same set. */
  readonly key: string;
}

export interface LimitsSpec {
  readonly hashKey: HashKey;
  readonly limiters: readonly LimiterSpec[];
  readonly sets: readonly LimitSetSpec[];
  /** Rows of their clusters; -1: there is none. */
  readonly services: ReadonlyMap<string, number>;
  /** Namespace and identity by Descriptor.SourceId, where services are told them. */
  readonly clients: readonly (readonly [namespace: string, identity: string])[];
}
