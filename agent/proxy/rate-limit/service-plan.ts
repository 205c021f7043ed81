// Rate limits that services count → the calls that ask about them, and what came of those calls. On the main thread. Counts stay with a limit
// over generations, as long as that is the same limit.
import { createHash } from 'node:crypto';
import type { RateLimit } from '../../../api/gen/mesh/v1/model.js';
import type { RateLimitReport } from './plan.js';
import { ASKED_WORDS, type AskedLimitSpec, AskedWord, type CallSpec } from './spec.js';

/** Limits of one service with the same domain, hits and way to fail are asked about at once. */
export function callsOf(limits: readonly RateLimit[], askedOf: (limit: RateLimit) => AskedLimitSpec): CallSpec[] {
  const calls = new Map<string, CallSpec & { readonly limits: AskedLimitSpec[] }>();
  for (const limit of limits) {
    if (limit.service === undefined) continue;
    const { service, port, domain, hits, timeoutMs, failsClosed } = limit.service;
    const key = JSON.stringify(limit.service);
    const call = calls.get(key) ?? { service: `${service}:${port}`, domain, hits: Math.max(1, hits), timeoutMs, failsClosed, limits: [] };
    calls.set(key, call);
    call.limits.push(askedOf(limit));
  }
  return [...calls.values()];
}

/** The same in all generations in which it is the same set. */
export function keyOfSet(limits: readonly RateLimit[]): string {
  return createHash('sha256').update(JSON.stringify(limits)).digest('base64');
}

/** All that makes it that limit: what differs begins with nothing counted. */
function identityOfAsked({ policy, name, target, keys, service }: RateLimit): string {
  return JSON.stringify([policy, name, target, keys, service]);
}

interface HeldCounts {
  readonly limit: RateLimit;
  readonly memory: SharedArrayBuffer;
  readonly counts: Float64Array;
}

export class AskedMemory {
  private held = new Map<string, HeldCounts>();
  private next = new Map<string, HeldCounts>();

  /** AskedWord, for the workers. */
  hold(limit: RateLimit): SharedArrayBuffer {
    const identity = identityOfAsked(limit);
    const known = this.next.get(identity) ?? this.held.get(identity);
    const held = known ?? { limit, memory: new SharedArrayBuffer(ASKED_WORDS * 4), counts: new Float64Array(ASKED_WORDS) };
    this.next.set(identity, held);
    return held.memory;
  }

  settle(): void {
    this.held = this.next;
    this.next = new Map();
  }

  get size(): number {
    return this.held.size;
  }

  /** Takes what workers have counted out of their words, which are small. */
  collect(): void {
    for (const { memory, counts } of this.held.values()) {
      const words = new Int32Array(memory);
      for (let word = 0; word < ASKED_WORDS; word++) counts[word]! += Atomics.exchange(words, word, 0) >>> 0;
    }
  }

  report(): RateLimitReport[] {
    this.collect();
    return [...this.held.values()].map(({ limit: { policy, name, target }, counts }) => ({
      policy,
      name,
      target,
      admitted: counts[AskedWord.Ok]!,
      refused: counts[AskedWord.OverLimit]!,
      share: null,
      unanswered: { failed: counts[AskedWord.Failed]!, letPass: counts[AskedWord.LetPass]! },
    }));
  }
}
