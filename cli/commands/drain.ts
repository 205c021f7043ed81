// `weft drain` and `weft undrain`: a node's endpoints get nothing new, before it is stopped; until that is ended.
import { setTimeout as delay } from 'node:timers/promises';
import { Command } from 'commander';
import { type Controller, withController } from '../connection.js';
import { Failure } from '../failure.js';
import { plural } from '../terminal.js';
import { timeoutOption, waitForNodes } from './apply.js';
import { type Context, contextOf, examples } from './context.js';

interface DrainFlags {
  readonly wait?: boolean;
  readonly timeout: number;
}

const POLL_MS = 300;

export function drainCommand(): Command {
  const command = new Command('drain')
    .description(
      'Give the endpoints on a node nothing new: what they have goes on. It stands until weft undrain, also over a restart of the node.',
    )
    .argument('<node>')
    .option('--wait', 'return when every node knows, and no request is under way to that one any more')
    .addOption(timeoutOption())
    .action((node: string, flags: DrainFlags, self: Command) => drain(node, false, flags, contextOf(self)));
  return examples(command, ['weft drain node-b --wait --timeout 2m', 'before node-b is stopped'], ['weft undrain node-b', 'it is back']);
}

export function undrainCommand(): Command {
  const command = new Command('undrain')
    .description('The endpoints on a drained node get new work again.')
    .argument('<node>')
    .option('--wait', 'return when every node knows')
    .addOption(timeoutOption())
    .action((node: string, flags: DrainFlags, self: Command) => drain(node, true, flags, contextOf(self)));
  return examples(command, ['weft undrain node-b --wait', 'it takes part again']);
}

async function drain(node: string, end: boolean, { wait, timeout }: DrainFlags, context: Context): Promise<void> {
  const deadline = performance.now() + timeout;
  await withController(context.controller, async (controller) => {
    const { revision } = await controller.drainNode({ node, end });
    const what = end ? 'its endpoints get new work' : 'its endpoints get nothing new';
    context.print(`node ${node} ${end ? 'is not drained any more' : 'drains'}: ${what}${revision === 0 ? ' (it was so already)' : ''}`);
    if (wait !== true) return;
    await waitForNodes(controller, revision, timeout, context);
    if (!end) await untilIdle(controller, node, { timeout, deadline }, context);
  });
}

/** As the nodes that are connected see it. */
async function untilIdle(
  controller: Controller,
  node: string,
  { timeout, deadline }: { readonly timeout: number; readonly deadline: number },
  context: Context,
): Promise<void> {
  for (;;) {
    const left = await underWay(controller, node);
    if (left === 0) return context.print(context.colours.faint(`nothing is under way to ${node}`));
    if (performance.now() > deadline) {
      const what = `${plural(left, 'request')} or connection${left === 1 ? '' : 's'} under way to ${node} still, after ${timeout / 1_000} s`;
      throw new Failure(`${what}: weft endpoints NODE shows them, node by node. The node stays drained.`);
    }
    await delay(POLL_MS);
  }
}

async function underWay(controller: Controller, node: string): Promise<number> {
  const { nodes } = await controller.listNodes();
  const statuses = await Promise.all(nodes.filter(({ connected }) => connected).map((each) => controller.nodeStatus(each)));
  // An endpoint is in the cluster of each port, with what is under way to it altogether.
  const endpoints = statuses.flatMap(({ proxy }, index) =>
    (proxy?.clusters ?? []).flatMap((cluster) => cluster.endpoints.map((endpoint) => ({ ...endpoint, from: index }))),
  );
  const mostOf = new Map<string, number>();
  for (const { from, node: on, address, port, outstanding } of endpoints) {
    if (on !== node) continue;
    const key = `${from} ${address} ${port}`;
    mostOf.set(key, Math.max(mostOf.get(key) ?? 0, outstanding));
  }
  return [...mostOf.values()].reduce((sum, each) => sum + each, 0);
}
