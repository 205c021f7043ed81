// What integration tests of agents share: an agent in this process, redirection off.
import { Command } from 'commander';
import pino from 'pino';
import { addAgentOptions, agentConfig } from '../../agent/config.js';
import { type RunningAgent, startAgent } from '../../agent/main.js';

const OFF = ['--capture', 'off', '--status-listen', '127.0.0.1:0', '--metrics-listen', '127.0.0.1:0'];

/** `flags` besides, as on its command line. */
export function startTestAgent(...flags: string[]): Promise<RunningAgent> {
  const command = addAgentOptions(new Command());
  command.parse([...OFF, ...flags], { from: 'user' });
  return startAgent(agentConfig(command), pino({ level: 'silent' }));
}
