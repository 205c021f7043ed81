// `weft xds …`: for proxyless gRPC clients: their bootstrap file, and which of them a node serves.
import { hostname } from 'node:os';
import { Command, Option } from 'commander';
import type { StatusResponse } from '../../api/gen/mesh/v1/status.js';
import { withController } from '../connection.js';
import { type Palette, table } from '../terminal.js';
import { contextOf, examples, jsonOption } from './context.js';

const DEFAULT_ADDRESS = 'unix:/run/weft-xds/xds.sock';

export function xdsCommand(withConnection: (command: Command) => Command): Command {
  const command = new Command('xds').description('Proxyless gRPC: what clients need, and who they are (docs/proxyless-grpc.md).');
  command.addCommand(bootstrapCommand());
  command.addCommand(withConnection(clientsCommand()));
  return command;
}

function bootstrapCommand(): Command {
  const command = new Command('bootstrap')
    .description('Print the bootstrap file of a gRPC client: the file that GRPC_XDS_BOOTSTRAP names.')
    .addOption(new Option('--address <address>', "as the agent's --xds-listen, as the client reaches it").default(DEFAULT_ADDRESS))
    .addOption(new Option('--id <name>', "the client's name in weft xds clients").default(hostname(), 'this host'))
    .addOption(new Option('--zone <name>', 'failure zone of the client').default(''))
    .action((flags: { address: string; id: string; zone: string }, self: Command) =>
      contextOf(self).print(JSON.stringify(bootstrap(flags), null, 2)),
    );
  return examples(
    command,
    ['weft xds bootstrap --id cart > xds.json', 'for the unix socket'],
    ['weft xds bootstrap --address 127.0.0.1:15012 --id cart', 'over TCP'],
  );
}

/** gRFC A27, A30. */
function bootstrap({ address, id, zone }: { address: string; id: string; zone: string }): object {
  return {
    xds_servers: [{ server_uri: address, channel_creds: [{ type: 'insecure' }], server_features: ['xds_v3'] }],
    node: { id, locality: { zone } },
  };
}

function clientsCommand(): Command {
  const command = new Command('clients')
    .description('Show the proxyless clients that a node serves: what they asked for, accepted and refused.')
    .argument('<node>', 'as `weft status` names it')
    .addOption(jsonOption())
    .action(async (name: string, flags: { output?: string }, self: Command) => {
      const context = contextOf(self);
      const { xds } = await withController(context.controller, async (controller) => controller.nodeStatus(await controller.node(name)));
      context.print(flags.output === 'json' ? JSON.stringify(xds ?? null, null, 2) : clientTable(xds, context.colours));
    });
  return examples(command, ['weft xds clients node-a', 'as a table'], ['weft xds clients node-a -o json', 'for a script']);
}

function clientTable(xds: StatusResponse['xds'], colours: Palette): string {
  if (xds === undefined) return 'This node serves no proxyless clients: start its agent with --xds-listen ADDRESS.';
  if (xds.clients.length === 0) return 'No proxyless client is connected.';
  const columns = ['CLIENT', 'SOFTWARE', 'TYPE', 'RESOURCES', 'ACKED', 'REFUSED'].map((title) => ({ title }));
  const rows = xds.clients.flatMap(({ node, agent, subscriptions }) =>
    subscriptions.map(({ type, resources, acked, refused, error }) => [
      colours.strong(node || '?'),
      agent || '?',
      type,
      String(resources),
      acked || '-',
      refused === '' ? '-' : colours.bad(`${refused}: ${error.replaceAll('\n', ' ')}`),
    ]),
  );
  return table(columns, rows, colours);
}
