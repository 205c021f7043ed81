import { describe, expect, test } from '@jest/globals';
import { EndpointHealth, Failover, type LoadBalancing, LoadBalancing_Algorithm } from '../../api/gen/mesh/v1/model.js';
import { DecisionFlag } from '../native/engine.js';
import { Patterns } from './patterns.js';
import type { Generation } from './tables/compile.js';
import { DecisionTables } from './tables/decision-tables.js';
import { CLUSTER_WORDS, ClusterWord } from './tables/layout.js';
import type { OwnPlace } from './tables/localities.js';
import { backend, compiled, endpoint, modelOf, newIds, route, service, toService } from './testing/models.js';
import { TestProxy, type TestRequest } from './testing/requests.js';
import { chiSquareRatio, randoms } from './testing/statistics.js';

const { LEAST_REQUEST, MAGLEV, PEAK_EWMA, RANDOM, RING_HASH, ROUND_ROBIN } = LoadBalancing_Algorithm;
const request: TestRequest = { listener: 0, destination: ['10.0.0.1', 80], source: '10.1.0.9' };
const HERE: OwnPlace = { region: 'eu', zone: 'a', node: 'n1' };
const ALL = 0xffff_ffff;
/** A threshold that is never crossed: nothing but the balancers' own tables is different. */
const BALANCED = { panicPercent: 1 };

type Setting = Parameters<typeof LoadBalancing.fromPartial>[0];
type EndpointFields = Parameters<typeof endpoint>[3];

const addressOf = (index: number): string => `10.1.0.${index + 1}`;

function tablesOf(
  setting: Setting,
  endpoints: readonly EndpointFields[],
  { ids = newIds(), generation = 1, place = HERE }: { ids?: ReturnType<typeof newIds>; generation?: number; place?: OwnPlace } = {},
): Generation {
  const resources = endpoints.flatMap((fields, index) =>
    fields === undefined ? [] : [endpoint('s', `e${String(index).padStart(3, '0')}`, addressOf(index), fields)],
  );
  const model = modelOf(service('s', '10.0.0.1', { policies: [{ policy: { loadBalancing: setting } }] }), ...resources);
  return compiled(model, 'n1', generation, ids, place);
}

const equal = (count: number): EndpointFields[] => new Array<EndpointFields>(count).fill({});
const weighted = (...weights: number[]): EndpointFields[] => weights.map((weight) => ({ weight }));
const idOf = (tables: Generation, index: number): number =>
  tables.spec.endpoints.find(({ address }) => address === addressOf(index))?.id ?? -9;

interface Drive {
  readonly requests: number;
  readonly seed: number;
  readonly finish?: boolean;
  readonly of?: (index: number) => Partial<TestRequest>;
}

/** How many requests each endpoint got; the last count is of those that none took. */
function counts(
  proxy: TestProxy,
  tables: Generation,
  endpoints: number,
  { requests, seed, finish = true, of = () => ({}) }: Drive,
): number[] {
  const random = randoms(seed);
  const indexById = new Map(Array.from({ length: endpoints }, (_, index) => [idOf(tables, index), index]));
  const found = new Array<number>(endpoints + 1).fill(0);
  for (let i = 0; i < requests; i++) {
    const decision = proxy.decide({ ...request, random: random(), ...of(i) });
    found[indexById.get(decision.target) ?? endpoints]! += 1;
    if (finish) proxy.complete(decision, 200, 0, 1000, 0, 0);
  }
  return found;
}

const share = (setting: Setting, endpoints: readonly EndpointFields[], drive: Drive): number[] => {
  const tables = tablesOf(setting, endpoints);
  return counts(new TestProxy(tables), tables, endpoints.length, drive).slice(0, -1);
};

