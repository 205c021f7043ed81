// TLSRoute, TCPRoute → ConnectionRoute of the model. One route at a time.
import type { ConnectionRoute } from '../gen/mesh/v1/model.js';
import { type BackendIndex, compileBackend } from './backend.js';
import type { Stored } from './input.js';
import type { ReportProblem } from './problem.js';
import { compileParents, hostnamesOf, type ParentIndex } from './route-parents.js';

export function compileConnectionRoute(
  route: Stored<'TLSRoute'> | Stored<'TCPRoute'>,
  index: BackendIndex & ParentIndex,
  report: ReportProblem,
): ConnectionRoute {
  const { kind, namespace, name, createdAtMs, manifest } = route;
  // The first rule matches every connection.
  const references = manifest.spec.rules[0]?.backendRefs ?? [];
  return {
    kind,
    namespace,
    name,
    createdAtMs,
    parents: compileParents(route, index, report),
    serverNames: [...hostnamesOf(route)],
    backends: references.map((reference, at) =>
      compileBackend(route, reference, index, (message, reason) =>
        report(`spec.rules[0].backendRefs[${at}]`, `${message}: its share of the connections is reset`, reason),
      ),
    ),
  };
}
