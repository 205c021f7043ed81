// TLSRoute, TCPRoute and UDPRoute: whole connections, by the server name of their TLS or all of them. Owner: Gateway API (TLSRoute v1, TCPRoute v1alpha2).
import { z } from 'zod';
import { objectOf } from './metadata.js';
import { checkConsumerRoute, defaultGateways, parentRefs, serviceBackendRef } from './route-references.js';
import { fields, isUnchecked, type Report, type Unchecked, withListRule, withRule } from './schema.js';
import { dnsSubdomain, hostname, sectionName } from './syntax.js';

/** A rule matches whatever the route does: a second one is never reached. */
const rules = withListRule(
  z
    .array(fields({ name: sectionName.optional(), backendRefs: z.array(serviceBackendRef({})).min(1).max(16) }))
    .min(1)
    .max(16),
  (items, report) => {
    for (const index of items.keys()) if (index > 0) report([index], 'never reached: the first rule matches every connection', 'warning');
  },
);

const common = { parentRefs: parentRefs.optional(), useDefaultGateways: defaultGateways, rules };

/** The only version in which a TLSRoute may be without hostnames, and have several rules. */
const LENIENT = 'gateway.networking.k8s.io/v1alpha2';

function checkTlsRoute(value: Unchecked, report: Report): void {
  checkConsumerRoute(value, report);
  if (value.apiVersion === LENIENT || !isUnchecked(value.spec)) return;
  const { hostnames, rules: items } = value.spec;
  if (hostnames === undefined || (Array.isArray(hostnames) && hostnames.length === 0))
    report(['spec', 'hostnames'], 'required: the server names that clients ask for (SNI), such as shop.example or *.shop.example');
  if (Array.isArray(items) && items.length > 1) report(['spec', 'rules'], `expected at most 1 item, found ${items.length}`);
}

/** Whether it is what a newer version doesn't allow. */
function isOlderAlone({ apiVersion, spec }: Unchecked): boolean {
  if (apiVersion !== LENIENT || !isUnchecked(spec)) return false;
  const count = (list: unknown): number => (Array.isArray(list) ? list.length : 0);
  return count(spec.hostnames) === 0 || count(spec.rules) > 1;
}

export const tlsRouteKind = {
  kind: 'TLSRoute',
  apiVersion: 'gateway.networking.k8s.io/v1',
  olderVersions: [LENIENT, 'gateway.networking.k8s.io/v1alpha3'],
  isOlderAlone,
  plural: 'tlsroutes',
  shortNames: [],
  schema: withRule(
    objectOf(
      { kind: 'TLSRoute', apiVersion: 'gateway.networking.k8s.io/v1', name: dnsSubdomain, keptVersions: [LENIENT] },
      { spec: fields({ ...common, hostnames: z.array(hostname).max(16).optional() }) },
    ),
    checkTlsRoute,
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
