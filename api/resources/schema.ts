// The vocabulary the kinds' schemas are written in: strict objects, cross-field rules, bounded text, "not acted on yet".
// A finding's wording starts here; its position is added by parse.ts.
import { z } from 'zod';
import type { FieldPath } from './finding.js';
import { suggestion } from './nearest.js';

/** Separates the messages of several unknown fields in the one issue zod makes of them. */
export const UNKNOWN_FIELD_SEPARATOR = '\n';

/** An object with exactly these fields; each unknown one is a finding of its own, with the nearest known name. */
export function fields<Shape extends z.ZodRawShape>(shape: Shape) {
  const known = Object.keys(shape);
  return z.strictObject(shape, {
    error: (issue) =>
      issue.code === 'unrecognized_keys'
        ? issue.keys.map((key) => `unknown field${suggestion(key, known)}`).join(UNKNOWN_FIELD_SEPARATOR)
        : undefined,
  });
}

/** Reports a mistake at `path` below the value a rule was given; a warning refuses nothing. */
export type Report = (path: FieldPath, message: string, severity?: 'warning') => void;

/** In an issue's params: the value is valid, and something about it is to be known. */
export const IS_WARNING = 'isWarning';

/** How a warning begins that a field of the owner's schema has no effect yet. */
export const NOT_ACTED_ON = 'accepted, not acted on yet';

/** What a cross-field rule sees: its fields may be missing or of any type, since a rule runs beside other findings, not after them. */
export type Unchecked = Readonly<Record<string, unknown>>;

