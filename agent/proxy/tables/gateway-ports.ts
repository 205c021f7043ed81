// Listeners of the model → gateway ports: which share a socket, whose a host name is, and which certificate answers which server name.
import { compareHostnames, hostnameMatches } from '../../../api/compile/route-order.js';
import { type Certificate, type Listener, type ListenerTls, Protocol, TlsVersion } from '../../../api/gen/mesh/v1/model.js';
import { hostPort } from '../../../api/host-port.js';
import { certificateNames } from '../../../api/resources/tls-pem.js';
import type { Model } from '../../model/model.js';
import {
  FORWARD_CLIENT_CERT,
  type ForwardClientCert,
  type ListenerSpec,
  type PeerMatch,
  type TlsCertificateSpec,
  type TlsLimits,
} from '../../native/engine.js';
import { MAX_LISTENERS } from './layout.js';
import { peerMatch } from './peer-match.js';
import { StableIds, type StableIdsOptions } from './stable-ids.js';

/** Engine ids of the listeners for captured traffic; also their order in the `listeners` sockmap. */
export const MESH_LISTENERS = [
  { id: 0, kind: 'outbound', address: '0.0.0.0', port: 15001 },
  { id: 1, kind: 'outbound', address: '::', port: 15001 },
  { id: 2, kind: 'inbound', address: '0.0.0.0', port: 15006 },
  { id: 3, kind: 'inbound', address: '::', port: 15006 },
  // For processes of the host, in its namespace; every worker has a port of its own, which the redirection reads from the sockmap.
  { id: 4, kind: 'host-outbound', address: '127.0.0.1', port: 0 },
  { id: 5, kind: 'host-outbound', address: '::1', port: 0 },
  { id: 6, kind: 'host-inbound', address: '127.0.0.1', port: 0 },
  { id: 7, kind: 'host-inbound', address: '::1', port: 0 },
] as const;
/** Captured DNS queries; their order in the `dns_listeners` sockmap. */
export const DNS_LISTENERS = [
  { id: 8, kind: 'dns', address: '0.0.0.0', port: 53 },
  { id: 9, kind: 'dns', address: '::', port: 53 },
] as const;
/** The same in every pod that is captured by address translation; those of the mesh namespace are not open then. */
export const POD_LISTENERS = [
  { id: 0, kind: 'pod-outbound', address: '127.0.0.1' },
  { id: 1, kind: 'pod-outbound', address: '::1' },
  { id: 2, kind: 'pod-inbound', address: '0.0.0.0' },
  { id: 3, kind: 'pod-inbound', address: '::' },
] as const;
export const isHostListener = ({ kind }: { readonly kind: ListenerSpec['kind'] }): boolean => kind.startsWith('host-');
export const FIRST_GATEWAY_LISTENER = MESH_LISTENERS.length + DNS_LISTENERS.length;
export const MAX_GATEWAY_LISTENERS = MAX_LISTENERS - FIRST_GATEWAY_LISTENER;

/**
 * Ids of gateways' sockets, from 0. One rests as long as it has connections (`connectionsOf` an engine id): they would be the next owner's, whom its
 * clients never asked for and perhaps may not.
 */
export function gatewaySocketIds(
  options: Pick<StableIdsOptions, 'quarantineMs' | 'now'> & { readonly connectionsOf: (listener: number) => number },
): StableIds {
  const { quarantineMs, now, connectionsOf } = options;
  const isBusy = (id: number): boolean => connectionsOf(id + FIRST_GATEWAY_LISTENER) > 0;
  return new StableIds({ capacity: MAX_GATEWAY_LISTENERS, quarantineMs, now, isBusy });
}

/** One port of a gateway address; every address is two sockets, one for each IP version. */
export interface GatewayListener {
  /** "<namespace>/<gateway>:<port>", of the first by name where several share the port. */
  readonly name: string;
  readonly port: number;
  readonly sockets: readonly { readonly id: number; readonly address: string }[];
  /** http: requests are routed, but of TLS that passes through; opaque: whole connections are. */
  readonly protocol: 'http' | 'opaque';
  /** Host names ("": all others) for which the client's TLS goes on to the backend; only its server name is read. */
  readonly passthrough: readonly string[];
  /** Of all listeners of the port that end TLS; null: no TLS ends here. */
  readonly certificates: readonly TlsCertificateSpec[] | null;
  /** PEM: clients must show a certificate that it vouches for; null: they are not asked. */
  readonly clientTrust: string | null;
  /** Those who show none, or one that can't be verified, are let in all the same. */
  readonly clientFallback: boolean;
  /** Those who show none are let in. */
  readonly clientOptional: boolean;
  /** Whom of those that clientTrust vouches for; empty: all. */
  readonly clientAccepts: readonly PeerMatch[];
  /** Proxies in front whose X-Forwarded-* are believed; null: as this proxy is told. */
  readonly trustedHops: number | null;
  readonly forwardClientCert: ForwardClientCert;
  /** Connections begin with a PROXY protocol header. */
  readonly proxyProtocol: boolean;
}

