// The audit log over an etcd that is silent for a while.
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { pino } from 'pino';
import { type AuditFacts, AuditLog } from '../../controller/access/audit-log.js';
import { systemClock } from '../../controller/clock.js';
import { EtcdClient } from '../../controller/store/etcd-client.js';
import { Keyspace, prefixEnd } from '../../controller/store/keys.js';
import { StoreView } from '../../controller/store/view.js';
import { startEtcd, type TestEtcd } from '../lab/etcd.js';

let etcd: TestEtcd;
beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(() => etcd.stop());

test('what comes while a batch is under way takes the place of nothing that was not written', async () => {
  const client = new EtcdClient({ endpoints: [etcd.endpoint] });
  try {
    const keys = new Keyspace('/weft');
    const view = new StoreView(client, keys, systemClock, { state: () => {}, unreadable: () => {} });
    const log = new AuditLog({ client, view, keys, clock: systemClock, wallClock: Date.now, log: pino({ level: 'silent' }) });
    etcd.pause();
    // The first batch is sent to an etcd that does not answer; then the log is full.
    for (let i = 0; i < 30; i++) log.done(entry(`first ${i}`));
    await sleep(500);
    for (let i = 0; i < 1_000; i++) log.done(entry(`then ${i}`));
    etcd.resume();
    await log.stop();
    const prefix = '/weft/';
    const { kvs } = await client.range({ key: Buffer.from(prefix), range_end: prefixEnd(prefix) }, 5_000);
    const details = kvs.map(({ value }) => (JSON.parse(value.toString()) as { detail: string }).detail);
    expect(details.filter((detail) => detail.startsWith('first'))).toHaveLength(30);
    expect(details.filter((detail) => detail.startsWith('then'))).toHaveLength(1_000);
  } finally {
    client.close();
  }
});

function entry(detail: string): AuditFacts {
  return { actor: 'somebody', by: 'token', peer: '127.0.0.1', method: 'Apply', detail, result: 'OK', message: '' };
}
