// All listeners of a Gateway: its own, and those that ListenerSets add where it allows them. One Gateway at a time. Owner: Gateway API v1
// (ListenerSet, distinct listeners).
import { isOpened, portConflicts } from '../resources/kind-gateway.js';
import { selects } from '../resources/label-selector.js';
import type { Stored } from './input.js';

export type ListenerOwner = Stored<'Gateway'> | Stored<'ListenerSet'>;
export type DeclaredListener = Stored<'Gateway'>['manifest']['spec']['listeners'][number];

export interface GatewayListener {
  /** Names in it are relative to its namespace. */
  readonly owner: ListenerOwner;
  readonly listener: DeclaredListener;
  /** In the owner's list. */
  readonly position: number;
  /** Unique in the Gateway. */
  readonly section: string;
  /** Nothing listens for it: another one has its port, or its host there. Null: none has. */
  readonly conflict: { readonly reason: 'ProtocolConflict' | 'HostnameConflict'; readonly message: string } | null;
}

type Namespaces = ReadonlyMap<string, Stored<'Namespace'>>;

/** `sets`: those that name the Gateway, the one in force first. */
export function listenersOf(gateway: Stored<'Gateway'>, sets: readonly Stored<'ListenerSet'>[], namespaces: Namespaces): GatewayListener[] {
  const found = [gateway, ...sets.filter((set) => allowsListenersOf(gateway, set, namespaces))].flatMap((owner: ListenerOwner) =>
    owner.manifest.spec.listeners.map((listener, position) => ({
      owner,
      listener,
      position,
      section: owner.kind === 'Gateway' ? listener.name : `${owner.namespace}/${owner.name}/${listener.name}`,
    })),
  );
  const conflicts = portConflicts(found.map(({ listener }) => listener));
  return found.map((each, at) => {
    const { port, hostname } = each.listener;
    const rival = conflicts.get(at);
    if (rival !== undefined)
      return {
        ...each,
        conflict: { reason: 'ProtocolConflict', message: `port ${port} has the protocol of listener ${found[rival]?.section}` },
      };
    const twin = found.findIndex(
      ({ listener }, earlier) =>
        earlier < at && !conflicts.has(earlier) && listener.port === port && listener.hostname === hostname && isOpened(listener),
    );
    if (twin < 0 || !isOpened(each.listener)) return { ...each, conflict: null };
    const message = `listener ${found[twin]?.section} has port ${port} for ${hostname ?? 'every host'}`;
    return { ...each, conflict: { reason: 'HostnameConflict', message } };
  });
}

/** Gateway API: none, unless the Gateway says so. */
export function allowsListenersOf(gateway: Stored<'Gateway'>, set: Stored<'ListenerSet'>, namespaces: Namespaces): boolean {
  const { from = 'None', selector } = gateway.manifest.spec.allowedListeners?.namespaces ?? {};
  if (from === 'Same') return set.namespace === gateway.namespace;
  return from === 'All' || (from === 'Selector' && selector !== undefined && selectsNamespace(selector, set.namespace, namespaces));
}

/** Every namespace has its name as a label, as Kubernetes gives it. */
export function selectsNamespace(selector: Parameters<typeof selects>[0], namespace: string, namespaces: Namespaces): boolean {
  return selects(selector, { ...namespaces.get(namespace)?.manifest.metadata.labels, 'kubernetes.io/metadata.name': namespace });
}
