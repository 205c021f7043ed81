// The one table of who may call what, and of which calls leave a trace. A method that does not stand here is refused to everybody; a test
// walks all services that a controller has.
import type { MethodDefinition } from '@grpc/grpc-js';
import { AccessService, NodeIdentityService, Role } from '../../api/gen/mesh/v1/access.js';
import { AdminService, type Change, Change_Action, type Finding } from '../../api/gen/mesh/v1/admin.js';
import { DiscoveryService, RegistryService } from '../../api/gen/mesh/v1/discovery.js';
import { QuotasService } from '../../api/gen/mesh/v1/quota.js';
import { CatalogService } from '../../api/gen/mesh/v1/registry.js';
import type { Requirement } from './principal.js';

export interface Method {
  /** "Admin/Apply" */
  readonly name: string;
  readonly requirement: Requirement;
  /** What it was about, for the audit log; null: it leaves no trace. The response is null where there is none. */
  readonly trace: ((request: unknown, response: unknown) => string | null) | null;
}

/** By path, as in "/mesh.v1.Admin/Apply". */
const METHODS = new Map<string, Method>();

export function methodAt(path: string): Method | null {
  return METHODS.get(path) ?? null;
}

function method<Request, Response>(
  definition: MethodDefinition<Request, Response>,
  requirement: Requirement,
  trace: ((request: Request, response: Response | null) => string | null) | null = null,
): void {
  const name = definition.path.replace(/^\/(mesh\.v1\.)?/, '');
  // The guard hands over what the definition's own (de)serialisers are for.
  METHODS.set(definition.path, { name, requirement, trace: trace as Method['trace'] });
}

method(DiscoveryService.stream, 'node');
method(RegistryService.register, 'node');
method(QuotasService.lease, 'node');

method(AdminService.get, 'viewer');
method(AdminService.wait, 'viewer');
method(AdminService.currentRevision, 'viewer');
method(AdminService.listNodes, 'viewer');
method(AdminService.history, 'viewer');
method(AdminService.apply, 'operator', ({ files, dryRun }, response) =>
  dryRun ? null : outcome(files.map(({ name }) => name).join(', '), response?.changes ?? [], response?.findings ?? []),
);
method(AdminService.delete, 'operator', ({ objects }, response) =>
  outcome(shortly(objects.map(({ kind, namespace, name }) => `${kind} ${namespace}/${name}`)), response?.changes ?? [], []),
);
method(AdminService.rollback, 'operator', ({ revision, dryRun }, response) =>
  dryRun ? null : outcome(`to revision ${revision}`, response?.changes ?? [], []),
);

method(AdminService.drainNode, 'operator', ({ node, end }) => (end ? `${node}: ended` : node));

method(CatalogService.listServices, 'viewer');
method(CatalogService.listEndpoints, 'viewer');
method(CatalogService.watchEndpoints, 'viewer');

method(NodeIdentityService.join, 'anyone', ({ node }) => node);
// Each node renews day after day: those that go well are in the controller's log and metrics.
method(NodeIdentityService.renew, 'anyone', (_, response) => (response === null ? '' : null));

method(AccessService.whoAmI, 'viewer');
method(AccessService.createJoinToken, 'admin', ({ node, ttlSeconds }) => `for node ${node}, ${ttlSeconds} s`);
method(AccessService.listJoinTokens, 'admin');
method(AccessService.revokeJoinToken, 'admin', ({ id }) => id);
method(AccessService.createOperator, 'admin', ({ name, role, publicKey }) => {
  return `${name} as ${Role[role]?.toLowerCase()} by ${publicKey.length > 0 ? 'certificate' : 'token'}`;
});
method(AccessService.listOperators, 'admin');
method(AccessService.deleteOperator, 'admin', ({ name }) => name);
method(AccessService.revokeNode, 'admin', ({ node }) => node);
method(AccessService.admitNode, 'admin', ({ node }) => node);
method(AccessService.listRevokedNodes, 'admin');
method(AccessService.listAuthorities, 'admin');
method(AccessService.rotateAuthority, 'admin', ({ immediately }) => (immediately ? 'immediately' : 'step by step'));
method(AccessService.nodeStatus, 'viewer');
method(AccessService.nodeExplain, 'viewer');
method(AccessService.listAudit, 'admin');

const SHOWN = 5;
const MARKS: Readonly<Record<number, string>> = {
  [Change_Action.CREATED]: '+',
  [Change_Action.DELETED]: '-',
  [Change_Action.CONFIGURED]: '~',
};

function outcome(what: string, changes: readonly Change[], findings: readonly Finding[]): string {
  if (findings.length > 0) return `${what}: refused, ${findings.length} mistakes`;
  const changed = changes.filter(({ action }) => action !== Change_Action.UNCHANGED);
  return `${what}: ${shortly(changed.map(({ kind, namespace, name, action }) => `${MARKS[action]}${kind} ${namespace}/${name}`))}`;
}

function shortly(items: readonly string[]): string {
  if (items.length === 0) return 'nothing changed';
  const more = items.length - SHOWN;
  return `${items.slice(0, SHOWN).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}
