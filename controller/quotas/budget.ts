// One budget and who holds shares of it: of a limit, or of one key of it. What all may use together is never more than 1: a share grows only by
// what others have said that they no longer use. Pure.

/** Of the budget, that all its holders have in equal parts, asked for or not. */
export const FLOOR = 0.05;
/** Smaller differences are left as they are. */
const NEGLIGIBLE = 0.01;

interface Holding {
  demand: number;
  /** The most that it may be using: what it said it uses, and what it was granted since. */
  most: number;
  granted: number;
}

export class Budget {
  private readonly holdings = new Map<string, Holding>();

  get holders(): number {
    return this.holdings.size;
  }

  get demand(): number {
    let sum = 0;
    for (const { demand } of this.holdings.values()) sum += demand;
    return sum;
  }

  has(holder: string): boolean {
    return this.holdings.has(holder);
  }

  /** The most that it may be using. */
  mostOf(holder: string): number {
    return this.holdings.get(holder)?.most ?? 0;
  }

  /** `isCurrent`: it has put all in force that it was granted. */
  report(holder: string, demand: number, share: number, isCurrent: boolean): void {
    const known = this.holdings.get(holder);
    if (known === undefined) this.holdings.set(holder, { demand, most: share, granted: share });
    else {
      known.demand = demand;
      if (isCurrent) known.most = share;
    }
  }

  forget(holder: string): void {
    this.holdings.delete(holder);
  }

  /** `byDemand` false: all have equal parts. `mayGrow` false: nobody gets more than it has. */
  grant(holder: string, byDemand: boolean, mayGrow: boolean): number {
    const holding = this.holdings.get(holder);
    if (holding === undefined) throw new Error(`${holder} holds nothing`);
    const wanted = this.targetOf(holding, byDemand);
    const isNear = Math.abs(wanted - holding.granted) < NEGLIGIBLE * wanted && holding.most <= holding.granted;
    let granted = isNear ? holding.granted : wanted;
    if (granted > holding.most) granted = mayGrow ? Math.min(granted, holding.most + this.free) : holding.most;
    holding.granted = granted;
    holding.most = Math.max(holding.most, granted);
    return granted;
  }

  private get free(): number {
    let used = 0;
    for (const { most } of this.holdings.values()) used += most;
    return Math.max(0, 1 - used);
  }

  private targetOf({ demand }: Holding, byDemand: boolean): number {
    const all = this.demand;
    const equal = 1 / this.holdings.size;
    return byDemand && all > 0 ? FLOOR * equal + (1 - FLOOR) * (demand / all) : equal;
  }
}
