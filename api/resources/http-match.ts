// Matches on one value of a request, and the list of rules with them, as HTTPRoute and GRPCRoute have them. Owner: Gateway API v1.
import { z } from 'zod';
import { regularExpressionFault } from './regular-expression.js';
import { choice, describe, fields, type Report, textOf, type Unchecked, unique, withListRule, withRule } from './schema.js';
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

/** HTTPRouteSpec.rules, HTTPRouteRule.matches; the sum over all rules is bounded by a rule of the CRD. */
const MAX_RULES = 16;
export const MAX_MATCHES = 64;
const MAX_MATCHES_OF_ROUTE = 128;

export function ruleList<Rule extends z.ZodType>(rule: Rule) {
  return withListRule(
    unique(z.array(rule).min(1).max(MAX_RULES), 'rule names', ['name'], (item) => textOf(item, 'name')),
    (items, report) => {
      let total = 0;
      for (const item of items) total += Array.isArray(item.matches) ? item.matches.length : 1;
      if (total > MAX_MATCHES_OF_ROUTE) report([], `at most ${MAX_MATCHES_OF_ROUTE} matches in all rules together, found ${total}`);
    },
  );
}
