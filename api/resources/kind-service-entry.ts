// networking.istio.io ServiceEntry, WorkloadEntry, WorkloadGroup: what is beside Kubernetes' own registry. Owner: Istio API, the rules of its CRDs.
import { isIP } from 'node:net';
import { z } from 'zod';
import {
  checkOneOf,
  exportToOrNone,
  ipOrCidr,
  istioKind,
  itemsOf,
  labelsSelector,
  listOf,
  mapOf,
  portLabel,
  portProtocol,
  uint32,
  wildcardHost,
} from './istio-common.js';
import { isFqdn, isLabel } from './istio-host.js';
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
  wholeNumber,
  withRule,
} from './schema.js';
import { labels } from './syntax.js';

const namedPorts = mapOf(portNumber).superRefine((map, context) => {
  if (typeof map !== 'object' || map === null) return;
  for (const name of Object.keys(map))
    if (!isLabel(name))
      context.addIssue({
        code: 'custom',
        path: [name],
        params: { atKey: true },
        message: `expected the name of a port, found ${describe(name)}`,
      });
});

/** WorkloadEntry without its address: the template of a WorkloadGroup too. */
const workload = {
  address: z.string().max(253).optional(),
  ports: namedPorts.optional(),
  labels: labels.optional(),
  network: notActedOn('networks apart from each other', z.string().max(2048)),
  locality: z.string().max(2048).optional(),
  weight: uint32.optional(),
  serviceAccount: z.string().max(253).optional(),
};

const entry = withRule(fields(workload), checkEntry);

function checkEntry(value: Unchecked, report: Report): void {
  const address = textOf(value, 'address') ?? '';
  if (address === '') {
    const hasNetwork = (textOf(value, 'network') ?? '') !== '';
    if (hasNetwork) report(['address'], 'none: what is in another network can be reached through its gateway alone', 'warning');
    else report(['address'], 'required: an address, a host name or unix:///path (or network)');
  } else if (address.startsWith('unix://')) {
    const path = address.slice('unix://'.length);
    if (!path.startsWith('/') && !path.startsWith('@'))
      report(['address'], 'expected an absolute path or an abstract socket (unix://@name) after unix://');
    if (path.endsWith('/')) report(['address'], `expected a socket, found the directory ${describe(path)}`);
    if (value.ports !== undefined) report(['ports'], 'not with a unix socket, which has none');
  } else if (isIP(address) === 0 && !isFqdn(address)) {
    report(['address'], `expected an address, a host name or unix:///path, found ${describe(address)}`);
  }
}

const port = fields({
  number: portNumber,
  protocol: portProtocol.optional(),
  name: portLabel,
  targetPort: portNumber.optional(),
});

const ports = unique(
  unique(listOf(port), 'names of ports', ['name'], (item) => textOf(item, 'name')),
  'numbers of ports',
  ['number'],
  (item) => (typeof item.number === 'number' ? String(item.number) : null),
);

const serviceEntry = withRule(
  fields({
    hosts: z
      .array(wildcardHost.refine((host) => host !== '*', { error: 'a host must not be "*": name the hosts, or *.domain' }))
      .min(1)
      .max(256),
    addresses: listOf(ipOrCidr).optional(),
    ports: ports.optional(),
    location: choice(['MESH_EXTERNAL', 'MESH_INTERNAL']).optional(),
    resolution: choice(['NONE', 'STATIC', 'DNS', 'DNS_ROUND_ROBIN', 'DYNAMIC_DNS']).optional(),
    endpoints: listOf(entry, 4096).optional(),
    workloadSelector: labelsSelector.optional(),
    exportTo: exportToOrNone.optional(),
    subjectAltNames: listOf(z.string()).optional(),
  }),
  checkServiceEntry,
);

function checkServiceEntry(value: Unchecked, report: Report): void {
  const { resolution = 'NONE', endpoints, addresses } = value;
  const count = Array.isArray(endpoints) ? endpoints.length : 0;
  checkOneOf(value, ['workloadSelector', 'endpoints'], report);
  if (count > 0 && resolution === 'NONE' && value.workloadSelector === undefined)
    report(['endpoints'], 'not with resolution NONE: requests go where they were sent');
  if (count > 1 && resolution === 'DNS_ROUND_ROBIN')
    report(['endpoints', 1], `at most one with resolution DNS_ROUND_ROBIN, found ${count}`);
  if (isOfNames(resolution) && Array.isArray(addresses)) {
    addresses.forEach((address: unknown, index) => {
      if (typeof address === 'string' && address.includes('/'))
        report(['addresses', index], `a CIDR goes with resolution NONE or STATIC alone, found ${resolution}`);
    });
  }
  if (count === 0 && value.workloadSelector === undefined && isOfNames(resolution) && Array.isArray(value.hosts))
    value.hosts.forEach((host: unknown, index) => {
      if (typeof host === 'string' && host.includes('*'))
        report(['hosts', index], `a wildcard can't be resolved: expected endpoints, or a whole name, with resolution ${resolution}`);
    });
  checkEndpointPorts(value, report);
  checkHosts(value, report);
  if (resolution === 'NONE' && value.workloadSelector !== undefined)
    report(['workloadSelector'], 'of no effect with resolution NONE: requests go where they were sent', 'warning');
  itemsOf(value.ports).forEach(({ targetPort }, index) => {
    if (resolution === 'NONE' && targetPort !== undefined && targetPort !== 0)
      report(['ports', index, 'targetPort'], 'of no effect with resolution NONE: requests go where they were sent', 'warning');
  });
  if (isOfNames(resolution))
    itemsOf(endpoints).forEach((item, index) => {
      const address = textOf(item, 'address') ?? '';
      if (isIP(address) === 0 && (address === '' || address.startsWith('unix://')))
        report(
          ['endpoints', index, 'address'],
          `expected a host name or an address with resolution ${resolution}, found ${describe(address)}`,
        );
    });
  if (resolution === 'STATIC')
    itemsOf(endpoints).forEach((item, index) => {
      const address = textOf(item, 'address') ?? '';
      if (address !== '' && !address.startsWith('unix://') && isIP(address) === 0)
        report(['endpoints', index, 'address'], `expected an address with resolution STATIC, found ${describe(address)}`);
    });
}

