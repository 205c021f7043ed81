// One long-lived bidirectional gRPC stream to any one of several equal servers: opens it, says when it is up, and when it breaks goes to
// the next address after a jittered backoff, for ever, until stopped. A link goes back to its first address when that has returned, or the server restarted
// last would have no nodes. What travels on the stream is the session's business. Links of one process to one server share one connection.
import {
  type ChannelCredentials,
  type Client,
  type ClientDuplexStream,
  type ClientOptions,
  connectivityState,
  credentials,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { failureReason } from '../../api/grpc/failure.js';
import { messageOf } from '../../api/message-of.js';
import { Backoff } from './backoff.js';
import { type Clock, systemClock } from './clock.js';

export type LinkState = 'connecting' | 'connected' | 'lost';

const backoffMinMs = 100;
const backoffMaxMs = 5_000;
/** A server that accepts no connection in this time counts as lost; TCP alone would take minutes. */
const connectTimeoutMs = 5_000;
/** A stream on a ready connection that is found neither answered nor refused at this interval counts as connected: an up-to-date resume has no answer. */
const settleMs = 500;
/** A connection that held this long earns a fresh backoff; one that a second agent of the same name takes away at once does not. */
const stableMs = 10_000;

/** How often a link that isn't at its first address looks whether that is back: so long at most, half of it at least. */
const returnMs = 120_000;

/** What every channel of ours wants: half-open connections noticed within 15 s, no surprises from the environment or DNS. */
export const channelOptions: ClientOptions = {
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.enable_http_proxy': 0,
  'grpc.enable_retries': 0,
  'grpc.service_config_disable_resolution': 1,
  'grpc.use_local_subchannel_pool': 1,
  'grpc.max_receive_message_length': 64 * 1024 * 1024,
  'grpc.max_send_message_length': 64 * 1024 * 1024,
};

/** One connection for all links that prove the same to the same server: a TLS handshake costs it more than all streams on it. */
const sharedConnection: ClientOptions = {
  'grpc.use_local_subchannel_pool': 0,
  // One that could not be made is not tried again at once, whoever asks; links wait longer and longer themselves.
  'grpc.initial_reconnect_backoff_ms': backoffMinMs,
  'grpc.min_reconnect_backoff_ms': backoffMinMs,
  'grpc.max_reconnect_backoff_ms': 1_000,
};

const RETURNS = 'the first address answers again';

/** How a server is spoken to, and what proves who we are. */
export interface LinkSecurity {
  /** Throws while there is nothing that proves it, with why. The same credentials for the same proof: by them connections are shared. */
  channel(address: string): { readonly credentials: ChannelCredentials; readonly options: ClientOptions };
  /** A server did not take what proves it. */
  refused(): void;
}

const plaintext: LinkSecurity = {
  channel: () => ({ credentials: credentials.createInsecure(), options: {} }),
  refused: () => {},
};

/** The session's hold on its link. */
export interface LinkSession<Request, Response> {
  readonly call: ClientDuplexStream<Request, Response>;
  readonly address: string;
  /** Aborts when the stream ended or the link is stopping. */
  readonly signal: AbortSignal;
}

export interface LinkOptions<C extends Client, Request, Response> {
  /** For logs: what this link is to, e.g. "controller discovery". */
  readonly name: string;
  /** Tried in this order: draw it once for a node (`shuffled`). */
  readonly addresses: readonly string[];
  /** For logs: what an operator should check when no address answers. */
  readonly hint: string;
  /** False: all addresses are equal to it, and it stays where it is. Default: true. */
  readonly returns?: boolean;
  connect(address: string, channelCredentials: ChannelCredentials, options: ClientOptions): C;
  open(client: C): ClientDuplexStream<Request, Response>;
  /** Runs one stream; returns when it ended. A throw ends the stream and is reported as the reason. Must return soon after `signal`. */
  session(session: LinkSession<Request, Response>): Promise<void>;
  onState?(state: LinkState, detail: string): void;
  /** None: plaintext. */
  readonly security?: LinkSecurity | undefined;
  readonly log: Logger;
  readonly clock?: Clock | undefined;
}

export class Link<C extends Client, Request, Response> {
  readonly #options: LinkOptions<C, Request, Response>;
  readonly #clock: Clock;
  readonly #backoff: Backoff;
  readonly #addresses: readonly string[];
  readonly #security: LinkSecurity;
  readonly #stopping = new AbortController();
  #running: Promise<void> | null = null;
  #state: LinkState = 'connecting';
  #address: string;
  #error = '';
  #connectedAtMs = 0;
  /** The current outage has been logged: further failures of it go to debug. */
  #outageLogged = false;

  constructor(options: LinkOptions<C, Request, Response>) {
    if (options.addresses.length === 0) throw new Error(`${options.name}: no address given`);
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#backoff = new Backoff(backoffMinMs, backoffMaxMs, this.#clock);
    this.#addresses = options.addresses;
    this.#address = this.#addresses[0] as string;
    this.#security = options.security ?? plaintext;
  }

  get state(): LinkState {
    return this.#state;
  }

  /** The address in use, or tried last. */
  get address(): string {
    return this.#address;
  }

  /** Why the last stream ended; empty while connected. */
  get error(): string {
    return this.#state === 'connected' ? '' : this.#error;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Ends the stream and waits until its session has returned. Idempotent. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    for (let attempt = 0; !this.#stopping.signal.aborted; attempt++) {
      this.#address = this.#addresses[attempt % this.#addresses.length] as string;
      this.#set('connecting', this.#address);
      const reason = await this.#attempt(this.#address);
      if (this.#stopping.signal.aborted) return;
      if (reason === RETURNS) {
        attempt = -1;
        continue;
      }
      if (this.#state === 'connected' && this.#clock.now() - this.#connectedAtMs >= stableMs) this.#backoff.reset();
      this.#error = reason;
      this.#report(reason);
      this.#set('lost', reason);
      await this.#clock.delay(this.#backoff.nextMs(), this.#stopping.signal);
    }
  }

  /** One stream from opening to end; returns why it ended. */
  async #attempt(address: string): Promise<string> {
    const { open, session } = this.#options;
    let client: C;
    try {
      client = this.#connect(address);
    } catch (error) {
      return messageOf(error);
    }
    const ended = new AbortController();
    const { signal } = ended;
    const stop = (): void => ended.abort();
    this.#stopping.signal.addEventListener('abort', stop);
    const call = open(client);
    let failure: string | null = null;
    const fail = (reason: string): void => {
      failure ??= reason;
      ended.abort();
    };
    call.on('error', (error: Error | ServiceError) => {
      if ('code' in error && error.code === status.UNAUTHENTICATED) this.#security.refused();
      fail(describeError(error));
    });
    call.on('status', () => fail('the stream was ended by the other side'));
    signal.addEventListener('abort', () => call.cancel(), { once: true });
    const established = (): void => {
      if (!signal.aborted) this.#connected(address);
    };
    call.once('metadata', established);
    void this.#watchConnect(client, signal, established, fail);
    if (this.#options.returns !== false) void this.#watchFirst(signal, fail);
    try {
      await session({ call, address, signal });
    } catch (error) {
      failure ??= messageOf(error);
    } finally {
      ended.abort();
      this.#stopping.signal.removeEventListener('abort', stop);
      client.close();
    }
    return failure ?? 'the stream was ended by the other side';
  }

  async #watchConnect(client: Client, signal: AbortSignal, established: () => void, fail: (reason: string) => void): Promise<void> {
    for (let waitedMs = 0; waitedMs < connectTimeoutMs; waitedMs += settleMs) {
      await this.#clock.delay(settleMs, signal);
      if (signal.aborted) return;
      if (client.getChannel().getConnectivityState(false) === connectivityState.READY) {
        established();
        return;
      }
    }
    fail(`no connection within ${connectTimeoutMs} ms`);
  }

  /** Ends a stream to another address when the first one accepts connections again. */
  async #watchFirst(signal: AbortSignal, fail: (reason: string) => void): Promise<void> {
    const first = this.#addresses[0] as string;
    if (this.#address === first) return;
    while (!signal.aborted) {
      await this.#clock.delay(returnMs * (0.5 + this.#clock.random() / 2), signal);
      if (!signal.aborted && (await this.#accepts(first))) fail(RETURNS);
    }
  }

  #accepts(address: string): Promise<boolean> {
    let client: C;
    try {
      client = this.#connect(address);
    } catch {
      return Promise.resolve(false);
    }
    return new Promise((resolve) => {
      client.waitForReady(Date.now() + connectTimeoutMs, (error) => {
        client.close();
        resolve(error === undefined);
      });
    });
  }

  #connect(address: string): C {
    const { credentials: channelCredentials, options } = this.#security.channel(address);
    return this.#options.connect(address, channelCredentials, { ...channelOptions, ...sharedConnection, ...options });
  }

  #connected(address: string): void {
    if (this.#state === 'connected') return;
    this.#error = '';
    this.#connectedAtMs = this.#clock.now();
    this.#outageLogged = false;
    this.#options.log.info({ address }, `${this.#options.name}: connected to ${address}`);
    this.#set('connected', address);
  }

  #report(reason: string): void {
    const { log, name, hint } = this.#options;
    const text = `${name}: ${this.#state === 'connected' ? 'lost' : 'cannot reach'} ${this.#address}: ${reason}; ${hint}`;
    if (this.#outageLogged) log.debug({ address: this.#address }, text);
    else log.warn({ address: this.#address }, text);
    this.#outageLogged = true;
  }

  #set(state: LinkState, detail: string): void {
    this.#state = state;
    this.#options.onState?.(state, detail);
  }
}

/** gRPC's error without its repetitions; a stream that was destroyed on our side gives a plain Error. */
export function describeError(error: Error | ServiceError): string {
  if (!('details' in error)) return error.message;
  return `${status[error.code] ?? error.code}: ${failureReason(error.details === '' ? error.message : error.details)}`;
}

/** Fisher–Yates, so that the nodes of a cluster spread over its controllers; all links of a node in one order, so that they share a connection. */
export function shuffled<T>(items: readonly T[], clock: Clock): T[] {
  const result = [...items];
  for (let i = result.length - 1; i > 0; i--) {
    const j = Math.floor(clock.random() * (i + 1));
    const swap = result[i] as T;
    result[i] = result[j] as T;
    result[j] = swap;
  }
  return result;
}
