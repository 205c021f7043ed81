// Matches on one value of a request, as HTTPRoute and GRPCRoute have them. Owner: Gateway API v1.
import { choice, fields } from './schema.js';
import { headerName, headerValue } from './syntax.js';

export function valueMatch(what: string, maxLength: number) {
  return fields({
    type: choice(['Exact'], ['RegularExpression'], `${what} matches of type`).default('Exact'),
    name: headerName,
    value: headerValue(maxLength),
  });
}
