// Gateway → Listeners of the model, one per listener and address, with the certificates that its Secrets hold. One gateway at a time.
import {
  type Certificate,
  ForwardClientCert,
  type Listener,
  type ListenerTls,
  Protocol,
  type TlsLimits,
  TlsVersion,
} from '../gen/mesh/v1/model.js';
import { acceptedClients, CLIENT_NAMES, gatewayForwarding, tlsLimits } from '../resources/index.js';
import { canonicalAddress } from './address.js';
import type { GatewayListener, ListenerOwner } from './gateway-listeners.js';
import { readSecret, timeFault } from './gateway-secret.js';
import { nameOf, type ObjectIndex, type Stored } from './input.js';
import type { ReportProblem } from './problem.js';
import { rateLimitsOfGateway } from './rate-limits.js';
import { isGranted, notGranted } from './reference-grants.js';
import { type TrustIndex, trustOf } from './trust.js';

/** The listener owns its hosts and serves nothing; what others add to. */
export const CLOSED_TLS: ListenerTls = {
  certificates: [],
  clientTrust: '',
  clientFallback: false,
  clientOptional: false,
  clientAccepts: [],
  limits: undefined,
};

export interface NamedListener {
  /** "<namespace>/<gateway>/<listener>", with "/<address>" appended from the second address on. */
  readonly name: string;
  readonly message: Listener;
}

export interface GatewayContext {
  readonly index: Pick<ObjectIndex, 'secrets' | 'gatewayListeners' | 'limitsByTarget' | 'filterTargets'> & TrustIndex;
  /** Milliseconds since the epoch; null: nothing expires. */
  readonly nowMs: number | null;
  /** Of the Gateway itself. */
  readonly report: ReportProblem;
  readonly reporter: (owner: ListenerOwner) => ReportProblem;
}

const PROTOCOLS: Readonly<Record<string, Protocol>> = { HTTP: Protocol.HTTP, HTTPS: Protocol.HTTPS, TLS: Protocol.TLS, TCP: Protocol.TCP };

export function compileGateway(gateway: Stored<'Gateway'>, context: GatewayContext): NamedListener[] {
  const parameters = gateway.manifest.spec.infrastructure?.parametersRef;
  if (parameters !== undefined) {
    // Who asks for what nobody here knows must not get something else (Gateway API: the Gateway is not accepted).
    const path = 'spec.infrastructure.parametersRef';
    context.report(path, `parameters of kind ${parameters.kind} are not known: nothing listens for the gateway`, 'InvalidParameters');
    return [];
  }
  const addresses = addressesOf(gateway, context);
  const backendCertificate = backendCertificateOf(gateway, context);
  const { trustedHops, clientCert, proxyProtocol } = gatewayForwarding(gateway.manifest.metadata.annotations);
  const forwardClientCert = ForwardClientCert[clientCert];
  const rateLimits = rateLimitsOfGateway(nameOf(gateway), context.index);
  return (context.index.gatewayListeners.get(nameOf(gateway)) ?? []).flatMap((each) => {
    const { owner, listener, position, section, conflict } = each;
    const report = context.reporter(owner);
    if (conflict !== null) {
      report(`spec.listeners[${position}]`, `${conflict.message}: nothing listens for ${listener.name}`, conflict.reason);
      return [];
    }
    const protocol = PROTOCOLS[listener.protocol];
    if (protocol === undefined) {
      const known = Object.keys(PROTOCOLS).join(', ');
      report(`spec.listeners[${position}].protocol`, `${listener.protocol} is not one of ${known}: nothing listens`, 'UnsupportedProtocol');
      return [];
    }
    const endsTls = listener.protocol === 'HTTPS' || (listener.protocol === 'TLS' && listener.tls?.mode !== 'Passthrough');
    const tls = endsTls ? compileTls(gateway, each, { ...context, report }) : undefined;
    return addresses.map((address, index) => ({
      name: `${nameOf(gateway)}/${section}${index === 0 ? '' : `/${address}`}`,
      message: {
        gateway: nameOf(gateway),
        name: section,
        address,
        port: listener.port,
        protocol,
        hostname: listener.hostname ?? '',
        tls,
        backendCertificate,
        trustedHops,
        forwardClientCert,
        proxyProtocol,
        shared: false,
        rateLimits,
        filters: context.index.filterTargets.of('Gateway', nameOf(gateway), section),
      },
    }));
  });
}

/** [''] for every address; an address that isn't one of the node's kind opens nothing, rather than every address. */
function addressesOf(gateway: Stored<'Gateway'>, { report }: GatewayContext): string[] {
  const declared = (gateway.manifest.spec.addresses ?? []).filter(({ value }) => value !== undefined);
  if (declared.length === 0) return [''];
  return declared.flatMap(({ type, value }, position) => {
    if (type === 'IPAddress' && value !== undefined) return [canonicalAddress(value)];
    report(`spec.addresses[${position}]`, `addresses of type ${type} are not supported: nothing listens there`, 'UnsupportedAddress');
    return [];
  });
}