describe('by weight and load', () => {
  test('random follows capacities, W = R / ΣR (chi-square, p = 0.001)', () => {
    expect(
      chiSquareRatio(share({ algorithm: RANDOM, ...BALANCED }, weighted(5, 1, 2, 2), { requests: 5_000, seed: 1 }), [5, 1, 2, 2]),
    ).toBeLessThan(1);
  });

  test('the test of fit tells shares that are a quarter off', () => {
    expect(
      chiSquareRatio(share({ algorithm: RANDOM, ...BALANCED }, weighted(5, 1, 2, 2), { requests: 5_000, seed: 1 }), [5, 1, 2, 2.5]),
    ).toBeGreaterThan(1);
  });

  test('round robin is exact, even and weighted', () => {
    expect(share({ algorithm: ROUND_ROBIN, ...BALANCED }, equal(3), { requests: 300, seed: 1 })).toEqual([100, 100, 100]);
    expect(share({ algorithm: ROUND_ROBIN, ...BALANCED }, weighted(5, 1, 2), { requests: 80, seed: 1 })).toEqual([50, 10, 20]);
  });

  test.each([
    ['two choices', { choices: 2 }, 14],
    ['five choices', { choices: 5 }, 6],
    ['all of them', { choices: ALL }, 1],
  ] as const)('least request by %s keeps unfinished work even', (_, setting, spread) => {
    const found = share({ algorithm: LEAST_REQUEST, ...setting }, equal(20), { requests: 1_000, seed: 5, finish: false });
    expect(Math.max(...found) - Math.min(...found)).toBeLessThanOrEqual(spread);
  });

  test.each([
    ['all of a few', {}, [3, 1]],
    ['all of a few, by a policy', BALANCED, [5, 1, 2]],
    ['all of many', { choices: ALL }, [...new Array<number>(10).fill(1), ...new Array<number>(10).fill(4)]],
    ['two of many', {}, [...new Array<number>(10).fill(1), ...new Array<number>(10).fill(4)]],
    ['two of many, by a policy', BALANCED, [...new Array<number>(10).fill(1), ...new Array<number>(10).fill(4)]],
    ['five of many', { choices: 5 }, [...new Array<number>(10).fill(1), ...new Array<number>(10).fill(4)]],
  ])('least request among endpoints at rest follows weights: %s', (_, setting, weights) => {
    const found = share({ algorithm: LEAST_REQUEST, ...setting }, weighted(...weights), { requests: 5_000, seed: 5 });
    expect(chiSquareRatio(found, weights)).toBeLessThan(1);
  });

  test('least request gives unfinished work in proportion to weights', () => {
    expect(share({ algorithm: LEAST_REQUEST, choices: ALL }, weighted(1, 1, 2), { requests: 40, seed: 5, finish: false })).toEqual([
      10, 10, 20,
    ]);
  });
});

