// How often a node was revoked, as etcd has it now: for those who may not go by a view that is behind. Reads; writes are the access service's.
import { readRevocation } from '../store/access-records.js';
import type { EtcdClient } from '../store/etcd-client.js';
import type { Keyspace } from '../store/keys.js';

export interface Lineage {
  /** What certificates must have at least; 0: the node was never revoked. */
  readonly lineage: number;
  /** Of its key; 0: there is none. */
  readonly revision: number;
}

/** Throws StoreError. */
export async function lineageOf(client: EtcdClient, keys: Keyspace, node: string): Promise<Lineage> {
  const found = (await client.range({ key: Buffer.from(keys.revoked(node)) })).kvs[0];
  if (found === undefined) return { lineage: 0, revision: 0 };
  return { lineage: readRevocation(found.value)?.lineage ?? 0, revision: Number(found.mod_revision) };
}
