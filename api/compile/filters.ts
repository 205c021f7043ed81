// Filters → filters of the model. One at a time, when all routes were compiled: filter-targets.ts knows then which of them refer to it.
import { bundleModule } from '../filter/bundle.js';
import type { Filter, RouteParent } from '../gen/mesh/v1/model.js';
import { durationMs } from '../resources/index.js';
import { nameOf, type ObjectIndex, type Stored } from './input.js';
import type { ReportProblem } from './problem.js';

type Target = Stored<'Filter'>['manifest']['spec']['targetRefs'][number];

export function compileFilter(
  filter: Stored<'Filter'>,
  index: Pick<ObjectIndex, 'services' | 'gateways' | 'routes' | 'grpcRoutes' | 'filterTargets'>,
  report: ReportProblem,
): Filter {
  const { spec } = filter.manifest;
  const bundled = bundleModule(spec.module ?? '');
  if (!bundled.ok) {
    const [first] = bundled.mistakes;
    const where = first === undefined ? '' : `line ${first.line}, column ${first.column}: ${first.message}`;
    const effect = spec.failurePolicy === 'FailOpen' ? 'requests go on without it' : 'requests that need it are answered 500';
    report('spec.module', `it can't be run (${where}): ${effect}`, 'Invalid');
  }
  return {
    namespace: filter.namespace,
    name: filter.name,
    code: bundled.ok ? bundled.code : '',
    onRequest: !bundled.ok || bundled.onRequest,
    onResponse: bundled.ok && bundled.onResponse,
    priority: spec.priority,
    failOpen: spec.failurePolicy === 'FailOpen',
    timeoutMs: durationMs(spec.timeout) ?? 0,
    memoryMib: spec.memoryMiB,
    maxBodyBytes: spec.body?.maxBytes ?? 0,
    parents: parentsOf(filter, index, report),
  };
}

function parentsOf(filter: Stored<'Filter'>, index: Parameters<typeof compileFilter>[1], report: ReportProblem): RouteParent[] {
  const parents = new Map<string, RouteParent>();
  const add = (parent: NonNullable<RouteParent['parent']>): void =>
    void parents.set(`${parent.$case} ${parent.value}`, { parent, port: 0, section: '', consumerNamespace: '' });
  filter.manifest.spec.targetRefs.forEach((target, position) => {
    const name = `${filter.namespace}/${target.name}`;
    const fault = targetFault(target, name, index);
    if (fault !== null) report(`spec.targetRefs[${position}]`, `${fault}: the filter sees no requests there`, 'TargetNotFound');
    else if (target.kind === 'Service') add({ $case: 'service', value: name });
    else if (target.kind === 'Gateway') add({ $case: 'gateway', value: name });
  });
  for (const { parent } of index.filterTargets.parentsOf(nameOf(filter))) if (parent !== undefined) add(parent);
  return [...parents.keys()].sort().map((key) => parents.get(key) as RouteParent);
}

function targetFault(target: Target, name: string, index: Parameters<typeof compileFilter>[1]): string | null {
  const { kind, sectionName } = target;
  const missing = `${kind} ${name} doesn't exist`;
  if (kind === 'Service') return index.services.has(name) ? null : missing;
  if (kind === 'Gateway') {
    const gateway = index.gateways.get(name);
    if (gateway === undefined) return missing;
    const has = gateway.manifest.spec.listeners.some((listener) => listener.name === sectionName);
    return sectionName === undefined || has ? null : `Gateway ${name} has no listener ${sectionName}`;
  }
  const route = kind === 'HTTPRoute' ? index.routes.get(name) : index.grpcRoutes.find((each) => nameOf(each) === name);
  if (route === undefined) return missing;
  const has = (route.manifest.spec.rules as readonly { readonly name?: string | undefined }[]).some((rule) => rule.name === sectionName);
  return sectionName === undefined || has ? null : `${kind} ${name} has no rule that is named ${sectionName}`;
}
