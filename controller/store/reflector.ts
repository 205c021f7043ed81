// Keeps a copy of all keys under one prefix: lists at one pinned revision, then watches from there for ever. Owns that copy and its own
// retries. Guarantees: every revision is seen once, whole and in order, or replaced by a newer list with the deletions worked out.
import type { ClientDuplexStream } from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';
import type { IEvent, IKeyValue, IWatchRequest, IWatchResponse } from 'etcd3';
import type { Clock } from '../clock.js';
import { type EtcdClient, isTokenRefused, StoreError, storeError } from './etcd-client.js';
import { prefixEnd } from './keys.js';
import { listPrefix } from './list.js';

export interface Entry {
  readonly value: Buffer;
  readonly modRevision: number;
  /** Decimal text; "0" without one. */
  readonly lease: string;
}

export interface EntryChange {
  readonly key: string;
  /** null: deleted. */
  readonly entry: Entry | null;
  /** That did it; of a deletion that was worked out, that of the list. */
  readonly revision: number;
}

export interface ChangeBatch {
  /** All of the store up to this revision is in the copy. */
  readonly revision: number;
  readonly changes: readonly EntryChange[];
  /** Revisions were skipped: the changes are the difference of two lists. True for the first list. */
  readonly relisted: boolean;
  /** The store is another one or went back in time: revisions from before mean nothing. */
  readonly restarted: boolean;
}

export type StoreState = { readonly kind: 'up' } | { readonly kind: 'down'; readonly reason: string };

export interface ReflectorObserver {
  onBatch(batch: ChangeBatch): void;
  /** On each change of state only. */
  onState(state: StoreState): void;
}

/** Also finds a member that has lost its quorum: the read is linearizable. */
const PROBE_INTERVAL_MS = 2_000;
const PROBE_DEADLINE_MS = 2_000;
const CREATE_DEADLINE_MS = 3_000;
const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 1_000;

const CREATE_TIMEOUT = new StoreError(status.DEADLINE_EXCEEDED, `no answer to a watch within ${CREATE_DEADLINE_MS} ms`, false);
const WATCH_ENDED = new StoreError(status.UNAVAILABLE, 'etcd ended the watch', false);
const STOPPED = new StoreError(status.CANCELLED, 'the controller stops', false);
const NOT_TRIED: StoreState = { kind: 'down', reason: 'not tried yet' };

type WatchEnd = { readonly kind: 'broken'; readonly error: StoreError } | { readonly kind: 'relist' };
type WatchStream = ClientDuplexStream<IWatchRequest, IWatchResponse>;

export class Reflector {
  readonly entries = new Map<string, Entry>();
  readonly #client: EtcdClient;
  readonly #prefix: string;
  readonly #clock: Clock;
  readonly #observer: ReflectorObserver;
  #revision = 0;
  #clusterId = '';
  #state: StoreState = NOT_TRIED;
  #needsList = true;
  #stopped = false;
  #wake: () => void = () => {};
  #stream: WatchStream | null = null;
  #isStarted = false;

  constructor(client: EtcdClient, prefix: string, clock: Clock, observer: ReflectorObserver) {
    this.#client = client;
    this.#prefix = prefix;
    this.#clock = clock;
    this.#observer = observer;
  }

  /** 0 before the first list. */
  get revision(): number {
    return this.#revision;
  }

  /** etcd's own id; empty before the first list. */
  get clusterId(): string {
    return this.#clusterId;
  }

  get state(): StoreState {
    return this.#state;
  }