describe('peak EWMA', () => {
  /** Endpoints of given latencies, requests at a given pace: latencies as clients saw them, and each endpoint's share. */
  function simulate(setting: Setting, latenciesUs: readonly number[], requests: number, everyUs: number) {
    const tables = tablesOf(setting, equal(latenciesUs.length));
    const proxy = new TestProxy(tables);
    for (let index = 0; index < latenciesUs.length; index++) proxy.states.decayUs[idOf(tables, index)] = 10_000_000;
    const indexById = new Map(latenciesUs.map((_, index) => [idOf(tables, index), index]));
    const pending: { readonly at: number; readonly us: number; readonly decision: ReturnType<TestProxy['decide']> }[] = [];
    const random = randoms(3);
    const seen: number[] = [];
    const share = new Array<number>(latenciesUs.length).fill(0);
    for (let i = 0; i < requests; i++) {
      const now = i * everyUs;
      pending.sort((a, b) => a.at - b.at);
      while (pending.length > 0 && pending[0]!.at <= now) {
        const { at, us, decision } = pending.shift()!;
        proxy.nowUs = at;
        proxy.complete(decision, 200, 0, us, 0, 0);
      }
      proxy.nowUs = now;
      const decision = proxy.decide({ ...request, random: random() });
      const index = indexById.get(decision.target)!;
      share[index]! += 1;
      const us = latenciesUs[index]! * (0.8 + (0.4 * (random() % 1000)) / 1000);
      seen.push(us);
      pending.push({ at: now + us, us, decision });
    }
    return { p99: seen.sort((a, b) => a - b)[Math.floor(requests * 0.99)]!, share };
  }

  test.each([3, 20])('with one of %i endpoints at twenty times the latency the p99 stays below twice the healthy one', (count) => {
    const latencies = [...new Array<number>(count - 1).fill(5_000), 100_000];
    expect(simulate({ algorithm: PEAK_EWMA }, latencies, 4_000, 1_000).p99).toBeLessThan(2 * 6_000);
    // What it would be otherwise, even by least request.
    expect(simulate({ algorithm: LEAST_REQUEST }, latencies.slice(0, 3).with(2, 100_000), 4_000, 1_000).p99).toBeGreaterThan(2 * 6_000);
  });

  test('endpoints that are alike are used alike', () => {
    const { share: found } = simulate({ algorithm: PEAK_EWMA }, [5_000, 5_000, 5_000, 5_000], 2_000, 1_000);
    for (const count of found) expect(count).toBeGreaterThan(250);
  });

  test('a peak counts at once, and is forgotten by the time that passes', () => {
    const { states } = new TestProxy(tablesOf({ algorithm: PEAK_EWMA }, equal(1)));
    states.decayUs[0] = 1_000_000;
    states.observe(0, 1_000, 0, 0);
    states.observe(0, 50_000, 0, 1_000);
    expect(states.ewmaUs[0]).toBe(50_000);
    states.observe(0, 1_000, 0, 1_001_000);
    expect(states.ewmaUs[0]).toBeCloseTo(50_000 / Math.E + 1_000 * (1 - 1 / Math.E), 0);
  });

  test('an endpoint that fails at once is not taken for a fast one', () => {
    const { states } = new TestProxy(tablesOf({ algorithm: PEAK_EWMA }, equal(1)));
    states.decayUs[0] = 1_000_000;
    states.observe(0, -1, 100, 0);
    expect(states.ewmaUs[0]).toBe(1_000_000);
  });
});

