// `weft status`: all nodes at a glance, or one in detail; what is wrong stands at the end, where the eye is.
import { Command } from 'commander';
import type { Node } from '../../api/gen/mesh/v1/admin.js';
import type { StatusResponse } from '../../api/gen/mesh/v1/status.js';
import { type Controller, withController } from '../connection.js';
import { elapsed, facts, type Palette, plural, table } from '../terminal.js';
import { type Context, contextOf, examples, jsonOption } from './context.js';
import { toldOf, workloadTable } from './node-tables.js';

/** What is known of a node: what the controller says, and what the node itself says if it answers. */
interface NodeView {
  readonly node: Node;
  readonly status: StatusResponse | null;
  /** Why there is no status; empty when there is one. */
  readonly statusError: string;
}

export function statusCommand(): Command {
  const command = new Command('status')
    .description('Show the nodes: applied revision, capture, proxy, and whatever is wrong.')
    .argument('[node]', 'one node in detail')
    .addOption(jsonOption())
    .action(async (name: string | undefined, flags: { output?: string }, self: Command) =>
      status(name ?? null, flags.output === 'json', contextOf(self)),
    );
  return examples(
    command,
    ['weft status', 'every node'],
    ['weft status node-a', 'one node in detail'],
    ['weft status -o json', 'for a script'],
  );
}

async function status(name: string | null, json: boolean, context: Context): Promise<void> {
  const { views, revision } = await withController(context.controller, async (controller) => {
    const answer =
      name === null
        ? await controller.listNodes()
        : { nodes: [await controller.node(name)], revision: (await controller.listNodes()).revision };
    return { views: await Promise.all(answer.nodes.map((node) => view(node, controller))), revision: answer.revision };
  });
  if (json) return context.print(JSON.stringify({ revision, nodes: views.map(forScripts) }, null, 2));
  const [only] = views;
  if (name !== null && only !== undefined) context.print(detail(only, context.colours));
  else context.print(overview(views, revision, context.colours));
  const problems = views.flatMap((each) => problemsOf(each));
  if (problems.length > 0) context.print(['', ...problems.map((problem) => context.colours.bad(`! ${problem}`))].join('\n'));
}

function forScripts({ node, status, statusError }: NodeView) {
  return { ...node, status, statusError };
}

async function view(node: Node, controller: Controller): Promise<NodeView> {
  try {
    return { node, status: await controller.nodeStatus(node), statusError: '' };
  } catch (error) {
    return { node, status: null, statusError: (error as Error).message };
  }
}

const MAX_NAMED = 5;

function overview(views: readonly NodeView[], revision: number, colours: Palette): string {
  if (views.length === 0) return 'No node has registered yet. Start an agent: weft agent --node NAME --controller ADDRESS';
  const columns = ['NODE', 'CONTROLLER', 'REVISION', 'CAPTURE', 'WORKLOADS', 'PROXY', 'UP', 'VERSION'].map((title) => ({ title }));
  const rows = views.map(({ node, status }) => {
    const workloads = status?.capture?.workloads ?? [];
    const captured = workloads.filter((workload) => workload.state === 'captured').length;
    return [
      node.draining ? `${colours.strong(node.name)} ${colours.warn('draining')}` : colours.strong(node.name),
      node.connected ? colours.good('connected') : colours.bad('lost'),
      node.ackedRevision >= node.wantedRevision
        ? String(node.ackedRevision)
        : colours.warn(`${node.ackedRevision} of ${node.wantedRevision}`),
      status?.capture?.mode ?? '?',
      status === null ? String(node.workloads.length) : `${captured}/${workloads.length} captured`,
      proxyState(status, colours),
      status === null ? '?' : elapsed(status.uptimeSeconds),
      node.version,
    ];
  });
  return `${table(columns, rows, colours)}\n${colours.faint(`${plural(views.length, 'node')}, newest revision ${revision}`)}`;
}

function proxyState(status: StatusResponse | null, colours: Palette): string {
  if (status === null) return '?';
  const { proxy } = status;
  if (proxy === undefined) return colours.bad('down');
  const workers = plural(proxy.workers, 'worker');
  return proxy.overloads.length > 0 ? colours.bad(`overloaded (${workers})`) : colours.good(`up (${workers})`);
}

