// One revision as encoded DiscoveryResponse messages, for whoever serves Discovery. Owns the size of a chunk.
import { DiscoveryResponse, type Resource, type ResourceName, type ResumeToken } from '../gen/mesh/v1/discovery.js';
import { PROTOCOL } from './protocol.js';

export interface Revision {
  readonly full: boolean;
  readonly revision: number;
  readonly token: ResumeToken;
  readonly resources: readonly Resource[];
  readonly removed: readonly ResourceName[];
}

export interface EncodedRevision {
  /** Of the last chunk: what the receiver acks. */
  readonly nonce: number;
  readonly chunks: readonly Buffer[];
}

const MAX_CHUNK_ITEMS = 500;
/** Under gRPC's usual limit of 4 MiB a message, whatever one resource weighs. */
const MAX_CHUNK_BYTES = 1024 * 1024;

/** `nextNonce` is called once a chunk. */
export function encodeRevision({ full, revision, token, resources, removed }: Revision, nextNonce: () => number): EncodedRevision {
  const parts = [
    ...parted(resources, ({ name, body }) => name.length + body.length).map((part) => ({ resources: part, removed: [] })),
    ...parted(removed, ({ name }) => name.length).map((part) => ({ resources: [], removed: part })),
  ];
  // A revision that changes nothing is acked too.
  if (parts.length === 0) parts.push({ resources: [], removed: [] });
  let nonce = 0;
  const chunks = parts.map((part, index) => {
    nonce = nextNonce();
    const more = index < parts.length - 1;
    return Buffer.from(DiscoveryResponse.encode({ nonce, revision, token, full, more, ...part, protocol: PROTOCOL }).finish());
  });
  return { nonce, chunks };
}

/** Empty for nothing. */
function parted<Item>(items: readonly Item[], sizeOf: (item: Item) => number): Item[][] {
  const parts: Item[][] = [];
  let current: Item[] = [];
  let bytes = 0;
  for (const item of items) {
    const size = sizeOf(item);
    if (current.length === 0 || current.length >= MAX_CHUNK_ITEMS || bytes + size > MAX_CHUNK_BYTES) {
      current = [];
      bytes = 0;
      parts.push(current);
    }
    current.push(item);
    bytes += size;
  }
  return parts;
}
