// The filters of a rule, or of one backend, of an HTTPRoute or GRPCRoute. Owner: Gateway API v1, HTTPRouteFilter and its CEL rules.
import { z } from 'zod';
import { serviceObjectRef } from './route-references.js';
import {
  choice,
  describe,
  fields,
  NOT_ACTED_ON,
  openChoice,
  portNumber,
  type Report,
  text,
  textOf,
  type Unchecked,
  unique,
  wholeNumber,
  withListRule,
  withRule,
} from './schema.js';
import {
  dnsLabel,
  exactHostname,
  GROUP,
  headerName,
  headerValue,
  KIND,
  OWNED_BY_PROXY,
  objectName,
  pathText,
  uniqueHeaderNames,
} from './syntax.js';

const header = fields({ name: headerName, value: headerValue(4096) });

/** A set, as the owner has it: as written. */
function distinct<Schema extends z.ZodType>(list: Schema): Schema {
  return list.superRefine(
    (value, context) =>
      (value as unknown[]).forEach((item, index, items) => {
        const earlier = items.indexOf(item);
        if (earlier < index) context.addIssue({ code: 'custom', path: [index], message: `${describe(item)} is item ${earlier} already` });
      }),
    { when: ({ value }) => Array.isArray(value) },
  ) as Schema;
}

const headerModifier = withRule(
  fields({
    set: uniqueHeaderNames(z.array(header).max(16), 'the last one stays').optional(),
    add: uniqueHeaderNames(z.array(header).max(16), 'both are added').optional(),
    remove: distinct(z.array(headerName).max(16)).optional(),
  }),
  checkHeaders,
);

function checkHeaders(value: Unchecked, report: Report): void {
  for (const list of ['set', 'add', 'remove'] as const) {
    const items = value[list];
    if (!Array.isArray(items)) continue;
    items.forEach((item: unknown, index) => {
      const name = list === 'remove' ? item : (item as Unchecked | null)?.name;
      if (typeof name !== 'string' || !OWNED_BY_PROXY.has(name.toLowerCase())) return;
      report(
        list === 'remove' ? [list, index] : [list, index, 'name'],
        `${NOT_ACTED_ON}: changes of ${name}, which the proxy writes itself`,
        'warning',
      );
    });
  }
}

const PATH_FIELDS = { ReplaceFullPath: 'replaceFullPath', ReplacePrefixMatch: 'replacePrefixMatch' } as const;

const pathModifier = withRule(
  fields({
    type: choice(['ReplaceFullPath', 'ReplacePrefixMatch']),
    replaceFullPath: pathText.max(1024).optional(),
    replacePrefixMatch: pathText.max(1024).optional(),
  }),
  (value, report) => checkFieldOfType(value, PATH_FIELDS, report),
);

const redirect = fields({
  scheme: choice(['http', 'https']).optional(),
  hostname: exactHostname.optional(),
  path: pathModifier.optional(),
  port: portNumber.optional(),
  statusCode: z
    .union(
      [301, 302, 303, 307, 308].map((code) => z.literal(code)),
      { error: ({ input }) => `expected one of 301, 302, 303, 307, 308, found ${describe(input)}` },
    )
    .default(302),
});

const rewrite = fields({ hostname: exactHostname.optional(), path: pathModifier.optional() });

const fraction = withRule(
  fields({ numerator: wholeNumber(0, 2_147_483_647), denominator: wholeNumber(1, 2_147_483_647).default(100) }),
  ({ numerator, denominator }, report) => {
    if (typeof numerator === 'number' && numerator > (typeof denominator === 'number' ? denominator : 100))
      report(['numerator'], `expected at most the denominator (${denominator ?? 100}), found ${numerator}`);
  },
);

const mirror = withRule(
  fields({ backendRef: serviceObjectRef, percent: wholeNumber(0, 100).optional(), fraction: fraction.optional() }),
  ({ percent, fraction: part }, report) => {
    if (percent !== undefined && part !== undefined) report(['fraction'], 'is given beside percent: only one of them');
  },
);

/** CORSOrigin. */
const ORIGIN = /^(\*|[a-zA-Z][a-zA-Z0-9+.-]+:\/\/[^:/?#]+(:[0-9]{1,5})?)$/;

const alone = (items: readonly unknown[], report: Report, what: string): void => {
  const at = items.indexOf('*');
  if (at >= 0 && items.length > 1) report([at], `"*" stands alone: leave out the other ${what}`);
};

function starOrMore(item: z.ZodType<string>, what: string, max: number) {
  return distinct(z.array(item).max(max)).superRefine((items, context) =>
    alone(items, (path, message) => context.addIssue({ code: 'custom', path: [...path], message }), what),
  );
}

const cors = fields({
  allowOrigins: starOrMore(text('an origin such as https://shop.example or "*"', ORIGIN, 253), 'origins', 64).optional(),
  allowCredentials: z.boolean().optional(),
  allowMethods: starOrMore(
    choice(['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE', 'PATCH', '*']) as z.ZodType<string>,
    'methods',
    9,
  ).optional(),
  allowHeaders: starOrMore(headerName, 'headers', 64).optional(),
  exposeHeaders: distinct(z.array(headerName).max(64)).optional(),
  maxAge: wholeNumber(1, 2_147_483_647).optional(),
});

const externalAuth = withRule(
  fields({
    protocol: choice(['HTTP', 'GRPC']),
    backendRef: serviceObjectRef,
    grpc: fields({ allowedHeaders: z.array(z.string()).max(64).optional() }).optional(),
    http: fields({
      path: text('a path of RFC 3986 characters', /^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})+$/, 1024).optional(),
      allowedHeaders: z.array(z.string()).max(64).optional(),
      allowedResponseHeaders: z.array(z.string()).max(64).optional(),
    }).optional(),
    forwardBody: fields({ maxSize: wholeNumber(0, 65_535).optional() }).optional(),
  }),
  ({ protocol, http, grpc }, report) => {
    for (const [of, field, settings] of [
      ['HTTP', 'http', http],
      ['GRPC', 'grpc', grpc],
    ] as const) {
      if (protocol === of && settings === undefined) report([field], `required by protocol: ${of}`);
      if (protocol !== of && settings !== undefined) report([field], `doesn't belong to protocol ${describe(protocol)}`);
    }
  },
);

