// networking.istio.io Gateway and Sidecar: which ports a proxy of Istio opens, and for which hosts; of a Sidecar its hosts are acted on. Owner: Istio API and its webhook's validation.
import { isIP } from 'node:net';
import { z } from 'zod';
import { destination, has, istioKind, itemsOf, labelsSelector, listOf, portLabel, portProtocol, selectorLabels } from './istio-common.js';
import { isFqdn, isLabel, isWildcardHost } from './istio-host.js';
import { serverTls } from './istio-server-tls.js';
import { connectionPool } from './kind-destination-rule.js';
import { DEFAULT_NAMESPACE } from './metadata.js';
import {
  choice,
  describe,
  fields,
  isUnchecked,
  notActedOn,
  portNumber,
  type Report,
  text,
  textOf,
  type Unchecked,
  unique,
  wholeNumber,
  withRule,
} from './schema.js';

/** "namespace/host", the namespace perhaps "*" or "."; for gateways it may be left out, for Sidecars be nobody's ("~"). Hosts are whole names. */
function scopedHost(isOfSidecar: boolean) {
  const expected = isOfSidecar
    ? 'namespace/host, such as ./* or shop/catalog.shop.svc.cluster.local'
    : 'a host such as shop.example.com, or namespace/host';
  return z.string().refine(
    (value) => {
      const [first = '', second, ...rest] = value.split('/');
      if (rest.length > 0 || (second === undefined && isOfSidecar)) return false;
      const [namespace, host] = second === undefined ? ['*', first] : [first, second];
      const isNamespace = namespace === '*' || namespace === '.' || isLabel(namespace) || (isOfSidecar && namespace === '~');
      if (!isNamespace || (host !== '*' && !host.includes('.'))) return false;
      // A wildcard is a whole label here.
      return (isWildcardHost(host) && !/^\*[^.]/.test(host)) || (!isOfSidecar && isIP(host) !== 0);
    },
    { error: ({ input }) => `expected ${expected}, found ${describe(input)}` },
  );
}

/** What a listener has no use for. */
const targetPort = z
  .literal(0, { error: ({ input }) => (input === undefined ? undefined : 'of no effect here: requests go where routes lead') })
  .optional();
/** 0: of a unix socket. */
const listenerPort = wholeNumber(0, 65_535);

const port = fields({ number: listenerPort, protocol: portProtocol, name: text('the name of a port', /^/, 256), targetPort });

const SOCKET = /^unix:\/\/(@.*|\/.*[^/])$/;
const bindAddress = z.string().refine((value) => value === '' || isIP(value) !== 0 || SOCKET.test(value), {
  error: ({ input }) => `expected an address or unix:///path, found ${describe(input)}`,
});

/** A socket has no port, anything else one. */
function checkBind({ port: of, bind }: Unchecked, report: Report): void {
  const number = isUnchecked(of) ? of.number : undefined;
  const isSocket = typeof bind === 'string' && bind.startsWith('unix://');
  if (isSocket && typeof number === 'number' && number !== 0) report(['port', 'number'], `expected 0 with ${bind}, found ${number}`);
  if (!isSocket && number === 0) report(['port', 'number'], 'expected a whole number from 1 to 65535, or bind: unix:///path');
}

const server = withRule(
  fields({
    port,
    bind: bindAddress.optional(),
    hosts: z.array(scopedHost(false)).min(1).max(1024),
    tls: serverTls.optional(),
    defaultEndpoint: notActedOn('an endpoint for what no VirtualService takes', z.string()),
    name: z.string().max(256).optional(),
  }),
  checkServer,
);

function checkServer(value: Unchecked, report: Report): void {
  checkBind(value, report);
  const protocol = isUnchecked(value.port) ? (textOf(value.port, 'protocol') ?? '').toUpperCase() : '';
  const isTls = protocol === 'HTTPS' || protocol === 'TLS';
  if (isTls && value.tls === undefined) report(['tls'], `required by protocol ${protocol}`);
  const { tls } = value;
  if (!isUnchecked(tls)) return;
  if (!isTls && protocol !== '') checkWithoutTls(protocol, tls, report);
  if (isTls && tls.httpsRedirect === true)
    report(['tls', 'httpsRedirect'], `of no effect with protocol ${protocol}: plain HTTP alone is redirected`, 'warning');
}

