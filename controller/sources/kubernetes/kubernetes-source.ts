// Follows one cluster and tells an Ingest what is in it. Owns which resources are followed: found by discovery again and again, as CRDs are installed
// under a running controller; and which Gateways and Secrets are Weft's business. Runs at the leader alone; writes nothing.
import { CONTROLLER_NAME } from '../../../api/compile/index.js';
import { DEFAULT_NAMESPACE, type Kind } from '../../../api/resources/index.js';
import { isUnchecked } from '../../../api/resources/schema.js';
import type { Clock } from '../../clock.js';
import { pause } from '../../store/election.js';
import type { Ingest } from '../ingester.js';
import type { ApiClient } from './api-client.js';
import { discover, type Served } from './api-discovery.js';
import { ListWatch, type ListWatchSink, type ListWatchState, type ListWatchTimes, type ObjectName } from './list-watch.js';
import type { KubernetesObject } from './object.js';
import {
  gatewaysOfListenerSet,
  type Reference,
  referencesOfGateway,
  referencesOfIstioGateway,
  referencesOfPolicy,
  referencesOfRule,
} from './references.js';
import { REFERENCED_TYPES, RESOURCE_TYPES, sourceObject } from './resource-types.js';

export interface KubernetesObserver {
  /** Of one collection, on each change. */
  state(path: string, state: ListWatchState): void;
  /** Null: the server answers again. */
  discoveryFailing(message: string | null): void;
  followed(paths: readonly string[]): void;
  tooManyReferences(count: number, limit: number): void;
  listed(path: string): void;
  event(path: string): void;
  /** An object of the Gateway API came, changed or went. */
  gatewayChanged(): void;
}

export interface KubernetesSourceParts {
  readonly client: ApiClient;
  readonly ingest: Ingest;
  readonly clock: Clock;
  /** From 0 to 1. */
  readonly random: () => number;
  readonly observe: KubernetesObserver;
  readonly times?: Partial<SourceTimes>;
}

export interface SourceTimes {
  readonly discoveryMs: number;
  readonly discoveryRetryMs: number;
  readonly listWatch: Partial<ListWatchTimes>;
}

const TIMES: SourceTimes = { discoveryMs: 30_000, discoveryRetryMs: 2_000, listWatch: {} };
/** An API server that has just started may lack a group for a moment: to take its objects for deleted would be an outage. */
const ABSENCES_UNTIL_GONE = 3;
/** Each is a watch of its own. */
const MAX_REFERENCES = 256;
/** Kept as they came: what is to be said in their status depends on what they are. */
const GATEWAY_GROUP = 'gateway.networking.k8s.io';
/** They name Secrets and ConfigMaps. */
const REFERRING: readonly Kind[] = ['Gateway', 'ListenerSet', 'IstioGateway', 'BackendTLSPolicy', 'DestinationRule'];

/** What is followed, and how to end that. */
interface Following {
  readonly served: Served;
  readonly stop: () => void;
}

type Objects = Map<string, KubernetesObject>;

export class KubernetesSource {
  readonly #parts: KubernetesSourceParts;
  readonly #times: SourceTimes;
  readonly #following = new Map<Kind, Following>();
  /** How often in a row discovery has not found it. */
  readonly #absences = new Map<Kind, number>();
  /** Known in full: listed once, or known not to be there. */
  readonly #settled = new Set<Kind>();
  /** Of the Gateway API, and those that name others; by name. */
  readonly #kept = new Map<Kind, Objects>();
  /** By "<kind>/<namespace>/<name>". */
  readonly #references = new Map<string, () => void>();
  readonly #running = new Set<Promise<void>>();
  #wake: () => void = () => {};

  constructor(parts: KubernetesSourceParts) {
    this.#parts = parts;
    this.#times = { ...TIMES, ...parts.times };
  }

  /** Of the Gateway API, as the server has them now. */
  objectsOf(kind: Kind): ReadonlyMap<string, KubernetesObject> {
    return this.#kept.get(kind) ?? new Map();
  }

  /** Whether Weft serves the Gateway of that name, "<namespace>/<name>". */
  isOurGateway(name: string): boolean {
    const gateway = this.objectsOf('Gateway').get(name);
    return gateway !== undefined && this.#isOurs('Gateway', gateway);
  }

  /** Whether it adds to such a Gateway. */
  isOurListenerSet(name: string): boolean {
    const set = this.objectsOf('ListenerSet').get(name);
    return set !== undefined && gatewaysOfListenerSet(set.metadata.namespace, set.body).some((gateway) => this.isOurGateway(gateway));
  }

