// Where a request that somebody describes in words would come in: at a gateway's listener, or captured on its way to an address. Knows names
// and addresses; routes nothing.
import type { ExplainRequest } from '../../../api/gen/mesh/v1/explain.js';
import { type Listener, Outside, Protocol, type Service } from '../../../api/gen/mesh/v1/model.js';
import { hostPort } from '../../../api/host-port.js';
import type { Model } from '../../model/model.js';
import type { DescribedConnection } from '../../native/engine.js';
import { scopeFor } from '../decide/route-match.js';
import type { Generation } from '../tables/compile.js';
import type { DecisionTables } from '../tables/decision-tables.js';
import { covers, type GatewayListener, isHttp, MESH_LISTENERS, ownerOf, passesTls } from '../tables/gateway-ports.js';
import { DESTINATION_WORDS, DestinationWord, LISTENER_WORDS, ListenerWord } from '../tables/layout.js';
import { lookup } from '../tables/pair-index.js';

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
    const found = gatewayDoor(request.gateway, url, listeners, model);
    if (typeof found === 'object') {
      const { gateway, port } = found.owner;
      const text = `gateway ${gateway}:${port}`;
      if (!isHttp(found.owner)) return unread(text, host);
      const id = found.listener.sockets[0]!.id;
      const connection = { ...client, listenerId: id, destinationId: -1, serverName: isTls ? host : null };
      return { text, connection, scope: tables.listeners[id * LISTENER_WORDS + ListenerWord.Scope]! };
    }
    if (request.gateway !== '') return found;
  }
  // What the client encrypts itself is not read on its way.
  if (isTls) return `no gateway of this node ends TLS for ${host} on port ${portOf(url)}, and in the mesh a client's own TLS is not read`;
  const port = portOf(url);
  const service = serviceOf(host, request.from, model);
  if (typeof service === 'string') return `${service}${request.from === '' ? `, and no gateway here listens for it on port ${port}` : ''}`;
  // Of a host outside of the mesh a client may have any address.
  const address = service === null ? host : (service.addresses[0] ?? firstEndpoint(service, model) ?? '');
  const destinationId = spec.destinations.findIndex((each) => each.address === address && each.port === port);
  const isV6 = address.includes(':');
  const listenerId = MESH_LISTENERS.find(({ kind, address: at }) => kind === 'outbound' && at.includes(':') === isV6)!.id;
  const connection = { ...client, listenerId, destinationId, serverName: null };
  const row = destinationId * DESTINATION_WORDS;
  const scope = destinationId < 0 ? -1 : tables.destinations[row + DestinationWord.Scope]!;
  if (scope >= 0) {
    const text = `service ${serviceNamed(model, address, port)}`;
    if (spec.destinations[destinationId]!.protocol === 'opaque') return unread(text, host);
    return { text, connection, scope: scopeFor(tables, scope, sourceId) };
  }
  const outside =
    destinationId < 0 ? lookup(tables.outside, namedPort(request, url), 0) : tables.destinations[row + DestinationWord.Outside]!;
  const isOutside = service !== null && service.outside !== Outside.WITHIN;
  return {
    text: isOutside ? `${host}:${port}, outside of the mesh` : `${hostPort(address, port)}, which is no service's`,
    connection,
    scope: outside,
  };
}

function unread(entrance: string, host: string): string {
  return `${entrance} reads no requests for ${host}: whole connections go by TLSRoutes, TCPRoutes, and rules for tls and tcp of VirtualServices`;
}

/** That Host names: by it a host outside of the mesh is known whose address is not. */
function namedPort({ headers }: ExplainRequest, url: URL): number {
  const host = headers.find(({ name }) => name.toLowerCase() === 'host')?.value ?? url.host;
  return Number(/:(\d+)$/.exec(host)?.[1] ?? 80);
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

/** A port of a gateway, and the listener there whose the host is. */
interface Door {
  readonly listener: GatewayListener;
  readonly owner: Listener;
}

/** Or why there is none, in words. */
function gatewayDoor(name: string, url: URL, listeners: readonly GatewayListener[], model: Model): Door | string {
  const isTls = url.protocol === 'https:';
  const host = hostOf(url);
  const ports = listeners.map((listener) => ({ listener, members: membersOf(listener, model) }));
  const named = ports.filter(({ members }) => name === '' || members.some(({ gateway }) => gateway === name));
  const doors = named.flatMap(({ listener, members }): Door[] => {
    const first = ownerOf(host, members);
    // Listeners of several gateways may share a port, and a hostname.
    const owner = members.find(({ gateway, hostname }) => hostname === first?.hostname && (name === '' || gateway === name));
    return owner !== undefined && isTls === speaksTls(owner) && (!isTls || passesTls(owner) || answersFor(listener, host))
      ? [{ listener, owner }]
      : [];
  });
  // An address may be translated on its way to the gateway: its own port counts where the URL names it, and no other listener fits better.
  const found =
    doors.find(({ owner }) => owner.port === portOf(url)) ?? (name === '' ? undefined : doors.find(({ owner }) => isHttp(owner)));
  if (found !== undefined) return found;
  const portsOf = (gateways: typeof ports): string =>
    [...new Set(gateways.flatMap(({ members }) => members.map(({ gateway, port }) => `${gateway}:${port}`)))].join(', ');
  if (named.length > 0) return `no listener of the gateway is for ${url.protocol}//${host}: there are ${portsOf(named)}`;
  return `no gateway ${name} listens on this node${ports.length === 0 ? '' : `: there are ${portsOf(ports)}`}`;
}

function membersOf({ port, sockets }: GatewayListener, { listeners }: Model): Listener[] {
  return [...listeners.values()].filter(
    (each) => each.port === port && sockets.some(({ address }) => address === (each.address || '0.0.0.0')),
  );
}

/** Some certificate does, perhaps another listener's; a wildcard stands for one label. */
function answersFor({ certificates }: GatewayListener, serverName: string): boolean {
  const wildcard = serverName.replace(/^[^.]*/, '*');
  return (certificates ?? []).some(
    ({ serverNames }) => serverNames.length === 0 || serverNames.some((name) => name === serverName || name === wildcard),
  );
}

function speaksTls({ protocol }: Listener): boolean {
  return protocol === Protocol.HTTPS || protocol === Protocol.TLS;
}

/** By any of its names, the ones in the client's own namespace first; null: the host is an address; or why there is none, in words. */
function serviceOf(host: string, from: string, model: Model): Service | null | string {
  if (/^[0-9.]+$/.test(host) || host.includes(':')) return null;
  const wanted = host.toLowerCase().replace(/\.$/, '');
  const namespace = from.split('/')[0]!;
  const services = [...model.services.values()];
  const named = services.filter(({ hostnames }) => hostnames.includes(wanted));
  const wild = services.filter(({ hostnames }) => hostnames.some((hostname) => hostname !== '' && covers(hostname, wanted)));
  const found = named.find((each) => each.namespace === namespace) ?? named[0] ?? wild[0];
  if (found === undefined || (found.outside === Outside.WITHIN && found.addresses.length === 0 && firstEndpoint(found, model) === null))
    return `no service that this node knows is called ${host}`;
  // Resolvers add the client's own namespace.
  const isShort = found.hostnames.includes(`${wanted}.${found.namespace}`);
  return isShort && from !== '' && found.namespace !== namespace
    ? `no service of ${namespace} is called ${host}: there is ${host}.${found.namespace}`
    : found;
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
