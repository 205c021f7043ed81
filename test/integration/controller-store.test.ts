// The store layer against real etcd, and against what goes wrong between them.
import { readdirSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { status } from '@grpc/grpc-js';
import { beforeEach, expect, test } from '@jest/globals';
import { systemClock } from '../../controller/clock.js';
import { EtcdClient } from '../../controller/store/etcd-client.js';
import { leaseIdOfNode } from '../../controller/store/keys.js';
import { Leases } from '../../controller/store/lease.js';
import { commit, MAX_OPERATIONS, type Write } from '../../controller/store/transaction.js';
import { closesAfterEach } from '../lab/closing.js';
import { startEtcd, type TestEtcd } from '../lab/etcd.js';
import { eventually } from '../lab/eventually.js';
import { StoreRecorder } from './store-recorder.js';

let etcd: TestEtcd;
let client: EtcdClient;
const closing = closesAfterEach();

beforeEach(async () => {
  etcd = await startEtcd();
  client = new EtcdClient({ endpoints: [etcd.endpoint] });
  closing.push(
    () => etcd.stop(),
    () => client.close(),
  );
});

function record(through: EtcdClient): StoreRecorder {
  const recorder = new StoreRecorder(through);
  closing.push(() => recorder.stop());
  return recorder;
}

/** A relay in front of etcd that can be cut after so many bytes. */
class Relay {
  readonly path = `/dev/shm/weft-relay-${process.pid}-${Math.floor(performance.now() * 1_000)}`;
  readonly endpoint = `unix:${this.path}`;
  /** Bytes towards the client after which the connection is cut, once. */
  cutAfter = Number.POSITIVE_INFINITY;
  cuts = 0;
  isRefusing = false;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(target: string) {
    this.#server = createServer((near) => {
      if (this.isRefusing) return void near.destroy();
      const far = connect(target.slice('unix:'.length));
      for (const socket of [near, far]) {
        this.#sockets.add(socket);
        socket.on('error', () => {});
        socket.on('close', () => {
          near.destroy();
          far.destroy();
        });
      }
      near.pipe(far);
      far.on('data', (data) => {
        this.cutAfter -= data.length;
        if (this.cutAfter >= 0) return void near.write(data);
        this.cutAfter = Number.POSITIVE_INFINITY;
        this.cuts++;
        near.destroy();
      });
    });
  }

  listen(): Promise<void> {
    return new Promise((resolve) => this.#server.listen(this.path, resolve));
  }

  refuse(isRefusing: boolean): void {
    this.isRefusing = isRefusing;
    if (isRefusing) for (const socket of this.#sockets) socket.destroy();
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}

async function relayed(): Promise<{ relay: Relay; through: EtcdClient }> {
  const relay = new Relay(etcd.endpoint);
  await relay.listen();
  const through = new EtcdClient({ endpoints: [relay.endpoint] });
  closing.push(() => relay.close());
  closing.push(() => through.close());
  return { relay, through };
}

async function put(...keys: string[]): Promise<number> {
  return write(keys.map((key) => ({ key: `/t/${key}`, value: key, lease: null })));
}

async function write(writes: Write[]): Promise<number> {
  const result = await commit(client, { expect: new Map(), writes });
  if (result.kind !== 'committed') throw new Error(JSON.stringify(result));
  return result.revision;
}

test('a list over several pages is of one revision, and the watch goes on from there', async () => {
  for (let page = 0; page < 45; page++) await put(...Array.from({ length: 100 }, (_, index) => `k${page}-${index}`));
  const recorder = record(client);
  await recorder.up();
  expect(recorder.reflector.entries.size).toBe(4_500);
  expect(recorder.batches).toHaveLength(1);
  const revision = await put('new');
  await recorder.until('the new key', () => recorder.reflector.revision === revision);
  expect(recorder.batches.at(-1)?.changes.map(({ key }) => key)).toEqual(['/t/new']);
});

test('all writes of a transaction come in one batch', async () => {
  const recorder = record(client);
  await recorder.up();
  const revision = await put('a', 'b', 'c');
  await recorder.until('the transaction', () => recorder.reflector.revision === revision);
  expect(recorder.batches.at(-1)).toMatchObject({ revision, relisted: false });
  expect(recorder.batches.at(-1)?.changes).toHaveLength(3);
});

test('kill -9 and restart: the watch resumes without a list and without a gap', async () => {
  const recorder = record(client);
  await recorder.up();
  await put('a');
  await etcd.restart();
  await recorder.up(2);
  const revision = await put('b');
  await recorder.until('the key after the restart', () => recorder.reflector.revision === revision);
  expect([...recorder.reflector.entries.keys()]).toEqual(['/t/a', '/t/b']);
  expect(recorder.batches.filter(({ relisted }) => relisted)).toHaveLength(1);
  expect(recorder.states.map(({ kind }) => kind)).toEqual(['up', 'down', 'up']);
});

test('compaction while disconnected: a new list, with the deletions worked out', async () => {
  const { relay, through } = await relayed();
  await put('stays', 'goes');
  const recorder = record(through);
  await recorder.up();
  relay.refuse(true);
  await recorder.until('it is down', () => recorder.states.at(-1)?.kind === 'down');
  await write([{ key: '/t/goes', value: null, lease: null }]);
  const revision = await put('comes');
  await client.call('KV', 'compact', { revision, physical: true });
  relay.refuse(false);
  await recorder.until('the new list', () => recorder.reflector.revision >= revision);
  const changes = recorder.batches.at(-1)?.changes.map(({ key, entry }) => [key, entry === null]);
  expect(recorder.batches.at(-1)).toMatchObject({ relisted: true, restarted: false });
  expect(changes).toEqual([
    ['/t/goes', true],
    ['/t/comes', false],
  ]);
});

test('a connection cut in the middle of catching up loses and repeats nothing, in fragments of large revisions too', async () => {
  const { relay, through } = await relayed();
  const recorder = record(through);
  await recorder.up();
  relay.refuse(true);
  await recorder.until('it is down', () => recorder.states.at(-1)?.kind === 'down');
  const filler = 'x'.repeat(100_000);
  const revisions = 60;
  let last = 0;
  for (let step = 0; step < revisions; step++) {
    last = await write([0, 1, 2, 3].map((index) => ({ key: `/t/${step}/${index}`, value: filler, lease: null })));
  }
  relay.cutAfter = 7_000_000;
  relay.refuse(false);
  await recorder.until('all of it', () => recorder.reflector.revision === last, 30_000);
  expect(relay.cuts).toBe(1);
  expect(recorder.changeCount).toBe(revisions * 4);
  expect(recorder.reflector.entries.size).toBe(revisions * 4);
  // Every revision whole: no batch ends inside one.
  for (const { changes } of recorder.batches) expect(changes.length % 4).toBe(0);
});

test('SIGSTOP of etcd is noticed, and what was written afterwards comes', async () => {
  const recorder = record(client);
  await recorder.up();
  const started = performance.now();
  etcd.pause();
  await recorder.until('it is down', () => recorder.states.at(-1)?.kind === 'down');
  expect(performance.now() - started).toBeLessThan(6_000);
  etcd.resume();
  await recorder.up(2);
  const revision = await put('after');
  await recorder.until('the key', () => recorder.reflector.revision === revision);
});

test('what was open to a silent etcd is closed when it is left, though nobody closes the other side', async () => {
  const isOpen = (): number => readdirSync('/proc/self/fd').length;
  const key = Buffer.from('/t/');
  await client.range({ key });
  const before = isOpen();
  etcd.pause();
  for (let attempt = 0; attempt < 8; attempt++) {
    await expect(client.range({ key }, 50)).rejects.toMatchObject({ code: status.DEADLINE_EXCEEDED });
    client.reconnect();
  }
  expect(isOpen()).toBeGreaterThanOrEqual(before + 7);
  await eventually(
    () => Promise.resolve(isOpen()),
    (count) => count <= before + 1,
  );
  etcd.resume();
  expect((await client.range({ key })).kvs).toEqual([]);
});

test('an idle watch keeps its connection: etcd takes no offence at our pings', async () => {
  const recorder = record(client);
  await recorder.up();
  await new Promise<void>((resolve) => void systemClock.after(9_000, resolve));
  expect(recorder.states.map(({ kind }) => kind)).toEqual(['up']);
});

test('a wiped etcd is recognised: everything is listed anew and said to be another history', async () => {
  const recorder = record(client);
  for (let index = 0; index < 10; index++) await put(`k${index}`);
  await recorder.until('the keys', () => recorder.reflector.entries.size === 10);
  await etcd.wipe();
  await recorder.until('the empty store', () => recorder.reflector.entries.size === 0);
  expect(recorder.batches.at(-1)).toMatchObject({ relisted: true, restarted: true });
});

test('a transaction compares, says what stands there instead, and refuses what etcd would not take', async () => {
  const first = await put('a');
  const stale = await commit(client, { expect: new Map([['/t/a', first - 1]]), writes: [{ key: '/t/a', value: 'b', lease: null }] });
  expect(stale).toMatchObject({ kind: 'conflict' });
  expect(stale.kind === 'conflict' && stale.current.get('/t/a')?.modRevision).toBe(first);
  const fresh = await commit(client, { expect: new Map([['/t/a', first]]), writes: [{ key: '/t/a', value: 'b', lease: null }] });
  expect(fresh).toMatchObject({ kind: 'committed', revision: first + 1 });
  const many = Array.from({ length: 64 * 64 + 1 }, (_, index) => ({ key: `/t/${index}`, value: '', lease: null }));
  expect(await commit(client, { expect: new Map(), writes: many })).toMatchObject({
    kind: 'too-large',
    message: expect.stringContaining('4097'),
  });
  const compared = new Map(many.slice(0, MAX_OPERATIONS + 1).map(({ key }) => [key, 0]));
  expect(await commit(client, { expect: compared, writes: [] })).toMatchObject({
    kind: 'too-large',
    message: expect.stringContaining('129'),
  });
  const large = { key: '/t/large', value: 'x'.repeat(1_600_000), lease: null };
  expect(await commit(client, { expect: new Map(), writes: [large] })).toMatchObject({ kind: 'too-large' });
  expect(await commit(client, { expect: new Map(), writes: [{ key: '/t/l', value: '', lease: '12345' }] })).toEqual({ kind: 'lease-lost' });
});

test('what a transaction reads is as it leaves it', async () => {
  await put('read/a');
  const writes = [{ key: '/t/read/b', value: 'v', lease: null }];
  const done = await commit(client, { expect: new Map(), writes, reads: ['/t/read/', '/t/none/'] });
  const found = done.kind === 'committed' ? done.found : null;
  expect(found?.map((entries) => entries.map(({ key }) => key))).toEqual([['/t/read/a', '/t/read/b'], []]);
});

test('thousands of keys are one transaction and one revision, which watchers see whole; not if anything under a prefix was written since', async () => {
  const recorder = record(client);
  const start = await put('settled/a');
  await recorder.until('the key', () => recorder.reflector.revision >= start);
  const writes = Array.from({ length: 64 * 64 }, (_, index) => ({ key: `/t/many/${index}`, value: 'v', lease: null }));
  const settled = { prefix: '/t/settled/', revision: start };
  const expect0 = new Map([['/t/many/0', 0]]);
  const done = await commit(client, { expect: expect0, settled, writes });
  expect(done).toEqual({ kind: 'committed', revision: start + 1, found: [] });
  await recorder.until('all of them', () => recorder.reflector.revision > start);
  expect(recorder.batches.at(-1)?.changes).toHaveLength(writes.length);
  const deletes = writes.map(({ key }) => ({ key, value: null, lease: null }));
  await put('settled/b');
  expect(await commit(client, { expect: new Map(), settled, writes: deletes })).toEqual({ kind: 'conflict', current: new Map() });
  expect(await commit(client, { expect: new Map(), settled: { ...settled, revision: start + 2 }, writes: deletes })).toMatchObject({
    kind: 'committed',
    revision: start + 3,
  });
  await recorder.until('none of them', () => recorder.reflector.revision > start + 2);
  expect([...recorder.reflector.entries.keys()].filter((key) => key.startsWith('/t/many/'))).toEqual([]);
});

test('a transaction whose reply is lost is recognised as applied', async () => {
  const { relay, through } = await relayed();
  await through.range({ key: Buffer.from('/t/') });
  relay.cutAfter = 0;
  const result = await commit(through, { expect: new Map(), writes: [{ key: '/t/a', value: 'request-1', lease: null }] });
  expect(relay.cuts).toBe(1);
  expect(result).toMatchObject({ kind: 'committed' });
});

test('any replica continues a node’s lease; a lost one is known, with its keys gone', async () => {
  const id = leaseIdOfNode('/t/', 'node-a');
  const other = new EtcdClient({ endpoints: [etcd.endpoint] });
  const leases = new Leases(client, systemClock);
  const otherLeases = new Leases(other, systemClock);
  closing.push(
    () => other.close(),
    () => leases.close(),
    () => otherLeases.close(),
  );
  const recorder = record(client);
  expect(await leases.acquire(id, 2_000)).toBe('granted');
  expect(await otherLeases.acquire(id, 2_000)).toBe('continued');
  await write([{ key: '/t/on-lease', value: 'x', lease: id }]);
  await recorder.until('the key', () => recorder.reflector.entries.has('/t/on-lease'));
  expect(await leases.keepAlive(id)).toBe(true);
  await recorder.until('the key is gone', () => !recorder.reflector.entries.has('/t/on-lease'));
  expect(await leases.keepAlive(id)).toBe(false);
  expect(await leases.acquire(id, 2_000)).toBe('granted');
});
