// mesh.weft.dev/v1 Workload: something that runs on a host and whose traffic Weft carries: a process in a network namespace. Owner: Weft, docs/resources.md.
import { z } from 'zod';
import { objectOf } from './metadata.js';
import { fields, portNumber, text, textOf, unique, wholeNumber, withRule } from './schema.js';
import { cidr, dnsSubdomain, ipAddress, portName } from './syntax.js';

const ports = unique(z.array(fields({ name: portName, port: portNumber })).max(100), 'port names', ['name'], (item) =>
  textOf(item, 'name'),
);

const capture = fields({
  outbound: z.boolean().default(true),
  inbound: z.boolean().default(true),
  failClosed: z.boolean().default(false),
  excludeOutboundPorts: z.array(portNumber).max(256).default([]),
  excludeInboundPorts: z.array(portNumber).max(256).default([]),
  excludeOutboundCIDRs: z.array(cidr).max(256).default([]),
  includeOutboundCIDRs: z.array(cidr).max(256).default([]),
});

const spec = withRule(
  fields({
    node: dnsSubdomain.optional(),
    networkNamespace: text(
      'an absolute path without ".." such as /run/netns/cart',
      /^(\/(?!\.\.?(\/|$))[A-Za-z0-9._:@+-]+)+$/,
      255,
    ).optional(),
    addresses: z.array(ipAddress).max(16).default([]),
    ports: ports.default([]),
    serviceAccount: dnsSubdomain.default('default'),
    weight: wholeNumber(1, 1_000_000).default(1),
    capture: capture.prefault({}),
  }),
  (value, report) => {
    if (value.networkNamespace !== undefined && value.node === undefined) {
      report(['node'], 'required: the host on which networkNamespace is found');
    }
  },
);

export const workloadKind = {
  kind: 'Workload',
  apiVersion: 'mesh.weft.dev/v1',
  olderVersions: [],
  plural: 'workloads',
  shortNames: ['wl'],
  schema: objectOf({ kind: 'Workload', apiVersion: 'mesh.weft.dev/v1', name: dnsSubdomain }, { spec }),
} as const;

export type WorkloadManifest = z.output<typeof workloadKind.schema>;
