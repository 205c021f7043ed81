// The node's copy of the internal model: decoded, checked resources by name. Used by the proxy (tables) and the agent (capture).
// Applies updates; must not know where they come from (discovery stream, disk, files) nor what is made of them.
import type { BinaryReader, WireType } from '@bufbuild/protobuf/wire';
import type { Rejection, Resource, ResourceName } from '../../api/gen/mesh/v1/discovery.js';
import { ConnectionRoute, Endpoint, Filter, HttpRoute, Listener, ResourceType, Service, Workload } from '../../api/gen/mesh/v1/model.js';
import { WireReader } from '../../api/grpc/wire-reader.js';
import { messageOf } from '../../api/message-of.js';
import { VERSION } from '../../api/version.js';
import { connectionRouteFault, endpointFault, filterFault, httpRouteFault, listenerFault, serviceFault, workloadFault } from './faults.js';

export interface ModelUpdate {
  /** A whole snapshot: what it does not name is gone. */
  readonly full: boolean;
  readonly resources: readonly Resource[];
  readonly removed: readonly ResourceName[];
  /** Store revision that this brings the model to. */
  readonly revision: number;
}

/** A process in its node's own network namespace, not in one of its own. */
export function isHostProcess({ systemdUnit, cgroup }: Pick<Workload, 'systemdUnit' | 'cgroup'>): boolean {
  return systemdUnit !== '' || cgroup !== '';
}

/**
 * Reads bodies that lie in one buffer, one after the other, and notes whether there was something that the generated code doesn't know: a field of
 * newer software, at any depth.
 */
class BodyReader extends WireReader {
  hasSkipped = false;

  constructor(private readonly buffer: ArrayBufferLike) {
    super(Buffer.from(buffer));
  }

  /** The one before, where it can read this body too: those of one chunk lie in one buffer. */
  static of(body: Buffer, before: BodyReader | null): BodyReader {
    return before?.buffer === body.buffer ? before : new BodyReader(body.buffer);
  }

  read<T>(body: Buffer, decode: (reader: BinaryReader) => T): T {
    const end = body.byteOffset + body.length;
    this.hasSkipped = false;
    this.enter(body.byteOffset, end);
    const message = decode(this);
    if (this.pos !== end) throw new RangeError('premature EOF');
    return message;
  }

  override skip(wireType: WireType, fieldNo?: number): Uint8Array {
    this.hasSkipped = true;
    return super.skip(wireType, fieldNo);
  }
}

const NO_ENDPOINTS: readonly Endpoint[] = [];

/** A resource type's decoder, its sense check (null: good), and where its messages are kept. */
interface Collection<T> {
  readonly decode: (body: BinaryReader) => T;
  readonly fault: (message: T, name: string) => string | null;
  readonly store: Map<string, T>;
}

/**
 * Not thread-safe, not persistent. After apply() every map is consistent with the update but for the resources it reported: those keep
 * their last good version, or stay absent when there never was one.
 */
export class Model {
  revision = 0;
  readonly services = new Map<string, Service>();
  /** By service ("<namespace>/<name>"), then by resource name. A service without endpoints has no entry. */
  readonly endpoints = new Map<string, Map<string, Endpoint>>();
  readonly routes = new Map<string, HttpRoute>();
  readonly connectionRoutes = new Map<string, ConnectionRoute>();
  readonly workloads = new Map<string, Workload>();
  readonly listeners = new Map<string, Listener>();
  readonly filters = new Map<string, Filter>();
  /** Another object when workloads are others. */
  workloadsAsOf: object = {};

  /** Resources in force with fields of newer software, by type and name. */
  private readonly partlyKnown = new Set<string>();
  /** What stood in the place of what the last update brought. */
  private readonly exchanged = new Map<ResourceName, unknown>();
  /** Of services, as far as they were asked for since they changed. */
  private readonly sorted = new Map<string, readonly Endpoint[]>();
  private linkedLast: Endpoint | null = null;
  private readonly endpointByName = new Map<string, Endpoint>();
  private readonly collections: ReadonlyMap<ResourceType, Collection<unknown>> = new Map<ResourceType, Collection<unknown>>([
    collection(ResourceType.SERVICE, Service.decode, serviceFault, this.services),
    collection(ResourceType.ENDPOINT, Endpoint.decode, endpointFault, this.endpointByName),
    collection(ResourceType.HTTP_ROUTE, HttpRoute.decode, httpRouteFault, this.routes),
    collection(ResourceType.WORKLOAD, Workload.decode, workloadFault, this.workloads),
    collection(ResourceType.LISTENER, Listener.decode, listenerFault, this.listeners),
    collection(ResourceType.CONNECTION_ROUTE, ConnectionRoute.decode, connectionRouteFault, this.connectionRoutes),
    collection(ResourceType.FILTER, Filter.decode, filterFault, this.filters),
  ]);

  /** Refuses bad resources one by one and applies all others. Never throws on input. */
  apply(update: ModelUpdate): Rejection[] {
    this.exchanged.clear();
    if (update.full) this.dropUnnamed(update.resources);
    for (const { type, name } of update.removed) this.remove(type, name);
    const rejections: Rejection[] = [];
    let reader: BodyReader | null = null;
    for (const resource of update.resources) {
      reader = BodyReader.of(resource.body, reader);
      const error = this.put(resource, reader);
      if (error !== null) rejections.push({ type: resource.type, name: resource.name, error });
    }
    this.revision = update.revision;
    return rejections;
  }

