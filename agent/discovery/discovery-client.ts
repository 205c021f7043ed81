// The receiving end of mesh.v1.Discovery: the agent's towards the controller, and the proxy's towards its agent. Owns the order of
// updates, the gathering of chunks, acks and the resume token; does not know what the resources mean.
import { type ChannelCredentials, type ClientOptions, makeGenericClientConstructor } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import {
  type DiscoveryRequest,
  type DiscoveryResponse,
  DiscoveryService,
  type DiscoveryClient as DiscoveryStub,
  type Rejection,
  type Resource,
  type ResourceName,
  type ResumeToken,
} from '../../api/gen/mesh/v1/discovery.js';
import { ResourceType } from '../../api/gen/mesh/v1/model.js';
import { decodeChunk } from '../../api/grpc/decode-chunk.js';
import { contentOf } from '../../api/grpc/encode-revision.js';
import { PROTOCOL, protocolFault } from '../../api/grpc/protocol.js';
import type { Clock } from '../link/clock.js';
import { Link, type LinkSecurity, type LinkSession, type LinkState } from '../link/link.js';
import { resourceKey } from '../model/model.js';

/** As the generated client, but for how responses are read. */
const Stub = makeGenericClientConstructor(
  { stream: { ...DiscoveryService.stream, responseDeserialize: decodeChunk } },
  'mesh.v1.Discovery',
) as unknown as new (
  address: string,
  credentials: ChannelCredentials,
  options: ClientOptions,
) => DiscoveryStub;

/** One revision, whole. With `full`, what `resources` does not name is gone. */
export interface DiscoveryUpdate {
  readonly revision: number;
  readonly token: ResumeToken;
  readonly full: boolean;
  readonly resources: readonly Resource[];
  readonly removed: readonly ResourceName[];
}

export interface DiscoveryClientOptions {
  /** "host:port", "[v6]:port" or "unix:/path"; tried in this order. */
  readonly addresses: readonly string[];
  readonly node: string;
  readonly version: string;
  /** Where an earlier run left off; null asks for everything. */
  readonly resume: ResumeToken | null;
  /**
   * Applies one revision; the next one comes after the promise has settled. The rejections go back with the ack. A throw means the receiver's
   * state is unknown: the stream is dropped and everything is asked for again.
   */
  onUpdate(update: DiscoveryUpdate): Promise<readonly Rejection[]>;
  /** `detail`: the address, or on 'lost' the reason. */
  onState?(state: LinkState, detail: string): void;
  /** None: plaintext. */
  readonly security?: LinkSecurity | undefined;
  readonly log: Logger;
  /** For logs; what the other side is. */
  readonly peer?: string;
  /** For logs; what to check when it doesn't answer. */
  readonly hint?: string;
  readonly clock?: Clock | undefined;
}

// Bounds of one revision while it is gathered: a million resources of 256 B are a mesh far beyond the design's scale.
const maxChunks = 16_384;
const maxBytes = 512 * 1024 * 1024;
/** Of one ack; a node that refuses more has one reason for all of them. */
const maxRefused = 1_000;

export class DiscoveryClient {
  readonly #options: DiscoveryClientOptions;
  readonly #link: Link<DiscoveryStub, DiscoveryRequest, DiscoveryResponse>;
  #token: ResumeToken | null;
  /** What the receiver refuses still, by resource: told with every ack, for the peer of a new stream knows none of it. */
  readonly #refused = new Map<string, Rejection>();

