// A delta as bytes: encoded once, in chunks, and shared by every stream that stands at the same revision.
import type { ResumeToken } from '../../api/gen/mesh/v1/discovery.js';
import { encodeRevision } from '../../api/grpc/encode-revision.js';
import { type ModelDelta, resourceKey } from './model-history.js';

export interface Push {
  /** Of the last chunk: what the receiver acks. */
  readonly nonce: number;
  readonly revision: number;
  readonly full: boolean;
  /** Of all that it names. */
  readonly keys: readonly string[];
  /** Encoded DiscoveryResponse messages. */
  readonly chunks: readonly Buffer[];
}

/** `nextNonce` is called once a chunk. */
export function encodePush(delta: ModelDelta, token: ResumeToken, nextNonce: () => number): Push {
  const { full, revision, resources, removed } = delta;
  const { nonce, chunks } = encodeRevision({ full, revision, token, resources, removed }, nextNonce);
  return { nonce, revision, full, keys: [...resources, ...removed].map(resourceKey), chunks };
}
