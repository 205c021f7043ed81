// What every tenant has of the proxy: the workers' accounts added up, by namespace. Reads; changes nothing.
import { MAX_TENANTS, TENANT_WORDS, TenantWord } from '../../native/engine.js';
import { NOBODY } from '../tables/tenants.js';

export interface TenantReport {
  /** Namespace; empty: what belongs to none. */
  readonly name: string;
  readonly connections: number;
  readonly requests: number;
  readonly cpuSeconds: number;
  readonly refusedConnections: number;
  readonly refusedRequests: number;
  readonly bufferedBytes: number;
  readonly refusedForBuffers: number;
}

export class TenantTotals {
  /** What was counted under an id before it changed hands. */
  private readonly base = new Float64Array(MAX_TENANTS * TENANT_WORDS);

  /** `workers`: their accounts (EngineOptions.tenants). */
  constructor(private readonly workers: () => readonly Float64Array[]) {}

  /** The id has a new owner. */
  forget(tenant: number): void {
    for (let word = 0; word < TENANT_WORDS; word++) this.base[tenant * TENANT_WORDS + word] = this.sum(tenant, word);
  }

  isBusy(tenant: number): boolean {
    return this.sum(tenant, TenantWord.Connections) > 0;
  }

  report(names: ReadonlyMap<string, number>): TenantReport[] {
    return [['', NOBODY] as const, ...names].map(([name, tenant]) => {
      const since = (word: TenantWord): number => this.sum(tenant, word) - this.base[tenant * TENANT_WORDS + word]!;
      return {
        name,
        connections: since(TenantWord.Connections),
        requests: since(TenantWord.Requests),
        cpuSeconds: since(TenantWord.CpuUs) / 1e6,
        refusedConnections: since(TenantWord.RefusedConnections),
        refusedRequests: since(TenantWord.RefusedRequests),
        bufferedBytes: since(TenantWord.BufferedBytes),
        refusedForBuffers: since(TenantWord.RefusedForBuffers),
      };
    });
  }

  private sum(tenant: number, word: TenantWord): number {
    return this.workers().reduce((total, words) => total + words[tenant * TENANT_WORDS + word]!, 0);
  }
}
