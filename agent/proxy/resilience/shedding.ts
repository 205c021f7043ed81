// Who is let in when not all can be: the classes of criticality, the most critical first. What was served in the last window is shared out
// among what asked: a class gets all that it wants before the next gets anything. A pure state machine over one row's windows.

/** Of a window. */
export interface Demand {
  /** Requests by class, the most critical first. */
  readonly asked: readonly number[];
  /** How many were refused for want of room, of all classes. */
  readonly refused: number;
  /** How many ended. */
  readonly served: number;
}

/** How fast those who were kept out come back: each window by so much. */
const RECOVERY = 1.25;
/** What has been measured is exceeded by so much, so that a growing capacity is found. */
const HEADROOM = 1.1;
const SMALLEST = 1 / 256;

/** Shares of each class that are let in, 0 to 1, for the next window. */
export function nextShares(shares: readonly number[], { asked, refused, served }: Demand): number[] {
  const isShort = refused > 0;
  if (!isShort) return shares.map((share) => Math.min(1, Math.max(SMALLEST, share) * RECOVERY));
  let left = served * HEADROOM;
  return asked.map((count, index) => {
    if (count === 0) return shares[index]!;
    const share = Math.min(1, left / count);
    left -= Math.min(left, count);
    return share;
  });
}
