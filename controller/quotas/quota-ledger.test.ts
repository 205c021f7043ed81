// Who gets how much of a limit that nodes share, whatever they say and whenever: never more than all of it together.
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { LeaseResponse } from '../../api/gen/mesh/v1/quota.js';
import { FLOOR } from './budget.js';
import { QuotaLedger } from './quota-ledger.js';

const FIRST = 0.01;

/** A holder of one limit, as a proxy is: what it is granted is in force when it takes the answer. */
class Holder {
  share = FIRST;
  keys = new Map<number, number>();
  applied = 0;
  readonly answers: LeaseResponse[] = [];

  constructor(
    readonly name: string,
    readonly isKeyed: boolean,
  ) {}

  /** Leaves the answer on its way. */
  say(ledger: QuotaLedger, demand: number | ReadonlyMap<number, number>): void {
    const demands = typeof demand === 'number' ? new Map<number, number>() : demand;
    const asked = new Set([...demands.keys(), ...this.keys.keys()]);
    const keys = [...asked].map((key) => ({ key, demand: demands.get(key) ?? 0, share: this.keys.get(key) }));
    const use = { limit: 'l', share: this.share, demand: typeof demand === 'number' ? demand : 0, keyed: this.isKeyed, keys };
    this.answers.push(ledger.report(this.name, { node: 'n', holder: this.name, applied: this.applied, limits: [use] }));
  }

  take(): void {
    const answer = this.answers.shift();
    if (answer === undefined) return;
    this.applied = answer.number;
    this.share = answer.limits[0]!.share;
    this.keys = new Map(answer.limits[0]!.keys.map(({ key, share }) => [key, share]));
  }

  shareOf(key: number): number {
    return this.keys.get(key) ?? this.share;
  }
}

const holders = (count: number, isKeyed = false): Holder[] => Array.from({ length: count }, (_, index) => new Holder(`h${index}`, isKeyed));
const total = (all: readonly Holder[], key = 0): number => all.reduce((sum, holder) => sum + holder.shareOf(key), 0);
const settle = (ledger: QuotaLedger, all: readonly Holder[], demands: readonly (number | ReadonlyMap<number, number>)[]): void => {
  for (let round = 0; round < 6; round++) {
    all.forEach((holder, index) => {
      holder.say(ledger, demands[index]!);
      holder.take();
    });
  }
};

test('shares go where the demand is, but for a floor that everybody has', () => {
  const ledger = new QuotaLedger({ now: () => 0, graceMs: 0 });
  const all = holders(3);
  settle(ledger, all, [2, 0, 0]);
  expect(all.map(({ share }) => share)).toEqual([1 - FLOOR + FLOOR / 3, FLOOR / 3, FLOOR / 3].map((share) => expect.closeTo(share, 2)));
  settle(ledger, all, [0.5, 0.5, 0]);
  expect(all[0]!.share).toBeCloseTo((1 - FLOOR) / 2 + FLOOR / 3, 2);
  expect(total(all)).toBeLessThanOrEqual(1 + 1e-9);
});

test('a key that one holder alone is asked for is nearly all its own; others are of equal parts', () => {
  const ledger = new QuotaLedger({ now: () => 0, graceMs: 0 });
  const all = holders(4, true);
  settle(ledger, all, [new Map([[7, 1]]), new Map(), new Map([[9, 0.4]]), new Map([[9, 0.4]])]);
  expect(all[0]!.shareOf(7)).toBeGreaterThan(0.9);
  expect(all[2]!.shareOf(9)).toBeCloseTo(0.475, 1);
  expect(all[1]!.shareOf(1)).toBeCloseTo(0.25, 1);
  for (const key of [1, 7, 9]) expect(total(all, key)).toBeLessThanOrEqual(1 + 1e-9);
  settle(ledger, all, [new Map(), new Map(), new Map(), new Map()]);
  expect(all[0]!.keys.size).toBe(0);
});

test('in whatever order reports and answers come, what is in force is never more than the limit, and 1 % for each that is new', () => {
  const step = fc.record({
    who: fc.integer({ min: 0, max: 3 }),
    what: fc.constantFrom('say', 'take', 'take', 'leave'),
    demand: fc.double({ min: 0, max: 3, noNaN: true }),
  });
  fc.assert(
    fc.property(fc.boolean(), fc.array(step, { maxLength: 200 }), (isKeyed, steps) => {
      const ledger = new QuotaLedger({ now: () => 0, graceMs: 0 });
      const all = holders(4, isKeyed);
      for (const { who, what, demand } of steps) {
        const holder = all[who]!;
        if (what === 'say') holder.say(ledger, isKeyed ? new Map([[Math.floor(demand), demand]]) : demand);
        else if (what === 'take') holder.take();
        // A stream that breaks loses the answers on it. Whoever comes back says what it holds.
        else if (holder.answers.length > 0) {
          holder.answers.length = 0;
          holder.applied = 0;
          ledger.left(holder.name);
          holder.say(ledger, isKeyed ? new Map() : demand);
        }
        const isNew = all.filter(({ share }) => share === FIRST).length;
        for (const key of isKeyed ? [0, 1, 2, 3] : [0]) expect(total(all, key)).toBeLessThanOrEqual(1 + isNew * FIRST + 1e-9);
      }
    }),
    { numRuns: 300 },
  );
});

test('whoever coordinates next raises nobody before all could have said what they hold', () => {
  let nowMs = 0;
  const all = holders(2);
  settle(new QuotaLedger({ now: () => nowMs, graceMs: 0 }), all, [1, 1]);
  const before = all.map(({ share }) => share);
  const next = new QuotaLedger({ now: () => nowMs, graceMs: 10_000 });
  for (const holder of all) holder.applied = 0;
  all[0]!.say(next, 1);
  all[0]!.take();
  expect(all[0]!.share).toBe(before[0]);
  nowMs = 10_000;
  settle(next, all, [1, 0]);
  expect(all[0]!.share).toBeGreaterThan(0.9);
  expect(total(all)).toBeLessThanOrEqual(1 + 1e-9);
});

test('what a holder had that is gone is kept for the time of grace, then shared out', () => {
  let nowMs = 0;
  const ledger = new QuotaLedger({ now: () => nowMs, graceMs: 5_000 });
  nowMs = 5_000;
  const all = holders(2);
  settle(ledger, all, [1, 1]);
  ledger.left('h1');
  nowMs = 9_000;
  settle(ledger, [all[0]!], [1]);
  expect(all[0]!.share).toBeLessThan(0.6);
  nowMs = 10_001;
  settle(ledger, [all[0]!], [1]);
  expect(all[0]!.share).toBeCloseTo(1, 5);
});
