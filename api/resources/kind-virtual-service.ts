// networking.istio.io VirtualService. Owner: Istio API and its webhook's validation.
import { z } from 'zod';
import {
  checkOneOf,
  destination,
  exportTo,
  filled,
  flag,
  goDuration,
  goDurationMs,
  goDurationOrZero,
  ipOrCidr,
  istioKind,
  itemsOf,
  listOf,
  mapOf,
  percentage,
  regex,
  stringMatch,
  wildcardHost,
} from './istio-common.js';
import { checkRetryCondition } from './retry-condition.js';
import {
  choice,
  describe,
  fields,
  isUnchecked,
  portNumber,
  type Report,
  text,
  textOf,
  type Unchecked,
  wholeNumber,
  withRule,
} from './schema.js';
import { authority, headerName, headerValue, labels, pathText } from './syntax.js';

const gatewayName = text('mesh, the name of a Gateway, or namespace/name', /^([a-z0-9.-]+\/)?[a-z0-9][a-z0-9.-]*$/, 317);
const gateways = listOf(gatewayName).optional();

const matchOfHttp = withRule(
  fields({
    name: z.string().optional(),
    uri: stringMatch.optional(),
    scheme: stringMatch.optional(),
    method: stringMatch.optional(),
    authority: stringMatch.optional(),
    headers: mapOf(stringMatch).optional(),
    withoutHeaders: mapOf(stringMatch).optional(),
    queryParams: mapOf(stringMatch).optional(),
    port: portNumber.optional(),
    sourceLabels: labels.optional(),
    sourceNamespace: z.string().optional(),
    gateways,
    ignoreUriCase: flag,
    statPrefix: z.string().optional(),
  }),
  (value, report) => {
    for (const field of ['headers', 'withoutHeaders'] as const) {
      const names = value[field];
      if (!isUnchecked(names)) continue;
      for (const name of Object.keys(names))
        if (!headerName.safeParse(name).success) report([field, name], `expected the name of a header, found ${describe(name)}`);
    }
  },
);

