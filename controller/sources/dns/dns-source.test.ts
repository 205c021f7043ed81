// With a real resolver and a real DNS server; the clock is ours.
import { afterEach, expect, test } from '@jest/globals';
import type { ResolvedName } from '../../../api/compile/index.js';
import { Condition } from '../../../test/lab/condition.js';
import { startDns, type TestDns } from '../../../test/lab/dns-server.js';
import { ManualClock } from '../../testing/manual-clock.js';
import type { Ingest } from '../ingester.js';
import { DnsSource, MAX_NAMES } from './dns-source.js';
import { dnsLookup, type Lookup } from './lookup.js';

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

class Lab extends Condition implements Ingest {
  readonly clock = new ManualClock();
  readonly stored = new Map<string, ResolvedName>();
  readonly told: string[] = [];
  names: ReadonlySet<string> = new Set();
  puts = 0;
  #watcher = (): void => {};
  readonly end = new AbortController();

  start(lookup: Lookup, known: Record<string, ResolvedName> = {}): void {
    for (const [name, resolved] of Object.entries(known)) this.stored.set(name, resolved);
    const source = new DnsSource({
      lookup,
      names: () => this.names,
      onNames: (watcher) => {
        this.#watcher = watcher;
        return () => {};
      },
      known: (name) => this.stored.get(name),
      ingest: this,
      clock: this.clock,
      random: () => 1,
      observe: {
        failing: (name, reason) => this.told.push(`${name} ${reason}`),
        asked: () => {},
        tooMany: (names) => this.told.push(`${names} names`),
      },
    });
    const done = source.run(this.end.signal);
    cleanups.push(() => {
      this.end.abort();
      return done;
    });
  }

  want(...names: string[]): void {
    this.names = new Set(names);
    this.#watcher();
  }

  put({ ref, manifest }: Parameters<Ingest['put']>[0]): void {
    this.stored.set(ref.name, manifest as ResolvedName);
    this.puts++;
    this.changed();
  }

  remove(): void {}

  settle(_: string, present: (ref: { kind: string; namespace: string; name: string }) => boolean): void {
    for (const name of [...this.stored.keys()]) if (!present({ kind: '', namespace: '', name })) this.stored.delete(name);
    this.changed();
  }

  async resolved(name: string, wanted: ResolvedName): Promise<void> {
    const text = JSON.stringify(wanted);
    await this.until(`${name} as ${text}`, () => JSON.stringify(this.stored.get(name)) === text);
  }
}

async function withDns(): Promise<{ dns: TestDns; lab: Lab }> {
  const dns = await startDns();
  cleanups.push(() => dns.stop());
  return { dns, lab: new Lab() };
}

const good = (...addresses: string[]): ResolvedName => ({ addresses, error: '' });

test('both families are asked for, and again when their time to live is over, within bounds', async () => {
  const { dns, lab } = await withDns();
  dns.records.set('a.example.com', { addresses: ['192.0.2.2', '192.0.2.1', '2001:db8::1'], ttl: 30 });
  dns.records.set('short.example.com', { addresses: ['192.0.2.3'], ttl: 0 });
  dns.records.set('long.example.com', { addresses: ['192.0.2.4'], ttl: 86_400 });
  lab.names = new Set(['a.example.com', 'short.example.com', 'long.example.com']);
  lab.start(dnsLookup([dns.address], lab.end.signal));
  await lab.resolved('a.example.com', good('192.0.2.1', '192.0.2.2', '2001:db8::1'));
  await lab.until('the others', () => lab.puts === 3);
  const asked = (name: string): number => dns.questions.filter((each) => each === `${name} A`).length;

  dns.records.set('a.example.com', { addresses: ['192.0.2.9'], ttl: 30 });
  lab.clock.advance(4_999);
  lab.clock.advance(1);
  await lab.until('the short one again', () => lab.puts === 4);
  expect([asked('a.example.com'), asked('short.example.com'), asked('long.example.com')]).toEqual([1, 2, 1]);
  lab.clock.advance(25_000);
  await lab.resolved('a.example.com', good('192.0.2.9'));
  expect(asked('long.example.com')).toBe(1);
  lab.clock.advance(270_000);
  await lab.until('the long one again', () => asked('long.example.com') === 2);
});

