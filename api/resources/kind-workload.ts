// mesh.weft.dev/v1 Workload: something that runs on a host and whose traffic Weft carries: a process in a network
// namespace, or in the host's own. Owner: Weft, docs/resources.md.
import { z } from 'zod';
import { checkCaptureLabel } from './capture-label.js';
import { objectOf } from './metadata.js';
import { fields, portNumber, text, textOf, unique, wholeNumber, withRule } from './schema.js';
import { cidr, dnsSubdomain, ipAddress, portName } from './syntax.js';

const ports = unique(z.array(fields({ name: portName, port: portNumber })).max(100), 'port names', ['name'], (item) =>
  textOf(item, 'name'),
);

/** Backslash: systemd's escapes. */
const PATH = /^(\/(?!\.\.?(\/|$))[A-Za-z0-9._:@+\\-]+)+$/;
/** How a workload is found on its node. */
const PLACES = ['networkNamespace', 'systemdUnit', 'cgroup', 'podUID'] as const;

const capture = fields({
  outbound: z.boolean().default(true),
  inbound: z.boolean().default(true),
  failClosed: z.boolean().default(false),
  dns: z.boolean().default(false),
  excludeOutboundPorts: z.array(portNumber).max(256).default([]),
  excludeInboundPorts: z.array(portNumber).max(256).default([]),
  excludeOutboundCIDRs: z.array(cidr).max(256).default([]),
  includeOutboundCIDRs: z.array(cidr).max(256).default([]),
  excludeInboundCIDRs: z.array(cidr).max(256).default([]),
  includeInboundCIDRs: z.array(cidr).max(256).default([]),
});

const spec = withRule(
  fields({
    node: dnsSubdomain.optional(),
    networkNamespace: text('an absolute path without ".." such as /run/netns/cart', PATH, 255).optional(),
    systemdUnit: text(
      'the name of a systemd unit that runs processes, such as cart.service',
      /^[A-Za-z0-9:_.@\\-]+\.(service|scope|slice)$/,
      255,
    ).optional(),
    cgroup: text('an absolute path below the root of the cgroups, such as /system.slice/cart.service', PATH, 1024).optional(),
    // Of a pod of Kubernetes, whose Workload is made from it: its network namespace is that of its processes.
    podUID: text('the UID of a pod', /^[A-Za-z0-9][A-Za-z0-9-]*$/, 128).optional(),
    addresses: z.array(ipAddress).max(16).default([]),
    ports: ports.default([]),
    serviceAccount: dnsSubdomain.default('default'),
    weight: wholeNumber(1, 1_000_000).default(1),
    // It gets nothing new and finishes what it has.
    draining: z.boolean().default(false),
    capture: capture.prefault({}),
  }),
  (value, report) => {
    const places = PLACES.filter((place) => value[place] !== undefined);
    for (const place of places.slice(1)) report([place], `not with ${places[0]}: a workload is found in one way`);
    if (places[0] !== undefined && value.node === undefined) report(['node'], `required: the host on which ${places[0]} is found`);
  },
);

const workload = withRule(objectOf({ kind: 'Workload', apiVersion: 'mesh.weft.dev/v1', name: dnsSubdomain }, { spec }), checkCaptureLabel);

export const workloadKind = {
  kind: 'Workload',
  apiVersion: 'mesh.weft.dev/v1',
  olderVersions: [],
  plural: 'workloads',
  shortNames: ['wl'],
  schema: workload,
} as const;
