// NodeIdentity: how a node gets its certificate, at first contact and again. Owns what counts as proof; the authority signs.
// Every certificate has a lineage: how often the node had been revoked before it proved itself by other than a certificate. A renewal passes it on, whatever
// the replica knows; so a certificate made of a revoked one is as worthless as that, also where its maker had not heard of the revocation.
import { type KeyObject, verify, X509Certificate } from 'node:crypto';
import { type Metadata, status } from '@grpc/grpc-js';
import { nodeNameFault, RENEWAL_CONTEXT } from '../../api/access/names.js';
import type { JoinRequest, NodeCertificate, NodeIdentityServer, RenewRequest } from '../../api/gen/mesh/v1/access.js';
import { type Authority, parsePublicKey } from '../ca/authority.js';
import type { RevocationRecord } from '../store/access-records.js';
import { type Authenticator, bearerOf } from './authenticator.js';
import type { JoinTokens } from './join-tokens.js';
import type { PodIdentity } from './pod-identity.js';
import { setPrincipal } from './principal.js';
import { Refusal, unary } from './unary.js';

export interface NodeIdentityParts {
  readonly authority: Authority;
  readonly authenticator: Authenticator;
  readonly tokens: JoinTokens;
  /** As etcd has it, not the view. Throws StoreError. */
  readonly revocationOf: (node: string) => Promise<Pick<RevocationRecord, 'lineage' | 'isBarred'>>;
  /** Null: no Kubernetes. */
  readonly pods: PodIdentity | null;
  /** For so long after its end a certificate still renews itself. */
  readonly rejoinWindowMs: number;
  readonly wallClock: () => number;
  readonly joined: (node: string, by: Proved['by']) => void;
}

/** Who it was proved to be. */
interface Proved {
  readonly node: string;
  /** That it wants a certificate for. */
  readonly key: KeyObject;
  readonly lineage: number;
  readonly by: 'token' | 'kubernetes' | 'renewal';
}

const MAX_CERTIFICATE_BYTES = 4_096;
const MAX_SIGNATURE_BYTES = 128;

export function createNodeIdentityService(parts: NodeIdentityParts): NodeIdentityServer {
  return {
    join: unary<JoinRequest, NodeCertificate>(async ({ request, metadata }) =>
      certificateFor(parts, metadata, await proveByCredential(parts, request, bearerOf(metadata))),
    ),
    renew: unary<RenewRequest, NodeCertificate>(async ({ request, metadata }) =>
      certificateFor(parts, metadata, proveByCertificate(parts, request)),
    ),
  };
}

async function proveByCredential(parts: NodeIdentityParts, { node, publicKey }: JoinRequest, credential: string | null): Promise<Proved> {
  ready(parts);
  const misnamed = nodeNameFault(node);
  if (misnamed !== null) throw new Refusal(status.INVALID_ARGUMENT, misnamed);
  const key = keyIn(publicKey);
  if (credential === null)
    throw new Refusal(status.UNAUTHENTICATED, 'no join token: give the agent one by --join-token-file (weft token create)');
  // Before the proof: whoever is revoked after it is so with what follows from it.
  const { lineage, isBarred } = await parts.revocationOf(node);
  if (parts.pods?.isLikely(credential) === true) {
    const found = await parts.pods.nodeOf(credential);
    if (found.kind === 'unavailable') throw new Refusal(status.UNAVAILABLE, found.message);
    if (found.kind === 'refused') throw new Refusal(status.UNAUTHENTICATED, found.message);
    if (found.node !== node)
      throw new Refusal(status.PERMISSION_DENIED, `the service account token is of a pod on node "${found.node}", not on "${node}"`);
    // Every pod there has such a token: what an administrator took from the node nobody gives back by starting one.
    if (isBarred) throw new Refusal(status.PERMISSION_DENIED, `node ${node} was revoked: weft node admit ${node} lets its pods join again`);
    return { node, key, lineage, by: 'kubernetes' };
  }
  const use = await parts.tokens.use(credential, node, key);
  if (use.kind === 'unavailable') throw new Refusal(status.UNAVAILABLE, use.message);
  if (use.kind === 'refused') throw new Refusal(status.UNAUTHENTICATED, use.message);
  return { node, key, lineage, by: 'token' };
}

function proveByCertificate(parts: NodeIdentityParts, { certificate: bytes, publicKey, signature }: RenewRequest): Proved {
  ready(parts);
  const key = keyIn(publicKey);
  const certificate = certificateIn(bytes);
  const node = certificate === null ? null : parts.authenticator.nodeOf(certificate);
  if (certificate === null || node === null) {
    throw new Refusal(
      status.UNAUTHENTICATED,
      'the certificate is of no node of this mesh, or its authority is no longer trusted: join with a token',
    );
  }
  const message = Buffer.concat([Buffer.from(RENEWAL_CONTEXT), publicKey]);
  const isProved = signature.length <= MAX_SIGNATURE_BYTES && verify('sha256', message, certificate.publicKey, signature);
  if (!isProved) throw new Refusal(status.UNAUTHENTICATED, 'the renewal is not signed by the key of the certificate');
  const overMs = parts.wallClock() - node.expiresAtMs;
  if (overMs > parts.rejoinWindowMs) {
    const days = (ms: number): string => (ms / 86_400_000).toFixed(1);
    throw new Refusal(
      status.UNAUTHENTICATED,
      `the certificate of node ${node.name} ended ${days(overMs)} days ago, ${days(parts.rejoinWindowMs)} are allowed: join with a token (weft token create --node ${node.name})`,
    );
  }
  // Whether it has ended was asked above.
  const fault = parts.authenticator.nodeFault({ ...node, expiresAtMs: Number.POSITIVE_INFINITY });
  if (fault !== null) throw new Refusal(status.UNAUTHENTICATED, fault);
  return { node: node.name, key, lineage: node.lineage, by: 'renewal' };
}

function certificateFor(
  { authority, wallClock, joined }: NodeIdentityParts,
  metadata: Metadata,
  { node, key, lineage, by }: Proved,
): NodeCertificate {
  // The guard let in a stranger: from here on the call is the node's, for the audit log.
  setPrincipal(metadata, { kind: 'node', name: node, lineage, expiresAtMs: wallClock(), issuer: '' });
  joined(node, by);
  return { certificate: authority.issueNode(node, lineage, key), authorities: authority.bundle };
}

function ready({ authority }: NodeIdentityParts): void {
  if (authority.fault !== null) throw new Refusal(status.UNAVAILABLE, `no certificate can be signed: ${authority.fault}`);
}

function keyIn(bytes: Uint8Array): KeyObject {
  const key = parsePublicKey(bytes);
  if (key === null) throw new Refusal(status.INVALID_ARGUMENT, 'expected the public key of a P-256 key');
  return key;
}

function certificateIn(bytes: Uint8Array): X509Certificate | null {
  if (bytes.length > MAX_CERTIFICATE_BYTES) return null;
  try {
    return new X509Certificate(bytes);
  } catch {
    return null;
  }
}
