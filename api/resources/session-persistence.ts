// SessionPersistence of routes. Owner: Gateway API v1 (experimental channel) and its CEL rules.
import { choice, fields, isUnchecked, text, withRule } from './schema.js';
import { duration } from './syntax.js';

export const sessionPersistence = withRule(
  fields({
    sessionName: text('the name of a cookie or header', /^[!#$%&'*+\-.^_`|~0-9A-Za-z]*$/, 128, 0).optional(),
    absoluteTimeout: duration.optional(),
    idleTimeout: duration.optional(),
    type: choice(['Cookie', 'Header']).optional(),
    cookieConfig: fields({ lifetimeType: choice(['Permanent', 'Session']).optional() }).optional(),
  }),
  ({ type, absoluteTimeout, cookieConfig }, report) => {
    if (cookieConfig !== undefined && type === 'Header') report(['cookieConfig'], "doesn't belong to type Header: expected type Cookie");
    if (isUnchecked(cookieConfig) && cookieConfig.lifetimeType === 'Permanent' && absoluteTimeout === undefined)
      report(['absoluteTimeout'], 'required by cookieConfig.lifetimeType: Permanent');
  },
);
