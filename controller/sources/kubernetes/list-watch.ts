// Follows all objects of one resource: lists them in pages, watches from there, lists again when the server has forgotten where we were. Owns its
// own retries. Guarantees: what it told is what the server has, late but in order; what vanished unseen is found out by the next list.
import { isUnchecked, textOf } from '../../../api/resources/schema.js';
import type { Clock } from '../../clock.js';
import { pause } from '../../store/election.js';
import { type ApiClient, type ApiFailure, TOO_LARGE } from './api-client.js';
import { type KubernetesObject, objectOf } from './object.js';

export interface ListWatchOptions {
  readonly client: ApiClient;
  /** "/api/v1/pods": the collection. */
  readonly path: string;
  /** "metadata.name=x"; empty: all. */
  readonly fieldSelector: string;
  readonly clock: Clock;
  /** From 0 to 1. */
  readonly random: () => number;
  readonly sink: ListWatchSink;
  readonly times?: Partial<ListWatchTimes>;
}

export interface ListWatchSink {
  /** Added, changed, or still as it was. */
  present(object: KubernetesObject): void;
  absent(name: ObjectName): void;
  /** A whole list has been told: whatever `has` denies does not exist. */
  listed(has: (name: ObjectName) => boolean): void;
  state(state: ListWatchState): void;
}

/** Namespace is empty for what stands in none. */
export interface ObjectName {
  readonly namespace: string;
  readonly name: string;
}

/** `status` 404: the server doesn't have the resource, or not any more. */
export type ListWatchState = { readonly kind: 'up' } | { readonly kind: 'down'; readonly reason: string; readonly status: number };

export interface ListWatchTimes {
  readonly listMs: number;
  /** Asked of the server, in whole seconds, and drawn from here to twice that. A connection that died silently is noticed at its end: one client with few watches can afford short ones. */
  readonly watchMs: number;
  /** Beyond what was asked for. */
  readonly graceMs: number;
  /** A list that is older is made anew when its watch ends: for what nobody can tell us, such as an API server whose store was set back. */
  readonly relistMs: number;
  readonly firstRetryMs: number;
  readonly lastRetryMs: number;
}

const TIMES: ListWatchTimes = {
  listMs: 30_000,
  watchMs: 45_000,
  graceMs: 10_000,
  relistMs: 600_000,
  firstRetryMs: 500,
  lastRetryMs: 30_000,
};
const PAGE_OBJECTS = 500;
const PAGE_BYTES = 64 * 1_048_576;
/** Of a list without pages, when its pages expire faster than they are read. */
const WHOLE_BYTES = 512 * 1_048_576;
/** A watch that lived for so long was well: what follows is a new failure. */
const WELL_MS = 5_000;
const GONE = 410;

type WatchEnd = { readonly kind: 'ended' } | { readonly kind: 'gone' } | ApiFailure;
type Listed = { readonly kind: 'listed'; readonly resourceVersion: string } | ApiFailure;

export class ListWatch {
  readonly #options: ListWatchOptions;
  readonly #times: ListWatchTimes;
  /** Of an opaque order of the server's own: never compared. Empty: to be listed. */
  #resourceVersion = '';
  #listedAtMs = 0;
  #pageObjects = PAGE_OBJECTS;
  #isUp: boolean | null = null;
  lists = 0;
  events = 0;

  constructor(options: ListWatchOptions) {
    this.#options = options;
    this.#times = { ...TIMES, ...options.times };
  }

