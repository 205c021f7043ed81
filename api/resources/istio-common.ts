// What Istio's kinds have in common: how a kind is described, selectors, targets, durations, hosts. Owner: Istio API, its CRDs' rules and its
// webhook's validation.
import { isIP } from 'node:net';
import { z } from 'zod';
import { isWildcardHost, LABEL } from './istio-host.js';
import { DEFAULT_NAMESPACE, objectOf } from './metadata.js';
import { regularExpressionFault } from './regular-expression.js';
import { describe, fields, isUnchecked, portNumber, type Report, text, textOf, type Unchecked, wholeNumber, withRule } from './schema.js';
import { cidr, dnsSubdomain, groupName, kindName } from './syntax.js';

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

/** What concerns metadata and spec together; reported at paths of the object. */
type ObjectRule = (metadata: Unchecked, spec: Unchecked, report: Report) => void;

/** The description of a kind of Istio's, made of its `spec`. */
export function istioKind<const Kind extends string, Spec extends z.ZodType>(type: IstioType<Kind>, spec: Spec, rule?: ObjectRule) {
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
    schema: withRule(
      objectOf({ kind: type.manifestKind ?? type.kind, apiVersion: newest, name: dnsSubdomain }, { spec }),
      ({ metadata, spec: said }, report) => {
        if (!isUnchecked(metadata) || !isUnchecked(said)) return;
        checkDryRun(type.kind, metadata, said, report);
        checkOwnNamespace(metadata, said, report);
        rule?.(metadata, said, report);
      },
    ),
  } as const;
}

const DRY_RUN = 'istio.io/dry-run';

function checkDryRun(kind: string, { annotations }: Unchecked, { action }: Unchecked, report: Report): void {
  const value = isUnchecked(annotations) ? textOf(annotations, DRY_RUN) : null;
  if (value === null) return;
  const refuse = (message: string): void => report(['metadata', 'annotations', DRY_RUN], message);
  if (kind !== 'AuthorizationPolicy') refuse('for AuthorizationPolicy alone: leave it out');
  else if (action === 'AUDIT' || action === 'CUSTOM') refuse(`not with action ${action}: ALLOW and DENY can be tried out`);
  else if (!/^(?:1|0|[tf]|true|false|TRUE|FALSE|True|False|[TF])$/.test(value))
    refuse(`expected "true" or "false", found ${describe(value)}`);
}

/** "." is a namespace too. */
function checkOwnNamespace(metadata: Unchecked, { exportTo }: Unchecked, report: Report): void {
  if (!Array.isArray(exportTo) || !exportTo.includes('.')) return;
  const own = exportTo.indexOf(textOf(metadata, 'namespace') ?? DEFAULT_NAMESPACE);
  if (own >= 0) report(['spec', 'exportTo', own], '"." is this namespace already');
}

/** At least one character, at most `max`. */
export const filled = (expected: string, max = 1024) => text(expected, /^/, max);
export const flag = z.boolean().optional();
export const listOf = <Item extends z.ZodType>(item: Item, max = 256) => z.array(item).max(max);
export const uint32 = wholeNumber(0, 4_294_967_295);
/** `filled` text that the owner's schema does not ask for: empty it says nothing. */
export const has = (value: Unchecked, field: string): boolean =>
  Array.isArray(value[field]) ? value[field].length > 0 : value[field] !== undefined && value[field] !== '';
export const percentNumber = z
  .number({ error: ({ input }) => (input === undefined ? undefined : `expected a number from 0 to 100, found ${describe(input)}`) })
  .refine((value) => value >= 0 && value <= 100, { error: ({ input }) => `expected a number from 0 to 100, found ${describe(input)}` });
/** Percent of requests or connections. */
export const percentage = fields({ value: percentNumber.optional() });
/** As Envoy counts it: in millionths. */
export const fractionalPercentage = fields({
  value: percentNumber
    .refine((value) => value <= 0 || value >= 0.0001, { error: ({ input }) => `expected 0, or at least 0.0001, found ${describe(input)}` })
    .optional(),
});

const DURATION = /^(?:[0-9]{1,12}(?:\.[0-9]{1,9})?(?:h|ms|m|s|us|µs|ns)){1,6}$/;
const UNIT_NS: Readonly<Record<string, number>> = { h: 3.6e12, m: 6e10, s: 1e9, ms: 1e6, us: 1e3, µs: 1e3, ns: 1 };

/** Null: it is none. */
export function goDurationMs(value: string): number | null {
  if (value.length > 64 || !DURATION.test(value)) return null;
  let total = 0;
  for (const [, amount, unit] of value.matchAll(/([0-9.]+)(h|ms|m|s|us|µs|ns)/g))
    total += Math.round(Number(amount) * (UNIT_NS[unit ?? ''] ?? 0));
  return total / 1e6;
}

