// What the values in etcd mean: JSON both ways. A value that can't be read (another version's, or written by hand) is null, never a throw.
import { isIP } from 'node:net';
import type { ResolvedName } from '../../api/compile/index.js';
import { Change } from '../../api/gen/mesh/v1/admin.js';
import { InstanceState, Rejection, WorkloadState } from '../../api/gen/mesh/v1/discovery.js';

/** Under <prefix>/objects/. */
export interface ObjectRecord {
  readonly manifest: unknown;
  /** Milliseconds since the epoch; kept over updates. */
  readonly createdAtMs: number;
  readonly requestId: string;
  /** Of an object of Kubernetes, as its server counts the changes of its spec; else 0. */
  readonly generation: number;
}

/** Under <prefix>/nodes/. */
export interface NodeRecord {
  readonly zone: string;
  readonly region: string;
  /** Its agent can check endpoints. */
  readonly checks: boolean;
  readonly version: string;
  readonly statusAddress: string;
  /** Of the Register stream that owns the node now: the fence of its writes. */
  readonly session: string;
}

/** Under <prefix>/acks/. */
export interface AckRecord {
  readonly revision: number;
  /** Of resources the node refuses still; at most MAX_REJECTIONS of them. */
  readonly rejected: readonly Rejection[];
}

/** Under <prefix>/history/. */
export interface HistoryRecord {
  readonly atMs: number;
  readonly actor: string;
  readonly isVerified: boolean;
  readonly command: string;
  readonly changes: readonly Change[];
  /** What stood there before each change, packed; empty: it was too large. */
  readonly before: string;
}

/** Bounds the value of one node's ack. */
export const MAX_REJECTIONS = 100;

/** JSON with sorted keys: the order in which fields were written is no difference. */
export function canonicalJson(value: unknown): string {
  return (
    JSON.stringify(value, (_, item: unknown) =>
      typeof item === 'object' && item !== null && !Array.isArray(item) ? Object.fromEntries(Object.entries(item).sort(byName)) : item,
    ) ?? ''
  );
}

function byName([a]: [string, unknown], [b]: [string, unknown]): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

export function readObject(value: Buffer): ObjectRecord | null {
  const record = parse(value);
  if (record === null || !('manifest' in record) || typeof record.createdAtMs !== 'number') return null;
  const { manifest, createdAtMs, generation } = record;
  return { manifest, createdAtMs, requestId: textIn(record, 'requestId'), generation: typeof generation === 'number' ? generation : 0 };
}

/** Under <prefix>/sources/dns/. */
export function readResolved(value: Buffer): ResolvedName | null {
  const manifest = readObject(value)?.manifest;
  if (typeof manifest !== 'object' || manifest === null) return null;
  const { addresses, error } = manifest as { readonly addresses?: unknown; readonly error?: unknown };
  if (!Array.isArray(addresses)) return null;
  return { addresses: addresses.filter((address) => isIP(String(address)) !== 0), error: typeof error === 'string' ? error : '' };
}

export function readNode(value: Buffer): NodeRecord | null {
  const record = parse(value);
  if (record === null) return null;
  return {
    zone: textIn(record, 'zone'),
    region: textIn(record, 'region'),
    checks: record.checks === true,
    version: textIn(record, 'version'),
    statusAddress: textIn(record, 'statusAddress'),
    session: textIn(record, 'session'),
  };
}

export function readAck(value: Buffer): AckRecord | null {
  const record = parse(value);
  if (record === null || typeof record.revision !== 'number') return null;
  const rejected = Array.isArray(record.rejected) ? record.rejected : [];
  return { revision: record.revision, rejected: rejected.map((item) => Rejection.fromPartial(item)) };
}

export function readHistory(value: Buffer): HistoryRecord | null {
  const record = parse(value);
  if (record === null || typeof record.atMs !== 'number' || !Array.isArray(record.changes)) return null;
  const changes = record.changes.map((item) => Change.fromPartial(item));
  return {
    atMs: record.atMs,
    actor: textIn(record, 'actor'),
    isVerified: record.isVerified === true,
    command: textIn(record, 'command'),
    changes,
    before: textIn(record, 'before'),
  };
}

export function readRunning(value: Buffer): WorkloadState | null {
  const record = parse(value);
  if (record === null) return null;
  const addresses = Array.isArray(record.addresses) ? record.addresses.filter((address) => typeof address === 'string') : [];
  const health = typeof record.health === 'number' ? record.health : 0;
  return WorkloadState.fromPartial({ name: textIn(record, 'name'), addresses, health });
}

/** Under <prefix>/instances/. */
export function readInstance(value: Buffer): InstanceState | null {
  const record = parse(value);
  if (record === null || !Array.isArray(record.ports)) return null;
  try {
    return InstanceState.fromPartial(record);
  } catch {
    return null;
  }
}

/** Under <prefix>/failing/: why. */
export function readFailing(value: Buffer): string | null {
  const record = parse(value);
  return record === null ? null : textIn(record, 'detail');
}

/** Under <prefix>/load/: of its CPUs, percent that nobody uses. */
export function readLoad(value: Buffer): number | null {
  const idle = parse(value)?.idlePercent;
  return typeof idle === 'number' && idle >= 0 && idle <= 100 ? Math.round(idle) : null;
}

function parse(value: Buffer): Record<string, unknown> | null {
  try {
    const parsed: unknown = JSON.parse(value.toString());
    return typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed) ? (parsed as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

function textIn(record: Record<string, unknown>, field: string): string {
  const value = record[field];
  return typeof value === 'string' ? value : '';
}
