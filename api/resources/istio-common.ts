// What Istio's kinds have in common: how a kind is described, selectors, targets, durations, hosts. Owner: Istio API, its CRDs' rules and its
// webhook's validation.
import { isIP } from 'node:net';
import { z } from 'zod';
import { objectOf } from './metadata.js';
import { regularExpressionFault } from './regular-expression.js';
import { choice, describe, fields, isUnchecked, portNumber, type Report, text, type Unchecked, wholeNumber, withRule } from './schema.js';
import { cidr, dnsSubdomain } from './syntax.js';

const VERSIONS = {
  'networking.istio.io': ['v1', 'v1beta1', 'v1alpha3'],
  'security.istio.io': ['v1', 'v1beta1'],
  'telemetry.istio.io': ['v1', 'v1alpha1'],
  'extensions.istio.io': ['v1alpha1'],
} as const;

/** Where Istio looks for what holds in the whole mesh. */
export const ROOT_NAMESPACE = 'istio-system';

interface IstioType<Kind extends string> {
  /** Unique among all kinds; Istio's own name of it is `manifestKind`, where that is another owner's too. */
  readonly kind: Kind;
  readonly manifestKind?: string;
  readonly group: keyof typeof VERSIONS;
  /** The newest first; absent: all of the group's. */
  readonly versions?: readonly string[];
  readonly plural: string;
  /** As the plural in Istio's CRD, where `plural` is another. */
  readonly manifestPlural?: string;
  readonly shortNames?: readonly string[];
  /** Why it has no effect; absent: it has. */
  readonly notActedOn?: string;
}

/** The description of a kind of Istio's, made of its `spec`. */
export function istioKind<const Kind extends string, Spec extends z.ZodType>(type: IstioType<Kind>, spec: Spec) {
  const [newest = '', ...older] = (type.versions ?? VERSIONS[type.group]).map((version) => `${type.group}/${version}`);
  return {
    kind: type.kind,
    manifestKind: type.manifestKind ?? type.kind,
    apiVersion: newest,
    olderVersions: older,
    plural: type.plural,
    manifestPlural: type.manifestPlural ?? type.plural,
    shortNames: type.shortNames ?? [],
    notActedOn: type.notActedOn ?? null,
    schema: objectOf({ kind: type.manifestKind ?? type.kind, apiVersion: newest, name: dnsSubdomain }, { spec }),
  } as const;
}

/** At least one character, at most `max`. */
export const filled = (expected: string, max = 1024) => text(expected, /^/, max);
export const flag = z.boolean().optional();
export const listOf = <Item extends z.ZodType>(item: Item, max = 256) => z.array(item).max(max);
export const uint32 = wholeNumber(0, 4_294_967_295);
export const percentNumber = z
  .number({ error: ({ input }) => (input === undefined ? undefined : `expected a number from 0 to 100, found ${describe(input)}`) })
  .refine((value) => value >= 0 && value <= 100, { error: ({ input }) => `expected a number from 0 to 100, found ${describe(input)}` });
/** Percent of requests or connections. */
export const percentage = fields({ value: percentNumber.optional() });

const DURATION = /^(?:[0-9]{1,12}(?:\.[0-9]{1,9})?(?:h|ms|m|s|us|µs|ns)){1,6}$/;
const UNIT_MS: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1000, ms: 1, us: 0.001, µs: 0.001, ns: 0.000_001 };

/** Null: it is none. */
export function goDurationMs(value: string): number | null {
  if (value.length > 64 || !DURATION.test(value)) return null;
  let total = 0;
  for (const [, amount, unit] of value.matchAll(/([0-9.]+)(h|ms|m|s|us|µs|ns)/g)) total += Number(amount) * (UNIT_MS[unit ?? ''] ?? 0);
  return total;
}

function durationFrom(minMs: number) {
  const expected = `a duration of at least ${minMs} ms, such as 500ms, 1.5s or 1m30s`;
  return z
    .string({ error: ({ input }) => (input === undefined ? undefined : `expected ${expected}, found ${describe(input)}`) })
    .refine((value) => (goDurationMs(value) ?? -1) >= minMs, { error: ({ input }) => `expected ${expected}, found ${describe(input)}` });
}

