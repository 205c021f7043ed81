// `weft routes|endpoints|clusters|listeners|capture NODE`: what a node runs on, told by the node itself.
import { Command } from 'commander';
import type { Node } from '../../api/gen/mesh/v1/admin.js';
import { EndpointHealth } from '../../api/gen/mesh/v1/model.js';
import type { Counter, EndpointState, ProxyState, StatusResponse, WorkloadCapture } from '../../api/gen/mesh/v1/status.js';
import { hostPort } from '../../api/host-port.js';
import { withController } from '../connection.js';
import { Failure } from '../failure.js';
import { facts, type Palette, plural, table } from '../terminal.js';
import { contextOf, examples, jsonOption } from './context.js';
import { healthText } from './registry.js';

interface NodeTable {
  readonly name: string;
  readonly description: string;
  /** The JSON behind it: fields as in status.proto, lower camel case. */
  readonly json: (status: StatusResponse) => unknown;
  /** It shows what the controller told the node, and so no more. */
  readonly isTold: boolean;
  readonly text: (status: StatusResponse, colours: Palette) => string;
}

export function nodeCommands(): Command[] {
  return TABLES.map(nodeCommand);
}

const TABLES: readonly NodeTable[] = [
  {
    name: 'routes',
    isTold: true,
    description: "Show a node's routes in the order in which they are tried.",
    json: (status) => proxyOf(status).routes,
    text: (status, colours) => routeTable(proxyOf(status), colours),
  },
  {
    name: 'endpoints',
    isTold: true,
    description: 'Show the endpoints that a node sends requests to, with health and load.',
    json: (status) => proxyOf(status).clusters,
    text: (status, colours) => endpointTable(proxyOf(status), colours),
  },
  {
    name: 'clusters',
    isTold: true,
    description: 'Show the services that a node knows, one line each.',
    json: (status) => proxyOf(status).clusters,
    text: (status, colours) => clusterTable(proxyOf(status), colours),
  },
  {
    name: 'listeners',
    isTold: true,
    description: "Show where a node's proxy listens.",
    json: (status) => proxyOf(status).listeners,
    text: (status, colours) => listenerTable(proxyOf(status), colours),
  },
  {
    name: 'capture',
    isTold: false,
    description: 'Show how a node captures traffic, workload by workload, and the counters of its programs.',
    json: (status) => status.capture ?? null,
    text: captureText,
  },
];

function nodeCommand(spec: NodeTable): Command {
  const command = new Command(spec.name)
    .description(spec.description)
    .argument('<node>', 'as `weft status` names it')
    .addOption(jsonOption())
    .action(async (name: string, flags: { output?: string }, self: Command) => {
      const context = contextOf(self);
      const { node, status } = await withController(context.controller, async (controller) => {
        const found = await controller.node(name);
        return { node: found, status: await controller.nodeStatus(found) };
      });
      if (flags.output === 'json') return context.print(JSON.stringify(spec.json(status), null, 2));
      context.print(spec.text(status, context.colours));
      // Who misses something here sees at once that it was not sent here.
      if (node.interest !== undefined && spec.isTold) context.print(context.colours.faint(`\n${name} is told of ${toldOf(node)}`));
    });
  return examples(command, [`weft ${spec.name} node-a`, 'as a table'], [`weft ${spec.name} node-a -o json`, 'for a script']);
}

/** What exports, Sidecars and places of gateways leave of the mesh for the node. */
export function toldOf({ interest }: Node): string {
  if (interest === undefined) return 'everything';
  const { services, allServices, namespaces, gateways } = interest;
  return [
    `${services} of ${plural(allServices, 'service')}`,
    `workloads of ${namespaces.length === 0 ? 'no namespace' : namespaces.join(', ')}`,
    gateways.length === 0 ? 'no gateway' : `gateways ${gateways.join(', ')}`,
  ].join('; ');
}

function proxyOf(status: StatusResponse): ProxyState {
  if (status.proxy !== undefined) return status.proxy;
  throw new Failure(
    `no proxy answers on ${status.node}: ${status.proxyError || 'it is not running'}\nLook at the proxy's log on that node.`,
  );
}

function routeTable(proxy: ProxyState, colours: Palette): string {
  const columns = [
    { title: 'SCOPE' },
    { title: 'HOST' },
    { title: 'MATCH' },
    { title: 'ROUTE' },
    { title: 'BACKENDS' },
    { title: 'REQUESTS', align: 'right' as const },
  ];
  const rows = proxy.routes.map((route) => [
    route.scope,
    route.host || '*',
    route.match,
    route.route,
    route.backends.join(', '),
    String(route.requests),
  ]);
  return rows.length === 0 ? 'No routes: every request goes to the service it was sent to.' : table(columns, rows, colours);
}

