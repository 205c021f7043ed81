import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { KeptOrder, KeptResults, KeptUnion, sameEnds } from './kept.js';

test('a result is made again when one of its inputs is another object, and only then', () => {
  const kept = new KeptResults();
  let made = 0;
  const get = (...inputs: unknown[]) => kept.get('it', inputs, () => ++made);
  const [a, b] = [{}, {}];
  expect([get(a), get(a), get(b), get(b, a), get(b, a), get(a)]).toEqual([1, 1, 2, 3, 3, 4]);
  expect(kept.get('another', [a], () => 'other')).toBe('other');
  expect(get(a)).toBe(4);
});

test('of two lists the same beginning and the same end never overlap', () => {
  const items = fc.array(fc.constantFrom('a', 'b'), { maxLength: 6 });
  fc.assert(
    fc.property(items, items, (a, b) => {
      const { start, end } = sameEnds(a, b);
      expect(start + end).toBeLessThanOrEqual(Math.min(a.length, b.length));
      expect(a.slice(0, start)).toEqual(b.slice(0, start));
      expect(a.slice(a.length - end)).toEqual(b.slice(b.length - end));
      if (start + end < Math.min(a.length, b.length)) {
        expect(a[start]).not.toBe(b[start]);
        expect(a.at(-1 - end)).not.toBe(b.at(-1 - end));
      }
    }),
  );
});

/** Each number once, in blocks of any size: what a step has them be. */
const blocks = fc.uniqueArray(fc.nat(60), { maxLength: 30 }).chain((items) =>
  fc.array(fc.nat(3), { minLength: items.length, maxLength: items.length }).map((sizes) => {
    let from = 0;
    return sizes.map((size) => {
      from += size;
      return items.slice(from - size, from);
    });
  }),
);

test('over any changes the items of blocks are those of the blocks, sorted; and the same array while the blocks are the same', () => {
  fc.assert(
    fc.property(fc.array(fc.record({ blocks, keep: fc.array(fc.boolean(), { maxLength: 30 }) }), { maxLength: 12 }), (steps) => {
      const union = new KeptUnion<{ readonly value: number }>((a, b) => a.value - b.value);
      let before: (readonly { readonly value: number }[])[] = [];
      for (const step of steps) {
        // Some blocks of before stay, in their places; the others are new objects, of values that are free.
        const kept = before.filter((_, index) => step.keep[index] === true);
        const taken = new Set(kept.flat().map(({ value }) => value));
        const made = step.blocks.map((block) => block.filter((value) => !taken.has(value)).map((value) => ({ value })));
        const half = Math.floor(made.length / 2);
        const now = [...made.slice(0, half), ...kept, ...made.slice(half)];
        const sorted = union.of(now);
        expect([...sorted]).toEqual(now.flat().sort((a, b) => a.value - b.value));
        for (const item of now.flat()) expect(sorted).toContain(item);
        expect(union.of([...now])).toBe(sorted);
        before = now;
      }
    }),
  );
});

test('over any exchanges items are in the order of their names, equal names in the order in which they came', () => {
  const item = fc.record({ namespace: fc.constantFrom<string>('a', 'b'), name: fc.constantFrom<string>('x', 'y', 'z') });
  let sorts = 0;
  const sort = (items: readonly { readonly namespace: string; readonly name: string }[]): number[] => {
    sorts++;
    const named = items.map(({ namespace, name }, index) => ({ name: `${namespace}/${name}`, index }));
    return named.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0)).map(({ index }) => index);
  };
  fc.assert(
    fc.property(fc.array(fc.array(item, { maxLength: 6 }), { maxLength: 6 }), (steps) => {
      const order = new KeptOrder(sort);
      for (const items of steps) {
        const sorted = order.of(items);
        expect(sorted).toHaveLength(items.length);
        for (const [at, index] of sort(items).entries()) expect(sorted[at]).toBe(items[index]);
        expect(order.of([...items])).toBe(sorted);
        const copies = items.map((each) => ({ ...each }));
        const before = sorts;
        for (const [at, each] of order.of(copies).entries()) expect(copies.indexOf(each)).toBe(items.indexOf(sorted[at]!));
        expect(sorts).toBe(before);
      }
    }),
  );
});
