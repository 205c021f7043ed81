// Istio's Gateway → Listeners of the model, one for each host of a server, and a route that redirects to HTTPS where a server asks for it; and which
// VirtualServices a server takes. One Gateway at a time. Its Secrets are those of its own namespace, else of Istio's root namespace.
import { isIP } from 'node:net';
import {
  ForwardClientCert,
  type HttpRoute,
  type ListenerTls,
  Protocol,
  Redirect_PortFrom,
  type TlsLimits,
  TlsVersion,
} from '../gen/mesh/v1/model.js';
import { caBundle, gatewayForwarding, ROOT_NAMESPACE, TLS_CIPHER_SUITES, trustFault } from '../resources/index.js';
import { isCertificateName } from '../resources/kind-backend-tls-policy.js';
import { portConflicts } from '../resources/kind-gateway.js';
import { canonicalAddress } from './address.js';
import { NO_BACKEND } from './backend.js';
import { CLOSED_TLS, type NamedListener } from './gateway.js';
import { readSecret, timeFault } from './gateway-secret.js';
import { nameOf, type ObjectIndex, type Stored } from './input.js';
import type { ReportProblem } from './problem.js';

export type IstioGateway = Stored<'IstioGateway'>;
type Server = IstioGateway['manifest']['spec']['servers'][number];
type ServerTls = NonNullable<Server['tls']>;

/** One host of a server. */
export interface ServerHost {
  /** The Listener's name. */
  readonly section: string;
  readonly port: number;
  /** As of Listener; of bytes always empty. */
  readonly hostname: string;
  /** As they are written, without namespaces, for hosts of VirtualServices to be among: of bytes there is no name to go by. */
  readonly hosts: readonly string[];
  /** Whose VirtualServices it takes; null: all. */
  readonly namespaces: readonly string[] | null;
  /** Which of a VirtualService's rules; services: none, server names say which service; nothing: all is redirected. */
  readonly takes: 'http' | 'tls' | 'tcp' | 'services' | 'nothing';
}

const MARK = '@istio';

/** No name of an object: a Gateway of the Gateway API may be called alike. */
export function istioGatewayName(gateway: { readonly namespace: string; readonly name: string }): string {
  return `${nameOf(gateway)}${MARK}`;
}

export function isIstioGateway(name: string): boolean {
  return name.endsWith(MARK);
}

const PROTOCOLS: Readonly<Record<string, Protocol>> = {
  HTTP: Protocol.HTTP,
  HTTP2: Protocol.HTTP,
  GRPC: Protocol.HTTP,
  'GRPC-WEB': Protocol.HTTP,
  HTTPS: Protocol.HTTPS,
  TLS: Protocol.TLS,
  TCP: Protocol.TCP,
  MONGO: Protocol.TCP,
  REDIS: Protocol.TCP,
  MYSQL: Protocol.TCP,
};

function protocolOf({ port }: Server): Protocol | undefined {
  return PROTOCOLS[port.protocol.toUpperCase()];
}

/** Istio's default is the first of its enumeration. */
function modeOf({ mode }: ServerTls): NonNullable<ServerTls['mode']> {
  return mode ?? 'PASSTHROUGH';
}

function passesTls(server: Server): boolean {
  const protocol = protocolOf(server);
  return (protocol === Protocol.HTTPS || protocol === Protocol.TLS) && /PASSTHROUGH$/.test(modeOf(server.tls ?? {}));
}

function isAuto({ tls }: Server): boolean {
  return tls?.mode === 'AUTO_PASSTHROUGH';
}

function takenBy(server: Server): ServerHost['takes'] {
  if (passesTls(server)) return isAuto(server) ? 'services' : 'tls';
  const protocol = protocolOf(server);
  if (protocol === Protocol.HTTP) return server.tls?.httpsRedirect === true ? 'nothing' : 'http';
  return protocol === Protocol.HTTPS ? 'http' : 'tcp';
}

/** Those of a server that nothing listens for, too. */
export function serverHosts(gateway: IstioGateway): ServerHost[] {
  return gateway.manifest.spec.servers.flatMap((server, at) => hostsOf(gateway, server, at));
}

