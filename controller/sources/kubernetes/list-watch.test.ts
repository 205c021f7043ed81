import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { Condition } from '../../../test/lab/condition.js';
import { KubernetesApi } from '../../../test/lab/kubernetes-api.js';
import { systemClock } from '../../clock.js';
import { ApiClient } from './api-client.js';
import { ListWatch, type ListWatchState, type ListWatchTimes } from './list-watch.js';

let api: KubernetesApi;
const closing: (() => Promise<void>)[] = [];

beforeEach(async () => {
  api = await KubernetesApi.start();
});

afterEach(async () => {
  for (const close of closing.splice(0)) await close();
  await api.stop();
});

const SERVICES = 'v1/services';
const named = (name: string, labels = {}) => ({ metadata: { name, namespace: 'shop', labels }, spec: {} });

/** What a ListWatch has told, as one who keeps it would have it. */
class Copy extends Condition {
  readonly names = new Set<string>();
  readonly told: string[] = [];
  readonly states: ListWatchState[] = [];
  lists = 0;

  constructor(server: KubernetesApi, times: Partial<ListWatchTimes> = {}) {
    super();
    const client = new ApiClient({
      server: server.url,
      serverName: null,
      isVerified: true,
      credentials: () => ({ ca: null, cert: null, key: null, token: null }),
    });
    const stop = new AbortController();
    const tell = (what: string): void => {
      this.told.push(what);
      this.changed();
    };
    const listWatch = new ListWatch({
      client,
      path: '/api/v1/services',
      fieldSelector: '',
      clock: systemClock,
      random: () => 0.5,
      times: { firstRetryMs: 5, lastRetryMs: 20, ...times },
      sink: {
        present: ({ metadata: { name } }) => {
          this.names.add(name);
          tell(`+${name}`);
        },
        absent: ({ name }) => {
          this.names.delete(name);
          tell(`-${name}`);
        },
        listed: (has) => {
          for (const name of [...this.names]) if (!has({ namespace: 'shop', name })) this.names.delete(name);
          this.lists++;
          tell('listed');
        },
        state: (state) => {
          this.states.push(state);
          tell(state.kind);
        },
      },
    });
    const running = listWatch.run(stop.signal);
    closing.push(async () => {
      stop.abort();
      await running;
      client.close();
    });
  }

  has(...names: string[]): Promise<void> {
    return this.until(`${names} (told: ${this.told})`, () => [...this.names].sort().join() === names.sort().join());
  }

  listed(times: number): Promise<void> {
    return this.until(`list ${times}`, () => this.lists === times);
  }
}

test('what is there, and what comes, changes and goes is told in order', async () => {
  api.put(SERVICES, named('a'));
  const copy = new Copy(api);
  await copy.listed(1);
  api.put(SERVICES, named('b'));
  await copy.has('a', 'b');
  api.put(SERVICES, named('b', { x: 'y' }));
  api.delete(SERVICES, 'shop/a');
  await copy.has('b');
  expect(copy.told.filter((what) => what !== 'up')).toEqual(['+a', 'listed', '+b', '+b', '-a']);
});

test('a long list is read in pages of one snapshot', async () => {
  const names = Array.from({ length: 1_234 }, (_, index) => `s${index}`);
  for (const name of names) api.put(SERVICES, named(name));
  const copy = new Copy(api);
  await copy.listed(1);
  await copy.has(...names);
  expect(api.requests.filter(({ query }) => query.has('limit'))).toHaveLength(3);
});

test('a list whose pages expire is begun again', async () => {
  for (let index = 0; index < 600; index++) api.put(SERVICES, named(`s${index}`));
  const copy = new Copy(api);
  await copy.until('the first page', () => copy.names.size >= 500);
  api.compact();
  api.delete(SERVICES, 'shop/s0');
  await copy.listed(1);
  expect(copy.names.size).toBe(599);
});

test('a cut watch goes on where it was, and lists nothing again', async () => {
  api.put(SERVICES, named('a'));
  const copy = new Copy(api);
  await copy.listed(1);
  await api.until('a watch', () => api.openWatches > 0);
  api.cut();
  api.put(SERVICES, named('b'));
  await copy.has('a', 'b');
  expect(copy.lists).toBe(1);
});

test('a watch that the server ends is opened again', async () => {
  const copy = new Copy(api);
  await copy.listed(1);
  await api.until('a watch', () => api.openWatches > 0);
  api.endWatches();
  api.put(SERVICES, named('a'));
  await copy.has('a');
  expect(copy.lists).toBe(1);
  expect(copy.states).toEqual([{ kind: 'up' }]);
});

