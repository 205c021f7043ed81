// TrafficPolicy's section `loadBalancer`. Owner: Weft, docs/traffic/load-balancing.md.
import { z } from 'zod';
import { localityLbSetting } from './locality.js';
import { choice, describe, fields, type Report, text, textOf, type Unchecked, wholeNumber, withRule } from './schema.js';
import { cookieAttribute, cookieName, cookiePart, duration, durationMs, headerName } from './syntax.js';

const HASHED = new Set(['RingHash', 'Maglev']);
const KEYS = ['header', 'cookie', 'sourceAddress', 'queryParameter', 'path'] as const;
const MAX_RING = 1_048_576;
const MAX_TABLE = 5_000_011;
const MAX_WINDOW_MS = 3_600_000;
const MIN_UPDATE_MS = 100;
const MAX_PENALTY = 1_000;

const hashKey = withRule(
  fields({
    header: headerName.optional(),
    cookie: fields({
      name: cookieName,
      path: cookiePart('a path for a cookie').optional(),
      ttl: duration.optional(),
      attributes: z.array(cookieAttribute).max(16).optional(),
    }).optional(),
    sourceAddress: z.literal(true, { error: 'expected true, or no such field' }).optional(),
    queryParameter: text('the name of a query parameter', /^[\x21-\x7e]+$/, 256).optional(),
    path: z.literal(true, { error: 'expected true, or no such field' }).optional(),
  }),
  (value, report) => {
    const given = KEYS.filter((key) => value[key] !== undefined);
    if (given.length === 0) report([], `expected one of ${KEYS.join(', ')}: what requests are told apart by`);
    for (const key of given.slice(1)) report([key], `not with ${given[0]}: requests are told apart by one thing`);
  },
);

const slowStart = withRule(
  fields({
    window: duration,
    aggression: z
      .number()
      .min(1, { error: ({ input }) => `expected a number of at least 1, found ${describe(input)}` })
      .optional(),
    minimumPercent: wholeNumber(0, 100).optional(),
  }),
  (value, report) => {
    const window = durationMs(textOf(value, 'window') ?? '');
    if (window !== null && (window < 1 || window > MAX_WINDOW_MS)) report(['window'], `expected 1ms to 1h, found ${value.window}`);
  },
);

const ORCA_ALONE = ['blackoutPeriod', 'expirationPeriod', 'updatePeriod', 'errorUtilizationPenalty'] as const;

/** Names of Envoy's ClientSideWeightedRoundRobin, as far as it has them. */
const weights = withRule(
  fields({
    source: choice(['Static', 'ORCA', 'Node']),
    blackoutPeriod: duration.optional(),
    expirationPeriod: duration.optional(),
    updatePeriod: duration.optional(),
    errorUtilizationPenalty: z
      .number()
      .min(0, { error: ({ input }) => `expected a number of at least 0, found ${describe(input)}` })
      .max(MAX_PENALTY, { error: ({ input }) => `expected a number of at most ${MAX_PENALTY}, found ${describe(input)}` })
      .optional(),
  }),
  (value, report) => {
    if (value.source !== 'ORCA')
      for (const field of ORCA_ALONE)
        if (value[field] !== undefined) report([field], 'only with source ORCA: it is about endpoints’ own reports');
    const update = durationMs(textOf(value, 'updatePeriod') ?? '');
    if (update !== null && update < MIN_UPDATE_MS) report(['updatePeriod'], `expected 100ms at least, found ${value.updatePeriod}`);
    const expiration = durationMs(textOf(value, 'expirationPeriod') ?? '');
    if (expiration === 0) report(['expirationPeriod'], 'expected more than 0s: no report would ever count');
  },
);

export const loadBalancer = withRule(
  fields({
    type: choice(['RoundRobin', 'Random', 'LeastRequest', 'PeakEWMA', 'RingHash', 'Maglev']).optional(),
    leastRequest: withRule(fields({ choices: wholeNumber(2, 100).optional(), fullScan: z.boolean().optional() }), (value, report) => {
      if (value.choices !== undefined && value.fullScan === true) report(['choices'], 'not with fullScan: all endpoints are compared');
    }).optional(),
    peakEWMA: fields({ decay: duration.optional() }).optional(),
    hash: hashKey.optional(),
    ringHash: fields({ minimumSize: wholeNumber(1, MAX_RING).optional(), maximumSize: wholeNumber(1, MAX_RING).optional() }).optional(),
    maglev: fields({
      tableSize: wholeNumber(2, MAX_TABLE)
        .refine(isPrime, { error: ({ input }) => `expected a prime number, found ${String(input)}` })
        .optional(),
    }).optional(),
    failover: choice(['Consistent', 'Random', 'Dynamic', 'FailFast']).optional(),
    locality: localityLbSetting.optional(),
    slowStart: slowStart.optional(),
    panicThreshold: wholeNumber(0, 100).optional(),
    weights: weights.optional(),
  }),
  checkLoadBalancer,
);

/** Which field goes with which type. */
const OF_TYPE = [
  ['leastRequest', ['LeastRequest']],
  ['peakEWMA', ['PeakEWMA']],
  ['hash', [...HASHED]],
  ['ringHash', ['RingHash']],
  ['maglev', ['Maglev']],
  ['failover', [...HASHED]],
] as const;

function checkLoadBalancer(value: Unchecked, report: Report): void {
  if (Object.keys(value).length === 0) report([], 'says nothing: expected type or another field');
  const type = textOf(value, 'type') ?? 'LeastRequest';
  for (const [field, types] of OF_TYPE)
    if (value[field] !== undefined && !(types as readonly string[]).includes(type))
      report([field], `only with type ${types.join(' or ')}, found ${type}`);
  if (HASHED.has(type) && value.hash === undefined) report([], `type ${type} needs hash: what requests are told apart by`);
  if (HASHED.has(type) && value.slowStart !== undefined) report(['slowStart'], `not with type ${type}: its endpoints' shares are fixed`);
  if (HASHED.has(type) && sourceOf(value.weights) !== 'Static')
    report(['weights'], `not with type ${type}: a key's endpoint must not change with how busy that is`);
}

function sourceOf(weights: unknown): unknown {
  return typeof weights === 'object' && weights !== null && 'source' in weights ? weights.source : 'Static';
}

export function isPrime(value: number): boolean {
  if (value < 2) return false;
  for (let divisor = 2; divisor * divisor <= value; divisor++) if (value % divisor === 0) return false;
  return true;
}