function hostsOf({ namespace: own, manifest }: IstioGateway, server: Server, at: number): ServerHost[] {
  const { servers } = manifest.spec;
  const byHost = new Map<string, string[] | null>();
  for (const text of server.hosts) {
    const slash = text.indexOf('/');
    const [from, host] = slash < 0 ? ['*', text] : [text.slice(0, slash), text.slice(slash + 1)];
    const known = byHost.get(host.toLowerCase());
    if (known === null || from === '~') continue;
    byHost.set(host.toLowerCase(), from === '*' ? null : [...(known ?? []), from === '.' ? own : from]);
  }
  const first = servers.findIndex(({ port }) => port.name === server.port.name);
  const base = first === at && server.port.name !== '' ? server.port.name : `${server.port.number}-${at}`;
  const common = { port: server.port.number, takes: takenBy(server) };
  const hosts = [...byHost.keys()];
  if (protocolOf(server) === Protocol.TCP) {
    const all = [...byHost.values()];
    const namespaces = all.includes(null) ? null : [...new Set(all.flatMap((each) => each ?? []))];
    return [{ ...common, section: base, hostname: '', hosts, namespaces }];
  }
  return [...byHost].map(([host, namespaces]) => ({
    ...common,
    section: hosts.length === 1 ? base : `${base}:${host}`,
    // Names of services stand behind a port and a subset there.
    hostname: host === '*' ? '' : isAuto(server) && !host.startsWith('*') ? `*.${host}` : host,
    hosts: [host],
    namespaces,
  }));
}

export interface IstioGatewayContext {
  readonly index: Pick<ObjectIndex, 'secrets'>;
  /** Milliseconds since the epoch; null: nothing expires. */
  readonly nowMs: number | null;
  readonly report: ReportProblem;
}

export interface CompiledIstioGateway {
  readonly listeners: readonly NamedListener[];
  readonly redirects: readonly HttpRoute[];
}

export function compileIstioGateway(gateway: IstioGateway, context: IstioGatewayContext): CompiledIstioGateway {
  const { servers } = gateway.manifest.spec;
  const { trustedHops, clientCert, proxyProtocol } = gatewayForwarding(gateway.manifest.metadata.annotations);
  const conflicts = portConflicts(
    servers.map((server) => ({
      port: server.port.number,
      protocol: Protocol[protocolOf(server) ?? Protocol.UNSPECIFIED],
      tls: passesTls(server) ? { mode: 'Passthrough' } : {},
    })),
  );
  const redirecting: ServerHost[] = [];
  const listeners = servers.flatMap((server, at): NamedListener[] => {
    const path = `spec.servers[${at}]`;
    const protocol = protocolOf(server);
    const earlier = conflicts.get(at);
    const fault =
      earlier === undefined ? serverFault(server) : `port ${server.port.number} has another protocol by servers[${earlier}] already`;
    if (fault !== null || protocol === undefined) {
      context.report(path, `${fault}: nothing listens for it`, earlier === undefined ? 'UnsupportedValue' : 'ProtocolConflict');
      return [];
    }
    const hosts = hostsOf(gateway, server, at).filter(({ hostname }) => isNameable(hostname, path, context.report));
    if (takenBy(server) === 'nothing') redirecting.push(...hosts);
    const passes = passesTls(server);
    const endsTls = !passes && (protocol === Protocol.HTTPS || protocol === Protocol.TLS);
    const tls = endsTls ? compileTls(gateway, server.tls ?? {}, `${path}.tls`, context) : undefined;
    const address = server.bind === undefined || server.bind === '' ? '' : canonicalAddress(server.bind);
    return hosts.map(({ section, hostname, port }) => ({
      name: `${istioGatewayName(gateway)}/${section}`,
      message: {
        gateway: istioGatewayName(gateway),
        name: section,
        address,
        port,
        protocol: passes ? Protocol.TLS : protocol,
        hostname,
        tls,
        backendCertificate: undefined,
        trustedHops,
        forwardClientCert: ForwardClientCert[clientCert],
        proxyProtocol,
        shared: protocol === Protocol.HTTP,
        rateLimits: [],
        filters: [],
      },
    }));
  });
  return { listeners, redirects: redirecting.length === 0 ? [] : [redirectOf(gateway, redirecting)] };
}

/** What the model can name: a host, or "*." and a suffix. */
export function isNameable(hostname: string, path: string, report: ReportProblem): boolean {
  if (!hostname.includes('*') || /^\*\.[^*]+$/.test(hostname)) return true;
  report(`${path}.hosts`, `${hostname} is no whole label before a suffix ("*.shop.example"): it has no effect`, 'UnsupportedValue');
  return false;
}

