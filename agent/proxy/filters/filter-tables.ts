// What a generation says of filters: which a rule's requests pass, in which order, and how each is called. Plain data that crosses to the
// workers beside the decision tables. Compiled on the main thread; starts nothing.
import { createHash } from 'node:crypto';
import type { Filter } from '../../../api/gen/mesh/v1/model.js';
import { Interner } from '../tables/interner.js';

/** Of one name and one content: a run of it goes on as long as both stay. */
export interface FilterBinding {
  readonly key: string;
  /** "shop/api-key" */
  readonly name: string;
  /** Under which it is counted; -1: none was free. */
  readonly slot: number;
  readonly onRequest: boolean;
  readonly onResponse: boolean;
  readonly failOpen: boolean;
  readonly timeoutMs: number;
  readonly maxBodyBytes: number;
}

export interface FilterTables {
  readonly chains: readonly (readonly FilterBinding[])[];
  /** By chain: of requests' bodies, and of answers', how much the one that takes most takes; 0: none reads any. */
  readonly bodyBytes: readonly number[];
  readonly answerBodyBytes: readonly number[];
  /** Texts by label: workloads and services. */
  readonly labels: readonly string[];
}

export interface WantedFilter {
  readonly key: string;
  readonly name: string;
  readonly code: string;
  readonly memoryMib: number;
  readonly timeoutMs: number;
}

/** One that the model lacks: its requests are refused. */
const missing = (name: string): FilterBinding => ({
  key: '',
  name,
  slot: -1,
  onRequest: true,
  onResponse: false,
  failOpen: false,
  timeoutMs: 0,
  maxBodyBytes: 0,
});

export class FilterChains {
  readonly wanted = new Map<string, WantedFilter>();
  private readonly chains = new Interner<readonly string[]>((names) => names.join(' '));

  constructor(
    private readonly filters: ReadonlyMap<string, Filter>,
    private readonly slots: ReadonlyMap<string, number>,
  ) {}

  /** Its index; -1: none. */
  of(names: readonly string[]): number {
    if (names.length === 0) return -1;
    const priorityOf = (name: string): number => this.filters.get(name)?.priority ?? 0;
    return this.chains.add([...new Set(names)].sort((a, b) => priorityOf(b) - priorityOf(a) || (a < b ? -1 : 1)));
  }

  /** Null: no rule has any. */
  tables(labels: readonly string[]): FilterTables | null {
    const chains = this.chains.items.map((names) => names.map((name) => this.bind(name)));
    const most = (reads: (filter: FilterBinding) => boolean): number[] =>
      chains.map((chain) => Math.max(0, ...chain.map((filter) => (reads(filter) ? filter.maxBodyBytes : 0))));
    const [bodyBytes, answerBodyBytes] = [most(({ onRequest }) => onRequest), most(({ onResponse }) => onResponse)];
    return chains.length === 0 ? null : { chains, bodyBytes, answerBodyBytes, labels };
  }

  private bind(name: string): FilterBinding {
    const filter = this.filters.get(name);
    if (filter === undefined) return missing(name);
    const { code, memoryMib, timeoutMs, onRequest, onResponse, failOpen, maxBodyBytes } = filter;
    const key = code === '' ? '' : createHash('sha256').update(`${name}\0${memoryMib}\0${timeoutMs}\0${code}`).digest('base64');
    if (key !== '') this.wanted.set(key, { key, name, code, memoryMib, timeoutMs });
    return { key, name, slot: this.slots.get(name) ?? -1, onRequest, onResponse, failOpen, timeoutMs, maxBodyBytes };
  }
}
