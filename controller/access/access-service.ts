// Access: what administrators do about nodes, operators and the authority. Owns the texts they read and the writes of operators and revocations.
import { randomBytes, randomUUID, type X509Certificate } from 'node:crypto';
import { status } from '@grpc/grpc-js';
import { nodeNameFault, pinOf, tokenText } from '../../api/access/names.js';
import {
  type AccessServer,
  type AdmitNodeRequest,
  type AdmitNodeResponse,
  type AuditEntry,
  type CreateJoinTokenRequest,
  type CreateJoinTokenResponse,
  type CreateOperatorRequest,
  type CreateOperatorResponse,
  type DeleteOperatorRequest,
  type DeleteOperatorResponse,
  type JoinToken,
  type ListAuditRequest,
  type ListAuditResponse,
  type ListAuthoritiesRequest,
  type ListAuthoritiesResponse,
  type ListJoinTokensRequest,
  type ListJoinTokensResponse,
  type ListOperatorsRequest,
  type ListOperatorsResponse,
  type ListRevokedNodesRequest,
  type ListRevokedNodesResponse,
  type NodeExplainRequest,
  type NodeStatusRequest,
  type Operator,
  type RevokeJoinTokenRequest,
  type RevokeJoinTokenResponse,
  type RevokeNodeRequest,
  type RevokeNodeResponse,
  Role,
  type RotateAuthorityRequest,
  type WhoAmIRequest,
  type WhoAmIResponse,
} from '../../api/gen/mesh/v1/access.js';
import type { ExplainResponse } from '../../api/gen/mesh/v1/explain.js';
import type { StatusResponse } from '../../api/gen/mesh/v1/status.js';
import { type Authority, type AuthorityView, parsePublicKey } from '../ca/authority.js';
import type { Clock } from '../clock.js';
import type { JoinTokenRecord, OperatorRecord, OperatorRole, RevocationRecord } from '../store/access-records.js';
import type { EtcdClient } from '../store/etcd-client.js';
import type { Keyspace } from '../store/keys.js';
import type { StoreView } from '../store/view.js';
import { auditEntries } from './audit-log.js';
import { hashOf } from './authenticator.js';
import type { ControllerIdentity } from './controller-identity.js';
import type { JoinTokens } from './join-tokens.js';
import { askNode, forStatus, toExplain } from './node-status-client.js';
import { nameOf, principalOf } from './principal.js';
import { revocationOf } from './revocations.js';
import { Refusal, unary } from './unary.js';
import { READ_BACK_MS, write } from './write.js';

export interface AccessParts {
  readonly client: EtcdClient;
  readonly view: StoreView;
  readonly keys: Keyspace;
  readonly clock: Clock;
  readonly wallClock: () => number;
  /** Null: this controller has none, all its listeners are plaintext. */
  readonly authority: Authority | null;
  /** With the authority, or null like it. */
  readonly identity: ControllerIdentity | null;
  readonly tokens: JoinTokens;
}

const HOUR_S = 3_600;
const MAX_JOIN_TTL_S = 7 * 24 * HOUR_S;
const YEAR_S = 365 * 24 * HOUR_S;
const OPERATOR_NAME = /^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$/;
/** The first call often comes while the controller starts. */
const READY_MS = 2_000;

const ROLE_OF: Readonly<Record<number, OperatorRole>> = { [Role.VIEWER]: 'viewer', [Role.OPERATOR]: 'operator', [Role.ADMIN]: 'admin' };
const ROLE_TO: Readonly<Record<OperatorRole, Role>> = { viewer: Role.VIEWER, operator: Role.OPERATOR, admin: Role.ADMIN };
const STATE: Readonly<Record<AuthorityView['state'], string>> = {
  signs: 'signs',
  'signs-later': 'trusted, signs later',
  'signed-before': 'trusted, signed before',
};

