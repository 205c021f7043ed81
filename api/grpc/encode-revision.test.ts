import { deflateRawSync } from 'node:zlib';
import { expect, test } from '@jest/globals';
import { DiscoveryResponse } from '../gen/mesh/v1/discovery.js';
import { ResourceType } from '../gen/mesh/v1/model.js';
import { contentOf, encodeRevision, type Revision } from './encode-revision.js';

const resource = (index: number, bytes = 60) => ({
  type: ResourceType.ENDPOINT,
  name: `shop/api/${index}`,
  body: Buffer.alloc(bytes, `${index}`),
});

function revisionOf(resources: Revision['resources'], removed: Revision['removed'] = []): Revision {
  return { full: true, revision: 7, token: { clusterId: 'c', compiler: 'v', revision: 7 }, resources, removed };
}

function sent(revision: Revision, isPacked: boolean) {
  let nonce = 0;
  const { chunks } = encodeRevision(revision, () => ++nonce, isPacked);
  return chunks.map((chunk) => ({ bytes: chunk.length, response: DiscoveryResponse.decode(chunk) }));
}

test('12,000 resources come as three chunks, packed or plain the same, and an eighth as large', () => {
  const removed = [{ type: ResourceType.SERVICE, name: 'shop/old' }];
  const revision = revisionOf(
    Array.from({ length: 12_000 }, (_, index) => resource(index)),
    removed,
  );
  const [plain, packed] = [sent(revision, false), sent(revision, true)];
  expect(plain.map(({ response }) => [response.nonce, response.revision, response.full, response.more, response.resources.length])).toEqual(
    [
      [1, 7, true, true, 5_000],
      [2, 7, true, true, 5_000],
      [3, 7, true, true, 2_000],
      [4, 7, true, false, 0],
    ],
  );
  const encoded = (chunks: typeof plain): string =>
    chunks
      .map(({ response }) => DiscoveryResponse.encode({ ...response, packed: Buffer.alloc(0), ...contentOf(response) }).finish())
      .map((bytes) => Buffer.from(bytes).toString('base64'))
      .join('\n');
  expect(encoded(packed) === encoded(plain)).toBe(true);
  const bytes = (chunks: typeof plain): number => chunks.reduce((sum, each) => sum + each.bytes, 0);
  expect(bytes(plain) / bytes(packed)).toBeGreaterThan(8);
});

test('a chunk has at most a mebibyte, but for one resource that is larger', () => {
  const revision = revisionOf([resource(1, 700_000), resource(2, 700_000), resource(3, 1_400_000), resource(4)]);
  expect(sent(revision, false).map(({ response }) => response.resources.length)).toEqual([1, 1, 1, 1]);
});

test('what is small is not packed', () => {
  const [chunk] = sent(revisionOf([resource(1)]), true);
  expect([chunk?.response.packed.length, chunk?.response.resources.length]).toEqual([0, 1]);
});

test('what is packed wrongly, or is too much unpacked, is refused', () => {
  const response = DiscoveryResponse.create({ packed: Buffer.from('nonsense') });
  expect(() => contentOf(response)).toThrow();
  expect(() => contentOf({ ...response, packed: deflateRawSync(Buffer.alloc(64 << 20)) })).toThrow(/larger than/);
});
