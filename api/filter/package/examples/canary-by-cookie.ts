// Who has the cookie goes to the canary: the header is a hint that a route matches (headers: [{name: x-track, value: canary}]).
// Whatever a client says there itself is taken away.
import type { OnRequest } from '@weft/filter';

export const onRequest: OnRequest = (request) => {
  const cookies = (request.headers.get('cookie') ?? '').split(/;\s*/);
  return cookies.includes('track=canary')
    ? { headers: { set: { 'x-track': 'canary' } }, reroute: true }
    : { headers: { remove: ['x-track'] }, reroute: request.headers.has('x-track') };
};
