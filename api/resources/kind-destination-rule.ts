// networking.istio.io DestinationRule. Owner: Istio API, its CRD's rules and its webhook's validation.
import { isIP } from 'node:net';
import { z } from 'zod';
import {
  checkOneOf,
  exportTo,
  flag,
  goDuration,
  goDurationOrZero,
  has,
  istioKind,
  listOf,
  percentNumber,
  portSelector,
  subsetName,
  uint32,
  wildcardHost,
  workloadSelector,
} from './istio-common.js';
import { isFqdn } from './istio-host.js';
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
import { isPrime } from './traffic-policy-load-balancer.js';

const count = wholeNumber(0, 2_147_483_647);

const atLeastOne =
  (what: string) =>
  (value: Unchecked, report: Report): void => {
    if (Object.keys(value).length === 0) report([], `says nothing: expected ${what}`);
  };

export const connectionPool = withRule(
  fields({
    tcp: fields({
      maxConnections: count.optional(),
      connectTimeout: goDuration.optional(),
      tcpKeepalive: fields({ probes: uint32.optional(), time: goDuration.optional(), interval: goDuration.optional() }).optional(),
      maxConnectionDuration: goDuration.optional(),
      idleTimeout: goDurationOrZero.optional(),
    }).optional(),
    http: withRule(
      fields({
        http1MaxPendingRequests: count.optional(),
        http2MaxRequests: count.optional(),
        maxRequestsPerConnection: count.optional(),
        maxRetries: count.optional(),
        idleTimeout: goDurationOrZero.optional(),
        h2UpgradePolicy: choice(['DEFAULT', 'DO_NOT_UPGRADE', 'UPGRADE']).optional(),
        useClientProtocol: notActedOn('the client’s version of HTTP; the port’s is spoken', flag),
        maxConcurrentStreams: count.optional(),
        http2KeepAlive: notActedOn('pings of HTTP/2', fields({ interval: goDuration.optional(), timeout: goDuration.optional() })),
      }),
      (value, report) => {
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
    const keys = ['httpHeaderName', 'httpCookie', 'useSourceIp', 'httpQueryParameterName'];
    checkOneOf(value, keys, report);
    if (!keys.some((field) => has(value, field)))
      report([], `hashes nothing: expected one of ${keys.join(', ')}; without it endpoints are chosen at random`, 'warning');
    checkOneOf(value, ['ringHash', 'maglev'], report);
    checkSizes(value, report);
  },
);

function checkSizes({ minimumRingSize, ringHash, maglev }: Unchecked, report: Report): void {
  const isOld = minimumRingSize !== undefined && minimumRingSize !== 0;
  if (isOld && (ringHash !== undefined || maglev !== undefined))
    report(['minimumRingSize'], 'not with ringHash or maglev, which have sizes');
  else if (isOld) report(['minimumRingSize'], 'an old way to say it: use ringHash.minimumRingSize', 'warning');
  if (!isUnchecked(maglev)) return;
  const size = maglev.tableSize ?? 0;
  if (typeof size === 'number' && !(size < 5_000_011 && isPrime(size)))
    report(['maglev', 'tableSize'], `expected a prime number below 5000011, such as 65537, found ${size}`);
}

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
    const { simple, consistentHash: hash } = value;
    for (const field of ['warmup', 'warmupDurationSecs'] as const) {
      const isOther = hash !== undefined || simple === 'RANDOM' || simple === 'PASSTHROUGH';
      if (isOther && value[field] !== undefined) report([field], 'of no effect: with ROUND_ROBIN and LEAST_REQUEST alone', 'warning');
    }
  },
);

const outlierDetection = withRule(
  fields({
    consecutiveErrors: count.optional(),
    splitExternalLocalOriginErrors: flag,
    consecutiveLocalOriginFailures: uint32.optional(),
    consecutiveGatewayErrors: uint32.optional(),
    consecutive5xxErrors: uint32.optional(),
    interval: goDuration.optional(),
    baseEjectionTime: goDuration.optional(),
    maxEjectionPercent: wholeNumber(0, 100).optional(),
    minHealthPercent: wholeNumber(0, 100).optional(),
  }),
  ({ consecutiveErrors, consecutiveLocalOriginFailures: local, splitExternalLocalOriginErrors }, report) => {
    if (consecutiveErrors !== undefined && consecutiveErrors !== 0)
      report(['consecutiveErrors'], 'an old way to say it: use consecutiveGatewayErrors or consecutive5xxErrors', 'warning');
    if (typeof local === 'number' && local > 0 && splitExternalLocalOriginErrors !== true)
      report(['consecutiveLocalOriginFailures'], 'goes with splitExternalLocalOriginErrors: true alone, which counts them apart');
  },
);

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
  const isOwn = mode === 'SIMPLE' || mode === 'MUTUAL';
  if (mode === 'ISTIO_MUTUAL') {
    for (const field of [...CERTIFICATES, 'credentialName'])
      if (has(value, field)) report([field], 'of no effect with mode ISTIO_MUTUAL: the certificates are those of the mesh', 'warning');
  } else if (isOwn && has(value, 'credentialName')) {
    for (const field of [...CERTIFICATES, 'caCrl'])
      if (has(value, field)) report([field], 'not with credentialName, which holds the certificates');
  } else if (mode === 'MUTUAL') {
    for (const field of ['clientCertificate', 'privateKey'])
      if (!has(value, field)) report([field], 'required by mode MUTUAL without credentialName');
  }
  // What MUTUAL has by name may be its own certificate alone.
  if (isOwn && value.insecureSkipVerify === true)
    for (const field of ['caCertificates', 'subjectAltNames', ...(mode === 'SIMPLE' ? ['credentialName'] : [])])
      if (has(value, field)) report([field], 'not with insecureSkipVerify: nothing is verified');
}

