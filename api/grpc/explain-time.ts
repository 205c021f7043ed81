/** What a proxy may take to explain a request: it asks filters, each of which has its own time. Whoever passes the question on adds HOP_MS. */
export const EXPLAIN_MS = 20_000;
export const HOP_MS = 1_000;
