// What a benchmark says: medians of paired runs, how far they spread, and the table. Measures nothing.

export interface Case {
  readonly name: string;
  readonly peer: string;
  /** What the peer needs over what we need (µs of CPU, bytes, µs of latency: see the bench): median over the rounds. Above 1: we need less. */
  readonly ratio: number;
  /** Medians, in the bench's unit (named after the usual one). */
  readonly oursUs: number;
  readonly peerUs: number;
  /** First and third quartile of the rounds' ratios: what the machine's noise made of them. */
  readonly spread: readonly [number, number];
}

/** A figure by itself, without a peer. */
export interface Figure {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** At most. */
  readonly target: number;
}

/** `ours` and `peers` of one round stand at the same index. */
export function compare(name: string, peer: string, ours: readonly number[], theirs: readonly number[]): Case {
  const ratios = theirs.map((value, round) => value / ours[round]!);
  return {
    name,
    peer,
    ratio: rounded(median(ratios)),
    oursUs: rounded(median(ours)),
    peerUs: rounded(median(theirs)),
    spread: [rounded(quantile(ratios, 0.25)), rounded(quantile(ratios, 0.75))],
  };
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** Between two values in proportion. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * q;
  const below = sorted[Math.floor(at)]!;
  return below + (sorted[Math.ceil(at)]! - below) * (at - Math.floor(at));
}

export function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}

/** `unit` of oursUs and peerUs. */
export function printTable(title: string, unit: string, cases: readonly Case[]): void {
  console.log(title);
  console.table(
    cases.map(({ name, peer, ratio, spread, oursUs, peerUs }) => ({
      case: name,
      peer,
      [`ours ${unit}`]: oursUs,
      [`peer ${unit}`]: peerUs,
      ratio,
      'middle half of rounds': `${spread[0]} … ${spread[1]}`,
    })),
  );
}

export function printFigures(title: string, figures: readonly Figure[]): void {
  console.log(title);
  console.table(figures.map(({ name, value, unit, target }) => ({ case: name, value, unit, target, met: value <= target ? 'yes' : 'NO' })));
}
