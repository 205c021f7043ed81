// Leases of nodes and of leaders: granted, and kept alive over streams that all of them share. Owns those streams. When to keep alive is the caller's: a
// node's lease lives by the node's messages, not by a timer of the controller.
import { type ClientDuplexStream, status } from '@grpc/grpc-js';
import type { ILeaseGrantResponse, ILeaseKeepAliveRequest, ILeaseKeepAliveResponse } from 'etcd3';
import type { Clock } from '../clock.js';
import { type EtcdClient, StoreError, storeError } from './etcd-client.js';

const REPLY_DEADLINE_MS = 2_000;
/**
 * One request is under way on each. grpc-js sends one message of a stream in a turn of this thread, so that over a single one a busy controller kept fewer leases
 * alive than it had nodes; and etcd answers for a lease that has just ended when it has deleted what stood on it, and for none behind it on the stream before.
 */
const MAX_STREAMS = 64;

const LATE = new StoreError(status.DEADLINE_EXCEEDED, `no answer to a keepalive within ${REPLY_DEADLINE_MS} ms`, true);
const ENDED = new StoreError(status.UNAVAILABLE, 'etcd ended the keepalive stream', true);
const STOPPED = new StoreError(status.CANCELLED, 'the controller stops', false);

/** What stands on it goes when it ends. Returns its id, etcd's choice where none is asked for. Throws StoreError. */
export async function grantLease(client: EtcdClient, ttlMs: number, id = '0'): Promise<string> {
  const { ID } = await client.call<ILeaseGrantResponse>('Lease', 'leaseGrant', { ID: id, TTL: Math.max(1, Math.ceil(ttlMs / 1_000)) });
  return ID;
}

type KeepAliveStream = ClientDuplexStream<ILeaseKeepAliveRequest, ILeaseKeepAliveResponse>;

/** A request, from the call until its outcome. */
interface Asked {
  readonly id: string;
  /** Once. */
  end(outcome: boolean | StoreError): void;
}

export class Leases {
  readonly #client: EtcdClient;
  readonly #clock: Clock;
  /** Without a stream yet. */
  readonly #waiting = new Set<Asked>();
  /** Null: nothing is under way on it. */
  readonly #streams = new Map<KeepAliveStream, Asked | null>();
  #opening = 0;
  #isClosed = false;

  constructor(client: EtcdClient, clock: Clock) {
    this.#client = client;
    this.#clock = clock;
  }

  /** Continues the lease where it lives (perhaps by another replica's doing), else grants it. Throws StoreError. */
  async acquire(id: string, ttlMs: number): Promise<'continued' | 'granted'> {
    if (await this.keepAlive(id)) return 'continued';
    try {
      await grantLease(this.#client, ttlMs, id);
      return 'granted';
    } catch (error) {
      // Another replica was faster.
      if (storeError(error).details.includes('lease already exists') && (await this.keepAlive(id))) return 'continued';
      throw error;
    }
  }

  /** False: the lease is gone, and with it all keys on it. Throws StoreError when etcd doesn't answer within 2 s. */
  keepAlive(id: string): Promise<boolean> {
    if (this.#isClosed) return Promise.reject(STOPPED);
    return new Promise<boolean>((resolve, reject) => {
      let isOver = false;
      // A busy thread hears of its timers before it hears of what has come: an answer that is there counts.
      const cancelTimer = this.#clock.after(REPLY_DEADLINE_MS, () => setImmediate(() => this.#late(asked)));
      const asked: Asked = {
        id,
        end: (outcome) => {
          if (isOver) return;
          isOver = true;
          cancelTimer();
          if (outcome instanceof StoreError) reject(outcome);
          else resolve(outcome);
        },
      };
      this.#waiting.add(asked);
      this.#next();
    });
  }

  /** Ends the lease and deletes all keys on it. Throws StoreError. */
  async revoke(id: string): Promise<void> {
    await this.#client.call('Lease', 'leaseRevoke', { ID: id });
  }

  /** Idempotent. Leases live on until their time is over. */
  close(): void {
    this.#isClosed = true;
    for (const asked of this.#waiting) asked.end(STOPPED);
    this.#waiting.clear();
    for (const stream of [...this.#streams.keys()]) this.#drop(stream, STOPPED);
  }

  /** Sends what waits, as far as there are streams. */
  #next(): void {
    for (const [stream, busy] of this.#streams) {
      const [asked] = this.#waiting;
      if (asked === undefined) return;
      if (busy !== null) continue;
      this.#waiting.delete(asked);
      this.#streams.set(stream, asked);
      stream.write({ ID: asked.id });
    }
    while (this.#opening < Math.min(this.#waiting.size, MAX_STREAMS - this.#streams.size)) void this.#open();
  }

  async #open(): Promise<void> {
    this.#opening++;
    try {
      const stream = await this.#client.stream<ILeaseKeepAliveRequest, ILeaseKeepAliveResponse>('Lease', 'leaseKeepAlive');
      this.#streams.set(stream, null);
      stream.on('data', (response: ILeaseKeepAliveResponse) => {
        const asked = this.#streams.get(stream);
        this.#streams.set(stream, null);
        asked?.end(Number(response.TTL) > 0);
        this.#next();
      });
      stream.on('error', (error) => this.#drop(stream, storeError(error)));
      stream.on('end', () => this.#drop(stream, ENDED));
      if (this.#isClosed) this.#drop(stream, STOPPED);
    } catch (error) {
      const [asked] = this.#waiting;
      if (asked !== undefined) this.#waiting.delete(asked);
      asked?.end(storeError(error));
    } finally {
      this.#opening--;
      this.#next();
    }
  }

  #late(asked: Asked): void {
    this.#waiting.delete(asked);
    asked.end(LATE);
    for (const [stream, underWay] of this.#streams) if (underWay === asked) this.#drop(stream, LATE);
  }

  #drop(stream: KeepAliveStream, error: StoreError): void {
    const asked = this.#streams.get(stream);
    this.#streams.delete(stream);
    this.#client.drop(stream);
    asked?.end(error);
    this.#next();
  }
}
