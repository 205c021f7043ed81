// Follows the services registered below one znode and tells an Ingest what is there: <path>/<service>/<instance>. Watches say what to read again, and
// everything is read again every minute, since a watch can be lost. Runs at the leader alone; writes nothing.
import type { Clock } from '../../clock.js';
import { pause } from '../../store/election.js';
import { Catalogue } from '../catalogue.js';
import type { Ingest } from '../ingester.js';
import { type Instance, serviceName, serviceObjects } from '../instances.js';
import { instanceOf } from './instance.js';
import { type Read, type ZooKeeperAccess, ZooKeeperSession } from './session.js';

export interface ZooKeeperObserver {
  /** On each change. Null: all has been read. */
  failing(message: string | null): void;
  /** A service was read. */
  answered(): void;
  /** What of a service is left out and why; told again only when it changes. */
  refused(service: string, messages: readonly string[]): void;
}

export interface ZooKeeperSourceParts {
  readonly access: ZooKeeperAccess;
  /** Where the objects are put. */
  readonly namespace: string;
  readonly ingest: Ingest;
  readonly clock: Clock;
  readonly observe: ZooKeeperObserver;
  readonly times?: Partial<ZooKeeperTimes>;
}

export interface ZooKeeperTimes {
  readonly relistMs: number;
  /** Watches that fire together are read together. */
  readonly restMs: number;
  readonly retryMs: number;
}

const TIMES: ZooKeeperTimes = { relistMs: 60_000, restMs: 20, retryMs: 2_000 };
const MAX_SERVICES = 10_000;
const MAX_INSTANCES = 10_000;
const PARALLEL_READS = 64;

/** A fault of the whole: nothing is taken away for it. */
class Unreadable extends Error {}

export class ZooKeeperSource {
  readonly #parts: ZooKeeperSourceParts;
  readonly #times: ZooKeeperTimes;
  readonly #catalogue: Catalogue;
  /** One for each thing that is watched: the library keeps what it is given until it fires, but the same one only once. */
  readonly #watchers = new Map<string | null, () => void>();
  /** To be read: services by znode; null: which services there are, and all of them. */
  #dirty = new Set<string | null>();
  #wake: () => void = () => {};
  #fault: string | null | undefined;

  constructor(parts: ZooKeeperSourceParts) {
    this.#parts = parts;
    this.#times = { ...TIMES, ...parts.times };
    this.#catalogue = new Catalogue({ ...parts, refused: parts.observe.refused });
  }

  /** Until the signal. Never throws for what ZooKeeper does. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#session(signal);
      await pause(this.#parts.clock, this.#times.retryMs, signal);
    }
  }

  /** Resolves when it is over. */
  async #session(signal: AbortSignal): Promise<void> {
    const { access, clock } = this.#parts;
    const over = new AbortController();
    const end = (): void => over.abort();
    signal.addEventListener('abort', end);
    const session = new ZooKeeperSession(access, {
      connected: () => this.#mark(null),
      lost: (reason) => this.#fail(reason),
      over: (reason) => {
        this.#fail(reason);
        end();
      },
    });
    const silent = clock.after(this.#times.retryMs * 5, () => {
      if (this.#fault === undefined) this.#fail('no server answers');
    });
    over.signal.addEventListener('abort', () => this.#wake());
    try {
      while (!over.signal.aborted) await this.#turn(session, over.signal);
    } finally {
      silent();
      signal.removeEventListener('abort', end);
      session.close();
    }
  }

  async #turn(session: ZooKeeperSession, signal: AbortSignal): Promise<void> {
    const { clock } = this.#parts;
    const { relistMs, restMs, retryMs } = this.#times;
    if (this.#dirty.size === 0) {
      const cancel = clock.after(relistMs, () => this.#mark(null));
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      cancel();
      this.#wake = () => {};
    }
    await pause(clock, restMs, signal);
    if (signal.aborted) return;
    const dirty = this.#dirty;
    this.#dirty = new Set();
    try {
      if (dirty.has(null)) await this.#readAll(session);
      else for (const service of dirty) if (service !== null) await this.#readService(session, service);
      this.#fail(null);
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      // A read that failed because the session ended says nothing new.
      if (!signal.aborted) this.#fail(error.message);
      for (const service of dirty) this.#dirty.add(service);
      await pause(clock, retryMs, signal);
    }
  }

  #mark(service: string | null): void {
    this.#dirty.add(service);
    this.#wake();
  }

  #watcher(service: string | null): () => void {
    const watcher = this.#watchers.get(service) ?? (() => this.#mark(service));
    this.#watchers.set(service, watcher);
    return watcher;
  }

  async #readAll(session: ZooKeeperSession): Promise<void> {
    const { access } = this.#parts;
    const services = orThrow(access.path, await session.children(access.path, this.#watcher(null)));
    if (services === null) throw new Unreadable(`there is no ${access.path}: --zookeeper-path names the znode whose children are services`);
    if (services.length > MAX_SERVICES) throw new Unreadable(`${services.length} services, at most ${MAX_SERVICES} are read`);
    const listed = new Set(services);
    for (const service of this.#catalogue.services()) {
      if (listed.has(service)) continue;
      this.#catalogue.drop(service);
      this.#watchers.delete(service);
    }
    for (const service of [...services].sort()) await this.#readService(session, service);
    this.#catalogue.settle();
  }

  async #readService(session: ZooKeeperSession, service: string): Promise<void> {
    const { access, namespace, observe } = this.#parts;
    const name = serviceName(service);
    if (name === null) return this.#catalogue.refuse(service, ['no DNS label can be made of its name']);
    const holder = this.#catalogue.holder(name);
    if (holder !== null && holder !== service) return this.#catalogue.refuse(service, [`"${holder}" is called ${name} too`]);
    const path = `${access.path}/${service}`;
    const again = this.#watcher(service);
    const children = orThrow(path, await session.children(path, again)) ?? [];
    if (children.length > MAX_INSTANCES) throw new Unreadable(`${path}: ${children.length} instances, at most ${MAX_INSTANCES} are read`);
    const found: (Instance | string)[] = [];
    for (let from = 0; from < children.length; from += PARALLEL_READS) {
      const some = children.slice(from, from + PARALLEL_READS);
      const reads = await Promise.all(some.map(async (child) => [child, await session.data(`${path}/${child}`, again)] as const));
      for (const [child, read] of reads) {
        const data = orThrow(`${path}/${child}`, read);
        // Gone between the two reads.
        if (data !== null) found.push(instanceOf(child, data));
      }
    }
    observe.answered();
    this.#catalogue.refuse(
      service,
      found.filter((instance) => typeof instance === 'string'),
    );
    const instances = found.filter((instance) => typeof instance !== 'string');
    this.#catalogue.put(service, serviceObjects({ name, namespace, port: null, protocol: null }, instances));
  }

  #fail(message: string | null): void {
    if (this.#fault === message) return;
    this.#fault = message;
    this.#parts.observe.failing(message);
  }
}

function orThrow<Value>(path: string, read: Read<Value>): Value | null {
  if (read.kind === 'failure') throw new Unreadable(`${path}: ${read.message}`);
  return read.value;
}
