// The filters of a rule of an HTTPRoute or GRPCRoute: the two header modifiers; the others are known and not supported yet. Owner: Gateway API v1.
import { z } from 'zod';
import { choice, fields, type Report, textOf, type Unchecked, unique, withRule } from './schema.js';
import { headerName, headerValue, uniqueHeaderNames } from './syntax.js';

/** They frame or address the message on one connection; the proxy writes them itself (RFC 9110, 7.6.1). */
const OWNED_BY_PROXY = new Set([
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

const header = fields({ name: headerName, value: headerValue(4096) });

const headerModifier = withRule(
  fields({
    set: uniqueHeaderNames(z.array(header).max(16)).optional(),
    add: uniqueHeaderNames(z.array(header).max(16)).optional(),
    remove: z.array(headerName).max(16).optional(),
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
      report(list === 'remove' ? [list, index] : [list, index, 'name'], `${name} can't be modified: the proxy writes it itself`);
    });
  }
}

/** Which field belongs to which type; of the types after the first two only that they exist is known here. */
const FIELD_OF_TYPE: Readonly<Record<string, string>> = {
  RequestHeaderModifier: 'requestHeaderModifier',
  ResponseHeaderModifier: 'responseHeaderModifier',
};

const LATER = ['RequestMirror', 'RequestRedirect', 'URLRewrite', 'ExtensionRef', 'CORS', 'ExternalAuth'];

const filter = withRule(
  fields({
    type: choice(['RequestHeaderModifier', 'ResponseHeaderModifier'], LATER, 'filters of type'),
    requestHeaderModifier: headerModifier.optional(),
    responseHeaderModifier: headerModifier.optional(),
    requestMirror: z.unknown().optional(),
    requestRedirect: z.unknown().optional(),
    urlRewrite: z.unknown().optional(),
    extensionRef: z.unknown().optional(),
    cors: z.unknown().optional(),
    externalAuth: z.unknown().optional(),
  }),
  (value, report) => {
    const expected = typeof value.type === 'string' ? FIELD_OF_TYPE[value.type] : undefined;
    if (expected === undefined) return;
    if (value[expected] === undefined) report([expected], `required by type: ${value.type}`);
    for (const field of Object.keys(value)) {
      if (field !== 'type' && field !== expected) report([field], `doesn't belong to a filter of type ${value.type}: expected ${expected}`);
    }
  },
);

export const filters = unique(z.array(filter).max(16), 'filter types', ['type'], (item) => {
  const type = textOf(item, 'type');
  return type === 'RequestHeaderModifier' || type === 'ResponseHeaderModifier' ? type : null;
});
