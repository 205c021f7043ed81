// What is attached to what in a compiled model, as statuses of the Gateway API tell it: routes to listeners, ListenerSets to Gateways, and the Gateways
// that lead to a Service. Pure.
import { ResourceType } from '../gen/mesh/v1/model.js';
import { isIstioGateway } from './istio-gateway.js';
import type { CompiledResource } from './wire.js';

export interface Attachments {
  /** How many routes each listener takes, by "<namespace>/<gateway>/<listener>"; none: not in it. */
  readonly routes: ReadonlyMap<string, number>;
  /** How many ListenerSets have a listener that is open, by "<namespace>/<gateway>"; none: not in it. */
  readonly listenerSets: ReadonlyMap<string, number>;
  /** Whose routes lead to a Service, by its "<namespace>/<name>"; sorted. */
  readonly gatewaysOf: ReadonlyMap<string, readonly string[]>;
}

export function attachmentsOf(resources: readonly CompiledResource[]): Attachments {
  const routes = new Map<string, number>();
  const sets = new Map<string, Set<string>>();
  const gateways = new Map<string, Set<string>>();
  for (const { type, message } of resources) {
    if (type === ResourceType.LISTENER) noteSet(message, sets);
    if (type !== ResourceType.HTTP_ROUTE && type !== ResourceType.CONNECTION_ROUTE) continue;
    const listeners = message.parents.flatMap(({ parent, section }) =>
      parent?.$case === 'gateway' && !isIstioGateway(parent.value) ? [{ of: parent.value, section }] : [],
    );
    // A route may name a listener twice, by different names of it.
    for (const listener of new Set(listeners.map(({ of, section }) => `${of}/${section}`)))
      routes.set(listener, (routes.get(listener) ?? 0) + 1);
    if (listeners.length === 0) continue;
    const backends = 'rules' in message ? message.rules.flatMap((rule) => rule.backends) : message.backends;
    for (const { service } of backends) {
      const known = gateways.get(service) ?? new Set();
      gateways.set(service, known);
      for (const { of } of listeners) known.add(of);
    }
  }
  return {
    routes,
    listenerSets: new Map([...sets].map(([gateway, names]) => [gateway, names.size])),
    gatewaysOf: new Map([...gateways].map(([service, names]) => [service, [...names].sort()])),
  };
}

/** A listener of a set is named "<namespace>/<set>/<listener>"; a Gateway's own has no "/". */
function noteSet(
  {
    gateway,
    name,
    tls,
  }: { readonly gateway: string; readonly name: string; readonly tls?: { readonly certificates: readonly unknown[] } | undefined },
  sets: Map<string, Set<string>>,
): void {
  const end = name.lastIndexOf('/');
  if (end < 0 || tls?.certificates.length === 0) return;
  sets.set(gateway, (sets.get(gateway) ?? new Set()).add(name.slice(0, end)));
}