const extensionRef = fields({
  group: openChoice(['mesh.weft.dev'], 'extensions of group', [], GROUP),
  kind: openChoice(['Filter'], 'extensions of kind', [], KIND),
  name: objectName,
  namespace: dnsLabel.optional(),
});

/** Which field belongs to which type. */
const FILTER_FIELDS = {
  RequestHeaderModifier: 'requestHeaderModifier',
  ResponseHeaderModifier: 'responseHeaderModifier',
  RequestMirror: 'requestMirror',
  RequestRedirect: 'requestRedirect',
  URLRewrite: 'urlRewrite',
  CORS: 'cors',
  ExternalAuth: 'externalAuth',
  ExtensionRef: 'extensionRef',
} as const;

const OF_GRPC = ['RequestHeaderModifier', 'ResponseHeaderModifier', 'RequestMirror', 'ExtensionRef'] as const;
/** What the data path does; a rule with any other filter answers 500, as the Gateway API asks of filters that aren't implemented. */
export const FILTERS_ACTED_ON = [...OF_GRPC, 'RequestRedirect', 'URLRewrite', 'CORS'] as const;
const REPEATABLE = new Set(['RequestMirror', 'ExtensionRef', 'ExternalAuth']);

function checkFieldOfType(value: Unchecked, fieldOfType: Readonly<Record<string, string>>, report: Report): void {
  const expected = typeof value.type === 'string' ? fieldOfType[value.type] : undefined;
  if (expected === undefined) return;
  if (value[expected] === undefined) report([expected], `required by type: ${value.type}`);
  for (const field of Object.keys(value)) {
    if (field !== 'type' && field !== expected) report([field], `doesn't belong to type ${value.type}: expected ${expected}`);
  }
}

const common = {
  requestHeaderModifier: headerModifier.optional(),
  responseHeaderModifier: headerModifier.optional(),
  requestMirror: mirror.optional(),
  extensionRef: extensionRef.optional(),
};

const consequence = 'filters of type';
const httpFilter = withRule(
  fields({
    type: choice(FILTERS_ACTED_ON, ['ExternalAuth'], consequence),
    ...common,
    requestRedirect: redirect.optional(),
    urlRewrite: rewrite.optional(),
    cors: cors.optional(),
    externalAuth: externalAuth.optional(),
  }),
  (value, report) => checkFieldOfType(value, FILTER_FIELDS, report),
);

const grpcFilter = withRule(fields({ type: choice(OF_GRPC), ...common }), (value, report) =>
  checkFieldOfType(value, FILTER_FIELDS, report),
);

function filterList<Filter extends z.ZodType>(filter: Filter) {
  const each = unique(z.array(filter).max(16), 'filter types', ['type'], (item) => {
    const type = textOf(item, 'type');
    return type === null || REPEATABLE.has(type) ? null : type;
  });
  return withListRule(each, (items, report) => {
    const types = items.map((item) => item.type);
    const at = types.indexOf('URLRewrite');
    if (at >= 0 && types.includes('RequestRedirect'))
      report([at, 'type'], "a request can't be redirected and rewritten: URLRewrite or RequestRedirect");
  });
}

export const filters = filterList(httpFilter);
export const grpcFilters = filterList(grpcFilter);

/** Replacing the prefix that was matched asks for one (HTTPRouteRule's CEL rules). */
export function checkFiltersOfRule({ filters: list, matches, backendRefs }: Unchecked, report: Report): void {
  const backends = listOf(backendRefs);
  listOf(list).forEach((filter, index) => {
    if (filter?.type === 'RequestRedirect' && backends.length > 0)
      report(['filters', index, 'type'], 'a rule that redirects has no backendRefs');
  });
  if (hasOnePrefix(matches)) return;
  checkPrefixes(list, ['filters'], report);
  backends.forEach((backend, index) => void checkPrefixes(backend?.filters, ['backendRefs', index, 'filters'], report));
}

/** Of a rule that has no one prefix to be replaced. */
function checkPrefixes(list: unknown, at: readonly (string | number)[], report: Report): void {
  listOf(list).forEach((filter, index) => {
    for (const field of ['requestRedirect', 'urlRewrite'] as const) {
      const path = (filter?.[field] as Unchecked | undefined)?.path as Unchecked | undefined;
      if (path?.type === 'ReplacePrefixMatch')
        report([...at, index, field, 'path', 'type'], 'ReplacePrefixMatch goes with exactly one match of the rule, of type PathPrefix');
    }
  });
}

function listOf(value: unknown): readonly (Unchecked | null)[] {
  return Array.isArray(value) ? value : [];
}

function hasOnePrefix(matches: unknown): boolean {
  // Absent: one match, of the prefix "/".
  if (matches === undefined) return true;
  if (!Array.isArray(matches) || matches.length !== 1) return false;
  const path = (matches[0] as Unchecked | null)?.path as Unchecked | undefined;
  return path === undefined || path.type === undefined || path.type === 'PathPrefix';
}
