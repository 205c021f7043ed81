// gateway.networking.k8s.io/v1 GRPCRoute: matches by gRPC service and method, otherwise as an HTTPRoute. Owner: Gateway API v1.
import { z } from 'zod';
import { grpcFilters } from './http-filter.js';
import { MAX_MATCHES, REPEATED_MATCH, ruleList, valueMatch, warnOfExpression } from './http-match.js';
import { objectOf } from './metadata.js';
import { defaultGateways, parentRefs, serviceBackendRef } from './route-references.js';
import { choice, describe, fields, withRule } from './schema.js';
import { sessionPersistence } from './session-persistence.js';
import { dnsSubdomain, hostname, sectionName, uniqueHeaderNames } from './syntax.js';

const method = withRule(
  fields({
    type: choice(['Exact', 'RegularExpression']).default('Exact'),
    service: z.string().min(1).max(1024).optional(),
    method: z.string().min(1).max(1024).optional(),
  }),
  (value, report) => {
    const { type, service, method: name } = value;
    for (const field of ['service', 'method'] as const) warnOfExpression(value, field, report);
    if (type !== 'RegularExpression')
      for (const [field, found, pattern, expected] of [
        [
          'service',
          service,
          /^\.?[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$/,
          'the full name of a gRPC service, such as shop.Catalog',
        ],
        ['method', name, /^[A-Za-z_][A-Za-z0-9_]*$/, 'the name of a gRPC method'],
      ] as const)
        if (typeof found === 'string' && !pattern.test(found)) report([field], `expected ${expected}, found ${describe(found)}`);
    if (service === undefined && name === undefined) report(['service'], 'required: a service, a method, or both');
  },
);

const match = fields({
  method: method.optional(),
  headers: uniqueHeaderNames(z.array(valueMatch(4096)).max(16), REPEATED_MATCH).optional(),
});

const rule = fields({
  name: sectionName.optional(),
  matches: z.array(match).max(MAX_MATCHES).prefault([{}]),
  filters: grpcFilters.optional(),
  backendRefs: z
    .array(serviceBackendRef({ filters: grpcFilters.optional() }))
    .max(16)
    .optional(),
  sessionPersistence: sessionPersistence.optional(),
});

export const grpcRouteKind = {
  kind: 'GRPCRoute',
  apiVersion: 'gateway.networking.k8s.io/v1',
  olderVersions: ['gateway.networking.k8s.io/v1alpha2'],
  plural: 'grpcroutes',
  shortNames: [],
  schema: objectOf(
    { kind: 'GRPCRoute', apiVersion: 'gateway.networking.k8s.io/v1', name: dnsSubdomain },
    {
      spec: fields({
        parentRefs: parentRefs.optional(),
        useDefaultGateways: defaultGateways,
        hostnames: z.array(hostname).max(16).optional(),
        rules: ruleList(rule).prefault([{}]),
      }),
    },
  ),
} as const;
