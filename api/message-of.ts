// What a caught value says, for a text of ours.

/** Not `instanceof Error`: the addon's errors, and Node's within jest, come from another realm. */
export function messageOf(error: unknown): string {
  return typeof error === 'object' && error !== null && 'message' in error ? String(error.message) : String(error);
}
