// What the nodes' proxies say of the traffic, joined: one row per caller, service and answering workload, with the passes that its
// requests made. Pure: from NodeStatus answers to rows.
import type { RouteState, StatusResponse, TrafficEdge } from '../../api/gen/mesh/v1/status.js';

/** Who is where, so that a row can say its path and name an address. */
export interface Place {
  /** "<namespace>/<workload>" */
  readonly workload: string;
  readonly node: string;
  readonly addresses: readonly string[];
}

export interface TrafficRow {
  readonly source: string;
  /** "<namespace>/<service>:<port>", or "passthrough". */
  readonly destination: string;
  readonly answeredBy: string;
  readonly path: 'same node' | 'outbound→inbound' | 'unknown';
  /** Passes through the caller's proxy. */
  readonly outbound: number;
  readonly errors: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** Passes by "<source> <answeredBy>": what the verdict compares with the counts of clients and servers. */
export interface Passes {
  readonly outbound: ReadonlyMap<string, number>;
  readonly inbound: ReadonlyMap<string, number>;
  readonly errors: number;
}

export class TrafficReader {
  readonly #byAddress = new Map<string, Place>();
  readonly #byWorkload = new Map<string, Place>();

  constructor(places: readonly Place[]) {
    for (const place of places) {
      this.#byWorkload.set(place.workload, place);
      for (const address of place.addresses) this.#byAddress.set(address, place);
    }
  }

  rows(statuses: readonly StatusResponse[]): TrafficRow[] {
    const rows = statuses.flatMap((status) =>
      (status.proxy?.traffic ?? []).filter((edge) => edge.direction === 'outbound').map((edge) => this.#row(edge)),
    );
    return rows.sort((a, b) => sortKey(a).localeCompare(sortKey(b)));
  }

  passes(statuses: readonly StatusResponse[]): Passes {
    const outbound = new Map<string, number>();
    const inbound = new Map<string, number>();
    let errors = 0;
    for (const edge of statuses.flatMap((status) => status.proxy?.traffic ?? [])) {
      const counts = edge.direction === 'inbound' ? inbound : outbound;
      const key = `${this.#name(edge.source)} ${this.#name(edge.destinationWorkload)}`;
      counts.set(key, (counts.get(key) ?? 0) + edge.requests);
      errors += edge.errors;
    }
    return { outbound, inbound, errors };
  }

  #row(edge: TrafficEdge): TrafficRow {
    const source = this.#name(edge.source);
    const answeredBy = this.#name(edge.destinationWorkload);
    return {
      ...{ source, answeredBy, destination: edge.destination, path: this.#path(source, answeredBy) },
      ...{ outbound: edge.requests, errors: edge.errors, p50Ms: edge.latencyP50Ms, p99Ms: edge.latencyP99Ms },
    };
  }

  #path(source: string, answeredBy: string): TrafficRow['path'] {
    const from = this.#byWorkload.get(source)?.node;
    const to = this.#byWorkload.get(answeredBy)?.node;
    if (from === undefined || to === undefined) return 'unknown';
    return from === to ? 'same node' : 'outbound→inbound';
  }

  /** A workload's name for its address, with or without a port. */
  #name(text: string): string {
    const bare = text.replace(/^\[(.*)\]:\d+$/, '$1').replace(/^(\d+\.\d+\.\d+\.\d+):\d+$/, '$1');
    return this.#byAddress.get(bare)?.workload ?? text;
  }
}

function sortKey(row: TrafficRow): string {
  return `${row.source} ${row.destination} ${row.answeredBy}`;
}

/** Requests by answering workload, of those given; a workload that answered nothing is there with 0. */
export function splitOf(rows: readonly TrafficRow[], workloads: readonly string[]): Map<string, number> {
  const split = new Map(workloads.map((workload) => [workload, 0]));
  for (const row of rows) {
    const sum = split.get(row.answeredBy);
    if (sum !== undefined) split.set(row.answeredBy, sum + row.outbound);
  }
  return split;
}

/** The backends that the nodes' first rule for a service names, as the nodes write them. */
export function wantedSplit(statuses: readonly StatusResponse[], scope: string): string {
  const route = statuses
    .flatMap((status): readonly RouteState[] => status.proxy?.routes ?? [])
    .find((candidate) => candidate.scope === scope);
  return route === undefined ? 'no route' : route.backends.join(', ');
}