  /** Until the signal. Never throws for what the server does. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    let ceilingMs = this.#times.firstRetryMs;
    while (!signal.aborted) {
      const startedMs = clock.now();
      const end = await this.#listAndWatch(signal);
      if (signal.aborted) return;
      if (end.kind === 'ended') continue;
      const isFresh = clock.now() - startedMs > WELL_MS;
      if (isFresh) ceilingMs = this.#times.firstRetryMs;
      // One that ends as soon as it is open is tried again, slower and slower, and is no failure until it can't be opened.
      // Connections break: that is a failure once no new one can be made.
      const isBreak = isFresh && end.kind === 'failure' && end.status === 0;
      if (end.kind === 'failure' && !isBreak) this.#enter({ kind: 'down', reason: end.message, status: end.status });
      const waitMs = Math.max(ceilingMs * (0.5 + this.#options.random() * 0.5), end.kind === 'failure' ? end.retryAfterMs : 0);
      ceilingMs = Math.min(ceilingMs * 2, this.#times.lastRetryMs);
      await pause(clock, waitMs, signal);
    }
  }

  async #listAndWatch(signal: AbortSignal): Promise<WatchEnd> {
    const { clock } = this.#options;
    if (this.#resourceVersion === '') {
      const listed = await this.#list(signal);
      if (listed.kind === 'failure') return listed;
      this.#resourceVersion = listed.resourceVersion;
      this.#listedAtMs = clock.now();
      this.#enter({ kind: 'up' });
    }
    const end = await this.#watch(signal);
    const isOld = clock.now() - this.#listedAtMs > this.#times.relistMs;
    if (end.kind === 'gone' || (end.kind === 'ended' && isOld) || (end.kind === 'failure' && isOfVersion(end))) this.#resourceVersion = '';
    return end;
  }

  /** A page that expired (410) starts the list anew, the second time without pages. */
  async #list(signal: AbortSignal): Promise<Listed> {
    for (const isPaged of [true, true, false]) {
      const listed = await this.#listOnce(isPaged, signal);
      if (listed.kind === 'listed' || listed.status !== GONE) return listed;
    }
    return { kind: 'failure', status: GONE, message: 'the list expires while it is read', retryAfterMs: 0 };
  }

  async #listOnce(isPaged: boolean, signal: AbortSignal): Promise<Listed> {
    const { client, path, sink } = this.#options;
    const seen = new Set<string>();
    let token = '';
    for (;;) {
      const query = this.#query(isPaged ? { limit: String(this.#pageObjects), ...(token === '' ? {} : { continue: token }) } : {});
      const maxBytes = isPaged ? PAGE_BYTES : WHOLE_BYTES;
      const answer = await client.get(`${path}?${query}`, { deadlineMs: this.#times.listMs, maxBytes, signal });
      if (answer.kind === 'failure') {
        if (answer.status === TOO_LARGE) this.#pageObjects = Math.max(1, Math.floor(this.#pageObjects / 10));
        return answer;
      }
      const page = readPage(answer.value);
      if (page === null) return { kind: 'failure', status: 0, message: `${path} answers what is no list`, retryAfterMs: 0 };
      for (const object of page.objects) {
        seen.add(textOfName(object.metadata));
        sink.present(object);
      }
      token = page.continueToken;
      if (token !== '' && isPaged) continue;
      this.lists++;
      sink.listed((name) => seen.has(textOfName(name)));
      return { kind: 'listed', resourceVersion: page.resourceVersion };
    }
  }

  async #watch(signal: AbortSignal): Promise<WatchEnd> {
    const { client, path, clock, random } = this.#options;
    const askedMs = Math.ceil((this.#times.watchMs * (1 + random())) / 1_000) * 1_000;
    const query = this.#query({
      watch: '1',
      allowWatchBookmarks: 'true',
      resourceVersion: this.#resourceVersion,
      timeoutSeconds: String(askedMs / 1_000),
    });
    let end: WatchEnd | null = null;
    const onLine = (line: string): boolean => {
      end = this.#receive(line);
      return end === null;
    };
    const onOpen = (): void => this.#enter({ kind: 'up' });
    const startedMs = clock.now();
    const failure = await client.watch(`${path}?${query}`, { onOpen, onLine }, askedMs + this.#times.graceMs, signal);
    if (end !== null) return end;
    if (failure !== null) return failure.status === GONE ? { kind: 'gone' } : failure;
    // A server that ends watches at once must not be asked in a circle.
    if (clock.now() - startedMs < this.#times.firstRetryMs) await pause(clock, this.#times.firstRetryMs * (0.5 + random() * 0.5), signal);
    return { kind: 'ended' };
  }

  /** Null: the watch goes on. */
  #receive(line: string): WatchEnd | null {
    const event = parse(line);
    const type = event === null ? null : textOf(event, 'type');
    if (event === null || type === null) return broken('the watch sent what is no event');
    if (type === 'ERROR') return this.#endedBy(event.object);
    const version =
      isUnchecked(event.object) && isUnchecked(event.object.metadata) ? textOf(event.object.metadata, 'resourceVersion') : null;
    if (version === null || version === '') return broken(`the watch sent an event of type ${type} without a resourceVersion`);
    if (type !== 'BOOKMARK') {
      const object = objectOf(event.object);
      if (object === null) return broken(`the watch sent an object without a name`);
      if (type === 'DELETED') this.#options.sink.absent(object.metadata);
      // A type of event that a newer server has is of no harm: its object is as it is.
      else this.#options.sink.present(object);
      this.events++;
    }
    this.#resourceVersion = version;
    return null;
  }

  /** By a Status object. */
  #endedBy(status: unknown): WatchEnd {
    const code = isUnchecked(status) && typeof status.code === 'number' ? status.code : 0;
    if (code === GONE) return { kind: 'gone' };
    const message = (isUnchecked(status) ? textOf(status, 'message') : null) ?? 'no reason given';
    // Whatever it was, it may be about the version we asked for.
    this.#resourceVersion = '';
    return { kind: 'failure', status: code, message: `the watch was ended: ${message}`, retryAfterMs: 0 };
  }

  #query(parameters: Record<string, string>): string {
    const { fieldSelector } = this.#options;
    return new URLSearchParams(fieldSelector === '' ? parameters : { ...parameters, fieldSelector }).toString();
  }

  #enter(state: ListWatchState): void {
    const isUp = state.kind === 'up';
    if (this.#isUp === isUp) return;
    this.#isUp = isUp;
    this.#options.sink.state(state);
  }
}

interface Page {
  readonly objects: readonly KubernetesObject[];
  readonly resourceVersion: string;
  /** Empty: the last page. */
  readonly continueToken: string;
}

/** Null: it is no list. An item without a name can't be, and is left out. */
function readPage(value: unknown): Page | null {
  if (!isUnchecked(value) || !isUnchecked(value.metadata)) return null;
  const { items, metadata } = value;
  const resourceVersion = textOf(metadata, 'resourceVersion') ?? '';
  // An empty list of a Go server may be null.
  if (resourceVersion === '' || !(items === null || items === undefined || Array.isArray(items))) return null;
  const objects = (items ?? []).map(objectOf).filter((object) => object !== null);
  return { objects, resourceVersion, continueToken: textOf(metadata, 'continue') ?? '' };
}

/** It may be the version that the server doesn't like: one from the future, say (504), or of another store (400). */
function isOfVersion({ status }: ApiFailure): boolean {
  return status === 504 || (status >= 400 && status < 500 && ![401, 403, 429].includes(status));
}

function broken(message: string): ApiFailure {
  return { kind: 'failure', status: 0, message, retryAfterMs: 0 };
}

function parse(line: string): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(line);
    return isUnchecked(value) ? value : null;
  } catch {
    return null;
  }
}

function textOfName({ namespace, name }: ObjectName): string {
  return `${namespace}/${name}`;
}
