import { expect, test } from '@jest/globals';
import { nodeOfHost } from './config.js';

test('a host name that no controller would take is refused at the start, with what to do', () => {
  const command = {
    error: (message: string): never => {
      throw new Error(message);
    },
  };
  expect(nodeOfHost('host-1.example', command)).toBe('host-1.example');
  expect(() => nodeOfHost('Host_1', command)).toThrow(/"Host_1".*--node NAME/);
});