function detail({ node, status }: NodeView, colours: Palette): string {
  const pairs: [string, string][] = [
    ['Node', colours.strong(node.name)],
    ['Zone', node.zone || '-'],
    ['Status address', node.statusAddress],
    ['Version', node.version],
    ['Controller', linkState(node, status, colours)],
    ['Revision', `${status?.appliedRevision ?? node.ackedRevision} applied`],
    ['Told of', toldOf(node)],
  ];
  if (status !== null) {
    pairs.push(['Agent', `up ${elapsed(status.uptimeSeconds)}`]);
    const { proxy } = status;
    pairs.push([
      'Proxy',
      proxy === undefined
        ? colours.bad(`down: ${status.proxyError || 'it does not answer'}`)
        : `${colours.good('up')} ${elapsed(proxy.uptimeSeconds)}, pid ${proxy.pid}, ${plural(proxy.workers, 'worker')}, revision ${proxy.appliedRevision}`,
    ]);
    if (proxy !== undefined) pairs.push(['Egress', egressOf(proxy)]);
    const shed = (proxy?.counters ?? []).filter(({ name, value }) => name.startsWith('shed_') && value > 0);
    if (shed.length > 0) pairs.push(['Shed so far', shed.map(({ name, value }) => `${name.slice('shed_'.length)} ${value}`).join(', ')]);
    if (status.xds !== undefined) pairs.push(['Proxyless clients', String(status.xds.clients.length)]);
    const checks = status.checks.filter(({ verdict }) => verdict === 'failing').length;
    if (status.checks.length > 0)
      pairs.push([
        'Health checks',
        `${plural(status.checks.length, 'endpoint')}, ${checks === 0 ? colours.good('none fails') : colours.bad(`${checks} fail`)}`,
      ]);
    pairs.push(['Capture', `${status.capture?.mode ?? '?'}${status.capture?.reason ? colours.faint(` (${status.capture.reason})`) : ''}`]);
  }
  const workloads = status?.capture?.workloads ?? [];
  return workloads.length === 0 ? facts(pairs, colours) : `${facts(pairs, colours)}\n\n${workloadTable(workloads, colours)}`;
}

/** Of what is in no registry. */
function egressOf({ registryOnly, outsideHosts }: NonNullable<StatusResponse['proxy']>): string {
  const hosts = outsideHosts === 0 ? '' : `; ${plural(outsideHosts, 'outside host')}`;
  if (registryOnly.length === 0) return `ALLOW_ANY${hosts}`;
  const more = registryOnly.length > MAX_NAMED ? ` and ${registryOnly.length - MAX_NAMED} more` : '';
  return `REGISTRY_ONLY for ${registryOnly.slice(0, MAX_NAMED).join(', ')}${more}${hosts}`;
}

function linkState(node: Node, status: StatusResponse | null, colours: Palette): string {
  const link = status?.controller;
  if (link === undefined) return node.connected ? colours.good('connected') : colours.bad('lost');
  const state = link.connected ? colours.good('connected') : colours.bad(`lost: ${link.error}`);
  return `${link.address} ${state}${link.fromDisk ? colours.warn(' (running on the snapshot from its disk)') : ''}`;
}

function problemsOf({ node, status, statusError }: NodeView): string[] {
  const problems: string[] = [];
  if (!node.connected) problems.push(`${node.name}: its agent is not connected to the controller`);
  if (statusError !== '') problems.push(statusError.replaceAll('\n', ' '));
  if (node.connected && node.ackedRevision < node.wantedRevision)
    problems.push(`${node.name}: runs on revision ${node.ackedRevision}, newest is ${node.wantedRevision}`);
  if (status !== null && status.proxy === undefined)
    problems.push(`${node.name}: no proxy answers; captured traffic goes direct or is refused, as each workload says`);
  for (const { detail } of status?.proxy?.overloads ?? []) problems.push(`${node.name}: overload, ${detail}`);
  for (const fault of status?.proxy?.faults ?? []) problems.push(`${node.name}: ${fault}`);
  for (const fault of status?.xds?.faults ?? []) problems.push(`${node.name}: ${fault}`);
  for (const client of status?.xds?.clients ?? []) {
    for (const { type, refused, error } of client.subscriptions.filter((subscription) => subscription.refused !== ''))
      problems.push(`${node.name}: proxyless client ${client.node} refuses ${type} of revision ${refused}, keeps what it had: ${error}`);
  }
  for (const workload of status?.capture?.workloads ?? []) {
    if (workload.state === 'failed' || workload.state === 'pending')
      problems.push(`${node.name}: ${workload.workload} is not captured (${workload.state}): ${workload.detail}`);
  }
  for (const { endpoint, check, verdict, detail } of status?.checks ?? []) {
    if (verdict === 'failing') problems.push(`${node.name}: ${endpoint} fails its health check (${check}): ${detail || 'it passed since'}`);
  }
  for (const notice of status?.notices ?? []) problems.push(`${node.name}: ${notice}`);
  const rejected = new Map([...node.rejected, ...(status?.rejected ?? [])].map((rejection) => [rejection.name, rejection]));
  for (const { name, error } of rejected.values()) problems.push(`${node.name}: refused ${name}, keeps its last good version: ${error}`);
  return problems;
}