const policy = {
  loadBalancer: loadBalancer.optional(),
  connectionPool: connectionPool.optional(),
  outlierDetection: outlierDetection.optional(),
  tls: clientTls.optional(),
};

const portPolicy = withRule(fields({ ...policy, port: portSelector }), ({ port: _, ...settings }, report) => {
  atLeastOne('loadBalancer, connectionPool, outlierDetection or tls beside the port')(settings, report);
  warnOfFailover(settings, report);
});

/** It is endpoints' failures that make requests go elsewhere. */
function warnOfFailover({ loadBalancer: balancer, outlierDetection: outliers }: Unchecked, report: Report): void {
  const locality = isUnchecked(balancer) ? balancer.localityLbSetting : undefined;
  if (isUnchecked(locality) && outliers === undefined && (has(locality, 'failover') || has(locality, 'failoverPriority')))
    report(['loadBalancer', 'localityLbSetting'], 'failover needs outlierDetection, which finds out what fails', 'warning');
}

const trafficPolicy = withRule(
  fields({
    ...policy,
    portLevelSettings: unique(listOf(portPolicy, 4096), 'ports', ['port'], (item) =>
      isUnchecked(item.port) && typeof item.port.number === 'number' ? String(item.port.number) : null,
    ).optional(),
    tunnel: notActedOn(
      'tunnels',
      fields({
        protocol: choice(['CONNECT', 'POST']).optional(),
        targetHost: z.string().refine((value) => isFqdn(value) || isIP(value) !== 0, {
          error: ({ input }) => `expected the name of one host, or an address, found ${describe(input)}`,
        }),
        targetPort: portNumber,
      }),
    ),
    proxyProtocol: fields({ version: choice(['V1', 'V2']).optional() }).optional(),
    retryBudget: fields({ percent: percentNumber.optional(), minRetryConcurrency: uint32.optional() }).optional(),
  }),
  (value, report) => {
    atLeastOne('loadBalancer, connectionPool, outlierDetection, tls, or another policy')(value, report);
    if (value.tunnel !== undefined && value.proxyProtocol !== undefined) report(['proxyProtocol'], 'not with tunnel: one of them alone');
    warnOfFailover(value, report);
  },
);

const subset = fields({
  name: subsetName,
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
  ({ namespace }, { exportTo: seenFrom, workloadSelector: clients }, report) => {
    if (clients === undefined || !Array.isArray(seenFrom)) return;
    seenFrom.forEach((name: unknown, index) => {
      if (name !== '.' && name !== namespace)
        report(['spec', 'exportTo', index], 'with workloadSelector expected its own namespace (".") alone');
    });
  },
);