describe.each([
  ['ring', RING_HASH],
  ['Maglev', MAGLEV],
] as const)('hash by %s', (_, algorithm) => {
  const byHeader: Setting = { algorithm, hash: { key: { $case: 'header', value: 'x-user' } } };
  const KEYS = 2_000;
  const user = (index: number) => ({ headers: { 'x-user': `user-${index}` } });

  function owners(endpoints: readonly EndpointFields[], setting: Setting = byHeader): number[] {
    const tables = tablesOf(setting, endpoints);
    const proxy = new TestProxy(tables);
    const byId = new Map(endpoints.map((_fields, index) => [idOf(tables, index), index]));
    return Array.from({ length: KEYS }, (_unused, key) => byId.get(proxy.decide({ ...request, ...user(key), random: key }).target)!);
  }
  const moved = (before: readonly number[], after: readonly number[]): number =>
    before.filter((owner, key) => owner !== after[key]).length / KEYS;

  test('a key has one endpoint, whatever else changes', () => {
    expect(owners(equal(10))).toEqual(owners(equal(10)));
  });

  test.each([2, 3, 10, 50])('when one of %i goes, or comes, at most 1/n of the keys and 5 % more move', (n) => {
    const all = owners(equal(n));
    const without = owners(equal(n).map((fields, index) => (index === n >> 1 ? undefined : fields)));
    expect(moved(all, without)).toBeLessThanOrEqual(1 / n + 0.05);
    // And of those that stay nearly none, but as Maglev has it.
    const needlessly = all.filter((owner, key) => owner !== n >> 1 && owner !== without[key]).length / KEYS;
    expect(needlessly).toBeLessThanOrEqual(algorithm === RING_HASH ? 0 : 0.05);
  });

  test('shares follow weights', () => {
    const found = owners(weighted(1, 2, 1));
    const of = (index: number): number => found.filter((owner) => owner === index).length / KEYS;
    expect(of(0)).toBeCloseTo(0.25, 1);
    expect(of(1)).toBeCloseTo(0.5, 1);
    expect(of(2)).toBeCloseTo(0.25, 1);
  });

  test('requests without the key go anywhere, each endpoint has its share of them', () => {
    const keyed = owners(equal(5));
    const shares = [0, 1, 2, 3, 4].map((index) => keyed.filter((owner) => owner === index).length);
    const free = share(byHeader, equal(5), { requests: 5_000, seed: 8 });
    expect(Math.min(...free)).toBeGreaterThan(500);
    for (const [index, count] of free.entries()) expect(Math.abs(count / 5_000 - shares[index]! / KEYS)).toBeLessThan(0.05);
  });

  describe('an endpoint that takes no work', () => {
    const drive = (failover: Failover) => {
      const tables = tablesOf({ ...byHeader, failover }, equal(10));
      const proxy = new TestProxy(tables);
      const targets = () =>
        Array.from({ length: 500 }, (_unused, key) => proxy.decide({ ...request, ...user(key), random: (key * 7919) & 0x7fffffff }).target);
      const before = targets();
      proxy.outstanding.fill(0);
      proxy.states.setUnavailable(idOf(tables, 4), true);
      const after = targets();
      proxy.states.setUnavailable(idOf(tables, 4), false);
      const lost = before.flatMap((target, key) => (target === idOf(tables, 4) ? [key] : []));
      const stayed = before.every((target, key) => target === idOf(tables, 4) || target === after[key]);
      return { before, after, lost, stayed, again: targets(), isGone: !after.includes(idOf(tables, 4)) };
    };

    test('moves none but its own keys, and they come back', () => {
      const { before, stayed, again, isGone } = drive(Failover.CONSISTENT);
      expect([stayed, isGone]).toEqual([true, true]);
      expect(again).toEqual(before);
    });

    test('consistent: a key goes to one other each time, its keys to all others', () => {
      const first = drive(Failover.CONSISTENT);
      expect(drive(Failover.CONSISTENT).after).toEqual(first.after);
      expect(new Set(first.lost.map((key) => first.after[key])).size).toBeGreaterThan(5);
    });

    test('random and dynamic: to any other; dynamic: to those with the least load', () => {
      expect(drive(Failover.RANDOM)).toMatchObject({ stayed: true, isGone: true });
      const { stayed, isGone, lost, after } = drive(Failover.DYNAMIC);
      expect([stayed, isGone]).toEqual([true, true]);
      expect(new Set(lost.map((key) => after[key])).size).toBeGreaterThan(1);
    });

    test('fail-fast: they are answered 503', () => {
      const { lost, after, stayed } = drive(Failover.FAIL_FAST);
      expect(stayed).toBe(true);
      expect(new Set(lost.map((key) => after[key]))).toEqual(new Set([-503]));
    });
  });

  test('a retry goes to another endpoint, the same one for the same key', () => {
    const tables = tablesOf(byHeader, equal(5));
    const proxy = new TestProxy(tables);
    for (let key = 0; key < 100; key++) {
      const first = proxy.decide({ ...request, ...user(key), random: key }).target;
      const retry = (random: number) => proxy.decide({ ...request, ...user(key), random, attempt: 1, previous: first }).target;
      expect(retry(1)).not.toBe(first);
      expect(retry(2)).toBe(retry(1));
    }
  });

  test.each([
    ['query parameter', { $case: 'query', value: 'session' }, (key: string) => ({ query: { session: key } })],
    ['path', { $case: 'path', value: true }, (key: string) => ({ path: `/${key}` })],
    ['cookie', { $case: 'cookie', value: { name: 'sid' } }, (key: string) => ({ headers: { cookie: `a=1; sid=${key}; sid2=x` } })],
    [
      'cookie, joined by commas',
      { $case: 'cookie', value: { name: 'sid' } },
      (key: string) => ({ headers: { cookie: `asid=1, sid=${key}` } }),
    ],
  ] as const)('tells requests apart by %s', (__, key, of) => {
    const proxy = new TestProxy(tablesOf({ algorithm, hash: { key } } as Setting, equal(10)));
    const target = (value: string, random: number): number => proxy.decide({ ...request, ...of(value), random }).target;
    const found = Array.from({ length: 50 }, (_unused, index) => target(`k${index}`, index));
    expect(Array.from({ length: 50 }, (_unused, index) => target(`k${index}`, index + 1_000))).toEqual(found);
    expect(new Set(found).size).toBe(10);
  });
});

