// Who calls: what a call has proved, and what follows from it. The guard of the listener finds it out before the call's service sees anything.
import type { Metadata } from '@grpc/grpc-js';
import { type OperatorRole, ROLES } from '../store/access-records.js';

export type Principal =
  /** `lineage`: how often the node had been revoked when it joined. `issuer`: the pin of the authority that signed its certificate. */
  | { readonly kind: 'node'; readonly name: string; readonly lineage: number; readonly expiresAtMs: number; readonly issuer: string }
  /** `hash`: of what it proved itself by, as OperatorRecord. `issuer`: as a node's; empty for a token. */
  | {
      readonly kind: 'operator';
      readonly name: string;
      readonly role: OperatorRole;
      readonly by: 'token' | 'certificate';
      readonly hash: string;
      readonly issuer: string;
    }
  /** May all: it has passed the file mode of a socket, or nobody asked for security. `name` is what it calls itself. */
  | { readonly kind: 'local'; readonly name: string; readonly by: 'local socket' | 'plaintext' }
  | { readonly kind: 'stranger' };

/** What a method asks of its caller. */
export type Requirement = OperatorRole | 'node' | 'anyone';

/** Null: it may. Else why not, and what would help. */
export function refusal(principal: Principal, requirement: Requirement): string | null {
  if (requirement === 'anyone' || principal.kind === 'local') return null;
  switch (principal.kind) {
    case 'stranger':
      return 'no credential: a node needs a certificate (join first), an operator a token or certificate (weft operator create)';
    case 'node':
      return requirement === 'node' ? null : `node ${principal.name} is no operator: this needs the role ${requirement}`;
    case 'operator':
      if (requirement === 'node') return `operator ${principal.name} is no node: only a node with its certificate may do this`;
      return ROLES.indexOf(principal.role) >= ROLES.indexOf(requirement)
        ? null
        : `operator ${principal.name} has the role ${principal.role}: this needs ${requirement}`;
  }
}

/** Null: the caller may speak for the node. */
export function refusalAsNode(principal: Principal, node: string): string | null {
  if (principal.kind === 'local' || (principal.kind === 'node' && principal.name === node)) return null;
  return principal.kind === 'node'
    ? `this certificate is of node "${principal.name}", it may not speak for node "${node}": is its agent started with the wrong --node?`
    : `only node "${node}" itself may speak for it`;
}

/** As the history and the audit log name them. */
export function nameOf(principal: Principal): { readonly actor: string; readonly by: string } {
  switch (principal.kind) {
    case 'node':
      return { actor: `node ${principal.name}`, by: 'certificate' };
    case 'operator':
    case 'local':
      return { actor: principal.name, by: principal.by };
    case 'stranger':
      return { actor: '', by: '' };
  }
}

/** By the metadata object that the guard handed on: no header can put anybody here. */
const principals = new WeakMap<Metadata, Principal>();

export function setPrincipal(metadata: Metadata, principal: Principal): void {
  principals.set(metadata, principal);
}

/** Throws where no guard has looked at the call: a listener without one is a bug. */
export function principalOf({ metadata }: { readonly metadata: Metadata }): Principal {
  const principal = principals.get(metadata);
  if (principal === undefined) throw new Error('a call passed no guard');
  return principal;
}
