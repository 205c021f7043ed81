// Elections and fenced writes against real etcd.
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { systemClock } from '../../controller/clock.js';
import { Ingester, type SourceObject } from '../../controller/sources/ingester.js';
import { Election, type Term } from '../../controller/store/election.js';
import { EtcdClient } from '../../controller/store/etcd-client.js';
import { Keyspace } from '../../controller/store/keys.js';
import { Leases } from '../../controller/store/lease.js';
import { commit } from '../../controller/store/transaction.js';
import { StoreView } from '../../controller/store/view.js';
import { closesAfterEach } from '../lab/closing.js';
import { Condition } from '../lab/condition.js';
import { startEtcd, type TestEtcd } from '../lab/etcd.js';

const keys = new Keyspace('/t');
let etcd: TestEtcd;
// Before what closes: it waits for etcd.
afterEach(() => etcd.resume());
const closing = closesAfterEach();

beforeEach(async () => {
  etcd = await startEtcd();
  closing.push(() => etcd.stop());
});

function connect(): EtcdClient {
  const client = new EtcdClient({ endpoints: [etcd.endpoint] });
  closing.push(() => client.close());
  return client;
}

/** A replica that would lead. */
class Candidate extends Condition {
  readonly client = connect();
  readonly leases = new Leases(this.client, systemClock);
  readonly view = new StoreView(this.client, keys, systemClock, { state: () => this.changed(), unreadable: () => {} });
  readonly ends: (string | null)[] = [];
  /** Of the newest term; kept when that is over. */
  term: Term | null = null;
  readonly #election: Election;

  /** `other` hears of its changes too. */
  constructor(
    ttlMs = 6_000,
    private readonly other: Condition | null = null,
  ) {
    super();
    this.#election = new Election({
      name: 'test',
      client: this.client,
      leases: this.leases,
      view: this.view,
      keys,
      clock: systemClock,
      ttlMs,
      random: () => 0,
      observe: {
        elected: () => this.changed(),
        over: (reason) => {
          this.ends.push(reason);
          this.changed();
        },
      },
    });
    this.view.watch(() => this.changed());
    this.view.start();
    this.#election.start(async (term) => {
      this.term = term;
      this.changed();
      await new Promise((resolve) => term.signal.addEventListener('abort', resolve));
    });
    closing.push(async () => {
      await this.stop();
      this.view.stop();
      this.leases.close();
    });
  }

  override changed(): void {
    super.changed();
    this.other?.changed();
  }

  get leads(): boolean {
    return this.term !== null && !this.term.signal.aborted;
  }

  elected(): Promise<void> {
    return this.until('a term', () => this.leads);
  }

  stop(): Promise<void> {
    return this.#election.stop();
  }

  async write(value: string): Promise<string> {
    const expect = this.term?.fence ?? new Map();
    return (await commit(this.client, { expect, writes: [{ key: '/t/x', value, lease: null }] })).kind;
  }
}

async function leaseOfLeader(client: EtcdClient): Promise<string> {
  return (await client.range({ key: Buffer.from(keys.leader('test')) })).kvs[0]?.lease ?? '';
}

test('of two replicas one leads, and the other one as soon as it stops', async () => {
  const one = new Candidate(60_000);
  await one.elected();
  const two = new Candidate(60_000);
  await two.until('the leader known', () => two.view.leaders.has('test'));
  expect(two.leads).toBe(false);
  await one.stop();
  expect(one.ends).toEqual([null]);
  await two.elected();
  expect(one.leads).toBe(false);
});

test('a leader whose lease is lost writes nothing any more, and knows it', async () => {
  const one = new Candidate();
  await one.elected();
  expect(await one.write('of the first')).toBe('committed');
  const two = new Candidate(6_000, one);
  await one.leases.revoke(await leaseOfLeader(one.client));
  // Whoever of the two leads next: the fence of before is void.
  const before = one.term;
  expect(await one.write('too late')).toBe('conflict');
  await one.until('the end of its term', () => before?.signal.aborted === true);
  expect(one.ends).toEqual([expect.stringMatching(/^its (key|lease) is gone$/)]);
  await one.until('a new term', () => one.leads || two.leads);
  expect(one.leads && two.leads).toBe(false);
  const leader = one.leads ? one : two;
  expect(await leader.write('of the next')).toBe('committed');
});

test('a leader that hears nothing of etcd ends its term before another one can begin', async () => {
  const one = new Candidate();
  await one.elected();
  etcd.pause();
  const pausedMs = performance.now();
  await one.until('the end of its term', () => !one.leads);
  expect(performance.now() - pausedMs).toBeLessThan(5_900);
  etcd.resume();
  await one.until('a new term', () => one.leads);
  expect(one.ends).toEqual([expect.stringContaining('etcd no longer answers')]);
});

test('a leader whose key was deleted, as by a restore, ends its term, and may lead again in a new one', async () => {
  const one = new Candidate(60_000);
  await one.elected();
  const before = one.term;
  await commit(one.client, { expect: new Map(), writes: [{ key: keys.leader('test'), value: null, lease: null }] });
  await one.until('a new term', () => one.leads && one.term !== before);
  expect(one.ends).toEqual(['its key is gone']);
});

const object = (name: string, text: string): SourceObject => ({
  ref: { kind: 'Service', namespace: 'shop', name },
  manifest: { text },
  createdAtMs: 1,
  generation: 0,
});

