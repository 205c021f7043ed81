// What a rate limit service answered → a verdict, and lines for the request and for the client's answer. Bytes of somebody else's: everything is
// checked and bounded. Pure.
import type { HeaderValue } from '../../../api/gen/envoy/config/core/v3/core.js';
import {
  RateLimitResponse_Code as Code,
  RateLimitResponse,
  type RateLimitResponse_DescriptorStatus as Status,
  RateLimitResponse_RateLimit_Unit as Unit,
} from '../../../api/gen/envoy/service/ratelimit/v3/rls.js';
import type { AskedLimitSpec } from './spec.js';

const MAX_HEADERS = 32;
const MAX_VALUE_BYTES = 4_096;
/** Of a refusal's body. */
const MAX_BODY_BYTES = 64 * 1_024;
const NAME = /^[a-z0-9!#$%&'*+\-.^_`|~]{1,256}$/;
/** Bytes of the field values of RFC 9110 5.5, one a character. */
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
const DAY = 86_400;
const UNIT_SECONDS: Readonly<Record<number, number>> = {
  [Unit.SECOND]: 1,
  [Unit.MINUTE]: 60,
  [Unit.HOUR]: 3_600,
  [Unit.DAY]: DAY,
  [Unit.WEEK]: 7 * DAY,
  [Unit.MONTH]: 30 * DAY,
  [Unit.YEAR]: 365 * DAY,
};

type AskedLimit = Pick<AskedLimitSpec, 'name' | 'isTold'>;

export interface ServiceAnswer {
  readonly passes: boolean;
  /** By descriptor: whether that one is over its limit. */
  readonly over: readonly boolean[];
  /** Headers as Engine.changeDeferred() reads them, one line each. */
  readonly forRequest: readonly string[];
  readonly forAnswer: readonly string[];
  /** Of a refusal; empty: none of its own. */
  readonly body: Buffer;
}

/** `limits`: by descriptor. Null: it is no answer. */
export function readAnswer(message: Buffer | null, limits: readonly AskedLimit[]): ServiceAnswer | null {
  const response = message === null ? null : decoded(message);
  if (response === null || response.overallCode === Code.UNKNOWN) return null;
  const passes = response.overallCode !== Code.OVER_LIMIT;
  const statuses = response.statuses.slice(0, limits.length);
  const own = headerLines(response.responseHeadersToAdd);
  return {
    passes,
    over: statuses.map(({ code }) => code === Code.OVER_LIMIT),
    forRequest: headerLines(response.requestHeadersToAdd),
    forAnswer: [...limitLines(statuses, limits), ...(passes ? [] : refusalLines(statuses, own)), ...own],
    body: passes ? Buffer.alloc(0) : Buffer.from(response.rawBody.subarray(0, MAX_BODY_BYTES)),
  };
}

function decoded(message: Buffer): RateLimitResponse | null {
  try {
    return RateLimitResponse.decode(message);
  } catch {
    return null;
  }
}

/** What can't stand in a message is left out. */
function headerLines(headers: readonly HeaderValue[]): string[] {
  return headers.slice(0, MAX_HEADERS).flatMap(({ key, value, rawValue }) => {
    const name = key.toLowerCase();
    const text = (rawValue.length > 0 ? Buffer.from(rawValue) : Buffer.from(value)).toString('latin1');
    return NAME.test(name) && text.length <= MAX_VALUE_BYTES && VALUE.test(text) ? [`+${name}: ${text}`] : [];
  });
}

/** Of the limit that is nearest, of those that are told: RateLimit and RateLimit-Policy as for the limits that are counted here, and X-RateLimit-* as Envoy has them. */
function limitLines(statuses: readonly Status[], limits: readonly AskedLimit[]): string[] {
  const limited = statuses.flatMap((status, index) => {
    const { currentLimit, limitRemaining } = status;
    const { name: ownName, isTold } = limits[index]!;
    if (currentLimit === undefined || !isTold) return [];
    const name = `"${(currentLimit.name || ownName).replace(/[^\x20-\x7e]|["\\]/g, '_').slice(0, 256)}"`;
    const quota = `q=${currentLimit.requestsPerUnit};w=${UNIT_SECONDS[currentLimit.unit] ?? 0}`;
    return [{ name, quota, limit: currentLimit.requestsPerUnit, remaining: limitRemaining, reset: secondsOf(status) }];
  });
  if (limited.length === 0) return [];
  const nearest = limited.reduce((a, b) => (b.remaining < a.remaining ? b : a));
  const windows = limited.map(({ name, quota, limit }) => `${limit};w=${quota.split(';w=')[1]};name=${name}`);
  return [
    `+ratelimit-policy: ${limited.map(({ name, quota }) => `${name};${quota}`).join(', ')}`,
    `+ratelimit: ${nearest.name};r=${nearest.remaining};t=${nearest.reset}`,
    `+x-ratelimit-limit: ${nearest.limit}, ${windows.join(', ')}`,
    `+x-ratelimit-remaining: ${nearest.remaining}`,
    `+x-ratelimit-reset: ${nearest.reset}`,
  ];
}

function refusalLines(statuses: readonly Status[], own: readonly string[]): string[] {
  const over = statuses.filter(({ code, durationUntilReset }) => code === Code.OVER_LIMIT && durationUntilReset !== undefined);
  const says = own.some((line) => line.startsWith('+retry-after: '));
  const wait = over.length === 0 || says ? [] : [`+retry-after: ${Math.max(1, ...over.map(secondsOf))}`];
  return ['+x-envoy-ratelimited: true', ...wait];
}

function secondsOf({ durationUntilReset }: Status): number {
  const { seconds = 0, nanos = 0 } = durationUntilReset ?? {};
  return Math.min(Math.max(0, seconds + (nanos > 0 ? 1 : 0)), 365 * DAY);
}
