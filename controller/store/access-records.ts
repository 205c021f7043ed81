// What the values in etcd that say who may what mean: JSON both ways. A value that can't be read is null, never a throw.
import { z } from 'zod';

/** Under <prefix>/authority. */
export interface AuthorityRecord {
  /** The oldest first. */
  readonly authorities: readonly {
    /** PEM. */
    readonly certificate: string;
    /** Its key, sealed (controller/ca/sealed.ts). */
    readonly key: string;
    readonly createdAtMs: number;
  }[];
}

/** Under <prefix>/join-tokens/<id>, on a lease: etcd forgets it when it ends. */
export interface JoinTokenRecord {
  readonly node: string;
  /** SHA-256 of the secret, hexadecimal. */
  readonly hash: string;
  readonly expiresAtMs: number;
  readonly createdBy: string;
  /** SHA-256 of the public key that it was used for, hexadecimal; empty: not used. */
  readonly usedFor: string;
}

export const ROLES = ['viewer', 'operator', 'admin'] as const;
export type OperatorRole = (typeof ROLES)[number];

/** Under <prefix>/operators/<name>. */
export interface OperatorRecord {
  readonly role: OperatorRole;
  readonly by: 'token' | 'certificate';
  /** SHA-256 of the token’s secret in hexadecimal, or the pin of the certificate’s public key. */
  readonly hash: string;
  /** 0: never. */
  readonly expiresAtMs: number;
  readonly createdBy: string;
}

/** Under <prefix>/revoked/<node>. */
export interface RevocationRecord {
  readonly atMs: number;
  /** How often the node has been revoked: certificates of an earlier lineage are worth nothing. */
  readonly lineage: number;
  /** It does not join by its pod's token, which nobody gave it on purpose. */
  readonly isBarred: boolean;
}

/** Under <prefix>/audit/<time>-<id>. */
export interface AuditRecord {
  readonly atMs: number;
  readonly actor: string;
  readonly by: string;
  readonly peer: string;
  readonly method: string;
  readonly detail: string;
  readonly result: string;
  readonly message: string;
}

const authority = z.object({
  authorities: z.array(z.object({ certificate: z.string(), key: z.string(), createdAtMs: z.number() })).min(1),
});
const joinToken = z.object({
  node: z.string(),
  hash: z.string(),
  expiresAtMs: z.number(),
  createdBy: z.string(),
  usedFor: z.string(),
});
const operator = z.object({
  role: z.enum(ROLES),
  by: z.enum(['token', 'certificate']),
  hash: z.string(),
  expiresAtMs: z.number(),
  createdBy: z.string(),
});
const revocation = z.object({ atMs: z.number(), lineage: z.number().default(1), isBarred: z.boolean().default(false) });
const audit = z.object({
  atMs: z.number(),
  actor: z.string(),
  by: z.string(),
  peer: z.string(),
  method: z.string(),
  detail: z.string(),
  result: z.string(),
  message: z.string(),
});

export const readAuthority = (value: Buffer): AuthorityRecord | null => read(value, authority);
export const readJoinToken = (value: Buffer): JoinTokenRecord | null => read(value, joinToken);
export const readOperator = (value: Buffer): OperatorRecord | null => read(value, operator);
export const readRevocation = (value: Buffer): RevocationRecord | null => read(value, revocation);
export const readAudit = (value: Buffer): AuditRecord | null => read(value, audit);

function read<Record>(value: Buffer, schema: z.ZodType<Record>): Record | null {
  try {
    return schema.parse(JSON.parse(value.toString()));
  } catch {
    return null;
  }
}
