// Where a request that somebody describes in words would come in: at a gateway's listener, or captured on its way to an address. Knows names
// and addresses; routes nothing.
import type { ExplainRequest } from '../../../api/gen/mesh/v1/explain.js';
import type { Service } from '../../../api/gen/mesh/v1/model.js';
import { hostPort } from '../../../api/host-port.js';
import type { Model } from '../../model/model.js';
import type { DescribedConnection } from '../../native/engine.js';
import { scopeFor } from '../decide/route-match.js';
import type { Generation } from '../tables/compile.js';
import type { DecisionTables } from '../tables/decision-tables.js';
import { covers, type GatewayListener, MESH_LISTENERS } from '../tables/gateway-ports.js';
import { DESTINATION_WORDS, DestinationWord, LISTENER_WORDS, ListenerWord } from '../tables/layout.js';

export interface Entrance {
  /** "gateway shop/edge:8080" */
  readonly text: string;
  readonly connection: DescribedConnection;
  /** Row in scopes; -1: no rules are for it, it is passed on. */
  readonly scope: number;
}

/** Or why there is none, in words. */
export function entranceOf(
  request: ExplainRequest,
  url: URL,
  model: Model,
  { spec, listeners }: Generation,
  tables: DecisionTables,
): Entrance | string {
  const sourceId = request.from === '' ? -1 : sourceOf(request.from, model, spec.sources);
  if (typeof sourceId === 'string') return sourceId;
  const client = {
    sourceId,
    clientAddress: request.client || model.workloads.get(request.from)?.addresses[0] || null,
    clientIdentity: request.clientIdentity || null,
  };
  const isTls = url.protocol === 'https:';
  const host = hostOf(url);
  if (request.gateway !== '' || request.from === '') {
    const found = gatewayListener(request.gateway, url, listeners, model);
    if (typeof found === 'object') {
      const id = found.sockets[0]!.id;
      const connection = { ...client, listenerId: id, destinationId: -1, serverName: isTls ? host : null };
      return { text: `gateway ${found.name}`, connection, scope: tables.listeners[id * LISTENER_WORDS + ListenerWord.Scope]! };
    }
    if (request.gateway !== '') return found;
  }
  // What the client encrypts itself is not read on its way.
  if (isTls) return `no gateway of this node ends TLS for ${host} on port ${portOf(url)}, and in the mesh a client's own TLS is not read`;
  const port = portOf(url);
  const address = addressOf(host, request.from.split('/')[0] ?? '', model);
  if (address === null)
    return `no service that this node knows is called ${host}${request.from === '' ? `, and no gateway here listens for it on port ${port}` : ''}`;
  const destinationId = spec.destinations.findIndex((each) => each.address === address && each.port === port);
  const isV6 = address.includes(':');
  const listenerId = MESH_LISTENERS.find(({ kind, address: at }) => kind === 'outbound' && at.includes(':') === isV6)!.id;
  const connection = { ...client, listenerId, destinationId, serverName: null };
  const scope = destinationId < 0 ? -1 : tables.destinations[destinationId * DESTINATION_WORDS + DestinationWord.Scope]!;
  if (scope < 0) return { text: `${hostPort(address, port)}, which is no service's`, connection, scope };
  return { text: `service ${serviceNamed(model, address, port)}`, connection, scope: scopeFor(tables, scope, sourceId) };
}

export function hostOf(url: URL): string {
  return url.hostname.replace(/^\[|\]$/g, '');
}

function portOf(url: URL): number {
  return url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : Number(url.port);
}

function sourceOf(name: string, model: Model, sources: readonly string[]): number | string {
  const workload = model.workloads.get(name);
  if (workload === undefined) {
    const known = [...model.workloads.keys()].slice(0, 5).join(', ');
    return `no workload "${name}" is known here${known === '' ? '' : `: there are ${known}${model.workloads.size > 5 ? ', …' : ''}`}`;
  }
  return sources.indexOf(workload.addresses[0] ?? '');
}

function gatewayListener(name: string, url: URL, listeners: readonly GatewayListener[], model: Model): GatewayListener | string {
  const isTls = url.protocol === 'https:';
  const host = hostOf(url);
  const hasHost = (listener: GatewayListener): boolean =>
    [...model.listeners.values()].some(
      ({ gateway, port, hostname }) => `${gateway}:${port}` === listener.name && (hostname === '' || covers(hostname, host)),
    );
  const named = listeners.filter(({ name: each }) => name === '' || each.startsWith(`${name}:`));
  // An address may be translated on its way to the gateway: its own port counts where the URL names it, and no other listener fits better.
  const fitting = named.filter((each) => isTls === (each.certificates !== null) && hasHost(each));
  const found = fitting.find(({ port }) => port === portOf(url)) ?? (name === '' ? undefined : fitting[0]);
  if (found !== undefined) return found;
  const all = named.map((each) => each.name).join(', ');
  return named.length === 0
    ? `no gateway ${name} listens on this node`
    : `no listener of the gateway is for ${url.protocol}//${host}: there are ${all}`;
}

/** A service by any of its names, those of the client's own namespace first; or the address that the host is. */
function addressOf(host: string, namespace: string, model: Model): string | null {
  if (/^[0-9.]+$/.test(host) || host.includes(':')) return host;
  const wanted = host.toLowerCase().replace(/\.$/, '');
  const named = [...model.services.values()].filter(({ hostnames }) => hostnames.includes(wanted));
  const service = named.find((each) => each.namespace === namespace) ?? named[0];
  return service === undefined ? null : (service.addresses[0] ?? firstEndpoint(service, model));
}

/** A headless service's name resolves to its endpoints. */
function firstEndpoint({ namespace, name }: Service, model: Model): string | null {
  for (const endpoint of model.endpoints.get(`${namespace}/${name}`)?.values() ?? []) return endpoint.address;
  return null;
}

function serviceNamed(model: Model, address: string, port: number): string {
  const found = [...model.services].find(
    ([, { addresses, ports }]) => addresses.includes(address) && ports.some((each) => each.port === port),
  );
  return `${found?.[0] ?? address}:${port}`;
}
