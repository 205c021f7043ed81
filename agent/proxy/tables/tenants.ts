// Tenants: the namespaces of one generation, as the small integers by which the engine shares itself out and accounts.
import { DNS_LISTENERS, type GatewayListener, MESH_LISTENERS } from './gateway-ports.js';
import { MAX_LISTENERS } from './layout.js';
import type { StableIds } from './stable-ids.js';

/** What belongs to no namespace, or to one for which there was no room. */
export const NOBODY = 0;

export class Tenants {
  /** Id 0 is nobody's. */
  readonly names: ReadonlyMap<string, number>;
  /** The same for the same. */
  readonly text: string;

  constructor(namespaces: Iterable<string>, ids: StableIds) {
    this.names = new Map([...ids.assign(namespaces)].map(([name, id]) => [name, id + 1]));
    this.text = [...this.names].join(' ');
  }

  /** `name`: "<namespace>/…". */
  of(name: string): number {
    return this.names.get(namespaceOf(name)) ?? NOBODY;
  }

  /** By listener id. Captured traffic is its source's or its destination's; a port that gateways share is the first one's. */
  ofListeners(listeners: readonly GatewayListener[]): number[] {
    const tenants = new Array<number>(MAX_LISTENERS).fill(NOBODY);
    for (const { name, sockets } of listeners) for (const { id } of sockets) tenants[id] = this.of(name);
    for (const { id } of [...MESH_LISTENERS, ...DNS_LISTENERS]) tenants[id] = NOBODY;
    return tenants;
  }

  /** By id; 0: the usual one. `weights`: by namespace, what is known of it or not. */
  weights(weights: ReadonlyMap<string, number>): number[] {
    const byId: number[] = [];
    for (const [name, weight] of weights) byId[this.names.get(name) ?? NOBODY] = weight;
    // Whoever has no name has no weight of its own.
    byId[NOBODY] = 0;
    return Array.from(byId, (weight) => weight ?? 0);
  }
}

export function namespaceOf(name: string): string {
  const slash = name.indexOf('/');
  return slash < 0 ? '' : name.slice(0, slash);
}
