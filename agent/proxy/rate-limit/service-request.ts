// What a rate limit service is asked about a request: its descriptors. On a worker's thread, while the request stands in a batch.
import type { RateLimitRequest } from '../../../api/gen/envoy/service/ratelimit/v3/rls.js';
import { Descriptor, type Engine } from '../../native/engine.js';
import { addressText } from '../address-text.js';
import type { RequestText } from '../request-text.js';
import type { DecisionTables } from '../tables/decision-tables.js';
import type { AskedLimitSpec, CallSpec, KeyPart } from './spec.js';

type Batch = Pick<Engine, 'descriptors' | 'predicates' | 'arena'>;

/** Of one value; whoever differs later is counted with the others. */
const MAX_VALUE_BYTES = 1_024;

export interface ServiceQuestion {
  readonly call: CallSpec;
  /** Of the descriptors, in their order. */
  readonly limits: readonly AskedLimitSpec[];
  readonly request: RateLimitRequest;
}

/** A limit of which the request lacks a value is not asked about (as Envoy does); null: none is left. `noAddress`: in place of an address that is not known. */
export function questionOf(
  batch: Batch,
  tables: DecisionTables,
  d: number,
  call: CallSpec,
  text: RequestText,
  noAddress: string | null,
): ServiceQuestion | null {
  const limits: AskedLimitSpec[] = [];
  const descriptors: RateLimitRequest['descriptors'] = [];
  for (const limit of call.limits) {
    const entries = limit.entries.map(({ key, part }) => ({
      key,
      value: valueOfPart(batch, tables, d, part, text) ?? (part.of === 'address' ? noAddress : null),
    }));
    if (entries.some(({ value }) => value === null)) continue;
    limits.push(limit);
    descriptors.push({ entries: entries.map(({ key, value }) => ({ key, value: value ?? '' })) });
  }
  if (limits.length === 0) return null;
  return { call, limits, request: { domain: call.domain, descriptors, hitsAddend: call.hits } };
}

function valueOfPart(batch: Batch, tables: DecisionTables, d: number, part: KeyPart, text: RequestText): string | null {
  if (part.of === 'constant') return part.value;
  if (part.of === 'text' || part.of === 'address') {
    if (!text.find(batch, tables, d, part.subject)) return null;
    const bytes = text.bytes.subarray(text.at, text.at + Math.min(text.length, MAX_VALUE_BYTES));
    return part.of === 'address' ? addressText(bytes) : Buffer.from(bytes).toString();
  }
  const client = tables.limits.clients[batch.descriptors[d + Descriptor.SourceId]!];
  return client === undefined ? null : client[part.of === 'sourceNamespace' ? 0 : 1];
}
