// TLSRoute, TCPRoute and UDPRoute: whole connections, by the server name of their TLS or all of them. Owner: Gateway API (TLSRoute v1, TCPRoute v1alpha2).
import { z } from 'zod';
import { objectOf } from './metadata.js';
import { checkConsumerRoute, defaultGateways, parentRefs, serviceBackendRef } from './route-references.js';
import { fields, withRule } from './schema.js';
import { dnsSubdomain, hostname, sectionName } from './syntax.js';

/** One rule: it matches whatever the route does, so a second one would never be reached. */
const rules = z
  .array(fields({ name: sectionName.optional(), backendRefs: z.array(serviceBackendRef({})).min(1).max(16) }))
  .min(1)
  .max(1);

const common = { parentRefs: parentRefs.optional(), useDefaultGateways: defaultGateways, rules };

export const tlsRouteKind = {
  kind: 'TLSRoute',
  apiVersion: 'gateway.networking.k8s.io/v1',
  olderVersions: ['gateway.networking.k8s.io/v1alpha2', 'gateway.networking.k8s.io/v1alpha3'],
  plural: 'tlsroutes',
  shortNames: [],
  schema: withRule(
    objectOf(
      { kind: 'TLSRoute', apiVersion: 'gateway.networking.k8s.io/v1', name: dnsSubdomain },
      { spec: fields({ ...common, hostnames: z.array(hostname).max(16).optional() }) },
    ),
    checkConsumerRoute,
  ),
} as const;

export const tcpRouteKind = {
  kind: 'TCPRoute',
  apiVersion: 'gateway.networking.k8s.io/v1alpha2',
  olderVersions: [],
  plural: 'tcproutes',
  shortNames: [],
  schema: withRule(
    objectOf({ kind: 'TCPRoute', apiVersion: 'gateway.networking.k8s.io/v1alpha2', name: dnsSubdomain }, { spec: fields(common) }),
    checkConsumerRoute,
  ),
} as const;

export const udpRouteKind = {
  kind: 'UDPRoute',
  apiVersion: 'gateway.networking.k8s.io/v1alpha2',
  olderVersions: [],
  plural: 'udproutes',
  shortNames: [],
  notActedOn: 'UDPRoute: UDP passes the mesh by, and no gateway listens for it',
  schema: objectOf({ kind: 'UDPRoute', apiVersion: 'gateway.networking.k8s.io/v1alpha2', name: dnsSubdomain }, { spec: fields(common) }),
} as const;