/** Of pseudo-headers :authority alone can be given, and that to a request. */
const headerOfRequest = text('the name of a header', /^(:authority|[A-Za-z0-9!#$%&'*+\-.^_`|~]+)$/, 256);
const removedHeader = headerName.refine((name) => name.toLowerCase() !== 'host', {
  error: 'every request has a host: it can be set, not removed',
});

const changesOf = (name: typeof headerOfRequest | typeof headerName) => {
  const values = z.record(name, headerValue(16_384, 0), {
    error: (issue) => (issue.code === 'invalid_key' ? 'expected the name of a header' : undefined),
  });
  return fields({ set: values.optional(), add: values.optional(), remove: listOf(removedHeader).optional() });
};
const headers = fields({ request: changesOf(headerOfRequest).optional(), response: changesOf(headerName).optional() });
const weight = wholeNumber(0, 2_147_483_647).optional();

/** Several of them share what there is: some weight must be left. */
function shares<Item extends z.ZodType>(item: Item) {
  return listOf(item, 1024).superRefine((items, context) => {
    if (!Array.isArray(items) || items.length < 2) return;
    const total = itemsOf(items).reduce((sum, each) => sum + (typeof each.weight === 'number' ? each.weight : 0), 0);
    if (total === 0) context.addIssue({ code: 'custom', message: 'the weights of several destinations must not all be 0' });
  });
}

const httpRoutes = shares(fields({ destination, weight, headers: headers.optional() }));
const routes = shares(fields({ destination, weight }));

const redirect = withRule(
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
    if (Object.keys(value).length === 0) report([], 'says nothing: expected uri, authority, scheme, port or redirectCode');
  },
);

const directResponse = fields({
  status: wholeNumber(200, 599),
  body: withRule(fields({ string: z.string().max(1_048_576).optional(), bytes: z.string().max(1_398_104).optional() }), (value, report) =>
    checkOneOf(value, ['string', 'bytes'], report),
  ).optional(),
});

const rewrite = withRule(
  fields({
    uri: pathText.optional(),
    authority: authority(0).optional(),
    uriRegexRewrite: fields({ match: regex, rewrite: pathText }).optional(),
  }),
  (value, report) => {
    checkOneOf(value, ['uri', 'uriRegexRewrite'], report);
    if (Object.keys(value).length === 0) report([], 'says nothing: expected uri, authority or uriRegexRewrite');
  },
);

const GRPC_STATUS =
  /^(OK|CANCELLED|UNKNOWN|INVALID_ARGUMENT|DEADLINE_EXCEEDED|NOT_FOUND|ALREADY_EXISTS|PERMISSION_DENIED|RESOURCE_EXHAUSTED|FAILED_PRECONDITION|ABORTED|OUT_OF_RANGE|UNIMPLEMENTED|INTERNAL|UNAVAILABLE|DATA_LOSS|UNAUTHENTICATED|1[0-6]|[0-9])$/;

const fault = withRule(
  fields({
    delay: withRule(
      fields({
        fixedDelay: goDuration.optional(),
        exponentialDelay: goDuration.optional(),
        percentage: percentage.optional(),
        percent: wholeNumber(0, 100).optional(),
      }),
      (value, report) => checkOneOf(value, ['fixedDelay', 'exponentialDelay'], report, true),
    ).optional(),
    abort: withRule(
      fields({
        httpStatus: wholeNumber(200, 599).optional(),
        grpcStatus: text('a status of gRPC such as UNAVAILABLE', GRPC_STATUS, 32).optional(),
        http2Error: z.string().optional(),
        percentage: percentage.optional(),
      }),
      (value, report) => checkOneOf(value, ['httpStatus', 'grpcStatus', 'http2Error'], report, true),
    ).optional(),
  }),
  (value, report) => {
    if (value.delay === undefined && value.abort === undefined) report([], 'says nothing: expected delay or abort');
  },
);

const retries = withRule(
  fields({
    attempts: wholeNumber(0, 2_147_483_647).optional(),
    perTryTimeout: goDurationOrZero.optional(),
    retryOn: z.string().max(1024).optional(),
    retryRemoteLocalities: flag,
    retryIgnorePreviousHosts: flag,
    backoff: goDuration.optional(),
  }),
  (value, report) => {
    if (value.attempts === 0)
      for (const field of ['perTryTimeout', 'retryOn', 'retryRemoteLocalities'] as const)
        if (value[field] !== undefined) report([field], 'not with attempts: 0, which turns retries off');
    for (const condition of (textOf(value, 'retryOn') ?? '').split(',').map((item) => item.trim()))
      if (condition !== '') checkRetryCondition(condition, ['retryOn'], report);
  },
);

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE'] as const;
const corsPolicy = fields({
  allowOrigin: listOf(z.string()).optional(),
  allowOrigins: listOf(stringMatch).optional(),
  allowMethods: listOf(choice([...METHODS, '*'])).optional(),
  allowHeaders: listOf(z.union([z.literal('*'), headerName], { error: 'expected the name of a header or "*"' })).optional(),
  exposeHeaders: listOf(z.union([z.literal('*'), headerName], { error: 'expected the name of a header or "*"' })).optional(),
  maxAge: goDurationOrZero
    .refine((value) => (goDurationMs(value) ?? 0) % 1000 === 0, {
      error: ({ input }) => `expected whole seconds, found ${describe(input)}`,
    })
    .optional(),
  allowCredentials: flag,
  unmatchedPreflights: choice(['UNSPECIFIED', 'FORWARD', 'IGNORE']).optional(),
});

/** As many as a node copies a request to. */
const MAX_MIRRORS = 16;

const delegate = fields({ name: filled('the name of a VirtualService', 253), namespace: z.string().optional() });

const http = withRule(
  fields({
    name: z.string().max(256).optional(),
    match: listOf(matchOfHttp, 1024).optional(),
    route: httpRoutes.optional(),
    redirect: redirect.optional(),
    directResponse: directResponse.optional(),
    delegate: delegate.optional(),
    rewrite: rewrite.optional(),
    timeout: goDurationOrZero.optional(),
    retries: retries.optional(),
    fault: fault.optional(),
    mirror: destination.optional(),
    mirrors: listOf(fields({ destination, percentage: percentage.optional() }), MAX_MIRRORS).optional(),
    mirrorPercent: wholeNumber(0, 100).optional(),
    mirror_percent: wholeNumber(0, 100).optional(),
    mirrorPercentage: percentage.optional(),
    corsPolicy: corsPolicy.optional(),
    headers: headers.optional(),
  }),
  checkHttp,
);

function checkHttp(value: Unchecked, report: Report): void {
  const has = (field: string): boolean => value[field] !== undefined && (!Array.isArray(value[field]) || value[field].length > 0);
  const actions = ['route', 'redirect', 'directResponse', 'delegate'].filter(has);
  if (actions.length > 1)
    report([actions[1] ?? ''], `only one of route, redirect, directResponse and delegate: found ${actions.join(' and ')}`);
  if (actions.length === 0) report(['route'], 'required: route, redirect, directResponse or delegate');
  for (const action of ['redirect', 'directResponse'])
    for (const field of ['fault', 'rewrite'])
      if (has(action) && has(field)) report([field], `not with ${action}: the request goes nowhere`);
  checkOneOf(value, ['mirror', 'mirrors'], report);
  checkOneOf(value, ['mirrorPercent', 'mirror_percent', 'mirrorPercentage'], report);
}

const connectionMatch = {
  destinationSubnets: listOf(ipOrCidr).optional(),
  port: portNumber.optional(),
  sourceLabels: labels.optional(),
  gateways,
  sourceNamespace: z.string().optional(),
};

const tls = fields({
  match: listOf(fields({ ...connectionMatch, sniHosts: z.array(wildcardHost).min(1).max(256) }), 1024).min(1),
  route: routes.min(1),
});

const tcp = fields({
  match: listOf(fields({ ...connectionMatch, sourceSubnet: ipOrCidr.optional() }), 1024).optional(),
  route: routes.min(1),
});

const spec = withRule(
  fields({
    hosts: listOf(wildcardHost).optional(),
    gateways,
    http: listOf(http, 4096).optional(),
    tls: listOf(tls, 4096).optional(),
    tcp: listOf(tcp, 4096).optional(),
    exportTo: exportTo.optional(),
  }),
  checkSpec,
);

function checkSpec(value: Unchecked, report: Report): void {
  const hosts = Array.isArray(value.hosts) ? (value.hosts as unknown[]) : [];
  const bound = Array.isArray(value.gateways) ? (value.gateways as unknown[]) : [];
  const isOfMesh = bound.length === 0 || bound.includes('mesh');
  hosts.forEach((host, index) => {
    const earlier = hosts.slice(0, index).find((other) => isSameHost(other, host));
    if (earlier !== undefined)
      report(
        ['hosts', index],
        earlier === host ? `${describe(host)} is there already` : `${describe(host)} meets ${describe(earlier)}: one of them is enough`,
      );
    if (host === '*' && isOfMesh) report(['hosts', index], 'the host "*" is for gateways alone: expected gateways without mesh');
  });
  if (itemsOf(value.http).length + itemsOf(value.tls).length + itemsOf(value.tcp).length === 0)
    report(['http'], 'required: http, tls or tcp');
  if (hosts.length === 0) checkDelegate(value, bound, report);
  itemsOf(value.tls).forEach((rule, index) => void checkServerNames(rule, index, hosts, report));
}

/** A wildcard is every host that it covers. */
function isSameHost(one: unknown, other: unknown): boolean {
  return typeof one === 'string' && typeof other === 'string' && (covers(one, other) || covers(other, one));
}

/** Without hosts it is what another VirtualService delegates to. */
function checkDelegate(value: Unchecked, bound: readonly unknown[], report: Report): void {
  if (bound.length > 0)
    report(['gateways'], 'not without hosts: a VirtualService that another one delegates to has the gateways of that one');
  for (const field of ['tls', 'tcp'] as const)
    if (itemsOf(value[field]).length > 0) report([field], 'not without hosts: http alone can be delegated to');
  itemsOf(value.http).forEach((rule, index) => {
    if (rule.delegate !== undefined) report(['http', index, 'delegate'], 'not without hosts: what is delegated to does not delegate');
  });
}

function checkServerNames(rule: Unchecked, index: number, hosts: readonly unknown[], report: Report): void {
  itemsOf(rule.match).forEach((match, at) => {
    const names = Array.isArray(match.sniHosts) ? (match.sniHosts as unknown[]) : [];
    names.forEach((name, position) => {
      if (typeof name === 'string' && !hosts.some((host) => typeof host === 'string' && covers(host, name)))
        report(
          ['tls', index, 'match', at, 'sniHosts', position],
          `${describe(name)} is covered by none of the hosts of the VirtualService`,
        );
    });
  });
}

function covers(host: string, name: string): boolean {
  return host === name || (host.startsWith('*') && name.endsWith(host.slice(1)));
}

export const virtualServiceKind = istioKind(
  {
    kind: 'VirtualService',
    group: 'networking.istio.io',
    plural: 'virtualservices',
    shortNames: ['vs'],
  },
  spec,
);
