// Matches on one value of a request, as HTTPRoute and GRPCRoute have them. Owner: Gateway API v1.
import { choice, fields } from './schema.js';
import { headerName, headerValue } from './syntax.js';

export function valueMatch(maxLength: number) {
  return fields({
    type: choice(['Exact', 'RegularExpression']).default('Exact'),
    name: headerName,
    value: headerValue(maxLength),
  });
}
