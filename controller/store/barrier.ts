// Brings the view to at least what any replica has told: writes a key and waits for it to come back through the watch. An etcd progress
// request would not do: its answer may overtake events (etcd issue 15220).
import { randomUUID } from 'node:crypto';
import type { Clock } from '../clock.js';
import type { EtcdClient } from './etcd-client.js';
import type { Keyspace } from './keys.js';
import { commit } from './transaction.js';
import type { StoreView } from './view.js';

const WATCH_MS = 3_000;

/** The result says whether the store has come to a revision; it throws while etcd can't be asked. */
export function storeBarrier(client: EtcdClient, view: StoreView, keys: Keyspace, clock: Clock): (revision: number) => Promise<boolean> {
  return async (revision) => {
    if (revision <= view.revision) return true;
    const result = await commit(client, { expect: new Map(), writes: [{ key: keys.barrier, value: randomUUID(), lease: null }] });
    if (result.kind !== 'committed')
      throw new Error(result.kind === 'unavailable' ? result.message : `the barrier ended with ${result.kind}`);
    if (!(await view.reached(result.revision, clock, WATCH_MS)))
      throw new Error(`the watch lags behind etcd at ${client.endpoints}: try again`);
    return revision <= view.revision;
  };
}
