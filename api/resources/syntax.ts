// Names, labels, addresses, durations: the small grammars of Kubernetes and the Gateway API. Every pattern is linear: input is untrusted.
import { isIP, isIPv4, isIPv6 } from 'node:net';
import { z } from 'zod';
import { describe, fields, text, textOf, unique, withListRule } from './schema.js';

const LABEL = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/;
const SUBDOMAIN = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/;
const QUALIFIED = /^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$/;

/** RFC 1123 label: a namespace, a service. */
export const dnsLabel = text('a DNS label (lower-case letters, digits and "-", beginning and ending with a letter or digit)', LABEL, 63);

/** RFC 1123 subdomain: the name of most objects. */
export const dnsSubdomain = text(
  'a DNS name (lower-case letters, digits, "-" and ".", each part beginning and ending with a letter or digit)',
  SUBDOMAIN,
  253,
);

/** Gateway API SectionName. */
export const sectionName = dnsSubdomain;

/** IANA_SVC_NAME: port names; the letter rule is checked apart, since the pattern alone would need a lookahead. */
export const portName = text(
  'a port name (lower-case letters, digits and "-", with a letter, at most 15 characters)',
  /^(?=[a-z0-9-]*[a-z])[a-z0-9]+(-[a-z0-9]+)*$/,
  15,
);

/** Reference by name within the Gateway API: bounded, of any syntax (ObjectName). */
export const objectName = text('the name of an object', /^/, 253);

/** Gateway API Group: "" is the core group. */
export const GROUP = /^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)?$/;
export const groupName = text('an API group such as apps.example.com, or "" for the core group', GROUP, 253, 0);
export const KIND = /^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$/;
export const kindName = text('the name of a kind', KIND, 63);

export function isLabelKey(key: string): boolean {
  const slash = key.indexOf('/');
  const prefix = slash < 0 ? null : key.slice(0, slash);
  const name = key.slice(slash + 1);
  return name.length <= 63 && QUALIFIED.test(name) && (prefix === null || (prefix.length <= 253 && SUBDOMAIN.test(prefix)));
}

