// A few keys written for a unary call: what becomes of it as what its caller hears.
import { status } from '@grpc/grpc-js';
import type { Clock } from '../clock.js';
import type { EtcdClient } from '../store/etcd-client.js';
import { commit, type Write } from '../store/transaction.js';
import type { StoreView } from '../store/view.js';
import { Refusal } from './unary.js';

/** How long a change may take to come back through the watch before the answer is given without it. */
export const READ_BACK_MS = 1_000;

export interface WriteParts {
  readonly client: EtcdClient;
  readonly view: StoreView;
  readonly clock: Clock;
}

/** And waits until this replica knows it. Returns the revision; throws Refusal. */
export async function write(
  { client, view, clock }: WriteParts,
  writes: readonly Write[],
  expect: ReadonlyMap<string, number> = new Map(),
): Promise<number> {
  const result = await commit(client, { expect, writes });
  if (result.kind === 'committed') {
    await view.reached(result.revision, clock, READ_BACK_MS);
    return result.revision;
  }
  if (result.kind === 'unavailable') throw new Refusal(status.UNAVAILABLE, result.message);
  throw new Refusal(status.ABORTED, 'somebody changed the same at this moment: look at it and try again');
}
