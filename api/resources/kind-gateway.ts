// gateway.networking.k8s.io/v1 Gateway: HTTP, HTTPS, TLS and TCP listeners. Owner: Gateway API v1.
import { isIP } from 'node:net';
import { z } from 'zod';
import { checkGatewayAnnotations } from './gateway-annotations.js';
import { labelSelector } from './label-selector.js';
import { objectOf } from './metadata.js';
import {
  choice,
  describe,
  fields,
  formerField,
  isUnchecked,
  notActedOn,
  openChoice,
  portNumber,
  type Report,
  textOf,
  type Unchecked,
  unique,
  withListRule,
  withRule,
} from './schema.js';
import {
  annotations,
  dnsLabel,
  dnsSubdomain,
  GROUP,
  groupName,
  hostname,
  KIND,
  kindName,
  labels,
  objectName,
  sectionName,
} from './syntax.js';
import { tlsOptions } from './tls-options.js';

const allowedRoutes = fields({
  namespaces: fields({
    from: choice(['Same', 'All', 'None', 'Selector']).default('Same'),
    selector: labelSelector.optional(),
  }).prefault({}),
  kinds: z
    .array(fields({ group: groupName.default('gateway.networking.k8s.io'), kind: kindName }))
    .max(8)
    .optional(),
});

const certificateRef = fields({
  group: openChoice([''], 'certificates of group', [], GROUP).default(''),
  kind: openChoice(['Secret'], 'certificates of kind', [], KIND).default('Secret'),
  name: objectName,
  namespace: dnsLabel.optional(),
});

const caCertificateRef = fields({
  group: openChoice([''], 'CA certificates of group', [], GROUP).default(''),
  kind: openChoice(['ConfigMap'], 'CA certificates of kind', ['Secret'], KIND),
  name: objectName,
  namespace: dnsLabel.optional(),
});

/** Of clients' certificates. */
const validation = fields({
  caCertificateRefs: z.array(caCertificateRef).min(1).max(8),
  mode: choice(['AllowValidOnly', 'AllowInsecureFallback']).default('AllowValidOnly'),
});

const frontendTls = fields({ validation: validation.optional() });

/** What the gateway shows its backends. */
const backendTls = fields({ clientCertificateRef: certificateRef.optional() });

const gatewayTls = fields({
  frontend: fields({
    default: frontendTls,
    perPort: unique(z.array(fields({ port: portNumber, tls: frontendTls })).max(64), 'ports', ['port'], (item) =>
      typeof item.port === 'number' ? String(item.port) : null,
    ).optional(),
  }).optional(),
  backend: backendTls.optional(),
});

const listenerTls = fields({
  mode: choice(['Terminate', 'Passthrough']).default('Terminate'),
  certificateRefs: z.array(certificateRef).max(64).optional(),
  options: tlsOptions.optional(),
  // Before Gateway API 1.4.
  frontendValidation: formerField('was moved: use spec.tls.frontend of the Gateway'),
});

