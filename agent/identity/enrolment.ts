// How the node comes to its certificate and keeps it: joins by a token, renews before it ends, and after the node was down for long. Owns the identity on
// disk and the calls to NodeIdentity; who needs a channel to a controller asks here for one.
import { createPublicKey, generateKeyPairSync, type KeyObject, sign, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { CLOCK_SKEW_MS, isOfNode, parseToken, RENEWAL_CONTEXT } from '../../api/access/names.js';
import type { ServerProof } from '../../api/access/rotating-credentials.js';
import { pinnedAuthority, type SecureChannel, secureChannel } from '../../api/access/secure-channel.js';
import { type NodeCertificate, NodeIdentityClient } from '../../api/gen/mesh/v1/access.js';
import { retryDelayIn } from '../../api/grpc/retry-info.js';
import { messageOf } from '../../api/message-of.js';
import { Backoff } from '../link/backoff.js';
import { type Clock, systemClock } from '../link/clock.js';
import { channelOptions, describeError, type LinkSecurity } from '../link/link.js';
import { type NodeIdentity, readIdentity, writeIdentity } from './identity-file.js';

export interface EnrolmentOptions {
  readonly node: string;
  /** Of controllers. */
  readonly addresses: readonly string[];
  /** Where the identity is kept. */
  readonly file: string;
  /** PEM of whom to trust at first contact; null: the token's pin says it, or the identity on disk. */
  readonly authoritiesFile: string | null;
  /** Of a join token, or of a Kubernetes service account's; read anew each time. Null: the node has joined before. */
  readonly tokenFile: string | null;
  readonly log: Logger;
  readonly clock?: Clock;
  /** Milliseconds since the epoch. */
  readonly wallClock?: () => number;
}

const CALL_TIMEOUT_MS = 10_000;
const BACKOFF_MIN_MS = 100;
const BACKOFF_MAX_MS = 5_000;
/** Of a certificate's life, after which it is renewed; a little later or sooner, or nodes that joined together would stay together. */
const RENEW_AFTER = 2 / 3;
const SPREAD = 0.05;
/** The machine's clock may be set meanwhile. */
const LONGEST_WAIT_MS = 60_000;

class NotNow extends Error {
  constructor(
    message: string,
    readonly code: status,
    readonly retryAfterMs: number,
  ) {
    super(message);
  }
}

export class Enrolment implements LinkSecurity {
  readonly #options: EnrolmentOptions;
  readonly #clock: Clock;
  readonly #wallClock: () => number;
  readonly #backoff: Backoff;
  readonly #stopping = new AbortController();
  readonly #spread: number;
  readonly #watchers = new Set<() => void>();
  #identity: NodeIdentity | null;
  /** Made last, and of what. */
  #channel: { readonly certificate: X509Certificate; readonly trusted: string; readonly channel: SecureChannel } | null = null;
  #fault = 'the node is joining';
  /** A controller did not take the certificate although its time is not over. */
  #isDoubted = false;
  #wake = new AbortController();
  #running: Promise<void> | null = null;
  #hasTried: () => void = () => {};
  readonly #tried = new Promise<void>((resolve) => {
    this.#hasTried = resolve;
  });
  #isLogged = false;

  /** Throws where the identity on disk can't be read, or is of another node. */
  constructor(options: EnrolmentOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#wallClock = options.wallClock ?? Date.now;
    this.#backoff = new Backoff(BACKOFF_MIN_MS, BACKOFF_MAX_MS, this.#clock);
    this.#spread = SPREAD * (2 * this.#clock.random() - 1);
    this.#identity = readIdentity(options.file);
    const known = this.#identity?.certificate?.subjectAltName;
    if (known !== undefined && !isOfNode(known, options.node)) {
      throw new Error(
        `${options.file} is the identity of ${known}, this agent is of node ${options.node}: give it its --node, or remove the file and give it a join token`,
      );
    }
    if (this.#holds()) this.#fault = '';
  }

  /** Why the node has no certificate that holds; empty: it has one. */
  get fault(): string {
    return this.#holds() ? '' : this.#fault;
  }

  /** Milliseconds since the epoch; null: there is no certificate. */
  get expiresAtMs(): number | null {
    const certificate = this.#identity?.certificate;
    return certificate == null ? null : Date.parse(certificate.validTo);
  }

  /** As a server shows it; null: there is none that holds. */
  get proof(): ServerProof | null {
    const identity = this.#identity;
    if (identity?.certificate == null || !this.#holds()) return null;
    return { certificate: identity.certificate.toString(), key: pemOf(identity.key), authorities: identity.authorities };
  }

  /** Called at once, and whenever there is another certificate. */
  watch(watcher: () => void): void {
    this.#watchers.add(watcher);
    watcher();
  }

  /** Throws with why there is none yet. */
  channel(address: string): SecureChannel {
    if (address.startsWith('unix:')) return { credentials: credentials.createInsecure(), options: {} };
    const identity = this.#identity;
    if (identity?.certificate == null || !this.#holds()) throw new Error(`no certificate: ${this.#fault}`);
    const trusted = this.#trusted();
    const known = this.#channel;
    if (known?.certificate === identity.certificate && known.trusted === trusted.join()) return known.channel;
    const channel = secureChannel({ authorities: trusted, certificate: identity.certificate.toString(), key: pemOf(identity.key) });
    this.#channel = { certificate: identity.certificate, trusted: trusted.join(), channel };
    return channel;
  }

  refused(): void {
    this.#isDoubted = true;
    this.#wake.abort();
  }

  /** Resolves when there is a certificate, or the first try is over. */
  start(): Promise<void> {
    this.#running ??= this.#run();
    return this.#holds() ? Promise.resolve() : this.#tried;
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#wake.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    for (let attempt = 0; !signal.aborted; attempt++) {
      const waitMs = this.#isDoubted ? 0 : Math.min(this.#renewAtMs() - this.#wallClock(), LONGEST_WAIT_MS);
      if (waitMs > 0) {
        this.#wake = new AbortController();
        await this.#clock.delay(waitMs, this.#wake.signal);
        continue;
      }
      const address = this.#options.addresses[attempt % this.#options.addresses.length] as string;
      const pauseMs = await this.#attempt(address);
      this.#hasTried();
      if (pauseMs > 0) await this.#clock.delay(pauseMs, signal);
    }
  }

  /** Returns what to wait before the next one; 0: until it is to be renewed. */
  async #attempt(address: string): Promise<number> {
    try {
      const how = await this.#enrol(address);
      this.#fault = this.#holds()
        ? ''
        : `${address}: the certificate had ended when it came: compare this host's clock with the controller's`;
      this.#isDoubted = false;
      this.#isLogged = false;
      this.#backoff.reset();
      this.#options.log.info({ address, until: this.#identity?.certificate?.validTo }, `certificate of node ${this.#options.node}: ${how}`);
      // One that is to be renewed when it comes: clocks differ, or its authority ends. Another one at once would be the same.
      return this.#renewAtMs() > this.#wallClock() ? 0 : LONGEST_WAIT_MS;
    } catch (error) {
      const reason = messageOf(error);
      this.#fault = `${address}: ${reason}`;
      const text = `this node gets no certificate from ${address}: ${reason}; trying again`;
      if (this.#isLogged) this.#options.log.debug(text);
      else this.#options.log.warn(text);
      this.#isLogged = true;
      // Until it is asked again by a link, or its time comes.
      if (this.#holds()) this.#isDoubted = false;
      return Math.max(this.#backoff.nextMs(), error instanceof NotNow ? error.retryAfterMs : 0);
    }
  }

  async #enrol(address: string): Promise<'renewed' | 'joined'> {
    const identity = this.#identity;
    if (identity?.certificate == null) {
      await this.#join(address);
      return 'joined';
    }
    try {
      await this.#renew(address, identity, identity.certificate);
      return 'renewed';
    } catch (error) {
      // Whoever doesn't take the certificate, or isn't known by it any more, may take a token.
      const isHopeless = error instanceof NotNow && error.code === status.UNAUTHENTICATED;
      const isUnknown = error instanceof Error && /certificate/i.test(error.message);
      if (this.#options.tokenFile === null || !(isHopeless || isUnknown)) throw error;
      try {
        await this.#join(address);
        return 'joined';
      } catch (second) {
        throw new Error(`${messageOf(error)}; and by its token: ${messageOf(second)}`);
      }
    }
  }

  async #join(address: string): Promise<void> {
    const { node, tokenFile, file } = this.#options;
    if (tokenFile === null) throw new Error('it has not joined, and there is no token: give one by --join-token-file (weft token create)');
    const token = readToken(tokenFile);
    const identity = this.#identity ?? { key: newKey(), certificate: null, authorities: [] };
    // On disk first: the token is good for this key alone, also after a crash.
    if (this.#identity === null) writeIdentity(file, identity);
    this.#identity = identity;
    const pin = parseToken(token)?.pin ?? null;
    if (pin === null && this.#options.authoritiesFile === null) {
      throw new Error(`${tokenFile} holds no join token: expected what weft token create prints, weft1-join_…`);
    }
    const authorities = this.#trusted();
    if (pin !== null && this.#options.authoritiesFile === null) authorities.push(await pinnedAuthority(address, pin));
    const metadata = new Metadata();
    metadata.set('authorization', `Bearer ${token}`);
    const answer = await this.#call(address, authorities, (client, callback) =>
      client.join({ node, publicKey: spkiOf(identity.key) }, metadata, { deadline: Date.now() + CALL_TIMEOUT_MS }, callback),
    );
    this.#accept(identity.key, answer);
  }

  async #renew(address: string, { key }: NodeIdentity, certificate: X509Certificate): Promise<void> {
    const next = newKey();
    const publicKey = spkiOf(next);
    const signature = sign('sha256', Buffer.concat([Buffer.from(RENEWAL_CONTEXT), publicKey]), key);
    const answer = await this.#call(address, this.#trusted(), (client, callback) =>
      client.renew(
        { certificate: certificate.raw, publicKey, signature },
        new Metadata(),
        { deadline: Date.now() + CALL_TIMEOUT_MS },
        callback,
      ),
    );
    this.#accept(next, answer);
  }

  #call(
    address: string,
    authorities: readonly string[],
    method: (client: NodeIdentityClient, callback: (error: ServiceError | null, value: NodeCertificate) => void) => void,
  ): Promise<NodeCertificate> {
    // By the certificate while it holds: a controller that strangers press upon knows the node by it.
    const { certificate = null, key = null } = this.proof ?? {};
    const { credentials: security, options } = secureChannel({ authorities, certificate, key });
    const client = new NodeIdentityClient(address, security, { ...channelOptions, ...options });
    return new Promise((resolve, reject) => {
      method(client, (error, value) => {
        client.close();
        if (error === null) resolve(value);
        else reject(new NotNow(describeError(error), error.code, retryDelayIn(error.metadata) ?? 0));
      });
    });
  }

  /** Throws on a certificate that is not of this key. */
  #accept(key: KeyObject, { certificate: text, authorities }: NodeCertificate): void {
    const certificate = new X509Certificate(text);
    if (!certificate.checkPrivateKey(key)) throw new Error('the controller sent a certificate of another key');
    const identity = { key, certificate, authorities };
    this.#identity = identity;
    for (const watcher of this.#watchers) watcher();
    try {
      writeIdentity(this.#options.file, identity);
    } catch (error) {
      this.#options.log.error({ err: error }, 'the certificate could not be written to disk: it is lost when the agent restarts');
    }
  }

  /** PEM. */
  #trusted(): string[] {
    const { authoritiesFile } = this.#options;
    return [...(this.#identity?.authorities ?? []), ...(authoritiesFile === null ? [] : [readFileSync(authoritiesFile, 'utf8')])];
  }

  #holds(): boolean {
    const until = this.expiresAtMs;
    return until !== null && until > this.#wallClock();
  }

  /** Milliseconds since the epoch. */
  #renewAtMs(): number {
    const certificate = this.#identity?.certificate;
    if (certificate == null) return 0;
    const [from, until] = [Date.parse(certificate.validFrom) + CLOCK_SKEW_MS, Date.parse(certificate.validTo)];
    return from + (until - from) * (RENEW_AFTER + this.#spread);
  }
}

function newKey(): KeyObject {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
}

function spkiOf(key: KeyObject): Buffer {
  return createPublicKey(key).export({ type: 'spki', format: 'der' });
}

function pemOf(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }).toString();
}

function readToken(file: string): string {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch (error) {
    throw new Error(`its token can't be read, of --join-token-file or --service-account-token-file: ${messageOf(error)}`);
  }
}
