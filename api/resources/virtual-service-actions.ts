// What a VirtualService's rule does with a request beside routing it. Owner: Istio API and its webhook's validation.
import { z } from 'zod';
import { checkOneOf, flag, fractionalPercentage, goDuration, goDurationMs, has, listOf, regex, stringMatch } from './istio-common.js';
import { checkRetryCondition } from './retry-condition.js';
import { choice, describe, fields, formerField, portNumber, text, textOf, wholeNumber, withRule } from './schema.js';
import { authority, pathText } from './syntax.js';

export const redirect = withRule(
  fields({
    uri: pathText.optional(),
    authority: authority(0).optional(),
    port: portNumber.optional(),
    derivePort: choice(['FROM_PROTOCOL_DEFAULT', 'FROM_REQUEST_PORT']).optional(),
    scheme: choice(['http', 'https']).optional(),
    redirectCode: wholeNumber(300, 399).optional(),
  }),
  (value, report) => {
    checkOneOf(value, ['port', 'derivePort'], report);
    if (!['uri', 'authority', 'port', 'derivePort', 'scheme'].some((field) => has(value, field)))
      report([], 'says nothing: expected uri, authority, scheme or port');
  },
);

const base64 = z
  .string()
  .max(1_398_104)
  .refine((value) => /^[A-Za-z0-9+/_-]*={0,2}$/.test(value), {
    error: ({ input }) => `expected bytes in base64, found ${describe(input)}`,
  });

export const directResponse = fields({
  status: wholeNumber(200, 600),
  body: withRule(fields({ string: z.string().max(1_048_576).optional(), bytes: base64.optional() }), (value, report) => {
    checkOneOf(value, ['string', 'bytes'], report);
    for (const [field, share] of [
      ['string', 1],
      ['bytes', 3 / 4],
    ] as const)
      if ((textOf(value, field) ?? '').length * share > 102_400)
        report([field], 'every node holds it: expected less than 100 KiB', 'warning');
  }).optional(),
});

export const rewrite = withRule(
  fields({
    uri: pathText.optional(),
    authority: authority(0).optional(),
    uriRegexRewrite: fields({
      match: regex,
      rewrite: pathText.refine((value) => value !== '', { error: 'expected what to write' }),
    }).optional(),
  }),
  (value, report) => {
    checkOneOf(value, ['uri', 'uriRegexRewrite'], report);
    if (!['uri', 'authority', 'uriRegexRewrite'].some((field) => has(value, field)))
      report([], 'says nothing: expected uri, authority or uriRegexRewrite');
  },
);

const GRPC_STATUS =
  /^(OK|CANCELLED|UNKNOWN|INVALID_ARGUMENT|DEADLINE_EXCEEDED|NOT_FOUND|ALREADY_EXISTS|PERMISSION_DENIED|RESOURCE_EXHAUSTED|FAILED_PRECONDITION|ABORTED|OUT_OF_RANGE|UNIMPLEMENTED|INTERNAL|UNAVAILABLE|DATA_LOSS|UNAUTHENTICATED)$/;

export const fault = withRule(
  fields({
    delay: withRule(
      fields({
        fixedDelay: goDuration.optional(),
        exponentialDelay: formerField('was never supported: use fixedDelay'),
        percentage: fractionalPercentage.optional(),
        percent: wholeNumber(0, 100).optional(),
      }),
      ({ fixedDelay, exponentialDelay }, report) => {
        if (fixedDelay === undefined && exponentialDelay === undefined) report([], 'says nothing: expected fixedDelay', 'warning');
      },
    ).optional(),
    abort: withRule(
      fields({
        httpStatus: wholeNumber(200, 600).optional(),
        grpcStatus: text('a status of gRPC such as UNAVAILABLE', GRPC_STATUS, 32).optional(),
        http2Error: formerField('was never supported: use httpStatus or grpcStatus'),
        percentage: fractionalPercentage.optional(),
      }),
      (value, report) => {
        checkOneOf(value, ['httpStatus', 'grpcStatus'], report);
        if (!['httpStatus', 'grpcStatus', 'http2Error'].some((field) => has(value, field)))
          report([], 'says nothing: expected httpStatus or grpcStatus', 'warning');
      },
    ).optional(),
  }),
  (value, report) => {
    if (value.delay === undefined && value.abort === undefined) report([], 'says nothing: expected delay or abort');
  },
);

export const retries = withRule(
  fields({
    attempts: wholeNumber(0, 2_147_483_647).optional(),
    perTryTimeout: goDuration.optional(),
    retryOn: z.string().max(1024).optional(),
    retryRemoteLocalities: flag,
    retryIgnorePreviousHosts: flag,
    backoff: goDuration.optional(),
  }),
  (value, report) => {
    if ((value.attempts ?? 0) === 0)
      for (const field of ['perTryTimeout', 'retryOn', 'retryRemoteLocalities'] as const)
        if (value[field] !== undefined) report([field], 'not without attempts: 0 turns retries off');
    for (const condition of (textOf(value, 'retryOn') ?? '').split(',').map((item) => item.trim()))
      if (condition !== '') checkRetryCondition(condition, ['retryOn'], report);
  },
);

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE'] as const;
const corsHeader = text('the name of a header (letters, digits, "-" and "_") or "*"', /^(\*|[-_A-Za-z0-9]+)$/, 256);
export const corsPolicy = fields({
  allowOrigin: listOf(z.string()).optional(),
  allowOrigins: listOf(
    withRule(stringMatch, (value, report) => {
      if (!['exact', 'prefix', 'regex'].some((field) => has(value, field))) report([], 'says nothing: expected exact, prefix or regex');
    }),
  ).optional(),
  allowMethods: listOf(choice(METHODS)).optional(),
  allowHeaders: listOf(corsHeader).optional(),
  exposeHeaders: listOf(corsHeader).optional(),
  maxAge: goDuration
    .refine((value) => (goDurationMs(value) ?? 0) % 1000 === 0, {
      error: ({ input }) => `expected whole seconds, found ${describe(input)}`,
    })
    .optional(),
  allowCredentials: flag,
  unmatchedPreflights: choice(['UNSPECIFIED', 'FORWARD', 'IGNORE']).optional(),
});