describe('keys that clients do not choose', () => {
  const given = (cookie: object): Setting =>
    ({ algorithm: MAGLEV, hash: { key: { $case: 'cookie', value: { name: 'sid', ...cookie } } } }) as Setting;

  test('who has no cookie is given one that leads where the request went, whatever else it says', () => {
    const proxy = new TestProxy(
      tablesOf(given({ ttlSeconds: 3600, path: '/shop', attributes: [{ name: 'SameSite', value: 'Lax' }, { name: 'Secure' }] }), equal(10)),
    );
    const random = randoms(6);
    const values = new Set<string>();
    for (let i = 0; i < 100; i++) {
      const { target, answerLines } = proxy.decide({ ...request, random: random() });
      const [, value = ''] =
        /^set-cookie: sid=([0-9a-f]{16}); Max-Age=3600; Path=\/shop; HttpOnly; SameSite=Lax; Secure\r\n$/.exec(answerLines) ?? [];
      expect(value).not.toBe('');
      values.add(value);
      const again = proxy.decide({ ...request, headers: { cookie: `a=b; sid=${value}` }, random: random() });
      expect([again.target, again.answerLines]).toEqual([target, '']);
    }
    expect(values.size).toBe(100);
  });

  test('a session cookie has no Max-Age; without a lifetime none is given', () => {
    expect(new TestProxy(tablesOf(given({ ttlSeconds: 0 }), equal(3))).decide(request).answerLines).toMatch(
      /^set-cookie: sid=[0-9a-f]{16}; HttpOnly\r\n$/,
    );
    expect(new TestProxy(tablesOf(given({}), equal(3))).decide(request).answerLines).toBe('');
  });

  test('a client has one endpoint by its address, for requests and for bytes', () => {
    const proxy = new TestProxy(tablesOf({ algorithm: RING_HASH, hash: { key: { $case: 'sourceAddress', value: true } } }, equal(10)));
    const of = (source: string, random: number, opaque = false): number => proxy.decide({ ...request, source, random, opaque }).target;
    const clients = Array.from({ length: 50 }, (_, index) => `10.2.0.${index}`);
    const found = clients.map((client, index) => of(client, index));
    expect(clients.map((client, index) => of(client, index + 99, true))).toEqual(found);
    expect(new Set(found).size).toBeGreaterThan(7);
  });
});

