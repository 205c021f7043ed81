// Both algorithms against what they are to be, over random schedules and several threads.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { KeyHash as Hash, type KeyHash } from './key-hash.js';
import { Limiter, type LimiterShape, TokenBucket } from './limiter.js';

const make = (shape: Partial<LimiterShape> = {}): Limiter => {
  const whole: LimiterShape = {
    algorithm: 'token-bucket',
    requests: 10,
    perMs: 1_000,
    burst: 10,
    isKeyed: false,
    isShared: false,
    ...shape,
  };
  return Limiter.of(whole, Limiter.allocate(whole));
};

/** A bucket in exact arithmetic: its content in requests × the time one takes, µs. */
class ExactBucket {
  private content: bigint;
  private at = 0n;
  private readonly cost: bigint;
  constructor(
    private readonly requests: number,
    perMs: number,
    burst: number,
  ) {
    this.cost = BigInt(perMs) * 1_000n;
    this.content = this.cost * BigInt(burst);
    this.most = this.content;
  }
  private readonly most: bigint;
  take(nowUs: number): boolean {
    const now = BigInt(nowUs);
    const filled = this.content + (now - this.at) * BigInt(this.requests);
    this.content = filled > this.most ? this.most : filled;
    this.at = now;
    if (this.content < this.cost) return false;
    this.content -= this.cost;
    return true;
  }
}

const schedule = fc.record({
  requests: fc.constantFrom(1, 3, 10, 100, 7_919),
  perMs: fc.constantFrom(100, 1_000, 7_000, 60_000, 86_400_000),
  burst: fc.constantFrom(1, 2, 10, 1_000),
  // In parts of the time between two tokens, so that both sides of the limit are met.
  gaps: fc.array(fc.oneof(fc.constant(0), fc.double({ min: 0, max: 3, noNaN: true }), fc.double({ min: 0, max: 500, noNaN: true })), {
    minLength: 1,
    maxLength: 300,
  }),
  // Uptimes of minutes and of months.
  startUs: fc.constantFrom(1_000_000, 3_600_000_000, 1e13),
});

test('a token bucket passes what an exact one passes, but for one token that falls within a unit of its clock', () => {
  fc.assert(
    fc.property(schedule, ({ requests, perMs, burst, gaps, startUs }) => {
      const bucket = make({ requests, perMs, burst });
      const exact = new ExactBucket(requests, perMs, burst);
      const usPerToken = (perMs * 1_000) / requests;
      let nowUs = startUs;
      let ahead = 0;
      for (const gap of gaps) {
        nowUs += Math.floor(gap * usPerToken);
        ahead += Number(bucket.take(bucket.slotOf(0, 0, nowUs), nowUs)) - Number(exact.take(nowUs));
        expect(Math.abs(ahead)).toBeLessThanOrEqual(1);
      }
    }),
    { numRuns: 300 },
  );
});

test('a token bucket that rests for any time is full, and no fuller', () => {
  fc.assert(
    fc.property(fc.double({ min: 1, max: 1e6, noNaN: true }), fc.integer({ min: 1, max: 50 }), (seconds, burst) => {
      const bucket = make({ requests: 50, burst });
      let nowUs = 1e9;
      const drain = (): number => {
        let passed = 0;
        while (bucket.take(bucket.slotOf(0, 0, nowUs), nowUs)) passed++;
        return passed;
      };
      expect(drain()).toBe(burst);
      const until = nowUs + Math.floor(seconds * 1e6);
      // As the main thread does, and far less often.
      for (; nowUs < until; nowUs = Math.min(until, nowUs + 30e6)) bucket.sweep(nowUs);
      bucket.sweep(nowUs);
      expect(drain()).toBe(burst);
    }),
    { numRuns: 20 },
  );
});

