// Serves envoy.service.discovery.v3.AggregatedDiscoveryService to proxyless gRPC clients of this node, out of the node's model. Owns the
// streams: who is connected, how many may be, what each has refused. What resources are made of is resources.ts.
import { type ServerDuplexStream, status, type UntypedServiceImplementation } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import type { DiscoveryRequest, DiscoveryResponse } from '../../api/gen/envoy/service/discovery/v3/discovery.js';
import { ResourceType } from '../../api/gen/mesh/v1/model.js';
import type { XdsState } from '../../api/gen/mesh/v1/status.js';
import type { Model, ModelUpdate } from '../model/model.js';
import { RESOURCE_TYPES, type ResourceKind, TYPE_URLS, XdsResources } from './resources.js';
import { Subscription } from './subscription.js';

/** Far more than pods on a node. */
const MAX_STREAMS = 1_024;
const MAX_TEXT = 256;
/** That are told at once. */
const MAX_FAULTS = 100;

type Stream = ServerDuplexStream<DiscoveryRequest, DiscoveryResponse>;

interface Client {
  readonly call: Stream;
  readonly peer: string;
  readonly subscriptions: Map<ResourceKind, Subscription>;
  /** As it calls itself. */
  node: string;
  agent: string;
  /** It reads slower than it asks. */
  isBlocked: boolean;
}

const KIND_OF_URL: ReadonlyMap<string, ResourceKind> = new Map(RESOURCE_TYPES.map((kind) => [TYPE_URLS[kind], kind]));

export interface AdsOptions {
  readonly model: Model;
  readonly log: Logger;
  readonly maxStreams?: number;
}

export class AdsService {
  readonly #resources: XdsResources;
  readonly #model: Model;
  readonly #log: Logger;
  readonly #maxStreams: number;
  readonly #clients = new Set<Client>();
  readonly counters = { responses: 0, refusals: 0, refusedStreams: 0 };
  #nonce = 0;

  constructor({ model, log, maxStreams = MAX_STREAMS }: AdsOptions) {
    this.#model = model;
    this.#log = log;
    this.#maxStreams = maxStreams;
    this.#resources = new XdsResources(model);
  }

  get implementation(): UntypedServiceImplementation {
    return { streamAggregatedResources: (call: Stream) => this.#accept(call) };
  }

  /** The model has taken the update: clients are told what of it is theirs. */
  publish(update: ModelUpdate): void {
    this.#resources.changed(touchedServices(update));
    for (const client of this.#clients) this.#feed(client);
  }

  /** Ends the streams; clients go on with what they have. */
  close(): void {
    for (const { call } of this.#clients) call.end();
    this.#clients.clear();
  }

  state(): XdsState {
    const clients = [...this.#clients].map(({ node, agent, peer, subscriptions }) => ({
      node,
      agent,
      peer,
      subscriptions: [...subscriptions.values()].map(({ kind, names, acked, refused }) => ({
        type: kind,
        resources: names.size,
        acked,
        refused: refused?.version ?? '',
        error: refused?.error ?? '',
      })),
    }));
    return { clients, faults: this.#faults() };
  }

  #faults(): string[] {
    const faults = new Set<string>();
    for (const kind of RESOURCE_TYPES) {
      // Many clients ask for the same.
      const names = new Set([...this.#clients].flatMap(({ subscriptions }) => [...(subscriptions.get(kind)?.names ?? [])]));
      for (const name of names) for (const fault of this.#resources.faults(kind, name)) faults.add(fault);
    }
    return [...faults].sort().slice(0, MAX_FAULTS);
  }

  #accept(call: Stream): void {
    // An error event is followed by 'cancelled' or 'end', which do the work.
    call.on('error', () => {});
    if (this.#clients.size >= this.#maxStreams) {
      this.counters.refusedStreams++;
      call.emit('error', { code: status.RESOURCE_EXHAUSTED, details: `more than ${this.#maxStreams} streams on one agent` });
      return;
    }
    const client: Client = { call, peer: call.getPeer(), subscriptions: new Map(), node: '', agent: '', isBlocked: false };
    this.#clients.add(client);
    const leave = (): void => void this.#clients.delete(client);
    call.on('data', (request: DiscoveryRequest) => this.#hear(client, request));
    call.on('drain', () => {
      client.isBlocked = false;
      this.#feed(client);
    });
    call.on('end', () => {
      leave();
      call.end();
    });
    call.on('cancelled', leave);
  }

  #hear(client: Client, request: DiscoveryRequest): void {
    if (request.node !== undefined) {
      const { id, userAgentName, userAgentVersion } = request.node;
      client.node = id.slice(0, MAX_TEXT);
      client.agent = `${userAgentName} ${userAgentVersion}`.trim().slice(0, MAX_TEXT);
    }
    const kind = KIND_OF_URL.get(request.typeUrl);
    // Clients may ask for types that come later: those they do without.
    if (kind === undefined) return;
    let subscription = client.subscriptions.get(kind);
    if (subscription === undefined) {
      subscription = new Subscription(kind);
      client.subscriptions.set(kind, subscription);
    }
    const heard = subscription.hear(request);
    if (heard.kind === 'violation') {
      this.#clients.delete(client);
      client.call.emit('error', { code: status.INVALID_ARGUMENT, details: heard.message });
      return;
    }
    if (heard.kind === 'refused') {
      this.counters.refusals++;
      const { node, peer } = client;
      this.#log.warn({ client: node, peer, type: kind, ...subscription.refused }, 'a proxyless client refuses what it was sent');
    }
    if (heard.kind !== 'stale') this.#feedOne(client, subscription);
  }

  #feed(client: Client): void {
    for (const kind of RESOURCE_TYPES) {
      const subscription = client.subscriptions.get(kind);
      if (subscription !== undefined) this.#feedOne(client, subscription);
    }
  }

  #feedOne(client: Client, subscription: Subscription): void {
    if (client.isBlocked || !this.#clients.has(client)) return;
    const response = subscription.next(this.#resources, String(this.#model.revision), String(this.#nonce + 1));
    if (response === null) return;
    this.#nonce++;
    this.counters.responses++;
    client.isBlocked = !client.call.write(response);
  }
}

/** Those of which endpoints alone have changed; null: more has. */
function touchedServices({ full, resources, removed }: ModelUpdate): ReadonlySet<string> | null {
  if (full) return null;
  const services = new Set<string>();
  for (const { type, name } of [...resources, ...removed]) {
    if (type === ResourceType.SERVICE || type === ResourceType.HTTP_ROUTE) return null;
    // "<namespace>/<service>/<id>"
    if (type === ResourceType.ENDPOINT) services.add(name.split('/', 2).join('/'));
  }
  return services;
}