export interface GatewayPort {
  readonly listener: GatewayListener;
  /** Told apart by hostname. Those without certificate own their hostname all the same. */
  readonly members: readonly Listener[];
}

/** Whether what the listener owns is routed at all: not without the certificates that it needs. */
export function isServed({ protocol, tls }: Listener): boolean {
  return (protocol !== Protocol.HTTPS && tls === undefined) || (tls?.certificates.length ?? 0) > 0;
}

/** Requests are routed, not connections. */
export function isHttp({ protocol }: Listener): boolean {
  return protocol === Protocol.HTTP || protocol === Protocol.HTTPS;
}

/** TLS whose end is the backend. */
export function passesTls({ protocol, tls }: Listener): boolean {
  return protocol === Protocol.TLS && tls === undefined;
}

/** The listener with the most specific hostname that covers the host (exact or wildcard; empty: any). */
export function ownerOf(host: string, listeners: readonly Listener[]): Listener | undefined {
  return listeners.filter(({ hostname }) => covers(hostname, host)).sort((a, b) => compareHostnames(a.hostname, b.hostname))[0];
}

/** Whether every host of `inner` (exact or wildcard) is one of `outer`. */
export function covers(outer: string, inner: string): boolean {
  if (outer === '' || outer === inner) return true;
  return outer.startsWith('*.') && inner !== '' && hostnameMatches(outer, inner.startsWith('*.') ? `x${inner.slice(1)}` : inner);
}

/** The model's listeners by socket. A port on which nothing can be served is not there. */
export function gatewayPorts(model: Pick<Model, 'listeners'>, ids: StableIds): { ports: GatewayPort[]; warnings: string[] } {
  const warnings: string[] = [];
  const bySocket = new Map<string, Listener[]>();
  for (const [name, listener] of [...model.listeners].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const socket = hostPort(listener.address, listener.port);
    const members = bySocket.get(socket) ?? [];
    const fault = conflictOf(listener, members, socket);
    if (fault === null) bySocket.set(socket, [...members, listener]);
    else warnings.push(`listener ${name}: ${fault}`);
  }
  const open = [...bySocket.values()].filter((members) => members.some(isServed));
  const socketsOf = ({ address, port }: Listener): { address: string; key: string }[] =>
    (address === '' ? ['0.0.0.0', '::'] : [address]).map((each) => ({ address: each, key: hostPort(each, port) }));
  const idByKey = ids.assign(open.flatMap((members) => socketsOf(members[0]!).map(({ key }) => key)));
  const ports = open.map((members) => {
    const [first] = members as [Listener, ...Listener[]];
    const { port, gateway } = first;
    const end = members.find(({ tls }) => tls !== undefined)?.tls;
    const sockets = socketsOf(first).flatMap(({ address, key }) => {
      const id = idByKey.get(key);
      if (id !== undefined) return [{ id: id + FIRST_GATEWAY_LISTENER, address }];
      warnings.push(`${key}: more than ${MAX_GATEWAY_LISTENERS} gateway sockets; it stays closed`);
      return [];
    });
    const listener: GatewayListener = {
      name: `${gateway}:${port}`,
      port,
      sockets,
      protocol: members.some(isHttp) ? 'http' : 'opaque',
      passthrough: members.filter(passesTls).map(({ hostname }) => hostname),
      certificates: end === undefined ? null : certificatesOf(members, warnings),
      clientTrust: end?.clientTrust || null,
      clientFallback: end?.clientFallback ?? false,
      clientOptional: end?.clientOptional ?? false,
      clientAccepts: end?.clientAccepts.map(peerMatch) ?? [],
      trustedHops: first.trustedHops ?? null,
      forwardClientCert: forwardClientCertOf(first),
      proxyProtocol: first.proxyProtocol,
    };
    return { listener, members };
  });
  return { ports, warnings };
}

