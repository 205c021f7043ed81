// The old paths go on under new ones, and every answer has the headers that browsers want to see.
import type { OnRequest, OnResponse } from '@weft/filter';

export const onRequest: OnRequest = ({ path }) => (path.startsWith('/v1/') ? { path: `/api${path.slice(3)}` } : undefined);

export const onResponse: OnResponse = (response) => {
  const isPrivate = response.request.headers.has('authorization');
  return {
    headers: {
      remove: ['server', 'x-powered-by'],
      set: {
        'strict-transport-security': 'max-age=31536000',
        'x-content-type-options': 'nosniff',
        ...(isPrivate && response.status === 200 ? { 'cache-control': 'private, no-store' } : {}),
      },
    },
  };
};
