// Who waits for another answer: told of each compilation, asks again, and hears only of what differs. Owns the bound on how many may wait.
import type { ListEndpointsRequest, ListEndpointsResponse } from '../../api/gen/mesh/v1/registry.js';
import type { LatestModel } from '../compile/latest-model.js';
import { type Answer, entityTag, listEndpoints } from './catalog.js';

/** Over gRPC and HTTP together. */
const MAX_WATCHES = 2_000;

export const NOT_READY = 'the store is being read: try again soon';

export type Watched = Answer<ListEndpointsResponse> & { readonly tag: string };

export class CatalogWatches {
  readonly #latest: LatestModel;
  #count = 0;

  constructor(latest: LatestModel) {
    this.#latest = latest;
  }

  get count(): number {
    return this.#count;
  }

  /**
   * Calls `tell` with every answer whose tag is another than that before (`seen` at first), until the returned function is called.
   * Null: too many watch already.
   */
  open(request: ListEndpointsRequest, seen: string, tell: (answer: Watched) => void): (() => void) | null {
    if (this.#count >= MAX_WATCHES) return null;
    this.#count++;
    let tag = seen;
    let before: readonly unknown[] | null = null;
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
      if (before !== null && before.length === endpoints.length && endpoints.every((endpoint, index) => endpoint === before?.[index]))
        return;
      before = endpoints;
      const now = entityTag(answer.value);
      if (now === tag) return;
      tag = now;
      tell({ ...answer, tag });
    };
    const unwatch = this.#latest.watch(look);
    let isOpen = true;
    const close = (): void => {
      if (!isOpen) return;
      isOpen = false;
      this.#count--;
      unwatch();
    };
    look();
    return close;
  }
}