describe('locality', () => {
  const at = (region: string, zone: string, fields: EndpointFields = {}): EndpointFields => ({ region, zone, ...fields });
  const places = [at('eu', 'a'), at('eu', 'a'), at('eu', 'b'), at('eu', 'b'), at('us', 'a'), at('asia', 'a')];
  const failing: EndpointFields = {
    health: EndpointHealth.UNHEALTHY,
    check: { failing: true, sourceHealth: EndpointHealth.READY, node: 'n1', detail: 'refused' },
  };
  const near: Setting = { algorithm: RANDOM, locality: {} };

  function sharesWithout(setting: Setting, endpoints: readonly EndpointFields[], gone: readonly number[]): number[] {
    const tables = tablesOf(setting, endpoints);
    const proxy = new TestProxy(tables);
    for (const index of gone) proxy.states.setUnavailable(idOf(tables, index), true);
    return counts(proxy, tables, endpoints.length, { requests: 2_000, seed: 2 }).map((count) => count / 2_000);
  }

  test('its own zone first, then its region, then what it is told, then all others', () => {
    const setting: Setting = { ...near, locality: { failovers: [{ from: 'eu', to: 'us' }] } };
    expect(sharesWithout(setting, places, [])).toEqual([expect.closeTo(0.5, 1), expect.closeTo(0.5, 1), 0, 0, 0, 0, 0]);
    expect(sharesWithout(setting, places, [0, 1])).toEqual([0, 0, expect.closeTo(0.5, 1), expect.closeTo(0.5, 1), 0, 0, 0]);
    expect(sharesWithout(setting, places, [0, 1, 2, 3])[4]).toBe(1);
    expect(sharesWithout(setting, places, [0, 1, 2, 3, 4])[5]).toBe(1);
    expect(sharesWithout(setting, places, [0, 1, 2, 3, 4, 5])[6]).toBe(1);
  });

  test('a zone of which half is gone keeps 70 % of its load (chi-square, p = 0.001)', () => {
    const found = sharesWithout(near, places, [1]);
    expect(chiSquareRatio([found[0]! * 2_000, found[2]! * 2_000, found[3]! * 2_000], [70, 15, 15])).toBeLessThan(1);
  });

  test('by labels, the first the most important', () => {
    const setting: Setting = { ...near, locality: { priorityLabels: ['topology.kubernetes.io/region', 'version=v2'] } };
    const labelled = [
      at('eu', 'b', { labels: { version: 'v1' } }),
      at('eu', 'c', { labels: { version: 'v2' } }),
      at('us', 'a', { labels: { version: 'v2' } }),
    ];
    expect(sharesWithout(setting, labelled, [])[1]).toBe(1);
    expect(sharesWithout(setting, labelled, [1])[0]).toBe(1);
    expect(sharesWithout(setting, labelled, [0, 1])[2]).toBe(1);
  });

  test('a node that knows its zone alone prefers it; one that knows nothing prefers nothing', () => {
    const zones = [at('', 'a'), at('', 'b')];
    const setting: Setting = { ...near, locality: { priorityLabels: ['topology.kubernetes.io/region', 'topology.kubernetes.io/zone'] } };
    const from = (place: OwnPlace): number[] => {
      const tables = tablesOf(setting, zones, { place });
      return counts(new TestProxy(tables), tables, 2, { requests: 200, seed: 2 });
    };
    expect(from({ region: '', zone: 'b', node: 'n1' })).toEqual([0, 200, 0]);
    expect(Math.min(...from({ region: '', zone: '', node: 'n1' }).slice(0, 2))).toBeGreaterThan(60);
  });

  test('by shares (chi-square, p = 0.001), as far as a locality can bear its own; others get nothing', () => {
    const setting: Setting = { ...near, locality: { distributions: [{ from: 'eu/a/*', to: { 'eu/a/*': 70, 'eu/b/*': 20, 'us/*': 10 } }] } };
    const found = sharesWithout(setting, places, []);
    expect(
      chiSquareRatio(
        found.slice(0, 5).map((part) => part * 2_000),
        [35, 35, 10, 10, 10],
      ),
    ).toBeLessThan(1);
    expect(found[5]).toBe(0);
    expect(sharesWithout(setting, places, [0, 1])[4]).toBeCloseTo(1 / 3, 1);
  });

  test('a distribution for others leaves endpoints where they are', () => {
    const setting: Setting = { ...near, locality: { distributions: [{ from: 'us/*', to: { 'us/*': 100 } }] } };
    expect(Math.min(...sharesWithout(setting, places, []).slice(0, 6))).toBeGreaterThan(0.1);
  });

  test('panic: with fewer left than the threshold all are used, else those that are there', () => {
    const setting: Setting = { algorithm: RANDOM, panicPercent: 50 };
    expect(sharesWithout(setting, equal(4), [0, 1])).toEqual([0, 0, expect.closeTo(0.5, 1), expect.closeTo(0.5, 1), 0]);
    expect(sharesWithout(setting, equal(4), [0, 1, 2])).toEqual([...new Array(4).fill(expect.closeTo(0.25, 1)), 0]);
    const checked: EndpointFields[] = [failing, failing, failing, {}];
    expect(sharesWithout(setting, checked, [])).toEqual([...new Array(4).fill(expect.closeTo(0.25, 1)), 0]);
    expect(sharesWithout({ ...setting, panicPercent: 10 }, checked, [])[3]).toBe(1);
  });

  test('none passes its checks: those that only fail them are used; all are ejected: none is', () => {
    expect(sharesWithout({ algorithm: ROUND_ROBIN, choices: 1 }, [failing, failing], [])).toEqual([0.5, 0.5, 0]);
    expect(sharesWithout({ algorithm: ROUND_ROBIN, choices: 1 }, equal(2), [0, 1])).toEqual([0, 0, 1]);
  });
});

