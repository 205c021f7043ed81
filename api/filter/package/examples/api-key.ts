// Only who knows a key may call; what the service sees is who it was, and no key.
import type { OnRequest } from '@weft/filter';

const CLIENTS: Readonly<Record<string, string>> = { 'k-4711': 'web', 'k-0815': 'partner' };

export const onRequest: OnRequest = (request) => {
  const key = request.headers.get('x-api-key');
  const client = key !== null && Object.hasOwn(CLIENTS, key) ? CLIENTS[key] : undefined;
  if (client === undefined) return { respond: { status: 401, headers: { 'content-type': 'text/plain' }, body: 'an API key is needed\n' } };
  return { headers: { remove: ['x-api-key'], set: { 'x-client': client } } };
};
