// TrafficPolicy's sections `retries` and `hedging`: further attempts of a request, behind a failed one or beside a late one. Owner: Weft,
// docs/traffic/retries.md.
import { z } from 'zod';
import { checkRetryCondition } from './retry-condition.js';
import { describe, fields, isUnchecked, type Report, text, textOf, type Unchecked, wholeNumber, withRule } from './schema.js';
import { duration, durationMs, headerName } from './syntax.js';

const MAX_BACKOFF_MS = 60_000;
const MAX_AFTER_MS = 60_000;
const MAX_HEADERS = 16;

export const retries = withRule(
  fields({
    attempts: wholeNumber(0, 15),
    perTryTimeout: duration.optional(),
    on: z.array(z.string()).min(1).max(32).optional(),
    backoff: duration.optional(),
    retryAfter: z.boolean().optional(),
    anyMethod: z.boolean().optional(),
    retriableHeaders: z.array(headerName).min(1).max(MAX_HEADERS).optional(),
  }),
  (value, report) => {
    const conditions: unknown = value.on;
    if (Array.isArray(conditions))
      conditions.forEach((condition, index) => {
        if (typeof condition === 'string') checkRetryCondition(condition, ['on', index], report);
      });
    const backoff = durationMs(textOf(value, 'backoff') ?? '');
    if (backoff !== null && backoff > MAX_BACKOFF_MS) report(['backoff'], `expected at most 1m, found ${value.backoff}`);
  },
);

const after = text('a duration such as 50ms, or a percentile such as p95', /^(p[1-9][0-9]?|([0-9]{1,5}(h|m|s|ms)){1,4})$/, 24);

/** Of `after`: null where it is none; else ms, or the percentile. */
export function hedgeAfter(value: string): { readonly ms: number } | { readonly percentile: number } | null {
  if (value.startsWith('p')) return { percentile: Number(value.slice(1)) };
  const ms = durationMs(value);
  return ms === null ? null : { ms };
}

export const hedging = withRule(
  fields({
    after,
    max: z
      .number()
      .min(0.1, { error: ({ input }) => `expected 0.1 to 100, second attempts to 100 requests, found ${describe(input)}` })
      .max(100, { error: ({ input }) => `expected 0.1 to 100, second attempts to 100 requests, found ${describe(input)}` })
      .optional(),
    anyMethod: z.boolean().optional(),
  }),
  checkAfter,
);

function checkAfter(value: Unchecked, report: Report): void {
  if (!isUnchecked(value)) return;
  const found = hedgeAfter(textOf(value, 'after') ?? '');
  if (found !== null && 'ms' in found && (found.ms < 1 || found.ms > MAX_AFTER_MS))
    report(['after'], `expected 1ms to 1m, found ${value.after}`);
}
