// A delta as bytes: encoded once, in chunks, and shared by every stream that stands at the same revision and is told the same.
import type { ResumeToken } from '../../api/gen/mesh/v1/discovery.js';
import { encodeRevision } from '../../api/grpc/encode-revision.js';
import type { Interest } from '../interest/interest.js';
import { type ModelDelta, resourceKey } from './model-history.js';

export interface Push {
  /** Of the last chunk: what the receiver acks. */
  readonly nonce: number;
  readonly revision: number;
  /** What the receiver is told from then on. */
  readonly interest: Interest;
  readonly full: boolean;
  /** Of all that it names; of a full one none. */
  readonly keys: readonly string[];
  /** Encoded DiscoveryResponse messages. */
  readonly chunks: readonly Buffer[];
  /** Of those. */
  readonly bytes: number;
}

/** `nextNonce` is called once a chunk. */
export function encodePush(
  delta: ModelDelta,
  { interest, token, isPacked }: { readonly interest: Interest; readonly token: ResumeToken; readonly isPacked: boolean },
  nextNonce: () => number,
): Push {
  const { full, revision, resources, removed } = delta;
  const { nonce, chunks } = encodeRevision({ full, revision, token, resources, removed }, nextNonce, isPacked);
  const keys = full ? [] : [...resources, ...removed].map(resourceKey);
  return { nonce, revision, interest, full, keys, chunks, bytes: chunks.reduce((sum, chunk) => sum + chunk.length, 0) };
}

/** Pushes to one revision that others may want too: a thousand nodes that are told different things must not be a thousand models in memory. */
export class SharedPushes {
  readonly #maxBytes: number;
  readonly #byWay = new Map<string, Push>();
  #bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** `way`: from where to where, in any words. The newest is kept whatever its size. */
  get(way: string, make: () => Push): Push {
    const known = this.#byWay.get(way);
    if (known !== undefined) return known;
    const push = make();
    this.#byWay.set(way, push);
    this.#bytes += push.bytes;
    for (const [oldest, { bytes }] of this.#byWay) {
      if (this.#bytes <= this.#maxBytes || oldest === way) break;
      this.#byWay.delete(oldest);
      this.#bytes -= bytes;
    }
    return push;
  }

  clear(): void {
    this.#byWay.clear();
    this.#bytes = 0;
  }
}
