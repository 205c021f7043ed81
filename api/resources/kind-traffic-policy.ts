// mesh.weft.dev/v1 TrafficPolicy: how clients treat a service: the load balancer, the PROXY protocol, active health checks; and how
// many requests pass. Owner: Weft, docs/resources.md.
import { z } from 'zod';
import { objectOf } from './metadata.js';
import { GATEWAY_GROUP } from './route-references.js';
import { choice, fields, portNumber, type Report, text, textOf, type Unchecked, unique, wholeNumber, withRule } from './schema.js';
import { authority, dnsSubdomain, duration, durationMs, hostname } from './syntax.js';
import { hedging, retries } from './traffic-policy-attempts.js';
import { connections } from './traffic-policy-connections.js';
import { loadBalancer } from './traffic-policy-load-balancer.js';
import { rateLimits } from './traffic-policy-rate-limits.js';
import { admission, circuitBreaker, outlierDetection, retryBudget } from './traffic-policy-resilience.js';

const ISTIO_GROUP = 'networking.istio.io';
/** By kind; what is not a Service has rateLimits alone. */
const TARGET_GROUPS: Readonly<Record<string, string>> = {
  Service: '',
  Namespace: '',
  HTTPRoute: GATEWAY_GROUP,
  GRPCRoute: GATEWAY_GROUP,
  Gateway: GATEWAY_GROUP,
  VirtualService: ISTIO_GROUP,
};

const targetRef = withRule(
  fields({
    group: choice(['', GATEWAY_GROUP, ISTIO_GROUP]).optional(),
    kind: choice(['Service', 'HTTPRoute', 'GRPCRoute', 'VirtualService', 'Gateway', 'Namespace']),
    // A host of a ServiceEntry is a Service too.
    name: dnsSubdomain,
    // Of a route: one of its rules.
    sectionName: dnsSubdomain.optional(),
  }),
  ({ group, kind, sectionName }, report) => {
    const expected = TARGET_GROUPS[String(kind)];
    if (group !== undefined && expected !== undefined && group !== expected)
      report(['group'], `expected "${expected}", the group of ${kind}`);
    if (sectionName !== undefined && !String(kind).endsWith('Route') && kind !== 'VirtualService')
      report(['sectionName'], 'only of a route: the name of a rule');
  },
);

function targetKey(item: Unchecked): string | null {
  const [kind, name] = [textOf(item, 'kind'), textOf(item, 'name')];
  return kind === null || name === null ? null : [kind, name, textOf(item, 'sectionName') ?? ''].join(' ').trimEnd();
}

/** Of what is no Service, only rateLimits are. */
function servicesOrLimits({ targetRefs, ...sections }: Unchecked, report: Report): void {
  const other = Object.keys(sections).find((name) => name !== 'rateLimits' && sections[name] !== undefined);
  const targets = Array.isArray(targetRefs) ? (targetRefs as Unchecked[]) : [];
  targets.forEach((target, index) => {
    if (other !== undefined && typeof target?.kind === 'string' && target.kind !== 'Service')
      report(['targetRefs', index, 'kind'], `${other} is of a Service: a ${target.kind} has rateLimits alone`);
  });
}

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
      spec: withRule(
        fields({
          targetRefs: unique(z.array(targetRef).min(1).max(16), 'targetRefs', ['name'], targetKey),
          loadBalancer: loadBalancer.optional(),
          outlierDetection: outlierDetection.optional(),
          circuitBreaker: circuitBreaker.optional(),
          retryBudget: retryBudget.optional(),
          admission: admission.optional(),
          retries: retries.optional(),
          hedging: hedging.optional(),
          connections: connections.optional(),
          proxyProtocol: choice(['v1', 'v2']).optional(),
          healthCheck: healthCheck.optional(),
          rateLimits: rateLimits.optional(),
        }),
        servicesOrLimits,
      ),
    },
  ),
} as const;
