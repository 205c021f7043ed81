import { expect, test } from '@jest/globals';
import { nextChangeMs, standing } from './lifetimes.js';

const HOUR = 3_600_000;
const TTL = 8 * HOUR;
const names = ({ signer, trusted }: ReturnType<typeof standing<{ name: string; createdAtMs: number }>>): string =>
  `${signer.name} of ${trusted.map(({ name }) => name).join(' ')}`;

test('the first authority signs at once', () => {
  expect(names(standing([{ name: 'a', createdAtMs: 5 }], TTL, 5))).toBe('a of a');
  expect(nextChangeMs([{ createdAtMs: 5 }], TTL, 5)).toBeNull();
});

test('a second one is trusted at once, signs when all certificates from before it have ended, and the first goes when its own have', () => {
  const both = [
    { name: 'a', createdAtMs: 0 },
    { name: 'b', createdAtMs: 100 * HOUR },
  ];
  const at = (hours: number): string => names(standing(both, TTL, hours * HOUR));
  expect(at(100)).toBe('a of a b');
  expect(at(109.9)).toBe('a of a b');
  expect(at(110)).toBe('b of a b');
  expect(at(119.9)).toBe('b of a b');
  expect(at(120)).toBe('b of b');
  expect(nextChangeMs(both, TTL, 100 * HOUR)).toBe(110 * HOUR);
  expect(nextChangeMs(both, TTL, 110 * HOUR)).toBe(120 * HOUR);
  expect(nextChangeMs(both, TTL, 120 * HOUR)).toBeNull();
});

test('a certificate that was issued at the last moment before a change verifies until its end', () => {
  const all = [0, 30, 45, 200].map((hours, index) => ({ name: 'abcd'[index] as string, createdAtMs: hours * HOUR }));
  for (let issuedMs = 0; issuedMs < 300 * HOUR; issuedMs += HOUR / 2) {
    const { signer } = standing(
      all.filter(({ createdAtMs }) => createdAtMs <= issuedMs),
      TTL,
      issuedMs,
    );
    const endMs = issuedMs + TTL;
    const { trusted } = standing(
      all.filter(({ createdAtMs }) => createdAtMs <= endMs),
      TTL,
      endMs,
    );
    expect(trusted).toContain(signer);
    // And a node that renewed just before then trusts whoever signs the controllers' certificates until its own ends.
    const known = standing(
      all.filter(({ createdAtMs }) => createdAtMs <= issuedMs),
      TTL,
      issuedMs,
    ).trusted;
    expect(known).toContain(
      standing(
        all.filter(({ createdAtMs }) => createdAtMs <= endMs),
        TTL,
        endMs,
      ).signer,
    );
  }
});
