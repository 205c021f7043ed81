// The store's view → the encoded model, by api/compile. Owns the cache of validated objects; knows neither revisions nor nodes.

import { compileModel, encodeResource, type Problem, type RunningWorkload } from '../../api/compile/index.js';
import type { Resource } from '../../api/gen/mesh/v1/discovery.js';
import { type StoredObject, validateObject } from '../../api/resources/index.js';
import type { ObjectRecord } from '../store/records.js';
import type { StoreView } from '../store/view.js';

export interface CompiledModel {
  readonly resources: Resource[];
  readonly problems: readonly Problem[];
}

export class ModelCompiler {
  readonly #view: StoreView;
  /** By the record, which the view replaces on every change. */
  readonly #validated = new WeakMap<ObjectRecord, { readonly object: StoredObject } | { readonly problem: Problem }>();

  constructor(view: StoreView) {
    this.#view = view;
  }

  compile(): CompiledModel {
    const objects: StoredObject[] = [];
    const invalid: Problem[] = [];
    for (const object of this.#view.objects.values()) {
      const { ref, record, source } = object;
      if (this.#view.isShadowed(object)) {
        invalid.push({
          ...ref,
          path: 'metadata.name',
          message: `${source} has it too: the applied one holds; weft delete it there to follow ${source}`,
        });
        continue;
      }
      const validated = this.#validate(ref, record);
      if ('object' in validated) objects.push(validated.object);
      else invalid.push(validated.problem);
    }
    const { resources, problems } = compileModel({ objects, running: this.#running(), nowMs: Date.now() });
    return { resources: resources.map(encodeResource), problems: [...invalid, ...problems] };
  }

  #validate(ref: { kind: string; namespace: string; name: string }, record: ObjectRecord) {
    const known = this.#validated.get(record);
    if (known !== undefined) return known;
    const result = validateObject(record.manifest);
    const validated = result.ok
      ? { object: { ...result.object, createdAtMs: record.createdAtMs } }
      : {
          problem: {
            ...ref,
            path: result.findings[0]?.path ?? '',
            message: `left out, it isn't valid here: ${result.findings[0]?.message}`,
          },
        };
    this.#validated.set(record, validated);
    return validated;
  }

  /** A workload that two nodes report (it moved, the old node's lease runs still) is where it was reported last. */
  #running(): Map<string, RunningWorkload> {
    const newest = new Map<string, RunningWorkload & { readonly modRevision: number }>();
    for (const running of this.#view.running.values()) {
      const known = newest.get(running.state.name);
      if (known === undefined || known.modRevision < running.modRevision) newest.set(running.state.name, running);
    }
    return newest;
  }
}