/** TLS that passes through goes with TLS that ends: the server name tells them apart. */
function shareSocket(one: Listener, other: Listener): boolean {
  const isTls = ({ protocol }: Listener): boolean => protocol === Protocol.HTTPS || protocol === Protocol.TLS;
  return passesTls(one) || passesTls(other) ? isTls(one) && isTls(other) : one.protocol === other.protocol;
}

const SERVED: readonly Protocol[] = [Protocol.HTTP, Protocol.HTTPS, Protocol.TLS, Protocol.TCP];

function conflictOf(listener: Listener, members: readonly Listener[], socket: string): string | null {
  const { protocol, hostname, tls } = listener;
  if (!SERVED.includes(protocol)) return `protocol ${Protocol[protocol] ?? protocol} is not served by this version; it stays closed`;
  const rival = members.find((other) => !shareSocket(other, listener));
  if (rival !== undefined) return `${socket} speaks ${Protocol[rival.protocol]} for ${rival.gateway}/${rival.name}; it stays closed`;
  const end = tls === undefined ? undefined : members.find((other) => other.tls !== undefined);
  if (end?.tls !== undefined && tls !== undefined && !asksAlike(end.tls, tls))
    return `${socket} asks for other client certificates for ${end.gateway}/${end.name}; it stays closed`;
  const [first] = members;
  if (first !== undefined && (first.trustedHops !== listener.trustedHops || first.forwardClientCert !== listener.forwardClientCert))
    return `${socket} has other trusted hops or client certificates forwarded otherwise for ${first.gateway}/${first.name}; it stays closed`;
  if (first !== undefined && first.proxyProtocol !== listener.proxyProtocol)
    return `${socket} ${first.proxyProtocol ? 'takes' : 'takes no'} PROXY headers for ${first.gateway}/${first.name}; it stays closed`;
  const twin = members.find((other) => other.hostname === hostname && !(other.shared && listener.shared));
  return twin === undefined ? null : `${socket} host "${hostname}" already belongs to ${twin.gateway}/${twin.name}; it is ignored`;
}

function asksAlike(one: ListenerTls, other: ListenerTls): boolean {
  return (
    one.clientTrust === other.clientTrust &&
    one.clientFallback === other.clientFallback &&
    one.clientOptional === other.clientOptional &&
    one.clientAccepts.length === other.clientAccepts.length &&
    one.clientAccepts.every((name, index) => name === other.clientAccepts[index])
  );
}

/**
 * A listener's first certificate answers its hostname, and each of its certificates those of its own names that the hostname covers. A
 * client whose server name is no listener's is refused in the handshake, or is the listener's that has no hostname.
 */
function certificatesOf(members: readonly Listener[], warnings: string[]): TlsCertificateSpec[] {
  const taken = new Set(members.map(({ hostname }) => hostname));
  return members.flatMap((listener) =>
    (listener.tls?.certificates ?? []).flatMap((certificate, index): TlsCertificateSpec[] => {
      const { chain, key } = certificate;
      const limits = limitsOf(listener);
      if (index === 0 && listener.hostname === '') return [{ serverNames: [], chain, key, limits }];
      const own = namesOf(certificate).filter((name) => !taken.has(name) && ownerOf(name, members) === listener);
      for (const name of own) taken.add(name);
      const serverNames = index === 0 ? [listener.hostname, ...own] : own;
      if (serverNames.length > 0) return [{ serverNames, chain, key, limits }];
      warnings.push(
        `listener ${listener.gateway}/${listener.name}: certificate ${index} is not used: all its names are another certificate's or another listener's`,
      );
      return [];
    }),
  );
}

function forwardClientCertOf({ forwardClientCert }: Listener): ForwardClientCert {
  return FORWARD_CLIENT_CERT[forwardClientCert] ?? 'sanitize';
}

function limitsOf({ tls }: Listener): TlsLimits | null {
  if (tls?.limits === undefined) return null;
  const { minVersion, maxVersion, cipherSuites } = tls.limits;
  return {
    minVersion: minVersion === TlsVersion.TLS_VERSION_1_3 ? '1.3' : '1.2',
    maxVersion: maxVersion === TlsVersion.TLS_VERSION_1_2 ? '1.2' : '1.3',
    cipherSuites,
  };
}

/** Reading a certificate takes 140 µs, a generation comes with every change of an endpoint, and the model's messages stay the same objects. */
const knownNames = new WeakMap<Certificate, readonly string[]>();

function namesOf(certificate: Certificate): readonly string[] {
  const names = knownNames.get(certificate) ?? certificateNames(certificate.chain);
  knownNames.set(certificate, names);
  return names;
}
