// SessionPersistence of routes. Owner: Gateway API v1 (experimental channel) and its CEL rules.
import { z } from 'zod';
import { choice, fields, isUnchecked, withRule } from './schema.js';
import { duration } from './syntax.js';

export const sessionPersistence = withRule(
  fields({
    sessionName: z.string().max(128).optional(),
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
