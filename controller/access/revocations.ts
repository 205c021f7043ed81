// How often a node was revoked and what that still means, as etcd has it now: for those who may not go by a view that is behind. Reads; writes are the access service's.
import { type RevocationRecord, readRevocation } from '../store/access-records.js';
import type { EtcdClient } from '../store/etcd-client.js';
import type { Keyspace } from '../store/keys.js';

export interface Revocation extends RevocationRecord {
  /** Of its key; 0: there is none. */
  readonly revision: number;
}

/** Of a node that never was: lineage 0, revision 0. Throws StoreError. */
export async function revocationOf(client: EtcdClient, keys: Keyspace, node: string): Promise<Revocation> {
  const found = (await client.range({ key: Buffer.from(keys.revoked(node)) })).kvs[0];
  const record = found === undefined ? null : readRevocation(found.value);
  return { ...(record ?? { atMs: 0, lineage: 0, isBarred: false }), revision: Number(found?.mod_revision ?? 0) };
}