/** Istio's: 1 ms at least. */
export const goDuration = durationFrom(1);
/** 0s turns it off. */
export const goDurationOrZero = durationFrom(0);

/** Labels by which workloads are selected; no wildcards (rules of the CRDs). */
export const selectorLabels = z.record(z.string(), z.string()).superRefine((map, context) => {
  const refuse = (path: string[], message: string): void => void context.addIssue({ code: 'custom', path, message });
  if (typeof map !== 'object' || map === null) return;
  for (const [key, value] of Object.entries(map)) {
    if (key === '') refuse([], 'the key of a label must not be empty');
    if (key.includes('*')) refuse([key], 'wildcard not allowed in the key of a label: a selector names whole labels');
    if (typeof value === 'string' && value.includes('*'))
      refuse([key], 'wildcard not allowed in the value of a label: a selector names whole labels');
    if (typeof value === 'string' && value.length > 63) refuse([key], `a label value has at most 63 characters, found ${value.length}`);
  }
});

/** istio.type.v1beta1.WorkloadSelector. */
export const workloadSelector = fields({ matchLabels: selectorLabels.optional() });
/** networking's WorkloadSelector. */
export const labelsSelector = fields({ labels: selectorLabels.optional() });

export const targetRef = withRule(
  fields({
    group: text(
      'an API group ("" is the core group)',
      /^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)?$/,
      253,
      0,
    ).optional(),
    kind: text('a kind', /^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$/, 63),
    name: filled('the name of an object', 253),
    namespace: z.string().optional(),
  }),
  ({ namespace }, report) => {
    if (namespace !== undefined && namespace !== '') report(['namespace'], 'cross namespace referencing is not supported: leave it out');
  },
);

export const targets = {
  selector: workloadSelector.optional(),
  targetRef: targetRef.optional(),
  targetRefs: z.array(targetRef).max(16).optional(),
};

export function checkTargets(value: Unchecked, report: Report): void {
  checkOneOf(value, ['selector', 'targetRef', 'targetRefs'], report);
}

/** At most one of these fields. */
export function checkOneOf(value: Unchecked, names: readonly string[], report: Report, isRequired = false): void {
  const given = names.filter((name) => value[name] !== undefined);
  if (given.length > 1) report([given[1] ?? ''], `only one of ${names.join(', ')} can be set, found ${given.join(' and ')}`);
  if (given.length === 0 && isRequired) report([names[0] ?? ''], `required: one of ${names.join(', ')}`);
}

export const regex = z
  .string()
  .max(1024)
  .superRefine((value, context) => {
    const fault = regularExpressionFault(value);
    if (fault !== null) context.addIssue({ code: 'custom', message: `expected a regular expression of RE2: ${fault}` });
  });

const MATCHES = ['exact', 'prefix', 'regex'] as const;
export const stringMatch = withRule(
  fields({ exact: z.string().optional(), prefix: z.string().optional(), regex: regex.optional() }),
  (value, report) => checkOneOf(value, MATCHES, report),
);

