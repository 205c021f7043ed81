// security.istio.io PeerAuthentication, RequestAuthentication, AuthorizationPolicy. Owner: Istio API, the rules of its CRDs and its webhook's validation.
import { z } from 'zod';
import {
  checkOneOf,
  checkTargets,
  filled,
  flag,
  goDuration,
  ipOrCidr,
  istioKind,
  itemsOf,
  listOf,
  mapOf,
  targets,
  workloadSelector,
} from './istio-common.js';
import { jwksFault } from './jwks.js';
import { choice, describe, fields, isUnchecked, type Report, text, type Unchecked, withRule } from './schema.js';

const mtls = fields({ mode: choice(['UNSET', 'DISABLE', 'PERMISSIVE', 'STRICT']).optional() });

const portLevelMtls = mapOf(mtls).superRefine((map, context) => {
  if (typeof map !== 'object' || map === null) return;
  if (Object.keys(map).length === 0) context.addIssue({ code: 'custom', message: 'expected at least one port' });
  for (const key of Object.keys(map)) {
    if (/^[1-9][0-9]{0,4}$/.test(key) && Number(key) <= 65_535) continue;
    context.addIssue({
      code: 'custom',
      path: [key],
      params: { atKey: true },
      message: `expected a port from 1 to 65535, found ${describe(key)}`,
    });
  }
});

export const peerAuthenticationKind = istioKind(
  {
    kind: 'PeerAuthentication',
    group: 'security.istio.io',
    plural: 'peerauthentications',
    shortNames: ['pa'],
    notActedOn:
      'mutual TLS: nothing is encrypted between proxies and plain text is not refused; workloads that are STRICT do fail closed: without a proxy their connections are refused',
  },
  withRule(
    fields({ selector: workloadSelector.optional(), mtls: mtls.optional(), portLevelMtls: portLevelMtls.optional() }),
    ({ selector, portLevelMtls: ports }, report) => {
      const hasLabels = isUnchecked(selector) && isUnchecked(selector.matchLabels) && Object.keys(selector.matchLabels).length > 0;
      if (ports !== undefined && !hasLabels) report(['portLevelMtls'], 'requires selector: ports are those of certain workloads');
    },
  ),
);

const jwtRule = withRule(
  fields({
    issuer: filled('the issuer of the tokens'),
    audiences: listOf(filled('an audience')).optional(),
    jwksUri: text('a URL with scheme http:// or https://', /^https?:\/\/[^\s\p{Cc}\\]+$/u, 2048)
      .refine((value) => !/^https?:\/\/[^\s\p{Cc}\\]+$/u.test(value) || URL.canParse(value), {
        error: ({ input }) => `expected a URL with scheme http:// or https://, found ${describe(input)}`,
      })
      .optional(),
    jwks: z
      .string()
      .superRefine((value, context) => {
        const fault = value === '' ? null : jwksFault(value);
        if (fault !== null) context.addIssue({ code: 'custom', message: `expected a JSON Web Key Set: ${fault}` });
      })
      .optional(),
    fromHeaders: listOf(fields({ name: filled('the name of a header', 256), prefix: z.string().optional() })).optional(),
    fromParams: listOf(filled('the name of a parameter', 256)).optional(),
    fromCookies: listOf(filled('the name of a cookie', 256)).optional(),
    outputPayloadToHeader: z.string().optional(),
    forwardOriginalToken: flag,
    outputClaimToHeaders: listOf(
      fields({
        header: text('the name of a header (letters, digits, "-" and "_")', /^[-_A-Za-z0-9]+$/, 256),
        claim: filled('the name of a claim'),
      }),
    ).optional(),
    timeout: goDuration.optional(),
    spaceDelimitedClaims: listOf(filled('the name of a claim'), 64).optional(),
    presence: choice(['UNSPECIFIED', 'OPTIONAL', 'REQUIRED']).optional(),
  }),
  (value, report) => checkOneOf(value, ['jwksUri', 'jwks'], report),
);

