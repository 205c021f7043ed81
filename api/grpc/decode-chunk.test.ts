import { expect, test } from '@jest/globals';
import { DiscoveryResponse } from '../gen/mesh/v1/discovery.js';
import { ResourceType } from '../gen/mesh/v1/model.js';
import { decodeChunk } from './decode-chunk.js';

const response = DiscoveryResponse.create({
  nonce: 3,
  revision: 2 ** 40,
  token: { clusterId: 'c', compiler: 'v', revision: 2 ** 40 },
  more: true,
  protocol: 2,
  resources: [
    { type: ResourceType.ENDPOINT, name: 'shop/a/ü', body: Buffer.from([1, 2, 3]) },
    { type: ResourceType.SERVICE, name: '', body: Buffer.alloc(0) },
    { type: ResourceType.SERVICE, name: 'shop/long', body: Buffer.alloc(200, 7) },
  ],
  removed: [{ type: ResourceType.HTTP_ROUTE, name: 'shop/r' }],
});
const encoded = Buffer.from(DiscoveryResponse.encode(response).finish());

test('a chunk reads as by the generated code, in any order of its fields and with ones that are not known', () => {
  const novelty = Buffer.from('8afa01036e6577', 'hex');
  const removed = Buffer.from(DiscoveryResponse.encode(DiscoveryResponse.create({ removed: response.removed })).finish());
  for (const bytes of [encoded, Buffer.concat([removed, encoded, novelty]), Buffer.concat([novelty, encoded, encoded]), Buffer.alloc(0)])
    expect(decodeChunk(bytes)).toEqual(DiscoveryResponse.decode(bytes));
});

test('bodies are views of the chunk', () => {
  const [first] = decodeChunk(encoded).resources;
  expect(first?.body.buffer).toBe(encoded.buffer);
});

test('a chunk that is cut anywhere but between its fields is refused', () => {
  const ends = new Set<number>();
  for (let end = 0; end < encoded.length; end++) {
    try {
      decodeChunk(encoded.subarray(0, end));
      ends.add(end);
    } catch (error) {
      expect(error).toBeInstanceOf(Error);
    }
  }
  // Nonce, revision, token, more, three resources, one removed: before each of them, but for the end.
  expect(ends.size).toBe(9);
});

test('a resource does not reach beyond its end', () => {
  // A resource of 4 bytes, whose body claims 3 and has 2; what follows would fill it.
  const bytes = Buffer.from([(6 << 3) | 2, 4, (3 << 3) | 2, 3, 1, 2, 8, 1]);
  expect(() => decodeChunk(bytes)).toThrow('ends at byte');
});