export function createAccessService(parts: AccessParts): AccessServer {
  const { view } = parts;
  return {
    whoAmI: unary<WhoAmIRequest, WhoAmIResponse>(async (call) => {
      const principal = principalOf(call);
      const { actor, by } = nameOf(principal);
      return { name: actor, role: principal.kind === 'operator' ? ROLE_TO[principal.role] : Role.ADMIN, by };
    }),
    createJoinToken: unary<CreateJoinTokenRequest, CreateJoinTokenResponse>((call) =>
      createJoinToken(parts, call.request, nameOf(principalOf(call)).actor),
    ),
    listJoinTokens: unary<ListJoinTokensRequest, ListJoinTokensResponse>(async () => ({
      tokens: [...view.joinTokens].map(([id, record]) => shownToken(id, record)),
    })),
    revokeJoinToken: unary<RevokeJoinTokenRequest, RevokeJoinTokenResponse>(async ({ request: { id } }) => {
      const revoked = await parts.tokens.revoke(id);
      if (typeof revoked === 'string') throw new Refusal(status.UNAVAILABLE, revoked);
      if (!revoked) throw new Refusal(status.NOT_FOUND, `there is no join token "${id}": weft token list has those that live`);
      return {};
    }),
    createOperator: unary<CreateOperatorRequest, CreateOperatorResponse>((call) =>
      createOperator(parts, call.request, nameOf(principalOf(call)).actor),
    ),
    listOperators: unary<ListOperatorsRequest, ListOperatorsResponse>(async () => ({
      operators: [...view.operators].map(([name, record]) => shownOperator(name, record)),
    })),
    deleteOperator: unary<DeleteOperatorRequest, DeleteOperatorResponse>(async ({ request: { name } }) => {
      if (!view.operators.has(name)) throw new Refusal(status.NOT_FOUND, `there is no operator "${name}": weft operator list has them`);
      await write(parts, [{ key: parts.keys.operator(name), value: null, lease: null }]);
      return {};
    }),
    revokeNode: unary<RevokeNodeRequest, RevokeNodeResponse>(async ({ request }) => {
      await revokeNode(parts, request);
      return {};
    }),
    admitNode: unary<AdmitNodeRequest, AdmitNodeResponse>(async ({ request: { node } }) => {
      await admitNode(parts, node);
      return {};
    }),
    listRevokedNodes: unary<ListRevokedNodesRequest, ListRevokedNodesResponse>(async () => ({
      nodes: [...view.revocations].map(([node, { atMs, isBarred }]) => ({ node, atMs, admitted: !isBarred })),
    })),
    listAuthorities: unary<ListAuthoritiesRequest, ListAuthoritiesResponse>(async () => shownAuthorities(authorityOf(parts))),
    rotateAuthority: unary<RotateAuthorityRequest, ListAuthoritiesResponse>(async ({ request }) => {
      const authority = authorityOf(parts);
      const rotated = await authority.rotate(request.immediately);
      if (typeof rotated === 'string') throw new Refusal(status.FAILED_PRECONDITION, rotated);
      await view.reached(rotated, parts.clock, READ_BACK_MS);
      return shownAuthorities(authority);
    }),
    nodeStatus: unary<NodeStatusRequest, StatusResponse>(({ request: { node } }) => askRegistered(parts, node, forStatus)),
    nodeExplain: unary<NodeExplainRequest, ExplainResponse>(({ request: { node, request } }) => {
      if (request === undefined) throw new Refusal(status.INVALID_ARGUMENT, 'say which request is to be explained');
      return askRegistered(parts, node, toExplain(request));
    }),
    listAudit: unary<ListAuditRequest, ListAuditResponse>(async ({ request }) => ({
      entries: auditEntries(view, request.limit).map((record): AuditEntry => ({ ...record })),
    })),
  };
}

function askRegistered<Response>(parts: AccessParts, node: string, ask: Parameters<typeof askNode<Response>>[3]): Promise<Response> {
  authorityOf(parts);
  const found = parts.view.nodes.get(node);
  if (found === undefined) throw new Refusal(status.NOT_FOUND, `no node "${node}" has registered`);
  return askNode(parts.identity as ControllerIdentity, node, found.statusAddress, ask);
}

async function createJoinToken(
  parts: AccessParts,
  { node, ttlSeconds }: CreateJoinTokenRequest,
  createdBy: string,
): Promise<CreateJoinTokenResponse> {
  const signer = await signerOf(parts);
  checkNodeName(node);
  if (ttlSeconds < 1 || ttlSeconds > MAX_JOIN_TTL_S)
    throw new Refusal(status.INVALID_ARGUMENT, `a join token lives 1 to ${MAX_JOIN_TTL_S} seconds`);
  const created = await parts.tokens.create(node, ttlSeconds * 1_000, createdBy, signer.publicKey);
  if (typeof created === 'string') throw new Refusal(status.UNAVAILABLE, created);
  return { info: shownToken(created.id, created.record), token: created.text };
}

async function revokeNode(parts: AccessParts, { node, away }: RevokeNodeRequest): Promise<void> {
  const { client, keys, tokens, wallClock } = parts;
  authorityOf(parts);
  checkNodeName(node);
  const key = keys.revoked(node);
  const { lineage, revision } = await revocationOf(client, keys, node);
  // A token gives a certificate again to the key that it was used with.
  const useless = await tokens.keysFor(node);
  const isKnown = away || revision > 0 || useless.length > 0 || (await client.range({ key: Buffer.from(keys.node(node)) })).kvs.length > 0;
  if (!isKnown) {
    const message = `no node "${node}" is registered, and there is no join token for it (weft status has the nodes): if it is switched off, say so with --away`;
    throw new Refusal(status.NOT_FOUND, message);
  }
  const record: RevocationRecord = { atMs: wallClock(), lineage: lineage + 1, isBarred: true };
  const value = JSON.stringify({ ...record, requestId: randomUUID() });
  const writes = [{ key, value, lease: null }, ...useless.map((token) => ({ key: token, value: null, lease: null }))];
  await write(parts, writes, new Map([[key, revision]]));
}