export function isUnchecked(value: unknown): value is Unchecked {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A rule over several fields of one object. */
export function withRule<Schema extends z.ZodType>(schema: Schema, rule: (value: Unchecked, report: Report) => void): Schema {
  return schema.superRefine((value, context) => rule(value as Unchecked, reporter(context)), {
    when: (payload) => isUnchecked(payload.value),
  }) as Schema;
}

/** A rule over the items of one list; items that are no objects are `{}` to it. */
export function withListRule<Schema extends z.ZodType>(
  schema: Schema,
  rule: (items: readonly Unchecked[], report: Report) => void,
): Schema {
  return schema.superRefine(
    (value, context) =>
      rule(
        (value as unknown[]).map((item) => (isUnchecked(item) ? item : {})),
        reporter(context),
      ),
    {
      when: (payload) => Array.isArray(payload.value),
    },
  ) as Schema;
}

function reporter(context: z.core.$RefinementCtx): Report {
  return (path, message, severity) =>
    context.addIssue({ code: 'custom', path: [...path], message, params: { [IS_WARNING]: severity === 'warning' } });
}

/** Every item's key differs; `key` null exempts the item. The later one of two is reported at `field`. */
export function unique<Schema extends z.ZodType>(
  list: Schema,
  what: string,
  field: FieldPath,
  key: (item: Unchecked) => string | null,
): Schema {
  return withListRule(list, (items, report) => {
    const first = new Map<string, number>();
    items.forEach((item, index) => {
      const text = key(item);
      if (text === null) return;
      const earlier = first.get(text);
      if (earlier === undefined) first.set(text, index);
      else report([index, ...field], `${what} must be unique: ${JSON.stringify(text)} is already used by item ${earlier}`);
    });
  });
}

/** Of several references to one thing all name its parts by the same fields, or one stands alone for all of it. `shape`: which fields they are. */
export function sectionsOrWhole<Schema extends z.ZodType>(
  list: Schema,
  thing: (item: Unchecked) => string,
  shape: (item: Unchecked) => string,
  expected: string,
): Schema {
  return withListRule(list, (items, report) => {
    items.forEach((item, index) => {
      const mixed = items.findIndex((other, at) => at < index && thing(other) === thing(item) && shape(other) !== shape(item));
      if (mixed >= 0) report([index, 'name'], `expected ${expected} in both: item ${mixed} refers to the same ${item.kind ?? 'object'}`);
    });
  });
}

/** Reads one text field of an unchecked object. */
export function textOf(item: Unchecked, field: string): string | null {
  const value = item[field];
  return typeof value === 'string' ? value : null;
}

/** A field of the owner's schema whose behaviour this version lacks: accepted as `schema` has it, and never silently. */
export function notActedOn<Schema extends z.ZodType = z.ZodUnknown>(what: string, schema?: Schema) {
  return ((schema ?? z.unknown()) as Schema)
    .superRefine((value, context) => {
      if (value !== undefined) reporter(context)([], `${NOT_ACTED_ON}: ${what}`, 'warning');
    })
    .optional();
}

/** A field of former versions of the owner's schema. */
export function formerField(message: string) {
  return z
    .unknown()
    .superRefine((value, context) => {
      if (value !== undefined) context.addIssue({ code: 'custom', message });
    })
    .optional();
}

/** A field another party acts on (Kubernetes, a cloud) or that only informs: accepted, without effect on Weft. */
export function ownedElsewhere() {
  return z.unknown().optional();
}

/** One of `supported`, or one of `later`, which is valid and not acted on yet; anything else names the nearest. */
export function choice<const Supported extends readonly [string, ...string[]], const Later extends readonly string[] = []>(
  supported: Supported,
  later: Later = [] as unknown as Later,
  what = '',
) {
  const all = [...supported, ...later] as unknown as [...Supported, ...Later];
  return z
    .enum(all as readonly [Supported[number], ...(Supported[number] | Later[number])[]], {
      error: ({ input: found }) =>
        found === undefined
          ? undefined
          : `expected one of ${all.join(', ')}, found ${describe(found)}${typeof found === 'string' ? suggestion(found, all) : ''}`,
    })
    .superRefine((value: string, context) => {
      if (later.includes(value)) reporter(context)([], `${NOT_ACTED_ON}: ${what === '' ? '' : `${what} `}${value}`, 'warning');
    });
}

/** As `choice`, where the owner leaves the set open: any other text of the `syntax` is valid, and not acted on; what is nearly one of the `known` values is said. */
export function openChoice(supported: readonly string[], what: string, known: readonly string[], syntax = /^/) {
  return z
    .string({ error: ({ input }) => (input === undefined ? undefined : `expected ${supported.join(' or ')}, found ${describe(input)}`) })
    .max(253)
    .superRefine((value, context) => {
      if (supported.includes(value)) return;
      const only = supported.map((each) => each || '""').join(' and ');
      const nearest = known.includes(value) ? '' : suggestion(value, [...supported, ...known]);
      if (!syntax.test(value))
        reporter(context)([], `expected one of ${[...supported, ...known].join(', ')}, found ${describe(value)}${nearest}`);
      else reporter(context)([], `${NOT_ACTED_ON}: ${what} ${describe(value)}, only ${only}${nearest}`, 'warning');
    });
}

/** Bounded text of one syntax; `expected` completes "expected …". */
export function text(expected: string, pattern: RegExp, maxLength: number, minLength = 1) {
  return z
    .string({ error: (issue) => (issue.input === undefined ? undefined : `expected ${expected}, found ${describe(issue.input)}`) })
    .refine((value) => value.length >= minLength && value.length <= maxLength && pattern.test(value), {
      error: (issue) => explainText(expected, String(issue.input), minLength, maxLength),
    });
}

function explainText(expected: string, value: string, minLength: number, maxLength: number): string {
  if (value.length > maxLength) return `expected ${expected}: at most ${maxLength} characters, found ${value.length}`;
  if (value.length < minLength) return `expected ${expected}, found an empty string`;
  return `expected ${expected}, found ${describe(value)}`;
}

export function wholeNumber(min: number, max: number) {
  const error = (issue: { input?: unknown }): string | undefined =>
    issue.input === undefined ? undefined : `expected a whole number from ${min} to ${max}, found ${describe(issue.input)}`;
  return z.int({ error }).min(min, { error }).max(max, { error });
}

export const portNumber = wholeNumber(1, 65_535);

/** A value as a message quotes it: its type where the text would mislead, at most 60 characters. */
export function describe(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'an object';
  if (typeof value === 'string') return JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}…` : value);
  return `${typeof value} ${String(value)}`;
}
