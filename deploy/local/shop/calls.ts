// The calling side of a shop pod: sends requests to services by name, over a chosen family, and counts what came back.
import http from 'node:http';
import type { Duplex } from 'node:stream';
import { type CallCount, type Family, REQUEST_HEADER, type ShopAnswer } from './protocol.js';

export interface Caller {
  readonly workload: string;
  /** The pod's own addresses: what a server must see as its peer. */
  readonly addresses: readonly string[];
}

type MutableCount = { -readonly [K in keyof CallCount]: CallCount[K] };

const CALL_TIMEOUT_MS = 10_000;
const MAX_FAILURES = 10;
const MAX_ANSWER_BYTES = 64 << 10;

/** A connection that went direct while there was no proxy stays direct as long as it lives: so it must not live for ever. */
const MAX_CONNECTION_AGE_MS = 5_000;

class ForgetfulAgent extends http.Agent {
  readonly #bornMs = new WeakMap<Duplex, number>();

  override keepSocketAlive(socket: Duplex): boolean {
    // Typed as nothing, documented as "false: not this one" (the server said so).
    if ((super.keepSocketAlive(socket) as unknown) === false) return false;
    const bornMs = this.#bornMs.get(socket);
    if (bornMs === undefined) this.#bornMs.set(socket, performance.now());
    return bornMs === undefined || performance.now() - bornMs < MAX_CONNECTION_AGE_MS;
  }
}

export class Calls {
  readonly #agents: Readonly<Record<Family, http.Agent>>;
  readonly #counts = new Map<string, MutableCount>();
  readonly failures: string[] = [];
  #sent = 0;

  constructor(readonly caller: Caller) {
    const agent = () => new ForgetfulAgent({ keepAlive: true, maxSockets: 64, maxFreeSockets: 64 });
    this.#agents = { 4: agent(), 6: agent() };
  }

  /** The answer, or null when there was none that is good; the reason is in `failures`. */
  async call(service: string, family: Family): Promise<ShopAnswer | null> {
    const request = `${this.caller.workload}/${++this.#sent}`;
    try {
      const answer = await this.#exchange(service, family, request);
      const count = this.#count(service, family, answer.workload);
      count.answered++;
      if (answer.request !== request) count.mismatched++;
      if (!this.caller.addresses.includes(answer.peer)) count.foreignPeer++;
      return answer;
    } catch (error) {
      this.#count(service, family, '').failed++;
      if (this.failures.length < MAX_FAILURES)
        this.failures.push(`${request} to ${service} over IPv${family}: ${(error as Error).message}`);
      return null;
    }
  }

  counts(): readonly CallCount[] {
    return [...this.#counts.values()];
  }

  #count(service: string, family: Family, workload: string): MutableCount {
    const key = `${service} ${family} ${workload}`;
    let count = this.#counts.get(key);
    if (count === undefined) {
      count = { service, family, workload, answered: 0, failed: 0, mismatched: 0, foreignPeer: 0 };
      this.#counts.set(key, count);
    }
    return count;
  }

  #exchange(service: string, family: Family, request: string): Promise<ShopAnswer> {
    return new Promise((resolve, reject) => {
      const options = {
        host: service,
        path: '/',
        family,
        agent: this.#agents[family],
        headers: { [REQUEST_HEADER]: request },
        timeout: CALL_TIMEOUT_MS,
      };
      const outgoing = http.get(options, (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          text += chunk;
          if (text.length > MAX_ANSWER_BYTES) outgoing.destroy(new Error('answer too long'));
        });
        response.once('error', reject);
        response.once('end', () => {
          if (response.statusCode !== 200) return reject(new Error(`status ${response.statusCode}: ${text.slice(0, 200)}`));
          try {
            resolve(JSON.parse(text) as ShopAnswer);
          } catch {
            reject(new Error(`not JSON: ${text.slice(0, 200)}`));
          }
        });
      });
      outgoing.once('timeout', () => outgoing.destroy(new Error(`no answer for ${CALL_TIMEOUT_MS} ms`)));
      outgoing.once('error', reject);
    });
  }
}
