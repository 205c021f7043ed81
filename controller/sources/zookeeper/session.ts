// One session with a ZooKeeper ensemble, read-only, with promises: every read is answered or fails in time, also when the connection is gone
// without a word (the library queues reads for ever). A session that expired is over: its owner makes another.
import zookeeper, { type Client, type ZooKeeperError } from 'node-zookeeper-client';

export interface ZooKeeperAccess {
  /** "host:port,host:port" */
  readonly servers: string;
  /** Absolute, without a trailing slash: the znode whose children are the services. */
  readonly path: string;
  /** "user:password" of digest authentication; null: none. */
  readonly digest: () => string | null;
}

/** Null: there is no such znode. */
export type Read<Value> = { readonly kind: 'ok'; readonly value: Value | null } | { readonly kind: 'failure'; readonly message: string };

export interface SessionObserver {
  /** Connected, for the first time or again: watches that fired meanwhile are told. */
  connected(): void;
  lost(reason: string): void;
  /** The session is over. */
  over(reason: string): void;
}

const SESSION_MS = 15_000;
const RETRY_MS = 1_000;
const READ_MS = 10_000;

export class ZooKeeperSession {
  readonly #client: Client;
  #isClosed = false;

  constructor({ servers, digest }: ZooKeeperAccess, observe: SessionObserver) {
    this.#client = zookeeper.createClient(servers, { sessionTimeout: SESSION_MS, spinDelay: RETRY_MS, retries: 0 });
    const unlessClosed = (tell: () => void) => () => {
      if (!this.#isClosed) tell();
    };
    this.#client.on('connected', unlessClosed(observe.connected.bind(observe)));
    this.#client.on(
      'disconnected',
      unlessClosed(() => observe.lost('the connection is lost')),
    );
    this.#client.on(
      'expired',
      unlessClosed(() => observe.over('the session has expired')),
    );
    this.#client.on(
      'authenticationFailed',
      unlessClosed(() => observe.over('the authentication is refused')),
    );
    const auth = digest();
    if (auth !== null) this.#client.addAuthInfo('digest', Buffer.from(auth));
    this.#client.connect();
  }

  /** `changed` is called once, when the children or the znode itself change; also a znode that is not there is watched. */
  async children(path: string, changed: () => void): Promise<Read<readonly string[]>> {
    const read = await this.#read<string[]>((done) => this.#client.getChildren(path, changed, done));
    if (read.kind === 'failure' || read.value !== null) return read;
    const found = await this.#read<object | null>((done) => this.#client.exists(path, changed, done));
    return found.kind === 'failure' ? found : { kind: 'ok', value: null };
  }

  data(path: string, changed: () => void): Promise<Read<Buffer>> {
    return this.#read<Buffer | undefined>((done) => this.#client.getData(path, changed, done)).then((read) =>
      read.kind === 'ok' && read.value === undefined ? { kind: 'ok', value: Buffer.alloc(0) } : (read as Read<Buffer>),
    );
  }

  /** Idempotent. Reads under way fail. */
  close(): void {
    this.#isClosed = true;
    this.#client.close();
  }

  #read<Value>(send: (done: (error: ZooKeeperError | null, value: Value) => void) => void): Promise<Read<Value>> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve({ kind: 'failure', message: `no answer within ${READ_MS} ms` }), READ_MS);
      const answer = (read: Read<Value>): void => {
        clearTimeout(timer);
        resolve(read);
      };
      send((error, value) => {
        if (error === null || error === undefined) answer({ kind: 'ok', value });
        else if (error.getCode?.() === zookeeper.Exception.NO_NODE) answer({ kind: 'ok', value: null });
        else answer({ kind: 'failure', message: error.message });
      });
    });
  }
}
