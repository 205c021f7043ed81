// One revision of the model as interest sees it: which services a namespace sees, where routes lead from there, who runs where, who may call whom.
// Made where something is narrowed; asked node by node. Holds no node's state.
import { isDeepStrictEqual } from 'node:util';
import { type CompiledResource, type EgressScope, runsOn, type Visibility } from '../../api/compile/index.js';
import type { HttpRule, Service, Workload } from '../../api/gen/mesh/v1/model.js';
import { ResourceType } from '../../api/gen/mesh/v1/model.js';
import { Reach } from './reach.js';
import { NO_UNITS, type UnitNumbers, UnitSet } from './unit-set.js';
import { consumerUnit, gatewayUnit, parentUnits, serviceUnit, workloadsUnit } from './units.js';

/** What runs on a node. */
interface Place {
  /** Of its workloads, captured or not: one that isn't may be a client of the agent's, for gRPC without a proxy. */
  readonly reaches: Set<Reach>;
  readonly namespaces: Set<string>;
}

export interface NodeParts {
  readonly reaches: readonly Reach[];
  /** Units beside them. */
  readonly units: readonly string[];
  readonly namespaces: readonly string[];
  readonly gateways: readonly string[];
}

export class Topology {
  readonly services = new Map<string, Service>();
  readonly #numbers: UnitNumbers;
  readonly #visibility: Visibility;
  readonly #all = new UnitSet();
  readonly #everyones = new UnitSet();
  /** By namespace: of its services, and of those that others let it see. */
  readonly #within = new Map<string, UnitSet>();
  readonly #exported = new Map<string, UnitSet>();
  /** By hostname: numbers of the services that have it. */
  readonly #byHostname = new Map<string, Set<number>>();
  /** By unit: services to which the routes of it lead. */
  readonly #leads = new Map<string, Set<string>>();
  /** By namespace: services with routes for its clients alone. */
  readonly #consumed = new Map<string, Set<string>>();
  readonly #places = new Map<string, Place>();
  /** By node: services with endpoints there, or that it checks. */
  readonly #hosted = new Map<string, Set<string>>();
  /** By name. */
  readonly #gateways = new Map<string, Reach>();
  readonly #scopes = new Map<string, Reach>();
  /** By namespace: those with workloads that may call it. */
  readonly #callers = new Map<string, Set<string>>();

