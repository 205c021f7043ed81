// telemetry.istio.io Telemetry. Owner: Istio API, the rules of its CRD.
import { z } from 'zod';
import { celFault } from './cel-syntax.js';
import {
  checkOneOf,
  checkTargets,
  filled,
  flag,
  goDuration,
  istioKind,
  itemsOf,
  listOf,
  mapOf,
  percentNumber,
  targets,
} from './istio-common.js';
import { choice, describe, fields, withRule } from './schema.js';

const providers = listOf(fields({ name: filled('the name of a provider', 256) })).optional();
const mode = choice(['CLIENT_AND_SERVER', 'CLIENT', 'SERVER']).optional();
const fallback = { name: filled('a name', 1024), defaultValue: z.string().optional() };

const customTag = withRule(
  fields({
    literal: fields({ value: filled('a value', 4096) }).optional(),
    environment: fields(fallback).optional(),
    header: fields(fallback).optional(),
    formatter: fields({ value: filled('a format', 4096) }).optional(),
  }),
  (value, report) => checkOneOf(value, ['literal', 'environment', 'header', 'formatter'], report),
);

const tracing = fields({
  match: fields({ mode }).optional(),
  providers,
  randomSamplingPercentage: percentNumber.optional(),
  disableSpanReporting: flag,
  customTags: mapOf(customTag).optional(),
  enableIstioTags: flag,
  useRequestIdForTraceSampling: flag,
});

const METRICS = [
  ...[
    'ALL_METRICS',
    'REQUEST_COUNT',
    'REQUEST_DURATION',
    'REQUEST_SIZE',
    'RESPONSE_SIZE',
    'TCP_OPENED_CONNECTIONS',
    'TCP_CLOSED_CONNECTIONS',
  ],
  ...['TCP_SENT_BYTES', 'TCP_RECEIVED_BYTES', 'GRPC_REQUEST_MESSAGES', 'GRPC_RESPONSE_MESSAGES'],
] as unknown as readonly ['ALL_METRICS', ...string[]];

const tagOverride = withRule(
  fields({ operation: choice(['UPSERT', 'REMOVE']).optional(), value: z.string().optional() }),
  ({ operation = 'UPSERT', value }, report) => {
    if (operation === 'UPSERT' && (value === undefined || value === '')) report(['value'], 'required by operation UPSERT');
    if (operation === 'REMOVE' && value !== undefined && value !== '') report(['value'], 'must not be set with operation REMOVE');
  },
);

const expression = z.string().superRefine((value, context) => {
  const fault = value === '' ? null : celFault(value);
  if (fault !== null)
    context.addIssue({ code: 'custom', message: `expected an expression of CEL: it can't be read at ${describe(fault)}` });
});

const override = fields({
  match: withRule(
    fields({ metric: choice(METRICS).optional(), customMetric: filled('the name of a metric', 256).optional(), mode }),
    (value, report) => checkOneOf(value, ['metric', 'customMetric'], report),
  ).optional(),
  disabled: flag,
  tagOverrides: mapOf(tagOverride).optional(),
});

export const telemetryKind = istioKind(
  { kind: 'Telemetry', group: 'telemetry.istio.io', plural: 'telemetries', notActedOn: 'Telemetry' },
  withRule(
    fields({
      ...targets,
      tracing: listOf(tracing).optional(),
      metrics: listOf(fields({ providers, overrides: listOf(override).optional(), reportingInterval: goDuration.optional() })).optional(),
      accessLogging: listOf(
        fields({
          match: fields({ mode }).optional(),
          providers,
          disabled: flag,
          filter: fields({ expression: expression.optional() }).optional(),
        }),
      ).optional(),
    }),
    (value, report) => {
      checkTargets(value, report);
      const list = itemsOf(value.tracing);
      if (list.length > 1) report(['tracing'], 'the first one alone is taken', 'warning');
      list.forEach((item, index) => {
        if (itemsOf(item.providers).length > 1) report(['tracing', index, 'providers'], 'the first one alone is taken', 'warning');
      });
    },
  ),
);