test('a sliding window never lets more pass in any window, and refuses only after as many in a window and an eighth', () => {
  const steps = fc.array(
    fc.oneof(fc.constant(0), fc.double({ min: 0, max: 0.3, noNaN: true }), fc.double({ min: 0, max: 4, noNaN: true })),
    {
      maxLength: 400,
    },
  );
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 40 }), fc.constantFrom(100, 1_000, 60_000), steps, (requests, perMs, gaps) => {
      const window = make({ algorithm: 'sliding-window', requests, perMs });
      const windowUs = perMs * 1_000;
      const passed: number[] = [];
      const within = (nowUs: number, us: number): number => passed.filter((at) => at > nowUs - us).length;
      let nowUs = 5e9;
      for (const gap of gaps) {
        nowUs += Math.floor(gap * windowUs);
        if (window.take(window.slotOf(0, 0, nowUs), nowUs)) {
          passed.push(nowUs);
          expect(within(nowUs, windowUs)).toBeLessThanOrEqual(requests);
        } else {
          expect(within(nowUs, windowUs * 1.125)).toBeGreaterThanOrEqual(requests);
          expect(window.waitUs).toBeGreaterThan(0);
          expect(window.waitUs).toBeLessThanOrEqual(windowUs * 1.125);
        }
      }
    }),
    { numRuns: 300 },
  );
});

test('a sliding window counts what a worker has counted whose clock is a moment ahead', () => {
  for (let part = 1; part <= 40; part++) {
    const window = make({ algorithm: 'sliding-window', requests: 1, perMs: 800 });
    const boundary = part * 100_000;
    expect(window.take(window.slotOf(0, 0, boundary), boundary + 1)).toBe(true);
    expect(window.take(window.slotOf(0, 0, boundary), boundary - 1)).toBe(false);
  }
});

test('what a refusal says to wait is what has to be waited', () => {
  for (const algorithm of ['token-bucket', 'sliding-window'] as const) {
    const limiter = make({ algorithm, requests: 5, burst: 5 });
    let nowUs = 7e9;
    const slot = limiter.slotOf(0, 0, nowUs);
    while (limiter.take(slot, nowUs)) nowUs += 1_000;
    const due = nowUs + limiter.waitUs;
    expect(limiter.take(slot, due - 1_000)).toBe(false);
    expect(limiter.take(slot, due + 10)).toBe(true);
  }
});

test('what is given back can be taken again', () => {
  for (const algorithm of ['token-bucket', 'sliding-window'] as const) {
    const limiter = make({ algorithm, requests: 2, burst: 2 });
    const slot = limiter.slotOf(0, 0, 1e9);
    expect([limiter.take(slot, 1e9), limiter.take(slot, 1e9), limiter.take(slot, 1e9)]).toEqual([true, true, false]);
    limiter.giveBack(slot, 1e9);
    expect([limiter.take(slot, 1e9), limiter.take(slot, 1e9)]).toEqual([true, false]);
  }
});

const THREAD = `
const { parentPort, workerData } = require('node:worker_threads');
import(workerData.module).then(({ Limiter }) => {
  const limiter = Limiter.of(workerData.shape, workerData.memory);
  const gate = new Int32Array(workerData.gate);
  Atomics.add(gate, 0, 1);
  while (Atomics.load(gate, 0) < workerData.threads);
  let passed = 0;
  for (let i = 0; i < workerData.tries; i++) {
    const slot = limiter.slotOf(i % 7, 1 + (i % 7), 9e9);
    if (limiter.take(slot, 9e9)) passed++;
  }
  parentPort.postMessage(passed);
});
`;

test.each(['token-bucket', 'sliding-window'] as const)(
  'threads that take from one %s at once get together what one would get',
  async (algorithm) => {
    const threads = 3;
    for (const isKeyed of [false, true]) {
      const shape: LimiterShape = { algorithm, requests: 20_000, perMs: 86_400_000, burst: 20_000, isKeyed, isShared: false };
      const memory = Limiter.allocate(shape);
      const workerData = {
        module: new URL('../../../dist/agent/proxy/rate-limit/limiter.js', import.meta.url).href,
        shape,
        memory,
        gate: new SharedArrayBuffer(4),
        threads,
        tries: isKeyed ? 100_000 : 15_000,
      };
      const all = Array.from({ length: threads }, () => new Worker(THREAD, { eval: true, workerData }));
      const passed = await Promise.all(all.map(async (worker) => ((await once(worker, 'message')) as [number])[0]));
      expect(passed.reduce((sum, each) => sum + each, 0)).toBe(isKeyed ? 7 * 20_000 : 20_000);
    }
  },
);

const hashOf = (hash: KeyHash, text: string): readonly [number, number] => {
  const bytes = Buffer.from(text);
  hash.begin();
  hash.bytes(bytes, 0, bytes.length);
  hash.finish();
  return [hash.high, hash.low];
};

