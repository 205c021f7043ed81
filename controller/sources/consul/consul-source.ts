// Follows one Consul catalogue and tells an Ingest what is in it: one blocking query for the names, one for each service. Runs at the leader alone;
// writes nothing.
import type { Clock } from '../../clock.js';
import { pause } from '../../store/election.js';
import { Catalogue } from '../catalogue.js';
import type { Ingest } from '../ingester.js';
import { serviceName } from '../instances.js';
import { type ConsulAnswer, type ConsulClient, MAX_CONNECTIONS } from './consul-client.js';
import { translate } from './translate.js';

export interface ConsulObserver {
  /** Of one path, on each change. Null: it answers. */
  failing(path: string, message: string | null): void;
  /** The service is gone: nothing is asked there any more. */
  forgotten(path: string): void;
  answered(path: string): void;
  /** What of a service is left out and why; told again only when it changes. */
  refused(service: string, messages: readonly string[]): void;
  tooManyServices(count: number, limit: number): void;
}

export interface ConsulSourceParts {
  readonly client: ConsulClient;
  /** Where the objects are put. */
  readonly namespace: string;
  readonly ingest: Ingest;
  readonly clock: Clock;
  /** From 0 to 1. */
  readonly random: () => number;
  readonly observe: ConsulObserver;
  readonly times?: Partial<ConsulTimes>;
}

export interface ConsulTimes {
  /** How long Consul keeps a query that has nothing new. */
  readonly waitMs: number;
  /** Between two answers of one query: a service that flaps costs no more than this. */
  readonly restMs: number;
  readonly firstRetryMs: number;
  readonly lastRetryMs: number;
}

const TIMES: ConsulTimes = { waitMs: 60_000, restMs: 100, firstRetryMs: 500, lastRetryMs: 30_000 };
const MAX_SERVICES = 10_000;
/** With more services than connections they take turns. */
const BUSY_WAIT_MS = 2_000;
const CATALOG = '/v1/catalog/services';
/** Consul's servers, as a service of themselves. */
const CONSUL_ITSELF = 'consul';

interface Followed {
  /** In Consul. */
  readonly name: string;
  readonly stop: () => void;
  isKnown: boolean;
}

export class ConsulSource {
  readonly #parts: ConsulSourceParts;
  readonly #times: ConsulTimes;
  /** By the name of the Service they become. */
  readonly #services = new Map<string, Followed>();
  readonly #running = new Set<Promise<void>>();
  readonly #catalogue: Catalogue;
  #isSettled = false;

  constructor(parts: ConsulSourceParts) {
    this.#parts = parts;
    this.#times = { ...TIMES, ...parts.times };
    this.#catalogue = new Catalogue({ ...parts, refused: parts.observe.refused });
  }

  /** Until the signal. Never throws for what Consul does. */
  async run(signal: AbortSignal): Promise<void> {
    await this.#follow(CATALOG, signal, (value) => this.#names(value));
    for (const { stop } of this.#services.values()) stop();
    await Promise.all(this.#running);
  }

  /** Asks for ever, with the index of the last answer. `tell` returns false for an answer that can't be one. */
  async #follow(path: string, signal: AbortSignal, tell: (value: unknown) => boolean): Promise<void> {
    const { client, clock, random, observe } = this.#parts;
    const { waitMs, restMs, firstRetryMs, lastRetryMs } = this.#times;
    let index = 0;
    let retryMs = firstRetryMs;
    while (!signal.aborted) {
      const isBusy = this.#services.size >= MAX_CONNECTIONS;
      const answer = await client.query(path, index, isBusy ? Math.min(waitMs, BUSY_WAIT_MS) : waitMs, signal);
      if (signal.aborted) return;
      const fault = faultOf(answer, tell);
      observe.failing(path, fault);
      if (answer.kind === 'ok' && fault === null) {
        observe.answered(path);
        index = answer.index;
        retryMs = firstRetryMs;
        await pause(clock, restMs, signal);
      } else {
        // What is not understood is asked for anew, not for what changed since.
        index = 0;
        await pause(clock, retryMs * (0.75 + random() / 2), signal);
        retryMs = Math.min(retryMs * 2, lastRetryMs);
      }
    }
  }

  #names(value: unknown): boolean {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
    const { observe } = this.#parts;
    const wanted = new Map<string, string>();
    for (const name of Object.keys(value)
      .filter((each) => each !== CONSUL_ITSELF)
      .sort()) {
      const label = serviceName(name);
      const other = label === null ? undefined : wanted.get(label);
      if (label === null) this.#catalogue.refuse(name, ['no DNS label can be made of its name']);
      else if (other !== undefined) this.#catalogue.refuse(name, [`"${other}" is called ${label} too`]);
      else wanted.set(label, name);
    }
    if (wanted.size > MAX_SERVICES) observe.tooManyServices(wanted.size, MAX_SERVICES);
    const followed = new Map([...wanted].slice(0, MAX_SERVICES));
    for (const [label, { name }] of [...this.#services]) if (followed.get(label) !== name) this.#leave(label);
    for (const [label, name] of followed) if (!this.#services.has(label)) this.#enter(label, name);
    this.#settle();
    return true;
  }

  #enter(label: string, name: string): void {
    const stopped = new AbortController();
    const followed: Followed = { name, stop: () => stopped.abort(), isKnown: false };
    this.#services.set(label, followed);
    const running = this.#follow(pathOf(name), stopped.signal, (value) => this.#instances(label, followed, value));
    this.#running.add(running);
    void running.finally(() => this.#running.delete(running));
  }

  #leave(label: string): void {
    const followed = this.#services.get(label);
    if (followed === undefined) return;
    followed.stop();
    this.#services.delete(label);
    this.#parts.observe.forgotten(pathOf(followed.name));
    this.#catalogue.drop(followed.name);
  }

  #instances(label: string, followed: Followed, value: unknown): boolean {
    if (!Array.isArray(value)) return false;
    const { objects, refused } = translate(label, this.#parts.namespace, value);
    this.#catalogue.refuse(followed.name, refused);
    this.#catalogue.put(followed.name, objects);
    followed.isKnown = true;
    this.#settle();
    return true;
  }

  /** Once all is known: what an earlier leader wrote and Consul has no more. */
  #settle(): void {
    if (this.#isSettled || [...this.#services.values()].some(({ isKnown }) => !isKnown)) return;
    this.#isSettled = true;
    this.#catalogue.settle();
  }
}

function pathOf(name: string): string {
  return `/v1/health/service/${encodeURIComponent(name)}`;
}

function faultOf(answer: ConsulAnswer, tell: (value: unknown) => boolean): string | null {
  if (answer.kind === 'failure') return answer.message;
  return tell(answer.value) ? null : 'the answer is none of Consul’s';
}
