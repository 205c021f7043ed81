// TrafficPolicy's sections `outlierDetection`, `circuitBreaker`, `retryBudget` and `admission`. Owner: Weft, docs/traffic/resilience.md.
import { z } from 'zod';
import { percentNumber as percent } from './istio-common.js';
import { describe, fields, isUnchecked, type Report, textOf, type Unchecked, wholeNumber, withRule } from './schema.js';
import { duration, durationMs, headerName, headerValue } from './syntax.js';

const count = wholeNumber(0, 1_000_000_000);

function within(value: Unchecked, report: Report, field: string, minMs: number, maxMs: number, expected: string): void {
  const ms = durationMs(textOf(value, field) ?? '');
  if (ms !== null && (ms < minMs || ms > maxMs)) report([field], `expected ${expected}, found ${value[field]}`);
}

const volume = { minimumRequests: wholeNumber(1, 1_000_000).optional(), minimumEndpoints: wholeNumber(1, 65_535).optional() };

export const outlierDetection = withRule(
  fields({
    consecutive5xxErrors: count.optional(),
    consecutiveGatewayErrors: count.optional(),
    splitExternalLocalOriginErrors: z.boolean().optional(),
    consecutiveLocalOriginFailures: count.optional(),
    interval: duration.optional(),
    baseEjectionTime: duration.optional(),
    maxEjectionTime: duration.optional(),
    maxEjectionPercent: wholeNumber(0, 100).optional(),
    minHealthPercent: wholeNumber(0, 100).optional(),
    successRate: fields({ ...volume, standardDeviations: z.number().min(0).max(100).optional() }).optional(),
    failurePercentage: fields({ ...volume, threshold: wholeNumber(1, 100).optional() }).optional(),
    trialRequests: wholeNumber(1, 1_000).optional(),
  }),
  (value, report) => {
    within(value, report, 'interval', 10, 3_600_000, '10ms to 1h');
    within(value, report, 'baseEjectionTime', 10, 86_400_000, '10ms to 24h');
    within(value, report, 'maxEjectionTime', 10, 86_400_000, '10ms to 24h');
  },
);

export const circuitBreaker = withRule(
  fields({
    maxRequests: wholeNumber(1, 1_000_000_000).optional(),
    maxRequestsPerEndpoint: wholeNumber(1, 1_000_000_000).optional(),
    maxRetries: count.optional(),
  }),
  (value, report) => {
    if (Object.keys(value).length === 0) report([], 'says nothing: expected a limit');
  },
);

/** Of the requests of an interval, and how many may be in any case: also what a retryConstraint says (Gateway API). */
export const retryShareOfInterval = fields({ percent: percent.optional(), interval: duration.optional() });
export const minRetryRate = fields({ count: wholeNumber(1, 1_000_000).optional(), interval: duration.optional() });

export function checkBudgetOfInterval(value: Unchecked, report: Report): void {
  for (const field of ['budget', 'minRetryRate'] as const) {
    const section = value[field];
    if (isUnchecked(section))
      within(section, (path, message) => report([field, ...path], message), 'interval', 1_000, 3_600_000, '1s to 1h');
  }
}

export const retryBudget = withRule(
  fields({
    percent: percent.optional(),
    minRetryConcurrency: count.optional(),
    budget: retryShareOfInterval.optional(),
    minRetryRate: minRetryRate.optional(),
  }),
  (value, report) => {
    const isOfActive = value.percent !== undefined || value.minRetryConcurrency !== undefined;
    const isOfInterval = value.budget !== undefined || value.minRetryRate !== undefined;
    if (!isOfActive && !isOfInterval)
      report([], 'says nothing: expected percent and minRetryConcurrency (of the requests in flight), or budget and minRetryRate');
    checkBudgetOfInterval(value, report);
  },
);

const adaptive = withRule(
  fields({
    minConcurrency: wholeNumber(1, 1_000_000).optional(),
    maxConcurrency: wholeNumber(1, 1_000_000).optional(),
    updateInterval: duration.optional(),
    minRTTInterval: duration.optional(),
    minRTTRequests: wholeNumber(5, 100_000).optional(),
    buffer: percent.optional(),
    percentile: percent.optional(),
  }),
  (value, report) => {
    within(value, report, 'updateInterval', 20, 60_000, '20ms to 1m');
    within(value, report, 'minRTTInterval', 1_000, 3_600_000, '1s to 1h');
    const { minConcurrency = 3, maxConcurrency = 1_000 } = value;
    if (typeof minConcurrency === 'number' && typeof maxConcurrency === 'number' && minConcurrency > maxConcurrency)
      report(['minConcurrency'], `expected no more than maxConcurrency (${maxConcurrency}), found ${minConcurrency}`);
  },
);

const criticality = withRule(
  fields({
    header: headerName,
    values: z
      .array(headerValue(256, 1))
      .min(2)
      .max(4)
      .refine((values) => new Set(values).size === values.length, { error: 'values must be unique' }),
    default: z.string().optional(),
  }),
  (value, report) => {
    if (value.default !== undefined && Array.isArray(value.values) && !value.values.includes(value.default))
      report(['default'], `expected one of values, found ${describe(value.default)}`);
  },
);

export const admission = withRule(
  fields({
    maxConcurrency: wholeNumber(1, 1_000_000).optional(),
    adaptive: adaptive.optional(),
    criticality: criticality.optional(),
  }),
  (value, report) => {
    if (value.maxConcurrency === undefined && value.adaptive === undefined)
      report([], 'expected maxConcurrency (a fixed limit), or adaptive ({}: one that follows what requests take)');
    if (value.maxConcurrency !== undefined && value.adaptive !== undefined)
      report(['adaptive'], 'not with maxConcurrency: the limit is fixed, or it is found');
  },
);