function serverFault(server: Server): string | null {
  const { tls, bind } = server;
  if (protocolOf(server) === undefined) return `protocol ${server.port.protocol} is not supported`;
  if (bind !== undefined && bind !== '' && isIP(bind) === 0) return `bind ${bind} is no IP address`;
  return tls?.mode === 'ISTIO_MUTUAL' ? 'TLS of mode ISTIO_MUTUAL is not supported: there is no mutual TLS within the mesh yet' : null;
}

/** Host and path stay; the port is that of https (Istio). */
function redirectOf({ namespace, name, createdAtMs }: IstioGateway, hosts: readonly ServerHost[]): HttpRoute {
  const gateway = istioGatewayName({ namespace, name });
  const redirect = { scheme: 'https', host: '', port: 0, path: undefined, portFrom: Redirect_PortFrom.SCHEME };
  const answer = { status: 301, body: Buffer.alloc(0), redirect, grpcStatusPlusOne: 0 };
  return {
    kind: 'IstioGateway',
    namespace,
    name,
    createdAtMs,
    parents: hosts.map(({ section, port }) => ({
      parent: { $case: 'gateway', value: gateway },
      port,
      section,
      consumerNamespace: '',
    })),
    hostnames: [],
    rules: [
      {
        name: 'httpsRedirect',
        matches: [],
        backends: [{ ...NO_BACKEND, answer }],
        requestHeaders: undefined,
        responseHeaders: undefined,
        requestTimeoutMs: 0,
        backendTimeoutMs: 0,
        mirrors: [],
        filters: [],
        cors: undefined,
        retry: undefined,
        fault: undefined,
        rateLimits: [],
        sessionPersistence: undefined,
      },
    ],
    inOrder: true,
  };
}

function compileTls(gateway: IstioGateway, tls: ServerTls, path: string, context: IstioGatewayContext): ListenerTls {
  const { report } = context;
  const refuse = (field: string, why: string): ListenerTls => {
    report(`${path}.${field}`, `${why}: the listener is closed`, 'InvalidCertificateRef');
    return CLOSED_TLS;
  };
  for (const field of ['verifyCertificateSpki', 'verifyCertificateHash', 'caCrl'] as const) {
    const asked = tls[field];
    if (asked !== undefined && asked.length > 0) return refuse(field, 'clients can be verified by the authority and subjectAltNames alone');
  }
  const [name, ...more] = [tls.credentialName ?? '', ...(tls.credentialNames ?? [])].filter((each) => each !== '');
  if (more.length > 0)
    report(`${path}.credentialNames`, `one certificate is served, of Secret ${name}: ${more} has no effect`, 'UnsupportedValue');
  if (name === undefined) return refuse('credentialName', 'certificates are those of Secrets, never files of a node');
  const secret = secretOf(gateway, name, context);
  const read = secret === undefined ? null : readSecret(secret.manifest);
  if (secret === undefined || read === null) return refuse('credentialName', `no Secret ${placesOf(gateway, name)}`);
  if (read.fault !== null) return refuse('credentialName', `Secret ${nameOf(secret)}: ${read.fault}`);
  const fault = timeFault(read.times, context.nowMs);
  if (fault !== null)
    report(
      `${path}.credentialName`,
      `the certificate of Secret ${nameOf(secret)} ${fault}: clients will refuse it; renew it`,
      'CertificateExpired',
    );
  const served = { ...CLOSED_TLS, certificates: [read.pair], limits: limitsOf(tls, path, report) };
  const mode = modeOf(tls);
  if (mode === 'SIMPLE' && (tls.subjectAltNames?.length ?? 0) > 0)
    return refuse('subjectAltNames', 'clients show no certificate with mode SIMPLE: MUTUAL asks for one');
  if (mode === 'SIMPLE') return served;
  const trust = authoritiesOf(gateway, tls, name, context);
  if (trust === null || trust === '')
    return refuse('credentialName', `no authority for clients: expected ca.crt in Secret ${nameOf(secret)}, or a Secret ${name}-cacert`);
  const bad = trustFault(trust);
  if (bad !== null) return refuse('credentialName', `the authority for clients: ${bad}`);
  const clientAccepts = acceptedNames(tls, path, report);
  if (clientAccepts === null) return refuse('subjectAltNames', 'no certificate of a client has any of these names');
  return { ...served, clientTrust: trust, clientOptional: mode === 'OPTIONAL_MUTUAL', clientAccepts };
}

