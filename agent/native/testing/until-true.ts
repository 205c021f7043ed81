// For counters and the like, which nobody announces.
/** Looks every 2 ms. */
export async function untilTrue(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((next) => setTimeout(next, 2));
}
