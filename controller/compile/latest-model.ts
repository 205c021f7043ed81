// The newest compilation, for those who act on what it said beside the nodes. Owns nothing of it.
import type { CompiledModel } from './model-compiler.js';

export class LatestModel {
  readonly #watchers = new Set<() => void>();
  #model: CompiledModel | null = null;

  /** Null before the first. */
  get model(): CompiledModel | null {
    return this.#model;
  }

  publish(model: CompiledModel): void {
    this.#model = model;
    for (const watcher of [...this.#watchers]) watcher();
  }

  /** Called after each compilation. The returned function ends it. */
  watch(watcher: () => void): () => void {
    this.#watchers.add(watcher);
    return () => void this.#watchers.delete(watcher);
  }
}