const IS_HTTP = /^(HTTP|HTTP2|GRPC|GRPC-WEB|HTTP_PROXY)$/;

/** As Istio has it: of plain HTTP what is not of a handshake is let pass. */
function checkWithoutTls(protocol: string, tls: Unchecked, report: Report): void {
  const isHttp = IS_HTTP.test(protocol);
  const ofHandshakes = ['mode', 'serverCertificate', 'privateKey', 'caCertificates'];
  const isPassed = (field: string): boolean => isHttp && (!ofHandshakes.includes(field) || /PASSTHROUGH$/.test(textOf(tls, field) ?? ''));
  const setting = Object.keys(tls).find((field) => !isPassed(field));
  if (setting !== undefined || !isHttp)
    report(
      setting === undefined ? ['tls'] : ['tls', setting],
      `a port of protocol ${protocol} ends no TLS: expected HTTPS or TLS, or httpsRedirect alone with HTTP`,
    );
}

export const istioGatewayKind = istioKind(
  {
    kind: 'IstioGateway',
    manifestKind: 'Gateway',
    group: 'networking.istio.io',
    plural: 'istiogateways',
    manifestPlural: 'gateways',
    shortNames: ['igw'],
  },
  withRule(fields({ servers: z.array(server).min(1).max(256), selector: selectorLabels.optional() }), ({ servers }, report) => {
    const names = new Map<string, number>();
    itemsOf(servers).forEach(({ port: of }, index) => {
      const name = isUnchecked(of) ? textOf(of, 'name') : null;
      if (name === null || name === '') return;
      const earlier = names.get(name);
      if (earlier === undefined) names.set(name, index);
      else report(['servers', index, 'port', 'name'], `port names must be unique: ${describe(name)} is already used by item ${earlier}`);
    });
  }),
  (metadata, _, report) => {
    const name = textOf(metadata, 'name') ?? '';
    if (name.includes('.'))
      report(['metadata', 'name'], `expected one label, without ".": VirtualServices name it so, found ${describe(name)}`);
  },
);

const sidecarPort = fields({
  number: listenerPort.optional(),
  protocol: portProtocol.optional(),
  name: portLabel.optional(),
  targetPort,
});
const captureMode = choice(['DEFAULT', 'IPTABLES', 'NONE']);
const ENDPOINT =
  /^(unix:\/\/(@.*|\/.*[^/])|(127\.0\.0\.1|0\.0\.0\.0|\[::1\]|\[::\])?:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))$/;

const ingress = withRule(
  fields({
    port: fields({ number: portNumber, protocol: portProtocol.optional(), name: portLabel.optional(), targetPort }),
    bind: z
      .string()
      .refine((value) => value === '' || isIP(value) !== 0, { error: ({ input }) => `expected an address, found ${describe(input)}` })
      .optional(),
    captureMode: captureMode.optional(),
    defaultEndpoint: text('127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT or unix:///path', ENDPOINT, 256).optional(),
    tls: serverTls.optional(),
    connectionPool: connectionPool.optional(),
  }),
  checkIngress,
);

function checkIngress({ port: of, tls, connectionPool: pool }: Unchecked, report: Report): void {
  if (isUnchecked(tls)) {
    for (const field of ['subjectAltNames', 'httpsRedirect', 'credentialName', 'credentialNames', 'tlsCertificates'])
      if (has(tls, field) && tls[field] !== false) report(['tls', field], 'not supported for a Sidecar: name files');
    if (tls.mode === 'ISTIO_MUTUAL' || tls.mode === 'AUTO_PASSTHROUGH') report(['tls', 'mode'], `not for a Sidecar: ${tls.mode}`);
  }
  const protocol = isUnchecked(of) ? (textOf(of, 'protocol') ?? '') : '';
  if (isUnchecked(pool) && pool.http !== undefined && !IS_HTTP.test(protocol.toUpperCase()))
    report(['connectionPool', 'http'], `of no effect on a port of protocol ${describe(protocol)}: tcp alone is`, 'warning');
}

/** What there is no proxy of one workload for. */
const ofListener = 'listeners of a sidecar; the hosts say what a node is told of';

