// The one connection to etcd: etcd3's pool and generated stubs, called raw. Owns deadlines, the choice of another endpoint, and errors with
// a code. Uses none of etcd3's own watcher, lease, retry or circuit breaker: they lose events or hang (docs/controller.md says which).

import { type CallOptions, type ClientDuplexStream, type Metadata, type ServiceError, status } from '@grpc/grpc-js';
import type { IOptions, IRangeRequest, IRangeResponse } from 'etcd3';
import { ConnectionPool } from 'etcd3/lib/connection-pool.js';
import { failureReason } from '../../api/grpc/failure.js';

/** A call that failed. `code` is gRPC's; `mayBeApplied` is false only if the request certainly never left. */
export class StoreError extends Error {
  constructor(
    readonly code: status,
    readonly details: string,
    readonly mayBeApplied: boolean,
  ) {
    super(details);
    this.name = 'StoreError';
  }
}

export interface EtcdClientOptions {
  /** "http://host:port", "https://host:port", "host:port" or "unix:/path". */
  readonly endpoints: readonly string[];
}

type Service = 'KV' | 'Watch' | 'Lease';
type UnaryStub = (
  request: unknown,
  metadata: Metadata,
  options: CallOptions,
  done: (error: ServiceError | null, response: unknown) => void,
) => void;
type StreamStub = (metadata: Metadata) => ClientDuplexStream<unknown, unknown>;
type Policy = NonNullable<NonNullable<IOptions['faultHandling']>['global']>;

const DEFAULT_DEADLINE_MS = 2_000;
/** Above any watch response: 1,000 revisions of 1.5 MiB don't come in one thanks to fragments, but one fragment may pass gRPC's 4 MiB. */
const MAX_MESSAGE_BYTES = 128 * 1024 * 1024;

/** etcd3's policies retry writes and open circuits; this one only calls. */
const callOnce: Policy = {
  _altReturn: undefined as never,
  onSuccess: () => ({ dispose: () => {} }),
  onFailure: () => ({ dispose: () => {} }),
  execute: async (call) => call({ signal: new AbortController().signal }),
};

export class EtcdClient {
  /** As given, for messages. */
  readonly endpoints: string;
  readonly #hosts: readonly string[];
  #pool: ConnectionPool;

  constructor(options: EtcdClientOptions) {
    this.endpoints = options.endpoints.join(', ');
    this.#hosts = options.endpoints;
    this.#pool = connectTo(this.#hosts);
  }

  /** Leaves the connections to themselves and makes new ones: for when one is open and nobody answers. */
  reconnect(): void {
    this.#pool.close();
    this.#pool = connectTo(this.#hosts);
  }

  /** Throws StoreError. Tries every endpoint while the request certainly hasn't left. */
  async call<Response>(service: Service, method: string, request: unknown, deadlineMs = DEFAULT_DEADLINE_MS): Promise<Response> {
    const deadline = Date.now() + deadlineMs;
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#callOnce<Response>(service, method, request, deadline);
      } catch (error) {
        if (!(error instanceof StoreError) || error.mayBeApplied || attempt >= this.#hosts.length) throw error;
      }
    }
  }

  range(request: IRangeRequest, deadlineMs?: number): Promise<IRangeResponse> {
    return this.call<IRangeResponse>('KV', 'range', request, deadlineMs);
  }

  /** A raw stream. With `hasleader` etcd ends it when the member loses its quorum, instead of going silent. */
  stream<Request, Response>(service: Service, method: string): Promise<ClientDuplexStream<Request, Response>> {
    return this.#pool.withConnection(service, ({ client, metadata }) => {
      const withLeader = metadata.clone();
      withLeader.set('hasleader', 'true');
      const stub = Reflect.get(client, method) as StreamStub;
      return stub.call(client, withLeader) as ClientDuplexStream<Request, Response>;
    });
  }

  /** Idempotent. Open streams end. */
  close(): void {
    this.#pool.close();
  }

  #callOnce<Response>(service: Service, method: string, request: unknown, deadline: number): Promise<Response> {
    return this.#pool.withConnection(
      service,
      ({ client, metadata }) =>
        new Promise<Response>((resolve, reject) => {
          const stub = Reflect.get(client, method) as UnaryStub;
          stub.call(client, request, metadata, { deadline }, (error, response) => {
            if (error === null) resolve(response as Response);
            else reject(storeError(error));
          });
        }),
    );
  }
}

function connectTo(hosts: readonly string[]): ConnectionPool {
  return new ConnectionPool({
    hosts: [...hosts],
    faultHandling: { global: callOnce, host: () => callOnce },
    grpcOptions: {
      // etcd by default (--grpc-keepalive-min-time 5s) closes connections that ping more often: with pings every 2 s
      // it closed a watch that was idle for less than 9 s. The reflector's probe finds a silent etcd sooner; these find a connection that reconnect() left behind.
      'grpc.keepalive_time_ms': 6_000,
      'grpc.keepalive_timeout_ms': 2_000,
      'grpc.initial_reconnect_backoff_ms': 100,
      'grpc.min_reconnect_backoff_ms': 100,
      'grpc.max_reconnect_backoff_ms': 1_000,
      'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
      'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
      'grpc.enable_http_proxy': 0,
      'grpc.enable_retries': 0,
      // A replica's connections are its own: two clients in one process must not share a half-open one.
      'grpc.use_local_subchannel_pool': 1,
    },
  });
}

/** Words of grpc-js where no connection was made, so that nothing was sent. */
const NEVER_SENT = /^(No connection established|Name resolution failed)/;

export function storeError(error: unknown): StoreError {
  if (error instanceof StoreError) return error;
  if (error instanceof Error && 'code' in error && typeof error.code === 'number') {
    const details = 'details' in error && typeof error.details === 'string' ? error.details : error.message;
    return new StoreError(error.code, details, !NEVER_SENT.test(details));
  }
  return new StoreError(status.UNKNOWN, error instanceof Error ? error.message : String(error), true);
}

/** What an operator reads when etcd can't be reached. */
export function unavailableMessage(endpoints: string, details: string): string {
  return `etcd at ${endpoints} does not answer (${failureReason(details)}): check that it runs, has a quorum and can be reached from here (etcdctl endpoint health)`;
}
