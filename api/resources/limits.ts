// Bounds that both ends of an apply must agree on.

/** Of all manifests of one apply together, and so of one file. */
export const MAX_MANIFEST_BYTES = 8 * 1_048_576;

/** The longest that a controller waits for nodes on behalf of a caller. */
export const MAX_WAIT_MS = 600_000;
