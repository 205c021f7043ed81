// Leases of nodes and of leaders: granted, and kept alive over one stream for all of them. Owns that stream. When to keep alive is the caller's: a
// node's lease lives by the node's messages, not by a timer of the controller.
import { type ClientDuplexStream, status } from '@grpc/grpc-js';
import type { ILeaseGrantResponse, ILeaseKeepAliveRequest, ILeaseKeepAliveResponse } from 'etcd3';
import type { Clock } from '../clock.js';
import { type EtcdClient, StoreError, storeError } from './etcd-client.js';

const REPLY_DEADLINE_MS = 2_000;

/** What stands on it goes when it ends. Returns its id, etcd's choice where none is asked for. Throws StoreError. */
export async function grantLease(client: EtcdClient, ttlMs: number, id = '0'): Promise<string> {
  const { ID } = await client.call<ILeaseGrantResponse>('Lease', 'leaseGrant', { ID: id, TTL: Math.max(1, Math.ceil(ttlMs / 1_000)) });
  return ID;
}

type KeepAliveStream = ClientDuplexStream<ILeaseKeepAliveRequest, ILeaseKeepAliveResponse>;
interface Waiter {
  resolve(isAlive: boolean): void;
  reject(error: StoreError): void;
}

export class Leases {
  readonly #client: EtcdClient;
  readonly #clock: Clock;
  readonly #waiters = new Map<string, Waiter[]>();
  #stream: Promise<KeepAliveStream> | null = null;
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
  async keepAlive(id: string): Promise<boolean> {
    const stream = await this.#open();
    return new Promise<boolean>((resolve, reject) => {
      let isOver = false;
      const late = (): void => {
        if (!isOver)
          this.#fail(stream, new StoreError(status.DEADLINE_EXCEEDED, `no answer to a keepalive within ${REPLY_DEADLINE_MS} ms`, true));
      };
      // A busy thread hears of its timers before it hears of what has come: an answer that is there counts.
      const cancelTimer = this.#clock.after(REPLY_DEADLINE_MS, () => setImmediate(late));
      const end = (): void => {
        isOver = true;
        cancelTimer();
      };
      const waiter: Waiter = {
        resolve: (isAlive) => {
          end();
          resolve(isAlive);
        },
        reject: (error) => {
          end();
          reject(error);
        },
      };
      const waiting = this.#waiters.get(id);
      if (waiting === undefined) this.#waiters.set(id, [waiter]);
      else waiting.push(waiter);
      // One request for all who wait for the same lease.
      if (waiting === undefined) stream.write({ ID: id });
    });
  }

  /** Ends the lease and deletes all keys on it. Throws StoreError. */
  async revoke(id: string): Promise<void> {
    await this.#client.call('Lease', 'leaseRevoke', { ID: id });
  }

  /** Idempotent. Leases live on until their time is over. */
  async close(): Promise<void> {
    this.#isClosed = true;
    const stream = await this.#stream?.catch(() => null);
    if (stream != null) this.#fail(stream, new StoreError(status.CANCELLED, 'the controller stops', false));
  }

  #open(): Promise<KeepAliveStream> {
    if (this.#isClosed) return Promise.reject(new StoreError(status.CANCELLED, 'the controller stops', false));
    this.#stream ??= this.#client.stream<ILeaseKeepAliveRequest, ILeaseKeepAliveResponse>('Lease', 'leaseKeepAlive').then((stream) => {
      stream.on('data', (response: ILeaseKeepAliveResponse) => {
        const waiters = this.#waiters.get(response.ID) ?? [];
        this.#waiters.delete(response.ID);
        for (const waiter of waiters) waiter.resolve(Number(response.TTL) > 0);
      });
      stream.on('error', (error) => this.#fail(stream, storeError(error)));
      stream.on('end', () => this.#fail(stream, new StoreError(status.UNAVAILABLE, 'etcd ended the keepalive stream', true)));
      return stream;
    });
    // One that can't be opened must not be what every later call gets.
    this.#stream.catch(() => {
      this.#stream = null;
    });
    return this.#stream;
  }

  /** Everyone who waits hears of it; the next call opens a new stream. */
  #fail(stream: KeepAliveStream, error: StoreError): void {
    this.#client.drop(stream);
    this.#stream = null;
    const waiters = [...this.#waiters.values()].flat();
    this.#waiters.clear();
    for (const waiter of waiters) waiter.reject(error);
  }
}
