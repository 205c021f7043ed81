// One question to the DNS: the addresses of a name, of both families, with their time to live. Knows no mesh.
import { Resolver } from 'node:dns/promises';

export type Answer =
  | { readonly kind: 'addresses'; readonly addresses: readonly string[]; readonly ttlSeconds: number }
  /** There is no such name, or nothing of the family under it. */
  | { readonly kind: 'none'; readonly reason: string }
  | { readonly kind: 'failed'; readonly reason: string };

/** A and AAAA. */
export type Lookup = (name: string) => Promise<readonly [Answer, Answer]>;

const TIMEOUT_MS = 2_000;
const TRIES = 2;

/**
 * `servers` as "address" or "address:port", "[v6]:port"; none: those of the host (/etc/resolv.conf). /etc/hosts is not asked. What is asked when the
 * signal is aborted has failed then: a server that is silent must not hold up the end of the process.
 */
export function dnsLookup(servers: readonly string[], signal: AbortSignal): Lookup {
  const resolver = new Resolver({ timeout: TIMEOUT_MS, tries: TRIES });
  signal.addEventListener('abort', () => resolver.cancel(), { once: true });
  if (servers.length > 0) resolver.setServers([...servers]);
  return (name) => Promise.all([answerOf(resolver.resolve4(name, { ttl: true })), answerOf(resolver.resolve6(name, { ttl: true }))]);
}

const REASONS: Readonly<Record<string, string>> = {
  ENOTFOUND: 'NXDOMAIN: there is no such name',
  ENODATA: 'no record of that type',
  ESERVFAIL: 'SERVFAIL',
  EREFUSED: 'REFUSED by the server',
  ETIMEOUT: 'no answer in time',
  ECONNREFUSED: 'no server answers',
};

async function answerOf(query: Promise<readonly { readonly address: string; readonly ttl: number }[]>): Promise<Answer> {
  try {
    const records = await query;
    const addresses = records.map(({ address }) => address);
    return { kind: 'addresses', addresses, ttlSeconds: Math.min(...records.map(({ ttl }) => ttl)) };
  } catch (error) {
    const { code = '', message } = error as NodeJS.ErrnoException;
    const reason = REASONS[code] ?? message;
    return code === 'ENOTFOUND' || code === 'ENODATA' ? { kind: 'none', reason } : { kind: 'failed', reason };
  }
}