/** A reference that resolves to nothing is left out; without any certificate the listener is closed on every node, the others go on. */
function compileTls(
  gateway: Stored<'Gateway'>,
  { owner, listener: { name, port, tls }, position }: GatewayListener,
  context: GatewayContext,
): ListenerTls {
  const path = `spec.listeners[${position}]`;
  const certificates = (tls?.certificateRefs ?? []).flatMap(
    (reference, at) => certificateOf(owner, reference, `${path}.tls.certificateRefs[${at}]`, 'clients', context) ?? [],
  );
  const clients = clientsOf(gateway, port, context);
  const clientAccepts = acceptedClients(tls?.options ?? {});
  const limits = tls?.options === undefined ? undefined : limitsOf(tls.options);
  if (clients !== null && clientAccepts.length > 0 && (clients.trust === '' || clients.fallback)) {
    const unverified = `${CLIENT_NAMES} asks for names in certificates of clients, which spec.tls.frontend of the Gateway does not verify on port ${port}`;
    context.report(path, `${unverified}: listener ${name} is closed`, 'Invalid');
    return { ...CLOSED_TLS, limits };
  }
  if (clients === null) context.report(path, `no client of listener ${name} could be trusted: it is closed`, 'NoValidCACertificate');
  else if (certificates.length === 0) context.report(path, `listener ${name} has no certificate: it is closed`, 'Invalid');
  return clients === null
    ? { ...CLOSED_TLS, limits }
    : { ...CLOSED_TLS, certificates, clientTrust: clients.trust, clientFallback: clients.fallback, clientAccepts, limits };
}

/** Backends that ask for a certificate and are shown none decide for themselves. */
function backendCertificateOf(gateway: Stored<'Gateway'>, context: GatewayContext): Certificate | undefined {
  const { tls, backendTLS } = gateway.manifest.spec;
  const [older, newer] = [backendTLS?.clientCertificateRef, tls?.backend?.clientCertificateRef];
  if (newer !== undefined) return certificateOf(gateway, newer, 'spec.tls.backend.clientCertificateRef', 'backends', context);
  return older === undefined ? undefined : certificateOf(gateway, older, 'spec.backendTLS.clientCertificateRef', 'backends', context);
}

/** Undefined: there is none that may be used. `peers` are those it is shown to. */
function certificateOf(
  owner: ListenerOwner,
  reference: { readonly group: string; readonly kind: string; readonly name: string; readonly namespace?: string | undefined },
  path: string,
  peers: 'clients' | 'backends',
  { index, nowMs, report }: GatewayContext,
): Certificate | undefined {
  const target = { kind: 'Secret', namespace: reference.namespace ?? owner.namespace, name: reference.name } as const;
  const name = nameOf(target);
  const without = peers === 'clients' ? 'its certificate is not served' : 'backends are shown no certificate';
  const invalid = peers === 'clients' ? 'InvalidCertificateRef' : 'InvalidClientCertificateRef';
  if (reference.group !== '' || reference.kind !== 'Secret') {
    report(
      path,
      `certificates of kind ${reference.kind} (group ${JSON.stringify(reference.group)}) are not supported: ${without}`,
      invalid,
    );
    return undefined;
  }
  if (!isGranted(index, owner, target)) {
    report(path, `Secret ${name} ${notGranted(owner.kind, target)}: ${without}`, 'RefNotPermitted');
    return undefined;
  }
  const secret = index.secrets.get(name);
  if (secret === undefined) {
    report(path, `Secret ${name} doesn't exist: ${without}`, invalid);
    return undefined;
  }
  const { pair, times, fault: broken } = readSecret(secret.manifest);
  if (broken !== null) {
    report(path, `Secret ${name}: ${broken}: ${without}`, invalid);
    return undefined;
  }
  const fault = timeFault(times, nowMs);
  if (fault !== null) report(path, `the certificate of Secret ${name} ${fault}: ${peers} will refuse it; renew it`, 'CertificateExpired');
  return pair;
}

const VERSIONS = { '1.2': TlsVersion.TLS_VERSION_1_2, '1.3': TlsVersion.TLS_VERSION_1_3 } as const;

function limitsOf(options: Readonly<Record<string, string>>): TlsLimits {
  const { minVersion, maxVersion, cipherSuites } = tlsLimits(options);
  return { minVersion: VERSIONS[minVersion], maxVersion: VERSIONS[maxVersion], cipherSuites: [...cipherSuites] };
}

interface Clients {
  /** Empty: they are not asked for a certificate. */
  readonly trust: string;
  readonly fallback: boolean;
}

/** Null: clients are asked for a certificate and none can be verified. What is said of a port replaces what is said of all. */
function clientsOf(gateway: Stored<'Gateway'>, port: number, { index, report }: GatewayContext): Clients | null {
  const { frontend } = gateway.manifest.spec.tls ?? {};
  if (frontend === undefined) return { trust: '', fallback: false };
  const position = (frontend.perPort ?? []).findIndex((each) => each.port === port);
  const [validation, path] =
    position < 0
      ? [frontend.default.validation, 'spec.tls.frontend.default']
      : [frontend.perPort?.[position]?.tls.validation, `spec.tls.frontend.perPort[${position}].tls`];
  if (validation === undefined) return { trust: '', fallback: false };
  const trust = trustOf(gateway, validation.caCertificateRefs, `${path}.validation.caCertificateRefs`, index, report);
  return trust === '' ? null : { trust, fallback: validation.mode === 'AllowInsecureFallback' };
}