/** What stands in etcd, by name, with the revision of its last change. */
async function standing(client: EtcdClient): Promise<Map<string, { text: string; revision: number }>> {
  const { kvs } = await client.range({ key: Buffer.from('/t/sources/'), range_end: Buffer.from('/t/sources0') });
  return new Map(
    kvs.map(({ key, value, mod_revision }) => {
      const { manifest } = JSON.parse(value.toString()) as { manifest: { text: string } };
      return [key.toString().split('/').at(-1) ?? '', { text: manifest.text, revision: Number(mod_revision) }];
    }),
  );
}

class Written extends Condition {
  objects = 0;
  readonly failures: (string | null)[] = [];
  readonly refused: string[] = [];

  async open(candidate: Candidate): Promise<{ ingester: Ingester; ended: Promise<string | null> }> {
    const observe = {
      written: (objects: number) => {
        this.objects += objects;
        this.changed();
      },
      failing: (message: string | null) => {
        this.failures.push(message);
        this.changed();
      },
      refused: (_: unknown, message: string) => void this.refused.push(message),
    };
    const ingester = await Ingester.open(
      { source: 'kubernetes', client: candidate.client, keys, clock: systemClock, observe },
      candidate.term!,
    );
    return { ingester, ended: ingester.run() };
  }
}

test('an ingester writes differences alone, over terms as well, and removes what its source no longer has', async () => {
  const leader = new Candidate(60_000);
  await leader.elected();
  const first = new Written();
  const { ingester } = await first.open(leader);
  for (let index = 0; index < 250; index++) ingester.put(object(`s${index}`, 'a'));
  await first.until('all written', () => first.objects === 250);
  const before = await standing(leader.client);
  // One revision a transaction, not one an object.
  expect(new Set([...before.values()].map(({ revision }) => revision)).size).toBeLessThanOrEqual(4);
  await leader.stop();

  const next = new Candidate(60_000);
  await next.elected();
  const second = new Written();
  const { ingester: again } = await second.open(next);
  for (let index = 0; index < 249; index++) again.put(object(`s${index}`, index === 7 ? 'b' : 'a'));
  again.settle('Service', ({ name }) => name !== 's249');
  again.settle('Pod', () => false);
  await second.until('the difference', () => second.objects === 2);
  const after = await standing(next.client);
  expect(after.size).toBe(249);
  expect(after.get('s7')?.text).toBe('b');
  expect(after.get('s8')?.revision).toBe(before.get('s8')?.revision);
});

test('what is put while an older state is under way is what stands in the end', async () => {
  const leader = new Candidate(60_000);
  await leader.elected();
  const written = new Written();
  const { ingester } = await written.open(leader);
  ingester.put(object('s', 'a'));
  await written.until('a', () => written.objects === 1);
  ingester.put(object('s', 'b'));
  // Under way now; back to what stands there still.
  await Promise.resolve();
  ingester.put(object('s', 'a'));
  await written.until('b, then a', () => written.objects === 3);
  expect((await standing(leader.client)).get('s')?.text).toBe('a');
});

test('an ingester whose term was taken away ends, and has changed nothing', async () => {
  const leader = new Candidate(60_000);
  await leader.elected();
  const { ingester, ended } = await new Written().open(leader);
  // It doesn't hear of it.
  leader.view.stop();
  await leader.leases.revoke(await leaseOfLeader(leader.client));
  ingester.put(object('s', 'a'));
  expect(await ended).toBe('another replica leads');
  expect((await standing(leader.client)).size).toBe(0);
});

test('when it is not known whether a change was written, the term ends; the next one writes what is wanted then', async () => {
  const leader = new Candidate(60_000);
  await leader.elected();
  const { term } = leader;
  const written = new Written();
  const { ingester, ended } = await written.open(leader);
  etcd.pause();
  ingester.put(object('s', 'a'));
  expect(await ended).toBe('whether a change was written is not known');
  expect(written.failures).toEqual([expect.stringContaining('does not answer')]);
  etcd.resume();
  await leader.stop();
  const next = new Candidate(60_000);
  await next.elected();
  // However late: what the first term began is void.
  expect([...next.term!.fence.values()]).not.toEqual([...term!.fence.values()]);
  const { ingester: again } = await written.open(next);
  again.put(object('s', 'b'));
  await written.until('all written', () => written.objects > 0);
  expect((await standing(next.client)).get('s')?.text).toBe('b');
});

test('many objects are written together, each as it was put last', async () => {
  const leader = new Candidate(60_000);
  await leader.elected();
  const written = new Written();
  const { ingester } = await written.open(leader);
  for (const text of ['a', 'b', 'c']) {
    for (let index = 0; index < 1_500; index++) ingester.put(object(`s${index}`, text));
    await Promise.resolve();
  }
  for (let index = 0; index < 500; index++) ingester.remove(object(`s${index}`, '').ref);
  const texts = () => [...leader.view.objects.values()].map(({ record }) => (record.manifest as { text: string }).text);
  await leader.until('all of it', () => texts().length === 1_000 && texts().every((text) => text === 'c'));
});

test('an object too large for etcd is refused alone', async () => {
  const leader = new Candidate(60_000);
  await leader.elected();
  const written = new Written();
  const { ingester } = await written.open(leader);
  ingester.put(object('s', 'x'.repeat(1_300_000)));
  ingester.put(object('t', 'x'.repeat(1_100_000)));
  await written.until('the other', () => written.objects === 1);
  expect(written.refused).toEqual([expect.stringContaining('too large')]);
  expect([...(await standing(leader.client)).keys()]).toEqual(['t']);
});
