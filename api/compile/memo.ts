// What was compiled before and stands still: services and their endpoints, most of a large model. Owns the results of one compiler over its
// revisions; a result is used again only while everything it was made of is the same object.
import { ResourceType } from '../gen/mesh/v1/model.js';
import { compileEndpoints, inputsOfEndpoints } from './endpoints.js';
import { IndexMemo, type ObjectIndex, type Running, type Stored } from './input.js';
import { areSame, KeptUnion } from './kept.js';
import type { ReportProblem } from './problem.js';
import type { RegistryReports } from './registry.js';
import { compareText } from './route-order.js';
import { compileService, inputsOfService } from './service.js';
import type { CompiledResource } from './wire.js';

/** Of a service: itself, or its endpoints. */
interface Made {
  /** Null: made anew each time. */
  readonly inputs: readonly unknown[] | null;
  readonly resources: readonly CompiledResource[];
  readonly problems: readonly Parameters<ReportProblem>[];
}

interface Known {
  /** What there is under its name: with what is the same for all services this is all that is read. */
  readonly own: readonly unknown[];
  readonly itself: Made;
  readonly endpoints: Made;
}

type Reporter = (object: Stored<'Service'> | Stored<'ServiceEntry'>) => ReportProblem;

export class CompileMemo {
  readonly index = new IndexMemo();
  readonly #known = new WeakMap<Stored<'Service'>, Known>();
  /** What was the same for all when #known was last looked at; null: not all of it was. */
  #shared: readonly unknown[] | null = null;
  readonly #services = new KeptUnion<CompiledResource>(byName);
  readonly #endpoints = new KeptUnion<CompiledResource>(byName);

  /** All of them, by name; unchanged ones are the same objects as before. */
  resourcesOf(index: ObjectIndex, running: Running, reporter: Reporter): Record<'services' | 'endpoints', readonly CompiledResource[]> {
    const shared = sharedInputs(index, running);
    const isShared = this.#shared !== null && areSame(this.#shared, shared);
    this.#shared = null;
    const services: (readonly CompiledResource[])[] = [];
    const endpoints: (readonly CompiledResource[])[] = [];
    for (const [name, service] of index.services) {
      const own = [index.slicesByService.get(name), index.registry.instances.get(name), index.registry.failing.get(name)];
      let known = this.#known.get(service);
      if (!isShared || known === undefined || known.itself.inputs === null || !areSame(known.own, own)) {
        known = {
          own,
          itself: recall(known?.itself, inputsOfService(service, index), () => [
            { type: ResourceType.SERVICE, name, message: compileService(service, index) },
          ]),
          endpoints: recall(known?.endpoints, inputsOfEndpoints(service, index, running), (report) =>
            compileEndpoints(service, index, running, report).map(
              (message): CompiledResource => ({ type: ResourceType.ENDPOINT, name: `${name}/${message.id}`, message }),
            ),
          ),
        };
        this.#known.set(service, known);
      }
      services.push(known.itself.resources);
      endpoints.push(known.endpoints.resources);
      for (const { problems } of [known.itself, known.endpoints])
        for (const problem of problems) reporter(index.entryHosts.get(name)?.entry ?? service)(...problem);
    }
    this.#shared = shared;
    return { services: this.#services.of(services), endpoints: this.#endpoints.of(endpoints) };
  }
}

/** What a service has under its own name, what is made of the rest, and what changes within. */
const NOT_SHARED: ReadonlySet<string> = new Set<keyof ObjectIndex | keyof RegistryReports>([
  'slices',
  'slicesByService',
  'instances',
  'failing',
  'filterTargets',
  'registry',
  'idlePercent',
]);

/** By identity all else that there is: while it stands, one service that changes costs no look at the others. */
function sharedInputs(index: ObjectIndex, running: Running): unknown[] {
  const fields = [...Object.entries(index), ...Object.entries(index.registry)];
  const contents = [index.registry.idlePercent, running ?? []].flatMap((entries) => [...entries].flat());
  return [...fields.flatMap(([name, value]) => (NOT_SHARED.has(name) ? [] : [value])), running === null, ...contents];
}

function recall(known: Made | undefined, inputs: readonly unknown[] | null, make: (report: ReportProblem) => CompiledResource[]): Made {
  if (known !== undefined && known.inputs !== null && inputs !== null && areSame(known.inputs, inputs)) return known;
  const problems: Parameters<ReportProblem>[] = [];
  return { inputs, resources: make((...problem) => void problems.push(problem)), problems };
}

function byName(a: CompiledResource, b: CompiledResource): number {
  return compareText(a.name, b.name);
}
