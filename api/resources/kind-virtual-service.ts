// networking.istio.io VirtualService. Owner: Istio API and its webhook's validation.
import { isIP } from 'node:net';
import { z } from 'zod';
import { hasVariables, isHeaderFormat } from './header-format.js';
import {
  absenceMatch,
  checkOneOf,
  destination,
  exportTo,
  filled,
  flag,
  goDuration,
  has,
  ipOrCidr,
  istioKind,
  itemsOf,
  listOf,
  mapOf,
  percentage,
  stringMatch,
  uriMatch,
} from './istio-common.js';
import { covers, isFqdn, isLabel, isWildcardHost } from './istio-host.js';
import {
  describe,
  fields,
  isUnchecked,
  NOT_ACTED_ON,
  notActedOn,
  portNumber,
  type Report,
  text,
  type Unchecked,
  wholeNumber,
  withRule,
} from './schema.js';
import { headerName, headerValue, labels } from './syntax.js';
import { corsPolicy, directResponse, fault, redirect, retries, rewrite } from './virtual-service-actions.js';

const gatewayName = z.string().refine(
  (value) => {
    const [first = '', second, ...rest] = value.split('/');
    return second === undefined ? isFqdn(first) : rest.length === 0 && isLabel(first) && isLabel(second);
  },
  { error: ({ input }) => `expected mesh, the name of a Gateway, or namespace/name, found ${describe(input)}` },
);
const gateways = listOf(gatewayName).optional();
const sourceNamespace = z.string().refine((value) => value === '' || isLabel(value), {
  error: ({ input }) => `expected a namespace, found ${describe(input)}`,
});

function warnOfGateways({ gateways: names }: Unchecked, report: Report): void {
  (Array.isArray(names) ? names : []).forEach((name: unknown, index) => {
    const [, first, second] = typeof name === 'string' ? (/^([^./]+)\.([^./]+)/.exec(name) ?? []) : [];
    if (first !== undefined) report(['gateways', index], `an old way to say it: expected ${second}/${first}`, 'warning');
  });
}

