// A delta as bytes: encoded once, in chunks, and shared by every stream that stands at the same revision.
import { DiscoveryResponse, type Resource, type ResumeToken } from '../../api/gen/mesh/v1/discovery.js';
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

const MAX_CHUNK_RESOURCES = 500;
/** Under gRPC's usual limit of 4 MiB a message, whatever one resource weighs. */
const MAX_CHUNK_BYTES = 1024 * 1024;

/** `nextNonce` is called once a chunk. */
export function encodePush(delta: ModelDelta, token: ResumeToken, nextNonce: () => number): Push {
  const groups = chunksOf(delta.resources);
  let nonce = 0;
  const chunks = groups.map((resources, index) => {
    nonce = nextNonce();
    const isLast = index === groups.length - 1;
    const removed = isLast ? [...delta.removed] : [];
    const response = { nonce, revision: delta.revision, token, full: delta.full, more: !isLast, resources, removed };
    return Buffer.from(DiscoveryResponse.encode(response).finish());
  });
  return { nonce, revision: delta.revision, full: delta.full, keys: [...delta.resources, ...delta.removed].map(resourceKey), chunks };
}

/** At least one, for a revision that changes nothing is acked too. */
function chunksOf(resources: readonly Resource[]): Resource[][] {
  let current: Resource[] = [];
  let bytes = 0;
  const chunks = [current];
  for (const resource of resources) {
    const size = resource.body.length + resource.name.length;
    if (current.length > 0 && (current.length >= MAX_CHUNK_RESOURCES || bytes + size > MAX_CHUNK_BYTES)) {
      current = [];
      bytes = 0;
      chunks.push(current);
    }
    current.push(resource);
    bytes += size;
  }
  return chunks;
}
