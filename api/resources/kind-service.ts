// core/v1 Service. Owner: Kubernetes API reference, Service v1.
import { z } from 'zod';
import { APP_PROTOCOLS, protocolNamed } from './app-protocol.js';
import { checkExportTo } from './export-to.js';
import { objectOf } from './metadata.js';
import { suggestion } from './nearest.js';
import {
  choice,
  describe,
  fields,
  IS_WARNING,
  NOT_ACTED_ON,
  notActedOn,
  ownedElsewhere,
  portNumber,
  type Report,
  textOf,
  type Unchecked,
  unique,
  withListRule,
  withRule,
} from './schema.js';
import { dnsLabel, ipAddress, labels, portName } from './syntax.js';

/** How near endpoints are to be. */
export const TRAFFIC_DISTRIBUTIONS = ['PreferClose', 'PreferSameZone', 'PreferSameNode'] as const;
/** Annotation, Istio's own, for Kubernetes without the field. */
export const TRAFFIC_DISTRIBUTION = 'networking.istio.io/traffic-distribution';

const appProtocol = z.string().superRefine((value, context) => {
  if (protocolNamed(value) !== undefined) return;
  context.addIssue({
    code: 'custom',
    message: `${NOT_ACTED_ON}: appProtocol ${describe(value)}${suggestion(value, APP_PROTOCOLS)}`,
    params: { [IS_WARNING]: true },
  });
});

const targetPort = z.union([portNumber, portName], {
  error: (issue) =>
    issue.input === undefined ? undefined : `expected a port number from 1 to 65535 or the name of a port, found ${describe(issue.input)}`,
});

const port = fields({
  name: dnsLabel.optional(),
  protocol: choice(['TCP', 'UDP', 'SCTP']).default('TCP'),
  port: portNumber,
  targetPort: targetPort.optional(),
  appProtocol: appProtocol.optional(),
  nodePort: ownedElsewhere(),
});

const ports = withListRule(
  unique(
    unique(z.array(port).max(100), 'port names', ['name'], (item) => textOf(item, 'name')),
    'ports (port and protocol)',
    ['port'],
    (item) => (typeof item.port === 'number' ? `${item.port}/${textOf(item, 'protocol') ?? 'TCP'}` : null),
  ),
  (items, report) => {
    if (items.length < 2) return;
    items.forEach((item, index) => {
      if (item.name === undefined) report([index, 'name'], 'required: a service with several ports names each of them');
    });
  },
);

const clusterIp = z.union([z.enum(['', 'None']), ipAddress], {
  error: (issue) => `expected an IPv4 or IPv6 address, "None" or "", found ${describe(issue.input)}`,
});

const spec = withRule(
  fields({
    ports: ports.optional(),
    selector: labels.optional(),
    clusterIP: clusterIp.optional(),
    clusterIPs: z.array(clusterIp).max(2).optional(),
    type: choice(['ClusterIP', 'NodePort', 'LoadBalancer'], ['ExternalName'], 'services of type').default('ClusterIP'),
    externalName: notActedOn('external names', z.string().max(253)),
    ipFamilies: z
      .array(choice(['IPv4', 'IPv6']))
      .max(2)
      .optional(),
    ipFamilyPolicy: ownedElsewhere(),
    publishNotReadyAddresses: z.boolean().optional(),
    sessionAffinity: choice(['None', 'ClientIP']).optional(),
    // How long it lasts: as long as the endpoint, here.
    sessionAffinityConfig: ownedElsewhere(),
    internalTrafficPolicy: choice(['Cluster'], ['Local'], 'internal traffic policy').optional(),
    trafficDistribution: choice(TRAFFIC_DISTRIBUTIONS).optional(),
    // The way in from outside the cluster is Kubernetes' and the cloud's.
    externalIPs: ownedElsewhere(),
    externalTrafficPolicy: ownedElsewhere(),
    healthCheckNodePort: ownedElsewhere(),
    allocateLoadBalancerNodePorts: ownedElsewhere(),
    loadBalancerClass: ownedElsewhere(),
    loadBalancerIP: ownedElsewhere(),
    loadBalancerSourceRanges: ownedElsewhere(),
  }),
  checkSpec,
);

function checkSpec(value: Unchecked, report: Report): void {
  const { clusterIP, clusterIPs, ports: declared, type } = value;
  const isHeadless = clusterIP === 'None';
  if (Array.isArray(clusterIPs) && clusterIP !== undefined && clusterIPs.length > 0 && clusterIPs[0] !== clusterIP) {
    report(['clusterIPs', 0], `expected the same address as clusterIP (${describe(clusterIP)}), found ${describe(clusterIPs[0])}`);
  }
  if (Array.isArray(clusterIPs) && clusterIPs.length > 1) {
    clusterIPs.forEach((address, index) => {
      if (address === 'None' || address === '') report(['clusterIPs', index], 'expected an address: "None" and "" stand alone');
    });
  }
  if (!isHeadless && type !== 'ExternalName' && (declared === undefined || (Array.isArray(declared) && declared.length === 0))) {
    report(['ports'], 'required: a service that is not headless (clusterIP: None) needs at least one port');
  }
}

export const serviceKind = {
  kind: 'Service',
  apiVersion: 'v1',
  olderVersions: [],
  plural: 'services',
  shortNames: ['svc'],
  schema: withRule(objectOf({ kind: 'Service', apiVersion: 'v1', name: dnsLabel }, { spec }), checkExportTo),
} as const;
