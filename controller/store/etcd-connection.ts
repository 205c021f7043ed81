// The connections to one etcd server: etcd3's generated stubs over channels whose sockets are known here, so that what is left is closed for certain.
// grpc-js ends its side of a connection and waits for the other: one that is silent (stopped, cut off) would keep each socket, with its HTTP/2 session, for
// as long as it is, and every attempt to reach it adds some.
import { isIP, type Socket } from 'node:net';
import { ChannelCredentials, type ChannelOptions, type Client, credentials } from '@grpc/grpc-js';
import { Host } from 'etcd3/lib/connection-pool.js';
import { heldTo } from '../../api/access/server-identity.js';
import type { EtcdTls } from './etcd-client.js';

export type EtcdService = 'KV' | 'Watch' | 'Lease' | 'Auth';

/** Above any watch response: 1,000 revisions of 1.5 MiB don't come in one thanks to fragments, but one fragment may pass gRPC's 4 MiB. */
const MAX_MESSAGE_BYTES = 128 * 1024 * 1024;
/**
 * Of a connection and of each stream. With 64 KiB, HTTP/2's own, a thousand nodes' acks on the watch held up the answers to transactions and keepalives on the
 * same connection for seconds while this thread was busy: etcd may send that much before it hears from us again.
 */
const WINDOW_BYTES = 8 * 1024 * 1024;
/** For calls under way: none waits longer. */
const LEFT_MS = 3_000;

const CHANNEL_OPTIONS = {
  // etcd by default (--grpc-keepalive-min-time 5s) closes connections that ping more often: with pings every 2 s
  // it closed a watch that was idle for less than 9 s. The reflector's probe finds a silent etcd sooner.
  'grpc.keepalive_time_ms': 6_000,
  'grpc.keepalive_timeout_ms': 2_000,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.min_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 1_000,
  'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
  'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
  'grpc-node.flow_control_window': WINDOW_BYTES,
  'grpc.enable_http_proxy': 0,
  'grpc.enable_retries': 0,
  // Its books are kept for each call, and nobody can ask for them here.
  'grpc.enable_channelz': 0,
  // A replica's connections are its own: two clients in one process must not share a half-open one.
  'grpc.use_local_subchannel_pool': 1,
};

export class EtcdConnection {
  readonly #host: Host;
  readonly #sockets = new Set<Socket>();
  #isLeft = false;

  /** `tls` null: plaintext. */
  constructor(endpoint: string, tls: EtcdTls | null) {
    const opened = (socket: Socket): void => {
      if (this.#isLeft) socket.destroy();
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    };
    const { channel, options } = tls === null ? PLAINTEXT : secured(endpoint, tls);
    this.#host = new Host(endpoint, new WatchedCredentials(channel, opened), { ...CHANNEL_OPTIONS, ...options });
  }

  /** Throws after close(). */
  client(service: EtcdService): Client {
    return this.#host.getServiceClient(service);
  }

  /** Nothing new begins on it; what is under way has 3 s more. Idempotent. */
  close(): void {
    if (this.#isLeft) return;
    this.#isLeft = true;
    this.#host.close();
    setTimeout(() => {
      for (const socket of this.#sockets) socket.destroy();
    }, LEFT_MS).unref();
  }
}

interface Secured {
  readonly channel: ChannelCredentials;
  readonly options: ChannelOptions;
}

const PLAINTEXT: Secured = { channel: credentials.createInsecure(), options: {} };

/** grpc-js would have TLS tell the server its address, where that is all the endpoint has (server-identity.ts): some name is told then. */
function secured(endpoint: string, { ca, client }: EtcdTls): Secured {
  const host = new URL(endpoint).hostname.replace(/^\[|\]$/g, '');
  const pair = [ca, client?.key ?? null, client?.cert ?? null] as const;
  if (isIP(host) === 0) return { channel: credentials.createSsl(...pair), options: {} };
  return {
    channel: credentials.createSsl(...pair, heldTo(host)),
    options: { 'grpc.ssl_target_name_override': 'etcd.weft.internal' },
  };
}

type Connector = ReturnType<ChannelCredentials['_createSecureConnector']>;

/** Those it is given, but that each socket is shown before it is used. */
class WatchedCredentials extends ChannelCredentials {
  constructor(
    private readonly inner: ChannelCredentials,
    private readonly opened: (socket: Socket) => void,
  ) {
    super();
  }

  override _isSecure(): boolean {
    return this.inner._isSecure();
  }

  override _equals(other: ChannelCredentials): boolean {
    return this === other;
  }

  override _createSecureConnector(...parameters: Parameters<ChannelCredentials['_createSecureConnector']>): Connector {
    const connector = this.inner._createSecureConnector(...parameters);
    return {
      connect: (socket) => {
        this.opened(socket);
        return connector.connect(socket);
      },
      waitForReady: () => connector.waitForReady(),
      getCallCredentials: () => connector.getCallCredentials(),
      destroy: () => connector.destroy(),
    };
  }
}
