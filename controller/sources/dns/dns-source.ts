// Names that ServiceEntries go by → what they stand for, asked again as their time to live says. What was once resolved stays while the DNS fails.
// Owns when a name is asked for; what is made of the answers is the compiler's.
import { isIPv6 } from 'node:net';
import type { ResolvedName } from '../../../api/compile/index.js';
import type { Clock } from '../../clock.js';
import type { Ingest } from '../ingester.js';
import type { Answer, Lookup } from './lookup.js';

/** How what a name stands for is kept: one pseudo-object a name, of no kind that anybody can apply. */
export const RESOLVED_KIND = 'ResolvedName';
const RESOLVED_NAMESPACE = '-';

const MIN_TTL_MS = 5_000;
const MAX_TTL_MS = 300_000;
const FIRST_RETRY_MS = 5_000;
const LAST_RETRY_MS = 60_000;
/** Questions under way: two for each name. */
const MAX_UNDER_WAY = 32;
export const MAX_NAMES = 10_000;
/** Of one name and family. */
export const MAX_ADDRESSES = 256;

export interface DnsObserver {
  /** On each change from resolved to not, and back (null). */
  failing(name: string, reason: string | null): void;
  asked(): void;
  tooMany(names: number): void;
}

export interface DnsSourceParts {
  readonly lookup: Lookup;
  /** Those that are to be resolved now. */
  readonly names: () => ReadonlySet<string>;
  /** Calls when they may have changed. The returned function ends it. */
  readonly onNames: (watcher: () => void) => () => void;
  /** What stands in the store, of this term or an earlier one. */
  readonly known: (name: string) => ResolvedName | undefined;
  readonly ingest: Ingest;
  readonly clock: Clock;
  /** From 0 to 1. */
  readonly random: () => number;
  readonly observe: DnsObserver;
}

interface Name {
  dueMs: number;
  failures: number;
  isUnderWay: boolean;
  last: ResolvedName | undefined;
}

export class DnsSource {
  readonly #parts: DnsSourceParts;
  readonly #names = new Map<string, Name>();
  #underWay = 0;
  #wake: () => void = () => {};

  constructor(parts: DnsSourceParts) {
    this.#parts = parts;
  }

  /** Until the signal. */
  async run(signal: AbortSignal): Promise<void> {
    const unwatch = this.#parts.onNames(() => {
      this.#sync();
      this.#wake();
    });
    const stop = (): void => this.#wake();
    signal.addEventListener('abort', stop);
    this.#sync();
    try {
      while (!signal.aborted) {
        const nextMs = this.#askDue(signal);
        await this.#sleep(nextMs);
      }
    } finally {
      unwatch();
      signal.removeEventListener('abort', stop);
    }
  }

  /** New names are due at once; those that nobody goes by are forgotten. */
  #sync(): void {
    const { names, known, ingest, clock, observe } = this.#parts;
    const wanted = names();
    if (wanted.size > MAX_NAMES) observe.tooMany(wanted.size);
    let isFewer = false;
    for (const name of this.#names.keys()) if (!wanted.has(name)) isFewer = this.#names.delete(name) || isFewer;
    const isFirst = this.#names.size === 0;
    for (const name of wanted) {
      if (this.#names.size >= MAX_NAMES) break;
      if (!this.#names.has(name)) this.#names.set(name, { dueMs: clock.now(), failures: 0, isUnderWay: false, last: known(name) });
    }
    if (isFewer || isFirst) ingest.settle(RESOLVED_KIND, ({ name }) => this.#names.has(name));
  }

  /** Returns when the next one is due. */
  #askDue(signal: AbortSignal): number {
    const now = this.#parts.clock.now();
    let nextMs = Number.POSITIVE_INFINITY;
    for (const [name, state] of this.#names) {
      if (state.isUnderWay) continue;
      if (state.dueMs > now) nextMs = Math.min(nextMs, state.dueMs);
      else if (this.#underWay < MAX_UNDER_WAY) void this.#ask(name, state, signal);
    }
    return nextMs;
  }

  async #ask(name: string, state: Name, signal: AbortSignal): Promise<void> {
    const { lookup, ingest, clock, random, observe } = this.#parts;
    state.isUnderWay = true;
    this.#underWay++;
    observe.asked();
    const answers = await lookup(name);
    this.#underWay--;
    state.isUnderWay = false;
    if (signal.aborted || this.#names.get(name) !== state) return this.#wake();
    const { resolved, ttlMs } = resolvedBy(answers, state.last);
    if ((resolved.error === '') !== ((state.last?.error ?? '') === ''))
      observe.failing(name, resolved.error === '' ? null : resolved.error);
    state.failures = resolved.error === '' ? 0 : state.failures + 1;
    // Spread, so that names that came together don't stay together.
    const waitMs = resolved.error === '' ? ttlMs : Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** (state.failures - 1));
    state.dueMs = clock.now() + waitMs * (0.9 + random() * 0.1);
    state.last = resolved;
    const { addresses, error } = resolved;
    const ref = { kind: RESOLVED_KIND, namespace: RESOLVED_NAMESPACE, name };
    ingest.put({ ref, manifest: { addresses, error }, createdAtMs: 0, generation: 0 });
    this.#wake();
  }

  #sleep(untilMs: number): Promise<void> {
    const { clock } = this.#parts;
    return new Promise((resolve) => {
      const cancel = untilMs === Number.POSITIVE_INFINITY ? () => {} : clock.after(Math.max(0, untilMs - clock.now()), resolve);
      this.#wake = () => {
        cancel();
        resolve();
      };
    });
  }
}

/** Of a family that failed the last addresses stay; of one that has none now, if the other has some, none do. */
function resolvedBy(answers: readonly [Answer, Answer], last: ResolvedName | undefined): { resolved: ResolvedName; ttlMs: number } {
  const kept = last?.addresses ?? [];
  const isNone = answers.every(({ kind }) => kind === 'none');
  const addresses = answers.flatMap((answer, index) => {
    if (answer.kind === 'addresses') return [...answer.addresses].sort().slice(0, MAX_ADDRESSES);
    return answer.kind === 'failed' || isNone ? kept.filter((address) => isIPv6(address) === (index === 1)) : [];
  });
  const failed = answers.find(({ kind }) => kind === 'failed') ?? (isNone ? answers[0] : undefined);
  const ttls = answers.flatMap((answer) => (answer.kind === 'addresses' ? [answer.ttlSeconds * 1_000] : []));
  const ttlMs = Math.min(MAX_TTL_MS, Math.max(MIN_TTL_MS, Math.min(...ttls)));
  const error = failed === undefined || failed.kind === 'addresses' ? '' : failed.reason;
  return { resolved: { addresses, error }, ttlMs };
}