/** Of clients, any one; empty: whoever the authority vouches for. Null: there are names, and none that is looked for. */
function acceptedNames({ subjectAltNames = [] }: ServerTls, path: string, report: ReportProblem): string[] | null {
  const names = subjectAltNames.filter(isCertificateName);
  for (const [index, name] of subjectAltNames.entries())
    if (!names.includes(name))
      report(
        `${path}.subjectAltNames[${index}]`,
        `expected a SPIFFE ID, a DNS name or an address, found "${name}": it is left out`,
        'UnsupportedValue',
      );
  return names.length === 0 && subjectAltNames.length > 0 ? null : names;
}

function authoritiesOf(gateway: IstioGateway, tls: ServerTls, name: string, context: IstioGatewayContext): string | null {
  const asked = tls.caCertCredentialName ?? '';
  for (const each of asked === '' ? [name, `${name}-cacert`] : [asked]) {
    const secret = secretOf(gateway, each, context);
    const bundle = secret === undefined ? '' : caBundle(secret.manifest);
    if (bundle !== '') return bundle;
  }
  return null;
}

function secretOf({ namespace }: IstioGateway, name: string, { index }: IstioGatewayContext): Stored<'Secret'> | undefined {
  return index.secrets.get(`${namespace}/${name}`) ?? index.secrets.get(`${ROOT_NAMESPACE}/${name}`);
}

function placesOf({ namespace }: IstioGateway, name: string): string {
  return [...new Set([namespace, ROOT_NAMESPACE])].map((each) => `${each}/${name}`).join(' nor ');
}

const MIN_VERSIONS: Readonly<Record<string, TlsVersion>> = { TLSV1_3: TlsVersion.TLS_VERSION_1_3 };

/** By OpenSSL's name, as Envoy has it. Of TLS 1.3 Envoy's can't be chosen. */
function suiteNamed(name: string): string | undefined {
  const iana = `TLS_${name.replace(/-/g, '_').replace(/^(ECDHE_(?:ECDSA|RSA))_AES(\d+)/, '$1_WITH_AES_$2')}`.replace(
    /^(TLS_ECDHE_(?:ECDSA|RSA))_CHACHA20_POLY1305$/,
    '$1_WITH_CHACHA20_POLY1305_SHA256',
  );
  return [name, iana].find((each) => TLS_CIPHER_SUITES.has(each));
}

function limitsOf(
  { minProtocolVersion, maxProtocolVersion, cipherSuites }: ServerTls,
  path: string,
  report: ReportProblem,
): TlsLimits | undefined {
  if (minProtocolVersion === undefined && maxProtocolVersion === undefined && (cipherSuites ?? []).length === 0) return undefined;
  const chosen = (cipherSuites ?? []).flatMap((name, at) => {
    const suite = suiteNamed(name);
    if (suite === undefined)
      report(
        `${path}.cipherSuites[${at}]`,
        `${name} is not offered: every suite here is forward secret and authenticated`,
        'UnsupportedValue',
      );
    return suite ?? [];
  });
  for (const [field, version] of Object.entries({ minProtocolVersion, maxProtocolVersion }))
    if (version === 'TLSV1_0' || version === 'TLSV1_1')
      report(`${path}.${field}`, `${version} is not spoken: TLSV1_2 is the oldest and stands in its place`, 'UnsupportedValue');
  const newest = [...TLS_CIPHER_SUITES].flatMap(([suite, version]) => (version === '1.3' ? [suite] : []));
  return {
    minVersion: MIN_VERSIONS[minProtocolVersion ?? ''] ?? TlsVersion.TLS_VERSION_1_2,
    maxVersion:
      maxProtocolVersion === undefined || maxProtocolVersion === 'TLS_AUTO' || maxProtocolVersion === 'TLSV1_3'
        ? TlsVersion.TLS_VERSION_1_3
        : TlsVersion.TLS_VERSION_1_2,
    cipherSuites: (cipherSuites ?? []).length === 0 ? [] : [...new Set([...newest, ...chosen])],
  };
}
