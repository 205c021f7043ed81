// TrafficPolicy's section rateLimits: how many requests pass, counted by whom, apart by what; or which service says so. docs/traffic/rate-limits.md.
import { z } from 'zod';
import { choice, fields, portNumber, text, textOf, type Unchecked, unique, wholeNumber, withRule } from './schema.js';
import { dnsLabel, dnsSubdomain, duration, durationMs } from './syntax.js';

export const MAX_RATE_LIMITS = 16;
const MAX_KEYS = 8;
const MIN_PER_MS = 100;
const MAX_PER_MS = 86_400_000;
/** One in a microsecond: as fine as clocks are. */
const MAX_PER_SECOND = 1_000_000;
/** What a word of a window's part counts to. */
const MAX_IN_WINDOW = 16_777_215;
const MAX_TIMEOUT_MS = 10_000;
const ONE_OF = ['source', 'header', 'value'] as const;
const COUNTED = ['requests', 'per', 'burst', 'algorithm', 'scope'] as const;

const key = withRule(
  fields({
    source: choice(['Namespace', 'Identity', 'Address', 'Path', 'Method', 'Target']).optional(),
    header: text('the name of a header', /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/, 256).optional(),
    value: text('a text of printable characters', /^[\x20-\x7e]+$/, 256).optional(),
    as: text('the key of a descriptor entry', /^[\x21-\x7e]+$/, 256).optional(),
  }),
  (value, report) => {
    const given = ONE_OF.filter((field) => value[field] !== undefined);
    if (given.length === 0) report([], `expected one of ${ONE_OF.join(', ')}`);
    for (const field of given.slice(1)) report([field], `not with ${given[0]}: each item is one of ${ONE_OF.join(', ')}`);
    if (value.value !== undefined && value.as === undefined) report(['as'], 'expected the key that the service is told the value as');
  },
);

const service = withRule(
  fields({
    name: dnsSubdomain,
    namespace: dnsLabel.optional(),
    port: portNumber,
    domain: text("a domain of the service's configuration", /^[\x21-\x7e]+$/, 256),
    hits: wholeNumber(1, 1_000_000).optional(),
    timeout: duration.optional(),
    onFailure: choice(['Allow', 'Deny']).optional(),
  }),
  (value, report) => {
    const timeout = durationMs(textOf(value, 'timeout') ?? '');
    if (timeout !== null && (timeout < 1 || timeout > MAX_TIMEOUT_MS)) report(['timeout'], `expected 1ms to 10s, found ${value.timeout}`);
  },
);

const rateLimit = withRule(
  fields({
    name: dnsLabel,
    requests: wholeNumber(1, 1_000_000_000).optional(),
    per: duration.optional(),
    burst: wholeNumber(1, 1_000_000_000).optional(),
    algorithm: choice(['TokenBucket', 'SlidingWindow']).optional(),
    scope: choice(['Node', 'Mesh']).optional(),
    by: z.array(key).min(1).max(MAX_KEYS).optional(),
    headers: choice(['RateLimit', 'None']).optional(),
    service: service.optional(),
  }),
  (value, report) => {
    if (value.service !== undefined) {
      for (const field of COUNTED) if (value[field] !== undefined) report([field], 'not with service: that one counts');
      if (value.by === undefined) report([], 'expected by: what the service is told of a request');
      return;
    }
    if (value.requests === undefined) report([], 'expected requests: how many pass, or service: who says so');
    const perMs = durationMs(textOf(value, 'per') ?? '1s');
    if (perMs !== null && (perMs < MIN_PER_MS || perMs > MAX_PER_MS)) report(['per'], `expected 100ms to 24h, found ${value.per}`);
    const requests = typeof value.requests === 'number' ? value.requests : 0;
    if (perMs !== null && perMs > 0 && (requests * 1_000) / perMs > MAX_PER_SECOND)
      report(['requests'], 'expected at most 1,000,000 a second');
    checkWindow(value, requests, report);
    const items = Array.isArray(value.by) ? (value.by as Unchecked[]) : [];
    items.forEach((item, index) => {
      const same = item?.value !== undefined ? 'value' : item?.source === 'Target' ? 'source' : null;
      if (same !== null) report(['by', index, same], 'only with service: by what is the same of all requests nothing is counted apart');
    });
  },
);

function checkWindow(value: Unchecked, requests: number, report: (path: readonly string[], message: string) => void): void {
  if (value.algorithm !== 'SlidingWindow') return;
  if (value.burst !== undefined) report(['burst'], 'only of a TokenBucket: a window holds its requests');
  if (value.scope === 'Mesh') report(['scope'], 'of a SlidingWindow Node alone: what nodes share is a TokenBucket');
  if (requests > MAX_IN_WINDOW) report(['requests'], `expected at most ${MAX_IN_WINDOW} in a SlidingWindow`);
}

export const rateLimits = unique(z.array(rateLimit).min(1).max(MAX_RATE_LIMITS), 'names of rateLimits', ['name'], (item) =>
  textOf(item, 'name'),
);
