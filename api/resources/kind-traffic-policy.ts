// mesh.weft.dev/v1 TrafficPolicy: how clients treat a service: the load balancer, the PROXY protocol, active health checks. Owner: Weft, docs/resources.md.
import { z } from 'zod';
import { objectOf } from './metadata.js';
import { choice, fields, portNumber, text, textOf, unique, wholeNumber, withRule } from './schema.js';
import { authority, dnsSubdomain, duration, durationMs, hostname } from './syntax.js';
import { loadBalancer } from './traffic-policy-load-balancer.js';
import { admission, circuitBreaker, outlierDetection, retryBudget } from './traffic-policy-resilience.js';

const targetRef = fields({
  group: z.literal('', { error: 'expected group: "", the group of Service' }).default(''),
  kind: choice(['Service']),
  // A host of a ServiceEntry is a Service too.
  name: dnsSubdomain,
});

const WAYS = ['http', 'grpc', 'tcp'] as const;
const MIN_INTERVAL_MS = 100;
const MAX_INTERVAL_MS = 3_600_000;

const statusRange = text('a status such as 200, or a range such as 200-299', /^[1-5]\d\d(-[1-5]\d\d)?$/, 7).refine(
  (value) => {
    const [first, last] = value.split('-');
    return last === undefined || Number(first) <= Number(last);
  },
  { error: ({ input }) => `expected the lower status first, found ${input}` },
);

const healthCheck = withRule(
  fields({
    interval: duration.optional(),
    timeout: duration.optional(),
    unhealthyThreshold: wholeNumber(1, 100).optional(),
    healthyThreshold: wholeNumber(1, 100).optional(),
    port: portNumber.optional(),
    tls: fields({ serverName: hostname.optional() }).optional(),
    http: fields({
      path: text('an absolute path such as /healthz', /^\/[\x21-\x7e]*$/, 1024).optional(),
      host: authority().optional(),
      statuses: z.array(statusRange).min(1).max(16).optional(),
    }).optional(),
    grpc: fields({ service: text('the name of a gRPC service', /^[\x21-\x7e]*$/, 255, 0).optional() }).optional(),
    tcp: fields({}).optional(),
  }),
  (value, report) => {
    const ways = WAYS.filter((way) => value[way] !== undefined);
    if (ways.length === 0) report([], `expected one of ${WAYS.join(', ')}: what is asked of an endpoint`);
    for (const way of ways.slice(1)) report([way], `not with ${ways[0]}: an endpoint is asked one thing`);
    const interval = durationMs(textOf(value, 'interval') ?? '');
    const isTooOften = interval !== null && (interval < MIN_INTERVAL_MS || interval > MAX_INTERVAL_MS);
    if (isTooOften) report(['interval'], `expected ${MIN_INTERVAL_MS}ms to 1h, found ${value.interval}`);
    const timeout = durationMs(textOf(value, 'timeout') ?? '');
    if (timeout !== null && (timeout < 10 || timeout > 60_000)) report(['timeout'], `expected 10ms to 1m, found ${value.timeout}`);
  },
);

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
        loadBalancer: loadBalancer.optional(),
        outlierDetection: outlierDetection.optional(),
        circuitBreaker: circuitBreaker.optional(),
        retryBudget: retryBudget.optional(),
        admission: admission.optional(),
        proxyProtocol: choice(['v1', 'v2']).optional(),
        healthCheck: healthCheck.optional(),
      }),
    },
  ),
} as const;