function endpointTable(proxy: ProxyState, colours: Palette): string {
  const right = { align: 'right' as const };
  const columns = [
    ...['CLUSTER', 'ADDRESS', 'NODE', 'WORKLOAD', 'HEALTH'].map((title) => ({ title })),
    ...['WEIGHT', 'REQUESTS', 'ERRORS', 'IN FLIGHT'].map((title) => ({ title, ...right })),
  ];
  const all = proxy.clusters.flatMap((cluster) => cluster.endpoints.map((endpoint) => ({ cluster, endpoint })));
  // What few have, where any has it.
  const some = BALANCING_COLUMNS.filter(({ text }) => all.some(({ endpoint }) => text(endpoint) !== ''));
  const rows = all.map(({ cluster, endpoint }) => [
    cluster.name,
    hostPort(endpoint.address, endpoint.port),
    endpoint.node,
    endpoint.workload,
    endpoint.unavailable ? colours.bad('ejected') : healthText(endpoint.health, colours),
    String(endpoint.weight),
    String(endpoint.requests),
    endpoint.errors > 0 ? colours.bad(String(endpoint.errors)) : '0',
    String(endpoint.outstanding),
    ...some.map(({ text }) => text(endpoint)),
    [endpoint.healthReason, cluster.panics ? 'panic: all are used' : ''].filter((part) => part !== '').join('; '),
  ]);
  if (rows.length === 0) return 'No endpoints: no service that this node knows has any.';
  return table([...columns, ...some.map(({ title }) => ({ title, ...right })), { title: 'WHY' }], rows, colours);
}

const percent = (part: number): string => `${Math.round(part * 1000) / 10} %`;
const BALANCING_COLUMNS: readonly { readonly title: string; readonly text: (endpoint: EndpointState) => string }[] = [
  { title: 'LOCALITY', text: ({ region, zone }) => [region, zone].filter((part) => part !== '').join('/') },
  { title: 'PRIORITY', text: ({ priority }) => (priority === undefined ? '' : String(priority)) },
  { title: 'LOAD', text: ({ load }) => (load === undefined ? '' : percent(load)) },
  {
    title: 'SHARE',
    text: ({ weightShare, weightSource }) => (weightShare === undefined ? '' : `${percent(weightShare)} (${weightSource})`),
  },
  { title: 'EWMA', text: ({ ewmaMs }) => (ewmaMs === 0 ? '' : `${Math.round(ewmaMs * 100) / 100} ms`) },
  { title: 'WARMTH', text: ({ warmth }) => (warmth === 0 || warmth === 1 ? '' : percent(warmth)) },
];

function clusterTable(proxy: ProxyState, colours: Palette): string {
  const right = { align: 'right' as const };
  const columns = [
    { title: 'CLUSTER' },
    { title: 'ALGORITHM' },
    { title: 'READY', ...right },
    { title: 'REQUESTS', ...right },
    { title: 'ERRORS', ...right },
  ];
  const rows = proxy.clusters.map(({ name, algorithm, endpoints }) => {
    const ready = endpoints.filter((endpoint) => endpoint.health === EndpointHealth.READY).length;
    const share = `${ready}/${endpoints.length}`;
    const sum = (of: 'requests' | 'errors') => endpoints.reduce((total, endpoint) => total + endpoint[of], 0);
    return [name, algorithm, ready === 0 ? colours.bad(share) : share, String(sum('requests')), String(sum('errors'))];
  });
  return rows.length === 0 ? 'No clusters: no service is known here.' : table(columns, rows, colours);
}

function listenerTable(proxy: ProxyState, colours: Palette): string {
  const columns = [
    { title: 'LISTENER' },
    { title: 'ADDRESS' },
    { title: 'KIND' },
    { title: 'PROTOCOL' },
    { title: 'CONNECTIONS', align: 'right' as const },
  ];
  const rows = proxy.listeners.map((listener) => [
    listener.name,
    hostPort(listener.address || '*', listener.port),
    listener.kind,
    listener.protocol,
    String(listener.connections),
  ]);
  return rows.length === 0 ? 'The proxy has no listener.' : table(columns, rows, colours);
}

function captureText(status: StatusResponse, colours: Palette): string {
  const { capture } = status;
  if (capture === undefined) throw new Failure(`${status.node} says nothing about capture: is its agent starting?`);
  const head = facts(
    [
      ['Mode', colours.strong(capture.mode)],
      ['Why', capture.reason || '-'],
    ],
    colours,
  );
  const workloads = capture.workloads.length === 0 ? 'No workload of this node is known.' : workloadTable(capture.workloads, colours);
  const parts = [head, workloads];
  if (capture.counters.length > 0) parts.push(counterTable(capture.counters, colours));
  return parts.join('\n\n');
}

function counterTable(counters: readonly Counter[], colours: Palette): string {
  return table(
    [{ title: 'COUNTER' }, { title: 'VALUE', align: 'right' }],
    counters.map(({ name, value }) => [name, String(value)]),
    colours,
  );
}

export function workloadTable(workloads: readonly WorkloadCapture[], colours: Palette): string {
  const columns = ['WORKLOAD', 'STATE', 'DIRECTIONS', 'WITHOUT PROXY', 'INTERFACE', 'ADDRESSES', 'DETAIL'].map((title) => ({ title }));
  const rows = workloads.map((workload) => [
    workload.workload,
    captureState(workload.state, colours),
    [workload.outbound ? 'out' : '', workload.inbound ? 'in' : ''].filter((direction) => direction !== '').join('+'),
    workload.failClosed ? 'refused' : 'direct',
    workload.interface,
    workload.addresses.join(','),
    workload.detail,
  ]);
  return table(columns, rows, colours);
}

function captureState(state: string, colours: Palette): string {
  if (state === 'captured') return colours.good(state);
  return state === 'failed' ? colours.bad(state) : colours.warn(state);
}
