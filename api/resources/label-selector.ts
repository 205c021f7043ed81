// metav1.LabelSelector: which labels are meant. Schema and matching. Owner: Kubernetes API reference.
import { z } from 'zod';
import { choice, fields, withRule } from './schema.js';
import { isLabelKey, labels } from './syntax.js';

const expression = withRule(
  fields({
    key: z.string().refine(isLabelKey, { error: 'expected the key of a label' }),
    operator: choice(['In', 'NotIn', 'Exists', 'DoesNotExist']),
    values: z.array(z.string().max(63)).max(256).optional(),
  }),
  ({ operator, values }, report) => {
    const hasValues = Array.isArray(values) && values.length > 0;
    if ((operator === 'In' || operator === 'NotIn') && !hasValues) report(['values'], `required by operator ${operator}`);
    if ((operator === 'Exists' || operator === 'DoesNotExist') && hasValues) report(['values'], `not with operator ${operator}`);
  },
);

export const labelSelector = fields({ matchLabels: labels.optional(), matchExpressions: z.array(expression).max(64).optional() });

export type LabelSelector = z.output<typeof labelSelector>;

/** An empty selector selects everything. */
export function selects({ matchLabels, matchExpressions }: LabelSelector, of: Readonly<Record<string, string>>): boolean {
  return (
    Object.entries(matchLabels ?? {}).every(([key, value]) => of[key] === value) &&
    (matchExpressions ?? []).every(({ key, operator, values }) => meets(of[key], operator, values ?? []))
  );
}

function meets(value: string | undefined, operator: string, values: readonly string[]): boolean {
  switch (operator) {
    case 'In':
      return value !== undefined && values.includes(value);
    case 'NotIn':
      return value === undefined || !values.includes(value);
    case 'Exists':
      return value !== undefined;
    default:
      return value === undefined;
  }
}

const TERM = /\s*([A-Za-z0-9._/-]{1,317})\s*(?:={1,2}\s*([A-Za-z0-9._-]{0,63})|\s+in\s*\(([A-Za-z0-9._,\s-]{1,2048})\))\s*(,|$)/y;

/** As kubectl has it, by equality: "role=edge,zone in (a, b)". Null: it can't be read. */
export function labelSelectorOf(text: string): LabelSelector | null {
  const matchExpressions: NonNullable<LabelSelector['matchExpressions']> = [];
  TERM.lastIndex = 0;
  for (;;) {
    const [, key = '', value, values, end] = TERM.exec(text) ?? [];
    if (!isLabelKey(key)) return null;
    matchExpressions.push({
      key,
      operator: 'In',
      values: value === undefined ? (values ?? '').split(',').map((each) => each.trim()) : [value],
    });
    if (end === '') return { matchExpressions };
    if (matchExpressions.length >= 64) return null;
  }
}
