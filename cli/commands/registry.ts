// `weft registry services|endpoints`: what the registry has, asked of a controller.
import { Command, InvalidArgumentError, Option } from 'commander';
import { type Endpoint, EndpointHealth } from '../../api/gen/mesh/v1/model.js';
import type { ListEndpointsRequest, ListServicesRequest, ServiceSummary } from '../../api/gen/mesh/v1/registry.js';
import { type Controller, withController } from '../connection.js';
import { type Palette, table } from '../terminal.js';
import { contextOf, examples, jsonOption } from './context.js';

interface ServicesFlags {
  readonly namespace: string;
  readonly output?: 'json';
}

interface EndpointsFlags {
  readonly namespace: string;
  readonly version?: string;
  readonly healthy?: boolean;
  readonly label?: Readonly<Record<string, string>>;
  readonly zone: string;
  readonly node: string;
  readonly output?: 'json';
}

export function registryCommand(withConnection: (command: Command) => Command): Command {
  const command = new Command('registry').description('What the registry has: services with their versions, endpoints.');
  command.addCommand(withConnection(servicesCommand()));
  command.addCommand(withConnection(endpointsCommand()));
  return command;
}

function servicesCommand(): Command {
  const command = new Command('services')
    .description('List services: ports, and for each version how many of its endpoints are ready.')
    .addOption(new Option('-n, --namespace <namespace>', 'only in this namespace (default: all)').default(''))
    .addOption(jsonOption())
    .action(async ({ namespace, output }: ServicesFlags, self: Command) => {
      const context = contextOf(self);
      const services = await withController(context.controller, (controller) => allServices(controller, namespace));
      if (output === 'json') context.print(JSON.stringify({ services }, null, 2));
      else if (services.length === 0) context.printError(`no service in ${namespace === '' ? 'any namespace' : `namespace ${namespace}`}`);
      else context.print(serviceTable(services, context.colours));
    });
  return examples(command, ['weft registry services', 'of every namespace'], ['weft registry services -n shop -o json', 'for a script']);
}

function endpointsCommand(): Command {
  const command = new Command('endpoints')
    .description('List the endpoints of a service.')
    .argument('<service>')
    .addOption(new Option('-n, --namespace <namespace>', 'of the service').default('default'))
    .addOption(new Option('--version <version>', 'of this version; empty: of which none is known'))
    .option('--healthy', 'only those that take new work')
    .addOption(new Option('-l, --label <key=value>', 'that have it; repeatable: all of them').argParser(labels))
    .addOption(new Option('--zone <zone>', 'in it').default(''))
    .addOption(new Option('--node <node>', 'on it').default(''))
    .addOption(jsonOption())
    .action(async (service: string, flags: EndpointsFlags, self: Command) => {
      const context = contextOf(self);
      const endpoints = await withController(context.controller, (controller) => allEndpoints(controller, service, flags));
      if (flags.output === 'json') context.print(JSON.stringify({ endpoints: endpoints.map(shown) }, null, 2));
      else if (endpoints.length === 0) context.printError(`no such endpoint of ${flags.namespace}/${service}`);
      else context.print(endpointTable(endpoints, context.colours));
    });
  return examples(
    command,
    ['weft registry endpoints catalog -n shop --version v2', 'of one version'],
    ['weft registry endpoints catalog -n shop --healthy -l tier=gold', 'that are ready, by a label'],
  );
}

/** Repeatable. */
export function labels(value: string, previous: Readonly<Record<string, string>> | undefined): Record<string, string> {
  const equals = value.indexOf('=');
  if (equals < 1) throw new InvalidArgumentError('expected KEY=VALUE.');
  return { ...previous, [value.slice(0, equals)]: value.slice(equals + 1) };
}

async function allServices(controller: Controller, namespace: string): Promise<ServiceSummary[]> {
  const services: ServiceSummary[] = [];
  let request: ListServicesRequest = { namespace, name: '', limit: 0, continue: '' };
  for (;;) {
    const answer = await controller.listServices(request);
    services.push(...answer.services);
    if (answer.continue === '') return services;
    request = { ...request, continue: answer.continue };
  }
}

async function allEndpoints(controller: Controller, service: string, flags: EndpointsFlags): Promise<Endpoint[]> {
  const { namespace, version, healthy = false, label = {}, zone, node } = flags;
  const endpoints: Endpoint[] = [];
  let request: ListEndpointsRequest = { namespace, service, version, healthy, labels: label, zone, node, limit: 0, continue: '' };
  for (;;) {
    const answer = await controller.listEndpoints(request);
    endpoints.push(...answer.endpoints);
    if (answer.continue === '') return endpoints;
    request = { ...request, continue: answer.continue };
  }
}

function shown({ service: _, health, weight, check, ...endpoint }: Endpoint): object {
  return {
    ...endpoint,
    weight: weight || 1,
    health: EndpointHealth[health],
    ...(check === undefined ? {} : { check: { ...check, own: undefined } }),
  };
}

function serviceTable(services: readonly ServiceSummary[], colours: Palette): string {
  const columns = ['NAMESPACE', 'SERVICE', 'PORTS', 'READY', 'VERSIONS'].map((title) => ({ title }));
  const rows = services.map(({ namespace, name, ports, versions }) => {
    const all = versions.reduce((sum, { endpoints }) => sum + endpoints, 0);
    const ready = versions.reduce((sum, version) => sum + version.ready, 0);
    const share = `${ready}/${all}`;
    return [
      namespace,
      colours.strong(name),
      portsText(ports),
      ready === 0 ? colours.bad(share) : share,
      versions.map(({ version, endpoints, ready: up }) => `${version || '-'} ${up}/${endpoints}`).join(', '),
    ];
  });
  return table(columns, rows, colours);
}

function endpointTable(endpoints: readonly Endpoint[], colours: Palette): string {
  const columns = [
    ...['ADDRESS', 'PORTS', 'VERSION', 'HEALTH', 'NODE', 'ZONE', 'WORKLOAD'].map((title) => ({ title })),
    { title: 'WEIGHT', align: 'right' as const },
    { title: 'WHY' },
  ];
  const rows = endpoints.map(({ address, ports, version, health, node, zone, workload, weight, check }) => [
    address,
    portsText(ports),
    version,
    healthText(health, colours),
    node,
    zone,
    workload,
    String(weight || 1),
    check?.failing === true ? `check by ${check.node}: ${check.detail}` : '',
  ]);
  return table(columns, rows, colours);
}

export function portsText(ports: readonly { readonly name: string; readonly port: number }[]): string {
  return ports.map(({ name, port }) => (name === '' ? String(port) : `${name}:${port}`)).join(',');
}

export function healthText(value: EndpointHealth, colours: Palette): string {
  switch (value) {
    case EndpointHealth.READY:
      return colours.good('ready');
    case EndpointHealth.DRAINING:
      return colours.warn('draining');
    default:
      return colours.bad('unhealthy');
  }
}