/** A claim of the token of a request. */
const CLAIM = /^@request\.auth\.claims(\..+|\[.+\])$/i;
/** Envoy has the parts of a request's line as headers too. */
const MATCHED_HEADER = /^:?[A-Za-z0-9!#$%&'*+\-.^_`|~]+$/;
const UNMATCHED: readonly (readonly [RegExp, string])[] = [
  [CLAIM, 'claims of tokens: no request has one'],
  [/^:/, 'matches of pseudo-headers: expected authority, method, scheme or uri'],
];

function checkMatchedHeaders(value: Unchecked, report: Report): void {
  for (const field of ['headers', 'withoutHeaders'] as const) {
    const names = value[field];
    for (const name of isUnchecked(names) ? Object.keys(names) : []) {
      const later = UNMATCHED.find(([pattern]) => pattern.test(name))?.[1];
      if (!CLAIM.test(name) && !MATCHED_HEADER.test(name)) report([field, name], `expected the name of a header, found ${describe(name)}`);
      else if (later !== undefined) report([field, name], `${NOT_ACTED_ON}: ${later}`, 'warning');
    }
  }
}

const matchOfHttp = withRule(
  fields({
    name: z.string().optional(),
    uri: uriMatch.optional(),
    scheme: stringMatch.optional(),
    method: stringMatch.optional(),
    authority: stringMatch.optional(),
    headers: mapOf(stringMatch).optional(),
    withoutHeaders: mapOf(absenceMatch).optional(),
    queryParams: mapOf(stringMatch).optional(),
    port: portNumber.optional(),
    sourceLabels: labels.optional(),
    sourceNamespace: sourceNamespace.optional(),
    gateways,
    ignoreUriCase: flag,
    statPrefix: notActedOn('names of metrics', z.string()),
  }),
  (value, report) => {
    checkMatchedHeaders(value, report);
    warnOfGateways(value, report);
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
const headers = withRule(
  fields({ request: changesOf(headerOfRequest).optional(), response: changesOf(headerName).optional() }),
  checkChanges,
);

function checkChanges(value: Unchecked, report: Report): void {
  for (const side of ['request', 'response'] as const)
    for (const action of ['set', 'add'] as const) {
      const changes = value[side];
      const values = isUnchecked(changes) ? changes[action] : undefined;
      for (const [name, format] of isUnchecked(values) ? Object.entries(values) : []) {
        if (side === 'response' && name.toLowerCase() === 'host') report([side, action, name], 'no header of an answer');
        if (typeof format !== 'string') continue;
        if (!isHeaderFormat(format))
          report([side, action, name], `expected %NAME% for a variable and %% for "%", found ${describe(format)}`);
        else if (hasVariables(format)) report([side, action, name], `${NOT_ACTED_ON}: variables, which are sent as they stand`, 'warning');
      }
    }
}

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
    timeout: goDuration.optional(),
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
  for (const field of ['mirrorPercent', 'mirror_percent'] as const)
    if (value[field] !== undefined) report([field], 'an old way to say it: use mirrorPercentage', 'warning');
  checkAuthority(value, report);
}

/** It is named in one place. */
function checkAuthority({ rewrite: rewriting, headers: changes }: Unchecked, report: Report): void {
  const request = isUnchecked(changes) && isUnchecked(changes.request) ? changes.request : {};
  const places = (['set', 'add'] as const).flatMap((action) => {
    const values = request[action];
    const names = isUnchecked(values) ? Object.keys(values) : [];
    return names.filter((name) => /^(host|:authority)$/i.test(name)).map((name) => ['headers', 'request', action, name]);
  });
  if (isUnchecked(rewriting) && has(rewriting, 'authority')) places.push(['rewrite', 'authority']);
  for (const place of places.slice(1)) report(place, `the authority is set already (${places[0]?.join('.')})`);
}

const connectionMatch = {
  destinationSubnets: listOf(ipOrCidr).optional(),
  port: portNumber.optional(),
  sourceLabels: labels.optional(),
  gateways,
  sourceNamespace: sourceNamespace.optional(),
};

/** What Istio calls the ports of services where it passes TLS on. */
const OUTBOUND = /^outbound_\.[0-8]/;
const serverName = filled('a host name, a wildcard such as *.shop.example, or an address', 255).refine(
  (value) => value === '' || isIP(value) !== 0 || OUTBOUND.test(value) || isWildcardHost(value),
  { error: ({ input }) => `expected a host name, a wildcard such as *.shop.example, or an address, found ${describe(input)}` },
);

const tls = fields({
  match: listOf(fields({ ...connectionMatch, sniHosts: z.array(serverName).min(1).max(256) }), 1024).min(1),
  route: routes.min(1),
});

const tcp = fields({
  match: listOf(fields({ ...connectionMatch, sourceSubnet: ipOrCidr.optional() }), 1024).optional(),
  route: routes.min(1),
});

const spec = withRule(
  fields({
    hosts: listOf(serverName).optional(),
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
  warnOfGateways(value, report);
  hosts.forEach((host, index) => {
    const earlier = hosts.slice(0, index).find((other) => isSameHost(other, host));
    if (earlier !== undefined)
      report(
        ['hosts', index],
        earlier === host ? `${describe(host)} is there already` : `${describe(host)} meets ${describe(earlier)}: one of them is enough`,
      );
    if (host === '*' && isOfMesh) report(['hosts', index], 'the host "*" is for gateways alone: expected gateways without mesh');
    if (typeof host === 'string' && OUTBOUND.test(host) && isOfMesh) report(['hosts', index], 'such a name is for gateways alone');
  });
  if (itemsOf(value.http).length + itemsOf(value.tls).length + itemsOf(value.tcp).length === 0)
    report(['http'], 'required: http, tls or tcp');
  if (hosts.length === 0) checkDelegate(value, bound, report);
  if (isOfMesh) refuseClaims(value, report);
  itemsOf(value.tls).forEach((rule, index) => void checkServerNames(rule, index, hosts, report));
}

/** Tokens are verified where requests enter the mesh. */
function refuseClaims(value: Unchecked, report: Report): void {
  itemsOf(value.http).forEach((rule, index) => {
    itemsOf(rule.match).forEach((match, at) => {
      for (const field of ['headers', 'withoutHeaders'] as const) {
        const names = match[field];
        for (const name of isUnchecked(names) ? Object.keys(names) : [])
          if (CLAIM.test(name))
            report(['http', index, 'match', at, field, name], 'claims are for gateways alone: expected gateways without mesh');
      }
    });
  });
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
      const path = ['tls', index, 'match', at, 'sniHosts', position];
      if (typeof name !== 'string' || !serverName.safeParse(name).success) return;
      if (isIP(name) !== 0) report(path, 'clients send no address as server name (RFC 6066, 3)', 'warning');
      else if (!hosts.some((host) => typeof host === 'string' && covers(host, name)))
        report(path, `${describe(name)} is covered by none of the hosts of the VirtualService`);
    });
  });
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
