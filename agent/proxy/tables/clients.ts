// Clients for whom some clusters are others (ClusterSet.apart), as small integers: who has the same ones is of one class. Made with each generation;
// where no cluster is another for anybody there are no classes.
import type { ConsumerPolicies } from '../../../api/gen/mesh/v1/model.js';
import type { Model } from '../../model/model.js';
import type { ApartCluster } from './clusters.js';
import type { Source } from './conditions.js';
import { namespaceOf } from './tenants.js';

/** What no policy tells from others. */
export const ANYBODY = 0;

export type Consumer = Pick<ConsumerPolicies, 'namespace' | 'labels'>;

/** Namespaces from which requests can come on this node: those of its workloads (`node` empty: of all), and of gateways. `node` null: nobody is captured. */
export function clientNamespaces(model: Model, node: string | null): ReadonlySet<string> {
  const found = new Set([...model.listeners.values()].map(({ gateway }) => namespaceOf(gateway)));
  for (const workload of node === null ? [] : model.workloads.values())
    if (node === '' || workload.node === node) found.add(workload.namespace);
  return found;
}

export class ClientClasses {
  private readonly consumers: readonly Consumer[];
  private readonly ids = new Map<string, { readonly id: number; readonly consumers: ReadonlySet<Consumer> }>();

  constructor(private readonly apart: readonly ApartCluster[]) {
    this.consumers = [...new Map(apart.map(({ consumer }) => [keyOf(consumer), consumer])).values()];
  }

  /** By source; empty: all are ANYBODY. */
  ofSources(sources: readonly Source[]): number[] {
    return this.apart.length === 0 ? [] : sources.map((source) => this.of(source));
  }

  /** Of requests that come in at a gateway's port, "<namespace>/…". */
  ofGateway(name: string): number {
    return this.of({ namespace: namespaceOf(name), labels: {} });
  }

  /** (row of a cluster, class) → the row that the class has instead; call it when all classes are known. */
  index(): (readonly [number, number, number])[] {
    return [...this.ids.values()].flatMap(({ id, consumers }) => {
      const keys = new Set([...consumers].map(keyOf));
      const rows = new Map<number, number>();
      // Those with labels come first (ConsumerPolicies).
      for (const { row, consumer, own } of this.apart) if (keys.has(keyOf(consumer)) && !rows.has(row)) rows.set(row, own);
      return [...rows].map(([row, own]) => [row, id, own] as const);
    });
  }

  private of({ namespace, labels }: Pick<Source, 'namespace' | 'labels'>): number {
    const mine = this.consumers.filter(
      (consumer) => consumer.namespace === namespace && Object.entries(consumer.labels).every(([name, value]) => labels[name] === value),
    );
    if (mine.length === 0) return ANYBODY;
    const text = mine.map(keyOf).join();
    const known = this.ids.get(text) ?? { id: this.ids.size + 1, consumers: new Set(mine) };
    this.ids.set(text, known);
    return known.id;
  }
}

function keyOf({ namespace, labels }: Consumer): string {
  return JSON.stringify([namespace, Object.entries(labels)]);
}
