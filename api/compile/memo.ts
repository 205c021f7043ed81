// What was compiled before and stands still: services and their endpoints, most of a large model. Owns the results of one compiler over its
// revisions; a result is used again only while everything it was made of is the same object.
import { ResourceType } from '../gen/mesh/v1/model.js';
import { compileEndpoints, inputsOfEndpoints } from './endpoints.js';
import { nameOf, type ObjectIndex, type Running, type Stored } from './input.js';
import type { ReportProblem } from './problem.js';
import { compileService, inputsOfService } from './service.js';
import type { CompiledResource } from './wire.js';

interface Known {
  readonly inputs: readonly unknown[];
  readonly resources: readonly CompiledResource[];
  readonly problems: readonly Parameters<ReportProblem>[];
}

type Results = WeakMap<Stored<'Service'>, Known>;

export class CompileMemo {
  readonly #services: Results = new WeakMap();
  readonly #endpoints: Results = new WeakMap();

  /** Itself and its endpoints; unchanged ones are the same objects as before. */
  resourcesOf(service: Stored<'Service'>, index: ObjectIndex, running: Running, report: ReportProblem): CompiledResource[] {
    const name = nameOf(service);
    const itself = recall(this.#services, service, inputsOfService(service, index), report, () => [
      { type: ResourceType.SERVICE, name, message: compileService(service, index) },
    ]);
    const endpoints = recall(this.#endpoints, service, inputsOfEndpoints(service, index, running), report, (toReport) =>
      compileEndpoints(service, index, running, toReport).map(
        (message): CompiledResource => ({ type: ResourceType.ENDPOINT, name: `${name}/${message.id}`, message }),
      ),
    );
    return [...itself, ...endpoints];
  }
}

/** Inputs null: always made anew. */
function recall(
  results: Results,
  service: Stored<'Service'>,
  inputs: readonly unknown[] | null,
  report: ReportProblem,
  make: (report: ReportProblem) => CompiledResource[],
): readonly CompiledResource[] {
  if (inputs === null) return make(report);
  let known = results.get(service);
  if (known === undefined || !areSame(known.inputs, inputs)) {
    const problems: Parameters<ReportProblem>[] = [];
    known = { inputs, resources: make((...problem) => void problems.push(problem)), problems };
    results.set(service, known);
  }
  for (const problem of known.problems) report(...problem);
  return known.resources;
}

function areSame(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a.length === b.length && a.every((each, index) => each === b[index]);
}
