// gateway.networking.x-k8s.io/v1alpha1 XBackendTrafficPolicy: how much of a Service's traffic may be retries, and sessions that stay with one of its
// endpoints. Owner: Gateway API (experimental channel; GEP-3388, GEP-1619).
import { z } from 'zod';
import { objectOf } from './metadata.js';
import { fields, openChoice, textOf, unique, withRule } from './schema.js';
import { sessionPersistence } from './session-persistence.js';
import { dnsSubdomain, objectName } from './syntax.js';
import { checkBudgetOfInterval, minRetryRate, retryShareOfInterval } from './traffic-policy-resilience.js';

const targetRef = fields({
  group: openChoice([''], 'targets of group', []).default(''),
  kind: openChoice(['Service'], 'targets of kind', []).default('Service'),
  name: objectName,
});

export const backendTrafficPolicyKind = {
  kind: 'XBackendTrafficPolicy',
  apiVersion: 'gateway.networking.x-k8s.io/v1alpha1',
  olderVersions: [],
  plural: 'xbackendtrafficpolicies',
  shortNames: ['xbtrafficpolicy'],
  schema: objectOf(
    { kind: 'XBackendTrafficPolicy', apiVersion: 'gateway.networking.x-k8s.io/v1alpha1', name: dnsSubdomain },
    {
      spec: fields({
        targetRefs: unique(z.array(targetRef).min(1).max(16), 'targetRefs', ['name'], (item) => textOf(item, 'name')),
        retryConstraint: withRule(
          fields({ budget: retryShareOfInterval.optional(), minRetryRate: minRetryRate.optional() }),
          checkBudgetOfInterval,
        ).optional(),
        sessionPersistence: sessionPersistence.optional(),
      }),
    },
  ),
} as const;
