// Matches on one value of a request, as HTTPRoute and GRPCRoute have them. Owner: Gateway API v1.
import { regularExpressionFault } from './regular-expression.js';
import { choice, describe, fields, type Report, textOf, type Unchecked, withRule } from './schema.js';
import { headerName, headerValue } from './syntax.js';

export function valueMatch(maxLength: number) {
  return withRule(
    fields({
      type: choice(['Exact', 'RegularExpression']).default('Exact'),
      name: headerName,
      value: headerValue(maxLength),
    }),
    (match, report) => warnOfExpression(match, 'value', report),
  );
}

/** The owner leaves the syntax to its implementations: the object is good, and its match matches nothing. */
export function warnOfExpression(match: Unchecked, field: string, report: Report): void {
  const expression = textOf(match, field);
  if (match.type !== 'RegularExpression' || expression === null || expression.length > MAX_EXPRESSION) return;
  const fault = regularExpressionFault(expression);
  if (fault !== null)
    report([field], `expected a regular expression of RE2: ${fault}; the match matches nothing, found ${describe(expression)}`, 'warning');
}

/** As the longest of the fields. */
const MAX_EXPRESSION = 4_096;

/** By equivalent names the first one counts alone. */
export const REPEATED_MATCH = 'it is not matched, the first one counts';
