// `weft instance register|deregister|drain|list`: instances of services on this host, told to its agent.
import { Command, InvalidArgumentError, Option } from 'commander';
import { InstanceState } from '../../api/gen/mesh/v1/discovery.js';
import { EndpointHealth, HealthCheck, HealthCheck_Type } from '../../api/gen/mesh/v1/model.js';
import type { RegisteredInstance } from '../../api/gen/mesh/v1/registry.js';
import { DEFAULT_AGENT, type InstanceAgent, withAgent } from '../connection.js';
import { elapsed, type Palette, table } from '../terminal.js';
import { type Context, contextOf, durationMs, examples, jsonOption } from './context.js';
import { healthText, labels, portsText } from './registry.js';

interface AgentFlags {
  readonly agent: string;
}

interface RefFlags extends AgentFlags {
  readonly namespace: string;
  readonly id: string;
}

interface RegisterFlags extends RefFlags {
  readonly address: string;
  readonly port: InstanceState['ports'];
  readonly version: string;
  readonly label?: Record<string, string>;
  readonly weight: number;
  readonly ttl?: number;
  readonly keep?: boolean;
  readonly check?: HealthCheck;
  readonly checkInterval: number;
  readonly checkTimeout: number;
}

const KEPT_TTL_MS = 15_000;
const BEATS_PER_TTL = 3;

export function instanceCommand(): Command {
  const command = new Command('instance').description(
    'Instances of services on this host: registered at its agent, gone with it (docs/registry.md).',
  );
  for (const each of [registerCommand(), deregisterCommand(), drainCommand(), listCommand()]) {
    command.addCommand(
      each.addOption(
        new Option('--agent <address>', 'where the agent is: its agent.sock, or as its --instances-listen')
          .env('WEFT_AGENT')
          .default(DEFAULT_AGENT),
      ),
    );
  }
  return command;
}

function ofInstance(command: Command): Command {
  return command
    .argument('<service>')
    .addOption(new Option('-n, --namespace <namespace>', 'of the service').default('default'))
    .requiredOption('--id <id>', 'of the instance, unique on this node within the service');
}

function registerCommand(): Command {
  const command = ofInstance(new Command('register'))
    .description('Register an instance, or change one. Without --ttl or --keep it stays until it is deregistered or its node is lost.')
    .requiredOption('--address <ip>', 'where clients reach it')
    .addOption(
      new Option(
        '--port <port>',
        'PORT, NAME=PORT or NAME=SERVICEPORT:PORT; repeatable; the name begins with the protocol, as a Service’s port’s',
      )
        .argParser(ports)
        .makeOptionMandatory(),
    )
    .addOption(new Option('--version <version>', 'of its software').default('', 'as its labels say'))
    .addOption(new Option('-l, --label <key=value>', 'repeatable').argParser(labels))
    .addOption(new Option('--weight <weight>', 'its share against the others’').argParser(whole).default(1))
    .addOption(new Option('--ttl <duration>', 'gone when so long nobody registers it again: 1s to 24h').argParser(durationMs))
    .option('--keep', 'stay, send heartbeats (--ttl 15s unless it says otherwise), and deregister it at SIGTERM or SIGINT')
    .addOption(new Option('--check <what>', 'tcp, http:/PATH, grpc or grpc:SERVICE: asked of it by the agent').argParser(check))
    .addOption(new Option('--check-interval <duration>', 'between checks').argParser(durationMs).default(10_000, '10s'))
    .addOption(new Option('--check-timeout <duration>', 'of one check').argParser(durationMs).default(1_000, '1s'))
    .action((service: string, flags: RegisterFlags, self: Command) => register(service, flags, contextOf(self)));
  return examples(
    command,
    ['weft instance register api -n shop --id a --address 10.0.0.7 --port http=8080 --version v2', 'until it is deregistered'],
    ['weft instance register api -n shop --id a --address 10.0.0.7 --port http=80:8080 --check http:/healthz --keep', 'while this runs'],
  );
}

async function register(service: string, flags: RegisterFlags, context: Context): Promise<void> {
  const { namespace, id, address, port, version, label = {}, weight, keep = false } = flags;
  const ttlMs = flags.ttl ?? (keep ? KEPT_TTL_MS : 0);
  const instance = InstanceState.fromPartial({
    service: `${namespace}/${service}`,
    id,
    address,
    ports: port,
    version,
    labels: label,
    weight,
    ...(flags.check === undefined ? {} : { check: { ...flags.check, intervalMs: flags.checkInterval, timeoutMs: flags.checkTimeout } }),
  });
  await withAgent(flags.agent, (agent) => agent.register(instance, ttlMs));
  context.print(`instance ${id} of ${instance.service} registered`);
  if (keep) await keepRegistered(instance, ttlMs, flags.agent, context);
}

