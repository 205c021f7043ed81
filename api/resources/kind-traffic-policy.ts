// mesh.weft.dev/v1 TrafficPolicy: how clients treat a service. Minimal for now: the load balancer, the PROXY protocol. Owner: Weft, docs/resources.md.
import { z } from 'zod';
import { objectOf } from './metadata.js';
import { choice, fields, textOf, unique } from './schema.js';
import { dnsLabel, dnsSubdomain } from './syntax.js';

const targetRef = fields({
  group: z.literal('', { error: 'expected group: "", the group of Service' }).default(''),
  kind: choice(['Service']),
  name: dnsLabel,
});

export const trafficPolicyKind = {
  kind: 'TrafficPolicy',
  apiVersion: 'mesh.weft.dev/v1',
  olderVersions: [],
  plural: 'trafficpolicies',
  shortNames: ['tp'],
  schema: objectOf(
    { kind: 'TrafficPolicy', apiVersion: 'mesh.weft.dev/v1', name: dnsSubdomain },
    {
      spec: fields({
        targetRefs: unique(z.array(targetRef).min(1).max(16), 'targetRefs', ['name'], (item) => textOf(item, 'name')),
        loadBalancer: fields({
          type: choice(['RoundRobin', 'Random', 'LeastRequest']),
        }).optional(),
        proxyProtocol: choice(['v1', 'v2']).optional(),
      }),
    },
  ),
} as const;

export type TrafficPolicyManifest = z.output<typeof trafficPolicyKind.schema>;
