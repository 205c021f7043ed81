// Who waits for another answer: told of each compilation, asks again, and hears only of what differs. Owns the bound on how many may wait.
import type { ListEndpointsRequest, ListEndpointsResponse } from '../../api/gen/mesh/v1/registry.js';
import type { LatestModel } from '../compile/latest-model.js';
import { type Answer, entityTag, listEndpoints } from './catalog.js';

/** Over gRPC and HTTP together. */
const MAX_WATCHES = 2_000;

export const NOT_READY = 'the store is being read: try again soon';

export const STOPS = 'this controller stops: another replica serves';

export type Watched = Answer<ListEndpointsResponse> & { readonly tag: string };

/** An answer that has endpoints. */
export type Tagged = Watched & { readonly kind: 'ok' };

export function tagged(value: ListEndpointsResponse): Tagged {
  return { kind: 'ok', value, tag: entityTag(value) };
}

export class CatalogWatches {
  readonly #latest: LatestModel;
  /** How to tell each that there will be nothing more. */
  readonly #open = new Set<() => void>();

  constructor(latest: LatestModel) {
    this.#latest = latest;
  }

  get count(): number {
    return this.#open.size;
  }

  /**
   * Calls `tell` with every answer whose tag is another than that before (at first the answer of now), until the returned function is called;
   * `stopped` when this controller stops. Null: too many watch already.
   */
  open(request: ListEndpointsRequest, now: Tagged, tell: (answer: Watched) => void, stopped: () => void): (() => void) | null {
    if (this.#open.size >= MAX_WATCHES) return null;
    let { tag } = now;
    let before: readonly unknown[] = now.value.endpoints;
    const look = (): void => {
      const { model } = this.#latest;
      if (model === null) return;
      const answer = listEndpoints(model, request);
      if (answer.kind !== 'ok') {
        if (tag !== answer.message) tell({ ...answer, tag: answer.message });
        tag = answer.message;
        return;
      }
      const { endpoints } = answer.value;
      // What the compiler kept is the same object.
      if (before.length === endpoints.length && endpoints.every((endpoint, index) => endpoint === before[index])) return;
      before = endpoints;
      const newer = tagged(answer.value);
      if (newer.tag === tag) return;
      tag = newer.tag;
      tell(newer);
    };
    const unwatch = this.#latest.watch(look);
    const stop = (): void => stopped();
    this.#open.add(stop);
    return () => {
      this.#open.delete(stop);
      unwatch();
    };
  }

  /** Another replica serves. */
  stop(): void {
    for (const stopped of [...this.#open]) stopped();
  }
}