export const requestAuthenticationKind = istioKind(
  {
    kind: 'RequestAuthentication',
    group: 'security.istio.io',
    plural: 'requestauthentications',
    shortNames: ['ra'],
    notActedOn: 'RequestAuthentication: no token is verified, no request refused for it',
  },
  withRule(fields({ ...targets, jwtRules: listOf(jwtRule, 4096).optional() }), checkTargets),
);

const values = listOf(filled('a value'), 4096).optional();
const addresses = listOf(ipOrCidr, 4096).optional();

function isPort(value: string): boolean {
  return /^[0-9]{1,5}$/.test(value) && Number(value) <= 65_535;
}

function itemsIn(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

const ports = listOf(
  z.string().refine(isPort, {
    error: ({ input }) => `expected a port from 0 to 65535 in quotes, found ${describe(input)}`,
  }),
).optional();
const serviceAccounts = listOf(text('a service account, or namespace/service account', /^[^/]+(\/[^/]+)?$/, 320), 16).optional();

const source = withRule(
  fields({
    principals: values,
    notPrincipals: values,
    requestPrincipals: values,
    notRequestPrincipals: values,
    namespaces: values,
    notNamespaces: values,
    serviceAccounts,
    notServiceAccounts: serviceAccounts,
    trustDomains: values,
    notTrustDomains: values,
    ipBlocks: addresses,
    notIpBlocks: addresses,
    remoteIpBlocks: addresses,
    notRemoteIpBlocks: addresses,
  }),
  (value, report) => {
    checkSaysSomething(value, report);
    const others = ['principals', 'notPrincipals', 'namespaces', 'notNamespaces'].filter((field) => value[field] !== undefined);
    for (const field of ['serviceAccounts', 'notServiceAccounts'])
      if (value[field] !== undefined && others.length > 0)
        report([field], `can't be set with ${others.join(' or ')}: a service account says both`);
  },
);

function checkSaysSomething(value: Unchecked, report: Report): void {
  if (!Object.values(value).some((list) => !Array.isArray(list) || list.length > 0))
    report([], `says nothing: an empty one would match everything`);
}

/** Istio's path templates: {*} and {**} are whole segments, {**} once and last of its kind; no other "*" stands beside them. */
const path = filled('a path').refine(
  (value) => !/[{}]/.test(value) || (value.split('/').every((part) => /^([^{}*]*|\{\*\*?\})$/.test(part)) && !/\{\*\*\}.*\{/.test(value)),
  { error: ({ input }) => `expected {*} or one {**} as whole segments of a path template, found ${describe(input)}` },
);
const paths = listOf(path, 4096).optional();

const operation = withRule(
  fields({ hosts: values, notHosts: values, ports, notPorts: ports, methods: values, notMethods: values, paths, notPaths: paths }),
  checkSaysSomething,
);

const PLAIN_KEYS = new Set([
  ...['source.ip', 'remote.ip', 'source.namespace', 'source.serviceAccount', 'source.principal', 'source.trustDomain'],
  ...['request.auth.principal', 'request.auth.audiences', 'request.auth.presenter', 'destination.ip', 'destination.port', 'connection.sni'],
]);
const KEY = /^(request\.headers\[[^\]]+\]|request\.auth\.claims(\[[^\]]+\])+|experimental\.envoy\.filters\..[^[]*\[.+\])$/;

const condition = withRule(fields({ key: filled('an attribute'), values, notValues: values }), (value, report) => {
  const { key } = value;
  if (typeof key === 'string' && key !== '' && !PLAIN_KEYS.has(key) && !KEY.test(key))
    report(
      ['key'],
      `expected an attribute, such as request.headers[x-a], request.auth.claims[iss], ${[...PLAIN_KEYS].join(', ')}, found ${describe(key)}`,
    );
  const isEmpty = (list: unknown): boolean => !Array.isArray(list) || list.length === 0;
  if (isEmpty(value.values) && isEmpty(value.notValues)) report(['values'], 'required: values or notValues');
  if (key === 'destination.port')
    for (const field of ['values', 'notValues'] as const)
      itemsIn(value[field]).forEach((item, index) => {
        if (typeof item === 'string' && !isPort(item)) report([field, index], `expected a port from 0 to 65535, found ${describe(item)}`);
      });
  const check = { 'source.ip': ipOrCidr, 'remote.ip': ipOrCidr, 'destination.ip': ipOrCidr }[String(key)];
  for (const field of ['values', 'notValues'] as const) {
    const list = value[field];
    if (check === undefined || !Array.isArray(list)) continue;
    list.forEach((item: unknown, index) => {
      if (typeof item === 'string' && !check.safeParse(item).success)
        report([field, index], `expected an address or a CIDR such as 10.0.0.0/8, found ${describe(item)}`);
    });
  }
});

const rule = withRule(
  fields({
    from: listOf(fields({ source }), 512).optional(),
    to: listOf(fields({ operation }), 512).optional(),
    when: listOf(condition, 512).optional(),
  }),
  (value, report) => {
    for (const field of ['from', 'to'] as const)
      if (Array.isArray(value[field]) && value[field].length === 0)
        report([field], 'an empty list would match nothing: leave it out to match everything');
  },
);

export const authorizationPolicyKind = istioKind(
  {
    kind: 'AuthorizationPolicy',
    group: 'security.istio.io',
    plural: 'authorizationpolicies',
    shortNames: ['ap'],
    notActedOn: 'AuthorizationPolicy: no request is refused for it',
  },
  withRule(
    fields({
      ...targets,
      action: choice(['ALLOW', 'DENY', 'AUDIT', 'CUSTOM']).optional(),
      provider: fields({ name: filled('the name of a provider', 256) }).optional(),
      rules: listOf(rule, 512).optional(),
    }),
    (value, report) => {
      checkTargets(value, report);
      const isCustom = value.action === 'CUSTOM';
      if (isCustom && value.provider === undefined) report(['provider'], 'required by action CUSTOM');
      if (!isCustom && value.provider !== undefined) report(['provider'], 'goes with action CUSTOM alone');
      if ((isCustom || value.action === 'DENY') && value.rules === undefined)
        report(['rules'], `required by action ${value.action}: without rules it matches nothing, an empty rule ({}) matches everything`);
      itemsOf(value.rules).forEach((item, index) => {
        if (isCustom) checkCustom(item, index, report);
        if (value.action === 'DENY' && isOfRequestsAlone(item))
          report(['rules', index], 'denies all connections that are no HTTP: it names what requests alone have, and no port', 'warning');
      });
    },
  ),
);

const CLIENT_IDENTITIES = ['namespaces', 'notNamespaces', 'principals', 'notPrincipals', 'requestPrincipals', 'notRequestPrincipals'];

/** Attributes that are known after the provider was asked. */
function checkCustom(item: Unchecked, index: number, report: Report): void {
  const message = 'not with action CUSTOM: the provider is asked before it is known';
  itemsOf(item.from).forEach(({ source: of }, at) => {
    for (const field of isUnchecked(of) ? CLIENT_IDENTITIES.filter((each) => of[each] !== undefined) : [])
      report(['rules', index, 'from', at, 'source', field], message);
  });
  itemsOf(item.when).forEach(({ key }, at) => {
    if (typeof key === 'string' && /^(source\.(namespace|principal)$|request\.auth\.)/.test(key))
      report(['rules', index, 'when', at, 'key'], message);
  });
}

/** Of a connection that is not read nothing of these is known, so a rule that denies takes them to be met. */
function isOfRequestsAlone({ from, to }: Unchecked): boolean {
  const says = (list: unknown, of: string, fields: RegExp): boolean =>
    itemsOf(list).some((item) => isUnchecked(item[of]) && Object.keys(item[of]).some((field) => fields.test(field)));
  if (itemsOf(to).length > 0) return !says(to, 'operation', /ports$/i);
  return (
    itemsOf(from).length > 0 &&
    !says(from, 'source', /^(principals|notPrincipals|(notN|n)amespaces|.*ipBlocks|.*serviceAccounts|.*trustDomains)$/i)
  );
}
