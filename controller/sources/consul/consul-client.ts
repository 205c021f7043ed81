// Blocking queries to one Consul agent or server (Consul HTTP API, "Blocking Queries"). Owns connections, token, times and bounds. Retries nothing.
import { readFileSync } from 'node:fs';
import type { Agent, IncomingMessage } from 'node:http';
import { messageOf } from '../../../api/message-of.js';
import { JSON_HEADERS, OK, openPool, readText, send } from '../http.js';

/** Files are read for every request: tokens and certificates are rotated under a running process. Null: none. */
export interface ConsulAccess {
  /** "http://host:port" or "https://host:port". */
  readonly server: string;
  readonly tokenFile: string | null;
  /** PEM; null: the system's authorities. */
  readonly caFile: string | null;
  /** Null: the one of the agent that is asked. */
  readonly datacenter: string | null;
}

export type ConsulAnswer =
  | {
      readonly kind: 'ok';
      readonly value: unknown;
      /** To be asked with the next time, so that the answer comes when there is something new. */
      readonly index: number;
    }
  | { readonly kind: 'failure'; readonly status: number; readonly message: string };

/** Consul's http_max_conns_per_client is 200 by default. */
export const MAX_CONNECTIONS = 190;
/** Consul waits up to a sixteenth longer than it was asked, so that many clients don't come back together. */
const WAIT_JITTER = 16;
const ANSWER_MS = 15_000;
const MAX_BYTES = 64 * 1_048_576;
const MAX_MESSAGE_BYTES = 4_096;
const TCP_KEEPALIVE_MS = 15_000;

export class ConsulClient {
  readonly #access: ConsulAccess;
  readonly #pool: Agent;

  constructor(access: ConsulAccess) {
    this.#access = access;
    this.#pool = openPool(access.server, { keepAliveMsecs: TCP_KEEPALIVE_MS, maxSockets: MAX_CONNECTIONS });
  }

  /** `index` 0: answers at once. Never throws; a failure by the signal is one like any other. */
  async query(path: string, index: number, waitMs: number, signal: AbortSignal): Promise<ConsulAnswer> {
    const { datacenter } = this.#access;
    const query = new URLSearchParams({
      // Any server may answer: a little behind the leader is what every client of a catalogue is.
      stale: '',
      ...(index > 0 ? { index: String(index), wait: `${Math.max(1, Math.round(waitMs))}ms` } : {}),
      ...(datacenter === null ? {} : { dc: datacenter }),
    });
    const limit = new Limit((index > 0 ? waitMs + waitMs / WAIT_JITTER : 0) + ANSWER_MS);
    try {
      const answer = await this.#send(`${path}?${query}`, signal, limit);
      if (answer.statusCode !== OK) {
        const said = await readText(answer, MAX_MESSAGE_BYTES);
        return { kind: 'failure', status: answer.statusCode ?? 0, message: `${answer.statusCode} ${said.trim() || answer.statusMessage}` };
      }
      const value: unknown = JSON.parse(await readText(answer, MAX_BYTES));
      // A token that may read nothing gets the answer of an empty Consul: no reason to take everything away.
      if (answer.headers['x-consul-results-filtered-by-acls'] === 'true' && isEmpty(value))
        return { kind: 'failure', status: 403, message: '403 its token may read nothing of this' };
      return { kind: 'ok', value, index: nextIndex(answer, index) };
    } catch (error) {
      return { kind: 'failure', status: 0, message: messageOf(error) };
    } finally {
      limit.cancel();
    }
  }

  /** Idempotent; what is under way fails. */
  close(): void {
    this.#pool.destroy();
  }

  async #send(path: string, signal: AbortSignal, limit: Limit): Promise<IncomingMessage> {
    const { server, tokenFile, caFile } = this.#access;
    const token = tokenFile === null ? {} : { 'x-consul-token': readFileSync(tokenFile, 'utf8').trim() };
    const ca = caFile === null ? {} : { ca: readFileSync(caFile, 'utf8') };
    const options = { headers: { ...JSON_HEADERS, ...token }, signal, agent: this.#pool, ...ca };
    return send(`${server}${path}`, options, null, (request) => {
      request.on('socket', () => limit.begin(() => request.destroy(new Error('no whole answer in time'))));
    });
  }
}

/** Of one exchange, from when it has a connection: with many services it waits for one first. */
class Limit {
  private timer: NodeJS.Timeout | null = null;

  constructor(private readonly ms: number) {}

  begin(late: () => void): void {
    this.timer = setTimeout(late, this.ms);
  }

  cancel(): void {
    if (this.timer !== null) clearTimeout(this.timer);
  }
}

/** One that goes back (a restored or replaced Consul) or is no number begins anew, as the documentation asks. */
function nextIndex(answer: IncomingMessage, index: number): number {
  const next = Number(answer.headers['x-consul-index']);
  return Number.isSafeInteger(next) && next > 0 && next >= index ? next : 0;
}

function isEmpty(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0;
}
