// The `weft agent` command: flags in, a running agent until a signal. No logic of its own.
import { Command } from 'commander';
import { addAgentOptions, agentConfig } from './config.js';
import { confineAgent } from './confinement.js';

export function agentCommand(): Command {
  const command = new Command('agent').description(
    'Run the agent of this host: redirects its workloads’ traffic to the proxy, relays the configuration, answers for the node.',
  );
  return addAgentOptions(command).action(async () => {
    const config = agentConfig(command);
    confineAgent(config);
    const { runAgent, uninstallAgent } = await import('./main.js');
    if (config.uninstall) await uninstallAgent(config, (line) => process.stdout.write(`${line}\n`));
    else process.exitCode = await runAgent(config);
  });
}
