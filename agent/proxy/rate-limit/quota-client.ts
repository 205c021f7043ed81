// This proxy's share of the limits that all nodes keep together: says again and again what was asked for and what it holds, and puts in force what it
// is granted. Without an answer it goes on with what it has. On the main thread.
import type { Logger } from 'pino';
import { type LeaseRequest, type LeaseResponse, type LimitLease, type LimitUse, QuotasClient } from '../../../api/gen/mesh/v1/quota.js';
import { type Clock, systemClock } from '../../link/clock.js';
import { Link, type LinkSession } from '../../link/link.js';
import type { TokenBucket } from './limiter.js';
import { collect, type HeldLimit, identityOf, type LimitMemory } from './plan.js';

const INTERVAL_MS = 1_000;
/** After an answer that changed something: the sooner it is said, the sooner others get what was given up. */
const ACK_MS = 50;
/** Of what was measured before, what counts as much as all since. */
const SMOOTHING = 0.5;
/** Keys of one report that have no share of their own: those that are asked for most, of one limit and of all. */
const [MAX_KEYS, MAX_KEYS_OF_ALL] = [1_024, 16_384];

interface Standing {
  readonly held: HeldLimit;
  readonly bucket: TokenBucket;
  /** Requests until the last measurement. */
  counted: number;
  /** Demand of the limit, and of its keys: parts of it. */
  demand: number;
  readonly keys: Map<number, number>;
  /** Keys with a share of their own. */
  leased: Map<number, number>;
}

export interface QuotaClientOptions {
  /** Of the agent. */
  readonly address: string;
  readonly node: string;
  readonly holder: string;
  readonly memory: LimitMemory;
  /** The engines' clock. */
  readonly nowUs: () => number;
  readonly log: Logger;
  readonly clock?: Clock;
}

export class QuotaClient {
  private readonly link: Link<QuotasClient, LeaseRequest, LeaseResponse>;
  private readonly clock: Clock;
  private readonly standings = new Map<string, Standing>();
  private applied = 0;
  private measuredUs = 0;
  private isStarted = false;
  /** Aborted: what changed is to be said now. */
  private changed = new AbortController();

  constructor(private readonly options: QuotaClientOptions) {
    this.clock = options.clock ?? systemClock;
    this.link = new Link({
      name: 'agent quotas',
      addresses: [options.address],
      hint: 'is `weft agent` running on this host? Rate limits of the mesh are held by the shares that this proxy has',
      connect: (address, credentials, channel) => new QuotasClient(address, credentials, channel),
      open: (client) => client.lease(),
      session: (session) => this.session(session),
      log: options.log,
      clock: options.clock,
    });
  }

  /** The limits are others. Without any that nodes share nothing is asked of anybody. */
  follow(): void {
    const wanted = new Map(this.options.memory.limits.filter(({ limit }) => limit.meshWide).map((held) => [identityOf(held.limit), held]));
    for (const name of this.standings.keys()) if (!wanted.has(name)) this.standings.delete(name);
    for (const [name, held] of wanted) {
      if (this.standings.get(name)?.held === held) continue;
      const bucket = held.limiter as TokenBucket;
      this.standings.set(name, { held, bucket, counted: 0, demand: 0, keys: new Map(), leased: new Map() });
    }
    if (this.standings.size > 0 && !this.isStarted) {
      this.isStarted = true;
      this.link.start();
    }
    this.changed.abort();
  }

  async stop(): Promise<void> {
    if (this.isStarted) await this.link.stop();
  }

  private async session({ call, signal }: LinkSession<LeaseRequest, LeaseResponse>): Promise<void> {
    this.applied = 0;
    call.on('data', (response: LeaseResponse) => {
      if (this.apply(response)) this.changed.abort();
    });
    while (!signal.aborted) {
      this.changed = new AbortController();
      this.measure();
      if (!call.writableNeedDrain) call.write(this.report());
      const isOver = new AbortController();
      const over = (): void => isOver.abort();
      signal.addEventListener('abort', over);
      this.changed.signal.addEventListener('abort', over);
      await this.clock.delay(INTERVAL_MS, isOver.signal);
      signal.removeEventListener('abort', over);
      if (this.changed.signal.aborted) await this.clock.delay(ACK_MS, signal);
    }
  }

  private report(): LeaseRequest {
    const limits = [...this.standings].map(([limit, { held, demand, keys, leased }]): LimitUse => {
      const others = [...keys].filter(([key]) => !leased.has(key)).sort(([, a], [, b]) => b - a);
      const most = Math.min(MAX_KEYS, Math.floor(MAX_KEYS_OF_ALL / this.standings.size));
      const asked = [...leased.keys(), ...others.slice(0, most).map(([key]) => key)];
      return {
        limit,
        share: held.share,
        demand,
        keyed: held.limit.keys.length > 0,
        keys: asked.map((key) => ({ key, demand: keys.get(key) ?? 0, share: leased.get(key) })),
      };
    });
    return { node: this.options.node, holder: this.options.holder, applied: this.applied, limits };
  }

  /** What was asked for since the last time, as parts of the limits. */
  private measure(): void {
    const nowUs = this.options.nowUs();
    const us = nowUs - this.measuredUs;
    if (us < (INTERVAL_MS * 1_000) / 2) return;
    const isFirst = this.measuredUs === 0;
    this.measuredUs = nowUs;
    for (const standing of this.standings.values()) {
      const { held, bucket, keys } = standing;
      const { requests, perMs } = held.limit;
      const whole = (requests * us) / (perMs * 1_000);
      // Others take counts out of the workers' memory too.
      collect(held);
      const counted = held.admitted + held.refused;
      const asked = counted - standing.counted;
      standing.counted = counted;
      if (isFirst) continue;
      standing.demand = smoothed(standing.demand, asked / whole);
      const askedBy = new Map(bucket.takeAsked());
      for (const key of new Set([...keys.keys(), ...askedBy.keys()])) {
        const demand = smoothed(keys.get(key) ?? 0, (askedBy.get(key) ?? 0) / whole);
        if (demand < 1e-4) keys.delete(key);
        else keys.set(key, demand);
      }
    }
  }

  /** True: something is as it was not before. */
  private apply({ number, limits }: LeaseResponse): boolean {
    let isOther = false;
    for (const lease of limits) {
      const standing = this.standings.get(lease.limit);
      if (standing !== undefined) isOther = this.put(standing, lease) || isOther;
    }
    this.applied = number;
    return isOther;
  }

  private put(standing: Standing, { share, keys }: LimitLease): boolean {
    const { bucket, held, leased } = standing;
    const nowUs = this.options.nowUs();
    const next = new Map(keys.map((lease) => [lease.key, lease.share]));
    let isOther = share !== held.share;
    // What shrinks shrinks first: at no time is more in force than before or after.
    if (share < held.share) bucket.setShare(share, nowUs);
    for (const key of leased.keys()) {
      if (next.has(key)) continue;
      bucket.setKeyShare(bucket.slotOfKey(key, nowUs), null, nowUs);
      isOther = true;
    }
    for (const [key, own] of next) {
      if (leased.get(key) === own) continue;
      bucket.setKeyShare(bucket.slotOfKey(key, nowUs), own, nowUs);
      isOther = true;
    }
    if (share > held.share) bucket.setShare(share, nowUs);
    held.share = share;
    standing.leased = next;
    return isOther;
  }
}

function smoothed(before: number, now: number): number {
  return before === 0 ? now : before * SMOOTHING + now * (1 - SMOOTHING);
}