const isOfNames = (resolution: unknown): boolean => resolution === 'DNS' || resolution === 'DNS_ROUND_ROBIN';

/** Which host a connection is for is known by its requests, or the server name of its TLS. */
function checkHosts({ hosts, ports: all, resolution = 'NONE', addresses }: Unchecked, report: Report): void {
  if (!Array.isArray(hosts)) return;
  const protocols = itemsOf(all).map((of) => (textOf(of, 'protocol') ?? '').toUpperCase());
  hosts.forEach((host: unknown, index) => {
    if (typeof host === 'string' && /^\*[^.]/.test(host))
      report(['hosts', index], 'expected a wildcard of whole labels, such as *.a.b', 'warning');
  });
  if (hosts.length < 2 || resolution === 'NONE') return;
  if (protocols.some((protocol) => !/^(HTTP|HTTP2|HTTP_PROXY|GRPC|GRPC-WEB|HTTPS|TLS)$/.test(protocol)))
    report(['hosts', 1], 'one host alone with a port of bytes: a connection to it does not say which one it is for');
  else if (
    isOfNames(resolution) &&
    Array.isArray(addresses) &&
    addresses.length > 0 &&
    protocols.some((protocol) => /^(HTTPS|TLS)$/.test(protocol))
  )
    report(['hosts', 1], 'connections to the addresses are told apart by the server name of their TLS alone', 'warning');
}

function checkEndpointPorts(value: Unchecked, report: Report): void {
  const names = itemsOf(value.ports).map((each) => textOf(each, 'name'));
  itemsOf(value.endpoints).forEach((item, index) => {
    if ((textOf(item, 'address') ?? '').startsWith('unix://') && names.length !== 1)
      report(['endpoints', index, 'address'], `a unix socket stands for one port, found ${names.length} (spec.ports)`);
    for (const name of isUnchecked(item.ports) ? Object.keys(item.ports) : [])
      if (!names.includes(name))
        report(['endpoints', index, 'ports', name], `no port of the entry has the name ${describe(name)} (spec.ports)`);
  });
}

export const serviceEntryKind = istioKind(
  {
    kind: 'ServiceEntry',
    group: 'networking.istio.io',
    plural: 'serviceentries',
    shortNames: ['se'],
  },
  serviceEntry,
);

export const workloadEntryKind = istioKind(
  {
    kind: 'WorkloadEntry',
    group: 'networking.istio.io',
    plural: 'workloadentries',
    shortNames: ['we'],
  },
  entry,
);

const seconds = wholeNumber(0, 2_147_483_647).optional();

const probe = withRule(
  fields({
    initialDelaySeconds: seconds,
    timeoutSeconds: seconds,
    periodSeconds: seconds,
    successThreshold: seconds,
    failureThreshold: seconds,
    httpGet: fields({
      path: z.string().optional(),
      port: portNumber,
      host: z.string().optional(),
      scheme: choice(['HTTP', 'HTTPS']).optional(),
      httpHeaders: listOf(fields({ name: text('the name of a header', /^[-_A-Za-z0-9]+$/, 256), value: z.string().optional() })).optional(),
    }).optional(),
    tcpSocket: fields({ host: z.string().optional(), port: portNumber }).optional(),
    exec: fields({ command: z.array(z.string()).min(1).max(256) }).optional(),
    grpc: fields({ port: portNumber.optional(), service: z.string().optional() }).optional(),
  }),
  (value, report) => checkOneOf(value, ['httpGet', 'tcpSocket', 'exec', 'grpc'], report, true),
);

export const workloadGroupKind = istioKind(
  {
    kind: 'WorkloadGroup',
    group: 'networking.istio.io',
    plural: 'workloadgroups',
    shortNames: ['wg'],
    notActedOn: 'WorkloadGroup; a Workload is',
  },
  fields({
    metadata: fields({ labels: labels.optional(), annotations: mapOf(z.string()).optional() }).optional(),
    template: withRule(fields(workload), (value, report) => {
      if (isUnchecked(value) && value.address !== undefined) report(['address'], 'not in a template: every workload brings its own');
    }),
    probe: probe.optional(),
  }),
);