/** Until SIGTERM or SIGINT. An agent that is away is told again as soon as it is back. */
async function keepRegistered(instance: InstanceState, ttlMs: number, address: string, context: Context): Promise<void> {
  let trouble = '';
  const beat = async (agent: InstanceAgent): Promise<void> => {
    try {
      await agent.register(instance, ttlMs);
      if (trouble !== '') context.printError('the agent answers again');
      trouble = '';
    } catch (error) {
      if (trouble === '') context.printError(`${(error as Error).message}\nTrying again.`);
      trouble = (error as Error).message;
    }
  };
  await withAgent(address, async (agent) => {
    const timer = setInterval(() => void beat(agent), ttlMs / BEATS_PER_TTL);
    await new Promise<void>((resolve) => {
      process.once('SIGTERM', resolve);
      process.once('SIGINT', resolve);
    });
    clearInterval(timer);
    await agent.deregister(instance);
  });
  context.print(`instance ${instance.id} of ${instance.service} deregistered`);
}

function deregisterCommand(): Command {
  const command = ofInstance(new Command('deregister'))
    .description('Take an instance out of the registry. Drain it first where it has requests that are to end.')
    .action(async (name: string, { namespace, id, agent }: RefFlags, self: Command) => {
      const service = `${namespace}/${name}`;
      await withAgent(agent, (connection) => connection.deregister({ service, id }));
      contextOf(self).print(`instance ${id} of ${service} deregistered`);
    });
  return examples(command, ['weft instance deregister api -n shop --id a', 'it is no endpoint any more']);
}

function drainCommand(): Command {
  const command = ofInstance(new Command('drain'))
    .description('Give an instance nothing new: what it has goes on. Its heartbeats do not end that; --end does, and deregistering it.')
    .option('--end', 'it gets new work again', false)
    .action(async (name: string, { namespace, id, agent, end }: RefFlags & { end: boolean }, self: Command) => {
      const service = `${namespace}/${name}`;
      await withAgent(agent, (connection) => connection.drain({ service, id, end }));
      contextOf(self).print(`instance ${id} of ${service} ${end ? 'gets new work again' : 'drains: it gets nothing new'}`);
    });
  return examples(
    command,
    ['weft instance drain api -n shop --id a', 'before it is stopped'],
    ['weft instance drain api -n shop --id a --end', 'it goes on after all'],
  );
}

function listCommand(): Command {
  const command = new Command('list')
    .description('List the instances that registered themselves at the agent.')
    .addOption(jsonOption())
    .action(async ({ agent, output }: AgentFlags & { output?: 'json' }, self: Command) => {
      const context = contextOf(self);
      const instances = await withAgent(agent, (connection) => connection.list());
      if (output === 'json') context.print(JSON.stringify({ instances }, null, 2));
      else if (instances.length === 0) context.printError('no instance has registered itself here');
      else context.print(instanceTable(instances, context.colours));
    });
  return examples(command, ['weft instance list', 'as a table']);
}

function instanceTable(instances: readonly RegisteredInstance[], colours: Palette): string {
  const columns = ['SERVICE', 'ID', 'ADDRESS', 'PORTS', 'VERSION', 'HEALTH', 'GONE IN'].map((title) => ({ title }));
  const rows = instances.flatMap(({ instance, ttlMs, leftMs, drained }) =>
    instance === undefined
      ? []
      : [
          [
            instance.service,
            instance.id,
            instance.address,
            portsText(instance.ports),
            instance.version,
            healthText(drained ? EndpointHealth.DRAINING : instance.health, colours),
            ttlMs === 0 ? '-' : elapsed(leftMs / 1_000),
          ],
        ],
  );
  return table(columns, rows, colours);
}

/** Repeatable. */
function ports(value: string, previous: InstanceState['ports'] | undefined): InstanceState['ports'] {
  const match = /^(?:([a-z0-9-]{1,15})=)?(?:(\d{1,5}):)?(\d{1,5})$/.exec(value);
  if (match === null) throw new InvalidArgumentError('expected PORT, NAME=PORT or NAME=SERVICEPORT:PORT.');
  const [, name = '', servicePort = '0', port] = match;
  return [...(previous ?? []), { name, servicePort: Number(servicePort), port: Number(port), protocol: '' }];
}

function whole(value: string): number {
  if (!/^[1-9]\d{0,6}$/.test(value)) throw new InvalidArgumentError('expected a whole number from 1.');
  return Number(value);
}

/** Interval and timeout are others' flags. */
function check(value: string): HealthCheck {
  const [kind = '', ...rest] = value.split(':');
  const about = rest.join(':');
  const thresholds = { unhealthyThreshold: 3, healthyThreshold: 1 };
  if (kind === 'tcp' && about === '') return HealthCheck.fromPartial({ ...thresholds, type: HealthCheck_Type.TCP });
  if (kind === 'http') return HealthCheck.fromPartial({ ...thresholds, type: HealthCheck_Type.HTTP, path: about || '/' });
  if (kind === 'grpc') return HealthCheck.fromPartial({ ...thresholds, type: HealthCheck_Type.GRPC, grpcService: about });
  throw new InvalidArgumentError('expected tcp, http:/PATH, grpc or grpc:SERVICE.');
}