  constructor(options: DiscoveryClientOptions) {
    this.#options = options;
    this.#token = options.resume;
    this.#link = new Link({
      name: `${options.peer ?? 'controller'} discovery`,
      addresses: options.addresses,
      hint: options.hint ?? 'check that it runs and that this address is right; serving what was applied last, retrying',
      connect: (address, credentials, channel) => new Stub(address, credentials, channel),
      open: (client) => client.stream(),
      session: (session) => this.#session(session),
      ...(options.onState === undefined ? {} : { onState: (state: LinkState, detail: string) => options.onState?.(state, detail) }),
      security: options.security,
      log: options.log,
      clock: options.clock,
    });
  }

  get state(): LinkState {
    return this.#link.state;
  }

  get address(): string {
    return this.#link.address;
  }

  /** Why there is no connection; empty when there is one. */
  get error(): string {
    return this.#link.error;
  }

  /** Of the last revision applied; null before the first. */
  get token(): ResumeToken | null {
    return this.#token;
  }

  start(): void {
    this.#link.start();
  }

  /** Returns when no `onUpdate` runs any more. */
  stop(): Promise<void> {
    return this.#link.stop();
  }

  async #session({ call, signal }: LinkSession<DiscoveryRequest, DiscoveryResponse>): Promise<void> {
    const { node, version } = this.#options;
    call.write({
      request: { $case: 'subscribe', value: { node, version, resume: this.#token ?? undefined, protocol: PROTOCOL, packed: true } },
    });
    let gathering = new Gathering();
    // Reading by iteration is the backpressure: while a revision is applied nothing more is taken off the stream.
    for await (const chunk of call as AsyncIterable<DiscoveryResponse>) {
      const fault = protocolFault(chunk.protocol, `the ${this.#options.peer ?? 'controller'}`);
      if (fault !== null) throw new Error(fault);
      gathering.add(chunk);
      if (chunk.more) continue;
      const update = gathering.finish(this.#token);
      gathering = new Gathering();
      this.#remember(update, await this.#apply(update));
      if (signal.aborted) return;
      const rejected = [...this.#refused.values()].slice(0, maxRefused);
      call.write({ request: { $case: 'ack', value: { nonce: chunk.nonce, revision: update.revision, rejected } } });
    }
  }

  /** A new version or a removal ends a refusal; one that names no resource is told anew every time. */
  #remember(update: DiscoveryUpdate, rejected: readonly Rejection[]): void {
    if (update.full) this.#refused.clear();
    if (this.#refused.size > 0) for (const name of [...update.resources, ...update.removed]) this.#refused.delete(resourceKey(name));
    for (const [key, { type }] of this.#refused) if (type === ResourceType.UNSPECIFIED) this.#refused.delete(key);
    for (const rejection of rejected) this.#refused.set(resourceKey(rejection), rejection);
  }

  async #apply(update: DiscoveryUpdate): Promise<readonly Rejection[]> {
    try {
      const rejected = await this.#options.onUpdate(update);
      this.#token = update.token;
      return rejected;
    } catch (error) {
      this.#token = null;
      this.#options.log.error(
        { err: error, revision: update.revision },
        `revision ${update.revision} could not be applied; asking for a full snapshot`,
      );
      throw error;
    }
  }
}

/** The chunks of one revision. Throws on a peer that breaks the protocol: the link drops it and tries the next. */
class Gathering {
  readonly #resources: Resource[] = [];
  readonly #removed: ResourceName[] = [];
  #first: DiscoveryResponse | null = null;
  #token: ResumeToken | undefined;
  #chunks = 0;
  #bytes = 0;

  add(chunk: DiscoveryResponse): void {
    const first = this.#first ?? chunk;
    if (chunk.revision !== first.revision || chunk.full !== first.full) {
      throw new Error(`protocol violation: a chunk of revision ${chunk.revision} inside revision ${first.revision}`);
    }
    this.#first = first;
    this.#token = chunk.token ?? this.#token;
    this.#chunks += 1;
    const { resources, removed } = contentOf(chunk);
    for (const resource of resources) {
      this.#bytes += resource.body.length + resource.name.length;
      this.#resources.push(resource);
    }
    for (const name of removed) {
      this.#bytes += name.name.length;
      this.#removed.push(name);
    }
    if (this.#chunks > maxChunks || this.#bytes > maxBytes) {
      throw new Error(`revision ${chunk.revision} is larger than ${maxChunks} chunks or ${maxBytes} bytes; it was not applied`);
    }
  }

  finish(last: ResumeToken | null): DiscoveryUpdate {
    const first = this.#first;
    const token = this.#token;
    if (first === null || token === undefined) throw new Error('protocol violation: a revision without a resume token');
    const { revision, full } = first;
    if (!full && last === null) throw new Error(`protocol violation: a delta to revision ${revision} before any snapshot`);
    if (!full && last !== null && revision < last.revision) {
      throw new Error(`protocol violation: a delta back from revision ${last.revision} to ${revision}`);
    }
    return { revision, token, full, resources: this.#resources, removed: this.#removed };
  }
}