const LABEL_VALUE = /^([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?$/;

export function isLabelValue(value: string): boolean {
  return value.length <= 63 && LABEL_VALUE.test(value);
}

const MAX_ENTRIES = 256;

/** Kubernetes labels and label selectors by equality. */
export const labels = z
  .record(z.string(), text('a label value (letters, digits, "-", "_" and ".")', LABEL_VALUE, 63, 0))
  .superRefine((map, context) => checkKeys(Object.keys(map), 'label', context), { when: isMap });

/** Kubernetes annotations: any text; the object's size bounds it. */
export const annotations = z
  .record(z.string(), z.string())
  .superRefine((map, context) => checkKeys(Object.keys(map), 'annotation', context), { when: isMap });

function isMap(payload: { value: unknown }): boolean {
  return typeof payload.value === 'object' && payload.value !== null;
}

function checkKeys(keys: readonly string[], what: string, context: z.core.$RefinementCtx): void {
  if (keys.length > MAX_ENTRIES) context.addIssue({ code: 'custom', message: `at most ${MAX_ENTRIES} ${what}s, found ${keys.length}` });
  for (const key of keys) {
    // Of annotations Kubernetes looks at it in lower case.
    if (!isLabelKey(what === 'annotation' ? key.toLowerCase() : key))
      context.addIssue({
        code: 'custom',
        path: [key],
        params: { atKey: true },
        message: `expected a ${what} key ([prefix/]name, the name at most 63 letters, digits, "-", "_" and "."), found ${describe(key)}`,
      });
  }
}

function checkedText(expected: string, isValid: (value: string) => boolean) {
  return z.string().refine(isValid, { error: (issue) => `expected ${expected}, found ${describe(issue.input)}` });
}

export const ipAddress = checkedText('an IPv4 or IPv6 address', (value) => isIP(value) !== 0 && !value.includes('%'));

/** A prefix with no host bits required: "10.0.0.0/8", "fd00::/8". */
export const cidr = checkedText('a CIDR such as 10.0.0.0/8 or fd00::/8', (value) => {
  const [address = '', length, ...rest] = value.split('/');
  if (length === undefined || rest.length > 0 || !/^(0|[1-9][0-9]{0,2})$/.test(length)) return false;
  return (isIPv4(address) && Number(length) <= 32) || (isIPv6(address) && !address.includes('%') && Number(length) <= 128);
});

/** Gateway API Hostname: lower case, a wildcard only as the whole first label, no address, no port. */
export const hostname = text(
  'a host name in lower case, the first label may be "*" (no port, no IP address)',
  /^(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/,
  253,
).refine((value) => isIP(value) === 0, { error: (issue) => `expected a host name, found the IP address ${issue.input}` });

export const exactHostname = hostname.refine((value) => !value.startsWith('*'), { error: 'expected one host name, without "*"' });

/** Without user information, which would make another host of what looks like one. */
export function authority(minLength = 1) {
  return text('a host name, perhaps with a port', /^[A-Za-z0-9._:[\]-]*$/, 255, minLength);
}

/** RFC 9110 token. */
export const headerName = text('a header name (an RFC 9110 token)', /^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$/, 256);

export const cookieName = text('the name of a cookie (an RFC 9110 token)', /^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$/, 256);
/** What may stand between two semicolons of a Set-Cookie (RFC 6265, 4.1.1). */
export const cookiePart = (expected: string) => text(`${expected}, without ";" and control characters`, /^[\x20-\x3a\x3c-\x7e]*$/, 1024, 0);
export const cookieAttribute = fields({ name: cookiePart('the name of an attribute'), value: cookiePart('its value').optional() });

/** They frame or address the message on one connection; the proxy writes them itself (RFC 9110, 7.6.1). */
export const OWNED_BY_PROXY = new Set([
  'connection',
  'content-length',
  'host',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/** RFC 9110 field-value, obs-text by byte: no control bytes, which could end the header line, and nothing that is no byte. */
const HEADER_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

export function headerValue(maxLength: number, minLength = 1) {
  return text('a header value of visible ASCII and bytes up to U+00FF, without control characters', HEADER_VALUE, maxLength, minLength);
}

/** What a request line or a Location may be made of: nothing that ends it, nor the line. Empty: it says nothing. */
export const pathText = text('the text of a path, without spaces and control characters', /^[!-~\u0080-\uffff]*$/, 4_096, 0);

/** Names are equal whatever their case (RFC 9110, 5.1): the owner refuses what is written alike alone. `consequence` for what is written otherwise. */
export function uniqueHeaderNames<Schema extends z.ZodType>(list: Schema, consequence: string): Schema {
  const exact = unique(list, 'header names', ['name'], (item) => textOf(item, 'name'));
  return withListRule(exact, (items, report) => {
    const names = items.map((item) => textOf(item, 'name'));
    names.forEach((name, index) => {
      const earlier = names.findIndex((each) => each?.toLowerCase() === name?.toLowerCase());
      if (name !== null && earlier < index && !names.slice(0, index).includes(name))
        report([index, 'name'], `one header with item ${earlier} (${names[earlier]}): ${consequence}`, 'warning');
    });
  });
}

const DURATION = /^([0-9]{1,5}(h|m|s|ms)){1,4}$/;

/** GEP-2257. */
export const duration = text('a duration such as 500ms, 10s or 1h30m (GEP-2257)', DURATION, 32);

const UNIT_MS: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1_000, ms: 1 };

/** Milliseconds of a GEP-2257 duration; null for any other text. */
export function durationMs(value: string): number | null {
  if (value.length > 32 || !DURATION.test(value)) return null;
  let total = 0;
  for (const [, amount, unit] of value.matchAll(/([0-9]+)(ms|h|m|s)/g)) total += Number(amount) * (UNIT_MS[unit ?? ''] ?? 0);
  return total;
}