/** Certificates from before stay worth nothing. */
async function admitNode(parts: AccessParts, node: string): Promise<void> {
  const { client, keys } = parts;
  authorityOf(parts);
  checkNodeName(node);
  const { revision, isBarred, ...revocation } = await revocationOf(client, keys, node);
  if (revision === 0) throw new Refusal(status.NOT_FOUND, `node "${node}" was never revoked (weft node revoked has those that were)`);
  if (!isBarred) return;
  const value = JSON.stringify({ ...revocation, isBarred: false, requestId: randomUUID() });
  await write(parts, [{ key: keys.revoked(node), value, lease: null }], new Map([[keys.revoked(node), revision]]));
}

async function createOperator(
  parts: AccessParts,
  { name, role, ttlSeconds, publicKey }: CreateOperatorRequest,
  createdBy: string,
): Promise<CreateOperatorResponse> {
  const authority = authorityOf(parts);
  const signer = await signerOf(parts);
  const known = ROLE_OF[role];
  if (known === undefined) throw new Refusal(status.INVALID_ARGUMENT, 'expected the role viewer, operator or admin');
  if (!OPERATOR_NAME.test(name))
    throw new Refusal(
      status.INVALID_ARGUMENT,
      `${JSON.stringify(name)} is no operator’s name: expected lower-case letters, digits, "-" and "."`,
    );
  if (parts.view.operators.has(name))
    throw new Refusal(status.ALREADY_EXISTS, `operator "${name}" is there already: delete it first (weft operator delete)`);
  const isByCertificate = publicKey.length > 0;
  const lifeS = isByCertificate ? Math.min(ttlSeconds === 0 ? YEAR_S : ttlSeconds, YEAR_S) : ttlSeconds;
  const expiresAtMs = lifeS === 0 ? 0 : parts.wallClock() + lifeS * 1_000;
  const secret = randomBytes(32).toString('hex');
  const key = isByCertificate ? parsePublicKey(publicKey) : null;
  if (isByCertificate && key === null) throw new Refusal(status.INVALID_ARGUMENT, 'expected the public key of a P-256 key');
  const hash = key === null ? hashOf(secret) : pinOf(key);
  const record: OperatorRecord = { role: known, by: key === null ? 'token' : 'certificate', hash, expiresAtMs, createdBy };
  const place = parts.keys.operator(name);
  await write(parts, [{ key: place, value: JSON.stringify({ ...record, requestId: randomUUID() }), lease: null }], new Map([[place, 0]]));
  return {
    info: shownOperator(name, record),
    token: key === null ? tokenText({ kind: 'operator', id: name, secret, pin: pinOf(signer.publicKey) }) : '',
    certificate: key === null ? '' : authority.issueOperator(name, key, lifeS * 1_000),
    authorities: authority.bundle,
  };
}

function checkNodeName(node: string): void {
  const misnamed = nodeNameFault(node);
  if (misnamed !== null) throw new Refusal(status.INVALID_ARGUMENT, misnamed);
}

function authorityOf({ authority }: AccessParts): Authority {
  if (authority !== null) return authority;
  throw new Refusal(
    status.FAILED_PRECONDITION,
    'this controller has no authority, so nodes have no certificates: start it with --authority-key-file (docs/security.md)',
  );
}

async function signerOf(parts: AccessParts): Promise<X509Certificate> {
  const authority = authorityOf(parts);
  await authority.whenReady(READY_MS);
  if (authority.signer !== null) return authority.signer;
  throw new Refusal(status.UNAVAILABLE, `nothing can be signed: ${authority.fault}`);
}

function shownToken(id: string, { node, expiresAtMs, createdBy, usedFor }: JoinTokenRecord): JoinToken {
  return { id, node, expiresAtMs, createdBy, used: usedFor !== '' };
}

function shownOperator(name: string, { role, by, expiresAtMs, createdBy }: OperatorRecord): Operator {
  return { name, role: ROLE_TO[role], by, expiresAtMs, createdBy };
}

function shownAuthorities(authority: Authority): ListAuthoritiesResponse {
  const changesAtMs = authority.nextChangeMs ?? 0;
  return {
    authorities: authority.list().map(({ certificate, state }) => ({
      ...{ pin: pinOf(certificate.publicKey), state: STATE[state], expiresAtMs: Date.parse(certificate.validTo) },
      changesAtMs: Math.floor(changesAtMs),
    })),
  };
}
