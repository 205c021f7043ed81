// Addresses of workloads → the engine's sources, with whose they are: made when workloads change, and not with each generation.
import type { Model } from '../../model/model.js';
import type { Source } from './conditions.js';
import type { Labels } from './labels.js';
import { namespaceOf, type Tenants } from './tenants.js';

/** One position for each address. */
export interface SourceRows {
  /** "<namespace>/<name>" of whose it is. */
  readonly owners: readonly string[];
  readonly addresses: readonly string[];
  readonly twins: readonly number[];
  readonly labels: readonly number[];
  readonly tenants: readonly number[];
  readonly sources: readonly Source[];
}

/** Outlives generations. */
export class SourceMemory {
  private known: { readonly workloads: object; readonly tenants: string; readonly rows: SourceRows } | null = null;

  of(model: Model, labels: Labels, tenants: Tenants): SourceRows {
    const { workloadsAsOf: workloads } = model;
    if (this.known?.workloads !== workloads || this.known.tenants !== tenants.text)
      this.known = { workloads, tenants: tenants.text, rows: sourceRows(model, labels, tenants) };
    return this.known.rows;
  }
}

function sourceRows(model: Model, labels: Labels, tenants: Tenants): SourceRows {
  const owners = new Map<string, string>();
  for (const [name, { addresses }] of model.workloads) for (const address of addresses) owners.set(address, name);
  const names = [...owners.values()];
  const addresses = [...owners.keys()];
  // By owner: the first IPv4 and the first IPv6 address.
  const first = { v4: new Map<string, number>(), v6: new Map<string, number>() };
  addresses.forEach((address, index) => {
    const ofVersion = address.includes(':') ? first.v6 : first.v4;
    if (!ofVersion.has(names[index]!)) ofVersion.set(names[index]!, index);
  });
  return {
    owners: names,
    addresses,
    twins: addresses.map((address, index) => (address.includes(':') ? first.v4 : first.v6).get(names[index]!) ?? -1),
    labels: names.map((name) => labels.idOf(name)),
    tenants: names.map((name) => tenants.of(name)),
    sources: names.map((name) => {
      const { labels: given = {}, serviceAccount = '' } = model.workloads.get(name) ?? {};
      return { namespace: namespaceOf(name), labels: given, serviceAccount };
    }),
  };
}