  /** `earlier`: of the revision before; what is as it was there keeps its digest. */
  constructor(resources: readonly CompiledResource[], visibility: Visibility, numbers: UnitNumbers, earlier: Topology | null) {
    this.#numbers = numbers;
    this.#visibility = visibility;
    const gateways = new Set<string>();
    const workloads = new Map<string, Workload>();
    for (const resource of resources) {
      if (resource.type === ResourceType.SERVICE) this.#addService(resource.name, resource.message);
      else if (resource.type === ResourceType.LISTENER) {
        gateways.add(resource.message.gateway);
        this.#addLeads(gatewayUnit(resource.message.gateway), countersOf(resource.message));
      } else if (resource.type === ResourceType.WORKLOAD) workloads.set(resource.name, resource.message);
      else if (resource.type === ResourceType.HTTP_ROUTE) this.#addRoute(resource.message, resource.message.rules.flatMap(leadsOf));
      else if (resource.type === ResourceType.CONNECTION_ROUTE) this.#addRoute(resource.message, resource.message.backends);
    }
    for (const gateway of gateways) this.#gateways.set(gateway, this.#gatewayReach(gateway, earlier));
    for (const workload of workloads.values()) this.#addWorkload(workload, earlier);
    for (const resource of resources) {
      if (resource.type !== ResourceType.ENDPOINT) continue;
      const { service, node, workload, check } = resource.message;
      setIn(this.#hosted, node === '' ? (workloads.get(workload)?.node ?? '') : node).add(service);
      if (check !== undefined) setIn(this.#hosted, check.node).add(service);
    }
  }

  partsOf(node: string): NodeParts {
    const place = this.#places.get(node);
    const gateways = [...this.#gateways.keys()].filter((gateway) => runsOn(this.#visibility, gateway, node)).sort();
    const reaches = [...(place?.reaches ?? []), ...gateways.map((gateway) => this.#gateways.get(gateway) as Reach)];
    // What is known of connections that come in: which service they are for, and who makes them.
    const hosted = [...(this.#hosted.get(node) ?? [])].flatMap((name) => {
      const service = this.services.get(name);
      return [name, ...(service === undefined ? [] : countersOf(service)).map((counter) => counter.service)];
    });
    const beside = [...new Set(hosted.map(serviceUnit))].filter((unit) => !reaches.some(({ units }) => units.has(this.#numbers.of(unit))));
    const namespaces = new Set(place?.namespaces);
    for (const called of place?.namespaces ?? []) for (const caller of this.#callers.get(called) ?? []) namespaces.add(caller);
    const told = [...namespaces].sort();
    return { reaches, units: [...beside, ...told.map(workloadsUnit)], namespaces: told, gateways };
  }

  #addService(name: string, service: Service): void {
    this.services.set(name, service);
    const number = this.#numbers.of(serviceUnit(name));
    this.#all.add(number);
    unitsIn(this.#within, service.namespace).add(number);
    this.#addLeads(serviceUnit(name), countersOf(service));
    for (const hostname of service.hostnames) setIn(this.#byHostname, hostname).add(number);
    const seenBy = this.#visibility.exports.get(name);
    if (seenBy === undefined) this.#everyones.add(number);
    else for (const namespace of seenBy) unitsIn(this.#exported, namespace).add(number);
  }

  #addRoute({ parents }: { readonly parents: Parameters<typeof parentUnits>[0] }, backends: readonly { readonly service: string }[]): void {
    for (const unit of parentUnits(parents)) this.#addLeads(unit, backends);
    for (const { parent, consumerNamespace } of parents)
      if (consumerNamespace !== '' && parent?.$case === 'service') setIn(this.#consumed, consumerNamespace).add(parent.value);
  }

  #addLeads(unit: string, services: readonly { readonly service: string }[]): void {
    for (const { service } of services) setIn(this.#leads, unit).add(service);
  }

  #addWorkload({ namespace, labels, node }: Workload, earlier: Topology | null): void {
    const reach = this.#scopeReach(namespace, this.#sidecarFor(namespace, labels), earlier);
    if (node === '') return;
    let place = this.#places.get(node);
    if (place === undefined) {
      place = { reaches: new Set(), namespaces: new Set() };
      this.#places.set(node, place);
    }
    place.reaches.add(reach);
    place.namespaces.add(namespace);
  }

  /** One that selects it, else its namespace's, else the mesh's; of several the oldest. */
  #sidecarFor(namespace: string, labels: Readonly<Record<string, string>>): EgressScope | null {
    const { sidecars } = this.#visibility;
    const own = sidecars.filter((sidecar) => sidecar.namespace === namespace);
    const selecting = own.find(
      ({ selector }) => selector !== null && Object.entries(selector).every(([key, value]) => labels[key] === value),
    );
    return selecting ?? own.find(({ selector }) => selector === null) ?? sidecars.find(({ isOfMesh }) => isOfMesh) ?? null;
  }

  #scopeReach(namespace: string, sidecar: EgressScope | null, earlier: Topology | null): Reach {
    const key = `${namespace} ${sidecar?.name ?? ''}`;
    let reach = this.#scopes.get(key);
    if (reach === undefined) {
      const units = new UnitSet();
      units.addAll(this.#everyones);
      units.addAll(this.#exported.get(namespace) ?? NO_UNITS);
      if (sidecar !== null) units.keepAll(this.#asked(namespace, sidecar));
      reach = this.#follow(units, namespace, earlier === null ? undefined : earlier.#scopes.get(key));
      this.#scopes.set(key, reach);
      for (const called of reach.namespaces) setIn(this.#callers, called).add(namespace);
    }
    return reach;
  }

  /** All services that its hosts name, exported or not. */
  #asked(own: string, { hosts }: EgressScope): UnitSet {
    const asked = new UnitSet();
    for (const { namespace, host } of hosts) {
      const from = namespace === '*' ? this.#all : (this.#within.get(namespace === '.' ? own : namespace) ?? NO_UNITS);
      if (host === '*') asked.addAll(from);
      else for (const number of this.#answeringTo(host)) if (from.has(number)) asked.add(number);
    }
    return asked;
  }

  /** Numbers of the services that a host "*.suffix", or a whole one, names. */
  #answeringTo(host: string): Iterable<number> {
    if (!host.startsWith('*')) return this.#byHostname.get(host) ?? [];
    const suffix = host.slice(1);
    return [...this.#byHostname].flatMap(([hostname, numbers]) => (hostname.endsWith(suffix) ? [...numbers] : []));
  }

  #gatewayReach(gateway: string, earlier: Topology | null): Reach {
    const units = new UnitSet();
    units.add(this.#numbers.of(gatewayUnit(gateway)));
    return this.#follow(units, null, earlier === null ? undefined : earlier.#gateways.get(gateway));
  }

  /**
   * Where routes lead is seen too, and its routes, and so on: half of a service would be handled as if it had none. `consumer`: the namespace that sees; of
   * routes that are for clients of one namespace it sees its own.
   */
  #follow(units: UnitSet, consumer: string | null, earlier: Reach | undefined): Reach {
    const open = [...this.#leads.keys()].filter((unit) => units.has(this.#numbers.of(unit)));
    if (consumer !== null)
      for (const service of this.#consumed.get(consumer) ?? [])
        if (units.has(this.#numbers.of(serviceUnit(service)))) this.#seeAsConsumer(service, consumer, units, open);
    for (let unit = open.pop(); unit !== undefined; unit = open.pop()) {
      for (const service of this.#leads.get(unit) ?? []) {
        const number = this.#numbers.of(serviceUnit(service));
        if (units.has(number) || !this.services.has(service)) continue;
        units.add(number);
        open.push(serviceUnit(service));
        if (consumer !== null && this.#consumed.get(consumer)?.has(service) === true) this.#seeAsConsumer(service, consumer, units, open);
      }
    }
    return earlier?.units.equals(units) === true ? earlier : new Reach(units, this.#numbers, this.services);
  }

  #seeAsConsumer(service: string, consumer: string, units: UnitSet, open: string[]): void {
    const unit = consumerUnit(service, consumer);
    units.add(this.#numbers.of(unit));
    open.push(unit);
  }
}

/** Whether a topology of the one is that of the other. Most revisions change addresses and health, of which it knows nothing. */
export function isAlike(a: readonly CompiledResource[], b: readonly CompiledResource[]): boolean {
  return a.length === b.length && a.every((each, index) => each === b[index] || isDeepStrictEqual(factsOf(each), factsOf(b[index])));
}

/** All that a topology reads of a resource. */
function factsOf(resource: CompiledResource | undefined): unknown {
  switch (resource?.type) {
    case ResourceType.SERVICE:
      return [resource.name, resource.message.hostnames, namesOf(countersOf(resource.message))];
    case ResourceType.ENDPOINT:
      return [resource.message.service, resource.message.node, resource.message.workload, resource.message.check?.node];
    case ResourceType.HTTP_ROUTE:
      return [resource.message.parents, resource.message.rules.flatMap((rule) => namesOf(leadsOf(rule)))];
    case ResourceType.CONNECTION_ROUTE:
      return [resource.message.parents, namesOf(resource.message.backends)];
    case ResourceType.LISTENER:
      return [resource.message.gateway, namesOf(countersOf(resource.message))];
    case ResourceType.WORKLOAD:
      return [resource.name, resource.message.node, resource.message.labels];
    default:
      return undefined;
  }
}

/** Whom requests of the rule make somebody ask. */
function leadsOf(rule: HttpRule): { readonly service: string }[] {
  return [...rule.backends, ...rule.mirrors, ...rule.backends.flatMap(({ mirrors }) => mirrors), ...countersOf(rule)];
}

/** Services that count the rate limits. */
function countersOf({ rateLimits }: Pick<HttpRule, 'rateLimits'>): { readonly service: string }[] {
  return rateLimits.flatMap(({ service }) => service ?? []);
}

/** Not their weights: a step of a canary leads where it led before. */
function namesOf(backends: readonly { readonly service: string }[]): string[] {
  return backends.map(({ service }) => service);
}

function setIn<Value>(sets: Map<string, Set<Value>>, key: string): Set<Value> {
  let set = sets.get(key);
  if (set === undefined) {
    set = new Set();
    sets.set(key, set);
  }
  return set;
}

function unitsIn(sets: Map<string, UnitSet>, key: string): UnitSet {
  let set = sets.get(key);
  if (set === undefined) {
    set = new UnitSet();
    sets.set(key, set);
  }
  return set;
}