  /** Of the collection over all namespaces; null: the server hasn't got it. */
  servedOf(kind: Kind): Served | null {
    return this.#following.get(kind)?.served ?? null;
  }

  /** Until the signal. Never throws for what the server does. */
  async run(signal: AbortSignal): Promise<void> {
    const { client, observe } = this.#parts;
    while (!signal.aborted) {
      const found = await discover(client, RESOURCE_TYPES, signal);
      if (signal.aborted) break;
      observe.discoveryFailing(found.kind === 'failure' ? found.message : null);
      if (found.kind === 'found') this.#follow(found.served);
      await this.#untilDiscovery(found.kind === 'found' ? this.#times.discoveryMs : this.#times.discoveryRetryMs, signal);
    }
    for (const { stop } of this.#following.values()) stop();
    for (const stop of this.#references.values()) stop();
    await Promise.all(this.#running);
  }

  /** Also ended by a resource that is suddenly not there. */
  async #untilDiscovery(ms: number, signal: AbortSignal): Promise<void> {
    const woken = new AbortController();
    this.#wake = () => woken.abort();
    signal.addEventListener('abort', this.#wake);
    await pause(this.#parts.clock, ms * (0.75 + this.#parts.random() / 2), woken.signal);
    signal.removeEventListener('abort', this.#wake);
    this.#wake = () => {};
  }

  #follow(served: readonly Served[]): void {
    const before = this.#paths();
    for (const { kind } of RESOURCE_TYPES) {
      const found = served.find(({ type }) => type.kind === kind);
      if (found === undefined) this.#miss(kind);
      else this.#find(found);
    }
    const after = this.#paths();
    if (after.join() !== before.join()) this.#parts.observe.followed(after);
  }

  #paths(): string[] {
    return [...this.#following.values()].map(({ served }) => served.path).sort();
  }

  #find(served: Served): void {
    const { kind } = served.type;
    this.#absences.delete(kind);
    const current = this.#following.get(kind);
    if (current?.served.path === served.path) return;
    // Of another version: the same objects, told anew.
    current?.stop();
    const stop = this.#listWatch(served.path, '', this.#sinkOf(served));
    this.#following.set(kind, { served, stop });
  }

  #miss(kind: Kind): void {
    const absences = (this.#absences.get(kind) ?? 0) + 1;
    this.#absences.set(kind, absences);
    if (absences !== ABSENCES_UNTIL_GONE) return;
    this.#following.get(kind)?.stop();
    this.#following.delete(kind);
    this.#kept.delete(kind);
    this.#parts.ingest.settle(kind, () => false);
    this.#settle(kind);
    this.#changed(kind);
  }

  /** Returns how to end it. Nothing is told after that. */
  #listWatch(path: string, fieldSelector: string, sink: ListWatchSink): () => void {
    const { client, clock, random } = this.#parts;
    const stop = new AbortController();
    const only =
      <Args extends unknown[]>(tell: (...args: Args) => void) =>
      (...args: Args): void => {
        if (!stop.signal.aborted) tell(...args);
      };
    const told: ListWatchSink = {
      present: only((object) => sink.present(object)),
      absent: only((name) => sink.absent(name)),
      listed: only((has) => sink.listed(has)),
      state: only((state) => sink.state(state)),
    };
    const running = new ListWatch({ client, path, fieldSelector, clock, random, sink: told, times: this.#times.listWatch }).run(
      stop.signal,
    );
    this.#running.add(running);
    void running.finally(() => this.#running.delete(running));
    return () => stop.abort();
  }

  #sinkOf(served: Served): ListWatchSink {
    const { ingest, observe } = this.#parts;
    const { type, path } = served;
    const { kind } = type;
    const kept = type.group === GATEWAY_GROUP || REFERRING.includes(kind) ? new Map<string, KubernetesObject>() : null;
    if (kept !== null) this.#kept.set(kind, kept);
    return {
      present: (object) => {
        observe.event(path);
        kept?.set(textOfName(object.metadata), object);
        this.#tell(served, object);
        this.#changed(kind);
      },
      absent: (name) => {
        observe.event(path);
        kept?.delete(textOfName(name));
        ingest.remove({ kind, namespace: name.namespace || DEFAULT_NAMESPACE, name: name.name });
        this.#changed(kind);
      },
      listed: (has) => {
        observe.listed(path);
        for (const { metadata } of [...(kept?.values() ?? [])]) if (!has(metadata)) kept?.delete(textOfName(metadata));
        ingest.settle(kind, ({ namespace, name }) => has({ namespace: type.isNamespaced ? namespace : '', name }));
        this.#settle(kind);
        this.#changed(kind);
      },
      state: (state) => {
        observe.state(path, state);
        if (state.kind === 'down' && state.status === 404) this.#wake();
      },
    };
  }

  #tell({ type, version }: Served, object: KubernetesObject): void {
    const { ingest } = this.#parts;
    const { name, namespace } = object.metadata;
    const source = this.#isOurs(type.kind, object) ? sourceObject(type, version, object) : null;
    if (source === null) ingest.remove({ kind: type.kind, namespace: namespace || DEFAULT_NAMESPACE, name });
    else ingest.put(source);
  }

  /** A cluster may have Gateways of others, which are none of Weft's. */
  #isOurs(kind: Kind, { body }: KubernetesObject): boolean {
    if (!isUnchecked(body.spec)) return kind !== 'Gateway' && kind !== 'GatewayClass';
    if (kind === 'GatewayClass') return body.spec.controllerName === CONTROLLER_NAME;
    if (kind !== 'Gateway') return true;
    const gatewayClass = this.objectsOf('GatewayClass').get(`/${String(body.spec.gatewayClassName)}`);
    return gatewayClass !== undefined && this.#isOurs('GatewayClass', gatewayClass);
  }

  #settle(kind: Kind): void {
    this.#settled.add(kind);
  }

