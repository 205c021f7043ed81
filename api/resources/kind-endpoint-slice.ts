// discovery.k8s.io/v1 EndpointSlice. Owner: Kubernetes API reference, EndpointSlice v1.
import { isIPv4, isIPv6 } from 'node:net';
import { z } from 'zod';
import { objectOf } from './metadata.js';
import {
  choice,
  describe,
  fields,
  isUnchecked,
  ownedElsewhere,
  portNumber,
  type Report,
  text,
  textOf,
  type Unchecked,
  unique,
  withRule,
} from './schema.js';
import { dnsSubdomain, isLabelKey, isLabelValue, portName } from './syntax.js';

/** The label that says whose endpoints a slice holds. */
export const SERVICE_NAME_LABEL = 'kubernetes.io/service-name';
/** Of all endpoints of a slice, against those of the service's others; 1 without it. */
export const WEIGHT_LABEL = 'mesh.weft.dev/weight';
export const MAX_WEIGHT = 1_000_000;
/** Annotation: labels of all endpoints of a slice that are no pods, "version=v1,tier=gold". A slice's own labels are others: Kubernetes copies its Service's. */
export const ENDPOINT_LABELS = 'mesh.weft.dev/endpoint-labels';

/** What can't be read is left out: the schema has refused it. */
export function endpointLabels(annotations: Readonly<Record<string, string>> | undefined): Record<string, string> {
  const pairs = (annotations?.[ENDPOINT_LABELS] ?? '').split(',').map((pair) => pair.split('='));
  return Object.fromEntries(pairs.flatMap(([key = '', value]) => (key === '' || value === undefined ? [] : [[key.trim(), value.trim()]])));
}

const endpoint = fields({
  addresses: z
    .array(text('an address', /^/, 253))
    .min(1)
    .max(100),
  conditions: fields({
    ready: z.boolean().optional(),
    serving: z.boolean().optional(),
    terminating: z.boolean().optional(),
  }).optional(),
  nodeName: dnsSubdomain.optional(),
  zone: text('the name of a zone', /^/, 253).optional(),
  hostname: ownedElsewhere(),
  targetRef: z.looseObject({ kind: z.string().optional(), namespace: z.string().optional(), name: z.string().optional() }).optional(),
  deprecatedTopology: ownedElsewhere(),
  // Advice of a Kubernetes controller for its own proxy; zones are weighed by Weft itself.
  hints: ownedElsewhere(),
});

const port = fields({
  // Empty for the one port of a service with one unnamed port.
  name: z
    .union([z.literal(''), portName], { error: (issue) => `expected the name of a service port, found ${describe(issue.input)}` })
    .default(''),
  protocol: choice(['TCP', 'UDP', 'SCTP']).default('TCP'),
  port: portNumber,
  // The Service says it.
  appProtocol: ownedElsewhere(),
});

const schema = withRule(
  objectOf(
    { kind: 'EndpointSlice', apiVersion: 'discovery.k8s.io/v1', name: dnsSubdomain },
    {
      addressType: choice(['IPv4', 'IPv6'], ['FQDN'], 'addresses of type'),
      endpoints: z.array(endpoint).max(1000).default([]),
      ports: unique(z.array(port).max(100), 'port names', ['name'], (item) => textOf(item, 'name') ?? '').default([]),
    },
  ),
  (value, report) => {
    checkAddresses(value, report);
    checkWeight(value, report);
    checkLabels(value, report);
  },
);

export function isWeight(text: string): boolean {
  return /^[1-9]\d{0,6}$/.test(text) && Number(text) <= MAX_WEIGHT;
}

function checkWeight({ metadata }: Unchecked, report: Report): void {
  const labels = (metadata as Unchecked | null | undefined)?.labels;
  const weight = isUnchecked(labels) ? labels[WEIGHT_LABEL] : undefined;
  if (typeof weight !== 'string') return;
  if (isWeight(weight)) return;
  report(['metadata', 'labels', WEIGHT_LABEL], `expected a whole number from 1 to ${MAX_WEIGHT}, found ${describe(weight)}`);
}

function checkLabels({ metadata }: Unchecked, report: Report): void {
  const annotations = (metadata as Unchecked | null | undefined)?.annotations;
  const text = isUnchecked(annotations) ? annotations[ENDPOINT_LABELS] : undefined;
  if (typeof text !== 'string') return;
  for (const pair of text.split(',')) {
    const [key = '', value = '', ...rest] = pair.trim().split('=');
    if (rest.length === 0 && pair.includes('=') && isLabelKey(key) && isLabelValue(value)) continue;
    report(['metadata', 'annotations', ENDPOINT_LABELS], `expected labels as key=value with commas between, found ${describe(pair)}`);
    return;
  }
}

function checkAddresses(value: Unchecked, report: Report): void {
  const { addressType, endpoints } = value;
  if (!Array.isArray(endpoints) || (addressType !== 'IPv4' && addressType !== 'IPv6')) return;
  // An address with a zone ("fe80::1%eth0") means something on one host alone.
  const isValid = (text: string): boolean => (addressType === 'IPv4' ? isIPv4(text) : isIPv6(text) && !text.includes('%'));
  endpoints.forEach((item: unknown, index) => {
    const addresses = (item as Unchecked | null)?.addresses;
    if (!Array.isArray(addresses)) return;
    addresses.forEach((address: unknown, position) => {
      if (typeof address === 'string' && address !== '' && !isValid(address)) {
        report(['endpoints', index, 'addresses', position], `expected an ${addressType} address (addressType), found ${describe(address)}`);
      }
    });
  });
}

export const endpointSliceKind = {
  kind: 'EndpointSlice',
  apiVersion: 'discovery.k8s.io/v1',
  olderVersions: [],
  plural: 'endpointslices',
  shortNames: ['eps'],
  schema,
} as const;
