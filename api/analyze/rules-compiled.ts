// What the compiler says of valid objects, and matches of HTTPRoutes and GRPCRoutes that another one always takes first.
import { type CompiledResource, compareCandidates, compileModel } from '../compile/index.js';
import { type HttpRoute, ResourceType } from '../gen/mesh/v1/model.js';
import type { FieldPath } from '../resources/index.js';
import { kindDefinition, manifestKind, type ResourceObject } from '../resources/index.js';
import type { AnalysedObject, Report, World } from './world.js';

/** `objects` are the valid ones of the world; `isTold`: that something is not there, by another rule. */
export function compiled(
  world: World,
  objects: readonly ResourceObject[],
  report: Report,
  isTold: (object: AnalysedObject, path: string) => boolean,
): void {
  // Where nothing runs yet, every Workload counts as running: what is analysed is what is wanted.
  const stored = objects.map((object) => ({ ...object, createdAtMs: 0 }));
  const { resources, problems } = compileModel({ objects: stored, running: null, nowMs: world.nowMs });
  for (const { kind, namespace, name, path, message, reason } of problems) {
    const object = objectOf(world, kind, namespace, name);
    if (object !== undefined && !(isDangling(reason) && isTold(object, path)))
      report(object, isDangling(reason) ? 'ReferencedResourceNotFound' : 'ConditionNotMet', parsePath(path), `${message} (${reason})`);
  }
  // Where matches were left out the positions of the others are not those of the manifest.
  const shortened = new Set(
    problems.filter(({ path }) => /\.matches\[\d+\]$/.test(path)).map(({ kind, namespace, name }) => `${kind} ${namespace}/${name}`),
  );
  unreachableMatches(world, resources, shortened, report);
}

function isDangling(reason: string): boolean {
  return ['BackendNotFound', 'TargetNotFound', 'NoMatchingParent', 'InvalidCertificateRef', 'InvalidCACertificateRef'].includes(reason);
}

function objectOf(world: World, kind: string, namespace: string, name: string): AnalysedObject | undefined {
  const definition = kindDefinition(kind);
  if (definition === null) return undefined;
  const [group, version] = definition.apiVersion.split('/');
  return world.find(version === undefined ? kind : `${manifestKind(definition)}.${group}`, namespace, name);
}

/** The reverse of formatFieldPath, for the paths of the compiler. */
function parsePath(path: string): FieldPath {
  return [...path.matchAll(/([A-Za-z_][A-Za-z0-9_-]*)|\[(\d+)\]/g)].map(([, name, index]) => name ?? Number(index));
}

interface Candidate {
  readonly route: HttpRoute;
  readonly kind: string;
  readonly rule: number;
  readonly match: number;
}

/** Of equal matches under one hostname of one parent the first in precedence takes every request. */
function unreachableMatches(world: World, resources: readonly CompiledResource[], shortened: ReadonlySet<string>, report: Report): void {
  const first = new Map<string, Candidate>();
  const told = new Set<string>();
  for (const [key, candidate] of candidatesIn(resources)) {
    const winner = first.get(key);
    if (winner === undefined) first.set(key, candidate);
    else {
      const { route, kind, rule, match } = candidate;
      const name = `${kind} ${route.namespace}/${route.name}`;
      const id = `${name} ${rule} ${match}`;
      const object = told.has(id) || shortened.has(name) ? undefined : objectOf(world, kind, route.namespace, route.name);
      told.add(id);
      if (object === undefined) continue;
      const path = ['spec', 'rules', rule, 'matches', match];
      const other = `rule ${winner.rule} of ${winner.kind} ${winner.route.namespace}/${winner.route.name}`;
      report(object, 'RouteMatchUnreachable', path, `${other} has the same match and goes before it: this one is never reached`);
    }
  }
}

function candidatesIn(resources: readonly CompiledResource[]): (readonly [string, Candidate])[] {
  const found = resources.flatMap((resource) =>
    resource.type === ResourceType.HTTP_ROUTE && !resource.message.inOrder ? candidatesOf(resource.message) : [],
  );
  return found.sort(([, a], [, b]) => compareCandidates(ordered(a), ordered(b)));
}

function ordered({ route, rule, match }: Candidate) {
  const { createdAtMs, namespace, name } = route;
  return {
    hostname: '',
    match: route.rules[rule]?.matches[match] ?? null,
    createdAtMs,
    route: `${namespace}/${name}`,
    ruleIndex: rule,
    matchIndex: match,
  };
}

function candidatesOf(route: HttpRoute): (readonly [string, Candidate])[] {
  const kind = route.kind === '' ? 'HTTPRoute' : route.kind;
  const hostnames = route.hostnames.length === 0 ? [''] : route.hostnames;
  return route.parents.flatMap((parent) =>
    hostnames.flatMap((hostname) =>
      route.rules.flatMap(({ matches }, rule) =>
        matches.map(
          (match, at) => [`${JSON.stringify(parent)} ${hostname} ${canonical(match)}`, { route, kind, rule, match: at }] as const,
        ),
      ),
    ),
  );
}

/** Headers and parameters in any order are the same match. */
function canonical({ headers, query, ...rest }: HttpRoute['rules'][number]['matches'][number]): string {
  const sorted = (list: readonly object[]) => list.map((item) => JSON.stringify(item)).sort();
  return JSON.stringify([rest, sorted(headers), sorted(query)]);
}