const egress = withRule(
  fields({
    port: notActedOn(ofListener, sidecarPort),
    bind: notActedOn(ofListener, z.string()),
    captureMode: notActedOn(ofListener, captureMode),
    hosts: z.array(scopedHost(true)).min(1).max(1024),
  }),
  ({ port: of, bind, captureMode: mode }, report) => {
    const number = isUnchecked(of) ? (of.number ?? 0) : undefined;
    if (number === 0 && !(typeof bind === 'string' && SOCKET.test(bind)))
      report(['bind'], `expected unix:///path with port 0, found ${describe(bind ?? '')}`);
    if (number === 0 && mode === 'IPTABLES') report(['captureMode'], 'not for a unix socket: nothing is captured there');
    if (number !== 0 && number !== undefined && typeof bind === 'string' && bind !== '' && isIP(bind) === 0)
      report(['bind'], `expected an address, found ${describe(bind)}`);
  },
);

/** Of one place one listener; the one without a port stands for all others, behind them. */
function checkEgress(list: readonly Unchecked[], report: Report): void {
  const seen = new Map<string, number>();
  list.forEach(({ port: of, bind }, index) => {
    const number = isUnchecked(of) ? (of.number ?? 0) : null;
    if (number === null) {
      if (index < list.length - 1) report(['egress', index], 'has no port: it stands for all others, so expected as the last item');
      return;
    }
    const place = number === 0 ? String(bind) : String(number);
    const earlier = seen.get(place);
    if (earlier === undefined) seen.set(place, index);
    else report(['egress', index, ...(number === 0 ? ['bind'] : ['port', 'number'])], `${place} is that of item ${earlier} already`);
  });
}

/** What is there already, or covered by a wildcard of its namespace. */
function warnOfHosts(list: readonly Unchecked[], own: string, report: Report): void {
  list.forEach(({ hosts }, index) => {
    const found = (Array.isArray(hosts) ? hosts : []).map((host) => (typeof host === 'string' ? host.replace(/^\.\//, `${own}/`) : ''));
    const all = found.indexOf('*/*');
    if (all >= 0 && found.length > 1)
      report(['spec', 'egress', index, 'hosts', all], 'is everything: the other hosts add nothing', 'warning');
    const before = new Set<string>();
    found.forEach((host, at) => {
      const namespace = host.slice(0, host.indexOf('/'));
      const isThere = before.has(host) || (namespace !== '*' && before.has(`${namespace}/*`));
      before.add(host);
      if (isThere) report(['spec', 'egress', index, 'hosts', at], `${describe(host)} is there already`, 'warning');
    });
  });
}

const egressProxy = destination
  .required({ port: true })
  .refine(({ host }) => typeof host !== 'string' || isFqdn(host) || !isWildcardHost(host), {
    path: ['host'],
    error: 'expected the name of one host',
  });

export const sidecarKind = istioKind(
  {
    kind: 'Sidecar',
    group: 'networking.istio.io',
    plural: 'sidecars',
  },
  withRule(
    fields({
      workloadSelector: labelsSelector.optional(),
      ingress: notActedOn(
        ofListener,
        unique(listOf(ingress), 'ports', ['port'], ({ port: of }) =>
          isUnchecked(of) && typeof of.number === 'number' ? String(of.number) : null,
        ),
      ),
      egress: listOf(egress).optional(),
      inboundConnectionPool: notActedOn('limits of inbound connections', connectionPool),
      outboundTrafficPolicy: fields({
        mode: choice(['REGISTRY_ONLY', 'ALLOW_ANY']).optional(),
        egressProxy: notActedOn('a proxy for other destinations', egressProxy),
      }).optional(),
    }),
    ({ egress: list, ingress: inbound, inboundConnectionPool: pool, outboundTrafficPolicy: outbound }, report) => {
      if (itemsOf(list).length + itemsOf(inbound).length === 0 && pool === undefined && outbound === undefined)
        report([], 'says nothing: expected egress, ingress or outboundTrafficPolicy');
      checkEgress(itemsOf(list), report);
      if (isUnchecked(outbound) && outbound.egressProxy !== undefined && outbound.mode !== 'ALLOW_ANY')
        report(['outboundTrafficPolicy', 'egressProxy'], 'goes with mode: ALLOW_ANY alone');
    },
  ),
  (metadata, { egress: list }, report) => warnOfHosts(itemsOf(list), textOf(metadata, 'namespace') ?? DEFAULT_NAMESPACE, report),
);
