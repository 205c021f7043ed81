// Gives a store that has none its incarnation: etcd's own cluster id follows from its flags, so an etcd that lost its data has the same
// one, and a node's resume token of before would seem to fit.
import { randomUUID } from 'node:crypto';
import type { EtcdClient } from './etcd-client.js';
import type { Keyspace } from './keys.js';
import { commit } from './transaction.js';
import type { StoreView } from './view.js';

/** Looks after every batch, as the store may be replaced. A write that fails is tried again after the next one. */
export function keepIncarnation(client: EtcdClient, view: StoreView, keys: Keyspace): void {
  let isWriting = false;
  view.watch(() => {
    if (view.clusterId !== '' || isWriting) return;
    isWriting = true;
    const writes = [{ key: keys.incarnation, value: randomUUID(), lease: null }];
    void commit(client, { expect: new Map([[keys.incarnation, 0]]), writes }).finally(() => {
      isWriting = false;
    });
  });
}