test('ten thousand keys are counted apart', () => {
  const limiter = make({ requests: 1, burst: 1, perMs: 86_400_000, isKeyed: true });
  const hash = new Hash([1, 2]);
  const names = Array.from({ length: 4_000 }, (_, i) => `key-${i}`);
  const take = (name: string): boolean => {
    const [high, low] = hashOf(hash, name);
    return limiter.take(limiter.slotOf(high, low, 1e9), 1e9);
  };
  expect(names.filter(take).length).toBe(4_000);
  expect(names.filter(take).length).toBe(0);
});

test('beyond its bound the key that has used least is forgotten, never one that is at its limit', () => {
  const limiter = make({ requests: 1_000, burst: 1_000, perMs: 86_400_000, isKeyed: true });
  const hash = new Hash([3, 4]);
  const [high, low] = hashOf(hash, 'the greedy one');
  const greedy = limiter.slotOf(high, low, 1e9);
  while (limiter.take(greedy, 1e9));
  for (let i = 0; i < 40_000; i++) {
    const [h, l] = hashOf(hash, `flood-${i}`);
    limiter.take(limiter.slotOf(h, l, 1e9), 1e9);
  }
  expect(limiter.take(limiter.slotOf(high, low, 1e9), 1e9)).toBe(false);
});

test('a swept limiter holds the keys alone that have used something', () => {
  const limiter = make({ requests: 10, burst: 10, isKeyed: true });
  limiter.take(limiter.slotOf(1, 1, 1e9), 1e9);
  limiter.take(limiter.slotOf(2, 2, 3e9), 3e9);
  limiter.sweep(3e9);
  expect([...limiter.usedSlots()]).toHaveLength(1);
});

test('moving shares makes no request: over all that a share is moved about, no more passes than of one bucket', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 0, max: 2 }), fc.double({ min: 0, max: 1, noNaN: true })), { maxLength: 30 }),
      (moves) => {
        const [requests, burst] = [100, 100];
        const shape: LimiterShape = { algorithm: 'token-bucket', requests, perMs: 1_000, burst, isKeyed: true, isShared: true };
        const nodes = Array.from({ length: 3 }, () => new TokenBucket(shape, Limiter.allocate(shape)));
        let shares = [1 / 3, 1 / 3, 1 / 3];
        const startUs = 1e9;
        let nowUs = startUs;
        let passed = 0;
        for (const [index, node] of nodes.entries()) node.setShare(shares[index]!, nowUs);
        for (const [greedy, draw] of moves) {
          nowUs += Math.floor(draw * 50_000);
          const node = nodes[greedy]!;
          const slot = node.slotOf(5, 5, nowUs);
          for (let i = 0; i < 40; i++) if (node.take(slot, nowUs)) passed++;
          // What shrinks shrinks first.
          const wanted = [0.05, 0.05, 0.05].map((least, index) => (index === greedy ? 0.9 : least));
          for (const shrinks of [true, false])
            for (const [index, share] of wanted.entries()) if (share < shares[index]! === shrinks) nodes[index]!.setShare(share, nowUs);
          shares = wanted;
          // One in flight at each node, whatever its share.
          expect(passed).toBeLessThanOrEqual(burst + (requests * (nowUs - startUs)) / 1e6 + nodes.length);
        }
      },
    ),
    { numRuns: 15 },
  );
});

test('the hash is HalfSipHash-1-3: every bit of a text and of the key changes half of it', () => {
  const hash = new Hash([0x03020100, 0x07060504]);
  const base = hashOf(hash, 'abcdefgh');
  const bits = (a: readonly [number, number], b: readonly [number, number]): number =>
    [a[0] ^ b[0], a[1] ^ b[1]].reduce((sum, word) => sum + (word >>> 0).toString(2).replaceAll('0', '').length, 0);
  for (let bit = 0; bit < 8; bit++) {
    const other = hashOf(hash, `abcd${String.fromCharCode('e'.charCodeAt(0) ^ (1 << bit)).slice(0, 1)}fgh`);
    expect(bits(base, other)).toBeGreaterThan(16);
  }
  expect(bits(base, hashOf(new Hash([0x03020101, 0x07060504]), 'abcdefgh'))).toBeGreaterThan(16);
  expect(hashOf(hash, 'ab')).not.toEqual(hashOf(hash, 'ab\0'));
});
