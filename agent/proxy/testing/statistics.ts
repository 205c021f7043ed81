// For tests: seeded randomness, and whether what was counted fits what was expected.
import { mix } from '../pick.js';

/** Words of 31 bits, the same ones for the same seed. */
export function randoms(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x9e3779b9) | 0;
    return mix(state);
  };
}

/** Normal quantile of 1 - CHI_SQUARE_P. */
const Z = 3.0902;
/** How often counts that do fit are taken for such that don't. */
export const CHI_SQUARE_P = 0.001;

/** Pearson's test: at most 1 where counts fit the shares at CHI_SQUARE_P (critical value by Wilson and Hilferty, 1931). */
export function chiSquareRatio(counts: readonly number[], shares: readonly number[]): number {
  const total = counts.reduce((sum, count) => sum + count, 0);
  const whole = shares.reduce((sum, share) => sum + share, 0);
  const statistic = counts.reduce((sum, count, index) => {
    const expected = (total * shares[index]!) / whole;
    return sum + (count - expected) ** 2 / expected;
  }, 0);
  const degrees = counts.length - 1;
  const critical = degrees * (1 - 2 / (9 * degrees) + Z * Math.sqrt(2 / (9 * degrees))) ** 3;
  return statistic / critical;
}
