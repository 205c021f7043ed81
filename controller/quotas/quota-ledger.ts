// All budgets of one term: reports of holders in, leases out. Owns who holds what, in memory: whoever coordinates next learns it from the holders,
// and raises nobody's share before all of them can have spoken. Knows no streams.
import type { KeyUse, LeaseRequest, LimitLease, LimitUse } from '../../api/gen/mesh/v1/quota.js';
import { Budget } from './budget.js';

/** Keys with a share of their own, of one limit and of all; others have each holder's share of the limit. */
const [MAX_KEYS, MAX_KEYS_OF_ALL] = [2_048, 16_384];
const MAX_LIMITS = 4_096;
/** A key that asks for so much of a holder's usual share gets a budget of its own, and keeps it until all ask for so little together. */
const [OPENS, CLOSES] = [0.5, 0.1];
const NEGLIGIBLE = 1e-6;

interface LimitBudgets {
  readonly isKeyed: boolean;
  /** Of the limit; of one with keys: of each that has no budget of its own. */
  readonly common: Budget;
  readonly keys: Map<number, Budget>;
}

interface Holder {
  /** Number of the last answer. */
  number: number;
  /** Its stream has ended; null: it is there. */
  leftAtMs: number | null;
  limits: ReadonlySet<string>;
}

export interface LedgerParts {
  readonly now: () => number;
  /** Shares of whoever is silent for longer are free; so long nobody's share grows at first. */
  readonly graceMs: number;
}

export class QuotaLedger {
  private readonly limits = new Map<string, LimitBudgets>();
  private readonly holders = new Map<string, Holder>();
  private readonly beganAtMs: number;
  private keyCount = 0;

  constructor(private readonly parts: LedgerParts) {
    this.beganAtMs = parts.now();
  }

  /** What the holder may use from here on, and the number by which it says that it does. */
  report(holder: string, request: LeaseRequest): { readonly number: number; readonly limits: LimitLease[] } {
    this.forgetSilent();
    const known = this.holders.get(holder) ?? { number: 0, leftAtMs: null, limits: new Set<string>() };
    const isCurrent = request.applied === known.number;
    const uses = request.limits.slice(0, MAX_LIMITS);
    const limits = new Set(uses.map(({ limit }) => limit));
    for (const limit of known.limits) if (!limits.has(limit)) this.release(limit, holder);
    const next = { number: known.number + 1, leftAtMs: null, limits };
    this.holders.set(holder, next);
    return { number: next.number, limits: uses.flatMap((use) => this.lease(holder, use, isCurrent) ?? []) };
  }

  /** Its stream ended: it goes on with what it has, for as long as it lives. */
  left(holder: string): void {
    const known = this.holders.get(holder);
    if (known === undefined) return;
    known.leftAtMs = this.parts.now();
    // A new stream counts anew.
    known.number = 0;
  }

  private lease(holder: string, use: LimitUse, isCurrent: boolean): LimitLease | null {
    const budgets = this.budgetsOf(use);
    if (budgets === null) return null;
    const { common, keys, isKeyed } = budgets;
    const share = within(use.share);
    common.report(holder, isKeyed ? 0 : within(use.demand), share, isCurrent);
    const used = new Map(use.keys.map((each) => [each.key, each]));
    if (isKeyed) this.openKeys(budgets, holder, used, share);
    const mayGrow = this.mayGrow();
    const granted = common.grant(holder, !isKeyed, mayGrow);
    const leases: LimitLease['keys'] = [];
    for (const [key, budget] of keys) {
      const { demand = 0, share: own = share } = used.get(key) ?? {};
      budget.report(holder, within(demand), within(own), isCurrent);
      const closes = budget.demand < CLOSES / Math.max(1, common.holders);
      const lease = { key, share: budget.grant(holder, !closes, mayGrow) };
      if (closes && this.isAsCommon(budget, common)) {
        keys.delete(key);
        this.keyCount--;
      } else leases.push(lease);
    }
    return { limit: use.limit, share: granted, keys: leases };
  }

  private budgetsOf({ limit, keyed }: LimitUse): LimitBudgets | null {
    const known = this.limits.get(limit);
    if (known !== undefined) return known.isKeyed === keyed ? known : null;
    if (this.limits.size === MAX_LIMITS) return null;
    const budgets = { isKeyed: keyed, common: new Budget(), keys: new Map<number, Budget>() };
    this.limits.set(limit, budgets);
    return budgets;
  }

  /** All holders have of a key what they have of all that have no budget of their own. */
  private openKeys({ common, keys }: LimitBudgets, holder: string, used: ReadonlyMap<number, KeyUse>, share: number): void {
    for (const { key, demand, share: own } of used.values()) {
      if (keys.has(key) || keys.size >= MAX_KEYS || this.keyCount >= MAX_KEYS_OF_ALL) continue;
      // Of whoever says it has one there was another coordinator.
      if (own === undefined && demand < OPENS * share) continue;
      const budget = new Budget();
      for (const other of this.holders.keys())
        if (other !== holder && common.has(other)) budget.report(other, 0, common.mostOf(other), true);
      keys.set(key, budget);
      this.keyCount++;
    }
  }

  private isAsCommon(budget: Budget, common: Budget): boolean {
    for (const holder of this.holders.keys()) if (Math.abs(budget.mostOf(holder) - common.mostOf(holder)) > NEGLIGIBLE) return false;
    return true;
  }

  private mayGrow(): boolean {
    return this.parts.now() - this.beganAtMs >= this.parts.graceMs;
  }

  private forgetSilent(): void {
    const before = this.parts.now() - this.parts.graceMs;
    for (const [holder, { leftAtMs, limits }] of this.holders) {
      if (leftAtMs === null || leftAtMs > before) continue;
      this.holders.delete(holder);
      for (const limit of limits) this.release(limit, holder);
    }
  }

  private release(limit: string, holder: string): void {
    const budgets = this.limits.get(limit);
    if (budgets === undefined) return;
    budgets.common.forget(holder);
    for (const budget of budgets.keys.values()) budget.forget(holder);
    if (budgets.common.holders > 0) return;
    this.limits.delete(limit);
    this.keyCount -= budgets.keys.size;
  }
}

/** Whatever a node says: a part, or a demand of many times the whole. */
function within(value: number): number {
  return Number.isFinite(value) ? Math.min(Math.max(value, 0), 1_000) : 0;
}