  /** What follows for others from a change of this kind. */
  #changed(kind: Kind): void {
    if (this.#kept.has(kind)) this.#parts.observe.gatewayChanged();
    if (kind === 'GatewayClass') {
      const gateways = this.#following.get('Gateway');
      for (const gateway of this.objectsOf('Gateway').values()) if (gateways !== undefined) this.#tell(gateways.served, gateway);
    }
    if (kind === 'GatewayClass' || REFERRING.includes(kind)) this.#refer();
  }

  /** Reads what is named now, and no longer what was. */
  #refer(): void {
    const wanted = new Map(this.#wanted().map((reference) => [`${reference.kind}/${reference.namespace}/${reference.name}`, reference]));
    if (wanted.size > MAX_REFERENCES) this.#parts.observe.tooManyReferences(wanted.size, MAX_REFERENCES);
    const followed = new Map([...wanted].slice(0, MAX_REFERENCES));
    for (const [key, stop] of this.#references) {
      if (followed.has(key)) continue;
      stop();
      this.#references.delete(key);
      const [kind = '', namespace = '', name = ''] = key.split('/');
      this.#parts.ingest.remove({ kind, namespace, name });
    }
    for (const [key, reference] of followed) {
      if (!this.#references.has(key)) this.#references.set(key, this.#followReference(reference));
    }
    if (![...REFERRING, 'GatewayClass' as const].every((kind) => this.#settled.has(kind))) return;
    // What an earlier leader wrote and nobody names any more.
    for (const kind of ['Secret', 'ConfigMap'] as const) {
      this.#parts.ingest.settle(kind, ({ namespace, name }) => followed.has(`${kind}/${namespace}/${name}`));
    }
  }

  #wanted(): Reference[] {
    const gateways = [...this.objectsOf('Gateway').values()].filter((gateway) => this.#isOurs('Gateway', gateway));
    return [
      ...gateways.flatMap(({ metadata, body }) => referencesOfGateway(metadata.namespace, body)),
      ...[...this.objectsOf('ListenerSet').values()].flatMap(({ metadata, body }) =>
        this.isOurListenerSet(textOfName(metadata)) ? referencesOfGateway(metadata.namespace, body) : [],
      ),
      ...[...this.objectsOf('IstioGateway').values()].flatMap(({ metadata, body }) => referencesOfIstioGateway(metadata.namespace, body)),
      ...[...this.objectsOf('BackendTLSPolicy').values()].flatMap(({ metadata, body }) => referencesOfPolicy(metadata.namespace, body)),
      ...[...this.objectsOf('DestinationRule').values()].flatMap(({ metadata, body }) => referencesOfRule(metadata.namespace, body)),
    ];
  }

  #followReference({ kind, namespace, name }: Reference): () => void {
    const { ingest, observe } = this.#parts;
    const type = REFERENCED_TYPES[kind];
    const path = `/api/v1/namespaces/${namespace}/${type.plural}`;
    return this.#listWatch(path, `metadata.name=${name}`, {
      present: (object) => {
        const source = sourceObject(type, 'v1', object);
        if (source !== null) ingest.put(source);
      },
      absent: () => ingest.remove({ kind, namespace, name }),
      listed: (has) => {
        if (!has({ namespace, name })) ingest.remove({ kind, namespace, name });
      },
      state: (state) => observe.state(`${path}/${name}`, state),
    });
  }
}

function textOfName({ namespace, name }: ObjectName): string {
  return `${namespace}/${name}`;
}
