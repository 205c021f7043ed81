// networking.istio.io Gateway and Sidecar: which ports a proxy of Istio opens, and for which hosts; of a Sidecar its hosts are acted on. Owner: Istio API and its webhook's validation.
import { z } from 'zod';
import {
  destination,
  istioKind,
  itemsOf,
  labelsSelector,
  listOf,
  portProtocol,
  selectorLabels,
  serverTls,
  wildcardHost,
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
  withRule,
} from './schema.js';

/** "namespace/host", the namespace perhaps "*" or "."; for gateways it may be left out. */
const NAMESPACE = /^(\*|\.|~|[a-z0-9]([-a-z0-9]*[a-z0-9])?)$/;

function scopedHost(needsNamespace: boolean) {
  const expected = needsNamespace ? 'namespace/host, such as ./* or shop/catalog.shop.svc.cluster.local' : 'a host, or namespace/host';
  return z.string().refine(
    (value) => {
      const [first = '', second, ...rest] = value.split('/');
      if (rest.length > 0 || (second === undefined && needsNamespace)) return false;
      const [namespace, host] = second === undefined ? ['*', first] : [first, second];
      return NAMESPACE.test(namespace) && wildcardHost.safeParse(host).success;
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

const server = withRule(
  fields({
    port,
    bind: z.string().optional(),
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
  if (!isTls && protocol !== '' && tls.mode !== undefined)
    report(['tls', 'mode'], `a port of protocol ${protocol} ends no TLS: expected HTTPS or TLS, or httpsRedirect alone`);
  if (isTls && tls.httpsRedirect === true)
    report(['tls', 'httpsRedirect'], `not with protocol ${protocol}: plain HTTP alone is redirected`);
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
const ENDPOINT = /^(unix:\/\/(\/|@).+|(127\.0\.0\.1|0\.0\.0\.0|\[::1\]|\[::\]):[0-9]{1,5})$/;

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
      ingress: notActedOn(ofListener, listOf(ingress)),
      egress: listOf(egress).optional(),
      inboundConnectionPool: notActedOn('limits of inbound connections', connectionPool),
      outboundTrafficPolicy: fields({
        mode: choice(['REGISTRY_ONLY', 'ALLOW_ANY']).optional(),
        egressProxy: notActedOn('a proxy for other destinations', destination),
      }).optional(),
    }),
    ({ egress: list }, report) => {
      const catchAll = itemsOf(list).flatMap((item, index) => (item.port === undefined ? [index] : []));
      const second = catchAll[1];
      if (second !== undefined) report(['egress', second], `item ${catchAll[0]} has no port either: one alone stands for all other ports`);
    },
  ),
);
