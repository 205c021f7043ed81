import { expect, test } from '@jest/globals';
import { Command } from 'commander';
import { addAgentOptions, agentConfig, nodeOfHost } from './config.js';

test('a host name that no controller would take is refused at the start, with what to do', () => {
  const command = {
    error: (message: string): never => {
      throw new Error(message);
    },
  };
  expect(nodeOfHost('host-1.example', command)).toBe('host-1.example');
  expect(() => nodeOfHost('Host_1', command)).toThrow(/"Host_1".*--node NAME/);
});

test('xDS is served to this host alone', () => {
  const listen = (address: string) => {
    const command = addAgentOptions(new Command())
      .exitOverride()
      .configureOutput({ writeErr: () => {} });
    return agentConfig(command.parse(['--node', 'n', '--xds-listen', address], { from: 'user' })).xdsListen;
  };
  expect(listen('unix:/run/weft-xds/xds.sock,127.0.0.1:15012')).toEqual(['unix:/run/weft-xds/xds.sock', '127.0.0.1:15012']);
  expect(() => listen('0.0.0.0:15012')).toThrow(/plaintext to other hosts/);
});
