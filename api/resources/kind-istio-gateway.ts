// networking.istio.io Gateway and Sidecar: which ports a proxy of Istio opens, and for which hosts; of a Sidecar its hosts are acted on. Owner: Istio API and its webhook's validation.
import { isIP } from 'node:net';
import { z } from 'zod';
import {
  destination,
  istioKind,
  isWildcardHost,
  itemsOf,
  labelsSelector,
  listOf,
  portProtocol,
  selectorLabels,
  serverTls,
} from './istio-common.js';
import { connectionPool } from './kind-destination-rule.js';
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
  withRule,
} from './schema.js';

/** "namespace/host", the namespace perhaps "*" or "."; for gateways it may be left out, for Sidecars be nobody's ("~"). Hosts are whole names. */
const NAMESPACE = /^(\*|\.|[a-z0-9]([-a-z0-9]*[a-z0-9])?)$/;

function scopedHost(isOfSidecar: boolean) {
  const expected = isOfSidecar
    ? 'namespace/host, such as ./* or shop/catalog.shop.svc.cluster.local'
    : 'a host such as shop.example.com, or namespace/host';
  return z.string().refine(
    (value) => {
      const [first = '', second, ...rest] = value.split('/');
      if (rest.length > 0 || (second === undefined && isOfSidecar)) return false;
      const [namespace, host] = second === undefined ? ['*', first] : [first, second];
      const isNamespace = NAMESPACE.test(namespace) || (isOfSidecar && namespace === '~');
      return isNamespace && isWildcardHost(host) && (host === '*' || host.includes('.') || isIP(host) !== 0);
    },
    { error: ({ input }) => `expected ${expected}, found ${describe(input)}` },
  );
}

const port = fields({
  number: portNumber,
  protocol: portProtocol,
  name: text('the name of a port', /^/, 63),
  targetPort: portNumber.optional(),
});

const bindAddress = z.string().refine((value) => value === '' || isIP(value) !== 0 || /^unix:\/\/(\/|@).+/.test(value), {
  error: ({ input }) => `expected an address or unix:///path, found ${describe(input)}`,
});

const server = withRule(
  fields({
    port,
    bind: bindAddress.optional(),
    hosts: z.array(scopedHost(false)).min(1).max(1024),
    tls: serverTls.optional(),
    defaultEndpoint: z.string().optional(),
    name: z.string().max(256).optional(),
  }),
  checkServer,
);

function checkServer(value: Unchecked, report: Report): void {
  const protocol = isUnchecked(value.port) ? (textOf(value.port, 'protocol') ?? '').toUpperCase() : '';
  const isTls = protocol === 'HTTPS' || protocol === 'TLS';
  if (isTls && value.tls === undefined) report(['tls'], `required by protocol ${protocol}`);
  const { tls } = value;
  if (!isUnchecked(tls)) return;
  if (!isTls && protocol !== '') checkWithoutTls(protocol, tls, report);
  if (isTls && tls.httpsRedirect === true)
    report(['tls', 'httpsRedirect'], `not with protocol ${protocol}: plain HTTP alone is redirected`);
}

/** As Istio has it: of plain HTTP what is not of a handshake is let pass. */
function checkWithoutTls(protocol: string, tls: Unchecked, report: Report): void {
  const isHttp = /^(HTTP|HTTP2|GRPC|GRPC-WEB|HTTP_PROXY)$/.test(protocol);
  const ofHandshakes = ['mode', 'serverCertificate', 'privateKey', 'caCertificates'];
  const isPassed = (field: string): boolean => isHttp && (!ofHandshakes.includes(field) || /PASSTHROUGH$/.test(textOf(tls, field) ?? ''));
  const setting = Object.keys(tls).find((field) => !isPassed(field));
  if (setting !== undefined)
    report(['tls', setting], `a port of protocol ${protocol} ends no TLS: expected HTTPS or TLS, or httpsRedirect alone with HTTP`);
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
);

const sidecarPort = fields({
  number: portNumber.optional(),
  protocol: portProtocol.optional(),
  name: z.string().max(63).optional(),
  targetPort: portNumber.optional(),
});
const captureMode = choice(['DEFAULT', 'IPTABLES', 'NONE']);
const ENDPOINT =
  /^(unix:\/\/(\/|@).+|(127\.0\.0\.1|0\.0\.0\.0|\[::1\]|\[::\]):([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))$/;

const ingress = fields({
  port: sidecarPort.required({ number: true }),
  bind: z.string().optional(),
  captureMode: captureMode.optional(),
  defaultEndpoint: text('127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT or unix:///path', ENDPOINT, 256).optional(),
  tls: serverTls.optional(),
  connectionPool: connectionPool.optional(),
});

/** What there is no proxy of one workload for. */
const ofListener = 'listeners of a sidecar; the hosts say what a node is told of';

const egress = fields({
  port: notActedOn(ofListener, sidecarPort),
  bind: notActedOn(ofListener, z.string()),
  captureMode: notActedOn(ofListener, captureMode),
  hosts: z.array(scopedHost(true)).min(1).max(1024),
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
        egressProxy: notActedOn('a proxy for other destinations', destination),
      }).optional(),
    }),
    ({ egress: list, ingress: inbound, inboundConnectionPool: pool, outboundTrafficPolicy: outbound }, report) => {
      if (itemsOf(list).length + itemsOf(inbound).length === 0 && pool === undefined && outbound === undefined)
        report([], 'says nothing: expected egress, ingress or outboundTrafficPolicy');
      const catchAll = itemsOf(list).flatMap((item, index) => (item.port === undefined ? [index] : []));
      const second = catchAll[1];
      if (second !== undefined) report(['egress', second], `item ${catchAll[0]} has no port either: one alone stands for all other ports`);
    },
  ),
);