function durationFrom(minMs: number) {
  const expected = `a duration in whole milliseconds, at least ${minMs} ms, such as 500ms, 1.5s or 1m30s`;
  return z
    .string({ error: ({ input }) => (input === undefined ? undefined : `expected ${expected}, found ${describe(input)}`) })
    .refine((value) => (goDurationMs(value) ?? -1) >= minMs && Number.isInteger(goDurationMs(value)), {
      error: ({ input }) => `expected ${expected}, found ${describe(input)}`,
    });
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

function warnOfNoLabels(labels: unknown, report: Report): void {
  if (labels === undefined || (isUnchecked(labels) && Object.keys(labels).length === 0))
    report([], 'selects every workload of the namespace: it has no labels', 'warning');
}

/** istio.type.v1beta1.WorkloadSelector. */
export const workloadSelector = withRule(fields({ matchLabels: selectorLabels.optional() }), ({ matchLabels }, report) =>
  warnOfNoLabels(matchLabels, report),
);
/** networking's WorkloadSelector. */
export const labelsSelector = withRule(fields({ labels: selectorLabels.optional() }), ({ labels }, report) =>
  warnOfNoLabels(labels, report),
);

/** What policies can be attached to, as group/kind. */
const TARGETS = [
  '/Service',
  'networking.istio.io/ServiceEntry',
  'gateway.networking.k8s.io/Gateway',
  'gateway.networking.k8s.io/GatewayClass',
];

export const targetRef = withRule(
  fields({
    group: groupName.optional(),
    kind: kindName,
    name: filled('the name of an object', 253),
    namespace: z.string().optional(),
  }),
  ({ group, kind, namespace }, report) => {
    if (namespace !== undefined && namespace !== '') report(['namespace'], 'cross namespace referencing is not supported: leave it out');
    const found = `${group === 'core' ? '' : (group ?? '')}/${String(kind)}`;
    if (typeof kind === 'string' && !TARGETS.includes(found))
      report(['kind'], `expected one of ${TARGETS.map((each) => each.replace(/^\//, '')).join(', ')}, found ${describe(found)}`);
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

const MAX_EXPRESSION = 1_024;
export const regex = filled('a regular expression', MAX_EXPRESSION).superRefine((value, context) => {
  const fault = value.length > MAX_EXPRESSION ? null : regularExpressionFault(value);
  if (fault !== null) context.addIssue({ code: 'custom', message: `expected a regular expression of RE2: ${fault}` });
});

const MATCHES = ['exact', 'prefix', 'regex'] as const;
const stringMatchOf = <Prefix extends z.ZodType, Pattern extends z.ZodType>(prefix: Prefix, pattern: Pattern) =>
  withRule(fields({ exact: z.string().optional(), prefix: prefix.optional(), regex: pattern.optional() }), (value, report) =>
    checkOneOf(value, MATCHES, report),
  );
export const stringMatch = stringMatchOf(filled('the beginning of a text', 65_536), regex);
/** Every path begins with nothing. */
export const uriMatch = stringMatchOf(z.string(), regex);
/** Of what must not be there: "*" is anything. */
export const absenceMatch = stringMatchOf(
  filled('the beginning of a text', 65_536),
  z.union([z.literal('*'), regex], { error: 'expected a regular expression of RE2, or "*"' }),
);

export const wildcardHost = filled('a host name, or a wildcard such as *.shop.example', 255).refine(
  (value) => value === '' || isWildcardHost(value),
  { error: ({ input }) => `expected a host name, or a wildcard such as *.shop.example, found ${describe(input)}` },
);

export const portLabel = text('the name of a port (letters, digits and "-")', LABEL, 63);

export const ipOrCidr = z.string().refine((value) => isIP(value) !== 0 || cidr.safeParse(value).success, {
  error: ({ input }) => `expected an address or a CIDR such as 10.0.0.0/8, found ${describe(input)}`,
});

export const portSelector = fields({ number: portNumber });

const SUBSET = 'the name of a subset (letters, digits and "-")';
export const subsetName = text(SUBSET, LABEL, 63);

/** A service of the mesh, perhaps one subset of it. */
export const destination = fields({
  host: wildcardHost.refine((value) => value !== '*', { error: 'the host "*" is no destination: name one' }),
  subset: text(SUBSET, /^([A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)?$/, 63, 0).optional(),
  port: portSelector.optional(),
});

/** Namespaces an object is seen from. */
const namespacesOf = (expected: string, pattern: RegExp) =>
  listOf(text(expected, pattern, 63)).superRefine((items, context) => {
    if (!Array.isArray(items)) return;
    items.forEach((item, index) => {
      const refuse = (message: string): void => void context.addIssue({ code: 'custom', path: [index], message });
      if (items.indexOf(item) < index) refuse(`${describe(item)} is there already`);
      else if ((item === '*' || item === '~') && items.length > 1) refuse(`${describe(item)} stands alone: leave out the others`);
    });
  });
export const exportTo = namespacesOf('a namespace, "." (its own) or "*" (all)', /^(\.|\*|[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)$/);
/** Of hosts, which may be for nobody. */
export const exportToOrNone = namespacesOf(
  'a namespace, "." (its own), "*" (all) or "~" (none)',
  /^(\.|\*|~|[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)$/,
);

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

/** A record of one kind of value by any name. */
export const mapOf = <Value extends z.ZodType>(value: Value) => z.record(z.string(), value);

export function itemsOf(value: unknown): readonly Unchecked[] {
  return Array.isArray(value) ? value.map((item) => (isUnchecked(item) ? item : {})) : [];
}
