// When an authority signs and how long it is trusted, by nothing but time and the order in which authorities were made: every replica comes to the same
// answer without a word to the others. Pure.

export interface Standing<Authority> {
  readonly signer: Authority;
  /** The oldest first; the signer is among them. */
  readonly trusted: readonly Authority[];
}

/**
 * A new authority is trusted at once and signs when every certificate that was issued before it came has ended, for with its last renewal a node has
 * heard of it. The older ones are trusted until all that they signed has ended too. `authorities`: the oldest first, at least one.
 */
export function standing<Authority extends { readonly createdAtMs: number }>(
  authorities: readonly Authority[],
  certificateTtlMs: number,
  nowMs: number,
): Standing<Authority> {
  const overlapMs = overlapOf(certificateTtlMs);
  const signs = authorities.findLastIndex(({ createdAtMs }, index) => index === 0 || createdAtMs + overlapMs <= nowMs);
  const from = authorities.findLastIndex(({ createdAtMs }, index) => index === 0 || createdAtMs + 2 * overlapMs <= nowMs);
  const signer = authorities[signs];
  if (signer === undefined) throw new Error('there is no authority');
  return { signer, trusted: authorities.slice(from) };
}

/** When `standing` changes next by itself; null: never. */
export function nextChangeMs(
  authorities: readonly { readonly createdAtMs: number }[],
  certificateTtlMs: number,
  nowMs: number,
): number | null {
  const overlapMs = overlapOf(certificateTtlMs);
  const times = authorities.slice(1).flatMap(({ createdAtMs }) => [createdAtMs + overlapMs, createdAtMs + 2 * overlapMs]);
  return times.filter((at) => at > nowMs).sort((a, b) => a - b)[0] ?? null;
}

/** With room for clocks that differ. */
function overlapOf(certificateTtlMs: number): number {
  return certificateTtlMs * 1.25;
}
