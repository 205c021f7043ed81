// All keys under a prefix as of one revision, in pages.
import type { IKeyValue, IRangeResponse } from 'etcd3';
import type { EtcdClient } from './etcd-client.js';
import { prefixEnd } from './keys.js';

export interface Listing {
  readonly revision: number;
  /** etcd's own. */
  readonly clusterId: string;
  /** In the order of their keys. */
  readonly pairs: readonly IKeyValue[];
}

const PAGE_KEYS = 2_000;
const PAGE_DEADLINE_MS = 10_000;

/** Throws StoreError. */
export async function listPrefix(client: EtcdClient, prefix: string): Promise<Listing> {
  const pairs: IKeyValue[] = [];
  const end = prefixEnd(prefix);
  let from: Buffer = Buffer.from(prefix);
  let revision = 0;
  for (;;) {
    const page: IRangeResponse = await client.range({ key: from, range_end: end, limit: PAGE_KEYS, revision }, PAGE_DEADLINE_MS);
    if (revision === 0) revision = Number(page.header.revision);
    for (const pair of page.kvs) pairs.push(pair);
    const last = page.kvs.at(-1);
    if (!page.more || last === undefined) return { revision, clusterId: page.header.cluster_id, pairs };
    from = Buffer.concat([last.key, Buffer.of(0)]);
  }
}
