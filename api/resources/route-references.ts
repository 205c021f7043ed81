// What routes of every kind refer to: parents (listeners of Gateways, Services) and backends. Owner: Gateway API v1, CommonRouteSpec.
import { z } from 'zod';
import {
  choice,
  describe,
  fields,
  isUnchecked,
  NOT_ACTED_ON,
  notActedOn,
  portNumber,
  type Report,
  sectionsOrWhole,
  textOf,
  type Unchecked,
  unique,
  wholeNumber,
  withRule,
} from './schema.js';
import { dnsLabel, groupName, kindName, objectName, sectionName } from './syntax.js';

/** CommonRouteSpec.useDefaultGateways. */
export const defaultGateways = notActedOn('default gateways', choice(['All', 'None']));

export const GATEWAY_GROUP = 'gateway.networking.k8s.io';
/** CommonRouteSpec.parentRefs. */
const MAX_PARENTS = 32;

const parentRef = withRule(
  fields({
    group: groupName.default(GATEWAY_GROUP),
    kind: kindName.default('Gateway'),
    namespace: dnsLabel.optional(),
    name: objectName,
    sectionName: sectionName.optional(),
    port: portNumber.optional(),
  }),
  (value, report) => {
    const type = `${textOf(value, 'group') ?? ''}/${textOf(value, 'kind') ?? ''}`;
    if (type === `${GATEWAY_GROUP}/Gateway` || type === `${GATEWAY_GROUP}/ListenerSet` || type === '/Service') return;
    if (value.kind === 'Service') report(['group'], `no Service is of group ${describe(value.group)}: expected group: ""`, 'warning');
    else
      report(
        ['kind'],
        `${NOT_ACTED_ON}: parents of kind ${textOf(value, 'kind')} (group ${describe(value.group)}), only Gateway, ListenerSet, and Service with group: ""`,
        'warning',
      );
  },
);

const distinctParents = unique(z.array(parentRef).max(MAX_PARENTS), 'parentRefs', ['name'], (item) =>
  typeof item.name === 'string'
    ? ['group', 'kind', 'namespace', 'name', 'sectionName', 'port']
        .map((field) => String(item[field] ?? ''))
        .join(' ')
        .trim()
    : null,
);

export const parentRefs = sectionsOrWhole(
  distinctParents,
  (item) => ['group', 'kind', 'namespace', 'name'].map((field) => String(item[field] ?? '')).join(' '),
  (item) => `${item.sectionName !== undefined} ${item.port !== undefined}`,
  'sectionName or port, the same',
);

/** Istio's: a host of a ServiceEntry as a backend. */
export function isHostname({ group, kind }: { readonly group?: unknown; readonly kind?: unknown }): boolean {
  return group === 'networking.istio.io' && kind === 'Hostname';
}

/** A reference to a port of a Service, with its share. `more`: what the route's kind adds. */
export function serviceBackendRef<More extends z.ZodRawShape>(more: More) {
  return backendObjectRef({ weight: wholeNumber(0, 1_000_000).default(1), ...more });
}

function backendObjectRef<More extends z.ZodRawShape>(more: More) {
  return withRule(
    fields({
      group: groupName.default(''),
      kind: kindName.default('Service'),
      namespace: dnsLabel.optional(),
      name: objectName,
      port: portNumber.optional(),
      ...more,
    }),
    (value, report) => {
      const isService = value.group === '' && value.kind === 'Service';
      const isKnown = isService || isHostname(value);
      if (isKnown && value.port === undefined) report(['port'], `required: the port of the ${isService ? 'Service' : 'host'}`);
      if (!isKnown && typeof value.kind === 'string') {
        report(
          ['kind'],
          `${NOT_ACTED_ON}: backends of kind ${value.kind} (group ${describe(value.group)}), only Service, and Hostname of a ServiceEntry`,
          'warning',
        );
      }
    },
  );
}

/** BackendObjectReference: of filters. */
export const serviceObjectRef = backendObjectRef({});

/** A Service parent in another namespace makes a consumer route (GAMMA), which applies to requests from the route's namespace alone. */
export function checkConsumerRoute(value: Unchecked, report: Report): void {
  if (!isUnchecked(value.metadata) || !isUnchecked(value.spec) || !Array.isArray(value.spec.parentRefs)) return;
  const { namespace } = value.metadata;
  value.spec.parentRefs.forEach((parent: unknown, index) => {
    if (!isUnchecked(parent) || parent.kind !== 'Service' || parent.namespace === undefined || parent.namespace === namespace) return;
    report(
      ['spec', 'parentRefs', index, 'namespace'],
      `${NOT_ACTED_ON}: routes for a Service of another namespace (consumer routes)`,
      'warning',
    );
  });
}
