// networking.istio.io DestinationRule. Owner: Istio API, its CRD's rules and its webhook's validation.
import { z } from 'zod';
import {
  checkOneOf,
  destination,
  exportTo,
  flag,
  goDuration,
  goDurationOrZero,
  istioKind,
  listOf,
  percentNumber,
  portSelector,
  uint32,
  wildcardHost,
  workloadSelector,
} from './istio-common.js';
import { localityLbSetting } from './locality.js';
import {
  choice,
  describe,
  fields,
  isUnchecked,
  NOT_ACTED_ON,
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
import { cookieAttribute, cookieName, cookiePart, headerName, labels } from './syntax.js';

const count = wholeNumber(0, 2_147_483_647);

const atLeastOne =
  (what: string) =>
  (value: Unchecked, report: Report): void => {
    if (Object.keys(value).length === 0) report([], `says nothing: expected ${what}`);
  };

export const connectionPool = withRule(
  fields({
    tcp: withRule(
      fields({
        maxConnections: count.optional(),
        connectTimeout: goDuration.optional(),
        tcpKeepalive: fields({ probes: uint32.optional(), time: goDuration.optional(), interval: goDuration.optional() }).optional(),
        maxConnectionDuration: goDuration.optional(),
        idleTimeout: goDuration.optional(),
      }),
      atLeastOne('a limit or a timeout'),
    ).optional(),
    http: withRule(
      fields({
        http1MaxPendingRequests: count.optional(),
        http2MaxRequests: count.optional(),
        maxRequestsPerConnection: count.optional(),
        maxRetries: count.optional(),
        idleTimeout: goDuration.optional(),
        h2UpgradePolicy: choice(['DEFAULT', 'DO_NOT_UPGRADE', 'UPGRADE']).optional(),
        useClientProtocol: flag,
        maxConcurrentStreams: count.optional(),
        http2KeepAlive: fields({ interval: goDuration.optional(), timeout: goDuration.optional() }).optional(),
      }),
      (value, report) => {
        atLeastOne('a limit, a timeout or an upgrade policy')(value, report);
        if (value.useClientProtocol === true && value.h2UpgradePolicy === 'UPGRADE')
          report(['useClientProtocol'], 'not with h2UpgradePolicy: UPGRADE: the protocol is either the client’s or HTTP/2');
      },
    ).optional(),
  }),
  atLeastOne('tcp or http'),
);

const consistentHash = withRule(
  fields({
    httpHeaderName: headerName.optional(),
    httpCookie: fields({
      name: cookieName,
      path: cookiePart('a path for a cookie').optional(),
      ttl: goDurationOrZero.optional(),
      attributes: listOf(cookieAttribute).optional(),
    }).optional(),
    useSourceIp: flag,
    httpQueryParameterName: text('the name of a query parameter', /^/, 256).optional(),
    ringHash: fields({ minimumRingSize: count.optional() }).optional(),
    maglev: fields({ tableSize: count.optional() }).optional(),
    minimumRingSize: count.optional(),
  }),
  (value, report) => {
    checkOneOf(value, ['httpHeaderName', 'httpCookie', 'useSourceIp', 'httpQueryParameterName'], report, true);
    checkOneOf(value, ['ringHash', 'maglev'], report);
  },
);

const loadBalancer = withRule(
  fields({
    simple: choice(['UNSPECIFIED', 'LEAST_CONN', 'RANDOM', 'PASSTHROUGH', 'ROUND_ROBIN', 'LEAST_REQUEST']).optional(),
    consistentHash: consistentHash.optional(),
    localityLbSetting: localityLbSetting.optional(),
    warmupDurationSecs: goDuration.optional(),
    warmup: fields({
      duration: goDuration,
      minimumPercent: percentNumber.optional(),
      aggression: z
        .number()
        .min(1, { error: ({ input }) => `expected a number of at least 1, found ${describe(input)}` })
        .optional(),
    }).optional(),
  }),
  (value, report) => {
    checkOneOf(value, ['simple', 'consistentHash'], report);
    checkOneOf(value, ['warmup', 'warmupDurationSecs'], report);
    if (value.consistentHash !== undefined && value.warmup !== undefined)
      report(['warmup'], 'not with consistentHash: only with ROUND_ROBIN and LEAST_REQUEST');
  },
);

const outlierDetection = fields({
  consecutiveErrors: count.optional(),
  splitExternalLocalOriginErrors: flag,
  consecutiveLocalOriginFailures: uint32.optional(),
  consecutiveGatewayErrors: uint32.optional(),
  consecutive5xxErrors: uint32.optional(),
  interval: goDuration.optional(),
  baseEjectionTime: goDuration.optional(),
  maxEjectionPercent: wholeNumber(0, 100).optional(),
  minHealthPercent: wholeNumber(0, 100).optional(),
});

const CERTIFICATES = ['clientCertificate', 'privateKey', 'caCertificates'] as const;

const clientTls = withRule(
  fields({
    mode: choice(['DISABLE', 'SIMPLE', 'MUTUAL', 'ISTIO_MUTUAL']).optional(),
    clientCertificate: z.string().optional(),
    privateKey: z.string().optional(),
    caCertificates: z.string().optional(),
    caCrl: z.string().optional(),
    credentialName: z.string().optional(),
    subjectAltNames: listOf(z.string()).optional(),
    sni: z.string().optional(),
    insecureSkipVerify: flag,
  }),
  checkClientTls,
);

function checkClientTls(value: Unchecked, report: Report): void {
  const { mode } = value;
  if (mode === 'ISTIO_MUTUAL')
    report(['mode'], `${NOT_ACTED_ON}: ISTIO_MUTUAL, workloads have no certificates yet: what is sent is plain text`, 'warning');
  const has = (field: string): boolean => value[field] !== undefined && value[field] !== '';
  if (mode === 'ISTIO_MUTUAL') {
    for (const field of [...CERTIFICATES, 'credentialName'])
      if (has(field)) report([field], 'not with mode ISTIO_MUTUAL: the certificates are those of the mesh');
  } else if (has('credentialName')) {
    for (const field of CERTIFICATES) if (has(field)) report([field], 'not with credentialName, which holds the certificates');
  } else if (mode === 'MUTUAL') {
    for (const field of ['clientCertificate', 'privateKey'])
      if (!has(field)) report([field], 'required by mode MUTUAL without credentialName');
  }
  if (value.insecureSkipVerify === true)
    for (const field of ['caCertificates', 'subjectAltNames'])
      if (has(field)) report([field], 'not with insecureSkipVerify: nothing is verified');
}

/** What is not acted on of a connection pool: all but these. */
const ACTED_ON: Readonly<Record<string, readonly string[]>> = {
  tcp: ['maxConnections', 'connectTimeout', 'tcpKeepalive', 'idleTimeout'],
  http: ['http1MaxPendingRequests', 'http2MaxRequests', 'maxRequestsPerConnection', 'maxRetries', 'idleTimeout', 'maxConcurrentStreams'],
};

function warnOfPool(value: Unchecked, report: Report): void {
  for (const [section, settings] of Object.entries(value))
    for (const field of isUnchecked(settings) ? Object.keys(settings) : [])
      if (ACTED_ON[section]?.includes(field) !== true) report([section, field], `${NOT_ACTED_ON}: ${field}`, 'warning');
}

const policy = {
  loadBalancer: loadBalancer.optional(),
  connectionPool: withRule(connectionPool, warnOfPool).optional(),
  outlierDetection: outlierDetection.optional(),
  tls: clientTls.optional(),
};

const portPolicy = withRule(fields({ ...policy, port: portSelector }), ({ port: _, ...settings }, report) =>
  atLeastOne('loadBalancer, connectionPool, outlierDetection or tls beside the port')(settings, report),
);

const trafficPolicy = withRule(
  fields({
    ...policy,
    portLevelSettings: unique(listOf(portPolicy, 4096), 'ports', ['port'], (item) =>
      isUnchecked(item.port) && typeof item.port.number === 'number' ? String(item.port.number) : null,
    ).optional(),
    tunnel: notActedOn(
      'tunnels',
      fields({ protocol: choice(['CONNECT', 'POST']).optional(), targetHost: z.string().min(1), targetPort: portNumber }),
    ),
    proxyProtocol: fields({ version: choice(['V1', 'V2']).optional() }).optional(),
    retryBudget: fields({ percent: percentNumber.optional(), minRetryConcurrency: uint32.optional() }).optional(),
  }),
  atLeastOne('loadBalancer, connectionPool, outlierDetection, tls, or another policy'),
);

const subset = fields({
  name: destination.shape.subset.unwrap(),
  labels: labels.optional(),
  trafficPolicy: trafficPolicy.optional(),
});

export const destinationRuleKind = istioKind(
  {
    kind: 'DestinationRule',
    group: 'networking.istio.io',
    plural: 'destinationrules',
    shortNames: ['dr'],
  },
  fields({
    host: wildcardHost,
    trafficPolicy: trafficPolicy.optional(),
    subsets: unique(listOf(subset, 4096), 'names of subsets', ['name'], (item) => textOf(item, 'name')).optional(),
    exportTo: exportTo.optional(),
    workloadSelector: workloadSelector.optional(),
  }),
);
