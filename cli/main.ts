#!/usr/bin/env node
// The `weft` command: the one list of its subcommands, and the one place that turns an error into text and an exit code.
// The daemons' code is loaded only when asked for: `weft status` must answer at once.
import { Command, CommanderError, Option } from 'commander';
import { VERSION } from '../api/version.js';
import { auditCommand, authorityCommand, nodeCommand, operatorCommand, tokenCommand, whoamiCommand } from './commands/access.js';
import { analyzeCommand } from './commands/analyze.js';
import { applyCommand, deleteCommand } from './commands/apply.js';
import { type CheckOptions, checkCommand } from './commands/check.js';
import { diffCommand } from './commands/diff.js';
import { drainCommand, undrainCommand } from './commands/drain.js';
import { type ExplainOffline, explainCommand } from './commands/explain.js';
import { filterCommand } from './commands/filter.js';
import { getCommand } from './commands/get.js';
import { historyCommand, rollbackCommand } from './commands/history.js';
import { instanceCommand } from './commands/instance.js';
import { nodeCommands } from './commands/node-tables.js';
import { registryCommand } from './commands/registry.js';
import { statusCommand } from './commands/status.js';
import { validateCommand } from './commands/validate.js';
import { xdsCommand } from './commands/xds.js';
import { DEFAULT_CONTROLLER } from './connection.js';
import { EXIT_BROKEN_PIPE, EXIT_FAILED, EXIT_USAGE, Failure } from './failure.js';
import { printable } from './terminal.js';

interface Daemon {
  readonly name: string;
  readonly summary: string;
  readonly load: () => Promise<Command>;
}

const DAEMONS: readonly Daemon[] = [
  {
    name: 'up',
    summary: 'One machine as a cluster: control plane, two nodes, a sample shop and its traffic.',
    load: async () => (await import('../deploy/local/command.js')).upCommand(),
  },
  {
    name: 'controller',
    summary: 'Run the controller: stores resources in etcd, streams them to the nodes.',
    load: async () => (await import('../controller/command.js')).controllerCommand(),
  },
  {
    name: 'agent',
    summary: 'Run the agent of a node: captures traffic, relays configuration, tells its status.',
    load: async () => (await import('../agent/command.js')).agentCommand(),
  },
  {
    name: 'proxy',
    summary: 'Run the proxy of a node: the data plane.',
    load: async () => (await import('../agent/proxy/command.js')).proxyCommand(),
  },
];

async function buildProgram(args: readonly string[]): Promise<Command> {
  const program = new Command('weft')
    .description('A service mesh without sidecars.')
    .version(VERSION)
    .addOption(controllerOption().env('WEFT_CONTROLLER').default(DEFAULT_CONTROLLER))
    .addOption(credentialsOption().env('WEFT_CREDENTIALS'))
    .addOption(insecureOption().env('WEFT_INSECURE'))
    .showHelpAfterError('(add --help for what is possible)')
    // `weft agent --controller` is the agent's own option.
    .enablePositionalOptions();
  program.commandsGroup('On one machine:');
  program.addCommand(await daemon(DAEMONS[0] as Daemon, args));
  program.commandsGroup('Resources:');
  for (const command of [
    applyCommand(),
    getCommand(),
    deleteCommand(),
    validateCommand(),
    analyzeCommand(),
    diffCommand(),
    historyCommand(),
    rollbackCommand(),
  ])
    program.addCommand(withConnection(command));
  program.addCommand(filterCommand());
  program.commandsGroup('Nodes:');
  const ofNodes = [statusCommand(), explainCommand(explainOffline), ...nodeCommands(), drainCommand(), undrainCommand()];
  for (const command of ofNodes) program.addCommand(withConnection(command));
  program.addCommand(xdsCommand(withConnection));
  program.commandsGroup('Registry:');
  program.addCommand(registryCommand(withConnection));
  program.addCommand(instanceCommand());
  program.commandsGroup('Who may do what:');
  for (const command of [tokenCommand(), nodeCommand(), operatorCommand(), authorityCommand(), auditCommand(), whoamiCommand()])
    program.addCommand(withConnection(command));
  program.commandsGroup('This host:');
  program.addCommand(checkCommand(checkHost));
  program.commandsGroup('Daemons:');
  for (const each of DAEMONS.slice(1)) program.addCommand(await daemon(each, args));
  program.addHelpText('after', '\nExit codes: 0 done, 1 refused or failed, 2 bad usage.');
  throwOnExit(program);
  return program;
}

function credentialsOption(): Option {
  return new Option(
    '--credentials <file>',
    'who is asking, where the controller asks (default: WEFT_TOKEN, else ~/.config/weft/credentials.yaml)',
  );
}

function insecureOption(): Option {
  return new Option('--insecure', 'speak plaintext to a controller on another host');
}

function withConnection(command: Command): Command {
  return command.addOption(controllerOption()).addOption(credentialsOption()).addOption(insecureOption());
}

/** Before or after the subcommand; the environment is the global one's, or it would outdo an explicit flag. */
function controllerOption(): Option {
  return new Option('--controller <address>', 'where the controller is: host:port, [v6]:port or unix:/path');
}

const explainOffline: ExplainOffline = async (files, request) => {
  const { explainFiles } = await import('../agent/proxy/explain/offline.js');
  const { loadAddon } = await import('../agent/native/addon.js');
  const explained = await explainFiles(files, request, loadAddon());
  if (explained.kind === 'ok') return explained.value;
  throw new Failure(explained.kind === 'refused' ? explained.message : explained.findings.join('\n'), EXIT_FAILED);
};

/** Loads the addon: only when asked for. */
async function checkHost(options: CheckOptions) {
  return (await import('../agent/check/host.js')).checkHost(options);
}

/** The real command where it is meant, else a line for the list. */
async function daemon({ name, summary, load }: Daemon, args: readonly string[]): Promise<Command> {
  return (args.includes(name) ? await load() : new Command(name)).summary(summary);
}

function throwOnExit(command: Command): void {
  command.exitOverride();
  for (const child of command.commands) throwOnExit(child);
}

/** commander has said what is wrong before it throws. */
function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
  if (error instanceof Failure) {
    process.stderr.write(`${printable(error.message)}\n`);
    return error.exitCode;
  }
  process.stderr.write(`weft: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  return 1;
}

/** Whoever read it has gone (weft diff | head), or its disk is full. Who cleans up at SIGTERM (weft up, instance register --keep) does; others end at once. */
function endWithStandardOutput(): void {
  let isEnding = false;
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (isEnding) return;
    isEnding = true;
    if (process.listenerCount('SIGTERM') > 0) {
      process.kill(process.pid, 'SIGTERM');
      return;
    }
    if (error.code === 'EPIPE') process.exit(EXIT_BROKEN_PIPE);
    process.stderr.write(`weft: standard output: ${error.message}\n`);
    process.exit(EXIT_FAILED);
  });
}

const args = process.argv.slice(2);
endWithStandardOutput();
try {
  await (await buildProgram(args)).parseAsync(args, { from: 'user' });
} catch (error) {
  process.exitCode = exitCodeOf(error);
}