test('what was once resolved stays while the DNS fails or knows the name no more; it is asked again, less and less often', async () => {
  const { dns, lab } = await withDns();
  dns.records.set('a.example.com', { addresses: ['192.0.2.1'], ttl: 10 });
  lab.names = new Set(['a.example.com']);
  lab.start(dnsLookup([dns.address], lab.end.signal));
  await lab.resolved('a.example.com', good('192.0.2.1'));
  dns.records.set('a.example.com', { code: 2 });
  lab.clock.advance(10_000);
  await lab.resolved('a.example.com', { addresses: ['192.0.2.1'], error: 'SERVFAIL' });
  dns.records.delete('a.example.com');
  lab.clock.advance(5_000);
  await lab.resolved('a.example.com', { addresses: ['192.0.2.1'], error: 'NXDOMAIN: there is no such name' });
  dns.records.set('a.example.com', { addresses: ['192.0.2.2'], ttl: 10 });
  lab.clock.advance(9_999);
  lab.clock.advance(1);
  await lab.resolved('a.example.com', good('192.0.2.2'));
  expect(lab.told).toEqual(['a.example.com SERVFAIL', 'a.example.com null']);
});

test('of a family that fails the last addresses stay; of one that has none there are none', async () => {
  const { dns, lab } = await withDns();
  lab.names = new Set(['half.example.com', 'v4.example.com']);
  dns.records.set('half.example.com', { a: { addresses: ['192.0.2.2'], ttl: 10 }, aaaa: { code: 2 } });
  dns.records.set('v4.example.com', { a: { addresses: ['192.0.2.3'] }, aaaa: {} });
  const before = good('192.0.2.1', '2001:db8::1');
  lab.start(dnsLookup([dns.address], lab.end.signal), { 'half.example.com': before, 'v4.example.com': before });
  await lab.resolved('half.example.com', { addresses: ['192.0.2.2', '2001:db8::1'], error: 'SERVFAIL' });
  await lab.resolved('v4.example.com', good('192.0.2.3'));
});

test('a new name is asked for at once, one that nobody goes by any more is forgotten', async () => {
  const { dns, lab } = await withDns();
  dns.records.set('a.example.com', { addresses: ['192.0.2.1'] });
  dns.records.set('b.example.com', { addresses: ['192.0.2.2'] });
  lab.names = new Set(['a.example.com']);
  // Of an earlier term, by whoever led it.
  lab.start(dnsLookup([dns.address], lab.end.signal), { 'old.example.com': good('192.0.2.9') });
  await lab.resolved('a.example.com', good('192.0.2.1'));
  expect([...lab.stored.keys()]).toEqual(['a.example.com']);
  lab.want('b.example.com');
  await lab.resolved('b.example.com', good('192.0.2.2'));
  expect([...lab.stored.keys()]).toEqual(['b.example.com']);
});

test('few questions are under way at a time, of no more names than the bound; a server that is silent holds up nobody else for good', async () => {
  const lab = new Lab();
  let underWay = 0;
  let most = 0;
  const answers: (() => void)[] = [];
  lab.names = new Set(Array.from({ length: MAX_NAMES + 5 }, (_, index) => `n${index}.example.com`));
  lab.start(async () => {
    most = Math.max(most, ++underWay);
    await new Promise<void>((resolve) => {
      answers.push(resolve);
      lab.changed();
    });
    underWay--;
    return [
      { kind: 'failed', reason: 'no answer in time' },
      { kind: 'none', reason: '' },
    ];
  });
  expect(most).toBe(32);
  expect(lab.told).toEqual([`${MAX_NAMES + 5} names`]);
  for (let round = 0; round < 10; round++) {
    const asked = lab.puts;
    for (const answer of answers.splice(0)) answer();
    await lab.until('a round', () => lab.puts === asked + 32 && answers.length === 32);
  }
  expect(most).toBe(32);
});

test('a silent server does not hold up the end', async () => {
  const { dns } = await withDns();
  dns.records.set('a.example.com', { code: 'silent' });
  const end = new AbortController();
  const asked = dnsLookup([dns.address], end.signal)('a.example.com');
  const startedMs = performance.now();
  end.abort();
  expect((await asked).map(({ kind }) => kind)).toEqual(['failed', 'failed']);
  expect(performance.now() - startedMs).toBeLessThan(1_000);
});