  private put(resource: Resource, reader: BodyReader): string | null {
    const { type, name, body } = resource;
    const collection = this.collections.get(type);
    if (collection === undefined)
      return `unknown resource type ${type}: this node's software is older than the controller's; upgrade the node`;
    if (name === '') return 'the resource has no name';
    let message: unknown;
    try {
      message = reader.read(body, collection.decode);
    } catch (error) {
      return `does not decode: ${messageOf(error)}`;
    }
    const fault = collection.fault(message, name);
    if (fault !== null) return fault;
    this.exchanged.set(resource, collection.store.get(name));
    this.set(type, name, message);
    if (reader.hasSkipped) this.partlyKnown.add(resourceKey({ type, name }));
    else if (this.partlyKnown.size > 0) this.partlyKnown.delete(resourceKey({ type, name }));
    return null;
  }

  /**
   * Puts what stood there before the last update in the place of these of its resources, the same objects; and back, the next time. For who finds out
   * that the whole is no good.
   */
  exchange(brought: Iterable<ResourceName>): void {
    for (const resource of brought) {
      const { type, name } = resource;
      const store = this.collections.get(type)?.store;
      if (store === undefined || !this.exchanged.has(resource)) continue;
      const other = this.exchanged.get(resource);
      this.exchanged.set(resource, store.get(name));
      this.set(type, name, other);
    }
  }

  /** Nothing is exchanged any more: what stood there before may go. */
  settle(): void {
    this.exchanged.clear();
  }

  /** undefined: none. */
  private set(type: ResourceType, name: string, message: unknown): void {
    if (type === ResourceType.ENDPOINT) {
      this.unlinkEndpoint(name);
      if (message !== undefined) this.linkEndpoint(name, message as Endpoint);
    }
    if (type === ResourceType.WORKLOAD) this.workloadsAsOf = {};
    const store = this.collections.get(type)?.store;
    if (message === undefined) store?.delete(name);
    else store?.set(name, message);
  }

  private remove(type: ResourceType, name: string): void {
    this.set(type, name, undefined);
    if (this.partlyKnown.size > 0) this.partlyKnown.delete(resourceKey({ type, name }));
  }

  /** Of a service, by their names; the same array as long as nothing of it changes. */
  endpointsOf(service: string): readonly Endpoint[] {
    const known = this.sorted.get(service);
    if (known !== undefined) return known;
    const siblings = this.endpoints.get(service);
    if (siblings === undefined) return NO_ENDPOINTS;
    const endpoints = [...siblings.keys()].sort().map((name) => siblings.get(name)!);
    this.sorted.set(service, endpoints);
    return endpoints;
  }

  allEndpoints(): Iterable<Endpoint> {
    return this.endpointByName.values();
  }

  get partlyKnownCount(): number {
    return this.partlyKnown.size;
  }

  /** In words, for operators: what is left aside of resources in force; null: nothing. */
  get notice(): string | null {
    const count = this.partlyKnown.size;
    if (count === 0) return null;
    const [first = ''] = this.partlyKnown;
    const what = count === 1 ? '1 resource has' : `${count} resources have`;
    return `${what} fields that this software (${VERSION}) is too old to know, ${first.slice(first.indexOf('/') + 1)} for one: it goes without them; upgrade this node`;
  }

  /** A named resource stays even if its new body turns out to be bad: the last good version is kept. */
  private dropUnnamed(resources: readonly Resource[]): void {
    const named = new Map<ResourceType, Set<string>>();
    for (const { type, name } of resources) {
      const names = named.get(type);
      if (names === undefined) named.set(type, new Set([name]));
      else names.add(name);
    }
    for (const [type, { store }] of this.collections) {
      for (const name of [...store.keys()]) {
        if (named.get(type)?.has(name) !== true) this.remove(type, name);
      }
    }
  }

  private linkEndpoint(name: string, endpoint: Endpoint): void {
    this.sorted.delete(endpoint.service);
    const siblings = this.endpoints.get(endpoint.service);
    if (siblings === undefined) this.endpoints.set(endpoint.service, new Map([[name, endpoint]]));
    else siblings.set(name, endpoint);
    share(endpoint, this.linkedLast);
    this.linkedLast = endpoint;
  }

  private unlinkEndpoint(name: string): void {
    const service = this.endpointByName.get(name)?.service;
    if (service === undefined) return;
    this.sorted.delete(service);
    const siblings = this.endpoints.get(service);
    siblings?.delete(name);
    if (siblings?.size === 0) this.endpoints.delete(service);
  }
}

/** Of what an endpoint has in common with another one there is one: of a thousand pods the ports, a quarter of what an endpoint takes. */
function share(endpoint: Endpoint, other: Endpoint | null): void {
  if (other === null) return;
  if (endpoint.service === other.service) endpoint.service = other.service;
  if (hasSamePorts(endpoint.ports, other.ports)) endpoint.ports = other.ports;
  if (isEmpty(endpoint.labels) && isEmpty(other.labels)) endpoint.labels = other.labels;
}

function hasSamePorts(some: Endpoint['ports'], others: Endpoint['ports']): boolean {
  return (
    some.length === others.length && some.every(({ name, port }, index) => name === others[index]!.name && port === others[index]!.port)
  );
}

function isEmpty(labels: Endpoint['labels']): boolean {
  for (const _ in labels) return false;
  return true;
}

function collection<T>(
  type: ResourceType,
  decode: (body: BinaryReader) => T,
  fault: (message: T, name: string) => string | null,
  store: Map<string, T>,
): [ResourceType, Collection<unknown>] {
  return [type, { decode, fault, store } as unknown as Collection<unknown>];
}

/** One string per resource of any type. */
export function resourceKey({ type, name }: ResourceName): string {
  return `${type}/${name}`;
}
