// Tells a controller what runs on this node: its whole state at every change, and as a heartbeat that keeps the node's lease. Does not
// know how the state comes about.
import type { Logger } from 'pino';
import { type RegisterRequest, type RegisterResponse, RegistryClient as RegistryStub } from '../../api/gen/mesh/v1/discovery.js';
import { type Clock, systemClock } from '../link/clock.js';
import { Link, type LinkSecurity, type LinkSession } from '../link/link.js';

/** Until the controller has told its TTL. */
const firstTtlMs = 15_000;
const minIntervalMs = 100;
/** Changes within this time travel in one message. */
const gatherMs = 20;

export interface RegistryClientOptions {
  readonly addresses: readonly string[];
  /** The node's state now; called at every change and heartbeat. */
  state(): RegisterRequest;
  /** None: plaintext. */
  readonly security?: LinkSecurity | undefined;
  readonly log: Logger;
  readonly clock?: Clock | undefined;
}

export class RegistryClient {
  readonly #options: RegistryClientOptions;
  readonly #clock: Clock;
  readonly #link: Link<RegistryStub, RegisterRequest, RegisterResponse>;
  #ttlMs = firstTtlMs;
  /** Aborted by changed(): ends the wait for the next heartbeat. */
  #change = new AbortController();

  constructor(options: RegistryClientOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#link = new Link({
      name: 'controller registry',
      addresses: options.addresses,
      hint: "check that a controller runs there; this node's workloads leave the mesh's endpoints when its lease ends",
      connect: (address, credentials, channel) => new RegistryStub(address, credentials, channel),
      open: (client) => client.register(),
      session: (session) => this.#session(session),
      security: options.security,
      log: options.log,
      clock: options.clock,
    });
  }

  get isConnected(): boolean {
    return this.#link.state === 'connected';
  }

  start(): void {
    this.#link.start();
  }

  /** The lease is left to run out: a restarted agent takes it up again. */
  stop(): Promise<void> {
    return this.#link.stop();
  }

  /** The state is to be sent again. */
  changed(): void {
    this.#change.abort();
  }

  async #session({ call, signal }: LinkSession<RegisterRequest, RegisterResponse>): Promise<void> {
    call.on('data', ({ ttlMs }: RegisterResponse) => {
      if (ttlMs === 0 || ttlMs === this.#ttlMs) return;
      this.#ttlMs = ttlMs;
      this.changed();
    });
    signal.addEventListener('abort', () => this.changed(), { once: true });
    while (!signal.aborted) {
      this.#change = new AbortController();
      // A peer that takes nothing is not given more: the next heartbeat carries the whole state anyway.
      if (!call.writableNeedDrain) call.write(this.#options.state());
      await this.#clock.delay(Math.max(this.#ttlMs / 3, minIntervalMs), this.#change.signal);
      if (this.#change.signal.aborted) await this.#clock.delay(gatherMs, signal);
    }
  }
}