test('attempts go to every endpoint of every priority once, the near ones first', () => {
  const places: EndpointFields[] = [{ region: 'eu', zone: 'a' }, { region: 'eu', zone: 'a' }, { region: 'us' }, { region: 'us' }];
  const tables = tablesOf({ algorithm: RANDOM, locality: {} }, places);
  const proxy = new TestProxy(tables);
  const random = randoms(3);
  for (let i = 0; i < 50; i++) {
    const tried: number[] = [];
    while (tried.length < 4) {
      const last = tried.length > 0 ? { previous: tried[tried.length - 1]! } : {};
      tried.push(proxy.decide({ ...request, attempt: tried.length, ...last, tried, random: random() }).target);
    }
    expect(new Set(tried).size).toBe(4);
    expect(tried.slice(0, 2).sort()).toEqual([idOf(tables, 0), idOf(tables, 1)].sort());
  }
});

test('further attempts go where the rule says: to another locality after two, to none but the first, or wherever the balancer says', () => {
  const places: EndpointFields[] = [
    { region: 'eu', zone: 'a' },
    { region: 'eu', zone: 'a' },
    { region: 'eu', zone: 'a' },
    { region: 'us' },
  ];
  const resources = places.map((fields, index) => endpoint('s', `e${index}`, addressOf(index), fields));
  const attempts = (retry: object): string[] => {
    const rules = [{ retry: { attempts: 3, statuses: [503], ...retry }, backends: [backend('s')] }];
    const parents = [toService('s')];
    const policies = [{ policy: { loadBalancing: { algorithm: RANDOM, locality: {} } } }];
    const model = modelOf(service('s', '10.0.0.1', { policies }), ...resources, route('r', { parents, rules }));
    const tables = compiled(model, 'n1', 1, newIds(), HERE);
    const proxy = new TestProxy(tables);
    const random = randoms(5);
    return Array.from({ length: 60 }, () => {
      const tried: number[] = [];
      while (tried.length < 4) {
        const last = tried.length > 0 ? { previous: tried[tried.length - 1]! } : {};
        tried.push(proxy.decide({ ...request, attempt: tried.length, ...last, tried, random: random() }).target);
      }
      const far = idOf(tables, 3);
      const repeats = new Set(tried).size < 4 ? ' again' : '';
      return tried.map((id) => (id === far ? 'far' : 'near')).join(' ') + repeats;
    });
  };
  expect(new Set(attempts({}))).toEqual(new Set(['near near near far']));
  expect(new Set(attempts({ remoteLocalities: true }))).toEqual(new Set(['near near far near']));
  expect(new Set(attempts({ remoteLocalities: false }))).toEqual(new Set(['near near near near again']));
  const anywhere = attempts({ repeatsEndpoints: true });
  expect(new Set(anywhere)).toEqual(new Set(['near near near near again']));
});

test('passthrough: connections go where they were sent; through a gateway to the endpoints', () => {
  const tables = tablesOf({ algorithm: LoadBalancing_Algorithm.PASSTHROUGH }, equal(2));
  const proxy = new TestProxy(tables);
  expect(proxy.decide(request)).toMatchObject({ target: -1, flags: DecisionFlag.BindClient | DecisionFlag.MarkInject });
  expect(proxy.decide({ ...request, opaque: true }).target).toBe(-1);
});

