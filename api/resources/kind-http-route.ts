// gateway.networking.k8s.io/v1 HTTPRoute: every field is known, those without behaviour are warned of. Owner: Gateway API v1.
import { z } from 'zod';
import { checkFiltersOfRule, filters } from './http-filter.js';
import { MAX_MATCHES, REPEATED_MATCH, ruleList, valueMatch, warnOfExpression } from './http-match.js';
import { objectOf } from './metadata.js';
import { defaultGateways, parentRefs, serviceBackendRef } from './route-references.js';
import { choice, describe, fields, type Report, textOf, type Unchecked, unique, wholeNumber, withRule } from './schema.js';
import { sessionPersistence } from './session-persistence.js';
import { dnsSubdomain, duration, durationMs, hostname, sectionName, uniqueHeaderNames } from './syntax.js';

const path = withRule(
  fields({
    type: choice(['PathPrefix', 'Exact', 'RegularExpression']).default('PathPrefix'),
    value: z.string().max(1024).default('/'),
  }),
  checkPath,
);

function checkPath(value: Unchecked, report: Report): void {
  warnOfExpression(value, 'value', report);
  const { type, value: found } = value;
  if (typeof found !== 'string' || (type !== 'PathPrefix' && type !== 'Exact')) return;
  const shown = describe(found);
  if (!found.startsWith('/')) report(['value'], `expected a path beginning with "/", found ${shown}`);
  for (const refused of ['//', '/./', '/../', '%2f', '%2F', '#']) {
    if (found.includes(refused))
      report(['value'], `a path must not contain ${JSON.stringify(refused)}: no normalised request has it; found ${shown}`);
  }
  if (found.endsWith('/.') || found.endsWith('/..')) report(['value'], `a path must not end with "/." or "/..", found ${shown}`);
  if (!/^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@#]|%[0-9a-fA-F]{2})*$/.test(found)) {
    report(['value'], `expected a path of RFC 3986 characters, others percent-encoded, found ${shown}`);
  }
}

const match = fields({
  path: path.prefault({}),
  headers: uniqueHeaderNames(z.array(valueMatch(4096)).max(16), REPEATED_MATCH).optional(),
  queryParams: unique(z.array(valueMatch(1024)).max(16), 'query parameter names', ['name'], (item) => textOf(item, 'name')).optional(),
  method: choice(['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE', 'PATCH']).optional(),
});

const backendRef = serviceBackendRef({ filters: filters.optional() });

const timeouts = withRule(fields({ request: duration.optional(), backendRequest: duration.optional() }), (value, report) => {
  const request = durationMs(textOf(value, 'request') ?? '');
  const backendRequest = durationMs(textOf(value, 'backendRequest') ?? '');
  if (request !== null && backendRequest !== null && request !== 0 && backendRequest > request) {
    report(['backendRequest'], `expected at most timeouts.request (${textOf(value, 'request')}), found ${textOf(value, 'backendRequest')}`);
  }
});

const retry = fields({
  codes: z.array(wholeNumber(400, 599)).max(32).optional(),
  attempts: wholeNumber(0, 2_147_483_647).optional(),
  backoff: duration.optional(),
});

const rule = withRule(
  fields({
    name: sectionName.optional(),
    matches: z.array(match).max(MAX_MATCHES).prefault([{}]),
    filters: filters.optional(),
    backendRefs: z.array(backendRef).max(16).optional(),
    timeouts: timeouts.optional(),
    retry: retry.optional(),
    sessionPersistence: sessionPersistence.optional(),
  }),
  checkFiltersOfRule,
);

const schema = objectOf(
  { kind: 'HTTPRoute', apiVersion: 'gateway.networking.k8s.io/v1', name: dnsSubdomain },
  {
    spec: fields({
      parentRefs: parentRefs.optional(),
      useDefaultGateways: defaultGateways,
      hostnames: z.array(hostname).max(16).optional(),
      rules: ruleList(rule).prefault([{}]),
    }),
  },
);

export const httpRouteKind = {
  kind: 'HTTPRoute',
  apiVersion: 'gateway.networking.k8s.io/v1',
  olderVersions: ['gateway.networking.k8s.io/v1beta1'],
  plural: 'httproutes',
  shortNames: ['hr'],
  schema,
} as const;
