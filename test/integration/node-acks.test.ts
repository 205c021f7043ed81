// Acks on their way to a real etcd while streams end: what is written is of nodes that are served here still, and the writing goes on.
import { expect, test } from '@jest/globals';
import { systemClock } from '../../controller/clock.js';
import { NodeAcks } from '../../controller/serve/node-acks.js';
import { EtcdClient } from '../../controller/store/etcd-client.js';
import { Keyspace, leaseIdOfNode } from '../../controller/store/keys.js';
import { Leases } from '../../controller/store/lease.js';
import { commit } from '../../controller/store/transaction.js';
import { StoreView } from '../../controller/store/view.js';
import { Condition } from '../lab/condition.js';
import { startEtcd } from '../lab/etcd.js';

/** Says when a transaction is about to be sent. */
class WatchedClient extends EtcdClient {
  beforeTransaction: () => void = () => {};

  override call<Response>(service: 'KV' | 'Lease' | 'Auth', method: string, request: object, deadlineMs?: number): Promise<Response> {
    if (method === 'txn') this.beforeTransaction();
    return super.call<Response>(service, method, request, deadlineMs);
  }
}

test('a stream that ends while the acks of several nodes are written one by one costs nobody else’s', async () => {
  const etcd = await startEtcd();
  const client = new WatchedClient({ endpoints: [etcd.endpoint] });
  const keys = new Keyspace('/weft');
  const view = new StoreView(client, keys, systemClock, { state: () => {}, unreadable: () => {} });
  const changes = new Condition();
  view.watch(() => changes.changed());
  view.start();
  const acks = new NodeAcks(client, view, keys, systemClock);
  const leases = new Leases(client, systemClock);
  try {
    // Of these nodes the leases ran out: their acks can't be written, together or each by itself.
    for (const node of ['a', 'b']) {
      await commit(client, { expect: new Map(), writes: [{ key: keys.node(node), value: '{}', lease: null }] });
      acks.connected(node);
    }
    await changes.until('both nodes are known', () => view.nodes.size === 2);
    const sent: string[] = [];
    const retried = new Condition();
    client.beforeTransaction = () => {
      sent.push('transaction');
      // Together, then a; b's would be the next.
      if (sent.length === 2) acks.disconnected('b');
      retried.changed();
    };
    acks.acked('a', { revision: 5, rejected: [] });
    acks.acked('b', { revision: 5, rejected: [] });
    await retried.until('they are written one by one', () => sent.length === 2);

    const lease = leaseIdOfNode(keys.root, 'c');
    await leases.acquire(lease, 10_000);
    await commit(client, { expect: new Map(), writes: [{ key: keys.node('c'), value: '{}', lease }] });
    acks.connected('c');
    await changes.until('the third node is known', () => view.nodes.has('c'));
    acks.acked('c', { revision: 6, rejected: [] });
    await changes.until('its ack stands in etcd', () => view.acks.get('c')?.revision === 6);
    expect([...view.acks.keys()]).toEqual(['c']);
  } finally {
    acks.stop();
    leases.close();
    view.stop();
    client.close();
    await etcd.stop();
  }
});
