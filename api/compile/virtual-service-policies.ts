// What a VirtualService's rule asks for besides where requests go → the model's: CORS, retries, faults. Pure.
import { type Answer, type Cors, type Fault, type Retry, type ValueMatch, ValueMatch_Type } from '../gen/mesh/v1/model.js';
import { goDurationMs } from '../resources/istio-common.js';
import { MAX_RETRIES } from './http-route.js';
import { DEFAULT_RETRY_ON, retryConditions } from './retry-conditions.js';
import type { HttpEntry } from './virtual-service.js';
import { compileString, limitMs } from './virtual-service-rules.js';

/** Parts of a million. */
export function percentParts(percent: number): number {
  return Math.round(Math.min(percent, 100) * 10_000);
}

export function compileCors(policy: HttpEntry['corsPolicy']): Cors | undefined {
  if (policy === undefined) return undefined;
  const { allowOrigins, allowOrigin, allowMethods, allowHeaders, exposeHeaders, maxAge, allowCredentials, unmatchedPreflights } = policy;
  const former = (allowOrigin ?? []).map((exact) => compileString('', { exact }));
  return {
    origins: [...(allowOrigins ?? []).map((origin) => compileString('', origin)), ...former].map(anyOrigin),
    credentials: allowCredentials ?? false,
    methods: [...(allowMethods ?? [])],
    headers: [...(allowHeaders ?? [])],
    expose: [...(exposeHeaders ?? [])],
    maxAgeSeconds: maxAge === undefined ? 0 : Math.min(Math.round((goDurationMs(maxAge) ?? 0) / 1_000), 0x7fff_ffff),
    forwardsUnmatched: unmatchedPreflights !== 'IGNORE',
  };
}

function anyOrigin(match: ValueMatch): ValueMatch {
  return match.type === ValueMatch_Type.EXACT && match.value === '*' ? { ...match, type: ValueMatch_Type.PRESENT } : match;
}

const DEFAULT_BACKOFF_MS = 25;

/** Envoy: what names methods' safety isn't asked; POST is tried again like any other. */
export function compileRetry(retries: HttpEntry['retries']): Retry | undefined {
  if (retries === undefined) return undefined;
  return {
    attempts: Math.min(retries.attempts ?? 0, MAX_RETRIES),
    ...retryConditions(retries.retryOn ? retries.retryOn.split(',').map((condition) => condition.trim()) : DEFAULT_RETRY_ON),
    anyMethod: true,
    heedsRetryAfter: false,
    headers: [],
    repeatsEndpoints: retries.retryIgnorePreviousHosts === false,
    remoteLocalities: retries.retryRemoteLocalities,
    backoffMs: retries.backoff === undefined ? DEFAULT_BACKOFF_MS : limitMs(retries.backoff),
  };
}

/** By number. */
const GRPC_STATUSES = [
  ...['OK', 'CANCELLED', 'UNKNOWN', 'INVALID_ARGUMENT', 'DEADLINE_EXCEEDED', 'NOT_FOUND', 'ALREADY_EXISTS', 'PERMISSION_DENIED'],
  ...['RESOURCE_EXHAUSTED', 'FAILED_PRECONDITION', 'ABORTED', 'OUT_OF_RANGE', 'UNIMPLEMENTED', 'INTERNAL', 'UNAVAILABLE', 'DATA_LOSS'],
  'UNAUTHENTICATED',
];

/** Where no share is said it is none of them (Istio). */
export function compileFault(fault: HttpEntry['fault']): Fault | undefined {
  if (fault === undefined) return undefined;
  const { delay, abort } = fault;
  const partsOf = (part: { percentage?: { value?: number | undefined } | undefined; percent?: number | undefined } | undefined): number =>
    percentParts(part?.percentage === undefined ? (part?.percent ?? 0) : (part.percentage.value ?? 0));
  return {
    delayMs: limitMs(delay?.fixedDelay),
    delayPartsPerMillion: partsOf(delay),
    abort: abort?.httpStatus === undefined && abort?.grpcStatus === undefined ? undefined : abortAnswer(abort),
    abortPartsPerMillion: partsOf(abort),
  };
}

function abortAnswer({ httpStatus, grpcStatus }: NonNullable<NonNullable<HttpEntry['fault']>['abort']>): Answer {
  const code = grpcStatus === undefined ? -1 : GRPC_STATUSES.indexOf(grpcStatus);
  // A gRPC status comes with 200.
  return { status: httpStatus ?? 200, body: Buffer.from('fault filter abort'), redirect: undefined, grpcStatusPlusOne: code + 1 };
}