  start(): void {
    if (this.#isStarted) return;
    this.#isStarted = true;
    void this.#run();
  }

  /** Nothing is told afterwards. Doesn't wait for a call that a silent etcd leaves open. */
  stop(): void {
    this.#stopped = true;
    this.#stream?.cancel();
    this.#wake();
  }

  async #run(): Promise<void> {
    let retryMs = FIRST_RETRY_MS;
    while (!this.#stopped) {
      const before = this.#revision;
      const failure = await this.#listAndWatch();
      if (this.#stopped) return;
      // Open but silent: a new connection may reach what this one doesn't. Refused: perhaps for a login that is over.
      if (failure.code === status.DEADLINE_EXCEEDED || isTokenRefused(failure)) this.#client.reconnect();
      const reason = failure.details;
      this.#enter({ kind: 'down', reason });
      retryMs = this.#revision > before ? FIRST_RETRY_MS : Math.min(retryMs * 2, LAST_RETRY_MS);
      await this.#pause(retryMs);
    }
  }

  /** Returns when the connection broke, with the reason. */
  async #listAndWatch(): Promise<StoreError> {
    try {
      for (;;) {
        if (this.#needsList) await this.#list();
        const end = await this.#watch();
        if (end.kind === 'broken') return end.error;
        if (this.#stopped) return STOPPED;
        this.#needsList = true;
      }
    } catch (error) {
      return storeError(error);
    }
  }

  async #list(): Promise<void> {
    const { revision, clusterId, pairs } = await listPrefix(this.#client, this.#prefix);
    this.#replace(new Map(pairs.map((pair) => [pair.key.toString(), entryOf(pair)])), revision, clusterId);
  }

  #replace(listed: Map<string, Entry>, revision: number, clusterId: string): void {
    const restarted = this.#clusterId !== '' && (this.#clusterId !== clusterId || revision < this.#revision);
    const changes: EntryChange[] = [];
    for (const key of this.entries.keys()) if (!listed.has(key)) changes.push({ key, entry: null, revision });
    for (const [key, entry] of listed) {
      if (restarted || this.entries.get(key)?.modRevision !== entry.modRevision) changes.push({ key, entry, revision: entry.modRevision });
    }
    this.#clusterId = clusterId;
    this.#needsList = false;
    this.#deliver(revision, changes, true, restarted);
  }

  async #watch(): Promise<WatchEnd> {
    const stream = await this.#client.stream<IWatchRequest, IWatchResponse>('Watch', 'watch');
    this.#stream = stream;
    // Stopped while the connection was being chosen: nobody else would end this stream.
    if (this.#stopped) stream.cancel();
    let cancelTimer = (): void => {};
    let isOver = false;
    try {
      return await new Promise<WatchEnd>((resolve) => {
        const broken = (error: unknown): void => resolve({ kind: 'broken', error: storeError(error) });
        cancelTimer = this.#clock.after(CREATE_DEADLINE_MS, () => broken(CREATE_TIMEOUT));
        const probeLater = (): void => {
          if (isOver) return;
          cancelTimer = this.#clock.after(PROBE_INTERVAL_MS, () => this.#probe().then(probeLater, broken));
        };
        // What has come of the newest revision while fragments are open; a broken connection forgets it and asks for that revision again.
        let partial: IEvent[] = [];
        stream.on('error', broken);
        stream.on('end', () => broken(WATCH_ENDED));
        stream.on('data', (response: IWatchResponse) => {
          const end = this.#endedBy(response);
          if (end !== null) return resolve(end);
          if (response.created) {
            cancelTimer();
            this.#enter({ kind: 'up' });
            probeLater();
          } else partial = this.#receive(response, partial);
        });
        stream.write({
          create_request: {
            key: Buffer.from(this.#prefix),
            range_end: prefixEnd(this.#prefix),
            start_revision: this.#revision + 1,
            progress_notify: true,
            fragment: true,
          },
        });
      });
    } finally {
      isOver = true;
      cancelTimer();
      this.#stream = null;
      // Late events of a stream that was given up must not be applied, nor its errors be thrown.
      this.#client.drop(stream);
    }
  }

  #endedBy(response: IWatchResponse): WatchEnd | null {
    if (response.canceled) {
      if (Number(response.compact_revision) > 0) return { kind: 'relist' };
      const reason = response.cancel_reason || 'etcd cancelled the watch without a reason';
      // A watch with a token that is over is told so in no other words than one that may not read.
      const code = reason.includes('permission denied') ? status.UNAUTHENTICATED : status.UNAVAILABLE;
      return { kind: 'broken', error: new StoreError(code, reason, false) };
    }
    // The store lost revisions that were seen: a watch from the future would stay silent.
    if (response.created && Number(response.header.revision) < this.#revision) return { kind: 'relist' };
    return null;
  }

  /** Applies what is complete and returns the events of a revision of which more fragments come. */
  #receive(response: IWatchResponse, partial: IEvent[]): IEvent[] {
    const events = [...partial, ...response.events];
    const last = events.at(-1);
    if (last === undefined) {
      // A periodic progress notice; never asked for, as the answer to a request may overtake events (etcd issue 15220).
      this.#deliver(Math.max(this.#revision, Number(response.header.revision)), [], false, false);
      return [];
    }
    if (!response.fragment) {
      this.#apply(events);
      return [];
    }
    const open = last.kv.mod_revision;
    const firstOpen = events.findIndex((event) => event.kv.mod_revision === open);
    this.#apply(events.slice(0, firstOpen));
    return events.slice(firstOpen);
  }

  #apply(events: readonly IEvent[]): void {
    const changes: EntryChange[] = [];
    let revision = this.#revision;
    for (const event of events) {
      const at = Number(event.kv.mod_revision);
      if (at <= this.#revision) continue;
      revision = at;
      changes.push({ key: event.kv.key.toString(), entry: isDelete(event) ? null : entryOf(event.kv), revision: at });
    }
    if (changes.length > 0) this.#deliver(revision, changes, false, false);
  }

  #deliver(revision: number, changes: readonly EntryChange[], relisted: boolean, restarted: boolean): void {
    if (this.#stopped) return;
    for (const { key, entry } of changes) {
      if (entry === null) this.entries.delete(key);
      else this.entries.set(key, entry);
    }
    this.#revision = revision;
    this.#observer.onBatch({ revision, changes, relisted, restarted });
  }

  async #probe(): Promise<void> {
    const key = Buffer.from(this.#prefix);
    const response = await this.#client.range({ key, keys_only: true }, PROBE_DEADLINE_MS);
    if (response.header.cluster_id !== this.#clusterId) {
      this.#needsList = true;
      throw new StoreError(status.ABORTED, 'another etcd cluster answers now', false);
    }
  }

  #enter(state: StoreState): void {
    if (this.#stopped) return;
    const isNew = this.#state === NOT_TRIED || this.#state.kind !== state.kind;
    this.#state = state;
    if (isNew) this.#observer.onState(state);
  }

  #pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#clock.after(delayMs, resolve);
      this.#wake = () => {
        cancel();
        resolve();
      };
    });
  }
}

export function entryOf(pair: IKeyValue): Entry {
  return { value: pair.value, modRevision: Number(pair.mod_revision), lease: pair.lease };
}

/** The loader gives enums by name, etcd3's types say numbers. */
function isDelete(event: IEvent): boolean {
  return String(event.type).toUpperCase() === 'DELETE';
}
