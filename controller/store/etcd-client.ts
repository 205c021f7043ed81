// The calls to etcd: etcd3's generated stubs, called raw. Owns deadlines, the choice of a member, login, and errors with a
// code. Uses none of etcd3's own watcher, lease, login, retry or circuit breaker: they lose events or hang (docs/controller.md says which).
import { type CallOptions, type Client, type ClientDuplexStream, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import type { IRangeRequest, IRangeResponse } from 'etcd3';
import { failureReason } from '../../api/grpc/failure.js';
import { messageOf } from '../../api/message-of.js';
import { EtcdConnection, type EtcdService } from './etcd-connection.js';

/** A call that failed. `code` is gRPC's; `mayBeApplied` is false only if the request certainly did nothing. */
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

/** PEM. */
export interface EtcdTls {
  /** null: the system's authorities. */
  readonly ca: Buffer | null;
  /** Ours, where etcd asks for one; null: none. */
  readonly client: { readonly cert: Buffer; readonly key: Buffer } | null;
}

export interface EtcdLogin {
  readonly user: string;
  readonly password: string;
}

/** Read anew for every new connection and login, so that what was rotated is used. Throws what names the file. */
export interface EtcdSecrets {
  tls(): EtcdTls;
  /** null: without. */
  login(): EtcdLogin | null;
}

export interface EtcdClientOptions {
  /** Of one cluster: "http://host:port", "https://host:port", "host:port" or "unix:/path". */
  readonly endpoints: readonly string[];
  readonly secrets?: EtcdSecrets;
  /** From 0 to 1: which member comes first, so that replicas spread over them. */
  readonly random?: () => number;
}

type UnaryStub = (
  request: unknown,
  metadata: Metadata,
  options: CallOptions,
  done: (error: ServiceError | null, response: unknown) => void,
) => void;
type StreamStub = (metadata: Metadata) => ClientDuplexStream<unknown, unknown>;

const DEFAULT_DEADLINE_MS = 2_000;
const NO_SECRETS: EtcdSecrets = { tls: () => ({ ca: null, client: null }), login: () => null };

/** One etcd server, and what is open to it. */
interface Member {
  readonly endpoint: string;
  connection: EtcdConnection;
  readonly streams: Set<ClientDuplexStream<unknown, unknown>>;
}

export class EtcdClient {
  /** As given, for messages. */
  readonly endpoints: string;
  readonly #secrets: EtcdSecrets;
  readonly #members: readonly Member[];
  /** Everything goes to one member until it fails: a call that picked at random would find a dead one again and again. */
  #current: number;
  /** Of the login; null: to be asked for. */
  #authorisation: Promise<Metadata> | null = null;

  /** Throws when a secret can't be read. */
  constructor({ endpoints, secrets = NO_SECRETS, random = Math.random }: EtcdClientOptions) {
    this.endpoints = endpoints.join(', ');
    this.#secrets = secrets;
    this.#members = endpoints.map((endpoint) => ({ endpoint, connection: connectTo(endpoint, secrets), streams: new Set() }));
    this.#current = Math.floor(random() * endpoints.length);
  }

  /** Leaves the connections to themselves and makes new ones: for when one is open and nobody answers. */
  reconnect(): void {
    const member = this.#member;
    this.#authorisation = null;
    this.#leave(member);
    try {
      const fresh = connectTo(member.endpoint, this.#secrets);
      member.connection.close();
      member.connection = fresh;
    } catch {
      // Secrets are being replaced: those of before still may do, and the next failure comes here again.
    }
  }

  /** Throws StoreError. Tries every member while the request certainly hasn't left, and once more with a new login if it was refused for its token. */
  async call<Response>(service: EtcdService, method: string, request: unknown, deadlineMs = DEFAULT_DEADLINE_MS): Promise<Response> {
    const deadline = Date.now() + deadlineMs;
    let isLoginNew = false;
    for (let attempt = 1; ; attempt++) {
      const member = this.#member;
      try {
        const metadata = await this.#authorise(member, deadline);
        return await callOf<Response>(member, service, method, request, metadata, deadline);
      } catch (error) {
        const failure = storeError(error);
        if (isTokenRefused(failure) && !isLoginNew) {
          isLoginNew = true;
          this.#authorisation = null;
          continue;
        }
        const isAway = failure.code === status.UNAVAILABLE || failure.code === status.DEADLINE_EXCEEDED;
        if (isAway && this.#members.length > 1) this.#leave(member);
        if (failure.mayBeApplied || failure.code !== status.UNAVAILABLE || attempt >= this.#members.length) throw failure;
      }
    }
  }

  range(request: IRangeRequest, deadlineMs?: number): Promise<IRangeResponse> {
    return this.call<IRangeResponse>('KV', 'range', request, deadlineMs);
  }

  /**
   * A raw stream, until drop(); it ends when its member is left. With `hasleader` etcd ends it when the member loses its quorum, instead of going silent.
   * Rejects with StoreError.
   */
  async stream<Request, Response>(service: EtcdService, method: string): Promise<ClientDuplexStream<Request, Response>> {
    const member = this.#member;
    const metadata = (await this.#authorise(member, Date.now() + DEFAULT_DEADLINE_MS)).clone();
    metadata.set('hasleader', 'true');
    const client = clientOf(member, service);
    const stub = Reflect.get(client, method) as StreamStub;
    const stream = stub.call(client, metadata);
    member.streams.add(stream);
    return stream as ClientDuplexStream<Request, Response>;
  }

  /** Of a stream that ended too: nothing of it is heard any more, nor kept. */
  drop<Request, Response>(stream: ClientDuplexStream<Request, Response>): void {
    for (const { streams } of this.#members) streams.delete(stream as ClientDuplexStream<unknown, unknown>);
    stream.removeAllListeners();
    stream.on('error', () => {});
    stream.cancel();
  }

  /** Idempotent. Open streams end. */
  close(): void {
    for (const { connection } of this.#members) connection.close();
  }

  get #member(): Member {
    const member = this.#members[this.#current];
    if (member === undefined) throw new Error('an etcd client needs an endpoint');
    return member;
  }

  /** Streams follow at once: nobody would notice one at a member that is silent. */
  #leave(member: Member): void {
    if (this.#member !== member) return;
    this.#current = (this.#current + 1) % this.#members.length;
    for (const stream of member.streams) stream.cancel();
  }

  /** What every request carries. Simple tokens are of the whole cluster, so another member takes it too. */
  #authorise(member: Member, deadline: number): Promise<Metadata> {
    if (this.#authorisation !== null) return this.#authorisation;
    const asking = this.#logIn(member, deadline);
    this.#authorisation = asking;
    asking.catch(() => {
      if (this.#authorisation === asking) this.#authorisation = null;
    });
    return asking;
  }

  async #logIn(member: Member, deadline: number): Promise<Metadata> {
    const login = this.#secrets.login();
    const metadata = new Metadata();
    if (login === null) return metadata;
    const { user: name, password } = login;
    try {
      const { token } = await callOf<{ token: string }>(member, 'Auth', 'authenticate', { name, password }, metadata, deadline);
      metadata.set('token', token);
    } catch (error) {
      const { code, details } = storeError(error);
      // Not switched on (yet): then nobody asks for a token, as with etcd's own client.
      if (details.includes('authentication is not enabled')) return metadata;
      // Whatever was to follow did not.
      const isAway = code === status.UNAVAILABLE || code === status.DEADLINE_EXCEEDED;
      throw new StoreError(isAway ? code : status.PERMISSION_DENIED, `login as ${name}: ${failureReason(details)}`, false);
    }
    return metadata;
  }
}

/** `deadline` is a Date.now(). */
function callOf<Response>(
  member: Member,
  service: EtcdService,
  method: string,
  request: unknown,
  metadata: Metadata,
  deadline: number,
): Promise<Response> {
  return new Promise<Response>((resolve, reject) => {
    const client = clientOf(member, service);
    const stub = Reflect.get(client, method) as UnaryStub;
    stub.call(client, request, metadata, { deadline }, (error, response) => {
      if (error === null) resolve(response as Response);
      else reject(storeError(error));
    });
  });
}

/** Throws StoreError when the client is closed. */
function clientOf({ connection }: Member, service: EtcdService): Client {
  try {
    return connection.client(service);
  } catch (error) {
    throw new StoreError(status.CANCELLED, messageOf(error), false);
  }
}

function connectTo(endpoint: string, secrets: EtcdSecrets): EtcdConnection {
  return new EtcdConnection(endpoint, endpoint.startsWith('https:') ? secrets.tls() : null);
}

/** Words of grpc-js where no connection was made, so that nothing was sent. */
const NEVER_SENT = /^(No connection established|Name resolution failed)/;
/** etcd answered, and did nothing. */
const REFUSALS: ReadonlySet<status> = new Set([
  status.UNAUTHENTICATED,
  status.PERMISSION_DENIED,
  status.INVALID_ARGUMENT,
  status.FAILED_PRECONDITION,
]);

export function storeError(error: unknown): StoreError {
  if (error instanceof StoreError) return error;
  if (error instanceof Error && 'code' in error && typeof error.code === 'number') {
    const details = 'details' in error && typeof error.details === 'string' ? error.details : error.message;
    return new StoreError(error.code, details, !NEVER_SENT.test(details) && !REFUSALS.has(error.code));
  }
  return new StoreError(status.UNKNOWN, messageOf(error), true);
}

/** etcd's tokens end with a restart, after five idle minutes, and with every change of users and roles; with none, it may want one since. */
export function isTokenRefused({ code, details }: StoreError): boolean {
  return code === status.UNAUTHENTICATED || /invalid auth token|revision of auth store is old|user name is empty/.test(details);
}

/** etcd answers, and takes no writes until somebody has made room and disarmed its alarm. */
export function isFull(details: string): boolean {
  return details.includes('database space exceeded');
}

/** What an operator reads when etcd can't be reached, or takes nothing. */
export function unavailableMessage(endpoints: string, details: string): string {
  if (isFull(details)) {
    return `etcd at ${endpoints} is full (${failureReason(details)}) and takes no writes: compact and defragment it (or raise --quota-backend-bytes), then etcdctl alarm disarm`;
  }
  if (/login as|invalid auth token|user name is empty|permission denied/.test(details)) {
    return `etcd at ${endpoints} refuses this controller (${failureReason(details)}): check --etcd-user, --etcd-password-file and what that user's role may read and write`;
  }
  return `etcd at ${endpoints} does not answer (${failureReason(details)}): check that it runs, has a quorum and can be reached from here (etcdctl endpoint health)`;
}
