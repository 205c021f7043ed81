// A chunk of a revision as it comes: a DiscoveryResponse whose resources' bodies are views of its bytes, where the generated code copies each and makes an
// empty one before.
import { DiscoveryResponse, type Resource, ResourceName } from '../gen/mesh/v1/discovery.js';
import { WireReader } from './wire-reader.js';

// Field numbers × 8, and the wire type: of DiscoveryResponse,
const [RESOURCES, REMOVED] = [(6 << 3) | 2, (7 << 3) | 2];
// and of Resource.
const [TYPE, NAME, BODY] = [1 << 3, (2 << 3) | 2, (3 << 3) | 2];
const EMPTY = Buffer.alloc(0);

/** Throws on what is none. */
export function decodeChunk(bytes: Buffer): DiscoveryResponse {
  const reader = new WireReader(bytes);
  const resources: Resource[] = [];
  const removed: ResourceName[] = [];
  const rest: Buffer[] = [];
  while (reader.pos < reader.len) {
    const start = reader.pos;
    const tag = reader.uint32();
    if (tag === RESOURCES) {
      resources.push(resourceOf(reader));
    } else if (tag === REMOVED) {
      removed.push(ResourceName.decode(reader, reader.uint32()));
    } else {
      reader.skip(tag & 7, tag >>> 3);
      rest.push(bytes.subarray(start, reader.pos));
    }
  }
  return { ...DiscoveryResponse.decode(Buffer.concat(rest)), resources, removed };
}

function resourceOf(reader: WireReader): Resource {
  const length = reader.uint32();
  const end = reader.pos + length;
  const resource: Resource = { type: 0, name: '', body: EMPTY };
  while (reader.pos < end) {
    const tag = reader.uint32();
    if (tag === TYPE) resource.type = reader.int32();
    else if (tag === NAME) resource.name = reader.string();
    else if (tag === BODY) resource.body = reader.byteView();
    else reader.skip(tag & 7, tag >>> 3);
  }
  if (reader.pos !== end) throw new RangeError(`a resource ends at byte ${reader.pos}, and not at ${end}`);
  return resource;
}