test.each(['event', 'status'] as const)('a forgotten history (410 as %s) is a new list, and what vanished unseen is told', async (as) => {
  api.put(SERVICES, named('a'));
  api.put(SERVICES, named('b'));
  const copy = new Copy(api);
  await copy.has('a', 'b');
  await api.until('a watch', () => api.openWatches > 0);
  api.freeze();
  api.cut();
  api.delete(SERVICES, 'shop/a');
  api.put(SERVICES, named('c'));
  api.compact(as);
  api.thaw();
  await copy.has('b', 'c');
  expect(copy.lists).toBe(2);
});

test('bookmarks keep a quiet watch from becoming too old', async () => {
  api.put(SERVICES, named('a'));
  const copy = new Copy(api);
  await copy.listed(1);
  await api.until('a watch', () => api.openWatches > 0);
  for (let change = 0; change < 10; change++) api.put('v1/nodes', { metadata: { name: 'n' } });
  api.sendBookmarks();
  api.compact();
  // In order with the bookmark, so that it has been read.
  api.put(SERVICES, named('b'));
  await copy.has('a', 'b');
  api.endWatches();
  api.put(SERVICES, named('c'));
  await copy.has('a', 'b', 'c');
  expect(copy.lists).toBe(1);
});

test('a server that says nothing is left, and asked again', async () => {
  const copy = new Copy(api, { watchMs: 100, graceMs: 100 });
  await copy.listed(1);
  await api.until('a watch', () => api.openWatches > 0);
  api.freeze();
  await api.until('another watch', () => api.requests.filter(({ query }) => query.has('watch')).length > 1);
  api.thaw();
  api.put(SERVICES, named('a'));
  await copy.has('a');
});

test('a refusal is told once with its reason, and its end', async () => {
  api.deny(SERVICES);
  const copy = new Copy(api);
  await copy.until('the refusal', () => copy.states.length === 1);
  expect(copy.states[0]).toMatchObject({ kind: 'down', status: 403, reason: expect.stringContaining('services is forbidden') });
  await api.until('more tries', () => api.requests.length > 2);
  api.allow(SERVICES);
  await copy.until('the list', () => copy.states.length === 2);
  expect(copy.states.map(({ kind }) => kind)).toEqual(['down', 'up']);
});

test('Retry-After is honoured', async () => {
  api.fail(1, 429, { 'retry-after': '1' });
  const startedMs = performance.now();
  const copy = new Copy(api);
  await copy.listed(1);
  expect(performance.now() - startedMs).toBeGreaterThan(990);
});

test('a list that is old is made anew when its watch ends, and tells what nobody did', async () => {
  const copy = new Copy(api, { relistMs: 0 });
  await copy.listed(1);
  await api.until('a watch', () => api.openWatches > 0);
  api.endWatches();
  await copy.listed(2);
});

test.each([400, 504])('a watch that is refused with %i is begun with a list', async (code) => {
  const copy = new Copy(api);
  await copy.listed(1);
  await api.until('a watch', () => api.openWatches > 0);
  api.fail(1, code);
  api.endWatches();
  await copy.listed(2);
});

/** A small generator of its own, so that a failure can be repeated (mulberry32). */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

test.each([1, 2, 3, 4])(
  'whatever happens to server and connections, the copy is in the end what the server has (seed %i)',
  async (seed) => {
    const random = randomOf(seed);
    const draw = (limit: number): number => Math.floor(random() * limit);
    const have = new Set<string>();
    const copy = new Copy(api, { graceMs: 50, watchMs: 100 });
    const trouble = [
      () => api.cut(),
      () => api.compact(random() < 0.5 ? 'event' : 'status'),
      () => api.endWatches(),
      () => api.sendBookmarks(),
      () => api.fail(1 + draw(3), [410, 429, 500, 503, 504][draw(5)]!),
      () => api.freeze(),
      () => api.thaw(),
    ];
    for (let step = 0; step < 400; step++) {
      const name = `s${draw(40)}`;
      if (random() < 0.3 && have.delete(name)) api.delete(SERVICES, `shop/${name}`);
      else if (random() < 0.8) {
        have.add(name);
        api.put(SERVICES, named(name, { step: String(step) }));
      } else trouble[draw(trouble.length)]?.();
      // Lets requests come and go between the steps.
      if (step % 5 === 0) await new Promise((resolve) => setTimeout(resolve, draw(3)));
    }
    api.thaw();
    api.put(SERVICES, named('last'));
    await copy.has(...have, 'last');
  },
);
