// The processes of filters, one for each: started before requests need them, started again when they end, ended when no request needs them
// any more. Hands every worker its end of the channel. Main thread.
import type { Logger } from 'pino';
import { type FilterProcess, startFilter } from '../../../api/filter/process.js';
import type { WantedFilter } from './filter-tables.js';

const FIRST_DELAY_MS = 100;
const MAX_DELAY_MS = 30_000;
/** Whoever ran so long begins again without delay. */
const STEADY_MS = 60_000;
/** Of those that nobody needs: as long as a call may take, and this. */
const GRACE_MS = 1_000;

export interface FilterPipes {
  /** Two ends of a stream, open in no child but one that is given them. */
  socketPair(): [number, number];
  closeDescriptor(descriptor: number): void;
}

/** Tells worker `slot`; false: it does not run, and a descriptor stays the caller's. */
export type TellWorker = (
  slot: number,
  message:
    | {
        readonly kind: 'filterChannel';
        readonly key: string;
        readonly name: string;
        readonly timeoutMs: number;
        readonly descriptor: number;
      }
    | { readonly kind: 'filterGone'; readonly key: string },
) => boolean;

interface Host {
  readonly wanted: WantedFilter;
  process: FilterProcess | null;
  /** The workers' ends that no worker has yet, by slot. */
  readonly ends: (number | null)[];
  /** For those that begin again: one more for each. */
  readonly spares: (number | null)[];
  restarts: number;
  failures: number;
  /** Why it does not run. */
  error: string;
  retry: NodeJS.Timeout | null;
  isRetired: boolean;
  /** Of one that is retired: when it ends. */
  end: NodeJS.Timeout | null;
}

export interface FilterState {
  readonly name: string;
  readonly isRunning: boolean;
  readonly restarts: number;
  readonly heapBytes: number;
}

export class FilterHosts {
  private readonly hosts = new Map<string, Host>();
  /** Restarts of those that have gone, by name. */
  private readonly former = new Map<string, number>();
  /** Keys of those that another version stands in for. */
  private waitedFor: ReadonlySet<string> = new Set();
  private isClosed = false;

  constructor(
    private readonly workers: number,
    private readonly pipes: FilterPipes,
    private readonly tell: TellWorker,
    /** One that a former version stands in for runs now. */
    private readonly onReady: () => void,
    private readonly log: Logger,
  ) {}

  /** Resolves when all of them run, or can't: keys of those that can't, now or since an earlier call, and whose former version runs lead to that one's. */
  async want(wanted: ReadonlyMap<string, WantedFilter>): Promise<ReadonlyMap<string, string>> {
    for (const key of wanted.keys()) this.recall(key);
    const added = [...wanted.values()].filter(({ key }) => !this.hosts.has(key));
    await Promise.all(added.map((each) => this.start(this.add(each))));
    const instead = new Map<string, string>();
    for (const { key, name } of wanted.values()) {
      const host = this.hosts.get(key);
      if (host === undefined || host.process !== null) continue;
      const former = [...this.hosts.values()].find((each) => each.wanted.name === name && each.process !== null && !each.isRetired);
      if (former !== undefined) instead.set(key, former.wanted.key);
    }
    this.waitedFor = new Set(instead.keys());
    return instead;
  }

  /** Call before requests are decided by what was wanted, and again when all workers run. */
  deliver(): void {
    for (const { wanted, ends } of this.hosts.values()) {
      ends.forEach((descriptor, slot) => {
        const { key, name, timeoutMs } = wanted;
        if (descriptor !== null && this.tell(slot, { kind: 'filterChannel', key, name, timeoutMs, descriptor })) ends[slot] = null;
      });
    }
  }

  /** Requests are decided by these keys alone from now on. */
  retire(kept: ReadonlySet<string>): void {
    for (const [key, host] of this.hosts) {
      if (kept.has(key) || host.isRetired) continue;
      host.isRetired = true;
      if (host.retry !== null) clearTimeout(host.retry);
      const { name, timeoutMs } = host.wanted;
      this.former.set(name, (this.former.get(name) ?? 0) + host.restarts);
      host.end = setTimeout(() => this.end(host), timeoutMs + GRACE_MS).unref();
    }
  }

  /** It is wanted again: it goes on, or where it has ended meanwhile is none. */
  private recall(key: string): void {
    const host = this.hosts.get(key);
    if (host?.isRetired !== true) return;
    if (host.process === null) {
      this.end(host);
      return;
    }
    if (host.end !== null) clearTimeout(host.end);
    host.isRetired = false;
    this.former.set(host.wanted.name, (this.former.get(host.wanted.name) ?? 0) - host.restarts);
  }