/** Of the core protocols, or behind a domain (Gateway API, ProtocolType). */
const PROTOCOL = /^([a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?|[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9]+)$/;

/** Of listeners that can be opened. */
const PROTOCOLS = ['HTTP', 'HTTPS', 'TLS', 'TCP'] as const;

const listener = (owner: ListenerOwner) =>
  withRule(
    fields({
      name: sectionName,
      hostname: hostname.optional(),
      port: portNumber,
      protocol: openChoice(PROTOCOLS, 'listeners of protocol', ['UDP', 'HTTP3', 'QUIC'], PROTOCOL),
      tls: listenerTls.optional(),
      allowedRoutes: allowedRoutes.prefault({}),
    }),
    (value, report) => checkListener(value, owner, report),
  );

type ListenerOwner = 'Gateway' | 'ListenerSet';

function checkListener(value: Unchecked, owner: ListenerOwner, report: Report): void {
  const { protocol } = value;
  if ((protocol === 'HTTP' || protocol === 'TCP' || protocol === 'UDP') && value.tls !== undefined) {
    report(['tls'], `a listener of protocol ${protocol} has no tls; use protocol HTTPS or TLS`);
  }
  if ((protocol === 'TCP' || protocol === 'UDP') && typeof value.hostname === 'string' && value.hostname !== '') {
    report(['hostname'], `a listener of protocol ${protocol} has no hostname`);
  }
  if (protocol === 'HTTPS' || protocol === 'TLS') checkCertificates(protocol, value.tls, owner, report);
  if (isUnchecked(value.tls) && value.tls.mode === 'Passthrough' && value.tls.options !== undefined)
    report(['tls', 'options'], 'of no effect with mode Passthrough: the handshake is between client and backend', 'warning');
}

function checkCertificates(protocol: 'HTTPS' | 'TLS', tls: unknown, owner: ListenerOwner, report: Report): void {
  const certificates = 'certificateRefs that name Secrets of type kubernetes.io/tls';
  if (tls === undefined && protocol === 'TLS' && owner === 'ListenerSet')
    report(['tls'], `required by protocol TLS: mode, or ${certificates}`);
  else if (tls === undefined)
    report(['tls'], `nothing listens for protocol ${protocol} without certificates: expected ${certificates}`, 'warning');
  else if (protocol === 'HTTPS' && isUnchecked(tls) && tls.mode === 'Passthrough')
    report(['tls', 'mode'], 'requests can be read where TLS ends alone: use mode Terminate, or protocol TLS');
  else if (
    isUnchecked(tls) &&
    tls.mode !== 'Passthrough' &&
    Object.keys(isUnchecked(tls.options) ? tls.options : {}).length === 0 &&
    (tls.certificateRefs === undefined || (Array.isArray(tls.certificateRefs) && tls.certificateRefs.length === 0))
  )
    report(['tls', 'certificateRefs'], 'required by mode Terminate: the Secrets (type kubernetes.io/tls) with the certificates');
}

/** The Gateway is accepted all the same: the first listener of a port has it. */
function checkPorts(items: readonly Unchecked[], report: Report): void {
  for (const [index, earlier] of portConflicts(items)) {
    const { port, protocol } = items[earlier] ?? {};
    report(
      [index, 'protocol'],
      `port ${describe(port)} has protocol ${describe(protocol)} already (item ${earlier}): nothing listens for this one`,
      'warning',
    );
  }
}

/**
 * Listeners that can't share their port with an earlier one, and that one. One port reads its first bytes in one way (Gateway API, distinct
 * listeners): TLS that passes through goes with TLS that ends, of one protocol. What nothing listens for takes none, such as UDP.
 */
export function portConflicts(items: readonly Unchecked[]): ReadonlyMap<number, number> {
  const conflicts = new Map<number, number>();
  const isPassthrough = ({ protocol, tls }: Unchecked): boolean => protocol === 'TLS' && isUnchecked(tls) && tls.mode === 'Passthrough';
  const isTls = ({ protocol }: Unchecked): boolean => protocol === 'HTTPS' || protocol === 'TLS';
  const goTogether = (one: Unchecked, other: Unchecked): boolean =>
    isPassthrough(one) || isPassthrough(other) ? isTls(one) && isTls(other) : one.protocol === other.protocol;
  items.forEach((item, index) => {
    if (!isOpened(item)) return;
    const earlier = items.findIndex(
      (other, at) => at < index && !conflicts.has(at) && other.port === item.port && isOpened(other) && !goTogether(other, item),
    );
    if (earlier >= 0) conflicts.set(index, earlier);
  });
  return conflicts;
}

export function isOpened({ protocol }: { readonly protocol?: unknown }): boolean {
  return PROTOCOLS.some((known) => known === protocol);
}

export function listenersOf(owner: ListenerOwner) {
  const items = withListRule(z.array(listener(owner)).min(1).max(64), checkPorts);
  const named = unique(items, 'listener names', ['name'], (item) => textOf(item, 'name'));
  return unique(named, 'port, protocol and hostname together', ['port'], (item) =>
    typeof item.port === 'number'
      ? `${item.port} ${textOf(item, 'protocol') ?? describe(item.protocol)} ${textOf(item, 'hostname') ?? '*'}`
      : null,
  );
}

/** Of its own, or behind a domain (Gateway API, AddressType). */
const ADDRESS_TYPE =
  /^(Hostname|IPAddress|NamedAddress|[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[-A-Za-z0-9/._~%!$&'()*+,;=:]+)$/;

const address = withRule(
  fields({
    type: openChoice(['IPAddress'], 'addresses of type', ['Hostname', 'NamedAddress'], ADDRESS_TYPE).default('IPAddress'),
    value: z.string().max(253).optional(),
  }),
  ({ type, value }, report) => {
    if (type === 'IPAddress' && typeof value === 'string' && (isIP(value) === 0 || value.includes('%')))
      report(['value'], `expected an IPv4 or IPv6 address, found ${describe(value)}`);
    if (type === 'Hostname' && typeof value === 'string' && !hostname.safeParse(value).success)
      report(['value'], `expected a host name, found ${describe(value)}`);
  },
);

/** GatewayInfrastructure: labels, annotations. */
const MAX_INFRASTRUCTURE = 8;

function atMost<Map extends z.ZodType>(map: Map, max: number): Map {
  return withRule(map, (value, report) => {
    const count = Object.keys(value).length;
    if (count > max) report([], `expected at most ${max} entries, found ${count}`);
  });
}

const object = objectOf(
  { kind: 'Gateway', apiVersion: 'gateway.networking.k8s.io/v1', name: dnsSubdomain },
  {
    spec: withRule(
      fields({
        gatewayClassName: objectName,
        listeners: listenersOf('Gateway'),
        addresses: unique(z.array(address).max(16), 'addresses', ['value'], ({ type = 'IPAddress', value }) =>
          typeof value === 'string' && (type === 'IPAddress' || type === 'Hostname') ? `${type} ${value}` : null,
        ).optional(),
        infrastructure: notActedOn(
          'infrastructure of a gateway',
          fields({
            labels: atMost(labels, MAX_INFRASTRUCTURE).optional(),
            annotations: atMost(annotations, MAX_INFRASTRUCTURE).optional(),
            parametersRef: fields({ group: groupName, kind: kindName, name: objectName }).optional(),
          }),
        ),
        allowedListeners: fields({
          namespaces: fields({
            from: choice(['Same', 'All', 'None', 'Selector']).default('None'),
            selector: labelSelector.optional(),
          }).optional(),
        }).optional(),
        // Before Gateway API 1.4.
        backendTLS: backendTls.optional(),
        tls: gatewayTls.optional(),
        defaultScope: notActedOn('default gateways', choice(['All', 'None'])),
      }),
      ({ tls, backendTLS }, report) => {
        if (isUnchecked(tls) && tls.backend !== undefined && backendTLS !== undefined)
          report(['backendTLS'], 'the older place of spec.tls.backend, which is there too: leave this one out');
      },
    ),
  },
);

const schema = withRule(object, ({ metadata }, report) => {
  if (isUnchecked(metadata) && isUnchecked(metadata.annotations))
    checkGatewayAnnotations(metadata.annotations, (path, message) => report(['metadata', 'annotations', ...path], message));
});

export const gatewayKind = {
  kind: 'Gateway',
  apiVersion: 'gateway.networking.k8s.io/v1',
  olderVersions: ['gateway.networking.k8s.io/v1beta1'],
  plural: 'gateways',
  shortNames: ['gtw'],
  schema,
} as const;