describe('slow start', () => {
  test.each([
    ['round robin', { algorithm: ROUND_ROBIN }],
    ['random', { algorithm: RANDOM }],
    ['least request', { algorithm: LEAST_REQUEST }],
    ['least request of two', { algorithm: LEAST_REQUEST, choices: 2 }],
    ['peak EWMA', { algorithm: PEAK_EWMA }],
  ] as const)('%s gives an endpoint at half its warmth half a share', (_, setting) => {
    const tables = tablesOf({ ...setting, slowStart: { windowMs: 1_000 } }, equal(5));
    const proxy = new TestProxy(tables);
    for (let index = 0; index < 5; index++) proxy.states.decayUs[idOf(tables, index)] = 1e7;
    proxy.states.coldness[idOf(tables, 2)] = 32_768;
    const found = counts(proxy, tables, 5, { requests: 3_000, seed: 4 });
    expect(found[2]! / 3_000).toBeGreaterThan(0.06);
    expect(found[2]! / 3_000).toBeLessThan(0.145);
  });
});

describe('generations', () => {
  test('a rotation goes on where it stands while its endpoints are the same, and only then', () => {
    const ids = newIds();
    const setting: Setting = { algorithm: ROUND_ROBIN };
    const proxy = new TestProxy(tablesOf(setting, equal(3), { ids }));
    const next = (): number => proxy.decide(request).target;
    const turn = [next(), next(), next()];
    expect(next()).toBe(turn[0]);
    proxy.publish(tablesOf(setting, equal(3), { ids, generation: 2 }));
    expect([next(), next()]).toEqual([turn[1], turn[2]]);
    proxy.publish(tablesOf({ ...setting, ...BALANCED }, equal(3), { ids, generation: 3 }));
    expect(next()).toBe(turn[0]);
    proxy.publish(tablesOf(setting, equal(4), { ids, generation: 4 }));
    expect([next(), next(), next(), next()].sort()).toEqual([0, 1, 2, 3]);
  });

  test('weighted turns stay exact over changes of other things', () => {
    const ids = newIds();
    const endpoints = weighted(5, 1, 2);
    const proxy = new TestProxy(tablesOf({ algorithm: ROUND_ROBIN }, endpoints, { ids }));
    const found = [0, 0, 0];
    for (let i = 0; i < 80; i++) {
      if (i % 3 === 0) proxy.publish(tablesOf({ algorithm: ROUND_ROBIN }, endpoints, { ids, generation: i / 3 + 2 }));
      found[proxy.decide(request).target]! += 1;
    }
    expect(found).toEqual([50, 10, 20]);
  });

  test('what is known of an endpoint outlives them', () => {
    const ids = newIds();
    const proxy = new TestProxy(tablesOf({ algorithm: PEAK_EWMA }, equal(2), { ids }));
    proxy.states.decayUs.fill(1e7, 0, 3);
    proxy.states.observe(0, 100_000, 0, 0);
    proxy.states.observe(1, 1_000, 0, 0);
    proxy.publish(tablesOf({ algorithm: PEAK_EWMA }, equal(2), { ids, generation: 2 }));
    for (let i = 0; i < 10; i++) expect(proxy.decide(request).target).toBe(1);
  });
});

test('tables that were discarded leave no trace: balancers go on from those in force', () => {
  const ids = newIds();
  const model = (...names: string[]) =>
    modelOf(...names.flatMap((name, index) => [service(name, `10.0.${index}.1`), endpoint(name, 'e', `10.1.${index}.1`)]));
  const rowOf = (tables: Generation, name: string): number =>
    tables.clusters.findIndex((cluster) => cluster.name.startsWith(`shop/${name}:`));
  const previousOf = (tables: Generation, name: string): number =>
    new DecisionTables(tables.buffer, new Patterns([])).clusters[rowOf(tables, name) * CLUSTER_WORDS + ClusterWord.Previous]!;
  const first = compiled(model('b', 'c'), 'n1', 1, ids);
  // As admission.ts does with what it finds no tables for: made, thrown away, made again without.
  compiled(model('a', 'b', 'c'), 'n1', 2, ids);
  const second = compiled(model('b', 'c', 'd'), 'n1', 2, ids);
  expect([rowOf(first, 'c'), previousOf(second, 'c')]).toEqual([1, 1]);
});