  /** A worker says that it does not answer. */
  stuck(key: string): void {
    const host = this.hosts.get(key);
    host?.process?.kill(`a call took longer than ${host.wanted.timeoutMs} ms`);
  }

  /** A worker began again, and its ends of the channels have gone with it. The others' calls go on. */
  renew(slot: number): void {
    for (const { process, ends, spares } of this.hosts.values()) {
      const spare = spares[slot] ?? null;
      if (process === null || ends[slot] !== null) continue;
      if (spare === null) process.kill('a worker of the proxy began again once more');
      ends[slot] = spare;
      spares[slot] = null;
    }
    this.deliver();
  }

  /** What runs under that key; null: nothing. */
  program(key: string): WantedFilter | null {
    const host = this.hosts.get(key);
    return host === undefined || host.process === null ? null : host.wanted;
  }

  get states(): readonly FilterState[] {
    return [...this.hosts.values()]
      .filter(({ isRetired }) => !isRetired)
      .map(({ wanted, process, restarts }) => ({
        name: wanted.name,
        isRunning: process !== null,
        restarts: restarts + (this.former.get(wanted.name) ?? 0),
        heapBytes: process?.heapBytes() ?? 0,
      }));
  }

  /** In words, for operators. */
  get faults(): readonly string[] {
    return [...this.hosts.values()]
      .filter(({ process, isRetired, error }) => process === null && !isRetired && error !== '')
      .map(({ wanted, error }) => `filter ${wanted.name} does not run: ${error.split('\n')[0]}`);
  }

  close(): void {
    this.isClosed = true;
    for (const host of this.hosts.values()) this.end(host);
  }

  private add(wanted: WantedFilter): Host {
    const none = (): (number | null)[] => new Array<number | null>(this.workers).fill(null);
    const host: Host = {
      wanted,
      process: null,
      ends: none(),
      spares: none(),
      restarts: 0,
      failures: 0,
      error: '',
      retry: null,
      isRetired: false,
      end: null,
    };
    this.hosts.set(wanted.key, host);
    return host;
  }

  private end(host: Host): void {
    const { key } = host.wanted;
    host.isRetired = true;
    if (host.retry !== null) clearTimeout(host.retry);
    if (host.end !== null) clearTimeout(host.end);
    for (let slot = 0; slot < this.workers; slot++) this.tell(slot, { kind: 'filterGone', key });
    host.process?.kill('it is not needed any more');
    this.closeEnds(host);
    this.hosts.delete(key);
  }

  private async start(host: Host): Promise<void> {
    const { name } = host.wanted;
    const pairs = [...host.ends, ...host.spares].map(() => this.pipes.socketPair());
    const started = await startFilter(
      host.wanted,
      pairs.map(([, theirs]) => theirs),
    ).catch((error: unknown) => ({ ok: false as const, error: (error as Error).message }));
    for (const [, theirs] of pairs) this.pipes.closeDescriptor(theirs);
    if (!started.ok || host.isRetired || this.isClosed) {
      for (const [ours] of pairs) this.pipes.closeDescriptor(ours);
      if (started.ok) return started.process.kill('it is not needed any more');
      this.failed(host, started.error);
      return;
    }
    this.closeEnds(host);
    pairs.forEach(([ours], index) => {
      if (index < this.workers) host.ends[index] = ours;
      else host.spares[index - this.workers] = ours;
    });
    host.process = started.process;
    host.error = '';
    const since = performance.now();
    this.log.info({ filter: name, pid: started.process.pid }, `filter ${name} runs`);
    void started.process.ended.then((why) => {
      host.process = null;
      if (host.isRetired || this.isClosed) return;
      if (performance.now() - since > STEADY_MS) host.failures = 0;
      this.failed(host, why);
    });
  }

  private failed(host: Host, why: string): void {
    if (host.isRetired || this.isClosed) return;
    const { name } = host.wanted;
    host.error = why;
    const delayMs = Math.min(FIRST_DELAY_MS * 2 ** host.failures++, MAX_DELAY_MS);
    this.log.error({ filter: name, delayMs }, `filter ${name} ended: ${why}; it is started again in ${delayMs} ms`);
    host.retry = setTimeout(() => {
      host.restarts++;
      void this.start(host).then(() => {
        this.deliver();
        if (host.process !== null && this.waitedFor.has(host.wanted.key)) this.onReady();
      });
    }, delayMs);
    host.retry.unref();
  }

  private closeEnds({ ends, spares }: Host): void {
    for (const list of [ends, spares]) {
      for (const descriptor of list) if (descriptor !== null) this.pipes.closeDescriptor(descriptor);
      list.fill(null);
    }
  }
}