/** A name of the DNS, its first label perhaps "*" or beginning with it, its last one no number; or an address. */
const HOST = /^(\*|\*?-?[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*\.?$/;
export function isWildcardHost(value: string): boolean {
  return isIP(value) !== 0 || (HOST.test(value) && !value.startsWith('-') && !/\.[0-9]+$/.test(value));
}
export const wildcardHost = filled('a host name, a wildcard such as *.shop.example, or an address', 253).refine(
  (value) => value === '' || isWildcardHost(value),
  {
    error: ({ input }) => `expected a host name, a wildcard such as *.shop.example, or an address, found ${describe(input)}`,
  },
);

export const ipOrCidr = z.string().refine((value) => isIP(value) !== 0 || cidr.safeParse(value).success, {
  error: ({ input }) => `expected an address or a CIDR such as 10.0.0.0/8, found ${describe(input)}`,
});

export const portSelector = fields({ number: portNumber });

/** A service of the mesh, perhaps one subset of it. */
export const destination = fields({
  host: wildcardHost.refine((value) => value !== '*', { error: 'the host "*" is no destination: name one' }),
  subset: text('the name of a subset (letters, digits and "-")', /^[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?$/, 63).optional(),
  port: portSelector.optional(),
});

/** Namespaces an object is seen from. */
export const exportTo = listOf(
  text('a namespace, "." (its own), "*" (all) or "~" (none)', /^(\.|\*|~|[a-z0-9]([-a-z0-9]*[a-z0-9])?)$/, 63),
).superRefine((items, context) => {
  if (!Array.isArray(items)) return;
  items.forEach((item, index) => {
    const refuse = (message: string): void => void context.addIssue({ code: 'custom', path: [index], message });
    if (items.indexOf(item) < index) refuse(`${describe(item)} is there already`);
    else if ((item === '*' || item === '~') && items.length > 1) refuse(`${describe(item)} stands alone: leave out the others`);
  });
});

/** Istio's protocols, in any case. */
const PROTOCOLS = [
  'HTTP',
  'HTTPS',
  'GRPC',
  'GRPC-WEB',
  'HTTP2',
  'HTTP_PROXY',
  'MONGO',
  'REDIS',
  'MYSQL',
  'TCP',
  'TLS',
  'UDP',
  'HBONE',
  'DOUBLE_HBONE',
];
export const portProtocol = z.string().refine((value) => PROTOCOLS.includes(value.toUpperCase()), {
  error: ({ input }) => `expected a protocol, one of ${PROTOCOLS.slice(0, 12).join(', ')}, found ${describe(input)}`,
});

export const serverTls = withRule(
  fields({
    httpsRedirect: flag,
    mode: choice(['PASSTHROUGH', 'SIMPLE', 'MUTUAL', 'AUTO_PASSTHROUGH', 'ISTIO_MUTUAL', 'OPTIONAL_MUTUAL']).optional(),
    serverCertificate: z.string().optional(),
    privateKey: z.string().optional(),
    caCertificates: z.string().optional(),
    caCrl: z.string().optional(),
    caCertCredentialName: z.string().optional(),
    credentialName: z.string().optional(),
    credentialNames: listOf(z.string(), 2).optional(),
    tlsCertificates: listOf(
      fields({ serverCertificate: z.string().optional(), privateKey: z.string().optional(), caCertificates: z.string().optional() }),
      2,
    ).optional(),
    subjectAltNames: listOf(z.string()).optional(),
    verifyCertificateSpki: listOf(z.string()).optional(),
    verifyCertificateHash: listOf(z.string()).optional(),
    minProtocolVersion: choice(['TLS_AUTO', 'TLSV1_0', 'TLSV1_1', 'TLSV1_2', 'TLSV1_3']).optional(),
    maxProtocolVersion: choice(['TLS_AUTO', 'TLSV1_0', 'TLSV1_1', 'TLSV1_2', 'TLSV1_3']).optional(),
    cipherSuites: listOf(z.string()).optional(),
  }),
  checkServerTls,
);

function checkServerTls(value: Unchecked, report: Report): void {
  const { mode } = value;
  const has = (field: string): boolean => value[field] !== undefined && value[field] !== '';
  const byName = has('credentialName') || has('credentialNames') || has('tlsCertificates');
  if (mode === 'ISTIO_MUTUAL') {
    for (const field of ['serverCertificate', 'privateKey', 'caCertificates', 'credentialName'])
      if (has(field)) report([field], 'not with mode ISTIO_MUTUAL: the certificates are those of the mesh');
  } else if ((mode === 'SIMPLE' || mode === 'MUTUAL' || mode === 'OPTIONAL_MUTUAL') && !byName) {
    for (const field of ['serverCertificate', 'privateKey'])
      if (!has(field)) report([field], `required by mode ${mode} without credentialName`);
    if (mode !== 'SIMPLE' && !has('caCertificates') && !has('caCertCredentialName'))
      report(['caCertificates'], `required by mode ${mode} without credentialName`);
  }
  const [min, max] = [value.minProtocolVersion, value.maxProtocolVersion];
  if (typeof min === 'string' && typeof max === 'string' && max !== 'TLS_AUTO' && min > max)
    report(['maxProtocolVersion'], `below minProtocolVersion (${min}): no version of TLS is left`);
}

/** A record of one kind of value by any name. */
export const mapOf = <Value extends z.ZodType>(value: Value) => z.record(z.string(), value);

export function itemsOf(value: unknown): readonly Unchecked[] {
  return Array.isArray(value) ? value.map((item) => (isUnchecked(item) ? item : {})) : [];
}
